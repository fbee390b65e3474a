//! Taints that follow from a node's conditions, and which of them a pod tolerates.

use alloc::{string::String, vec::Vec};

use coracle_api::{
    time,
    views::{NodeView, Taint, Toleration},
};

use crate::Millis;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(super) const NO_SCHEDULE: &str = "NoSchedule";
pub(super) const NO_EXECUTE: &str = "NoExecute";

/// Condition type, its status, the taint that follows.
const BY_CONDITION: &[(&str, &str, &str)] = &[
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// `Ready`'s status; `Unknown` where it was never posted.
pub(super) fn ready_status(node: &NodeView) -> &str {
    node.status.condition("Ready").map_or("Unknown", |ready| ready.status.as_str())
}

/// The NoSchedule taints that the node's state calls for.
fn no_schedule(node: &NodeView) -> Vec<&'static str> {
    let holds = |r#type: &str, status: &str| {
        node.status.condition(r#type).is_some_and(|condition| condition.status == status)
    };
    let mut keys: Vec<_> = BY_CONDITION
        .iter()
        .filter(|(r#type, status, _)| holds(r#type, status))
        .map(|(_, _, key)| *key)
        .collect();
    if node.spec.unschedulable {
        keys.push(UNSCHEDULABLE);
    }
    keys
}

/// The node's taints as they shall be: those that follow from its state are put right, `evict` is the NoExecute one
/// that it shall have; others stay as they are.
pub(super) fn wanted(now: Millis, node: &NodeView, evict: Option<&'static str>) -> Vec<Taint> {
    let is_ours = |taint: &Taint| match taint.effect.as_str() {
        NO_SCHEDULE => {
            taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key)
        }
        NO_EXECUTE => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    };
    let mut ours: Vec<(&str, &str)> =
        no_schedule(node).into_iter().map(|key| (key, NO_SCHEDULE)).collect();
    ours.extend(evict.map(|key| (key, NO_EXECUTE)));
    let mut taints = node.spec.taints.clone();
    taints.retain(|taint| {
        !is_ours(taint) || ours.contains(&(taint.key.as_str(), taint.effect.as_str()))
    });
    for (key, effect) in ours {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.into(),
                effect: effect.into(),
                value: String::new(),
                time_added: Some(time::rfc3339(now.0)),
            });
        }
    }
    taints
}

/// How long a pod may stay under these NoExecute taints. `None`: for ever; `Some(0)`: it must go.
pub(super) fn tolerated_seconds(taints: &[Taint], tolerations: &[Toleration]) -> Option<u64> {
    let mut least = None;
    for taint in taints {
        let mut matching =
            tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if matching.peek().is_none() {
            return Some(0);
        }
        for seconds in matching.filter_map(|toleration| toleration.toleration_seconds) {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            least = Some(least.map_or(seconds, |least: u64| least.min(seconds)));
        }
    }
    least
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.is_empty() || toleration.effect == taint.effect;
    let key = toleration.key.is_empty() || toleration.key == taint.key;
    let value = match toleration.operator.as_str() {
        "" | "Equal" => !toleration.key.is_empty() && toleration.value == taint.value,
        "Exists" => true,
        _ => false,
    };
    effect && key && value
}
