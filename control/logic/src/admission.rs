//! Admission: one ordered list of plugins, mutating ones first, then validating ones.
//!
//! The registry calls [`admit_mutating`] on the decoded, defaulted hub object, then runs the kind's own preparation and
//! validation, then [`admit_validating`]. Each plugin is a pure function; none writes.

mod certificates;
mod namespace_lifecycle;
mod node_restriction;
pub mod priority;
mod service_account;
mod tolerations;

use alloc::{string::String, vec::Vec};

use coracle_api::{Resource, Status};
use serde_json::Value;

use crate::{
    Millis, Rng,
    authz::{self, Asked, Authorizer, escalation},
    cache::Cache,
    call::{User, Verb},
    kinds::access::text,
};

/// What is to be admitted.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// The call's verb. Plugins see what really happens: an update or patch of what is not there is a create, each object
    /// of a collection that is deleted is a delete.
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

impl<'a> Attributes<'a> {
    fn really<'b>(&'b self, old: Option<&'b Value>) -> Attributes<'b>
    where
        'a: 'b,
    {
        let mut really = Attributes { ..self.clone() };
        match (self.verb, old) {
            (Verb::Update | Verb::Patch, None) => really.verb = Verb::Create,
            (Verb::DeleteCollection, _) => really.verb = Verb::Delete,
            _ => {}
        }
        if let Some(old) = old.filter(|_| really.name.is_empty()) {
            really.name = text(old, &["metadata", "name"]);
        }
        really
    }
}

/// Whoever makes an object by an update or an apply needs the right to create it (403).
pub(crate) fn may_create(
    attributes: &Attributes<'_>,
    authorizer: &Authorizer,
    cache: &Cache,
) -> Result<(), Status> {
    let def = attributes.resource.def();
    let asked = Asked {
        verb: "create",
        group: def.group,
        resource: def.plural,
        namespace: attributes.namespace,
        name: attributes.name,
        ..Asked::default()
    };
    if authorizer.allows(attributes.user, &asked, cache) {
        Ok(())
    } else {
        Err(authz::forbidden(attributes.user, &asked))
    }
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
const MUTATING: &[Mutate] =
    &[namespace_lifecycle::mutate, service_account::mutate, tolerations::mutate, priority::mutate];
/// In this order.
const VALIDATING: &[Validate] = &[
    namespace_lifecycle::validate,
    node_restriction::validate,
    priority::validate,
    certificates::validate,
    escalation::check,
];

/// 403 about the object that is to be admitted: `pods "x" is forbidden: why`.
fn forbidden(attributes: &Attributes<'_>, object: &Value, why: &str) -> Status {
    let def = attributes.resource.def();
    let metadata = |key| text(object, &["metadata", key]);
    let names = [attributes.name, metadata("name"), metadata("generateName"), "Unknown"];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    Status::forbidden(def.group, def.plural, name, why)
}

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
    let really = attributes.really(old);
    if really.verb == Verb::Create && attributes.verb != Verb::Create {
        may_create(&really, scene.authorizer, scene.cache)?;
    }
    let attributes = &really;
    MUTATING.iter().try_for_each(|plugin| plugin(attributes, old, new, scene))
}

/// Asks every validating plugin, in their order; the first refusal ends it. Arguments as of [`admit_mutating`].
pub fn admit_validating(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let attributes = &attributes.really(old);
    VALIDATING.iter().try_for_each(|plugin| plugin(attributes, old, new, scene))
}

#[cfg(test)]
mod tests;
