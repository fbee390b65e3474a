//! What is printed: tables as kubectl lays them out, names, JSON, YAML that Kubernetes reads back the same.

use std::str::FromStr;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::{
    discovery::Kind,
    jsonpath::{JsonPath, plain},
    say,
};

/// Spaces between columns.
const GAP: usize = 3;
/// Narrowest column, its gap included.
const NARROWEST: usize = 6;

/// `-o`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// With more columns, or not.
    Table {
        /// `-o wide`.
        wide: bool,
    },
    Json,
    Yaml,
    Name,
    JsonPath(JsonPath),
}

impl FromStr for Format {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "wide" => Self::Table { wide: true },
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "name" => Self::Name,
            _ => match text.strip_prefix("jsonpath=") {
                Some(path) => Self::JsonPath(JsonPath::parse(path)?),
                None => return Err(anyhow!("allowed are json, yaml, name, wide, jsonpath=PATH")),
            },
        })
    }
}

/// Prints an object or a list in a format that is no table.
pub(crate) fn object(format: &Format, kind: Option<&Kind>, value: &Value) -> anyhow::Result<()> {
    match format {
        Format::Json => {
            let mut out = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut out, indent);
            serde::Serialize::serialize(value, &mut writer)?;
            say(&String::from_utf8(out)?)
        }
        Format::Yaml => say(yaml(value)?.trim_end_matches('\n')),
        Format::JsonPath(path) => say(&path.text(value)),
        Format::Name | Format::Table { .. } => {
            let name = value.pointer("/metadata/name").map(plain).unwrap_or_default();
            say(&format!("{}/{name}", kind.map(Kind::shown).unwrap_or_default()))
        }
    }
}

/// YAML 1.1 as Kubernetes reads it: what would be read as another type is quoted.
pub(crate) fn yaml(value: &Value) -> anyhow::Result<String> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        prefer_block_scalars: true,
        min_fold_chars: usize::MAX,
        folded_wrap_chars: usize::MAX,
    };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)
        .context("cannot write YAML")?;
    Ok(text)
}

/// Leaves out what people seldom want to see.
pub(crate) fn without_managed_fields(value: &mut Value) {
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

/// Several objects as one.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "List", "items": items, "metadata": { "resourceVersion": "" },
    })
}

/// Rows with their columns' widths, which only grow: rows of a watch stand under those before.
#[derive(Default)]
pub(crate) struct Table {
    pub(super) columns: Vec<(String, bool)>,
    pub(super) widths: Vec<usize>,
    pub(super) rows: Vec<Vec<String>>,
    /// In front: `NAMESPACE`.
    pub(crate) with_namespace: bool,
    /// `-o wide`.
    pub(crate) wide: bool,
    /// Kind to put before the names.
    pub(crate) prefix: Option<String>,
    pub(crate) with_header: bool,
}

impl Table {
    /// Takes over a `Table` of the server.
    pub(crate) fn add(&mut self, table: &Value) {
        let array = |name: &str| table.get(name).and_then(Value::as_array);
        for column in
            array("columnDefinitions").filter(|_| self.columns.is_empty()).into_iter().flatten()
        {
            let name = column.get("name").and_then(Value::as_str).unwrap_or_default();
            let shown =
                self.wide || column.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0;
            self.columns.push((name.to_uppercase(), shown));
        }
        for row in array("rows").into_iter().flatten() {
            let mut cells = Vec::new();
            if self.with_namespace {
                let namespace = row.pointer("/object/metadata/namespace");
                cells.push(namespace.map(plain).unwrap_or_default());
            }
            let given = row.get("cells").and_then(Value::as_array);
            for ((cell, (_, shown)), index) in
                given.into_iter().flatten().zip(&self.columns).zip(0..)
            {
                let text = cell_text(cell);
                match &self.prefix {
                    _ if !shown => {}
                    Some(prefix) if index == 0 => cells.push(format!("{prefix}/{text}")),
                    _ => cells.push(text),
                }
            }
            self.rows.push(cells);
        }
    }

    /// Nothing waits to be printed.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines that are new, with the header before the first.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let mut rows = std::mem::take(&mut self.rows);
        if std::mem::take(&mut self.with_header) {
            let namespace = self.with_namespace.then(|| "NAMESPACE".to_owned());
            let shown =
                self.columns.iter().filter(|(_, shown)| *shown).map(|(name, _)| name.clone());
            rows.insert(0, namespace.into_iter().chain(shown).collect());
        }
        for row in &rows {
            for (index, cell) in row.iter().enumerate() {
                let width = cell.chars().count();
                match self.widths.get_mut(index) {
                    Some(widest) => *widest = width.max(*widest),
                    None => self.widths.push(width),
                }
            }
        }
        let line = |row: &Vec<String>| {
            let last = row.len().saturating_sub(1);
            let mut line = String::new();
            for ((cell, width), index) in row.iter().zip(&self.widths).zip(0..) {
                line += cell;
                if index < last {
                    let width = (width + GAP).max(NARROWEST);
                    line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
                }
            }
            line
        };
        rows.iter().map(line).collect()
    }
}

fn cell_text(cell: &Value) -> String {
    let text = if cell.is_null() { "<none>".to_owned() } else { plain(cell) };
    match text.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::yaml::to_json;

    #[test]
    fn yaml_is_read_back_the_same() {
        let strings = [
            "",
            " ",
            "yes",
            "Yes",
            "no",
            "on",
            "off",
            "y",
            "n",
            "N",
            "true",
            "False",
            "null",
            "~",
            "Null",
            "0644",
            "0o17",
            "0x1F",
            "0b11",
            "1e3",
            "1_000",
            "1.5",
            ".5",
            "+1",
            "-0",
            "-",
            "--",
            "---",
            "...",
            ".inf",
            ".nan",
            "60:30",
            "12:30:45",
            "2020-01-01",
            "2020-01-01T00:00:00Z",
            "a: b",
            "a:",
            ":a",
            "#a",
            "a #b",
            "- a",
            "? a",
            "[a]",
            "{a}",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'a'",
            "\"a\"",
            "it's",
            "a\\b",
            "a\tb",
            "\t",
            "line\n",
            "two\nlines",
            "two\nlines\n",
            "two\nlines\n\n",
            "\nfirst",
            "  lead\nx\n",
            "trail \nx",
            "a\r\nb",
            "\u{1}",
            "\u{85}",
            "\u{2028}",
            "\u{feff}x",
            "é",
            "日本",
            "😀",
            "=",
            "<<",
            "0.5",
            "1,000",
            "a, b",
            "a\n\n\nb",
            "\n",
            "\n\n",
            " \n",
            "#!/bin/sh\nset -e\n  x: y\n",
            "# a\n# b",
            "key: |\n  v\n",
            "---\na: 1\n",
        ];
        let long = "word ".repeat(100);
        for text in strings.iter().copied().chain([long.as_str()]) {
            for value in [
                json!({ "a": text }),
                json!({ "a": { "b": [text, { "c": text }] } }),
                json!([text, [text], { text: text }]),
            ] {
                let yaml = yaml(&value).unwrap();
                let read =
                    to_json(yaml.as_bytes()).unwrap_or_else(|e| panic!("{text:?} {yaml:?} {e:?}"));
                let read: Value = serde_json::from_slice(&read.json).unwrap();
                assert_eq!(read, value, "{yaml:?}");
            }
        }
        let others = json!({
            "a": null, "b": true, "c": 0, "d": -1, "e": 1.5, "f": i64::MAX, "g": u64::MAX, "h": {}, "i": [],
            "j": [[], {}, [1, [2]]], "k": 1e30, "l": [{ "m": [{ "n": [] }] }],
        });
        let read = to_json(yaml(&others).unwrap().as_bytes()).unwrap().json;
        assert_eq!(serde_json::from_slice::<Value>(&read).unwrap(), others);
    }

    #[test]
    fn yaml_looks_as_kubectl_prints_it() {
        let value = json!({
            "apiVersion": "v1",
            "data": { "mode": "0644", "script": "a\nb\n" },
            "spec": { "containers": [{ "args": ["-c", "yes"], "name": "x" }], "volumes": [] },
        });
        let want = "apiVersion: v1\ndata:\n  mode: \"0644\"\n  script: |\n    a\n    b\nspec:\n  containers:\n  - args:\n    - -c\n    - \"yes\"\n    name: x\n  volumes: []\n";
        assert_eq!(yaml(&value).unwrap(), want);
    }

    #[test]
    fn tables_stand_as_kubectls() {
        let server = json!({
            "columnDefinitions": [
                { "name": "Name", "priority": 0 }, { "name": "Ready" }, { "name": "Age", "priority": 0 },
                { "name": "Images", "priority": 1 },
            ],
            "rows": [
                { "cells": ["web", "2/2", "20s", "x"], "object": { "metadata": { "namespace": "n" } } },
                { "cells": ["a-longer-name", null, "3\nx", "y"] },
            ],
        });
        let check = |mut table: Table, want: &[&str]| {
            table.with_header = true;
            table.add(&server);
            assert_eq!(table.lines(), want);
        };
        check(
            Table::default(),
            &[
                "NAME            READY    AGE",
                "web             2/2      20s",
                "a-longer-name   <none>   3...",
            ],
        );
        check(
            Table { wide: true, prefix: Some("pod".into()), ..Table::default() },
            &[
                "NAME                READY    AGE    IMAGES",
                "pod/web             2/2      20s    x",
                "pod/a-longer-name   <none>   3...   y",
            ],
        );
        check(
            Table { with_namespace: true, ..Table::default() },
            &[
                "NAMESPACE   NAME            READY    AGE",
                "n           web             2/2      20s",
                "            a-longer-name   <none>   3...",
            ],
        );
    }

    #[test]
    fn rows_of_a_watch_stand_under_those_before() {
        let mut table = Table { with_header: true, ..Table::default() };
        table.add(&json!({ "columnDefinitions": [{ "name": "Name" }, { "name": "Age" }], "rows": [{ "cells": ["long-name", "1s"] }] }));
        assert_eq!(table.lines(), ["NAME        AGE", "long-name   1s"]);
        table.add(&json!({ "rows": [{ "cells": ["b", "2s"] }] }));
        assert_eq!(table.lines(), ["b           2s"]);
        assert!(table.lines().is_empty());
    }

    #[test]
    fn formats() {
        let check =
            |text: &str, good: bool| assert_eq!(Format::from_str(text).is_ok(), good, "{text}");
        check("wide", true);
        check("yaml", true);
        check("jsonpath={.a}", true);
        check("jsonpath={", false);
        check("go-template", false);
    }
}
