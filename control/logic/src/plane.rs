//! The control plane as one value: `step(now, event, &mut actions)`.

mod bootstrap;
mod drive;
mod load;
mod paths;
mod reads;
mod retention;
#[cfg(test)]
mod tests;
mod writes;

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    sync::Arc,
    vec::Vec,
};

use coracle_api::Status;
use coracle_keys::Keys;
use coracle_store::{Loaded, Outcome, Revision, Txn};

use self::{
    bootstrap::Bootstrap,
    drive::Driven,
    retention::Retention,
    writes::{Bulk, Flight, Work},
};
use crate::{
    Millis, Rng, authn,
    authz::Authorizer,
    cache::{Cache, Change, ring::Ring, watch::Watches},
    call::{HttpRequest, Peer},
    canary::Switch,
    registry::{
        answer,
        sequencer::{Ended, Key, Sequencer},
    },
    scheduler::PlacementProfile,
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
    /// How the scheduler chooses among nodes.
    pub placement: PlacementProfile,
    /// What is done wrong on purpose: nothing, outside the simulator.
    pub canary: Switch,
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
            placement: PlacementProfile::default(),
            canary: Switch::default(),
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
    cache: Cache,
    ring: Ring,
    watches: Watches,
    sequencer: Sequencer,
    authorizer: Authorizer,
    rng: Rng,
    driven: Vec<Driven>,
    retention: Retention,
    bootstrap: Bootstrap,
    /// Nodes that can be asked for logs now.
    tunnels: BTreeSet<String>,
    /// Writes under way, by ticket.
    flights: BTreeMap<u64, Flight>,
    /// Keys with a write under way, and the writes that wait for it.
    busy: BTreeMap<Key, VecDeque<Work>>,
    /// Deletions of collections under way.
    bulks: BTreeMap<u64, Bulk>,
    next_ticket: u64,
    ended: Vec<Ended>,
    woken: Vec<WatchId>,
    actions: Vec<Action>,
    wake_at: Option<Millis>,
    /// The store failed; this plane only says so until the shell makes a new one.
    failed: Option<String>,
}

impl core::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ControlPlane")
            .field("revision", &self.cache.revision())
            .field("sequencer", &self.sequencer)
            .field("flights", &self.flights.len())
            .field("watches", &self.watches)
            .finish_non_exhaustive()
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
        loaded: Loaded,
        now: Millis,
        seed: u64,
    ) -> Result<Self, StartError> {
        let mut rng = Rng(seed);
        // Never 0: a list at resourceVersion 0 could not be followed, for a watch from 0 means "from anything".
        let start = loaded.revision_reserved.0.max(1);
        let sequencer = Sequencer::new(keys.clone(), start, rng.next_u64(), config.canary);
        let driven = drive::controllers(&config, keys.clone());
        let mut plane = Self {
            bootstrap: Bootstrap::default(),
            watches: Watches::new(config.canary),
            config,
            keys,
            cache: Cache::default(),
            ring: Ring::new(start),
            sequencer,
            authorizer: Authorizer::default(),
            rng,
            driven,
            retention: Retention::default(),
            tunnels: BTreeSet::new(),
            flights: BTreeMap::new(),
            busy: BTreeMap::new(),
            bulks: BTreeMap::new(),
            next_ticket: 0,
            ended: Vec::new(),
            woken: Vec::new(),
            actions: Vec::new(),
            wake_at: None,
            failed: None,
        };
        plane.load(now, loaded)?;
        Ok(plane)
    }

    /// Takes one event and appends what is to be done. Short: never blocks, never waits.
    pub fn step(&mut self, now: Millis, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request(id, http) => self.request(now, id, http),
            Event::Gone(id) => {
                self.watches.gone(id);
            }
            Event::Committed(outcomes) => {
                let mut ended = core::mem::take(&mut self.ended);
                self.sequencer.committed(outcomes, &mut ended);
                self.ended = ended;
            }
            Event::StoreFailed(why) => self.store_failed(&why),
            Event::Tick => {}
            Event::NodeTunnel(peer, open) => {
                let node = peer.common_name.strip_prefix("system:node:").unwrap_or_default();
                if open && !node.is_empty() {
                    self.tunnels.insert(node.into());
                } else {
                    self.tunnels.remove(node);
                }
            }
        }
        if self.failed.is_none() {
            self.settle(now);
        }
        self.alarms(now);
        self.actions.extend(self.woken.drain(..).map(Action::WatchReady));
        out.append(&mut self.actions);
    }

    /// Whether a request comes from somebody who is known, by its head alone: for the shell to decide whether to read
    /// its body. What it may do is decided when it is taken.
    pub fn knows(&self, now: Millis, head: &HttpRequest) -> bool {
        authn::is_known(head, &self.cache, &*self.keys, now)
    }

    /// Appends the next events of a watch, each part to be written as it is, a bounded amount a call.
    pub fn watch_next(&mut self, id: WatchId, out: &mut Vec<Arc<[u8]>>) -> WatchPoll {
        let dropped = self.ring.dropped();
        let expired = || Status::too_old(dropped, dropped).to_json().into();
        self.watches.pull(id, &self.ring, self.cache.revision(), expired, out)
    }

    /// All objects as they are now.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Whether everything that every cluster has is there: `/readyz` says ok.
    pub fn is_ready(&self) -> bool {
        self.failed.is_none() && self.bootstrap.is_done()
    }

    /// Makes a change visible: cache, ring, watches, authorizer, controllers.
    fn publish(&mut self, now: Millis, change: Change) {
        if let Some(new) = &change.new {
            self.cache.insert(new.clone());
        } else if let Some(old) = &change.old {
            self.cache.remove(old.resource, &old.meta.namespace, &old.meta.name);
        }
        self.cache.advance(change.revision);
        self.authorizer.changed(&change);
        self.retention.changed(now, &change);
        self.watches.published(&change, &mut self.woken);
        for driven in &mut self.driven {
            driven.controller.changed(now, &change);
        }
        self.ring.push(now, change);
    }

    /// Goes on until nothing moves without the world outside.
    fn settle(&mut self, now: Millis) {
        for _ in 0..crate::limits::CONTROLLER_ROUNDS_MAX {
            self.flush(now);
            self.go_on_with_bootstrap(now);
            if !self.drive(now) {
                break;
            }
        }
        self.expire_events(now);
        self.flush(now);
    }

    /// Numbers, publishes and answers what can be, and hands the next batch to the store.
    fn flush(&mut self, now: Millis) {
        loop {
            let mut ended = core::mem::take(&mut self.ended);
            if let Some(batch) = self.sequencer.pump(&mut ended) {
                self.actions.push(Action::Commit { batch: batch.txns, reserve: batch.reserve });
            }
            if ended.is_empty() {
                return;
            }
            for end in ended {
                self.end(now, end);
            }
        }
    }

    /// What happened to the last batch is not known. Everyone is told so; nothing more is done (S1).
    fn store_failed(&mut self, why: &str) {
        self.failed = Some(why.into());
        let status = Status::internal(&alloc::format!(
            "the store failed ({why}): whether the write was made is not known; read the object to find out"
        ));
        let flights = core::mem::take(&mut self.flights);
        let waiting = core::mem::take(&mut self.busy);
        let works =
            flights.into_values().map(|flight| flight.work).chain(waiting.into_values().flatten());
        for work in works.collect::<Vec<_>>() {
            if let Some(id) = work.request() {
                self.actions.push(Action::Respond(id, answer::failure(&status)));
            }
        }
        for bulk in core::mem::take(&mut self.bulks).into_values() {
            self.actions.push(Action::Respond(bulk.request, answer::failure(&status)));
        }
        let gone = Status::expired("the store was reopened: list again").to_json();
        self.watches.end(&gone.into(), &mut self.woken);
    }

    /// Does what is due by the clock, and asks to be woken for the next.
    fn alarms(&mut self, now: Millis) {
        let watch = self.watches.tick(now, self.cache.revision(), &mut self.woken);
        let ring = self.ring.expire(now);
        let events = self.retention.next_due();
        let driven = self.driven.iter().filter_map(|driven| driven.controller.next_due()).min();
        let next = [watch, ring, events, driven].into_iter().flatten().min();
        // What is due already waits for the next tick, not for the past.
        let next = next.map(|next| next.max(Millis(now.0.saturating_add(1))));
        if next != self.wake_at
            && let Some(at) = next
        {
            self.actions.push(Action::WakeAt(at));
        }
        self.wake_at = next;
    }
}
