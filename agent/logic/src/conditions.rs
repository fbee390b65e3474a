//! The conditions of a pod: those that the agent owns, each with the time of its last change.

use alloc::{string::String, vec::Vec};

use serde_json::{Value, json};

use crate::time::{parse_rfc3339, rfc3339};

/// Conditions of a pod that the agent writes, in kubelet's order.
pub const OWNED: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `Ready`, …
    pub kind: &'static str,
    /// `True` or `False`.
    pub on: bool,
    /// One word; may be empty.
    pub reason: &'static str,
    /// A sentence; may be empty.
    pub message: String,
}

/// A condition with the time at which its status last changed.
#[derive(Clone, Debug)]
struct Kept {
    kind: &'static str,
    on: bool,
    since_s: i64,
}

/// Remembers when each condition changed.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    kept: Vec<Kept>,
}

impl Conditions {
    /// Times from a status that was recorded before.
    pub fn restore(status: &Value) -> Self {
        let recorded = status.get("conditions").and_then(Value::as_array);
        let kept = recorded
            .into_iter()
            .flatten()
            .filter_map(|condition| {
                let kind = condition.get("type")?.as_str()?;
                let kind = OWNED.into_iter().find(|owned| *owned == kind)?;
                let on = condition.get("status")?.as_str()? == "True";
                let since = condition.get("lastTransitionTime")?.as_str()?;
                Some(Kept { kind, on, since_s: parse_rfc3339(since)? })
            })
            .collect();
        Self { kept }
    }

    /// Whether the API server's conditions contradict what was written: someone else changed one that is the agent's.
    pub fn contradicted_by(&self, reported: &[Value]) -> bool {
        let text = |condition: &Value, name: &str| {
            condition.get(name).and_then(Value::as_str).map(String::from)
        };
        reported.iter().any(|condition| {
            let kind = text(condition, "type").unwrap_or_default();
            let on = text(condition, "status").is_some_and(|status| status == "True");
            self.kept.iter().any(|kept| kept.kind == kind && kept.on != on)
        })
    }

    /// The condition as JSON, with the time of its last change (now, if it changes now).
    pub fn write(&mut self, condition: &Condition, now_s: i64, generation: i64) -> Value {
        let since_s = match self.kept.iter_mut().find(|kept| kept.kind == condition.kind) {
            Some(kept) => {
                if kept.on != condition.on {
                    kept.on = condition.on;
                    kept.since_s = now_s;
                }
                kept.since_s
            }
            None => {
                self.kept.push(Kept { kind: condition.kind, on: condition.on, since_s: now_s });
                now_s
            }
        };
        let mut value = json!({
            "type": condition.kind,
            "status": if condition.on { "True" } else { "False" },
            "lastProbeTime": null,
            "lastTransitionTime": rfc3339(since_s),
        });
        if let Value::Object(fields) = &mut value {
            if generation > 0 {
                fields.insert("observedGeneration".into(), generation.into());
            }
            if !condition.reason.is_empty() {
                fields.insert("reason".into(), condition.reason.into());
            }
            if !condition.message.is_empty() {
                fields.insert("message".into(), condition.message.as_str().into());
            }
        }
        value
    }
}
