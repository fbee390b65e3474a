//! What may change in a pod once it is there.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use serde_json::Value;

use super::validate::{ip_address, spec as validate_spec};
use crate::kinds::{
    access::{at, child, each, int, items, keep, remove, same, set, text},
    field::{FieldErrors, Path},
};

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// `spec` of a pod that is updated.
pub(crate) fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let none = Value::Null;
    let new_spec = at(new, &["spec"]).unwrap_or(&none);
    let old_spec = at(old, &["spec"]).unwrap_or(&none);
    if same(Some(new_spec), Some(old_spec)) {
        return;
    }
    validate_spec(new_spec, &path, errors);
    for list in ["containers", "initContainers"] {
        if items(new_spec, &[list]).len() != items(old_spec, &[list]).len() {
            let why = "pod updates may not add or remove containers";
            errors.forbidden(&path.child(list), why);
            return;
        }
    }
    deadline(new_spec, old_spec, &path, errors);
    gates(new_spec, old_spec, &path, errors);
    tolerations(new_spec, old_spec, &path, errors);

    // With all that may change put back, nothing may be left.
    let mut munged = new_spec.clone();
    for list in ["containers", "initContainers"] {
        let images: Vec<Option<Value>> =
            items(old_spec, &[list]).iter().map(|one| one.get("image").cloned()).collect();
        let containers = munged.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, image) in containers.zip(images) {
            set(container, "image", image.unwrap_or(Value::Null));
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut munged, old_spec, key);
    }
    let grace = |spec| int(spec, &["terminationGracePeriodSeconds"]);
    if grace(old_spec).is_some_and(|seconds| seconds < 0) && grace(new_spec) == Some(1) {
        keep(&mut munged, old_spec, "terminationGracePeriodSeconds");
    }
    if !items(old_spec, &["schedulingGates"]).is_empty() {
        gated(&mut munged, old_spec, &path, errors);
    }
    let mut before = old_spec.clone();
    for spec in [&mut munged, &mut before] {
        // Two names of one field.
        remove(spec, "serviceAccount");
        each(spec, "containers", |container| {
            child(container, "resources");
        });
    }
    if !same(Some(&munged), Some(&before)) {
        errors.forbidden(&path, MAY_CHANGE);
    }
}

fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("activeDeadlineSeconds");
    match (int(old, &["activeDeadlineSeconds"]), int(new, &["activeDeadlineSeconds"])) {
        (Some(_), None) => {
            errors.invalid(&path, "", "must not update from a positive integer to nil value");
        }
        (Some(old), Some(new)) if new > old => {
            errors.invalid(&path, new, "must be less than or equal to previous value");
        }
        _ => {}
    }
}

fn gates(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let before = items(old, &["schedulingGates"]);
    for gate in items(new, &["schedulingGates"]) {
        if !before.contains(gate) {
            let why = alloc::format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                text(gate, &["name"])
            );
            errors.forbidden(&path.child("schedulingGates"), &why);
        }
    }
}

/// While gated, a pod's node selector may be made narrower.
fn gated(munged: &mut Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let before = at(old, &["nodeSelector"]).and_then(Value::as_object);
    let kept = before
        .into_iter()
        .flatten()
        .all(|(key, value)| at(munged, &["nodeSelector", key]).is_some_and(|now| now == value));
    if kept {
        keep(munged, old, "nodeSelector");
    } else {
        let why = "only additions to nodeSelector are allowed (no mutations or deletions)";
        let now = munged.get("nodeSelector").cloned().unwrap_or(Value::Null);
        errors.invalid(&path.child("nodeSelector"), &now, why);
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path, errors: &mut FieldErrors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        alloc::format!("{toleration}")
    };
    let now: BTreeSet<String> = items(new, &["tolerations"]).iter().map(without_seconds).collect();
    let kept = items(old, &["tolerations"]).iter().all(|old| now.contains(&without_seconds(old)));
    if !kept {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(&path.child("tolerations"), why);
    }
}

/// `status` of a pod that its node (or another) writes.
pub(crate) fn validate_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let status = at(new, &["status"]).unwrap_or(&Value::Null);
    let node = text(status, &["nominatedNodeName"]);
    if !node.is_empty() {
        for why in coracle_api::validation::dns1123_subdomain(node) {
            errors.invalid(&path.child("nominatedNodeName"), node, &why);
        }
    }
    let policy = text(new, &["spec", "restartPolicy"]);
    for list in ["containerStatuses", "initContainerStatuses"] {
        // An init container that may restart: with any policy but Never.
        if policy == "Always" || (list == "initContainerStatuses" && policy != "Never") {
            continue;
        }
        let living: BTreeMap<&str, usize> = items(status, &[list])
            .iter()
            .enumerate()
            .filter(|(_, status)| at(status, &["state", "terminated"]).is_none())
            .map(|(index, status)| (text(status, &["name"]), index))
            .collect();
        for before in items(old, &["status", list]) {
            let Some(ended) = at(before, &["state", "terminated"]) else { continue };
            if int(ended, &["exitCode"]).unwrap_or(0) != 0 && policy == "OnFailure" {
                continue;
            }
            let name = text(before, &["name"]);
            if let Some(index) = living.get(name).copied() {
                let why = "may not be transitioned to non-terminated state";
                errors.forbidden(&path.child(list).index(index).child("state"), why);
            }
        }
    }
    for list in ["podIPs", "hostIPs"] {
        for (index, ip) in items(status, &[list]).iter().enumerate() {
            ip_address(text(ip, &["ip"]), &path.child(list).index(index).child("ip"), errors);
        }
    }
}
