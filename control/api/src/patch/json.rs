//! JSON patch (RFC 6902) with JSON pointers (RFC 6901).

use alloc::{
    format,
    string::{String, ToString},
};

use serde_json::Value;

use crate::{decode::depth, limits, status::Status};

/// RFC 6902.
///
/// # Errors
/// 400: no JSON patch. 422: an operation does not apply, a test failed, or the copies make it too deep or too large.
/// 413: too many operations.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let Value::Array(operations) = patch else {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ));
    };
    if operations.len() > limits::JSON_PATCH_OPERATIONS_MAX {
        let max = limits::JSON_PATCH_OPERATIONS_MAX;
        return Err(Status::new(
            413,
            "RequestEntityTooLarge",
            format!(
                "The allowed maximum operations in a JSON patch is {max}, got {}",
                operations.len()
            ),
        ));
    }
    let mut copied_bytes = 0;
    for operation in operations {
        apply(target, operation, &mut copied_bytes)?;
    }
    Ok(())
}

fn refused(why: String) -> Status {
    Status::new(
        422,
        "Invalid",
        format!("the server rejected our request due to an error in our request: {why}"),
    )
}

fn apply(target: &mut Value, operation: &Value, copied_bytes: &mut usize) -> Result<(), Status> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let no_patch = |why: &str| Status::bad_request(format!("error decoding patch: {why}"));
    let op = text("op").ok_or_else(|| no_patch("an operation has no \"op\""))?;
    let path = text("path").ok_or_else(|| no_patch("an operation has no \"path\""))?;
    let value =
        || operation.get("value").cloned().ok_or_else(|| no_patch("an operation has no \"value\""));
    let from = || text("from").ok_or_else(|| no_patch("an operation has no \"from\""));
    match op {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(|_| ()),
        "replace" => {
            let missing = || {
                refused(format!(
                    "replace operation does not apply: doc is missing key: {path}: missing value"
                ))
            };
            let slot = target.pointer_mut(path).ok_or_else(missing)?;
            let value = value()?;
            fits(path, &value)?;
            *slot = value;
            Ok(())
        }
        "move" => {
            if path.strip_prefix(from()?).is_some_and(|rest| rest.starts_with('/')) {
                return Err(refused(format!(
                    "move operation does not apply: {path} is inside of itself"
                )));
            }
            let moved = remove(target, from()?)?;
            add(target, path, moved)
        }
        "copy" => {
            let missing =
                || refused(format!("copy operation does not apply: doc is missing key: {path}"));
            let copied = target.pointer(from()?).cloned().ok_or_else(missing)?;
            // A few copies of copies of copies would fill the memory.
            *copied_bytes = copied_bytes.saturating_add(copied.to_string().len());
            if *copied_bytes > limits::BODY_BYTES_MAX {
                return Err(refused(format!(
                    "unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, \
                     exceeding the limit {}",
                    limits::BODY_BYTES_MAX
                )));
            }
            add(target, path, copied)
        }
        "test" => {
            let want = operation.get("value").unwrap_or(&Value::Null);
            if target.pointer(path).unwrap_or(&Value::Null) == want {
                Ok(())
            } else {
                Err(refused(format!("testing value {path} failed: test failed")))
            }
        }
        other => Err(no_patch(&format!("unexpected kind: {other}"))),
    }
}

/// Refuses what would lie deeper at `path` than a body may.
fn fits(path: &str, value: &Value) -> Result<(), Status> {
    if path.matches('/').count() + depth(value) < limits::DEPTH_MAX {
        return Ok(());
    }
    Err(refused(format!("the patched object is nested more than {} deep", limits::DEPTH_MAX - 1)))
}

/// The place that holds what `path` names, and its last part, unescaped.
fn parent<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (holder, last) = path.rsplit_once('/')?;
    Some((target.pointer_mut(holder)?, last.replace("~1", "/").replace("~0", "~")))
}

fn index(text: &str, max: usize) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|at| digits && *at <= max && (text == "0" || !text.starts_with('0')))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Status> {
    fits(path, &value)?;
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let missing = || {
        refused(format!("add operation does not apply: doc is missing path: {path}: missing value"))
    };
    let (holder, last) = parent(target, path).ok_or_else(missing)?;
    match holder {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) => {
            let at = if last == "-" { Some(list.len()) } else { index(&last, list.len()) };
            list.insert(at.ok_or_else(missing)?, value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Err(missing()),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Status> {
    let missing = || {
        refused(format!(
            "remove operation does not apply: doc is missing path: {path}: missing value"
        ))
    };
    let (holder, last) = parent(target, path).ok_or_else(missing)?;
    match holder {
        Value::Object(map) => map.remove(&last).ok_or_else(missing),
        Value::Array(list) => {
            let at = index(&last, list.len()).filter(|at| *at < list.len()).ok_or_else(missing)?;
            Ok(list.remove(at))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString, vec, vec::Vec};

    use serde_json::{Value, json};

    use crate::{decode::depth, limits};

    #[test]
    fn operations() {
        let check = |target: Value, patch: Value, want: Result<Value, u16>| {
            let mut got = target.clone();
            let result = super::json(&mut got, &patch).map(|()| got).map_err(|status| status.code);
            assert_eq!(result, want, "{target} {patch}");
        };
        let one = |op: Value| json!([op]);
        check(json!({}), one(json!({"op": "add", "path": "/a", "value": 1})), Ok(json!({"a": 1})));
        check(json!([1]), one(json!({"op": "add", "path": "/0", "value": 2})), Ok(json!([2, 1])));
        check(json!([1]), one(json!({"op": "add", "path": "/-", "value": 2})), Ok(json!([1, 2])));
        check(json!([1]), one(json!({"op": "add", "path": "/5", "value": 2})), Err(422));
        check(json!({"a/b": 1}), one(json!({"op": "remove", "path": "/a~1b"})), Ok(json!({})));
        check(json!({}), one(json!({"op": "remove", "path": "/a"})), Err(422));
        check(
            json!({"a": 1}),
            one(json!({"op": "replace", "path": "/a", "value": 2})),
            Ok(json!({"a": 2})),
        );
        check(json!({}), one(json!({"op": "replace", "path": "/a", "value": 2})), Err(422));
        check(
            json!({"a": 1}),
            one(json!({"op": "move", "path": "/b", "from": "/a"})),
            Ok(json!({"b": 1})),
        );
        check(json!({"a": {}}), one(json!({"op": "move", "path": "/a/b", "from": "/a"})), Err(422));
        check(
            json!({"a": 1}),
            one(json!({"op": "copy", "path": "/b", "from": "/a"})),
            Ok(json!({"a": 1, "b": 1})),
        );
        check(
            json!({"a": 1}),
            one(json!({"op": "test", "path": "/a", "value": 1})),
            Ok(json!({"a": 1})),
        );
        check(json!({"a": 1}), one(json!({"op": "test", "path": "/a", "value": 2})), Err(422));
        check(json!({}), one(json!({"op": "jump", "path": "/a"})), Err(400));
        check(json!({}), json!({}), Err(400));
        check(json!({}), one(json!({"path": "/a"})), Err(400));
    }

    #[test]
    fn copies_are_bounded() {
        let check = |mut target: Value, operations: Vec<Value>| {
            let status = super::json(&mut target, &Value::Array(operations)).unwrap_err();
            assert_eq!(status.code, 422, "{}", status.message);
            assert!(depth(&target) < limits::DEPTH_MAX);
        };
        let copy = |path: &str| json!({"op": "copy", "from": "/a", "path": path});
        // Twice as large with each.
        let wide = (0..60).map(|n| copy(&format!("/a/{n}"))).collect();
        check(json!({"a": {"text": "x".repeat(1000)}}), wide);
        // Twice as deep with each.
        let deep = (0..20).map(|n| copy(&"/a".repeat((1 << n) + 1))).collect();
        check(json!({"a": {}}), deep);
        let below = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        for op in ["add", "replace"] {
            check(
                json!({"a": {"b": 1}}),
                vec![json!({"op": op, "path": "/a/b", "value": below(limits::DEPTH_MAX - 2)})],
            );
        }
        let mut fits = json!({"a": {}});
        let patch = json!([{"op": "add", "path": "/a/b", "value": below(limits::DEPTH_MAX - 3)}]);
        super::json(&mut fits, &patch).unwrap();
        let text = fits.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), fits);
    }
}
