//! Every bound of this crate and of the shim, and how they hang together.

/// Longest pod uid: a UUID is 36; a static pod's hash is 32.
pub const POD_UID_BYTES_MAX: usize = 63;

/// Longest container name: a DNS label (RFC 1123).
pub const CONTAINER_NAME_BYTES_MAX: usize = 63;

/// Containers that one shim keeps in its table, living and ended; older attempts are removed by the agent.
pub const CONTAINERS_PER_POD_MAX: usize = 64;

/// Bytes of one encoded spec. `execve` takes 2 MiB of argv and env together at most on a default stack limit.
pub const SPEC_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Items of one list inside a spec (arguments, variables, mounts, layers).
pub const SPEC_ITEMS_MAX: usize = 16 * 1024;

/// Read-only layers of one root. overlayfs takes 500.
pub const LAYERS_MAX: usize = 128;

/// Volumes and files mounted into one container.
pub const MOUNTS_MAX: usize = 256;

/// Bytes of one log record's content; longer lines are written in parts, tag `P`. The CRI's readers expect 16 KiB.
pub const LOG_PART_BYTES: usize = 16 * 1024;

/// Default size at which a log file is rotated, as the kubelet's `containerLogMaxSize`.
pub const LOG_FILE_BYTES_DEFAULT: u64 = 10 * 1024 * 1024;

/// Default number of log files of one container, the one being written included.
pub const LOG_FILES_DEFAULT: u32 = 5;

/// Connections that a shim serves at one time; the agent needs two.
pub const SHIM_CONNECTIONS_MAX: usize = 8;

/// How long a freshly started shim may take until it answers, in milliseconds: first start of the binary from a slow card.
pub const SHIM_READY_MS_MAX: u64 = 20_000;

/// How long one request to a shim may take, in milliseconds.
pub const SHIM_ANSWER_MS_MAX: u64 = 30_000;

/// How long a killed cgroup may take to become empty, in milliseconds.
pub const KILL_MS_MAX: u64 = 10_000;

/// Instructions of one seccomp program; the kernel's BPF_MAXINSNS.
pub const SECCOMP_INSTRUCTIONS_MAX: usize = 4096;

/// Bytes of a container's termination message that the agent reads back, as the kubelet.
pub const TERMINATION_MESSAGE_BYTES_MAX: usize = 4096;

// A spec's layers and mounts are opened at fixed descriptors below the usual soft limit of 1024.
const _: () = assert!(LAYERS_MAX + MOUNTS_MAX + 64 < 1024);
// overlayfs: 500 lower directories.
const _: () = assert!(LAYERS_MAX <= 500);
