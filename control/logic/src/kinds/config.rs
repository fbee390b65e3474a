//! ConfigMaps and Secrets.

use alloc::format;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_api::validation;
use serde_json::Value;

use super::{
    Context, Strategy,
    access::{at, child, entries, flag, or_set_text, remove, remove_zero, same, set, text},
    field::{FieldErrors, Path},
    meta,
};

/// All values of a ConfigMap or Secret together, in bytes.
const DATA_BYTES_MAX: usize = 1024 * 1024;

/// ConfigMaps.
pub(crate) struct ConfigMaps;
/// Secrets.
pub(crate) struct Secrets;

impl Strategy for ConfigMaps {
    fn default(&self, _context: &Context<'_>, object: &mut Value) {
        remove_zero(object, &["data", "binaryData"]);
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value, errors: &mut FieldErrors) {
        config_map(object, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        frozen(new, old, &["data", "binaryData"], errors);
        config_map(new, errors);
    }
}

impl Strategy for Secrets {
    fn default(&self, _context: &Context<'_>, object: &mut Value) {
        or_set_text(object, "type", "Opaque");
        // What stringData says holds over data, and is never stored or shown.
        let given = remove(object, "stringData");
        for (key, value) in given.as_ref().and_then(Value::as_object).into_iter().flatten() {
            let encoded = STANDARD.encode(value.as_str().unwrap_or(""));
            set(child(object, "data"), key, encoded);
        }
        remove_zero(object, &["data"]);
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value, errors: &mut FieldErrors) {
        secret(object, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        meta::immutable(new, old, "type", &Path::default(), errors);
        frozen(new, old, &["data"], errors);
        secret(new, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["type"]
    }
}

/// An object with `immutable: true` stays as it is, that flag included.
fn frozen(new: &Value, old: &Value, keys: &[&str], errors: &mut FieldErrors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !flag(old, &["immutable"]) {
        return;
    }
    if !flag(new, &["immutable"]) {
        errors.forbidden(&Path::new("immutable"), WHY);
    }
    for key in keys {
        if !same(new.get(*key), old.get(*key)) {
            errors.forbidden(&Path::new(key), WHY);
        }
    }
}

/// The length in bytes of base64 text once decoded; `None`: it is none.
fn decoded_len(text: &str) -> Option<usize> {
    STANDARD.decode(text).ok().map(|bytes| bytes.len())
}

fn keys(object: &Value, field: &str, errors: &mut FieldErrors) {
    for (key, _) in entries(object, &[field]) {
        for why in validation::config_map_key(key) {
            errors.invalid(&Path::new(field).key(key), key, &why);
        }
    }
}

/// Sum of the decoded sizes in a map of base64 values; what is no base64 is noted.
fn binary_size(object: &Value, field: &str, errors: &mut FieldErrors) -> usize {
    let mut bytes = 0;
    for (key, value) in entries(object, &[field]) {
        match value.as_str().and_then(decoded_len) {
            Some(len) => bytes += len,
            None => {
                let path = Path::new(field).key(key);
                errors.invalid(&path, "<redacted>", "must be standard base64 with padding");
            }
        }
    }
    bytes
}

fn config_map(object: &Value, errors: &mut FieldErrors) {
    for (key, _) in entries(object, &["data"]) {
        if at(object, &["binaryData", key]).is_some() {
            let path = Path::new("data").key(key);
            errors.invalid(&path, key, "duplicate of key present in binaryData");
        }
    }
    keys(object, "data", errors);
    keys(object, "binaryData", errors);
    let texts = entries(object, &["data"]).filter_map(|(_, value)| value.as_str());
    let bytes = texts.map(str::len).sum::<usize>() + binary_size(object, "binaryData", errors);
    if bytes > DATA_BYTES_MAX {
        errors.too_long(&Path::new("data"), DATA_BYTES_MAX);
    }
}

fn secret(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("data");
    keys(object, "data", errors);
    if binary_size(object, "data", errors) > DATA_BYTES_MAX {
        errors.too_long(&path, DATA_BYTES_MAX);
    }
    let has = |key: &str| at(object, &["data", key]).is_some();
    match text(object, &["type"]) {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            if text(object, &["metadata", "annotations", NAME]).is_empty() {
                let path = Path::new("metadata").child("annotations").key(NAME);
                errors.required(&path, "");
            }
        }
        "kubernetes.io/dockercfg" => json_key(object, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_key(object, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&path.key("username"), "");
            errors.required(&path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if text(object, &["data", "ssh-privatekey"]).is_empty() => {
            errors.required(&path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !has(key) {
                    errors.required(&path.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn json_key(object: &Value, key: &str, errors: &mut FieldErrors) {
    let path = Path::new("data").key(key);
    let Some(encoded) = at(object, &["data", key]).and_then(Value::as_str) else {
        return errors.required(&path, "");
    };
    let parsed = STANDARD.decode(encoded).map(|bytes| {
        serde_json::from_slice::<serde_json::Map<alloc::string::String, Value>>(&bytes)
    });
    if let Ok(Err(why)) = parsed {
        errors.invalid(&path, "<secret contents redacted>", format!("{why}"));
    }
}
