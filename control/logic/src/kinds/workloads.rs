//! Deployments and ReplicaSets.

use alloc::{string::String, vec::Vec};

use serde_json::{Value, json};

use super::{
    Context, Facts, Strategy,
    access::{at, child, int, items, keep, or_set, or_set_text, remove_zero, same, set, text},
    field::{FieldErrors, Path},
    meta,
    pods::{
        defaults,
        validate::{not_negative, template},
        warn,
    },
    versions::ROLLBACK_TO,
};

/// Deployments.
pub(crate) struct Deployments;
/// ReplicaSets.
pub(crate) struct ReplicaSets;

fn is_legacy_extensions(context: &Context<'_>) -> bool {
    context.group == "extensions"
}

/// apps/v1beta1 and extensions/v1beta1: the versions that take selector and labels from the template, and let the
/// selector change.
fn selector_is_loose(context: &Context<'_>) -> bool {
    is_legacy_extensions(context) || (context.group == "apps" && context.version == "v1beta1")
}

/// Selector (where nil) and labels (where none) from the template's labels.
fn labels_from_template(object: &mut Value) {
    let Some(labels) = at(object, &["spec", "template", "metadata", "labels"]).cloned() else {
        return;
    };
    or_set(child(object, "spec"), "selector", json!({ "matchLabels": labels }));
    let metadata = child(object, "metadata");
    if at(metadata, &["labels"]).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
        set(metadata, "labels", labels);
    }
}

/// Source: the defaulting of each version, as it stood in Kubernetes 1.15 (before the old ones were removed).
fn default_deployment(context: &Context<'_>, object: &mut Value) {
    if selector_is_loose(context) {
        labels_from_template(object);
    }
    let extensions = is_legacy_extensions(context);
    let keep_all = i64::from(i32::MAX);
    let (pace, history, deadline) = match (context.group, context.version) {
        ("extensions", _) => (json!(1), keep_all, keep_all),
        ("apps", "v1beta1") => (json!("25%"), 2, 600),
        _ => (json!("25%"), 10, 600),
    };
    let spec = child(object, "spec");
    or_set(spec, "replicas", 1);
    let strategy = child(spec, "strategy");
    or_set_text(strategy, "type", "RollingUpdate");
    let rolling = text(strategy, &["type"]) == "RollingUpdate";
    if rolling || (extensions && at(strategy, &["rollingUpdate"]).is_some()) {
        let rolling = child(strategy, "rollingUpdate");
        or_set(rolling, "maxUnavailable", pace.clone());
        or_set(rolling, "maxSurge", pace);
    }
    or_set(spec, "revisionHistoryLimit", history);
    or_set(spec, "progressDeadlineSeconds", deadline);
    remove_zero(spec, &["minReadySeconds", "paused"]);
    defaults::template(child(spec, "template"));
    child(object, "status");
}

const DEPLOYMENT_COUNTS: [&str; 6] = [
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
];

impl Strategy for Deployments {
    fn facts(&self) -> Facts {
        Facts { has_generation: true, ..Facts::default() }
    }

    fn default(&self, context: &Context<'_>, object: &mut Value) {
        default_deployment(context, object);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let annotations = |object| at(object, &["metadata", "annotations"]);
        if !same(new.get("spec"), old.get("spec")) || !same(annotations(new), annotations(old)) {
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
        if let Some(old) = at(old, &["metadata"]) {
            keep(child(new, "metadata"), old, "labels");
        }
        remove_zero(child(new, "status"), &DEPLOYMENT_COUNTS);
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value, errors: &mut FieldErrors) {
        deployment_spec(object, errors);
    }

    fn validate_update(
        &self,
        context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        deployment_spec(new, errors);
        if !selector_is_loose(context) {
            selector_is_kept(new, old, errors);
        }
    }

    fn validate_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        let path = Path::new("status");
        let status = at(new, &["status"]).unwrap_or(&Value::Null);
        for key in DEPLOYMENT_COUNTS {
            not_negative(status, key, &path, errors);
        }
        for key in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
            at_most(status, key, "replicas", &path, errors);
        }
        at_most(status, "availableReplicas", "readyReplicas", &path, errors);
        let collisions = |object| int(object, &["status", "collisionCount"]);
        match (collisions(new), collisions(old)) {
            (Some(now), Some(before)) if now < before => {
                errors.invalid(&path.child("collisionCount"), now, "cannot be decremented");
            }
            _ => {}
        }
    }

    fn warnings(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: Option<&Value>,
        out: &mut Vec<String>,
    ) {
        template_warnings(new, old, out);
    }
}

impl Strategy for ReplicaSets {
    fn facts(&self) -> Facts {
        Facts { has_generation: true, ..Facts::default() }
    }

    fn default(&self, context: &Context<'_>, object: &mut Value) {
        if selector_is_loose(context) {
            labels_from_template(object);
        }
        let spec = child(object, "spec");
        or_set(spec, "replicas", 1);
        remove_zero(spec, &["minReadySeconds"]);
        defaults::template(child(spec, "template"));
        or_set(child(object, "status"), "replicas", 0);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({ "replicas": 0 }));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
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
        let status = child(new, "status");
        or_set(status, "replicas", 0);
        remove_zero(
            status,
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        );
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value, errors: &mut FieldErrors) {
        replica_set_spec(object, errors);
    }

    fn validate_update(
        &self,
        context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        replica_set_spec(new, errors);
        if !selector_is_loose(context) {
            selector_is_kept(new, old, errors);
        }
    }

    fn validate_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        new: &Value,
        _old: &Value,
        errors: &mut FieldErrors,
    ) {
        let path = Path::new("status");
        let status = at(new, &["status"]).unwrap_or(&Value::Null);
        let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        for key in counts.into_iter().chain(["observedGeneration"]) {
            not_negative(status, key, &path, errors);
        }
        for key in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
            at_most(status, key, "replicas", &path, errors);
        }
        at_most(status, "availableReplicas", "readyReplicas", &path, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn warnings(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: Option<&Value>,
        out: &mut Vec<String>,
    ) {
        template_warnings(new, old, out);
    }
}

fn template_warnings(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let template = |object| at(object, &["spec", "template"]);
    if old.is_none() {
        warn::name(new, "Pod names and hostnames", out);
    }
    if old.is_none_or(|old| !same(template(new), template(old))) {
        let spec = at(new, &["spec", "template", "spec"]).unwrap_or(&Value::Null);
        warn::spec(spec, &Path::new("spec").child("template").child("spec"), out);
    }
}

fn at_most(status: &Value, key: &str, bound: &str, path: &Path, errors: &mut FieldErrors) {
    let of = |key| int(status, &[key]).unwrap_or(0);
    if of(key) > of(bound) {
        let bound = if bound == "replicas" { "status.replicas" } else { bound };
        let why = alloc::format!("cannot be greater than {bound}");
        errors.invalid(&path.child(key), of(key), &why);
    }
}

fn selector_is_kept(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let none = Value::Null;
    let new = at(new, &["spec"]).unwrap_or(&none);
    let old = at(old, &["spec"]).unwrap_or(&none);
    meta::immutable(new, old, "selector", &Path::new("spec"), errors);
}

/// What Deployments and ReplicaSets share: replicas, selector, template.
fn replicated(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let none = Value::Null;
    let at_selector = path.child("selector");
    let selector = at(spec, &["selector"]);
    let mut is_empty = false;
    match selector {
        None => errors.required(&at_selector, ""),
        Some(selector) => {
            meta::label_selector(selector, &at_selector, errors);
            let labels = at(selector, &["matchLabels"]).and_then(Value::as_object);
            is_empty = labels.is_none_or(serde_json::Map::is_empty)
                && items(selector, &["matchExpressions"]).is_empty();
            if is_empty {
                errors.invalid(&at_selector, selector, "empty selector is invalid for deployment");
            }
        }
    }
    let at_template = path.child("template");
    let template_ = at(spec, &["template"]).unwrap_or(&none);
    let labels = at(template_, &["metadata", "labels"]).unwrap_or(&none);
    let matches = selector.is_some_and(|selector| meta::selects(selector, labels));
    if !is_empty && !matches {
        let path = at_template.child("metadata").child("labels");
        errors.invalid(&path, labels, "`selector` does not match template `labels`");
    }
    template(template_, &at_template, errors);
    let at_pod = at_template.child("spec");
    let policy = text(template_, &["spec", "restartPolicy"]);
    if policy != "Always" {
        errors.not_supported(&at_pod.child("restartPolicy"), policy, &["Always"]);
    }
    if at(template_, &["spec", "activeDeadlineSeconds"]).is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&at_pod.child("activeDeadlineSeconds"), why);
    }
}

fn replica_set_spec(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = at(object, &["spec"]).unwrap_or(&Value::Null);
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    replicated(spec, &path, errors);
}

fn deployment_spec(object: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = at(object, &["spec"]).unwrap_or(&Value::Null);
    not_negative(spec, "replicas", &path, errors);
    replicated(spec, &path, errors);
    let strategy = at(spec, &["strategy"]).unwrap_or(&Value::Null);
    let at_strategy = path.child("strategy");
    let at_rolling = at_strategy.child("rollingUpdate");
    let rolling = at(strategy, &["rollingUpdate"]);
    match (text(strategy, &["type"]), rolling) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.forbidden(&at_rolling, why);
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.required(&at_rolling, "this should be defaulted and never be nil");
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(rolling, &at_rolling, errors),
        (other, _) => {
            errors.not_supported(&at_strategy.child("type"), other, &["Recreate", "RollingUpdate"]);
        }
    }
    not_negative(spec, "minReadySeconds", &path, errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    let rollback = text(object, &["metadata", "annotations", ROLLBACK_TO]).parse::<i64>();
    if let Ok(revision) = rollback
        && revision < 0
    {
        let path = path.child("rollback").child("revision");
        errors.invalid(&path, revision, "must be greater than or equal to 0");
    }
    not_negative(spec, "progressDeadlineSeconds", &path, errors);
    if let Some(deadline) = int(spec, &["progressDeadlineSeconds"])
        && deadline <= int(spec, &["minReadySeconds"]).unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        errors.invalid(&path.child("progressDeadlineSeconds"), deadline, why);
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut FieldErrors) {
    for key in ["maxUnavailable", "maxSurge"] {
        count_or_percent(rolling, key, path, errors);
    }
    let zero = |key| match at(rolling, &[key]) {
        Some(Value::String(text)) => percent(text) == Some(0),
        Some(number) => number.as_i64() == Some(0),
        None => true,
    };
    let unavailable = at(rolling, &["maxUnavailable"]).unwrap_or(&Value::Null);
    let path = path.child("maxUnavailable");
    if zero("maxUnavailable") && zero("maxSurge") {
        errors.invalid(&path, unavailable, "may not be 0 when `maxSurge` is 0");
    }
    if unavailable.as_str().and_then(percent).is_some_and(|percent| percent > 100) {
        errors.invalid(&path, unavailable, "must not be greater than 100%");
    }
}

fn count_or_percent(holder: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    match at(holder, &[key]) {
        Some(Value::String(text)) => {
            if percent(text).is_none() {
                let why = "a valid percent string must be a numeric followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.invalid(&path.child(key), text, why);
            }
        }
        _ => not_negative(holder, key, path, errors),
    }
}

fn percent(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}
