//! Moves that free whole nodes, or make a refused pod fit. Each is legal when its turn comes: the pod leaves its node and
//! is taken by the next one, which no constraint forbids (P1), and no disruption budget is spent beyond what it allows.
//!
//! A move is a proposal: the mirror is left as it was. Who carries moves out does so in order, one at a time.

use heapless::Vec;

use crate::{
    amounts::Amounts,
    ask::Ask,
    filter::Reason,
    limits::{BUDGETS_MAX, NODE_PODS_MAX},
    records::{NONE, NodeRecord, PodRecord, PodState},
    storage::Storage,
    table::{NodeIndex, Placement, PodHandle},
};

/// One pod goes from one node to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The pod.
    pub pod: PodHandle,
    /// Where it is.
    pub from: NodeIndex,
    /// Where it goes.
    pub to: NodeIndex,
    /// The devices that it had.
    pub(crate) devices: u8,
    /// The pod behind which it stood on its node.
    pub(crate) previous: u32,
}

impl Default for Move {
    fn default() -> Self {
        let nowhere = NodeIndex(NONE);
        Self {
            pod: PodHandle { index: NONE, life: 0 },
            from: nowhere,
            to: nowhere,
            devices: 0,
            previous: NONE,
        }
    }
}

/// What a repack did to the mirror while it was thought through.
struct Trial<'a, 'm> {
    moves: &'m mut [Move],
    made: usize,
    disrupted: [u32; BUDGETS_MAX],
    /// What a pod asks for; `None`: it must stay where it is.
    ask_of: &'a dyn Fn(PodHandle) -> Option<&'a Ask>,
    weights: Weights,
}

impl<S: Storage> Placement<S> {
    /// Proposes moves, at most as many as `moves` has room for, that leave nodes without pods. `ask_of` gives what a pod
    /// asks for, or `None` for one that must stay. Gives how many moves; 0: no node can be freed.
    ///
    /// Nodes are drained from the emptiest on: a node's pods go where they fit best, and where none fits, pods of two
    /// other nodes change places so that it does. A node is freed whole or left alone; empty nodes are not moved to.
    pub fn repack<'a>(
        &mut self,
        ask_of: &'a dyn Fn(PodHandle) -> Option<&'a Ask>,
        moves: &mut [Move],
    ) -> usize {
        let mut trial =
            Trial { moves, made: 0, disrupted: [0; BUDGETS_MAX], ask_of, weights: self.weights() };
        let mut floor = None;
        while let Some(next) = self.emptiest_after(trial.weights, floor) {
            self.drain(next.1, &mut trial);
            floor = Some(next);
        }
        let made = trial.made;
        self.undo(&mut trial, 0);
        made
    }

    /// Proposes moves that make room for a pod that [`Self::place`] finds no node for: all pods that must go from one
    /// node find places elsewhere. Gives the node and how many moves; the fewest moves win, then the lowest index.
    pub fn make_room<'a>(
        &mut self,
        ask: &Ask,
        ask_of: &'a dyn Fn(PodHandle) -> Option<&'a Ask>,
        moves: &mut [Move],
    ) -> Option<(NodeIndex, usize)> {
        let mut trial =
            Trial { moves, made: 0, disrupted: [0; BUDGETS_MAX], ask_of, weights: self.weights() };
        let mut best: Option<(usize, NodeIndex)> = None;
        let mut at = 0;
        loop {
            let next = self.nodes_from(at).next().map(|(node, _)| node);
            let Some(node) = next else { break };
            at = node.0 + 1;
            if let Some(made) = self.make_room_on(node, ask, &mut trial)
                && best.is_none_or(|(fewest, _)| made < fewest)
            {
                best = Some((made, node));
            }
            self.undo(&mut trial, 0);
        }
        let (_, node) = best?;
        // The cheapest once more, so that its moves are those in the answer.
        let made = self.make_room_on(node, ask, &mut trial);
        self.undo(&mut trial, 0);
        made.map(|made| (node, made))
    }

    fn make_room_on(
        &mut self,
        node: NodeIndex,
        ask: &Ask,
        trial: &mut Trial<'_, '_>,
    ) -> Option<usize> {
        let pods = self.movable(node, trial);
        // One move may do: the smallest pod that is enough.
        for pod in pods.iter().rev() {
            if self.try_move(*pod, node, trial, Target::Elsewhere) {
                if matches!(self.why_not(node, ask), Ok(None)) {
                    return Some(trial.made);
                }
                self.undo(trial, 0);
            }
        }
        for pod in pods {
            match self.why_not(node, ask) {
                Ok(None) => break,
                Ok(Some(reason)) if is_mended_by_moves(reason) => {}
                Ok(Some(_)) | Err(_) => return None,
            }
            // A pod that finds no place stays, and the next one is tried.
            self.try_move(pod, node, trial, Target::Elsewhere);
        }
        let fits = matches!(self.why_not(node, ask), Ok(None));
        (fits && trial.made != 0).then_some(trial.made)
    }

    /// Moves all pods of a node, or none.
    fn drain(&mut self, node: NodeIndex, trial: &mut Trial<'_, '_>) -> bool {
        let before = trial.made;
        let pods = self.movable(node, trial);
        let all = self.pods_of(node).count() == pods.len();
        let moved = all
            && pods.iter().all(|pod| {
                self.try_move(*pod, node, trial, Target::InUse)
                    || self.try_exchange(*pod, node, trial)
            });
        if !moved {
            self.undo(trial, before);
        }
        moved
    }

    /// Makes room for a pod on a second node: one of its pods goes to a third, and a smaller one may come from there, by
    /// way of the first. The first pair of nodes where that works is taken.
    fn try_exchange(&mut self, pod: PodHandle, node: NodeIndex, trial: &mut Trial<'_, '_>) -> bool {
        let Some((_, record)) = self.pod(pod) else { return false };
        let wanted = record.pod.requests;
        let mut from = (0, 0);
        while let Some(found) = self.next_pair(&wanted, node, from) {
            let (second, third) = found;
            from = (second.0, third.0 + 1);
            let Some((goes, comes)) = self.exchange_between(&wanted, node, second, third) else {
                continue;
            };
            let before = trial.made;
            let steps = [
                comes.map(|comes| (comes, third, node)),
                Some((goes, second, third)),
                comes.map(|comes| (comes, node, second)),
                Some((pod, node, second)),
            ];
            let mut steps = steps.into_iter().flatten();
            if steps.all(|(pod, from, to)| self.try_move(pod, from, trial, Target::Node(to))) {
                return true;
            }
            self.undo(trial, before);
        }
        false
    }

    /// The next two nodes in use that together have free what is wanted.
    fn next_pair(
        &self,
        wanted: &Amounts,
        node: NodeIndex,
        from: (u32, u32),
    ) -> Option<(NodeIndex, NodeIndex)> {
        let in_use =
            |from: u32| self.nodes_from(from).filter(|(at, one)| *at != node && one.pods != NONE);
        for (second, here) in in_use(from.0) {
            let room = here.free();
            let start = if second.0 == from.0 { from.1 } else { 0 };
            let mut others = in_use(start).filter(|(third, _)| *third != second);
            let found = others.find(|(_, there)| wanted.fits(&room.saturating_add(&there.free())));
            if let Some((third, _)) = found {
                return Some((second, third));
            }
        }
        None
    }

    /// Who leaves the second node for the third, and who comes in turn, so that what is wanted fits on the second.
    fn exchange_between(
        &self,
        wanted: &Amounts,
        first: NodeIndex,
        second: NodeIndex,
        third: NodeIndex,
    ) -> Option<(PodHandle, Option<PodHandle>)> {
        let halt = self.node(first)?.free();
        let (room, beyond) = (self.node(second)?.free(), self.node(third)?.free());
        for (goes, one) in self.pods_of(second) {
            let leaving = one.pod.requests;
            let after = room.saturating_add(&leaving);
            if one.state != PodState::Bound || !wanted.fits(&after) {
                continue;
            }
            if leaving.fits(&beyond) {
                return Some((goes, None));
            }
            // What may come back, at the most.
            let spare = after.saturating_sub(wanted);
            for (comes, other) in self.pods_of(third) {
                let coming = other.pod.requests;
                if other.state == PodState::Bound
                    && coming.fits(&spare)
                    && coming.fits(&halt)
                    && leaving.fits(&beyond.saturating_add(&coming))
                {
                    return Some((goes, Some(comes)));
                }
            }
        }
        None
    }

    /// A node's pods that may move, the largest first.
    fn movable(&self, node: NodeIndex, trial: &Trial<'_, '_>) -> Vec<PodHandle, NODE_PODS_MAX> {
        let Some(record) = self.node(node) else { return Vec::new() };
        let mut pods: Vec<(u64, PodHandle), NODE_PODS_MAX> = Vec::new();
        for (pod, one) in self.pods_of(node) {
            let may = one.state() == PodState::Bound && (trial.ask_of)(pod).is_some();
            // Beyond the limit pods stay, and so does the node.
            if may && pods.push((share(record, one), pod)).is_err() {
                break;
            }
        }
        pods.sort_unstable_by_key(|(share, pod)| (core::cmp::Reverse(*share), pod.index));
        pods.iter().map(|(_, pod)| *pod).collect()
    }

    fn try_move(
        &mut self,
        pod: PodHandle,
        from: NodeIndex,
        trial: &mut Trial<'_, '_>,
        target: Target,
    ) -> bool {
        let (Some(ask), Some(record)) = ((trial.ask_of)(pod), self.pod(pod).map(|(_, pod)| pod))
        else {
            return false;
        };
        let (what, devices, previous) = (record.pod, record.devices, record.previous);
        if trial.moves.len() <= trial.made || !trial.spend(&what.budgets, self.allowed()) {
            return false;
        }
        // It leaves first: it must not be in its own way. Its terms may change what fits, so it is asked anew.
        let ask = Ask { pod: what, ..ask.clone() };
        let mut core = self.core();
        core.lift(pod.index);
        let view = core.view();
        let question = view.question(&ask);
        let in_use = |at: u32| view.node(at).is_some_and(|node| node.pods != NONE);
        let found = match target {
            // A pod that is for one node is on it.
            _ if ask.node.is_some() => None,
            Target::Elsewhere => view.best(&question, |at| at != from.0),
            Target::InUse => view.best(&question, |at| at != from.0 && in_use(at)),
            Target::Node(only) => {
                let node = view.node(only.0);
                let takes = node.filter(|node| view.reason(&question, only.0, node).is_none());
                takes.map(|_| (0, only.0))
            }
        };
        let Some((_, to)) = found else {
            core.put_behind(pod.index, from.0, devices, previous);
            trial.give_back(&what.budgets);
            return false;
        };
        let chosen = view.node(to).map_or(0, |node| view.choose_devices(&question, to, node));
        core.put(pod.index, to, chosen);
        if let Some(slot) = trial.moves.get_mut(trial.made) {
            *slot = Move { pod, from, to: NodeIndex(to), devices, previous };
        }
        trial.made += 1;
        true
    }

    /// Takes moves back, the latest first, until so many are left.
    fn undo(&mut self, trial: &mut Trial<'_, '_>, left: usize) {
        while left < trial.made {
            trial.made -= 1;
            let Some(made) = trial.moves.get(trial.made).copied() else { return };
            let Move { pod, from, devices, previous, .. } = made;
            let Some((_, record)) = self.pod(pod) else { return };
            let budgets = record.pod.budgets;
            let mut core = self.core();
            core.lift(pod.index);
            core.put_behind(pod.index, from.0, devices, previous);
            trial.give_back(&budgets);
        }
    }

    /// The node in use with the least on it, after that one: by share of what it has, then by index.
    fn emptiest_after(
        &self,
        weights: Weights,
        floor: Option<(u64, NodeIndex)>,
    ) -> Option<(u64, NodeIndex)> {
        let nodes = self.nodes().filter(|(_, node)| node.pods != NONE);
        let filled = nodes.map(|(at, node)| (weights.fill(node), at));
        filled.filter(|one| floor.is_none_or(|floor| floor < *one)).min()
    }

    fn weights(&self) -> Weights {
        let in_use = self.nodes().filter(|(_, node)| node.pods != NONE);
        Weights::of(in_use.map(|(_, node)| (*node.allocatable(), node.free())))
    }

    fn nodes_from(&self, from: u32) -> impl Iterator<Item = (NodeIndex, &NodeRecord)> {
        self.view().nodes_from(from).map(|(at, node)| (NodeIndex(at), node))
    }
}

/// Where a pod may go.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Target {
    Elsewhere,
    /// To a node that has pods.
    InUse,
    /// To this node.
    Node(NodeIndex),
}

impl Trial<'_, '_> {
    /// Counts a disruption; `false`, and nothing counted, if a budget has none left.
    fn spend(&mut self, budgets: &crate::ask::Budgets, allowed: &[u32; BUDGETS_MAX]) -> bool {
        let left = |budget: usize| {
            let spent = self.disrupted.get(budget).copied().unwrap_or(0);
            allowed.get(budget).is_some_and(|allowed| spent < *allowed)
        };
        if !budgets.iter().all(left) {
            return false;
        }
        for budget in budgets.iter() {
            if let Some(spent) = self.disrupted.get_mut(budget) {
                *spent += 1;
            }
        }
        true
    }

    fn give_back(&mut self, budgets: &crate::ask::Budgets) {
        for budget in budgets.iter() {
            if let Some(spent) = self.disrupted.get_mut(budget) {
                *spent = spent.saturating_sub(1);
            }
        }
    }
}

/// A pod's larger share of a node, in thousandths.
fn share(node: &NodeRecord, pod: &PodRecord) -> u64 {
    let (requests, total) = (&pod.pod.requests, node.allocatable());
    let cpu = u64::from(requests.cpu_milli) * 1000 / u64::from(total.cpu_milli.max(1));
    cpu.max(part(requests.memory_bytes, total.memory_bytes))
}

/// What CPU and memory count for: the scarcer on the nodes in use, the more.
#[derive(Copy, Clone, Debug)]
struct Weights {
    cpu: u64,
    memory: u64,
}

impl Weights {
    fn of(nodes: impl Iterator<Item = (Amounts, Amounts)>) -> Self {
        let (mut cpu, mut memory) = ((0_u128, 0_u128), (0_u128, 0_u128));
        for (total, free) in nodes {
            cpu = (cpu.0 + u128::from(total.cpu_milli), cpu.1 + u128::from(free.cpu_milli));
            memory = (
                memory.0 + u128::from(total.memory_bytes),
                memory.1 + u128::from(free.memory_bytes),
            );
        }
        // At most a thousand to one.
        let weight = |(total, free): (u128, u128)| {
            let weight = total / (free + total / 1000).max(1);
            u64::try_from(weight).unwrap_or(1000).max(1)
        };
        Self { cpu: weight(cpu), memory: weight(memory) }
    }

    /// A share of a node, weighed; of a whole node a million times the weights.
    fn size(self, amounts: &Amounts, total: &Amounts) -> u64 {
        let cpu = u64::from(amounts.cpu_milli) * 1_000_000 / u64::from(total.cpu_milli.max(1));
        let memory =
            u128::from(amounts.memory_bytes) * 1_000_000 / u128::from(total.memory_bytes.max(1));
        let memory = u64::try_from(memory).unwrap_or(u64::MAX);
        (cpu * self.cpu).saturating_add(memory.saturating_mul(self.memory))
    }

    /// How full a node is.
    fn fill(self, node: &NodeRecord) -> u64 {
        self.size(node.used(), node.allocatable())
    }
}

fn part(amount: u64, total: u64) -> u64 {
    let thousandths = u128::from(amount) * 1000 / u128::from(total.max(1));
    u64::try_from(thousandths).unwrap_or(u64::MAX)
}

/// Whether pods that go elsewhere may mend this.
fn is_mended_by_moves(reason: Reason) -> bool {
    match reason {
        Reason::Insufficient(_)
        | Reason::Ports
        | Reason::Spread
        | Reason::PodAntiAffinity
        | Reason::ExistingAntiAffinity => true,
        Reason::Unschedulable
        | Reason::Name
        | Reason::Taint(_)
        | Reason::Affinity
        | Reason::Image
        | Reason::Volumes
        | Reason::SpreadLabel
        | Reason::PodAffinity => false,
    }
}
