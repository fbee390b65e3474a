//! Discovery: which groups, versions and resources there are; plain, and in one piece (aggregated).

use alloc::{format, string::String, vec::Vec};

use coracle_api::{
    Status,
    served::{self, Served},
};
use serde_json::{Map, Value, json};

use super::etag;
use crate::{
    call::HttpRequest,
    plane::Response,
    registry::answer::{json_bytes, json_value},
};

/// Paths beside those of groups and versions, as `/` lists them.
const OTHER_PATHS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/readyz",
    "/version",
];

/// Answers the paths of discovery; `None`: another path.
pub(super) fn answer(
    http: &HttpRequest,
    path: &str,
    address: &str,
) -> Option<Result<Response, Status>> {
    let body = match path {
        "/" => json!({ "paths": paths() }),
        "/api" | "/apis" => return Some(roots(http, path, address)),
        _ => {
            if path == "/api/v1" {
                resource_list("", "v1")?
            } else {
                let mut parts = path.strip_prefix("/apis/")?.split('/');
                match (parts.next()?, parts.next(), parts.next()) {
                    (name, None, None) => group(name, true)?,
                    (name, Some(version), None) => resource_list(name, version)?,
                    _ => return None,
                }
            }
        }
    };
    Some(Ok(json_value(200, &body)))
}

/// Group names in the order of discovery, the core group not among them.
fn groups() -> Vec<&'static str> {
    let mut out: Vec<&str> = Vec::new();
    for row in served::all() {
        if !row.group.is_empty() && !out.contains(&row.group) {
            out.push(row.group);
        }
    }
    out
}

/// Versions of a group, the preferred one first.
pub(super) fn versions(group: &str) -> Vec<&'static str> {
    let mut out: Vec<&str> = Vec::new();
    for row in served::all().iter().filter(|row| row.group == group) {
        if !out.contains(&row.version) {
            out.push(row.version);
        }
    }
    out
}

fn paths() -> Vec<String> {
    let mut out: Vec<String> = OTHER_PATHS.iter().map(|path| (*path).into()).collect();
    out.push("/api/v1".into());
    for group in groups() {
        out.push(format!("/apis/{group}"));
        out.extend(versions(group).iter().map(|version| format!("/apis/{group}/{version}")));
    }
    out.sort();
    out
}

fn roots(http: &HttpRequest, path: &str, address: &str) -> Result<Response, Status> {
    let Some(version) = aggregated(http.header("accept"))? else {
        let body = if path == "/api" {
            json!({
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs":
                    [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
            })
        } else {
            let groups: Vec<_> =
                groups().into_iter().filter_map(|name| group(name, false)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        };
        return Ok(json_value(200, &body));
    };
    let names = if path == "/api" { Vec::from([""]) } else { groups() };
    let items: Vec<_> = names.into_iter().map(discovered_group).collect();
    let body = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    });
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let etag = etag::text(&body, etag::SEED);
    let media_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let mut response = json_bytes(200, media_type, body.into());
    response.headers.retain(|(name, _)| *name != "cache-control");
    response.headers.push(("cache-control", "public".into()));
    Ok(etag::tagged(http, &etag, response))
}

/// Version of the aggregated form that the client takes; `None`: it takes the plain one.
fn aggregated(accept: Option<&str>) -> Result<Option<&'static str>, Status> {
    let accept = accept.unwrap_or_default();
    if accept.trim().is_empty() {
        return Ok(None);
    }
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            continue;
        }
        let parts: Vec<&str> = parts.collect();
        let has = |part: &str| parts.contains(&part);
        if !parts.iter().any(|part| part.starts_with("as=")) {
            return Ok(None);
        }
        if has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList") {
            for version in ["v2", "v2beta1"] {
                if has(&format!("v={version}")) {
                    return Ok(Some(version));
                }
            }
        }
    }
    Err(Status::not_acceptable(&["application/json"]))
}

fn group(name: &str, alone: bool) -> Option<Value> {
    let of =
        |version: &&str| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    let versions = versions(name);
    let preferred = versions.first().map(of).filter(|_| !name.is_empty())?;
    let mut out = json!({
        "name": name, "versions": versions.iter().map(of).collect::<Vec<_>>(),
        "preferredVersion": preferred,
    });
    if let (true, Value::Object(out)) = (alone, &mut out) {
        out.insert("kind".into(), "APIGroup".into());
        out.insert("apiVersion".into(), "v1".into());
    }
    Some(out)
}

fn put_words(out: &mut Map<String, Value>, key: &str, words: &[&str]) {
    if !words.is_empty() {
        out.insert(key.into(), words.into());
    }
}

fn resource_list(group: &str, version: &str) -> Option<Value> {
    let rows: Vec<&Served> =
        served::all().iter().filter(|row| row.group == group && row.version == version).collect();
    let group_version = rows.first()?.api_version();
    let resource = |row: &&Served| {
        let mut out = Map::new();
        out.insert("name".into(), row.name.into());
        out.insert("singularName".into(), row.singular.into());
        out.insert("namespaced".into(), row.namespaced.into());
        if (row.kind_group, row.kind_version) != (row.group, row.version) {
            out.insert("group".into(), row.kind_group.into());
            out.insert("version".into(), row.kind_version.into());
        }
        out.insert("kind".into(), row.kind.into());
        out.insert("verbs".into(), row.verbs.into());
        put_nicknames(&mut out, row);
        Value::Object(out)
    };
    let resources: Vec<_> = rows.iter().map(resource).collect();
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    }))
}

/// Short names and categories. The legacy group has none: `kubectl get deploy` means `apps`, and `get all` lists each
/// Deployment once.
fn put_nicknames(out: &mut Map<String, Value>, row: &Served) {
    if row.group != "extensions" {
        put_words(out, "shortNames", row.short_names);
        put_words(out, "categories", row.categories);
    }
}

/// Group and version of a kind; empty where they are those of the resource.
fn response_kind(row: &Served) -> Value {
    let own = (row.kind_group, row.kind_version) == (row.group, row.version);
    let (group, version) = if own { ("", "") } else { (row.kind_group, row.kind_version) };
    json!({ "group": group, "version": version, "kind": row.kind })
}

fn discovered_group(name: &str) -> Value {
    let version = |version: &&str| {
        let rows =
            || served::all().iter().filter(move |row| row.group == name && row.version == *version);
        let resource = |row: &Served| {
            let mut out = Map::new();
            out.insert("resource".into(), row.name.into());
            out.insert("responseKind".into(), response_kind(row));
            let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
            out.insert("scope".into(), scope.into());
            out.insert("singularResource".into(), row.singular.into());
            out.insert("verbs".into(), row.verbs.into());
            put_nicknames(&mut out, row);
            let subresource = |sub: &Served| {
                json!({
                    "subresource": sub.subresource(), "responseKind": response_kind(sub),
                    "verbs": sub.verbs,
                })
            };
            let subs =
                rows().filter(|sub| sub.plural() == row.name && !sub.subresource().is_empty());
            let subs: Vec<_> = subs.map(subresource).collect();
            if !subs.is_empty() {
                out.insert("subresources".into(), subs.into());
            }
            Value::Object(out)
        };
        let resources: Vec<_> =
            rows().filter(|row| row.subresource().is_empty()).map(resource).collect();
        json!({ "version": version, "resources": resources, "freshness": "Current" })
    };
    let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
    json!({
        "metadata": metadata, "versions": versions(name).iter().map(version).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plane::ResponseBody;

    fn get(path: &str, headers: &[(&str, &str)]) -> (u16, Value, Response) {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let http = HttpRequest { headers: headers.collect(), ..HttpRequest::default() };
        let response = answer(&http, path, "192.0.2.1:6443").unwrap().unwrap();
        let ResponseBody::Bytes(bytes) = &response.body else { panic!("no bytes") };
        (response.status, serde_json::from_slice(bytes).unwrap_or_default(), response)
    }

    const AGGREGATED: &str =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

    #[test]
    fn plain_discovery() {
        let (_, api, _) = get("/api", &[]);
        assert_eq!(api["versions"], json!(["v1"]));
        let (_, apis, _) = get("/apis", &[("accept", "application/json, */*")]);
        assert_eq!(apis["groups"][0]["name"], "apps");
        assert_eq!(apis["groups"][0]["preferredVersion"]["version"], "v1");
        let (_, apps, _) = get("/apis/apps", &[]);
        assert_eq!(apps["kind"], "APIGroup");
        assert_eq!(apps["versions"][2]["groupVersion"], "apps/v1beta1");
        let (_, list, _) = get("/apis/apps/v1", &[]);
        // As recorded, without the hash of the storage version.
        let want = json!({"name":"deployments","singularName":"deployment","namespaced":true,"kind":"Deployment",
            "verbs":["create","delete","deletecollection","get","list","patch","update","watch"],
            "shortNames":["deploy"],"categories":["all"]});
        assert_eq!(list["resources"][0], want);
        let scale = json!({"name":"deployments/scale","singularName":"","namespaced":true,"group":"autoscaling",
            "version":"v1","kind":"Scale","verbs":["get","patch","update"]});
        assert_eq!(list["resources"][1], scale);
        let none = answer(&HttpRequest::default(), "/apis/batch/v1", "");
        assert!(none.is_none());
    }

    #[test]
    fn aggregated_discovery_is_tagged() {
        let (code, apis, response) = get("/apis", &[("accept", AGGREGATED)]);
        assert_eq!((code, &apis["apiVersion"]), (200, &json!("apidiscovery.k8s.io/v2")));
        let deployments = &apis["items"][0]["versions"][0]["resources"][0];
        assert_eq!(
            deployments["responseKind"],
            json!({"group": "", "version": "", "kind": "Deployment"})
        );
        assert_eq!(deployments["subresources"][0]["responseKind"]["group"], "autoscaling");
        let etag = response.headers.iter().find(|(name, _)| *name == "etag").unwrap().1.clone();
        let (code, body, _) = get("/apis", &[("accept", AGGREGATED), ("if-none-match", &etag)]);
        assert_eq!((code, body), (304, Value::Null));
        let (_, core, _) = get("/api", &[("accept", AGGREGATED)]);
        assert_eq!(core["items"][0]["metadata"], json!({}));
        let (_, beta, _) = get("/api", &[("accept", &AGGREGATED.replace("v2", "v2beta1"))]);
        assert_eq!(beta["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    }

    /// Of two resources with one name the old group's has no short name and no category: `kubectl get deploy` and
    /// `get all` mean the one that is kept.
    #[test]
    fn short_names_and_categories_mean_one_resource() {
        for row in served::all() {
            let preferred = |other: &&Served| other.group != row.group && other.preferred;
            for other in served::all().iter().filter(preferred) {
                let of_one_kind = other.name == row.name && row.name == "events";
                let shared = row.short_names.iter().any(|name| other.short_names.contains(name));
                assert!(!shared || of_one_kind, "{row:?} {other:?}");
                let twice = other.name == row.name && !row.categories.is_empty();
                assert!(!twice || other.categories.is_empty(), "{row:?} {other:?}");
            }
        }
    }
}
