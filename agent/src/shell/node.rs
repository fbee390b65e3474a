//! The node at the API server: registered once, its status patched when it changed, its Lease renewed.

use std::{rc::Rc, time::Duration};

use coracle_agent_logic::{node, time::rfc3339};
use coracle_rt::sleep;
use serde_json::{Value, json};

use super::{
    Shell,
    api::{Api, ApiError},
    chance::jitter,
    clock, limits,
    log::{info, warning},
    machine_facts,
    member::Board,
    watch::{self, Seen},
};

/// Registers the node and keeps its status for ever.
pub(crate) async fn keep_status(board: Rc<dyn Board>, api: Api) {
    let path = format!("/api/v1/nodes/{}", board.member().name);
    let mut known: Option<Value> = None;
    loop {
        api.connected().await;
        if board.member().contradicted.take() {
            known = None;
        }
        match status_once(&board, &api, &path, &mut known).await {
            Ok(()) => sleep(limits::FACTS_EVERY).await,
            Err(error) => {
                warning!("node status: {error}; trying again");
                known = None;
                sleep(jitter(Duration::from_secs(5))).await;
            }
        }
    }
}

async fn status_once(
    board: &Rc<dyn Board>,
    api: &Api,
    path: &str,
    known: &mut Option<Value>,
) -> Result<(), ApiError> {
    let facts = Rc::clone(board).look(api.peer()).await;
    if known.is_none() {
        let found = match api.get(path).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                let made = api
                    .post("/api/v1/nodes", &node::object(&facts, &board.member().labels))
                    .await?;
                info!("registered node {}", facts.name);
                board.member().tales.about_node("Starting", "Starting coracle-agent.".into());
                made
            }
            Err(error) => return Err(error),
        };
        label(board, api, path, &found, &facts).await?;
        *known = Some(found.get("status").cloned().unwrap_or(Value::Null));
    }
    let now = node::status(&facts, known.as_ref(), clock::wall_s());
    // A stored status has what others and the API server put there: only our own parts are compared.
    let same = known.as_ref().is_some_and(|known| {
        now.as_object().into_iter().flatten().all(|(name, value)| {
            let before = known.get(name).unwrap_or(&Value::Null);
            node::same(&json!({ name: value }), &json!({ name: before }))
        })
    });
    if !same {
        api.merge(&format!("{path}/status"), &json!({ "status": now })).await?;
        *known = Some(now);
    }
    Ok(())
}

/// Labels of the command line and of the machine that the stored node does not have.
async fn label(
    board: &Rc<dyn Board>,
    api: &Api,
    path: &str,
    found: &Value,
    facts: &node::NodeFacts,
) -> Result<(), ApiError> {
    let wanted = node::object(facts, &board.member().labels);
    let wanted = wanted.pointer("/metadata/labels").and_then(Value::as_object);
    let has = |key: &str| {
        found.get("metadata").and_then(|meta| meta.get("labels")).and_then(|labels| labels.get(key))
    };
    let missing: serde_json::Map<String, Value> = wanted
        .into_iter()
        .flatten()
        .filter(|(key, value)| has(key) != Some(*value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !missing.is_empty() {
        api.merge(path, &json!({"metadata": {"labels": missing}})).await?;
    }
    Ok(())
}

/// Whether the control plane took the node for lost: only the node itself can say that it is ready again.
fn is_contradicted(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let text = |name: &str| condition.get(name).and_then(Value::as_str);
        text("type") == Some("Ready") && text("status") != Some("True")
    })
}

/// Follows the node object for its podCIDR, and for what others say of its readiness.
pub(crate) async fn follow(board: Rc<dyn Board>, api: Api) {
    let selector = watch::field_selector("metadata.name", &board.member().name);
    watch::follow(&api, "/api/v1/nodes", &selector, async |seen| {
        let object = match seen {
            Seen::Listed(mut items) => items.pop(),
            Seen::Changed(object) => Some(object),
            Seen::Gone(_) => None,
        };
        if object.as_ref().is_some_and(is_contradicted) {
            board.member().contradicted.set(true);
        }
        let cidr =
            object.as_ref().and_then(|node| node.pointer("/spec/podCIDR")).and_then(Value::as_str);
        if let Some(cidr) = cidr {
            Rc::clone(&board).range_learned(cidr.to_owned()).await;
        }
    })
    .await;
}

/// Renews the Lease for ever.
pub(crate) async fn keep_lease(board: Rc<dyn Board>, api: Api) {
    let name = &board.member().name;
    let collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let path = format!("{collection}/{name}");
    loop {
        api.connected().await;
        let micro = coracle_api::time::rfc3339_micro(clock::wall_ms().saturating_mul(1000));
        let spec = json!({
            "holderIdentity": name,
            "leaseDurationSeconds": limits::LEASE_SECONDS,
            "renewTime": micro,
        });
        let renewed = match api.merge(&path, &json!({ "spec": spec })).await {
            Err(error) if error.is_not_found() => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": name, "namespace": "kube-node-lease"},
                    "spec": spec,
                });
                api.post(collection, &lease).await
            }
            other => other,
        };
        match renewed {
            Ok(_) => sleep(limits::LEASE_EVERY).await,
            Err(error) => {
                warning!("cannot renew the node's lease at {}: {error}", rfc3339(clock::wall_s()));
                sleep(jitter(Duration::from_secs(2))).await;
            }
        }
    }
}

impl Shell {
    /// What the machine is like now.
    pub(crate) async fn facts(&self, peer: Option<std::net::SocketAddr>) -> node::NodeFacts {
        let (name, dir) = (self.member.name.clone(), self.state.root().to_owned());
        let lacking = self.lacking.clone();
        let facts = self.blocking(move || machine_facts::read(&name, &dir, peer, &lacking)).await;
        self.member.agent.borrow_mut().set_host_ips(facts.ips.clone());
        self.member.machine.replace(facts.clone());
        coracle_runtime::linux::heap::give_back();
        facts
    }
}
