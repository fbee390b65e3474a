//! Adoption and release: an owner claims what its selector matches and nobody controls, and lets go what it no longer
//! matches.

use alloc::vec::Vec;

use coracle_api::{Meta, Object, OwnerReference, selector::LabelSelector};
use serde_json::{Value, json};

use super::ask::Ask;
use crate::{cache::Change, call::PatchType};

/// What an object is to an owner.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Controlled by it and matched by its selector.
    Ours,
    /// Matched, and controlled by nobody: to be adopted.
    Adopt,
    /// Controlled by it and no longer matched: to be let go.
    Release,
    /// Nothing.
    Foreign,
}

/// What `object` is to `owner`, which selects by `selector`. Both are in one namespace.
pub(crate) fn claim(owner: &Meta, selector: &LabelSelector, object: &Meta) -> Claim {
    let owner_ends = owner.deletion_timestamp.is_some();
    let matches = selector.matches(&object.labels);
    match object.controller() {
        Some(controller) if controller.uid != owner.uid => Claim::Foreign,
        Some(_) if matches => Claim::Ours,
        Some(_) if owner_ends => Claim::Foreign,
        Some(_) => Claim::Release,
        None if owner_ends || !matches || object.deletion_timestamp.is_some() => Claim::Foreign,
        None => Claim::Adopt,
    }
}

/// The reference that makes `owner` the controller.
pub(crate) fn controller_reference(owner: &Object) -> OwnerReference {
    let def = owner.resource.def();
    OwnerReference {
        api_version: def.api_version(),
        kind: def.kind.into(),
        name: owner.meta.name.clone(),
        uid: owner.meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Makes `owner` the controller of `object`, if it is still this version.
pub(crate) fn adopt(owner: &Object, object: &Object) -> Ask {
    let mut owners = object.meta.owner_references.clone();
    owners.push(controller_reference(owner));
    Ask::patch(object, PatchType::Merge, owners_patch(object, &owners))
}

/// Ends the control of `owner` over `object`, if it is still this version.
pub(crate) fn release(owner: &Object, object: &Object) -> Ask {
    let owners = object.meta.owner_references.iter().filter(|o| o.uid != owner.meta.uid);
    let owners: Vec<_> = owners.cloned().collect();
    Ask::patch(object, PatchType::Merge, owners_patch(object, &owners))
}

/// A merge patch that sets the owners of exactly this version; none: the field goes.
pub(crate) fn owners_patch(object: &Object, owners: &[OwnerReference]) -> Value {
    let owners = if owners.is_empty() { Value::Null } else { json!(owners) };
    json!({"metadata": {
        "uid": object.meta.uid,
        "resourceVersion": object.resource_version(),
        "ownerReferences": owners,
    }})
}

/// The namespace in which somebody may want to adopt the object of this change: nobody controls it, and that or its
/// labels are new.
pub(crate) fn newly_adoptable(change: &Change) -> Option<&str> {
    let new = change.new.as_ref().filter(|new| new.meta.controller().is_none())?;
    let old = change.old.as_ref();
    let same = old
        .is_some_and(|old| old.meta.controller().is_none() && old.meta.labels == new.meta.labels);
    (!same).then_some(new.meta.namespace.as_str())
}
