//! Nodes.

use alloc::collections::BTreeSet;

use coracle_api::validation;
use serde_json::{Value, json};

use super::{
    Context, Strategy,
    access::{at, child, entries, items, keep, object, or_set, remove_zero, set, text},
    field::{FieldErrors, Path},
    pods::placement::taint_effect,
    quantities,
};

/// Nodes.
pub(crate) struct Nodes;

/// `podCIDRs` and `podCIDR` say the same.
fn pod_cidrs(spec: &mut Value) {
    let first = items(spec, &["podCIDRs"]).first().cloned();
    let one = alloc::string::String::from(text(spec, &["podCIDR"]));
    match (one.is_empty(), first) {
        (true, Some(first)) => set(spec, "podCIDR", first),
        (false, None) => set(spec, "podCIDRs", json!([one])),
        _ => {}
    }
}

fn tidy_status(status: &mut Value) {
    for list in ["capacity", "allocatable"] {
        quantities::canonical_map(status, list);
    }
    if let Some(capacity) = at(status, &["capacity"]).cloned() {
        or_set(status, "allocatable", capacity);
    }
    or_set(child(child(status, "daemonEndpoints"), "kubeletEndpoint"), "Port", 0);
    let info = object(child(status, "nodeInfo"));
    for key in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        info.entry(key).or_insert_with(|| "".into());
    }
}

impl Strategy for Nodes {
    fn default(&self, _context: &Context<'_>, node: &mut Value) {
        let spec = child(node, "spec");
        remove_zero(spec, &["unschedulable", "taints"]);
        pod_cidrs(spec);
        tidy_status(child(node, "status"));
    }

    // A node may bring its status along when it registers.

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        pod_cidrs(child(new, "spec"));
    }

    fn prepare_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        new: &mut Value,
        old: &Value,
    ) {
        keep(new, old, "spec");
    }

    fn validate_create(&self, _context: &Context<'_>, node: &Value, errors: &mut FieldErrors) {
        validate(node, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        validate(new, errors);
        let path = Path::new("spec");
        let before = items(old, &["spec", "podCIDRs"]);
        if !before.is_empty() && before != items(new, &["spec", "podCIDRs"]) {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&path.child("podCIDRs"), why);
        }
        let before = text(old, &["spec", "providerID"]);
        if !before.is_empty() && before != text(new, &["spec", "providerID"]) {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.forbidden(&path.child("providerID"), why);
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
        validate_status(new, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }
}

fn validate(node: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let mut seen = BTreeSet::new();
    for (index, taint) in items(node, &["spec", "taints"]).iter().enumerate() {
        let path = path.child("taints").index(index);
        let (key, value) = (text(taint, &["key"]), text(taint, &["value"]));
        let effect = text(taint, &["effect"]);
        for why in validation::qualified_name(key) {
            errors.invalid(&path.child("key"), key, why);
        }
        for why in validation::label_value(value) {
            errors.invalid(&path.child("value"), value, why);
        }
        if effect.is_empty() {
            errors.required(&path.child("effect"), "");
        } else {
            taint_effect(effect, &path.child("effect"), errors);
        }
        if !seen.insert((key, effect)) {
            errors.duplicate(&path, taint);
        }
    }
    for (index, cidr) in items(node, &["spec", "podCIDRs"]).iter().enumerate() {
        let cidr = cidr.as_str().unwrap_or("");
        if !is_cidr(cidr) {
            let path = path.child("podCIDRs").index(index);
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&path, cidr, why);
        }
    }
    validate_status(node, errors);
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match address.parse::<core::net::IpAddr>() {
        Ok(core::net::IpAddr::V4(_)) => bits <= 32,
        Ok(core::net::IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

fn validate_status(node: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    for list in ["capacity", "allocatable"] {
        for (name, value) in entries(node, &["status", list]) {
            quantities::checked(errors, &path.child(list).key(name), value);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, address) in items(node, &["status", "addresses"]).iter().enumerate() {
        let key = (text(address, &["type"]), text(address, &["address"]));
        if !seen.insert(key) {
            errors.duplicate(&path.child("addresses").index(index), address);
        }
    }
}
