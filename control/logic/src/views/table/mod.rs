//! Tables (`meta.k8s.io` Table): what `kubectl get` prints, made from objects in their hub version.
//!
//! [`head`] and [`TAIL`] go around the rows of a list or of one object; [`row`] makes one row. In a watch each event is a
//! Table of one row, and only the first carries the columns.

mod cluster;
mod pods;
#[cfg(test)]
mod tests;
mod workloads;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{Object, Resource, served};
use serde_json::{Value, json};

use super::age;
use crate::{Millis, call::IncludeObject};

/// What follows the rows.
pub(crate) const TAIL: &str = "]}\n";

/// The beginning of a Table up to its rows. `metadata` is that of the list, or of the object's list to be; `columns`:
/// whether to carry the column definitions.
pub(crate) fn head(
    resource: Resource,
    group: &str,
    version: &str,
    table_version: &str,
    metadata: &Value,
    columns: bool,
) -> String {
    let definitions =
        if columns { column_definitions(resource, group, version) } else { Vec::new() };
    let definitions = Value::Array(definitions);
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{table_version}\",\"metadata\":{metadata},\
         \"columnDefinitions\":{definitions},\"rows\":["
    )
}

fn column_definitions(resource: Resource, group: &str, version: &str) -> Vec<Value> {
    let def = resource.def();
    let served = served::find(group, version, def.plural, "")
        .or_else(|| served::find(def.group, def.version, def.plural, ""));
    let columns = served.map(|row| row.columns).unwrap_or_default();
    let column = |column: &served::Column| {
        json!({
            "name": column.name, "type": column.kind, "format": column.format, "description": "",
            "priority": column.priority,
        })
    };
    columns.iter().map(column).collect()
}

/// One row: cells from the hub `value`, and as much of `shown` (the object as the client's version has it) as is asked.
pub(crate) fn row(
    now: Millis,
    resource: Resource,
    value: &Value,
    shown: Value,
    include: IncludeObject,
    table_version: &str,
) -> Value {
    let mut out = json!({ "cells": cells(now, resource, value) });
    let object = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Object => shown,
        IncludeObject::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": format!("meta.k8s.io/{table_version}"),
            "metadata": shown.get("metadata").cloned().unwrap_or_default(),
        }),
    };
    if let Value::Object(out) = &mut out {
        out.insert("object".into(), object);
        if resource == Resource::PODS
            && let Some(condition) = pods::condition(value)
        {
            out.insert("conditions".into(), json!([condition]));
        }
    }
    out
}

/// The cells of one object, for every column whatever its priority.
pub(crate) fn cells(now: Millis, resource: Resource, value: &Value) -> Vec<Value> {
    let metadata = value.get("metadata").unwrap_or(&Value::Null);
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let name = text("name").unwrap_or_default();
    let created = text("creationTimestamp");
    let at = At { now, name, created };
    match resource {
        Resource::PODS => pods::cells(&at, value),
        Resource::DEPLOYMENTS => workloads::deployment(&at, value),
        Resource::REPLICA_SETS => workloads::replica_set(&at, value),
        Resource::NODES => cluster::node(&at, value),
        Resource::NAMESPACES => cluster::namespace(&at, value),
        Resource::CONFIG_MAPS => cluster::config_map(&at, value),
        Resource::SECRETS => cluster::secret(&at, value),
        Resource::SERVICES => cluster::service(&at, value),
        Resource::EVENTS => cluster::event(&at, value),
        Resource::LEASES => cluster::lease(&at, value),
        Resource::ENDPOINT_SLICES => cluster::endpoint_slice(&at, value),
        Resource::ROLES | Resource::CLUSTER_ROLES => {
            [name.into(), created.unwrap_or_default().into()].into()
        }
        Resource::ROLE_BINDINGS | Resource::CLUSTER_ROLE_BINDINGS => cluster::binding(&at, value),
        Resource::PRIORITY_CLASSES => cluster::priority_class(&at, value),
        Resource::CERTIFICATE_SIGNING_REQUESTS => cluster::signing_request(&at, value),
        _ => [name.into(), at.age().into()].into(),
    }
}

/// What every row begins from.
struct At<'a> {
    now: Millis,
    name: &'a str,
    created: Option<&'a str>,
}

impl At<'_> {
    /// Age of the object.
    fn age(&self) -> String {
        age::since(self.now, self.created)
    }

    /// How long ago something else was.
    fn since(&self, text: Option<&str>) -> String {
        age::since(self.now, text)
    }
}

/// Text, or `<none>` where there is none.
fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// A view of the value; what is not of its type reads as empty.
fn view<T: serde::de::DeserializeOwned + Default>(value: &Value) -> T {
    coracle_api::views::read(value).unwrap_or_default()
}

/// `a=b,c=d`, or `<none>`.
fn labels_text(labels: &alloc::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    or_none(&pairs.join(","))
}

/// At most three, then how many more; `<unset>` where there are none.
fn three(list: &[String]) -> String {
    match list {
        [] => "<unset>".into(),
        [first, second, third, more @ ..] if !more.is_empty() => {
            format!("{first},{second},{third} + {} more...", more.len())
        }
        list => list.join(",").to_string(),
    }
}

/// The value `resourceVersion` gives a one-row Table.
pub(crate) fn metadata_of(object: &Object, bytes_value: &Value) -> Value {
    let stored = bytes_value.pointer("/metadata/resourceVersion").cloned();
    json!({ "resourceVersion": stored.unwrap_or_else(|| object.resource_version().into()) })
}
