//! Rules for probes and lifecycle handlers.

use coracle_api::validation;
use serde_json::Value;

use super::{containers::port_number, validate::not_negative};
use crate::kinds::{
    access::{at, int, items, text},
    field::{FieldErrors, Path},
};

/// The probe `name` of a container at `path`, where there is one.
pub(crate) fn probe(container: &Value, name: &str, path: &Path, errors: &mut FieldErrors) {
    let Some(probe) = at(container, &[name]) else { return };
    let path = path.child(name);
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], &path, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(probe, key, &path, errors);
    }
    let grace = int(probe, &["terminationGracePeriodSeconds"]);
    let at_grace = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = grace.filter(|seconds| *seconds <= 0) {
        errors.invalid(&at_grace, seconds, "must be greater than 0");
    }
    if name == "readinessProbe" {
        if let Some(seconds) = grace {
            errors.invalid(&at_grace, seconds, "must not be set for readinessProbes");
        }
    } else if let Some(times) = int(probe, &["successThreshold"]).filter(|times| *times != 1) {
        errors.invalid(&path.child("successThreshold"), times, "must be 1");
    }
}

/// `lifecycle` of a container at `path`, where there is one.
pub(crate) fn lifecycle(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in ["postStart", "preStop"] {
        if let Some(hook) = at(container, &["lifecycle", name]) {
            let path = path.child("lifecycle").child(name);
            handler(hook, &["exec", "httpGet", "tcpSocket", "sleep"], &path, errors);
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], path: &Path, errors: &mut FieldErrors) {
    let mut found = 0;
    for kind in kinds {
        let Some(action) = at(handler, &[kind]) else { continue };
        let path = path.child(kind);
        found += 1;
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if items(action, &["command"]).is_empty() => {
                errors.required(&path.child("command"), "");
            }
            "httpGet" => http(action, &path, errors),
            "tcpSocket" => port(action, &path, errors),
            "grpc" => {
                let number = int(action, &["port"]).unwrap_or(0);
                port_number(number, &path.child("port"), errors);
            }
            "sleep" => not_negative(action, "seconds", &path, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}

fn http(action: &Value, path: &Path, errors: &mut FieldErrors) {
    if text(action, &["path"]).is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(action, path, errors);
    let scheme = text(action, &["scheme"]);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for (index, header) in items(action, &["httpHeaders"]).iter().enumerate() {
        let name = text(header, &["name"]);
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if name.is_empty() || !name.bytes().all(fine) {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.invalid(&path.child("httpHeaders").index(index).child("name"), name, why);
        }
    }
}

/// A port by number or by name.
fn port(action: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("port");
    match at(action, &["port"]) {
        Some(Value::String(name)) => {
            for why in validation::port_name(name) {
                errors.invalid(&path, name.as_str(), &why);
            }
        }
        other => port_number(other.and_then(Value::as_i64).unwrap_or(0), &path, errors),
    }
}
