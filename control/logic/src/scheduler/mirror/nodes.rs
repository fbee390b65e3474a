//! Nodes in the mirror.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{
    quantity::ResourceList,
    views::{NodeView, Taint},
};
use sched_core::{NodeIndex, NodeOffer, Requirements, TAINTS_MAX};

use super::{Mirror, Stage};
use crate::scheduler::{
    amounts::{Side, amounts},
    interned::Number,
    term::Labels,
    topology::{Domains, NOWHERE},
};

/// This bit stands for all taints beyond the table: only who tolerates every taint tolerates it.
pub(crate) const TAINT_BEYOND: usize = TAINTS_MAX - 1;

/// What the mirror needs of a node's object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    unschedulable: bool,
    labels: Labels,
    taints: Vec<Taint>,
    allocatable: ResourceList,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: NodeIndex,
    facts: Facts,
    /// Bits of its taints that pods mind, as its spec orders them.
    pub(crate) taints: Vec<usize>,
    held: Held,
    domains: Domains,
    /// It has taints or resources that got no number.
    lacks: bool,
}

/// Numbers that are a node's.
#[derive(Debug, Default)]
struct Held {
    taints: Vec<usize>,
    resources: Vec<usize>,
}

impl Mirror {
    /// Mirrors a node as it is now. Gives whether a pod may fit now that did not before.
    pub(crate) fn node_changed(&mut self, view: &NodeView) -> bool {
        let facts = Facts {
            unschedulable: view.spec.unschedulable,
            labels: view.metadata.labels.clone(),
            taints: view
                .spec
                .taints
                .iter()
                .map(|one| Taint { time_added: None, ..one.clone() })
                .collect(),
            allocatable: view.status.allocatable.clone(),
        };
        let name = view.metadata.name.as_str();
        if self.nodes.get(name).is_some_and(|node| node.facts == facts) {
            return false;
        }
        self.begin();
        self.offer(name, facts);
        self.offer_what_lacked();
        true
    }

    /// A node is gone, and its pods with it until it comes back.
    pub(crate) fn node_gone(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else { return };
        self.names.remove(&node.index);
        let known = self.placement.remove_node(node.index);
        debug_assert_eq!(known, Ok(()), "a node of the table is live");
        self.topology.leave(&node.domains);
        self.release_of_node(&node.held);
        self.lose_pods_of(name);
        self.begin();
        self.offer_what_lacked();
    }

    /// Offers what is known of a node to the core; the node may be new.
    fn offer(&mut self, name: &str, facts: Facts) {
        let (offer, held, taints, lacks) = self.describe_node(name, &facts);
        let before = self.nodes.get(name).map_or(NOWHERE, |node| node.domains);
        let domains = self.topology.enter(&facts.labels, &before);
        self.make_room_for_domains();
        let offer = NodeOffer { domains, ..offer };
        if let Some(node) = self.nodes.get_mut(name) {
            let known = self.placement.update_node(node.index, &offer);
            debug_assert_eq!(known, Ok(()), "a node of the table is live");
            let old = core::mem::replace(&mut node.held, held);
            (node.facts, node.taints, node.domains, node.lacks) = (facts, taints, domains, lacks);
            self.release_of_node(&old);
            return;
        }
        // Grown until there is room.
        let Ok(index) = self.grown(|placement| placement.add_node(&offer)) else { return };
        self.names.insert(index, name.to_string());
        let node = Node { index, facts, taints, held, domains, lacks };
        self.nodes.insert(name.to_string(), node);
        self.settle_pods_of(name);
    }

    fn describe_node(&mut self, name: &str, facts: &Facts) -> (NodeOffer, Held, Vec<usize>, bool) {
        let mut lacks = false;
        let allocatable =
            amounts(&facts.allocatable, Side::Offered, &mut self.resources, |_| lacks = true);
        let numbers = facts.allocatable.keys().filter_map(|name| self.resources.find(name));
        let mut held = Held { taints: Vec::new(), resources: numbers.collect() };
        for number in &held.resources {
            self.resources.hold(*number);
        }
        let mut offer = NodeOffer {
            unschedulable: facts.unschedulable,
            allocatable,
            meets: self.met_by(name, &facts.labels),
            ..NodeOffer::default()
        };
        let mut minded = Vec::new();
        for taint in &facts.taints {
            let bit = match self.taints.want(taint.clone()) {
                Some(Number::Known(bit) | Number::New(bit)) => {
                    self.taints.hold(bit);
                    held.taints.push(bit);
                    bit
                }
                None => {
                    lacks = true;
                    TAINT_BEYOND
                }
            };
            let fits = if taint.effect == "PreferNoSchedule" {
                offer.soft_taints.insert(bit)
            } else {
                minded.push(bit);
                offer.taints.insert(bit)
            };
            debug_assert!(fits, "below TAINTS_MAX");
        }
        (offer, held, minded, lacks)
    }

    /// All requirements that a node meets.
    fn met_by(&self, name: &str, labels: &BTreeMap<String, String>) -> Requirements {
        let mut meets = Requirements::EMPTY;
        for (bit, requirement) in self.requirements.iter() {
            let fits = !requirement.is_met(name, labels) || meets.insert(bit);
            debug_assert!(fits, "below REQUIREMENTS_MAX");
        }
        meets
    }

    fn release_of_node(&mut self, held: &Held) {
        for bit in &held.taints {
            self.taints.release(*bit);
        }
        for number in &held.resources {
            self.resources.release(*number);
        }
    }

    /// Numbers may be free now that nodes lacked.
    fn offer_what_lacked(&mut self) {
        let lacking = self.nodes.iter().filter(|(_, node)| node.lacks);
        let lacking: Vec<(String, Facts)> =
            lacking.map(|(name, node)| (name.clone(), node.facts.clone())).collect();
        for (name, facts) in lacking {
            self.offer(&name, facts);
        }
    }

    /// A requirement has a bit now: nodes are looked at for it.
    pub(super) fn define_requirement(&mut self, bit: usize) {
        let Some(requirement) = self.requirements.get(bit) else { return };
        for (name, node) in &self.nodes {
            let Some(mut offer) = self.placement.offer(node.index) else { continue };
            let is_met = requirement.is_met(name, &node.facts.labels);
            if offer.meets.contains(bit) == is_met {
                continue;
            }
            offer.meets.remove(bit);
            let fits = !is_met || offer.meets.insert(bit);
            debug_assert!(fits, "below REQUIREMENTS_MAX");
            let known = self.placement.update_node(node.index, &offer);
            debug_assert_eq!(known, Ok(()), "a node of the table is live");
        }
    }

    /// A topology key has a number now, or another one than before: nodes go to their domains.
    pub(super) fn define_domains(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            let domains = self.topology.enter(&node.facts.labels, &node.domains);
            node.domains = domains;
            let index = node.index;
            self.make_room_for_domains();
            let Some(offer) = self.placement.offer(index) else { continue };
            let known = self.placement.update_node(index, &NodeOffer { domains, ..offer });
            debug_assert_eq!(known, Ok(()), "a node of the table is live");
        }
    }

    fn make_room_for_domains(&mut self) {
        let domains = self.topology.len();
        self.placement.storage_mut().set_domains(domains);
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    fn lose_pods_of(&mut self, name: &str) {
        let mut kept = Vec::new();
        for (uid, pod) in self.pods.iter_mut().filter(|(_, pod)| pod.node == name) {
            if let Some(handle) = pod.handle.take() {
                self.handles.remove(&handle);
            }
            if pod.stage == Stage::Nominated {
                kept.push(uid.clone());
            }
        }
        for uid in kept {
            self.pod_gone(&uid);
        }
    }
}
