//! Rules for the containers of a pod.

use alloc::{collections::BTreeSet, format};

use coracle_api::validation;
use serde_json::Value;

use super::{
    env, probes, security,
    validate::{ip_address, one_of},
    volumes::Volumes,
};
use crate::kinds::{
    access::{at, entries, flag, int, items, text},
    field::{FieldErrors, Path},
    quantities,
};

/// Every container of a pod spec at `path`.
pub(crate) fn all(spec: &Value, path: &Path, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    if items(spec, &["containers"]).is_empty() {
        errors.required(&path.child("containers"), "");
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    // Kubernetes looks at the containers first, so that an init container is the double.
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        if list != "containers" {
            // Init containers run one after another: their host ports do not clash with others'.
            host_ports.clear();
        }
        for (index, container) in items(spec, &[list]).iter().enumerate() {
            let path = path.child(list).index(index);
            one(container, &path, volumes, errors);
            let name = text(container, &["name"]);
            if !name.is_empty() && !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            match list {
                "initContainers" => init_only(container, &path, errors),
                "ephemeralContainers" => ephemeral_only(container, &path, errors),
                _ => running(container, &path, errors),
            }
            let host_network = flag(spec, &["hostNetwork"]);
            for (index, port) in items(container, &["ports"]).iter().enumerate() {
                let path = path.child("ports").index(index);
                host_port(port, host_network, &path, &mut host_ports, errors);
            }
        }
    }
}

fn one(container: &Value, path: &Path, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    let name = text(container, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else {
        for why in validation::dns1123_label(name) {
            errors.invalid(&path.child("name"), name, &why);
        }
    }
    let image = text(container, &["image"]);
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.invalid(&path.child("image"), image, why);
    }
    let policies = ["FallbackToLogsOnError", "File"];
    one_of(container, "terminationMessagePolicy", path, &policies, errors);
    ports(items(container, &["ports"]), &path.child("ports"), errors);
    env::env(items(container, &["env"]), &path.child("env"), errors);
    env::env_from(items(container, &["envFrom"]), &path.child("envFrom"), errors);
    mounts(container, path, volumes, errors);
    one_of(container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"], errors);
    resources(
        at(container, &["resources"]).unwrap_or(&Value::Null),
        &path.child("resources"),
        errors,
    );
    security::container(container, &path.child("securityContext"), errors);
}

fn running(container: &Value, path: &Path, errors: &mut FieldErrors) {
    probes::lifecycle(container, path, errors);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probes::probe(container, name, path, errors);
    }
}

fn init_only(container: &Value, path: &Path, errors: &mut FieldErrors) {
    if text(container, &["restartPolicy"]) == "Always" {
        return running(container, path, errors);
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if at(container, &[name]).is_some() {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.forbidden(&path.child(name), why);
        }
    }
}

fn ephemeral_only(container: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in
        ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "ports", "resizePolicy"]
    {
        if at(container, &[name]).is_some() {
            errors.forbidden(&path.child(name), "cannot be set for an Ephemeral Container");
        }
    }
}

fn ports(ports: &[Value], path: &Path, errors: &mut FieldErrors) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = text(port, &["name"]);
        if !name.is_empty() {
            let wrong = validation::port_name(name);
            for why in &wrong {
                errors.invalid(&path.child("name"), name, why);
            }
            if wrong.is_empty() && !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        match int(port, &["containerPort"]).unwrap_or(0) {
            0 => errors.required(&path.child("containerPort"), ""),
            number => port_number(number, &path.child("containerPort"), errors),
        }
        match int(port, &["hostPort"]).unwrap_or(0) {
            0 => {}
            number => port_number(number, &path.child("hostPort"), errors),
        }
        one_of(port, "protocol", &path, &["SCTP", "TCP", "UDP"], errors);
        let host_ip = text(port, &["hostIP"]);
        if !host_ip.is_empty() {
            ip_address(host_ip, &path.child("hostIP"), errors);
        }
    }
}

/// 1 to 65535.
pub(crate) fn port_number(number: i64, path: &Path, errors: &mut FieldErrors) {
    if !(1..=65_535).contains(&number) {
        errors.invalid(path, number, "must be between 1 and 65535, inclusive");
    }
}

fn host_port<'a>(
    port: &'a Value,
    host_network: bool,
    path: &Path,
    seen: &mut BTreeSet<(&'a str, &'a str, i64)>,
    errors: &mut FieldErrors,
) {
    let number = int(port, &["hostPort"]).unwrap_or(0);
    let container_port = int(port, &["containerPort"]).unwrap_or(0);
    if number == 0 {
        return;
    }
    if host_network && number != container_port {
        let why = "must match `hostPort` when `hostNetwork` is true";
        errors.invalid(&path.child("containerPort"), container_port, why);
    }
    let (protocol, ip) = (text(port, &["protocol"]), text(port, &["hostIP"]));
    if !seen.insert((protocol, ip, number)) {
        errors.duplicate(&path.child("hostPort"), &format!("{protocol}/{ip}/{number}"));
    }
}

fn mounts(container: &Value, path: &Path, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    let privileged = flag(container, &["securityContext", "privileged"]);
    let mut seen = BTreeSet::new();
    for (index, mount) in items(container, &["volumeMounts"]).iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let name = text(mount, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        let mount_path = text(mount, &["mountPath"]);
        if mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        }
        if !name.is_empty() && !volumes.contains(name) {
            errors.not_found(&path.child("name"), name);
        }
        if !seen.insert(mount_path) {
            errors.invalid(&path.child("mountPath"), mount_path, "must be unique");
        }
        let (sub_path, expression) = (text(mount, &["subPath"]), text(mount, &["subPathExpr"]));
        if !sub_path.is_empty() {
            super::volumes::inside(sub_path, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&path.child("subPathExpr"), expression, why);
            }
            super::volumes::inside(expression, &path.child("subPathExpr"), errors);
        }
        let propagation = text(mount, &["mountPropagation"]);
        let known = ["Bidirectional", "HostToContainer", "None"];
        if !propagation.is_empty() && !known.contains(&propagation) {
            errors.not_supported(&path.child("mountPropagation"), propagation, &known);
        }
        if propagation == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&path.child("mountPropagation"), why);
        }
    }
}

/// Resources that a container may name without a domain.
fn is_standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge(name)
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Only Kubernetes' own resources may have a limit above the request; huge pages may not.
fn overcommits(name: &str) -> bool {
    let native = name.split_once('/').is_none_or(|(domain, _)| domain.ends_with("kubernetes.io"));
    native && !is_huge(name)
}

fn resources(resources: &Value, path: &Path, errors: &mut FieldErrors) {
    let at_limits = path.child("limits");
    let at_requests = path.child("requests");
    for (name, limit) in entries(resources, &["limits"]) {
        resource(name, limit, &at_limits.key(name), errors);
    }
    for (name, request) in entries(resources, &["requests"]) {
        let wanted = resource(name, request, &at_requests.key(name), errors);
        let limit = at(resources, &["limits", name])
            .and_then(|limit| coracle_api::quantity::from_json(limit).ok());
        match (wanted, limit) {
            (Some(wanted), Some(limit)) if wanted != limit && !overcommits(name) => {
                let why = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&at_requests, &format!("{wanted}"), &why);
            }
            (Some(wanted), Some(limit)) if wanted > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&at_requests, &format!("{wanted}"), &why);
            }
            (Some(_), None) if !overcommits(name) => {
                errors.required(&at_limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    let names = |list| entries(resources, &[list]).map(|(name, _)| name.as_str());
    let all: BTreeSet<&str> = names("limits").chain(names("requests")).collect();
    if all.iter().any(|name| is_huge(name)) && !all.contains("cpu") && !all.contains("memory") {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

fn resource(
    name: &str,
    value: &Value,
    path: &Path,
    errors: &mut FieldErrors,
) -> Option<coracle_api::quantity::Quantity> {
    for why in validation::qualified_name(name) {
        errors.invalid(path, name, &why);
    }
    if !name.contains('/') && !is_standard(name) {
        errors.invalid(path, name, "must be a standard resource for containers");
    }
    let quantity = quantities::checked(errors, path, value)?;
    if name.contains('/') && !quantity.is_whole() {
        errors.invalid(path, &format!("{quantity}"), "must be an integer");
    }
    Some(quantity)
}
