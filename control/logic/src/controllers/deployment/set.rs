//! A ReplicaSet as its Deployment sees and changes it.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{
    Object, time,
    views::{DeploymentView, ReplicaSetView},
};
use serde_json::{Value, json};

use super::arith;
use crate::controllers::{
    ask::{Ask, Note},
    limits::REVISION_HISTORY_CHARS_MAX,
};

/// Number of the revision that a ReplicaSet is, or that a Deployment shows.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions that this ReplicaSet was before.
pub(crate) const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the Deployment when the ReplicaSet was last sized.
pub(crate) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// That and maxSurge.
pub(crate) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Revision to go back to (`spec.rollbackTo` of the legacy versions).
pub(crate) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// Annotations that are not shared between a Deployment and its ReplicaSets.
const NOT_SHARED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];

/// Annotations that a Deployment and its ReplicaSets share.
pub(crate) fn is_shared(annotation: &str) -> bool {
    !NOT_SHARED.contains(&annotation)
}

/// A ReplicaSet: what it is, and what it shall be.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) object: Arc<Object>,
    pub(crate) view: ReplicaSetView,
    /// Wanted `spec.replicas`.
    pub(crate) replicas: i32,
    /// Wanted `spec.minReadySeconds`.
    pub(crate) min_ready_seconds: i32,
    /// Wanted annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) created_ms: u64,
}

impl Set {
    pub(crate) fn of(object: &Arc<Object>) -> Option<Self> {
        let view: ReplicaSetView = object.view().ok()?;
        Some(Self {
            replicas: view.spec.replicas.unwrap_or(1),
            min_ready_seconds: view.spec.min_ready_seconds,
            annotations: view.metadata.annotations.clone(),
            created_ms: object
                .meta
                .creation_timestamp
                .as_deref()
                .and_then(time::parse_ms)
                .unwrap_or(0),
            object: object.clone(),
            view,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.object.meta.name
    }

    /// `spec.replicas` as stored.
    pub(crate) fn stored_replicas(&self) -> i32 {
        self.view.spec.replicas.unwrap_or(1)
    }

    /// Its revision; 0: none, or not readable.
    pub(crate) fn revision(&self) -> i64 {
        number(&self.annotations, REVISION).unwrap_or(0)
    }

    /// Wants another size; the annotations tell what the Deployment was like then.
    pub(crate) fn resize(&mut self, replicas: i32, d: &DeploymentView) {
        self.replicas = replicas;
        self.annotate_size(d);
    }

    /// Writes the Deployment's size into the annotations. True: they were different.
    pub(crate) fn annotate_size(&mut self, d: &DeploymentView) -> bool {
        let desired = arith::replicas(d);
        let max = desired.saturating_add(arith::max_surge(d));
        let desired_changed = set(&mut self.annotations, DESIRED_REPLICAS, desired.to_string());
        let max_changed = set(&mut self.annotations, MAX_REPLICAS, max.to_string());
        desired_changed || max_changed
    }

    /// Whether something else than what is stored is wanted.
    pub(crate) fn is_changed(&self) -> bool {
        self.replicas != self.stored_replicas()
            || self.min_ready_seconds != self.view.spec.min_ready_seconds
            || self.annotations != self.view.metadata.annotations
    }

    /// The call that writes what is wanted, and tells of another size in the name of `deployment`.
    pub(crate) fn write(&self, deployment: &Object) -> Ask {
        let mut value = self.object.value();
        if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert("replicas".into(), self.replicas.into());
            if self.min_ready_seconds != self.view.spec.min_ready_seconds {
                spec.insert("minReadySeconds".into(), self.min_ready_seconds.into());
            }
        }
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".into(), json!(self.annotations));
        }
        let ask = Ask::update(&self.object, value);
        let (from, to) = (self.stored_replicas(), self.replicas);
        if from == to {
            return ask;
        }
        ask.then(scaling_note(deployment, self.name(), from, to))
    }
}

/// `Scaled up replica set x from 0 to 2`.
pub(crate) fn scaling_note(deployment: &Object, name: &str, from: i32, to: i32) -> Note {
    let way = if to > from { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {name} from {from} to {to}");
    Note::normal(deployment, "ScalingReplicaSet", message)
}

/// Takes over what the Deployment's annotations and revision are. True: something changed.
pub(crate) fn annotate_new(
    annotations: &mut BTreeMap<String, String>,
    d: &DeploymentView,
    new_revision: i64,
) -> bool {
    let mut changed = false;
    for (key, value) in d.metadata.annotations.iter().filter(|(key, _)| is_shared(key)) {
        changed |= set(annotations, key, value.clone());
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = old.as_deref().map_or(Some(0), |old| old.parse::<i64>().ok());
    // A revision that is no number was written by somebody else: leave it.
    if old_number.is_some_and(|old_number| old_number < new_revision) {
        annotations.insert(REVISION.into(), new_revision.to_string());
        changed = true;
        if let Some(old) = old {
            let history = annotations.get(REVISION_HISTORY).map_or("", String::as_str);
            let history = longer_history(history, &old);
            annotations.insert(REVISION_HISTORY.into(), history);
        }
    }
    changed
}

/// The history with one more revision; the oldest go where it would become too long.
fn longer_history(history: &str, revision: &str) -> String {
    if history.is_empty() {
        return revision.into();
    }
    let mut kept: Vec<&str> = history.split(',').collect();
    let mut chars = history.len() + revision.len() + 1;
    while chars > REVISION_HISTORY_CHARS_MAX && !kept.is_empty() {
        chars -= kept.remove(0).len() + 1;
    }
    kept.push(revision);
    kept.join(",")
}

/// A number in an annotation.
pub(crate) fn number(annotations: &BTreeMap<String, String>, key: &str) -> Option<i64> {
    annotations.get(key)?.parse().ok()
}

/// True: it was not this value before.
pub(crate) fn set(annotations: &mut BTreeMap<String, String>, key: &str, value: String) -> bool {
    if annotations.get(key) == Some(&value) {
        return false;
    }
    annotations.insert(key.into(), value);
    true
}

#[cfg(test)]
mod tests {
    use alloc::{
        collections::BTreeMap,
        string::{String, ToString},
    };

    use coracle_api::views::DeploymentView;

    use super::{REVISION, REVISION_HISTORY, annotate_new, longer_history};

    #[test]
    fn revisions_move_into_the_history() {
        let check = |before: &[(&str, &str)], revision, want: &[(&str, &str)]| {
            let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
                pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
            };
            let mut annotations = map(before);
            let changed = annotate_new(&mut annotations, &DeploymentView::default(), revision);
            assert_eq!(annotations, map(want));
            assert_eq!(changed, map(before) != map(want));
        };
        check(&[], 1, &[(REVISION, "1")]);
        check(&[(REVISION, "1")], 1, &[(REVISION, "1")]);
        check(&[(REVISION, "1")], 3, &[(REVISION, "3"), (REVISION_HISTORY, "1")]);
        check(
            &[(REVISION, "3"), (REVISION_HISTORY, "1")],
            5,
            &[(REVISION, "5"), (REVISION_HISTORY, "1,3")],
        );
        check(&[(REVISION, "x")], 5, &[(REVISION, "x")]);
    }

    #[test]
    fn a_long_history_loses_its_oldest() {
        let history = "1000,".repeat(399) + "1000";
        let longer = longer_history(&history, "2000");
        assert!(longer.len() <= 2000 && longer.ends_with(",1000,2000"), "{}", longer.len());
        assert_eq!(longer_history("1,2", "3"), "1,2,3");
    }
}
