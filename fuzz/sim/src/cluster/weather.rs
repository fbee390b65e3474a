//! What goes wrong by itself, drawn every second from the rates of the world.

use super::{Cluster, Ev};
use crate::{
    clock::Clock,
    limits,
    node::{Cut, Node},
    server::{Caller, Out},
    wire::{Actor, HostEvent},
    world::World,
};

impl Cluster {
    /// The weather is gone and clocks are right; writers write no more, chaos takes back what it did.
    pub fn calm(&mut self) {
        self.world = self.world.calm();
        for node in &mut self.nodes {
            node.cut_off_until = 0;
            // Who stands still now goes on at its time: what waits for it keeps its order.
            node.clock = Clock::default();
            node.weather(&self.world);
        }
        self.server.clock = Clock::default();
        self.server.full_until = 0;
        self.stalled.clear();
        self.writers.iter_mut().for_each(|writer| writer.stopped = true);
        self.chaos.calm();
    }

    /// Each machine gets its clock.
    pub(super) fn draw_clocks(&mut self) {
        let most = self.world.drift;
        let mut drift = || {
            let drift = i64::try_from(self.rng.below(2 * most + 1)).unwrap_or(0);
            drift - i64::try_from(most).unwrap_or(0)
        };
        self.server.clock.drift = drift();
        for node in &mut self.nodes {
            node.clock.drift = drift();
        }
    }

    /// A machine starts, maybe without knowing what time it is.
    pub(super) fn born(&mut self, whose: Option<usize>) {
        if self.rng.chance(self.world.born_1970) {
            let wall_ms = self.rng.between(1_000, 60_000);
            self.set_clock(whose, wall_ms);
            let ms = self.rng.between(1_000, limits::UNSET_MS_MAX);
            self.push(ms, Ev::SetClock(whose));
        }
    }

    /// Sets a wall clock.
    pub(super) fn set_clock(&mut self, whose: Option<usize>, wall_ms: u64) {
        let node = whose.and_then(|index| self.nodes.get_mut(index));
        let clock = match (whose, node) {
            (None, _) => &mut self.server.clock,
            (Some(_), Some(node)) => &mut node.clock,
            (Some(_), None) => return,
        };
        clock.set(self.now_ms, wall_ms);
    }

    /// How long an event has to wait because its agent stands still; `None`: it need not.
    pub(super) fn paused_ms(&self, event: &Ev) -> Option<u64> {
        let index = match event {
            Ev::News(Caller { actor: Actor::Node(index), .. }, _)
            | Ev::Host(index, HostEvent::Told(..)) => *index,
            Ev::News(..)
            | Ev::Host(..)
            | Ev::Start
            | Ev::StartAgent(_)
            | Ev::Arrive(..)
            | Ev::Gone(_)
            | Ev::Commit(_)
            | Ev::Tick(_)
            | Ev::Pull(..)
            | Ev::Mischief
            | Ev::SetClock(_) => return None,
        };
        self.stands_still(index)
    }

    /// For how many more ms an agent stands still, if it does.
    fn stands_still(&self, index: usize) -> Option<u64> {
        let until = self.nodes.get(index)?.paused_until;
        (self.now_ms < until).then(|| until - self.now_ms)
    }

    pub(super) fn restart_later(&mut self) {
        self.accidents += 1;
        let ms = self.rng.between(10, limits::DOWN_MS_MAX);
        self.push(ms, Ev::Start);
    }

    pub(super) fn mischief(&mut self, out: &mut Vec<Out>) -> Result<(), String> {
        let world = self.world.clone();
        if self.server.is_up() && self.rng.chance(world.power_cut) {
            self.trace.note(self.now_ms, "power cut", &[]);
            let reached = self.rng.chance(500);
            self.server.cut_power(reached, out)?;
            self.restart_later();
        }
        if self.rng.chance(world.disk_full) {
            self.trace.note(self.now_ms, "disk full", &[]);
            self.server.full_until = self.now_ms + self.rng.between(100, limits::FULL_MS_MAX);
        }
        if self.rng.chance(world.clock_step) {
            let count = self.nodes.len() as u64;
            let index = usize::try_from(self.rng.below(count + 1)).unwrap_or(0);
            let step = self.rng.between(1, limits::STEP_MS_MAX);
            let to = if self.rng.chance(500) { self.now_ms + step } else { self.now_ms - step };
            self.trace.note(self.now_ms, "clock step", &[index as u64, to]);
            self.set_clock(index.checked_sub(1), to);
        }
        if self.rng.chance(world.stall) {
            let until = self.now_ms + self.rng.between(500, limits::STALL_MS_MAX);
            let actor = self.some_actor();
            self.trace.note(self.now_ms, "stall", &[until]);
            self.stalled.insert(actor, until);
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

    fn some_actor(&mut self) -> Actor {
        let mut actors = vec![Actor::Client, Actor::Chaos];
        actors.extend((0..self.writers.len()).map(Actor::Writer));
        actors.extend((0..self.checkers.len()).map(Actor::Checker));
        actors.extend((0..self.nodes.len()).map(Actor::Node));
        self.rng.pick(&actors, Actor::Client)
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
            self.born(Some(index));
            self.agent_later(index);
        } else if is_up && self.stands_still(index).is_none() && self.rng.chance(world.pause) {
            self.trace.note(self.now_ms, "agent paused", &[index as u64]);
            let until = self.now_ms + self.rng.between(1_000, limits::PAUSE_MS_MAX);
            self.nodes.get_mut(index).into_iter().for_each(|node| node.paused_until = until);
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
            let cut = self.rng.pick(&[Cut::Both, Cut::ToServer, Cut::FromServer], Cut::Both);
            self.trace.note(self.now_ms, "cut off", &[index as u64, until]);
            if let Some(node) = self.nodes.get_mut(index) {
                (node.cut_off_until, node.cut) = (until, cut);
            }
            // What the control plane sends still arrives where only the agent is not heard.
            if cut != Cut::ToServer {
                self.break_streams_of(index);
            }
        }
        Ok(())
    }

    fn break_streams_of(&mut self, index: usize) {
        let of = |caller: &&Caller| caller.actor == Actor::Node(index);
        for caller in self.streams.keys().filter(of).copied().collect::<Vec<_>>() {
            self.break_stream(caller);
        }
    }

    fn agent_later(&mut self, index: usize) {
        self.accidents += 1;
        self.nodes.get_mut(index).into_iter().for_each(|node| node.paused_until = 0);
        self.break_streams_of(index);
        let ms = self.rng.between(10, limits::DOWN_MS_MAX);
        self.push(ms, Ev::StartAgent(index));
    }
}
