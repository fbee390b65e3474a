//! Nodes and their leases.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::views;
use crate::{object::Meta, quantity::ResourceList};

views! {
    /// `v1/Node`.
    NodeView { metadata: Meta, spec: NodeSpec, status: NodeStatus, }

    NodeSpec {
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
        #[serde(rename = "providerID")]
        provider_id: String,
        unschedulable: bool,
        taints: Vec<Taint>,
    }
    Taint { value: String, time_added: Option<String>, } + { key: String, effect: String, }
    NodeStatus {
        capacity: ResourceList,
        allocatable: ResourceList,
        phase: String,
        conditions: Vec<NodeCondition>,
        addresses: Vec<NodeAddress>,
        node_info: NodeSystemInfo,
        images: Vec<ContainerImage>,
        volumes_in_use: Vec<String>,
        daemon_endpoints: BTreeMap<String, serde_json::Value>,
    }
    NodeCondition {
        last_heartbeat_time: Option<String>,
        last_transition_time: Option<String>,
        reason: String,
        message: String,
    } + { r#type: String, status: String, }
    NodeAddress {} + { r#type: String, address: String, }
    NodeSystemInfo {} + {
        #[serde(rename = "machineID")]
        machine_id: String,
        #[serde(rename = "systemUUID")]
        system_uuid: String,
        #[serde(rename = "bootID")]
        boot_id: String,
        kernel_version: String,
        os_image: String,
        container_runtime_version: String,
        kubelet_version: String,
        kube_proxy_version: String,
        operating_system: String,
        architecture: String,
    }
    ContainerImage { names: Vec<String>, size_bytes: i64, }

    /// `coordination.k8s.io/v1/Lease`.
    LeaseView { metadata: Meta, spec: LeaseSpec, }
    LeaseSpec {
        holder_identity: Option<String>,
        lease_duration_seconds: Option<i32>,
        acquire_time: Option<String>,
        renew_time: Option<String>,
        lease_transitions: Option<i32>,
    }
}

impl NodeStatus {
    /// The condition of this type, if reported.
    pub fn condition(&self, r#type: &str) -> Option<&NodeCondition> {
        self.conditions.iter().find(|condition| condition.r#type == r#type)
    }
}
