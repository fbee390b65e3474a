//! Every bound of the agent's shell, with the relations between them checked at compile time.

use std::time::Duration;

/// Events that wait for the pod machine; a full queue holds up whoever sends.
pub(crate) const EVENTS_MAX: usize = 256;

/// Blocking calls (runtime, volumes, network) at one time, each a thread while it lasts.
pub(crate) const BLOCKING_MAX: usize = 4;

/// Threads for what waits for a network: a pull, and a look at an image or a name beside it.
pub(crate) const PULL_THREADS_MAX: usize = 3;

/// Pulls at one time: kubelet's default, and kind to a small card.
pub(crate) const PULLS_MAX: usize = 1;

/// Largest answer of the API server that is read whole, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Largest event of a watch, in bytes: an object of 1 MiB and what wraps it.
pub(crate) const WATCH_EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Services whose addresses containers are told.
pub(crate) const SERVICES_MAX: usize = 2048;

/// Objects (ConfigMaps, Secrets) that pods of this node mount.
pub(crate) const OBJECTS_MAX: usize = 1024;

/// The first time that a pod mounts objects: so long until it is told as failed and tried again. Source: kubelet.
pub(crate) const OBJECTS_WAIT: Duration = Duration::from_secs(123);

/// For a connection with TLS and HTTP/2 on it.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// For an answer's head.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two tries to connect: from the first to the last; each is shortened by up to a half, at random.
pub(crate) const RECONNECT: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(20));

/// A request that the API server was too busy for (429 or 503 with `Retry-After`) is sent so many times more; after
/// that its sender is told, who has a delay of its own.
pub(crate) const BUSY_TRIES_MAX: u32 = 4;

/// Longest `Retry-After` that is believed.
pub(crate) const BUSY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Fake nodes of one process: each is a connection, and the control plane takes 256.
pub(crate) const FAKE_NODES_MAX: usize = 200;

/// Fake nodes that join at one time; each makes two connections, one after the other, before it has its own.
pub(crate) const FAKE_JOINS_MAX: usize = 16;

/// Pods of one fake node at one time: as many as there are addresses for in its /24.
pub(crate) const FAKE_PODS_MAX: usize = 250;

/// Disk of each fake node, in bytes, all of it free.
pub(crate) const FAKE_DISK_BYTES: u64 = 64 << 30;

/// A silent connection is asked for a sign of life after this time. This and the two below ring up to
/// [`coracle_rt::TIMERS_LATE_MAX`] late, so that connections are asked together.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(30);

/// The same for the tunnel, which carries logs only: the other connection notices a dead control plane first.
pub(crate) const TUNNEL_PING_AFTER: Duration = Duration::from_secs(90);

/// It is given up if none came within this time.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// A watch is asked to end after this time, in seconds, and is opened anew from where it was.
pub(crate) const WATCH_SECONDS: u64 = 3600;

/// A watch that lasted so long, in ms, is opened anew without delay.
pub(crate) const WATCH_GOOD_MS: u64 = 60_000;

/// Between two renewals of the node's Lease. Source: kubelet.
pub(crate) const LEASE_EVERY: Duration = Duration::from_secs(10);

/// Life of the node's Lease in seconds. Source: kubelet.
pub(crate) const LEASE_SECONDS: u32 = 40;

/// Between two looks at the machine (memory, disk, addresses).
pub(crate) const FACTS_EVERY: Duration = Duration::from_secs(30);

/// Between two looks at the packet filter: other programs reload theirs.
pub(crate) const FILTER_EVERY: Duration = Duration::from_secs(60);

/// Events (of the API) that are remembered, to count repetitions instead of writing anew.
pub(crate) const TALES_MAX: usize = 256;

/// Events (of the API) that wait to be sent; the oldest falls off and is counted in the log.
pub(crate) const TALES_WAITING_MAX: usize = 256;

/// Streams that the control plane may have open on the tunnel.
pub(crate) const TUNNEL_STREAMS_MAX: u32 = 64;

/// Bytes of log that are read and sent at one time.
pub(crate) const LOG_CHUNK_BYTES: usize = 32 * 1024;

/// Between two looks at a log that is followed.
pub(crate) const LOG_POLL: Duration = Duration::from_millis(250);

/// Attempts of one container whose records and logs are kept: the last and the one before.
pub(crate) const ATTEMPTS_KEPT: u32 = 2;

/// Part of a token's or certificate's life after which it is renewed, in percent: from, to.
pub(crate) const RENEW_PERCENT: (u32, u32) = (70, 90);

/// Between two looks at the clock while a certificate is good: the clock may be set meanwhile.
pub(crate) const CLOCK_EVERY: Duration = Duration::from_secs(3600);

/// Part of a service account token's life after which it is renewed, in percent. Source: kubelet.
pub(crate) const TOKEN_RENEW_PERCENT: u64 = 80;

const _: () = assert!(LEASE_EVERY.as_secs() * 3 < LEASE_SECONDS as u64);
const _: () = assert!(PULLS_MAX < PULL_THREADS_MAX);
const _: () = assert!(FAKE_JOINS_MAX <= FAKE_NODES_MAX);
const _: () = assert!(BUSY_WAIT_MAX.as_secs() < LEASE_SECONDS as u64);
const _: () = assert!(RENEW_PERCENT.0 < RENEW_PERCENT.1 && RENEW_PERCENT.1 < 100);
const _: () = assert!(TALES_WAITING_MAX <= TALES_MAX);
const _: () = assert!(WATCH_EVENT_BYTES_MAX < ANSWER_BYTES_MAX);
