//! The Node object: what the agent registers, and the status that it patches when something changed.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value, json};

use crate::{limits, time::rfc3339};

/// What the shell found out about its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the Node.
    pub name: String,
    /// Host name of the machine.
    pub hostname: String,
    /// Addresses, the one that leads to the API server first.
    pub ips: Vec<String>,
    /// `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// `6.12.0`.
    pub kernel: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// From /etc/machine-id.
    pub machine_id: String,
    /// From firmware, or the machine id.
    pub system_uuid: String,
    /// Of this boot.
    pub boot_id: String,
    /// Cores.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the file system of the data directory.
    pub disk_bytes: u64,
    /// Bytes of it that are free.
    pub disk_free_bytes: u64,
    /// Bytes of memory that programs could have.
    pub memory_free_bytes: u64,
    /// Processes of the machine now, and at most.
    pub pids: (u64, u64),
    /// Pods at one time; `None`: [`limits::PODS_MAX`].
    pub pods_max: Option<usize>,
    /// What the host does not enforce, each with the line that mends it.
    pub lacking: Vec<Lack>,
}

/// Something that a host cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// `memory-controller`, …
    pub name: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub fix: String,
}

/// Version that `kubectl get nodes` shows.
pub const KUBELET_VERSION: &str = concat!("v1.36.0-coracle-", env!("CARGO_PKG_VERSION"));

/// Memory that pods cannot have, in bytes: the agent, its shims and the system.
pub const RESERVED_MEMORY_BYTES: u64 = 64 << 20;
/// CPU that pods cannot have, in thousandths of a core.
pub const RESERVED_CPU_MILLI: u64 = 50;
/// Part of the disk that pods cannot have: one in so many.
pub const RESERVED_DISK_PART: u64 = 10;
/// Free memory below this many bytes is pressure. Source: kubelet's `memory.available<100Mi`.
pub const PRESSURE_MEMORY_BYTES: u64 = 100 << 20;

/// Free disk below one part in so many is pressure. Source: kubelet's `nodefs.available<10%`.
pub const PRESSURE_DISK_PART: u64 = 10;

/// CPU that pods can have, in thousandths of a core.
pub fn allocatable_cpu_milli(facts: &NodeFacts) -> u64 {
    (facts.cpus * 1000).saturating_sub(RESERVED_CPU_MILLI)
}

/// Memory that pods can have, in bytes.
pub fn allocatable_memory_bytes(facts: &NodeFacts) -> u64 {
    facts.memory_bytes.saturating_sub(RESERVED_MEMORY_BYTES)
}

/// Disk that pods can have, in bytes.
pub fn allocatable_disk_bytes(facts: &NodeFacts) -> u64 {
    facts.disk_bytes - facts.disk_bytes / RESERVED_DISK_PART
}

/// The Node to be created, without status.
pub fn object(facts: &NodeFacts, labels: &BTreeMap<String, String>) -> Value {
    let mut all: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", facts.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", facts.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", facts.architecture.as_str()),
    ]
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .into();
    all.extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": facts.name, "labels": all},
        "spec": {},
    })
}

/// The status, with conditions' times from `before` where nothing changed. Heartbeats are the Lease's.
pub fn status(facts: &NodeFacts, before: Option<&Value>, now_s: i64) -> Value {
    let kib = |bytes: u64| format!("{}Ki", bytes / 1024);
    let pods_max = facts.pods_max.unwrap_or(limits::PODS_MAX).to_string();
    let milli = allocatable_cpu_milli(facts);
    let cpu =
        if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") };
    let addresses: Vec<Value> = facts
        .ips
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip}))
        .chain([json!({"type": "Hostname", "address": facts.hostname})])
        .collect();
    json!({
        "capacity": {
            "cpu": facts.cpus.to_string(),
            "memory": kib(facts.memory_bytes),
            "ephemeral-storage": kib(facts.disk_bytes),
            "pods": pods_max,
        },
        "allocatable": {
            "cpu": cpu,
            "memory": kib(allocatable_memory_bytes(facts)),
            "ephemeral-storage": kib(allocatable_disk_bytes(facts)),
            "pods": pods_max,
        },
        "addresses": addresses,
        "conditions": conditions(facts, before, now_s),
        "nodeInfo": {
            "architecture": facts.architecture,
            "operatingSystem": "linux",
            "kernelVersion": facts.kernel,
            "osImage": facts.os_image,
            "machineID": facts.machine_id,
            "systemUUID": facts.system_uuid,
            "bootID": facts.boot_id,
            "containerRuntimeVersion": concat!("coracle://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
        },
    })
}

/// Whether two statuses say the same but for heartbeats: then nothing is patched.
pub fn same(one: &Value, other: &Value) -> bool {
    strip(one) == strip(other)
}

fn strip(status: &Value) -> Value {
    let mut status = status.clone();
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if let Value::Object(fields) = condition {
            fields.remove("lastHeartbeatTime");
        }
    }
    status
}

fn conditions(facts: &NodeFacts, before: Option<&Value>, now_s: i64) -> Vec<Value> {
    // Off again only well above the limit, so that a node at the border does not flap.
    let was_on = |kind: &str| {
        find(before, kind).and_then(|condition| condition.get("status")).and_then(Value::as_str)
            == Some("True")
    };
    let relief = |kind: &str, limit: u64| if was_on(kind) { limit + limit / 4 } else { limit };
    let memory_low = facts.memory_free_bytes < relief("MemoryPressure", PRESSURE_MEMORY_BYTES);
    let disk_low =
        facts.disk_free_bytes < relief("DiskPressure", facts.disk_bytes / PRESSURE_DISK_PART);
    let (pids, pids_max) = facts.pids;
    let pids_low = pids_max > 0 && pids_max.saturating_sub(pids) < pids_max / 10;
    let mut all = Vec::new();
    let mut add = |kind: &str, on: bool, reason: &str, message: String| {
        let status = if on { "True" } else { "False" };
        let now = rfc3339(now_s);
        let kept = find(before, kind)
            .filter(|condition| condition.get("status").and_then(Value::as_str) == Some(status));
        let since = kept
            .and_then(|condition| condition.get("lastTransitionTime"))
            .and_then(Value::as_str)
            .map_or_else(|| now.clone(), String::from);
        all.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since,
        }));
    };
    let pressure = |on: bool, yes: &'static str, no: &'static str| if on { yes } else { no };
    add(
        "MemoryPressure",
        memory_low,
        pressure(memory_low, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
        pressure(
            memory_low,
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        )
        .into(),
    );
    add(
        "DiskPressure",
        disk_low,
        pressure(disk_low, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
        pressure(disk_low, "kubelet has disk pressure", "kubelet has no disk pressure").into(),
    );
    add(
        "PIDPressure",
        pids_low,
        pressure(pids_low, "KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
        pressure(
            pids_low,
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        )
        .into(),
    );
    for lack in &facts.lacking {
        let kind = camel(&lack.name);
        add(
            &format!("{kind}Missing"),
            true,
            "NotEnforced",
            format!("{}; {}", lack.found, lack.fix),
        );
    }
    // What was missing and is there now must not stay in the list as it was: merge patches replace the whole list.
    add("Ready", true, "KubeletReady", "coracle-agent is ready to run pods".into());
    all
}

fn find<'a>(status: Option<&'a Value>, kind: &str) -> Option<&'a Map<String, Value>> {
    status?
        .get("conditions")?
        .as_array()?
        .iter()
        .filter_map(Value::as_object)
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// `memory-controller` -> `MemoryController`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for word in name.split(['-', '_', ' ']) {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.extend(letters);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts {
            name: "board".into(),
            cpus: 4,
            memory_bytes: 1 << 30,
            memory_free_bytes: 512 << 20,
            disk_bytes: 32 << 30,
            disk_free_bytes: 16 << 30,
            pids: (100, 32_768),
            ..NodeFacts::default()
        }
    }

    fn condition(status: &Value, kind: &str) -> (String, String) {
        let found = find(Some(status), kind).unwrap();
        let text = |name: &str| found[name].as_str().unwrap().to_string();
        (text("status"), text("lastTransitionTime"))
    }

    #[test]
    fn a_status_is_patched_only_on_change() {
        let first = status(&facts(), None, 1_000);
        let later = status(&facts(), Some(&first), 2_000);
        assert!(same(&first, &later));
        assert_eq!(condition(&later, "Ready"), ("True".into(), rfc3339(1_000)));
        assert_eq!(first["allocatable"]["cpu"], "3950m");
        assert_eq!(first["allocatable"]["memory"], "983040Ki");

        let low = NodeFacts { memory_free_bytes: 50 << 20, ..facts() };
        let low = status(&low, Some(&later), 3_000);
        assert!(!same(&later, &low));
        assert_eq!(condition(&low, "MemoryPressure"), ("True".into(), rfc3339(3_000)));
        // A little more than the limit is not yet relief.
        let border = NodeFacts { memory_free_bytes: 110 << 20, ..facts() };
        assert!(same(&low, &status(&border, Some(&low), 4_000)));
    }

    #[test]
    fn what_is_not_enforced_is_a_condition_with_its_fix() {
        let lack = Lack {
            name: "memory-controller".into(),
            found: "the memory controller is off".into(),
            fix: "add cgroup_enable=memory to cmdline.txt".into(),
        };
        let status = status(&NodeFacts { lacking: [lack].into(), ..facts() }, None, 0);
        let found = find(Some(&status), "MemoryControllerMissing").unwrap();
        assert_eq!(
            found["message"],
            "the memory controller is off; add cgroup_enable=memory to cmdline.txt"
        );
    }
}
