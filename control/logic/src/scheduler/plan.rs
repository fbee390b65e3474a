//! Where pods would go, and why: the scheduler's own mirror over a snapshot of a cluster.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{
    Meta,
    quantity::Quantity,
    views::{NodeView, PodView},
};
use sched_core::{NodeIndex, Reason, Resource};

use super::{
    PlacementProfile,
    mirror::{Decision, Mirror, Question},
    refusal::Preempting,
};

/// A cluster at one moment. What is planned is entered, so that the next pod finds it there.
#[derive(Debug)]
pub struct Snapshot {
    mirror: Mirror,
    planned: u64,
}

/// What would become of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would be bound.
    Goes {
        /// Name of the node.
        node: String,
        /// As placement compares nodes.
        score: i64,
        /// Nodes that could take it.
        candidates: usize,
    },
    /// It would be bound when others have left.
    Preempts {
        /// Name of the node.
        node: String,
        /// `namespace/name` of those who must leave.
        victims: Vec<String>,
    },
    /// It would stay pending.
    Waits {
        /// In kube-scheduler's words.
        text: String,
    },
}

/// What one node is to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Name of the node.
    pub node: String,
    /// The score, of a node that could take it.
    pub score: Option<i64>,
    /// Why it could not, in kube-scheduler's words.
    pub reasons: Vec<String>,
    /// What it lacks.
    pub lacks: Vec<Lack>,
}

/// A resource of which a node has too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Its name.
    pub resource: String,
    /// What the pod asks for.
    pub requested: String,
    /// What is free.
    pub free: String,
    /// What pods may use in all.
    pub total: String,
}

/// What all nodes are to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standings {
    /// Those that could take it, best first; then the others, by name.
    pub nodes: Vec<Standing>,
    /// Why no node takes it, if none does.
    pub refusal: Option<String>,
}

impl Snapshot {
    /// Of a cluster without nodes.
    pub fn new(placement: PlacementProfile) -> Self {
        Self { mirror: Mirror::new(placement.weights()), planned: 0 }
    }

    /// There is this namespace.
    pub fn namespace(&mut self, namespace: &Meta) {
        self.mirror.namespace_changed(&namespace.name, Some(&namespace.labels));
    }

    /// There is this node.
    pub fn node(&mut self, node: &NodeView) {
        self.mirror.node_changed(node);
    }

    /// There is this pod. It counts if it has a node and has not ended.
    pub fn pod(&mut self, pod: &PodView) {
        if !pod.spec.node_name.is_empty() && !pod.is_finished() {
            self.mirror.pod_bound(pod);
        }
    }

    /// Finds a place for a new pod, and enters it there.
    pub fn place(&mut self, pod: &PodView) -> Verdict {
        self.planned += 1;
        let mut pod = pod.clone();
        pod.metadata.uid = format!("planned {}", self.planned);
        let before = self.mirror.question(&pod);
        let scores = before.map(|question| self.scores(&question)).unwrap_or_default();
        match self.mirror.decide(&pod) {
            Decision::Assumed { node } => {
                let score = scores.iter().find(|(name, _)| *name == node);
                let score = score.map_or(0, |(_, score)| *score);
                Verdict::Goes { node, score, candidates: scores.len() }
            }
            Decision::Nominated { node, victims, displaced, .. } => {
                let all = victims.iter().chain(&displaced);
                let victims = all.map(|one| format!("{}/{}", one.namespace, one.name)).collect();
                Verdict::Preempts { node, victims }
            }
            Decision::Refused { text } => Verdict::Waits { text },
        }
    }

    /// What each node is to a pod now. One that has a node is thought away first.
    ///
    /// # Errors
    /// What it asks for that cannot be expressed: the limit, or the field.
    pub fn why(&mut self, pod: &PodView) -> Result<Standings, String> {
        self.mirror.pod_gone(&pod.metadata.uid);
        let question = self.mirror.question(pod)?;
        let (mut able, mut others) = (Vec::new(), Vec::new());
        for (index, reason) in self.reasons(&question) {
            let node = self.mirror.name_of(index).to_string();
            let Some(reason) = reason else {
                let score = self.mirror.placement.score(index, &question.ask);
                able.push((
                    index,
                    Standing { node, score, reasons: Vec::new(), lacks: Vec::new() },
                ));
                continue;
            };
            let reasons = self.mirror.reason_texts(&question, index, reason);
            let lacks = if matches!(reason, Reason::Insufficient(_)) {
                self.lacks(&question, index)
            } else {
                Vec::new()
            };
            others.push(Standing { node, score: None, reasons, lacks });
        }
        // Of equals the lowest index.
        able.sort_by_key(|(index, standing)| (core::cmp::Reverse(standing.score), *index));
        others.sort_by(|a, b| a.node.cmp(&b.node));
        let refusal = able.is_empty().then(|| {
            let barred = pod.spec.preemption_policy.as_deref() == Some("Never");
            let helps = self.mirror.placement.preempt(&question.ask).is_some();
            let preempting = match (barred, helps) {
                (true, _) => Preempting::NEVER,
                (false, true) => Preempting::Helps,
                (false, false) => Preempting::Fails,
            };
            self.mirror.refusal_text(&question, preempting)
        });
        let nodes = able.into_iter().map(|(_, standing)| standing).chain(others).collect();
        Ok(Standings { nodes, refusal })
    }

    /// Each node, with the first reason why it refuses.
    fn reasons(&self, question: &Question) -> Vec<(NodeIndex, Option<Reason>)> {
        let mut all = Vec::new();
        self.mirror.placement.reasons(&question.ask, |index, reason| {
            all.push((index, self.mirror.is_not_named(question, index).or(reason)));
        });
        all
    }

    /// The nodes that could take a pod, with their scores.
    fn scores(&self, question: &Question) -> Vec<(String, i64)> {
        let able = self.reasons(question).into_iter().filter(|(_, reason)| reason.is_none());
        let scored = able.filter_map(|(index, _)| {
            let score = self.mirror.placement.score(index, &question.ask)?;
            Some((self.mirror.name_of(index).to_string(), score))
        });
        scored.collect()
    }

    fn lacks(&self, question: &Question, index: NodeIndex) -> Vec<Lack> {
        let short = self.mirror.placement.shortfalls(index, &question.ask);
        let lack = |balance: sched_core::Balance| {
            let shown = |amount: u64| {
                let amount = i64::try_from(amount).unwrap_or(i64::MAX);
                let quantity = match balance.resource {
                    Resource::Cpu => Quantity::milli(amount),
                    Resource::Memory | Resource::EphemeralStorage => Quantity::bytes(amount),
                    Resource::Pods | Resource::Extended(_) | Resource::Devices => {
                        Quantity::units(amount)
                    }
                };
                quantity.to_string()
            };
            Lack {
                resource: self.mirror.shown(balance.resource),
                requested: shown(balance.requested),
                free: shown(balance.free),
                total: shown(balance.total),
            }
        };
        short.map(lack).collect()
    }
}
