//! Priority: a pod's priority is that of its class.

use alloc::{format, string::String};

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{Attributes, Scene, forbidden};
use crate::{
    cache::Cache,
    call::Verb,
    kinds::access::{child, flag, int, keep, or_set, set, text},
};

/// The classes that every cluster has, with their values.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// The objects of those classes.
pub fn system_classes() -> impl Iterator<Item = Value> {
    SYSTEM.iter().map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        })
    })
}

/// What a class gives.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn of(class: &Value) -> Self {
        let preemption = match text(class, &["preemptionPolicy"]) {
            "" => "PreemptLowerPriority",
            policy => policy,
        };
        Self {
            name: text(class, &["metadata", "name"]).into(),
            value: int(class, &["value"]).unwrap_or(0),
            preemption: preemption.into(),
        }
    }

    /// The class of this name.
    fn named(cache: &Cache, name: &str) -> Option<Self> {
        let stored = cache.get(Resource::PRIORITY_CLASSES, "", name).map(|class| class.value());
        let built_in = || system_classes().find(|class| text(class, &["metadata", "name"]) == name);
        stored.or_else(built_in).map(|class| Self::of(&class))
    }

    /// The class of pods that name none: the lowest of those marked as default.
    fn default(cache: &Cache) -> Option<Self> {
        cache
            .list(Resource::PRIORITY_CLASSES, None)
            .map(|class| class.value())
            .filter(|class| flag(class, &["globalDefault"]))
            .map(|class| Self::of(&class))
            .min_by_key(|class| class.value)
    }
}

/// Sets `priority`, `preemptionPolicy` and, from a default class, `priorityClassName`.
pub(super) fn mutate(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    pod: &mut Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    if attributes.resource != Resource::PODS || !attributes.subresource.is_empty() {
        return Ok(());
    }
    match (attributes.verb, old) {
        (Verb::Create, _) => {}
        (Verb::Update | Verb::Patch, Some(old)) => {
            // Both are fixed at creation; an update that leaves them out means no change.
            let before = old.get("spec").unwrap_or(&Value::Null);
            let spec = child(pod, "spec");
            for key in ["priority", "preemptionPolicy"] {
                if spec.get(key).is_none_or(Value::is_null) {
                    keep(spec, before, key);
                }
            }
            return Ok(());
        }
        _ => return Ok(()),
    }
    let wanted = text(pod, &["spec", "priorityClassName"]);
    let class = if wanted.is_empty() {
        Class::default(scene.cache)
    } else {
        let missing = || {
            forbidden(attributes, pod, &format!("no PriorityClass with name {wanted} was found"))
        };
        Some(Class::named(scene.cache, wanted).ok_or_else(missing)?)
    };
    let class = class.unwrap_or_else(|| Class::of(&Value::Null));
    let given = int(pod, &["spec", "priority"]);
    if let Some(given) = given.filter(|given| *given != class.value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.value
        );
        return Err(forbidden(attributes, pod, &why));
    }
    let given = text(pod, &["spec", "preemptionPolicy"]);
    if !given.is_empty() && given != class.preemption {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {} from the given PriorityClass name",
            class.preemption
        );
        return Err(forbidden(attributes, pod, &why));
    }
    let spec = child(pod, "spec");
    if !class.name.is_empty() {
        set(spec, "priorityClassName", class.name);
    }
    set(spec, "priority", class.value);
    or_set(spec, "preemptionPolicy", class.preemption);
    Ok(())
}

/// Only one class can be the default.
pub(super) fn validate(
    attributes: &Attributes<'_>,
    _old: Option<&Value>,
    class: &Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let writes = matches!(attributes.verb, Verb::Create | Verb::Update | Verb::Patch);
    if attributes.resource != Resource::PRIORITY_CLASSES
        || !writes
        || !flag(class, &["globalDefault"])
    {
        return Ok(());
    }
    let name = text(class, &["metadata", "name"]);
    match Class::default(scene.cache) {
        Some(other) if other.name != name => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name
            );
            Err(forbidden(attributes, class, &why))
        }
        _ => Ok(()),
    }
}
