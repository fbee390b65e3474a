//! Promises that are about the whole cluster: P1, R5 and L1.

use std::collections::BTreeMap;

use coracle_agent_logic::limits::PODS_MAX;
use coracle_api::quantity::Quantity;
use serde_json::Value;

use crate::{
    client::{GUEST, NAME},
    history::{History, PODS},
    node::Node,
    wire::{number, text},
};

/// No node has more bound pods than it has room for (P1).
///
/// # Errors
/// One has.
pub fn not_over_committed(history: &History, nodes: &[Node]) -> Result<(), String> {
    let mut used: BTreeMap<&str, (u64, u64, usize)> = BTreeMap::new();
    for (_, _, pod) in history.now(PODS) {
        let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        let node = text(pod, "/spec/nodeName");
        if over || node.is_empty() {
            continue;
        }
        let sum = used.entry(node).or_default();
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            let ask = |name: &str| {
                let text = text(container, &format!("/resources/requests/{name}"));
                Quantity::parse(text).unwrap_or_default()
            };
            sum.0 += u64::try_from(ask("cpu").milli_value()).unwrap_or(0);
            sum.1 += u64::try_from(ask("memory").value()).unwrap_or(0);
        }
        sum.2 += 1;
    }
    for node in nodes {
        let (cpu_milli, memory_bytes, pods) = used.get(&*node.name).copied().unwrap_or_default();
        let (cpu_max, memory_max) = node.allocatable();
        if cpu_milli > cpu_max || memory_bytes > memory_max || pods > PODS_MAX {
            return Err(format!(
                "P1: {} has {cpu_max} milli-cores and {memory_max} bytes; its {pods} pods ask for {cpu_milli} and {memory_bytes}",
                node.name
            ));
        }
    }
    Ok(())
}

/// At most one board runs containers of a pod uid (R5).
///
/// # Errors
/// Two do.
pub fn one_live_set(nodes: &[Node]) -> Result<(), String> {
    let mut live: BTreeMap<&str, &str> = BTreeMap::new();
    for node in nodes {
        for (uid, _) in node.runtime.sandboxes() {
            if node.runtime.running(uid) == 0 {
                continue;
            }
            if let Some(other) = live.insert(uid.as_str(), &node.name) {
                return Err(format!("R5: pod {uid} runs on {other} and on {}", node.name));
            }
        }
    }
    Ok(())
}

/// What is not yet as it must be in calm (L1).
pub fn deployed(history: &History, nodes: &[Node], replicas: u64) -> Option<String> {
    let key = format!("/registry/apps/deployments/default/{NAME}");
    let Some((_, deployment)) = history.get(&key) else {
        return Some("the Deployment is not there".into());
    };
    let want = number(deployment, "/spec/replicas");
    if want != replicas {
        return Some(format!("the Deployment asks for {want} replicas, {replicas} were asked for"));
    }
    let status = ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"];
    for name in status {
        let have = number(deployment, &format!("/status/{name}"));
        if have != want {
            return Some(format!("{name} is {have}, not {want}"));
        }
    }
    if number(deployment, "/status/observedGeneration")
        != number(deployment, "/metadata/generation")
    {
        return Some("the Deployment's newest generation was not observed".into());
    }
    if history.get(&format!("/registry/apps/deployments/default/{GUEST}")).is_some() {
        return Some("the guest's Deployment is still there".into());
    }
    let mut uids = BTreeMap::new();
    for (key, _, pod) in history.now(PODS) {
        if text(pod, "/metadata/labels/app") != "test-service" {
            return Some(format!("{key} is still there"));
        }
        uids.insert(text(pod, "/metadata/uid"), text(pod, "/spec/nodeName"));
    }
    if uids.len() as u64 != want {
        return Some(format!("there are {} pods, not {want}", uids.len()));
    }
    for node in nodes {
        if !node.holds_only(|uid| uids.get(uid) == Some(&&*node.name)) {
            return Some(format!("{} holds what is not asked of it", node.name));
        }
        let running: usize =
            node.runtime.sandboxes().map(|(uid, _)| node.runtime.running(uid)).sum();
        let bound = uids.values().filter(|bound| **bound == node.name).count();
        if running != bound {
            return Some(format!("{} runs {running} containers of {bound} pods", node.name));
        }
    }
    None
}
