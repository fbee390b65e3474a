//! Request bodies to JSON values: JSON with doubled keys found and depth bounded, and Kubernetes' protobuf.

mod json;
mod protobuf;

use alloc::{string::String, vec::Vec};

use serde_json::Value;

use crate::status::Status;
pub use json::json;
pub use protobuf::protobuf;

/// Media types of bodies that [`body`] reads.
pub const MEDIA_TYPES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// A body that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// Paths of keys that were there twice (the last one holds): `spec.replicas`. At most `limits::WARNINGS_MAX`.
    pub doubled: Vec<String>,
}

/// Reads a body by its `content-type` (empty: JSON). YAML must have been made JSON before.
///
/// # Errors
/// 415 for other types; else as [`json()`] and [`protobuf()`].
pub fn body(content_type: &str, bytes: &[u8]) -> Result<Decoded, Status> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" | "application/yaml" => json(bytes),
        "application/vnd.kubernetes.protobuf" => protobuf(bytes),
        _ => Err(Status::unsupported_media_type(MEDIA_TYPES)),
    }
}

/// How many arrays and objects lie inside each other; 0 of anything else. Text that serde_json reads back has less than
/// [`crate::limits::DEPTH_MAX`].
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
