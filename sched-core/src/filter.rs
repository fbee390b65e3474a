//! Which nodes can take a pod, and why the others cannot, in the order in which Kubernetes' filters look.

use crate::{
    amounts::Resource,
    ask::Ask,
    limits::{EXTENDED_RESOURCES, TAINTS_MAX},
    question::Question,
    records::{ClassKey, NodeRecord},
    view::View,
};

/// Why one node does not take a pod.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `spec.unschedulable`.
    Unschedulable,
    /// It is not the node that the pod is for.
    Name,
    /// A taint that is not tolerated, by its interned number.
    Taint(usize),
    /// Node selector or required node affinity.
    Affinity,
    /// The image is not for such a node.
    Image,
    /// A host port is taken.
    Ports,
    /// Not enough of this.
    Insufficient(Resource),
    /// Volume node affinity.
    Volumes,
    /// Topology spread: the node lacks the label.
    SpreadLabel,
    /// Topology spread.
    Spread,
    /// Required pod affinity.
    PodAffinity,
    /// Required pod anti-affinity of the pod.
    PodAntiAffinity,
    /// Required pod anti-affinity of a pod that is there.
    ExistingAntiAffinity,
}

/// Why no node takes a pod: each node is counted under its first reason; one that lacks several resources under each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Nodes looked at.
    pub nodes: u32,
    /// Nodes that would take it after all.
    pub fitting: u32,
    /// Nodes by the first taint that is not tolerated.
    pub taint: [u32; TAINTS_MAX],
    others: [u32; 11],
    insufficient: [u32; 5 + EXTENDED_RESOURCES],
}

impl Refusal {
    pub(crate) const NONE: Self = Self {
        nodes: 0,
        fitting: 0,
        taint: [0; TAINTS_MAX],
        others: [0; 11],
        insufficient: [0; 5 + EXTENDED_RESOURCES],
    };

    fn count(&mut self, reason: Reason) {
        if let Some(slot) = self.slot(reason) {
            *slot = slot.saturating_add(1);
        }
    }

    fn slot(&mut self, reason: Reason) -> Option<&mut u32> {
        if let Reason::Taint(bit) = reason {
            return self.taint.get_mut(bit);
        }
        if let Reason::Insufficient(resource) = reason {
            return self.insufficient.get_mut(place_of(resource));
        }
        self.others.get_mut(number_of(reason))
    }

    /// How many nodes were counted under this reason.
    pub fn of(&self, reason: Reason) -> u32 {
        if let Reason::Taint(bit) = reason {
            return self.taint.get(bit).copied().unwrap_or(0);
        }
        if let Reason::Insufficient(resource) = reason {
            return self.insufficient.get(place_of(resource)).copied().unwrap_or(0);
        }
        self.others.get(number_of(reason)).copied().unwrap_or(0)
    }
}

fn place_of(resource: Resource) -> usize {
    match resource {
        Resource::Cpu => 0,
        Resource::Memory => 1,
        Resource::EphemeralStorage => 2,
        Resource::Pods => 3,
        Resource::Devices => 4,
        Resource::Extended(index) => 5 + usize::from(index),
    }
}

fn number_of(reason: Reason) -> usize {
    match reason {
        Reason::Unschedulable => 0,
        Reason::Name => 1,
        Reason::Affinity => 2,
        Reason::Image => 3,
        Reason::Ports => 4,
        Reason::Volumes => 5,
        Reason::SpreadLabel => 6,
        Reason::Spread => 7,
        Reason::PodAffinity => 8,
        Reason::PodAntiAffinity => 9,
        Reason::ExistingAntiAffinity => 10,
        // Counted elsewhere.
        Reason::Taint(_) | Reason::Insufficient(_) => usize::MAX,
    }
}

/// Constraints before the amounts that a whole class of nodes shares.
pub(crate) fn before_amounts(ask: &Ask, key: &ClassKey) -> Option<Reason> {
    if key.unschedulable && !ask.tolerates_unschedulable {
        return Some(Reason::Unschedulable);
    }
    if let Some(bit) = key.taints.first_missing_from(&ask.tolerates) {
        return Some(Reason::Taint(bit));
    }
    if !ask.affinity.are_met_by(&key.meets) {
        return Some(Reason::Affinity);
    }
    if !ask.image.is_subset(&key.meets) {
        return Some(Reason::Image);
    }
    key.ports.intersects(&ask.ports_wanted).then_some(Reason::Ports)
}

/// Constraints after the amounts that a whole class of nodes shares. Spread over hosts is not among them.
pub(crate) fn after_amounts(
    view: &View<'_>,
    question: &Question<'_>,
    key: &ClassKey,
) -> Option<Reason> {
    if !question.ask.volumes.is_subset(&key.meets) {
        return Some(Reason::Volumes);
    }
    question.spread_reason(view, key, None).or_else(|| question.affinity_reason(view, key))
}

impl View<'_> {
    /// Whether no node of the class is refused by what the class shares.
    pub(crate) fn class_admits(&self, question: &Question<'_>, key: &ClassKey) -> bool {
        let pod = &question.ask.pod;
        // Any order gives the same answer: what is read and ruled out first is what differs most.
        !key.matching.intersects(&pod.repels)
            && !key.repelling.intersects(&pod.matches)
            && question.extended & !key.extended == 0
            && pod.devices.count() <= key.devices
            && before_amounts(question.ask, key).is_none()
            && (question.is_simple || after_amounts(self, question, key).is_none())
    }

    /// Whether the amounts of a node suffice.
    pub(crate) fn has_amounts(&self, question: &Question<'_>, node: &NodeRecord) -> bool {
        let pod = &question.ask.pod;
        !node.is_closed() && pod.requests.fits(&node.free()) && has_devices(question, node)
    }

    /// The first reason why a node refuses, in Kubernetes' order.
    pub(crate) fn reason(
        &self,
        question: &Question<'_>,
        at: u32,
        node: &NodeRecord,
    ) -> Option<Reason> {
        let key = self.class_key(node.class)?;
        let ask = question.ask;
        if key.unschedulable && !ask.tolerates_unschedulable {
            return Some(Reason::Unschedulable);
        }
        if ask.node.is_some_and(|only| only.0 != at) {
            return Some(Reason::Name);
        }
        before_amounts(ask, key)
            .or_else(|| {
                let suffice = self.has_amounts(question, node);
                let mut short = (!suffice).then(|| self.shortfalls(question, node))?;
                short.next().map(Reason::Insufficient)
            })
            .or_else(|| (!ask.volumes.is_subset(&key.meets)).then_some(Reason::Volumes))
            .or_else(|| question.spread_reason(self, key, Some(at)))
            .or_else(|| question.affinity_reason(self, key))
    }

    /// What a node lacks.
    pub(crate) fn shortfalls<'a>(
        &self,
        question: &Question<'a>,
        node: &NodeRecord,
    ) -> impl Iterator<Item = Resource> + use<'a> {
        let (requests, free) = (question.ask.pod.requests, node.free());
        let closed = node.is_closed();
        let devices = !has_devices(question, node);
        let each = free.each().zip(requests.each()).map(|((what, have), (_, ask))| {
            let short = ask != 0 && have < ask || closed && what == Resource::Pods;
            short.then_some(what)
        });
        // An iterator over values: `free` lives no longer than this call.
        let mut short: heapless::Vec<Resource, { 5 + EXTENDED_RESOURCES }> =
            each.flatten().collect();
        if devices {
            let fits = short.push(Resource::Devices).is_ok();
            debug_assert!(fits);
        }
        short.into_iter()
    }

    pub(crate) fn explain(&self, ask: &Ask) -> Refusal {
        let question = self.question(ask);
        let mut refusal = Refusal::NONE;
        for (at, node) in self.nodes() {
            refusal.nodes = refusal.nodes.saturating_add(1);
            match self.reason(&question, at, node) {
                None => refusal.fitting = refusal.fitting.saturating_add(1),
                Some(Reason::Insufficient(_)) => {
                    for resource in self.shortfalls(&question, node) {
                        refusal.count(Reason::Insufficient(resource));
                    }
                }
                Some(reason) => refusal.count(reason),
            }
        }
        refusal
    }
}

fn has_devices(question: &Question<'_>, node: &NodeRecord) -> bool {
    let devices = question.ask.pod.devices;
    let enough = node.devices_free().filter(|free| devices.milli() <= *free).count();
    usize::from(devices.count()) <= enough
}
