//! The entries of `metadata.managedFields`: read, written, bounded.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Value, json};

use super::{Writer, set::Set};
use crate::limits;

/// Update or Apply; Apply comes first in the list.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What one manager owns.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) set: Set,
}

impl Entry {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, set: Set) -> Self {
        Self {
            manager: writer.name.into(),
            operation,
            api_version: writer.api_version.into(),
            subresource: writer.subresource.into(),
            time: Some(writer.time.into()),
            set,
        }
    }

    /// The same manager: an applier is one through all versions.
    pub(super) fn is_by(&self, writer: &Writer<'_>, operation: Operation) -> bool {
        self.manager == writer.name
            && self.operation == operation
            && self.subresource == writer.subresource
            && (operation == Operation::Apply || self.api_version == writer.api_version)
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(ToString::to_string);
        let operation = match text("operation")?.as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Self {
            manager: text("manager").unwrap_or_default(),
            operation,
            api_version: text("apiVersion").unwrap_or_default(),
            subresource: text("subresource").unwrap_or_default(),
            time: text("time"),
            set: Set::from_fields(value.get("fieldsV1")?),
        })
    }

    fn write(&self) -> Value {
        let set = |out: &mut Value, key: &str, text: &str| {
            if let Value::Object(map) = out {
                map.insert(key.into(), text.into());
            }
        };
        let operation = if self.operation == Operation::Apply { "Apply" } else { "Update" };
        let mut out = json!({
            "manager": self.manager, "operation": operation, "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.set.to_fields(),
        });
        if let Some(time) = &self.time {
            set(&mut out, "time", time);
        }
        if !self.subresource.is_empty() {
            set(&mut out, "subresource", &self.subresource);
        }
        out
    }
}

/// Reads an object's entries; `None` where it has no (readable) ones.
pub(super) fn read(object: &Value) -> Option<Vec<Entry>> {
    let list = object.get("metadata")?.get("managedFields")?.as_array()?;
    list.iter().map(Entry::read).collect()
}

/// The object asks for its entries to be forgotten: an empty list, or one empty entry.
pub(super) fn asks_to_forget(object: &Value) -> bool {
    let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.is_some_and(|list| match list.as_slice() {
        [] => true,
        [entry] => entry.as_object().is_some_and(serde_json::Map::is_empty),
        _ => false,
    })
}

/// Writes the entries into the object, those without fields left out, bounded and in Kubernetes' order.
pub(super) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.set.is_empty());
    let order = |a: &Entry, b: &Entry| {
        (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    };
    entries.sort_by(order);
    let updates = entries.iter().filter(|entry| entry.operation == Operation::Update).count();
    if updates > limits::UPDATE_MANAGERS_MAX {
        join_oldest(&mut entries, updates - limits::UPDATE_MANAGERS_MAX + 1);
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        let list = entries.iter().map(Entry::write).collect();
        metadata.insert("managedFields".into(), Value::Array(list));
    }
}

/// Puts the oldest updaters together, by version, as `ancient-changes`.
fn join_oldest(entries: &mut Vec<Entry>, mut count: usize) {
    let mut joined: Vec<Entry> = Vec::new();
    entries.retain(|entry| {
        if entry.operation == Operation::Apply || count == 0 {
            return true;
        }
        count -= 1;
        let same = joined.iter_mut().find(|has| has.api_version == entry.api_version);
        match same {
            Some(has) => {
                has.set = has.set.union(&entry.set);
                has.time.clone_from(&entry.time);
            }
            None => joined.push(Entry {
                manager: "ancient-changes".into(),
                subresource: String::new(),
                ..entry.clone()
            }),
        }
        false
    });
    let at = entries.iter().take_while(|entry| entry.operation == Operation::Apply).count();
    entries.splice(at..at, joined);
}
