//! Host ports: which are taken together with which.

use alloc::{string::String, vec::Vec};

use coracle_api::views::{Container, ContainerPort, PodView};

/// Any address of the host.
const ANY: &str = "0.0.0.0";

/// A port of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    address: String,
    protocol: String,
    number: i32,
}

impl HostPort {
    fn of(port: &ContainerPort) -> Self {
        let or = |text: &String, other: &str| {
            if text.is_empty() { String::from(other) } else { text.clone() }
        };
        Self {
            address: or(&port.host_ip, ANY),
            protocol: or(&port.protocol, "TCP"),
            number: port.host_port,
        }
    }

    /// Whether no host can have both.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let address = self.address == other.address || self.address == ANY || other.address == ANY;
        address && self.protocol == other.protocol && self.number == other.number
    }
}

/// The host ports that a pod takes while it runs.
pub(crate) fn of_pod(pod: &PodView) -> Vec<HostPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let beside = pod.spec.init_containers.iter().filter(stays);
    let ports = beside.chain(&pod.spec.containers).flat_map(|container| &container.ports);
    let mut all: Vec<HostPort> = Vec::new();
    for port in ports.filter(|port| 0 < port.host_port) {
        let port = HostPort::of(port);
        if !all.contains(&port) {
            all.push(port);
        }
    }
    all
}
