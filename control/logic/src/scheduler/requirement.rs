//! Node requirements: what node selectors and node affinity come down to.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::{NodeSelectorRequirement, NodeSelectorTerm, PodView};
use sched_core::Operator;

/// One condition on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// On the node's name instead of a label.
    field: bool,
    key: String,
    /// `None`: no node meets it.
    operator: Option<Operator>,
    values: Vec<String>,
}

impl Requirement {
    /// `nodeSelector`'s pair.
    pub(crate) fn label(key: &str, value: &str) -> Self {
        let values = Vec::from([value.to_string()]);
        Self { field: false, key: key.into(), operator: Some(Operator::In), values }
    }

    /// The label is there.
    pub(crate) fn has(key: &str) -> Self {
        let values = Vec::new();
        Self { field: false, key: key.into(), operator: Some(Operator::Exists), values }
    }

    /// All that a term requires. A term without any condition is met by no node.
    pub(crate) fn all_of(term: &NodeSelectorTerm) -> Vec<Self> {
        let labels = term.match_expressions.iter().map(|one| Self::of(one, false));
        let mut all: Vec<Self> = labels.collect();
        all.extend(term.match_fields.iter().map(|one| Self::of(one, true)));
        if all.is_empty() {
            all.push(Self::never());
        }
        all
    }

    /// No node meets it.
    pub(crate) fn never() -> Self {
        Self { field: true, key: String::new(), operator: None, values: Vec::new() }
    }

    /// The name is one of those listed.
    pub(crate) fn is_name(&self) -> bool {
        self.field && self.key == "metadata.name" && self.operator == Some(Operator::In)
    }

    fn of(view: &NodeSelectorRequirement, field: bool) -> Self {
        Self {
            field,
            key: view.key.clone(),
            // One that is not known is met by no node.
            operator: Operator::parse(&view.operator),
            values: view.values.clone(),
        }
    }

    /// Whether a node meets it.
    pub(crate) fn is_met(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let value = match (self.field, self.key.as_str()) {
            (true, "metadata.name") => Some(name),
            (true, _) => return false,
            (false, key) => labels.get(key).map(String::as_str),
        };
        let values = self.values.iter().map(String::as_str);
        self.operator.is_some_and(|operator| operator.is_met(value, values))
    }
}

/// The only nodes that a pod can be for, where each alternative of its required affinity names them by
/// `metadata.name` (pods of a DaemonSet do). `None`: any node.
pub(crate) fn names(pod: &PodView) -> Option<BTreeSet<String>> {
    let affinity = pod.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let mut names = BTreeSet::new();
    for term in &required.node_selector_terms {
        let by_name =
            |one: &&NodeSelectorRequirement| one.key == "metadata.name" && one.operator == "In";
        let mut of_term: Option<BTreeSet<String>> = None;
        for one in term.match_fields.iter().filter(by_name) {
            let listed: BTreeSet<String> = one.values.iter().cloned().collect();
            of_term = Some(match of_term {
                None => listed,
                Some(before) => before.intersection(&listed).cloned().collect(),
            });
        }
        names.extend(of_term?);
    }
    (!required.node_selector_terms.is_empty()).then_some(names)
}
