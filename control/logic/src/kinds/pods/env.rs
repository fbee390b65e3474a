//! Rules for a container's environment, and for references to fields and resources.

use alloc::format;

use coracle_api::validation;
use serde_json::Value;

use crate::kinds::{
    access::{at, items, text},
    field::{FieldErrors, Path},
    quantities,
};

/// Fields of a pod that an environment variable may hold.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of a pod that a file of the downward API may hold.
const FILE_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Resources of a container that may be referred to.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env` at `path`.
pub(crate) fn env(env: &[Value], path: &Path, errors: &mut FieldErrors) {
    for (index, variable) in env.iter().enumerate() {
        let path = path.index(index);
        let name = text(variable, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            for why in validation::env_var_name(name) {
                errors.invalid(&path.child("name"), name, &why);
            }
        }
        if let Some(source) = at(variable, &["valueFrom"]) {
            let has_value = !text(variable, &["value"]).is_empty();
            value_from(source, has_value, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &Value, has_value: bool, path: &Path, errors: &mut FieldErrors) {
    let mut sources = 0;
    if let Some(reference) = at(source, &["fieldRef"]) {
        sources += 1;
        field_ref(reference, &ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(reference) = at(source, &["resourceFieldRef"]) {
        sources += 1;
        resource_ref(reference, false, &path.child("resourceFieldRef"), errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = at(source, &[kind]) {
            sources += 1;
            key_ref(reference, &path.child(kind), errors);
        }
    }
    if at(source, &["fileKeyRef"]).is_some() {
        sources += 1;
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(path, "", why);
    } else if has_value {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(reference: &Value, path: &Path, errors: &mut FieldErrors) {
    let name = text(reference, &["name"]);
    if !name.is_empty() {
        for why in validation::dns1123_subdomain(name) {
            errors.invalid(&path.child("name"), name, &why);
        }
    }
    let key = text(reference, &["key"]);
    if key.is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        for why in validation::config_map_key(key) {
            errors.invalid(&path.child("key"), key, &why);
        }
    }
}

fn field_ref(reference: &Value, allowed: &[&str], path: &Path, errors: &mut FieldErrors) {
    if text(reference, &["apiVersion"]).is_empty() {
        return errors.required(&path.child("apiVersion"), "");
    }
    let field = text(reference, &["fieldPath"]);
    if field.is_empty() {
        return errors.required(&path.child("fieldPath"), "");
    }
    let path = path.child("fieldPath");
    if let Some((map, key)) = field.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        match map {
            "metadata.annotations" => {
                for why in validation::qualified_name(&key.to_lowercase()) {
                    errors.invalid(&path, field, &why);
                }
            }
            "metadata.labels" => {
                for why in validation::qualified_name(key) {
                    errors.invalid(&path, field, &why);
                }
            }
            _ => errors.invalid(&path, field, format!("{map:?} does not support subscript")),
        }
    } else if !allowed.contains(&field) {
        errors.not_supported(&path, field, allowed);
    }
}

fn resource_ref(reference: &Value, in_volume: bool, path: &Path, errors: &mut FieldErrors) {
    if in_volume && text(reference, &["containerName"]).is_empty() {
        return errors.required(&path.child("containerName"), "");
    }
    let resource = text(reference, &["resource"]);
    if resource.is_empty() {
        return errors.required(&path.child("resource"), "");
    }
    let huge =
        resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&path.child("resource"), resource, &RESOURCES);
    }
    let Some(divisor) = at(reference, &["divisor"]) else { return };
    let Some(divisor) = quantities::checked(errors, &path.child("divisor"), divisor) else {
        return;
    };
    let shown = format!("{divisor}");
    let (allowed, why) = if resource.ends_with(".cpu") {
        (
            &["1m", "1", "0"][..],
            "only divisor's values 1m and 1 are supported with the cpu resource",
        )
    } else {
        (
            &[
                "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
                "0",
            ][..],
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource",
        )
    };
    if !allowed.contains(&shown.as_str()) {
        errors.invalid(&path.child("divisor"), &shown, why);
    }
}

/// `envFrom` at `path`.
pub(crate) fn env_from(sources: &[Value], path: &Path, errors: &mut FieldErrors) {
    for (index, source) in sources.iter().enumerate() {
        let path = path.index(index);
        let prefix = text(source, &["prefix"]);
        if !prefix.is_empty() {
            for why in validation::env_var_name(prefix) {
                errors.invalid(&path.child("prefix"), prefix, &why);
            }
        }
        let mut found = 0;
        for kind in ["configMapRef", "secretRef"] {
            let Some(reference) = at(source, &[kind]) else { continue };
            found += 1;
            let name = text(reference, &["name"]);
            if name.is_empty() {
                errors.required(&path.child(kind).child("name"), "");
            } else {
                for why in validation::dns1123_subdomain(name) {
                    errors.invalid(&path.child(kind).child("name"), name, &why);
                }
            }
        }
        match found {
            0 => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
    }
}

/// `items` of a downward API volume or projection at `path` (of the list's holder).
pub(crate) fn downward_items(holder: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, item) in items(holder, &["items"]).iter().enumerate() {
        let path = path.child("items").index(index);
        let file = text(item, &["path"]);
        if file.is_empty() {
            errors.required(&path.child("path"), "");
        } else {
            super::volumes::file_path(file, &path.child("path"), errors);
        }
        super::volumes::mode(item, "mode", &path, errors);
        match (at(item, &["fieldRef"]), at(item, &["resourceFieldRef"])) {
            (Some(field), None) => {
                field_ref(field, &FILE_FIELDS, &path.child("fieldRef"), errors);
            }
            (None, Some(resource)) => {
                resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
            }
            (Some(_), Some(_)) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(&path, "resource", why);
            }
            (None, None) => {
                errors.required(&path, "one of fieldRef and resourceFieldRef is required");
            }
        }
    }
}
