//! What is POSTed to a pod: a Binding gives it its node, an Eviction asks for its deletion.

use alloc::{format, string::String};

use coracle_api::Status;
use serde_json::{Value, json};

use super::{
    Context,
    access::{at, child, entries, items, name, object, remove, set, text},
    conditions,
    field::{FieldErrors, Path},
};

/// The pod with the node that a Binding names, its annotations, and `PodScheduled` true. The answer to the client is a
/// Status with code 201.
///
/// # Errors
/// 400 where the names differ, 422 for a Binding without a node, 409 where the pod is assigned already, gated, being
/// deleted, or another life of the name than the Binding means.
pub fn bind(context: &Context<'_>, pod: &Value, binding: &Value) -> Result<Value, Status> {
    let pod_name = name(pod);
    if name(binding) != pod_name && !name(binding).is_empty() {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let mut errors = FieldErrors::default();
    let target = Path::new("target");
    let kind = text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&target.child("kind"), kind, &["Node", "<empty>"]);
    }
    let node = text(binding, &["target", "name"]);
    if node.is_empty() {
        errors.required(&target.child("name"), "");
    }
    errors.into_result("", "Binding", pod_name)?;

    let refuse = |why: String| Err(Status::conflict("", "pods/binding", pod_name, &why));
    for (key, label) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let want = text(binding, &["metadata", key]);
        let have = text(pod, &["metadata", key]);
        if !want.is_empty() && want != have {
            return refuse(format!(
                "Precondition failed: {label} in precondition: {want}, {label} in object meta: {have}"
            ));
        }
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        return refuse(format!("pod {pod_name} is being deleted, cannot be assigned to a host"));
    }
    let assigned = text(pod, &["spec", "nodeName"]);
    if !assigned.is_empty() {
        return refuse(format!("pod {pod_name} is already assigned to node {assigned:?}"));
    }
    if !items(pod, &["spec", "schedulingGates"]).is_empty() {
        return refuse(format!("pod {pod_name} has non-empty .spec.schedulingGates"));
    }

    let mut pod = pod.clone();
    set(child(&mut pod, "spec"), "nodeName", node);
    let metadata = child(&mut pod, "metadata");
    for (key, value) in entries(binding, &["metadata", "annotations"]) {
        set(child(metadata, "annotations"), key, value.clone());
    }
    for (key, value) in entries(binding, &["metadata", "labels"]) {
        object(child(metadata, "labels")).entry(key.clone()).or_insert_with(|| value.clone());
    }
    let status = child(&mut pod, "status");
    remove(status, "nominatedNodeName");
    conditions::put(
        status,
        &json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null }),
        context.now,
    );
    Ok(pod)
}

/// The DeleteOptions that an Eviction asks for. There are no PodDisruptionBudgets yet, so nothing refuses it. The
/// answer to the client is a Status with code 201.
///
/// # Errors
/// 400 where the names differ.
pub fn evict(pod: &Value, eviction: &Value) -> Result<Value, Status> {
    if !name(eviction).is_empty() && name(eviction) != name(pod) {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let given = at(eviction, &["deleteOptions"]).cloned();
    let mut options = given.unwrap_or_else(|| json!({}));
    set(&mut options, "kind", "DeleteOptions");
    set(&mut options, "apiVersion", "v1");
    Ok(options)
}
