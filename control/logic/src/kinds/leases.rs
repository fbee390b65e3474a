//! Leases and PriorityClasses.

use serde_json::Value;

use super::{
    Context, Facts, Strategy,
    access::{at, child, flag, int, name, or_set_text, remove_zero, text},
    field::{FieldErrors, Path},
    meta,
    pods::validate::not_negative,
};

/// Leases.
pub(crate) struct Leases;
/// PriorityClasses.
pub(crate) struct PriorityClasses;

/// Highest priority that a user's class may have.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
/// Kubernetes' own classes and their values.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

impl Strategy for Leases {
    fn facts(&self) -> Facts {
        Facts { create_on_update: true, unconditional_update: false, ..Facts::default() }
    }

    fn default(&self, _context: &Context<'_>, lease: &mut Value) {
        child(lease, "spec");
    }

    fn validate_create(&self, _context: &Context<'_>, lease: &Value, errors: &mut FieldErrors) {
        lease_spec(lease, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        _old: &Value,
        errors: &mut FieldErrors,
    ) {
        lease_spec(new, errors);
    }
}

fn lease_spec(lease: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = at(lease, &["spec"]).unwrap_or(&Value::Null);
    if let Some(seconds) = int(spec, &["leaseDurationSeconds"]).filter(|n| *n <= 0) {
        errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    not_negative(spec, "leaseTransitions", &path, errors);
    if at(spec, &["preferredHolder"]).is_some() && text(spec, &["strategy"]).is_empty() {
        let why = "can only be specified if `strategy` is defined";
        errors.invalid(&path.child("preferredHolder"), text(spec, &["preferredHolder"]), why);
    }
}

impl Strategy for PriorityClasses {
    fn facts(&self) -> Facts {
        Facts { has_generation: true, ..Facts::default() }
    }

    fn default(&self, _context: &Context<'_>, class: &mut Value) {
        or_set_text(class, "preemptionPolicy", "PreemptLowerPriority");
        remove_zero(class, &["globalDefault", "description"]);
        super::access::or_set(class, "value", 0);
    }

    fn validate_create(&self, _context: &Context<'_>, class: &Value, errors: &mut FieldErrors) {
        let value = int(class, &["value"]).unwrap_or(0);
        let own = name(class);
        if own.starts_with("system-") {
            let known = SYSTEM_CLASSES.iter().find(|(name, _)| *name == own);
            let why = match known {
                None => Some(alloc::format!("{own} is not a known system priority class")),
                Some((_, want)) if *want != value => {
                    Some(alloc::format!("value of {own} PriorityClass must be {want}"))
                }
                Some(_) if flag(class, &["globalDefault"]) => {
                    Some(alloc::format!("globalDefault of {own} PriorityClass must be false"))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let why = alloc::format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                errors.forbidden(&Path::new("metadata").child("name"), &why);
            }
        } else if value > USER_PRIORITY_MAX {
            let why = alloc::format!(
                "maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"
            );
            errors.forbidden(&Path::new("value"), &why);
        }
        preemption(class, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        if int(new, &["value"]) != int(old, &["value"]) {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        meta::immutable(new, old, "preemptionPolicy", &Path::default(), errors);
        preemption(new, errors);
    }
}

fn preemption(class: &Value, errors: &mut FieldErrors) {
    let known = ["Never", "PreemptLowerPriority"];
    let policy = text(class, &["preemptionPolicy"]);
    if !known.contains(&policy) {
        errors.not_supported(&Path::new("preemptionPolicy"), policy, &known);
    }
}
