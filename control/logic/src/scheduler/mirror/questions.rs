//! A pod's spec as a question to the core.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use coracle_api::views::{NodeSelectorTerm, PodAffinity, PodView, Toleration};
use sched_core::{
    ALTERNATIVES_MAX, Alternatives, Ask, EXTENDED_RESOURCES, NodeIndex, NodePolicy,
    PREFERENCES_MAX, Requirements, SPREADS_MAX, Spread, Strength, Taint, Taints, Terms,
};

use super::{Mirror, TAINT_BEYOND};
use crate::scheduler::{
    amounts,
    limits::{SPREAD_LABEL_WEIGHT, SPREAD_WEIGHT},
    requirement::{self, Requirement},
    term::{Subject, Term},
    topology::HOSTNAME,
};

/// A pod's spec as the core is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) ask: Ask,
    /// The only nodes that it can be for.
    pub(crate) names: Option<BTreeSet<String>>,
}

impl Mirror {
    /// What a pod asks for.
    ///
    /// # Errors
    /// What it asks for that cannot be expressed: the limit, or the field.
    pub(crate) fn question(&mut self, pod: &PodView) -> Result<Question, String> {
        if !pod.spec.resource_claims.is_empty() {
            return Err(
                "Unsupported: spec.resourceClaims is not implemented by this scheduler yet".into(),
            );
        }
        self.begin();
        let names = requirement::names(pod);
        let mut ask = Ask { affinity: self.required_nodes(pod, names.as_ref())?, ..Ask::default() };
        if let Some(name) = only(names.as_ref()) {
            let nowhere = NodeIndex(u32::MAX);
            ask.node = Some(self.nodes.get(name).map_or(nowhere, |node| node.index));
        }
        self.tolerate(pod, &mut ask);
        self.prefer_nodes(pod, &mut ask)?;
        ask.near = self.near(pod)?;
        self.prefer_pods(pod, &mut ask)?;
        self.spread(pod, &mut ask)?;
        let ports = self.ports(pod)?;
        ask.ports_wanted = ports.wanted;
        let mut beyond = None;
        let requests = amounts::requests(pod, &mut self.resources, &mut |name| {
            beyond = Some(amounts::beyond(name, EXTENDED_RESOURCES));
        });
        if let Some(beyond) = beyond {
            return Err(beyond);
        }
        let repels = self.repels(pod)?;
        ask.pod = sched_core::Pod {
            requests,
            limits: amounts::limits(pod),
            ports: ports.taken,
            repels,
            priority: pod.spec.priority.unwrap_or(0),
            // Last: now every term of this question has its number.
            matches: self.matches_of(pod),
            ..sched_core::Pod::default()
        };
        Ok(Question { ask, names })
    }

    /// What a pod is and takes that somebody has bound. What finds no number is left out: it runs already.
    pub(super) fn describe(&mut self, pod: &PodView) -> sched_core::Pod {
        let requests = amounts::requests(pod, &mut self.resources, &mut |_| {});
        let ports = self.ports(pod).map(|ports| ports.taken).unwrap_or_default();
        let repels = self.repels(pod).unwrap_or_default();
        sched_core::Pod {
            requests,
            limits: amounts::limits(pod),
            ports,
            repels,
            priority: pod.spec.priority.unwrap_or(0),
            matches: self.matches_of(pod),
            ..sched_core::Pod::default()
        }
    }

    fn matches_of(&self, pod: &PodView) -> Terms {
        self.matches(&Subject {
            namespace: &pod.metadata.namespace,
            namespace_labels: self.namespaces.get(&pod.metadata.namespace),
            labels: &pod.metadata.labels,
            is_ending: pod.metadata.deletion_timestamp.is_some(),
        })
    }

    fn tolerate(&self, pod: &PodView, ask: &mut Ask) {
        let tolerates =
            |taint: &Taint<'_>| pod.spec.tolerations.iter().any(|one| words(one).covers(taint));
        let mut tolerated = Taints::EMPTY;
        for (bit, taint) in self.taints.iter() {
            let taint = Taint { key: &taint.key, value: &taint.value, effect: &taint.effect };
            let fits = !tolerates(&taint) || tolerated.insert(bit);
            debug_assert!(fits, "below TAINTS_MAX");
        }
        let all = |one: &Toleration| {
            one.operator == "Exists" && one.key.is_empty() && one.effect.is_empty()
        };
        if pod.spec.tolerations.iter().any(all) {
            let fits = tolerated.insert(TAINT_BEYOND);
            debug_assert!(fits, "below TAINTS_MAX");
        }
        (ask.tolerates, ask.tolerates_soft) = (tolerated, tolerated);
        ask.tolerates_unschedulable = tolerates(&Taint {
            key: "node.kubernetes.io/unschedulable",
            value: "",
            effect: "NoSchedule",
        });
    }

    /// nodeSelector AND (term OR term …), as core/v1 has it.
    fn required_nodes(
        &mut self,
        pod: &PodView,
        names: Option<&BTreeSet<String>>,
    ) -> Result<Alternatives, String> {
        let mut selector = Requirements::EMPTY;
        for (key, value) in &pod.spec.node_selector {
            self.require(&mut selector, Requirement::label(key, value))?;
        }
        let affinity = pod.spec.affinity.as_ref().and_then(|one| one.node_affinity.as_ref());
        let required = affinity
            .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
        let mut alternatives = Alternatives::default();
        let full = || {
            format!(
                "limit reached: spec.affinity.nodeAffinity has more than {ALTERNATIVES_MAX} nodeSelectorTerms"
            )
        };
        let Some(required) = required else {
            let fits = pod.spec.node_selector.is_empty() || alternatives.push(selector);
            debug_assert!(fits, "the first alternative");
            return Ok(alternatives);
        };
        // The one node it is for is asked for by its index: a condition on names would make each node its own kind.
        let by_index = only(names).is_some() && required.node_selector_terms.len() == 1;
        for term in &required.node_selector_terms {
            let mut all_of = selector;
            for requirement in Requirement::all_of(term) {
                if !(by_index && requirement.is_name()) {
                    self.require(&mut all_of, requirement)?;
                }
            }
            alternatives.push(all_of).then_some(()).ok_or_else(full)?;
        }
        if required.node_selector_terms.is_empty() {
            self.require(&mut selector, Requirement::never())?;
            let fits = alternatives.push(selector);
            debug_assert!(fits, "the first alternative");
        }
        Ok(alternatives)
    }

    fn prefer_nodes(&mut self, pod: &PodView, ask: &mut Ask) -> Result<(), String> {
        let affinity = pod.spec.affinity.as_ref().and_then(|one| one.node_affinity.as_ref());
        let preferred =
            affinity.map(|node| &node.preferred_during_scheduling_ignored_during_execution);
        for wish in preferred.into_iter().flatten() {
            if is_empty(&wish.preference) {
                continue;
            }
            let mut all_of = Requirements::EMPTY;
            for requirement in Requirement::all_of(&wish.preference) {
                self.require(&mut all_of, requirement)?;
            }
            self.prefer(ask, all_of, wish.weight)?;
        }
        Ok(())
    }

    fn prefer(&self, ask: &mut Ask, all_of: Requirements, weight: i32) -> Result<(), String> {
        ask.prefers.push((all_of, weight)).map_err(|_| {
            format!("limit reached: the pod prefers nodes by more than {PREFERENCES_MAX} terms (preferred node affinity and ScheduleAnyway topology keys)")
        })
    }

    fn near(&mut self, pod: &PodView) -> Result<Terms, String> {
        let mut near = Terms::EMPTY;
        let affinity = pod.spec.affinity.as_ref().and_then(|one| one.pod_affinity.as_ref());
        let Some(affinity) = affinity else { return Ok(near) };
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        for term in Term::together(pod, required)? {
            let fits = near.insert(usize::from(self.term(term)?));
            debug_assert!(fits, "below AFFINITY_TERMS_MAX");
        }
        Ok(near)
    }

    fn prefer_pods(&mut self, pod: &PodView, ask: &mut Ask) -> Result<(), String> {
        let affinity = pod.spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        for (part, sign) in [(near, 1), (apart, -1)] {
            for wish in part.into_iter().flat_map(preferred) {
                let term = self.term(Term::of_affinity(pod, &wish.pod_affinity_term)?)?;
                ask.near_preferred.push((term, sign * wish.weight)).map_err(|_| {
                    format!("limit reached: spec.affinity has more than {PREFERENCES_MAX} preferred terms of pod affinity and anti-affinity")
                })?;
            }
        }
        Ok(())
    }

    fn spread(&mut self, pod: &PodView, ask: &mut Ask) -> Result<(), String> {
        for constraint in &pod.spec.topology_spread_constraints {
            let number = |count: i32| u32::try_from(count).unwrap_or(0);
            let policy = |said: Option<&str>, default: NodePolicy| match said {
                Some("Honor") => NodePolicy::Honor,
                Some("Ignore") => NodePolicy::Ignore,
                Some(_) | None => default,
            };
            let is_wish = constraint.when_unsatisfiable == "ScheduleAnyway";
            let spread = Spread {
                term: self.term(Term::of_spread(pod, constraint)?)?,
                max_skew: number(constraint.max_skew),
                min_domains: number(constraint.min_domains.unwrap_or(1)),
                strength: if is_wish {
                    Strength::Preferred(SPREAD_WEIGHT)
                } else {
                    Strength::Required
                },
                affinity_policy: policy(
                    constraint.node_affinity_policy.as_deref(),
                    NodePolicy::Honor,
                ),
                taints_policy: policy(constraint.node_taints_policy.as_deref(), NodePolicy::Ignore),
            };
            ask.spreads.push(spread).map_err(|_| {
                format!(
                    "limit reached: the pod has more than {SPREADS_MAX} topologySpreadConstraints"
                )
            })?;
            if is_wish && constraint.topology_key != HOSTNAME {
                // A node without the label is in no domain, which must not look like an empty one.
                let mut has_label = Requirements::EMPTY;
                self.require(&mut has_label, Requirement::has(&constraint.topology_key))?;
                self.prefer(ask, has_label, SPREAD_LABEL_WEIGHT)?;
            }
        }
        Ok(())
    }
}

fn only(names: Option<&BTreeSet<String>>) -> Option<&String> {
    names.filter(|names| names.len() == 1).and_then(BTreeSet::first)
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.is_empty() && term.match_fields.is_empty()
}

fn preferred(affinity: &PodAffinity) -> &Vec<coracle_api::views::WeightedPodAffinityTerm> {
    &affinity.preferred_during_scheduling_ignored_during_execution
}

fn words(one: &Toleration) -> sched_core::Toleration<'_> {
    sched_core::Toleration {
        key: &one.key,
        operator: &one.operator,
        value: &one.value,
        effect: &one.effect,
    }
}
