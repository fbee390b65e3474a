//! Events, and their two shapes: core/v1 (stored) and events.k8s.io/v1.

use alloc::string::String;

use serde_json::Value;

use super::{
    Context, Facts, Strategy,
    access::{at, child, object, remove, remove_zero, set, text},
    field::{FieldErrors, Path},
};

/// Events.
pub(crate) struct Events;

/// Longest note (events.k8s.io) in bytes.
const NOTE_BYTES_MAX: usize = 1024;
/// Longest reason and action in bytes.
const WORD_BYTES_MAX: usize = 128;

/// Names of fields in core/v1 and in events.k8s.io/v1.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// From events.k8s.io/v1 to core/v1.
pub(crate) fn to_core(event: &mut Value) {
    set(event, "apiVersion", "v1");
    for (core, newer) in NAMES {
        if let Some(value) = remove(event, newer) {
            set(event, core, value);
        }
    }
}

/// From core/v1 to events.k8s.io/v1.
pub(crate) fn from_core(event: &mut Value) {
    set(event, "apiVersion", "events.k8s.io/v1");
    for (core, newer) in NAMES {
        if let Some(value) = remove(event, core) {
            set(event, newer, value);
        }
    }
}

impl Strategy for Events {
    fn facts(&self) -> Facts {
        Facts { create_on_update: true, ..Facts::default() }
    }

    fn default(&self, context: &Context<'_>, event: &mut Value) {
        let (about, source, reporter, times) = if context.group == "events.k8s.io" {
            let times = ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"];
            ("regarding", "deprecatedSource", "reportingController", times)
        } else {
            let times = ["firstTimestamp", "lastTimestamp", "eventTime"];
            ("involvedObject", "source", "reportingComponent", times)
        };
        for time in times {
            object(event).entry(time).or_insert(Value::Null);
        }
        child(event, about);
        child(event, source);
        // Shown even where empty, as those fields always are.
        for key in [reporter, "reportingInstance"] {
            if at(event, &[key]).is_none() {
                set(event, key, "");
            }
        }
        remove_zero(event, &["count"]);
    }

    fn validate_create(&self, context: &Context<'_>, event: &Value, errors: &mut FieldErrors) {
        about(event, errors);
        if context.group == "events.k8s.io" || at(event, &["eventTime"]).is_some() {
            reported(event, errors);
        }
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        _old: &Value,
        errors: &mut FieldErrors,
    ) {
        about(new, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
        ]
    }
}

/// An event about a namespaced object lives in that object's namespace; one about a cluster-scoped object in `default`
/// or `kube-system`.
fn about(event: &Value, errors: &mut FieldErrors) {
    let own = text(event, &["metadata", "namespace"]);
    let of = text(event, &["involvedObject", "namespace"]);
    let fine = of == own || (of.is_empty() && matches!(own, "default" | "kube-system"));
    if !fine {
        let path = Path::new("involvedObject").child("namespace");
        errors.invalid(&path, of, "does not match event.namespace");
    }
}

/// What the newer API asks of an event.
fn reported(event: &Value, errors: &mut FieldErrors) {
    for (key, shown) in [
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        let path = Path::new(shown);
        let word = text(event, &[key]);
        if word.is_empty() {
            errors.required(&path, "");
        } else if word.len() > WORD_BYTES_MAX {
            errors.invalid(&path, "", "can have at most 128 characters");
        }
    }
    if text(event, &["message"]).len() > NOTE_BYTES_MAX {
        errors.invalid(&Path::new("message"), "", "can have at most 1024 characters");
    }
    let kind = text(event, &["type"]);
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::new("type"), "", alloc::format!("has invalid value: {kind}"));
    }
    if at(event, &["eventTime"]).is_none() {
        errors.required(&Path::new("eventTime"), "");
    }
}

/// Where a field selector's path is in the stored shape.
pub(crate) fn stored_path(path: &str) -> String {
    match path {
        "source" => "source.component".into(),
        "reportingController" => "reportingComponent".into(),
        path => match path.strip_prefix("regarding.") {
            Some(rest) => alloc::format!("involvedObject.{rest}"),
            None => path.into(),
        },
    }
}
