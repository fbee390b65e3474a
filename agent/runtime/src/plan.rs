//! From a spec to the steps that carry it out, and how steps are run and undone (R4). Pure: nothing is touched here.
//!
//! Steps on the host come first and each can be undone. The last is [`Step::Spawn`], whose [`ChildStep`]s run in the
//! container's new namespaces, between `clone` and `exec`: what they make vanishes with the namespaces, so undoing
//! them is killing the child.

use std::path::PathBuf;

use crate::{PodUid, Resources};

mod child;
mod container;
mod pod;

pub use child::{ChildStep, mount_flags};
pub use container::{FD_BASE, FD_NEW_ROOT, FD_OLD_ROOT, FD_PROC, HostFacts, container_steps};
pub use pod::pod_steps;

/// One thing done on the host on the way to a running pod or container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a directory of this mode; its parent is there or made by an earlier step. Undone if it was not there before.
    MakeDir {
        /// Absolute.
        path: PathBuf,
        /// Permissions.
        mode: u32,
    },
    /// Makes a directory and its parents, mode 0700, if it is absent; undone only with one above it.
    KeepDir {
        /// Absolute.
        path: PathBuf,
    },
    /// Writes a file that must not be there yet, mode 0600.
    WriteFile {
        /// Absolute.
        path: PathBuf,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// Makes an empty file, mode 0666, if it is absent; the agent reads and deletes it.
    KeepFile {
        /// Absolute.
        path: PathBuf,
    },
    /// Makes a cgroup in every hierarchy that is used. Undone by killing what is in it and removing it.
    MakeCgroup {
        /// Below the cgroup mount points, without a leading slash.
        path: String,
    },
    /// Sets a cgroup's limits.
    Limit {
        /// As in [`Step::MakeCgroup`].
        path: String,
        /// The limits.
        resources: Resources,
    },
    /// Starts the pod's shim in its cgroup and waits until it is ready. Undone by killing it.
    StartShim {
        /// Whose.
        uid: PodUid,
        /// The cgroup it is put in.
        cgroup: String,
    },
    /// Clones the container's first process into new namespaces, puts it into its cgroup, lets it do its steps, and
    /// waits for `exec`. Undone by killing the cgroup.
    Spawn {
        /// The cgroup it is put in before it does anything (R1).
        cgroup: String,
        /// What it does, in order.
        child: Vec<ChildStep>,
    },
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError {
    /// The step with its object and the cause, as `mount proc on /proc: Operation not permitted`.
    pub message: String,
    /// The kernel's error number, if it was the kernel.
    pub errno: Option<i32>,
}

/// What carries steps out: Linux, or a model in a test.
pub trait Sys {
    /// Does one step. On an error part of it may be done; [`Sys::undo`] is called for it too.
    fn perform(&mut self, step: &Step) -> Result<(), StepError>;

    /// Takes back whatever [`Sys::perform`] did of this step. Must not fail: what cannot be taken back is left for `remove_pod`.
    fn undo(&mut self, step: &Step);
}

/// Does the steps in order. If one fails, takes back that one and all before it, the last first, and tells its error.
pub fn run(steps: &[Step], sys: &mut dyn Sys) -> Result<(), StepError> {
    for (at, step) in steps.iter().enumerate() {
        if let Err(error) = sys.perform(step) {
            for done in steps.iter().take(at + 1).rev() {
                sys.undo(done);
            }
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
