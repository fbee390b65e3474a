//! A small disk for tests: a tmpfs, unmounted when dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// A mounted tmpfs.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size (`6m`) there; makes the directory.
    pub fn mount(at: &Path, size: &str) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        let disk = Self(at.to_owned());
        disk.run(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])?;
        Ok(disk)
    }

    /// Where it is.
    pub fn at(&self) -> &Path {
        &self.0
    }

    /// Gives it another size.
    pub fn resize(&self, size: &str) -> Result<()> {
        self.run(&["-o", &format!("remount,size={size}")])
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let output = Command::new("mount").args(words).arg(&self.0).output()?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: processes of a failed test may still be on it. A cluster that lay on it may have unmounted it already.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
