//! The `scale` subresource of Deployments and ReplicaSets, in the shapes of its versions.

use alloc::string::String;

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{
    access::{at, entries, int, items, keep, name, set, text},
    field::{FieldErrors, Path},
};

/// The Scale of a Deployment or ReplicaSet (hub version), in the shape of the group and version asked: autoscaling/v1
/// for apps/v1, else that version's own.
pub fn get(group: &str, version: &str, object: &Value) -> Value {
    let metadata = at(object, &["metadata"]).cloned().unwrap_or(Value::Null);
    let mut kept = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if metadata.get(key).is_some() {
            keep(&mut kept, &metadata, key);
        }
    }
    let mut spec = json!({});
    let replicas = int(object, &["spec", "replicas"]).unwrap_or(0);
    if replicas != 0 {
        set(&mut spec, "replicas", replicas);
    }
    let mut status = json!({ "replicas": int(object, &["status", "replicas"]).unwrap_or(0) });
    let selector = at(object, &["spec", "selector"]);
    let legacy = version != "v1";
    if let Some(selector) = selector {
        let text = selector_text(selector);
        if legacy {
            if items(selector, &["matchExpressions"]).is_empty() {
                keep(&mut status, &json!({ "selector": selector["matchLabels"] }), "selector");
            }
            set(&mut status, "targetSelector", text);
        } else if !text.is_empty() {
            set(&mut status, "selector", text);
        }
    }
    let api_version =
        if legacy { alloc::format!("{group}/{version}") } else { String::from("autoscaling/v1") };
    json!({ "kind": "Scale", "apiVersion": api_version, "metadata": kept, "spec": spec, "status": status })
}

/// The object (hub version) with the replicas of a Scale that was PUT (or the result of a PATCH on [`get`]). The caller
/// guards the write with the Scale's `metadata.resourceVersion` and sends it on as an update.
///
/// # Errors
/// 400 where the names differ, 422 for a wrong number.
pub fn put(resource: Resource, scale: &Value, object: &Value) -> Result<Value, Status> {
    if !name(scale).is_empty() && name(scale) != name(object) {
        return Err(Status::bad_request(alloc::format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name(scale),
            name(object)
        )));
    }
    let replicas = int(scale, &["spec", "replicas"]).unwrap_or(0);
    let mut errors = FieldErrors::default();
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        errors.invalid(&path, replicas, "must be greater than or equal to 0");
    }
    errors.into_result("autoscaling", "Scale", name(object))?;
    let uid = text(scale, &["metadata", "uid"]);
    if !uid.is_empty() && uid != text(object, &["metadata", "uid"]) {
        let def = resource.def();
        let now = text(object, &["metadata", "uid"]);
        let why = alloc::format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {now}"
        );
        return Err(Status::conflict(def.group, def.plural, name(object), &why));
    }
    let mut object = object.clone();
    set(super::access::child(&mut object, "spec"), "replicas", replicas);
    Ok(object)
}

/// A label selector as text: `a=b,c in (d,e)`, in order of keys.
fn selector_text(selector: &Value) -> String {
    let mut parts: alloc::vec::Vec<(String, String)> = entries(selector, &["matchLabels"])
        .map(|(key, value)| (key.clone(), alloc::format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for expression in items(selector, &["matchExpressions"]) {
        let key = text(expression, &["key"]);
        let mut values: alloc::vec::Vec<&str> =
            items(expression, &["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(expression, &["operator"]) {
            "In" => alloc::format!("{key} in ({values})"),
            "NotIn" => alloc::format!("{key} notin ({values})"),
            "Exists" => key.into(),
            "DoesNotExist" => alloc::format!("!{key}"),
            _ => continue,
        };
        parts.push((key.into(), part));
    }
    parts.sort();
    let parts: alloc::vec::Vec<String> = parts.into_iter().map(|(_, part)| part).collect();
    parts.join(",")
}
