//! Rows of pods: what their containers are at, in a word.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{
    time,
    views::{Container, ContainerState, ContainerStatus, PodView},
};
use serde_json::{Value, json};

use super::{At, or_none, view};

/// Restarts, and when the last one before the current run ended (milliseconds since 1970).
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<(u64, String)>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count += i64::from(status.restart_count);
        let ended =
            status.last_state.terminated.as_ref().and_then(|ended| ended.finished_at.clone());
        if let Some(text) = ended
            && let Some(ms) = time::parse_ms(&text)
            && self.last.as_ref().is_none_or(|(last, _)| *last < ms)
        {
            self.last = Some((ms, text));
        }
    }

    fn text(&self, at: &At<'_>) -> String {
        match &self.last {
            Some((_, text)) if self.count != 0 => {
                format!("{} ({} ago)", self.count, at.since(Some(text)))
            }
            _ => self.count.to_string(),
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Why a container ended, in a word.
fn ended(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    Some(if !ended.reason.is_empty() {
        ended.reason.clone()
    } else if ended.signal != 0 {
        format!("Signal:{}", ended.signal)
    } else {
        format!("ExitCode:{}", ended.exit_code)
    })
}

fn waiting(state: &ContainerState) -> Option<&str> {
    state
        .waiting
        .as_ref()
        .map(|waiting| waiting.reason.as_str())
        .filter(|reason| !reason.is_empty())
}

/// Name, Ready, Status, Restarts, Age, IP, Node, Nominated Node, Readiness Gates.
pub(super) fn cells(at: &At<'_>, value: &Value) -> Vec<Value> {
    let pod: PodView = view(value);
    let (spec, status) = (&pod.spec, &pod.status);
    let sidecar = |name: &str| {
        spec.init_containers.iter().any(|container| container.name == name && is_sidecar(container))
    };
    let sidecars = spec.init_containers.iter().filter(|container| is_sidecar(container)).count();
    let total = spec.containers.len() + sidecars;
    let mut reason =
        if status.reason.is_empty() { status.phase.clone() } else { status.reason.clone() };
    if status.conditions.iter().any(|condition| {
        condition.r#type == "PodScheduled" && condition.reason == "SchedulingGated"
    }) {
        reason = "SchedulingGated".into();
    }
    let mut ready = 0;
    let (mut restarts, mut sidecar_restarts) = (Restarts::default(), Restarts::default());
    let mut initializing = false;
    for (index, container) in status.init_container_statuses.iter().enumerate() {
        let is_sidecar = sidecar(&container.name);
        restarts.add(container);
        if is_sidecar {
            sidecar_restarts.add(container);
        }
        let state = &container.state;
        if state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0) {
            continue;
        }
        if is_sidecar && container.started == Some(true) {
            ready += usize::from(container.ready);
            continue;
        }
        reason = if let Some(ended) = ended(state) {
            format!("Init:{ended}")
        } else if let Some(why) = waiting(state).filter(|why| *why != "PodInitializing") {
            format!("Init:{why}")
        } else {
            format!("Init:{index}/{}", spec.init_containers.len())
        };
        initializing = true;
        break;
    }
    let initialized = status.condition("Initialized").is_some_and(|done| done.status == "True");
    if !initializing || initialized {
        restarts = sidecar_restarts;
        let mut running = false;
        for container in status.container_statuses.iter().rev() {
            restarts.add(container);
            let state = &container.state;
            if let Some(why) = waiting(state) {
                reason = why.into();
            } else if let Some(ended) = ended(state) {
                reason = ended;
            } else if container.ready && state.running.is_some() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            reason = if pod.is_ready() { "Running" } else { "NotReady" }.into();
        }
    }
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason == "NodeLost" {
            reason = "Unknown".into();
        } else if !pod.is_finished() {
            reason = "Terminating".into();
        }
    }
    let gates = &spec.readiness_gates;
    let open = gates.iter().filter(|gate| {
        status.condition(&gate.condition_type).is_some_and(|condition| condition.status == "True")
    });
    let gates = if gates.is_empty() {
        "<none>".into()
    } else {
        format!("{}/{}", open.count(), gates.len())
    };
    let ip = status.pod_ips.first().map_or(status.pod_ip.as_str(), |first| first.ip.as_str());
    [
        at.name.into(),
        format!("{ready}/{total}"),
        reason,
        restarts.text(at),
        at.age(),
        or_none(ip),
        or_none(&spec.node_name),
        or_none(&status.nominated_node_name),
        gates,
    ]
    .map(Value::from)
    .into()
}

/// The row condition of pods that are done: `kubectl` can leave them out by it.
pub(super) fn condition(value: &Value) -> Option<Value> {
    let phase = value.pointer("/status/phase").and_then(Value::as_str)?;
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!({ "type": "Completed", "status": "True", "reason": phase, "message": message }))
}
