//! Namespaces.

use serde_json::{Value, json};

use super::{
    Context, Strategy,
    access::{child, items, keep, name, object, set},
    field::{FieldErrors, Path},
    meta::finalizer_name,
};

/// The label that holds the name, so that selectors can.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// What holds a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";

/// Namespaces.
pub(crate) struct Namespaces;

fn label(namespace: &mut Value) {
    let own = alloc::string::String::from(name(namespace));
    if !own.is_empty() {
        set(child(child(namespace, "metadata"), "labels"), NAME_LABEL, own);
    }
}

impl Strategy for Namespaces {
    fn default(&self, _context: &Context<'_>, namespace: &mut Value) {
        label(namespace);
        child(namespace, "spec");
        child(namespace, "status");
    }

    fn prepare_create(&self, _context: &Context<'_>, namespace: &mut Value) {
        set(namespace, "status", json!({ "phase": "Active" }));
        let finalizers =
            object(child(namespace, "spec")).entry("finalizers").or_insert_with(|| json!([]));
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|one| one == FINALIZER)
        {
            finalizers.push(FINALIZER.into());
        }
        // A generated name is known only now.
        label(namespace);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
        keep(new, old, "status");
        label(new);
    }

    fn prepare_subresource(
        &self,
        _context: &Context<'_>,
        subresource: &str,
        new: &mut Value,
        old: &Value,
    ) {
        keep(new, old, if subresource == "finalize" { "status" } else { "spec" });
        label(new);
    }

    fn validate_create(&self, _context: &Context<'_>, new: &Value, errors: &mut FieldErrors) {
        finalizers(new, errors);
    }

    fn validate_subresource(
        &self,
        _context: &Context<'_>,
        subresource: &str,
        new: &Value,
        _old: &Value,
        errors: &mut FieldErrors,
    ) {
        if subresource == "finalize" {
            finalizers(new, errors);
        }
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["status.phase", "name"]
    }
}

fn finalizers(namespace: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("finalizers");
    for one in items(namespace, &["spec", "finalizers"]).iter().filter_map(Value::as_str) {
        finalizer_name(one, &path, errors);
    }
}
