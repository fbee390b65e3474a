//! The real control plane over the model store, with its shell played: commits take time, power is cut, stores fail.

use std::{collections::BTreeMap, sync::Arc};

use coracle_control_logic::{
    Millis,
    call::HttpRequest,
    canary::Switch,
    plane::{
        Action, Config, ControlPlane, Event, RequestId, Response, ResponseBody, WatchId, WatchPoll,
    },
};
use coracle_keys::fake::FakeKeys;
use coracle_store::{
    Op, Outcome, Revision, Store as _, Txn,
    mem::{Fault, MemDisk, MemStore},
};

use crate::{
    clock::Clock,
    history::History,
    trace::Trace,
    wire::{Actor, Tag, json, revision},
};

/// Who waits for an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller {
    /// Who.
    pub actor: Actor,
    /// In which of its lives.
    pub life: u64,
    /// Its own number for it.
    pub tag: Tag,
}

/// What the server gives back to the world.
#[derive(Debug)]
pub enum Out {
    /// An answer goes out.
    Answer(Caller, u16, Vec<u8>),
    /// A stream is open.
    Opened(Caller, WatchId),
    /// A stream has something to read.
    Ready(Caller, WatchId),
    /// No answer will come.
    Lost(Caller),
    /// A stream ended with the server.
    Ended(Caller),
    /// A commit is under way.
    Committing,
    /// Tick after so many ms.
    WakeIn(u64),
}

/// A control plane, its disk, and who waits for it.
pub struct Server {
    canary: Switch,
    disk: MemDisk,
    keys: Arc<FakeKeys>,
    life: Option<Life>,
    next_request: u64,
    /// Counted up with each life.
    pub epoch: u64,
    /// Its machine's clock.
    pub clock: Clock,
    /// Commits fail until then, in ms: the disk is full.
    pub full_until: u64,
    /// Leases by the numbers under which they were answered: volatile numbers are on no disk (S2).
    leases: BTreeMap<u64, u64>,
    /// All that was written.
    pub history: History,
}

struct Life {
    plane: ControlPlane,
    store: MemStore,
    /// Who asked, and whether it wrote a Lease.
    asked: BTreeMap<RequestId, (Caller, bool)>,
    streams: BTreeMap<WatchId, (RequestId, Caller)>,
    committing: Option<(Vec<Txn>, Revision)>,
    wake_at: Option<u64>,
    /// What the clock said last, and when: it never sinks in one life, as in the shell.
    clock: (u64, u64),
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Server {
    /// An empty disk, and nothing running on it.
    pub fn new(canary: Switch) -> Self {
        Self {
            canary,
            disk: MemDisk::default(),
            keys: Arc::new(FakeKeys::new(7)),
            life: None,
            next_request: 0,
            epoch: 0,
            clock: Clock::default(),
            full_until: 0,
            leases: BTreeMap::new(),
            history: History::default(),
        }
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Whether it runs and has all that every cluster has.
    pub fn is_ready(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.plane.is_ready() && life.committing.is_none())
    }

    /// Starts on what the disk holds.
    ///
    /// # Errors
    /// S1 is broken, or the stored state cannot be read.
    pub fn start(&mut self, now_ms: u64, seed: u64, out: &mut Vec<Out>) -> Result<(), String> {
        let mut store = MemStore::open(&self.disk);
        let loaded = store.load().map_err(|error| error.to_string())?;
        self.history.same_as(&loaded.entries)?;
        let now = Millis(self.clock.wall(now_ms));
        let config = Config { canary: self.canary, ..Config::default() };
        let plane = ControlPlane::new(config, self.keys.clone(), loaded, now, seed)
            .map_err(|error| format!("S1: the control plane does not start again: {error}"))?;
        self.epoch += 1;
        self.life = Some(Life {
            plane,
            store,
            asked: BTreeMap::new(),
            streams: BTreeMap::new(),
            committing: None,
            wake_at: None,
            clock: (now.0, now_ms),
        });
        self.step(now_ms, Event::Tick, out)
    }

    /// A request arrives.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn ask(
        &mut self,
        now_ms: u64,
        caller: Caller,
        http: HttpRequest,
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        let Some(life) = &mut self.life else {
            out.push(Out::Lost(caller));
            return Ok(());
        };
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let is_lease = http.method != "GET" && http.path.contains("/leases");
        life.asked.insert(id, (caller, is_lease));
        self.step(now_ms, Event::Request(id, http), out)
    }

    /// A caller's connection is gone.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn gone(&mut self, now_ms: u64, caller: Caller, out: &mut Vec<Out>) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let asked = life.asked.iter().find(|(_, (who, _))| *who == caller).map(|(id, _)| *id);
        let stream = life.streams.iter().find(|(_, (_, who))| *who == caller);
        let stream = stream.map(|(watch, (id, _))| (*watch, *id));
        if let Some((watch, _)) = stream {
            life.streams.remove(&watch);
        }
        let Some(id) = asked.or(stream.map(|(_, id)| id)) else { return Ok(()) };
        life.asked.remove(&id);
        self.step(now_ms, Event::Gone(id), out)
    }

    /// The clock reached the time that the plane asked for.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<Out>) -> Result<(), String> {
        let now = self.now(now_ms);
        let Some(life) = &mut self.life else { return Ok(()) };
        if life.wake_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        life.wake_at = None;
        self.step(now_ms, Event::Tick, out)
    }

    /// The batch under way ends, well or (with a fault) badly. After a fault the server is down.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn commit(
        &mut self,
        now_ms: u64,
        fault: Option<Fault>,
        out: &mut Vec<Out>,
    ) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let Some((batch, reserve)) = life.committing.take() else { return Ok(()) };
        if let Some(fault) = fault {
            self.disk.fail_next(fault);
        }
        match life.store.commit(&batch, reserve) {
            Ok(outcomes) => {
                for (txn, outcome) in batch.iter().zip(&outcomes) {
                    if *outcome == Outcome::Done {
                        self.history.apply(txn)?;
                    }
                }
                self.step(now_ms, Event::Committed(outcomes), out)
            }
            Err(error) => {
                self.learn(&batch)?;
                self.step(now_ms, Event::StoreFailed(error.what), out)?;
                self.stop(out);
                Ok(())
            }
        }
    }

    /// The power is cut. A batch under way reached the disk or not.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn cut_power(&mut self, reached: bool, out: &mut Vec<Out>) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let batch = life.committing.take();
        if let Some((batch, reserve)) = batch.filter(|_| reached) {
            // Durable, and nobody was told.
            let _unheard = life.store.commit(&batch, reserve);
            self.learn(&batch)?;
        }
        self.stop(out);
        Ok(())
    }

    fn stop(&mut self, out: &mut Vec<Out>) {
        let Some(mut life) = self.life.take() else { return };
        for watch in life.streams.keys().copied().collect::<Vec<_>>() {
            // What was ready is not sent any more.
            let _dropped = life.plane.watch_next(watch, &mut Vec::new());
        }
        out.extend(life.asked.into_values().map(|(caller, _)| Out::Lost(caller)));
        out.extend(life.streams.into_values().map(|(_, caller)| Out::Ended(caller)));
    }

    /// Which of a batch's changes are on the disk, when nobody said.
    fn learn(&mut self, batch: &[Txn]) -> Result<(), String> {
        let loaded = MemStore::open(&self.disk).load().map_err(|error| error.to_string())?;
        let there: BTreeMap<&str, u64> =
            loaded.entries.iter().map(|entry| (&*entry.key, entry.revision.0)).collect();
        for (at, txn) in batch.iter().enumerate() {
            let (Op::Put(key, _) | Op::Delete(key)) = &txn.op;
            let later = batch.iter().skip(at + 1).any(|later| {
                let (Op::Put(other, _) | Op::Delete(other)) = &later.op;
                other == key
            });
            let reached = match &txn.op {
                Op::Put(..) => there.get(&**key) == Some(&txn.revision.0),
                Op::Delete(_) => !there.contains_key(&**key) && self.history.get(key).is_some(),
            };
            if later {
                return Err(format!("two changes of {key} in one batch"));
            }
            if reached {
                self.history.apply(txn)?;
            }
        }
        Ok(())
    }

    /// What its process takes for the time: never back within one life.
    fn now(&mut self, now_ms: u64) -> u64 {
        let wall = self.clock.wall(now_ms);
        let Some(life) = &mut self.life else { return wall };
        let (last, seen) = life.clock;
        let now = if last <= wall { wall } else { last + now_ms.saturating_sub(seen) };
        life.clock = (now, now_ms);
        now
    }

    /// Pulls a stream once: its bytes, and whether it is over, has more or waits.
    pub fn pull(&mut self, watch: WatchId) -> (Vec<u8>, WatchPoll) {
        let Some(life) = &mut self.life else { return (Vec::new(), WatchPoll::Closed) };
        let mut parts = Vec::new();
        let poll = life.plane.watch_next(watch, &mut parts);
        if poll == WatchPoll::Closed {
            life.streams.remove(&watch);
        }
        (parts.iter().flat_map(|part| part.iter().copied()).collect(), poll)
    }

    fn step(&mut self, now_ms: u64, event: Event, out: &mut Vec<Out>) -> Result<(), String> {
        let now = self.now(now_ms);
        let Some(life) = &mut self.life else { return Ok(()) };
        let mut actions = Vec::new();
        life.plane.step(Millis(now), event, &mut actions);
        for action in actions {
            match action {
                Action::Respond(id, response) => {
                    let Some((caller, is_lease)) = life.asked.remove(&id) else { continue };
                    let Response { status, body, .. } = response;
                    match body {
                        ResponseBody::Bytes(bytes) => {
                            if is_lease && matches!(status, 200 | 201) {
                                given_once(&mut self.leases, &self.history, &bytes)?;
                            }
                            out.push(Out::Answer(caller, status, bytes.to_vec()));
                        }
                        ResponseBody::Parts(parts) => {
                            let bytes = parts.flat_map(|part| part.to_vec()).collect();
                            out.push(Out::Answer(caller, status, bytes));
                        }
                        ResponseBody::Watch(watch) => {
                            life.streams.insert(watch, (id, caller));
                            out.push(Out::Opened(caller, watch));
                        }
                        ResponseBody::Node { node, .. } => {
                            return Err(format!("nobody asks node {node} for logs here"));
                        }
                    }
                }
                Action::Commit { batch, reserve } => {
                    if life.committing.replace((batch, reserve)).is_some() {
                        return Err("two batches at one time".into());
                    }
                    out.push(Out::Committing);
                }
                Action::WatchReady(watch) => {
                    if let Some((_, caller)) = life.streams.get(&watch) {
                        out.push(Out::Ready(*caller, watch));
                    }
                }
                Action::WakeAt(at) => {
                    life.wake_at = Some(at.0);
                    out.push(Out::WakeIn(at.0.saturating_sub(now)));
                }
            }
        }
        Ok(())
    }
}

/// No number is given twice, to whatever it was given first.
fn given_once(
    leases: &mut BTreeMap<u64, u64>,
    history: &History,
    bytes: &[u8],
) -> Result<(), String> {
    let lease = json(bytes);
    let at = revision(&lease);
    let mut print = Trace::default();
    print.bytes(bytes);
    let before = leases.insert(at, print.hash);
    if before.is_some_and(|before| before != print.hash) {
        return Err(format!("S2: revision {at} was given to a Lease twice"));
    }
    match history.change(at) {
        Some(change) if !change.key.contains("/leases/") => {
            Err(format!("S2: revision {at} was given to {} and to a Lease", change.key))
        }
        Some(_) | None => Ok(()),
    }
}
