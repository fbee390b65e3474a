//! The default backend: one redb file, 0600. A batch is one write transaction with immediate durability (one sync).
//!
//! Format 1. Table `objects`: key -> revision (8 octets, big-endian) and value. Table `meta`: `format` -> 1,
//! `reserved` -> highest number that may have been given. A failed write or sync makes redb refuse everything until
//! the file is opened again; then it is as after its last durable commit.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    StorageError, TableDefinition, TableError, backends::FileBackend,
};

use crate::{
    Damage, Entry, Loaded, Op, Outcome, Revision, See, Store, StoreError, Txn,
    limits::PAGE_CACHE_BYTES,
};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;
/// What the name of a store ends in while it is being made.
const MAKING: &str = ".making";

/// A store in a redb file.
pub struct RedbStore {
    database: Database,
    name: String,
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedbStore({})", self.name)
    }
}

/// What a check of the whole file found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Every page's checksum held; `false`: it did not, and redb repaired what it could.
    pub sound: bool,
    /// Objects by the first part of their key after `/registry/` and the resource (`apps/deployments`).
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// Highest number of a stored object.
    pub revision_max: Revision,
    /// Numbers up to here may have been given.
    pub revision_reserved: Revision,
}

impl RedbStore {
    /// Opens the file, or makes it. Fails if another process has it open, or it is of a newer format.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return Self::open_file(path, OpenOptions::new().read(true).write(true), path);
        }
        // A file that a power cut left half made cannot be opened: it gets its name when it is whole.
        let mut beside = path.as_os_str().to_owned();
        beside.push(MAKING);
        let beside = PathBuf::from(beside);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let store = Self::open_file(&beside, &options, path)?;
        let told = |e| StoreError::new(format!("making the store {}", store.name), e);
        std::fs::rename(&beside, path).map_err(told)?;
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(told)?;
        }
        Ok(store)
    }

    fn open_file(path: &Path, options: &OpenOptions, name: &Path) -> Result<Self, StoreError> {
        let name = name.display().to_string();
        let what = || format!("opening the store {name}");
        let file = options.open(path).map_err(|e| StoreError::new(what(), e))?;
        let backend = FileBackend::new(file).map_err(|e| StoreError::new(what(), e))?;
        Self::with_backend(backend, &name)
    }

    /// Opens what a backend of the caller's holds; `name` is for errors. What is there is verified page by page: a
    /// flipped bit would else be read as if it had been written.
    ///
    /// redb panics on some damaged pages. Where panics unwind, that is an error like the others.
    pub fn with_backend(backend: impl StorageBackend, name: &str) -> Result<Self, StoreError> {
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_verified(backend, name)));
        opened.unwrap_or_else(|_| Err(damaged(name, "its pages make no sense")))
    }

    fn open_verified(backend: impl StorageBackend, name: &str) -> Result<Self, StoreError> {
        // A repair after a power cut verifies all pages itself.
        let repaired = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&repaired);
        let mut database = Builder::new()
            .set_cache_size(PAGE_CACHE_BYTES)
            .set_repair_callback(move |_| seen.store(true, Ordering::Relaxed))
            .create_with_backend(backend)
            .map_err(|error| {
                // Another process has it, or the disk fails: no backup helps.
                let is_outside = if let DatabaseError::Storage(StorageError::Io(why)) = &error {
                    !is_content(why)
                } else {
                    matches!(error, DatabaseError::DatabaseAlreadyOpen)
                };
                if is_outside {
                    StoreError::new(format!("opening the store {name}"), error)
                } else {
                    damaged(name, &error.to_string())
                }
            })?;
        if !repaired.load(Ordering::Relaxed) {
            match database.check_integrity() {
                Ok(true) => {}
                Ok(false) => return Err(damaged(name, "a page's checksum does not hold")),
                Err(error) => return Err(damaged(name, &error.to_string())),
            }
        }
        let store = Self { database, name: name.into() };
        store.check_format()?;
        Ok(store)
    }

    fn told<E: std::error::Error + Send + Sync + 'static>(
        &self,
        doing: &'static str,
    ) -> impl Fn(E) -> StoreError {
        let what = format!("{doing} the store {}", self.name);
        move |source| StoreError::new(what.clone(), source)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let read = self.database.begin_read().map_err(self.told("reading"))?;
        let found = match read.open_table(META) {
            Ok(meta) => meta.get("format").map_err(self.told("reading"))?.map(|v| v.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(self.told("reading")(e)),
        };
        match found {
            Some(FORMAT) => Ok(()),
            Some(other) => Err(StoreError::new(
                format!("opening the store {}", self.name),
                format!(
                    "it has format {other}, this version reads {FORMAT}; use the version of coracle that wrote it"
                ),
            )),
            None => {
                let write = self.database.begin_write().map_err(self.told("starting"))?;
                {
                    write.open_table(OBJECTS).map_err(self.told("starting"))?;
                    let mut meta = write.open_table(META).map_err(self.told("starting"))?;
                    meta.insert("format", FORMAT).map_err(self.told("starting"))?;
                    meta.insert("reserved", 0).map_err(self.told("starting"))?;
                }
                write.commit().map_err(self.told("starting"))
            }
        }
    }

    /// Verifies every page and counts what is there.
    pub fn check(&mut self) -> Result<Checked, StoreError> {
        let sound = self.database.check_integrity().map_err(self.told("checking"))?;
        let loaded = self.load()?;
        let mut checked =
            Checked { sound, revision_reserved: loaded.revision_reserved, ..Checked::default() };
        for entry in loaded.entries {
            let mut parts = entry.key.trim_start_matches("/registry/").splitn(3, '/');
            let (group, plural) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            *checked.counts.entry(format!("{group}/{plural}")).or_default() += 1;
            checked.value_bytes += u64::try_from(entry.value.len()).unwrap_or(u64::MAX);
            checked.revision_max = checked.revision_max.max(entry.revision);
        }
        if checked.revision_max > checked.revision_reserved {
            return Err(StoreError::new(
                format!("checking the store {}", self.name),
                format!(
                    "an object has number {}, but only {} are reserved: numbers could be given twice; restore a backup",
                    checked.revision_max.0, checked.revision_reserved.0
                ),
            ));
        }
        Ok(checked)
    }
}

/// Whether an error speaks of what is in the file, and not of the disk below it.
fn is_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Refuses a file of which something cannot be trusted.
fn damaged(name: &str, why: &str) -> StoreError {
    StoreError::new(format!("opening the store {name}"), Damage(why.into()))
}

/// The revision in front of a stored value.
fn split(stored: &[u8]) -> Option<(Revision, &[u8])> {
    let (number, value) = stored.split_first_chunk::<8>()?;
    Some((Revision(u64::from_be_bytes(*number)), value))
}

impl Store for RedbStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let mut entries = Vec::new();
        let revision_reserved = self.each(&mut |key, revision, value| {
            entries.push(Entry { key: key.into(), revision, value: value.into() });
            Ok(())
        })?;
        Ok(Loaded { entries, revision_reserved })
    }

    fn each(&mut self, see: &mut See<'_>) -> Result<Revision, StoreError> {
        let read = self.database.begin_read().map_err(self.told("reading"))?;
        let meta = read.open_table(META).map_err(self.told("reading"))?;
        let objects = read.open_table(OBJECTS).map_err(self.told("reading"))?;
        let reserved = meta.get("reserved").map_err(self.told("reading"))?;
        for pair in objects.iter().map_err(self.told("reading"))? {
            let (key, stored) = pair.map_err(self.told("reading"))?;
            let (revision, value) = split(stored.value()).ok_or_else(|| {
                StoreError::new(
                    format!("reading the store {}", self.name),
                    format!("the value of {} is cut short; restore a backup", key.value()),
                )
            })?;
            see(key.value(), revision, value).map_err(self.told("reading"))?;
        }
        Ok(Revision(reserved.map_or(0, |v| v.value())))
    }

    fn commit(&mut self, batch: &[Txn], reserve: Revision) -> Result<Vec<Outcome>, StoreError> {
        let told = || self.told("writing");
        let mut write = self.database.begin_write().map_err(self.told("writing"))?;
        write.set_durability(Durability::Immediate).map_err(self.told("writing"))?;
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut changed = false;
        {
            let mut objects = write.open_table(OBJECTS).map_err(self.told("writing"))?;
            let mut meta = write.open_table(META).map_err(self.told("writing"))?;
            let mut reserve_to = reserve.0;
            let mut buffer = Vec::new();
            'batch: for txn in batch {
                for guard in &txn.guards {
                    let stored = objects.get(&*guard.key).map_err(told())?;
                    let actual = stored
                        .and_then(|stored| split(stored.value()).map(|(revision, _)| revision))
                        .unwrap_or_default();
                    if actual != guard.expected {
                        outcomes.push(Outcome::Conflict { key: Arc::clone(&guard.key), actual });
                        continue 'batch;
                    }
                }
                match &txn.op {
                    Op::Put(key, value) => {
                        buffer.clear();
                        buffer.extend_from_slice(&txn.revision.0.to_be_bytes());
                        buffer.extend_from_slice(value);
                        objects.insert(&**key, buffer.as_slice()).map_err(told())?;
                    }
                    Op::Delete(key) => {
                        objects.remove(&**key).map_err(told())?;
                    }
                }
                changed = true;
                reserve_to = reserve_to.max(txn.revision.0);
                outcomes.push(Outcome::Done);
            }
            let reserved = meta.get("reserved").map_err(told())?.map_or(0, |v| v.value());
            if reserve_to > reserved {
                meta.insert("reserved", reserve_to).map_err(told())?;
                changed = true;
            }
        }
        if changed {
            write.commit().map_err(self.told("writing"))?;
        } else {
            // Nothing to make durable: nothing is written.
            write.abort().map_err(self.told("writing"))?;
        }
        Ok(outcomes)
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        match self.database.compact() {
            Ok(_) => Ok(()),
            Err(e) => Err(StoreError::new(format!("compacting the store {}", self.name), e)),
        }
    }
}

#[cfg(test)]
#[path = "redb_tests.rs"]
mod tests;
