//! Every bound of the controllers, with the reason beside it.

/// Keys that one controller looks at in one step; the rest waits for the next.
pub(crate) const KEYS_PER_STEP_MAX: usize = 32;

/// Calls that one look at one key may ask for. What is left is found again when these are answered.
/// Upstream bursts up to 500 replicas; a small board is not helped by that.
pub(crate) const CALLS_PER_LOOK_MAX: usize = 64;

/// Calls of one controller that may be under way (the plane refuses beyond its own bound, which is the same number).
pub(crate) const CALLS_UNDER_WAY_MAX: usize = 256;

/// First delay after a failure; doubles with each failure of the same key (upstream's default rate limiter).
pub(crate) const BACK_OFF_MS_MIN: u64 = 5;
/// Longest delay after failures (upstream: 1000 s).
pub(crate) const BACK_OFF_MS_MAX: u64 = 1_000_000;

/// Kinds of events that one controller remembers in order to count repetitions; the longest unseen is forgotten.
pub(crate) const EVENTS_REMEMBERED_MAX: usize = 256;
/// Events of one controller that wait to be written; beyond it the newest is not recorded (events are best effort).
pub(crate) const EVENTS_WAITING_MAX: usize = 128;
/// Event calls of one controller under way at once.
pub(crate) const EVENTS_UNDER_WAY_MAX: usize = 8;
/// Events about one object that may come at once (upstream's spam filter)…
pub(crate) const EVENTS_PER_OBJECT_BURST: u32 = 25;
/// … and how long one more takes to be allowed again.
pub(crate) const EVENT_REFILL_MS: u64 = 300_000;
/// Longest message of an event in bytes (Kubernetes' own bound).
pub(crate) const EVENT_MESSAGE_BYTES_MAX: usize = 1024;

/// Replica sets and deployments remember this many characters of earlier revisions in an annotation.
pub(crate) const REVISION_HISTORY_CHARS_MAX: usize = 2000;

// One look always fits beside what is under way, or a controller could stand still for ever.
const _: () = assert!(CALLS_PER_LOOK_MAX + EVENTS_UNDER_WAY_MAX <= CALLS_UNDER_WAY_MAX);
const _: () = assert!(BACK_OFF_MS_MIN < BACK_OFF_MS_MAX);
