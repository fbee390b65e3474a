//! What is left to chance: delays, so that many nodes do not act in step, and names.

use std::time::Duration;

/// Between half of a time and the whole of it: many nodes that lost one server do not come back in step.
pub(crate) fn jitter(time: Duration) -> Duration {
    let half = time / 2;
    half + half.mul_f64(f64::from(random_u32() % 1000) / 1000.0)
}

/// Between a time and twice that: not before it, and not all together.
pub(crate) fn spread(time: Duration) -> Duration {
    time + time.mul_f64(f64::from(random_u32() % 1000) / 1000.0)
}

/// A random number, for delays and names; 0 if the system gives none.
pub(crate) fn random_u32() -> u32 {
    coracle_keys::ring::random::<4>().map_or(0, u32::from_le_bytes)
}
