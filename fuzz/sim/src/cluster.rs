//! A whole cluster in one thread: every message, timer and accident is an event in one queue, ordered by simulated time.

mod weather;

use std::collections::{BTreeMap, BTreeSet};

use coracle_control_logic::{
    call::HttpRequest,
    plane::{WatchId, WatchPoll},
};
use coracle_store::mem::Fault;

use crate::{
    Canary,
    chaos::Chaos,
    checker::{Checker, WATCHED},
    client::Client,
    limits,
    node::{Cut, Node},
    promises,
    rng::Rng,
    server::{Caller, Out, Server},
    trace::Trace,
    wire::{Actor, HostEvent, News, Order, Scene, Tag},
    world::World,
    writer::{Writer, check_counter},
};

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
    /// The right time reaches the control plane (`None`) or a board.
    SetClock(Option<usize>),
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
    /// Deeds of the chaos user.
    pub deeds: u64,
    /// Calm until all was settled, in ms.
    pub settled_ms: u64,
    /// All of it, in ms.
    pub simulated_ms: u64,
}

/// What goes on in a cluster, as counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Commits of the store.
    pub commits: u64,
    /// Durable changes.
    pub changes: u64,
    /// Requests of agents.
    pub requests: u64,
    /// Writes of watch streams to agents.
    pub frames: u64,
    /// Times that the control plane woke up because of the time.
    pub ticks: u64,
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
    chaos: Chaos,
    writers: Vec<Writer>,
    checkers: Vec<Checker>,
    nodes: Vec<Node>,
    /// Messages of these arrive no earlier, in ms.
    stalled: BTreeMap<Actor, u64>,
    /// Open streams, with when their last bytes arrive.
    streams: BTreeMap<Caller, u64>,
    /// Streams that broke: nothing of them arrives any more.
    broken: BTreeSet<Caller>,
    /// Calls whose answer will be lost.
    deaf: BTreeSet<Caller>,
    trace: Trace,
    accidents: u64,
    traffic: Traffic,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster in which nothing runs yet.
    pub fn new(world: &World, rng: &mut Rng, trace: Trace, canary: Canary) -> Self {
        let nodes = usize::try_from(world.nodes).unwrap_or(1);
        let mut this = Self {
            now_ms: limits::BEGIN_MS,
            queue: BTreeMap::new(),
            next_event: 0,
            next_tag: 0,
            client: Client::draw(world.lines, &mut rng.fork()),
            chaos: Chaos::new(world),
            rng: rng.fork(),
            world: world.clone(),
            server: Server::new(canary.plane),
            writers: (0..usize::try_from(world.writers).unwrap_or(2)).map(Writer::new).collect(),
            checkers: WATCHED.into_iter().map(Checker::new).collect(),
            nodes: (0..nodes).map(|index| Node::new(index, world, canary.agent)).collect(),
            stalled: BTreeMap::new(),
            streams: BTreeMap::new(),
            broken: BTreeSet::new(),
            deaf: BTreeSet::new(),
            trace,
            accidents: 0,
            traffic: Traffic::default(),
        };
        this.draw_clocks();
        this.push(0, Ev::Start);
        for index in 0..nodes {
            this.push(50, Ev::StartAgent(index));
        }
        this.push(limits::MISCHIEF_MS, Ev::Mischief);
        this
    }

    /// The client asks for the quick start's Deployment with so many replicas, and for nothing else.
    pub fn only_asks_for(&mut self, replicas: u64) {
        self.client = Client::only(replicas);
    }

    /// What went on so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { changes: self.server.history.len(), ..self.traffic }
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
        self.with(Actor::Chaos, |this, scene| {
            this.chaos.start(scene);
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
            let most = limits::EVENTS_MAX + self.since_begin_ms() * limits::EVENTS_PER_MS_MAX;
            if most <= self.trace.events {
                return Err(format!("L1: {most} events and no end"));
            }
            self.event(event)?;
        }
        self.now_ms = until;
        Ok(())
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
        if !self.chaos.is_done(&self.server.history) {
            return Some("the chaos user has not taken everything back".into());
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
            containers: self.started(),
            deeds: self.chaos.deeds,
            settled_ms: 0,
            simulated_ms: self.since_begin_ms(),
        }
    }

    fn push(&mut self, ms: u64, event: Ev) {
        self.next_event += 1;
        self.queue.insert((self.now_ms + ms, self.next_event), event);
    }

    /// The newest lines of what happened.
    pub fn take_lines(&mut self) -> Vec<String> {
        self.trace.take_lines()
    }

    /// How long a message of or to this one is on its way, in ms.
    fn delay(&mut self, actor: Actor) -> u64 {
        let stalled = self.stalled.get(&actor).map_or(0, |until| until.saturating_sub(self.now_ms));
        stalled + self.rng.between(1, self.world.delay_ms)
    }

    fn life(&self, actor: Actor) -> u64 {
        match actor {
            Actor::Node(index) => self.nodes.get(index).map_or(0, |node| node.life),
            Actor::Client | Actor::Chaos | Actor::Writer(_) | Actor::Checker(_) => 0,
        }
    }

    /// Whether messages do not come through, in this direction.
    fn is_cut_off(&self, actor: Actor, direction: Cut) -> bool {
        match actor {
            Actor::Node(index) => self.nodes.get(index).is_some_and(|node| {
                self.now_ms < node.cut_off_until && [direction, Cut::Both].contains(&node.cut)
            }),
            Actor::Client | Actor::Chaos | Actor::Writer(_) | Actor::Checker(_) => false,
        }
    }

    /// Lets an actor act, and takes its orders.
    fn with(
        &mut self,
        actor: Actor,
        act: impl FnOnce(&mut Parts<'_>, &mut Scene<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let wall_ms = match actor {
            Actor::Node(index) => {
                self.nodes.get(index).map_or(self.now_ms, |node| node.clock.wall(self.now_ms))
            }
            Actor::Client | Actor::Chaos | Actor::Writer(_) | Actor::Checker(_) => self.now_ms,
        };
        let mut scene = Scene {
            now_ms: self.now_ms,
            wall_ms,
            rng: &mut self.rng,
            history: &self.server.history,
            trace: &mut self.trace,
            orders: Vec::new(),
            next_tag: &mut self.next_tag,
        };
        let mut parts = Parts {
            client: &mut self.client,
            chaos: &mut self.chaos,
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
        if self.rng.chance(self.world.refuse) {
            let ms = self.delay(caller.actor);
            self.push(ms, Ev::News(caller, News::Lost(caller.tag)));
            return;
        }
        let cut_off = self.is_cut_off(caller.actor, Cut::ToServer);
        if cut_off || self.rng.chance(self.world.lose) {
            let ms = self.rng.between(1, limits::CALL_MS);
            self.push(ms, Ev::News(caller, News::Lost(caller.tag)));
            // Half of what is lost was the answer.
            if cut_off || self.rng.chance(500) {
                return;
            }
            self.deaf.insert(caller);
        }
        let ms = self.delay(caller.actor);
        self.push(ms, Ev::Arrive(caller, http));
    }

    fn event(&mut self, event: Ev) -> Result<(), String> {
        if let Some(ms) = self.paused_ms(&event) {
            // In their order: what came first has the smaller number.
            self.push(ms, event);
            return Ok(());
        }
        let mut out = Vec::new();
        match event {
            Ev::Start => {
                self.trace.note(self.now_ms, "start", &[]);
                if !self.server.is_up() {
                    let seed = self.rng.draw();
                    self.born(None);
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
                self.traffic.requests += u64::from(matches!(caller.actor, Actor::Node(_)));
                self.trace.note(self.now_ms, "arrive", &[caller.tag, http.body.bytes.len() as u64]);
                self.trace.bytes(http.path.as_bytes());
                self.trace.say(self.now_ms, || told(caller, &http));
                self.server.ask(self.now_ms, caller, http, &mut out)?;
            }
            Ev::Gone(caller) => {
                self.trace.note(self.now_ms, "gone", &[caller.tag]);
                self.server.gone(self.now_ms, caller, &mut out)?;
            }
            Ev::Commit(epoch) if epoch == self.server.epoch => {
                self.traffic.commits += 1;
                self.trace.note(self.now_ms, "commit", &[epoch]);
                let full = self.now_ms < self.server.full_until;
                let fails = full || self.rng.chance(self.world.fail_commit);
                let kept = !full && self.rng.chance(500);
                let fault = fails.then_some(if kept { Fault::Kept } else { Fault::Lost });
                let before = self.server.history.pods();
                self.server.commit(self.now_ms, fault, &mut out)?;
                if before != self.server.history.pods() {
                    promises::not_over_committed(&self.server.history, &self.nodes)?;
                }
                if !self.server.is_up() {
                    self.restart_later();
                }
            }
            Ev::Tick(epoch) if epoch == self.server.epoch => {
                self.traffic.ticks += 1;
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
            Ev::SetClock(whose) => {
                self.trace.note(self.now_ms, "clock set", &[whose.map_or(0, |at| at as u64 + 1)]);
                self.set_clock(whose, self.now_ms);
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
        let before = self.started();
        self.with(Actor::Node(index), |parts, scene| match parts.nodes.get_mut(index) {
            Some(node) => act(node, scene),
            None => Ok(()),
        })?;
        // Nothing else can break it.
        if before == self.started() { Ok(()) } else { promises::one_live_set(&self.nodes) }
    }

    /// Containers that were ever started.
    fn started(&self) -> u64 {
        self.nodes.iter().map(|node| node.runtime.started).sum()
    }

    fn server_said(&mut self, out: Out) {
        let epoch = self.server.epoch;
        match out {
            Out::Answer(caller, code, bytes) => {
                if self.deaf.remove(&caller) {
                    return;
                }
                let ms = self.delay(caller.actor);
                let tag = caller.tag;
                let lost = self.is_cut_off(caller.actor, Cut::FromServer);
                let news = if lost { News::Lost(tag) } else { News::Answer(tag, code, bytes) };
                self.push(ms, Ev::News(caller, news));
            }
            Out::Lost(caller) => {
                if !self.deaf.remove(&caller) {
                    let ms = self.delay(caller.actor);
                    self.push(ms, Ev::News(caller, News::Lost(caller.tag)));
                }
            }
            Out::Opened(caller, watch) => {
                let ms = self.delay(caller.actor);
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
            Out::WakeIn(ms) => {
                let ms = self.server.clock.really(ms).max(1);
                self.push(ms, Ev::Tick(epoch));
            }
        }
    }

    /// The last bytes of a stream were sent: after them comes its end.
    fn end_stream(&mut self, caller: Caller) {
        let Some(last) = self.streams.remove(&caller) else { return };
        let at = last.max(self.now_ms + self.delay(caller.actor)) - self.now_ms;
        self.push(at, Ev::News(caller, News::Closed(caller.tag)));
    }

    /// A stream breaks: what is under way is lost.
    fn break_stream(&mut self, caller: Caller) {
        self.streams.remove(&caller);
        self.broken.insert(caller);
        let (there, here) = (self.delay(caller.actor), self.delay(caller.actor));
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
            self.traffic.frames += u64::from(matches!(caller.actor, Actor::Node(_)));
            let at = self.now_ms + self.delay(caller.actor);
            let last = self.streams.entry(caller).or_default();
            *last = at.max(*last);
            let ms = *last - self.now_ms;
            if self.rng.chance(self.world.break_frame) {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec();
                self.streams.remove(&caller);
                self.push(ms, Ev::News(caller, News::Bytes(caller.tag, half)));
                self.push(ms, Ev::News(caller, News::Closed(caller.tag)));
                self.push(ms, Ev::Gone(caller));
                return;
            }
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
        let is_end = matches!(news, News::Closed(_));
        if self.broken.contains(&caller) && !is_end {
            return Ok(());
        }
        if is_end {
            self.broken.remove(&caller);
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
            Actor::Chaos => self.with(caller.actor, |parts, scene| parts.chaos.news(news, scene)),
            Actor::Writer(index) => self.with(caller.actor, |parts, scene| {
                parts.writers.get_mut(index).map_or(Ok(()), |writer| writer.news(news, scene))
            }),
            Actor::Checker(index) => self.with(caller.actor, |parts, scene| {
                parts.checkers.get_mut(index).map_or(Ok(()), |checker| checker.news(news, scene))
            }),
            Actor::Node(index) => self.with_node(index, |node, scene| node.news(news, scene)),
        }
    }
}

/// Everyone who acts.
struct Parts<'a> {
    client: &'a mut Client,
    chaos: &'a mut Chaos,
    writers: &'a mut Vec<Writer>,
    checkers: &'a mut Vec<Checker>,
    nodes: &'a mut Vec<Node>,
}

/// A request in a line.
fn told(caller: Caller, http: &HttpRequest) -> String {
    let body = String::from_utf8_lossy(&http.body.bytes);
    let body: String = body.chars().take(200).collect();
    format!("{:?} {} {} {} {body}", caller.actor, caller.tag, http.method, http.path)
}
