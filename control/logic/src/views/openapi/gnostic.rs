//! OpenAPI v2 as the protobuf messages of gnostic (`openapi.v2.Document`): what kubectl up to 1.26 reads.
//!
//! A message may come in pieces, each with the same field number, that a reader puts together; so each path and each
//! definition is a piece of its own. Numbers are those of gnostic's OpenAPIv2.proto.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value};

/// Document: swagger = 1, info = 2 (title = 1, version = 2).
pub(super) fn head(title: &str, version: &str) -> Vec<u8> {
    let mut info = Vec::new();
    text(&mut info, 1, title);
    text(&mut info, 2, version);
    let mut out = Vec::new();
    text(&mut out, 1, "2.0");
    message(&mut out, 2, &info);
    out
}

/// Document: paths = 8 (path = 2 (name = 1, value = 2)).
pub(super) fn path(name: &str, item: &Value) -> Vec<u8> {
    let mut value = Vec::new();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(Value::Object(found)) = item.get(method) {
            message(&mut value, field, &operation(found));
        }
    }
    for parameter in list(item.get("parameters")) {
        parameters_item(&mut value, 9, parameter);
    }
    let mut paths = Vec::new();
    named(&mut paths, 2, name, &value);
    let mut out = Vec::new();
    message(&mut out, 8, &paths);
    out
}

/// Document: definitions = 9 (`additional_properties` = 1 (name = 1, value = 2)).
pub(super) fn definition(name: &str, shape: &Value) -> Vec<u8> {
    let mut definitions = Vec::new();
    named(&mut definitions, 1, name, &schema(shape));
    let mut out = Vec::new();
    message(&mut out, 9, &definitions);
    out
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn str_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn message(out: &mut Vec<u8>, field: u64, body: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

fn text(out: &mut Vec<u8>, field: u64, text: &str) {
    if !text.is_empty() {
        message(out, field, text.as_bytes());
    }
}

fn flag(out: &mut Vec<u8>, field: u64, set: bool) {
    if set {
        varint(out, field << 3);
        out.push(1);
    }
}

/// NamedSchema, NamedPathItem, NamedAny, …: name = 1, value = 2.
fn named(out: &mut Vec<u8>, field: u64, name: &str, value: &[u8]) {
    let mut body = Vec::new();
    text(&mut body, 1, name);
    message(&mut body, 2, value);
    message(out, field, &body);
}

/// Any: yaml = 2; JSON is YAML.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 2, &value.to_string());
    out
}

fn extensions(out: &mut Vec<u8>, field: u64, of: &Map<String, Value>) {
    for (key, value) in of.iter().filter(|(key, _)| key.starts_with("x-")) {
        named(out, field, key, &any(value));
    }
}

/// Operation: operation_id = 5, parameters = 8, responses = 9, vendor_extension = 13.
fn operation(of: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 5, of.get("operationId").and_then(Value::as_str).unwrap_or_default());
    for parameter in list(of.get("parameters")) {
        parameters_item(&mut out, 8, parameter);
    }
    // Responses: response_code = 1 NamedResponseValue (value = 2 ResponseValue: response = 1 (description = 1, schema = 2)).
    if let Some(Value::Object(codes)) = of.get("responses") {
        let mut responses = Vec::new();
        for (code, answer) in codes {
            let mut response = Vec::new();
            text(&mut response, 1, str_of(answer, "description"));
            if let Some(shape) = answer.get("schema") {
                let mut item = Vec::new();
                message(&mut item, 1, &schema(shape));
                message(&mut response, 2, &item);
            }
            let mut value = Vec::new();
            message(&mut value, 1, &response);
            named(&mut responses, 1, code, &value);
        }
        message(&mut out, 9, &responses);
    }
    extensions(&mut out, 13, of);
    out
}

/// ParametersItem: parameter = 1 (body_parameter = 1, non_body_parameter = 2 (query = 3, path = 4)).
fn parameters_item(out: &mut Vec<u8>, field: u64, of: &Value) {
    let required = of.get("required").and_then(Value::as_bool).unwrap_or_default();
    let mut parameter = Vec::new();
    if str_of(of, "in") == "body" {
        // BodyParameter: name = 2, in = 3, required = 4, schema = 5.
        let mut body = Vec::new();
        text(&mut body, 2, str_of(of, "name"));
        text(&mut body, 3, "body");
        flag(&mut body, 4, required);
        if let Some(shape) = of.get("schema") {
            message(&mut body, 5, &schema(shape));
        }
        message(&mut parameter, 1, &body);
    } else {
        // {Query,Path}ParameterSubSchema: required = 1, in = 2, name = 4; type = 6 of the one, 5 of the other.
        let is_path = str_of(of, "in") == "path";
        let mut body = Vec::new();
        flag(&mut body, 1, required);
        text(&mut body, 2, str_of(of, "in"));
        text(&mut body, 4, str_of(of, "name"));
        text(&mut body, if is_path { 5 } else { 6 }, str_of(of, "type"));
        let mut non_body = Vec::new();
        message(&mut non_body, if is_path { 4 } else { 3 }, &body);
        message(&mut parameter, 2, &non_body);
    }
    let mut item = Vec::new();
    message(&mut item, 1, &parameter);
    message(out, field, &item);
}

/// Schema: $ref = 1, format = 2, default = 5, required = 19, enum = 20, additional_properties = 21, type = 22, items = 23,
/// properties = 25, vendor_extension = 31.
fn schema(of: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, str_of(of, "$ref"));
    text(&mut out, 2, str_of(of, "format"));
    if let Some(default) = of.get("default") {
        message(&mut out, 5, &any(default));
    }
    for name in list(of.get("required")) {
        text(&mut out, 19, name.as_str().unwrap_or_default());
    }
    for value in list(of.get("enum")) {
        message(&mut out, 20, &any(value));
    }
    if let Some(item) = of.get("additionalProperties") {
        let mut body = Vec::new();
        message(&mut body, 1, &schema(item));
        message(&mut out, 21, &body);
    }
    if let Some(kind) = of.get("type").and_then(Value::as_str) {
        let mut body = Vec::new();
        text(&mut body, 1, kind);
        message(&mut out, 22, &body);
    }
    if let Some(item) = of.get("items") {
        let mut body = Vec::new();
        message(&mut body, 1, &schema(item));
        message(&mut out, 23, &body);
    }
    if let Some(Value::Object(properties)) = of.get("properties") {
        let mut body = Vec::new();
        for (name, shape) in properties {
            named(&mut body, 1, name, &schema(shape));
        }
        message(&mut out, 25, &body);
    }
    if let Value::Object(of) = of {
        extensions(&mut out, 31, of);
    }
    out
}
