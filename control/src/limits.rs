//! The control plane shell's bounds: what a client may send, hold open and make us keep.

use std::time::Duration;

/// Largest request body, in bytes; beyond it 413. Kubernetes' own limit.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// What is read and thrown away of a body that is too large, so that the client lives to read the 413.
pub(crate) const BODY_BYTES_DRAINED_MAX: usize = 64 * 1024 * 1024;
/// All request bodies being read or waiting for their answer at one time, in bytes; beyond it 429.
pub(crate) const BODY_BYTES_IN_FLIGHT_MAX: usize = 12 * 1024 * 1024;
/// Requests being answered at one time, watches not counted; beyond it 429.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Open connections; further ones wait in the kernel's backlog.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Of these, connections without a client certificate; further ones are closed after their handshake. The others are for
/// nodes and administrators.
pub(crate) const STRANGERS_MAX: usize = 128;
/// Streams that one HTTP/2 connection may have open: an agent's watches and requests fit many times.
pub(crate) const STREAMS_MAX: u32 = 100;
/// Head of a request, in bytes (tokens are up to 16 KiB); beyond it 431. Also HTTP/1's largest buffer.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Header fields of a request.
pub(crate) const HEADERS_MAX: usize = 64;
/// HTTP/2: bytes that a client may send on one stream before we have read them.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// HTTP/2: the same for all streams of a connection.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// HTTP/2: bytes waiting to be sent on one stream.
pub(crate) const STREAM_SEND_BYTES: usize = 32 * 1024;
/// Parts of a list are gathered to writes of about this size.
pub(crate) const WRITE_BYTES: usize = 16 * 1024;
/// A connection that sends a large list lets others run after this many bytes.
pub(crate) const TURN_BYTES: usize = 64 * 1024;
/// Batches that are committed with one sync if they are waiting.
pub(crate) const BATCHES_MERGED_MAX: usize = 64;

/// From the first byte of a connection to the end of its TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/1: from the end of one request to the end of the next one's head.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// For a whole request body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// So long what a stranger sends is thrown away; then its stream is reset.
pub(crate) const STRANGERS_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// So much of it, bytes.
pub(crate) const STRANGERS_BODY_BYTES_MAX: usize = 64 * 1024;
/// HTTP/2: silence after which a ping is sent, and for how long the answer may take. An agent sends one after 30 s of its
/// own accord: from here they are for others.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(60);
/// See [`PING_EVERY`].
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// For the head of a node's answer on its tunnel.
pub(crate) const NODE_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two tries to open the store after it failed: from the first to the second.
pub(crate) const REOPEN_AFTER: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(10));
/// For answers that are being written when the process is told to stop.
pub(crate) const STOP_GRACE: Duration = Duration::from_millis(500);
/// For the store to close after that.
pub(crate) const STORE_CLOSE_TIMEOUT: Duration = Duration::from_millis(1200);
/// After a start, until a first backup is written by itself; then, if anything changed, once in so long.
pub(crate) const LAST_GOOD_FIRST: Duration = Duration::from_secs(15 * 60);
/// See [`LAST_GOOD_FIRST`].
pub(crate) const LAST_GOOD_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Largest backup that is written by itself, in bytes; two are kept. A larger store is backed up by hand.
pub(crate) const LAST_GOOD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest sleep of the timer: the wall clock may have been set meanwhile.
pub(crate) const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How often the server's certificate is looked at while running.
pub(crate) const CERTIFICATE_CHECK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Nesting of a YAML document; twice what the deepest objects have (JSON is read to 128). Each level takes stack.
pub(crate) const YAML_DEPTH_MAX: usize = 80;
/// Nodes of a YAML document, aliases expanded.
pub(crate) const YAML_NODES_MAX: usize = 200_000;
/// Bytes of all scalars of a YAML document, aliases expanded.
pub(crate) const YAML_SCALAR_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// Doubled keys that are told one by one.
pub(crate) const YAML_DOUBLED_MAX: usize = 32;

/// `up`: from the agent's start until its node is ready.
pub(crate) const UP_NODE_TIMEOUT: Duration = Duration::from_secs(60);
/// `up`: for all pods to end; longer than the usual grace period of 30 s.
pub(crate) const UP_END_TIMEOUT: Duration = Duration::from_secs(90);
/// `up`: for the agent to end once it is told; then it is killed.
pub(crate) const UP_AGENT_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// `up`: how often it looks for what it tells of.
pub(crate) const UP_LOOK_EVERY: Duration = Duration::from_millis(300);

// The largest body must fit beside another one, or a single writer could starve.
const _: () = assert!(BODY_BYTES_IN_FLIGHT_MAX >= 2 * BODY_BYTES_MAX);
// Stopping is promised within 2 s.
const _: () = assert!(STOP_GRACE.as_millis() + STORE_CLOSE_TIMEOUT.as_millis() < 2000);
// One connection's streams cannot use up all requests.
const _: () = assert!((STREAMS_MAX as usize) < REQUESTS_MAX);
