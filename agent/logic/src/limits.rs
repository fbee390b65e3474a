//! Every bound of the agent's decisions, with the relations between them checked at compile time.

/// Pods on one node, as kubelet's default; one more is refused as `OutOfpods`.
pub const PODS_MAX: usize = 110;

/// First restart delay after a crash, and first delay after a failed pull, in ms. Source: kubelet.
pub const BACKOFF_MS_MIN: u64 = 10_000;

/// Largest restart and pull delay, in ms. Source: kubelet.
pub const BACKOFF_MS_MAX: u64 = 300_000;

/// A container that went this long without a restart starts again from the first delay, in ms. Source: kubelet (twice
/// the largest delay).
pub const BACKOFF_RESET_MS: u64 = 2 * BACKOFF_MS_MAX;

/// Delay before a container whose configuration is wrong (a missing ConfigMap) is tried again, in ms.
pub const CONFIG_RETRY_MS: u64 = 10_000;

/// First and largest delay before volumes and sandboxes are tried again, in ms.
pub const SETUP_RETRY_MS_MIN: u64 = 500;
/// See [`SETUP_RETRY_MS_MIN`]. Source: kubelet's volume manager (2 min 2 s).
pub const SETUP_RETRY_MS_MAX: u64 = 122_000;

/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`, in ms.
pub const PULL_ERROR_SHOWN_MS: u64 = 2_000;

/// A status that only says "still starting" waits this long, in ms: a pod that is up by then costs one durable write
/// of the control plane instead of two.
pub const STATUS_HOLD_MS: u64 = 1_000;

/// Delay before a status or delete call that was refused is sent again, in ms.
pub const STATUS_RETRY_MS: u64 = 5_000;

/// Smallest grace period, in ms: kubelet gives one second even when asked for none.
pub const GRACE_MS_MIN: u64 = 1_000;

/// Largest grace period that is believed, in seconds (about 24 days); keeps sums of milliseconds far from overflow.
pub const GRACE_S_MAX: u64 = 2_000_000;

/// After SIGKILL, how long until it is sent again, in ms (a process in uninterruptible sleep).
pub const KILL_RETRY_MS: u64 = 10_000;

/// Bytes of a termination message. Source: kubelet.
pub const TERMINATION_MESSAGE_BYTES_MAX: usize = 4096;

/// Bytes of an event's or waiting state's message; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Bytes of one container's environment, names and values together; the kernel refuses more than 2 MiB with argv.
pub const ENV_BYTES_MAX: usize = 1024 * 1024;

/// Processes of one pod, where nothing else is said.
pub const PIDS_PER_POD: u64 = 1024;

const _: () = assert!(BACKOFF_MS_MIN < BACKOFF_MS_MAX);
const _: () = assert!(BACKOFF_RESET_MS > BACKOFF_MS_MAX);
const _: () = assert!(SETUP_RETRY_MS_MIN < SETUP_RETRY_MS_MAX);
const _: () = assert!(PULL_ERROR_SHOWN_MS < BACKOFF_MS_MIN);
const _: () = assert!(GRACE_S_MAX < u64::MAX / 1_000_000);
