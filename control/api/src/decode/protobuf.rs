//! Kubernetes' protobuf bodies, read by the schema's numbers into the JSON that they stand for.
//!
//! A body is `k8s\0` and a message `Unknown {typeMeta=1 {apiVersion=1, kind=2}, raw=2, …}`. Fields that the schema does
//! not number are skipped, as protobuf wants it.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::Engine;
use serde_json::{Map, Value};

use super::Decoded;
use crate::{
    limits,
    schema::{self, FieldRef, Scalar, Shape, TypeRef},
    status::Status,
    time,
};

/// First four bytes of every such body.
const MAGIC: &[u8] = b"k8s\0";

/// Reads a protobuf body (`k8s\0` and `Unknown`); its `apiVersion` and `kind` are in the value.
///
/// # Errors
/// 400: not such a body, or a type that is not known.
pub fn protobuf(bytes: &[u8]) -> Result<Decoded, Status> {
    let message = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        Status::bad_request("provided data does not appear to be a protobuf message")
    })?;
    unknown(message).map_err(|error| {
        Status::bad_request(format!("couldn't get version/kind; protobuf parse error: {error}"))
    })
}

fn unknown(message: &[u8]) -> Result<Decoded, String> {
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(message) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, wire) => api_version = wire.text()?,
                        (2, wire) => kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let ty = schema::type_by_gvk(group, version, &kind)
        .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
    let mut object = message_of(ty, 0, raw, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Decoded { value: object.into(), doubled: Vec::new() })
}

/// One field's value as it is on the wire.
#[derive(Copy, Clone)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn text(self) -> Result<String, String> {
        let bytes = self.bytes()?;
        core::str::from_utf8(bytes).map(ToString::to_string).map_err(|_| "text is not UTF-8".into())
    }

    fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err("wrong wire type".into()),
        }
    }

    fn integer(self) -> Result<i64, String> {
        match self {
            Self::Varint(n) | Self::Fixed64(n) => Ok(n.cast_signed()),
            Self::Fixed32(n) => Ok(i64::from(n.cast_signed())),
            Self::Bytes(_) => Err("wrong wire type".into()),
        }
    }
}

/// The fields of a message, in order, as (number, value).
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "unexpected end of message".into()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// A message of this type; `inline`: number of the embedded message that `bytes` are, 0: the type's own.
fn message_of(
    ty: TypeRef,
    inline: u8,
    bytes: &[u8],
    depth: usize,
) -> Result<Map<String, Value>, String> {
    if depth > limits::DEPTH_MAX {
        return Err("message is nested too deep".into());
    }
    let mut out = Map::new();
    for part in Fields(bytes) {
        let (number, wire) = part?;
        let at = |field: &FieldRef| {
            field.wire_inline() == inline && u64::from(field.wire_number()) == number
        };
        if let Some(field) = ty.fields().find(at) {
            read_field(field, wire, &mut out, depth)?;
        } else if inline == 0
            && let Some(embedded) =
                ty.fields().map(FieldRef::wire_inline).find(|n| u64::from(*n) == number)
            && embedded != 0
        {
            out.extend(message_of(ty, embedded, wire.bytes()?, depth + 1)?);
        }
    }
    out.retain(|name, value| !is_unset(ty, name, value));
    Ok(out)
}

/// Go writes fields that it holds without a pointer even where they are empty.
fn is_unset(ty: TypeRef, name: &str, value: &Value) -> bool {
    let zero = match value {
        Value::Null => return true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        Value::Array(_) | Value::Object(_) => false,
    };
    zero && ty.field(name).is_some_and(FieldRef::zero_is_absent)
}

fn read_field(
    field: FieldRef,
    wire: Wire<'_>,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), String> {
    let name = field.name();
    let named = |error: String| format!("{name}: {error}");
    match field.shape() {
        Shape::List(item) => {
            let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new()))
            else {
                return Ok(());
            };
            let packed = matches!(item.get(), Shape::Int32 | Shape::Int64 | Shape::Bool);
            if packed && let Wire::Bytes(bytes) = wire {
                let mut values = Fields(bytes);
                while !values.0.is_empty() {
                    let n = values.varint().ok_or_else(|| named("unexpected end".into()))?;
                    list.push(value_of(item.get(), Wire::Varint(n), depth).map_err(named)?);
                }
                return Ok(());
            }
            list.push(value_of(item.get(), wire, depth + 1).map_err(named)?);
        }
        Shape::Map(item) => {
            let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new()))
            else {
                return Ok(());
            };
            let (mut key, mut value) = (String::new(), None);
            for part in Fields(wire.bytes().map_err(named)?) {
                match part.map_err(named)? {
                    (1, wire) => key = wire.text().map_err(named)?,
                    (2, wire) => {
                        value = Some(value_of(item.get(), wire, depth + 1).map_err(named)?)
                    }
                    _ => {}
                }
            }
            map.insert(key, value.unwrap_or_else(|| empty(item.get())));
        }
        shape @ (Shape::String
        | Shape::Bytes
        | Shape::Int32
        | Shape::Int64
        | Shape::Double
        | Shape::Bool
        | Shape::Any
        | Shape::Object
        | Shape::Ref(_)) => {
            out.insert(name.into(), value_of(shape, wire, depth).map_err(named)?);
        }
    }
    Ok(())
}

/// What a map's value is where the entry does not say.
fn empty(shape: Shape) -> Value {
    match shape {
        Shape::String | Shape::Bytes | Shape::Ref(_) => "".into(),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Object | Shape::Any => Value::Object(Map::new()),
        Shape::Int32 | Shape::Int64 | Shape::Double => 0.into(),
        Shape::Bool => false.into(),
    }
}

fn value_of(shape: Shape, wire: Wire<'_>, depth: usize) -> Result<Value, String> {
    Ok(match shape {
        Shape::String => wire.text()?.into(),
        Shape::Bytes => base64::engine::general_purpose::STANDARD.encode(wire.bytes()?).into(),
        Shape::Int32 => i32::try_from(wire.integer()?).map_err(|_| "number out of range")?.into(),
        Shape::Int64 => wire.integer()?.into(),
        Shape::Bool => (wire.integer()? != 0).into(),
        Shape::Double => match wire {
            Wire::Fixed64(bits) => f64::from_bits(bits).into(),
            Wire::Varint(_) | Wire::Fixed32(_) | Wire::Bytes(_) => {
                return Err("wrong wire type".into());
            }
        },
        Shape::Ref(ty) => match ty.scalar() {
            Some(scalar) => scalar_of(scalar, wire.bytes()?)?,
            None => message_of(ty, 0, wire.bytes()?, depth + 1)?.into(),
        },
        // A list that is itself an item or a map's value comes in a message {items = 1}.
        Shape::List(item) => {
            let mut list = Vec::new();
            for part in Fields(wire.bytes()?) {
                if let (1, wire) = part? {
                    list.push(value_of(item.get(), wire, depth + 1)?);
                }
            }
            list.into()
        }
        Shape::Map(_) | Shape::Object | Shape::Any => {
            return Err("this field cannot be sent as protobuf; send JSON".into());
        }
    })
}

fn scalar_of(scalar: Scalar, bytes: &[u8]) -> Result<Value, String> {
    let (mut numbers, mut content) = ([0_i64; 4], None);
    for part in Fields(bytes) {
        match part? {
            (_, Wire::Bytes(bytes)) => content = Some(bytes),
            (number @ 1..=3, wire) => {
                let at = usize::try_from(number).unwrap_or_default();
                if let Some(slot) = numbers.get_mut(at) {
                    *slot = wire.integer()?;
                }
            }
            _ => {}
        }
    }
    let [_, first, second, _] = numbers;
    let text =
        || core::str::from_utf8(content.unwrap_or_default()).map_err(|_| "text is not UTF-8");
    Ok(match scalar {
        Scalar::Quantity => text()?.into(),
        Scalar::IntOrString if first == 1 => text()?.into(),
        Scalar::IntOrString => second.into(),
        Scalar::RawExtension | Scalar::FieldsV1 => match content {
            None => Value::Null,
            Some(bytes) => super::json(bytes).map_err(|status| status.message)?.value,
        },
        // Go's zero time has no fields at all.
        Scalar::Time | Scalar::MicroTime if bytes.is_empty() => Value::Null,
        Scalar::Time | Scalar::MicroTime => {
            let seconds = u64::try_from(first).map_err(|_| "time before 1970")?;
            let micros = u64::try_from(second / 1000).map_err(|_| "time before 1970")?;
            if seconds > time::LAST_SECOND {
                return Err("time after the year 9999".into());
            }
            if scalar == Scalar::Time {
                time::rfc3339(seconds * 1000).into()
            } else {
                time::rfc3339_micro(seconds * 1_000_000 + micros).into()
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use serde_json::{Value, json};

    use super::protobuf;

    /// (body as kubectl sent it, the object that it stands for)
    fn recorded() -> Vec<(Vec<u8>, Value)> {
        let lines = include_str!("../../testdata/protobuf/bodies.jsonl").lines();
        lines
            .map(|line| {
                let row: Value = serde_json::from_str(line).unwrap();
                let hex = row["hex"].as_str().unwrap();
                let bytes = (0..hex.len() / 2)
                    .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                    .collect();
                (bytes, row["object"].clone())
            })
            .collect()
    }

    #[test]
    fn recorded_bodies_read_as_the_objects_they_stand_for() {
        let recorded = recorded();
        assert!(recorded.len() > 8);
        for (bytes, object) in recorded {
            assert_eq!(protobuf(&bytes).unwrap().value, object);
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bad in [&b""[..], b"k8s", b"k8s\0", b"k8s\0\xff", b"k8s\0\x0a\x7f", b"{}"] {
            assert_eq!(protobuf(bad).unwrap_err().code, 400, "{bad:?}");
        }
        // Every cut and every flipped byte of a real body: an error or an object, never a panic.
        for (bytes, _) in recorded() {
            for at in 0..bytes.len() {
                let _ = protobuf(&bytes[..at]);
                for flip in [1, 0x80, 0xff] {
                    let mut other = bytes.clone();
                    other[at] ^= flip;
                    let _ = protobuf(&other);
                }
            }
        }
    }

    #[test]
    fn wrapped_scalars() {
        let message = |fields: &[(u8, &[u8])]| {
            let mut out = Vec::new();
            for (number, bytes) in fields {
                out.extend([number << 3 | 2, u8::try_from(bytes.len()).unwrap()]);
                out.extend(*bytes);
            }
            out
        };
        let port = message(&[(3, &[10, 1, b'p', 24, 80, 34, 4, 8, 0, 16, 81])]);
        let service = message(&[(2, &message(&[(1, &port[2..])]))]);
        let mut body = b"k8s\0".to_vec();
        let meta = message(&[(1, b"v1"), (2, b"Service")]);
        body.extend(message(&[(1, &meta), (2, &service)]));
        let ports = json!([{"name": "p", "port": 80, "targetPort": 81}]);
        let want = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": ports}});
        assert_eq!(protobuf(&body).unwrap().value, want);
    }
}
