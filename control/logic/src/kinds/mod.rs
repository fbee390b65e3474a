//! What is particular to a kind, as pure functions over the object's JSON: defaults, conversion, preparation,
//! validation, field selectors, subresources, warnings.
//!
//! The registry calls the functions of this file in this order. Create: [`default`] (in the client's version),
//! [`to_hub`], mutating admission, [`prepare_create`], then name, uid and timestamps by the registry,
//! [`validate_create`]. Update and patch: the patch is applied to the client's version, [`default`], [`to_hub`],
//! [`prepare_update`], [`validate_update`]. A subresource that writes the object itself (`status`, `approval`,
//! `finalize`, `resize` is not served) goes through [`prepare_subresource`] and [`validate_subresource`]. Answers go
//! through [`from_hub`].

pub(crate) mod access;
pub mod binding;
mod certificates;
mod conditions;
mod config;
mod deprecation;
mod endpoint_slices;
mod events;
mod field;
mod fields;
mod leases;
mod meta;
mod namespaces;
mod nodes;
mod pods;
mod quantities;
mod rbac;
mod rollback;
pub mod scale;
pub mod service_ip;
mod services;
mod versions;
mod workloads;

use alloc::{string::String, vec::Vec};

use coracle_api::{Object, Resource, Status};
use serde_json::Value;

use self::field::FieldErrors;
pub use self::{
    deprecation::deprecation,
    rollback::rollback,
    versions::{from_hub, to_hub},
};
use crate::{Millis, call::User};

/// What a preparation or validation may know beside the object.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Wall clock of this step.
    pub now: Millis,
    /// Who is calling.
    pub user: &'a User,
    /// Group as asked (`extensions` stays `extensions`).
    pub group: &'a str,
    /// Version as asked.
    pub version: &'a str,
}

/// Facts about a kind that the registry's verbs need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// A DELETE first marks the object and waits for its node (`spec.terminationGracePeriodSeconds`).
    pub graceful_deletion: bool,
    /// PUT without `metadata.resourceVersion` is taken as "on whatever is there"; else it is a 422.
    pub unconditional_update: bool,
    /// PUT (and apply) of a name that does not exist creates it.
    pub create_on_update: bool,
    /// The object has a `metadata.generation`.
    pub has_generation: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            graceful_deletion: false,
            unconditional_update: true,
            create_on_update: false,
            has_generation: false,
        }
    }
}

/// What happens to dependents where DELETE names no propagation policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are collected after the owner is gone.
    Background,
    /// They lose their owner and stay.
    Orphan,
}

/// A kind's own rules. Defaults of the methods are those of a kind without status and without rules.
trait Strategy: Sync {
    /// The facts.
    fn facts(&self) -> Facts {
        Facts::default()
    }
    /// Fills in what the client left out; `object` is in the client's version.
    fn default(&self, _context: &Context<'_>, _object: &mut Value) {}
    /// Takes out what a creator may not set.
    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Value) {}
    /// Puts back what an update may not change; moves `metadata.generation` on.
    fn prepare_update(&self, _context: &Context<'_>, _new: &mut Value, _old: &Value) {}
    /// The same for a subresource that writes the object.
    fn prepare_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        _new: &mut Value,
        _old: &Value,
    ) {
    }
    /// Rules for a new object, beside those of `metadata`.
    fn validate_create(&self, _context: &Context<'_>, _object: &Value, _errors: &mut FieldErrors) {}
    /// Rules for a changed one.
    fn validate_update(
        &self,
        _context: &Context<'_>,
        _new: &Value,
        _old: &Value,
        _errors: &mut FieldErrors,
    ) {
    }
    /// Rules for one changed through a subresource.
    fn validate_subresource(
        &self,
        _context: &Context<'_>,
        _subresource: &str,
        _new: &Value,
        _old: &Value,
        _errors: &mut FieldErrors,
    ) {
    }
    /// Field selector paths beside `metadata.name` and `metadata.namespace`.
    fn field_labels(&self) -> &'static [&'static str] {
        &[]
    }
    /// Sentences for Warning headers about what the client (create, update) sent.
    fn warnings(
        &self,
        _context: &Context<'_>,
        _new: &Value,
        _old: Option<&Value>,
        _out: &mut Vec<String>,
    ) {
    }
}

/// A kind without rules of its own: ServiceAccounts.
struct Plain;

impl Strategy for Plain {
    fn facts(&self) -> Facts {
        Facts { unconditional_update: false, ..Facts::default() }
    }
}

fn strategy(resource: Resource) -> &'static dyn Strategy {
    match resource {
        Resource::PODS => &pods::Pods,
        Resource::DEPLOYMENTS => &workloads::Deployments,
        Resource::REPLICA_SETS => &workloads::ReplicaSets,
        Resource::NAMESPACES => &namespaces::Namespaces,
        Resource::NODES => &nodes::Nodes,
        Resource::CONFIG_MAPS => &config::ConfigMaps,
        Resource::SECRETS => &config::Secrets,
        Resource::SERVICES => &services::Services,
        Resource::EVENTS => &events::Events,
        Resource::LEASES => &leases::Leases,
        Resource::PRIORITY_CLASSES => &leases::PriorityClasses,
        Resource::ENDPOINT_SLICES => &endpoint_slices::EndpointSlices,
        Resource::ROLES => &rbac::Roles { namespaced: true },
        Resource::CLUSTER_ROLES => &rbac::Roles { namespaced: false },
        Resource::ROLE_BINDINGS => &rbac::Bindings { namespaced: true },
        Resource::CLUSTER_ROLE_BINDINGS => &rbac::Bindings { namespaced: false },
        Resource::CERTIFICATE_SIGNING_REQUESTS => &certificates::Requests,
        _ => &Plain,
    }
}

fn into_result(errors: FieldErrors, resource: Resource, object: &Value) -> Result<(), Status> {
    let def = resource.def();
    errors.into_result(def.group, def.kind, access::name(object))
}

/// Facts about a kind.
pub fn facts(resource: Resource) -> Facts {
    strategy(resource).facts()
}

/// What a DELETE through this group and version does with dependents where it does not say.
pub fn default_propagation(group: &str, version: &str) -> Propagation {
    match (group, version) {
        ("extensions", "v1beta1") | ("apps", "v1beta1" | "v1beta2") => Propagation::Orphan,
        _ => Propagation::Background,
    }
}

/// Fills in what the client left out, with the defaults of the version it used (`context.group`, `context.version`);
/// `object` is still in that version.
pub fn default(resource: Resource, context: &Context<'_>, object: &mut Value) {
    access::prune_nulls(object);
    strategy(resource).default(context, object);
}

/// Takes out of a new object (hub version) what its creator may not set, and sets `metadata.generation`.
pub fn prepare_create(resource: Resource, context: &Context<'_>, object: &mut Value) {
    let strategy = strategy(resource);
    strategy.prepare_create(context, object);
    meta::prepare_create(object, strategy.facts());
}

/// Puts back into `new` what an update may not change (status, uid, timestamps of creation and deletion), and moves
/// `metadata.generation` on where the kind's desired state changed. `metadata.resourceVersion` is left as it is.
pub fn prepare_update(resource: Resource, context: &Context<'_>, new: &mut Value, old: &Value) {
    meta::prepare_update(new, old);
    strategy(resource).prepare_update(context, new, old);
}

/// The same for a write through `subresource` (`status`, `approval`, `finalize`): what it may not change is put back.
pub fn prepare_subresource(
    resource: Resource,
    subresource: &str,
    context: &Context<'_>,
    new: &mut Value,
    old: &Value,
) {
    meta::prepare_update(new, old);
    strategy(resource).prepare_subresource(context, subresource, new, old);
}

/// Checks a new object; the error is a 422 with one cause for each wrong field.
pub fn validate_create(
    resource: Resource,
    context: &Context<'_>,
    object: &Value,
) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    meta::validate(resource, object, &mut errors);
    strategy(resource).validate_create(context, object, &mut errors);
    into_result(errors, resource, object)
}

/// Checks a changed object against what it was.
pub fn validate_update(
    resource: Resource,
    context: &Context<'_>,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    meta::validate_update(new, old, &mut errors);
    strategy(resource).validate_update(context, new, old, &mut errors);
    into_result(errors, resource, new)
}

/// Checks an object changed through `subresource`.
pub fn validate_subresource(
    resource: Resource,
    subresource: &str,
    context: &Context<'_>,
    new: &Value,
    old: &Value,
) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    meta::validate_update(new, old, &mut errors);
    strategy(resource).validate_subresource(context, subresource, new, old, &mut errors);
    into_result(errors, resource, new)
}

/// Sentences for Warning headers about this create (`old` is `None`) or update, without the version's own
/// [`deprecation`].
pub fn warnings(
    resource: Resource,
    context: &Context<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Vec<String> {
    let mut out = Vec::new();
    strategy(resource).warnings(context, new, old, &mut out);
    out
}

/// Whether a field selector may name this path for this resource; the error is Kubernetes' 400.
pub fn field_label(resource: Resource, path: &str) -> Result<(), Status> {
    let known =
        matches!(path, "metadata.name") || strategy(resource).field_labels().contains(&path);
    if known || (path == "metadata.namespace" && resource.def().namespaced) {
        Ok(())
    } else {
        Err(Status::bad_request(alloc::format!("field label not supported: {path}")))
    }
}

/// The value that a field selector compares; `None` where [`field_label`] refuses the path. A field that the object
/// does not have is the empty string (or `false`, for `spec.unschedulable` and `spec.hostNetwork`).
pub fn field_value(resource: Resource, object: &Object, path: &str) -> Option<String> {
    match path {
        "metadata.name" => return Some(object.meta.name.clone()),
        "metadata.namespace" => return Some(object.meta.namespace.clone()),
        "spec.nodeName" if resource == Resource::PODS => return Some((*object.node).into()),
        _ => {}
    }
    field_label(resource, path).ok()?;
    Some(fields::value(resource, &object.value(), path))
}

#[cfg(test)]
mod tests;
