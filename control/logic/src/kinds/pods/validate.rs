//! Rules for pods and pod templates.

use alloc::{collections::BTreeSet, format};

use coracle_api::validation;
use serde_json::Value;

use super::{containers, placement, security, volumes};
use crate::kinds::{
    access::{at, entries, int, items, text},
    field::{FieldErrors, Path},
    meta, quantities,
};

/// Search domains and name servers that a resolver takes (KEP-2595, resolv.conf(5)).
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// A pod template at `path` (`spec.template`).
pub(crate) fn template(template: &Value, path: &Path, errors: &mut FieldErrors) {
    let metadata = at(template, &["metadata"]).unwrap_or(&Value::Null);
    // Kubernetes names these without `metadata`.
    meta::labels(metadata, path, errors);
    meta::annotations(metadata, path, errors);
    let at_spec = path.child("spec");
    let spec_ = at(template, &["spec"]).unwrap_or(&Value::Null);
    spec(spec_, &at_spec, errors);
    if !items(spec_, &["ephemeralContainers"]).is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.forbidden(&at_spec.child("ephemeralContainers"), why);
    }
}

/// A pod's spec at `path`.
pub(crate) fn spec(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let volumes = volumes::volumes(items(spec, &["volumes"]), &path.child("volumes"), errors);
    if let Some(seconds) = int(spec, &["terminationGracePeriodSeconds"]).filter(|n| *n < 0) {
        let path = path.child("terminationGracePeriodSeconds");
        errors.invalid(&path, seconds, "must be greater than or equal to 0");
    }
    containers::all(spec, path, &volumes, errors);
    one_of(spec, "restartPolicy", path, &["Always", "Never", "OnFailure"], errors);
    dns(spec, path, errors);
    let at_selector = path.child("nodeSelector");
    meta::label_map(entries(spec, &["nodeSelector"]), &at_selector, errors);
    security::pod(spec, path, errors);
    placement::affinity(spec, &path.child("affinity"), errors);
    gates(spec, path, errors);
    placement::topology_spread(spec, &path.child("topologySpreadConstraints"), errors);
    names(spec, path, errors);
    if let Some(seconds) = int(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let why = format!("must be between 1 and {}, inclusive", i32::MAX);
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, &why);
    }
    placement::tolerations(items(spec, &["tolerations"]), &path.child("tolerations"), errors);
    host_aliases(spec, &path.child("hostAliases"), errors);
    if let Some(policy) = at(spec, &["preemptionPolicy"]).and_then(Value::as_str)
        && !matches!(policy, "Never" | "PreemptLowerPriority")
    {
        let path = path.child("preemptionPolicy");
        errors.not_supported(&path, policy, &["Never", "PreemptLowerPriority"]);
    }
    for (name, quantity) in entries(spec, &["overhead"]) {
        quantities::checked(errors, &path.child("overhead").key(name), quantity);
    }
}

fn names(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let subdomain: meta::NameRule = validation::dns1123_subdomain;
    let label: meta::NameRule = validation::dns1123_label;
    for (key, rule) in [
        ("serviceAccountName", subdomain),
        ("nodeName", subdomain),
        ("hostname", label),
        ("subdomain", label),
        ("priorityClassName", subdomain),
        ("runtimeClassName", subdomain),
    ] {
        let name = text(spec, &[key]);
        if !name.is_empty() {
            for why in rule(name) {
                errors.invalid(&path.child(key), name, &why);
            }
        }
    }
}

fn gates(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, gate) in items(spec, &["readinessGates"]).iter().enumerate() {
        let condition = text(gate, &["conditionType"]);
        for why in validation::qualified_name(condition) {
            let path = path.child("readinessGates").index(index).child("conditionType");
            errors.invalid(&path, condition, &why);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, gate) in items(spec, &["schedulingGates"]).iter().enumerate() {
        let path = path.child("schedulingGates").index(index);
        let name = text(gate, &["name"]);
        for why in validation::qualified_name(name) {
            errors.invalid(&path.child("name"), name, &why);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec, "dnsPolicy", path, &policies, errors);
    let path = path.child("dnsConfig");
    let none = text(spec, &["dnsPolicy"]) == "None";
    let Some(config) = at(spec, &["dnsConfig"]) else {
        if none {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = items(config, &["nameservers"]);
    let at_servers = path.child("nameservers");
    if none && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required(&at_servers, why);
    }
    if servers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&at_servers, &Value::from(servers), &why);
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        ip_address(server, &at_servers.index(index), errors);
    }
    let searches = items(config, &["searches"]);
    if searches.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&path.child("searches"), &Value::from(searches), &why);
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        for why in validation::dns1123_subdomain(search.strip_suffix('.').unwrap_or(search)) {
            errors.invalid(&path.child("searches").index(index), search, &why);
        }
    }
    for (index, option) in items(config, &["options"]).iter().enumerate() {
        if text(option, &["name"]).is_empty() {
            errors.required(&path.child("options").index(index), "must not be empty");
        }
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut FieldErrors) {
    for (index, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        let path = path.index(index);
        ip_address(text(alias, &["ip"]), &path.child("ip"), errors);
        for (index, name) in
            items(alias, &["hostnames"]).iter().filter_map(Value::as_str).enumerate()
        {
            for why in validation::dns1123_subdomain(name) {
                errors.invalid(&path.child("hostnames").index(index), name, &why);
            }
        }
    }
}

/// An IPv4 or IPv6 address.
pub(crate) fn ip_address(ip: &str, path: &Path, errors: &mut FieldErrors) {
    if ip.parse::<core::net::IpAddr>().is_err() {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        errors.invalid(path, ip, why);
    }
}

/// `holder[key]` is one of these words; nothing at all is "required".
pub(crate) fn one_of(
    holder: &Value,
    key: &str,
    path: &Path,
    allowed: &[&str],
    errors: &mut FieldErrors,
) {
    match text(holder, &[key]) {
        "" => errors.required(&path.child(key), ""),
        word if allowed.contains(&word) => {}
        word => errors.not_supported(&path.child(key), word, allowed),
    }
}

/// `holder[key]`, where there, is not negative.
pub(crate) fn not_negative(holder: &Value, key: &str, path: &Path, errors: &mut FieldErrors) {
    if let Some(number) = int(holder, &[key]).filter(|number| *number < 0) {
        errors.invalid(&path.child(key), number, "must be greater than or equal to 0");
    }
}
