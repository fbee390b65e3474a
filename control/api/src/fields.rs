//! Checks a value against its type: unknown fields go, wrong types are refused, quantities become canonical.
//!
//! What comes out is what Kubernetes would hold after reading the body into its Go types and writing it again: nulls and
//! empty `omitempty` fields are gone, numbers fit, texts with a format have it.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::Engine;
use serde_json::{Map, Value};

use crate::{
    field_errors::go_quote,
    limits, quantity,
    schema::{FieldRef, Scalar, Shape, TypeRef},
    status::Status,
    time,
};

/// `fieldValidation` of a request.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Unknown and doubled fields are dropped without a word.
    Ignore,
    /// They are dropped with a Warning each (the server's default).
    #[default]
    Warn,
    /// They are a 400.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; empty: Warn.
    ///
    /// # Errors
    /// 422 for another word.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "Ignore" => Ok(Self::Ignore),
            "" | "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            other => {
                let mut errors = crate::FieldErrors::new();
                errors.not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
                Err(Status::invalid("meta.k8s.io", "CreateOptions", "", &errors))
            }
        }
    }
}

/// Drops unknown fields and nulls, canonicalises quantities and times, in place.
/// Gives what was unknown, as Kubernetes words it: `unknown field "spec.foo"`; at most `limits::WARNINGS_MAX` of them.
///
/// # Errors
/// A value of the wrong type: `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32`.
pub fn prune(ty: TypeRef, value: &mut Value) -> Result<Vec<String>, String> {
    let mut walk = Walk { unknown: Vec::new(), path: String::new(), names: Vec::new(), ty };
    walk.value(Shape::Ref(ty), value)?;
    Ok(walk.unknown)
}

/// What a request body goes through: [`prune`], then doubled and unknown fields by `mode`. Gives the Warnings.
/// `doubled` comes from [`crate::decode`].
///
/// # Errors
/// 400 with Kubernetes' message: a wrong type, or under `Strict` any unknown or doubled field.
pub fn check(
    ty: TypeRef,
    value: &mut Value,
    doubled: &[String],
    mode: FieldValidation,
) -> Result<Vec<String>, Status> {
    let refused = |why: String| {
        let (_, version, kind) = ty.gvk().unwrap_or(("", "", ty.short_name()));
        Status::bad_request(format!(
            "{kind} in version {} cannot be handled as a {kind}: {why}",
            go_quote(version)
        ))
    };
    let unknown = prune(ty, value).map_err(refused)?;
    let doubled = doubled.iter().map(|path| format!("duplicate field {}", go_quote(path)));
    let notes: Vec<String> = doubled.chain(unknown).collect();
    match mode {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(notes),
        FieldValidation::Strict if notes.is_empty() => Ok(notes),
        FieldValidation::Strict => {
            Err(refused(format!("strict decoding error: {}", notes.join(", "))))
        }
    }
}

struct Walk {
    unknown: Vec<String>,
    /// With indexes and map keys, as unknown fields are named.
    path: String,
    /// Field names alone, as wrong types are named.
    names: Vec<&'static str>,
    /// The struct around the value.
    ty: TypeRef,
}

impl Walk {
    fn value(&mut self, shape: Shape, value: &mut Value) -> Result<(), String> {
        match shape {
            Shape::Any => Ok(()),
            Shape::Ref(ty) => match ty.scalar() {
                Some(scalar) => self.scalar(scalar, value),
                None => self.object(ty, value),
            },
            Shape::List(item) => self.list(shape, item.get(), value),
            Shape::Map(item) => self.map(shape, item.get(), value),
            Shape::Object if value.is_object() => Ok(()),
            Shape::String if value.is_string() => Ok(()),
            Shape::Bool if value.is_boolean() => Ok(()),
            Shape::Int64 if value.as_i64().is_some() => Ok(()),
            Shape::Double if value.is_number() => Ok(()),
            Shape::Int32 if value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
            Shape::Bytes => self.bytes(value),
            Shape::Object
            | Shape::String
            | Shape::Bool
            | Shape::Int64
            | Shape::Double
            | Shape::Int32 => Err(self.wrong(shape, value)),
        }
    }

    fn object(&mut self, ty: TypeRef, value: &mut Value) -> Result<(), String> {
        let Value::Object(map) = value else {
            return Err(self.wrong(Shape::Ref(ty), value));
        };
        let outer = core::mem::replace(&mut self.ty, ty);
        let here = self.path.len();
        let mut gone = Vec::new();
        for (key, value) in map.iter_mut() {
            self.step_into(key);
            match ty.field(key) {
                None => {
                    self.note_unknown();
                    gone.push(key.clone());
                }
                Some(field) => {
                    if !value.is_null() {
                        self.names.push(field.name());
                        self.value(field.shape(), value)?;
                        self.names.pop();
                    }
                    if is_absent(field, value) {
                        gone.push(key.clone());
                    }
                }
            }
            self.path.truncate(here);
        }
        for key in gone {
            map.remove(&key);
        }
        self.ty = outer;
        Ok(())
    }

    fn list(&mut self, shape: Shape, item: Shape, value: &mut Value) -> Result<(), String> {
        let Value::Array(list) = value else { return Err(self.wrong(shape, value)) };
        let here = self.path.len();
        for (index, value) in list.iter_mut().enumerate() {
            self.path.push_str(&format!("[{index}]"));
            null_is_zero(item, value);
            self.value(item, value)?;
            self.path.truncate(here);
        }
        Ok(())
    }

    fn map(&mut self, shape: Shape, item: Shape, value: &mut Value) -> Result<(), String> {
        let Value::Object(map) = value else { return Err(self.wrong(shape, value)) };
        let here = self.path.len();
        for (key, value) in map.iter_mut() {
            self.step_into(key);
            null_is_zero(item, value);
            self.value(item, value)?;
            self.path.truncate(here);
        }
        Ok(())
    }

    fn step_into(&mut self, key: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    fn note_unknown(&mut self) {
        if self.unknown.len() < limits::WARNINGS_MAX {
            self.unknown.push(format!("unknown field {}", go_quote(&self.path)));
        }
    }

    fn bytes(&self, value: &Value) -> Result<(), String> {
        let Value::String(text) = value else { return Err(self.wrong(Shape::Bytes, value)) };
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(text).map(|_| ()).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(at) => at,
                base64::DecodeError::InvalidPadding => text.len(),
            };
            format!("illegal base64 data at input byte {at}")
        })
    }

    fn scalar(&self, scalar: Scalar, value: &mut Value) -> Result<(), String> {
        match scalar {
            Scalar::Quantity => {
                *value =
                    quantity::from_json(value).map_err(|why| why.to_string())?.to_string().into();
                Ok(())
            }
            Scalar::IntOrString => match value {
                Value::String(_) => Ok(()),
                Value::Number(number)
                    if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) =>
                {
                    Ok(())
                }
                Value::Number(number) => Err(format!(
                    "json: cannot unmarshal number {number} into Go value of type int32"
                )),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                    Err(self.wrong_of("intstr.IntOrString", value))
                }
            },
            Scalar::Time | Scalar::MicroTime => {
                let Value::String(text) = value else {
                    return Err(self.wrong_of("string", value));
                };
                let Some(micros) = time::parse_us(text) else {
                    return Err(format!(
                        "parsing time {0} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0} as \"2006\"",
                        go_quote(text)
                    ));
                };
                *value = if scalar == Scalar::Time {
                    time::rfc3339(micros / 1000).into()
                } else {
                    time::rfc3339_micro(micros).into()
                };
                Ok(())
            }
            Scalar::RawExtension | Scalar::FieldsV1 => {
                if value.is_object() {
                    Ok(())
                } else {
                    Err(self.wrong_of("map[string]interface {}", value))
                }
            }
        }
    }

    fn wrong(&self, shape: Shape, value: &Value) -> String {
        self.wrong_of(&go_type(shape), value)
    }

    fn wrong_of(&self, go_type: &str, value: &Value) -> String {
        let found = match value {
            Value::Null => "null".into(),
            Value::Bool(_) => "bool".into(),
            Value::String(_) => "string".into(),
            Value::Array(_) => "array".into(),
            Value::Object(_) => "object".into(),
            // Go shows a number where it is of the right kind but does not fit.
            Value::Number(number) if go_type.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".to_string(),
        };
        if self.names.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {go_type}");
        }
        format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {go_type}",
            self.ty.short_name(),
            self.names.join(".")
        )
    }
}

/// Null, or empty where Go does not tell empty from absent.
fn is_absent(field: FieldRef, value: &Value) -> bool {
    let empty = match value {
        Value::Null => return true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(field.shape(), Shape::Map(_)),
    };
    empty && field.zero_is_absent()
}

/// In a list or map Go has no absent: null is the zero value.
fn null_is_zero(shape: Shape, value: &mut Value) {
    if !value.is_null() {
        return;
    }
    match shape {
        Shape::String | Shape::Bytes => *value = "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Double => *value = 0.into(),
        Shape::Bool => *value = false.into(),
        Shape::Ref(ty) => match ty.scalar() {
            None => *value = Value::Object(Map::new()),
            Some(Scalar::Quantity | Scalar::IntOrString) => *value = 0.into(),
            Some(Scalar::Time | Scalar::MicroTime | Scalar::RawExtension | Scalar::FieldsV1) => {}
        },
        Shape::List(_) => *value = Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object => *value = Value::Object(Map::new()),
        Shape::Any => {}
    }
}

/// The Go type as its decoder names it.
fn go_type(shape: Shape) -> String {
    match shape {
        Shape::String => "string".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Double => "float64".into(),
        Shape::Bool => "bool".into(),
        Shape::Any | Shape::Object => "map[string]interface {}".into(),
        Shape::Ref(ty) => ty.go_name(),
        Shape::List(item) => format!("[]{}", go_type(item.get())),
        Shape::Map(item) => format!("map[string]{}", go_type(item.get())),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use serde_json::{Value, json};

    use super::{FieldValidation, check, prune};
    use crate::schema::{TypeRef, type_by_gvk};

    fn deployment() -> TypeRef {
        type_by_gvk("apps", "v1", "Deployment").unwrap()
    }

    fn pod_with(spec: &Value) -> Value {
        json!({"metadata": {"name": "x"}, "spec": spec})
    }

    #[test]
    fn unknown_fields_are_dropped_and_named() {
        let mut value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "foo": 1, "spec": {
            "replicaz": 1, "template": {"spec": {"containers": [{"name": "a"}, {"imag": "x"}]}}}});
        let unknown = prune(deployment(), &mut value).unwrap();
        let want = ["foo", "spec.replicaz", "spec.template.spec.containers[1].imag"];
        let want: Vec<_> =
            want.iter().map(|path| alloc::format!("unknown field \"{path}\"")).collect();
        assert_eq!(unknown, want);
        assert_eq!(
            value,
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec":
                {"template": {"spec": {"containers": [{"name": "a"}, {}]}}}})
        );
    }

    #[test]
    fn wrong_types_are_refused_in_kubernetes_words() {
        let check = |value: Value, want: &str| {
            let mut value = value;
            assert_eq!(prune(deployment(), &mut value).unwrap_err(), want);
        };
        check(
            json!({"spec": {"replicas": "two"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        );
        check(
            json!({"spec": {"replicas": 99_999_999_999_i64}}),
            "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
        );
        check(
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        );
        check(
            json!({"spec": {"template": {"spec": {"containers": "x"}}}}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        );
        check(json!([]), "json: cannot unmarshal array into Go value of type v1.Deployment");
    }

    #[test]
    fn values_become_canonical() {
        let check = |spec: Value, want: Value| {
            let mut value = pod_with(&spec);
            let pod = type_by_gvk("", "v1", "Pod").unwrap();
            assert_eq!(prune(pod, &mut value).unwrap(), Vec::<alloc::string::String>::new());
            assert_eq!(value, pod_with(&want));
        };
        check(
            json!({"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}),
            json!({"containers": [{"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}),
        );
        check(json!({"nodeName": null, "hostNetwork": false, "tolerations": []}), json!({}));
        check(json!({"nodeSelector": {"a": null}}), json!({"nodeSelector": {"a": ""}}));
        check(json!({"securityContext": {}}), json!({"securityContext": {}}));
        check(
            json!({"automountServiceAccountToken": false}),
            json!({"automountServiceAccountToken": false}),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        );
        check(
            json!({"tolerations": [{"tolerationSeconds": 0, "key": ""}]}),
            json!({"tolerations": [{"tolerationSeconds": 0}]}),
        );
    }

    #[test]
    fn modes() {
        let body = || json!({"apiVersion": "v1", "kind": "ConfigMap", "dataa": {"a": "1"}});
        let ty = type_by_gvk("", "v1", "ConfigMap").unwrap();
        let doubled = ["metadata.name".into()];
        let strict = check(ty, &mut body(), &[], FieldValidation::Strict).unwrap_err();
        assert_eq!(
            strict.message,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dataa\""
        );
        let warn = check(ty, &mut body(), &doubled, FieldValidation::Warn).unwrap();
        assert_eq!(warn, ["duplicate field \"metadata.name\"", "unknown field \"dataa\""]);
        assert!(check(ty, &mut body(), &doubled, FieldValidation::Ignore).unwrap().is_empty());
        assert!(FieldValidation::parse("Loud").is_err());
    }
}
