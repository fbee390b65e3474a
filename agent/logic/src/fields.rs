//! Fields of a pod as text: `fieldRef` and `resourceFieldRef` of environments and downwardAPI volumes.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::quantity::from_json;

use crate::{
    resources::{bytes, milli, positive},
    spec::{Container, FieldRef, Pod, ResourceFieldRef},
};

/// What fields can say beyond the pod object itself.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `status.podIPs`.
    pub pod_ips: Vec<String>,
    /// `status.hostIPs`.
    pub host_ips: Vec<String>,
    /// CPU that pods of the node can have, in thousandths: the limit of a container that has none.
    pub allocatable_cpu_milli: u64,
    /// Memory likewise, in bytes.
    pub allocatable_memory_bytes: u64,
    /// Disk likewise, in bytes.
    pub allocatable_disk_bytes: u64,
}

/// The text of a field.
///
/// # Errors
/// The path is none of those that the downward API has; the text says so.
pub fn field(pod: &Pod, place: &Place, reference: &FieldRef) -> Result<String, String> {
    let path = reference.field_path.as_str();
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(pod.meta.annotations.get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(pod.meta.labels.get(key).cloned().unwrap_or_default());
    }
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod.meta.name.clone(),
        "metadata.namespace" => pod.meta.namespace.clone(),
        "metadata.uid" => pod.uid.to_string(),
        "metadata.labels" => lines(&pod.meta.labels),
        "metadata.annotations" => lines(&pod.meta.annotations),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" => first(&place.host_ips),
        "status.hostIPs" => place.host_ips.join(","),
        "status.podIP" => first(&place.pod_ips),
        "status.podIPs" => place.pod_ips.join(","),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

/// The number of a resource in the unit that was asked for, rounded up.
///
/// # Errors
/// Unknown container or resource, or a divisor that is none.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    place: &Place,
    reference: &ResourceFieldRef,
) -> Result<String, String> {
    let container = if reference.container_name.is_empty() {
        own
    } else {
        pod.container(&reference.container_name)
    };
    let container =
        container.ok_or_else(|| format!("container {} not found", reference.container_name))?;
    let divisor = match &reference.divisor {
        None => None,
        Some(value) => Some(from_json(value).map_err(|_| format!("invalid divisor {value}"))?),
    };
    let divisor = divisor.filter(|divisor| !divisor.is_zero());
    let wanted = reference.resource.as_str();
    let limits = &container.resources.limits;
    let requests = &container.resources.requests;
    let request = |name| positive(requests, name).or_else(|| positive(limits, name));
    let (amount, unit) = match wanted {
        "limits.cpu" => (
            positive(limits, "cpu").map_or(place.allocatable_cpu_milli, |cpu| milli(&cpu)),
            divisor.map_or(1000, |divisor| milli(&divisor)),
        ),
        "requests.cpu" => (
            request("cpu").map_or(0, |cpu| milli(&cpu)),
            divisor.map_or(1000, |divisor| milli(&divisor)),
        ),
        "limits.memory" => (
            positive(limits, "memory")
                .map_or(place.allocatable_memory_bytes, |memory| bytes(&memory)),
            divisor.map_or(1, |divisor| bytes(&divisor)),
        ),
        "requests.memory" => (
            request("memory").map_or(0, |memory| bytes(&memory)),
            divisor.map_or(1, |divisor| bytes(&divisor)),
        ),
        "limits.ephemeral-storage" => (
            positive(limits, "ephemeral-storage")
                .map_or(place.allocatable_disk_bytes, |disk| bytes(&disk)),
            divisor.map_or(1, |divisor| bytes(&divisor)),
        ),
        "requests.ephemeral-storage" => (
            request("ephemeral-storage").map_or(0, |disk| bytes(&disk)),
            divisor.map_or(1, |divisor| bytes(&divisor)),
        ),
        other => return Err(format!("unsupported container resource: {other}")),
    };
    Ok(amount.div_ceil(unit.max(1)).to_string())
}

/// `metadata.labels['x']` -> `x`.
fn subscript<'a>(path: &'a str, map: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(map)?.strip_prefix('[')?.strip_suffix(']')?;
    rest.strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .or_else(|| rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')))
}

/// `key="value"` a line, sorted, quoted as Go quotes.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u-1", "labels": {"b": "2", "a": "say \"hi\""}},
            "spec": {"nodeName": "board", "serviceAccountName": "sa", "containers": [
                {"name": "c", "image": "i", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}},
            ]},
        });
        Pod::parse(serde_json::to_vec(&pod).unwrap().into()).unwrap()
    }

    fn place() -> Place {
        Place {
            pod_ips: ["10.42.0.2".into()].into(),
            host_ips: ["192.0.2.1".into(), "2001:db8::1".into()].into(),
            allocatable_cpu_milli: 4000,
            allocatable_memory_bytes: 1 << 30,
            allocatable_disk_bytes: 8 << 30,
        }
    }

    #[test]
    fn fields_read_as_text() {
        let check = |path: &str, want: Result<&str, &str>| {
            let got = field(&pod(), &place(), &FieldRef { field_path: path.into() });
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{path}");
        };
        check("metadata.name", Ok("p"));
        check("metadata.uid", Ok("u-1"));
        check("metadata.labels", Ok("a=\"say \\\"hi\\\"\"\nb=\"2\""));
        check("metadata.labels['b']", Ok("2"));
        check("metadata.annotations['none']", Ok(""));
        check("spec.nodeName", Ok("board"));
        check("status.podIP", Ok("10.42.0.2"));
        check("status.hostIPs", Ok("192.0.2.1,2001:db8::1"));
        check("spec.containers", Err("unsupported fieldPath: spec.containers"));
    }

    #[test]
    fn resources_are_divided_up() {
        let pod = pod();
        let check = |resource_name: &str, divisor: &str, want: &str| {
            let reference = ResourceFieldRef {
                resource: resource_name.into(),
                divisor: Some(divisor.into()),
                ..ResourceFieldRef::default()
            };
            let got = resource(&pod, pod.container("c"), &place(), &reference);
            assert_eq!(got.as_deref(), Ok(want), "{resource_name} / {divisor}");
        };
        check("requests.cpu", "1m", "250");
        check("requests.cpu", "1", "1");
        check("limits.cpu", "1", "4");
        check("limits.memory", "1Mi", "64");
        check("requests.memory", "1", "67108864");
        check("requests.memory", "0", "67108864");
    }
}
