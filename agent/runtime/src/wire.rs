//! The encoding between agent and shim, and of what lies in state directories: plain, versioned, without serde.
//!
//! Numbers are little-endian and fixed; texts and lists have a `u32` length before them; an option or a choice has a byte
//! before it. A message begins with [`VERSION`]: an agent that was upgraded meets shims of the old version and must know it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::limits::{SPEC_BYTES_MAX, SPEC_ITEMS_MAX};
use crate::{
    Capabilities, ContainerId, ContainerSpec, ContainerState, ContainerStatus, Exit, LogSpec,
    Mount, MountSource, PodSandboxSpec, PodUid, Propagation, QosClass, Resources, Seccomp,
    TerminationMessage, User,
};

/// Version of everything in this module; raised with any change that an older shim would misread.
pub const VERSION: u8 = 1;

/// Bytes that are not a message of this version.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged, or of another version than {VERSION}")]
pub struct Damaged;

/// Encodes `value`, the version first.
pub fn encode<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    value.put(&mut out);
    out
}

/// Decodes what [`encode`] made. Fails on another version, on damage, and on bytes left over.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, Damaged> {
    if bytes.len() > SPEC_BYTES_MAX {
        return Err(Damaged);
    }
    let (version, rest) = bytes.split_first().ok_or(Damaged)?;
    let mut input = Input(rest);
    let value = T::take(&mut input)?;
    if *version == VERSION && input.0.is_empty() { Ok(value) } else { Err(Damaged) }
}

/// What is left to decode.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `bytes` is left.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.bytes(N)?.try_into().map_err(|_wrong_length| Damaged)
    }

    fn counted(&mut self) -> Result<&'a [u8], Damaged> {
        let count = u32::take(self)?;
        self.bytes(usize::try_from(count).map_err(|_too_long| Damaged)?)
    }
}

/// A value with an encoding.
pub trait Wire: Sized {
    /// Appends it to `out`.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes it from the front of `input`.
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged>;
}

macro_rules! numbers {
    ($($ty:ty)*) => {$(
        impl Wire for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
                Ok(Self::from_le_bytes(input.array()?))
            }
        }
    )*};
}

numbers! { u8 u32 u64 i32 }

/// A struct is its fields, in order.
macro_rules! structs {
    ($($ty:ident { $($field:ident),* $(,)? })*) => {$(
        impl Wire for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }
            fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
                $(let $field = Wire::take(input)?;)*
                Ok(Self { $($field),* })
            }
        }
    )*};
}

/// A choice without fields is a byte.
macro_rules! choices {
    ($($ty:ident { $($variant:ident = $byte:literal),* $(,)? })*) => {$(
        impl Wire for $ty {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $byte,)* });
            }
            fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
                match u8::take(input)? { $($byte => Ok(Self::$variant),)* _ => Err(Damaged) }
            }
        }
    )*};
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Damaged),
        }
    }
}

fn put_counted(bytes: &[u8], out: &mut Vec<u8>) {
    // A text over 4 GiB cannot be decoded: `decode` refuses messages far below it.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).put(out);
    out.extend_from_slice(bytes);
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_counted(self.as_bytes(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        Self::from_utf8(input.counted()?.to_vec()).map_err(|_not_utf8| Damaged)
    }
}

impl Wire for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_counted(self.as_os_str().as_bytes(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        Ok(Self::from(OsString::from_vec(input.counted()?.to_vec())))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        bool::take(input)?.then(|| T::take(input)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for item in self {
            item.put(out);
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        let count = usize::try_from(u32::take(input)?).map_err(|_too_many| Damaged)?;
        if count > SPEC_ITEMS_MAX {
            return Err(Damaged);
        }
        // Not reserved ahead: a count that lies costs nothing.
        let mut items = Self::new();
        for _ in 0..count {
            items.push(T::take(input)?);
        }
        Ok(items)
    }
}

impl Wire for PodUid {
    fn put(&self, out: &mut Vec<u8>) {
        put_counted(self.as_str().as_bytes(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        Self::parse(&String::take(input)?).map_err(|_bad| Damaged)
    }
}

impl Wire for ContainerId {
    fn put(&self, out: &mut Vec<u8>) {
        put_counted(self.name().as_bytes(), out);
        self.attempt().put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        let name = String::take(input)?;
        Self::parse(&name, u32::take(input)?).map_err(|_bad| Damaged)
    }
}

impl Wire for Capabilities {
    fn put(&self, out: &mut Vec<u8>) {
        self.bits().put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        let bits = u64::take(input)?;
        let set = Self::from_bits(bits);
        if set.bits() == bits { Ok(set) } else { Err(Damaged) }
    }
}

impl Wire for MountSource {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bind(path) => {
                out.push(0);
                path.put(out);
            }
            Self::BindBelow { dir, path } => {
                out.push(2);
                dir.put(out);
                path.put(out);
            }
            Self::Tmpfs { size_bytes, mode } => {
                out.push(1);
                size_bytes.put(out);
                mode.put(out);
            }
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        match u8::take(input)? {
            0 => Ok(Self::Bind(Wire::take(input)?)),
            1 => Ok(Self::Tmpfs { size_bytes: Wire::take(input)?, mode: Wire::take(input)? }),
            2 => Ok(Self::BindBelow { dir: Wire::take(input)?, path: Wire::take(input)? }),
            _ => Err(Damaged),
        }
    }
}

impl Wire for ContainerState {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Starting => out.push(0),
            Self::Running { pid, started_at_ms } => {
                out.push(1);
                pid.put(out);
                started_at_ms.put(out);
            }
            Self::StartFailed { message, at_ms } => {
                out.push(2);
                message.put(out);
                at_ms.put(out);
            }
            Self::Exited(exit) => {
                out.push(3);
                exit.put(out);
            }
            Self::Unknown => out.push(4),
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        match u8::take(input)? {
            0 => Ok(Self::Starting),
            1 => Ok(Self::Running { pid: Wire::take(input)?, started_at_ms: Wire::take(input)? }),
            2 => Ok(Self::StartFailed { message: Wire::take(input)?, at_ms: Wire::take(input)? }),
            3 => Ok(Self::Exited(Wire::take(input)?)),
            4 => Ok(Self::Unknown),
            _ => Err(Damaged),
        }
    }
}

choices! {
    QosClass { Guaranteed = 0, Burstable = 1, BestEffort = 2 }
    Seccomp { Default = 0, Unconfined = 1 }
    Propagation { Private = 0, Slave = 1, Shared = 2 }
}

structs! {
    Resources { cpu_shares, cpu_quota_us, memory_bytes, pids_max }
    PodSandboxSpec { uid, name, namespace, hostname, host_network, qos, resources }
    User { uid, gid, groups }
    LogSpec { path, file_bytes_max, files_max }
    TerminationMessage { host_path, container_path }
    Mount { source, target, readonly, propagation }
    ContainerSpec {
        id, argv, env, cwd, user, layers, readonly_rootfs, mounts, capabilities, no_new_privs,
        seccomp, masked_paths, readonly_paths, resources, oom_score_adj, log, termination_message,
        stdin_open,
    }
    Exit { code, signal, oom_killed, started_at_ms, finished_at_ms }
    ContainerStatus { id, state }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> ContainerSpec {
        let mut spec = ContainerSpec::new(
            ContainerId::parse("web", 2).unwrap(),
            LogSpec::new("/var/log/web.log".into()),
        );
        spec.argv = vec!["/bin/web".into(), "--port".into(), "80".into()];
        spec.env = vec!["A=ä".into()];
        spec.layers = vec!["/layers/b".into(), "/layers/a".into()];
        spec.user = User { uid: 1000, gid: 1000, groups: vec![7, 8] };
        spec.mounts = vec![
            Mount {
                source: MountSource::Bind("/srv".into()),
                target: "/data".into(),
                readonly: true,
                propagation: Propagation::Slave,
            },
            Mount {
                source: MountSource::BindBelow { dir: "/srv".into(), path: "a/b".into() },
                target: "/sub".into(),
                readonly: false,
                propagation: Propagation::Private,
            },
            Mount {
                source: MountSource::Tmpfs { size_bytes: Some(1 << 20), mode: 0o1777 },
                target: "/tmp".into(),
                readonly: false,
                propagation: Propagation::Private,
            },
        ];
        spec.resources.memory_bytes = Some(64 << 20);
        spec.termination_message = Some(TerminationMessage {
            host_path: "/t".into(),
            container_path: "/dev/termination-log".into(),
        });
        spec
    }

    fn check<T: Wire + PartialEq + std::fmt::Debug>(value: T) {
        let bytes = encode(&value);
        assert_eq!(decode(&bytes), Ok(value));
        for cut in 0..bytes.len() {
            assert_eq!(decode::<T>(&bytes[..cut]), Err(Damaged), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode::<T>(&longer), Err(Damaged), "one byte more");
        let mut other = bytes;
        other[0] = VERSION + 1;
        assert_eq!(decode::<T>(&other), Err(Damaged), "another version");
    }

    #[test]
    fn what_is_encoded_reads_back_and_damage_is_told() {
        check(container());
        check(PodSandboxSpec {
            uid: PodUid::parse("u-1").unwrap(),
            name: "web".into(),
            namespace: "default".into(),
            hostname: "web".into(),
            host_network: false,
            qos: QosClass::Burstable,
            resources: Resources { pids_max: Some(10), ..Resources::default() },
        });
        let exit = Exit {
            code: 137,
            signal: Some(9),
            oom_killed: true,
            started_at_ms: 1,
            finished_at_ms: 2,
        };
        for state in [
            ContainerState::Starting,
            ContainerState::Running { pid: 7, started_at_ms: 9 },
            ContainerState::StartFailed { message: "exec /x: no".into(), at_ms: 3 },
            ContainerState::Exited(exit),
            ContainerState::Unknown,
        ] {
            check(vec![ContainerStatus { id: ContainerId::parse("a", 0).unwrap(), state }]);
        }
    }

    #[test]
    fn any_flipped_byte_is_decoded_or_refused_without_a_panic() {
        let bytes = encode(&container());
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                if let Ok(spec) = decode::<ContainerSpec>(&bad) {
                    assert_ne!(encode(&spec), bytes, "byte {at} is not read");
                }
            }
        }
    }
}
