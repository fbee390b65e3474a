//! The decisions of a rollout: a draft of the Deployment and its ReplicaSets as they shall be.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{Object, OwnerReference, Resource, views::DeploymentView};
use serde_json::{Value, json};

use super::{
    Memory, arith,
    conditions::{self, condition},
    set::{self, REVISION, ROLLBACK_TO, Set},
    template,
};
use crate::{
    Millis,
    controllers::{
        ask::{Ask, Note, Plan},
        owned,
    },
};

/// Longest name of an object.
const NAME_BYTES_MAX: usize = 253;

/// A pod of one of the Deployment's ReplicaSets, as the strategy Recreate needs it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// uid of its ReplicaSet.
    pub(crate) owner_uid: String,
    /// It may still run.
    pub(crate) may_run: bool,
}

/// The Deployment and its ReplicaSets as they shall be. Starts as what is stored.
pub(crate) struct Draft<'a> {
    pub(crate) now: Millis,
    pub(crate) object: &'a Object,
    /// As stored, but for conditions and collision count, which decisions on the way set.
    pub(crate) d: DeploymentView,
    /// Annotations as they shall be.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Oldest first.
    pub(crate) sets: Vec<Set>,
    /// Which of them has the Deployment's template.
    pub(crate) new: Option<usize>,
    pub(crate) pods: Vec<Member>,
    /// Whether a ReplicaSet of this name is there, whoever's it is.
    pub(crate) is_taken: &'a dyn Fn(&str) -> bool,
    pub(crate) memory: &'a mut Memory,
    pub(crate) plan: &'a mut Plan,
}

/// Whether the new ReplicaSet is there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum New {
    /// There, or not wanted yet.
    Settled,
    /// It has to be made first (which the plan asks for), or could not be.
    Pending,
}

/// Decides what to do for one Deployment.
pub(crate) fn decide(mut draft: Draft<'_>) {
    let stored = draft.d.status.clone();
    draft.sets.sort_by(|a, b| (a.created_ms, a.name()).cmp(&(b.created_ms, b.name())));
    draft.new = draft
        .sets
        .iter()
        .position(|set| template::same(&set.view.spec.template, &draft.d.spec.template));
    draft.run();
    let Draft { object, d, annotations, sets, plan, .. } = draft;
    for set in sets.iter().filter(|set| set.is_changed()) {
        plan.call(set.write(object));
    }
    if d.status != stored || annotations != d.metadata.annotations {
        let mut value = object.value();
        if let Some(value) = value.as_object_mut() {
            value.insert("status".into(), json!(d.status));
        }
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".into(), json!(annotations));
        }
        plan.call(Ask::update(object, value).on("status"));
    }
}

impl Draft<'_> {
    fn run(&mut self) {
        if self.d.metadata.deletion_timestamp.is_some() {
            let _ = self.find_new(false);
            return self.count();
        }
        self.check_paused();
        if self.d.spec.paused {
            return self.sync();
        }
        if self.annotations.contains_key(ROLLBACK_TO) {
            return self.roll_back();
        }
        if self.was_scaled() {
            return self.sync();
        }
        if arith::is_rolling(&self.d) { self.roll() } else { self.recreate() }
    }

    fn new_set(&self) -> Option<&Set> {
        self.new.and_then(|index| self.sets.get(index))
    }

    fn old_sets(&mut self) -> impl Iterator<Item = &mut Set> {
        let new = self.new;
        let sets = self.sets.iter_mut().enumerate();
        sets.filter(move |(index, _)| Some(*index) != new).map(|(_, set)| set)
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(|set| set.replicas).fold(0, i32::saturating_add)
    }

    /// Pods that there may be at most right now; `None`: nobody can say, because a ReplicaSet was resized and its
    /// controller has not got to it. Upstream counts the wanted sizes only, and so for a moment has more pods than
    /// maxSurge allows while old ones are yet to be deleted.
    fn there_at_most(&self) -> Option<i32> {
        let mut total = 0i32;
        for set in &self.sets {
            let status = &set.view.status;
            if status.observed_generation < set.view.metadata.generation {
                return None;
            }
            total = total.saturating_add(set.replicas.max(status.replicas));
        }
        Some(total)
    }

    /// Available pods that stay: what a ReplicaSet has beyond its size is about to go, though its status may not show
    /// it yet.
    fn available(&self) -> i32 {
        let staying = |set: &Set| set.view.status.available_replicas.min(set.stored_replicas());
        self.sets.iter().map(staying).fold(0, i32::saturating_add)
    }

    /// Only counts.
    fn count(&mut self) {
        self.d.status = conditions::counted(self.now, &self.d, &self.sets, self.new_set());
    }

    /// Counts and judges the progress.
    fn judge(&mut self) {
        let (status, deadline) =
            conditions::of_rollout(self.now, &self.d, &self.sets, self.new_set());
        self.d.status = status;
        if let Some(at) = deadline {
            self.plan.wake(at);
        }
    }

    /// Says in the conditions that the Deployment was paused or resumed, so that the deadline does not run meanwhile.
    fn check_paused(&mut self) {
        if !conditions::has_deadline(&self.d) {
            return;
        }
        let current = conditions::find(&self.d.status.conditions, conditions::PROGRESSING);
        let reason = current.map_or("", |current| current.reason.as_str());
        if reason == conditions::TIMED_OUT {
            return;
        }
        let (reason, message) = match (self.d.spec.paused, reason == conditions::PAUSED) {
            (true, false) => (conditions::PAUSED, "Deployment is paused"),
            (false, true) => (conditions::RESUMED, "Deployment is resumed"),
            _ => return,
        };
        let new = condition(self.now, conditions::PROGRESSING, "Unknown", reason, message.into());
        conditions::set(&mut self.d.status.conditions, new);
    }

    /// The Deployment was scaled since its ReplicaSets were sized.
    fn was_scaled(&self) -> bool {
        let wanted = arith::replicas(&self.d);
        let mut active = self.sets.iter().filter(|set| set.replicas > 0);
        active.any(|set| arith::desired_before(set).is_some_and(|before| before != wanted))
    }

    /// Brings revision and annotations of the new ReplicaSet up to date; makes it where it is wanted and missing.
    fn find_new(&mut self, create: bool) -> New {
        let new_revision = 1 + self.old_sets().map(|set| set.revision()).max().unwrap_or(0);
        let Some(new) = self.new.and_then(|index| self.sets.get_mut(index)) else {
            if create {
                self.create_new(new_revision);
                return New::Pending;
            }
            return New::Settled;
        };
        set::annotate_new(&mut new.annotations, &self.d, new_revision);
        new.min_ready_seconds = self.d.spec.min_ready_seconds;
        let name = new.name().to_string();
        if let Some(revision) = new.annotations.get(REVISION) {
            set::set(&mut self.annotations, REVISION, revision.clone());
        }
        if conditions::has_deadline(&self.d) {
            let status = &mut self.d.status.conditions;
            if self.memory.created.take().is_some_and(|created| created == name) {
                let message = format!("Created new replica set {name:?}");
                let reason = conditions::NEW_SET_CREATED;
                let new = condition(self.now, conditions::PROGRESSING, "True", reason, message);
                conditions::set(status, new);
            } else if conditions::find(status, conditions::PROGRESSING).is_none() {
                let message = format!("Found new replica set {name:?}");
                let reason = conditions::NEW_SET_FOUND;
                let new = condition(self.now, conditions::PROGRESSING, "True", reason, message);
                conditions::set(status, new);
            }
        }
        New::Settled
    }

    fn create_new(&mut self, revision: i64) {
        let hash = template::hash(
            &template::without_hash(&self.d.spec.template),
            self.d.status.collision_count,
        );
        let name = set_name(&self.object.meta.name, &hash);
        if let Some(error) = self.memory.create_failed.take() {
            // Only tell it now; the back-off brings the next try.
            self.plan.failed = true;
            if conditions::has_deadline(&self.d) {
                let message = format!("Failed to create new replica set {name:?}: {error}");
                let reason = conditions::SET_CREATE_ERROR;
                let new = condition(self.now, conditions::PROGRESSING, "False", reason, message);
                conditions::set(&mut self.d.status.conditions, new);
            }
            return;
        }
        if (self.is_taken)(&name) {
            // The name belongs to another template: count the collision, which gives another hash at the next look.
            let collisions = self.d.status.collision_count.unwrap_or(0).saturating_add(1);
            self.d.status.collision_count = Some(collisions);
            self.plan.again = true;
            return;
        }
        // A ReplicaSet's status brings the next look.
        let Some(there) = self.there_at_most() else { return };
        let replicas = arith::new_set_replicas(&self.d, 0, there);
        let owner = owned::controller_reference(self.object);
        let value = new_set_value(self.object, &self.d, owner, &name, &hash, revision, replicas);
        let message = format!("Failed to create new replica set {name:?}: {{error}}");
        let failed = Note::warning(self.object, conditions::SET_CREATE_ERROR, message);
        let mut ask = Ask::create(Resource::REPLICA_SETS, &self.object.meta.namespace, value)
            .otherwise(failed);
        if replicas > 0 {
            ask = ask.then(set::scaling_note(self.object, &name, 0, replicas));
        }
        self.plan.call(ask);
    }

    /// Strategy RollingUpdate, one step.
    fn roll(&mut self) {
        if self.find_new(true) == New::Pending {
            return;
        }
        if !self.resize_new()
            && !self.shrink_old()
            && conditions::is_complete(&self.d, &self.d.status)
        {
            self.clean_up();
        }
        self.judge();
    }

    /// Gives the new ReplicaSet its next size. True: it is another one.
    fn resize_new(&mut self) -> bool {
        let (wanted, there) = (arith::replicas(&self.d), self.there_at_most());
        let Some(new) = self.new.and_then(|index| self.sets.get_mut(index)) else { return false };
        let size = if new.replicas > wanted {
            wanted
        } else if arith::is_rolling(&self.d) {
            let Some(there) = there else { return false };
            arith::new_set_replicas(&self.d, new.replicas, there)
        } else {
            wanted
        };
        if new.replicas == size {
            return false;
        }
        new.resize(size, &self.d);
        true
    }

    /// Takes from the old ReplicaSets what may go: first what is not available anyway, then what the available ones
    /// can spare. True: something went.
    fn shrink_old(&mut self) -> bool {
        let d = self.d.clone();
        let min_available = arith::replicas(&d) - arith::max_unavailable(&d);
        let new_unavailable =
            self.new_set().map_or(0, |new| new.replicas - new.view.status.available_replicas);
        let mut may_go = self.total() - min_available - new_unavailable;
        let before: i32 = self.old_sets().map(|set| set.replicas).sum();
        if before == 0 || may_go <= 0 {
            return false;
        }
        let mut spare = self.available() - min_available;
        for set in self.old_sets() {
            let unhealthy = set.replicas - set.view.status.available_replicas;
            let goes = unhealthy.min(may_go).max(0);
            if goes > 0 {
                set.resize(set.replicas - goes, &d);
                may_go -= goes;
            }
        }
        for set in self.old_sets() {
            let goes = set.replicas.min(spare).max(0);
            if goes > 0 {
                set.resize(set.replicas - goes, &d);
                spare -= goes;
            }
        }
        self.old_sets().map(|set| set.replicas).sum::<i32>() < before
    }

    /// Strategy Recreate, one step.
    fn recreate(&mut self) {
        let _ = self.find_new(false);
        let d = self.d.clone();
        let mut shrunk = false;
        for set in self.old_sets().filter(|set| set.replicas > 0) {
            set.resize(0, &d);
            shrunk = true;
        }
        if shrunk || self.old_pods_run() {
            return self.judge();
        }
        if self.find_new(true) == New::Pending {
            return;
        }
        if !self.resize_new() && conditions::is_complete(&self.d, &self.d.status) {
            self.clean_up();
        }
        self.judge();
    }

    fn old_pods_run(&mut self) -> bool {
        let counted: i32 = self.old_sets().map(|set| set.view.status.replicas).sum();
        let new_uid = self.new_set().map(|set| set.object.meta.uid.clone());
        counted > 0
            || self.pods.iter().any(|pod| pod.may_run && Some(&pod.owner_uid) != new_uid.as_ref())
    }

    /// Paused or scaled: sizes follow, nothing is rolled on.
    fn sync(&mut self) {
        let _ = self.find_new(false);
        self.scale();
        if self.d.spec.paused && !self.annotations.contains_key(ROLLBACK_TO) {
            self.clean_up();
        }
        self.count();
    }

    /// Sizes follow the Deployment's: the one active ReplicaSet's, or in the middle of a rollout each one's by its
    /// share, so that the risk stays spread as it was.
    fn scale(&mut self) {
        let d = self.d.clone();
        let wanted = arith::replicas(&d);
        let active: Vec<usize> = indexes(&self.sets, |set| set.replicas > 0);
        let only = match active.as_slice() {
            [] => self.new.or_else(|| self.sets.len().checked_sub(1)),
            [only] => Some(*only),
            _ => None,
        };
        if active.len() <= 1 {
            if let Some(set) = only.and_then(|index| self.sets.get_mut(index)) {
                set.resize(wanted, &d);
            }
            return;
        }
        if self.new_set().is_some_and(|new| is_saturated(new, wanted)) {
            for set in self.old_sets().filter(|set| set.replicas > 0) {
                set.resize(0, &d);
            }
            return;
        }
        if arith::is_rolling(&d) {
            return self.scale_by_share(&d, active);
        }
        for index in active {
            if let Some(set) = self.sets.get_mut(index) {
                set.annotate_size(&d);
            }
        }
    }

    fn scale_by_share(&mut self, d: &DeploymentView, mut order: Vec<usize>) {
        let wanted = arith::replicas(d);
        let allowed = if wanted > 0 { wanted.saturating_add(arith::max_surge(d)) } else { 0 };
        let to_add = allowed - self.total();
        // Largest first; of equals the newer first when growing, the older first when shrinking. `sets` is oldest first.
        let size = |sets: &[Set], index: usize| sets.get(index).map_or(0, |set| set.replicas);
        order.sort_by_key(|index| {
            let age = if to_add > 0 { usize::MAX - index } else { *index };
            (core::cmp::Reverse(size(&self.sets, *index)), age)
        });
        let mut added = 0;
        let mut sizes = Vec::new();
        for index in order {
            let Some(set) = self.sets.get(index) else { continue };
            let share = arith::proportion(set, d, to_add, added);
            added += share;
            sizes.push((index, set.replicas + share));
        }
        if let Some((_, largest)) = sizes.first_mut() {
            *largest = (*largest + to_add - added).max(0);
        }
        for (index, size) in sizes {
            if let Some(set) = self.sets.get_mut(index) {
                set.resize(size, d);
            }
        }
    }

    /// Deletes the oldest revisions beyond the history limit.
    fn clean_up(&mut self) {
        let Some(limit) = self.d.spec.revision_history_limit.filter(|limit| *limit != i32::MAX)
        else {
            return;
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut old: Vec<&Set> = self
            .sets
            .iter()
            .enumerate()
            .filter(|(index, set)| {
                Some(*index) != self.new && set.object.meta.deletion_timestamp.is_none()
            })
            .map(|(_, set)| set)
            .collect();
        let too_many = old.len().saturating_sub(limit);
        old.sort_by_key(|set| set.revision());
        for set in old.into_iter().take(too_many) {
            let status = &set.view.status;
            let empty = status.replicas == 0
                && set.stored_replicas() == 0
                && set.replicas == 0
                && set.view.metadata.generation <= status.observed_generation;
            if empty {
                self.plan.call(Ask::delete(&set.object));
            }
        }
    }

    /// Goes back to the revision that the annotation names (0: the last one).
    fn roll_back(&mut self) {
        if self.find_new(true) == New::Pending {
            return;
        }
        let asked: i64 =
            self.annotations.get(ROLLBACK_TO).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut revisions: Vec<i64> = self.sets.iter().map(Set::revision).collect();
        revisions.sort_unstable();
        revisions.dedup();
        let last = revisions.len().checked_sub(2).and_then(|at| revisions.get(at)).copied();
        let revision = if asked == 0 { last.unwrap_or(0) } else { asked };
        let object = self.object;
        let not_found = |message: &str| {
            Note::warning(object, "DeploymentRollbackRevisionNotFound", message.into())
        };
        let mut value = object.value();
        let mut annotations = self.d.metadata.annotations.clone();
        annotations.remove(ROLLBACK_TO);
        let target = self.sets.iter().find(|set| set.revision() == revision && revision != 0);
        let note = match target {
            None if revision == 0 => not_found("Unable to find last revision."),
            None => not_found("Unable to find the revision to rollback to."),
            Some(set) if template::same(&set.view.spec.template, &self.d.spec.template) => {
                let name = &object.meta.name;
                let message = format!(
                    "The rollback revision contains the same template as current deployment {name:?}"
                );
                Note::warning(object, "DeploymentRollbackTemplateUnchanged", message)
            }
            Some(set) => {
                let template = template::without_hash(&set.view.spec.template);
                if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
                    spec.insert("template".into(), template);
                }
                annotations.retain(|key, _| !set::is_shared(key));
                let shared =
                    set.view.metadata.annotations.iter().filter(|(key, _)| set::is_shared(key));
                annotations.extend(shared.map(|(key, value)| (key.clone(), value.clone())));
                let name = &object.meta.name;
                let message = format!("Rolled back deployment {name:?} to revision {revision}");
                Note::normal(object, "DeploymentRollback", message)
            }
        };
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".into(), json!(annotations));
        }
        self.plan.call(Ask::update(object, value).then(note));
        // One write of the Deployment at a time: its status follows at the next look.
        self.d.status = self.stored_status();
        self.annotations = self.d.metadata.annotations.clone();
        self.plan.again = true;
    }

    fn stored_status(&self) -> coracle_api::views::DeploymentStatus {
        self.object.view::<DeploymentView>().map(|view| view.status).unwrap_or_default()
    }
}

fn indexes(sets: &[Set], keep: impl Fn(&Set) -> bool) -> Vec<usize> {
    sets.iter().enumerate().filter(|(_, set)| keep(set)).map(|(index, _)| index).collect()
}

/// The new ReplicaSet alone is all that is wanted.
fn is_saturated(new: &Set, wanted: i32) -> bool {
    new.replicas == wanted
        && arith::desired_before(new) == Some(wanted)
        && new.view.status.available_replicas == wanted
}

fn set_name(deployment: &str, hash: &str) -> String {
    let room = NAME_BYTES_MAX - 1 - hash.len();
    // Names of objects are ASCII; cutting one never splits a character.
    let prefix = deployment.get(..deployment.len().min(room)).unwrap_or(deployment);
    format!("{prefix}-{hash}")
}

fn new_set_value(
    object: &Object,
    d: &DeploymentView,
    owner: OwnerReference,
    name: &str,
    hash: &str,
    revision: i64,
    replicas: i32,
) -> Value {
    let mut template = template::without_hash(&d.spec.template);
    if let Some(template) = template.as_object_mut() {
        let metadata = template.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            let labels = metadata.entry("labels").or_insert_with(|| json!({}));
            if let Some(labels) = labels.as_object_mut() {
                labels.insert(template::POD_TEMPLATE_HASH.into(), hash.into());
            }
        }
    }
    let mut selector = d.spec.selector.clone();
    selector.match_labels.insert(template::POD_TEMPLATE_HASH.into(), hash.into());
    let mut annotations = BTreeMap::new();
    set::annotate_new(&mut annotations, d, revision);
    let desired = arith::replicas(d);
    let max = desired.saturating_add(arith::max_surge(d));
    annotations.insert(set::DESIRED_REPLICAS.into(), desired.to_string());
    annotations.insert(set::MAX_REPLICAS.into(), max.to_string());
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or(Value::Null);
    let mut spec = json!({"replicas": replicas, "selector": selector, "template": template});
    if d.spec.min_ready_seconds != 0
        && let Some(spec) = spec.as_object_mut()
    {
        spec.insert("minReadySeconds".into(), d.spec.min_ready_seconds.into());
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": object.meta.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    })
}
