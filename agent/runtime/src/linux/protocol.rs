//! What agent, shim and starter say to each other.
//!
//! A request is a head of fixed size, so that a shim needs no memory to understand it; a start's spec follows, read by
//! the starter. One request a connection. Every answer, report and event is a `u32` length and an encoded value.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use crate::limits::{CONTAINER_NAME_BYTES_MAX, SPEC_BYTES_MAX};
use crate::wire::{self, Damaged, Input, Wire};
use crate::{ContainerId, ContainerState, ContainerStatus, LogSpec};

/// Name of the shim's socket in the state directory.
pub const SOCKET: &str = "sock";
/// Held exclusively by the living shim (R5).
pub const LOCK: &str = "lock";
/// `PID START-TIME` of the shim, for people and for `doctor`.
pub const PID_FILE: &str = "pid";
/// The encoded [`crate::PodSandboxSpec`].
pub const POD_FILE: &str = "pod";
/// The pod's cgroup below the mount points, as text.
pub const CGROUP_FILE: &str = "cgroup";
/// Directory of one encoded [`ContainerStatus`] for each attempt.
pub const RECORDS: &str = "records";
/// Directory of each container's writable layer.
pub const CONTAINERS: &str = "containers";

/// Bytes of a request's head.
pub const HEAD_BYTES: usize = 80;

const _: () = assert!(CONTAINER_NAME_BYTES_MAX <= 64);

/// What is asked of a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// All containers: answered with [`Answer::Containers`].
    List,
    /// A start: the encoded spec of this many bytes follows the head.
    Start {
        /// Which.
        id: ContainerId,
        /// Length of what follows.
        spec_bytes: usize,
    },
    /// A signal to the entrypoint.
    Signal {
        /// Which.
        id: ContainerId,
        /// Its number.
        signal: i32,
    },
    /// Forgets an ended container.
    Forget {
        /// Which.
        id: ContainerId,
    },
    /// Answered with [`Answer::Done`], then every exit as an encoded [`ContainerStatus`], until the connection ends.
    Events,
}

/// What a shim or a starter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::List`].
    Containers(Vec<ContainerStatus>),
    /// Done, or nothing to do.
    Done,
    /// Refused: this attempt was started before.
    AlreadyStarted(ContainerState),
    /// There is no such container.
    NotFound,
    /// It lives.
    Running,
    /// A start that failed: message and the kernel's error number.
    Failed(String, Option<i32>),
    /// The shim's table is full.
    Full,
}

/// What a starter tells its shim, in this order, over a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The first process exists and waits to be placed.
    Cloned {
        /// In the host's PID namespace.
        pid: i32,
        /// Where its output goes.
        log: LogSpec,
        /// The file that counts OOM kills.
        oom_file: Option<PathBuf>,
    },
    /// `exec` succeeded.
    Running {
        /// Milliseconds since 1970, UTC.
        started_at_ms: u64,
    },
    /// A step failed, and what was done is undone.
    Failed(String),
}

impl Request {
    /// The head's bytes: version, operation, two of zero, attempt, spec length, signal, name padded to 64.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        let (operation, id, spec_bytes, signal) = match self {
            Self::List => (0, None, 0, 0),
            Self::Start { id, spec_bytes } => (1, Some(id), *spec_bytes, 0),
            Self::Signal { id, signal } => (2, Some(id), 0, *signal),
            Self::Forget { id } => (3, Some(id), 0, 0),
            Self::Events => (4, None, 0, 0),
        };
        let mut bytes = vec![wire::VERSION, operation, 0, 0];
        id.map_or(0, ContainerId::attempt).put(&mut bytes);
        u32::try_from(spec_bytes).unwrap_or(u32::MAX).put(&mut bytes);
        signal.put(&mut bytes);
        bytes.extend_from_slice(id.map_or("", ContainerId::name).as_bytes());
        let mut head = [0; HEAD_BYTES];
        for (to, from) in head.iter_mut().zip(bytes) {
            *to = from;
        }
        head
    }

    /// Reads a head back. Fails on another version, an unknown operation or a bad name.
    pub fn of_head(head: &[u8; HEAD_BYTES]) -> Result<Self, Damaged> {
        let mut input = Input::new(head);
        let (version, operation) = (u8::take(&mut input)?, u8::take(&mut input)?);
        let (_, _) = (u8::take(&mut input)?, u8::take(&mut input)?);
        let attempt = u32::take(&mut input)?;
        let spec_bytes = usize::try_from(u32::take(&mut input)?).map_err(|_too_long| Damaged)?;
        let signal = i32::take(&mut input)?;
        if version != wire::VERSION || spec_bytes > SPEC_BYTES_MAX {
            return Err(Damaged);
        }
        let name = input.rest().split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_not_utf8| Damaged)?;
        let id = || ContainerId::parse(name, attempt).map_err(|_bad| Damaged);
        match operation {
            0 => Ok(Self::List),
            1 => Ok(Self::Start { id: id()?, spec_bytes }),
            2 => Ok(Self::Signal { id: id()?, signal }),
            3 => Ok(Self::Forget { id: id()? }),
            4 => Ok(Self::Events),
            _ => Err(Damaged),
        }
    }
}

impl Wire for Answer {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Containers(list) => {
                out.push(0);
                list.put(out);
            }
            Self::Done => out.push(1),
            Self::AlreadyStarted(state) => {
                out.push(2);
                state.put(out);
            }
            Self::NotFound => out.push(3),
            Self::Running => out.push(4),
            Self::Failed(message, errno) => {
                out.push(5);
                message.put(out);
                errno.put(out);
            }
            Self::Full => out.push(6),
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        match u8::take(input)? {
            0 => Ok(Self::Containers(Wire::take(input)?)),
            1 => Ok(Self::Done),
            2 => Ok(Self::AlreadyStarted(Wire::take(input)?)),
            3 => Ok(Self::NotFound),
            4 => Ok(Self::Running),
            5 => Ok(Self::Failed(Wire::take(input)?, Wire::take(input)?)),
            6 => Ok(Self::Full),
            _ => Err(Damaged),
        }
    }
}

impl Wire for Report {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Cloned { pid, log, oom_file } => {
                out.push(0);
                pid.put(out);
                log.put(out);
                oom_file.put(out);
            }
            Self::Running { started_at_ms } => {
                out.push(1);
                started_at_ms.put(out);
            }
            Self::Failed(message) => {
                out.push(2);
                message.put(out);
            }
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, Damaged> {
        match u8::take(input)? {
            0 => Ok(Self::Cloned {
                pid: Wire::take(input)?,
                log: Wire::take(input)?,
                oom_file: Wire::take(input)?,
            }),
            1 => Ok(Self::Running { started_at_ms: Wire::take(input)? }),
            2 => Ok(Self::Failed(Wire::take(input)?)),
            _ => Err(Damaged),
        }
    }
}

/// Writes a length and an encoded value, at once.
pub fn send<T: Wire>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let body = wire::encode(value);
    let mut bytes = Vec::with_capacity(body.len() + 4);
    u32::try_from(body.len()).unwrap_or(u32::MAX).put(&mut bytes);
    bytes.extend_from_slice(&body);
    to.write_all(&bytes)
}

/// Reads a length and an encoded value. `InvalidData`: not of this version; `UnexpectedEof`: the other end is gone.
pub fn receive<T: Wire>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, Damaged);
    let length = usize::try_from(length).map_err(|_too_long| too_long())?;
    if length > SPEC_BYTES_MAX {
        return Err(too_long());
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    wire::decode(&body).map_err(|damaged| io::Error::new(io::ErrorKind::InvalidData, damaged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_values_read_back() {
        let id = ContainerId::parse(&"a".repeat(63), 7).unwrap();
        for request in [
            Request::List,
            Request::Start { id: id.clone(), spec_bytes: 4000 },
            Request::Signal { id: id.clone(), signal: 15 },
            Request::Forget { id: id.clone() },
            Request::Events,
        ] {
            let mut head = request.head();
            assert_eq!(Request::of_head(&head), Ok(request));
            head[0] += 1;
            assert_eq!(Request::of_head(&head), Err(Damaged));
        }
        let mut far = Request::List.head();
        far[1] = 9;
        assert_eq!(Request::of_head(&far), Err(Damaged));

        let mut pipe = Vec::new();
        let answers = [
            Answer::Done,
            Answer::Containers(vec![ContainerStatus { id, state: ContainerState::Unknown }]),
            Answer::AlreadyStarted(ContainerState::Starting),
            Answer::NotFound,
            Answer::Running,
            Answer::Failed("exec /x: no".into(), Some(2)),
            Answer::Full,
        ];
        for answer in &answers {
            send(&mut pipe, answer).unwrap();
        }
        let mut input = pipe.as_slice();
        for answer in answers {
            assert_eq!(receive::<Answer>(&mut input).unwrap(), answer);
        }
        assert_eq!(receive::<Answer>(&mut input).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
