//! Which labels a node may give itself: none that people place pods by in trust.

use alloc::{string::String, vec::Vec};

use serde_json::Value;

use crate::kinds::access::entries;

/// Labels of Kubernetes' own domains that nodes set.
const OWN: [&str; 14] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The changed labels that are not the node's to change, with commas; `old` is `None` for a new node.
pub(super) fn check(old: Option<&Value>, new: &Value) -> Result<(), String> {
    let labels = &["metadata", "labels"];
    let nothing = Value::Null;
    let old = old.unwrap_or(&nothing);
    let before: Vec<(&String, &Value)> = entries(old, labels).collect();
    let after: Vec<(&String, &Value)> = entries(new, labels).collect();
    let mut changed: Vec<&str> = after
        .iter()
        .filter(|label| !before.contains(label))
        .chain(before.iter().filter(|(key, _)| !after.iter().any(|(have, _)| have == key)))
        .map(|(key, _)| key.as_str())
        .filter(|key| !is_allowed(key))
        .collect();
    changed.sort_unstable();
    if changed.is_empty() { Ok(()) } else { Err(changed.join(", ")) }
}

fn is_allowed(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return true };
    let within = |of: &str| {
        domain == of || domain.strip_suffix(of).is_some_and(|front| front.ends_with('.'))
    };
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    OWN.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}
