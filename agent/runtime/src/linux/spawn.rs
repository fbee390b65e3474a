//! Clones a container's first process, puts it into its cgroup, and waits until it has become the program.

use std::ffi::{CString, c_char, c_long};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use super::child::{self, Context};
use super::os;
use super::seccomp::Instruction;
use crate::plan::{ChildStep, StepError};

/// What the caller hands over to the clone, and is told of it.
pub(super) struct Spawn<'a> {
    /// What the child does.
    pub(super) steps: &'a [ChildStep],
    /// Its stdin, stdout, stderr.
    pub(super) stdio: [OwnedFd; 3],
    /// The compiled filter; empty without one.
    pub(super) filter: &'a [Instruction],
    /// The cgroup's directory, on a host with one tree: the child is born in it.
    pub(super) cgroup: Option<OwnedFd>,
    /// For the test of R4: the child's step that fails.
    pub(super) fail_at: Option<usize>,
}

impl Spawn<'_> {
    /// Clones. `place` is called with the child's id, and whether it still has to be put into its cgroup, while the child
    /// waits; when it has returned, the child goes on.
    /// Comes back when the child has executed the program, or with the step that failed.
    pub(super) fn run(
        self,
        place: &mut dyn FnMut(i32, bool) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let io = |doing: &str, error: io::Error| StepError {
            message: format!("{doing}: {}", os::error_text(error.raw_os_error().unwrap_or(0))),
            errno: error.raw_os_error(),
        };
        let (error_read, error_write) = os::pipe().map_err(|error| io("make a pipe", error))?;
        let (go_read, go_write) = os::pipe().map_err(|error| io("make a pipe", error))?;
        let (argv, envp) = vectors(self.steps);
        let [stdin, stdout, stderr] = &self.stdio;
        let context = Context {
            steps: self.steps,
            stdio: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
            go: go_read.as_raw_fd(),
            error: error_write.as_raw_fd(),
            filter: self.filter,
            argv: &argv,
            envp: &envp,
            fail_at: self.fail_at,
        };
        let (pid, placed) =
            clone_sibling(self.cgroup.as_ref()).map_err(|error| io("clone", error))?;
        if pid == 0 {
            // In the child. Its copies of the ends that it must not hold are closed, so that it sees the starter's death.
            drop(go_write);
            drop(error_read);
            child::run(&context);
        }
        drop((error_write, go_read, self.stdio));
        if let Err(error) = place(pid, !placed) {
            // The child sees the end of the pipe and leaves.
            drop(go_write);
            return Err(error);
        }
        File::from(go_write).write_all(b"g").map_err(|error| io("let the container go", error))?;
        let mut told = Vec::new();
        File::from(error_read)
            .read_to_end(&mut told)
            .map_err(|error| io("wait for exec", error))?;
        match *told {
            [] => Ok(()),
            [a, b, c, d, e, f, g, h] => {
                let at = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                let errno = i32::from_le_bytes([e, f, g, h]);
                let step = self.steps.get(at).map_or_else(String::new, ToString::to_string);
                let message = format!("{step}: {}", os::error_text(errno));
                Err(StepError { message, errno: Some(errno) })
            }
            _ => {
                Err(StepError { message: "the container's first process died".into(), errno: None })
            }
        }
    }
}

/// A copy of this process in new mount and PID namespaces, whose parent is this process' parent: the shim. 0 in the copy.
/// And whether it was born in `cgroup`: moving a process there later costs the kernel a grace period, 10 ms and more.
fn clone_sibling(cgroup: Option<&OwnedFd>) -> io::Result<(i32, bool)> {
    if let Some(cgroup) = cgroup
        && let Ok(pid) = clone_into(cgroup)
    {
        return Ok((pid, true));
    }
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_PARENT | libc::SIGCHLD;
    let none = ptr::null::<c_char>();
    // SAFETY: without CLONE_VM and with no stack this is a fork; the starter has one thread. The last arguments' order
    // differs between architectures, and all are NULL.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), none, none, none, none) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((i32::try_from(pid).unwrap_or(0), false))
}

/// `clone3` with CLONE_INTO_CGROUP: Linux 5.7, cgroup v2.
fn clone_into(cgroup: &OwnedFd) -> io::Result<i32> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    const NAMESPACES_AND_PARENT: u64 = 0x0002_0000 | 0x2000_0000 | 0x0000_8000;
    /// The same number on every architecture.
    const SYS_CLONE3: c_long = 435;
    /// `struct clone_args` up to its version of 5.7; clone3(2). With CLONE_PARENT the exit signal is the parent's.
    #[repr(C, align(8))]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let arguments = Arguments {
        flags: CLONE_INTO_CGROUP | NAMESPACES_AND_PARENT,
        cgroup: u64::try_from(cgroup.as_raw_fd()).unwrap_or(0),
        ..Arguments::default()
    };
    // SAFETY: the kernel's structure with its size; without CLONE_VM and with no stack this is a fork.
    let pid = unsafe { libc::syscall(SYS_CLONE3, &raw const arguments, size_of::<Arguments>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(pid).unwrap_or(0))
}

type Pointers = Vec<*const c_char>;

fn vectors(steps: &[ChildStep]) -> (Pointers, Pointers) {
    let list = |texts: &[CString]| {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect::<Pointers>()
    };
    match steps.last() {
        Some(ChildStep::Exec { argv, envp, .. }) => (list(argv), list(envp)),
        Some(_) | None => (list(&[]), list(&[])),
    }
}
