//! Reading and writing parts of an object's JSON: paths of keys, with "absent" where a step is missing.

use alloc::string::String;

use serde_json::{Map, Value};

/// The value at this path of keys; `None` where a step is absent or null.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let found = path.iter().try_fold(value, |value, key| value.get(key))?;
    (!found.is_null()).then_some(found)
}

/// The string at this path; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The whole number at this path.
pub(crate) fn int(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).and_then(Value::as_i64)
}

/// The truth value at this path; false where there is none.
pub(crate) fn flag(value: &Value, path: &[&str]) -> bool {
    at(value, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of the list at this path.
pub(crate) fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], |items| items.as_slice())
}

/// The entries of the map at this path.
pub(crate) fn entries<'a>(
    value: &'a Value,
    path: &[&str],
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    at(value, path).and_then(Value::as_object).into_iter().flatten()
}

/// `metadata.name`.
pub(crate) fn name(value: &Value) -> &str {
    text(value, &["metadata", "name"])
}

/// Makes `value` an object if it is none (null or absent before) and gives it.
pub(crate) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object above")
}

/// The object under `key`, made where it is absent or null.
pub(crate) fn child<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    let child = object(value).entry(key).or_insert(Value::Null);
    object(child);
    child
}

/// Sets `key` where it is absent or null.
pub(crate) fn or_set(value: &mut Value, key: &str, default: impl Into<Value>) {
    let slot = object(value).entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = default.into();
    }
}

/// Sets `key` where it is absent, null or the empty string.
pub(crate) fn or_set_text(value: &mut Value, key: &str, default: &str) {
    let slot = object(value).entry(key).or_insert(Value::Null);
    if slot.is_null() || slot.as_str() == Some("") {
        *slot = default.into();
    }
}

/// Sets `key`.
pub(crate) fn set(value: &mut Value, key: &str, to: impl Into<Value>) {
    object(value).insert(key.into(), to.into());
}

/// Takes `key` out.
pub(crate) fn remove(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut()?.remove(key)
}

/// Makes `new[key]` what `old[key]` is, absence included.
pub(crate) fn keep(new: &mut Value, old: &Value, key: &str) {
    match old.get(key) {
        Some(value) => set(new, key, value.clone()),
        None => drop(remove(new, key)),
    }
}

/// Whether two values mean the same: null, absent, empty maps and empty lists are one.
pub(crate) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(key, value)| same(Some(value), b.get(key)))
                && b.iter().all(|(key, value)| a.contains_key(key) || same(None, Some(value)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (None, Some(value)) | (Some(value), None) => is_empty(value),
        (Some(a), Some(b)) => a == b || (is_empty(a) && is_empty(b)),
        (None, None) => true,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Does something to every item of the list under `key`.
pub(crate) fn each(value: &mut Value, key: &str, change: impl Fn(&mut Value)) {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
}

/// Takes these keys out where their value is nothing: null, false, 0, empty. For fields that Kubernetes omits so.
pub(crate) fn remove_zero(value: &mut Value, keys: &[&str]) {
    let Some(map) = value.as_object_mut() else { return };
    for key in keys {
        let zero = map.get(*key).is_some_and(|value| {
            is_empty(value)
                || value.as_str() == Some("")
                || value.as_bool() == Some(false)
                || value.as_i64() == Some(0)
        });
        if zero {
            map.remove(*key);
        }
    }
}

/// Takes every null out of maps, at any depth: absent and null mean the same in every version.
pub(crate) fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
