//! Namespaces, service accounts, secrets, config maps, RBAC, signing requests, events, services and the like.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::{LocalObjectReference, views};
use crate::{intstr::IntOrString, object::Meta};

views! {
    /// Any object, by its metadata alone.
    MetaView { metadata: Meta, }

    /// `v1/Namespace`.
    NamespaceView { metadata: Meta, spec: NamespaceSpec, status: NamespaceStatus, }
    NamespaceSpec { finalizers: Vec<String>, }
    NamespaceStatus { phase: String, conditions: Vec<NamespaceCondition>, }
    NamespaceCondition {
        last_transition_time: Option<String>,
        reason: String,
        message: String,
    } + { r#type: String, status: String, }

    /// `v1/ServiceAccount`.
    ServiceAccountView {
        metadata: Meta,
        secrets: Vec<ObjectReference>,
        image_pull_secrets: Vec<LocalObjectReference>,
        automount_service_account_token: Option<bool>,
    }
    ObjectReference {
        kind: String,
        namespace: String,
        name: String,
        uid: String,
        api_version: String,
        resource_version: String,
        field_path: String,
    }

    /// `v1/Secret`; the values of `data` are base64 text as stored.
    SecretView { metadata: Meta, data: BTreeMap<String, String>, r#type: String, immutable: Option<bool>, }
    /// `v1/ConfigMap`; the values of `binaryData` are base64 text as stored.
    ConfigMapView {
        metadata: Meta,
        data: BTreeMap<String, String>,
        binary_data: BTreeMap<String, String>,
        immutable: Option<bool>,
    }

    PolicyRule {
        api_groups: Vec<String>,
        resources: Vec<String>,
        resource_names: Vec<String>,
        #[serde(rename = "nonResourceURLs")]
        non_resource_urls: Vec<String>,
    } + { verbs: Vec<String>, }
    /// `rbac.authorization.k8s.io/v1/Role`.
    RoleView { metadata: Meta, rules: Vec<PolicyRule>, }
    /// `rbac.authorization.k8s.io/v1/ClusterRole`.
    ClusterRoleView { metadata: Meta, rules: Vec<PolicyRule>, aggregation_rule: Option<AggregationRule>, }
    AggregationRule { cluster_role_selectors: Vec<super::LabelSelector>, }
    /// `RoleBinding` and `ClusterRoleBinding`, which have the same fields.
    RoleBindingView { metadata: Meta, subjects: Vec<Subject>, role_ref: RoleRef, }
    Subject { api_group: String, namespace: String, } + { kind: String, name: String, }
    RoleRef {} + { api_group: String, kind: String, name: String, }

    /// `scheduling.k8s.io/v1/PriorityClass`.
    PriorityClassView {
        metadata: Meta,
        global_default: bool,
        description: String,
        preemption_policy: Option<String>,
    } + { value: i32, }

    /// `certificates.k8s.io/v1/CertificateSigningRequest`; `request` and `certificate` are base64 of PEM.
    CertificateSigningRequestView {
        metadata: Meta,
        spec: CertificateSigningRequestSpec,
        status: CertificateSigningRequestStatus,
    }
    CertificateSigningRequestSpec {
        request: String,
        signer_name: String,
        expiration_seconds: Option<i32>,
        usages: Vec<String>,
        username: String,
        uid: String,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
    }
    CertificateSigningRequestStatus {
        conditions: Vec<CertificateSigningRequestCondition>,
        certificate: String,
    }
    CertificateSigningRequestCondition {
        reason: String,
        message: String,
        last_update_time: Option<String>,
        last_transition_time: Option<String>,
    } + { r#type: String, status: String, }

    /// `v1/Event`.
    EventView {
        metadata: Meta,
        involved_object: ObjectReference,
        reason: String,
        message: String,
        source: EventSource,
        first_timestamp: Option<String>,
        last_timestamp: Option<String>,
        count: i32,
        r#type: String,
        event_time: Option<String>,
        series: Option<EventSeries>,
        action: String,
        related: Option<ObjectReference>,
        reporting_component: String,
        reporting_instance: String,
    }
    EventSource { component: String, host: String, }
    EventSeries { count: i32, last_observed_time: Option<String>, }

    /// `v1/Service`.
    ServiceView { metadata: Meta, spec: ServiceSpec, status: ServiceStatus, }
    ServiceSpec {
        ports: Vec<ServicePort>,
        selector: BTreeMap<String, String>,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        r#type: String,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        external_name: String,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: String,
    }
    ServicePort {
        name: String,
        protocol: String,
        port: i32,
        target_port: IntOrString,
        node_port: i32,
    }
    ServiceStatus { load_balancer: LoadBalancerStatus, }
    LoadBalancerStatus { ingress: Vec<LoadBalancerIngress>, }
    LoadBalancerIngress { ip: String, hostname: String, }

    /// `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSliceView {
        metadata: Meta,
        address_type: String,
        endpoints: Vec<Endpoint>,
        ports: Vec<EndpointPort>,
    }
    Endpoint { addresses: Vec<String>, }
    EndpointPort { name: Option<String>, protocol: Option<String>, port: Option<i32>, }
}
