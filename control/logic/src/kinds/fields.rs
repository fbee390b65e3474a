//! Values that field selectors compare.

use alloc::string::{String, ToString};

use serde_json::Value;

/// The value at a dotted path, as text; empty (or `false`) where it is absent.
pub(crate) fn value(object: &Value, path: &str) -> String {
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
