//! Linux capabilities by name and number. Source: linux/capability.h, capabilities(7).

use std::fmt;

macro_rules! capabilities {
    ($($variant:ident $number:literal $name:literal,)*) => {
        /// One capability; its number is its bit.
        #[allow(missing_docs, reason = "the names are the kernel's, explained in capabilities(7)")]
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Capability { $($variant = $number,)* }

        impl Capability {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name without `CAP_`, as Kubernetes writes it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

capabilities! {
    Chown 0 "CHOWN",
    DacOverride 1 "DAC_OVERRIDE",
    DacReadSearch 2 "DAC_READ_SEARCH",
    Fowner 3 "FOWNER",
    Fsetid 4 "FSETID",
    Kill 5 "KILL",
    Setgid 6 "SETGID",
    Setuid 7 "SETUID",
    Setpcap 8 "SETPCAP",
    LinuxImmutable 9 "LINUX_IMMUTABLE",
    NetBindService 10 "NET_BIND_SERVICE",
    NetBroadcast 11 "NET_BROADCAST",
    NetAdmin 12 "NET_ADMIN",
    NetRaw 13 "NET_RAW",
    IpcLock 14 "IPC_LOCK",
    IpcOwner 15 "IPC_OWNER",
    SysModule 16 "SYS_MODULE",
    SysRawio 17 "SYS_RAWIO",
    SysChroot 18 "SYS_CHROOT",
    SysPtrace 19 "SYS_PTRACE",
    SysPacct 20 "SYS_PACCT",
    SysAdmin 21 "SYS_ADMIN",
    SysBoot 22 "SYS_BOOT",
    SysNice 23 "SYS_NICE",
    SysResource 24 "SYS_RESOURCE",
    SysTime 25 "SYS_TIME",
    SysTtyConfig 26 "SYS_TTY_CONFIG",
    Mknod 27 "MKNOD",
    Lease 28 "LEASE",
    AuditWrite 29 "AUDIT_WRITE",
    AuditControl 30 "AUDIT_CONTROL",
    Setfcap 31 "SETFCAP",
    MacOverride 32 "MAC_OVERRIDE",
    MacAdmin 33 "MAC_ADMIN",
    Syslog 34 "SYSLOG",
    WakeAlarm 35 "WAKE_ALARM",
    BlockSuspend 36 "BLOCK_SUSPEND",
    AuditRead 37 "AUDIT_READ",
    Perfmon 38 "PERFMON",
    Bpf 39 "BPF",
    CheckpointRestore 40 "CHECKPOINT_RESTORE",
}

/// A set of capabilities, as the kernel's bit mask.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Capabilities(u64);

/// A name that is no capability of the kernels this was written for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no Linux capability; see capabilities(7), and write it without `CAP_`")]
pub struct UnknownCapability(pub String);

impl Capabilities {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// Those that Docker and Kubernetes give by default, `00000000a80425fb` in /proc.
    pub const DEFAULT: Self = Self(0xa804_25fb);

    /// The set of the bit mask `bits`; bits that no capability has are dropped.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & Self::all().0)
    }

    /// Every capability.
    pub fn all() -> Self {
        Capability::ALL.iter().fold(Self::EMPTY, |set, cap| set.with(*cap))
    }

    /// The bit mask.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether `cap` is in the set.
    pub fn has(self, cap: Capability) -> bool {
        self.0 & (1 << cap as u8) != 0
    }

    /// The set with `cap`.
    #[must_use]
    pub fn with(self, cap: Capability) -> Self {
        Self(self.0 | 1 << cap as u8)
    }

    /// The set without `cap`.
    #[must_use]
    pub fn without(self, cap: Capability) -> Self {
        Self(self.0 & !(1 << cap as u8))
    }

    /// Kubernetes' `securityContext.capabilities` over this set: drops first, then adds; `ALL` is every one.
    /// Takes names with or without `CAP_`, in any case. Fails on a name that is no capability.
    pub fn adjusted<S: AsRef<str>>(self, drop: &[S], add: &[S]) -> Result<Self, UnknownCapability> {
        let mut set = self;
        for name in drop {
            set = Self(set.0 & !Self::named(name.as_ref())?.0);
        }
        for name in add {
            set = Self(set.0 | Self::named(name.as_ref())?.0);
        }
        Ok(set)
    }

    fn named(raw: &str) -> Result<Self, UnknownCapability> {
        let upper = raw.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" {
            return Ok(Self::all());
        }
        let found = Capability::ALL.iter().find(|cap| cap.name() == name);
        found.map(|cap| Self::EMPTY.with(*cap)).ok_or_else(|| UnknownCapability(raw.to_owned()))
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// As in `/proc/PID/status`.
impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_then_add() {
        fn check(drop: &[&str], add: &[&str], want: Option<u64>) {
            let got = Capabilities::DEFAULT.adjusted(drop, add);
            assert_eq!(got.ok().map(Capabilities::bits), want, "drop {drop:?} add {add:?}");
        }
        check(&[], &[], Some(0xa804_25fb));
        check(&["ALL"], &[], Some(0));
        check(&["all"], &["NET_BIND_SERVICE"], Some(1 << 10));
        check(&[], &["CAP_SYS_TIME"], Some(0xa804_25fb | 1 << 25));
        check(&["CHOWN"], &["chown"], Some(0xa804_25fb));
        check(&[], &["ALL"], Some((1 << 41) - 1));
        check(&["NO_SUCH"], &[], None);
    }

    #[test]
    fn numbers_are_positions() {
        for (at, cap) in Capability::ALL.iter().enumerate() {
            assert_eq!(*cap as usize, at, "{}", cap.name());
        }
    }
}
