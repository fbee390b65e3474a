//! Objects and watch events as bytes: encoded once, then shared by the store, lists and watches.

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Meta, Object, Resource, Status, decode::depth, limits::DEPTH_MAX};
use serde_json::Value;

use crate::limits::{DATA_OBJECT_BYTES_MAX, ENDING_BYTES_MAX, OBJECT_BYTES_MAX};

/// What is wrong with a value that should be an object.
pub(crate) type EncodeError = String;

/// Writes a JSON value. `Value` has string keys only, so this cannot fail.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The object at this revision: `apiVersion`, `kind` and `metadata.resourceVersion` are set.
///
/// # Errors
/// `metadata` is missing or not what metadata is, or the value is nested so deep that it could not be read again.
pub(crate) fn object_at(
    resource: Resource,
    mut value: Value,
    revision: u64,
) -> Result<Object, EncodeError> {
    let def = resource.def();
    // What the schema leaves open (fieldsV1) can come in protobuf, where its depth is counted on its own.
    if depth(&value) >= DEPTH_MAX {
        return Err(format!("the object is nested more than {} deep", DEPTH_MAX - 1));
    }
    let map = value.as_object_mut().ok_or("the object is not a JSON object")?;
    map.insert("apiVersion".into(), def.api_version().into());
    map.insert("kind".into(), def.kind.into());
    let metadata = map
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or("metadata is missing or not an object")?;
    metadata.insert("resourceVersion".into(), revision.to_string().into());
    let bytes: Arc<[u8]> = bytes_of(&value).into();
    let meta = meta_of(&bytes)?;
    let node = node_of(resource, &value);
    Ok(Object { resource, meta, node, revision, bytes })
}

/// [`object_at`] for an object that is to be written: not larger than what is kept.
///
/// # Errors
/// 400: not an object. 413: larger than `limits::OBJECT_BYTES_MAX` (or `DATA_OBJECT_BYTES_MAX`), by more than
/// `ENDING_BYTES_MAX` where it is being deleted.
pub(crate) fn written(resource: Resource, value: Value, revision: u64) -> Result<Object, Status> {
    let object = object_at(resource, value, revision).map_err(Status::bad_request)?;
    let holds_data = resource == Resource::CONFIG_MAPS || resource == Resource::SECRETS;
    let most = if holds_data { DATA_OBJECT_BYTES_MAX } else { OBJECT_BYTES_MAX };
    // Full or not, it can be marked as deleted, and what holds it can say so.
    let ending = object.meta.deletion_timestamp.is_some();
    let most = if ending { most + ENDING_BYTES_MAX } else { most };
    if object.bytes.len() > most {
        let message = format!(
            "{} \"{}\" is too large: {} bytes of JSON, at most {most} are kept; split it, or keep the data in a volume",
            coracle_api::status::qualified(resource.def().group, resource.def().plural),
            object.meta.name,
            object.bytes.len()
        );
        return Err(Status::new(413, "RequestEntityTooLarge", message));
    }
    Ok(object)
}

/// What is stored: the value without `metadata.resourceVersion` (the entry's revision says it).
pub(crate) fn stored_bytes(value: &mut Value) -> Vec<u8> {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    bytes_of(value)
}

/// The node that a pod is bound to.
pub(crate) fn node_of(resource: Resource, value: &Value) -> Box<str> {
    let name = value.pointer("/spec/nodeName").filter(|_| resource == Resource::PODS);
    name.and_then(Value::as_str).unwrap_or_default().into()
}

/// The metadata that the machinery keeps, without the annotations: those are read from the bytes when needed.
fn meta_of(bytes: &[u8]) -> Result<Meta, EncodeError> {
    #[derive(serde::Deserialize)]
    struct Head {
        metadata: Meta,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| format!("metadata: {error}"))?;
    Ok(Meta { annotations: alloc::collections::BTreeMap::new(), ..head.metadata })
}

/// The last version of something that is gone, under the number of its going.
pub(crate) fn with_revision(object: &Object, revision: u64) -> Arc<[u8]> {
    let mut value = object.value();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), revision.to_string().into());
    }
    bytes_of(&value).into()
}

/// Key under which the store has an object.
pub(crate) fn store_key(resource: Resource, namespace: &str, name: &str) -> Arc<str> {
    let def = resource.def();
    let group = if def.group.is_empty() { "core" } else { def.group };
    let plural = def.plural;
    if namespace.is_empty() {
        format!("/registry/{group}/{plural}/{name}").into()
    } else {
        format!("/registry/{group}/{plural}/{namespace}/{name}").into()
    }
}

/// The resource that a store key is of; `None` for keys of something that is not served.
pub(crate) fn resource_of_key(key: &str) -> Option<Resource> {
    let mut parts = key.strip_prefix("/registry/")?.split('/');
    let group = match parts.next()? {
        "core" => "",
        group => group,
    };
    Resource::find(group, parts.next()?)
}

/// What happened to an object, as a watcher sees it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is new to this watch.
    Added,
    /// It was there and changed.
    Modified,
    /// It is gone, or left the selection (W5).
    Deleted,
    /// Everything up to this revision has been said.
    Bookmark,
    /// The watch is over; a Status says why.
    Error,
}

/// The constant pieces of watch events, shared by all watches.
#[derive(Debug)]
pub struct Pieces {
    heads: [Arc<[u8]>; 5],
    tail: Arc<[u8]>,
}

impl Default for Pieces {
    fn default() -> Self {
        let head = |name: &str| format!("{{\"type\":\"{name}\",\"object\":").into_bytes().into();
        Self {
            heads: [
                head("ADDED"),
                head("MODIFIED"),
                head("DELETED"),
                head("BOOKMARK"),
                head("ERROR"),
            ],
            tail: b"}\n".as_slice().into(),
        }
    }
}

impl Pieces {
    /// Appends one event: head, the object's own bytes, tail.
    pub fn event(&self, kind: EventType, object: Arc<[u8]>, out: &mut Vec<Arc<[u8]>>) {
        let [added, modified, deleted, bookmark, error] = &self.heads;
        let head = match kind {
            EventType::Added => added,
            EventType::Modified => modified,
            EventType::Deleted => deleted,
            EventType::Bookmark => bookmark,
            EventType::Error => error,
        };
        out.extend([head.clone(), object, self.tail.clone()]);
    }
}

/// A bookmark's object: nothing but its kind and where the watch is.
pub fn bookmark(
    api_version: &str,
    kind: &str,
    revision: u64,
    initial_events_end: bool,
) -> Arc<[u8]> {
    let annotations = if initial_events_end {
        r#","annotations":{"k8s.io/initial-events-end":"true"}"#
    } else {
        ""
    };
    format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{revision}","creationTimestamp":null{annotations}}}}}"#
    )
    .into_bytes()
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_becomes_an_object_can_be_read_again() {
        let check = |levels: usize, good: bool| {
            let fields = (0..levels).fold(json!({}), |inner, _| json!({ "f:a": inner }));
            let value = json!({ "metadata": { "managedFields": [{ "fieldsV1": fields }] } });
            let object = object_at(Resource::CONFIG_MAPS, value, 7);
            assert_eq!(object.is_ok(), good, "{levels} {object:?}");
            assert!(object.is_err() || object.is_ok_and(|object| object.value() != Value::Null));
        };
        // Four lie around it, and it ends in an empty object.
        check(DEPTH_MAX - 6, true);
        check(DEPTH_MAX - 5, false);
    }
}
