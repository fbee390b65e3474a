//! Errors as Kubernetes `Status` objects (meta/v1).

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Serialize};

pub use crate::field_errors::{FieldError, FieldErrorKind, FieldErrors};

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

/// What an authorizer refused.
#[derive(Copy, Clone, Debug, Default)]
pub struct Denied<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// `get`, `list`, …
    pub verb: &'a str,
    /// Group as asked.
    pub group: &'a str,
    /// Resource.
    pub plural: &'a str,
    /// Subresource or empty.
    pub subresource: &'a str,
    /// Namespace or empty.
    pub namespace: &'a str,
    /// Name or empty.
    pub name: &'a str,
    /// The authorizer's reason or empty.
    pub reason: &'a str,
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

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 about a thing: `pods "x" is forbidden: why`. An empty name leaves the name out.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, plural);
        let message = if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} \"{name}\" is forbidden: {why}")
        };
        Self::about(403, "Forbidden", group, plural, name, message)
    }

    /// 403 from the authorizer: `pods is forbidden: User "u" cannot list resource "pods" in API group "" in the
    /// namespace "default"`. `reason` (may be empty) is the authorizer's own word.
    pub fn forbidden_resource(denied: &Denied<'_>) -> Self {
        let Denied { user, verb, group, plural, subresource, namespace, name, reason } = *denied;
        let resource =
            if subresource.is_empty() { plural.into() } else { format!("{plural}/{subresource}") };
        let scope = if namespace.is_empty() {
            " at the cluster scope".into()
        } else {
            format!(" in the namespace \"{namespace}\"")
        };
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let why = format!(
            "User \"{user}\" cannot {verb} resource \"{resource}\" in API group \"{group}\"{scope}{reason}"
        );
        Self::forbidden(group, plural, name, &why)
    }

    /// 403 for a path that is no resource.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
        Self { details: Some(Details::default()), ..Self::new(403, "Forbidden", message) }
    }

    /// 404 for a path or resource that is not served.
    pub fn not_served() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: Some(Details::default()), ..Self::new(404, "NotFound", message) }
    }

    /// 405 for a path with a method that it does not have.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self { details: Some(Details::default()), ..Self::new(405, "MethodNotAllowed", message) }
    }

    /// 405 for a verb that a resource does not have.
    pub fn method_not_supported(group: &str, plural: &str, action: &str) -> Self {
        let what = qualified(group, plural);
        let message = format!("{action} is not supported on resources of kind \"{what}\"");
        Self::about(405, "MethodNotAllowed", group, plural, "", message)
    }

    /// 406; `accepted` are media types.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Self::new(
            406,
            "NotAcceptable",
            format!("only the following media types are accepted: {list}"),
        )
    }

    /// 415; `accepted` are media types.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413; the limit in bytes.
    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 410: this revision is no longer held (W4). The client lists anew.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410: the revision asked for is older than the oldest held.
    pub fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 504: the revision asked for is not there yet.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        let details = Details {
            causes: alloc::vec![cause],
            retry_after_seconds: Some(1),
            ..Details::default()
        };
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self { details: Some(details), ..Self::new(504, "Timeout", message) }
    }

    /// 429 with Retry-After.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details =
            Details { retry_after_seconds: Some(retry_after_seconds), ..Details::default() };
        Self { details: Some(details), ..Self::new(429, "TooManyRequests", message) }
    }

    /// 500.
    pub fn internal(why: &str) -> Self {
        let cause = Cause { message: why.into(), ..Cause::default() };
        let details = Details { causes: alloc::vec![cause], ..Details::default() };
        let message = format!("Internal error occurred: {why}");
        Self { details: Some(details), ..Self::new(500, "InternalError", message) }
    }

    /// 409: every name that was generated was taken.
    pub fn generate_name_conflict(group: &str, plural: &str, name: &str) -> Self {
        let what = qualified(group, plural);
        let message = format!(
            "{what} \"{name}\" already exists, the server was not able to generate a unique name for the object"
        );
        Self::about(409, "AlreadyExists", group, plural, name, message).retry_after(1)
    }

    /// 504: not done in time; whether it will be is unknown.
    pub fn timeout(why: &str) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {why}")).retry_after(1)
    }

    /// 503: not now (the store is being reopened, the node is not connected).
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).retry_after(1)
    }

    /// 422 with one cause for each wrong field; `kind` is the kind (`Deployment`).
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Self {
        let message = format!("{} \"{name}\" is invalid: {errors}", qualified(group, kind));
        let mut status = Self::about(422, "Invalid", group, kind, name, message);
        if let Some(details) = &mut status.details {
            details.causes = errors.causes();
        }
        status
    }

    /// Asks the client to come again after that many seconds (also sent as the `Retry-After` header).
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// The JSON body of a failure.
    pub fn to_json(&self) -> Vec<u8> {
        let mut body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if let Some(body) = body.as_object_mut() {
            if !self.reason.is_empty() {
                body.insert("reason".into(), self.reason.as_str().into());
            }
            if let Some(details) = &self.details {
                let details = serde_json::to_value(details).unwrap_or_default();
                body.insert("details".into(), details);
            }
        }
        body.to_string().into_bytes()
    }

    /// The JSON body of a success that has no object to give (a finished delete).
    pub fn success(group: &str, plural: &str, name: &str, uid: &str) -> Vec<u8> {
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: plural.into(),
            uid: uid.into(),
            ..Details::default()
        };
        serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        })
        .to_string()
        .into_bytes()
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
