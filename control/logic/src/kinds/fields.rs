//! Values that field selectors compare.

use alloc::string::{String, ToString};

use coracle_api::Resource;
use serde_json::Value;

use super::{
    access::{items, text},
    events,
};

/// The value at a dotted path, as text; empty (or `false`) where it is absent.
pub(crate) fn value(resource: Resource, object: &Value, path: &str) -> String {
    let path = &*if resource == Resource::EVENTS { events::stored_path(path) } else { path.into() };
    match path {
        // A namespace's old way to say it.
        "name" => return text(object, &["metadata", "name"]).into(),
        "source.component" => {
            let component = text(object, &["source", "component"]);
            let reporter = text(object, &["reportingComponent"]);
            return if component.is_empty() { reporter } else { component }.into();
        }
        "status.podIPs" => {
            let first = items(object, &["status", "podIPs"]).first();
            return first.map_or("", |ip| text(ip, &["ip"])).into();
        }
        _ => {}
    }
    let found = path.split('.').try_fold(object, |value, key| value.get(key));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => absent(path).into(),
        Some(other) => other.to_string(),
    }
}

fn absent(path: &str) -> &'static str {
    match path {
        "spec.unschedulable" | "spec.hostNetwork" => "false",
        "status.replicas" => "0",
        _ => "",
    }
}
