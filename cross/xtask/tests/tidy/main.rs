//! The house rules, run over the whole tree; each with a committed counter-example that it catches.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod crates;
mod files;
mod text;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

/// What the rules look at.
pub(crate) struct Tree {
    /// Path from the root, with `/`, and text.
    pub(crate) files: Vec<(String, String)>,
    /// `cargo metadata --no-deps`.
    pub(crate) metadata: Value,
}

/// One rule. A breach reads `path:line: what -- what to do`.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) breaches: fn(&Tree) -> Vec<String>,
}

fn rules() -> Vec<Rule> {
    let mut rules = text::rules();
    rules.extend(files::rules());
    rules.extend(crates::rules());
    rules
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(dir: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let built = matches!(
            name.as_str(),
            "target" | ".git" | "fuzz/target" | "fuzz/corpus" | "fuzz/artifacts"
        );
        if path.is_dir() && !built && !name.ends_with("counter-examples") {
            read(&path, files);
        } else if path.is_file() && name != ".git" {
            // What is no text (an archive, a picture) has no lines to look at.
            if let Ok(text) = fs::read_to_string(&path) {
                files.push((name, text));
            }
        }
    }
}

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_tree_keeps_every_rule() {
    let mut tree = Tree { files: Vec::new(), metadata: metadata() };
    read(root(), &mut tree.files);
    assert!(50 < tree.files.len(), "the tree was not read");
    let mut found = Vec::new();
    for rule in rules() {
        found.extend(
            (rule.breaches)(&tree).into_iter().map(|breach| format!("{}: {breach}", rule.name)),
        );
    }
    assert!(found.is_empty(), "{} breaches:\n{}", found.len(), found.join("\n"));
}

/// A counter-example's first line is the path that it pretends to have, the rest its text. One for `cargo metadata` is JSON.
#[test]
fn every_rule_catches_its_counter_example() {
    let dir = root().join("cross/xtask/tests/counter-examples");
    let mut left: BTreeSet<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for rule in rules() {
        let name = format!("{}.txt", rule.name);
        let example = fs::read_to_string(dir.join(&name))
            .unwrap_or_else(|_| panic!("no counter-example {name}"));
        left.remove(&name);
        let (path, text) = example.split_once('\n').unwrap();
        let mut tree = Tree { files: Vec::new(), metadata: Value::Null };
        if path == "cargo metadata" {
            tree.metadata = serde_json::from_str(text).unwrap();
        } else {
            tree.files.push((path.to_owned(), text.to_owned()));
        }
        let breaches = (rule.breaches)(&tree);
        assert!(!breaches.is_empty(), "rule {} lets its counter-example through", rule.name);
    }
    assert!(left.is_empty(), "counter-examples of no rule: {left:?}");
}
