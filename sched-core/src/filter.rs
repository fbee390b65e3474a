//! Which nodes can take a pod, and why the others cannot, in the order in which Kubernetes' filters look.

use crate::{
    amounts::Resource,
    limits::{EXTENDED_RESOURCES, TAINTS_MAX},
    table::{Ask, NodeRecord},
};

/// Why one node does not take a pod.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `spec.unschedulable`.
    Unschedulable,
    /// A hard taint that is not tolerated, by its interned number.
    Taint(usize),
    /// Node selector or required node affinity.
    Requirements,
    /// Not enough of this.
    Insufficient(Resource),
}

/// Why no node takes a pod: each node is counted once, under its first reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Nodes looked at.
    pub nodes: u32,
    /// Nodes that are unschedulable.
    pub unschedulable: u32,
    /// Nodes by the first taint that is not tolerated.
    pub taint: [u32; TAINTS_MAX],
    /// Nodes that do not meet the requirements.
    pub requirements: u32,
    /// Nodes by the first resource that is short: cpu, memory, ephemeral storage, pods, then the extended ones.
    pub insufficient: [u32; 4 + EXTENDED_RESOURCES],
}

impl Refusal {
    pub(crate) const NONE: Self = Self {
        nodes: 0,
        unschedulable: 0,
        taint: [0; TAINTS_MAX],
        requirements: 0,
        insufficient: [0; 4 + EXTENDED_RESOURCES],
    };

    pub(crate) fn count(&mut self, reason: Reason) {
        self.nodes = self.nodes.saturating_add(1);
        let place = match reason {
            Reason::Unschedulable => Some(&mut self.unschedulable),
            Reason::Taint(bit) => self.taint.get_mut(bit),
            Reason::Requirements => Some(&mut self.requirements),
            Reason::Insufficient(resource) => self.insufficient.get_mut(Self::slot(resource)),
        };
        if let Some(place) = place {
            *place = place.saturating_add(1);
        }
    }

    /// How many nodes are short of this resource.
    pub fn insufficient_in(&self, resource: Resource) -> u32 {
        self.insufficient.get(Self::slot(resource)).copied().unwrap_or(0)
    }

    fn slot(resource: Resource) -> usize {
        match resource {
            Resource::Cpu => 0,
            Resource::Memory => 1,
            Resource::EphemeralStorage => 2,
            Resource::Pods => 3,
            Resource::Extended(index) => 4 + usize::from(index),
        }
    }
}

/// The first constraint by which this node refuses; `None`: it can take the pod.
pub(crate) fn refuses(node: &NodeRecord, ask: &Ask) -> Option<Reason> {
    let offer = node.offer();
    if offer.unschedulable && !ask.tolerates_unschedulable {
        return Some(Reason::Unschedulable);
    }
    if let Some(bit) = offer.taints.first_missing_from(&ask.tolerates) {
        return Some(Reason::Taint(bit));
    }
    if !ask.terms.are_met_by(&offer.meets) {
        return Some(Reason::Requirements);
    }
    let free = offer.allocatable.saturating_sub(node.used());
    ask.requests.first_beyond(&free).map(Reason::Insufficient)
}
