//! The steps that need no process: directories, files and cgroups of the host, with their undoing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use coracle_disk::{self as disk, Sync};

use super::cgroup::CgroupSet;
use super::os;
use crate::RuntimeError;
use crate::plan::{Step, StepError};

/// Does such steps and remembers what was made by it: undoing takes nothing that was there before.
#[derive(Debug)]
pub struct HostSteps {
    pub(super) cgroups: CgroupSet,
    made: BTreeSet<PathBuf>,
}

/// An error and its cause as one line, and the kernel's number if it is its.
pub(super) fn explain(error: &RuntimeError) -> (String, Option<i32>) {
    match error {
        RuntimeError::Start { message, errno } => (message.clone(), *errno),
        RuntimeError::Io { doing, source } => (format!("{doing}: {source}"), source.raw_os_error()),
        other => (other.to_string(), None),
    }
}

/// The same as a step's error.
pub(super) fn step_error(error: RuntimeError) -> StepError {
    let (message, errno) = explain(&error);
    StepError { message, errno }
}

impl HostSteps {
    /// Nothing made yet.
    pub fn new(cgroups: CgroupSet) -> Self {
        Self { cgroups, made: BTreeSet::new() }
    }

    /// Does one. [`Step::StartShim`] and [`Step::Spawn`] are for others, and refused.
    pub fn perform(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::MakeDir { path, mode } => {
                disk::make_dir(path, *mode)
                    .map_err(|error| named("make directory", path, &error))?;
                self.made.insert(path.clone());
                Ok(())
            }
            Step::KeepDir { path } => {
                disk::make_dirs(path, 0o700).map_err(|error| named("make directory", path, &error))
            }
            Step::WriteFile { path, bytes } => {
                // Not synced: after a power cut nothing of the pod runs, and a damaged file is swept away with it.
                let done = disk::create(path, bytes, 0o600, Sync::Later);
                if !matches!(&done, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
                    self.made.insert(path.clone());
                }
                done.map_err(|error| named("write", path, &error))
            }
            Step::KeepFile { path } => {
                let made = match disk::create(path, b"", 0o666, Sync::Later) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    made => made,
                };
                // Whoever the container runs as writes it, and whatever the umask is.
                let all = PermissionsExt::from_mode(0o666);
                let done = made.and_then(|()| fs::set_permissions(path, all));
                done.map_err(|error| named("make file", path, &error))
            }
            Step::MakeCgroup { path } => self.cgroups.make(path).map_err(step_error),
            Step::Limit { path, resources } => {
                self.cgroups.limit(path, resources).map_err(step_error)
            }
            Step::StartShim { .. } | Step::Spawn { .. } => {
                let message = format!("{step:?} is not a step of this kind");
                Err(StepError { message, errno: None })
            }
        }
    }

    /// Takes one back.
    pub fn undo(&mut self, step: &Step) {
        match step {
            // What is in it by now was made by us as well: it was made new.
            Step::MakeDir { path, .. } if self.made.remove(path) => {
                let _left_for_remove_pod = disk::remove_dir_all(path);
            }
            Step::WriteFile { path, .. } if self.made.remove(path) => {
                let _left_for_remove_pod = disk::remove_file(path);
            }
            Step::MakeCgroup { path } => {
                let _left_for_remove_pod =
                    self.cgroups.kill(path).and_then(|()| self.cgroups.remove(path));
            }
            Step::Spawn { cgroup, .. } | Step::StartShim { cgroup, .. } => {
                let _left_for_remove_pod = self.cgroups.kill(cgroup);
            }
            Step::MakeDir { .. }
            | Step::WriteFile { .. }
            | Step::KeepDir { .. }
            | Step::KeepFile { .. }
            | Step::Limit { .. } => {}
        }
    }
}

fn named(doing: &str, path: &Path, error: &io::Error) -> StepError {
    let errno = error.raw_os_error();
    let cause = errno.map_or_else(|| error.to_string(), |n| os::error_text(n).to_owned());
    StepError { message: format!("{doing} {}: {cause}", path.display()), errno }
}
