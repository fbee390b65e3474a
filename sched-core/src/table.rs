//! The mirror of a cluster: nodes, and the pods on them. What is asked of it is in the other modules.

use crate::{
    amounts::Amounts,
    ask::{Ask, NodeOffer, Pod, TermIndex, Terms, TopologyKey},
    classes::{self, ClassState},
    filter::{Reason, Refusal},
    fit,
    limits::{AFFINITY_TERMS_MAX, BUDGETS_MAX, DEVICES_MAX, blocks_for},
    order::{self, OrderMut, OrderState},
    profile::Profile,
    records::{
        Cell, CheapestRecord, ClassKey, Entry, HostRecord, NONE, NodeRecord, PodRecord, PodState, mib,
    },
    storage::{Storage, Tables, TablesMut},
    view::{Balance, View},
    workload::WorkloadState,
};

/// A node's place in the table. Reused after the node is removed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// A pod's place in the table, with the life it stands for: one of a removed pod is answered with [`Error::Stale`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodHandle {
    pub(crate) index: u32,
    pub(crate) life: u32,
}

/// A table of [`crate::Tables`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// `nodes` or `hosts`.
    Nodes,
    /// `pods`.
    Pods,
    /// `classes`: two more than there are nodes.
    Classes,
    /// `blocks` or `summaries`: [`blocks_for`] one node more.
    Blocks,
}

/// Why a call was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No record is free in this table: the caller grows its storage and asks again.
    Full(Table),
    /// There is no such node.
    NoNode,
    /// The handle is of a pod that is gone, or whose state does not allow this.
    Stale,
    /// The node refuses the pod (P1).
    Refused(Reason),
}

/// All that is not in a table.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) profile: Profile,
    pub(crate) order: OrderState,
    pub(crate) classes: ClassState,
    pub(crate) term_keys: [TopologyKey; AFFINITY_TERMS_MAX],
    /// Matching pods in the whole cluster.
    pub(crate) matching: [u32; AFFINITY_TERMS_MAX],
    /// Pods that repel, in the whole cluster.
    pub(crate) repelling: [u32; AFFINITY_TERMS_MAX],
    /// Terms that some pod repels.
    pub(crate) repelled: Terms,
    /// Disruptions that each budget still allows.
    pub(crate) allowed: [u32; BUDGETS_MAX],
    pub(crate) workload: WorkloadState,
    pub(crate) nodes: u32,
    nodes_free: u32,
    nodes_fresh: u32,
    pods_free: u32,
    pods_fresh: u32,
}

impl State {
    /// The first free node record, and the first that was never used.
    pub(crate) fn free_nodes(&self) -> (u32, u32) {
        (self.nodes_free, self.nodes_fresh)
    }

    /// The first free pod record, and the first that was never used.
    pub(crate) fn free_pods(&self) -> (u32, u32) {
        (self.pods_free, self.pods_fresh)
    }
}

/// Nodes and the pods on them, in the caller's storage. See the crate's documentation for an example.
#[derive(Clone, Debug)]
pub struct Placement<S> {
    storage: S,
    state: State,
}

impl<S: Storage> Placement<S> {
    /// Takes storage of default records.
    pub fn new(storage: S, profile: Profile) -> Self {
        let state = State {
            profile,
            order: OrderState::default(),
            classes: ClassState::default(),
            term_keys: [TopologyKey::Host; AFFINITY_TERMS_MAX],
            matching: [0; AFFINITY_TERMS_MAX],
            repelling: [0; AFFINITY_TERMS_MAX],
            repelled: Terms::EMPTY,
            allowed: [0; BUDGETS_MAX],
            workload: WorkloadState::default(),
            nodes: 0,
            nodes_free: NONE,
            nodes_fresh: 0,
            pods_free: NONE,
            pods_fresh: 0,
        };
        Self { storage, state }
    }

    /// The storage, to be grown; see [`Storage`] for what must not be done.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.storage
    }

    /// What decisions weigh.
    pub fn profile(&self) -> &Profile {
        &self.state.profile
    }

    /// Changes what decisions weigh, from the next one on.
    pub fn set_profile(&mut self, profile: Profile) {
        self.state.profile = profile;
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { tables: self.storage.tables(), state: &self.state }
    }

    pub(crate) fn allowed(&self) -> &[u32; BUDGETS_MAX] {
        &self.state.allowed
    }

    pub(crate) fn core(&mut self) -> Core<'_> {
        Core { tables: self.storage.tables_mut(), state: &mut self.state }
    }

    /// Adds a node without pods.
    pub fn add_node(&mut self, offer: &NodeOffer) -> Result<NodeIndex, Error> {
        self.core().add_node(offer)
    }

    /// Replaces what a node offers; its pods stay (P2), even if they no longer fit.
    pub fn update_node(&mut self, at: NodeIndex, offer: &NodeOffer) -> Result<(), Error> {
        self.core().update_node(at, offer)
    }

    /// Removes a node and its pods from the mirror.
    pub fn remove_node(&mut self, at: NodeIndex) -> Result<(), Error> {
        self.core().remove_node(at)
    }

    /// What a node offers, as it was given.
    pub fn offer(&self, at: NodeIndex) -> Option<NodeOffer> {
        self.view().offer(at)
    }

    /// A node's record.
    pub fn node(&self, at: NodeIndex) -> Option<&NodeRecord> {
        self.storage.tables().nodes.get(at.0 as usize).filter(|node| node.class != NONE)
    }

    /// All nodes, by index.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &NodeRecord)> {
        let nodes = (0_u32..).zip(self.storage.tables().nodes);
        nodes
            .filter(|(_, node)| node.class != NONE)
            .map(|(index, node)| (NodeIndex(index), node))
    }

    /// A pod's record, and its node.
    pub fn pod(&self, pod: PodHandle) -> Option<(NodeIndex, &PodRecord)> {
        let record = self.storage.tables().pods.get(pod.index as usize)?;
        let live = record.node != NONE && record.life == pod.life;
        live.then_some((NodeIndex(record.node), record))
    }

    /// The pods of a node, the latest first.
    pub fn pods_of(&self, at: NodeIndex) -> impl Iterator<Item = (PodHandle, &PodRecord)> {
        self.view().pods_of(at.0)
    }

    /// Whether and why one node refuses this pod.
    pub fn why_not(&self, at: NodeIndex, ask: &Ask) -> Result<Option<Reason>, Error> {
        let view = self.view();
        let node = view.node(at.0).ok_or(Error::NoNode)?;
        Ok(view.reason(&view.question(ask), at.0, node))
    }

    /// What one node lacks of what a pod asks for: requested, free and in all.
    pub fn shortfalls(&self, at: NodeIndex, ask: &Ask) -> impl Iterator<Item = Balance> {
        let view = self.view();
        let node = view.node(at.0);
        let lacks = node.map(|node| {
            let question = view.question(ask);
            view.shortfalls(&question, node).map(|what| Balance::new(ask, node, what))
        });
        lacks.into_iter().flatten()
    }

    /// How many nodes each constraint removes (P4). `nodes` is 0 where there are none.
    pub fn explain(&self, ask: &Ask) -> Refusal {
        self.view().explain(ask)
    }

    /// The node for this pod: of those that no constraint removes the one with the highest score, of equals the one
    /// with the lowest index (P3). `None`: no node takes it, and [`Self::explain`] says why.
    pub fn place(&self, ask: &Ask) -> Option<NodeIndex> {
        self.view().place(ask)
    }

    /// The score of a node for this pod, as [`Self::place`] compares them. It says nothing about whether it fits.
    pub fn score(&self, at: NodeIndex, ask: &Ask) -> Option<i64> {
        let view = self.view();
        view.node(at.0).map(|node| view.score(&view.question(ask), at.0, node))
    }

    /// Gives a pod its node before the binding is written. Refuses what does not fit (P1).
    pub fn assume(&mut self, ask: &Ask, at: NodeIndex) -> Result<PodHandle, Error> {
        self.core().assume(ask, at, PodState::Assumed)
    }

    /// Enters a pod that is bound already, whoever bound it: the world is mirrored as it is, fitting or not. Devices
    /// are the node's devices that it has, a bit each; 0: the tightest that fit are taken to be its.
    pub fn add_bound(&mut self, pod: &Pod, devices: u8, at: NodeIndex) -> Result<PodHandle, Error> {
        self.core().enter(pod, at.0, PodState::Bound, devices)
    }

    /// The binding of an assumed pod was written. Confirmed twice is confirmed.
    pub fn confirm(&mut self, pod: PodHandle) -> Result<(), Error> {
        let mut core = self.core();
        let record = core.pod_mut(pod)?;
        if record.state == PodState::Assumed {
            record.state = PodState::Bound;
        }
        Ok(())
    }

    /// The binding of an assumed pod was refused. A bound pod stays (P2): gives `Stale`.
    pub fn forget(&mut self, pod: PodHandle) -> Result<(), Error> {
        let state = self.core().pod_mut(pod)?.state;
        if matches!(state, PodState::Bound | PodState::Leaving) {
            return Err(Error::Stale);
        }
        self.remove_pod(pod)
    }

    /// The pod is gone or has ended.
    pub fn remove_pod(&mut self, pod: PodHandle) -> Result<(), Error> {
        let mut core = self.core();
        core.pod_mut(pod)?;
        core.drop_pod(pod.index);
        Ok(())
    }

    /// Gives an affinity term its topology key and says which pods match it. What it meant before is forgotten: pods
    /// no longer match or repel it.
    pub fn define_term(
        &mut self,
        term: TermIndex,
        key: TopologyKey,
        matches: impl FnMut(PodHandle, &Pod) -> bool,
    ) {
        self.core().define_term(term, key, matches);
    }

    /// How many disruptions a budget allows now.
    pub fn set_budget(&mut self, budget: u8, allowed: u32) {
        if let Some(slot) = self.state.allowed.get_mut(usize::from(budget)) {
            *slot = allowed;
        }
    }

    /// Changes by which budgets a pod is covered.
    pub fn set_budgets_of(
        &mut self,
        pod: PodHandle,
        budgets: crate::ask::Budgets,
    ) -> Result<(), Error> {
        self.core().pod_mut(pod)?.pod.budgets = budgets;
        Ok(())
    }
}

/// The mirror while it changes.
pub(crate) struct Core<'a> {
    pub(crate) tables: TablesMut<'a>,
    pub(crate) state: &'a mut State,
}

impl Core<'_> {
    pub(crate) fn view(&self) -> View<'_> {
        let tables = Tables {
            nodes: self.tables.nodes,
            hosts: self.tables.hosts,
            cheapest: self.tables.cheapest,
            pods: self.tables.pods,
            classes: self.tables.classes,
            blocks: self.tables.blocks,
            summaries: self.tables.summaries,
            domains: self.tables.domains,
            memos: self.tables.memos,
            shapes: self.tables.shapes,
        };
        View { tables, state: self.state }
    }

    fn order(&mut self) -> OrderMut<'_> {
        OrderMut {
            state: &mut self.state.order,
            blocks: self.tables.blocks,
            summaries: self.tables.summaries,
        }
    }

    pub(crate) fn node_mut(&mut self, at: u32) -> Option<&mut NodeRecord> {
        self.tables.nodes.get_mut(at as usize).filter(|node| node.class != NONE)
    }

    pub(crate) fn pod_mut(&mut self, pod: PodHandle) -> Result<&mut PodRecord, Error> {
        let slot = self.tables.pods.get_mut(pod.index as usize);
        slot.filter(|slot| slot.life == pod.life && slot.node != NONE).ok_or(Error::Stale)
    }

    fn class_key(&self, class: u32) -> ClassKey {
        self.tables.classes.get(class as usize).map_or_else(ClassKey::default, |class| class.key)
    }

    fn add_node(&mut self, offer: &NodeOffer) -> Result<NodeIndex, Error> {
        let wanted = self.state.nodes as usize + 2;
        if self.tables.classes.len() < wanted {
            return Err(Error::Full(Table::Classes));
        }
        let blocks = self.tables.blocks.len().min(self.tables.summaries.len());
        if blocks < blocks_for(wanted - 1) || !self.order().has_room() {
            return Err(Error::Full(Table::Blocks));
        }
        let at = match self.state.nodes_free {
            NONE => self.state.nodes_fresh,
            free => free,
        };
        let Tables { nodes, hosts, cheapest, .. } = self.view().tables;
        let records = nodes.len().min(hosts.len()).min(cheapest.len());
        if records <= at as usize {
            return Err(Error::Full(Table::Nodes));
        }
        if self.state.nodes_free == NONE {
            self.state.nodes_fresh += 1;
        } else {
            // A free record has the next free one where a live one has its pods.
            let free = self.tables.nodes.get(at as usize);
            self.state.nodes_free = free.map_or(NONE, |node| node.pods);
        }
        self.state.nodes += 1;
        let allocatable = offer.allocatable;
        let record = NodeRecord { allocatable, ..NodeRecord::default() };
        let key = class_key_of(offer, &record);
        // Two more classes than nodes: there is one.
        let class = classes::enter(&mut self.state.classes, self.tables.classes, &key);
        if let Some(slot) = self.tables.nodes.get_mut(at as usize) {
            *slot = NodeRecord { class: class.unwrap_or(NONE), ..record };
        }
        self.refit(at, offer);
        self.settle(at);
        Ok(NodeIndex(at))
    }

    fn update_node(&mut self, at: NodeIndex, offer: &NodeOffer) -> Result<(), Error> {
        let class = self.view().node(at.0).ok_or(Error::NoNode)?.class;
        let domains_change =
            self.class_key(class).domains != offer.domains.map(|domain| domain.0);
        if domains_change {
            self.count_pods_of(at.0, Counting::Out);
        }
        self.refit(at.0, offer);
        let mut key = self.class_key(class);
        if let Some(node) = self.view().node(at.0) {
            let offered = class_key_of(offer, node);
            let ClassKey { ports, matching, repelling, .. } = key;
            key = ClassKey { ports, matching, repelling, ..offered };
        }
        self.reclass(at.0, &key);
        if domains_change {
            self.count_pods_of(at.0, Counting::In);
        }
        self.settle(at.0);
        Ok(())
    }

    fn remove_node(&mut self, at: NodeIndex) -> Result<(), Error> {
        self.view().node(at.0).ok_or(Error::NoNode)?;
        while let Some(pod) = self.view().node(at.0).map(|node| node.pods).filter(|pod| *pod != NONE)
        {
            self.drop_pod(pod);
        }
        self.unsettle(at.0);
        let free = self.state.nodes_free;
        if let Some(node) = self.node_mut(at.0) {
            let class = node.class;
            *node = NodeRecord { pods: free, ..NodeRecord::default() };
            classes::leave(&mut self.state.classes, self.tables.classes, class);
        }
        if let Some(host) = self.tables.hosts.get_mut(at.0 as usize) {
            *host = HostRecord::default();
        }
        if let Some(cheapest) = self.tables.cheapest.get_mut(at.0 as usize) {
            *cheapest = CheapestRecord::NONE;
        }
        self.state.nodes_free = at.0;
        self.state.nodes -= 1;
        Ok(())
    }

    /// Takes over what the offer has in amounts and devices.
    fn refit(&mut self, at: u32, offer: &NodeOffer) {
        let free = self.view().devices_left(at, devices_of(offer));
        if let Some(node) = self.node_mut(at) {
            node.allocatable = offer.allocatable;
            node.devices = devices_of(offer);
            node.devices_free = free;
        }
    }

    pub(crate) fn assume(
        &mut self,
        ask: &Ask,
        at: NodeIndex,
        state: PodState,
    ) -> Result<PodHandle, Error> {
        let view = self.view();
        let node = view.node(at.0).ok_or(Error::NoNode)?;
        let question = view.question(ask);
        if let Some(reason) = view.reason(&question, at.0, node) {
            return Err(Error::Refused(reason));
        }
        let devices = view.choose_devices(&question, at.0, node);
        self.enter(&ask.pod, at.0, state, devices)
    }

    /// Enters a pod on a node.
    pub(crate) fn enter(
        &mut self,
        pod: &Pod,
        at: u32,
        state: PodState,
        devices: u8,
    ) -> Result<PodHandle, Error> {
        let view = self.view();
        let node = view.node(at).ok_or(Error::NoNode)?;
        let devices = if devices == 0 { view.tightest_devices(pod.devices, node) } else { devices };
        let index = match self.state.pods_free {
            NONE => self.state.pods_fresh,
            free => free,
        };
        let slot = self.tables.pods.get_mut(index as usize).ok_or(Error::Full(Table::Pods))?;
        if self.state.pods_free == NONE {
            self.state.pods_fresh += 1;
        } else {
            self.state.pods_free = slot.next;
        }
        let life = slot.life;
        *slot = PodRecord { pod: *pod, life, state, ..PodRecord::default() };
        self.put(index, at, devices);
        Ok(PodHandle { index, life })
    }

    /// Puts a pod that is on no node on one, before those that are there.
    pub(crate) fn put(&mut self, index: u32, at: u32, devices: u8) {
        self.put_behind(index, at, devices, NONE);
    }

    /// Puts a pod that is on no node on one, behind this one of its pods; before all of them, if that is [`NONE`].
    pub(crate) fn put_behind(&mut self, index: u32, at: u32, devices: u8, previous: u32) {
        let Some(node) = self.view().node(at) else { return };
        let (class, first) = (node.class, node.pods);
        let before = self.tables.pods.get_mut(previous as usize);
        let next = before.map_or(first, |before| core::mem::replace(&mut before.next, index));
        let Some(slot) = self.tables.pods.get_mut(index as usize) else { return };
        (slot.node, slot.next, slot.previous, slot.devices) = (at, next, previous, devices);
        let (pod, state) = (slot.pod, slot.state);
        if let Some(after) = self.tables.pods.get_mut(next as usize) {
            after.previous = index;
        }
        let mut extended = 0;
        if let Some(node) = self.node_mut(at) {
            if previous == NONE {
                node.pods = index;
            }
            if state != PodState::Leaving {
                node.take(&pod, devices);
            }
            extended = extended_of(node);
        }
        if let Some(cheapest) = self.tables.cheapest.get_mut(at as usize) {
            cheapest.note(&pod);
        }
        self.count(&pod, at, Counting::In);
        let has_bits = !(pod.ports.is_empty() && pod.matches.is_empty() && pod.repels.is_empty());
        if has_bits || self.view().class_key(class).is_some_and(|key| key.extended != extended) {
            let (mut key, view) = (self.class_key(class), self.view());
            key.extended = extended;
            key.ports = key.ports.union(&pod.ports);
            key.matching = key.matching.union(&view.of_host_key(&pod.matches));
            key.repelling = key.repelling.union(&view.of_host_key(&pod.repels));
            self.reclass(at, &key);
        }
        self.settle(at);
    }

    /// Takes a pod off its node; its record stays.
    pub(crate) fn lift(&mut self, index: u32) {
        let Some(slot) = self.tables.pods.get_mut(index as usize) else { return };
        let PodRecord { pod, node: at, next, previous, state, .. } = slot.clone();
        slot.node = NONE;
        if let Some(before) = self.tables.pods.get_mut(previous as usize) {
            before.next = next;
        } else if let Some(node) = self.node_mut(at) {
            node.pods = next;
        }
        if let Some(after) = self.tables.pods.get_mut(next as usize) {
            after.previous = previous;
        }
        self.count(&pod, at, Counting::Out);
        if state != PodState::Leaving {
            self.give_back(at, &pod);
        }
        self.after(at, &pod);
    }

    /// A node has back what a pod took of it. A sum at the end of its range does not know by how much it is beyond: it is
    /// made anew from the pods that stay, or the node would seem emptier than it is (P1).
    pub(crate) fn give_back(&mut self, at: u32, pod: &Pod) {
        let Some(node) = self.node_mut(at) else { return };
        let sums = (node.used, node.limits);
        node.give_back(pod);
        if !sums.0.is_at_end() && sums.1.cpu_milli != u32::MAX && sums.1.memory_bytes != u64::MAX {
            return;
        }
        let mut fresh = NodeRecord::default();
        for (_, record) in self.view().pods_of(at) {
            if record.state != PodState::Leaving {
                fresh.take(&record.pod, 0);
            }
        }
        if let Some(node) = self.node_mut(at) {
            (node.used, node.limits) = (fresh.used, fresh.limits);
        }
    }

    /// Takes a pod off its node and frees its record.
    pub(crate) fn drop_pod(&mut self, index: u32) {
        self.lift(index);
        let free = self.state.pods_free;
        let Some(slot) = self.tables.pods.get_mut(index as usize) else { return };
        *slot = PodRecord { life: slot.life.wrapping_add(1), next: free, ..PodRecord::default() };
        self.state.pods_free = index;
    }

    /// Makes anew what this pod, which has left its node or leaves it, may have been the reason for.
    pub(crate) fn after(&mut self, at: u32, gone: &Pod) {
        let view = self.view();
        let Some(node) = view.node(at) else { return };
        let cheapest = view.tables.cheapest.get(at as usize);
        let is_first = cheapest.is_some_and(|cheapest| gone.priority <= cheapest.priority);
        let has_devices = gone.devices.count() != 0;
        let has_bits = !(gone.ports.is_empty() && gone.matches.is_empty() && gone.repels.is_empty());
        let extended = extended_of(node);
        let extended_changes =
            view.class_key(node.class).is_some_and(|key| key.extended != extended);
        if is_first || has_devices || has_bits || extended_changes {
            self.refresh(at);
        } else {
            self.settle(at);
        }
    }

    /// Makes anew what is derived from a node's pods.
    fn refresh(&mut self, at: u32) {
        let view = self.view();
        let Some(node) = view.node(at) else { return };
        let mut key = self.class_key(node.class);
        let mut fresh = node.clone();
        let mut cheapest = CheapestRecord::NONE;
        fresh.devices_free = view.devices_left(at, node.devices);
        (key.ports, key.repelling) = (crate::ask::Ports::EMPTY, Terms::EMPTY);
        let mut matching = Terms::EMPTY;
        for (_, record) in view.pods_of(at) {
            cheapest.note(&record.pod);
            key.ports = key.ports.union(&record.pod.ports);
            key.repelling = key.repelling.union(&record.pod.repels);
            matching = matching.union(&record.pod.matches);
        }
        key.repelling = view.of_host_key(&key.repelling);
        key.matching = view.of_host_key(&matching);
        key.extended = extended_of(&fresh);
        if let Some(node) = self.node_mut(at) {
            *node = fresh;
        }
        if let Some(slot) = self.tables.cheapest.get_mut(at as usize) {
            *slot = cheapest;
        }
        self.reclass(at, &key);
        self.settle(at);
    }

    /// Counts a pod's terms in its host, its domains and the cluster.
    fn count(&mut self, pod: &Pod, at: u32, counting: Counting) {
        if pod.matches.is_empty() && pod.repels.is_empty() {
            return;
        }
        let class = self.tables.nodes.get(at as usize).map_or(NONE, |node| node.class);
        let key = self.class_key(class);
        for term in pod.matches.iter() {
            if let Some(host) = self.tables.hosts.get_mut(at as usize)
                && let Some(slot) = host.matching.get_mut(term)
            {
                *slot = counting.apply16(*slot);
            }
            if let Some(slot) = self.state.matching.get_mut(term) {
                *slot = counting.apply(*slot);
            }
            if let Some(domain) = self.domain_mut(term, &key)
                && let Some(slot) = domain.matching.get_mut(term)
            {
                *slot = counting.apply(*slot);
            }
        }
        for term in pod.repels.iter() {
            if let Some(slot) = self.state.repelling.get_mut(term) {
                *slot = counting.apply(*slot);
                if *slot == 0 {
                    self.state.repelled.remove(term);
                } else {
                    let fits = self.state.repelled.insert(term);
                    debug_assert!(fits);
                }
            }
            if let Some(domain) = self.domain_mut(term, &key)
                && let Some(slot) = domain.repelling.get_mut(term)
            {
                *slot = counting.apply(*slot);
            }
        }
    }

    fn domain_mut(
        &mut self,
        term: usize,
        key: &ClassKey,
    ) -> Option<&mut crate::records::DomainRecord> {
        match self.state.term_keys.get(term)? {
            TopologyKey::Host => None,
            TopologyKey::Label(label) => {
                self.tables.domains.get_mut(usize::from(key.domain(*label).0))
            }
        }
    }

    fn count_pods_of(&mut self, at: u32, counting: Counting) {
        let mut index = self.tables.nodes.get(at as usize).map_or(NONE, |node| node.pods);
        while let Some(record) = self.tables.pods.get(index as usize) {
            let (pod, next) = (record.pod, record.next);
            self.count(&pod, at, counting);
            index = next;
        }
    }

    fn define_term(
        &mut self,
        term: TermIndex,
        key: TopologyKey,
        mut matches: impl FnMut(PodHandle, &Pod) -> bool,
    ) {
        let bit = usize::from(term);
        if AFFINITY_TERMS_MAX <= bit {
            return;
        }
        for index in 0..self.state.pods_fresh {
            let Some(record) = self.tables.pods.get(index as usize) else { continue };
            let (pod, at, life) = (record.pod, record.node, record.life);
            let had = pod.matches.contains(bit) || pod.repels.contains(bit);
            if at != NONE && had {
                self.count(&pod, at, Counting::Out);
                let mut without = pod;
                without.matches.remove(bit);
                without.repels.remove(bit);
                self.count(&without, at, Counting::In);
                self.rewrite(PodHandle { index, life }, without);
            }
        }
        if let Some(slot) = self.state.term_keys.get_mut(bit) {
            *slot = key;
        }
        for index in 0..self.state.pods_fresh {
            let Some(record) = self.tables.pods.get(index as usize) else { continue };
            let (pod, at, life) = (record.pod, record.node, record.life);
            let handle = PodHandle { index, life };
            if at != NONE && matches(handle, &pod) {
                let mut with = pod;
                if with.matches.insert(bit) {
                    self.count(&pod, at, Counting::Out);
                    self.count(&with, at, Counting::In);
                    self.rewrite(handle, with);
                }
            }
        }
    }

    fn rewrite(&mut self, handle: PodHandle, pod: Pod) {
        let Ok(record) = self.pod_mut(handle) else { return };
        record.pod = pod;
        let at = record.node;
        self.refresh(at);
    }

    /// Moves a node to the class with this key.
    fn reclass(&mut self, at: u32, key: &ClassKey) {
        let Some(old) = self.view().node(at).map(|node| node.class) else { return };
        if self.tables.classes.get(old as usize).is_some_and(|class| class.key == *key) {
            return;
        }
        self.unsettle(at);
        // There are two more classes than nodes, so there is one.
        if let Some(new) = classes::enter(&mut self.state.classes, self.tables.classes, key) {
            classes::leave(&mut self.state.classes, self.tables.classes, old);
            if let Some(node) = self.node_mut(at) {
                node.class = new;
            }
        }
    }

    /// Puts a node into the cell of what is free on it.
    pub(crate) fn settle(&mut self, at: u32) {
        let Some(node) = self.tables.nodes.get(at as usize) else { return };
        let Some(class) = self.tables.classes.get(node.class as usize) else { return };
        let (old, number) = (node.cell, node.class);
        if let Some(cheapest) = self.tables.cheapest.get_mut(at as usize) {
            (cheapest.cpu_free, cheapest.mib_free) = (node.free_cpu(), mib(node.free_memory()));
        }
        let new = if node.is_closed() { Cell::OUT } else { fit::cell(node, &class.key) };
        let entry = Entry {
            key: order::key(number, new) | u64::from(at),
            cpu: node.free_cpu(),
            memory_kib: memory_kib(node.free_memory()),
        };
        if old == new {
            if new != Cell::OUT {
                self.order().update(entry);
            }
            return;
        }
        self.unsettle(at);
        if new == Cell::OUT {
            return;
        }
        self.order().insert(entry);
        if let Some(node) = self.tables.nodes.get_mut(at as usize) {
            node.cell = new;
        }
        if let Some(class) = self.tables.classes.get_mut(number as usize) {
            class.mark(new);
        }
    }

    /// Takes a node out of its cell.
    fn unsettle(&mut self, at: u32) {
        let Some(node) = self.tables.nodes.get_mut(at as usize) else { return };
        let (cell, number) = (node.cell, node.class);
        if cell == Cell::OUT {
            return;
        }
        node.cell = Cell::OUT;
        let first = order::key(number, cell);
        self.order().remove(first | u64::from(at));
        let view = self.view();
        let next = order::key(number, Cell(cell.0 + 1));
        if view.order().range(first, next, 0, 0).next().is_none()
            && let Some(class) = self.tables.classes.get_mut(number as usize)
        {
            class.unmark(cell);
        }
    }
}

/// Whether a pod comes or goes.
#[derive(Copy, Clone, Debug)]
enum Counting {
    In,
    Out,
}

impl Counting {
    fn apply(self, count: u32) -> u32 {
        match self {
            Self::In => count.saturating_add(1),
            Self::Out => count.saturating_sub(1),
        }
    }

    fn apply16(self, count: u16) -> u16 {
        match self {
            Self::In => count.saturating_add(1),
            Self::Out => count.saturating_sub(1),
        }
    }
}

/// Free memory in KiB, rounded up.
pub(crate) fn memory_kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

fn devices_of(offer: &NodeOffer) -> u8 {
    // DEVICES_MAX is 8.
    offer.devices.min(DEVICES_MAX as u8)
}

fn extended_of(node: &NodeRecord) -> u8 {
    let free = node.free().extended;
    (0_u8..).zip(&free).filter(|(_, free)| **free != 0).fold(0, |bits, (bit, _)| bits | 1 << bit)
}

/// What the offer says of a node's class; ports and terms of its pods are not in it.
fn class_key_of(offer: &NodeOffer, node: &NodeRecord) -> ClassKey {
    let Amounts { cpu_milli, memory_bytes, .. } = offer.allocatable;
    let (cpu_step, memory_step) = fit::steps(cpu_milli, memory_bytes);
    ClassKey {
        taints: offer.taints,
        soft_taints: offer.soft_taints,
        meets: offer.meets,
        domains: offer.domains.map(|domain| domain.0),
        cpu_step,
        memory_step,
        unschedulable: offer.unschedulable,
        devices: devices_of(offer),
        extended: extended_of(node),
        ..ClassKey::default()
    }
}

/// Takes thousandths from each device in the mask; never below zero.
pub(crate) fn take(free: &mut [u16; DEVICES_MAX], mask: u8, milli: u16) {
    for (bit, slot) in free.iter_mut().enumerate() {
        if mask & 1 << bit != 0 {
            *slot = slot.saturating_sub(milli);
        }
    }
}

impl NodeRecord {
    pub(crate) fn take(&mut self, pod: &Pod, devices: u8) {
        self.used = self.used.saturating_add(&pod.requests);
        self.limits.cpu_milli = self.limits.cpu_milli.saturating_add(pod.limits.cpu_milli);
        self.limits.memory_bytes = self.limits.memory_bytes.saturating_add(pod.limits.memory_bytes);
        take(&mut self.devices_free, devices, pod.devices.milli());
    }

    /// What is left of its devices is made anew from the pods that stay.
    pub(crate) fn give_back(&mut self, pod: &Pod) {
        self.used = self.used.saturating_sub(&pod.requests);
        self.limits.cpu_milli = self.limits.cpu_milli.saturating_sub(pod.limits.cpu_milli);
        self.limits.memory_bytes = self.limits.memory_bytes.saturating_sub(pod.limits.memory_bytes);
    }
}
