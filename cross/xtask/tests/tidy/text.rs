//! Rules on what a line of Rust may say, and where.

use crate::{Rule, Tree};

/// Crates that decide and never do (ARCHITECTURE: "Deciding and doing are apart").
pub(crate) const PURE: [&str; 4] =
    ["sched-core/src/", "control/api/src/", "control/logic/src/", "agent/logic/src/"];

const IN_PURE: [(&str, &str); 9] = [
    ("Instant::now", "take `now: Millis` as an argument"),
    ("SystemTime::now", "take `now: Millis` as an argument"),
    ("std::fs", "return an action; the shell does files"),
    ("std::net", "return an action; the shell does sockets"),
    ("std::process", "return an action; the shell does processes"),
    ("std::thread", "a step is one thread's; the shell has threads"),
    ("std::env", "take it as an argument"),
    ("HashMap", "use BTreeMap: iteration order is part of the result"),
    ("HashSet", "use BTreeSet: iteration order is part of the result"),
];

const NOWHERE: [(&str, &str); 6] = [
    ("todo!(", "finish it"),
    ("unimplemented!(", "finish it, or answer honestly that it is missing"),
    ("dbg!(", "take it out"),
    ("#[ignore", "a test runs or is not there"),
    ("// TODO", "finish it"),
    ("// FIXME", "mend it"),
];

pub(crate) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            name: "pure-crates-do-nothing",
            breaches: |tree| words(tree, &IN_PURE, |path| starts(path, &PURE) && !is_test(path)),
        },
        Rule {
            name: "nothing-unfinished",
            breaches: |tree| {
                words(tree, &NOWHERE, |path| !path.starts_with("cross/xtask/tests/tidy"))
            },
        },
        Rule { name: "async-in-shells-only", breaches: async_outside_shells },
        Rule { name: "unsafe-in-linux-only", breaches: unsafe_outside_linux },
        Rule { name: "tests-do-not-sleep", breaches: sleeping_tests },
        Rule { name: "no-unwrap-outside-tests", breaches: unwraps },
    ]
}

fn starts(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Modules that only tests are built with, though their path does not say so.
const TEST_MODULES: [&str; 3] = [
    "control/logic/src/scripted.rs",
    "control/logic/src/fixture.rs",
    "control/logic/src/controllers/testing.rs",
];

pub(crate) fn is_test(path: &str) -> bool {
    TEST_MODULES.contains(&path)
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

/// The code of each line: without comments, up to where the file's own tests begin.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]" && line.trim() != "mod tests {");
    lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
}

fn rust(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.files
        .iter()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

fn words(tree: &Tree, banned: &[(&str, &str)], applies: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(tree).filter(|(path, _)| applies(path)) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split(" //").next().unwrap_or(line);
            let code =
                if code.trim_start().starts_with("//!") || code.trim_start().starts_with("///") {
                    ""
                } else {
                    code
                };
            for (word, advice) in banned {
                // A comment that begins a line is looked at for the words that are comments.
                let place = if word.starts_with("//") {
                    line
                } else if line.trim_start().starts_with("//") {
                    ""
                } else {
                    code
                };
                if place.contains(word) {
                    found.push(format!("{path}:{}: {word} -- {advice}", number + 1));
                }
            }
        }
    }
    found
}

/// smol lives in the shells, the client's and the agent's connections; nothing else waits.
fn async_outside_shells(tree: &Tree) -> Vec<String> {
    let allowed = [
        "control/src/",
        "control/rt/",
        "control/tests/",
        "agent/src/",
        "agent/tests/",
        "benches/",
        "cross/xtask/tests/tidy/",
    ];
    let mut found = Vec::new();
    for (path, text) in rust(tree).filter(|(path, _)| !starts(path, &allowed)) {
        for (number, line) in code(text) {
            if ["async fn", "async move", "async {", ".await"]
                .iter()
                .any(|word| line.contains(word))
            {
                found.push(format!("{path}:{number}: async -- only shells wait; return an action or block in a port"));
            }
        }
    }
    found
}

fn unsafe_outside_linux(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in rust(tree).filter(|(path, _)| {
        !path.starts_with("agent/runtime/src/linux") && !path.starts_with("cross/xtask/tests/tidy/")
    }) {
        for (number, line) in code(text) {
            if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|word| line.contains(word))
            {
                found.push(format!("{path}:{number}: unsafe -- only agent/runtime/src/linux talks to the kernel by hand"));
            }
        }
    }
    found
}

fn sleeping_tests(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in
        rust(tree).filter(|(path, _)| is_test(path) && !path.starts_with("cross/xtask/tests/tidy/"))
    {
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or(line);
            if code.contains("thread::sleep") && !line.contains("// polls:") {
                found.push(format!("{path}:{}: sleep -- wait for the condition; a bounded poll says `// polls: what`", index + 1));
            }
        }
    }
    found
}

fn unwraps(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    // A build script reads only what is committed: it may stop the build.
    let outside = |path: &str| {
        !is_test(path)
            && !path.ends_with("build.rs")
            && !path.contains("fuzz/")
            && !path.starts_with("benches/")
            && !path.ends_with("contract.rs")
    };
    for (path, text) in rust(tree).filter(|(path, _)| outside(path)) {
        for (number, line) in code(text) {
            if line.contains(".unwrap()") {
                found.push(format!(
                    "{path}:{number}: unwrap -- give an error, or `expect` why it cannot be"
                ));
            }
        }
    }
    found
}
