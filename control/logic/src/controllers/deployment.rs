//! Deployments: rollouts from one ReplicaSet to the next, history, undo, progress.

use alloc::{collections::BTreeMap, string::String, sync::Arc, vec::Vec};

use coracle_api::{
    Object, Resource, Status,
    selector::LabelSelector,
    views::{DeploymentView, PodView},
};

use super::{
    CallAction, ControllerCall,
    ask::{Name, Note, Plan},
    owned::{self, Claim},
    queue::Queue,
    work::{self, Known, Reconcile},
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

mod arith;
mod conditions;
mod rollout;
mod set;
mod template;

#[cfg(test)]
mod tests;

use rollout::{Draft, Member};
use set::Set;

/// The Deployment controller.
#[derive(Debug, Default)]
pub(crate) struct Deployments {
    known: Known,
    memory: BTreeMap<Name, Memory>,
}

/// What is remembered of one Deployment between looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The ReplicaSet that was just made.
    created: Option<String>,
    /// Why it could not be made.
    create_failed: Option<String>,
}

impl Reconcile for Deployments {
    type Key = Name;
    const NAME: &'static str = "deployment";
    const USER: &'static str = "system:serviceaccount:kube-system:deployment-controller";
    const COMPONENT: &'static str = "deployment-controller";

    /// Pods need no watching: when the last old one goes, which Recreate waits for, its ReplicaSet's status changes.
    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<Name>) {
        if change.resource == Resource::DEPLOYMENTS {
            self.known.follow(change);
            for object in change.old.iter().chain(&change.new) {
                queue.add(Name::of(&object.meta));
            }
        } else if change.resource == Resource::REPLICA_SETS {
            for object in change.old.iter().chain(&change.new) {
                if let Some(owner) = object.meta.controller().filter(|o| o.kind == "Deployment") {
                    queue.add(Name::new(&object.meta.namespace, &owner.name));
                }
            }
            if let Some(namespace) = owned::newly_adoptable(change) {
                self.known.in_namespace(namespace).for_each(|name| queue.add(name));
            }
        }
    }

    fn look(&mut self, now: Millis, key: &Name, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let object = cache.get(Resource::DEPLOYMENTS, &key.namespace, &key.name);
        let view = object.and_then(|object| object.view::<DeploymentView>().ok());
        let (Some(object), Some(d)) = (object, view) else {
            self.memory.remove(key);
            return;
        };
        let namespace = Some(key.namespace.as_str());
        let selector =
            LabelSelector::from_view(&d.spec.selector).unwrap_or(LabelSelector::nothing());
        if selector.is_everything() {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.".into();
            plan.notes.push(Note::warning(object, "SelectingAll", message));
            return;
        }
        let all = cache.list(Resource::REPLICA_SETS, namespace);
        let Some(sets) = gather(object, &selector, all, plan) else { return };
        let pods = if arith::is_rolling(&d) { Vec::new() } else { members(&sets, cache, key) };
        let memory = self.memory.entry(key.clone()).or_default();
        rollout::decide(Draft {
            now,
            object,
            annotations: d.metadata.annotations.clone(),
            d,
            sets,
            new: None,
            pods,
            is_taken: &|name| cache.get(Resource::REPLICA_SETS, &key.namespace, name).is_some(),
            memory,
            plan,
        });
        if self.memory.get(key) == Some(&Memory::default()) {
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
            (CallAction::Create(_), Ok(set)) => {
                let memory = self.memory.entry(key.clone()).or_default();
                memory.created = Some(set.meta.name.clone());
                true
            }
            // The next look finds the taken name in the cache and counts the collision.
            (CallAction::Create(_), Err(status)) if status.reason == "AlreadyExists" => false,
            (CallAction::Create(_), Err(status)) if work::is_namespace_ending(status) => true,
            (CallAction::Create(_), Err(status)) => {
                let memory = self.memory.entry(key.clone()).or_default();
                memory.create_failed = Some(status.message.clone());
                false
            }
            (_, result) => result.is_ok() || work::is_gone_already(call, result),
        }
    }
}

/// The ReplicaSets that are this Deployment's. `None`: some have to be adopted or let go first, which the plan asks for.
fn gather<'a>(
    object: &Object,
    selector: &LabelSelector,
    all: impl Iterator<Item = &'a Arc<Object>>,
    plan: &mut Plan,
) -> Option<Vec<Set>> {
    let mut mine = Vec::new();
    for set in all {
        match owned::claim(&object.meta, selector, &set.meta) {
            Claim::Ours => mine.extend(Set::of(set)),
            Claim::Adopt => plan.call(owned::adopt(object, set)),
            Claim::Release => plan.call(owned::release(object, set)),
            Claim::Foreign => {}
        }
    }
    plan.again = !plan.calls.is_empty();
    (!plan.again).then_some(mine)
}

/// The pods of these ReplicaSets.
fn members(sets: &[Set], cache: &Cache, key: &Name) -> Vec<Member> {
    let pods = cache.list(Resource::PODS, Some(&key.namespace));
    pods.filter_map(|pod| {
        let owner = pod.meta.controller()?;
        let mine = sets.iter().any(|set| set.object.meta.uid == owner.uid);
        let view = mine.then(|| pod.view::<PodView>().ok())??;
        Some(Member { owner_uid: owner.uid.clone(), may_run: !view.is_finished() })
    })
    .collect()
}
