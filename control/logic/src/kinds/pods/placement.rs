//! Rules for what decides a pod's node: affinity, tolerations, spreading.

use alloc::{collections::BTreeSet, format};

use coracle_api::validation;
use serde_json::Value;

use crate::kinds::{
    access::{at, int, items, text},
    field::{FieldErrors, Path},
    meta,
};

/// `affinity` of a pod spec.
pub(crate) fn affinity(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = at(spec, &["affinity", "nodeAffinity"]) {
        let path = path.child("nodeAffinity");
        if let Some(selector) = at(node, &[REQUIRED]) {
            node_selector(selector, &path.child(REQUIRED), errors);
        }
        for (index, term) in items(node, &[PREFERRED]).iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(term, &path, errors);
            if let Some(preference) = at(term, &["preference"]) {
                node_term(preference, &path.child("preference"), errors);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = at(spec, &["affinity", kind]) else { continue };
        let path = path.child(kind);
        for (index, term) in items(pods, &[REQUIRED]).iter().enumerate() {
            pod_term(term, &path.child(REQUIRED).index(index), errors);
        }
        for (index, term) in items(pods, &[PREFERRED]).iter().enumerate() {
            let path = path.child(PREFERRED).index(index);
            weight(term, &path, errors);
            if let Some(term) = at(term, &["podAffinityTerm"]) {
                pod_term(term, &path.child("podAffinityTerm"), errors);
            }
        }
    }
}

fn weight(term: &Value, path: &Path, errors: &mut FieldErrors) {
    let weight = int(term, &["weight"]).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A NodeSelector at `path`.
pub(crate) fn node_selector(selector: &Value, path: &Path, errors: &mut FieldErrors) {
    let path = path.child("nodeSelectorTerms");
    let terms = items(selector, &["nodeSelectorTerms"]);
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(term, &path.index(index), errors);
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = items(expression, &["values"]);
        let at_values = path.child("values");
        match text(expression, &["operator"]) {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let why = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.required(&at_values, why);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.forbidden(&at_values, why);
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.required(&at_values, why);
                }
            }
            other => {
                errors.invalid(&path.child("operator"), other, "not a valid selector operator")
            }
        }
        let key = text(expression, &["key"]);
        for why in validation::qualified_name(key) {
            errors.invalid(&path.child("key"), key, &why);
        }
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for why in validation::label_value(value) {
                errors.invalid(&at_values.index(index), value, &why);
            }
        }
    }
    for (index, field) in items(term, &["matchFields"]).iter().enumerate() {
        let path = path.child("matchFields").index(index);
        let key = text(field, &["key"]);
        if key != "metadata.name" {
            errors.invalid(&path.child("key"), key, "not a valid field selector key");
        }
        if !matches!(text(field, &["operator"]), "In" | "NotIn") {
            let operator = text(field, &["operator"]);
            errors.invalid(&path.child("operator"), operator, "not a valid selector operator");
        } else if items(field, &["values"]).len() != 1 {
            let why =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), why);
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut FieldErrors) {
    for key in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = at(term, &[key]) {
            meta::label_selector(selector, &path.child(key), errors);
        }
    }
    for (index, namespace) in
        items(term, &["namespaces"]).iter().filter_map(Value::as_str).enumerate()
    {
        for why in validation::dns1123_label(namespace) {
            errors.invalid(&path.child("namespaces").index(index), namespace, &why);
        }
    }
    topology_key(term, path, errors);
}

fn topology_key(holder: &Value, path: &Path, errors: &mut FieldErrors) {
    let key = text(holder, &["topologyKey"]);
    let path = path.child("topologyKey");
    if key.is_empty() {
        return errors.required(&path, "can not be empty");
    }
    for why in validation::qualified_name(key) {
        errors.invalid(&path, key, &why);
    }
}

/// `topologySpreadConstraints` of a pod spec.
pub(crate) fn topology_spread(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, constraint) in items(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.index(index);
        let skew = int(constraint, &["maxSkew"]).unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
        }
        topology_key(constraint, &path, errors);
        let when = text(constraint, &["whenUnsatisfiable"]);
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&when) {
            errors.not_supported(&path.child("whenUnsatisfiable"), when, &known);
        }
        let key = text(constraint, &["topologyKey"]);
        if !seen.insert((key, when)) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&path, &format!("{{{key}, {when}}}"));
        }
        if let Some(domains) = int(constraint, &["minDomains"]) {
            let path = path.child("minDomains");
            if domains <= 0 {
                errors.invalid(&path, domains, "must be greater than zero");
            }
            if when != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                );
                errors.invalid(&path, domains, &why);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = text(constraint, &[key]);
            if !matches!(policy, "" | "Honor" | "Ignore") {
                errors.not_supported(&path.child(key), policy, &["Honor", "Ignore"]);
            }
        }
        if let Some(selector) = at(constraint, &["labelSelector"]) {
            meta::label_selector(selector, &path.child("labelSelector"), errors);
        }
    }
}

/// `tolerations` at `path`.
pub(crate) fn tolerations(tolerations: &[Value], path: &Path, errors: &mut FieldErrors) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let (key, value) = (text(toleration, &["key"]), text(toleration, &["value"]));
        let operator = text(toleration, &["operator"]);
        let effect = text(toleration, &["effect"]);
        let at_operator = path.child("operator");
        if !key.is_empty() {
            for why in validation::qualified_name(key) {
                errors.invalid(&path.child("key"), key, &why);
            }
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at_operator, operator, why);
        }
        if at(toleration, &["tolerationSeconds"]).is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&path.child("effect"), effect, why);
        }
        match operator {
            "" | "Equal" => {
                for why in validation::label_value(value) {
                    errors.invalid(&at_operator, value, &why);
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let why = "value must be empty when `operator` is 'Exists'";
                    errors.invalid(&at_operator, value, why);
                }
            }
            other => errors.not_supported(&at_operator, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            taint_effect(effect, &path.child("effect"), errors);
        }
    }
}

/// What a taint does.
pub(crate) fn taint_effect(effect: &str, path: &Path, errors: &mut FieldErrors) {
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if !known.contains(&effect) {
        errors.not_supported(path, effect, &known);
    }
}
