//! The pods' network: a bridge with the node's podCIDR, an address for each pod, the way out by masquerade, and the way
//! to the API server.
//!
//! Everything is made again if it is missing, and nothing of others is touched. One nft table of ours (`coracle_BRIDGE`)
//! is replaced as a whole. Where another program's FORWARD chain drops by policy (Docker, a firewall), our table cannot
//! overrule it: an accept for our bridge is put at the head of that chain, in its own dialect (nft for iptables-nft,
//! `iptables-legacy` for legacy), and looked after once a minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

use coracle_agent_logic::PodUid;
use coracle_disk::{self as disk, Sync};
use serde::{Deserialize, Serialize};

use super::{
    log::{info, warning},
    netlink::{Netlink, index, inside},
    state::StateDir,
};

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("the node has no podCIDR yet")]
    NoRange,
    #[error("podCIDR {0} is not an IPv4 range of at most /30")]
    BadRange(String),
    #[error(
        "podCIDR {range} is in use on interface {interface} already; give one of the clusters another --pod-cidr"
    )]
    Taken { range: String, interface: String },
    #[error("no address left in {0}; at most so many pods fit on this node")]
    Full(String),
    #[error("{doing}: {source}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed: {said}")]
    Program { program: &'static str, said: String },
}

/// What is kept on disk: `network.json`. It is written seldom.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    bridge: String,
    cidr: String,
    #[serde(flatten)]
    addresses: Addresses,
    /// The API server's address at the last connection.
    server: Option<SocketAddr>,
    /// Address and port under which pods know the API server.
    service: Option<(Ipv4Addr, u16)>,
}

/// What is written for each pod: `addresses.json`, unsynced. Damaged by a power cut it is as if it was not there, and the
/// pods, of which none runs then, get other addresses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Addresses {
    /// Given addresses by pod uid.
    given: BTreeMap<String, Ipv4Addr>,
    /// The last one: the next search begins after it, so that an address is not used again at once.
    last: Option<Ipv4Addr>,
}

/// The node's pod network. Calls block.
pub(crate) struct Network {
    state: StateDir,
    wanted_bridge: Option<String>,
    kept: Mutex<Kept>,
    /// What is in the packet filter now.
    applied: Mutex<Option<String>>,
}

/// An IPv4 range.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    base: u32,
    prefix: u8,
}

impl Range {
    fn parse(cidr: &str) -> Result<Self, NetworkError> {
        let bad = || NetworkError::BadRange(cidr.into());
        let (ip, prefix) = cidr.split_once('/').ok_or_else(bad)?;
        let ip: Ipv4Addr = ip.parse().map_err(|_| bad())?;
        let prefix: u8 =
            prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix)).ok_or_else(bad)?;
        let base = u32::from(ip) & (u32::MAX << (32 - prefix));
        Ok(Self { base, prefix })
    }

    fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Addresses for pods: all but network, gateway and broadcast.
    fn pods(self) -> std::ops::Range<u32> {
        let size = 1_u32 << (32 - self.prefix);
        self.base + 2..self.base + size - 1
    }

    /// The first free one after `last`, going round.
    fn next(self, given: &BTreeSet<Ipv4Addr>, last: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let pods = self.pods();
        let from = last
            .map(u32::from)
            .filter(|last| pods.contains(last))
            .map_or(pods.start, |last| last + 1);
        (from..pods.end).chain(pods.start..from).map(Ipv4Addr::from).find(|ip| !given.contains(ip))
    }
}

impl Network {
    pub(crate) fn open(state: &StateDir, wanted_bridge: Option<String>) -> Self {
        let kept = fs::read(state.agent("network.json")).ok();
        let mut kept: Kept =
            kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let addresses = fs::read(state.agent("addresses.json")).ok();
        if let Some(addresses) = addresses.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            kept.addresses = addresses;
        }
        Self {
            state: state.clone(),
            wanted_bridge,
            kept: Mutex::new(kept),
            applied: Mutex::new(None),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn save(&self, kept: &Kept) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(kept).unwrap_or_default();
        disk::replace(&self.state.agent("network.json"), &bytes, 0o600, Sync::Later).map_err(
            |source| NetworkError::Io { doing: "cannot write network.json".into(), source },
        )
    }

    fn save_addresses(&self, addresses: &Addresses) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(addresses).unwrap_or_default();
        let path = self.state.agent("addresses.json");
        disk::replace_unsynced(&path, &bytes, 0o600).map_err(|source| NetworkError::Io {
            doing: "cannot write addresses.json".into(),
            source,
        })
    }

    /// Notes what the control plane said. True if something is new.
    pub(crate) fn learn(
        &self,
        cidr: Option<&str>,
        server: Option<SocketAddr>,
        service: Option<(Ipv4Addr, u16)>,
    ) -> Result<bool, NetworkError> {
        let mut kept = self.kept();
        let before = (kept.cidr.clone(), kept.server, kept.service);
        if let Some(cidr) = cidr {
            Range::parse(cidr)?;
            kept.cidr = cidr.into();
        }
        kept.server = server.or(kept.server);
        kept.service = service.or(kept.service);
        let new = before != (kept.cidr.clone(), kept.server, kept.service);
        if new {
            self.save(&kept)?;
        }
        Ok(new)
    }

    /// Makes bridge, forwarding and packet filter as they are to be. Cheap where nothing is missing.
    pub(crate) fn ensure(&self) -> Result<(), NetworkError> {
        let mut kept = self.kept();
        if kept.cidr.is_empty() {
            return Err(NetworkError::NoRange);
        }
        let range = Range::parse(&kept.cidr)?;
        let io = |doing: String| move |source| NetworkError::Io { doing, source };
        let netlink = Netlink::open().map_err(io("cannot open netlink".into()))?;
        let bridge = self.choose_bridge(&kept);
        if kept.bridge != bridge {
            kept.bridge.clone_from(&bridge);
            self.save(&kept)?;
        }
        if index(&bridge).is_err() {
            let alias = self.alias();
            netlink
                .add_bridge(&bridge, &alias, uplink_mtu())
                .map_err(io(format!("cannot make bridge {bridge}")))?;
            info!("made bridge {bridge} for {}", kept.cidr);
        }
        let at = index(&bridge).map_err(io(format!("no bridge {bridge}")))?;
        netlink
            .add_address(at, range.gateway(), range.prefix)
            .map_err(io(format!("cannot give {bridge} the address {}", range.gateway())))?;
        netlink.set_up(at).map_err(io(format!("cannot set {bridge} up")))?;
        write_sysctl("net/ipv4/ip_forward", "1")?;
        // A bridge without pods must not draw to itself what is another's with the same range.
        write_sysctl(&format!("net/ipv4/conf/{bridge}/ignore_routes_with_linkdown"), "1")?;
        let to_server = kept.service.zip(kept.server);
        // A server on this machine's loopback: the kernel must let redirected packets in there. The table below drops
        // what pods send to loopback addresses by themselves.
        if to_server.is_some_and(|(_, server)| server.ip().is_loopback()) {
            write_sysctl(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
        }
        let rules = rules(&bridge, &kept.cidr, to_server);
        let mut applied = self.applied.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if applied.as_deref() != Some(&rules) {
            nft(&rules)?;
            *applied = Some(rules);
        }
        drop(applied);
        drop(kept);
        accept_forwarding(&bridge);
        Ok(())
    }

    /// As [`Network::ensure`], also when another program threw our table out.
    pub(crate) fn look_after(&self) -> Result<(), NetworkError> {
        let bridge = self.kept().bridge.clone();
        let there = Command::new("nft")
            .args(["list", "table", "ip", &table(&bridge)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            *self.applied.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        }
        self.ensure()
    }

    /// Takes back what [`Network::ensure`] has made. The pods must be gone.
    pub(crate) fn remove(&self) -> Result<(), NetworkError> {
        let kept = self.kept().clone();
        if kept.bridge.is_empty() || !self.is_ours(&kept.bridge) {
            return Ok(());
        }
        let failed = |source| NetworkError::Io { doing: "cannot remove the bridge".into(), source };
        Netlink::open().and_then(|netlink| netlink.delete(&kept.bridge)).map_err(failed)?;
        let table = table(&kept.bridge);
        // Made first, so that it is there to be deleted.
        nft(&format!("table ip {table} {{ }}\ndelete table ip {table}\n"))?;
        forget_forwarding(&kept.bridge);
        Ok(())
    }

    /// No other agent, and nobody else, has an interface of this name.
    fn is_ours(&self, name: &str) -> bool {
        let path = format!("/sys/class/net/{name}");
        if !Path::new(&path).exists() {
            return true;
        }
        let alias = fs::read_to_string(format!("{path}/ifalias"));
        alias.is_ok_and(|text| text.trim_end() == self.alias())
    }

    fn alias(&self) -> String {
        let alias = format!("coracle-agent {}", self.state.root().display());
        alias.chars().take(200).collect()
    }

    /// The bridge of this agent: as told, as before, or the first `coracleN` that is not another agent's.
    fn choose_bridge(&self, kept: &Kept) -> String {
        let ours = |name: &str| self.is_ours(name);
        if let Some(wanted) = &self.wanted_bridge {
            return wanted.clone();
        }
        if !kept.bridge.is_empty() && ours(&kept.bridge) {
            return kept.bridge.clone();
        }
        (0..64)
            .map(|number| format!("coracle{number}"))
            .find(|name| ours(name))
            .unwrap_or("coracle0".into())
    }

    /// Plugs a pod in: gives its address. Done twice it gives the same.
    pub(crate) fn attach(&self, uid: &PodUid, netns: &Path) -> Result<Ipv4Addr, NetworkError> {
        self.ensure()?;
        self.check_range()?;
        let io = |doing: String| move |source| NetworkError::Io { doing, source };
        let (ip, range) = self.give(uid)?;
        let bridge = self.kept().bridge.clone();
        let netns = File::open(netns).map_err(io(format!("cannot open {}", netns.display())))?;
        let netlink = Netlink::open().map_err(io("cannot open netlink".into()))?;
        let host = host_end(uid);
        netlink.delete(&host).map_err(io(format!("cannot remove the old {host}")))?;
        let bridge_index = index(&bridge).map_err(io(format!("no bridge {bridge}")))?;
        netlink
            .add_veth(&host, bridge_index, "eth0", &netns, uplink_mtu())
            .map_err(io(format!("cannot make {host}")))?;
        inside(&netns, || {
            let netlink = Netlink::open()?;
            netlink.set_up(index("lo")?)?;
            let at = index("eth0")?;
            netlink.add_address(at, ip, range.prefix)?;
            netlink.set_up(at)?;
            netlink.add_default_route(at, range.gateway())
        })
        .map_err(io(format!("cannot set up eth0 with {ip} in the pod")))?;
        Ok(ip)
    }

    /// The pod's address, for as long as it is here, and the range that it is of.
    pub(crate) fn give(&self, uid: &PodUid) -> Result<(Ipv4Addr, Range), NetworkError> {
        let mut kept = self.kept();
        let range = match kept.cidr.as_str() {
            "" => return Err(NetworkError::NoRange),
            cidr => Range::parse(cidr)?,
        };
        if let Some(ip) = kept.addresses.given.get(uid.as_str()).copied()
            && range.pods().contains(&u32::from(ip))
        {
            return Ok((ip, range));
        }
        let given: BTreeSet<Ipv4Addr> = kept.addresses.given.values().copied().collect();
        let ip = range
            .next(&given, kept.addresses.last)
            .ok_or_else(|| NetworkError::Full(kept.cidr.clone()))?;
        kept.addresses.given.insert(uid.as_str().into(), ip);
        kept.addresses.last = Some(ip);
        self.save_addresses(&kept.addresses)?;
        Ok((ip, range))
    }

    /// Takes a pod's address back.
    pub(crate) fn take_back(&self, uid: &PodUid) -> Result<(), NetworkError> {
        let mut kept = self.kept();
        match kept.addresses.given.remove(uid.as_str()) {
            Some(_) => self.save_addresses(&kept.addresses),
            None => Ok(()),
        }
    }

    /// Whether a route of somebody else leads into our range: packets to our pods would go there.
    fn check_range(&self) -> Result<(), NetworkError> {
        let kept = self.kept();
        let range = Range::parse(&kept.cidr)?;
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        for (interface, base, prefix) in routes.lines().skip(1).filter_map(route) {
            let inside = range.prefix <= prefix && range.pods().contains(&(base + 2));
            let carrier = fs::read_to_string(format!("/sys/class/net/{interface}/carrier"));
            if inside && interface != kept.bridge && carrier.is_ok_and(|text| text.trim() == "1") {
                let interface = interface.to_owned();
                return Err(NetworkError::Taken { range: kept.cidr.clone(), interface });
            }
        }
        Ok(())
    }

    /// As [`Network::remove`], if no pod is plugged in: a node at rest leaves the host as it found it.
    pub(crate) fn close(&self) -> Result<(), NetworkError> {
        if !self.kept().addresses.given.is_empty() {
            return Ok(());
        }
        self.remove()?;
        *self.applied.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
        Ok(())
    }

    /// Unplugs a pod and takes its address back. It need not be plugged in.
    pub(crate) fn detach(&self, uid: &PodUid) -> Result<(), NetworkError> {
        let io = |doing: String| move |source| NetworkError::Io { doing, source };
        let netlink = Netlink::open().map_err(io("cannot open netlink".into()))?;
        let host = host_end(uid);
        netlink.delete(&host).map_err(io(format!("cannot remove {host}")))?;
        self.take_back(uid)
    }

    /// The address that a pod was given.
    pub(crate) fn given(&self, uid: &PodUid) -> Option<Ipv4Addr> {
        self.kept().addresses.given.get(uid.as_str()).copied()
    }

    /// Pods that have an address and are not among these.
    pub(crate) fn strays(&self, keep: &BTreeSet<PodUid>) -> Vec<PodUid> {
        let kept = self.kept();
        let uids = kept.addresses.given.keys().filter_map(|uid| PodUid::parse(uid));
        uids.filter(|uid| !keep.contains(uid)).collect()
    }

    /// Takes back the addresses of pods that are not there any more.
    pub(crate) fn retain(&self, keep: &BTreeSet<PodUid>) {
        for uid in self.strays(keep) {
            if let Err(error) = self.detach(&uid) {
                warning!("address of pod {uid}: {error}");
            }
        }
    }
}

fn table(bridge: &str) -> String {
    format!("coracle_{bridge}")
}

/// The host's end of a pod's veth pair: at most 15 bytes, no two pods share one.
fn host_end(uid: &PodUid) -> String {
    let hash = coracle_keys::ring::sha256(uid.as_str().as_bytes());
    format!("cor{}", coracle_keys::join::hex(hash.get(..6).unwrap_or_default()))
}

/// Our table, replaced in one transaction.
fn rules(bridge: &str, cidr: &str, to_server: Option<((Ipv4Addr, u16), SocketAddr)>) -> String {
    let table = table(bridge);
    let mut nat = String::new();
    if let Some(((ip, port), server)) = to_server {
        match server.ip() {
            IpAddr::V4(to) => {
                let to_port = server.port();
                nat = format!(
                    "    iifname \"{bridge}\" ip daddr {ip} tcp dport {port} dnat to {to}:{to_port}\n"
                );
            }
            IpAddr::V6(_) => warning!(
                "the API server was reached over IPv6; pods with IPv4 addresses cannot reach it at {ip}: give --server an IPv4 address"
            ),
        }
    }
    format!(
        "table ip {table} {{ }}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
         \x20 chain own_loopback {{\n\
         \x20   type filter hook prerouting priority -300; policy accept;\n\
         \x20   iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop\n\
         \x20 }}\n\
         \x20 chain to_server {{\n\
         \x20   type nat hook prerouting priority -100; policy accept;\n\
         {nat}\
         \x20 }}\n\
         \x20 chain out {{\n\
         \x20   type nat hook postrouting priority 100; policy accept;\n\
         \x20   ip saddr {cidr} oifname != \"{bridge}\" masquerade\n\
         \x20 }}\n\
         }}\n"
    )
}

fn nft(rules: &str) -> Result<(), NetworkError> {
    let failed = |said: String| NetworkError::Program { program: "nft", said };
    let child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| failed(format!("{error}; install nftables")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on stderr.
        let _ = stdin.write_all(rules.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.lines().next().unwrap_or("no word").into()))
}

/// Puts an accept for our bridge at the head of other programs' FORWARD chains.
fn accept_forwarding(bridge: &str) {
    let listed = Command::new("nft")
        .args(["list", "chain", "ip", "filter", "FORWARD"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    if let Ok(listed) = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()) {
        for side in ["iifname", "oifname"] {
            let rule = format!("{side} \"{bridge}\"");
            // A chain that lets everything through is left alone.
            let may_drop = listed.contains("drop") || listed.contains("reject");
            if may_drop && !listed.contains(&rule) {
                let insert = format!("insert rule ip filter FORWARD {rule} counter accept\n");
                match nft(&insert) {
                    Ok(()) => info!("accepted {rule} in another program's FORWARD chain"),
                    Err(error) => warning!("cannot accept {rule} in the FORWARD chain: {error}"),
                }
            }
        }
    }
    // The legacy tables are not seen by nft at all.
    let legacy = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if legacy.lines().any(|line| line == "filter") {
        for side in ["-i", "-o"] {
            let run = |verb: &str| {
                Command::new("iptables-legacy")
                    .args(["-w", "5", verb, "FORWARD", side, bridge, "-j", "ACCEPT"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            };
            if !run("-C") && !run("-I") {
                warning!(
                    "cannot accept {side} {bridge} in the legacy FORWARD chain; is iptables-legacy installed?"
                );
            }
        }
    }
}

/// Takes back what [`accept_forwarding`] has put in.
fn forget_forwarding(bridge: &str) {
    let listed = Command::new("nft")
        .args(["-a", "list", "chain", "ip", "filter", "FORWARD"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let listed = listed
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let rules = ["iifname", "oifname"].map(|side| format!("{side} \"{bridge}\""));
    for line in listed.lines().filter(|line| rules.iter().any(|rule| line.contains(rule))) {
        let Some((_, handle)) = line.rsplit_once("# handle ") else { continue };
        let delete = format!("delete rule ip filter FORWARD handle {}\n", handle.trim());
        if let Err(error) = nft(&delete) {
            warning!("cannot remove the rule for {bridge} from the FORWARD chain: {error}");
        }
    }
    let legacy = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if legacy.lines().any(|line| line == "filter") {
        for side in ["-i", "-o"] {
            // That there is no such rule is as good.
            let _none = Command::new("iptables-legacy")
                .args(["-w", "5", "-D", "FORWARD", side, bridge, "-j", "ACCEPT"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// A line of /proc/net/route: interface, base and prefix; addresses are in the machine's byte order, as the kernel has it.
fn route(line: &str) -> Option<(&str, u32, u8)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok().map(u32::to_be);
    let prefix = u8::try_from(number(7)?.leading_ones()).ok()?;
    Some((words.first()?, number(1)?, prefix))
}

/// MTU of the interface with the default route; 1500 if there is none.
fn uplink_mtu() -> u32 {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let name = routes.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        (words.next()? == "00000000").then(|| name.to_owned())
    });
    let mtu = name.and_then(|name| fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok());
    mtu.and_then(|text| text.trim().parse().ok()).unwrap_or(1500)
}

fn write_sysctl(name: &str, value: &str) -> Result<(), NetworkError> {
    let path = format!("/proc/sys/{name}");
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| NetworkError::Io {
        doing: format!("cannot write {value} to {path}"),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round() {
        let range = Range::parse("10.42.3.0/29").unwrap();
        assert_eq!(range.gateway(), Ipv4Addr::new(10, 42, 3, 1));
        let ip = |last| Ipv4Addr::new(10, 42, 3, last);
        let check = |given: &[u8], last: Option<u8>, want: Option<u8>| {
            let given = given.iter().map(|last| ip(*last)).collect();
            assert_eq!(range.next(&given, last.map(ip)), want.map(ip));
        };
        check(&[], None, Some(2));
        check(&[2], Some(2), Some(3));
        check(&[], Some(2), Some(3));
        check(&[5, 6], Some(6), Some(2));
        check(&[2, 3, 4, 5], Some(6), Some(6));
        check(&[2, 3, 4, 5, 6], Some(6), None);
    }

    #[test]
    fn ranges_that_cannot_be_are_refused() {
        for bad in ["", "10.42.0.0", "10.42.0.0/31", "fd00::/64", "10.42.0.0/x"] {
            assert!(Range::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn routes_read() {
        let line = "eth0\t002A0A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let want = ("eth0", u32::from(Ipv4Addr::new(10, 10, 42, 0)), 24);
        assert_eq!(route(line), cfg!(target_endian = "little").then_some(want));
        assert_eq!(route("eth0"), None);
    }

    #[test]
    fn the_table_leads_out_and_to_the_server() {
        let server = "192.0.2.9:6443".parse().unwrap();
        let text =
            rules("coracle0", "10.42.0.0/24", Some(((Ipv4Addr::new(10, 43, 0, 1), 443), server)));
        assert!(text.contains(
            "iifname \"coracle0\" ip daddr 10.43.0.1 tcp dport 443 dnat to 192.0.2.9:6443"
        ));
        assert!(text.contains("ip saddr 10.42.0.0/24 oifname != \"coracle0\" masquerade"));
        assert_eq!(host_end(&PodUid::parse("u1").unwrap()).len(), 15);
    }
}
