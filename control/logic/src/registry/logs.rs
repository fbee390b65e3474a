//! `pods/NAME/log`: checked here, answered by the pod's node.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt::Write as _;

use coracle_api::Status;
use serde_json::Value;

use super::{Ask, Decision, Registry};
use crate::{
    call::LogOptions,
    kinds::access::{at, items, text},
};

const KINDS_OF_CONTAINERS: [(&str, &str, &str); 3] = [
    ("containers", "containerStatuses", "container"),
    ("initContainers", "initContainerStatuses", "init container"),
    ("ephemeralContainers", "ephemeralContainerStatuses", "ephemeral container"),
];

impl Registry<'_> {
    /// GET of a log: which node to ask for what.
    pub(crate) fn log(&mut self, ask: &Ask<'_>) -> Result<Decision, Status> {
        let object = self.stored(ask)?;
        let pod = object.value();
        let options = &ask.call.options().log;
        let container = container_of(&pod, &options.container, &ask.target.name)?;
        let node = text(&pod, &["spec", "nodeName"]);
        let status = status_of(&pod, &container);
        let name = &ask.target.name;
        if node.is_empty() {
            // As upstream: nothing has run yet, so its log is empty.
            return Ok(Decision::Empty);
        }
        if options.previous {
            let last = status.and_then(|status| at(status, &["lastState", "terminated"]));
            if last.is_none() {
                return Err(Status::bad_request(format!(
                    "previous terminated container {container:?} in pod {name:?} not found"
                )));
            }
        } else if let Some(reason) = waiting(&pod, status) {
            return Err(Status::bad_request(format!(
                "container {container:?} in pod {name:?} is waiting to start: {reason}"
            )));
        }
        let path = format!("/containerLogs/{}/{name}/{container}", ask.target.namespace);
        Ok(Decision::Node(node.to_string(), with_query(path, options)))
    }
}

/// The container that is meant: the one named, or the only one.
fn container_of(pod: &Value, asked: &str, pod_name: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        items(pod, &["spec", list]).iter().map(|one| text(one, &["name"]).to_string()).collect()
    };
    if !asked.is_empty() {
        let known =
            KINDS_OF_CONTAINERS.iter().any(|(list, _, _)| names(list).iter().any(|n| n == asked));
        return if known {
            Ok(asked.into())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")))
        };
    }
    let default = at(pod, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"])
        .and_then(Value::as_str);
    let containers = names("containers");
    match (containers.as_slice(), default) {
        ([only], _) => Ok(only.clone()),
        ([], _) => Err(Status::bad_request(format!("pod {pod_name} has no containers"))),
        (many, Some(default)) if many.iter().any(|name| name == default) => Ok(default.into()),
        (many, _) => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                many.join(" ")
            );
            let inits = names("initContainers");
            if !inits.is_empty() {
                let _ = write!(message, " or one of the init containers: [{}]", inits.join(" "));
            }
            Err(Status::bad_request(message))
        }
    }
}

fn status_of<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    KINDS_OF_CONTAINERS
        .iter()
        .flat_map(|(_, list, _)| items(pod, &["status", list]))
        .find(|status| text(status, &["name"]) == container)
}

/// Why there is no log yet; `None`: there is one.
fn waiting(pod: &Value, status: Option<&Value>) -> Option<String> {
    let Some(status) = status else {
        let ended = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
        return (!ended).then(|| "ContainerCreating".into());
    };
    let waiting = at(status, &["state", "waiting"])?;
    // A container that has run before has a log even while it waits to run again.
    if at(status, &["lastState", "terminated"]).is_some() {
        return None;
    }
    let reason = text(waiting, &["reason"]);
    let message = text(waiting, &["message"]);
    match (reason, message) {
        ("", _) => Some("ContainerCreating".into()),
        // As the kubelet has it: these two speak for themselves.
        ("ContainerCreating" | "PodInitializing", _) | (_, "") => Some(reason.into()),
        _ => Some(reason.into()),
    }
}

/// The options as the node's server takes them.
fn with_query(path: String, options: &LogOptions) -> String {
    let mut pairs: Vec<String> = Vec::new();
    let mut flag = |name: &str, set: bool| {
        if set {
            pairs.push(format!("{name}=true"));
        }
    };
    flag("follow", options.follow);
    flag("previous", options.previous);
    flag("timestamps", options.timestamps);
    for (name, number) in [
        ("sinceSeconds", options.since_seconds),
        ("tailLines", options.tail_lines),
        ("limitBytes", options.limit_bytes),
    ] {
        if let Some(number) = number {
            pairs.push(format!("{name}={number}"));
        }
    }
    if let Some(time) = &options.since_time {
        pairs.push(format!("sinceTime={}", time.replace('+', "%2B").replace(':', "%3A")));
    }
    if !matches!(options.stream.as_str(), "" | "All") {
        pairs.push(format!("stream={}", options.stream));
    }
    if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
}
