//! The cluster as `sched-core` sees it: names become numbers, and what is said of nodes and pods becomes bits.
//!
//! | part | what |
//! |---|---|
//! | [`nodes`] | nodes, their taints, labels, amounts, domains |
//! | [`pods`] | pods that have a node, are being bound, or have a node kept for them |
//! | [`questions`] | a pod's spec as a question to the core |
//! | [`words`] | terms, requirements and keys get their numbers |

mod nodes;
mod pods;
mod questions;
mod words;

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::{PodView, Taint};
use sched_core::{
    AFFINITY_TERMS_MAX, Ask, EXTENDED_RESOURCES, Error, HOST_PORTS_MAX, NodeIndex, Placement,
    PodHandle, Preemption, Profile, REQUIREMENTS_MAX, TAINTS_MAX, Table,
};

use self::{nodes::Node, pods::Pod};
pub(crate) use self::{nodes::TAINT_BEYOND, pods::Stage, questions::Question};
use super::{
    amounts::Resources,
    interned::Interned,
    limits::{NODES_GROWTH, PODS_GROWTH, WORKLOAD_ANSWERS},
    ports::HostPort,
    refusal::Preempting,
    requirement::Requirement,
    term::{Labels, Term},
    topology::Topology,
};

sched_core::tables_in_vecs! {
    /// The core's tables, on the heap.
    pub(crate) struct Tables;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) placement: Placement<Tables>,
    nodes: BTreeMap<String, Node>,
    names: BTreeMap<NodeIndex, String>,
    /// By uid.
    pods: BTreeMap<String, Pod>,
    /// Uids of the pods that the core knows.
    handles: BTreeMap<PodHandle, String>,
    /// Labels of namespaces.
    namespaces: BTreeMap<String, Labels>,
    taints: Interned<Taint>,
    requirements: Interned<Requirement>,
    resources: Resources,
    ports: Interned<HostPort>,
    terms: Interned<Term>,
    topology: Topology,
}

/// A pod that must leave for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It has its place in the mirror; the binding is to be written.
    Assumed {
        /// Name of the node.
        node: String,
    },
    /// A node is kept for it.
    Nominated {
        /// Name of the node.
        node: String,
        /// Who must leave; nobody, if they are leaving already.
        victims: Vec<Victim>,
        /// Pods of lower priority for which that room was kept until now.
        displaced: Vec<Victim>,
        /// Why it has no place now.
        text: String,
    },
    /// No node takes it.
    Refused {
        /// Why.
        text: String,
    },
}

impl Mirror {
    /// An empty cluster.
    pub(crate) fn new(profile: Profile) -> Self {
        let mut placement = Placement::new(Tables::default(), profile);
        if profile.fragmentation_weight != 0 {
            placement.storage_mut().set_workload(WORKLOAD_ANSWERS);
        }
        Self {
            placement,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            pods: BTreeMap::new(),
            handles: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            // The last number stands for all taints beyond.
            taints: Interned::new(TAINTS_MAX - 1),
            requirements: Interned::new(REQUIREMENTS_MAX),
            resources: Interned::new(EXTENDED_RESOURCES),
            ports: Interned::new(HOST_PORTS_MAX),
            terms: Interned::new(AFFINITY_TERMS_MAX),
            topology: Topology::default(),
        }
    }

    /// How many nodes there are.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn name_of(&self, index: NodeIndex) -> &str {
        self.names.get(&index).map_or("", String::as_str)
    }

    pub(crate) fn resource_name(&self, number: u8) -> &str {
        self.resources.get(usize::from(number)).map_or("", String::as_str)
    }

    pub(crate) fn taint(&self, bit: usize) -> Option<&Taint> {
        self.taints.get(bit)
    }

    /// Decides on a pod: gives it a place, makes room for it, or says why neither can be done.
    pub(crate) fn decide(&mut self, pod: &PodView) -> Decision {
        let question = match self.question(pod) {
            Ok(question) => question,
            Err(text) => return Decision::Refused { text },
        };
        let uid = pod.metadata.uid.as_str();
        if let Some(node) = self.take_up(uid) {
            return Decision::Assumed { node };
        }
        if pod.status.condition("PodScheduled").is_none() {
            // Its first time.
            self.placement.observe(&question.ask);
        }
        if let Some(index) = self.placement.place(&question.ask) {
            return self.assume(pod, &question.ask, index);
        }
        if self.stage(uid) == Some(Stage::Nominated) {
            return self.refused(&question, Preempting::LEAVING);
        }
        self.preempt(pod, &question)
    }

    fn assume(&mut self, pod: &PodView, ask: &Ask, index: NodeIndex) -> Decision {
        // Another node than the one kept for it: that one is free for others.
        self.pod_gone(&pod.metadata.uid);
        match self.grown(|placement| placement.assume(ask, index)) {
            Ok(handle) => {
                let node = self.name_of(index).to_string();
                self.enter(pod, ask.pod, &node, Some(handle), Stage::Assumed);
                Decision::Assumed { node }
            }
            // What `place` gave fits, and there is room in the tables.
            Err(error) => Decision::Refused {
                text: alloc::format!(
                    "internal error: node {} was chosen and then refused: {error:?}",
                    self.name_of(index)
                ),
            },
        }
    }

    fn preempt(&mut self, pod: &PodView, question: &Question) -> Decision {
        if pod.spec.preemption_policy.as_deref() == Some("Never") {
            return self.refused(question, Preempting::NEVER);
        }
        if self.waits_for_endings(pod) {
            // Others were made to leave for it before a restart: the node is kept for it again.
            let text = self.refusal_text(question, Preempting::LEAVING);
            let leaving = self.leaving_for(pod, &question.ask);
            let kept = leaving
                .and_then(|leaving| self.nominate(pod, question, &leaving, Vec::new(), &text));
            return kept.unwrap_or(Decision::Refused { text });
        }
        let text = self.refusal_text(question, Preempting::Helps);
        let mut displaced = Vec::new();
        loop {
            let Some(chosen) = self.placement.preempt(&question.ask) else { break };
            // Room that is kept for pods of lower priority is just taken.
            let kept: Vec<String> = chosen
                .victims
                .iter()
                .filter_map(|victim| self.handles.get(victim))
                .filter(|uid| self.stage(uid) == Some(Stage::Nominated))
                .cloned()
                .collect();
            if kept.is_empty() {
                if let Some(decision) = self.nominate(pod, question, &chosen, displaced, &text) {
                    return decision;
                }
                break;
            }
            for uid in kept {
                displaced.extend(self.victim(&uid));
                self.pod_gone(&uid);
            }
            if let Some(index) = self.placement.place(&question.ask) {
                // Those who are leaving must be gone first: the room is theirs until then.
                let nobody = Preemption {
                    node: index,
                    victims: sched_core::Victims::new(),
                    cost: chosen.cost,
                };
                if let Some(decision) = self.nominate(pod, question, &nobody, displaced, &text) {
                    return decision;
                }
                break;
            }
        }
        self.refused(question, Preempting::Fails)
    }

    fn refused(&self, question: &Question, preempting: Preempting) -> Decision {
        Decision::Refused { text: self.refusal_text(question, preempting) }
    }

    fn nominate(
        &mut self,
        pod: &PodView,
        question: &Question,
        chosen: &Preemption,
        displaced: Vec<Victim>,
        text: &str,
    ) -> Option<Decision> {
        let uids: Vec<String> =
            chosen.victims.iter().filter_map(|one| self.handles.get(one).cloned()).collect();
        let handle = self.grown(|placement| placement.nominate(&question.ask, chosen)).ok()?;
        let node = self.name_of(chosen.node).to_string();
        self.enter(pod, question.ask.pod, &node, Some(handle), Stage::Nominated);
        let alive = uids.iter().filter(|uid| !self.is_ending(uid));
        let victims = alive.filter_map(|uid| self.victim(uid)).collect();
        Some(Decision::Nominated { node, victims, displaced, text: text.to_string() })
    }

    /// Tries again with more room where a table is full.
    fn grown<T>(
        &mut self,
        mut ask: impl FnMut(&mut Placement<Tables>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match ask(&mut self.placement) {
                Err(Error::Full(table)) => {
                    let storage = self.placement.storage_mut();
                    match table {
                        Table::Pods => storage.grow_pods(PODS_GROWTH),
                        Table::Nodes | Table::Classes | Table::Blocks => {
                            storage.grow_nodes(NODES_GROWTH);
                        }
                    }
                }
                done => return done,
            }
        }
    }

    /// What is wanted from now on is another question's.
    fn begin(&mut self) {
        self.taints.begin();
        self.requirements.begin();
        self.resources.begin();
        self.ports.begin();
        self.terms.begin();
        self.topology.keys.begin();
    }
}
