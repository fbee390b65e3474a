//! Small disks for tests, unmounted when dropped: a tmpfs that changes its size, and an ext4 in a file that is filled.

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

/// A file system of its own in a file, small enough to be filled; unmounted when dropped.
pub struct LoopDisk {
    at: PathBuf,
}

impl LoopDisk {
    /// Makes an ext4 of this many MiB in the file and mounts it there; makes the directory.
    ///
    /// # Errors
    /// mkfs.ext4 is not there, or no loop device is free.
    pub fn mount(image: &Path, at: &Path, mib: u64) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
        let file = fs::File::create(image)?;
        file.set_len(mib << 20)?;
        // No blocks that only root may use: the control plane is root here.
        let mut make = Command::new("mkfs.ext4");
        said(make.args(["-q", "-m", "0", "-F"]).arg(image))?;
        said(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Fills it to the last block.
    ///
    /// # Errors
    /// Something else than a full disk.
    pub fn fill(&self) -> Result<()> {
        use std::io::{ErrorKind, Write as _};
        let mut file = fs::File::options().create(true).append(true).open(self.filler())?;
        for size in [1 << 20, 4096] {
            let block = vec![7; size];
            loop {
                match file.write_all(&block).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("cannot fill the disk"),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// It was not filled.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("cannot free the disk")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Lazily: processes of a failed run may still be on it.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

fn said(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
