//! Request bodies to JSON values: JSON with doubled keys found and depth bounded, and Kubernetes' protobuf.

use alloc::{string::String, vec::Vec};

use serde_json::Value;

use crate::status::Status;

/// A body that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// Paths of keys that were there twice (the last one holds): `spec.replicas`.
    pub doubled: Vec<String>,
}

/// Reads JSON text.
///
/// # Errors
/// 400: not JSON, or deeper than `limits::DEPTH_MAX`.
pub fn json(_bytes: &[u8]) -> Result<Decoded, Status> {
    Err(Status::internal("not there yet"))
}

/// Reads a protobuf body (`k8s\0` and `Unknown`); its `apiVersion` and `kind` are in the value.
///
/// # Errors
/// 400: not such a body, or a type that is not known.
pub fn protobuf(_bytes: &[u8]) -> Result<Decoded, Status> {
    Err(Status::internal("not there yet"))
}

/// Reads a body by its `content-type` (empty: JSON). YAML must have been made JSON before.
///
/// # Errors
/// 415 for other types; else as [`json`] and [`protobuf`].
pub fn body(content_type: &str, bytes: &[u8]) -> Result<Decoded, Status> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" | "application/yaml" => json(bytes),
        "application/vnd.kubernetes.protobuf" => protobuf(bytes),
        _ => Err(Status::unsupported_media_type(&[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
        ])),
    }
}
