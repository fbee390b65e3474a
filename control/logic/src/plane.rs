//! The control plane as one value: `step(now, event, &mut actions)`.

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_store::{Outcome, Revision, Txn};

use crate::call::{HttpRequest, Peer};

/// One request's number, given by the shell, unique while it runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One open watch.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(pub u64);

/// Everything that can wake the control plane.
#[derive(Debug)]
pub enum Event {
    /// A request came in.
    Request(RequestId, HttpRequest),
    /// Its connection is gone, or its time is over; its watch closes.
    Gone(RequestId),
    /// The store committed the oldest batch handed to it.
    Committed(Vec<Outcome>),
    /// The store failed: outcome unknown. The shell reloads and makes a new plane.
    StoreFailed(String),
    /// Time passed (an earlier `WakeAt` is due).
    Tick,
    /// The connection on which this node serves opened or closed.
    NodeTunnel(Peer, bool),
}

/// Everything that it can ask for.
#[derive(Debug)]
pub enum Action {
    /// Answer a request.
    Respond(RequestId, Response),
    /// Commit; batches are answered in order by `Committed`.
    Commit {
        /// In order.
        batch: Vec<Txn>,
        /// Highest number that may have been given once this is durable.
        reserve: Revision,
    },
    /// These watches have something to read.
    WatchReady(WatchId),
    /// Send a `Tick` then (milliseconds since 1970).
    WakeAt(crate::Millis),
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Lower-case names. `content-type` is among them where there is a body.
    pub headers: Vec<(&'static str, String)>,
    /// What follows.
    pub body: ResponseBody,
}

/// The body of an answer.
pub enum ResponseBody {
    /// All of it.
    Bytes(Arc<[u8]>),
    /// Parts, encoded as they are pulled: a list.
    Parts(alloc::boxed::Box<dyn Iterator<Item = Arc<[u8]>> + Send>),
    /// A watch: pull with `watch_next` when `WatchReady` says so.
    Watch(WatchId),
    /// The node's own answer to this path and query, over its tunnel (`/containerLogs/ns/pod/container?…`).
    Node {
        /// Name of the node.
        node: String,
        /// Path and query.
        path_and_query: String,
    },
}

impl core::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Parts(_) => f.write_str("Parts"),
            Self::Watch(id) => write!(f, "{id:?}"),
            Self::Node { node, path_and_query } => write!(f, "Node({node}, {path_and_query})"),
        }
    }
}
