//! Checks a value against its type: unknown fields go, wrong types are refused, quantities become canonical.

use alloc::{string::String, vec::Vec};

use serde_json::Value;

use crate::{schema::TypeRef, status::Status};

/// `fieldValidation` of a request.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown and doubled fields are dropped without a word.
    Ignore,
    /// They are dropped with a Warning each (the server's default).
    #[default]
    Warn,
    /// They are a 400.
    Strict,
}

/// Drops unknown fields and nulls, canonicalises quantities and times, in place.
/// Gives what was unknown, as Kubernetes words it: `unknown field "spec.foo"`.
///
/// # Errors
/// A value of the wrong type: `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
pub fn prune(_ty: TypeRef, _value: &mut Value) -> Result<Vec<String>, String> {
    Ok(Vec::new())
}

/// What a request body goes through: [`prune`], then doubled and unknown fields by `mode`. Gives the Warnings.
/// `doubled` comes from [`crate::decode`].
///
/// # Errors
/// 400 with Kubernetes' message: a wrong type, or under `Strict` any unknown or doubled field.
pub fn check(
    _ty: TypeRef,
    _value: &mut Value,
    _doubled: &[String],
    _mode: FieldValidation,
) -> Result<Vec<String>, Status> {
    Ok(Vec::new())
}
