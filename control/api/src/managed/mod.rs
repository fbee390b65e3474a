//! `metadata.managedFields`: who owns which field; server-side apply.
//!
//! The rules are those of Kubernetes' structured merge: lists and maps by the schema's list types, a writer owns what it
//! set or changed, an applier owns what its configuration says. Ownership is noted by the names of the hub version's
//! fields, whichever version a client wrote through.

mod entries;
mod set;
mod walk;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value};

use crate::{
    field_errors::go_quote,
    schema::{Shape, TypeRef},
    served,
    status::{Cause, Details, Status},
};
use entries::{Entry, Operation};
use set::Set;
use walk::Place;

/// Who writes.
#[derive(Copy, Clone, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or the first word of the user agent (at most 128 bytes).
    pub name: &'a str,
    /// apiVersion of the request (`apps/v1`).
    pub api_version: &'a str,
    /// Subresource written through, or empty.
    pub subresource: &'a str,
    /// Now, RFC 3339 in whole seconds.
    pub time: &'a str,
}

/// Parts of metadata that the server keeps and nobody owns.
const UNOWNED_METADATA: &[&str] = &[
    "f:clusterName",
    "f:creationTimestamp",
    "f:deletionGracePeriodSeconds",
    "f:deletionTimestamp",
    "f:generation",
    "f:managedFields",
    "f:name",
    "f:namespace",
    "f:resourceVersion",
    "f:selfLink",
    "f:uid",
];

/// Structs that Go holds by value: they are there in every object, and in every empty one.
const ALWAYS_THERE: &[&str] = &[
    "daemonEndpoints",
    "involvedObject",
    "kubeletEndpoint",
    "loadBalancer",
    "metadata",
    "nodeInfo",
    "roleRef",
    "source",
    "spec",
    "status",
    "strategy",
    "template",
];

/// Notes in `new` who owns what after a create (`live` is `None`), update or patch: the writer owns each field that it
/// set or changed, others lose what was changed or removed. The entries of `live` are the base, unless `new` brings
/// entries of its own or empties them.
pub fn update(ty: TypeRef, live: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let mut managers = if entries::asks_to_forget(new) {
        Vec::new()
    } else {
        entries::read(new).or_else(|| live.and_then(entries::read)).unwrap_or_default()
    };
    let old = with_embedded(ty, live.unwrap_or(&Value::Null), new);
    let seen = with_embedded(ty, new, live.unwrap_or(&Value::Null));
    let mut changes = walk::compare(Place::root(ty), &old, &seen);
    for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        strip(set, ty, writer.subresource);
    }
    let taken = changes.added.union(&changes.modified);
    for manager in &mut managers {
        if !manager.is_by(writer, Operation::Update) {
            manager.set = manager.set.difference(&taken);
        }
        manager.set = manager.set.difference(&changes.removed);
    }
    if !taken.is_empty() {
        match managers.iter_mut().find(|manager| manager.is_by(writer, Operation::Update)) {
            Some(manager) => {
                manager.set = manager.set.union(&taken);
                manager.time = Some(writer.time.into());
            }
            None => managers.push(Entry::new(writer, Operation::Update, taken)),
        }
    }
    entries::write(new, managers);
}

/// Server-side apply: the object after applying `config` for this writer (`live` is `None`: it is made now).
///
/// # Errors
/// 409 with a cause for each field that another owns with another value (unless `force`). 400: a list item without its keys.
pub fn apply(
    ty: TypeRef,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Status> {
    let place = Place::root(ty);
    let refused = |walk::NoKeys(why)| {
        Status::bad_request(format!("failed to create typed patch object: {why}"))
    };
    let nothing = Value::Object(Map::new());
    let base = live.unwrap_or(&nothing);
    let mut managers = match (live, entries::read(base)) {
        (_, Some(managers)) => managers,
        (None, None) => Vec::new(),
        (Some(live), None) => {
            alloc::vec![before_first_apply(place, live, ty, writer).map_err(refused)?]
        }
    };
    let mut set = walk::to_set(place, config).map_err(refused)?;
    strip(&mut set, ty, writer.subresource);
    let mut made = walk::merge(place, base, config).map_err(refused)?;
    let at = managers.iter().position(|manager| manager.is_by(writer, Operation::Apply));
    let last = at.map(|at| managers.remove(at));
    if let Some(last) = &last {
        let owned = managers.iter().fold(set.clone(), |all, manager| all.union(&manager.set));
        walk::prune(place, &mut made, &last.set, &owned);
    }
    let old = with_embedded(ty, base, &made);
    let mut changes = walk::compare(place, &old, &with_embedded(ty, &made, base));
    for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        strip(set, ty, writer.subresource);
    }
    let taken = changes.added.union(&changes.modified);
    let conflicts: Vec<(&Entry, Set)> = managers
        .iter()
        .map(|manager| (manager, manager.set.intersection(&taken)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    for manager in &mut managers {
        manager.set = manager.set.difference(&taken).difference(&changes.removed);
    }
    let changed = !taken.is_empty() || !changes.removed.is_empty();
    let mut entry = Entry::new(writer, Operation::Apply, set);
    if let Some(last) = last
        && last.set == entry.set
        && !changed
    {
        entry.time = last.time;
    }
    managers.push(entry);
    if let Value::Object(made) = &mut made {
        made.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    }
    entries::write(&mut made, managers);
    Ok(made)
}

/// What is there when somebody applies for the first time, and nobody is known to own, is owned by this.
fn before_first_apply(
    place: Place,
    live: &Value,
    ty: TypeRef,
    writer: &Writer<'_>,
) -> Result<Entry, walk::NoKeys> {
    let mut set = walk::to_set(place, live)?;
    strip(&mut set, ty, "");
    let writer = Writer { name: "before-first-apply", subresource: "", ..*writer };
    Ok(Entry::new(&writer, Operation::Update, set))
}

/// Takes out what nobody owns: identity, what the server keeps, and the part that belongs to another endpoint.
fn strip(set: &mut Set, ty: TypeRef, subresource: &str) {
    set.remove_tree(&["f:apiVersion"]);
    set.remove_tree(&["f:kind"]);
    for field in UNOWNED_METADATA {
        set.remove_tree(&["f:metadata", field]);
    }
    set.remove_top("f:metadata");
    let has_status = ty.gvk().is_some_and(|(group, version, kind)| {
        served::all().iter().any(|row| {
            row.subresource() == "status"
                && (row.group, row.version, row.kind) == (group, version, kind)
        })
    });
    match subresource {
        "" if has_status => set.remove_tree(&["f:status"]),
        "status" => set.remove_tree(&["f:spec"]),
        _ => {}
    }
}

/// A copy with the structs that Go always has, as far as `like` has them: their coming is nobody's doing.
fn with_embedded(ty: TypeRef, value: &Value, like: &Value) -> Value {
    let mut out = if value.is_object() { value.clone() } else { Value::Object(Map::new()) };
    let (Value::Object(map), Value::Object(like)) = (&mut out, like) else { return out };
    for (key, like) in like {
        let Some(field) = ty.field(key) else { continue };
        let shape = field.shape();
        match shape.type_ref() {
            Some(below) if ALWAYS_THERE.contains(&key.as_str()) && like.is_object() => {
                let inner = with_embedded(below, map.get(key).unwrap_or(&Value::Null), like);
                map.insert(key.clone(), inner);
            }
            // Lists that Go writes even where they are empty.
            None if matches!(shape, Shape::List(_))
                && field.required()
                && !map.contains_key(key) =>
            {
                map.insert(key.clone(), Value::Null);
            }
            _ => {}
        }
    }
    out
}

fn conflict(conflicts: &[(&Entry, Set)]) -> Status {
    let mut causes = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for (entry, set) in conflicts {
        let mut who = go_quote(&entry.manager);
        if !entry.subresource.is_empty() {
            who.push_str(&format!(" with subresource {}", go_quote(&entry.subresource)));
        }
        if entry.operation == Operation::Update {
            who.push_str(&format!(" using {}", entry.api_version));
        }
        lines.push(format!("conflicts with {who}:"));
        for path in set.paths() {
            lines.push(format!("- {path}"));
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {who}"),
                field: path,
            });
        }
    }
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n")),
    };
    let details = Details { causes, ..Details::default() };
    Status { details: Some(details), ..Status::new(409, "Conflict", message.to_string()) }
}

#[cfg(test)]
mod tests;
