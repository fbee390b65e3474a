//! The documents, read back.

use alloc::{string::String, vec::Vec};

use serde_json::{Value, json};

use super::answer;
use crate::{
    call::HttpRequest,
    plane::{Response, ResponseBody},
};

fn get(path: &str, query: &str, headers: &[(&str, &str)]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let http = HttpRequest { headers, query: query.into(), ..HttpRequest::default() };
    answer(&http, path).unwrap().unwrap()
}

fn bytes(response: Response) -> Vec<u8> {
    match response.body {
        ResponseBody::Bytes(bytes) => bytes.to_vec(),
        ResponseBody::Parts(parts) => parts.fold(Vec::new(), |mut all, part| {
            all.extend_from_slice(&part);
            all
        }),
        ResponseBody::Watch(_) | ResponseBody::Node { .. } => panic!("no document"),
    }
}

fn json_of(response: Response) -> Value {
    serde_json::from_slice(&bytes(response)).unwrap()
}

/// Every `$ref` in a document leads to something in it.
fn check_references(document: &Value, inside: &Value) {
    match inside {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            map.values().for_each(|value| check_references(document, value));
        }
        Value::Array(list) => list.iter().for_each(|value| check_references(document, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn v3_has_what_kubectl_looks_for() {
    let index = json_of(get("/openapi/v3", "", &[]));
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1beta1"));
    for (document, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let (path, query) = url.split_once('?').unwrap();
        let response = get(path, query, &[("accept", "application/json")]);
        let immutable = ("cache-control", String::from("public, immutable"));
        assert!(response.headers.contains(&immutable), "{document}");
        let document = json_of(response);
        check_references(&document, &document);
    }
    let apps = json_of(get("/openapi/v3/apis/apps/v1beta1", "", &[]));
    let patch =
        &apps["paths"]["/apis/apps/v1beta1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let gvk = json!({"group": "apps", "version": "v1beta1", "kind": "Deployment"});
    assert_eq!(patch["x-kubernetes-group-version-kind"], gvk);
    let parameters = patch["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
    let schema = &apps["components"]["schemas"]["io.k8s.api.apps.v1beta1.Deployment"];
    assert_eq!(schema["x-kubernetes-group-version-kind"], json!([gvk]));
}

#[test]
fn a_known_document_is_not_sent_again() {
    let first = get("/openapi/v2", "", &[]);
    let etag = first.headers.iter().find(|(name, _)| *name == "etag").unwrap().1.clone();
    let again = get("/openapi/v2", "", &[("if-none-match", &etag)]);
    assert_eq!((again.status, bytes(again).len()), (304, 0));
    let moved = get("/openapi/v3/apis/apps/v1", "hash=OLD", &[]);
    assert_eq!(moved.status, 301);
    assert!(answer(&HttpRequest::default(), "/openapi/v3/apis/batch/v1").is_none());
}

#[test]
fn v2_has_every_definition_in_json_and_in_protobuf() {
    let document = json_of(get("/openapi/v2", "", &[]));
    check_references(&document, &document);
    let definitions = document["definitions"].as_object().unwrap();
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let protobuf = bytes(get("/openapi/v2", "", &[("accept", accept)]));
    // Field 9 of the document, once for each definition.
    let mut found = 0;
    let mut rest = protobuf.as_slice();
    while let [tag, tail @ ..] = rest {
        let (mut length, mut used) = (0, 0);
        for byte in tail {
            length |= usize::from(byte & 0x7f) << (7 * used);
            used += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        assert!([0x0a, 0x12, 0x42, 0x4a].contains(tag), "{tag:x}");
        found += usize::from(*tag == 0x4a);
        rest = &tail[used + length..];
    }
    assert_eq!(found, definitions.len());
}
