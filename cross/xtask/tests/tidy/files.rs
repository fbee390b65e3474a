//! Rules on files: where they are, how they are called, how long they are.

use crate::{Rule, Tree, text::is_test};

/// What the top level holds; dot-files besides.
const TOP: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "Makefile",
    "README.md",
    "agent",
    "benches",
    "control",
    "cross",
    "fuzz",
    "sched-core",
];
/// Lines of a file; 150 to 400 is the aim.
const LINES_MAX: usize = 800;
/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "helper", "helpers", "manager", "common", "misc", "lib_utils"];

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        Rule { name: "top-level-is-fixed", breaches: top_level },
        Rule { name: "files-say-what-they-are-for", breaches: headers },
        Rule { name: "files-are-short", breaches: lengths },
        Rule { name: "names-say-something", breaches: names },
        Rule { name: "no-machine-in-the-text", breaches: machines },
        Rule { name: "limits-have-units", breaches: limits },
    ]
}

fn top_level(tree: &Tree) -> Vec<String> {
    let tops = tree.files.iter().map(|(path, _)| path.split('/').next().unwrap_or(path));
    let mut odd: Vec<_> = tops.filter(|top| !top.starts_with('.') && !TOP.contains(top)).collect();
    odd.dedup();
    odd.into_iter()
        .map(|top| format!("{top}:1: not a room of this house -- put it into one of {TOP:?}"))
        .collect()
}

fn headers(tree: &Tree) -> Vec<String> {
    let rust = tree.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    let bare = rust.filter(|(_, text)| !text.starts_with("//!") && !text.starts_with("#!["));
    bare.map(|(path, _)| {
        format!("{path}:1: no `//!` -- say in the first lines what the file is for")
    })
    .collect()
}

fn lengths(tree: &Tree) -> Vec<String> {
    let rust = tree.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    let long = rust
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| LINES_MAX < *lines);
    long.map(|(path, lines)| {
        format!("{path}:{lines}: more than {LINES_MAX} lines -- make two rooms of it")
    })
    .collect()
}

fn names(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, _) in &tree.files {
        let empty = path
            .split('/')
            .find(|part| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part)));
        found.extend(
            empty.map(|part| format!("{path}:1: `{part}` says nothing -- name what is in it")),
        );
    }
    found
}

/// The project speaks of the project alone.
fn machines(tree: &Tree) -> Vec<String> {
    let words = ["/root/", "/home/", "/work/", "crates.io/", "deb.debian.org"];
    let mut found = Vec::new();
    let texts = tree
        .files
        .iter()
        .filter(|(path, _)| !path.starts_with("cross/xtask/tests/tidy/") && path != "Cargo.lock");
    for (path, text) in texts {
        for (index, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!(
                    "{path}:{}: `{word}` is one machine's -- leave it out",
                    index + 1
                ));
            }
        }
    }
    found
}

/// A limit's name or comment gives its unit.
fn limits(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in
        tree.files.iter().filter(|(path, _)| path.ends_with("limits.rs") && !is_test(path))
    {
        let mut before = "";
        for (index, line) in text.lines().enumerate() {
            let constant = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub ");
            if constant.starts_with("const ")
                && !constant.starts_with("const _")
                && !before.trim_start().starts_with("///")
                && !before.trim_start().starts_with("#[")
            {
                found.push(format!(
                    "{path}:{}: a limit without a comment -- say its unit and why it is that",
                    index + 1
                ));
            }
            before = line;
        }
    }
    found
}
