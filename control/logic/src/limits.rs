//! Every bound of the control plane's logic, and how they hang together.
//!
//! "Full" is an answer: 429 with Retry-After, 410 Gone, a condition. What a limit guards stands beside it.

/// Largest object, in bytes of its hub JSON; beyond it 413.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;
/// The same for ConfigMaps and Secrets: their data may be 1 MiB, which base64 makes a third more. etcd refuses requests
/// over 1.5 MiB by default.
pub const DATA_OBJECT_BYTES_MAX: usize = 3 * 1024 * 1024 / 2;
/// Room beyond that for the marks of deletion and the last status of an object that is being deleted.
pub const ENDING_BYTES_MAX: usize = 64 * 1024;

/// Changes kept for late watchers. The oldest falls off; who still needed it gets 410 and lists again.
pub const RING_CHANGES_MAX: usize = 2048;
/// Bytes that the ring may keep alive beside the cache, all counted. It holds the last 500 deletes of small objects, or
/// 120 changes of pods of 4.6 KB.
pub const RING_BYTES_MAX: usize = 640 * 1024;
/// A change with nothing old in it, in bytes: its place in the ring.
pub const RING_CHANGE_OVERHEAD_BYTES: usize = 64;
/// What an old version takes beside its JSON, in bytes: metadata, read, and the heap's own.
pub const RING_VERSION_OVERHEAD_BYTES: usize = 464;
/// Changes older than this are dropped when the cluster is quiet; the age is etcd's compaction interval.
pub const RING_AGE_MS_MAX: u64 = 5 * 60 * 1000;
/// They may become that much older where nothing happens: nobody is woken for one change at a time.
pub const RING_LATE_MS_MAX: u64 = 30 * 1000;

/// Open watches in the whole cluster. Each costs well under a kilobyte.
pub const WATCHES_MAX: usize = 4096;
/// Bytes that one pull of a watch gives before others get their turn.
pub const WATCH_PULL_BYTES: usize = 64 * 1024;
/// Events that one pull of a watch gives.
pub const WATCH_PULL_EVENTS: usize = 64;
/// Between two bookmarks of a watch that wants them. All come at full minutes: one wake-up for all.
pub const BOOKMARK_INTERVAL_MS: u64 = 60 * 1000;
/// A watch without `timeoutSeconds` ends after this much up to twice as much (upstream: min-request-timeout 1800 s).
pub const WATCH_AGE_MS_MIN: u64 = 30 * 60 * 1000;

/// Requests that wait for something (a commit, a key) at one time.
pub const REQUESTS_WAITING_MAX: usize = 1024;
/// Writes that wait for one key.
pub const WRITES_PER_KEY_MAX: usize = 64;
/// Evaluations of one write before the caller is told of the conflict.
pub const WRITE_TRIES_MAX: u32 = 8;
/// Transactions of one commit. More waits for the next.
pub const BATCH_TXNS_MAX: usize = 256;
/// Bytes of values of one commit, beyond its first transaction.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Seconds that a caller is asked to stay away when something is full.
pub const RETRY_AFTER_S: u32 = 1;

/// Revisions reserved on disk in one go. A restart skips what is left of them; 2^64 lasts.
pub const REVISION_BLOCK: u64 = 1 << 20;

/// How long an Event is kept (upstream: `--event-ttl`).
pub const EVENT_TTL_MS: u64 = 60 * 60 * 1000;
/// Events kept. They are in memory only; the oldest goes first.
pub const EVENTS_MAX: usize = 1000;

/// Rounds of "step controllers, do their calls" in one step of the plane; then the next tick goes on.
pub const CONTROLLER_ROUNDS_MAX: usize = 8;
/// Calls of one controller that may be under way.
pub const CONTROLLER_CALLS_MAX: usize = 256;

// A batch must hold the largest object, or it would never be written.
const _: () =
    assert!(BATCH_BYTES_MAX >= OBJECT_BYTES_MAX && BATCH_BYTES_MAX >= DATA_OBJECT_BYTES_MAX);
// A backup holds every object; sealing adds less than a kilobyte.
const _: () = assert!(
    DATA_OBJECT_BYTES_MAX + ENDING_BYTES_MAX + 1024 <= coracle_store::limits::VALUE_BYTES_MAX
);
// The ring must hold a full batch, or its watchers would all be thrown out by it.
const _: () = assert!(RING_CHANGES_MAX >= 2 * BATCH_TXNS_MAX);
// So must its bytes, where the batch's old versions have 2,000 bytes each.
const _: () = assert!(
    RING_BYTES_MAX
        >= BATCH_TXNS_MAX * (2000 + RING_CHANGE_OVERHEAD_BYTES + RING_VERSION_OVERHEAD_BYTES)
);
// A pull gives one event at least, so a watch goes on however large the object.
const _: () = assert!(WATCH_PULL_EVENTS >= 1);
// Half a block is left when the next one is reserved: more than any batch takes.
const _: () = assert!(REVISION_BLOCK / 2 > BATCH_TXNS_MAX as u64);
const _: () = assert!(WRITES_PER_KEY_MAX <= REQUESTS_WAITING_MAX);

/// Longest path of a request, in bytes: five names of 253 bytes and the words between them fit.
pub const PATH_BYTES_MAX: usize = 2048;
/// Longest query of a request, in bytes, as sent. A label selector of many values is the longest honest one.
pub const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Most `key=value` pairs in a query.
pub const QUERY_PAIRS_MAX: usize = 64;
/// Most bytes in the header values that the logic reads, all together.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Most single rights (one verb on one thing) that the rules of one role are taken apart into, to see whether the writer
/// has them all.
pub const POLICY_PARTS_MAX: usize = 4096;
/// Most of them that a refusal names.
pub const POLICY_PARTS_NAMED_MAX: usize = 64;
/// Longest service account token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Life of a token for which nothing is said, in seconds.
pub const TOKEN_SECONDS_DEFAULT: i64 = 3600;
/// Shortest life of a token that may be asked for, in seconds.
pub const TOKEN_SECONDS_MIN: i64 = 600;
/// Longest life that a token gets, in seconds (30 days); who asks for more gets this and is told so.
pub const TOKEN_SECONDS_MAX: i64 = 30 * 24 * 3600;
/// Most audiences of one token.
pub const TOKEN_AUDIENCES_MAX: usize = 32;
/// How long the token of a deleted object that is still there (its finalizers, a pod's grace period) stays good, after
/// its deletionTimestamp; upstream's leeway is 60 s.
pub const TOKEN_OF_DELETED_MS_MAX: u64 = 60 * 1000;
/// Most groups and extras that one request impersonates.
pub const IMPERSONATED_PARTS_MAX: usize = 64;
/// Longest name of a field manager, in bytes (Kubernetes' own bound).
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;

// A continue token carries two names and a revision; it must fit the query that brings it back.
const _: () = assert!(QUERY_BYTES_MAX >= 4 * PATH_BYTES_MAX);
const _: () = assert!(
    TOKEN_SECONDS_MIN <= TOKEN_SECONDS_DEFAULT && TOKEN_SECONDS_DEFAULT <= TOKEN_SECONDS_MAX
);
// The longest token fits the headers that bring it.
const _: () = assert!(TOKEN_BYTES_MAX < HEADER_BYTES_MAX);
