//! coracle-shim: one tiny process per pod, parent of its containers, so that a restart of the agent stops nothing.
//!
//! It must never use async, serde, or threads beyond the one that waits.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs a pod's shim until the pod is removed: the hidden subcommand `shim --data-dir DIR --pod UID`.
///
/// `args` are those after `shim`. The agent's `main` calls this before it does anything else (no threads, no logging).
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    drop(args);
    ExitCode::FAILURE
}
