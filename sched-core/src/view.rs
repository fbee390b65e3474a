//! The mirror while it is read: the search for a node, and its score.

use core::{cmp::Reverse, ops::Range};

use crate::{
    ask::{Ask, DeviceAsk, Domain, NodeOffer, Strength, Terms, TopologyKey},
    fit::{self, Size},
    limits::{DEVICE_MILLI, DEVICES_MAX},
    order::{self, Order},
    question::Question,
    records::{Cell, ClassKey, ClassRecord, NONE, NodeRecord, PodRecord, PodState, take},
    settle::memory_kib,
    storage::Tables,
    table::{NodeIndex, PodHandle, State},
};

/// See the module.
#[derive(Copy, Clone)]
pub(crate) struct View<'a> {
    pub(crate) tables: Tables<'a>,
    pub(crate) state: &'a State,
}

/// The best so far: its score and its index.
type Best = Option<(i64, u32)>;

impl<'a> View<'a> {
    pub(crate) fn node(&self, at: u32) -> Option<&'a NodeRecord> {
        self.tables.nodes.get(at as usize).filter(|node| node.class != NONE)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (u32, &'a NodeRecord)> + use<'a> {
        self.nodes_from(0)
    }

    pub(crate) fn nodes_from(
        &self,
        from: u32,
    ) -> impl Iterator<Item = (u32, &'a NodeRecord)> + use<'a> {
        let rest = self.tables.nodes.get(from as usize..).unwrap_or_default();
        (from..).zip(rest).filter(|(_, node)| node.class != NONE)
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = (u32, &'a ClassRecord)> + use<'a> {
        let used = self.tables.classes.get(..self.state.classes.fresh as usize);
        (0_u32..).zip(used.unwrap_or_default()).filter(|(_, class)| class.nodes != 0)
    }

    pub(crate) fn pods_of(
        &self,
        at: u32,
    ) -> impl Iterator<Item = (PodHandle, &'a PodRecord)> + use<'a> {
        let pods = self.tables.pods;
        let mut index = self.node(at).map_or(NONE, |node| node.pods);
        core::iter::from_fn(move || {
            let record = pods.get(index as usize)?;
            let handle = PodHandle { index, life: record.life };
            index = record.next;
            Some((handle, record))
        })
    }

    pub(crate) fn order(&self) -> Order<'a> {
        Order::new(&self.state.order, self.tables.blocks, self.tables.summaries)
    }

    pub(crate) fn offer(&self, at: NodeIndex) -> Option<NodeOffer> {
        let node = self.node(at.0)?;
        let key = self.tables.classes.get(node.class as usize)?.key;
        Some(NodeOffer {
            unschedulable: key.unschedulable,
            allocatable: node.allocatable,
            devices: node.devices,
            taints: key.taints,
            soft_taints: key.soft_taints,
            meets: key.meets,
            domains: key.domains.map(Domain),
        })
    }

    /// Those of the terms whose topology key is the host.
    pub(crate) fn of_host_key(&self, terms: &Terms) -> Terms {
        let mut hosts = *terms;
        for term in terms.iter() {
            if self.term_key_at(term) != TopologyKey::Host {
                hosts.remove(term);
            }
        }
        hosts
    }

    /// Thousandths left of each of so many devices of a node.
    pub(crate) fn devices_left(&self, at: u32, devices: u8) -> [u16; DEVICES_MAX] {
        let mut free = [0; DEVICES_MAX];
        if devices == 0 {
            return free;
        }
        for slot in free.iter_mut().take(usize::from(devices)) {
            *slot = DEVICE_MILLI;
        }
        for (_, record) in self.pods_of(at).filter(|(_, pod)| pod.state != PodState::Leaving) {
            take(&mut free, record.devices, record.pod.devices.milli());
        }
        free
    }

    pub(crate) fn place(&self, ask: &Ask) -> Option<NodeIndex> {
        let question = self.question(ask);
        if let Some(only) = ask.node {
            let node = self.node(only.0)?;
            return self.reason(&question, only.0, node).is_none().then_some(only);
        }
        self.best(&question, |_| true).map(|(_, at)| NodeIndex(at))
    }

    pub(crate) fn place_by_scan(&self, ask: &Ask) -> Option<NodeIndex> {
        let question = self.question(ask);
        let fitting = self.nodes().filter(|(at, node)| self.reason(&question, *at, node).is_none());
        let scored = fitting.map(|(at, node)| (self.score(&question, at, node), Reverse(at)));
        scored.max().map(|(_, Reverse(at))| NodeIndex(at))
    }

    /// The best node that `allows` lets through. The question's own node is not looked at.
    pub(crate) fn best(&self, question: &Question<'_>, allows: impl Fn(u32) -> bool) -> Best {
        let gradient = self.state.profile.fragmentation_weight != 0;
        let mut best = None;
        let used = self.tables.classes.get(..self.state.classes.fresh as usize);
        for (number, class) in (0_u32..).zip(used.unwrap_or_default()) {
            // Of a free record no cell has a node.
            if class.rows == 0 || !self.class_admits(question, &class.key) {
                continue;
            }
            if gradient || question.by_node {
                self.best_by_node(question, number, class, &allows, &mut best);
            } else {
                self.best_by_cell(question, number, class, &allows, &mut best);
            }
        }
        best
    }

    /// Cells of one class, row by row, best first, until none can be better: nodes of one cell score alike.
    fn best_by_cell(
        &self,
        question: &Question<'_>,
        number: u32,
        class: &ClassRecord,
        allows: &impl Fn(u32) -> bool,
        best: &mut Best,
    ) {
        let size = Size::new(&question.ask.pod, &class.key, &self.state.profile);
        let base = self.class_score(question, &class.key);
        let mut rows = class.rows & u64::MAX << size.row;
        let nearest = if size.packs() { size.column } else { u64::BITS - 1 };
        while let Some(row) = next(&mut rows, size.packs()) {
            let mut columns = class.columns_of(row) & u64::MAX << size.column;
            while let Some(column) = next(&mut columns, size.packs()) {
                let score = base + size.score(row, column);
                if best.is_some_and(|(so_far, _)| score < so_far) {
                    break;
                }
                let from = Cell::new(row, column);
                let mut last = from;
                if size.packs() {
                    // The order has the other cells of the row behind this one, and they score less.
                    (columns, last) = (0, Cell::new(row, u64::BITS - 1));
                }
                let (from, to) = (order::key(number, from), order::key(number, last.next()));
                self.first_in(question, from..to, base, &size, allows, best);
            }
            // No cell of the rows after this one scores more than the nearest of this row would.
            if best.is_some_and(|(so_far, _)| base + size.score(row, nearest) < so_far) {
                return;
            }
        }
    }

    /// The first node of some cells, which score less from one to the next, that has what is asked for, if it is better
    /// than the best so far.
    fn first_in(
        &self,
        question: &Question<'_>,
        keys: Range<u64>,
        base: i64,
        size: &Size,
        allows: &impl Fn(u32) -> bool,
        best: &mut Best,
    ) {
        let requests = &question.ask.pod.requests;
        let (cpu, memory) = (requests.cpu_milli, memory_kib(requests.memory_bytes));
        for entry in self.order().range(keys.start, keys.end, cpu, memory) {
            let at = order::node_of(entry.key);
            let score = base + size.score_of(order::cell_of(entry.key));
            if best.is_some_and(|(so_far, index)| score < so_far || score == so_far && index < at) {
                return;
            }
            // More KiB than asked for are enough bytes; as many KiB need a look.
            let surely = question.is_plain && memory < entry.memory_kib;
            if (surely || self.has_all(question, at)) && allows(at) {
                *best = Some((score, at));
                return;
            }
        }
    }

    fn has_all(&self, question: &Question<'_>, at: u32) -> bool {
        let Some(node) = self.node(at) else { return false };
        self.has_amounts(question, node)
            && (question.ask.spreads.is_empty()
                || self
                    .class_key(node.class)
                    .is_some_and(|key| question.spread_reason(self, key, Some(at)).is_none()))
    }

    /// Each node of one class.
    fn best_by_node(
        &self,
        question: &Question<'_>,
        number: u32,
        class: &ClassRecord,
        allows: &impl Fn(u32) -> bool,
        best: &mut Best,
    ) {
        let base = self.class_score(question, &class.key);
        let size = Size::new(&question.ask.pod, &class.key, &self.state.profile);
        let requests = &question.ask.pod.requests;
        let (cpu, memory) = (requests.cpu_milli, memory_kib(requests.memory_bytes));
        let (from, to) = (order::key(number, Cell::FIRST), order::key(number + 1, Cell::FIRST));
        for entry in self.order().range(from, to, cpu, memory) {
            let at = order::node_of(entry.key);
            if !self.has_all(question, at) || !allows(at) {
                continue;
            }
            let Some(node) = self.node(at) else { continue };
            let score = base
                + size.score_of(order::cell_of(entry.key))
                + self.node_score(question, at, node, &class.key);
            // Entries of other cells have lower indices too.
            if best.is_none_or(|(so_far, index)| so_far < score || so_far == score && at < index) {
                *best = Some((score, at));
            }
        }
    }

    /// A node's whole score.
    pub(crate) fn score(&self, question: &Question<'_>, at: u32, node: &NodeRecord) -> i64 {
        let Some(key) = self.class_key(node.class) else { return i64::MIN };
        let size = Size::new(&question.ask.pod, key, &self.state.profile);
        let by_node = question.by_node || self.state.profile.fragmentation_weight != 0;
        let of_node = if by_node { self.node_score(question, at, node, key) } else { 0 };
        self.class_score(question, key) + size.score_of(fit::cell(node, key)) + of_node
    }

    /// What all nodes of a class have in common of a score.
    fn class_score(&self, question: &Question<'_>, key: &ClassKey) -> i64 {
        let (ask, profile) = (question.ask, &self.state.profile);
        let mut wishes = 0_i64;
        for (all_of, weight) in &ask.prefers {
            if all_of.is_subset(&key.meets) {
                wishes += i64::from(*weight);
            }
        }
        for (term, weight) in &ask.near_preferred {
            wishes = wishes.saturating_add(self.crowd(key, usize::from(*term), *weight));
        }
        for spread in &ask.spreads {
            if let Strength::Preferred(weight) = spread.strength {
                let crowd = self.crowd(key, usize::from(spread.term), weight);
                wishes = wishes.saturating_sub(crowd);
            }
        }
        let soft = key.soft_taints.count_missing_from(&ask.tolerates_soft);
        wishes.saturating_mul(i64::from(profile.wish_weight)).clamp(-SCORE_MAX, SCORE_MAX)
            - i64::from(soft) * i64::from(profile.soft_taint_weight)
    }

    /// The weight of a term for each matching pod in the domain of its label; of the host key nothing.
    fn crowd(&self, key: &ClassKey, term: usize, weight: i32) -> i64 {
        let TopologyKey::Label(label) = self.term_key_at(term) else { return 0 };
        let count = self.domain(key, label).and_then(|domain| domain.matching.get(term));
        i64::from(count.copied().unwrap_or(0)).saturating_mul(i64::from(weight))
    }

    /// What is a single node's own of a score.
    fn node_score(
        &self,
        question: &Question<'_>,
        at: u32,
        node: &NodeRecord,
        key: &ClassKey,
    ) -> i64 {
        let (ask, profile) = (question.ask, &self.state.profile);
        let mut wishes = 0_i64;
        let mut add = |term: u8, weight: i64| {
            let term = usize::from(term);
            if self.term_key_at(term) == TopologyKey::Host {
                wishes += i64::from(self.matching_on(at, term)).saturating_mul(weight);
            }
        };
        for (term, weight) in &ask.near_preferred {
            add(*term, i64::from(*weight));
        }
        for spread in &ask.spreads {
            if let Strength::Preferred(weight) = spread.strength {
                add(spread.term, -i64::from(weight));
            }
        }
        let wishes = wishes.saturating_mul(i64::from(profile.wish_weight));
        let wishes = wishes.clamp(-SCORE_MAX, SCORE_MAX);
        if profile.fragmentation_weight == 0 {
            return wishes;
        }
        let (waste, _) = self.waste_of(question, node, key);
        wishes - waste.saturating_mul(i64::from(profile.fragmentation_weight)) / 16
    }

    /// The devices that a pod gets on a node that has them.
    pub(crate) fn choose_devices(&self, question: &Question<'_>, at: u32, node: &NodeRecord) -> u8 {
        debug_assert!(self.has_amounts(question, node), "node {at} lacks what was found on it");
        let devices = question.ask.pod.devices;
        if self.state.profile.fragmentation_weight == 0 || devices.count() != 1 {
            return self.tightest_devices(devices, node);
        }
        let key = self.class_key(node.class);
        key.map_or(0, |key| self.waste_of(question, node, key).1)
    }

    /// The devices with the least left that is enough, lowest first; those with the most left where it is not enough.
    pub(crate) fn tightest_devices(&self, ask: DeviceAsk, node: &NodeRecord) -> u8 {
        let mut mask = 0_u8;
        for _ in 0..ask.count() {
            let free = node.devices_free().enumerate().filter(|(bit, _)| mask & 1 << bit == 0);
            let key = |left: u16| {
                let enough = ask.milli() <= left;
                (!enough, if enough { left } else { u16::MAX - left })
            };
            let Some((bit, _)) = free.min_by_key(|(bit, left)| (key(*left), *bit)) else { break };
            mask |= 1 << bit;
        }
        mask
    }
}

/// No sum of wishes counts for more, so that scores never overflow.
const SCORE_MAX: i64 = 1 << 56;

/// Takes the next bit out of a set: the lowest, or the highest.
fn next(bits: &mut u64, lowest: bool) -> Option<u32> {
    if *bits == 0 {
        return None;
    }
    let bit = if lowest { bits.trailing_zeros() } else { u64::BITS - 1 - bits.leading_zeros() };
    *bits &= !(1 << bit);
    Some(bit)
}

/// What one node has of a resource that was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// What is short.
    pub resource: crate::amounts::Resource,
    /// What the pod asks for.
    pub requested: u64,
    /// What is free.
    pub free: u64,
    /// What pods may use in all.
    pub total: u64,
}

impl Balance {
    pub(crate) fn new(ask: &Ask, node: &NodeRecord, resource: crate::amounts::Resource) -> Self {
        if resource == crate::amounts::Resource::Devices {
            let devices = ask.pod.devices;
            let enough = node.devices_free().filter(|free| devices.milli() <= *free).count();
            return Self {
                resource,
                requested: u64::from(devices.count()),
                free: enough as u64,
                total: u64::from(node.devices),
            };
        }
        Self {
            resource,
            requested: ask.pod.requests.of(resource),
            free: node.free().of(resource),
            total: node.allocatable.of(resource),
        }
    }
}
