//! CertificateSigningRequests.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_api::{time, validation};
use serde_json::{Value, json};

use super::{
    Context, Strategy,
    access::{at, child, each, int, items, keep, or_set, set, text},
    field::{FieldErrors, Path},
};
use crate::Millis;

/// CertificateSigningRequests.
pub(crate) struct Requests;

/// What a certificate may be for (`spec.usages`).
pub(crate) const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Shortest life that may be asked for, in seconds.
const EXPIRATION_SECONDS_MIN: i64 = 600;

impl Strategy for Requests {
    fn prepare_create(&self, context: &Context<'_>, request: &mut Value) {
        // Who asks is what the server saw, not what the body says.
        let user = context.user;
        let spec = child(request, "spec");
        set(spec, "username", user.name.as_str());
        for key in ["uid", "groups", "extra"] {
            super::access::remove(spec, key);
        }
        if !user.uid.is_empty() {
            set(spec, "uid", user.uid.as_str());
        }
        if !user.groups.is_empty() {
            set(spec, "groups", json!(user.groups));
        }
        for (key, values) in &user.extra {
            set(child(spec, "extra"), key, json!(values));
        }
        set(request, "status", json!({}));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn prepare_subresource(
        &self,
        context: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) {
        keep(new, old, "spec");
        if subresource == "approval" {
            // Only the conditions are its own.
            let conditions = at(new, &["status", "conditions"]).cloned();
            keep(new, old, "status");
            if let Some(conditions) = conditions {
                set(child(new, "status"), "conditions", conditions);
            }
        } else {
            keep_verdict(new, old);
        }
        stamp(child(new, "status"), old, context.now);
    }

    fn validate_create(&self, _context: &Context<'_>, request: &Value, errors: &mut FieldErrors) {
        spec(request, errors);
    }

    fn validate_subresource(
        &self,
        _context: &Context<'_>,
        subresource: &str,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        status(subresource, new, old, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }
}

/// The `status` subresource neither gives nor takes a verdict: Approved and Denied stay as they were.
fn keep_verdict(new: &mut Value, old: &Value) {
    let verdict = |condition: &&Value| matches!(text(condition, &["type"]), "Approved" | "Denied");
    let mut conditions: Vec<Value> =
        items(old, &["status", "conditions"]).iter().filter(verdict).cloned().collect();
    let others = items(new, &["status", "conditions"]).iter().filter(|one| !verdict(one));
    conditions.extend(others.cloned());
    let status = child(new, "status");
    if conditions.is_empty() {
        super::access::remove(status, "conditions");
    } else {
        set(status, "conditions", conditions);
    }
}

/// Fills in the times of conditions that have none.
fn stamp(status: &mut Value, old: &Value, now: Millis) {
    let now = time::rfc3339(now.0);
    let before = items(old, &["status", "conditions"]);
    each(status, "conditions", |condition| {
        or_set(condition, "lastUpdateTime", now.as_str());
        let kind = text(condition, &["type"]);
        let old = before.iter().find(|old| text(old, &["type"]) == kind);
        let since = match old {
            Some(old) if text(old, &["status"]) == text(condition, &["status"]) => {
                text(old, &["lastTransitionTime"])
            }
            _ => "",
        };
        let since: String = if since.is_empty() { now.as_str().into() } else { since.into() };
        or_set(condition, "lastTransitionTime", since);
    });
}

fn spec(request: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = at(request, &["spec"]).unwrap_or(&Value::Null);
    let pem = STANDARD.decode(text(spec, &["request"])).unwrap_or_default();
    let pem = String::from_utf8_lossy(&pem);
    if !pem.contains("-----BEGIN CERTIFICATE REQUEST-----") {
        let why = "PEM block type must be CERTIFICATE REQUEST";
        errors.invalid(&path.child("request"), "<request>", why);
    }
    let usages = items(spec, &["usages"]);
    if usages.is_empty() {
        errors.required(&path.child("usages"), "usages must be specified");
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in usages.iter().filter_map(Value::as_str).enumerate() {
        let path = path.child("usages").index(index);
        if !USAGES.contains(&usage) {
            errors.not_supported(&path, usage, &USAGES);
        }
        if !seen.insert(usage) {
            errors.duplicate(&path, usage);
        }
    }
    signer(text(spec, &["signerName"]), &path.child("signerName"), errors);
    if let Some(seconds) =
        int(spec, &["expirationSeconds"]).filter(|seconds| *seconds < EXPIRATION_SECONDS_MIN)
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, why);
    }
}

fn signer(name: &str, path: &Path, errors: &mut FieldErrors) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let Some((domain, rest)) = name.split_once('/') else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, name, why);
    };
    for why in validation::dns1123_subdomain(domain) {
        errors.invalid(path, name, alloc::format!("validating label {domain:?}: {why}"));
    }
    if domain.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.invalid(path, domain, why);
    }
    for why in validation::dns1123_subdomain(rest) {
        errors.invalid(path, name, alloc::format!("validating label {rest:?}: {why}"));
    }
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        errors.invalid(path, name, why);
    }
}

fn status(subresource: &str, new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status").child("conditions");
    let conditions = items(new, &["status", "conditions"]);
    let has = |object, kind: &str| {
        items(object, &["status", "conditions"]).iter().any(|one| text(one, &["type"]) == kind)
    };
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = text(condition, &["type"]);
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
        if !seen.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        let verdict = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if verdict { &["True"] } else { &["False", "True", "Unknown"] };
        let status = text(condition, &["status"]);
        if status.is_empty() {
            errors.required(&path.child("status"), "");
        } else if !allowed.contains(&status) {
            errors.not_supported(&path.child("status"), status, allowed);
        }
    }
    if has(new, "Approved") && has(new, "Denied") {
        let why = "Approved and Denied conditions are mutually exclusive";
        errors.invalid(&path, "Denied", why);
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if has(old, kind) && !has(new, kind) {
            let why = alloc::format!("updates may not remove a condition of type {kind:?}");
            errors.forbidden(&path, &why);
        }
    }
    let certificate = |object| text(object, &["status", "certificate"]);
    if subresource == "status" && certificate(new) != certificate(old) {
        let path = Path::new("status").child("certificate");
        if !certificate(old).is_empty() {
            let why = "updates may not change a certificate once it is set";
            errors.forbidden(&path, why);
        }
        let pem = STANDARD.decode(certificate(new)).unwrap_or_default();
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            let why = "must contain at least one CERTIFICATE PEM block";
            errors.invalid(&path, "<certificate data>", why);
        }
    }
}
