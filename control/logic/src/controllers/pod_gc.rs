//! Pods that nobody else takes away: of nodes that are gone, finished ones beyond a number, and those that were deleted
//! before they had a node.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};

use coracle_api::{
    Object, Resource, time,
    views::{NodeView, PodView},
};
use serde_json::{Value, json};

use super::{
    CallAction,
    ask::{Ask, Plan},
    limits::{FINISHED_PODS_MAX, NODE_MISSING_MS, POD_GC_DELAY_MS},
    queue::Queue,
    work::Reconcile,
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
};

/// The pod garbage collector.
#[derive(Debug, Default)]
pub(crate) struct PodGc {
    /// Nodes that pods are bound to and that are not there, and since when.
    missing: BTreeMap<String, Millis>,
}

impl Reconcile for PodGc {
    type Key = ();
    const NAME: &'static str = "pod-gc";
    const USER: &'static str = "system:serviceaccount:kube-system:pod-garbage-collector";
    const COMPONENT: &'static str = "pod-garbage-collector";

    fn changed(&mut self, now: Millis, change: &Change, queue: &mut Queue<()>) {
        let pods = change.resource == Resource::PODS && change.new.is_some();
        let nodes = change.resource == Resource::NODES;
        if pods || nodes {
            queue.add_at((), Millis(now.0 + POD_GC_DELAY_MS));
        }
    }

    fn look(&mut self, now: Millis, (): &(), cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let nodes: BTreeMap<&str, &Arc<Object>> =
            cache.list(Resource::NODES, None).map(|node| (node.meta.name.as_str(), node)).collect();
        let mut missing = BTreeSet::new();
        let mut finished = Vec::new();
        for pod in cache.list(Resource::PODS, None) {
            let Ok(view) = pod.view::<PodView>() else { continue };
            let node = view.spec.node_name.as_str();
            let ending = view.metadata.deletion_timestamp.is_some();
            if node.is_empty() && ending {
                plan.call(delete(pod));
            } else if !node.is_empty() && !nodes.contains_key(node) {
                let since = *self.missing.entry(node.into()).or_insert(now);
                missing.insert(String::from(node));
                let due = Millis(since.0 + NODE_MISSING_MS);
                if due > now {
                    plan.wake(due);
                } else {
                    collect(now, pod, &view, plan);
                }
            } else if ending && nodes.get(node).is_some_and(|node| is_out_of_service(node)) {
                collect(now, pod, &view, plan);
            } else if view.is_finished() {
                finished.push((
                    view.status.reason != "Evicted",
                    view.metadata.creation_timestamp,
                    pod,
                ));
            }
        }
        self.missing.retain(|node, _| missing.contains(node));
        let too_many = finished.len().saturating_sub(FINISHED_PODS_MAX);
        finished.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (_, _, pod) in finished.into_iter().take(too_many) {
            plan.call(delete(pod));
        }
    }
}

/// Says in the pod's status what happens to it; deletes it when that is said.
fn collect(now: Millis, pod: &Object, view: &PodView, plan: &mut Plan) {
    if view.is_finished() {
        return plan.call(delete(pod));
    }
    let mut conditions =
        pod.value().pointer_mut("/status/conditions").map(Value::take).unwrap_or(Value::Null);
    if !conditions.is_array() {
        conditions = json!([]);
    }
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| condition.get("type") != Some(&json!("DisruptionTarget")));
        conditions.push(json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": time::rfc3339(now.0),
        }));
    }
    let patch = json!({
        "metadata": {"uid": pod.meta.uid, "resourceVersion": pod.resource_version()},
        "status": {"phase": "Failed", "conditions": conditions},
    });
    plan.call(Ask::patch(pod, PatchType::Merge, patch).on("status"));
    plan.again = true;
}

/// At once: there is no node that could do it gracefully.
fn delete(pod: &Object) -> Ask {
    let mut ask = Ask::delete(pod);
    if let CallAction::Delete { grace_seconds, .. } = &mut ask.action {
        *grace_seconds = Some(0);
    }
    ask
}

/// Its operator says that the node is off: pods on their way out can go.
fn is_out_of_service(node: &Object) -> bool {
    let Ok(view) = node.view::<NodeView>() else { return false };
    let ready = view.status.condition("Ready").is_some_and(|ready| ready.status == "True");
    let mut taints = view.spec.taints.iter();
    !ready && taints.any(|taint| taint.key == "node.kubernetes.io/out-of-service")
}
