//! The end of namespaces: first their pods go, then all else in them, then the namespace's own finalizer.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{
    Resource, time,
    views::{NamespaceCondition, NamespaceView},
};
use serde_json::{Value, json};

use super::{
    CallAction,
    ask::{Ask, Plan},
    queue::Queue,
    work::Reconcile,
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

/// The finalizer of ours in `spec.finalizers`.
const FINALIZER: &str = "kubernetes";

/// The namespace controller.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Those that are to go.
    ending: BTreeSet<String>,
}

impl Reconcile for Namespaces {
    /// Name of a namespace.
    type Key = String;
    const NAME: &'static str = "namespace";
    const USER: &'static str = "system:serviceaccount:kube-system:namespace-controller";
    const COMPONENT: &'static str = "namespace-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource == Resource::NAMESPACES {
            match (&change.old, &change.new) {
                (_, Some(new)) if new.meta.deletion_timestamp.is_some() => {
                    self.ending.insert(new.meta.name.clone());
                    queue.add(new.meta.name.clone());
                }
                (Some(old), None) => {
                    self.ending.remove(&old.meta.name);
                }
                _ => {}
            }
        } else if let Some(object) = change.new.as_ref().or(change.old.as_ref())
            && self.ending.contains(&object.meta.namespace)
        {
            queue.add(object.meta.namespace.clone());
        }
    }

    fn look(&mut self, now: Millis, key: &String, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let Some(object) = cache.get(Resource::NAMESPACES, "", key) else { return };
        let Ok(view) = object.view::<NamespaceView>() else { return };
        let held = view.spec.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if object.meta.deletion_timestamp.is_none() || !held {
            return;
        }
        let rest = Rest::of(cache, key, plan);
        if rest.is_empty() {
            let kept: Vec<_> = view.spec.finalizers.iter().filter(|f| *f != FINALIZER).collect();
            let mut value = object.value();
            if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
                spec.insert("finalizers".into(), json!(kept));
            }
            plan.call(Ask::update(object, value).on("finalize"));
            return;
        }
        if !plan.calls.is_empty() {
            return;
        }
        // Nothing more can be asked for: say what is waited for.
        let conditions = rest.conditions(now, &view.status.conditions);
        if conditions != view.status.conditions || view.status.phase != "Terminating" {
            let mut value = object.value();
            if let Some(value) = value.as_object_mut() {
                let status = json!({"phase": "Terminating", "conditions": conditions});
                value.insert("status".into(), status);
            }
            plan.call(Ask::update(object, value).on("status"));
        }
    }
}

/// What is left in a namespace.
#[derive(Debug, Default)]
struct Rest {
    /// `pods.`, `replicasets.apps`: how many.
    objects: BTreeMap<String, usize>,
    /// Finalizers that hold some of them: how many.
    finalizers: BTreeMap<String, usize>,
}

impl Rest {
    /// Counts, and asks for the deletion of what is not on its way out yet. While pods are left nothing else is
    /// touched: they may need what else is there.
    fn of(cache: &Cache, namespace: &str, plan: &mut Plan) -> Self {
        let mut rest = Self::default();
        rest.take(Resource::PODS, cache, namespace, plan);
        let pods_left = !rest.is_empty();
        for resource in Resource::all().filter(|resource| resource.def().namespaced) {
            if resource == Resource::PODS {
                continue;
            }
            if pods_left {
                rest.count(resource, cache, namespace);
            } else {
                rest.take(resource, cache, namespace, plan);
            }
        }
        rest
    }

    fn take(&mut self, resource: Resource, cache: &Cache, namespace: &str, plan: &mut Plan) {
        self.count(resource, cache, namespace);
        for object in cache.list(resource, Some(namespace)) {
            if object.meta.deletion_timestamp.is_none() {
                let mut ask = Ask::delete(object);
                if let CallAction::Delete { propagation, .. } = &mut ask.action {
                    *propagation = Some("Background");
                }
                plan.call(ask);
            }
        }
    }

    fn count(&mut self, resource: Resource, cache: &Cache, namespace: &str) {
        let def = resource.def();
        for object in cache.list(resource, Some(namespace)) {
            *self.objects.entry(format!("{}.{}", def.plural, def.group)).or_default() += 1;
            for finalizer in &object.meta.finalizers {
                *self.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn conditions(&self, now: Millis, old: &[NamespaceCondition]) -> Vec<NamespaceCondition> {
        let list = |counts: &BTreeMap<String, usize>, word: &str| {
            let counts = counts
                .iter()
                .map(|(what, count)| format!("{what} {word} {count} resource instances"));
            counts.collect::<Vec<_>>().join(", ")
        };
        let remaining = list(&self.objects, "has");
        let held = list(&self.finalizers, "in");
        let mut conditions = Vec::new();
        let mut say = |r#type: &str, is: bool, reason: &str, message: String| {
            let status = if is { "True" } else { "False" };
            let same = old.iter().find(|old| old.r#type == r#type && old.status == status);
            let since = same.and_then(|same| same.last_transition_time.clone());
            conditions.push(NamespaceCondition {
                r#type: r#type.into(),
                status: status.into(),
                last_transition_time: Some(since.unwrap_or_else(|| time::rfc3339(now.0))),
                reason: reason.into(),
                message,
            });
        };
        say(
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_string(),
        );
        say(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_string(),
        );
        say(
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_string(),
        );
        say(
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            format!("Some resources are remaining: {remaining}"),
        );
        if held.is_empty() {
            say(
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished".to_string(),
            );
        } else {
            say(
                "NamespaceFinalizersRemaining",
                true,
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {held}"),
            );
        }
        conditions
    }
}
