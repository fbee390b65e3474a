//! Affinity terms: which pods are meant, and the topology key over which they are near.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{
    selector::LabelSelector,
    views::{self, LabelSelectorRequirement, PodAffinityTerm, PodView, TopologySpreadConstraint},
};

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Some pods, by namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    namespaces: BTreeSet<String>,
    /// Namespaces beside those named.
    namespace_selector: Option<LabelSelector>,
    labels: LabelSelector,
    /// Pods that are being deleted do not count (topology spread).
    alive: bool,
}

/// Pods that all of `selected` mean, and a topology key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) selected: Vec<Selected>,
    pub(crate) key: String,
}

/// What of a pod terms look at.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) namespace_labels: Option<&'a Labels>,
    pub(crate) labels: &'a Labels,
    pub(crate) is_ending: bool,
}

impl Term {
    /// A term of pod affinity or anti-affinity.
    ///
    /// # Errors
    /// A selector that cannot be read.
    pub(crate) fn of_affinity(pod: &PodView, term: &PodAffinityTerm) -> Result<Self, String> {
        let mut view = term.label_selector.clone();
        let labels = &pod.metadata.labels;
        narrow(&mut view, labels, &term.match_label_keys, "In");
        narrow(&mut view, labels, &term.mismatch_label_keys, "NotIn");
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(pod.metadata.namespace.clone());
        }
        let namespace_selector = term.namespace_selector.as_ref().map(read).transpose()?;
        let labels = selector(view.as_ref())?;
        let selected = Selected { namespaces, namespace_selector, labels, alive: false };
        Ok(Self { selected: Vec::from([selected]), key: term.topology_key.clone() })
    }

    /// The pods that a spread constraint counts.
    ///
    /// # Errors
    /// A selector that cannot be read.
    pub(crate) fn of_spread(
        pod: &PodView,
        spread: &TopologySpreadConstraint,
    ) -> Result<Self, String> {
        let mut view = spread.label_selector.clone();
        narrow(&mut view, &pod.metadata.labels, &spread.match_label_keys, "In");
        let selected = Selected {
            namespaces: BTreeSet::from([pod.metadata.namespace.clone()]),
            namespace_selector: None,
            labels: selector(view.as_ref())?,
            alive: true,
        };
        Ok(Self { selected: Vec::from([selected]), key: spread.topology_key.clone() })
    }

    /// Required pod affinity as kube-scheduler counts it: pods that all terms mean together, once for each key.
    ///
    /// # Errors
    /// A selector that cannot be read.
    pub(crate) fn together(pod: &PodView, terms: &[PodAffinityTerm]) -> Result<Vec<Self>, String> {
        let mut selected: Vec<Selected> = Vec::new();
        let mut keys = BTreeSet::new();
        for term in terms {
            let read = Self::of_affinity(pod, term)?;
            keys.insert(read.key);
            for one in read.selected {
                if !selected.contains(&one) {
                    selected.push(one);
                }
            }
        }
        Ok(keys.into_iter().map(|key| Self { selected: selected.clone(), key }).collect())
    }

    pub(crate) fn matches(&self, pod: &Subject<'_>) -> bool {
        self.selected.iter().all(|selected| selected.matches(pod))
    }

    /// Labels of namespaces matter.
    pub(crate) fn looks_at_namespaces(&self) -> bool {
        self.selected.iter().any(|selected| selected.namespace_selector.is_some())
    }
}

impl Selected {
    fn matches(&self, pod: &Subject<'_>) -> bool {
        let by_selector = || {
            let selector = self.namespace_selector.as_ref();
            selector.zip(pod.namespace_labels).is_some_and(|(one, labels)| one.matches(labels))
        };
        (self.namespaces.contains(pod.namespace) || by_selector())
            && !(self.alive && pod.is_ending)
            && self.labels.matches(pod.labels)
    }
}

/// No selector at all means no pods.
fn selector(view: Option<&views::LabelSelector>) -> Result<LabelSelector, String> {
    view.map_or(Ok(LabelSelector::nothing()), read)
}

fn read(view: &views::LabelSelector) -> Result<LabelSelector, String> {
    LabelSelector::from_view(view).map_err(|why| format!("a label selector cannot be read: {why}"))
}

/// `matchLabelKeys` and `mismatchLabelKeys`: the pod's own values, added to the selector. Labels that the pod lacks are
/// passed over, and so is everything where there is no selector.
fn narrow(
    view: &mut Option<views::LabelSelector>,
    labels: &Labels,
    keys: &[String],
    operator: &str,
) {
    let Some(view) = view else { return };
    for key in keys {
        let Some(value) = labels.get(key) else { continue };
        let values = Vec::from([value.clone()]);
        let (key, operator) = (key.clone(), operator.to_string());
        let expression = LabelSelectorRequirement { values, key, operator };
        if !view.match_expressions.contains(&expression) {
            view.match_expressions.push(expression);
        }
    }
}
