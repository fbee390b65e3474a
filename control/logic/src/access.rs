//! Calls that ask and store nothing: access reviews, token reviews, "who am I", and service account tokens.

mod subject;
mod token_request;

use alloc::{format, string::String, vec::Vec};

use coracle_api::{FieldErrors, Status, time};
use coracle_keys::Keys;
use serde_json::{Value, json};

use crate::{
    Millis, Rng,
    authn::{ISSUER, completed, token_identity},
    authz::{Authorizer, node::node_of},
    cache::Cache,
    call::{ResourceTarget, User},
    kinds::access::{at, child, items, set, text},
};

/// Who asks what, and what the answer is drawn from.
#[derive(Copy, Clone)]
pub struct Question<'a> {
    /// Who asks.
    pub user: &'a User,
    /// What is asked.
    pub target: &'a ResourceTarget,
    /// All objects as they are now.
    pub cache: &'a Cache,
    /// The rules in force.
    pub authorizer: &'a Authorizer,
    /// Signs and verifies tokens.
    pub keys: &'a dyn Keys,
    /// The time.
    pub now: Millis,
}

/// Group, version and kind of the body that such a call takes; `None`: it is none of these calls.
pub fn kind(target: &ResourceTarget) -> Option<(&'static str, &'static str, &'static str)> {
    let authorization = |kind| Some(("authorization.k8s.io", "v1", kind));
    let authentication = |kind| Some(("authentication.k8s.io", "v1", kind));
    match (target.group.as_str(), target.plural.as_str(), target.subresource.as_str()) {
        ("", "serviceaccounts", "token") => authentication("TokenRequest"),
        ("authentication.k8s.io", "tokenreviews", "") => authentication("TokenReview"),
        ("authentication.k8s.io", "selfsubjectreviews", "") => authentication("SelfSubjectReview"),
        ("authorization.k8s.io", plural, "") => match plural {
            "localsubjectaccessreviews" => authorization("LocalSubjectAccessReview"),
            "selfsubjectaccessreviews" => authorization("SelfSubjectAccessReview"),
            "selfsubjectrulesreviews" => authorization("SelfSubjectRulesReview"),
            "subjectaccessreviews" => authorization("SubjectAccessReview"),
            _ => None,
        },
        _ => None,
    }
}

/// The answer (201): the body that was sent, whose `apiVersion` and `kind` are those of [`kind`], with its status.
///
/// # Errors
/// 404: not one of these calls, or what is named is not there. 400 and 422: what is asked makes no sense. 403: a node
/// asks for a token that is not for its pods.
pub fn answer(question: &Question<'_>, body: Value, rng: &mut Rng) -> Result<Value, Status> {
    let (_, _, kind) = kind(question.target).ok_or_else(Status::not_served)?;
    let mut body = body;
    // Nothing of it is stored, so nobody manages its fields.
    crate::kinds::access::remove(child(&mut body, "metadata"), "managedFields");
    let status = match kind {
        "TokenRequest" => return token_request::answer(question, body, rng),
        "TokenReview" => token_review(question, &body)?,
        "SelfSubjectReview" => {
            set(child(&mut body, "metadata"), "creationTimestamp", time::rfc3339(question.now.0));
            json!({"userInfo": user_info(question.user)})
        }
        "SelfSubjectRulesReview" => rules_review(question, &body)?,
        "SelfSubjectAccessReview" => subject::review(question, kind, Some(question.user), &body)?,
        _ => subject::review(question, kind, None, &body)?,
    };
    set(&mut body, "status", status);
    Ok(body)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        set(&mut info, "uid", user.uid.as_str());
    }
    if !user.groups.is_empty() {
        set(&mut info, "groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter().map(|(key, values)| (key.clone(), values.clone().into()));
        set(&mut info, "extra", extra.collect::<serde_json::Map<String, Value>>());
    }
    info
}

fn token_review(question: &Question<'_>, body: &Value) -> Result<Value, Status> {
    let token = text(body, &["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let asked: Vec<String> = items(body, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(Into::into))
        .collect();
    let Question { cache, keys, now, .. } = *question;
    let found = token_identity(token, &asked, cache, keys, now).and_then(|mut identity| {
        // Tokens that name no audience are for the API itself.
        if identity.audiences.is_empty() {
            let ours = asked.is_empty() || asked.iter().any(|audience| audience == ISSUER);
            identity.audiences = ours.then(|| Vec::from([ISSUER.into()]))?;
        }
        Some(identity)
    });
    Ok(match found {
        Some(identity) => json!({
            "authenticated": true,
            "user": user_info(&completed(identity.user)),
            "audiences": identity.audiences,
        }),
        None => json!({"user": {}, "error": "invalid bearer token"}),
    })
}

fn rules_review(question: &Question<'_>, body: &Value) -> Result<Value, Status> {
    let namespace = text(body, &["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in question.authorizer.rules(question.user, namespace) {
        let is_path = rule.resources.is_empty();
        let rule = serde_json::to_value(rule).expect("rules have string keys only");
        if is_path { paths.push(rule) } else { resources.push(rule) }
    }
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if node_of(question.user).is_some() {
        set(&mut status, "incomplete", true);
        set(
            &mut status,
            "evaluationError",
            "node authorizer does not support user rule resolution",
        );
    }
    Ok(status)
}

/// 422 about the review.
fn invalid(kind: &str, errors: FieldErrors) -> Result<(), Status> {
    errors.into_result("authorization.k8s.io", kind, "")
}

/// A field selector as text, from the structured form that reviews carry.
fn selector_text(attributes: &Value) -> String {
    let raw = text(attributes, &["fieldSelector", "rawSelector"]);
    if !raw.is_empty() {
        return raw.into();
    }
    let terms = items(attributes, &["fieldSelector", "requirements"]).iter().filter_map(|term| {
        let key = text(term, &["key"]);
        match (text(term, &["operator"]), items(term, &["values"])) {
            ("In", [only]) => only.as_str().map(|value| format!("{key}={value}")),
            _ => None,
        }
    });
    terms.collect::<Vec<_>>().join(",")
}

fn has(value: &Value, path: &[&str]) -> bool {
    at(value, path).is_some()
}

#[cfg(test)]
mod tests;
