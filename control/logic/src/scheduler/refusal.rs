//! A refusal in kube-scheduler's words: `0/5 nodes are available: 3 Insufficient memory, 2 node(s) were unschedulable.
//! preemption: 0/5 nodes are available: …` (P4).

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use sched_core::{NodeIndex, PodState, Reason, Resource};

use super::mirror::{Mirror, Question, TAINT_BEYOND};

/// A node that nobody's leaving could help.
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
/// A node with nobody of lower priority.
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
/// A node that the pod does not name.
const NOT_NAMED: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";

/// What is told of preemption.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Preempting {
    /// It makes room: nothing.
    Helps,
    /// Why it does not help, node by node.
    Fails,
    /// Why the pod may not preempt.
    Barred(&'static str),
}

impl Preempting {
    /// The pod does not want others to leave for it.
    pub(crate) const NEVER: Self = Self::Barred("not eligible due to preemptionPolicy=Never.");
    /// Others are leaving for it already.
    pub(crate) const LEAVING: Self =
        Self::Barred("not eligible due to a terminating pod on the nominated node.");
}

/// Reasons, and how many nodes each is told of.
#[derive(Default)]
struct Histogram(BTreeMap<String, u32>);

impl Histogram {
    fn add(&mut self, reason: String) {
        let count = self.0.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// In the order of the texts, numbers and all, as upstream sorts them.
    fn text(&self, nodes: usize) -> String {
        let mut reasons: Vec<String> =
            self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        let none = format!("0/{nodes} nodes are available:");
        if reasons.is_empty() { none } else { format!("{none} {}.", reasons.join(", ")) }
    }
}

impl Mirror {
    /// Why no node takes a pod.
    pub(crate) fn refusal_text(&self, question: &Question, preempting: Preempting) -> String {
        let nodes = self.node_count();
        if nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let (mut refused, mut kept) = (Histogram::default(), Histogram::default());
        self.placement.reasons(&question.ask, |index, reason| {
            let Some(reason) = self.is_not_named(question, index).or(reason) else { return };
            for text in self.reason_texts(question, index, reason) {
                refused.add(text);
            }
            if preempting == Preempting::Fails {
                for text in self.without_victims(question, index, reason) {
                    kept.add(text);
                }
            }
        });
        let text = refused.text(nodes);
        match preempting {
            Preempting::Helps => text,
            Preempting::Fails => format!("{text} preemption: {}", kept.text(nodes)),
            Preempting::Barred(why) => format!("{text} preemption: {why}"),
        }
    }

    /// A pod that names its nodes is for no other.
    pub(crate) fn is_not_named(&self, question: &Question, index: NodeIndex) -> Option<Reason> {
        let names = question.names.as_ref()?;
        (!names.contains(self.name_of(index))).then_some(Reason::Name)
    }

    /// Why one node refuses a pod; several texts for several resources.
    pub(crate) fn reason_texts(
        &self,
        question: &Question,
        index: NodeIndex,
        reason: Reason,
    ) -> Vec<String> {
        if let Reason::Insufficient(first) = reason {
            let lacks = self.lacks(question, index, &[]);
            let lacks = if lacks.is_empty() { Vec::from([first]) } else { lacks };
            return lacks.into_iter().map(|what| self.insufficient(what)).collect();
        }
        if let Reason::Taint(bit) = reason {
            return Vec::from([self.untolerated(question, index, bit)]);
        }
        Vec::from([plain(reason).into()])
    }

    /// The first taint of the node's spec that is not tolerated.
    fn untolerated(&self, question: &Question, index: NodeIndex, bit: usize) -> String {
        let node = self.node(self.name_of(index));
        let minded = node.map(|node| node.taints.as_slice()).unwrap_or_default();
        let first = minded.iter().find(|bit| !question.ask.tolerates.contains(**bit));
        let bit = *first.unwrap_or(&bit);
        match self.taint(bit) {
            Some(taint) => {
                format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value)
            }
            None => format!("node(s) had a taint beyond the {TAINT_BEYOND} that can be told apart"),
        }
    }

    fn insufficient(&self, resource: Resource) -> String {
        if resource == Resource::Pods {
            return "Too many pods".into();
        }
        format!("Insufficient {}", self.shown(resource))
    }

    /// A resource's name.
    pub(crate) fn shown(&self, resource: Resource) -> String {
        match resource {
            Resource::Pods => "pods".into(),
            Resource::Cpu => "cpu".into(),
            Resource::Memory => "memory".into(),
            Resource::EphemeralStorage => "ephemeral-storage".into(),
            Resource::Extended(number) => self.resource_name(number).into(),
            Resource::Devices => "devices".into(),
        }
    }

    /// What a node lacks, with these pods thought away.
    fn lacks(
        &self,
        question: &Question,
        index: NodeIndex,
        away: &[sched_core::Pod],
    ) -> Vec<Resource> {
        let Some(node) = self.placement.node(index) else { return Vec::new() };
        let mut used = *node.used();
        for pod in away {
            used = used.saturating_sub(&pod.requests);
        }
        let free = node.allocatable().saturating_sub(&used);
        question.ask.pod.requests.beyond(&free).collect()
    }

    /// What kube-scheduler says of a node when preemption found no candidate.
    fn without_victims(
        &self,
        question: &Question,
        index: NodeIndex,
        reason: Reason,
    ) -> Vec<String> {
        let ask = &question.ask;
        let fits_empty = |node: &sched_core::NodeRecord| {
            let beyond = ask.pod.requests.beyond(node.allocatable());
            beyond.into_iter().all(|what| what == Resource::Pods)
        };
        let could = match reason {
            Reason::Insufficient(_) => self.placement.node(index).is_some_and(fits_empty),
            Reason::Ports
            | Reason::Spread
            | Reason::PodAntiAffinity
            | Reason::ExistingAntiAffinity => true,
            Reason::Unschedulable
            | Reason::Name
            | Reason::Taint(_)
            | Reason::Affinity
            | Reason::Image
            | Reason::Volumes
            | Reason::SpreadLabel
            | Reason::PodAffinity => false,
        };
        if !could {
            return Vec::from([NOT_HELPFUL.into()]);
        }
        let (mut lower, mut ports_stay) = (Vec::new(), false);
        for (_, record) in self.placement.pods_of(index) {
            if record.pod().priority < ask.pod.priority && record.state() != PodState::Leaving {
                lower.push(*record.pod());
            } else {
                ports_stay |= record.pod().ports.intersects(&ask.ports_wanted);
            }
        }
        if lower.is_empty() {
            return Vec::from([NO_VICTIMS.into()]);
        }
        // All of them thought away: what still stands in the way is the reason.
        let lacks = self.lacks(question, index, &lower);
        if !lacks.is_empty() {
            return lacks.into_iter().map(|what| self.insufficient(what)).collect();
        }
        let is_mended = matches!(reason, Reason::Insufficient(_) | Reason::Ports);
        let stays = if ports_stay {
            Reason::Ports
        } else if !is_mended {
            reason
        } else if !ask.spreads.is_empty() {
            Reason::Spread
        } else if !ask.near.is_empty() {
            Reason::PodAffinity
        } else {
            Reason::PodAntiAffinity
        };
        Vec::from([plain(stays).into()])
    }
}

/// The words of a reason that needs no name.
fn plain(reason: Reason) -> &'static str {
    match reason {
        Reason::Unschedulable => "node(s) were unschedulable",
        Reason::Name => NOT_NAMED,
        Reason::Taint(_) => "node(s) had untolerated taint",
        Reason::Affinity => "node(s) didn't match Pod's node affinity/selector",
        Reason::Image => "node(s) didn't match the pod's image platform",
        Reason::Ports => "node(s) didn't have free ports for the requested pod ports",
        Reason::Insufficient(_) => "Insufficient resources",
        Reason::Volumes => "node(s) had volume node affinity conflict",
        Reason::SpreadLabel => {
            "node(s) didn't match pod topology spread constraints (missing required label)"
        }
        Reason::Spread => "node(s) didn't match pod topology spread constraints",
        Reason::PodAffinity => "node(s) didn't match pod affinity rules",
        Reason::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
        Reason::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
    }
}
