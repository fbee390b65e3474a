//! ReplicaSets: as many pods as wanted, of this template, and a status that says what there is.

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};

use coracle_api::{
    Object, Resource, Status,
    selector::LabelSelector,
    time,
    views::{PodView, ReplicaSetCondition, ReplicaSetStatus, ReplicaSetView},
};
use serde_json::{Value, json};

use super::{
    CallAction, ControllerCall,
    ask::{Ask, Name, Note, Plan},
    limits::CALLS_PER_LOOK_MAX,
    owned::{self, Claim},
    pods::{self, Availability},
    queue::Queue,
    work::{self, Known, Reconcile},
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

mod victims;

#[cfg(test)]
mod tests;

/// The ReplicaSet controller.
#[derive(Debug, Default)]
pub(crate) struct ReplicaSets {
    known: Known,
    memory: BTreeMap<Name, Memory>,
    /// What was read of the pods of each, so that one pod's change does not cost the decoding of all.
    read: BTreeMap<Name, Read>,
}

/// By a pod's name: the version that was read, and what it said.
type Read = BTreeMap<String, (u64, Facts)>;

/// All that counting needs of a pod and its metadata do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    is_finished: bool,
    ready_since: Option<Millis>,
}

/// A pod of the ReplicaSet.
#[derive(Clone, Copy, Debug)]
struct Mine<'a> {
    pod: &'a Arc<Object>,
    facts: Facts,
}

impl Mine<'_> {
    fn is_active(&self) -> bool {
        !self.facts.is_finished && self.pod.meta.deletion_timestamp.is_none()
    }

    fn is_terminating(&self) -> bool {
        !self.facts.is_finished && self.pod.meta.deletion_timestamp.is_some()
    }
}

/// What is remembered of one ReplicaSet between looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Pods to create at once; doubles while all goes well, so that a template that is refused is refused once, not a
    /// hundred times. 0: not begun, which means 1.
    batch: usize,
    /// Why the last creating or deleting failed; told in the status at the next look.
    failure: Option<Failure>,
}

/// Why pods could not be made or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `FailedCreate`, `FailedDelete`.
    pub(crate) reason: &'static str,
    /// The answer's message.
    pub(crate) message: String,
}

impl Reconcile for ReplicaSets {
    type Key = Name;
    const NAME: &'static str = "replicaset";
    const USER: &'static str = "system:serviceaccount:kube-system:replicaset-controller";
    const COMPONENT: &'static str = "replicaset-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<Name>) {
        if change.resource == Resource::REPLICA_SETS {
            self.known.follow(change);
            for object in change.old.iter().chain(&change.new) {
                queue.add(Name::of(&object.meta));
            }
        } else if change.resource == Resource::PODS {
            for object in change.old.iter().chain(&change.new) {
                if let Some(owner) = object.meta.controller().filter(|o| o.kind == "ReplicaSet") {
                    queue.add(Name::new(&object.meta.namespace, &owner.name));
                }
            }
            if let Some(namespace) = owned::newly_adoptable(change) {
                self.known.in_namespace(namespace).for_each(|name| queue.add(name));
            }
        }
    }

    fn look(&mut self, now: Millis, key: &Name, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let object = cache.get(Resource::REPLICA_SETS, &key.namespace, &key.name);
        let Some((object, view)) = object.and_then(|object| Some((object, object.view().ok()?)))
        else {
            self.memory.remove(key);
            self.read.remove(key);
            return;
        };
        let all = cache.list(Resource::PODS, Some(&key.namespace));
        let read = self.read.entry(key.clone()).or_default();
        let Some(mine) = gather(object, &view, all, read, plan) else { return };
        let memory = self.memory.entry(key.clone()).or_default();
        let related = || related_pods(object, cache);
        decide(now, object, &view, &mine, related, memory, plan);
        if *memory == Memory::default() {
            self.memory.remove(key);
        }
    }

    fn answered(
        &mut self,
        _now: Millis,
        key: &Name,
        call: &ControllerCall,
        result: Result<&Arc<Object>, &Status>,
    ) -> bool {
        match (&call.action, result) {
            (_, Ok(_)) => true,
            (CallAction::Create(_), Err(status)) if work::is_namespace_ending(status) => true,
            (CallAction::Create(_), Err(status)) => self.fail(key, "FailedCreate", status),
            (CallAction::Delete { .. }, Err(_)) if work::is_gone_already(call, result) => true,
            (CallAction::Delete { .. }, Err(status)) => self.fail(key, "FailedDelete", status),
            (CallAction::Update(_) | CallAction::Patch(..), Err(_)) => false,
        }
    }
}

impl ReplicaSets {
    fn fail(&mut self, key: &Name, reason: &'static str, status: &Status) -> bool {
        let memory = self.memory.entry(key.clone()).or_default();
        memory.batch = 0;
        memory.failure = Some(Failure { reason, message: status.message.clone() });
        false
    }
}

/// The pods that are this ReplicaSet's. `None`: some have to be adopted or let go first, which the plan asks for. `read`
/// is what the last look read, and then what this one did.
fn gather<'a>(
    object: &Object,
    view: &ReplicaSetView,
    all: impl Iterator<Item = &'a Arc<Object>>,
    read: &mut Read,
    plan: &mut Plan,
) -> Option<Vec<Mine<'a>>> {
    let selector =
        LabelSelector::from_view(&view.spec.selector).unwrap_or(LabelSelector::nothing());
    let mut mine = Vec::new();
    for pod in all {
        let claim = owned::claim(&object.meta, &selector, &pod.meta);
        if claim == Claim::Foreign {
            continue;
        }
        let known = read.get(&pod.meta.name).filter(|(revision, _)| *revision == pod.revision);
        let facts = match known {
            Some((_, facts)) => *facts,
            None => {
                let Ok(view) = pod.view::<PodView>() else { continue };
                Facts { is_finished: view.is_finished(), ready_since: pods::ready_since(&view) }
            }
        };
        let one = Mine { pod, facts };
        match claim {
            Claim::Ours => mine.push(one),
            Claim::Adopt if one.is_active() => plan.call(owned::adopt(object, pod)),
            Claim::Release if one.is_active() => plan.call(owned::release(object, pod)),
            Claim::Adopt | Claim::Release | Claim::Foreign => {}
        }
    }
    let now_read =
        mine.iter().map(|one| (one.pod.meta.name.clone(), (one.pod.revision, one.facts)));
    *read = now_read.collect();
    plan.again = !plan.calls.is_empty();
    (!plan.again).then_some(mine)
}

/// Active pods of all ReplicaSets with the same controller as this one (its own among them).
fn related_pods(object: &Object, cache: &Cache) -> Vec<PodView> {
    let namespace = Some(object.meta.namespace.as_str());
    let sets = cache.list(Resource::REPLICA_SETS, namespace).filter(|set| {
        match (object.meta.controller(), set.meta.controller()) {
            (Some(ours), Some(theirs)) => ours.uid == theirs.uid,
            _ => set.meta.uid == object.meta.uid,
        }
    });
    let uids: Vec<&str> = sets.map(|set| set.meta.uid.as_str()).collect();
    cache
        .list(Resource::PODS, namespace)
        .filter(|pod| pod.meta.controller().is_some_and(|owner| uids.contains(&owner.uid.as_str())))
        .filter_map(|pod| pod.view().ok())
        .collect()
}

/// What to do for one ReplicaSet whose pods are `mine`. A pod made or removed brings the next look by its change. `related` gives the pods of its siblings, if they are needed.
fn decide(
    now: Millis,
    object: &Object,
    view: &ReplicaSetView,
    mine: &[Mine<'_>],
    related: impl FnOnce() -> Vec<PodView>,
    memory: &mut Memory,
    plan: &mut Plan,
) {
    let active: Vec<&Mine<'_>> = mine.iter().filter(|one| one.is_active()).collect();
    let wanted = usize::try_from(view.spec.replicas.unwrap_or(1)).unwrap_or(0);
    let failure = memory.failure.take();
    if failure.is_some() {
        // Only tell it now; the back-off brings the next try.
        plan.failed = true;
    } else if view.metadata.deletion_timestamp.is_none() && active.len() < wanted {
        memory.batch = (memory.batch * 2).clamp(1, CALLS_PER_LOOK_MAX);
        for _ in 0..memory.batch.min(wanted - active.len()) {
            plan.call(create_pod(object, view));
        }
        return;
    } else if view.metadata.deletion_timestamp.is_none() && active.len() > wanted {
        let related = related();
        let views: Vec<PodView> = active.iter().filter_map(|one| one.pod.view().ok()).collect();
        let by_name: BTreeMap<&str, &Arc<Object>> =
            active.iter().map(|one| (one.pod.meta.name.as_str(), one.pod)).collect();
        let order = victims::ranked(now, &views, &related);
        for victim in order.into_iter().take(active.len() - wanted) {
            if let Some(pod) = by_name.get(victim.metadata.name.as_str()) {
                plan.call(delete_pod(object, pod));
            }
        }
        return;
    }
    memory.batch = 0;
    let status = status(now, view, mine, failure.as_ref(), plan);
    if status != view.status {
        plan.call(Ask::update(object, with_status(object.value(), &status)).on("status"));
    }
}

/// The object with another status.
fn with_status(mut value: Value, status: &ReplicaSetStatus) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("status".into(), json!(status));
    }
    value
}

fn create_pod(object: &Object, view: &ReplicaSetView) -> Ask {
    let template = &view.spec.template;
    let mut metadata = json!({
        "generateName": format!("{}-", object.meta.name),
        "namespace": object.meta.namespace,
        "ownerReferences": [owned::controller_reference(object)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        let value = template.get("metadata").and_then(|metadata| metadata.get(field));
        if let (Some(value), Some(metadata)) = (value, metadata.as_object_mut()) {
            metadata.insert(field.into(), value.clone());
        }
    }
    let spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    Ask::create(Resource::PODS, &object.meta.namespace, pod)
        .then(Note::normal(object, "SuccessfulCreate", "Created pod: {name}".into()))
        .otherwise(Note::warning(object, "FailedCreate", "Error creating: {error}".into()))
}

fn delete_pod(object: &Object, pod: &Object) -> Ask {
    let name = &pod.meta.name;
    Ask::delete(pod)
        .then(Note::normal(object, "SuccessfulDelete", format!("Deleted pod: {name}")))
        .otherwise(Note::warning(object, "FailedDelete", "Error deleting: {error}".into()))
}

/// What the status should say.
fn status(
    now: Millis,
    view: &ReplicaSetView,
    mine: &[Mine<'_>],
    failure: Option<&Failure>,
    plan: &mut Plan,
) -> ReplicaSetStatus {
    let template_labels = view.spec.template.pointer("/metadata/labels").and_then(Value::as_object);
    let fully_labeled = |pod: &Object| {
        template_labels
            .into_iter()
            .flatten()
            .all(|(key, value)| pod.meta.labels.get(key).map(String::as_str) == value.as_str())
    };
    let mut status = ReplicaSetStatus {
        observed_generation: view.metadata.generation,
        terminating_replicas: Some(count(mine.iter().filter(|one| one.is_terminating()))),
        conditions: view.status.conditions.clone(),
        ..ReplicaSetStatus::default()
    };
    for one in mine.iter().filter(|one| one.is_active()) {
        status.replicas += 1;
        status.fully_labeled_replicas += i32::from(fully_labeled(one.pod));
        status.ready_replicas += i32::from(one.facts.ready_since.is_some());
        match pods::availability(one.facts.ready_since, view.spec.min_ready_seconds, now) {
            Availability::Now => status.available_replicas += 1,
            Availability::At(at) => plan.wake(at),
            Availability::No => {}
        }
    }
    let told = status.conditions.iter().any(|condition| condition.r#type == "ReplicaFailure");
    match failure {
        Some(Failure { reason, message }) if !told => status.conditions.push(ReplicaSetCondition {
            r#type: "ReplicaFailure".into(),
            status: "True".into(),
            last_transition_time: Some(time::rfc3339(now.0)),
            reason: (*reason).into(),
            message: message.clone(),
        }),
        Some(_) => {}
        None => status.conditions.retain(|condition| condition.r#type != "ReplicaFailure"),
    }
    status
}

fn count<T>(of: impl Iterator<Item = T>) -> i32 {
    i32::try_from(of.count()).unwrap_or(i32::MAX)
}
