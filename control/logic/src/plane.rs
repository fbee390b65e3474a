//! The control plane as one value: `step(now, event, &mut actions)`.

use alloc::{string::String, sync::Arc, vec::Vec};

use coracle_keys::Keys;
use coracle_store::{Loaded, Outcome, Revision, Txn};

use crate::{
    Millis,
    call::{HttpRequest, Peer},
};

/// What the control plane is told of its surroundings at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses under which agents and pods reach the API (`kubernetes` EndpointSlice), first one first; IPs only.
    pub advertise_ips: Vec<String>,
    /// Port of the API on those addresses.
    pub port: u16,
    /// `linux/arm64`, as `/version` tells it.
    pub platform: String,
    /// Issuer of service account tokens.
    pub issuer: String,
    /// Pods' addresses are cut from this; each node gets a /24 of it.
    pub pod_cidr: String,
    /// Address of the `kubernetes` Service.
    pub kubernetes_service_ip: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            advertise_ips: alloc::vec!["127.0.0.1".into()],
            port: 6443,
            platform: "linux/amd64".into(),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            pod_cidr: "10.42.0.0/16".into(),
            kubernetes_service_ip: "10.43.0.1".into(),
        }
    }
}

/// Why a control plane could not be made of what was loaded. The text names the key, the cause and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError(pub String);

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for StartError {}

/// What a watch has after a pull.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WatchPoll {
    /// More can be pulled at once.
    More,
    /// Nothing more now; `WatchReady` will tell.
    Wait,
    /// It is over: write what was given, then end the body.
    Closed,
}

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
    /// Send a `Tick` then (milliseconds since 1970). The newest one counts; an earlier one is forgotten.
    WakeAt(Millis),
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

/// The control plane: everything between the parsed HTTP request and the store, as one value.
pub struct ControlPlane {
    config: Config,
    keys: Arc<dyn Keys>,
}

impl core::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ControlPlane").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Makes a control plane of what the store held. `seed` is fresh entropy: uids, suffixes of generated names and
    /// nonces are drawn from it. Step it with [`Event::Tick`] first: that writes what every cluster must have.
    ///
    /// # Errors
    /// A stored value that cannot be read, or cannot be unsealed with these keys.
    pub fn new(
        config: Config,
        keys: Arc<dyn Keys>,
        _loaded: Loaded,
        _now: Millis,
        _seed: u64,
    ) -> Result<Self, StartError> {
        Ok(Self { config, keys })
    }

    /// Takes one event and appends what is to be done. Short: never blocks, never waits.
    pub fn step(&mut self, _now: Millis, event: Event, out: &mut Vec<Action>) {
        if let Event::Request(id, _) = event {
            let body: &[u8] = self.keys.root_ca_pem().get(..0).unwrap_or("").as_bytes();
            out.push(Action::Respond(
                id,
                Response {
                    status: 503,
                    headers: Vec::new(),
                    body: ResponseBody::Bytes(body.into()),
                },
            ));
        }
    }

    /// Appends the next events of a watch, each part to be written as it is, a bounded amount a call.
    pub fn watch_next(&mut self, _id: WatchId, _out: &mut Vec<Arc<[u8]>>) -> WatchPoll {
        WatchPoll::Closed
    }
}
