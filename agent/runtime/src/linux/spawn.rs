//! Clones a container's first process, puts it into its cgroup, and waits until it has become the program.

use std::ffi::{CString, c_char, c_long};
use std::fs::File;
use std::io::{Read, Write};
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
    /// For the test of R4: the child's step that fails.
    pub(super) fail_at: Option<usize>,
}

impl Spawn<'_> {
    /// Clones. `place` is called with the child's id while the child waits; when it has returned, the child goes on.
    /// Comes back when the child has executed the program, or with the step that failed.
    pub(super) fn run(
        self,
        place: &mut dyn FnMut(i32) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let io = |doing: &str, error: std::io::Error| StepError {
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
        let pid = clone_sibling().map_err(|error| io("clone", error))?;
        if pid == 0 {
            // In the child. Its copies of the ends that it must not hold are closed, so that it sees the starter's death.
            drop(go_write);
            drop(error_read);
            child::run(&context);
        }
        drop((error_write, go_read, self.stdio));
        if let Err(error) = place(pid) {
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
fn clone_sibling() -> std::io::Result<i32> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_PARENT | libc::SIGCHLD;
    let none = ptr::null::<c_char>();
    // SAFETY: without CLONE_VM and with no stack this is a fork; the starter has one thread. The last arguments' order
    // differs between architectures, and all are NULL.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), none, none, none, none) };
    if pid < 0 {
        return Err(std::io::Error::last_os_error());
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
