//! A stored object as everyone reads it: encoded once, shared by all.

use alloc::{boxed::Box, collections::BTreeMap, string::String, sync::Arc, vec::Vec};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::Resource;

/// One version of one object. Immutable; shared by the cache, lists and watches.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is.
    pub resource: Resource,
    /// The parts of its metadata that selectors and indexes need.
    pub meta: Meta,
    /// The node that a pod is bound to; empty: none, or it is no pod. Each agent's watch selects by it, so that no watch
    /// reads each pod for it.
    pub node: Box<str>,
    /// Revision of the change that made this version; equal to its `metadata.resourceVersion`.
    pub revision: u64,
    /// The JSON in the hub version, with `apiVersion`, `kind` and `metadata.resourceVersion`.
    pub bytes: Arc<[u8]>,
}

impl Object {
    /// The whole object as a JSON value. Cheap enough for a request, not for a loop over all objects.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// A typed view of the parts that `T` names; unknown fields are skipped.
    pub fn view<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }

    /// The resourceVersion as clients see it.
    pub fn resource_version(&self) -> String {
        alloc::format!("{}", self.revision)
    }
}

/// Reference to an owner (`metadata.ownerReferences[]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// `apps/v1`.
    pub api_version: String,
    /// `ReplicaSet`.
    pub kind: String,
    /// Name of the owner, in the same namespace or cluster-scoped.
    pub name: String,
    /// Which life of that name.
    pub uid: String,
    /// The one managing controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Foreground deletion of the owner waits for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// `metadata`, as far as the machinery needs it. Times are RFC 3339 text as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Unique in its namespace.
    pub name: String,
    /// Empty for cluster-scoped objects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Which life of this name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Rises with each change of the desired state.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// When it is or was to be gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Seconds granted at deletion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations (not kept in the cache's copy; see [`Object::view`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Owners.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// What must be done before it can go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Meta {
    /// The owner that controls this object, if any.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }
}
