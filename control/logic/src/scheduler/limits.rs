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

const _: () = assert!(DECISIONS_PER_STEP_MAX <= BINDINGS_UNDER_WAY_MAX);
const _: () = assert!(BACK_OFF_MS_MIN <= BACK_OFF_MS_MAX && BACK_OFF_MS_MAX < LOOK_AGAIN_MS);
