//! Field paths and the errors of validation, in Kubernetes' words (`spec.replicas: Invalid value: -1: must be …`).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{
    Resource, Status,
    status::{Cause, Details},
};
use serde_json::Value;

/// Path of a field (`spec.containers[0].name`, `metadata.labels[a/b]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// A field of the object itself.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.into())
    }
    /// A field of this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.into()) } else { Self(format!("{}.{name}", self.0)) }
    }
    /// An item of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
    /// An entry of this map.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors {
    causes: Vec<Cause>,
}

impl FieldErrors {
    fn push(&mut self, path: &Path, reason: &str, message: String) {
        let cause = Cause { reason: reason.into(), message, field: path.0.clone() };
        self.causes.push(cause);
    }
    /// It has to be there and is not.
    pub(crate) fn required(&mut self, path: &Path, detail: &str) {
        self.push(path, "FieldValueRequired", with_detail("Required value", detail));
    }
    /// The value is wrong.
    pub(crate) fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: &str) {
        let head = format!("Invalid value: {}", shown(&value.into()));
        self.push(path, "FieldValueInvalid", with_detail(&head, detail));
    }
    /// The value is none of the allowed ones.
    pub(crate) fn not_supported(&mut self, path: &Path, value: impl Into<Value>, allowed: &[&str]) {
        let quoted: Vec<String> = allowed.iter().map(|one| format!("{one:?}")).collect();
        let head = format!("Unsupported value: {}", shown(&value.into()));
        let detail = format!("supported values: {}", quoted.join(", "));
        self.push(path, "FieldValueNotSupported", with_detail(&head, &detail));
    }
    /// The value must be unique and is there twice.
    pub(crate) fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        let message = format!("Duplicate value: {}", shown(&value.into()));
        self.push(path, "FieldValueDuplicate", message);
    }
    /// It may not be there.
    pub(crate) fn forbidden(&mut self, path: &Path, detail: &str) {
        self.push(path, "FieldValueForbidden", with_detail("Forbidden", detail));
    }
    /// It refers to something that is not there.
    pub(crate) fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        let message = format!("Not found: {}", shown(&value.into()));
        self.push(path, "FieldValueNotFound", message);
    }
    /// It is longer than `bytes_max` bytes.
    pub(crate) fn too_long(&mut self, path: &Path, bytes_max: usize) {
        let message = format!("Too long: may not be more than {bytes_max} bytes");
        self.push(path, "FieldValueTooLong", message);
    }
    /// It has more than `items_max` items.
    pub(crate) fn too_many(&mut self, path: &Path, items: usize, items_max: usize) {
        let message = format!("Too many: {items}: must have at most {items_max} items");
        self.push(path, "FieldValueTooMany", message);
    }
    /// How many so far.
    pub(crate) fn len(&self) -> usize {
        self.causes.len()
    }
    /// `field: message` of each, in order of discovery, each once.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for cause in &self.causes {
            let line = format!("{}: {}", cause.field, cause.message);
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }
    /// `Ok` when nothing was found, else the 422 that names them all.
    pub(crate) fn into_result(self, resource: Resource, object: &Value) -> Result<(), Status> {
        let def = resource.def();
        self.into_invalid(def.group, def.kind, super::access::name(object))
    }
    /// The same for a kind that is not a stored resource.
    pub(crate) fn into_invalid(self, group: &str, kind: &str, name: &str) -> Result<(), Status> {
        if self.causes.is_empty() {
            return Ok(());
        }
        let lines = self.lines();
        let all = match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() { kind.to_string() } else { format!("{kind}.{group}") };
        let message = format!("{qualified} \"{name}\" is invalid: {all}");
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes: self.causes,
            ..Details::default()
        };
        Err(Status { details: Some(details), ..Status::new(422, "Invalid", message) })
    }
}

fn with_detail(head: &str, detail: &str) -> String {
    if detail.is_empty() { head.into() } else { format!("{head}: {detail}") }
}

/// A value as it stands in a message: JSON.
fn shown(value: &Value) -> String {
    value.to_string()
}
