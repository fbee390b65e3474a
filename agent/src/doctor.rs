//! `coracle-agent doctor`: what this host can and cannot do, each lack with the line that mends it.

use std::{io::Write as _, path::Path};

use coracle_runtime::FactKind;

use crate::{
    cmdline::{self, Fixed},
    shell::machine_facts,
    surroundings,
};

/// Prints a line for each thing looked at; fails if pods cannot run, or if `fix` was asked for and cannot be had.
pub(crate) fn run(data_dir: Option<&Path>, fix: bool) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    // Where the packages have it, unless told.
    let data_dir = data_dir.unwrap_or(Path::new("/var/lib/coracle-agent"));
    let machine = machine_facts::read("", data_dir, None, &[]);
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
    let mut memory_is_off = false;
    for fact in coracle_runtime::linux::facts().into_iter().chain(surroundings::facts(data_dir)) {
        memory_is_off |= fact.name == "memory-controller" && fact.kind != FactKind::Good;
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
    if fix {
        let line = if memory_is_off {
            match cmdline::fix(Path::new("/"))? {
                Fixed::Changed { file, copy } => format!(
                    "{} has the line's words now; what it was is in {}; reboot",
                    file.display(),
                    copy.display()
                ),
                Fixed::RebootIsMissing { file } => {
                    format!("{} has the words already; reboot", file.display())
                }
            }
        } else {
            "nothing that --fix mends".to_owned()
        };
        writeln!(out, "fix       {line}").map_err(told)?;
    }
    if fatal > 0 {
        return Err(format!(
            "{fatal} things keep pods from running here; they are marked `fatal` above"
        ));
    }
    Ok(())
}
