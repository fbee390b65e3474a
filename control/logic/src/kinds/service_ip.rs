//! Addresses of Services: the range, and which is free.

use alloc::{collections::BTreeSet, format, string::String};
use core::net::Ipv4Addr;

use serde_json::Value;

use super::access::{items, text};

/// The range of Service addresses: 10.43.0.0/16.
pub const SERVICE_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 43, 0, 0), 16);

/// The `kubernetes` Service's address: the first of the range.
pub const API_SERVICE_IP: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);

/// What the registry must do about the address of a Service that is created or updated (hub version, defaulted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// None wanted: headless or ExternalName, or set already.
    Nothing,
    /// Pick one with [`first_free`] and put it in with [`set_ip`].
    Any,
    /// The client named it: refuse it where [`is_free`] says no.
    This(Ipv4Addr),
}

/// What this Service needs; `old` is what it was before an update.
pub fn allocation(service: &Value, old: Option<&Value>) -> Allocation {
    if text(service, &["spec", "type"]) == "ExternalName" {
        return Allocation::Nothing;
    }
    let asked = text(service, &["spec", "clusterIP"]);
    if old.is_some_and(|old| text(old, &["spec", "clusterIP"]) == asked && !asked.is_empty()) {
        return Allocation::Nothing;
    }
    match asked {
        "None" => Allocation::Nothing,
        "" => Allocation::Any,
        // One that is no address is refused by validation.
        ip => ip.parse().map_or(Allocation::Nothing, Allocation::This),
    }
}

/// The addresses that these Services hold.
pub fn used<'a>(services: impl Iterator<Item = &'a Value>) -> BTreeSet<Ipv4Addr> {
    services
        .flat_map(|service| items(service, &["spec", "clusterIPs"]))
        .filter_map(|ip| ip.as_str()?.parse().ok())
        .collect()
}

/// Whether this address is inside the range (ends excluded) and held by none.
pub fn is_free(ip: Ipv4Addr, used: &BTreeSet<Ipv4Addr>) -> bool {
    let (network, bits) = SERVICE_CIDR;
    let size = 1_u32 << (32 - u32::from(bits));
    let offset = u32::from(ip).wrapping_sub(u32::from(network));
    (1..size - 1).contains(&offset) && !used.contains(&ip)
}

/// The lowest address that is free, the API's own kept back; `None`: the range is used up.
pub fn first_free(used: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let (network, bits) = SERVICE_CIDR;
    let size = 1_u32 << (32 - u32::from(bits));
    (2..size - 1)
        .map(|offset| Ipv4Addr::from(u32::from(network) + offset))
        .find(|ip| !used.contains(ip))
}

/// Writes an address into `spec.clusterIP` and `spec.clusterIPs`.
pub fn set_ip(service: &mut Value, ip: Ipv4Addr) {
    let spec = super::access::child(service, "spec");
    let ip: String = format!("{ip}");
    super::access::set(spec, "clusterIPs", serde_json::json!([ip]));
    super::access::set(spec, "clusterIP", ip);
}
