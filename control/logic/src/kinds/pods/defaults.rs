//! Defaults of pods and pod templates: the same for every version of every kind that holds one.

use serde_json::{Value, json};

use crate::kinds::{
    access::{
        at, child, each, flag, int, items, object, or_set, or_set_text, remove, remove_zero, set,
        text,
    },
    quantities,
};

/// Mode of files from ConfigMaps, Secrets, projections and the downward API: 0644.
const FILE_MODE: u32 = 0o644;

/// What a container's list is called in a pod spec.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a pod template (`metadata` and `spec`).
pub(crate) fn template(template: &mut Value) {
    let metadata = child(template, "metadata");
    remove_zero(metadata, &["labels", "annotations", "creationTimestamp"]);
    spec(child(template, "spec"));
}

/// Defaults of a Pod: those of a template, and those that only a Pod itself gets.
pub(crate) fn pod(pod: &mut Value) {
    let spec_ = child(pod, "spec");
    for list in ["initContainers", "containers"] {
        each(spec_, list, |container| requests_from_limits(child(container, "resources")));
    }
    or_set(spec_, "enableServiceLinks", true);
    let host_network = flag(spec_, &["hostNetwork"]);
    spec(spec_);
    if host_network {
        for list in ["initContainers", "containers"] {
            each(spec_, list, |container| each(container, "ports", host_port));
        }
    }
    child(pod, "status");
}

/// Where only a limit is given, it is the request too.
fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = at(resources, &["limits"]).and_then(Value::as_object).cloned() else {
        return;
    };
    let requests = object(child(resources, "requests"));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_port(port: &mut Value) {
    if int(port, &["hostPort"]).unwrap_or(0) == 0
        && let Some(container_port) = port.get("containerPort").cloned()
    {
        set(port, "hostPort", container_port);
    }
}

/// Defaults of a pod spec.
fn spec(spec: &mut Value) {
    or_set_text(spec, "dnsPolicy", "ClusterFirst");
    or_set_text(spec, "restartPolicy", "Always");
    or_set(spec, "securityContext", json!({}));
    or_set(spec, "terminationGracePeriodSeconds", 30);
    or_set_text(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    for list in CONTAINER_LISTS {
        each(spec, list, container);
    }
    each(spec, "volumes", volume);
    quantities::canonical_map(spec, "overhead");
    remove_zero(
        spec,
        &["hostNetwork", "hostPID", "hostIPC", "nodeName", "hostname", "subdomain", "nodeSelector"],
    );
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always shown.
pub(crate) fn mirror_service_account(spec: &mut Value) {
    let mut name = text(spec, &["serviceAccountName"]);
    if name.is_empty() {
        name = text(spec, &["serviceAccount"]);
    }
    let name = alloc::string::String::from(name);
    for key in ["serviceAccountName", "serviceAccount"] {
        if name.is_empty() {
            remove(spec, key);
        } else {
            set(spec, key, name.as_str());
        }
    }
}

fn container(container: &mut Value) {
    let policy = if pulls_latest(text(container, &["image"])) { "Always" } else { "IfNotPresent" };
    or_set_text(container, "imagePullPolicy", policy);
    or_set_text(container, "terminationMessagePath", "/dev/termination-log");
    or_set_text(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| {
        or_set_text(port, "protocol", "TCP");
        remove_zero(port, &["name", "hostPort", "hostIP"]);
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if at(container, &[name]).is_some() {
            probe(child(container, name));
        }
    }
    if at(container, &["lifecycle"]).is_some() {
        let lifecycle = child(container, "lifecycle");
        for name in ["postStart", "preStop"] {
            if at(lifecycle, &[name]).is_some() {
                handler(child(lifecycle, name));
            }
        }
    }
    each(container, "env", |env| {
        remove_zero(env, &["value"]);
        if at(env, &["valueFrom", "fieldRef"]).is_some() {
            field_ref(child(env, "valueFrom"));
        }
        if at(env, &["valueFrom", "resourceFieldRef"]).is_some() {
            divisor(child(env, "valueFrom"));
        }
        if at(env, &["valueFrom", "fileKeyRef"]).is_some() {
            or_set(child(child(env, "valueFrom"), "fileKeyRef"), "optional", false);
        }
    });
    let resources = child(container, "resources");
    for list in ["limits", "requests"] {
        quantities::canonical_map(resources, list);
    }
    each(container, "volumeMounts", |mount| remove_zero(mount, &["readOnly", "subPath"]));
    remove_zero(container, &["stdin", "stdinOnce", "tty", "workingDir", "command", "args"]);
}

/// Whether this image reference has the tag `latest`, written or meant: no tag and no digest.
fn pulls_latest(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

fn probe(probe: &mut Value) {
    for (key, default) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if int(probe, &[key]).unwrap_or(0) == 0 {
            set(probe, key, default);
        }
    }
    remove_zero(probe, &["initialDelaySeconds"]);
    handler(probe);
    if at(probe, &["grpc"]).is_some() {
        or_set(child(probe, "grpc"), "service", "");
    }
}

fn handler(handler: &mut Value) {
    if at(handler, &["httpGet"]).is_some() {
        let http = child(handler, "httpGet");
        or_set_text(http, "path", "/");
        or_set_text(http, "scheme", "HTTP");
    }
}

fn field_ref(holder: &mut Value) {
    or_set_text(child(holder, "fieldRef"), "apiVersion", "v1");
}

fn divisor(holder: &mut Value) {
    let reference = child(holder, "resourceFieldRef");
    or_set(reference, "divisor", "0");
    quantities::canonical(reference, "divisor");
}

fn volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|volume| volume.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if at(volume, &[source]).is_some() {
            or_set(child(volume, source), "defaultMode", FILE_MODE);
        }
    }
    if at(volume, &["hostPath"]).is_some() {
        or_set(child(volume, "hostPath"), "type", "");
    }
    if at(volume, &["emptyDir"]).is_some() {
        let empty_dir = child(volume, "emptyDir");
        quantities::canonical(empty_dir, "sizeLimit");
        remove_zero(empty_dir, &["medium"]);
    }
    if at(volume, &["downwardAPI"]).is_some() {
        each(child(volume, "downwardAPI"), "items", downward_item);
    }
    if at(volume, &["projected"]).is_some() {
        each(child(volume, "projected"), "sources", |source| {
            if at(source, &["serviceAccountToken"]).is_some() {
                or_set(child(source, "serviceAccountToken"), "expirationSeconds", 3600);
            }
            if at(source, &["downwardAPI"]).is_some() {
                each(child(source, "downwardAPI"), "items", downward_item);
            }
        });
    }
    if at(volume, &["ephemeral", "volumeClaimTemplate"]).is_some() {
        let claim = child(child(volume, "ephemeral"), "volumeClaimTemplate");
        or_set(child(claim, "spec"), "volumeMode", "Filesystem");
    }
}

fn downward_item(item: &mut Value) {
    if at(item, &["fieldRef"]).is_some() {
        field_ref(item);
    }
    if at(item, &["resourceFieldRef"]).is_some() {
        divisor(item);
    }
}

/// A pod's quality of service: of cpu and memory in all its containers. Guaranteed where every one has limits and
/// requests equal to them, BestEffort where none has any, else Burstable.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    use crate::kinds::quantities::{equal as equal_amount, is_zero};
    let mut any = false;
    let mut all_limited = true;
    let mut equal = true;
    for container in ["containers", "initContainers"].iter().flat_map(|list| items(spec, &[list])) {
        for resource in ["cpu", "memory"] {
            let request = at(container, &["resources", "requests", resource]);
            let limit = at(container, &["resources", "limits", resource]);
            let positive =
                |quantity: &Option<&Value>| quantity.is_some_and(|value| !is_zero(value));
            any |= positive(&request) || positive(&limit);
            all_limited &= positive(&limit);
            // A request of zero is as none; the default then makes it the limit.
            equal &= match (request.filter(|value| !is_zero(value)), limit) {
                (Some(request), Some(limit)) => equal_amount(request, limit),
                (None, _) => true,
                (Some(_), None) => false,
            };
        }
    }
    match (any, all_limited && equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
