//! Paths and operations: enough for tools to find kinds and the parameters that the server takes.

use alloc::{format, string::String, vec::Vec};

use coracle_api::served::Served;
use serde_json::{Map, Value, json};

use super::shapes::{Dialect, gvk};

/// Query parameters of writes, and whether creates, updates and patches have them.
const WRITE_PARAMETERS: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
/// Query parameters of lists and watches.
const LIST_PARAMETERS: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// The paths of these resources, each with its item. Owned by nothing: it outlives the call.
pub(super) fn all(
    rows: &[&'static Served],
    dialect: Dialect,
) -> impl Iterator<Item = (String, Value)> + Send + 'static {
    let mut out: Vec<(String, &'static Served, bool)> = Vec::new();
    for row in rows.iter().copied() {
        let base = if row.group.is_empty() {
            format!("/api/{}", row.version)
        } else {
            format!("/apis/{}/{}", row.group, row.version)
        };
        let within =
            if row.namespaced { format!("{base}/namespaces/{{namespace}}") } else { base.clone() };
        let (plural, sub) = (row.plural(), row.subresource());
        if sub.is_empty() {
            if row.namespaced && row.verbs.contains(&"list") {
                out.push((format!("{base}/{plural}"), row, false));
            }
            out.push((format!("{within}/{plural}"), row, false));
            if row.verbs.contains(&"get") {
                out.push((format!("{within}/{plural}/{{name}}"), row, true));
            }
        } else {
            out.push((format!("{within}/{plural}/{{name}}/{sub}"), row, true));
        }
    }
    out.into_iter().map(move |(path, row, one)| {
        let everywhere = row.namespaced && !path.contains("{namespace}");
        let item = item(row, one, everywhere, &path, dialect);
        (path, item)
    })
}

fn item(row: &Served, one: bool, everywhere: bool, path: &str, dialect: Dialect) -> Value {
    let mut out = Map::new();
    let mut add = |method: &str, verb: &str, action: &str| {
        if row.verbs.contains(&verb) {
            out.insert(method.into(), operation(row, method, action, dialect));
        }
    };
    if everywhere {
        add("get", "list", "list");
    } else if one {
        add("get", "get", "get");
        add("put", "update", "put");
        add("patch", "patch", "patch");
        if row.subresource().is_empty() {
            add("delete", "delete", "delete");
        } else {
            add("post", "create", "post");
        }
    } else {
        add("get", "list", "list");
        add("post", "create", "post");
        add("delete", "deletecollection", "deletecollection");
    }
    let named = ["name", "namespace"];
    let parameters: Vec<Value> = named
        .iter()
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| parameter(name, "path", dialect))
        .collect();
    if !parameters.is_empty() {
        out.insert("parameters".into(), parameters.into());
    }
    Value::Object(out)
}

fn operation(row: &Served, method: &str, action: &str, dialect: Dialect) -> Value {
    let names = match (method, action) {
        ("get", "list") => LIST_PARAMETERS,
        ("get", _) => &["pretty"],
        ("post" | "put" | "patch", _) => WRITE_PARAMETERS,
        _ => &["dryRun", "pretty"],
    };
    let mut parameters: Vec<Value> =
        names.iter().map(|name| parameter(name, "query", dialect)).collect();
    if method == "patch" {
        parameters.push(parameter("force", "query", dialect));
    }
    let type_name = row.type_ref().map(|ty| dialect.reference(ty.name())).unwrap_or_default();
    let shape = json!({ "$ref": type_name });
    let answer = match dialect {
        Dialect::V2 => json!({ "description": "OK", "schema": shape }),
        Dialect::V3 => {
            json!({ "description": "OK", "content": { "application/json": { "schema": shape } } })
        }
    };
    let mut out = json!({
        "operationId": operation_id(row, method, action),
        "parameters": parameters,
        "responses": { "200": answer },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(row.kind_group, row.kind_version, row.kind),
    });
    if let Value::Object(out) = &mut out
        && matches!(method, "post" | "put")
    {
        match dialect {
            Dialect::V3 => {
                let content = json!({ "content": { "*/*": { "schema": shape } } });
                out.insert("requestBody".into(), content);
            }
            Dialect::V2 => {
                let body =
                    json!({ "name": "body", "in": "body", "required": true, "schema": shape });
                if let Some(Value::Array(list)) = out.get_mut("parameters") {
                    list.push(body);
                }
            }
        }
    }
    out
}

/// `patchAppsV1Deployment`, unique in its document.
fn operation_id(row: &Served, method: &str, action: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    let group = row.group.split('.').next().unwrap_or_default();
    let group = if group.is_empty() { "core" } else { group };
    let action = if action == "put" || action == "post" { method } else { action };
    format!(
        "{action}{}{}{}{}",
        capital(group),
        capital(row.version),
        capital(row.plural()),
        capital(row.subresource())
    )
}

fn parameter(name: &str, place: &str, dialect: Dialect) -> Value {
    let kind = match name {
        "allowWatchBookmarks" | "force" | "sendInitialEvents" | "watch" => "boolean",
        "limit" | "timeoutSeconds" => "integer",
        _ => "string",
    };
    let mut out = match dialect {
        Dialect::V2 => json!({ "name": name, "in": place, "type": kind }),
        Dialect::V3 => json!({ "name": name, "in": place, "schema": { "type": kind } }),
    };
    if let Value::Object(out) = &mut out
        && place == "path"
    {
        out.insert("required".into(), true.into());
    }
    out
}
