//! Backups that nobody has to remember: once a day, if anything changed, the store's thread writes what it holds and the
//! keys to `backups/last-good`, pair by pair, and keeps the one before. A store that cannot be trusted is refused with
//! the newest one's name.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use coracle_keys::files;
use coracle_store::{Store, archive};

use crate::{
    data_dir::key_files,
    limits::{LAST_GOOD_BYTES_MAX, LAST_GOOD_EVERY, LAST_GOOD_FIRST},
    log,
};

/// The newest backup of a data directory, if it has one.
pub(crate) fn newest(data_dir: &Path) -> Option<PathBuf> {
    let there = |name: &str| Some(data_dir.join(name)).filter(|path| path.exists());
    there("backups/last-good").or_else(|| there("backups/last-good.1"))
}

/// When the next one is due.
#[derive(Debug)]
pub(crate) struct LastGood {
    data_dir: PathBuf,
    due: Instant,
    bytes_max: u64,
}

impl LastGood {
    /// For a data directory; the backup that is there counts.
    pub(crate) fn new(data_dir: &Path) -> Self {
        let written = newest(data_dir).and_then(|path| fs::metadata(path).ok()?.modified().ok());
        // A clock that was set back makes it due a day later at most.
        let age = written.map(|at| at.elapsed().unwrap_or_default());
        let wait = age.map_or(LAST_GOOD_FIRST, |age| {
            LAST_GOOD_EVERY.saturating_sub(age).max(LAST_GOOD_FIRST)
        });
        let due = Instant::now() + wait;
        Self { data_dir: data_dir.into(), due, bytes_max: LAST_GOOD_BYTES_MAX }
    }

    /// Called after each commit: a cluster in which nothing changes writes nothing.
    pub(crate) fn look(&mut self, now: Instant, store: &mut dyn Store) {
        if now < self.due {
            return;
        }
        self.due = now + LAST_GOOD_EVERY;
        if let Err(error) = self.write(store) {
            log::warning!(
                "no backup was written: {error:#}; `coracle backup FILE` writes one elsewhere"
            );
        }
    }

    fn write(&self, store: &mut dyn Store) -> anyhow::Result<()> {
        let dir = self.data_dir.join("backups");
        let told = || format!("cannot write to {}", dir.display());
        if !dir.exists() {
            DirBuilder::new().mode(0o700).create(&dir).with_context(told)?;
        }
        let (new, newest, old) =
            (dir.join("last-good.new"), dir.join("last-good"), dir.join("last-good.1"));
        let done = self.write_file(&new, store);
        if done.is_err() {
            // What is not whole is of no use, and may fill the disk.
            let _best_effort = fs::remove_file(&new);
            return done;
        }
        if newest.exists() {
            fs::rename(&newest, &old).with_context(told)?;
        }
        fs::rename(&new, &newest).with_context(told)?;
        files::sync_parent(&newest).with_context(told)
    }

    fn write_file(&self, path: &Path, store: &mut dyn Store) -> anyhow::Result<()> {
        let files = key_files(&self.data_dir)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = BufWriter::new(Bounded { to: file, left: self.bytes_max });
        archive::write_store(store, &files, &mut out)?;
        let Bounded { to, .. } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        to.sync_all()?;
        Ok(())
    }
}

/// A file that grows no further.
struct Bounded {
    to: fs::File,
    left: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::StorageFull,
                "it would be larger than such a backup may be",
            )
        })?;
        self.to.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coracle_store::{
        Op, Revision, Txn,
        archive::Archive,
        mem::{MemDisk, MemStore},
    };

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("coracle-{}-{name}", std::process::id()));
            fs::create_dir_all(dir.join("pki")).unwrap();
            fs::write(dir.join("pki/ca.key"), "key").unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn put(store: &mut MemStore, number: u64, bytes: usize) {
        let op = Op::Put(format!("/registry/{number}").into(), vec![1; bytes].into());
        let txn = Txn { guards: vec![], op, revision: Revision(number) };
        store.commit(&[txn], Revision(100)).unwrap();
    }

    fn objects(path: &Path) -> usize {
        let archive = Archive::read(&mut fs::File::open(path).unwrap()).unwrap();
        assert_eq!(archive.files, [("pki/ca.key".to_owned(), b"key".to_vec())]);
        assert_eq!(archive.loaded.revision_reserved, Revision(100));
        archive.loaded.entries.len()
    }

    #[test]
    fn once_a_day_and_the_one_before() {
        let dir = Dir::new("last-good");
        let mut store = MemStore::open(&MemDisk::default());
        let mut last_good = LastGood::new(&dir.0);
        let mut now = Instant::now();
        put(&mut store, 1, 10);
        last_good.look(now, &mut store);
        assert_eq!(newest(&dir.0), None, "a server that just started has other things to do");
        now += LAST_GOOD_FIRST + Duration::from_secs(1);
        last_good.look(now, &mut store);
        let file = newest(&dir.0).unwrap();
        assert_eq!(objects(&file), 1);
        put(&mut store, 2, 10);
        last_good.look(now, &mut store);
        assert_eq!(objects(&file), 1, "not twice a day");
        now += LAST_GOOD_EVERY;
        last_good.look(now, &mut store);
        assert_eq!((objects(&file), objects(&dir.0.join("backups/last-good.1"))), (2, 1));
    }

    #[test]
    fn no_larger_than_it_may_be() {
        let dir = Dir::new("last-good-large");
        let mut store = MemStore::open(&MemDisk::default());
        let mut last_good = LastGood { bytes_max: 50_000, ..LastGood::new(&dir.0) };
        put(&mut store, 1, 10);
        let now = Instant::now() + LAST_GOOD_EVERY;
        last_good.look(now, &mut store);
        put(&mut store, 2, 100_000);
        last_good.look(now + LAST_GOOD_EVERY, &mut store);
        assert_eq!(objects(&newest(&dir.0).unwrap()), 1, "the good one stays");
        assert_eq!(fs::read_dir(dir.0.join("backups")).unwrap().count(), 1, "nothing half written");
    }
}
