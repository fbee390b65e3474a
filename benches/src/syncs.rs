//! What a process makes durable, counted by strace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cluster::wait_for, host};

/// An strace that counts the calls of fsync and fdatasync of one process; it ends when it is dropped.
pub struct Syncs {
    tracer: Child,
    trace: PathBuf,
}

impl Syncs {
    /// Attaches to all threads of the process; `trace` is the file that it writes to meanwhile.
    ///
    /// # Errors
    /// strace is not there, or may not.
    pub fn attach(pid: i32, trace: &Path) -> Result<Self> {
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"])
            .arg(trace)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("no strace")?;
        let syncs = Self { tracer, trace: trace.to_owned() };
        wait_for("strace to attach", || {
            let by = host::status_field(pid, "TracerPid");
            ensure!(by.is_some_and(|by| by != "0"), "not attached");
            Ok(())
        })?;
        Ok(syncs)
    }

    /// Detaches; how many calls there were.
    ///
    /// # Errors
    /// strace wrote nothing that can be read.
    pub fn count(mut self) -> Result<usize> {
        // It detaches at SIGTERM; SIGKILL is for the end of a test that fails.
        Command::new("kill").arg(self.tracer.id().to_string()).status()?;
        self.tracer.wait()?;
        let text = fs::read_to_string(&self.trace)?;
        let calls = text.lines().filter(|line| line.contains("sync(") && !line.contains("resumed"));
        Ok(calls.count())
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.tracer.kill();
        let _ended = self.tracer.wait();
    }
}
