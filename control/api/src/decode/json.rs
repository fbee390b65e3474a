//! JSON text to a value, noticing keys that are there twice. serde_json bounds the depth to 128.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Decoded;
use crate::{limits, status::Status};

/// Reads JSON text.
///
/// # Errors
/// 400: not JSON, or deeper than `limits::DEPTH_MAX`.
pub fn json(bytes: &[u8]) -> Result<Decoded, Status> {
    if bytes.trim_ascii().is_empty() {
        return Err(Status::bad_request("the body of the request is empty; an object is needed"));
    }
    let mut notes = Notes::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut notes)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| {
            let why = error.to_string();
            let deep = format!("nested deeper than {} levels", limits::DEPTH_MAX);
            let why = why.replace("recursion limit exceeded", &deep);
            Status::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
        })?;
    Ok(Decoded { value, doubled: notes.doubled })
}

/// Where the reader is, and what it found twice.
#[derive(Default)]
struct Notes {
    path: String,
    doubled: Vec<String>,
}

struct Seed<'a>(&'a mut Notes);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let here = self.0.path.len();
        loop {
            self.0.path.push_str(&format!("[{}]", list.len()));
            let item = items.next_element_seed(Seed(self.0))?;
            self.0.path.truncate(here);
            match item {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let here = self.0.path.len();
        while let Some(key) = entries.next_key::<String>()? {
            if here > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            let value = entries.next_value_seed(Seed(self.0))?;
            if map.insert(key, value).is_some() && self.0.doubled.len() < limits::WARNINGS_MAX {
                let path = self.0.path.to_string();
                if !self.0.doubled.contains(&path) {
                    self.0.doubled.push(path);
                }
            }
            self.0.path.truncate(here);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use serde_json::json;

    use super::json as decode;

    #[test]
    fn doubled_keys_are_found_with_their_paths() {
        let check = |text: &str, want: &[&str]| {
            assert_eq!(decode(text.as_bytes()).unwrap().doubled, want, "{text}");
        };
        check(r#"{"a":1,"b":2}"#, &[]);
        check(r#"{"a":1,"a":2,"a":3}"#, &["a"]);
        check(r#"{"s":{"c":[{"n":1},{"n":1,"n":2}]}}"#, &["s.c[1].n"]);
        check(r#"{"x":{"a":1},"x":{"a":1}}"#, &["x"]);
        let last = decode(br#"{"a":1,"a":[true,null,-1,1.5,"t"]}"#).unwrap().value;
        assert_eq!(last, json!({"a": [true, null, -1, 1.5, "t"]}));
    }

    #[test]
    fn what_is_no_json_is_a_400() {
        let deep: Vec<u8> =
            core::iter::repeat_n(b'[', 10_000).chain(core::iter::repeat_n(b']', 10_000)).collect();
        let deep_maps = r#"{"a":"#.repeat(10_000);
        for bad in [
            &deep[..],
            deep_maps.as_bytes(),
            b"",
            b"{",
            b"{}x",
            b"\xff",
            b"1e999",
            b"apiVersion: v1",
        ] {
            assert_eq!(decode(bad).unwrap_err().code, 400);
        }
    }
}
