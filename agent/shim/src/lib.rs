//! coracle-shim: one tiny process per pod, parent of its containers, so that a restart of the agent stops nothing.
//!
//! It holds the pod's network, IPC and UTS namespaces, starts containers when the agent asks (in a short-lived copy of
//! itself, so that it stays small), writes their output to log files, records each exit on disk before it tells anyone,
//! and dies only with its pod: by SIGKILL.
//!
//! It must never use async, serde, or threads beyond the one that waits.

mod log;
pub mod record;
mod serve;
mod table;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use coracle_runtime::PodUid;

/// What the command line says.
#[derive(Debug, Default)]
struct Options {
    data_dir: Option<PathBuf>,
    pod: Option<PodUid>,
    fail_step: Option<usize>,
}

/// Runs a pod's shim until the pod is removed: the hidden subcommand `shim --data-dir DIR --pod UID`.
///
/// `args` are those after `shim`. The agent's `main` calls this before it does anything else (no threads, no logging).
/// The shim goes on only after a byte on stdin, and writes `ready` or what went wrong to stdout, one line.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    run(args, false)
}

/// As [`main`], and takes `--fail-step N`: the first start fails at that step of its plan, the next at the one after it.
#[doc(hidden)]
pub fn main_for_tests(args: impl Iterator<Item = OsString>) -> ExitCode {
    run(args, true)
}

fn run(args: impl Iterator<Item = OsString>, testing: bool) -> ExitCode {
    let told = options(args, testing).and_then(|options| {
        let mut go = [0; 1];
        match std::io::stdin().read(&mut go) {
            Ok(1) => serve::serve(&options),
            // The agent died before it had put this process into its cgroup.
            Ok(_) | Err(_) => Err("nobody said go".to_owned()),
        }
    });
    let Err(why) = told;
    // Whoever started the shim reads this; once it serves, nobody does and nothing is written.
    let _nobody_reads = writeln!(std::io::stdout(), "{why}");
    ExitCode::FAILURE
}

fn options(mut args: impl Iterator<Item = OsString>, testing: bool) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(name) = args.next() {
        let name = name.to_string_lossy().into_owned();
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let text = value.to_string_lossy();
        match name.as_str() {
            "--data-dir" => options.data_dir = Some(value.into()),
            "--pod" => {
                options.pod = Some(PodUid::parse(&text).map_err(|error| error.to_string())?);
            }
            "--fail-step" if testing => options.fail_step = text.parse().ok(),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}
