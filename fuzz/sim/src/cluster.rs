//! A whole cluster in one thread: every message, timer and accident is an event in one queue, ordered by simulated time.

use std::collections::{BTreeMap, BTreeSet};

use coracle_control_logic::{
    call::HttpRequest,
    plane::{WatchId, WatchPoll},
};
use coracle_store::mem::Fault;

use crate::{
    checker::{Checker, WATCHED},
    client::Client,
    limits,
    node::Node,
    promises,
    rng::Rng,
    server::{Caller, Out, Server},
    trace::Trace,
    wire::{Actor, HostEvent, News, Order, Scene, Tag},
    world::World,
    writer::{Writer, check_counter},
};

/// Writers of each world.
const WRITERS: usize = 2;

enum Ev {
    Start,
    StartAgent(usize),
    Arrive(Caller, HttpRequest),
    Gone(Caller),
    Commit(u64),
    Tick(u64),
    Pull(u64, WatchId, Caller),
    News(Caller, News),
    Host(usize, HostEvent),
    Mischief,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were played.
    pub events: u64,
    /// Hash of all of them: the same seed gives the same.
    pub trace: u64,
    /// Durable changes.
    pub changes: u64,
    /// Writes that were acknowledged to the writers.
    pub acknowledged: u64,
    /// Watch events that were held against the model.
    pub watched: u64,
    /// Watches that were resumed, and lists that were read.
    pub resumed: u64,
    /// See `resumed`.
    pub listed: u64,
    /// Power cuts, failed stores, agents that were killed, boards that were rebooted.
    pub accidents: u64,
    /// Containers that were started.
    pub containers: u64,
    /// Calm until all was settled, in ms.
    pub settled_ms: u64,
}

/// The cluster.
pub struct Cluster {
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Ev>,
    next_event: u64,
    next_tag: Tag,
    rng: Rng,
    world: World,
    server: Server,
    client: Client,
    writers: Vec<Writer>,
    checkers: Vec<Checker>,
    nodes: Vec<Node>,
    /// Open streams, with when their last bytes arrive.
    streams: BTreeMap<Caller, u64>,
    /// Streams that broke: nothing of them arrives any more.
    broken: BTreeSet<Caller>,
    /// Calls whose answer will be lost.
    deaf: BTreeSet<Caller>,
    trace: Trace,
    accidents: u64,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster in which nothing runs yet.
    pub fn new(world: &World, rng: &mut Rng) -> Self {
        let nodes = usize::try_from(world.nodes).unwrap_or(1);
        let mut this = Self {
            now_ms: limits::BEGIN_MS,
            queue: BTreeMap::new(),
            next_event: 0,
            next_tag: 0,
            client: Client::draw(&mut rng.fork()),
            rng: rng.fork(),
            world: world.clone(),
            server: Server::new(),
            writers: (0..WRITERS).map(Writer::new).collect(),
            checkers: WATCHED.into_iter().map(Checker::new).collect(),
            nodes: (0..nodes).map(|index| Node::new(index, world)).collect(),
            streams: BTreeMap::new(),
            broken: BTreeSet::new(),
            deaf: BTreeSet::new(),
            trace: Trace::default(),
            accidents: 0,
        };
        this.push(0, Ev::Start);
        for index in 0..nodes {
            this.push(50, Ev::StartAgent(index));
        }
        this.push(limits::MISCHIEF_MS, Ev::Mischief);
        this
    }

    /// Everyone but the agents begins.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn begin(&mut self) -> Result<(), String> {
        self.with(Actor::Client, |this, scene| {
            this.client.start(scene);
            Ok(())
        })?;
        for index in 0..self.writers.len() {
            self.with(Actor::Writer(index), |this, scene| {
                this.writers.get_mut(index).into_iter().for_each(|writer| writer.start(scene));
                Ok(())
            })?;
        }
        for index in 0..self.checkers.len() {
            self.with(Actor::Checker(index), |this, scene| {
                this.checkers.get_mut(index).into_iter().for_each(|checker| checker.start(scene));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Plays until this much of simulated time has gone by.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn play(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now_ms + ms;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now_ms = at;
            if self.trace.events >= limits::EVENTS_MAX {
                return Err(format!("L1: {} events and no end", limits::EVENTS_MAX));
            }
            self.event(event)?;
        }
        self.now_ms = until;
        Ok(())
    }

    /// The weather is gone; writers write no more.
    pub fn calm(&mut self) {
        self.world = self.world.calm();
        for node in &mut self.nodes {
            node.cut_off_until = 0;
            node.weather(&self.world);
        }
        self.writers.iter_mut().for_each(|writer| writer.stopped = true);
    }

    /// Simulated time since the beginning, in ms.
    pub fn since_begin_ms(&self) -> u64 {
        self.now_ms - limits::BEGIN_MS
    }

    /// What is not yet as it must be in calm (L1); `None`: all is settled.
    pub fn unsettled(&self) -> Option<String> {
        if !self.client.is_done() {
            return Some(format!("the client's script: {:?}", self.client));
        }
        if !self.server.is_ready() {
            return Some("the control plane is not ready".into());
        }
        let history = &self.server.history;
        if let Some(why) = promises::deployed(history, &self.nodes, self.client.replicas) {
            return Some(why);
        }
        let behind = self.checkers.iter().find(|checker| !checker.caught_up(history));
        behind.map(|checker| format!("a watcher is behind: {checker:?}"))
    }

    /// Everything acknowledged is there.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn check_writes(&self) -> Result<(), String> {
        for writer in &self.writers {
            writer.check(&self.server.history)?;
        }
        check_counter(&self.writers, &self.server.history)
    }

    /// What happened.
    pub fn report(&self) -> Report {
        let counts = self.checkers.iter().map(Checker::counts);
        let (listed, resumed) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Report {
            events: self.trace.events,
            trace: self.trace.hash,
            changes: self.server.history.len(),
            acknowledged: self.writers.iter().map(|writer| writer.acknowledged).sum(),
            watched: self.checkers.iter().map(|checker| checker.events).sum(),
            resumed,
            listed,
            accidents: self.accidents,
            containers: self.nodes.iter().map(|node| node.runtime.started).sum(),
            settled_ms: 0,
        }
    }

    fn push(&mut self, ms: u64, event: Ev) {
        self.next_event += 1;
        self.queue.insert((self.now_ms + ms, self.next_event), event);
    }

    fn delay(&mut self) -> u64 {
        self.rng.between(1, self.world.delay_ms)
    }

    fn life(&self, actor: Actor) -> u64 {
        match actor {
            Actor::Node(index) => self.nodes.get(index).map_or(0, |node| node.life),
            Actor::Client | Actor::Writer(_) | Actor::Checker(_) => 0,
        }
    }

    fn is_cut_off(&self, actor: Actor) -> bool {
        match actor {
            Actor::Node(index) => {
                self.nodes.get(index).is_some_and(|node| self.now_ms < node.cut_off_until)
            }
            Actor::Client | Actor::Writer(_) | Actor::Checker(_) => false,
        }
    }

    /// Lets an actor act, and takes its orders.
    fn with(
        &mut self,
        actor: Actor,
        act: impl FnOnce(&mut Parts<'_>, &mut Scene<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut scene = Scene {
            now_ms: self.now_ms,
            rng: &mut self.rng,
            history: &self.server.history,
            orders: Vec::new(),
            next_tag: &mut self.next_tag,
        };
        let mut parts = Parts {
            client: &mut self.client,
            writers: &mut self.writers,
            checkers: &mut self.checkers,
            nodes: &mut self.nodes,
        };
        act(&mut parts, &mut scene)?;
        let orders = scene.orders;
        let life = self.life(actor);
        for order in orders {
            match order {
                Order::Call(tag, http) => self.call(Caller { actor, life, tag }, http),
                Order::After(ms, tag) => {
                    self.push(ms.max(1), Ev::News(Caller { actor, life, tag }, News::Timer(tag)));
                }
                Order::Host(ms, event) => {
                    if let Actor::Node(index) = actor {
                        self.push(ms, Ev::Host(index, event));
                    }
                }
            }
        }
        Ok(())
    }

    fn call(&mut self, caller: Caller, http: HttpRequest) {
        let cut_off = self.is_cut_off(caller.actor);
        if cut_off || self.rng.chance(self.world.lose) {
            let ms = self.rng.between(1, limits::CALL_MS);
            self.push(ms, Ev::News(caller, News::Lost(caller.tag)));
            self.deaf.insert(caller);
            // Half of what is lost was the answer.
            if cut_off || self.rng.chance(500) {
                return;
            }
        }
        let ms = self.delay();
        self.push(ms, Ev::Arrive(caller, http));
    }

    fn event(&mut self, event: Ev) -> Result<(), String> {
        let mut out = Vec::new();
        match event {
            Ev::Start => {
                self.trace.note(self.now_ms, "start", &[]);
                if !self.server.is_up() {
                    let seed = self.rng.draw();
                    self.server.start(self.now_ms, seed, &mut out)?;
                    self.check_writes()?;
                }
            }
            Ev::StartAgent(index) => {
                self.trace.note(self.now_ms, "agent", &[index as u64]);
                let world = self.world.clone();
                let up = self.nodes.get(index).is_none_or(Node::is_up);
                if !up {
                    // Its new life begins before its first order.
                    self.with_node(index, |node, scene| {
                        node.weather(&world);
                        node.start(scene)
                    })?;
                }
            }
            Ev::Arrive(caller, http) => {
                self.trace.note(self.now_ms, "arrive", &[caller.tag, http.body.bytes.len() as u64]);
                self.trace.bytes(http.path.as_bytes());
                self.server.ask(self.now_ms, caller, http, &mut out)?;
            }
            Ev::Gone(caller) => {
                self.trace.note(self.now_ms, "gone", &[caller.tag]);
                self.server.gone(self.now_ms, caller, &mut out)?;
            }
            Ev::Commit(epoch) if epoch == self.server.epoch => {
                self.trace.note(self.now_ms, "commit", &[epoch]);
                let fails = self.rng.chance(self.world.fail_commit);
                let kept = self.rng.chance(500);
                let fault = fails.then_some(if kept { Fault::Kept } else { Fault::Lost });
                self.server.commit(self.now_ms, fault, &mut out)?;
                promises::not_over_committed(&self.server.history, &self.nodes)?;
                if !self.server.is_up() {
                    self.restart_later();
                }
            }
            Ev::Tick(epoch) if epoch == self.server.epoch => {
                self.trace.note(self.now_ms, "tick", &[epoch]);
                self.server.tick(self.now_ms, &mut out)?;
            }
            Ev::Commit(_) | Ev::Tick(_) => {}
            Ev::Pull(epoch, watch, caller) => self.pull(epoch, watch, caller),
            Ev::News(caller, news) => self.news(caller, &news)?,
            Ev::Host(index, event) => {
                self.trace.note(self.now_ms, "host", &[index as u64]);
                self.with_node(index, |node, scene| node.host(event, scene))?;
            }
            Ev::Mischief => {
                self.push(limits::MISCHIEF_MS, Ev::Mischief);
                self.mischief(&mut out)?;
            }
        }
        for out in out {
            self.server_said(out);
        }
        Ok(())
    }

    fn with_node(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Node, &mut Scene<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        self.with(Actor::Node(index), |parts, scene| match parts.nodes.get_mut(index) {
            Some(node) => act(node, scene),
            None => Ok(()),
        })?;
        promises::one_live_set(&self.nodes)
    }

    fn server_said(&mut self, out: Out) {
        let epoch = self.server.epoch;
        match out {
            Out::Answer(caller, code, bytes) => {
                if self.deaf.remove(&caller) {
                    return;
                }
                let ms = self.delay();
                let tag = caller.tag;
                let lost = self.is_cut_off(caller.actor);
                let news = if lost { News::Lost(tag) } else { News::Answer(tag, code, bytes) };
                self.push(ms, Ev::News(caller, news));
            }
            Out::Lost(caller) => {
                if !self.deaf.remove(&caller) {
                    let ms = self.delay();
                    self.push(ms, Ev::News(caller, News::Lost(caller.tag)));
                }
            }
            Out::Opened(caller, watch) => {
                let ms = self.delay();
                if self.deaf.remove(&caller) {
                    self.push(ms, Ev::Gone(caller));
                    return;
                }
                self.streams.insert(caller, self.now_ms + ms);
                self.push(ms, Ev::News(caller, News::Opened(caller.tag)));
                self.push(1, Ev::Pull(epoch, watch, caller));
            }
            Out::Ready(caller, watch) => {
                let late = self.rng.chance(self.world.slow_pull);
                let ms = if late {
                    let most = self.rng.pick(&[2_000, 30_000, limits::LATE_MS_MAX], 2_000);
                    self.rng.between(1, most)
                } else {
                    1
                };
                self.push(ms, Ev::Pull(epoch, watch, caller));
            }
            Out::Ended(caller) => self.end_stream(caller),
            Out::Committing => {
                let ms = self.rng.between(1, self.world.commit_ms);
                self.push(ms, Ev::Commit(epoch));
            }
            Out::WakeAt(at) => {
                self.push(at.saturating_sub(self.now_ms).max(1), Ev::Tick(epoch));
            }
        }
    }

    /// The last bytes of a stream were sent: after them comes its end.
    fn end_stream(&mut self, caller: Caller) {
        let Some(last) = self.streams.remove(&caller) else { return };
        let at = last.max(self.now_ms + self.delay()) - self.now_ms;
        self.push(at, Ev::News(caller, News::Closed(caller.tag)));
    }

    /// A stream breaks: what is under way is lost.
    fn break_stream(&mut self, caller: Caller) {
        self.streams.remove(&caller);
        self.broken.insert(caller);
        let (there, here) = (self.delay(), self.delay());
        self.push(there, Ev::Gone(caller));
        self.push(here, Ev::News(caller, News::Closed(caller.tag)));
    }

    fn pull(&mut self, epoch: u64, watch: WatchId, caller: Caller) {
        if epoch != self.server.epoch || !self.streams.contains_key(&caller) {
            return;
        }
        let (bytes, poll) = self.server.pull(watch);
        self.trace.note(self.now_ms, "pull", &[caller.tag, bytes.len() as u64]);
        if !bytes.is_empty() {
            let at = self.now_ms + self.delay();
            let last = self.streams.entry(caller).or_default();
            *last = at.max(*last);
            let ms = *last - self.now_ms;
            self.push(ms, Ev::News(caller, News::Bytes(caller.tag, bytes)));
        }
        match poll {
            WatchPoll::More => self.push(1, Ev::Pull(epoch, watch, caller)),
            WatchPoll::Wait => {}
            WatchPoll::Closed => self.end_stream(caller),
        }
    }

    fn news(&mut self, caller: Caller, news: &News) -> Result<(), String> {
        let is_stale = caller.life != self.life(caller.actor);
        if self.broken.contains(&caller) && !matches!(news, News::Closed(_)) {
            return Ok(());
        }
        if is_stale {
            if self.streams.remove(&caller).is_some() {
                self.push(1, Ev::Gone(caller));
            }
            return Ok(());
        }
        self.trace.news(self.now_ms, news);
        match caller.actor {
            Actor::Client => self.with(caller.actor, |parts, scene| parts.client.news(news, scene)),
            Actor::Writer(index) => self.with(caller.actor, |parts, scene| {
                parts.writers.get_mut(index).map_or(Ok(()), |writer| writer.news(news, scene))
            }),
            Actor::Checker(index) => self.with(caller.actor, |parts, scene| {
                parts.checkers.get_mut(index).map_or(Ok(()), |checker| checker.news(news, scene))
            }),
            Actor::Node(index) => self.with_node(index, |node, scene| node.news(news, scene)),
        }
    }

    fn restart_later(&mut self) {
        self.accidents += 1;
        let ms = self.rng.between(10, limits::DOWN_MS_MAX);
        self.push(ms, Ev::Start);
    }

    fn mischief(&mut self, out: &mut Vec<Out>) -> Result<(), String> {
        let world = self.world.clone();
        if self.server.is_up() && self.rng.chance(world.power_cut) {
            self.trace.note(self.now_ms, "power cut", &[]);
            let reached = self.rng.chance(500);
            self.server.cut_power(reached, out)?;
            self.restart_later();
        }
        for caller in self.streams.keys().copied().collect::<Vec<_>>() {
            if self.rng.chance(world.break_stream) {
                self.break_stream(caller);
            }
        }
        for index in 0..self.nodes.len() {
            self.trouble(index, &world)?;
        }
        Ok(())
    }

    fn trouble(&mut self, index: usize, world: &World) -> Result<(), String> {
        let is_up = self.nodes.get(index).is_some_and(Node::is_up);
        if is_up && self.rng.chance(world.agent_restart) {
            self.trace.note(self.now_ms, "agent killed", &[index as u64]);
            self.with_node(index, |node, scene| node.kill(scene))?;
            self.agent_later(index);
        } else if is_up && self.rng.chance(world.reboot) {
            self.trace.note(self.now_ms, "reboot", &[index as u64]);
            self.nodes.get_mut(index).into_iter().for_each(Node::reboot);
            self.agent_later(index);
        }
        if self.rng.chance(world.shim_death) {
            self.with_node(index, Node::lose_shim)?;
        }
        if self.rng.chance(world.crash) {
            self.with_node(index, |node, scene| {
                node.crash(scene);
                Ok(())
            })?;
        }
        if self.rng.chance(world.cut_off) {
            let until = self.now_ms + self.rng.between(1_000, limits::CUT_OFF_MS_MAX);
            self.nodes.get_mut(index).into_iter().for_each(|node| node.cut_off_until = until);
            let of = |caller: &&Caller| caller.actor == Actor::Node(index);
            for caller in self.streams.keys().filter(of).copied().collect::<Vec<_>>() {
                self.break_stream(caller);
            }
        }
        Ok(())
    }

    fn agent_later(&mut self, index: usize) {
        self.accidents += 1;
        let of = |caller: &&Caller| caller.actor == Actor::Node(index);
        for caller in self.streams.keys().filter(of).copied().collect::<Vec<_>>() {
            self.break_stream(caller);
        }
        let ms = self.rng.between(10, limits::DOWN_MS_MAX);
        self.push(ms, Ev::StartAgent(index));
    }
}

/// Everyone who acts.
struct Parts<'a> {
    client: &'a mut Client,
    writers: &'a mut Vec<Writer>,
    checkers: &'a mut Vec<Checker>,
    nodes: &'a mut Vec<Node>,
}
