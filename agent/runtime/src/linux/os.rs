//! Safe words for the few calls of the operating system that the shim and the starter need.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus};
use nix::unistd::Pid;

/// How a child process ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the child's id.
    Parent(i32),
}

/// Copies this process. Only the calling thread is in the copy, so this refuses where there are others: a lock that one
/// of them held would never be released.
pub fn fork() -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other("fork in a process with more than one thread"));
    }
    // SAFETY: there is one thread, so the copy is whole and may do anything.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child.as_raw())),
    }
}

/// Ends this process at once: no destructors, no buffers. For the copy that [`fork`] made.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not come back, and touches nothing of the parent's.
    unsafe { libc::_exit(code) }
}

/// A pipe, both ends close-on-exec: what reads, what writes.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Makes reads and writes of this descriptor give `WouldBlock` instead of waiting.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Makes `to` (0, 1 or 2) what `from` is.
pub fn replace_stdio(from: impl AsFd, to: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&to) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: 0, 1 and 2 are owned by nobody in particular; std's handles refer to them by number.
    let done = unsafe { libc::dup2(from.as_fd().as_raw_fd(), to) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from 3 on that is not in `keep`. For the copy that [`fork`] made, before it opens any.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            open.push(fd);
        }
    }
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        // SAFETY: this process is a copy that ends by `exit_now`: no owner of these numbers will use or close them.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// A session of its own: no terminal's signals.
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// SIGKILL for this process when its parent dies.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes a number.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Id of this process' parent in its PID namespace.
pub fn parent_id() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// Takes an exclusive lock on a file without waiting; `false`: another process has it. Held until the file is closed
/// everywhere.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: takes numbers.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

/// User and process id of the other end of a unix socket, as the kernel saw them at connect.
pub fn peer(socket: impl AsFd) -> io::Result<(u32, i32)> {
    let peer = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok((peer.uid(), peer.pid()))
}

/// User id of this process.
pub fn user_id() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Sends a signal. `Ok(false)`: there is no such process.
pub fn kill(pid: i32, signal: i32) -> io::Result<bool> {
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: takes numbers.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
}

/// Reaps a child that has ended, if there is one.
pub fn reap() -> io::Result<Option<(i32, Ended)>> {
    loop {
        match nix::sys::wait::waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => {
                return Ok(Some((pid.as_raw(), Ended::Code(code))));
            }
            Ok(WaitStatus::Signaled(pid, signal, _core)) => {
                return Ok(Some((pid.as_raw(), Ended::Signal(signal as i32))));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(None),
            // Real-time signals are not in nix' list; stops and traces are not asked for.
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Told by reading when a child has ended.
#[derive(Debug)]
pub struct ChildSignals(File);

impl ChildSignals {
    /// Blocks SIGCHLD (and SIGTERM, SIGINT, SIGHUP, which are nothing to a shim) and opens what tells of SIGCHLD.
    pub fn open() -> io::Result<Self> {
        let mut blocked = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
            blocked.add(signal);
        }
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)?;
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set lives through the call.
        let fd = unsafe { libc::signalfd(-1, children.as_ref(), flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Takes what was told, so that the next poll waits.
    pub fn clear(&mut self) {
        let mut buffer = [0_u8; size_of::<libc::signalfd_siginfo>()];
        while matches!(self.0.read(&mut buffer), Ok(read) if read > 0) {}
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `fds` can be read or its other end is gone; sets the places of those in `ready`.
///
/// `timeout_ms` below 0 waits without end. An interrupted wait tells nothing ready.
pub fn wait_readable(
    fds: &[BorrowedFd<'_>],
    timeout_ms: i32,
    ready: &mut Vec<usize>,
) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    ready.clear();
    let mut polls: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(timeout_ms).unwrap_or(PollTimeout::NONE);
    match poll(&mut polls, timeout) {
        Ok(_) => {}
        Err(nix::Error::EINTR) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for (at, poll) in polls.iter().enumerate() {
        if poll.revents().is_none_or(|events| !events.is_empty()) {
            ready.push(at);
        }
    }
    Ok(())
}

/// Time of day: seconds and nanoseconds since 1970, UTC.
pub fn time_of_day() -> (u64, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs(), now.subsec_nanos())
}

/// Milliseconds since 1970, UTC.
pub fn now_ms() -> u64 {
    let (seconds, nanos) = time_of_day();
    seconds * 1000 + u64::from(nanos / 1_000_000)
}

/// A program to be executed from a read-only view of its file: a container that gets hold of `/proc/PID/exe` cannot write
/// the host's file through it (CVE-2019-5736). `None` before Linux 5.12. The path is good while the descriptor is open.
pub fn readonly_program(program: &Path) -> Option<(OwnedFd, PathBuf)> {
    // The same numbers on every architecture; linux/mount.h.
    const SYS_OPEN_TREE: libc::c_long = 428;
    const SYS_MOUNT_SETATTR: libc::c_long = 442;
    const OPEN_TREE_CLONE: libc::c_int = 1;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let path = CString::new(program.as_os_str().as_bytes()).ok()?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
    // SAFETY: a text with its NUL.
    let fd = unsafe { libc::syscall(SYS_OPEN_TREE, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the descriptor was just made and is nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // `struct mount_attr`: set, clear, propagation, user namespace.
    let attributes = [MOUNT_ATTR_RDONLY, 0, 0, 0];
    let (raw, size) = (fd.as_raw_fd(), size_of_val(&attributes));
    let (empty, at) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    // SAFETY: an empty text with its NUL; the kernel's structure with its size.
    let done =
        unsafe { libc::syscall(SYS_MOUNT_SETATTR, raw, empty, at, attributes.as_ptr(), size) };
    let path = PathBuf::from(format!("/proc/self/fd/{raw}"));
    (done == 0).then_some((fd, path))
}

/// The kernel's word for an error number, as `No such file or directory`.
pub fn error_text(errno: i32) -> &'static str {
    nix::Error::from_raw(errno).desc()
}
