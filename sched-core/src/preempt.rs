//! Preemption: who must leave so that a pod of higher priority fits.
//!
//! The cost of a choice, least first: disruption budgets broken; the highest priority among the victims; how many they
//! are; the sum of their priorities; the index of the node. The cheapest node is taken, and on it the cheapest set of
//! victims. A pod that no set of victims makes room for gets none: refusals that room does not mend stay refusals.

use heapless::Vec;

use crate::{
    ask::Ask,
    change::Core,
    filter::Reason,
    limits::{CHEAPEST_NODES, NODE_PODS_MAX},
    question::Question,
    records::PodState,
    storage::Storage,
    table::{Error, NodeIndex, Placement, PodHandle},
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
    /// [`PodState::Leaving`], until they are removed; the handle given becomes an assumed pod by [`Self::take_up`]. Ports,
    /// affinity and spread are looked at as if the victims were gone, as [`Self::preempt`] does.
    pub fn nominate(&mut self, ask: &Ask, chosen: &Preemption) -> Result<PodHandle, Error> {
        self.view().would_fit(ask, chosen)?;
        let mut core = self.core();
        let mut before: Vec<PodState, NODE_PODS_MAX> = Vec::new();
        for victim in &chosen.victims {
            let state = core.pod_mut(*victim)?.state;
            let fits = before.push(state).is_ok();
            debug_assert!(fits);
            core.change_state(*victim, PodState::Leaving);
        }
        let entered = core.enter_chosen(ask, chosen.node, PodState::Nominated);
        if entered.is_err() {
            for (victim, state) in chosen.victims.iter().zip(&before) {
                core.change_state(*victim, *state);
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
    /// The room of a pod that leaves is no longer its own; that of one called back is.
    fn change_state(&mut self, pod: PodHandle, state: PodState) {
        let Ok(record) = self.pod_mut(pod) else { return };
        let (at, what, devices) = (record.node, record.pod, record.devices);
        record.state = state;
        if state == PodState::Leaving {
            self.give_back(at, &what);
        } else if let Some(node) = self.node_mut(at) {
            node.take(&what, devices);
        }
        self.after(at, &what);
    }
}

impl View<'_> {
    /// Whether a pod fits on a node once these victims are gone, which are there and not leaving yet, each named once.
    fn would_fit(&self, ask: &Ask, chosen: &Preemption) -> Result<(), Error> {
        let at = chosen.node.0;
        let node = self.node(at).ok_or(Error::NoNode)?;
        let mut victims: Candidates<'_> = Vec::new();
        for victim in &chosen.victims {
            let mut there = self.pods_of(at);
            let pod = there.find(|(pod, one)| pod == victim && one.state != PodState::Leaving);
            let again = victims.iter().any(|(pod, _)| pod == victim);
            let pod = pod.filter(|_| !again).ok_or(Error::Stale)?;
            let fits = victims.push(pod).is_ok();
            debug_assert!(fits);
        }
        let question = self.question(ask);
        let admits = ask.node.is_none_or(|only| only == chosen.node)
            && self.class_key(node.class).is_some_and(|key| question.could_admit(key));
        if admits && Search::new(*self, &question, at, node, victims).fits_without_all() {
            return Ok(());
        }
        // If it would fit with them, they are those that it must be near to.
        let reason = self.reason(&question, at, node).unwrap_or(Reason::PodAffinity);
        Err(Error::Refused(reason))
    }

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
        let cost = |best: &Option<Preemption>| best.as_ref().map(|best| best.cost);
        let blocks = self.tables.cheapest.chunks(CHEAPEST_NODES).zip(self.tables.cheapest_blocks);
        for (first, (nodes, block)) in (0_u32..).step_by(CHEAPEST_NODES).zip(blocks) {
            if !block.may_be_cheaper(nodes, ask, cost(&best)) {
                continue;
            }
            for (at, cheapest) in (first..).zip(nodes) {
                if !cheapest.may_be_cheaper(ask, cost(&best)) {
                    continue;
                }
                let key = self.node(at).and_then(|node| self.class_key(node.class));
                if key.is_some_and(|key| question.could_admit(key)) {
                    self.consider(&question, at, &mut best);
                }
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
