//! What the scheduler asks the front door for.

use alloc::string::String;

use coracle_api::{Resource, time, views::PodView};
use serde_json::{Value, json};

use super::{NAME, USER, mirror::Victim};
use crate::{
    Millis,
    call::PatchType,
    controllers::{CallAction, ControllerCall},
};

/// Gives a pod its node.
pub(super) fn bind(id: u64, pod: &PodView, node: &str) -> ControllerCall {
    let meta = &pod.metadata;
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let action = CallAction::Create(binding);
    on_pod(id, &meta.namespace, &meta.name, "binding", action)
}

/// Says that a pod has no place, and which node is kept for it (none if empty).
pub(super) fn unschedulable(
    id: u64,
    pod: &PodView,
    message: &str,
    kept: &str,
    now: Millis,
) -> ControllerCall {
    let meta = &pod.metadata;
    let told = pod.status.condition("PodScheduled").filter(|told| told.status == "False");
    let since = told.and_then(|told| told.last_transition_time.clone());
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| time::rfc3339(now.0)),
    });
    let status = if kept == pod.status.nominated_node_name {
        json!({"conditions": [condition]})
    } else {
        let kept = if kept.is_empty() { Value::Null } else { kept.into() };
        json!({"conditions": [condition], "nominatedNodeName": kept})
    };
    patch_status(id, &meta.namespace, &meta.name, &meta.uid, &status)
}

/// Says that no node is kept for a pod any more.
pub(super) fn keep_no_node(id: u64, pod: &Victim) -> ControllerCall {
    let status = json!({"nominatedNodeName": null});
    patch_status(id, &pod.namespace, &pod.name, &pod.uid, &status)
}

/// Says that a pod is about to be ended for another.
pub(super) fn disrupt(id: u64, victim: &Victim, now: Millis) -> ControllerCall {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": alloc::format!("{NAME}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": time::rfc3339(now.0),
    });
    let status = json!({"conditions": [condition]});
    patch_status(id, &victim.namespace, &victim.name, &victim.uid, &status)
}

/// Ends a pod.
pub(super) fn delete(id: u64, victim: &Victim) -> ControllerCall {
    let action = CallAction::Delete {
        uid: Some(victim.uid.clone()),
        resource_version: None,
        propagation: None,
        grace_seconds: None,
    };
    on_pod(id, &victim.namespace, &victim.name, "", action)
}

fn patch_status(id: u64, namespace: &str, name: &str, uid: &str, status: &Value) -> ControllerCall {
    let patch = json!({"metadata": {"uid": uid}, "status": status});
    let action = CallAction::Patch(PatchType::Strategic, patch);
    on_pod(id, namespace, name, "status", action)
}

fn on_pod(
    id: u64,
    namespace: &str,
    name: &str,
    subresource: &'static str,
    action: CallAction,
) -> ControllerCall {
    let (namespace, name): (String, String) = (namespace.into(), name.into());
    ControllerCall {
        id,
        user: USER,
        action,
        resource: Resource::PODS,
        namespace,
        name,
        subresource,
    }
}
