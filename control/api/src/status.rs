//! Errors as Kubernetes `Status` objects (meta/v1).

use alloc::{format, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

/// A refusal or failure, as the API answers it. `code` is the HTTP status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason (`NotFound`, `AlreadyExists`, `Conflict`, `Invalid`, …).
    pub reason: String,
    /// For people: names the thing, the cause, the fix.
    pub message: String,
    /// The thing and the single causes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// `status.details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource (or kind, as Kubernetes does for Invalid).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One for each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// `status.details.causes[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// Path of the field (`spec.template.spec.containers[0].name`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    /// A failure with this code, reason and message and no details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    /// 404 for a named object: `deployments.apps "x" not found`.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::about(
            404,
            "NotFound",
            group,
            plural,
            name,
            format!("{} \"{name}\" not found", qualified(group, plural)),
        )
    }

    /// 409, the name is taken.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::about(
            409,
            "AlreadyExists",
            group,
            plural,
            name,
            format!("{} \"{name}\" already exists", qualified(group, plural)),
        )
    }

    /// 409, the write was computed from another revision (S3).
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, plural);
        Self::about(
            409,
            "Conflict",
            group,
            plural,
            name,
            format!("Operation cannot be fulfilled on {what} \"{name}\": {why}"),
        )
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    fn about(
        code: u16,
        reason: &str,
        group: &str,
        plural: &str,
        name: &str,
        message: String,
    ) -> Self {
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: plural.into(),
            ..Details::default()
        };
        Self { code, reason: reason.into(), message, details: Some(details) }
    }
}

/// `pods` or `deployments.apps`.
pub fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.into() } else { format!("{plural}.{group}") }
}
