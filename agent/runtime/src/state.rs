//! What becomes of pods and containers, as the runtime tells it.

use std::path::PathBuf;

use crate::{ContainerId, PodSandboxSpec, PodUid};

/// How a container's entrypoint ended. Written to disk by the shim before anyone is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0..=255; 128 plus the signal if one ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory: SIGKILL (or 137) and its cgroup counted an OOM kill.
    pub oom_killed: bool,
    /// Milliseconds since 1970, UTC.
    pub started_at_ms: u64,
    /// Milliseconds since 1970, UTC.
    pub finished_at_ms: u64,
}

/// Where a container of a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// A start is under way: the shim has accepted it, and `exec` has not been reached.
    Starting,
    /// `exec` succeeded.
    Running {
        /// Process id in the host's PID namespace.
        pid: i32,
        /// Milliseconds since 1970, UTC.
        started_at_ms: u64,
    },
    /// It never ran: a step failed, and what was done is undone. Kubernetes' reason is `StartError`, exit code 128.
    StartFailed {
        /// What failed and why, as `exec /bin/nope: No such file or directory`.
        message: String,
        /// Milliseconds since 1970, UTC.
        at_ms: u64,
    },
    /// It ended.
    Exited(Exit),
    /// Its shim died first: it is dead, and nobody saw how. Kubernetes' reason is `ContainerStatusUnknown`, exit code 137.
    Unknown,
}

impl ContainerState {
    /// Whether processes of it may exist.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Starting | Self::Running { .. })
    }
}

/// A container and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Which.
    pub id: ContainerId,
    /// Where.
    pub state: ContainerState,
}

/// A pod's sandbox as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStatus {
    /// As it was created.
    pub spec: PodSandboxSpec,
    /// Process id of its shim; `None`: the shim is dead, its containers were killed and are `Unknown` unless they had ended.
    pub shim_pid: Option<i32>,
    /// The pod's network namespace, to plug an interface in: `/proc/SHIM/ns/net`. `None` with `host_network` or a dead shim.
    pub netns: Option<PathBuf>,
    /// All attempts that were not removed, by name and attempt.
    pub containers: Vec<ContainerStatus>,
}

/// Something that happened without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A container ended. Its record is on disk.
    ContainerExited {
        /// Its pod.
        pod: PodUid,
        /// Which.
        id: ContainerId,
        /// How.
        exit: Exit,
    },
    /// A pod's shim died; what was left of the pod's processes has been killed. Remove the pod, or create it anew.
    ShimDied {
        /// The pod.
        pod: PodUid,
    },
}

/// Use of a cgroup at one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory, the page cache included; 0 without a memory controller.
    pub memory_bytes: u64,
    /// Bytes of memory without the inactive page cache: Kubernetes' working set.
    pub memory_working_set_bytes: u64,
    /// CPU time since the start, in nanoseconds.
    pub cpu_nanos: u64,
    /// Processes and threads.
    pub pids: u64,
}
