//! Types as JSON schemas, in the dialect of OpenAPI v2 or v3.

use alloc::{format, string::String, vec::Vec};

use coracle_api::schema::{FieldRef, ListType, Scalar, Shape, TypeRef};
use serde_json::{Map, Value, json};

/// Which OpenAPI.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a type.
    pub(super) fn reference(self, name: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{name}"),
            Self::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// The type behind lists and maps, where there is one.
pub(super) fn innermost(shape: Shape) -> Option<TypeRef> {
    if let Shape::List(item) | Shape::Map(item) = shape {
        innermost(item.get())
    } else {
        shape.type_ref()
    }
}

/// The extension by which tools find a kind's schema and operations.
pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({ "group": group, "kind": kind, "version": version })
}

/// A type's schema.
pub(super) fn of(ty: TypeRef, dialect: Dialect) -> Value {
    if let Some(scalar) = ty.scalar() {
        return of_scalar(scalar, dialect);
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in ty.fields() {
        properties.insert(field.name().into(), of_field(field, dialect));
        if field.required() {
            required.push(Value::from(field.name()));
        }
    }
    let mut out = json!({ "type": "object", "properties": properties });
    if let Value::Object(out) = &mut out {
        if !required.is_empty() {
            out.insert("required".into(), required.into());
        }
        if let Some((group, version, kind)) = ty.gvk() {
            out.insert(
                "x-kubernetes-group-version-kind".into(),
                json!([gvk(group, version, kind)]),
            );
        }
    }
    out
}

fn of_scalar(scalar: Scalar, dialect: Dialect) -> Value {
    match (scalar, dialect) {
        (Scalar::Quantity, Dialect::V3) => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] })
        }
        (Scalar::Quantity, Dialect::V2) => json!({ "type": "string" }),
        (Scalar::IntOrString, Dialect::V3) => json!({
            "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }],
        }),
        (Scalar::IntOrString, Dialect::V2) => {
            json!({ "type": "string", "format": "int-or-string" })
        }
        (Scalar::Time | Scalar::MicroTime, _) => json!({ "type": "string", "format": "date-time" }),
        (Scalar::RawExtension | Scalar::FieldsV1, _) => json!({ "type": "object" }),
    }
}

fn of_field(field: FieldRef, dialect: Dialect) -> Value {
    let mut out = of_shape(field.shape(), dialect);
    let Value::Object(map) = &mut out else { return out };
    if let Some(default) = field.default() {
        map.insert("default".into(), default);
    }
    let values: Vec<Value> = field.values().map(Value::from).collect();
    if !values.is_empty() {
        map.insert("enum".into(), values.into());
    }
    let keys: Vec<Value> = field.list_map_keys().map(Value::from).collect();
    if let Shape::List(_) = field.shape() {
        let list_type = match field.list_type() {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        map.insert("x-kubernetes-list-type".into(), list_type.into());
        if !keys.is_empty() {
            map.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
    }
    if field.is_atomic_map() {
        map.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    let strategies = [
        (field.patch_merge(), "merge"),
        (field.patch_retain_keys(), "retainKeys"),
        (field.patch_replace(), "replace"),
    ];
    let strategies: Vec<&str> =
        strategies.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    if !strategies.is_empty() {
        map.insert("x-kubernetes-patch-strategy".into(), strategies.join(",").into());
    }
    if !field.patch_merge_key().is_empty() {
        map.insert("x-kubernetes-patch-merge-key".into(), field.patch_merge_key().into());
    }
    out
}

fn of_shape(shape: Shape, dialect: Dialect) -> Value {
    match shape {
        Shape::String => json!({ "type": "string" }),
        Shape::Bytes => json!({ "type": "string", "format": "byte" }),
        Shape::Int32 => json!({ "type": "integer", "format": "int32" }),
        Shape::Int64 => json!({ "type": "integer", "format": "int64" }),
        Shape::Double => json!({ "type": "number", "format": "double" }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Any => json!({}),
        Shape::Object => json!({ "type": "object" }),
        // A reference may have no neighbours in v3, so it stands in an allOf where some may come.
        Shape::Ref(ty) => {
            let reference = dialect.reference(ty.name());
            match dialect {
                Dialect::V2 => json!({ "$ref": reference }),
                Dialect::V3 => json!({ "allOf": [{ "$ref": reference }] }),
            }
        }
        Shape::List(item) => json!({ "type": "array", "items": of_shape(item.get(), dialect) }),
        Shape::Map(item) => {
            json!({ "type": "object", "additionalProperties": of_shape(item.get(), dialect) })
        }
    }
}
