//! Preemption: who must leave so that a pod of higher priority fits.
//!
//! The cost of a choice, least first: disruption budgets broken; the highest priority among the victims; how many they
//! are; the sum of their priorities; the index of the node. The cheapest node is taken, and on it the cheapest set of
//! victims. A pod that no set of victims makes room for gets none: refusals that room does not mend stay refusals.

use heapless::Vec;

use crate::{
    ask::Ask,
    filter::Reason,
    limits::NODE_PODS_MAX,
    question::Question,
    records::{CheapestRecord, PodState, mib},
    storage::Storage,
    table::{Core, Error, NodeIndex, Placement, PodHandle},
    victims::{Candidates, Search},
    view::View,
};

/// Pods that leave.
pub type Victims = Vec<PodHandle, NODE_PODS_MAX>;

/// What preemption costs; the smaller the better.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Victims beyond what their disruption budgets allow.
    pub budgets_broken: u32,
    /// The highest priority of a victim.
    pub priority_max: i32,
    /// How many victims.
    pub victims: u32,
    /// The sum of their priorities.
    pub priority_sum: i64,
}

/// A node, and who leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preemption {
    /// Where the pod will go.
    pub node: NodeIndex,
    /// Who leaves, highest priority first.
    pub victims: Victims,
    /// What it costs.
    pub cost: Cost,
}

impl<S: Storage> Placement<S> {
    /// The cheapest way to make room, for a pod that [`Self::place`] finds no node for, by pods of lower priority leaving.
    /// `None`: there is none. A spread constraint that not all nodes count for is not mended by who leaves.
    pub fn preempt(&self, ask: &Ask) -> Option<Preemption> {
        self.view().preempt(ask)
    }

    /// Keeps a node for a pod: the victims leave, and their room is the pod's. They stay in the mirror, as
    /// [`PodState::Leaving`], until they are removed; the handle given becomes an assumed pod by [`Self::take_up`].
    pub fn nominate(&mut self, ask: &Ask, chosen: &Preemption) -> Result<PodHandle, Error> {
        let mut core = self.core();
        for victim in &chosen.victims {
            let record = core.pod_mut(*victim)?;
            if record.node != chosen.node.0 || record.state == PodState::Leaving {
                return Err(Error::Stale);
            }
        }
        for victim in &chosen.victims {
            core.send_away(*victim);
        }
        let entered = core.keep(ask, chosen.node);
        if entered.is_err() {
            for victim in &chosen.victims {
                core.call_back(*victim);
            }
        }
        entered
    }

    /// Makes a nominated pod an assumed one, once all that were to leave are gone. `Stale`: they are not, or it is none.
    pub fn take_up(&mut self, pod: PodHandle) -> Result<NodeIndex, Error> {
        let mut core = self.core();
        let record = core.pod_mut(pod)?;
        let at = record.node;
        let leaving = core.view().pods_of(at).any(|(_, one)| one.state == PodState::Leaving);
        let record = core.pod_mut(pod)?;
        if record.state != PodState::Nominated || leaving {
            return Err(Error::Stale);
        }
        record.state = PodState::Assumed;
        Ok(NodeIndex(at))
    }
}

impl Core<'_> {
    /// Enters a pod for which a node is kept. Amounts must suffice now that the victims' are promised; what else victims
    /// stand in the way with (host ports, company, spread) they do until they are gone.
    fn keep(&mut self, ask: &Ask, at: NodeIndex) -> Result<PodHandle, Error> {
        let view = self.view();
        let node = view.node(at.0).ok_or(Error::NoNode)?;
        let question = view.question(ask);
        match view.reason(&question, at.0, node) {
            None
            | Some(
                Reason::Ports
                | Reason::Spread
                | Reason::PodAntiAffinity
                | Reason::ExistingAntiAffinity,
            ) => {}
            Some(reason) => return Err(Error::Refused(reason)),
        }
        if let Some(what) = view.shortfalls(&question, node).next() {
            return Err(Error::Refused(Reason::Insufficient(what)));
        }
        self.enter(&ask.pod, at.0, PodState::Nominated, 0)
    }

    /// A pod's room is no longer its own.
    fn send_away(&mut self, pod: PodHandle) {
        self.change_state(pod, PodState::Leaving);
    }

    fn call_back(&mut self, pod: PodHandle) {
        self.change_state(pod, PodState::Bound);
    }

    fn change_state(&mut self, pod: PodHandle, state: PodState) {
        let Ok(record) = self.pod_mut(pod) else { return };
        let (at, what, devices) = (record.node, record.pod, record.devices);
        record.state = state;
        if let Some(node) = self.node_mut(at) {
            if state == PodState::Leaving {
                node.give_back(&what);
            } else {
                node.take(&what, devices);
            }
        }
        self.after(at, &what);
    }
}

impl View<'_> {
    fn preempt(&self, ask: &Ask) -> Option<Preemption> {
        let question = self.question(ask);
        let mut best: Option<Preemption> = None;
        if let Some(only) = ask.node {
            let key = self.node(only.0).and_then(|node| self.class_key(node.class))?;
            if question.could_admit(key) {
                self.consider(&question, only.0, &mut best);
            }
            return best;
        }
        for (at, cheapest) in (0_u32..).zip(self.tables.cheapest) {
            if !may_be_cheaper(ask, cheapest, best.as_ref().map(|best| best.cost)) {
                continue;
            }
            let key = self.node(at).and_then(|node| self.class_key(node.class));
            if key.is_some_and(|key| question.could_admit(key)) {
                self.consider(&question, at, &mut best);
            }
        }
        best
    }

    fn consider(&self, question: &Question<'_>, at: u32, best: &mut Option<Preemption>) {
        let Some(found) = self.victims_on(question, at) else { return };
        if best.as_ref().is_none_or(|best| found.cost < best.cost) {
            *best = Some(found);
        }
    }

    /// The cheapest victims on one node; `None`: none suffice, or none are needed.
    fn victims_on(&self, question: &Question<'_>, at: u32) -> Option<Preemption> {
        let node = self.node(at)?;
        let mut candidates: Candidates<'_> = Vec::new();
        for (handle, record) in self.pods_of(at) {
            let lower = record.pod.priority < question.ask.pod.priority;
            // Beyond so many pods on a node the oldest are not looked at.
            if lower
                && record.state != PodState::Leaving
                && candidates.push((handle, record)).is_err()
            {
                break;
            }
        }
        let mut search = Search::new(*self, question, at, node, candidates);
        search.run();
        let (cost, chosen) = search.best?;
        let mut victims = Victims::new();
        for (one, _) in search.candidates.iter().zip(chosen).rev().filter(|(_, chosen)| *chosen) {
            let fits = victims.push(one.0).is_ok();
            debug_assert!(fits);
        }
        (!victims.is_empty()).then_some(Preemption { node: NodeIndex(at), victims, cost })
    }
}

/// A bound from what is noted of a node: could victims on it cost less than the best so far?
fn may_be_cheaper(ask: &Ask, cheapest: &CheapestRecord, best: Option<Cost>) -> bool {
    if ask.pod.priority <= cheapest.priority {
        return false;
    }
    let cpu_short = ask.pod.requests.cpu_milli.saturating_sub(cheapest.cpu_free);
    let mib_short = mib(ask.pod.requests.memory_bytes).saturating_sub(cheapest.mib_free);
    let is_short = cheapest.cpu_sum < cpu_short || cheapest.mib_sum < mib_short;
    if is_short && ask.pod.priority <= cheapest.priority_next {
        // Nobody else may leave.
        return false;
    }
    let Some(best) = best.filter(|best| best.budgets_broken == 0) else { return true };
    if best.priority_max != cheapest.priority {
        return cheapest.priority < best.priority_max;
    }
    // Only its cheapest pods could cost as little: they must hold enough, and fewer of them.
    let fewer = u64::from(best.victims.saturating_sub(1));
    let enough = |short: u32, largest: u32| u64::from(short) <= u64::from(largest) * fewer;
    !is_short && enough(cpu_short, cheapest.cpu_max) && enough(mib_short, cheapest.mib_max)
}
