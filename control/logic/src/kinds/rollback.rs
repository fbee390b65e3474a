//! The `rollback` subresource of Deployments (apps/v1beta1 and extensions/v1beta1).

use alloc::format;

use coracle_api::Status;
use serde_json::Value;

use super::{
    access::{child, entries, int, name, set, text},
    field::{FieldErrors, Path},
    versions::ROLLBACK_TO,
};

/// The Deployment (hub version) that asks its controller for the rollback in a DeploymentRollback. The caller writes it
/// as an update and answers with a Status: success, code 200, `rollback request for deployment "x" succeeded`.
///
/// # Errors
/// 400 where the names differ, 422 for a missing name or negative revision.
pub fn rollback(deployment: &Value, request: &Value) -> Result<Value, Status> {
    let mut errors = FieldErrors::default();
    let asked = text(request, &["name"]);
    if asked.is_empty() {
        errors.required(&Path::new("name"), "");
    }
    let revision = int(request, &["rollbackTo", "revision"]).unwrap_or(0);
    if revision < 0 {
        let path = Path::new("rollback").child("revision");
        errors.invalid(&path, revision, "must be greater than or equal to 0");
    }
    errors.into_result("apps", "DeploymentRollback", asked)?;
    if asked != name(deployment) {
        return Err(Status::bad_request(
            "name in URL does not match name in DeploymentRollback object",
        ));
    }
    let mut deployment = deployment.clone();
    let annotations = child(child(&mut deployment, "metadata"), "annotations");
    for (key, value) in entries(request, &["updatedAnnotations"]) {
        set(annotations, key, value.clone());
    }
    set(annotations, ROLLBACK_TO, format!("{revision}"));
    Ok(deployment)
}
