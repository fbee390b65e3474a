//! Files of objects: YAML with `---` between, JSON, directories, stdin.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use crate::shell::yaml;

/// Largest file or stdin read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One object as someone wrote it.
#[derive(Debug)]
pub(crate) struct Document {
    /// Where it is from, for messages.
    pub(crate) source: String,
    /// As written: the server is the one to judge it.
    pub(crate) bytes: Vec<u8>,
    /// The same, read.
    pub(crate) value: Value,
}

impl Document {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }
}

/// Reads all files; nothing is given if one cannot be used, so that nothing is done by halves.
pub(crate) fn read(files: &[String]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        for (source, text) in texts(file)? {
            parse(&source, &text, &mut documents)?;
        }
    }
    if documents.is_empty() {
        bail!("no objects in {}", files.join(", "));
    }
    Ok(documents)
}

fn texts(file: &str) -> anyhow::Result<Vec<(String, String)>> {
    if file == "-" {
        return Ok(vec![("STDIN".into(), text("STDIN", &mut std::io::stdin().lock())?)]);
    }
    if file.starts_with("http://") || file.starts_with("https://") {
        bail!("{file}: URLs are not fetched; download it and pipe it to -f -");
    }
    let path = Path::new(file);
    if !path.exists() {
        bail!("the path \"{file}\" does not exist");
    }
    let mut paths: Vec<PathBuf> = vec![path.into()];
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| format!("cannot read {file}"))?;
        paths = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| {
            path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
        });
        paths.sort();
    }
    let one = |path: &PathBuf| {
        let name = path.display().to_string();
        let mut file = fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
        let text = text(&name, &mut file)?;
        Ok((name, text))
    };
    paths.iter().map(one).collect()
}

fn text(name: &str, from: &mut dyn Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("{name} is larger than {FILE_BYTES_MAX} bytes; give it in parts");
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("error parsing {name}: it is not UTF-8"))
}

fn parse(source: &str, text: &str, out: &mut Vec<Document>) -> anyhow::Result<()> {
    if text.trim_start().starts_with('{') {
        let values: Result<Vec<Value>, _> =
            serde_json::Deserializer::from_str(text).into_iter().collect();
        // What begins so and is no JSON may be YAML.
        if let Ok(values) = values {
            for value in values {
                add(source, None, value, out)?;
            }
            return Ok(());
        }
    }
    for part in split(text) {
        let json = yaml::to_json(part.as_bytes())
            .map_err(|bad| anyhow!("error parsing {source}: {}", bad.0))?
            .json;
        let value: Value =
            serde_json::from_slice(&json).with_context(|| format!("error parsing {source}"))?;
        if !value.is_null() {
            add(source, Some(part.into_bytes()), value, out)?;
        }
    }
    Ok(())
}

/// A `List` is its items.
fn add(
    source: &str,
    bytes: Option<Vec<u8>>,
    mut value: Value,
    out: &mut Vec<Document>,
) -> anyhow::Result<()> {
    if !value.is_object() {
        bail!("error parsing {source}: it holds something that is no object");
    }
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"));
    if is_list && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
        return items.into_iter().try_for_each(|item| add(source, None, item, out));
    }
    let bytes = bytes.unwrap_or_else(|| value.to_string().into_bytes());
    let document = Document { source: source.to_owned(), bytes, value };
    for (field, value) in [("apiVersion", document.api_version()), ("kind", document.kind())] {
        if value.is_empty() {
            bail!(
                "error validating \"{source}\": {field} not set; every object names its apiVersion and kind"
            );
        }
    }
    out.push(document);
    Ok(())
}

/// Parts between lines that begin with `---`; parts of nothing but comments are left out.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            // `--- {a: 1}` begins the next one.
            parts.push(rest.unwrap_or_default().to_owned());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
    }
    parts.retain(|part| {
        part.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart() {
        let check = |text: &str, want: &[&str]| {
            let mut out = Vec::new();
            parse("f", text, &mut out).unwrap();
            let names: Vec<&str> = out.iter().map(Document::name).collect();
            assert_eq!(names, want, "{text}");
        };
        let one = |name: &str| format!("apiVersion: v1\nkind: X\nmetadata: {{name: {name}}}\n");
        check(&one("a"), &["a"]);
        check(&format!("---\n{}--- # b\n{}---\n# end\n", one("a"), one("b")), &["a", "b"]);
        check(&one("a").replace('\n', "\r\n"), &["a"]);
        check(
            r#"{"apiVersion":"v1","kind":"X","metadata":{"name":"j"}} {"apiVersion":"v1","kind":"Y"}"#,
            &["j", ""],
        );
        check("{apiVersion: v1, kind: X, metadata: {name: flow}}", &["flow"]);
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: X, metadata: {name: i}}\n";
        check(list, &["i"]);
        check("# nothing\n---\n", &[]);
        let block = "apiVersion: v1\nkind: X\nmetadata: {name: b}\ndata:\n  a: |\n    ---\n    x\n";
        check(block, &["b"]);
    }

    #[test]
    fn what_is_no_manifest() {
        let check = |text: &str, want: &str| {
            let error = parse("f", text, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        };
        check("a: [", "error parsing f: error converting YAML to JSON");
        check("kind: X", "apiVersion not set");
        check("apiVersion: v1", "kind not set");
        check("- a", "no object");
    }

    #[test]
    fn the_bytes_stay_as_written() {
        let mut out = Vec::new();
        parse("f", "apiVersion: v1\napiVersion: v1\nkind: X # y\n", &mut out).unwrap();
        assert_eq!(out[0].bytes, b"apiVersion: v1\napiVersion: v1\nkind: X # y\n");
    }
}
