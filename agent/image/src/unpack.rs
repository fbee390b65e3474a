//! A layer's tar stream becomes a directory that overlayfs can take as a lower layer.
//!
//! Nothing is written outside the directory: every parent is opened with `openat2(RESOLVE_IN_ROOT)`, names with `..` are
//! refused. Whiteouts become what overlayfs understands (kernel: Documentation/filesystems/overlayfs.rst, "whiteouts and
//! opaque directories"): a character device 0:0, and the `trusted.overlay.opaque` attribute.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use coracle_disk as disk;
use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fsetxattr, linkat, makedev, mkdirat, mknodat, openat, openat2, symlinkat,
    unlinkat, utimensat,
};
use tar::{Archive, Entry, EntryType};

use crate::limits;

/// Why a layer cannot be unpacked.
#[derive(Debug)]
pub(crate) enum UnpackError {
    /// The layer holds what it must not.
    Refused(String),
    /// Reading the stream or writing the files failed.
    Io(String, io::Error),
}

/// Unpacks a tar stream into `root`, an empty directory. The stream is read up to the tar's end mark.
pub(crate) fn unpack(stream: impl Read, root: &Path) -> Result<(), UnpackError> {
    let dir = File::open(root)
        .map_err(|error| UnpackError::Io(format!("cannot open {}", root.display()), error))?;
    let mut layer = Unpacker { root: OwnedFd::from(dir), dir_times: Vec::new() };
    let mut archive = Archive::new(stream);
    let entries = archive
        .entries()
        .map_err(|error| UnpackError::Io("cannot read the layer".into(), error))?;
    let mut count = 0;
    for entry in entries {
        let mut entry = entry
            .map_err(|error| UnpackError::Io("the layer ends early or is damaged".into(), error))?;
        count += 1;
        if limits::LAYER_ENTRIES_MAX < count {
            return Err(UnpackError::Refused(format!(
                "it has more than {} entries",
                limits::LAYER_ENTRIES_MAX
            )));
        }
        layer.entry(&mut entry)?;
    }
    layer.finish()
}

struct Unpacker {
    root: OwnedFd,
    /// Directories get their times last: writing into them changes them.
    dir_times: Vec<(PathBuf, Timestamps)>,
}

impl Unpacker {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever tar types there will be, they are refused by name"
    )]
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let raw = entry.path_bytes().into_owned();
        let path = inside(Path::new(OsStr::from_bytes(&raw)))?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.top(entry);
        };
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let what = || format!("cannot unpack `{}`", path.display());
        let failed = |error: rustix::io::Errno| UnpackError::Io(what(), error.into());
        let dir = self.parent(&parent)?;

        if name.as_bytes() == b".wh..wh..opq" {
            return fsetxattr(&dir, "trusted.overlay.opaque", b"y", XattrFlags::empty())
                .map_err(failed);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            if hidden.is_empty() || hidden == b"." || hidden == b".." {
                return Err(UnpackError::Refused(format!(
                    "`{}` is not a whiteout of a name",
                    path.display()
                )));
            }
            return self.whiteout(&dir, OsStr::from_bytes(hidden)).map_err(failed);
        }
        let header = entry.header().clone();
        let mode = Mode::from_raw_mode(header.mode().unwrap_or(0o755) & 0o7777);
        let mut is_new = true;
        match header.entry_type() {
            EntryType::Directory => is_new = self.directory(&dir, &name).map_err(failed)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.clear(&dir, &name).map_err(failed)?;
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mut file = File::from(
                    openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?,
                );
                let copied =
                    io::copy(entry, &mut file).map_err(|error| UnpackError::Io(what(), error))?;
                if copied != entry.size() {
                    return Err(UnpackError::Io(what(), io::ErrorKind::UnexpectedEof.into()));
                }
            }
            EntryType::Symlink => {
                let target = link_target(entry, &path)?;
                self.clear(&dir, &name).map_err(failed)?;
                symlinkat(target.as_os_str(), &dir, &name).map_err(failed)?;
            }
            EntryType::Link => {
                let target = inside(&link_target(entry, &path)?)?;
                self.clear(&dir, &name).map_err(failed)?;
                self.hard_link(&target, &dir, &name).map_err(failed)?;
                // Owner, mode and times are those of the file it names.
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.clear(&dir, &name).map_err(failed)?;
                self.special(&header, &dir, &name).map_err(failed)?;
            }
            EntryType::XGlobalHeader => return Ok(()),
            other => {
                return Err(UnpackError::Refused(format!(
                    "`{}` is of tar type {other:?}",
                    path.display()
                )));
            }
        }
        let (uid, gid) = owner(entry, &path)?;
        chownat(&dir, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if header.entry_type() != EntryType::Symlink {
            // After chown, which clears set-user-ID. The name was made above and is no symlink.
            chmodat(&dir, &name, mode, AtFlags::empty()).map_err(failed)?;
        }
        if matches!(header.entry_type(), EntryType::Regular | EntryType::Continuous) {
            attributes(entry, &dir, &name)?;
        }
        if is_new {
            noted(disk::note_made_at(dir.as_fd(), &name)).map_err(failed)?;
        }
        let times = times(&header);
        if header.entry_type() == EntryType::Directory {
            self.dir_times.push((path, times));
        } else {
            utimensat(&dir, &name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        Ok(())
    }

    /// The entry is the layer's own top directory (`./`).
    fn top<R: Read>(&self, entry: &Entry<'_, R>) -> Result<(), UnpackError> {
        if !entry.header().entry_type().is_dir() {
            return Err(UnpackError::Refused("an entry without a name is not a directory".into()));
        }
        let (uid, gid) = owner(entry, Path::new("/"))?;
        let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o755) & 0o7777);
        let set = || {
            rustix::fs::fchown(&self.root, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&self.root, mode)
        };
        set().map_err(|error| {
            UnpackError::Io("cannot set the top directory's owner and mode".into(), error.into())
        })
    }

    /// Opens the directory that an entry goes into, inside the root whatever symlinks there are; makes what is missing.
    fn parent(&self, path: &Path) -> Result<OwnedFd, UnpackError> {
        let open = |path: &Path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat2(
                &self.root,
                path,
                flags,
                Mode::empty(),
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            )
        };
        let failed = |path: &Path, error: rustix::io::Errno| {
            UnpackError::Io(format!("cannot open `{}`", path.display()), error.into())
        };
        match open(path) {
            Ok(dir) => return Ok(dir),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed(path, error)),
        }
        let mut so_far = PathBuf::new();
        for part in path.components() {
            let above = open(&so_far).map_err(|error| failed(&so_far, error))?;
            so_far.push(part);
            match mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) => noted(disk::note_made_at(above.as_fd(), part.as_os_str()))
                    .map_err(|error| failed(&so_far, error))?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(failed(&so_far, error)),
            }
        }
        open(path).map_err(|error| failed(path, error))
    }

    /// True if it was not there yet.
    fn directory(&self, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<bool> {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Ok(false);
            }
            Ok(_) => self.clear(dir, name)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        Ok(true)
    }

    fn whiteout(&self, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        match mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
            // The layer itself brings a new one of that name: that one hides the old.
            Err(rustix::io::Errno::EXIST) => Ok(()),
            Ok(()) => noted(disk::note_made_at(dir.as_fd(), name)),
            Err(error) => Err(error),
        }
    }

    fn hard_link(&self, target: &Path, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        let from = target.file_name().ok_or(rustix::io::Errno::INVAL)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above =
            target.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let above = openat2(&self.root, above, flags, Mode::empty(), resolve)?;
        linkat(&above, from, dir, name, AtFlags::empty())?;
        noted(disk::note_linked_at((above.as_fd(), from), (dir.as_fd(), name)))
    }

    fn special(&self, header: &tar::Header, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        let number = |part: io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
        let dev: Dev = makedev(number(header.device_major()), number(header.device_minor()));
        let (kind, dev) = if header.entry_type() == EntryType::Block {
            (FileType::BlockDevice, dev)
        } else if header.entry_type() == EntryType::Char {
            (FileType::CharacterDevice, dev)
        } else {
            (FileType::Fifo, makedev(0, 0))
        };
        mknodat(dir, name, kind, Mode::empty(), dev)
    }

    /// Takes away what an earlier entry of the same layer put under this name: the later one wins.
    fn clear(&self, dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        match unlinkat(dir, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::ISDIR) => unlinkat(dir, name, AtFlags::REMOVEDIR)?,
            done => done?,
        }
        noted(disk::note_removed_at(dir.as_fd(), name))
    }

    fn finish(self) -> Result<(), UnpackError> {
        for (path, times) in self.dir_times.iter().rev() {
            let dir = self.parent(path)?;
            // Best effort: a directory's time decides nothing.
            let _ = rustix::fs::futimens(&dir, times);
        }
        Ok(())
    }
}

fn noted(done: io::Result<()>) -> rustix::io::Result<()> {
    done.map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
}

/// The path without leading slashes and dots. `..` is refused: no honest tool writes it.
fn inside(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(UnpackError::Refused(format!(
                    "`{}` leads out of the image",
                    path.display()
                )));
            }
        }
    }
    Ok(clean)
}

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, UnpackError> {
    let target = entry.link_name_bytes().filter(|name| !name.is_empty());
    let target = target
        .ok_or_else(|| UnpackError::Refused(format!("link `{}` leads nowhere", path.display())))?;
    Ok(PathBuf::from(OsString::from(OsStr::from_bytes(&target))))
}

/// Owner and group. A field left empty is root's: some tools write none.
fn owner<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<(Uid, Gid), UnpackError> {
    let header = entry.header();
    let number = |raw: &[u8], part: io::Result<u64>| {
        let empty = raw.iter().all(|byte| matches!(byte, 0 | b' '));
        let id = if empty { Some(0) } else { part.ok().and_then(|id| u32::try_from(id).ok()) };
        id.filter(|id| *id != u32::MAX)
    };
    let raw = header.as_old();
    match (number(&raw.uid, header.uid()), number(&raw.gid, header.gid())) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => {
            Err(UnpackError::Refused(format!("owner of `{}` is no 32-bit number", path.display())))
        }
    }
}

fn times(header: &tar::Header) -> Timestamps {
    let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// File capabilities and other attributes, as PAX records `SCHILY.xattr.NAME`. Attributes of overlayfs itself are not
/// an image's to set.
fn attributes<R: Read>(
    entry: &mut Entry<'_, R>,
    dir: &OwnedFd,
    name: &OsStr,
) -> Result<(), UnpackError> {
    let Ok(Some(records)) = entry.pax_extensions() else { return Ok(()) };
    for record in records.flatten() {
        let Some(attribute) = record.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        if attribute.starts_with(b"trusted.") {
            continue;
        }
        let set = || {
            let file = openat(
                dir,
                name,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            fsetxattr(
                &file,
                OsStr::from_bytes(attribute),
                record.value_bytes(),
                XattrFlags::empty(),
            )
        };
        match set() {
            // The file system has no such attributes: what they would have said is lost, as with every other tool.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => {
                let what = format!("cannot set attribute `{}`", String::from_utf8_lossy(attribute));
                return Err(UnpackError::Io(what, error.into()));
            }
        }
    }
    Ok(())
}
