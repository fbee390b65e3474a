//! The scheduler: watches pods without a node, mirrors nodes into `sched-core`, assumes, binds, forgets on refusal.
//!
//! A thin mirror: which node it is, `sched_core::Placement` decides. A decision reads memory only. Keeps P1 (a pod that
//! is being bound counts as if it were bound) and P4 (a refusal is told in the pod's condition and in an event, node by
//! node counted). Acts as `system:kube-scheduler` through the front door like everyone.

mod ask;
mod backlog;
mod limits;
mod mirror;
mod refusal;
mod requirement;

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status, time, views::PodView};
use sched_core::PodHandle;
use serde_json::json;

use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
    controllers::{
        About, Ask, CallAction, Controller, ControllerCall, Note, Recorder, Same, Tone, about,
    },
    scheduler::{
        backlog::Backlog,
        limits::{BINDINGS_UNDER_WAY_MAX, DECISIONS_PER_STEP_MAX},
        mirror::Mirror,
    },
};

/// Who it acts as.
const USER: &str = "system:kube-scheduler";
/// The scheduler that a pod gets if it names none.
pub const NAME: &str = "default-scheduler";

/// What a call under way is for.
#[derive(Debug)]
enum Call {
    Bind { uid: String, handle: PodHandle, node: String },
    Condition,
    Event(Same),
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    mirror: Mirror,
    backlog: Backlog,
    under_way: BTreeMap<u64, Call>,
    bindings: usize,
    next_id: u64,
    recorder: Recorder,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            mirror: Mirror::default(),
            backlog: Backlog::default(),
            under_way: BTreeMap::new(),
            bindings: 0,
            next_id: 0,
            recorder: Recorder::new(NAME),
        }
    }
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn changed(&mut self, _now: Millis, change: &Change) {
        if change.resource == Resource::NODES {
            if self.mirror.node_changed(change) {
                self.backlog.room_changed();
            }
        } else if change.resource == Resource::PODS {
            self.pod_changed(change);
        }
    }

    fn step(&mut self, now: Millis, cache: &Cache, _rng: &mut Rng, out: &mut Vec<ControllerCall>) {
        for _ in 0..DECISIONS_PER_STEP_MAX {
            if BINDINGS_UNDER_WAY_MAX <= self.bindings {
                break;
            }
            let Some(uid) = self.backlog.next(now) else { break };
            self.decide(now, cache, &uid, out);
        }
        while let Some((same, ask)) = self.recorder.next() {
            let id = self.number(Call::Event(same));
            let Ask { action, resource, namespace, name, subresource, .. } = ask;
            out.push(ControllerCall {
                id,
                user: USER,
                action,
                resource,
                namespace,
                name,
                subresource,
            });
        }
    }

    fn done(&mut self, now: Millis, call: &ControllerCall, result: Result<&Arc<Object>, &Status>) {
        match self.under_way.remove(&call.id) {
            Some(Call::Bind { uid, handle, node }) => {
                self.bindings = self.bindings.saturating_sub(1);
                self.bound(now, call, &uid, handle, &node, result.map(|_| ()));
            }
            Some(Call::Event(same)) => self.recorder.done(&same, call, result.map(|_| ())),
            // A condition is told again with the next refusal.
            Some(Call::Condition) | None => {}
        }
    }

    fn next_due(&self) -> Option<Millis> {
        if self.recorder.has_next() {
            return Some(Millis(0));
        }
        if BINDINGS_UNDER_WAY_MAX <= self.bindings { None } else { self.backlog.next_due() }
    }
}

impl Scheduler {
    fn pod_changed(&mut self, change: &Change) {
        let old = change.old.as_ref().map(|old| old.meta.uid.as_str());
        let new = change.new.as_ref().map(|new| new.meta.uid.as_str());
        // A name's new life: the old one is gone.
        if let Some(old) = old.filter(|_| old != new) {
            self.backlog.remove(old);
            if self.mirror.pod_gone(old) {
                self.backlog.room_changed();
            }
        }
        let Some(object) = &change.new else { return };
        let Ok(pod) = object.view::<PodView>() else { return };
        let uid = pod.metadata.uid.as_str();
        let ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
        if ended {
            self.backlog.remove(uid);
            if self.mirror.pod_gone(uid) {
                self.backlog.room_changed();
            }
        } else if !pod.spec.node_name.is_empty() {
            self.backlog.remove(uid);
            self.mirror.pod_bound(&pod);
        } else if is_ours(&pod) && !self.mirror.is_assumed(uid) {
            let priority = pod.spec.priority.unwrap_or(0);
            self.backlog.add(uid, &pod.metadata.namespace, &pod.metadata.name, priority);
        } else if !is_ours(&pod) {
            self.backlog.remove(uid);
        }
    }

    fn decide(&mut self, now: Millis, cache: &Cache, uid: &str, out: &mut Vec<ControllerCall>) {
        let Some((namespace, name)) = self.backlog.name_of(uid) else { return };
        let object = cache.get(Resource::PODS, namespace, name).filter(|pod| pod.meta.uid == uid);
        let Some(object) = object.cloned() else {
            self.backlog.remove(uid);
            return;
        };
        let Ok(pod) = object.view::<PodView>() else {
            self.backlog.remove(uid);
            return;
        };
        if !is_ours(&pod) || !pod.spec.node_name.is_empty() {
            self.backlog.remove(uid);
            return;
        }
        match self.mirror.assume(&pod) {
            Ok((handle, node)) => {
                self.backlog.take(uid);
                self.bindings += 1;
                let id = self.number(Call::Bind { uid: uid.into(), handle, node: node.clone() });
                out.push(bind(id, &pod, &node));
            }
            Err(message) => self.refuse(now, &object, &pod, message, out),
        }
    }

    fn refuse(
        &mut self,
        now: Millis,
        object: &Object,
        pod: &PodView,
        message: String,
        out: &mut Vec<ControllerCall>,
    ) {
        self.backlog.park(now, &pod.metadata.uid);
        let told =
            pod.status.conditions.iter().find(|condition| condition.r#type == "PodScheduled");
        if told.is_none_or(|told| told.status != "False" || told.message != message) {
            let since = told
                .filter(|told| told.status == "False")
                .and_then(|told| told.last_transition_time.clone());
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                "lastTransitionTime": since.unwrap_or_else(|| time::rfc3339(now.0)),
            });
            let id = self.number(Call::Condition);
            out.push(ControllerCall {
                id,
                user: USER,
                action: CallAction::Patch(PatchType::Strategic, json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}})),
                resource: Resource::PODS,
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                subresource: "status",
            });
        }
        self.recorder.tell(
            now,
            Note { about: about(object), tone: Tone::Warning, reason: "FailedScheduling", message },
        );
    }

    fn bound(
        &mut self,
        now: Millis,
        call: &ControllerCall,
        uid: &str,
        handle: PodHandle,
        node: &str,
        result: Result<(), &Status>,
    ) {
        match result {
            Ok(()) => {
                self.mirror.confirm(uid, handle);
                self.backlog.remove(uid);
                let message =
                    format!("Successfully assigned {}/{} to {node}", call.namespace, call.name);
                let about = About::pod(&call.namespace, &call.name, uid);
                self.recorder
                    .tell(now, Note { about, tone: Tone::Normal, reason: "Scheduled", message });
            }
            Err(status) => {
                self.mirror.forget(uid, handle);
                self.backlog.room_changed();
                // Gone, or bound by somebody else: the watch tells, or has told.
                if status.reason == "NotFound"
                    || status.reason == "Conflict" && status.message.contains("already assigned")
                {
                    self.backlog.remove(uid);
                } else {
                    self.backlog.park(now, uid);
                    let about = About::pod(&call.namespace, &call.name, uid);
                    let message = format!("binding rejected: {}", status.message);
                    self.recorder.tell(
                        now,
                        Note { about, tone: Tone::Warning, reason: "FailedScheduling", message },
                    );
                }
            }
        }
    }

    fn number(&mut self, call: Call) -> u64 {
        self.next_id += 1;
        self.under_way.insert(self.next_id, call);
        self.next_id
    }
}

/// Pending, alive, and meant for this scheduler.
fn is_ours(pod: &PodView) -> bool {
    let named = pod.spec.scheduler_name.is_empty() || pod.spec.scheduler_name == NAME;
    named && pod.metadata.deletion_timestamp.is_none() && pod.spec.scheduling_gates.is_empty()
}

fn bind(id: u64, pod: &PodView, node: &str) -> ControllerCall {
    let meta = &pod.metadata;
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    ControllerCall {
        id,
        user: USER,
        action: CallAction::Create(binding),
        resource: Resource::PODS,
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        subresource: "binding",
    }
}

#[cfg(test)]
mod tests;
