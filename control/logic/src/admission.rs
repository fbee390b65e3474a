//! Admission: one ordered list of plugins, mutating ones first, then validating ones.
//!
//! The registry calls [`admit_mutating`] on the decoded, defaulted hub object, then runs the kind's own preparation and
//! validation, then [`admit_validating`]. Each plugin is a pure function; none writes.

use alloc::{string::String, vec::Vec};

use coracle_api::{Resource, Status};
use serde_json::Value;

use crate::{
    Millis, Rng,
    authz::{Authorizer, escalation},
    cache::Cache,
    call::{User, Verb},
};

/// What is to be admitted.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// [`Verb::Create`], [`Verb::Update`], [`Verb::Patch`] (the object as patched), [`Verb::Delete`] (also once for each
    /// object of a collection).
    pub verb: Verb,
    /// The stored resource.
    pub resource: Resource,
    /// `status`, `binding`, …; empty: the object itself.
    pub subresource: &'a str,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// Empty for a create with `generateName` whose name is not made yet.
    pub name: &'a str,
    /// Nothing will be written.
    pub dry_run: bool,
}

/// What plugins look at, and where they leave warnings.
#[derive(Debug)]
pub struct Scene<'a> {
    /// All objects as they are now.
    pub cache: &'a Cache,
    /// Who may what.
    pub authorizer: &'a Authorizer,
    /// The time.
    pub now: Millis,
    /// For generated names.
    pub rng: &'a mut Rng,
    /// For Warning headers.
    pub warnings: &'a mut Vec<String>,
}

/// A mutating plugin: may change `new` (null for deletes).
type Mutate = fn(&Attributes<'_>, Option<&Value>, &mut Value, &mut Scene<'_>) -> Result<(), Status>;
/// A validating plugin.
type Validate = fn(&Attributes<'_>, Option<&Value>, &Value, &mut Scene<'_>) -> Result<(), Status>;

/// In this order.
const MUTATING: &[Mutate] = &[];
/// In this order.
const VALIDATING: &[Validate] = &[escalation::check];

/// Lets every mutating plugin change the object, in their order; the first refusal ends it.
///
/// `old` is what is stored (updates, deletes), `new` the object to be written in the hub version; for a subresource that
/// has a body of its own (`binding`, `eviction`, `token`) it is that body; `Value::Null` for deletes.
pub fn admit_mutating(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &mut Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    MUTATING.iter().try_for_each(|plugin| plugin(attributes, old, new, scene))
}

/// Asks every validating plugin, in their order; the first refusal ends it. Arguments as of [`admit_mutating`].
pub fn admit_validating(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    VALIDATING.iter().try_for_each(|plugin| plugin(attributes, old, new, scene))
}
