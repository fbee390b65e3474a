//! Where a runtime keeps its things on the host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{PodSandboxSpec, PodUid};

/// Settings of `linux::LinuxRuntime`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's data directory, absolute; it is in the command line of every shim.
    pub data_dir: PathBuf,
    /// First directory of all cgroups: `coracle`, or another name so that a test disturbs nobody.
    pub cgroup_root: String,
    /// The program that is the shim: the agent itself (`/proc/self/exe` as a resolved path), or a test's.
    pub shim_program: PathBuf,
    /// Arguments before `--data-dir DIR --pod UID`: `["shim"]` for the agent.
    pub shim_args: Vec<OsString>,
}

impl Config {
    /// The agent's own: cgroup root `coracle`, the shim is a subcommand of `program`.
    pub fn new(data_dir: PathBuf, program: PathBuf) -> Self {
        Self {
            data_dir,
            cgroup_root: "coracle".to_owned(),
            shim_program: program,
            shim_args: vec!["shim".into()],
        }
    }

    /// `DIR/pods/UID`: the agent's own directory for the pod's volumes, logs and files is here too. `remove_pod` removes
    /// only the state directory in it.
    pub fn pod_dir(&self, pod: &PodUid) -> PathBuf {
        pod_dir(&self.data_dir, pod)
    }

    /// `DIR/pods/UID/shim`: the runtime's, mode 0700.
    pub fn state_dir(&self, pod: &PodUid) -> PathBuf {
        state_dir(&self.data_dir, pod)
    }
}

/// See [`Config::pod_dir`].
pub fn pod_dir(data_dir: &Path, pod: &PodUid) -> PathBuf {
    data_dir.join("pods").join(pod.as_str())
}

/// See [`Config::state_dir`].
pub fn state_dir(data_dir: &Path, pod: &PodUid) -> PathBuf {
    pod_dir(data_dir, pod).join("shim")
}

impl Config {
    /// `coracle/burstable/podUID`, below the cgroup mount points.
    pub fn pod_cgroup(&self, spec: &PodSandboxSpec) -> String {
        let Self { cgroup_root, .. } = self;
        match spec.qos.dir() {
            Some(tier) => format!("{cgroup_root}/{tier}/pod{}", spec.uid),
            None => format!("{cgroup_root}/pod{}", spec.uid),
        }
    }
}
