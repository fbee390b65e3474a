//! Request bodies in YAML, as Kubernetes means it: YAML 1.1 booleans, `0644` is octal, of doubled keys the last one
//! wins and is told of, merge keys are merged; depth and aliases are bounded.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use crate::limits::{YAML_DEPTH_MAX, YAML_DOUBLED_MAX, YAML_NODES_MAX, YAML_SCALAR_BYTES_MAX};

/// A document as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// JSON text.
    pub(crate) json: Vec<u8>,
    /// Paths of keys that were there twice (`spec.replicas`), at most [`YAML_DOUBLED_MAX`].
    pub(crate) doubled: Vec<String>,
}

/// Why it is refused; for the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadYaml(pub(crate) String);

/// This content type is YAML (`application/apply-patch+yaml` among them).
pub(crate) fn is_yaml(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "application/yaml" | "application/x-yaml" | "text/yaml")
        || kind.ends_with("+yaml")
}

/// Reads one document.
pub(crate) fn to_json(bytes: &[u8]) -> Result<Decoded, BadYaml> {
    let text = str::from_utf8(bytes)
        .map_err(|_| BadYaml("error converting YAML to JSON: it is not UTF-8".into()))?;
    // JSON is YAML; most apply patches are JSON.
    if text.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    {
        return Ok(Decoded { json: bytes.to_vec(), doubled: Vec::new() });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH_MAX,
            flow_nesting_limit: YAML_DEPTH_MAX,
            max_events: 2 * YAML_NODES_MAX,
            max_nodes: YAML_NODES_MAX,
            max_total_scalar_bytes: YAML_SCALAR_BYTES_MAX,
            max_documents: 1,
            max_aliases: 1000,
            max_anchors: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_NODES_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        emit_comments: false,
    };
    let doubled = std::cell::RefCell::new(Vec::new());
    let node = Node { path: &Path::Root, doubled: &doubled };
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        node.deserialize(yaml)
    })
    .map_err(|e| {
        let first = e.to_string();
        let line = first.lines().find(|line| !line.trim().is_empty()).unwrap_or("it is no YAML");
        BadYaml(format!("error converting YAML to JSON: {}", plainly(line)))
    })?;
    Ok(Decoded { json: value.to_string().into_bytes(), doubled: doubled.into_inner() })
}

/// The parser's words (`error: line 6 column 14: budget breached: ...`) as `line 6 column 14: ` and what a person
/// can change.
fn plainly(line: &str) -> String {
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let (place, why) = match line.split_once(": ") {
        Some((place, why)) if place.starts_with("line ") => (format!("{place}: "), why),
        _ => (String::new(), line),
    };
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if has(&["recursion limit", "Depth", "FlowNesting"]) {
        format!("{place}nested deeper than {YAML_DEPTH_MAX} levels")
    } else if has(&["alias replay limit", "Alias", "Anchors"]) {
        format!("{place}its aliases stand for too much; write out what is meant")
    } else if has(&["budget breached"]) {
        format!("{place}it has more than {YAML_NODES_MAX} values; split it")
    } else {
        format!("{place}{why}")
    }
}

enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Copy, Clone)]
struct Node<'a> {
    path: &'a Path<'a>,
    doubled: &'a std::cell::RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> Result<Value, D::Error> {
        yaml.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML that JSON can say")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let path = Path::Index(self.path, out.len());
            let node = Node { path: &path, doubled: self.doubled };
            match items.next_element_seed(node)? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = pairs.next_key::<String>()? {
            let path = Path::Key(self.path, &key);
            let value = pairs.next_value_seed(Node { path: &path, doubled: self.doubled })?;
            let mut doubled = self.doubled.borrow_mut();
            if out.contains_key(&key) && doubled.len() < YAML_DOUBLED_MAX {
                doubled.push(path.to_string());
            }
            drop(doubled);
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> String {
        String::from_utf8(to_json(yaml.as_bytes()).unwrap().json).unwrap()
    }

    #[test]
    fn the_meaning_is_kubernetes_own() {
        let check = |yaml: &str, want: &str| assert_eq!(json(yaml), want, "{yaml}");
        check("a: yes", r#"{"a":true}"#);
        check("a: off", r#"{"a":false}"#);
        check("a: \"yes\"", r#"{"a":"yes"}"#);
        check("a: 0644", r#"{"a":420}"#);
        check("a: 0o17", r#"{"a":15}"#);
        check("a: 60:30", r#"{"a":"60:30"}"#);
        check("a: 1.5", r#"{"a":1.5}"#);
        check("a: -7", r#"{"a":-7}"#);
        check("a: ~\nb:", r#"{"a":null,"b":null}"#);
        check("1: x", r#"{"1":"x"}"#);
        check("a: 2020-01-01", r#"{"a":"2020-01-01"}"#);
        check("a: 18446744073709551615", r#"{"a":18446744073709551615}"#);
        check("a: |\n  x\n  y\n", r#"{"a":"x\ny\n"}"#);
        check("- a\n- [b, {c: d}]", r#"["a",["b",{"c":"d"}]]"#);
        check("x: &x {a: 1}\ny:\n  <<: *x\n  b: 2", r#"{"x":{"a":1},"y":{"a":1,"b":2}}"#);
        check("{\"a\": 1}", r#"{"a": 1}"#);
        check("---\na: 1\n", r#"{"a":1}"#);
    }

    #[test]
    fn doubled_keys_are_told_of_and_the_last_wins() {
        let decoded = to_json(b"a: 1\nspec:\n  x:\n  - k: 1\n    k: 2\na: 3\n").unwrap();
        assert_eq!(decoded.doubled, ["spec.x[0].k", "a"]);
        assert_eq!(decoded.json, br#"{"a":3,"spec":{"x":[{"k":2}]}}"#);
        let issue = "apiVersion: apps/v1beta1\napiVersion: apps/v1beta1\nkind: Deployment\n";
        assert_eq!(to_json(issue.as_bytes()).unwrap().doubled, ["apiVersion"]);
    }

    /// With the stack that the server's main thread has: a debug build's frames are large.
    #[test]
    fn what_is_refused() {
        let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(refusals).unwrap();
        thread.join().unwrap();
    }

    fn refusals() {
        let fits = "[".repeat(YAML_DEPTH_MAX - 2) + &"]".repeat(YAML_DEPTH_MAX - 2);
        to_json(fits.as_bytes()).unwrap();
        let bomb = {
            let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
            for n in 1..12 {
                let from = format!("*a{}, ", n - 1).repeat(10);
                text += &format!("a{n}: &a{n} [{}]\n", from.trim_end_matches(", "));
            }
            text
        };
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let deep_block: String = (0..10_000).map(|n| " ".repeat(n % 900) + "- ").collect();
        let billion = format!("{}x", "a: ".repeat(3));
        let says = |yaml: &str, want: &str| {
            let error = to_json(yaml.as_bytes()).unwrap_err().0;
            assert!(error.ends_with(want), "{error}");
        };
        says(&bomb, "its aliases stand for too much; write out what is meant");
        says(&deep, "nested deeper than 80 levels");
        says(&deep_block, "nested deeper than 80 levels");
        for bad in [
            bomb.as_str(),
            &deep,
            &deep_block,
            &billion,
            "a: [1",
            "a: 1\n---\nb: 2\n",
            "\u{0}",
            "*x",
        ] {
            let error = to_json(bad.as_bytes()).unwrap_err();
            assert!(error.0.starts_with("error converting YAML to JSON: "), "{error:?}");
            assert!(!error.0.contains('\n'));
        }
        assert!(to_json(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn content_types() {
        for (kind, want) in [
            ("application/yaml", true),
            ("Application/YAML; charset=utf-8", true),
            ("application/apply-patch+yaml", true),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_yaml(kind), want, "{kind}");
        }
    }
}
