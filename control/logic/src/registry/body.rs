//! Bodies: from bytes to a checked object in the client's version, and patches laid over one.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{
    Status, decode, fields, managed, patch,
    schema::{self, TypeRef},
    time,
};
use serde_json::{Value, json};

use super::{Ask, Payload, Registry, api_version};
use crate::{
    call::{Authorized, Call, FieldValidation, PatchType},
    kinds::access::{child, object, set, text},
};

const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Type of a kind that the schema must have.
pub(crate) fn type_of(group: &str, version: &str, kind: &str) -> Result<TypeRef, Status> {
    schema::type_by_gvk(group, version, kind).ok_or_else(|| {
        Status::internal(&format!("the schema has no {} {kind}", api_version(group, version)))
    })
}

impl Registry<'_> {
    /// The object that was sent, its fields checked; `apiVersion` and `kind` must be these or absent.
    pub(crate) fn body(
        &mut self,
        ask: &Ask<'_>,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Value, Status> {
        body_of(ask.call, ask.payload, (group, version, kind), &mut self.warnings)
    }

    /// Drops what the type does not have, by the caller's `fieldValidation`.
    pub(crate) fn check(
        &mut self,
        ask: &Ask<'_>,
        ty: TypeRef,
        value: &mut Value,
        doubled: &[String],
    ) -> Result<(), Status> {
        check(ask.call, ty, value, doubled, &mut self.warnings)
    }

    /// The patch that was sent and how it is to be read.
    pub(crate) fn patch_body(
        &self,
        ask: &Ask<'_>,
    ) -> Result<(PatchType, Value, Vec<String>), Status> {
        match ask.payload {
            Payload::Patch(kind, value) => Ok((*kind, value.clone(), Vec::new())),
            Payload::Http => {
                let content_type = ask.call.http.header("content-type").unwrap_or_default();
                let kind = match content_type.split(';').next().unwrap_or_default().trim() {
                    "application/json-patch+json" => PatchType::Json,
                    "application/merge-patch+json" => PatchType::Merge,
                    "application/strategic-merge-patch+json" => PatchType::Strategic,
                    "application/apply-patch+yaml" => PatchType::Apply,
                    _ => return Err(Status::unsupported_media_type(PATCH_TYPES)),
                };
                let (value, doubled) = decoded(ask.call, Some("application/json"))?;
                Ok((kind, value, doubled))
            }
            Payload::Object(_) | Payload::Delete(_) => {
                Err(Status::internal("an object or delete came where a patch is needed"))
            }
        }
    }

    /// Lays a patch (not an Apply) over `base`, then checks the fields of the result.
    pub(crate) fn patched(
        &mut self,
        ask: &Ask<'_>,
        ty: TypeRef,
        (kind, patch, doubled): (PatchType, &Value, &[String]),
        base: &Value,
    ) -> Result<Value, Status> {
        let mut value = base.clone();
        match kind {
            PatchType::Json => patch::json(&mut value, patch)?,
            PatchType::Merge => patch::merge(&mut value, patch),
            PatchType::Strategic => patch::strategic(ty, &mut value, patch)?,
            PatchType::Apply => {
                return Err(Status::unsupported_media_type(PATCH_TYPES));
            }
        }
        if !value.is_object() {
            return Err(Status::bad_request("the patched object is not an object"));
        }
        self.check(ask, ty, &mut value, doubled)?;
        Ok(value)
    }

    /// Server-side apply of a configuration over what is there.
    pub(crate) fn applied(
        &mut self,
        ask: &Ask<'_>,
        ty: TypeRef,
        (config, doubled): (Value, &[String]),
        live: Option<&Value>,
    ) -> Result<Value, Status> {
        let options = ask.call.options();
        let mut config = config;
        if !config.is_object() {
            return Err(Status::bad_request("the applied configuration is not an object"));
        }
        type_meta(&mut config, &ask.target.group, &ask.target.version, ask.resource.def().kind)?;
        self.check(ask, ty, &mut config, doubled)?;
        if config.pointer("/metadata/managedFields").is_some() {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        place(ask, &mut config)?;
        let (api_version, time) = (ask.api_version(), time::rfc3339(self.now.0));
        let writer = managed::Writer {
            name: &options.field_manager,
            api_version: &api_version,
            subresource: &ask.target.subresource,
            time: &time,
        };
        managed::apply(ty, live, &config, &writer, options.force)
    }
}

/// The object that a call brings, its fields checked; `apiVersion` and `kind` must be these or absent.
pub(crate) fn body_of(
    call: &Call<Authorized>,
    payload: &Payload,
    (group, version, kind): (&str, &str, &str),
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let (mut value, doubled) = match payload {
        Payload::Object(value) => (value.clone(), Vec::new()),
        Payload::Http => decoded(call, None)?,
        Payload::Patch(..) | Payload::Delete(_) => {
            return Err(Status::internal("a patch or delete came where an object is needed"));
        }
    };
    if !value.is_object() {
        return Err(Status::bad_request("the body of the request is not an object"));
    }
    type_meta(&mut value, group, version, kind)?;
    check(call, type_of(group, version, kind)?, &mut value, &doubled, warnings)?;
    Ok(value)
}

fn check(
    call: &Call<Authorized>,
    ty: TypeRef,
    value: &mut Value,
    doubled: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mode = match call.options().field_validation {
        FieldValidation::Ignore => fields::FieldValidation::Ignore,
        FieldValidation::Warn => fields::FieldValidation::Warn,
        FieldValidation::Strict => fields::FieldValidation::Strict,
    };
    warnings.extend(fields::check(ty, value, doubled, mode)?);
    Ok(())
}

fn decoded(call: &Call<Authorized>, as_type: Option<&str>) -> Result<(Value, Vec<String>), Status> {
    let http = &call.http;
    let content_type = http.header("content-type").unwrap_or_default();
    let content_type = if http.body.was_yaml { "application/json" } else { content_type };
    let decode::Decoded { value, mut doubled } =
        decode::body(as_type.unwrap_or(content_type), &http.body.bytes)?;
    doubled.extend(http.body.doubled.iter().cloned());
    Ok((value, doubled))
}

/// Fills in `apiVersion` and `kind`, or refuses others than these.
fn type_meta(value: &mut Value, group: &str, version: &str, kind: &str) -> Result<(), Status> {
    let want = api_version(group, version);
    let have = text(value, &["apiVersion"]);
    if !have.is_empty() && have != want {
        return Err(Status::bad_request(format!(
            "the API version in the data ({have}) does not match the expected API version ({want})"
        )));
    }
    let have = text(value, &["kind"]);
    if !have.is_empty() && have != kind {
        return Err(Status::bad_request(format!(
            "the kind in the data ({have}) does not match the expected kind ({kind})"
        )));
    }
    set(value, "apiVersion", want);
    set(value, "kind", kind);
    Ok(())
}

/// Sees to it that the object lies where the URL says, by name (where the URL has one) and namespace.
pub(crate) fn place(ask: &Ask<'_>, value: &mut Value) -> Result<(), Status> {
    let target = ask.target;
    let metadata = child(value, "metadata");
    let name = text(metadata, &["name"]);
    if !target.name.is_empty() && name != target.name {
        if !name.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        set(metadata, "name", target.name.as_str());
    }
    let namespace = text(metadata, &["namespace"]);
    if !ask.resource.def().namespaced {
        if namespace.is_empty() {
            object(metadata).remove("namespace");
        }
        return Ok(());
    }
    if !namespace.is_empty() && namespace != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    set(metadata, "namespace", target.namespace.as_str());
    Ok(())
}

/// An empty body is an empty object.
pub(crate) fn optional(ask: &Ask<'_>) -> Result<Value, Status> {
    if ask.call.http.body.bytes.is_empty() {
        return Ok(json!({}));
    }
    decoded(ask.call, None).map(|(value, _)| value)
}
