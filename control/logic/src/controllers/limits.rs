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

/// Between a change that may leave pods to collect and the look for them (upstream looks every 20 s).
pub(crate) const POD_GC_DELAY_MS: u64 = 20_000;
/// How long a node must be missing before its pods are deleted: it may only be registering anew.
pub(crate) const NODE_MISSING_MS: u64 = 40_000;
/// Finished pods that are kept; the oldest beyond go.
pub(crate) const FINISHED_PODS_MAX: usize = 12_500;

/// How long a node may be silent before it counts as lost (upstream: node-monitor-grace-period).
pub(crate) const NODE_GRACE_MS: u64 = 50_000;
/// The same for a node that never posted its conditions.
pub(crate) const NODE_STARTUP_GRACE_MS: u64 = 60_000;
/// A node that is silent for that long (its lease is renewed every 10 s) is no proof that others are worse off.
pub(crate) const NODE_SILENT_MS: u64 = 25_000;
/// Nodes that may have fallen silent are looked at when the clock shows a multiple of this: one wake-up for all of them
/// (upstream: node-monitor-period).
pub(crate) const NODE_LOOK_EVERY_MS: u64 = 5_000;
/// A look that comes this much too late means that nobody looked (the machine slept, or its clock jumped): nodes get a
/// fresh grace period instead of being taken for lost.
pub(crate) const NODE_LOOK_LATE_MS: u64 = 20_000;
/// Between two nodes that lose their pods (upstream: 0.1 nodes a second).
pub(crate) const NODE_EVICTION_INTERVAL_MS: u64 = 10_000;

/// Life of a certificate that does not ask for less.
pub(crate) const CERTIFICATE_SECONDS_MAX: i64 = 365 * 24 * 3600;
/// Shortest life of a certificate.
pub(crate) const CERTIFICATE_SECONDS_MIN: i64 = 600;
/// Certificates are valid from that long ago, for those whose clock is behind.
pub(crate) const CERTIFICATE_BACKDATE_SECONDS: i64 = 300;
/// Seconds since 1970: 2025. No board of ours was started before; a clock that says so was never set.
pub(crate) const CLOCK_SET_SECONDS_MIN: i64 = 1_735_689_600;
/// Seconds of a certificate's life from that time on, if the clock was never set: five years. Its holder renews it as soon
/// as the time is known, because by then most of its life is over.
pub(crate) const CERTIFICATE_UNSET_CLOCK_SECONDS: i64 = 5 * 365 * 86_400;
/// How long decided requests for certificates are kept.
pub(crate) const REQUEST_DECIDED_MS: u64 = 3_600_000;
/// How long undecided requests for certificates are kept.
pub(crate) const REQUEST_PENDING_MS: u64 = 24 * 3_600_000;

const _: () = assert!(CERTIFICATE_SECONDS_MIN > CERTIFICATE_BACKDATE_SECONDS);
// A node that lost its lease for a moment must not lose its pods at once.
const _: () = assert!(NODE_SILENT_MS < NODE_GRACE_MS);
const _: () = assert!(NODE_LOOK_LATE_MS < NODE_GRACE_MS && NODE_GRACE_MS <= NODE_STARTUP_GRACE_MS);
