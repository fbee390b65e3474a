//! What the agent asks for: a pod's sandbox and a container in it. Everything is decided here; nothing is looked up later.

use std::path::PathBuf;

use crate::limits::{LOG_FILE_BYTES_DEFAULT, LOG_FILES_DEFAULT};
use crate::{Capabilities, ContainerId, PodUid, QosClass, Resources};

/// What the containers of a pod share: network, IPC and UTS namespaces (held by the pod's shim) and a cgroup.
///
/// Its state directory is given by the runtime's data directory and the uid: see `linux::Config::state_dir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSandboxSpec {
    /// The pod's life.
    pub uid: PodUid,
    /// The pod's name, for people.
    pub name: String,
    /// The pod's namespace, for people.
    pub namespace: String,
    /// Host name in the pod's UTS namespace, at most 63 bytes.
    pub hostname: String,
    /// Uses the host's network namespace instead of one of its own.
    pub host_network: bool,
    /// Where the pod's cgroup sits.
    pub qos: QosClass,
    /// Limits of the pod's cgroup, all its containers together.
    pub resources: Resources,
}

/// One try to run one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Name and attempt; started once at most (R5).
    pub id: ContainerId,
    /// Program and arguments; the program is looked up in PATH of `env` inside the root if it has no slash.
    pub argv: Vec<String>,
    /// `NAME=value`; a later one wins.
    pub env: Vec<String>,
    /// Working directory, absolute, made if absent.
    pub cwd: String,
    /// Whose rights it has.
    pub user: User,
    /// Read-only layers of the root, the top first; unpacked directories with overlayfs whiteouts. At least one.
    /// The writable layer on top is the runtime's own, and goes with `remove_container`.
    pub layers: Vec<PathBuf>,
    /// The root cannot be written.
    pub readonly_rootfs: bool,
    /// Volumes and files, mounted in this order after /proc, /sys, /dev.
    pub mounts: Vec<Mount>,
    /// The bounding set; for uid 0 also effective and permitted. Inheritable and ambient are empty, as Docker has it.
    pub capabilities: Capabilities,
    /// Not `allowPrivilegeEscalation`.
    pub no_new_privs: bool,
    /// System calls it may make.
    pub seccomp: Seccomp,
    /// Paths in the root that are covered: files by /dev/null, directories by an empty read-only tmpfs; absent ones skipped.
    pub masked_paths: Vec<String>,
    /// Paths in the root that are made read-only; absent ones skipped.
    pub readonly_paths: Vec<String>,
    /// Limits of its cgroup.
    pub resources: Resources,
    /// -1000..=1000.
    pub oom_score_adj: i32,
    /// Where its output goes.
    pub log: LogSpec,
    /// Where it leaves its last words.
    pub termination_message: Option<TerminationMessage>,
    /// stdin is /dev/null unless this is set; then it stays open and empty (`stdin: true` without anyone attached).
    pub stdin_open: bool,
}

impl ContainerSpec {
    /// Docker's masked paths.
    pub const MASKED_PATHS: &[&str] = &[
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];

    /// Docker's read-only paths.
    pub const READONLY_PATHS: &[&str] =
        &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

    /// A container with Docker's defaults: root user, default capabilities and seccomp, masked paths, no limits.
    ///
    /// The caller fills in the rest, `argv` and `layers` at least.
    pub fn new(id: ContainerId, log: LogSpec) -> Self {
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        Self {
            id,
            argv: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: User::default(),
            layers: Vec::new(),
            readonly_rootfs: false,
            mounts: Vec::new(),
            capabilities: Capabilities::DEFAULT,
            no_new_privs: false,
            seccomp: Seccomp::Default,
            masked_paths: owned(Self::MASKED_PATHS),
            readonly_paths: owned(Self::READONLY_PATHS),
            resources: Resources::default(),
            oom_score_adj: 0,
            log,
            termination_message: None,
            stdin_open: false,
        }
    }
}

/// Numbers only; names are resolved against the image before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups (fsGroup, supplementalGroups, those of /etc/group).
    pub groups: Vec<u32>,
}

/// Which system calls a container may make.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's default profile (`RuntimeDefault`).
    #[default]
    Default,
    /// All.
    Unconfined,
}

/// Something put at a path of the container. Targets are resolved inside the new root: a symlink of the image cannot lead out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Absolute path in the container; made if absent (a directory, or an empty file for a bound file).
    pub target: String,
    /// Not writable through this mount.
    pub readonly: bool,
    /// Later mounts of the host appear, or the container's appear on the host.
    pub propagation: Propagation,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A file or directory of the host, with the mounts below it.
    Bind(PathBuf),
    /// A file or directory below a directory of the host (`subPath`), found when it is mounted and without leaving that
    /// directory: whatever a container makes of it meanwhile leads nowhere else.
    BindBelow {
        /// Trusted, absolute.
        dir: PathBuf,
        /// Relative, without `..`; there.
        path: PathBuf,
    },
    /// Memory, counted to the container (`emptyDir.medium: Memory` shared by containers is a bind of the agent's tmpfs instead).
    Tmpfs {
        /// Largest size in bytes; `None` is the kernel's default, half of the memory.
        size_bytes: Option<u64>,
        /// Permissions of its root, as `0o1777`.
        mode: u32,
    },
}

/// Kubernetes' mountPropagation.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// `None`.
    #[default]
    Private,
    /// `HostToContainer`.
    Slave,
    /// `Bidirectional`.
    Shared,
}

/// The CRI log file of a container: `2026-11-23T15:39:00.123456789Z stdout F line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// The file being written; its directory is made. Rotated ones are `path.1` (the youngest), `path.2`, ….
    pub path: PathBuf,
    /// Size at which it is rotated, in bytes.
    pub file_bytes_max: u64,
    /// Number of files, the one being written included; at least 1.
    pub files_max: u32,
}

impl LogSpec {
    /// A log at `path` with the kubelet's limits (5 files of 10 MiB).
    pub fn new(path: PathBuf) -> Self {
        Self { path, file_bytes_max: LOG_FILE_BYTES_DEFAULT, files_max: LOG_FILES_DEFAULT }
    }
}

/// A file of the host bound into the container for its last words (`terminationMessagePath`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminationMessage {
    /// On the host; made empty if absent, and left to the agent to read and delete.
    pub host_path: PathBuf,
    /// In the container.
    pub container_path: String,
}
