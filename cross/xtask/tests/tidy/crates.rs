//! Rules on crates: who may use whom (ARCHITECTURE, "Rooms").

use serde_json::Value;

use crate::{Rule, Tree};

/// What each crate may depend on (normal dependencies). `*` stands for any crate that is not ours.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("sched-core", &["heapless"]),
    ("coracle-api", &["serde", "serde_json", "base64"]),
    ("coracle-store", &["redb", "thiserror"]),
    ("coracle-keys", &["ring", "rcgen", "thiserror", "base64", "*"]),
    (
        "coracle-control-logic",
        &[
            "coracle-api",
            "sched-core",
            "coracle-store",
            "coracle-keys",
            "serde",
            "serde_json",
            "base64",
        ],
    ),
    (
        "coracle-control",
        &[
            "coracle-api",
            "coracle-store",
            "coracle-keys",
            "coracle-rt",
            "coracle-pages",
            "coracle-control-logic",
            "*",
        ],
    ),
    ("coracle-rt", &["hyper", "smol"]),
    ("coracle-pages", &["clap", "clap_complete", "clap_mangen"]),
    ("coracle-disk", &[]),
    ("coracle-runtime", &["coracle-disk", "*"]),
    ("coracle-image", &["coracle-disk", "*"]),
    ("coracle-shim", &["coracle-disk", "coracle-runtime", "*"]),
    (
        "coracle-agent-logic",
        &["coracle-api", "coracle-runtime", "coracle-image", "serde", "serde_json", "base64"],
    ),
    (
        "coracle-agent",
        &[
            "coracle-agent-logic",
            "coracle-disk",
            "coracle-runtime",
            "coracle-image",
            "coracle-shim",
            "coracle-api",
            "coracle-keys",
            "coracle-rt",
            "coracle-pages",
            "*",
        ],
    ),
    (
        "coracle-sim",
        &[
            "coracle-api",
            "coracle-control-logic",
            "coracle-agent-logic",
            "coracle-store",
            "coracle-keys",
            "coracle-runtime",
            "coracle-image",
            "sched-core",
            "serde",
            "serde_json",
        ],
    ),
    ("coracle-sched-model", &["sched-core"]),
    ("testing-service", &["nix"]),
    ("xtask", &["*"]),
];

/// What no crate may use, whoever: a second async runtime, a licence that does not fit.
const NOBODY: [&str; 5] = ["tokio", "async-std", "openssl", "rustables", "openssl-sys"];

/// Pure crates: any other that runs is `std`.
const NO_STD: [&str; 4] = [
    "sched-core/src/lib.rs",
    "control/api/src/lib.rs",
    "control/logic/src/lib.rs",
    "agent/logic/src/lib.rs",
];

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        Rule { name: "crates-use-whom-they-may", breaches: uses },
        Rule { name: "pure-crates-are-no-std", breaches: no_std },
        Rule { name: "members-take-the-lints", breaches: lints },
        Rule { name: "dependencies-say-why", breaches: reasons },
    ]
}

fn ours(name: &str) -> bool {
    name.starts_with("coracle-") || name == "sched-core"
}

fn uses(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let no_packages = Vec::new();
    for package in tree.metadata["packages"].as_array().unwrap_or(&no_packages) {
        let name = package["name"].as_str().unwrap_or("");
        let Some((_, may)) = MAY_USE.iter().find(|(one, _)| *one == name) else {
            // Benches measure all of it.
            if name != "coracle-benches" {
                found.push(format!("Cargo.toml:1: `{name}` has no line in the table of who may use whom -- add it, or do without"));
            }
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap_or(&no_packages) {
            let used = dependency["name"].as_str().unwrap_or("");
            if dependency["kind"] != Value::Null {
                continue;
            }
            let allowed = may.contains(&used) || may.contains(&"*") && !ours(used);
            if !allowed || NOBODY.contains(&used) {
                found.push(format!("{name}: uses `{used}` -- it may use only {may:?}"));
            }
        }
    }
    found
}

fn no_std(tree: &Tree) -> Vec<String> {
    let pure = tree.files.iter().filter(|(path, _)| NO_STD.contains(&path.as_str()));
    let with_std = pure.filter(|(_, text)| {
        !text.lines().any(|line| {
            line.starts_with("#![no_std]") || line.starts_with("#![cfg_attr(not(test), no_std)]")
        })
    });
    with_std.map(|(path, _)| format!("{path}:1: no `#![no_std]` -- a pure crate has no clock, file or socket to reach for")).collect()
}

fn lints(tree: &Tree) -> Vec<String> {
    let manifests = tree.files.iter().filter(|(path, text)| {
        path.ends_with("/Cargo.toml") && text.contains("[package]") && path != "fuzz/Cargo.toml"
    });
    let bare = manifests.filter(|(_, text)| !text.contains("[lints]\nworkspace = true"));
    bare.map(|(path, _)| {
        format!(
            "{path}:1: no `[lints] workspace = true` -- every member takes the workspace's lints"
        )
    })
    .collect()
}

/// A dependency from outside has a comment above it, or above the block that it stands in.
fn reasons(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in tree.files.iter().filter(|(path, _)| path == "Cargo.toml") {
        let (mut inside, mut told) = (false, false);
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                inside = line.trim() == "[workspace.dependencies]";
                told = false;
            } else if line.trim().is_empty() {
                told = false;
            } else if line.starts_with('#') {
                told = true;
            } else if inside && !told && !line.contains("path = ") && !line.contains(" # ") {
                found.push(format!(
                    "{path}:{}: a dependency without a reason -- say above it why it is here",
                    index + 1
                ));
            }
        }
    }
    found
}
