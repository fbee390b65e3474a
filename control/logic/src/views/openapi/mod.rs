//! OpenAPI documents, made part by part as they are read: v3 by group and version, v2 in one (JSON and protobuf).
//!
//! No descriptions: what tools need is the shape. A document changes only with the program, so its ETag is a hash of what
//! it is made from.

mod gnostic;
mod paths;
mod shapes;

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use coracle_api::{
    Status,
    schema::{self, TypeRef},
    served::{self, Served},
};
use serde_json::{Map, Value, json};

use super::{discovery::versions, etag};
use crate::{
    call::{HttpRequest, query},
    plane::{Response, ResponseBody},
    registry::answer::json_value,
};
use shapes::Dialect;

/// Hash of the tables and of the code that makes documents of them.
const ORIGIN: u64 = etag::fnv(
    include_bytes!("shapes.rs"),
    etag::fnv(
        include_bytes!("paths.rs"),
        etag::fnv(
            include_bytes!("gnostic.rs"),
            etag::fnv(include_bytes!("mod.rs"), schema::FINGERPRINT),
        ),
    ),
);

const INFO: &str = "{\"title\":\"Kubernetes\",\"version\":\"1.36\"}";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers `/openapi/v2`, `/openapi/v3` and its documents; `None`: another path.
pub(super) fn answer(http: &HttpRequest, path: &str) -> Option<Result<Response, Status>> {
    match path {
        "/openapi/v2" => Some(v2(http)),
        "/openapi/v3" => Some(Ok(index())),
        _ => {
            let document = path.strip_prefix("/openapi/v3/")?;
            let (group, version) = match document.strip_prefix("apis/") {
                Some(name) => name.split_once('/')?,
                None => ("", document.strip_prefix("api/")?),
            };
            let rows: Vec<&'static Served> = rows_of(group, version).collect();
            if rows.is_empty() { None } else { Some(v3(http, document, &rows)) }
        }
    }
}

fn rows_of(group: &str, version: &str) -> impl Iterator<Item = &'static Served> {
    served::all().iter().filter(move |row| row.group == group && row.version == version)
}

fn hash(document: &str) -> String {
    etag::text(document.as_bytes(), ORIGIN)
}

/// The documents of v3, each with its hash.
fn index() -> Response {
    let mut paths = Map::new();
    let mut groups: Vec<&str> = served::all().iter().map(|row| row.group).collect();
    groups.dedup();
    for group in groups {
        for version in versions(group) {
            let document = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let url = format!("/openapi/v3/{document}?hash={}", hash(&document));
            paths.insert(document, json!({ "serverRelativeURL": url }));
        }
    }
    json_value(200, &json!({ "paths": paths }))
}

fn v3(http: &HttpRequest, document: &str, rows: &[&'static Served]) -> Result<Response, Status> {
    let accept = http.header("accept").unwrap_or_default();
    let takes_json = accept.trim().is_empty()
        || ["application/json", "application/*", "*/*"].iter().any(|kind| accept.contains(kind));
    if !takes_json {
        return Err(Status::not_acceptable(&["application/json"]));
    }
    let hash = hash(document);
    let pairs = query::decode(&http.query).unwrap_or_default();
    let asked = query::first(&pairs, "hash").unwrap_or_default();
    if !asked.is_empty() && asked != hash {
        // Another program's document: this is where ours is.
        let mut response = json_value(301, &json!({}));
        response.headers.push(("location", format!("/openapi/v3/{document}?hash={hash}")));
        return Ok(response);
    }
    let cache = if asked.is_empty() { "no-cache, private" } else { "public, immutable" };
    let types = reachable(rows.iter().copied());
    let paths = paths::all(rows, Dialect::V3);
    let opening = format!("{{\"openapi\":\"3.0.0\",\"info\":{INFO},\"paths\":{{");
    let parts = core::iter::once(opening)
        .chain(entries(paths))
        .chain(core::iter::once("},\"components\":{\"schemas\":{".into()))
        .chain(entries(types.into_iter().map(|ty| (ty.name().into(), shapes::of(ty, Dialect::V3)))))
        .chain(core::iter::once("}}}".into()))
        .map(|part: String| Arc::from(part.into_bytes()));
    Ok(document_answer(http, &hash, cache, "application/json", parts))
}

fn v2(http: &HttpRequest) -> Result<Response, Status> {
    let accept = http.header("accept").unwrap_or_default();
    let wants = |kind: &str| accept.contains(kind);
    let protobuf = [
        "com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ]
    .iter()
    .any(|kind| wants(kind));
    let json = accept.trim().is_empty()
        || ["application/json", "application/*", "*/*"].iter().any(|kind| wants(kind));
    if !protobuf && !json {
        return Err(Status::not_acceptable(&["application/json", PROTOBUF]));
    }
    let hash = hash(if protobuf { "v2 protobuf" } else { "v2" });
    let rows: Vec<&'static Served> = served::all().iter().collect();
    let types = reachable(served::all().iter())
        .into_iter()
        .map(|ty| (String::from(ty.name()), shapes::of(ty, Dialect::V2)));
    let paths = paths::all(&rows, Dialect::V2);
    let cache = "no-cache, private";
    if protobuf {
        let parts = core::iter::once(gnostic::head("Kubernetes", "1.36"))
            .chain(paths.map(|(path, item)| gnostic::path(&path, &item)))
            .chain(types.map(|(name, shape)| gnostic::definition(&name, &shape)))
            .map(Arc::from);
        return Ok(document_answer(http, &hash, cache, PROTOBUF, parts));
    }
    let parts = core::iter::once(format!("{{\"swagger\":\"2.0\",\"info\":{INFO},\"paths\":{{"))
        .chain(entries(paths))
        .chain(core::iter::once("},\"definitions\":{".into()))
        .chain(entries(types))
        .chain(core::iter::once("}}".into()))
        .map(|part: String| Arc::from(part.into_bytes()));
    Ok(document_answer(http, &hash, cache, "application/json", parts))
}

fn document_answer(
    http: &HttpRequest,
    hash: &str,
    cache: &str,
    media_type: &str,
    parts: impl Iterator<Item = Arc<[u8]>> + Send + 'static,
) -> Response {
    let headers = [("content-type", media_type.into()), ("cache-control", cache.into())].into();
    let body = ResponseBody::Parts(Box::new(parts));
    etag::tagged(http, hash, Response { status: 200, headers, body })
}

/// The members of a JSON object, without its braces.
fn entries(members: impl Iterator<Item = (String, Value)>) -> impl Iterator<Item = String> {
    members.enumerate().map(|(index, (key, value))| {
        let comma = if index == 0 { "" } else { "," };
        format!("{comma}{}:{value}", Value::String(key))
    })
}

/// The types that these resources' bodies and lists reach, by name.
fn reachable<'a>(rows: impl Iterator<Item = &'a Served>) -> Vec<TypeRef> {
    let mut todo: Vec<TypeRef> = Vec::new();
    for row in rows {
        todo.extend(row.type_ref());
        let list = format!("{}List", row.kind);
        todo.extend(schema::type_by_gvk(row.kind_group, row.kind_version, &list));
    }
    let meta = ["DeleteOptions", "Status"];
    todo.extend(meta.iter().filter_map(|kind| schema::type_by_gvk("", "v1", kind)));
    let mut seen = alloc::collections::BTreeSet::new();
    while let Some(ty) = todo.pop() {
        if seen.insert(ty) {
            todo.extend(ty.fields().filter_map(|field| shapes::innermost(field.shape())));
        }
    }
    seen.into_iter().collect()
}

#[cfg(test)]
mod tests;
