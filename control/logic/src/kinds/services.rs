//! Services: stored objects with an address from the service range. (Their traffic is not served yet.)

use alloc::{collections::BTreeSet, format, string::String};

use coracle_api::validation;
use serde_json::{Value, json};

use super::{
    Context, Strategy,
    access::{
        at, child, each, entries, int, items, keep, or_set, or_set_text, remove, remove_zero, same,
        set, text,
    },
    field::{FieldErrors, Path},
    meta,
    pods::{
        containers::port_number,
        validate::{ip_address, one_of},
    },
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Services.
pub(crate) struct Services;

impl Strategy for Services {
    fn default(&self, _context: &Context<'_>, service: &mut Value) {
        let spec = child(service, "spec");
        or_set_text(spec, "sessionAffinity", "None");
        match text(spec, &["sessionAffinity"]) {
            "ClientIP" => {
                let client = child(child(spec, "sessionAffinityConfig"), "clientIP");
                or_set(client, "timeoutSeconds", 10_800);
            }
            _ => drop(remove(spec, "sessionAffinityConfig")),
        }
        or_set_text(spec, "type", "ClusterIP");
        each(spec, "ports", |port| {
            or_set_text(port, "protocol", "TCP");
            let unset = match at(port, &["targetPort"]) {
                None => true,
                Some(Value::String(name)) => name.is_empty(),
                Some(number) => number.as_i64() == Some(0),
            };
            if unset && let Some(number) = port.get("port").cloned() {
                set(port, "targetPort", number);
            }
        });
        let kind = String::from(text(spec, &["type"]));
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            or_set_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind != "ExternalName" {
            or_set_text(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            or_set(spec, "allocateLoadBalancerNodePorts", true);
        }
        remove_zero(spec, &["publishNotReadyAddresses", "clusterIP"]);
        child(child(service, "status"), "loadBalancer");
    }

    fn prepare_create(&self, _context: &Context<'_>, service: &mut Value) {
        set(service, "status", json!({ "loadBalancer": {} }));
        addresses(service);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep(new, old, "status");
        let external = |service| text(service, &["spec", "type"]) == "ExternalName";
        let old_spec = at(old, &["spec"]).unwrap_or(&Value::Null);
        if external(new) {
            let spec = child(new, "spec");
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                // An ExternalName has no address: the old one is given back.
                if same(spec.get(key), old_spec.get(key)) {
                    remove(spec, key);
                }
            }
        } else if !external(old) {
            // A client that left the address out keeps what was given to it; one that changed only the single form
            // means the list too.
            let spec = child(new, "spec");
            let asked = !text(spec, &["clusterIP"]).is_empty();
            let changed = asked && text(spec, &["clusterIP"]) != text(old_spec, &["clusterIP"]);
            if changed && same(spec.get("clusterIPs"), old_spec.get("clusterIPs")) {
                remove(spec, "clusterIPs");
            }
            for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let absent = at(spec, &[key]).is_none_or(|value| value == "");
                if absent && !(changed && key == "clusterIPs") {
                    keep(spec, old_spec, key);
                }
            }
        }
        addresses(new);
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

    fn validate_create(&self, _context: &Context<'_>, service: &Value, errors: &mut FieldErrors) {
        validate(service, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        let ip = |service| String::from(text(service, &["spec", "clusterIP"]));
        let external = |service| text(service, &["spec", "type"]) == "ExternalName";
        if !external(old) && !external(new) && !ip(old).is_empty() && ip(old) != ip(new) {
            let path = Path::new("spec").child("clusterIPs").index(0);
            errors.invalid(&path, &ip(new), "may not change once set");
        }
        validate(new, errors);
    }

    fn field_labels(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }
}

/// `clusterIPs` and `clusterIP` say the same; families follow. This cluster has IPv4 only.
fn addresses(service: &mut Value) {
    let spec = child(service, "spec");
    if text(spec, &["type"]) == "ExternalName" {
        return;
    }
    let first = items(spec, &["clusterIPs"]).first().and_then(Value::as_str).map(String::from);
    let ip = String::from(text(spec, &["clusterIP"]));
    match (ip.is_empty(), first) {
        (true, Some(first)) => set(spec, "clusterIP", first),
        (false, None) => set(spec, "clusterIPs", json!([ip])),
        _ => {}
    }
    let headless = text(spec, &["clusterIP"]) == "None";
    let selects = entries(spec, &["selector"]).next().is_some();
    if headless && !selects {
        or_set(spec, "ipFamilyPolicy", "RequireDualStack");
        or_set(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
    }
    or_set(spec, "ipFamilyPolicy", "SingleStack");
    or_set(spec, "ipFamilies", json!(["IPv4"]));
}

fn validate(service: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let spec = at(service, &["spec"]).unwrap_or(&Value::Null);
    let kind = text(spec, &["type"]);
    let headless = text(spec, &["clusterIP"]) == "None";
    let all = items(spec, &["ports"]);
    if all.is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let path = path.child("clusterIPs").index(0);
            let why = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path, "None", why);
        }
        "ExternalName" => {
            let ips = items(spec, &["clusterIPs"]);
            if !ips.is_empty() {
                let why = "may not be set for ExternalName services";
                errors.forbidden(&path.child("clusterIPs"), why);
            }
            let host = text(spec, &["externalName"]);
            let host = host.strip_suffix('.').unwrap_or(host);
            if host.is_empty() {
                errors.required(&path.child("externalName"), "");
            } else {
                for why in validation::dns1123_subdomain(host) {
                    errors.invalid(&path.child("externalName"), host, why);
                }
            }
        }
        _ => {}
    }
    ports(all, &path.child("ports"), errors);
    let at_selector = path.child("selector");
    meta::label_map(entries(spec, &["selector"]), &at_selector, errors);
    one_of(spec, "sessionAffinity", &path, &["ClientIP", "None"], errors);
    if let Some(seconds) = int(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"])
        && !(1..=86_400).contains(&seconds)
    {
        let path = path.child("sessionAffinityConfig").child("clientIP").child("timeoutSeconds");
        errors.invalid(&path, seconds, "must be greater than 0 and less than 86400");
    }
    one_of(spec, "type", &path, &TYPES, errors);
    for (index, ip) in items(spec, &["clusterIPs"]).iter().filter_map(Value::as_str).enumerate() {
        if ip != "None" {
            ip_address(ip, &path.child("clusterIPs").index(index), errors);
        }
    }
    let first = items(spec, &["clusterIPs"]).first().and_then(Value::as_str).unwrap_or("");
    if first != text(spec, &["clusterIP"]) {
        let why = "first value must match `clusterIP`";
        let all = Value::from(items(spec, &["clusterIPs"]));
        errors.invalid(&path.child("clusterIPs"), &all, why);
    }
    for (index, ip) in items(spec, &["externalIPs"]).iter().filter_map(Value::as_str).enumerate() {
        ip_address(ip, &path.child("externalIPs").index(index), errors);
    }
    for key in ["internalTrafficPolicy", "externalTrafficPolicy"] {
        let policy = text(spec, &[key]);
        if !matches!(policy, "" | "Cluster" | "Local") {
            errors.not_supported(&path.child(key), policy, &["Cluster", "Local"]);
        }
    }
}

fn ports(ports: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, &["name"]);
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&path.child("name"), "");
            }
        } else {
            for why in validation::dns1123_label(name) {
                errors.invalid(&path.child("name"), name, why);
            }
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let number = int(port, &["port"]).unwrap_or(0);
        port_number(number, &path.child("port"), errors);
        one_of(port, "protocol", &path, &["SCTP", "TCP", "UDP"], errors);
        match at(port, &["targetPort"]) {
            Some(Value::String(name)) => {
                for why in validation::port_name(name) {
                    errors.invalid(&path.child("targetPort"), name, why);
                }
            }
            Some(number) => {
                port_number(number.as_i64().unwrap_or(0), &path.child("targetPort"), errors);
            }
            None => {}
        }
        let protocol = text(port, &["protocol"]);
        if !numbers.insert((number, protocol)) {
            let shown = json!({ "port": number, "protocol": protocol });
            errors.duplicate(&path, &shown);
        }
    }
}
