//! Pods: what is theirs beyond the rules for a pod spec.

pub(crate) mod containers;
pub(crate) mod defaults;
mod env;
pub(crate) mod placement;
mod probes;
mod security;
mod update;
pub(crate) mod validate;
mod volumes;
pub(crate) mod warn;

use alloc::{string::String, vec::Vec};

use serde_json::{Value, json};

use super::{
    Context, Facts, Strategy,
    access::{at, child, each, items, keep, object, same, set, text},
    conditions,
    field::{FieldErrors, Path},
    meta,
};

/// Pods.
pub(crate) struct Pods;

impl Strategy for Pods {
    fn facts(&self) -> Facts {
        Facts { graceful_deletion: true, has_generation: true, ..Facts::default() }
    }

    fn default(&self, _context: &Context<'_>, object: &mut Value) {
        defaults::pod(object);
    }

    fn prepare_create(&self, context: &Context<'_>, pod: &mut Value) {
        let spec = child(pod, "spec");
        defaults::mirror_service_account(spec);
        let qos = defaults::qos_class(spec);
        let gated = !items(spec, &["schedulingGates"]).is_empty();
        let mut status = json!({ "phase": "Pending", "qosClass": qos });
        if gated {
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            conditions::put(&mut status, &condition, context.now);
        }
        set(pod, "status", status);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        defaults::mirror_service_account(child(new, "spec"));
        keep(new, old, "status");
        if !same(new.get("spec"), old.get("spec")) {
            meta::next_generation(new);
        }
    }

    fn prepare_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        new: &mut Value,
        old: &Value,
    ) {
        keep(new, old, "spec");
        let metadata = child(new, "metadata");
        if let Some(old) = at(old, &["metadata"]) {
            keep(metadata, old, "ownerReferences");
            keep(metadata, old, "deletionTimestamp");
        }
        let qos = text(old, &["status", "qosClass"]);
        let status = child(new, "status");
        // Shown even where it is nothing, as every pod condition has it.
        each(status, "conditions", |condition| {
            object(condition).entry("lastProbeTime").or_insert(Value::Null);
        });
        let status = object(status);
        if !qos.is_empty() {
            status.entry("qosClass").or_insert_with(|| qos.into());
        }
    }

    fn validate_create(&self, _context: &Context<'_>, pod: &Value, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let spec = at(pod, &["spec"]).unwrap_or(&Value::Null);
        validate::spec(spec, &path, errors);
        if !items(spec, &["ephemeralContainers"]).is_empty() {
            let path = path.child("ephemeralContainers");
            errors.forbidden(&path, "cannot be set on create");
        }
        if !text(spec, &["nodeName"]).is_empty() && !items(spec, &["schedulingGates"]).is_empty() {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.forbidden(&path.child("nodeName"), why);
        }
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        update::validate(new, old, errors);
    }

    fn validate_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        update::validate_status(new, old, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ]
    }

    fn warnings(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: Option<&Value>,
        out: &mut Vec<String>,
    ) {
        if old.is_none() {
            warn::name(new, "the Pod's hostname", out);
        }
        if old.is_none_or(|old| !same(new.get("spec"), old.get("spec"))) {
            let spec = at(new, &["spec"]).unwrap_or(&Value::Null);
            warn::spec(spec, &Path::new("spec"), out);
        }
    }
}
