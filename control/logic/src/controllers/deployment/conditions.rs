//! A Deployment's status: counts, conditions, progress and its deadline.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{
    time,
    views::{DeploymentCondition, DeploymentStatus, DeploymentView},
};

use super::{arith, set::Set};
use crate::Millis;

pub(crate) const AVAILABLE: &str = "Available";
pub(crate) const PROGRESSING: &str = "Progressing";
pub(crate) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(crate) const NEW_SET_CREATED: &str = "NewReplicaSetCreated";
pub(crate) const NEW_SET_FOUND: &str = "FoundNewReplicaSet";
pub(crate) const SET_UPDATED: &str = "ReplicaSetUpdated";
pub(crate) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(crate) const SET_CREATE_ERROR: &str = "ReplicaSetCreateError";
pub(crate) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
pub(crate) const PAUSED: &str = "DeploymentPaused";
pub(crate) const RESUMED: &str = "DeploymentResumed";

/// A deadline was asked for. (The greatest number stands for none.)
pub(crate) fn has_deadline(d: &DeploymentView) -> bool {
    d.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

/// A condition that changes now.
pub(crate) fn condition(
    now: Millis,
    r#type: &str,
    status: &str,
    reason: &str,
    message: String,
) -> DeploymentCondition {
    DeploymentCondition {
        r#type: r#type.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        last_update_time: Some(time::rfc3339(now.0)),
        last_transition_time: Some(time::rfc3339(now.0)),
    }
}

/// The condition of this type.
pub(crate) fn find<'a>(
    conditions: &'a [DeploymentCondition],
    r#type: &str,
) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.r#type == r#type)
}

/// Sets a condition. The same status for the same reason is no change; the same status keeps its transition time.
pub(crate) fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition) {
    if let Some(old) = find(conditions, &new.r#type)
        && old.status == new.status
    {
        if old.reason == new.reason {
            return;
        }
        new.last_transition_time = old.last_transition_time.clone();
    }
    remove(conditions, &new.r#type);
    conditions.push(new);
}

/// Takes a condition out.
pub(crate) fn remove(conditions: &mut Vec<DeploymentCondition>, r#type: &str) {
    conditions.retain(|condition| condition.r#type != r#type);
}

/// Everything that was wanted is there and available, and nothing else.
pub(crate) fn is_complete(d: &DeploymentView, status: &DeploymentStatus) -> bool {
    let wanted = arith::replicas(d);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= d.metadata.generation
}

/// Something moved on since the stored status.
fn is_progressing(d: &DeploymentView, new: &DeploymentStatus) -> bool {
    let old = &d.status;
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// When the deadline of the progress that this status tells of passes; `None`: there is none to wait for.
fn deadline(d: &DeploymentView, status: &DeploymentStatus) -> Option<Millis> {
    if !has_deadline(d) {
        return None;
    }
    let progressing = find(&status.conditions, PROGRESSING)?;
    if progressing.reason == NEW_SET_AVAILABLE || progressing.reason == TIMED_OUT {
        return None;
    }
    let from = progressing.last_update_time.as_deref().and_then(time::parse_ms)?;
    let seconds = u64::try_from(d.spec.progress_deadline_seconds.unwrap_or(0)).unwrap_or(0);
    // The time is kept to the second only; a second more is never too early.
    Some(Millis(from.saturating_add(seconds.saturating_mul(1000)).saturating_add(1000)))
}

/// Counts over all ReplicaSets, `new` among them, and Available by them. Other conditions stay.
pub(crate) fn counted(
    now: Millis,
    d: &DeploymentView,
    sets: &[Set],
    new: Option<&Set>,
) -> DeploymentStatus {
    let sum = |of: fn(&Set) -> i32| sets.iter().map(of).fold(0, i32::saturating_add);
    let available = sum(|set| set.view.status.available_replicas);
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: sum(|set| set.view.status.replicas),
        updated_replicas: new.map_or(0, |set| set.view.status.replicas),
        ready_replicas: sum(|set| set.view.status.ready_replicas),
        available_replicas: available,
        unavailable_replicas: sum(|set| set.replicas).saturating_sub(available).max(0),
        terminating_replicas: Some(sum(|set| set.view.status.terminating_replicas.unwrap_or(0))),
        collision_count: d.status.collision_count,
        conditions: d.status.conditions.clone(),
    };
    let is_available = available >= arith::replicas(d) - arith::max_unavailable(d);
    set(
        &mut status.conditions,
        if is_available {
            condition(
                now,
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".into(),
            )
        } else {
            condition(
                now,
                AVAILABLE,
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.".into(),
            )
        },
    );
    status
}

/// The status during and after a rollout. Also when its deadline passes, if there is one.
pub(crate) fn of_rollout(
    now: Millis,
    d: &DeploymentView,
    sets: &[Set],
    new: Option<&Set>,
) -> (DeploymentStatus, Option<Millis>) {
    let mut status = counted(now, d, sets, new);
    if !has_deadline(d) {
        remove(&mut status.conditions, PROGRESSING);
    }
    let current = find(&d.status.conditions, PROGRESSING);
    let was_complete = status.replicas == status.updated_replicas
        && current.is_some_and(|current| current.reason == NEW_SET_AVAILABLE);
    if has_deadline(d) && !was_complete {
        let who = match new {
            Some(set) => format!("ReplicaSet {:?}", set.name()),
            None => format!("Deployment {:?}", d.metadata.name),
        };
        if is_complete(d, &status) {
            let message = format!("{who} has successfully progressed.");
            let new = condition(now, PROGRESSING, "True", NEW_SET_AVAILABLE, message);
            set(&mut status.conditions, new);
        } else if is_progressing(d, &status) {
            let message = format!("{who} is progressing.");
            let mut new = condition(now, PROGRESSING, "True", SET_UPDATED, message);
            if let Some(current) = current {
                if current.status == "True" {
                    new.last_transition_time = current.last_transition_time.clone();
                }
                // Also with the same reason: each step of progress counts the deadline anew.
                remove(&mut status.conditions, PROGRESSING);
            }
            set(&mut status.conditions, new);
        } else if deadline(d, &status).is_some_and(|at| at <= now) {
            let message = format!("{who} has timed out progressing.");
            set(&mut status.conditions, condition(now, PROGRESSING, "False", TIMED_OUT, message));
        }
    }
    match failure(sets, new) {
        Some(failure) => set(&mut status.conditions, failure),
        None => remove(&mut status.conditions, REPLICA_FAILURE),
    }
    let at = deadline(d, &status).filter(|_| !is_complete(d, &status));
    (status, at)
}

/// Why a ReplicaSet could not make pods: the new one's reason first.
fn failure(sets: &[Set], new: Option<&Set>) -> Option<DeploymentCondition> {
    let failed = |set: &Set| {
        let mut conditions = set.view.status.conditions.iter();
        let condition = conditions.find(|condition| condition.r#type == REPLICA_FAILURE)?;
        Some(DeploymentCondition {
            r#type: REPLICA_FAILURE.into(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_update_time: condition.last_transition_time.clone(),
            last_transition_time: condition.last_transition_time.clone(),
        })
    };
    new.and_then(failed).or_else(|| sets.iter().find_map(failed))
}
