//! Strategic merge patch: maps merge by key, lists by the schema's merge keys, with directives.
//!
//! Directives: `$patch: replace|delete|merge` in a map or as a list item, `$retainKeys`, `$deleteFromPrimitiveList/<list>`,
//! `$setElementOrder/<list>`. Source: the Kubernetes community's page on strategic merge patch.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value};

use crate::{
    schema::{FieldRef, Shape, TypeRef},
    status::Status,
};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Strategic merge patch, by the type's list-map keys and directives.
///
/// # Errors
/// 400: a directive that there is not, or a list item without its merge key.
pub fn strategic(ty: TypeRef, target: &mut Value, patch: &Value) -> Result<(), Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ));
    };
    merge_map(Shape::Ref(ty), target, patch).map_err(Status::bad_request)
}

/// What is below a key of a map: its field, where the map is a struct, and its shape.
fn below(shape: Shape, key: &str) -> (Option<FieldRef>, Shape) {
    match shape {
        Shape::Ref(ty) => {
            let field = ty.field(key);
            (field, field.map_or(Shape::Any, FieldRef::shape))
        }
        Shape::Map(item) => (None, item.get()),
        Shape::String
        | Shape::Bytes
        | Shape::Int32
        | Shape::Int64
        | Shape::Double
        | Shape::Bool
        | Shape::Any
        | Shape::Object
        | Shape::List(_) => (None, Shape::Any),
    }
}

/// A patch's value put where there was nothing: without directives and nulls.
fn fresh(shape: Shape, field: Option<FieldRef>, patch: &Value) -> Result<Value, String> {
    match patch {
        Value::Object(map) => {
            let mut made = Value::Object(Map::new());
            merge_map(shape, &mut made, map)?;
            Ok(made)
        }
        Value::Array(items) => {
            let mut made = Value::Array(Vec::new());
            merge_list(shape, field, &mut made, items)?;
            Ok(made)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(patch.clone()),
    }
}

fn merge_map(shape: Shape, target: &mut Value, patch: &Map<String, Value>) -> Result<(), String> {
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => {
            let mut rest = patch.clone();
            rest.remove(PATCH);
            *target = Value::Object(rest);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(format!("Unknown patch type found: {other}")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return Ok(()) };
    if let Some(retain) = patch.get(RETAIN_KEYS) {
        let keys = retain.as_array().ok_or("invalid patch format of retainKeys")?;
        for key in patch.keys().filter(|key| !key.starts_with('$')) {
            if !patch.get(key).is_some_and(Value::is_null) && !keys.iter().any(|keep| keep == key) {
                return Err("patch is invalid: retainKeys does not name a key that it sets".into());
            }
        }
        target.retain(|key, _| keys.iter().any(|keep| keep == key));
    }
    for (key, patched) in patch {
        if key == PATCH || key == RETAIN_KEYS || key.starts_with(ORDER_PREFIX) {
            continue;
        }
        if let Some(list) = key.strip_prefix(DELETE_PREFIX) {
            let gone = patched.as_array().ok_or("invalid patch format of primitive list")?;
            if let Some(Value::Array(items)) = target.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if patched.is_null() {
            target.remove(key);
            continue;
        }
        let (field, shape) = below(shape, key);
        match (target.get_mut(key), patched) {
            (Some(slot @ Value::Object(_)), Value::Object(patched)) => {
                if field.is_some_and(FieldRef::patch_replace) {
                    *slot = fresh(shape, field, &Value::Object(patched.clone()))?;
                } else {
                    merge_map(shape, slot, patched)?;
                }
            }
            (Some(slot @ Value::Array(_)), Value::Array(patched)) => {
                merge_list(shape, field, slot, patched)?;
            }
            (_, patched) => {
                let made = fresh(shape, field, patched)?;
                target.insert(key.clone(), made);
            }
        }
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix(ORDER_PREFIX) {
            let order = order.as_array().ok_or("invalid patch format of setElementOrder")?;
            if let (Some(Value::Array(items)), (Some(field), _)) =
                (target.get_mut(list), below(shape, list))
            {
                let patched = patch.get(list).and_then(Value::as_array);
                reorder(items, order, field.patch_merge_key(), patched.map(Vec::as_slice));
            }
        }
    }
    Ok(())
}

fn merge_list(
    shape: Shape,
    field: Option<FieldRef>,
    target: &mut Value,
    patch: &[Value],
) -> Result<(), String> {
    let item_shape = if let Shape::List(item) = shape { item.get() } else { Shape::Any };
    let merge_key = field.map(FieldRef::patch_merge_key).unwrap_or_default();
    let merges = field.is_some_and(FieldRef::patch_merge);
    let directive = |item: &Value| item.get(PATCH).and_then(Value::as_str).map(ToString::to_string);
    let replaces = patch.iter().any(|item| directive(item).as_deref() == Some("replace"));
    if !merges || replaces {
        let kept = patch.iter().filter(|item| directive(item).as_deref() != Some("replace"));
        *target = Value::Array(kept.cloned().collect());
        return Ok(());
    }
    let Value::Array(items) = target else { return Ok(()) };
    if merge_key.is_empty() {
        for value in patch {
            if !items.contains(value) {
                items.push(value.clone());
            }
        }
        return Ok(());
    }
    for patched in patch {
        let Value::Object(map) = patched else {
            return Err("invalid patch: a list of maps has an item that is no map".into());
        };
        let key = map.get(merge_key).ok_or_else(|| {
            format!("map: {patched} does not contain declared merge key: {merge_key}")
        })?;
        let found = items.iter().position(|item| item.get(merge_key) == Some(key));
        match (directive(patched).as_deref(), found) {
            (Some("delete"), _) => items.retain(|item| item.get(merge_key) != Some(key)),
            (None | Some("merge"), Some(at)) => {
                if let Some(slot) = items.get_mut(at) {
                    merge_map(item_shape, slot, map)?;
                }
            }
            (None | Some("merge"), None) => items.push(fresh(item_shape, None, patched)?),
            (Some(other), _) => return Err(format!("Unknown patch type found: {other}")),
        }
    }
    Ok(())
}

/// Puts items into the wanted order. Those of the server alone stay behind the one that they came after.
fn reorder(items: &mut Vec<Value>, order: &[Value], merge_key: &str, patched: Option<&[Value]>) {
    let key_of = |item: &Value| -> Value {
        if merge_key.is_empty() {
            item.clone()
        } else {
            item.get(merge_key).cloned().unwrap_or(Value::Null)
        }
    };
    let rank = |item: &Value| {
        let key = key_of(item);
        order.iter().position(|wanted| key_of(wanted) == key)
    };
    let was_patched = |item: &Value| {
        patched.is_some_and(|list| list.iter().any(|patch| key_of(patch) == key_of(item)))
    };
    let old = core::mem::take(items);
    let (mut named, alone): (Vec<_>, Vec<_>) =
        old.into_iter().enumerate().partition(|(_, item)| rank(item).is_some());
    named.sort_by_key(|(_, item)| rank(item));
    // Merge: an item of the server alone goes before the first named one that stood behind it in the old list.
    let mut alone = alone.into_iter().peekable();
    for (at, item) in named {
        while !was_patched(&item)
            && let Some((_, other)) = alone.next_if(|(other_at, _)| *other_at < at)
        {
            items.push(other);
        }
        items.push(item);
    }
    items.extend(alone.map(|(_, item)| item));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::strategic;
    use crate::schema::type_by_gvk;

    fn check(target: Value, patch: Value, want: Result<Value, u16>) {
        let ty = type_by_gvk("", "v1", "Pod").unwrap();
        let mut got = json!({"spec": target});
        let result = strategic(ty, &mut got, &json!({"spec": patch}));
        let result = result.map(|()| got["spec"].clone()).map_err(|status| status.code);
        assert_eq!(result, want, "{target} {patch}");
    }

    #[test]
    fn lists_of_maps_merge_by_key() {
        let two =
            || json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]});
        check(
            two(),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            Ok(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]})),
        );
        check(
            two(),
            json!({"containers": [{"name": "a", "$patch": "delete"}, {"name": "c"}]}),
            Ok(json!({"containers": [{"name": "b", "image": "1"}, {"name": "c"}]})),
        );
        check(
            two(),
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            Ok(json!({"containers": [{"name": "c"}]})),
        );
        check(
            two(),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": null}]}),
            Ok(json!({"containers": [{"name": "b"}, {"name": "a", "image": "1"}]})),
        );
        check(two(), json!({"containers": [{"image": "2"}]}), Err(400));
        check(two(), json!({"containers": [{"name": "a", "$patch": "eat"}]}), Err(400));
        check(
            json!({}),
            json!({"containers": [{"name": "a", "image": null}]}),
            Ok(json!({"containers": [{"name": "a"}]})),
        );
    }

    #[test]
    fn maps_and_atomic_lists() {
        check(
            json!({"nodeSelector": {"a": "1", "b": "1"}}),
            json!({"nodeSelector": {"a": null, "c": "1"}}),
            Ok(json!({"nodeSelector": {"b": "1", "c": "1"}})),
        );
        check(
            json!({"nodeSelector": {"a": "1"}}),
            json!({"nodeSelector": {"$patch": "replace", "c": "1"}}),
            Ok(json!({"nodeSelector": {"c": "1"}})),
        );
        check(
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            Ok(json!({"tolerations": [{"key": "b"}]})),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}, "$retainKeys": ["name", "hostPath"]}]}),
            Ok(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
        );
    }

    #[test]
    fn lists_of_values() {
        let ty = type_by_gvk("", "v1", "Pod").unwrap();
        let mut pod = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}});
        strategic(ty, &mut pod, &patch).unwrap();
        assert_eq!(pod, json!({"metadata": {"finalizers": ["b", "c"]}}));
    }
}
