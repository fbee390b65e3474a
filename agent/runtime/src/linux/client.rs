//! The agent's side of a shim: starting it, asking it, hearing its events, burying it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::os;
use super::protocol::{Answer, LOCK, Request, SOCKET, receive};
use crate::limits::{SHIM_ANSWER_MS_MAX, SHIM_READY_MS_MAX};
use crate::{Config, ContainerStatus, PodUid, RuntimeError};

/// A living shim: the connection on which its events come.
#[derive(Debug)]
pub(super) struct Link {
    token: u64,
    shim_pid: i32,
    events: UnixStream,
    buffer: Vec<u8>,
    /// Set if it is a child of this process, which then has to reap it.
    child: Option<Child>,
}

/// Tells links apart in the epoll; never given twice in a process.
static TOKENS: AtomicU64 = AtomicU64::new(1);

impl Link {
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn shim_pid(&self) -> i32 {
        self.shim_pid
    }

    /// Takes the events that have come; `false`: the shim is gone.
    pub(super) fn read(&mut self) -> (Vec<ContainerStatus>, bool) {
        let mut bytes = [0; 1024];
        let alive = loop {
            match self.events.read(&mut bytes) {
                Ok(0) => break false,
                Ok(count) => self.buffer.extend(bytes.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        let mut statuses = Vec::new();
        let mut input = self.buffer.as_slice();
        loop {
            let mut next = input;
            match receive::<ContainerStatus>(&mut next) {
                Ok(status) => statuses.push(status),
                // The rest of it is on the way.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                // Not of this version: skipped; the next look at the pod tells its state.
                Err(_) if next.len() < input.len() => {}
                Err(_) => break,
            }
            input = next;
        }
        self.buffer = input.to_vec();
        (statuses, alive)
    }

    /// Makes sure that the shim is dead, and reaps it if it is this process' child.
    pub(super) fn bury(mut self) {
        // That of a shim that is not a child may be somebody else's id by now; its cgroup is killed by the caller.
        if let Some(child) = &mut self.child {
            let _dead = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// Starts a pod's shim. `place` puts it into its cgroup, while it waits to be told to go on: a shim whose agent dies
/// here leaves at once. Comes back when it listens.
pub(super) fn start(
    config: &Config,
    uid: &PodUid,
    place: impl FnOnce(i32) -> Result<(), RuntimeError>,
) -> Result<Link, RuntimeError> {
    let program = &config.shim_program;
    let io = |doing: &'static str| {
        move |source| RuntimeError::Io { doing: format!("{doing} {}", program.display()), source }
    };
    let readonly = os::readonly_program(program);
    let mut command = Command::new(readonly.as_ref().map_or(program, |(_, path)| path));
    command.arg0(program).args(&config.shim_args).arg("--data-dir").arg(&config.data_dir);
    command.arg("--pod").arg(uid.as_str()).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(io("start the shim"))?;
    let ready = go_and_wait(&mut child, place)
        .and_then(|()| join(&config.state_dir(uid)).map_err(io("connect to the shim")));
    match ready {
        Ok(link) => Ok(Link { child: Some(child), ..link }),
        Err(error) => {
            let _dead = child.kill();
            let _reaped = child.wait();
            Err(error)
        }
    }
}

fn go_and_wait(
    child: &mut Child,
    place: impl FnOnce(i32) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    let lost = |why: &str| RuntimeError::Host(format!("the shim did not start: {why}"));
    place(i32::try_from(child.id()).map_err(|_| lost("its id is no process id"))?)?;
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(lost("it has no pipes"));
    };
    // If it died meanwhile, the end of its stdout says so.
    let _died = stdin.write_all(b"g");
    let deadline = Instant::now() + Duration::from_millis(SHIM_READY_MS_MAX);
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut ready = Vec::new();
        let wait =
            os::wait_readable(&[stdout.as_fd()], i32::try_from(left).unwrap_or(0), &mut ready);
        wait.map_err(|error| lost(&error.to_string()))?;
        if ready.is_empty() {
            if left == 0 {
                return Err(lost("it took too long; is the disk slow or the machine overloaded?"));
            }
            continue;
        }
        let mut bytes = [0; 512];
        match stdout.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => said.extend(bytes.iter().take(count)),
        }
    }
    match String::from_utf8_lossy(&said).trim() {
        "ready" => Ok(()),
        "" => Err(lost("it died at once")),
        why => Err(lost(why)),
    }
}

/// Connects to a shim's socket, whatever the length of the path (a socket's address holds 108 bytes).
fn connect(state: &Path) -> io::Result<UnixStream> {
    let dir = File::open(state)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

/// Asks for a living shim's events.
pub(super) fn join(state: &Path) -> io::Result<Link> {
    let mut events = connect(state)?;
    let (_, shim_pid) = os::peer(&events)?;
    events.set_read_timeout(Some(Duration::from_millis(SHIM_ANSWER_MS_MAX)))?;
    events.write_all(&Request::Events.head())?;
    let answer = receive::<Answer>(&mut events)?;
    if answer != Answer::Done {
        return Err(io::Error::other(format!("{answer:?} to a request for events")));
    }
    events.set_nonblocking(true)?;
    let token = TOKENS.fetch_add(1, Ordering::Relaxed);
    Ok(Link { token, shim_pid, events, buffer: Vec::new(), child: None })
}

/// One request, one answer.
pub(super) fn ask(state: &Path, request: &Request, body: &[u8]) -> io::Result<Answer> {
    let mut shim = connect(state)?;
    let timeout = Some(Duration::from_millis(SHIM_ANSWER_MS_MAX));
    shim.set_read_timeout(timeout)?;
    shim.set_write_timeout(timeout)?;
    shim.write_all(&request.head())?;
    // A shim that refuses does not read the spec; its answer is there all the same.
    let _refused = shim.write_all(body);
    receive(&mut shim)
}

/// Whether a shim has the state directory's lock.
pub(super) fn is_locked(state: &Path) -> bool {
    match File::open(state.join(LOCK)) {
        Ok(file) => matches!(os::try_lock(&file), Ok(false)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::protocol::send;
    use crate::wire;
    use crate::{ContainerId, ContainerState};

    #[test]
    fn events_are_read_in_whatever_pieces_they_come() {
        let (mut shim, events) = UnixStream::pair().unwrap();
        events.set_nonblocking(true).unwrap();
        let mut link = Link { token: 1, shim_pid: 1, events, buffer: Vec::new(), child: None };
        let status = |name: &str| ContainerStatus {
            id: ContainerId::parse(name, 0).unwrap(),
            state: ContainerState::Unknown,
        };
        let mut bytes = Vec::new();
        send(&mut bytes, &status("a")).unwrap();
        let one = bytes.len();
        send(&mut bytes, &status("b")).unwrap();
        assert_eq!(wire::decode(&bytes[4..one]), Ok(status("a")));
        let mut got = Vec::new();
        for byte in bytes {
            shim.write_all(&[byte]).unwrap();
            let (statuses, alive) = link.read();
            assert!(alive);
            got.extend(statuses);
        }
        assert_eq!(got, [status("a"), status("b")]);
        drop(shim);
        assert_eq!(link.read(), (vec![], false));
    }
}
