//! The pod status that the API server is told, in kubelet's words.

use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

use serde_json::{Map, Value, json};

use crate::{
    conditions::{Condition, OWNED},
    pod::{ContainerState, Ended, PodState, Run},
    resources::qos_class,
    spec::PodUid,
    time::{Now, rfc3339},
};

/// `coracle://UID.NAME.ATTEMPT`: one run of one container. No two runs share one.
pub fn container_id(uid: &PodUid, name: &str, attempt: u32) -> String {
    format!("coracle://{uid}.{name}.{attempt}")
}

/// The whole status. `host_ips` are the node's addresses.
pub(crate) fn build(state: &mut PodState, host_ips: &[String], now: Now) -> Value {
    let phase = state.phase();
    let mut status = Map::new();
    let mut put = |name: &str, value: Value| {
        status.insert(name.into(), value);
    };
    if state.pod.meta.generation > 0 {
        put("observedGeneration", state.pod.meta.generation.into());
    }
    put("phase", phase.into());
    let conditions = conditions(state, phase, now);
    put("conditions", conditions.into());
    let unsupported = state.pod.unsupported.as_ref();
    let why = match (&state.refused, unsupported) {
        (Some((reason, message)), _) => Some((*reason, message.clone())),
        (None, Some(field)) => Some(("Unsupported", field.clone())),
        (None, None) => None,
    };
    // Nulls: a merge patch takes away what an earlier status said.
    put("reason", why.as_ref().map_or(Value::Null, |(reason, _)| (*reason).into()));
    put("message", why.map_or(Value::Null, |(_, message)| message.into()));
    if let Some(first) = host_ips.first() {
        put("hostIP", first.as_str().into());
        put("hostIPs", addresses(host_ips));
    }
    if let Some(first) = state.ips.first() {
        put("podIP", first.as_str().into());
        put("podIPs", addresses(&state.ips));
    }
    put("startTime", rfc3339(state.start_s).into());
    put("qosClass", qos_class(&state.pod.spec).as_str().into());
    let containers: Vec<Value> =
        state.containers.iter().map(|container| container_status(state, container)).collect();
    put("containerStatuses", containers.into());
    Value::Object(status)
}

fn addresses(ips: &[String]) -> Value {
    ips.iter().map(|ip| json!({ "ip": ip })).collect()
}

fn conditions(state: &mut PodState, phase: &str, now: Now) -> Vec<Value> {
    let unready: Vec<&str> = state
        .containers
        .iter()
        .filter(|container| !matches!(container.run, Run::Running { .. }))
        .map(|container| container.name.as_str())
        .collect();
    let stopping = state.stop.is_some();
    let ready = unready.is_empty() && !stopping && phase == "Running";
    let (reason, message) = match phase {
        "Succeeded" => ("PodCompleted", String::new()),
        "Failed" => ("PodFailed", String::new()),
        _ if ready => ("", String::new()),
        _ if unready.is_empty() => ("ContainersNotReady", "the pod is being ended".into()),
        _ => (
            "ContainersNotReady",
            format!("containers with unready status: [{}]", unready.join(" ")),
        ),
    };
    let network = state.sandbox.is_done() && !state.teardown.is_done();
    let completed = if phase == "Succeeded" { "PodCompleted" } else { "" };
    let plain = |kind, on| Condition { kind, on, reason: "", message: String::new() };
    let owned = [
        plain("PodReadyToStartContainers", network),
        Condition { reason: completed, ..plain("Initialized", true) },
        Condition { kind: "Ready", on: ready, reason, message: message.clone() },
        Condition { kind: "ContainersReady", on: ready, reason, message },
        plain("PodScheduled", true),
    ];
    let generation = state.pod.meta.generation;
    let mut written: Vec<Value> = owned
        .iter()
        .map(|condition| state.conditions.write(condition, now.wall_s, generation))
        .collect();
    // The patch replaces the list: what others wrote stays.
    let owned: BTreeSet<&str> = OWNED.into_iter().collect();
    let foreign = state.pod.conditions.iter().filter(|condition| {
        !condition.get("type").and_then(Value::as_str).is_some_and(|kind| owned.contains(kind))
    });
    written.extend(foreign.cloned());
    written
}

fn container_status(state: &PodState, container: &ContainerState) -> Value {
    let uid = &state.pod.uid;
    let id = |attempt| container_id(uid, &container.name, attempt);
    let (current, last, running_id) = match &container.run {
        Run::Running { attempt, started_s } => (
            json!({"running": {"startedAt": rfc3339(*started_s)}}),
            container.last.as_ref(),
            Some(id(*attempt)),
        ),
        Run::Ended { exit, .. } => (
            json!({"terminated": ended(uid, &container.name, exit)}),
            container.last.as_ref(),
            Some(id(exit.attempt)),
        ),
        Run::Waiting { .. } | Run::Ensuring | Run::Starting { .. } => {
            let mut waiting = Map::new();
            waiting.insert("reason".into(), container.wait.reason.into());
            if !container.wait.message.is_empty() {
                waiting.insert("message".into(), container.wait.message.as_str().into());
            }
            let last = container.last.as_ref();
            (json!({ "waiting": waiting }), last, last.map(|last| id(last.attempt)))
        }
    };
    let running = matches!(container.run, Run::Running { .. });
    let mut status = json!({
        "name": container.name,
        "state": current,
        "lastState": last.map_or_else(
            || json!({}),
            |last| json!({"terminated": ended(uid, &container.name, last)}),
        ),
        "ready": running,
        "started": running,
        "restartCount": container.attempts.saturating_sub(1),
        "image": container.image,
        "imageID": container.image_id,
    });
    if let (Some(id), Value::Object(fields)) = (running_id, &mut status) {
        fields.insert("containerID".into(), id.into());
    }
    status
}

fn ended(uid: &PodUid, name: &str, ended: &Ended) -> Value {
    let exit = &ended.exit;
    let mut value = json!({
        "exitCode": exit.code,
        "reason": ended.reason,
        "startedAt": rfc3339(exit.started_s),
        "finishedAt": rfc3339(exit.finished_s),
        "containerID": container_id(uid, name, ended.attempt),
    });
    if let Value::Object(fields) = &mut value {
        if let Some(signal) = exit.signal {
            fields.insert("signal".into(), signal.into());
        }
        if !exit.message.is_empty() {
            fields.insert("message".into(), exit.message.as_str().into());
        }
    }
    value
}
