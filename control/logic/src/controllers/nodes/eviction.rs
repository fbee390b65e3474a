//! Taint eviction: pods leave a node whose NoExecute taints they do not tolerate, at once or after
//! `tolerationSeconds`, counted from when this was first seen.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

use coracle_api::{
    Object, Resource, time,
    views::{NodeView, PodView, Taint},
};
use serde_json::{Value, json};

use super::{USER, taints};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
    controllers::{
        ask::{Ask, Note, Plan},
        queue::Queue,
        work::Reconcile,
    },
};

/// The taint eviction controller.
#[derive(Debug, Default)]
pub(crate) struct Eviction {
    /// Nodes with NoExecute taints, with their pods (by uid) and since when those are under them.
    tainted: BTreeMap<String, BTreeMap<String, Millis>>,
}

impl Reconcile for Eviction {
    /// Name of a node.
    type Key = String;
    const NAME: &'static str = "taint-eviction";
    const USER: &'static str = USER;
    const COMPONENT: &'static str = "taint-eviction-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource == Resource::NODES {
            let object = change.new.as_ref().or(change.old.as_ref());
            if let Some(object) = object {
                let tainted = change.new.as_ref().is_some_and(|new| !no_execute(new).is_empty());
                if tainted || self.tainted.contains_key(&object.meta.name) {
                    queue.add(object.meta.name.clone());
                }
            }
        } else if change.resource == Resource::PODS
            && !self.tainted.is_empty()
            && let Some(pod) = &change.new
        {
            let node = &*pod.node;
            if self.tainted.contains_key(node) {
                queue.add(node.into());
            }
        }
    }

    fn look(&mut self, now: Millis, key: &String, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let taints =
            cache.get(Resource::NODES, "", key).map_or(Vec::new(), |node| no_execute(node));
        let before = self.tainted.remove(key).unwrap_or_default();
        let pods = cache.pods_on(key).filter_map(|pod| Some((pod, pod.view::<PodView>().ok()?)));
        if taints.is_empty() {
            for (pod, _) in pods.filter(|(pod, _)| before.contains_key(&pod.meta.uid)) {
                let message =
                    format!("Cancelling deletion of Pod {}/{}", pod.meta.namespace, pod.meta.name);
                plan.notes.push(Note::normal(pod, "TaintManagerEviction", message));
            }
            return;
        }
        let mut waiting = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (pod, view) in pods {
            if view.metadata.deletion_timestamp.is_some() || !seen.insert(pod.meta.uid.clone()) {
                continue;
            }
            let Some(seconds) = taints::tolerated_seconds(&taints, &view.spec.tolerations) else {
                continue;
            };
            let since = before.get(&pod.meta.uid).copied().unwrap_or(now);
            waiting.insert(pod.meta.uid.clone(), since);
            let due = Millis(since.0.saturating_add(seconds.saturating_mul(1000)));
            if due > now {
                plan.wake(due);
            } else {
                evict(now, pod, &view, plan);
            }
        }
        self.tainted.insert(key.clone(), waiting);
    }
}

/// The node's NoExecute taints.
fn no_execute(node: &Object) -> Vec<Taint> {
    let Ok(mut view) = node.view::<NodeView>() else { return Vec::new() };
    view.spec.taints.retain(|taint| taint.effect == taints::NO_EXECUTE);
    view.spec.taints
}

/// Says in the pod's status what happens to it; deletes it when that is said.
fn evict(now: Millis, pod: &Object, view: &PodView, plan: &mut Plan) {
    let target = view.status.condition("DisruptionTarget");
    if view.is_finished() || target.is_some_and(|target| target.status == "True") {
        let name = format!("{}/{}", pod.meta.namespace, pod.meta.name);
        let note =
            Note::normal(pod, "TaintManagerEviction", format!("Marking for deletion Pod {name}"));
        return plan.call(Ask::delete(pod).then(note));
    }
    let mut conditions =
        pod.value().pointer_mut("/status/conditions").map(Value::take).unwrap_or(json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|condition| condition.get("type") != Some(&json!("DisruptionTarget")));
        conditions.push(json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": time::rfc3339(now.0),
        }));
    }
    let patch = json!({
        "metadata": {"uid": pod.meta.uid, "resourceVersion": pod.resource_version()},
        "status": {"conditions": conditions},
    });
    plan.call(Ask::patch(pod, PatchType::Merge, patch).on("status"));
    plan.again = true;
}
