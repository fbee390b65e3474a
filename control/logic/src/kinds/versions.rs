//! Conversion between the versions clients use and the hub version that is stored.

use coracle_api::Status;
use serde_json::Value;

use super::{
    access::{child, object, or_set, remove, set, text},
    events,
};

/// The annotation that stands for `spec.rollbackTo` in versions without that field.
pub(crate) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// From the client's version to the hub's, `apiVersion` included. The kind is read from the object.
///
/// # Errors
/// 400 where the object cannot be said in the hub version.
pub fn to_hub(group: &str, version: &str, value: Value) -> Result<Value, Status> {
    let mut value = value;
    match (group, version) {
        ("apps", "v1beta1" | "v1beta2") | ("extensions", "v1beta1") => {
            set(&mut value, "apiVersion", "apps/v1");
            let spec = child(&mut value, "spec");
            if let Some(to) = remove(spec, "rollbackTo").filter(|to| !to.is_null()) {
                let revision = to.get("revision").and_then(Value::as_i64).unwrap_or(0);
                let annotations = child(child(&mut value, "metadata"), "annotations");
                set(annotations, ROLLBACK_TO, alloc::format!("{revision}"));
            }
            Ok(value)
        }
        ("events.k8s.io", _) => {
            events::to_core(&mut value);
            Ok(value)
        }
        _ => Ok(value),
    }
}

/// From the hub's version to the one the client asked for.
pub fn from_hub(group: &str, version: &str, value: Value) -> Value {
    let mut value = value;
    match (group, version) {
        ("apps", "v1beta1") | ("extensions", "v1beta1") => {
            set(&mut value, "apiVersion", alloc::format!("{group}/{version}"));
            if text(&value, &["kind"]) == "Deployment" {
                rollback_from_annotation(&mut value);
            }
            value
        }
        ("apps", "v1beta2") => {
            set(&mut value, "apiVersion", "apps/v1beta2");
            value
        }
        ("events.k8s.io", _) => {
            events::from_core(&mut value);
            value
        }
        _ => value,
    }
}

/// The annotation becomes `spec.rollbackTo`; one that is no number stays an annotation.
fn rollback_from_annotation(value: &mut Value) {
    let given = text(value, &["metadata", "annotations", ROLLBACK_TO]);
    let Ok(revision) = given.parse::<i64>() else { return };
    let metadata = child(value, "metadata");
    let annotations = child(metadata, "annotations");
    remove(annotations, ROLLBACK_TO);
    if object(annotations).is_empty() {
        remove(metadata, "annotations");
    }
    let rollback = child(child(value, "spec"), "rollbackTo");
    or_set(rollback, "revision", revision);
}
