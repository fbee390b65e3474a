//! Subject access reviews: may this user do this.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{FieldErrors, Status};
use serde_json::{Value, json};

use super::{Question, has, invalid, selector_text};
use crate::{
    authz::Asked,
    call::User,
    kinds::access::{at, entries, items, text},
};

/// The review's status; `own` is the user of a self review, else the spec names one.
pub(super) fn review(
    question: &Question<'_>,
    kind: &str,
    own: Option<&User>,
    body: &Value,
) -> Result<Value, Status> {
    check(question, kind, own.is_some(), body)?;
    let nothing = Value::Null;
    let spec = at(body, &["spec"]).unwrap_or(&nothing);
    let named = named_user(spec);
    let user = own.unwrap_or(&named);
    let selector = selector_text(at(spec, &["resourceAttributes"]).unwrap_or(&nothing));
    let asked = match at(spec, &["resourceAttributes"]) {
        Some(attributes) => {
            let of = |key| text(attributes, &[key]);
            Asked {
                verb: of("verb"),
                group: of("group"),
                resource: of("resource"),
                subresource: of("subresource"),
                namespace: of("namespace"),
                name: of("name"),
                field_selector: &selector,
                path: "",
            }
        }
        None => Asked {
            verb: text(spec, &["nonResourceAttributes", "verb"]),
            path: text(spec, &["nonResourceAttributes", "path"]),
            ..Asked::default()
        },
    };
    let allowed = question.authorizer.allows(user, &asked, question.cache);
    let mut status = json!({"allowed": allowed});
    if let Some(reason) = question.authorizer.reason(user, &asked)
        && let Some(status) = status.as_object_mut()
    {
        status.insert("reason".into(), reason.into());
    }
    Ok(status)
}

fn named_user(spec: &Value) -> User {
    let strings = |value: &Value| -> Vec<String> {
        let list = value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().filter_map(|one| one.as_str().map(ToString::to_string)).collect()
    };
    User {
        name: text(spec, &["user"]).into(),
        uid: text(spec, &["uid"]).into(),
        groups: items(spec, &["groups"])
            .iter()
            .filter_map(|group| group.as_str().map(Into::into))
            .collect(),
        extra: entries(spec, &["extra"])
            .map(|(key, values)| (key.clone(), strings(values)))
            .collect(),
    }
}

fn check(question: &Question<'_>, kind: &str, own: bool, body: &Value) -> Result<(), Status> {
    let mut errors = FieldErrors::new();
    let (resource, path) =
        (has(body, &["spec", "resourceAttributes"]), has(body, &["spec", "nonResourceAttributes"]));
    let nothing = Value::Null;
    let shown = |key| at(body, &["spec", key]).unwrap_or(&nothing);
    if resource && path {
        errors.invalid(
            "spec.nonResourceAttributes",
            shown("nonResourceAttributes"),
            "cannot be specified in combination with resourceAttributes",
        );
    }
    if !resource && !path {
        errors.invalid(
            "spec.resourceAttributes",
            shown("resourceAttributes"),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
    }
    if !own
        && text(body, &["spec", "user"]).is_empty()
        && items(body, &["spec", "groups"]).is_empty()
    {
        errors.invalid("spec.user", "", "at least one of user or group must be specified");
    }
    if kind == "LocalSubjectAccessReview" {
        let namespace = &question.target.namespace;
        if path {
            errors.invalid(
                "spec.nonResourceAttributes",
                shown("nonResourceAttributes"),
                "disallowed on this kind of request",
            );
        }
        let inside = text(body, &["spec", "resourceAttributes", "namespace"]);
        if resource && inside != namespace {
            return Err(Status::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {namespace}"
            )));
        }
    }
    invalid(kind, errors)
}
