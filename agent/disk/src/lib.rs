//! The file calls that change what agent, shim, runtime and image store find again after a restart. They are here, and
//! not `std::fs`' own, so that power cuts can be tried at each of them: with feature `crash` (which nothing that is
//! shipped has) they are written down, and [`crash`] makes what a cut may leave. Without it they are the kernel's calls
//! and nothing else.
//!
//! What is not synced: names come to the disk in the order in which they were changed, a file's content whenever the
//! kernel likes. So a name may be there whose file is empty or damaged, and a rename may take a good file away.

#[cfg(feature = "crash")]
pub mod crash;
mod journal;

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::BorrowedFd,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use journal::{Call, note};

/// When content is to be on the disk.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the kernel likes, half a minute later as a rule: who reads it must tell a damaged file.
    Later,
    /// When the call returns, and with it the name of a file that is new (a filesystem that syncs a new file syncs its
    /// name and the directories above it too: ext4, xfs, f2fs, btrfs).
    Now,
}

/// Makes a directory of this mode (umask applies).
///
/// # Errors
/// As `mkdir`; it must not be there.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    note(|| journal::made(path))
}

/// Makes a directory and those above it; one that is there stays as it is.
///
/// # Errors
/// As `mkdir`.
pub fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_dirs(above, mode)?;
    }
    match make_dir(path, mode) {
        // Made by another thread meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        done => done,
    }
}

/// Makes a file of this mode with this content.
///
/// # Errors
/// As `open` and `write`; it must not be there.
pub fn create(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(bytes);
    note(|| journal::made(path))?;
    written?;
    if sync == Sync::Now { sync_file(&file, path) } else { Ok(()) }
}

/// Writes a file over itself, or makes it: for what others have open or mounted, and for what may be damaged by a cut.
///
/// # Errors
/// As `open` and `write`.
pub fn overwrite(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(path)?;
    let written = file.write_all(bytes);
    note(|| if is_new { journal::made(path) } else { journal::written(path) })?;
    written?;
    if sync == Sync::Now { sync_file(&file, path) } else { Ok(()) }
}

/// Writes a file beside (`PATH.new`) and renames it to its place: whoever reads finds the old content or the new.
///
/// With [`Sync::Later`] that holds after a power cut too where the file was there before: a file that takes the place of
/// another is synced first. One that is new may be damaged. With [`Sync::Now`] it is the new content.
///
/// # Errors
/// As `open`, `write`, `rename`.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    replace_by(&beside(path), path, bytes, mode, sync)
}

/// As [`replace`], and nothing is synced: a power cut may damage the file and leave nothing of the old one.
///
/// # Errors
/// As [`replace`].
pub fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path);
    remove_file(&beside)?;
    create(&beside, bytes, mode, Sync::Later)?;
    rename(&beside, path)
}

/// As [`replace`], with the file that is renamed in another place of the same filesystem.
///
/// # Errors
/// As [`replace`].
pub fn replace_by(by: &Path, path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    // A leftover may have another mode; it is made anew.
    remove_file(by)?;
    let before = if sync == Sync::Now || path.exists() { Sync::Now } else { Sync::Later };
    create(by, bytes, mode, before)?;
    rename(by, path)?;
    match path.parent() {
        Some(dir) if sync == Sync::Now => sync_dir(dir),
        Some(_) | None => Ok(()),
    }
}

/// Whether a name is that of a file which [`replace`] left half done.
pub fn is_leftover(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(b".new")
}

fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    beside.into()
}

/// Renames, over what is there.
///
/// # Errors
/// As `rename`.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    note(|| Ok(Call::Renamed { from: from.to_owned(), to: to.to_owned() }))
}

/// Makes a symlink at `path` that leads to `target`.
///
/// # Errors
/// As `symlink`.
pub fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)?;
    note(|| journal::made(path))
}

/// Removes a file; it need not be there.
///
/// # Errors
/// As `unlink`.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => note(|| Ok(Call::Removed(path.to_owned()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes an empty directory.
///
/// # Errors
/// As `rmdir`.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    fs::remove_dir(path)?;
    note(|| Ok(Call::Removed(path.to_owned())))
}

/// Removes a directory and what is in it, in no order; it need not be there.
///
/// # Errors
/// As `unlink` and `rmdir`.
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    let removed =
        if journal::is_kept() { journal::remove_in_pieces(path) } else { fs::remove_dir_all(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Has an open file's content on the disk, and its name if it is new. `path` is the file's.
///
/// # Errors
/// As `fsync`.
pub fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    note(|| Ok(Call::Synced(path.to_owned())))
}

/// Has what was made, renamed and removed in a directory on the disk.
///
/// # Errors
/// As `open` and `fsync`.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    note(|| Ok(Call::DirSynced(path.to_owned())))
}

/// Notes that the whole filesystem was synced (`syncfs`, which std does not have).
///
/// # Errors
/// None without feature `crash`; with it, those of reading back what was changed. So for all that notes.
pub fn note_all_synced() -> io::Result<()> {
    note(|| Ok(Call::AllSynced))
}

/// Notes what was made under this name in an open directory, as it is now.
///
/// # Errors
/// As [`note_all_synced`].
#[inline]
pub fn note_made_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    note(|| journal::made(&journal::path_at(dir, name)?))
}

/// Notes that a name in an open directory was removed.
///
/// # Errors
/// As [`note_all_synced`].
#[inline]
pub fn note_removed_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    note(|| Ok(Call::Removed(journal::path_at(dir, name)?)))
}

/// Notes a second name of a file: directory and name of the one, and of the other.
///
/// # Errors
/// As [`note_all_synced`].
#[inline]
pub fn note_linked_at(
    from: (BorrowedFd<'_>, &OsStr),
    to: (BorrowedFd<'_>, &OsStr),
) -> io::Result<()> {
    note(|| {
        let (from, to) = (journal::path_at(from.0, from.1)?, journal::path_at(to.0, to.1)?);
        Ok(Call::Linked { from, to })
    })
}
