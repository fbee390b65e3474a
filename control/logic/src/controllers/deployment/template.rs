//! Pod templates of deployments: when two are the same, and the hash that names their ReplicaSet.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::Value;

/// Label that tells the ReplicaSets of one Deployment apart.
pub(crate) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The template without the label that only ReplicaSets' templates carry.
pub(crate) fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    template
}

/// Both templates make the same pods. The hash label does not count, nor whether something is absent, null or empty.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    canonical(&without_hash(a)) == canonical(&without_hash(b))
}

/// Ten characters at most that stand for the template; another set of them after each collision.
///
/// FNV-1a over the canonical encoding, as upstream (whose encoding is Go's own, so the values differ from upstream's).
pub(crate) fn hash(template: &Value, collisions: Option<i32>) -> String {
    let mut hash = 0x811c_9dc5_u32;
    let mut write = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    write(&canonical(template));
    if let Some(collisions) = collisions {
        write(&i64::from(collisions).to_le_bytes());
    }
    safe(&hash.to_string())
}

/// Letters and digits that make no words, as names of pods are made of.
fn safe(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes()
        .filter_map(|byte| ALPHABET.get(usize::from(byte) % ALPHABET.len()))
        .map(|byte| char::from(*byte))
        .collect()
}

/// JSON with keys in order and without null and empty members at the top of objects.
fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !is_absent(value)).collect();
            fields.sort_by_key(|(key, _)| *key);
            out.push(b'{');
            for (key, value) in fields {
                out.extend_from_slice(format!("{key:?}:").as_bytes());
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.extend_from_slice(value.to_string().as_bytes());
        }
    }
}

/// Go's semantic equality takes nil and empty lists for the same. An empty object is something (`emptyDir: {}`).
fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{hash, same};

    #[test]
    fn same_templates() {
        let check = |a, b, want| assert_eq!(same(&a, &b), want, "{a} {b}");
        check(json!({"a": 1}), json!({"a": 1}), true);
        check(json!({"a": 1}), json!({"a": 2}), false);
        check(json!({"a": 1, "b": null, "c": []}), json!({"a": 1}), true);
        check(json!({"emptyDir": {}}), json!({}), false);
        check(
            json!({"metadata": {"labels": {"app": "x", "pod-template-hash": "y"}}}),
            json!({"metadata": {"labels": {"app": "x"}}}),
            true,
        );
        check(json!({"metadata": {"labels": {"app": "x"}}}), json!({"metadata": {}}), false);
    }

    #[test]
    fn hashes_are_short_safe_and_differ_after_a_collision() {
        let template = json!({"spec": {"containers": [{"name": "a", "image": "b:1"}]}});
        let first = hash(&template, None);
        assert_eq!(first, hash(&template, None));
        assert!(
            first.len() <= 10 && first.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
        );
        let others = [hash(&template, Some(0)), hash(&template, Some(1)), hash(&json!({}), None)];
        for other in &others {
            assert_ne!(*other, first);
        }
        assert_ne!(others[0], others[1]);
    }
}
