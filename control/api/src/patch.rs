//! Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge patch. Apply is in [`crate::managed`].

use serde_json::Value;

use crate::{schema::TypeRef, status::Status};

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902.
///
/// # Errors
/// 400: no JSON patch. 422: an operation does not apply, or a test failed.
pub fn json(_target: &mut Value, _patch: &Value) -> Result<(), Status> {
    Err(Status::internal("not there yet"))
}

/// Strategic merge patch, by the type's list-map keys and directives.
///
/// # Errors
/// 400: a directive that there is not, or a list item without its merge key.
pub fn strategic(_ty: TypeRef, _target: &mut Value, _patch: &Value) -> Result<(), Status> {
    Err(Status::internal("not there yet"))
}
