//! EndpointSlices.

use coracle_api::validation;
use serde_json::{Value, json};

use super::{
    Context, Facts, Strategy,
    access::{at, each, int, items, or_set, or_set_text, same, set, text},
    field::{FieldErrors, Path},
    meta,
    pods::{
        containers::port_number,
        validate::{ip_address, one_of},
    },
};

/// EndpointSlices.
pub(crate) struct EndpointSlices;

/// Endpoints in one slice.
const ENDPOINTS_MAX: usize = 1000;
/// Ports of one slice.
const PORTS_MAX: usize = 20_000;
/// Addresses of one endpoint.
const ADDRESSES_MAX: usize = 100;

impl Strategy for EndpointSlices {
    fn facts(&self) -> Facts {
        Facts { has_generation: true, ..Facts::default() }
    }

    fn default(&self, _context: &Context<'_>, slice: &mut Value) {
        each(slice, "ports", |port| {
            or_set(port, "name", "");
            or_set_text(port, "protocol", "TCP");
        });
        // Both are always shown, even as nothing.
        for key in ["endpoints", "ports"] {
            if at(slice, &[key]).is_none() {
                set(slice, key, json!([]));
            }
        }
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        let changed = ["addressType", "endpoints", "ports"]
            .iter()
            .any(|key| !same(new.get(*key), old.get(*key)));
        let labels = |object| at(object, &["metadata", "labels"]);
        if changed || !same(labels(new), labels(old)) {
            meta::next_generation(new);
        }
    }

    fn validate_create(&self, _context: &Context<'_>, slice: &Value, errors: &mut FieldErrors) {
        validate(slice, errors);
    }

    fn validate_update(
        &self,
        _context: &Context<'_>,
        new: &Value,
        old: &Value,
        errors: &mut FieldErrors,
    ) {
        validate(new, errors);
        meta::immutable(new, old, "addressType", &Path::default(), errors);
    }
}

fn validate(slice: &Value, errors: &mut FieldErrors) {
    let kind = text(slice, &["addressType"]);
    one_of(slice, "addressType", &Path::default(), &["FQDN", "IPv4", "IPv6"], errors);
    let endpoints = items(slice, &["endpoints"]);
    let path = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        return errors.too_many(&path, endpoints.len(), ENDPOINTS_MAX);
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        let addresses = items(endpoint, &["addresses"]);
        let at_addresses = path.child("addresses");
        if addresses.is_empty() {
            errors.required(&at_addresses, "must contain at least 1 address");
        } else if addresses.len() > ADDRESSES_MAX {
            errors.too_many(&at_addresses, addresses.len(), ADDRESSES_MAX);
        }
        for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let path = at_addresses.index(index);
            if kind == "FQDN" {
                for why in validation::dns1123_subdomain(address) {
                    errors.invalid(&path, address, why);
                }
            } else {
                ip_address(address, &path, errors);
            }
        }
        let node = text(endpoint, &["nodeName"]);
        if !node.is_empty() {
            for why in validation::dns1123_subdomain(node) {
                errors.invalid(&path.child("nodeName"), node, why);
            }
        }
    }
    let ports = items(slice, &["ports"]);
    let path = Path::new("ports");
    if ports.len() > PORTS_MAX {
        return errors.too_many(&path, ports.len(), PORTS_MAX);
    }
    let mut names = alloc::collections::BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            for why in validation::dns1123_label(name) {
                errors.invalid(&path.child("name"), name, why);
            }
        }
        if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        one_of(port, "protocol", &path, &["SCTP", "TCP", "UDP"], errors);
        if let Some(number) = int(port, &["port"]) {
            port_number(number, &path.child("port"), errors);
        }
    }
}
