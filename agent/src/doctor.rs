//! `coracle-agent doctor`: what this host can and cannot do, each lack with the line that mends it.

use std::{io::Write as _, path::Path, process::Command};

use coracle_runtime::{Fact, FactKind};

use crate::shell::machine_facts;

/// Prints a line for each thing looked at; fails if pods cannot run.
pub(crate) fn run(data_dir: Option<&Path>) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let machine = machine_facts::read("", data_dir.unwrap_or(Path::new("/")), None, &[]);
    let told = |error: std::io::Error| format!("cannot write: {error}");
    writeln!(
        out,
        "machine   {} {}, kernel {}, {} cores, {} MiB memory",
        machine.os_image,
        machine.architecture,
        machine.kernel,
        machine.cpus,
        machine.memory_bytes >> 20
    )
    .map_err(told)?;
    let mut fatal = 0;
    for fact in facts() {
        let word = match fact.kind {
            FactKind::Good => "ok",
            FactKind::Lacking => "lacking",
            FactKind::Fatal => {
                fatal += 1;
                "fatal"
            }
        };
        let fix = if fact.fix.is_empty() { String::new() } else { format!("; {}", fact.fix) };
        writeln!(out, "{:<9} {}: {}{fix}", word, fact.name, fact.found).map_err(told)?;
    }
    if fatal > 0 {
        return Err(format!(
            "{fatal} things keep pods from running here; they are marked `fatal` above"
        ));
    }
    Ok(())
}

fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    let root = nix::unistd::geteuid().is_root();
    facts.push(Fact {
        name: "root",
        kind: if root { FactKind::Good } else { FactKind::Fatal },
        found: format!("user id {}", nix::unistd::geteuid()),
        fix: if root { String::new() } else { "run it as root".into() },
    });
    let nft = Command::new("nft").arg("--version").output();
    let nft = nft.ok().filter(|output| output.status.success());
    facts.push(match nft {
        Some(output) => Fact {
            name: "nftables",
            kind: FactKind::Good,
            found: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            fix: String::new(),
        },
        None => Fact {
            name: "nftables",
            kind: FactKind::Fatal,
            found: "the nft program is not there".into(),
            fix: "apt-get install nftables".into(),
        },
    });
    facts
}
