//! NamespaceLifecycle: nothing is made in a namespace that is not there or is ending; some namespaces stay.

use alloc::format;

use coracle_api::{Resource, Status, status::Cause};
use serde_json::Value;

use super::{Attributes, Scene, forbidden};
use crate::{call::Verb, kinds::access::text};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// 404 without the namespace, 403 while it ends. The first to be asked: what else may be missing in it does not matter.
pub(super) fn mutate(
    attributes: &Attributes<'_>,
    _old: Option<&Value>,
    new: &mut Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let Attributes { verb, namespace, .. } = *attributes;
    if namespace.is_empty() || verb != Verb::Create {
        return Ok(());
    }
    let object = scene
        .cache
        .get(Resource::NAMESPACES, "", namespace)
        .ok_or_else(|| Status::not_found("", "namespaces", namespace))?;
    let ending = object.meta.deletion_timestamp.is_some()
        || text(&object.value(), &["status", "phase"]) == "Terminating";
    if !ending {
        return Ok(());
    }
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = forbidden(attributes, new, &why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    Err(status)
}

/// 403 for the end of an immortal namespace.
pub(super) fn validate(
    attributes: &Attributes<'_>,
    _old: Option<&Value>,
    new: &Value,
    _scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let Attributes { verb, resource, name, subresource, .. } = *attributes;
    let ends = resource == Resource::NAMESPACES && verb == Verb::Delete && subresource.is_empty();
    if ends && IMMORTAL.contains(&name) {
        return Err(forbidden(attributes, new, "this namespace may not be deleted"));
    }
    Ok(())
}
