//! `status.conditions` of any kind: a list keyed by type.

use serde_json::{Value, json};

use super::access::{object, set, text};
use crate::Millis;

/// Puts a condition in place of the one of its type, or at the end. `lastTransitionTime` is `now` where its status
/// changed, else that of the old one.
pub(crate) fn put(status: &mut Value, condition: &Value, now: Millis) {
    let mut condition = condition.clone();
    set(&mut condition, "lastTransitionTime", coracle_api::time::rfc3339(now.0));
    let list = object(status).entry("conditions").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    let kind = text(&condition, &["type"]);
    match list.iter_mut().find(|old| text(old, &["type"]) == kind) {
        Some(old) => {
            if text(old, &["status"]) == text(&condition, &["status"])
                && let Some(since) = old.get("lastTransitionTime").cloned()
            {
                set(&mut condition, "lastTransitionTime", since);
            }
            *old = condition;
        }
        None => list.push(condition),
    }
}
