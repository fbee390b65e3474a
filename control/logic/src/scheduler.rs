//! The scheduler: watches pods without a node, mirrors the cluster into `sched-core`, assumes, binds, forgets on refusal,
//! and makes pods of lower priority leave where that helps.
//!
//! A thin mirror: which node it is, `sched_core::Placement` decides. A decision reads memory only. Keeps P1 (a pod that
//! is being bound counts as if it were bound) and P4 (a refusal is told in the pod's condition and in an event, node by
//! node counted). Acts as `system:kube-scheduler` through the front door like everyone.

mod amounts;
mod backlog;
mod calls;
mod interned;
mod limits;
mod mirror;
pub mod plan;
mod ports;
mod refusal;
mod requirement;
mod term;
mod topology;

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};

use coracle_api::{
    Object, Resource, Status,
    views::{NodeView, PodView},
};
use sched_core::Profile;

use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    canary::{Canary, Switch},
    controllers::{About, Ask, Controller, ControllerCall, Note, Recorder, Same, Tone, about},
    scheduler::{
        backlog::Backlog,
        limits::{BINDINGS_UNDER_WAY_MAX, DECISIONS_PER_STEP_MAX},
        mirror::{Decision, Mirror, Stage, Victim},
    },
};

/// Who it acts as.
const USER: &str = "system:kube-scheduler";
/// The scheduler that a pod gets if it names none.
pub const NAME: &str = "default-scheduler";

/// How nodes are chosen among those that can take a pod.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum PlacementProfile {
    /// The fullest node: fewest nodes in use.
    #[default]
    Pack,
    /// The emptiest node.
    Spread,
    /// The node on which least of what is free becomes useless for the pods seen so far.
    Gradient,
}

impl PlacementProfile {
    fn weights(self) -> Profile {
        match self {
            Self::Pack => Profile::PACK,
            Self::Spread => Profile::SPREAD,
            Self::Gradient => Profile::GRADIENT,
        }
    }
}

/// What a call under way is for.
#[derive(Debug)]
enum Call {
    Bind { uid: String, node: String },
    Evict { victim: String },
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
    canary: Switch,
}

impl Scheduler {
    /// Without nodes and pods.
    pub fn new(placement: PlacementProfile) -> Self {
        Self {
            canary: Switch::default(),
            mirror: Mirror::new(placement.weights()),
            backlog: Backlog::default(),
            under_way: BTreeMap::new(),
            bindings: 0,
            next_id: 0,
            recorder: Recorder::new(NAME),
        }
    }

    /// The same, doing something wrong on purpose.
    #[must_use]
    pub fn with_canary(self, canary: Switch) -> Self {
        Self { canary, ..self }
    }
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn changed(&mut self, _now: Millis, change: &Change) {
        let any = if change.resource == Resource::NODES {
            self.node_changed(change)
        } else if change.resource == Resource::NAMESPACES {
            self.namespace_changed(change)
        } else if change.resource == Resource::PODS {
            self.pod_changed(change)
        } else {
            false
        };
        if any {
            self.backlog.room_changed();
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
            Some(Call::Bind { uid, node }) => {
                self.bindings = self.bindings.saturating_sub(1);
                self.bound(now, call, &uid, &node, result.map(|_| ()));
            }
            Some(Call::Event(same)) => self.recorder.done(&same, call, result.map(|_| ())),
            // Gone already: the watch tells, or has told.
            Some(Call::Evict { victim }) => {
                if result.is_err_and(|status| status.reason != "NotFound") {
                    self.mirror.stay(&victim);
                    self.backlog.room_changed();
                }
            }
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
    fn node_changed(&mut self, change: &Change) -> bool {
        match (&change.old, &change.new) {
            (_, Some(object)) => {
                object.view::<NodeView>().is_ok_and(|view| self.mirror.node_changed(&view))
            }
            (Some(old), None) => {
                self.mirror.node_gone(&old.meta.name);
                // Whoever it was kept for looks elsewhere.
                true
            }
            (None, None) => false,
        }
    }

    fn namespace_changed(&mut self, change: &Change) -> bool {
        let Some(subject) = change.subject() else { return false };
        let labels = change.new.as_ref().map(|new| &new.meta.labels);
        self.mirror.namespace_changed(&subject.meta.name, labels)
    }

    /// Gives whether other pods may fit now that did not before.
    fn pod_changed(&mut self, change: &Change) -> bool {
        let old = change.old.as_ref().map(|old| old.meta.uid.as_str());
        let new = change.new.as_ref().map(|new| new.meta.uid.as_str());
        let mut any = false;
        // A name's new life: the old one is gone.
        if let Some(old) = old.filter(|_| old != new) {
            self.backlog.remove(old);
            any = self.mirror.pod_gone(old);
        }
        let Some(object) = &change.new else { return any };
        let Ok(pod) = object.view::<PodView>() else { return any };
        let uid = pod.metadata.uid.as_str();
        if pod.is_finished() {
            self.backlog.remove(uid);
            any |= self.mirror.pod_gone(uid);
        } else if !pod.spec.node_name.is_empty() {
            self.backlog.remove(uid);
            any |= self.mirror.pod_bound(&pod);
        } else if is_ours(&pod) && self.mirror.stage(uid) != Some(Stage::Assumed) {
            let priority = pod.spec.priority.unwrap_or(0);
            self.backlog.add(uid, &pod.metadata.namespace, &pod.metadata.name, priority);
        } else if !is_ours(&pod) {
            self.backlog.remove(uid);
            // No node needs to be kept for it.
            if self.mirror.stage(uid) == Some(Stage::Nominated) {
                any |= self.mirror.pod_gone(uid);
            }
        }
        any
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
        let had_node = self.mirror.stage(uid).is_some();
        match self.mirror.decide(&pod) {
            Decision::Assumed { node } => {
                self.backlog.take(uid);
                self.bindings += 1;
                let id = self.number(Call::Bind { uid: uid.into(), node: node.clone() });
                out.push(calls::bind(id, &pod, &node));
                if self.canary.sings(Canary::BindsUnassumed) {
                    self.mirror.forget(uid);
                }
                // Others may have waited to be near to it, or for the node that was kept for it.
                if had_node || self.mirror.is_selected(uid) {
                    self.backlog.room_changed();
                }
            }
            Decision::Nominated { node, victims, displaced, text } => {
                self.backlog.park(now, uid);
                if victims.is_empty() {
                    // Nobody's end will tell that the time has come.
                    self.backlog.room_changed();
                }
                for victim in &victims {
                    self.evict(now, &pod, victim, &node, out);
                }
                for victim in displaced {
                    let id = self.number(Call::Condition);
                    out.push(calls::keep_no_node(id, &victim));
                }
                self.refuse(now, &object, &pod, text, &node, out);
            }
            Decision::Refused { text } => {
                self.backlog.park(now, uid);
                let kept = self.mirror.stage(uid) == Some(Stage::Nominated);
                let node = self.mirror.node_of(uid).filter(|_| kept);
                let node: String = node.unwrap_or_default().into();
                self.refuse(now, &object, &pod, text, &node, out);
            }
        }
    }

    /// Makes a pod leave for another.
    fn evict(
        &mut self,
        now: Millis,
        pod: &PodView,
        victim: &Victim,
        node: &str,
        out: &mut Vec<ControllerCall>,
    ) {
        let id = self.number(Call::Condition);
        out.push(calls::disrupt(id, victim, now));
        let id = self.number(Call::Evict { victim: victim.uid.clone() });
        out.push(calls::delete(id, victim));
        let about = About::pod(&victim.namespace, &victim.name, &victim.uid);
        let message = format!("Preempted by pod {} on node {node}", pod.metadata.uid);
        self.recorder.tell(now, Note { about, tone: Tone::Normal, reason: "Preempted", message });
    }

    /// Tells that a pod has no place, and which node is kept for it.
    fn refuse(
        &mut self,
        now: Millis,
        object: &Object,
        pod: &PodView,
        message: String,
        kept: &str,
        out: &mut Vec<ControllerCall>,
    ) {
        let told = pod.status.condition("PodScheduled");
        let is_told = told.is_some_and(|told| told.status == "False" && told.message == message);
        if !is_told || pod.status.nominated_node_name != kept {
            let id = self.number(Call::Condition);
            out.push(calls::unschedulable(id, pod, &message, kept, now));
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
        node: &str,
        result: Result<(), &Status>,
    ) {
        let about = About::pod(&call.namespace, &call.name, uid);
        let Err(status) = result else {
            self.mirror.confirm(uid);
            self.backlog.remove(uid);
            let message =
                format!("Successfully assigned {}/{} to {node}", call.namespace, call.name);
            let note = Note { about, tone: Tone::Normal, reason: "Scheduled", message };
            return self.recorder.tell(now, note);
        };
        self.mirror.forget(uid);
        self.backlog.room_changed();
        // Gone, or bound by somebody else: the watch tells, or has told.
        if status.reason == "NotFound"
            || status.reason == "Conflict" && status.message.contains("already assigned")
        {
            return self.backlog.remove(uid);
        }
        self.backlog.park(now, uid);
        let message = format!("binding rejected: {}", status.message);
        let note = Note { about, tone: Tone::Warning, reason: "FailedScheduling", message };
        self.recorder.tell(now, note);
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

#[cfg(test)]
mod tests;
