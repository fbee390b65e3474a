//! Which nodes are alive. A node that renews no lease and posts no status for the grace period is unknown: its
//! conditions and its pods' readiness say so, and taints keep pods away and drive them off. After a restart, and after
//! a time in which nobody looked, every node gets a fresh grace period.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{
    Object, Resource, time,
    views::{LeaseView, NodeView, PodView},
};
use serde_json::{Value, json};

use super::{COMPONENT, USER, taints};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
    controllers::{
        ask::{Ask, Note, Plan},
        limits::{
            NODE_EVICTION_INTERVAL_MS, NODE_GRACE_MS, NODE_LOOK_EVERY_MS, NODE_LOOK_LATE_MS,
            NODE_SILENT_MS, NODE_STARTUP_GRACE_MS,
        },
        queue::Queue,
        work::Reconcile,
    },
};

/// Namespace of the nodes' leases.
const LEASES_NAMESPACE: &str = "kube-node-lease";
/// Conditions that only the node itself can know.
const CONDITIONS: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// In small clusters no further node loses its pods while that share (in percent) of more than two is not ready…
const UNHEALTHY_PERCENT: usize = 55;
/// … and this is how many nodes make it a small one.
const SMALL_CLUSTER_NODES: usize = 50;

/// The node lifecycle controller.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    nodes: BTreeMap<String, Life>,
    /// Before then no further node loses its pods.
    next_eviction: Millis,
    /// No node was ready at the last look.
    all_down: bool,
}

/// When a node was last heard of.
#[derive(Debug)]
struct Life {
    heard: Millis,
    /// `renewTime` of its lease.
    renewed: Option<String>,
    /// `lastHeartbeatTime` of its Ready condition, and its status.
    ready: Option<(Option<String>, String)>,
}

impl Reconcile for Lifecycle {
    /// Name of a node.
    type Key = String;
    const NAME: &'static str = "node-lifecycle";
    const USER: &'static str = USER;
    const COMPONENT: &'static str = COMPONENT;

    fn changed(&mut self, now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource == Resource::NODES {
            match (&change.new, &change.old) {
                (Some(new), _) => self.node_changed(now, new, queue),
                (None, Some(old)) => {
                    self.nodes.remove(&old.meta.name);
                    queue.extend(self.nodes.keys().cloned());
                }
                (None, None) => {}
            }
        } else if change.resource == Resource::LEASES
            && let Some(new) = &change.new
            && new.meta.namespace == LEASES_NAMESPACE
            && let Ok(lease) = new.view::<LeaseView>()
        {
            let life = self.life(now, &new.meta.name);
            if life.renewed != lease.spec.renew_time {
                life.renewed = lease.spec.renew_time;
                let was_silent = now.0.saturating_sub(life.heard.0) >= NODE_SILENT_MS;
                life.heard = now;
                if was_silent {
                    // What the others may lose depends on how many are well.
                    queue.extend(self.nodes.keys().cloned());
                }
            }
        }
    }

    fn look(&mut self, now: Millis, key: &String, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let Some(object) = cache.get(Resource::NODES, "", key) else { return };
        let Ok(node) = object.view::<NodeView>() else { return };
        if self.is_lost(now, object, &node, plan) {
            let was_ready = taints::ready_status(&node) == "True";
            let mut ask = Ask::update(object, unknown(now, object, &node)).on("status");
            if was_ready {
                let message = format!("Node {key} status is now: NodeNotReady");
                ask = ask.then(Note::normal(object, "NodeNotReady", message));
            }
            return plan.call(ask);
        }
        let ready = taints::ready_status(&node) == "True";
        if !ready && node.status.condition("Ready").is_some() {
            unready_pods(now, key, cache, plan);
        }
        let evict = self.eviction_taint(now, &node, cache, plan);
        let taints = taints::wanted(now, &node, evict);
        if taints != node.spec.taints {
            let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
            let patch = json!({
                "metadata": {"uid": object.meta.uid, "resourceVersion": object.resource_version()},
                "spec": {"taints": taints},
            });
            plan.call(Ask::patch(object, PatchType::Merge, patch));
        }
    }
}

impl Lifecycle {
    fn life(&mut self, now: Millis, node: &str) -> &mut Life {
        self.nodes.entry(node.into()).or_insert(Life { heard: now, renewed: None, ready: None })
    }

    fn node_changed(&mut self, now: Millis, new: &Arc<Object>, queue: &mut Queue<String>) {
        let Ok(node) = new.view::<NodeView>() else { return };
        let ready = node.status.condition("Ready");
        let ready = ready.map(|ready| (ready.last_heartbeat_time.clone(), ready.status.clone()));
        let life = self.life(now, &new.meta.name);
        let status = |ready: &Option<(Option<String>, String)>| ready.as_ref().map(|r| r.1.clone());
        let turned = status(&life.ready) != status(&ready);
        // Unknown is what we wrote ourselves, not a sign of life.
        if life.ready != ready && ready.as_ref().is_none_or(|(_, status)| status != "Unknown") {
            life.heard = now;
        }
        life.ready = ready;
        if turned {
            // What the others may lose depends on how many are well.
            queue.extend(self.nodes.keys().cloned());
        }
        queue.add(new.meta.name.clone());
    }

    /// Nothing was heard of it for too long, and its conditions do not say so yet.
    fn is_lost(&mut self, now: Millis, object: &Object, node: &NodeView, plan: &mut Plan) -> bool {
        let told = CONDITIONS.iter().all(|r#type| {
            node.status.condition(r#type).is_some_and(|condition| condition.status == "Unknown")
        });
        if told {
            return false;
        }
        let posted = node.status.condition("Ready").is_some();
        let grace = if posted { NODE_GRACE_MS } else { NODE_STARTUP_GRACE_MS };
        let life = self.life(now, &object.meta.name);
        if now.0 > life.heard.0 + grace + NODE_LOOK_LATE_MS {
            life.heard = now;
        }
        let due = Millis(life.heard.0 + grace);
        if due > now {
            plan.wake(Millis(due.0.next_multiple_of(NODE_LOOK_EVERY_MS)));
        }
        due <= now
    }

    /// Ready, and not suspiciously silent: when all fall silent at once, the first that counts as lost must not lose its
    /// pods only because the others have some seconds left.
    fn is_well(&self, now: Millis, node: &NodeView) -> bool {
        let heard = self.nodes.get(&node.metadata.name).map_or(0, |life| life.heard.0);
        taints::ready_status(node) == "True" && now.0.saturating_sub(heard) < NODE_SILENT_MS
    }

    /// The NoExecute taint that the node shall have now.
    fn eviction_taint(
        &mut self,
        now: Millis,
        node: &NodeView,
        cache: &Cache,
        plan: &mut Plan,
    ) -> Option<&'static str> {
        let views =
            cache.list(Resource::NODES, None).filter_map(|node| node.view::<NodeView>().ok());
        let well: Vec<bool> = views.map(|node| self.is_well(now, &node)).collect();
        let total = well.len();
        let not_ready = well.iter().filter(|well| !**well).count();
        let all_down = not_ready == total;
        if self.all_down && !all_down {
            // More likely we were cut off than they: let them all speak first.
            for life in self.nodes.values_mut() {
                life.heard = now;
            }
        }
        self.all_down = all_down;
        let wanted = match taints::ready_status(node) {
            "True" => return None,
            "False" => taints::NOT_READY,
            _ if node.status.condition("Ready").is_none() => return None,
            _ => taints::UNREACHABLE,
        };
        if all_down {
            return None;
        }
        let has_one = node.spec.taints.iter().any(|taint| {
            taint.effect == taints::NO_EXECUTE
                && (taint.key == taints::NOT_READY || taint.key == taints::UNREACHABLE)
        });
        if has_one {
            return Some(wanted);
        }
        let mostly_down = not_ready > 2 && not_ready * 100 >= total * UNHEALTHY_PERCENT;
        if mostly_down && total <= SMALL_CLUSTER_NODES {
            return None;
        }
        if now < self.next_eviction {
            plan.wake(self.next_eviction);
            return None;
        }
        // Upstream takes a tenth of the pace in large clusters that are mostly down.
        let factor = if mostly_down { 10 } else { 1 };
        self.next_eviction = Millis(now.0 + NODE_EVICTION_INTERVAL_MS * factor);
        Some(wanted)
    }
}

/// The node with all conditions unknown.
fn unknown(now: Millis, object: &Object, node: &NodeView) -> Value {
    let mut value = object.value();
    let Some(conditions) = value.as_object_mut().map(|value| {
        let status = value.entry("status").or_insert_with(|| json!({}));
        status.as_object_mut().map(|status| status.entry("conditions").or_insert_with(|| json!([])))
    }) else {
        return value;
    };
    let Some(conditions) = conditions.and_then(Value::as_array_mut) else { return value };
    let now = time::rfc3339(now.0);
    for r#type in CONDITIONS {
        let current = conditions.iter_mut().find(|c| c.get("type") == Some(&json!(r#type)));
        match current {
            Some(condition) if condition.get("status") == Some(&json!("Unknown")) => {}
            Some(condition) => {
                if let Some(condition) = condition.as_object_mut() {
                    condition.insert("status".into(), "Unknown".into());
                    condition.insert("reason".into(), "NodeStatusUnknown".into());
                    condition
                        .insert("message".into(), "Kubelet stopped posting node status.".into());
                    condition.insert("lastTransitionTime".into(), now.clone().into());
                }
            }
            None => conditions.push(json!({
                "type": r#type,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": node.metadata.creation_timestamp,
                "lastTransitionTime": now,
            })),
        }
    }
    value
}

/// The pods of a node that is not ready are not ready either.
fn unready_pods(now: Millis, node: &str, cache: &Cache, plan: &mut Plan) {
    for pod in cache.pods_on(node) {
        let Ok(view) = pod.view::<PodView>() else { continue };
        if !view.is_ready() || view.is_finished() {
            continue;
        }
        let mut value = pod.value();
        let Some(conditions) = value.pointer_mut("/status/conditions") else { continue };
        for condition in conditions.as_array_mut().into_iter().flatten() {
            if condition.get("type") == Some(&json!("Ready"))
                && let Some(condition) = condition.as_object_mut()
            {
                condition.insert("status".into(), "False".into());
                condition.insert("lastTransitionTime".into(), time::rfc3339(now.0).into());
            }
        }
        let patch = json!({
            "metadata": {"uid": pod.meta.uid, "resourceVersion": pod.resource_version()},
            "status": {"conditions": conditions.take()},
        });
        let note = Note::warning(pod, "NodeNotReady", "Node is not ready".to_string());
        plan.call(Ask::patch(pod, PatchType::Merge, patch).on("status").then(note));
    }
}
