//! Garbage collection: what lost all its owners goes; foreground deletion waits for dependents, orphaning frees them.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, OwnerReference, Resource};
use serde_json::{Value, json};

use super::{
    CallAction,
    ask::{Ask, Name, Plan},
    owned::owners_patch,
    queue::Queue,
    work::Reconcile,
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
    canary::{Canary, Switch},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Where an object is.
type Place = (Resource, Name);

/// The garbage collector.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// By uid of an owner: what names it as owner. Holds one entry for each owner reference in the cluster.
    dependents: BTreeMap<String, BTreeSet<Place>>,
    canary: Switch,
}

impl Reconcile for Collector {
    type Key = Place;
    const NAME: &'static str = "garbage-collector";
    const USER: &'static str = "system:serviceaccount:kube-system:generic-garbage-collector";
    const COMPONENT: &'static str = "garbage-collector-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<Place>) {
        let (old, new) = (change.old.as_ref(), change.new.as_ref());
        let Some(object) = new.or(old) else { return };
        let place = (change.resource, Name::of(&object.meta));
        let owners = |object: Option<&Arc<Object>>| {
            object.map_or(&[][..], |object| object.meta.owner_references.as_slice()).to_vec()
        };
        let (had, has) = (owners(old), owners(new));
        if had != has {
            for owner in had.iter().filter(|owner| !has.iter().any(|has| has.uid == owner.uid)) {
                self.unlink(&owner.uid, &place);
            }
            for owner in &has {
                self.dependents.entry(owner.uid.clone()).or_default().insert(place.clone());
            }
            // An owner that waits for this one may go on.
            for owner in &had {
                queue.extend(place_of(owner, &place.1.namespace));
            }
            queue.add(place.clone());
        }
        let is_going = |object: Option<&Arc<Object>>| {
            object.is_some_and(|object| object.meta.deletion_timestamp.is_some())
        };
        let new_life = old.zip(new).is_some_and(|(old, new)| old.meta.uid != new.meta.uid);
        if is_going(new) && (!is_going(old) || finalizers(old) != finalizers(new)) {
            queue.add(place);
        }
        // Gone, or going and waiting for its dependents.
        let waits = new.is_some_and(|new| waits_for_dependents(new));
        if new.is_none() || new_life || (waits && !old.is_some_and(|old| waits_for_dependents(old)))
        {
            let owner = old.or(new).map_or("", |object| object.meta.uid.as_str());
            queue.extend(self.dependents.get(owner).into_iter().flatten().cloned());
        }
    }

    fn look(&mut self, _now: Millis, key: &Place, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let (resource, Name { namespace, name }) = key;
        let Some(object) = cache.get(*resource, namespace, name) else { return };
        if object.meta.deletion_timestamp.is_some() {
            self.help_to_go(object, cache, plan);
        } else if !object.meta.owner_references.is_empty() {
            self.judge(object, cache, plan);
        }
    }
}

impl Collector {
    /// Without objects.
    pub(crate) fn new(canary: Switch) -> Self {
        Self { canary, ..Self::default() }
    }

    fn unlink(&mut self, uid: &str, place: &Place) {
        if let Some(places) = self.dependents.get_mut(uid) {
            places.remove(place);
            if places.is_empty() {
                self.dependents.remove(uid);
            }
        }
    }

    /// What names this object as its owner.
    fn dependents<'a>(
        &'a self,
        owner: &'a Object,
        cache: &'a Cache,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let places = self.dependents.get(&owner.meta.uid).into_iter().flatten();
        places.filter_map(|(resource, Name { namespace, name })| {
            cache.get(*resource, namespace, name)
        })
    }

    /// The object is to go; frees its dependents or waits for them, then takes the finalizer away.
    fn help_to_go(&self, object: &Object, cache: &Cache, plan: &mut Plan) {
        let uid = &object.meta.uid;
        if has(object, ORPHAN) {
            for dependent in self.dependents(object, cache) {
                plan.call(without_owners(dependent, |owner| owner.uid == *uid));
            }
            if plan.calls.is_empty() {
                plan.call(without_finalizer(object, ORPHAN));
            }
        } else if has(object, FOREGROUND) {
            let blocks = |dependent: &Object| {
                let mut owners = dependent.meta.owner_references.iter();
                owners.any(|owner| owner.uid == *uid && owner.block_owner_deletion == Some(true))
            };
            if !self.dependents(object, cache).any(|dependent| blocks(dependent))
                && !self.canary.sings(Canary::ForgetsFinalizer)
            {
                plan.call(without_finalizer(object, FOREGROUND));
            }
        }
    }

    /// Whether the object still has an owner to live for.
    fn judge(&self, object: &Object, cache: &Cache, plan: &mut Plan) {
        let mut lost = BTreeSet::new();
        let (mut solid, mut waiting) = (false, false);
        for owner in &object.meta.owner_references {
            // A kind that is not served cannot be looked up: leave alone what it owns.
            let Some((resource, place)) = place_of(owner, &object.meta.namespace) else {
                solid = true;
                continue;
            };
            match cache.get(resource, &place.namespace, &place.name) {
                Some(there) if there.meta.uid != owner.uid => {
                    lost.insert(owner.uid.as_str());
                }
                None => {
                    lost.insert(owner.uid.as_str());
                }
                Some(there) if waits_for_dependents(there) => {
                    lost.insert(owner.uid.as_str());
                    waiting = true;
                }
                Some(_) => solid = true,
            }
        }
        if solid {
            if !lost.is_empty() {
                plan.call(without_owners(object, |owner| lost.contains(owner.uid.as_str())));
            }
            return;
        }
        let how = if has(object, ORPHAN) {
            "Orphan"
        } else if has(object, FOREGROUND)
            || (waiting && self.dependents(object, cache).next().is_some())
        {
            "Foreground"
        } else {
            "Background"
        };
        let mut ask = Ask::delete(object);
        if let CallAction::Delete { propagation, resource_version, .. } = &mut ask.action {
            *propagation = Some(how);
            // If it is adopted meanwhile this verdict is void.
            *resource_version = Some(object.resource_version());
        }
        plan.call(ask);
    }
}

/// Where the owner is: in the dependent's namespace, or cluster-scoped. `None`: its kind is not served.
fn place_of(owner: &OwnerReference, namespace: &str) -> Option<Place> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let resource = Resource::all()
        .find(|resource| resource.def().kind == owner.kind && resource.def().group == group)?;
    let namespaced = resource.def().namespaced;
    if namespaced && namespace.is_empty() {
        return None;
    }
    Some((resource, Name::new(if namespaced { namespace } else { "" }, &owner.name)))
}

fn finalizers(object: Option<&Arc<Object>>) -> &[String] {
    object.map_or(&[], |object| object.meta.finalizers.as_slice())
}

fn has(object: &Object, finalizer: &str) -> bool {
    object.meta.finalizers.iter().any(|has| has == finalizer)
}

fn waits_for_dependents(object: &Object) -> bool {
    object.meta.deletion_timestamp.is_some() && has(object, FOREGROUND)
}

fn without_owners(object: &Object, lost: impl Fn(&OwnerReference) -> bool) -> Ask {
    let owners: Vec<_> =
        object.meta.owner_references.iter().filter(|owner| !lost(owner)).cloned().collect();
    Ask::patch(object, PatchType::Merge, owners_patch(object, &owners))
}

fn without_finalizer(object: &Object, finalizer: &str) -> Ask {
    let kept: Vec<_> = object.meta.finalizers.iter().filter(|has| *has != finalizer).collect();
    let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
    let patch = json!({"metadata": {
        "uid": object.meta.uid,
        "resourceVersion": object.resource_version(),
        "finalizers": kept,
    }});
    Ask::patch(object, PatchType::Merge, patch)
}
