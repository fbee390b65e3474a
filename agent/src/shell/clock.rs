//! The only place of the agent that reads clocks.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use coracle_agent_logic::{Millis, Now};

static START: OnceLock<Instant> = OnceLock::new();

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since 1970.
pub(crate) fn wall_s() -> i64 {
    i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX)
}

/// Both clocks, for the pod machine. The monotonic one starts at an hour, so that a time "before now" exists.
pub(crate) fn now() -> Now {
    let since = START.get_or_init(Instant::now).elapsed() + Duration::from_secs(3600);
    Now { mono: Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)), wall_s: wall_s() }
}

/// How long until this time of the monotonic clock.
pub(crate) fn until(at: Millis) -> Duration {
    Duration::from_millis(at.since(now().mono))
}
