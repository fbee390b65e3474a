//! The mirror of a cluster: nodes, and the pods on them. What is asked of it is in the other modules.

use crate::{
    ask::{Ask, NodeOffer, Pod, TermIndex, Terms, TopologyKey},
    change::Core,
    classes::ClassState,
    filter::{Reason, Refusal},
    limits::{AFFINITY_TERMS_MAX, BUDGETS_MAX},
    order::OrderState,
    profile::Profile,
    records::{NONE, NodeRecord, PodRecord, PodState},
    storage::Storage,
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
    pub(crate) nodes_free: u32,
    pub(crate) nodes_fresh: u32,
    pub(crate) pods_free: u32,
    pub(crate) pods_fresh: u32,
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
        nodes.filter(|(_, node)| node.class != NONE).map(|(index, node)| (NodeIndex(index), node))
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

    /// What [`Self::place`] gives, by looking at each node in turn: its meaning, and what tests and benches hold it to.
    pub fn place_by_scan(&self, ask: &Ask) -> Option<NodeIndex> {
        self.view().place_by_scan(ask)
    }

    /// The score of a node for this pod, as [`Self::place`] compares them. It says nothing about whether it fits.
    pub fn score(&self, at: NodeIndex, ask: &Ask) -> Option<i64> {
        let view = self.view();
        view.node(at.0).map(|node| view.score(&view.question(ask), at.0, node))
    }

    /// Gives a pod its node before the binding is written. Refuses what does not fit (P1).
    pub fn assume(&mut self, ask: &Ask, at: NodeIndex) -> Result<PodHandle, Error> {
        self.core().assume(ask, at)
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
