//! The calls of this thread in the order in which they were made, while feature `crash` keeps a journal of them.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsRawFd as _, BorrowedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    Dir {
        mode: u32,
    },
    File {
        mode: u32,
        bytes: Rc<[u8]>,
    },
    Symlink {
        target: PathBuf,
    },
    /// A device or a pipe.
    Special,
}

/// One call. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Made {
        path: PathBuf,
        what: Made,
    },
    /// Truncated and written anew.
    Written {
        path: PathBuf,
        bytes: Rc<[u8]>,
    },
    Linked {
        from: PathBuf,
        to: PathBuf,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    Removed(PathBuf),
    Synced(PathBuf),
    DirSynced(PathBuf),
    AllSynced,
}

/// Writes a call down, if there is a journal. Without the feature there is none, and this is nothing.
#[inline]
pub(crate) fn note(call: impl FnOnce() -> io::Result<Call>) -> io::Result<()> {
    if is_kept() { kept::push(call()?) } else { Ok(()) }
}

pub(crate) use kept::is_kept;

#[cfg(not(feature = "crash"))]
mod kept {
    //! There is no journal.

    use std::io;

    use super::Call;

    pub(crate) const fn is_kept() -> bool {
        false
    }

    pub(super) fn push(_call: Call) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn shuffle<T>(_items: &mut [T]) {}
}

#[cfg(feature = "crash")]
pub(crate) mod kept {
    //! The journal of this thread.

    use std::{cell::RefCell, io};

    use super::Call;
    use crate::crash::Rng;

    struct Journal {
        calls: Vec<Call>,
        rng: Rng,
    }

    thread_local! {
        static JOURNAL: RefCell<Option<Journal>> = const { RefCell::new(None) };
    }

    pub(crate) fn is_kept() -> bool {
        JOURNAL.with_borrow(Option::is_some)
    }

    /// Begins a journal; in what order directories are emptied, the seed says.
    pub(crate) fn begin(seed: u64) {
        JOURNAL.set(Some(Journal { calls: Vec::new(), rng: Rng::new(seed) }));
    }

    pub(crate) fn length() -> usize {
        JOURNAL.with_borrow(|journal| journal.as_ref().map_or(0, |journal| journal.calls.len()))
    }

    /// Ends it.
    pub(crate) fn take() -> Vec<Call> {
        JOURNAL.take().map(|journal| journal.calls).unwrap_or_default()
    }

    pub(super) fn push(call: Call) -> io::Result<()> {
        JOURNAL.with_borrow_mut(|journal| {
            if let Some(journal) = journal {
                journal.calls.push(call);
            }
        });
        Ok(())
    }

    pub(super) fn shuffle<T>(items: &mut [T]) {
        JOURNAL.with_borrow_mut(|journal| {
            let Some(Journal { rng, .. }) = journal else { return };
            for at in (1..items.len()).rev() {
                items.swap(at, rng.size(at as u64 + 1));
            }
        });
    }
}

/// What is at a path now.
pub(crate) fn made(path: &Path) -> io::Result<Call> {
    let meta = fs::symlink_metadata(path)?;
    let (kind, mode) = (meta.file_type(), meta.permissions().mode() & 0o7777);
    let what = if kind.is_dir() {
        Made::Dir { mode }
    } else if kind.is_symlink() {
        Made::Symlink { target: fs::read_link(path)? }
    } else if kind.is_file() {
        Made::File { mode, bytes: fs::read(path)?.into() }
    } else {
        Made::Special
    };
    Ok(Call::Made { path: path.to_owned(), what })
}

pub(crate) fn written(path: &Path) -> io::Result<Call> {
    Ok(Call::Written { path: path.to_owned(), bytes: fs::read(path)?.into() })
}

/// The path of a name in an open directory.
pub(crate) fn path_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    Ok(fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))?.join(name))
}

/// As `remove_dir_all`, each name a call of its own.
pub(crate) fn remove_in_pieces(path: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    kept::shuffle(&mut entries);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            remove_in_pieces(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
            note(|| Ok(Call::Removed(entry.path())))?;
        }
    }
    fs::remove_dir(path)?;
    note(|| Ok(Call::Removed(path.to_owned())))
}
