//! Rules for `metadata`, the same for every kind.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use coracle_api::{Resource, validation};
use serde_json::Value;

use super::{
    Facts,
    access::{at, entries, flag, int, items, keep, or_set, remove, same, set, text},
    field::{FieldErrors, Path},
};

/// What a name of some kind may be; gives what is wrong with it.
pub(crate) type NameRule = fn(&str) -> Vec<String>;

/// What must hold of `metadata.name`: for most kinds a DNS subdomain.
pub(crate) fn name_rule(resource: Resource) -> NameRule {
    match resource {
        Resource::NAMESPACES => validation::dns1123_label,
        Resource::SERVICES => validation::dns1035_label,
        Resource::ROLES
        | Resource::ROLE_BINDINGS
        | Resource::CLUSTER_ROLES
        | Resource::CLUSTER_ROLE_BINDINGS
        | Resource::CERTIFICATE_SIGNING_REQUESTS => validation::path_segment,
        _ => validation::dns1123_subdomain,
    }
}

/// Sets `metadata.generation` of a new object, and drops what is empty.
pub(crate) fn prepare_create(object: &mut Value, facts: Facts) {
    let metadata = super::access::child(object, "metadata");
    tidy(metadata);
    if facts.has_generation {
        set(metadata, "generation", 1);
    } else {
        remove(metadata, "generation");
    }
}

/// Carries over what an update may leave out or may not change.
pub(crate) fn prepare_update(new: &mut Value, old: &Value) {
    let metadata = super::access::child(new, "metadata");
    tidy(metadata);
    let Some(old) = at(old, &["metadata"]) else { return };
    keep(metadata, old, "generation");
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if let Some(value) = old.get(key)
            && (at(metadata, &[key]).is_none() || key.starts_with("deletion"))
        {
            or_set(metadata, key, value.clone());
        }
    }
}

/// Moves the generation on by one.
pub(crate) fn next_generation(new: &mut Value) {
    let metadata = super::access::child(new, "metadata");
    let generation = int(metadata, &["generation"]).unwrap_or(0);
    set(metadata, "generation", generation + 1);
}

fn tidy(metadata: &mut Value) {
    super::access::remove_zero(
        metadata,
        &["labels", "annotations", "ownerReferences", "finalizers", "selfLink", "generateName"],
    );
    if let Some(owners) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) {
        owners.iter_mut().for_each(super::access::prune_nulls);
    }
}

/// The rules for `metadata` of a new object.
pub(crate) fn validate(resource: Resource, object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let metadata = at(object, &["metadata"]).unwrap_or(&Value::Null);
    let rule = name_rule(resource);
    let generate_name = text(metadata, &["generateName"]);
    if !generate_name.is_empty() {
        // A trailing hyphen is fine: something follows it.
        let masked = generate_name.strip_suffix('-').map(|rest| format!("{rest}a"));
        for why in rule(masked.as_deref().unwrap_or(generate_name)) {
            errors.invalid(&path.child("generateName"), generate_name, &why);
        }
    }
    let name = text(metadata, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    } else {
        for why in rule(name) {
            errors.invalid(&path.child("name"), name, &why);
        }
    }
    let namespace = text(metadata, &["namespace"]);
    let at_namespace = path.child("namespace");
    if resource.def().namespaced {
        if namespace.is_empty() {
            errors.required(&at_namespace, "");
        } else {
            for why in validation::dns1123_label(namespace) {
                errors.invalid(&at_namespace, namespace, &why);
            }
        }
    } else if !namespace.is_empty() {
        errors.forbidden(&at_namespace, "not allowed on this type");
    }
    common(metadata, &path, errors);
}

/// What holds for new and changed objects alike.
fn common(metadata: &Value, path: &Path, errors: &mut FieldErrors) {
    labels(metadata, path, errors);
    annotations(metadata, path, errors);
    owners(items(metadata, &["ownerReferences"]), &path.child("ownerReferences"), errors);
    let at_finalizers = path.child("finalizers");
    let finalizers = items(metadata, &["finalizers"]);
    for finalizer in finalizers.iter().filter_map(Value::as_str) {
        finalizer_name(finalizer, &at_finalizers, errors);
    }
    let has = |name: &str| finalizers.iter().any(|one| one.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(&at_finalizers, &Value::from(finalizers), why);
    }
}

/// A finalizer: one of Kubernetes' own, or with a domain.
pub(crate) fn finalizer_name(name: &str, path: &Path, errors: &mut FieldErrors) {
    let wrong = validation::qualified_name(name);
    for why in &wrong {
        errors.invalid(path, name, why);
    }
    let known = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
    if wrong.is_empty() && !name.contains('/') && !known {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(path, name, why);
    }
}

/// The labels of `holder` (a `metadata`).
pub(crate) fn labels(holder: &Value, path: &Path, errors: &mut FieldErrors) {
    label_map(entries(holder, &["labels"]), &path.child("labels"), errors);
}

/// Any map of label keys to label values.
pub(crate) fn label_map<'a>(
    map: impl Iterator<Item = (&'a String, &'a Value)>,
    path: &Path,
    errors: &mut FieldErrors,
) {
    for (key, value) in map {
        for why in validation::qualified_name(key) {
            errors.invalid(path, key.as_str(), &why);
        }
        let value = value.as_str().unwrap_or("");
        for why in validation::label_value(value) {
            errors.invalid(path, value, &why);
        }
    }
}

/// The annotations of `holder` (a `metadata`).
pub(crate) fn annotations(holder: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("annotations");
    let mut bytes = 0;
    for (key, value) in entries(holder, &["annotations"]) {
        for why in validation::qualified_name(&key.to_lowercase()) {
            errors.invalid(&path, key.as_str(), &why);
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > validation::ANNOTATIONS_BYTES_MAX {
        errors.too_long(&path, validation::ANNOTATIONS_BYTES_MAX);
    }
}

fn owners(owners: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut controller: Option<String> = None;
    for owner in owners {
        let api_version = text(owner, &["apiVersion"]);
        let version = api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            let why = "version must not be empty";
            errors.invalid(&path.child("apiVersion"), api_version, why);
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, &[key]).is_empty() {
                errors.invalid(&path.child(key), "", "must not be empty");
            }
        }
        let (kind, name) = (text(owner, &["kind"]), text(owner, &["name"]));
        if kind == "Event" && matches!(api_version, "v1" | "events.k8s.io/v1") {
            let why = format!("{api_version}, Kind=Event is disallowed from being an owner");
            errors.invalid(path, owner, &why);
        }
        if flag(owner, &["controller"]) {
            let this = format!("{kind}/{name}");
            if let Some(other) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {other} and {this}"
                );
                errors.invalid(path, &Value::from(owners), &why);
            }
            controller.get_or_insert(this);
        }
    }
}

/// The rules for `metadata` of a changed object.
pub(crate) fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata");
    let new = at(new, &["metadata"]).unwrap_or(&Value::Null);
    let old = at(old, &["metadata"]).unwrap_or(&Value::Null);
    if at(old, &["deletionTimestamp"]).is_some() {
        let before: BTreeSet<&str> =
            items(old, &["finalizers"]).iter().filter_map(Value::as_str).collect();
        let added: Vec<&str> = items(new, &["finalizers"])
            .iter()
            .filter_map(Value::as_str)
            .filter(|one| !before.contains(one))
            .collect();
        if !added.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errors.forbidden(&path.child("finalizers"), &why);
        }
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        immutable(new, old, key, &path, errors);
    }
    common(new, &path, errors);
}

/// `holder[key]` may not differ from what it was.
pub(crate) fn immutable(
    new: &Value,
    old: &Value,
    key: &str,
    path: &Path,
    errors: &mut FieldErrors,
) {
    if !same(new.get(key), old.get(key)) {
        let value = new.get(key).cloned().unwrap_or(Value::Null);
        errors.invalid(&path.child(key), &value, "field is immutable");
    }
}

/// A label selector's own rules (`matchLabels`, `matchExpressions`).
pub(crate) fn label_selector(selector: &Value, path: &Path, errors: &mut FieldErrors) {
    label_map(entries(selector, &["matchLabels"]), &path.child("matchLabels"), errors);
    for (index, expression) in items(selector, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = items(expression, &["values"]);
        match text(expression, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&path.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.invalid(&path.child("operator"), other, "not a valid selector operator")
            }
        }
        let key = text(expression, &["key"]);
        for why in validation::qualified_name(key) {
            errors.invalid(&path.child("key"), key, &why);
        }
        for (at_value, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            for why in validation::label_value(value) {
                errors.invalid(&path.child("values").index(at_value), value, &why);
            }
        }
    }
}

/// Whether a label selector's requirements hold of these labels.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let of = |key: &str| labels.get(key).and_then(Value::as_str);
    entries(selector, &["matchLabels"]).all(|(key, value)| of(key) == value.as_str())
        && items(selector, &["matchExpressions"]).iter().all(|expression| {
            let have = of(text(expression, &["key"]));
            let among = items(expression, &["values"]).iter().any(|value| value.as_str() == have);
            match text(expression, &["operator"]) {
                "In" => have.is_some() && among,
                "NotIn" => have.is_none() || !among,
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}
