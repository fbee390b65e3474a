//! Rows of everything but workloads.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::{
    CertificateSigningRequestView, EndpointSliceView, EventSource, EventView, LeaseView,
    NamespaceView, NodeView, PriorityClassView, RoleBindingView, ServiceView,
};
use serde_json::Value;

use super::{At, labels_text, or_none, three, view};
use crate::views::age;

fn count(value: &Value, key: &str) -> usize {
    value.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

/// Name, Status, Age.
pub(super) fn namespace(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: NamespaceView = view(value);
    [at.name.into(), it.status.phase.into(), at.age().into()].into()
}

/// Name, Data, Age.
pub(super) fn config_map(at: &At<'_>, value: &Value) -> Vec<Value> {
    let data = count(value, "data") + count(value, "binaryData");
    [at.name.into(), data.into(), at.age().into()].into()
}

/// Name, Type, Data, Age.
pub(super) fn secret(at: &At<'_>, value: &Value) -> Vec<Value> {
    let kind = value.get("type").cloned().unwrap_or_else(|| "".into());
    [at.name.into(), kind, count(value, "data").into(), at.age().into()].into()
}

/// Name, Status, Roles, Age, Version, Internal-IP, External-IP, OS-Image, Kernel-Version, Container-Runtime.
pub(super) fn node(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: NodeView = view(value);
    let mut status = match it.status.condition("Ready") {
        Some(ready) if ready.status == "True" => String::from("Ready"),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if it.spec.unschedulable {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in &it.metadata.labels {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/")
            && !role.is_empty()
        {
            roles.push(role);
        } else if key == "kubernetes.io/role" && !value.is_empty() {
            roles.push(value);
        }
    }
    roles.sort_unstable();
    roles.dedup();
    let address = |kind: &str| {
        let found = it.status.addresses.iter().find(|address| address.r#type == kind);
        or_none(found.map_or("", |address| address.address.as_str()))
    };
    let known = |text: &str| if text.is_empty() { "<unknown>".into() } else { String::from(text) };
    let info = &it.status.node_info;
    let mut kernel = known(&info.kernel_version);
    if !info.architecture.is_empty() {
        kernel.push_str(&format!(" ({})", info.architecture));
    }
    [
        at.name.into(),
        status,
        or_none(&roles.join(",")),
        at.age(),
        info.kubelet_version.clone(),
        address("InternalIP"),
        address("ExternalIP"),
        known(&info.os_image),
        kernel,
        known(&info.container_runtime_version),
    ]
    .map(Value::from)
    .into()
}

fn external_ip(it: &ServiceView) -> String {
    let external = it.spec.external_ips.join(",");
    match it.spec.r#type.as_str() {
        "LoadBalancer" => {
            let ingress = it.status.load_balancer.ingress.iter();
            let from = ingress.map(|one| if one.ip.is_empty() { &one.hostname } else { &one.ip });
            let all: Vec<&str> = from
                .map(String::as_str)
                .chain(it.spec.external_ips.iter().map(String::as_str))
                .collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ExternalName" => it.spec.external_name.clone(),
        _ => or_none(&external),
    }
}

/// Name, Type, Cluster-IP, External-IP, Port(s), Age, Selector.
pub(super) fn service(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: ServiceView = view(value);
    let ports: Vec<String> = it
        .spec
        .ports
        .iter()
        .map(|port| {
            if port.node_port > 0 {
                format!("{}:{}/{}", port.port, port.node_port, port.protocol)
            } else {
                format!("{}/{}", port.port, port.protocol)
            }
        })
        .collect();
    let ip = it.spec.cluster_ips.first().unwrap_or(&it.spec.cluster_ip);
    [
        at.name.into(),
        it.spec.r#type.clone(),
        or_none(ip),
        external_ip(&it),
        or_none(&ports.join(",")),
        at.age(),
        labels_text(&it.spec.selector),
    ]
    .map(Value::from)
    .into()
}

fn source_text(source: &EventSource, controller: &str, instance: &str) -> String {
    let component = if source.component.is_empty() { controller } else { &source.component };
    let host = if source.host.is_empty() { instance } else { &source.host };
    if host.is_empty() { component.into() } else { format!("{component}, {host}") }
}

/// Last Seen, Type, Reason, Object, Subobject, Source, Message, First Seen, Count, Name.
pub(super) fn event(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: EventView = view(value);
    let first = it.first_timestamp.as_deref().or(it.event_time.as_deref());
    let mut last = it.last_timestamp.as_deref().or(first);
    let mut times = it.count.max(1);
    if let Some(series) = &it.series {
        last = series.last_observed_time.as_deref();
        times = series.count;
    }
    let about = &it.involved_object;
    let kind = about.kind.to_lowercase();
    let object = if about.name.is_empty() { kind } else { format!("{kind}/{}", about.name) };
    [
        at.since(last).into(),
        it.r#type.clone().into(),
        it.reason.clone().into(),
        object.into(),
        about.field_path.clone().into(),
        source_text(&it.source, &it.reporting_component, &it.reporting_instance).into(),
        it.message.trim().into(),
        at.since(first).into(),
        times.into(),
        at.name.into(),
    ]
    .into()
}

/// Name, Holder, Age.
pub(super) fn lease(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: LeaseView = view(value);
    [at.name.into(), it.spec.holder_identity.unwrap_or_default().into(), at.age().into()].into()
}

/// Name, AddressType, Ports, Endpoints, Age.
pub(super) fn endpoint_slice(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: EndpointSliceView = view(value);
    let port = |port: &coracle_api::views::EndpointPort| match (port.port, &port.name) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) if !name.is_empty() => name.clone(),
        (None, _) => "*".into(),
    };
    let ports: Vec<String> = it.ports.iter().map(port).collect();
    let addresses: Vec<String> =
        it.endpoints.iter().flat_map(|endpoint| endpoint.addresses.clone()).collect();
    [at.name.into(), it.address_type.clone(), three(&ports), three(&addresses), at.age()]
        .map(Value::from)
        .into()
}

/// Name, Role, Age, Users, Groups, ServiceAccounts.
pub(super) fn binding(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: RoleBindingView = view(value);
    let of = |kind: &str| {
        let subjects = it.subjects.iter().filter(|subject| subject.kind == kind);
        let names = subjects.map(|subject| {
            if kind == "ServiceAccount" {
                format!("{}/{}", subject.namespace, subject.name)
            } else {
                subject.name.clone()
            }
        });
        names.collect::<Vec<_>>().join(", ")
    };
    [
        at.name.into(),
        format!("{}/{}", it.role_ref.kind, it.role_ref.name),
        at.age(),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
    .map(Value::from)
    .into()
}

/// Name, Value, Global-Default, Age, PreemptionPolicy.
pub(super) fn priority_class(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: PriorityClassView = view(value);
    [
        at.name.into(),
        it.value.into(),
        it.global_default.into(),
        at.age().into(),
        it.preemption_policy.unwrap_or_default().into(),
    ]
    .into()
}

/// Name, Age, SignerName, Requestor, RequestedDuration, Condition.
pub(super) fn signing_request(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: CertificateSigningRequestView = view(value);
    let has = |kind: &str| it.status.conditions.iter().any(|condition| condition.r#type == kind);
    let mut condition = String::from(if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    });
    if has("Failed") {
        condition.push_str(",Failed");
    }
    if !it.status.certificate.is_empty() {
        condition.push_str(",Issued");
    }
    let duration = it
        .spec
        .expiration_seconds
        .map_or_else(|| "<none>".into(), |seconds| age::human(i64::from(seconds)));
    [
        at.name.into(),
        at.age(),
        or_none(&it.spec.signer_name),
        it.spec.username.clone(),
        duration,
        condition,
    ]
    .map(Value::from)
    .into()
}
