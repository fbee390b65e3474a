//! `metadata.managedFields`: who owns which field; server-side apply.

use serde_json::Value;

use crate::{schema::TypeRef, status::Status};

/// Who writes.
#[derive(Copy, Clone, Debug)]
pub struct Writer<'a> {
    /// `fieldManager`, or the first word of the user agent (at most 128 bytes).
    pub name: &'a str,
    /// apiVersion of the request (`apps/v1`).
    pub api_version: &'a str,
    /// Subresource written through, or empty.
    pub subresource: &'a str,
    /// Now, RFC 3339 in whole seconds.
    pub time: &'a str,
}

/// Notes in `new` who owns what after a create (`live` is `None`), update or patch: the writer owns each field that it
/// set or changed, others lose what was changed or removed. The entries of `live` are the base, unless `new` empties them.
pub fn update(_ty: TypeRef, _live: Option<&Value>, _new: &mut Value, _writer: &Writer<'_>) {}

/// Server-side apply: the object after applying `config` for this writer (`live` is `None`: it is made now).
///
/// # Errors
/// 409 with a cause for each field that another owns with another value (unless `force`). 400: a list item without its keys.
pub fn apply(
    _ty: TypeRef,
    _live: Option<&Value>,
    _config: &Value,
    _writer: &Writer<'_>,
    _force: bool,
) -> Result<Value, Status> {
    Err(Status::internal("not there yet"))
}
