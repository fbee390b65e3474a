//! Bounds of the scheduler.

/// Pods looked at in one step, so that a step stays short.
pub(crate) const DECISIONS_PER_STEP_MAX: usize = 64;
/// Bindings asked for and not yet answered.
pub(crate) const BINDINGS_UNDER_WAY_MAX: usize = 256;
/// First wait of a pod that found no node, in ms (kube-scheduler: podInitialBackoffSeconds 1).
pub(crate) const BACK_OFF_MS_MIN: u64 = 1_000;
/// Longest wait (kube-scheduler: podMaxBackoffSeconds 10).
pub(crate) const BACK_OFF_MS_MAX: u64 = 10_000;
/// A pod that found no node is looked at again after this even if nothing changed, in ms (kube-scheduler: 5 minutes).
pub(crate) const LOOK_AGAIN_MS: u64 = 300_000;

/// The core's tables grow by so many nodes at a time.
pub(crate) const NODES_GROWTH: usize = 8;
/// The core's tables grow by so many pods at a time.
pub(crate) const PODS_GROWTH: usize = 32;
/// Answers about the workload that `--placement gradient` remembers (about 150 bytes each).
pub(crate) const WORKLOAD_ANSWERS: usize = 2048;
/// What each matching pod in a domain costs by a ScheduleAnyway constraint, in points of a preferred affinity's weight
/// (1 to 100): one pod less counts more than how full a node is.
pub(crate) const SPREAD_WEIGHT: i32 = 100;
/// What a node gets for having the topology label of such a constraint: more than so many pods can cost.
pub(crate) const SPREAD_LABEL_WEIGHT: i32 = 1_000_000;

const _: () = assert!(DECISIONS_PER_STEP_MAX <= BINDINGS_UNDER_WAY_MAX);
const _: () = assert!(BACK_OFF_MS_MIN <= BACK_OFF_MS_MAX && BACK_OFF_MS_MAX < LOOK_AGAIN_MS);
