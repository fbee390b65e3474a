//! The simple part of kubectl's JSONPath: `{.status.phase}`, `.items[0].metadata.name`, `[*]`, `\.` in keys.

use anyhow::{anyhow, bail};
use serde_json::Value;

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    All,
}

/// A path, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads `{.a.b}`, `.a.b` or `a.b`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let no = || anyhow!("`{text}` is not understood: give a path like {{.status.phase}}");
        let inner = match (text.strip_prefix('{'), text.strip_suffix('}')) {
            (Some(_), Some(_)) => text.trim_start_matches('{').trim_end_matches('}'),
            (None, None) => text,
            _ => return Err(no()),
        };
        let mut rest = inner.trim().trim_start_matches('$');
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let (inside, after) = bracket.split_once(']').ok_or_else(no)?;
                let quoted = inside.strip_prefix('\'').and_then(|key| key.strip_suffix('\''));
                steps.push(match (inside, quoted) {
                    (_, Some(key)) => Step::Key(key.to_owned()),
                    ("*", None) => Step::All,
                    (number, None) => Step::Index(number.parse().map_err(|_| no())?),
                });
                rest = after;
                continue;
            }
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let mut key = String::new();
            let mut chars = rest.char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' => key.extend(chars.next().map(|(_, c)| c)),
                    '.' | '[' => {
                        end = at;
                        break;
                    }
                    '{' | '}' | '?' | '(' | ' ' => bail!(no()),
                    c => key.push(c),
                }
            }
            if !key.is_empty() {
                steps.push(if key == "*" { Step::All } else { Step::Key(key) });
            } else if end < rest.len() && !rest.starts_with('[') {
                return Err(no());
            }
            rest = rest.get(end..).unwrap_or_default();
        }
        Ok(Self(steps))
    }

    /// What is there.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| match step {
                    Step::Key(key) => value.get(key).into_iter().collect::<Vec<_>>(),
                    Step::Index(index) => value.get(index).into_iter().collect(),
                    Step::All => match value {
                        Value::Array(items) => items.iter().collect(),
                        Value::Object(fields) => fields.values().collect(),
                        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                            Vec::new()
                        }
                    },
                })
                .collect();
        }
        found
    }

    /// The same as text, with spaces between.
    pub(crate) fn text(&self, value: &Value) -> String {
        let texts: Vec<String> = self.find(value).into_iter().map(plain).collect();
        texts.join(" ")
    }
}

/// Strings without quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_paths_find() {
        let value = json!({
            "a": { "b": [1, { "c": "x" }], "d.e/f": true }, "n": [{ "m": "1" }, { "m": "2" }],
        });
        let check = |path: &str, want: &str| {
            let text = JsonPath::parse(path).map_or_else(|e| e.to_string(), |p| p.text(&value));
            assert!(
                text == want || want.starts_with('!') && text.contains(&want[1..]),
                "{path}: {text}"
            );
        };
        check("{.a.b[0]}", "1");
        check(".a.b[1].c", "x");
        check("a.b[1]", r#"{"c":"x"}"#);
        check(r"{.a.d\.e/f}", "true");
        check("{.a['d.e/f']}", "true");
        check("{.n[*].m}", "1 2");
        check("{.nope.deep}", "");
        check("{.n[9]}", "");
        check("{.a", "!not understood");
        check("{.n[?(@.m==\"1\")].m}", "!not understood");
        check("{range .items[*]}{.a}{end}", "!not understood");
    }
}
