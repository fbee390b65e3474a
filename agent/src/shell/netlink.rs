//! The few rtnetlink messages that a pod's network needs, encoded here: no process is started and no crate pulled in for
//! a bridge, a veth pair, two addresses and a route. Source: rtnetlink(7), linux/if_link.h, linux/veth.h.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        socket,
    },
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;

/// A netlink message being written.
struct Message(Vec<u8>);

impl Message {
    /// Header: length (set at the end), type, flags, sequence, port.
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        Self(bytes)
    }

    /// `struct ifinfomsg`.
    fn link(mut self, index: u32, flags: u32) -> Self {
        self.0.extend([0, 0, 0, 0]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        // Which flags are meant.
        self.0.extend(flags.to_ne_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn attribute(mut self, kind: u16, data: &[u8]) -> Self {
        let length = u16::try_from(data.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn text(self, kind: u16, text: &str) -> Self {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        self.attribute(kind, &data)
    }

    /// An attribute that holds what `fill` writes.
    fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let at = self.0.len();
        self = self.attribute(kind, &[]);
        self = fill(self);
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        if let Some(slot) = self.0.get_mut(at..at + 2) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }
}

/// A netlink socket. It works on the network namespace in which it was made, wherever it is used.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// In the namespace of this thread.
    pub(crate) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(fd))
    }

    fn send(&self, message: Message) -> io::Result<()> {
        let Message(mut bytes) = message;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        if let Some(slot) = bytes.get_mut(..4) {
            slot.copy_from_slice(&length.to_ne_bytes());
        }
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let count = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = answer.get(..count).unwrap_or_default();
        let word = |at: usize| answer.get(at..at + 4).and_then(|word| word.try_into().ok());
        let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        match (kind, word(16).map(i32::from_ne_bytes)) {
            (Some(NLMSG_ERROR), Some(0)) => Ok(()),
            (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::Error::other("the kernel's netlink answer is not understood")),
        }
    }

    /// Makes a bridge, with an alias that says whose it is.
    pub(crate) fn add_bridge(&self, name: &str, alias: &str, mtu: u32) -> io::Result<()> {
        self.send(
            Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
                .link(0, 0)
                .text(IFLA_IFNAME, name)
                .attribute(IFLA_MTU, &mtu.to_ne_bytes())
                .nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge")),
        )?;
        let index = index(name)?;
        self.send(Message::new(RTM_NEWLINK, 0).link(index, 0).text(IFLA_IFALIAS, alias))
    }

    /// Makes a pair: `host` up and in the bridge, `peer` in the other namespace.
    pub(crate) fn add_veth(
        &self,
        host: &str,
        bridge: u32,
        peer: &str,
        netns: &File,
        mtu: u32,
    ) -> io::Result<()> {
        let netns = netns.as_raw_fd().to_ne_bytes();
        self.send(
            Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)
                .link(0, IFF_UP)
                .text(IFLA_IFNAME, host)
                .attribute(IFLA_MTU, &mtu.to_ne_bytes())
                .attribute(IFLA_MASTER, &bridge.to_ne_bytes())
                .nested(IFLA_LINKINFO, |info| {
                    info.text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |data| {
                        data.nested(VETH_INFO_PEER, |end| {
                            end.link(0, 0)
                                .text(IFLA_IFNAME, peer)
                                .attribute(IFLA_MTU, &mtu.to_ne_bytes())
                                .attribute(IFLA_NET_NS_FD, &netns)
                        })
                    })
                }),
        )
    }

    pub(crate) fn set_up(&self, index: u32) -> io::Result<()> {
        self.send(Message::new(RTM_NEWLINK, 0).link(index, IFF_UP))
    }

    /// Removes an interface; it need not be there.
    pub(crate) fn delete(&self, name: &str) -> io::Result<()> {
        match self.send(Message::new(RTM_DELLINK, 0).link(0, 0).text(IFLA_IFNAME, name)) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Gives an interface an address; it may have it already.
    pub(crate) fn add_address(&self, index: u32, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
        self.send(
            Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)
                .bytes(&[AF_INET, prefix, 0, 0])
                .bytes(&index.to_ne_bytes())
                .attribute(IFA_LOCAL, &ip.octets())
                .attribute(IFA_ADDRESS, &ip.octets()),
        )
    }

    /// The default route.
    pub(crate) fn add_default_route(&self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        const TABLE_MAIN: u8 = 254;
        const PROTOCOL_STATIC: u8 = 4;
        const UNICAST: u8 = 1;
        self.send(
            Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
                .bytes(&[AF_INET, 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, 0, UNICAST, 0, 0, 0, 0])
                .attribute(RTA_OIF, &index.to_ne_bytes())
                .attribute(RTA_GATEWAY, &gateway.octets()),
        )
    }
}

/// Index of an interface of this thread's namespace.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    Ok(if_nametoindex(name)?)
}

/// Runs on a thread of its own inside a network namespace.
pub(crate) fn inside<T: Send>(
    netns: &File,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}
