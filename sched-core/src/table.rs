//! The mirror: nodes, pods on them, and the choice.

use crate::{
    amounts::Amounts,
    bits::Bits,
    filter::{Reason, Refusal, refuses},
    limits::{NODE_RECORD_BYTES_MAX, REQUIREMENTS_MAX, TAINTS_MAX, TERMS_MAX},
    score::score,
};

/// Interned taints.
pub type Taints = Bits<{ TAINTS_MAX / 64 }>;
/// Interned node requirements.
pub type Requirements = Bits<{ REQUIREMENTS_MAX / 64 }>;

/// A node's place in the table. Reused after the node is removed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// A pod's place in the table, with the life it stands for: one of a removed pod is answered with [`Error::Stale`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodHandle {
    index: u32,
    life: u32,
}

/// What a node offers to pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeOffer {
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What pods may use.
    pub allocatable: Amounts,
    /// NoSchedule and NoExecute taints.
    pub taints: Taints,
    /// PreferNoSchedule taints.
    pub soft_taints: Taints,
    /// Node requirements that it meets.
    pub meets: Requirements,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub struct NodeRecord {
    /// In use; an unused record is free for the next node.
    live: bool,
    offer: NodeOffer,
    /// Invariant: the sum over the pods of the pod table that are on it.
    used: Amounts,
}

const _: () = assert!(size_of::<NodeRecord>() <= NODE_RECORD_BYTES_MAX);

impl NodeRecord {
    /// What it offers.
    pub fn offer(&self) -> &NodeOffer {
        &self.offer
    }

    /// What pods on it use.
    pub fn used(&self) -> &Amounts {
        &self.used
    }
}

/// One pod that has a node.
#[derive(Clone, Debug, Default)]
pub struct PodRecord {
    node: Option<u32>,
    life: u32,
    assumed: bool,
    requests: Amounts,
}

/// Alternatives of required node affinity: one must be met whole. None at all: every node will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms(heapless::Vec<Requirements, TERMS_MAX>);

impl Terms {
    /// Adds an alternative. Gives `false` if there are [`TERMS_MAX`] already.
    #[must_use = "an alternative that does not fit is not looked at"]
    pub fn push(&mut self, all_of: Requirements) -> bool {
        self.0.push(all_of).is_ok()
    }

    pub(crate) fn are_met_by(&self, meets: &Requirements) -> bool {
        self.0.is_empty() || self.0.iter().any(|all_of| all_of.is_subset(meets))
    }
}

/// What a pod asks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Of each resource; `pods` is 1.
    pub requests: Amounts,
    /// Hard taints that it tolerates.
    pub tolerates: Taints,
    /// Soft taints that it tolerates.
    pub tolerates_soft: Taints,
    /// Tolerates `node.kubernetes.io/unschedulable`.
    pub tolerates_unschedulable: bool,
    /// Node selector and required node affinity.
    pub terms: Terms,
}

/// Why a table operation was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No record is free: the caller grows its storage.
    Full,
    /// There is no such node.
    NoNode,
    /// The handle is of a pod that is gone.
    Stale,
    /// The node refuses the pod (P1).
    Refused(Reason),
}

/// Nodes and the pods on them. `N` and `P` are the caller's storage: anything that is a slice of records.
#[derive(Clone, Debug)]
pub struct Placement<N, P> {
    nodes: N,
    pods: P,
}

impl<N: AsRef<[NodeRecord]> + AsMut<[NodeRecord]>, P: AsRef<[PodRecord]> + AsMut<[PodRecord]>>
    Placement<N, P>
{
    /// Takes storage of default records.
    pub fn new(nodes: N, pods: P) -> Self {
        Self { nodes, pods }
    }

    /// The storage, to be grown: records may be added at the end, never taken away or moved.
    pub fn storage(&mut self) -> (&mut N, &mut P) {
        (&mut self.nodes, &mut self.pods)
    }

    /// Adds a node without pods.
    pub fn add_node(&mut self, offer: NodeOffer) -> Result<NodeIndex, Error> {
        let free = (0_u32..).zip(self.nodes.as_mut()).find(|(_, slot)| !slot.live);
        let (index, slot) = free.ok_or(Error::Full)?;
        *slot = NodeRecord { live: true, offer, used: Amounts::ZERO };
        Ok(NodeIndex(index))
    }

    /// Replaces what a node offers; its pods stay (P2), even if they no longer fit.
    pub fn update_node(&mut self, at: NodeIndex, offer: NodeOffer) -> Result<(), Error> {
        self.node_mut(at)?.offer = offer;
        Ok(())
    }

    /// Removes a node and its pods from the mirror.
    pub fn remove_node(&mut self, at: NodeIndex) -> Result<(), Error> {
        *self.node_mut(at)? = NodeRecord::default();
        for pod in self.pods.as_mut().iter_mut().filter(|pod| pod.node == Some(at.0)) {
            pod.node = None;
            pod.life = pod.life.wrapping_add(1);
        }
        Ok(())
    }

    /// A node's record.
    pub fn node(&self, at: NodeIndex) -> Option<&NodeRecord> {
        let index = usize::try_from(at.0).ok()?;
        self.nodes.as_ref().get(index).filter(|node| node.live)
    }

    /// All nodes, by index.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &NodeRecord)> {
        (0_u32..)
            .zip(self.nodes.as_ref())
            .filter(|(_, node)| node.live)
            .map(|(index, node)| (NodeIndex(index), node))
    }

    /// Lets `change` set or clear requirements of each node (a new requirement was interned).
    pub fn update_requirements(&mut self, mut change: impl FnMut(NodeIndex, &mut Requirements)) {
        for (index, node) in (0_u32..).zip(self.nodes.as_mut()).filter(|(_, node)| node.live) {
            change(NodeIndex(index), &mut node.offer.meets);
        }
    }

    /// The node that this pod fits best, by a scan over all nodes; of equals the lowest index (P3). Or why none takes it (P4).
    #[expect(
        clippy::result_large_err,
        reason = "there is no allocator to box it with, and it is the rare way out"
    )]
    pub fn place(&self, ask: &Ask) -> Result<NodeIndex, Refusal> {
        let mut best: Option<(i64, NodeIndex)> = None;
        let mut refusal = Refusal::NONE;
        for (index, node) in self.nodes() {
            if let Some(reason) = refuses(node, ask) {
                refusal.count(reason);
                continue;
            }
            let score = score(node, ask);
            if best.is_none_or(|(so_far, _)| so_far < score) {
                best = Some((score, index));
            }
        }
        best.map(|(_, index)| index).ok_or(refusal)
    }

    /// Whether and why one node refuses this pod.
    pub fn why_not(&self, at: NodeIndex, ask: &Ask) -> Result<Option<Reason>, Error> {
        self.node(at).map(|node| refuses(node, ask)).ok_or(Error::NoNode)
    }

    /// Gives a pod its node before the binding is written. Refuses what does not fit (P1).
    pub fn assume(&mut self, ask: &Ask, at: NodeIndex) -> Result<PodHandle, Error> {
        match self.why_not(at, ask)? {
            Some(reason) => Err(Error::Refused(reason)),
            None => self.enter(&ask.requests, at, true),
        }
    }

    /// Enters a pod that is bound already, whoever bound it: the world is mirrored as it is, fitting or not.
    pub fn add_bound(&mut self, requests: &Amounts, at: NodeIndex) -> Result<PodHandle, Error> {
        self.enter(requests, at, false)
    }

    fn enter(
        &mut self,
        requests: &Amounts,
        at: NodeIndex,
        assumed: bool,
    ) -> Result<PodHandle, Error> {
        self.node_mut(at)?;
        let free = (0_u32..).zip(self.pods.as_mut()).find(|(_, slot)| slot.node.is_none());
        let (index, slot) = free.ok_or(Error::Full)?;
        *slot = PodRecord { node: Some(at.0), life: slot.life, assumed, requests: *requests };
        let life = slot.life;
        let node = self.node_mut(at)?;
        node.used = node.used.saturating_add(requests);
        Ok(PodHandle { index, life })
    }

    /// The binding of an assumed pod was written.
    pub fn confirm(&mut self, pod: PodHandle) -> Result<(), Error> {
        self.pod_mut(pod)?.assumed = false;
        Ok(())
    }

    /// The binding of an assumed pod was refused. A bound pod stays (P2): gives `Stale`.
    pub fn forget(&mut self, pod: PodHandle) -> Result<(), Error> {
        if !self.pod_mut(pod)?.assumed {
            return Err(Error::Stale);
        }
        self.remove_pod(pod)
    }

    /// The pod is gone or has ended.
    pub fn remove_pod(&mut self, pod: PodHandle) -> Result<(), Error> {
        let slot = self.pod_mut(pod)?;
        let (node, requests) = (slot.node.take(), slot.requests);
        slot.life = slot.life.wrapping_add(1);
        if let Some(node) = node {
            let node = self.node_mut(NodeIndex(node))?;
            node.used = node.used.saturating_sub(&requests);
        }
        Ok(())
    }

    fn node_mut(&mut self, at: NodeIndex) -> Result<&mut NodeRecord, Error> {
        let index = usize::try_from(at.0).map_err(|_| Error::NoNode)?;
        self.nodes.as_mut().get_mut(index).filter(|node| node.live).ok_or(Error::NoNode)
    }

    fn pod_mut(&mut self, pod: PodHandle) -> Result<&mut PodRecord, Error> {
        let index = usize::try_from(pod.index).map_err(|_| Error::Stale)?;
        let slot = self.pods.as_mut().get_mut(index);
        slot.filter(|slot| slot.life == pod.life && slot.node.is_some()).ok_or(Error::Stale)
    }
}

#[cfg(test)]
mod tests;
