//! The cheapest set of pods on one node without which a pod fits there.
//!
//! First as kube-scheduler does it: all leave, then those are called back that need not, dearest first. Then sets of one,
//! two, … pods are tried while they could be cheaper, at most [`VICTIM_STEPS_MAX`] of them.

use heapless::Vec;

use crate::{
    amounts::Amounts,
    ask::TopologyKey,
    limits::{BUDGETS_MAX, DEVICE_MILLI, DEVICES_MAX, NODE_PODS_MAX, VICTIM_STEPS_MAX},
    preempt::Cost,
    question::Question,
    records::{ClassKey, NodeRecord, PodRecord, PodState, take},
    table::PodHandle,
    view::View,
};

/// Pods that may leave, the cheapest first.
pub(crate) type Candidates<'a> = Vec<(PodHandle, &'a PodRecord), NODE_PODS_MAX>;
/// Which of them do.
type Chosen = [bool; NODE_PODS_MAX];

/// See the module.
pub(crate) struct Search<'a> {
    view: View<'a>,
    question: &'a Question<'a>,
    at: u32,
    node: &'a NodeRecord,
    pub(crate) candidates: Candidates<'a>,
    pub(crate) best: Option<(Cost, Chosen)>,
    chosen: Chosen,
    steps: u32,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        view: View<'a>,
        question: &'a Question<'a>,
        at: u32,
        node: &'a NodeRecord,
        mut candidates: Candidates<'a>,
    ) -> Self {
        // Of one priority the largest first: they make room with the fewest.
        candidates.sort_unstable_by_key(|(handle, record)| {
            let requests = record.pod.requests;
            let size = u64::from(requests.cpu_milli) + (requests.memory_bytes >> 20);
            (record.pod.priority, u64::MAX - size, handle.index)
        });
        let chosen = [false; NODE_PODS_MAX];
        Self { view, question, at, node, candidates, best: None, chosen, steps: 0 }
    }

    /// Looks for the cheapest set. Nothing is found if the pod fits as it is.
    pub(crate) fn run(&mut self) {
        if self.candidates.is_empty() || self.fits() || !self.call_back() {
            return;
        }
        let floor = self.priority_floor();
        let most = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX);
        for size in self.fewest()..=most {
            let Some((best, _)) = &self.best else { return };
            let is_cheapest = best.budgets_broken == 0 && best.priority_max <= floor;
            if is_cheapest && best.victims < size || VICTIM_STEPS_MAX <= self.steps {
                return;
            }
            self.chosen = [false; NODE_PODS_MAX];
            self.extend(0, size);
        }
    }

    /// Whether the pod fits when all candidates are gone.
    pub(crate) fn fits_without_all(&mut self) -> bool {
        for slot in self.chosen.iter_mut().take(self.candidates.len()) {
            *slot = true;
        }
        self.fits()
    }

    /// Fewer than this cannot be enough: the largest together have too little CPU, or too little memory.
    fn fewest(&self) -> u32 {
        let requests = &self.question.ask.pod.requests;
        let cpu = u64::from(requests.cpu_milli.saturating_sub(self.node.free_cpu()));
        let memory = requests.memory_bytes.saturating_sub(self.node.free_memory());
        let fewest = |short: u64, size: fn(&Amounts) -> u64| {
            let mut sizes: Vec<u64, NODE_PODS_MAX> =
                self.candidates.iter().map(|(_, record)| size(&record.pod.requests)).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let mut sum = 0_u64;
            let short_of = sizes.iter().take_while(|size| {
                let missing = sum < short;
                sum = sum.saturating_add(**size);
                missing
            });
            u32::try_from(short_of.count()).unwrap_or(u32::MAX)
        };
        let by_cpu = fewest(cpu, |requests| u64::from(requests.cpu_milli));
        by_cpu.max(fewest(memory, |requests| requests.memory_bytes)).max(1)
    }

    /// All leave, then each that need not is called back: who would break a budget first, then by priority.
    fn call_back(&mut self) -> bool {
        let count = self.candidates.len();
        if !self.fits_without_all() {
            return false;
        }
        for breaking in [true, false] {
            for index in (0..count).rev() {
                if self.breaks(index) == breaking && self.chosen.get(index) == Some(&true) {
                    self.set(index, false);
                    if !self.fits() {
                        self.set(index, true);
                    }
                }
            }
        }
        self.best = Some((self.cost(), self.chosen));
        true
    }

    /// No set that suffices has a lower highest priority.
    fn priority_floor(&mut self) -> i32 {
        // Pods that it must be near to may be missed one by one, and need not be when all of them are gone and it is the
        // first: of several terms, more victims may do less.
        if 1 < self.question.ask.near.iter().count() {
            return i32::MIN;
        }
        self.chosen = [false; NODE_PODS_MAX];
        let mut floor = i32::MIN;
        for index in 0..self.candidates.len() {
            let priority = self.priority_of(index);
            // All of one priority leave together.
            if priority != floor && index != 0 && self.fits() {
                return floor;
            }
            floor = priority;
            self.set(index, true);
        }
        floor
    }

    /// Tries all sets that have so many pods more, from `from` on.
    fn extend(&mut self, from: usize, more: u32) {
        if more == 0 {
            let cost = self.cost();
            let cheaper = self.best.as_ref().is_none_or(|(best, _)| cost < *best);
            if cheaper && self.fits() {
                self.best = Some((cost, self.chosen));
            }
            return;
        }
        let count = self.candidates.len();
        for index in from..count {
            self.steps += 1;
            let left = u32::try_from(count - index).unwrap_or(u32::MAX);
            if VICTIM_STEPS_MAX < self.steps || left < more {
                return;
            }
            self.set(index, true);
            if self.may_be_cheaper(index, more - 1) {
                self.extend(index + 1, more - 1);
            }
            self.set(index, false);
        }
    }

    /// Whether a set with this one and so many of those after it can be cheaper than the best.
    fn may_be_cheaper(&self, index: usize, more: u32) -> bool {
        let Some((best, _)) = &self.best else { return true };
        let mut bound = self.cost();
        if 0 < more {
            // Those after it have at least its priority.
            let priority = self.priority_of(index + 1);
            bound.priority_max = bound.priority_max.max(priority);
            bound.priority_sum += i64::from(priority) * i64::from(more);
            bound.victims += more;
        }
        bound < *best
    }

    fn set(&mut self, index: usize, leaves: bool) {
        if let Some(slot) = self.chosen.get_mut(index) {
            *slot = leaves;
        }
    }

    fn priority_of(&self, index: usize) -> i32 {
        self.candidates.get(index).map_or(i32::MAX, |(_, record)| record.pod.priority)
    }

    /// Whether one of its budgets allows no disruption at all.
    fn breaks(&self, index: usize) -> bool {
        let budgets = self.candidates.get(index).map(|(_, record)| record.pod.budgets);
        budgets.unwrap_or_default().iter().any(|budget| self.allowed(budget) == 0)
    }

    fn allowed(&self, budget: usize) -> u32 {
        self.view.state.allowed.get(budget).copied().unwrap_or(0)
    }

    fn leaving(&self) -> impl Iterator<Item = &'a PodRecord> + '_ {
        let chosen = self.candidates.iter().zip(&self.chosen).filter(|(_, chosen)| **chosen);
        chosen.map(|((_, record), _)| *record)
    }

    fn cost(&self) -> Cost {
        let mut cost =
            Cost { budgets_broken: 0, priority_max: i32::MIN, victims: 0, priority_sum: 0 };
        let mut disrupted = [0_u32; BUDGETS_MAX];
        for record in self.leaving() {
            cost.victims += 1;
            cost.priority_max = cost.priority_max.max(record.pod.priority);
            cost.priority_sum += i64::from(record.pod.priority);
            let mut breaks = false;
            for budget in record.pod.budgets.iter() {
                if let Some(count) = disrupted.get_mut(budget) {
                    *count += 1;
                    breaks |= self.allowed(budget) < *count;
                }
            }
            cost.budgets_broken += u32::from(breaks);
        }
        cost
    }

    /// Whether the pod fits when the chosen ones are gone.
    fn fits(&self) -> bool {
        let Some(key) = self.view.class_key(self.node.class) else { return false };
        let (ask, pod) = (self.question.ask, &self.question.ask.pod);
        let used = self.used();
        let free = self.node.allocatable.saturating_sub(&used);
        free.pods != 0
            && pod.requests.fits(&free)
            && (pod.devices.count() == 0 || self.has_devices())
            && (!key.ports.intersects(&ask.ports_wanted) || self.has_ports())
            && (self.question.is_simple || self.has_company(key))
    }

    /// What pods that stay use together.
    fn used(&self) -> Amounts {
        let sum = |sum: Amounts, record: &PodRecord| sum.saturating_add(&record.pod.requests);
        if self.node.used.is_at_end() {
            // By how much it is beyond its range is not known.
            let staying = self.staying().filter(|record| record.state != PodState::Leaving);
            return staying.fold(Amounts::ZERO, sum);
        }
        self.node.used.saturating_sub(&self.leaving().fold(Amounts::ZERO, sum))
    }

    /// Pods on the node that stay.
    fn staying(&self) -> impl Iterator<Item = &'a PodRecord> + '_ {
        let pods = self.view.pods_of(self.at);
        let gone = |handle: PodHandle| {
            let chosen = self.candidates.iter().zip(&self.chosen);
            chosen.into_iter().any(|((one, _), chosen)| *chosen && *one == handle)
        };
        pods.filter(move |(handle, _)| !gone(*handle)).map(|(_, record)| record)
    }

    fn has_devices(&self) -> bool {
        let mut free = [0; DEVICES_MAX];
        for slot in free.iter_mut().take(usize::from(self.node.devices)) {
            *slot = DEVICE_MILLI;
        }
        for record in self.staying().filter(|record| record.state != PodState::Leaving) {
            take(&mut free, record.devices, record.pod.devices.milli());
        }
        let devices = self.question.ask.pod.devices;
        let enough = free.iter().take(usize::from(self.node.devices));
        usize::from(devices.count()) <= enough.filter(|free| devices.milli() <= **free).count()
    }

    fn has_ports(&self) -> bool {
        let wanted = self.question.ask.ports_wanted;
        self.staying().all(|record| !record.pod.ports.intersects(&wanted))
    }

    /// Whether affinity, anti-affinity and spread hold when the chosen ones are gone.
    fn has_company(&self, key: &ClassKey) -> bool {
        let (view, pod) = (self.view, &self.question.ask.pod);
        let away = |term: usize| {
            let gone = self.leaving().filter(|record| record.pod.matches.contains(term)).count();
            u32::try_from(gone).unwrap_or(u32::MAX)
        };
        let repellers_away = |term: usize| {
            let gone = self.leaving().filter(|record| record.pod.repels.contains(term)).count();
            u32::try_from(gone).unwrap_or(u32::MAX)
        };
        let near = &self.question.ask.near;
        let is_first = near.is_subset(&pod.matches)
            && near.iter().all(|term| view.matching_at(term) <= away(term));
        // Pods that match a term in the domain of this node; `None`: the node is in none.
        let matching = |term: usize| match view.term_key_at(term) {
            TopologyKey::Host => Some(view.matching_on(self.at, term)),
            TopologyKey::Label(label) => {
                view.domain(key, label).and_then(|domain| domain.matching.get(term)).copied()
            }
        };
        let repelling = |term: usize| match view.term_key_at(term) {
            TopologyKey::Host => {
                let here = self.staying().filter(|record| record.pod.repels.contains(term));
                u32::try_from(here.count()).unwrap_or(u32::MAX)
            }
            TopologyKey::Label(label) => {
                let there = view.domain(key, label).and_then(|domain| domain.repelling.get(term));
                there.copied().unwrap_or(0).saturating_sub(repellers_away(term))
            }
        };
        near.iter().all(|term| matching(term).is_some_and(|count| is_first || away(term) < count))
            && pod.repels.iter().all(|term| matching(term).is_none_or(|count| count <= away(term)))
            && pod
                .matches
                .iter()
                .all(|term| !view.state.repelled.contains(term) || repelling(term) == 0)
            && self.question.spread_without(&view, key, Some(self.at), away).is_none()
    }
}
