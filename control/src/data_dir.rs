//! A data directory: its files, and the lock that keeps two processes from using it at one time.
//!
//! `lock`, `store.redb`, `backups/`, `pki/` (see coracle-keys), `admin.kubeconfig`, `join-token`; all 0600 in a 0700 directory.
//! `store-format-N.backup` is what the store was before a newer version changed its format.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use coracle_keys::{files, ring::Identity};
use coracle_store::{Loaded, StoreError, archive::Archive, format::Upgrade, redb::RedbStore};

use crate::{last_good, log};

/// Another process has the directory.
#[derive(Debug)]
pub(crate) struct InUse {
    path: PathBuf,
}

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        write!(f, "another coracle is using {path}; stop it first, or give another --data-dir")
    }
}

impl std::error::Error for InUse {}

/// A locked data directory; the lock goes with the value or the process.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and locks it.
    pub(crate) fn open_or_create(path: &Path) -> anyhow::Result<Self> {
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        }
        Self::open(path)
    }

    /// Locks a directory that is there.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| format!("cannot use the data directory {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(InUse { path: path.into() }.into()),
            Err(TryLockError::Error(e)) => {
                Err(e).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// The store's file.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig_path(&self) -> PathBuf {
        self.path.join("admin.kubeconfig")
    }

    /// The join token.
    pub(crate) fn join_token_path(&self) -> PathBuf {
        self.path.join("join-token")
    }
}

/// Opens the store of a data directory. One that is damaged is refused, with the backup to use; one of an older format too.
pub(crate) fn open_store(path: &Path) -> Result<RedbStore, StoreError> {
    open_trusted(path, Upgrade::Refuse)
}

/// The same; one of an older format is changed, after a backup beside it.
pub(crate) fn open_store_upgrading(path: &Path) -> Result<RedbStore, StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut keep = |format, loaded| keep_before_change(dir, format, loaded);
    open_trusted(path, Upgrade::After(&mut keep))
}

fn open_trusted(path: &Path, upgrade: Upgrade<'_>) -> Result<RedbStore, StoreError> {
    let backup = path.parent().and_then(last_good::newest);
    let backup = backup.as_ref().map_or("a backup".into(), |newest| newest.display().to_string());
    let way_out = format!(
        "move the data directory away, then `coracle restore {backup}` (from where it is then) into a new one"
    );
    let opened = refusing_panics(path, &way_out, || RedbStore::open_upgrading(path, upgrade));
    opened.map_err(|error| match error.is_damage() {
        true => StoreError::new(error.what, format!("{}: {way_out}", error.source)),
        false => error,
    })
}

/// redb panics on some damaged pages: the process ends, and its last words are the refusal.
fn refusing_panics<T>(path: &Path, way_out: &str, open: impl FnOnce() -> T) -> T {
    let usual = std::panic::take_hook();
    let refusal = format!("the store {} is damaged: {way_out}", path.display());
    std::panic::set_hook(Box::new(move |panic| {
        crate::log::error!("{refusal} ({panic})");
        std::process::exit(1);
    }));
    let opened = open();
    std::panic::set_hook(usual);
    opened
}

/// What the store was: for the older version, which `coracle restore` of it can read.
fn keep_before_change(dir: &Path, format: u64, loaded: Loaded) -> Result<(), StoreError> {
    let path = dir.join(format!("store-format-{format}.backup"));
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
        let what = format!("writing {}, without which the format is not changed", path.display());
        StoreError::new(what, source)
    };
    let archive = Archive { loaded, files: key_files(dir).map_err(|e| failed(e.into()))? };
    let mut bytes = Vec::new();
    archive.write(&mut bytes).map_err(|e| failed(e.into()))?;
    files::write_private(&path, &bytes).map_err(|e| failed(e.into()))?;
    log::info!("the store has format {format}; a backup of it is in {}", path.display());
    Ok(())
}

/// The files that belong to a backup besides the store, relative to the directory.
pub(crate) fn key_files(dir: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let pki = dir.join("pki");
    let mut files = Vec::new();
    let entries = fs::read_dir(&pki).with_context(|| format!("cannot read {}", pki.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", pki.display()))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((format!("pki/{name}"), content));
    }
    files.sort();
    Ok(files)
}

/// A kubeconfig for this server and identity. `host`: as in a URL.
pub(crate) fn kubeconfig(host: &str, port: u16, root_pem: &str, admin: &Identity) -> String {
    let (ca, certificate, key) = (
        STANDARD.encode(root_pem),
        STANDARD.encode(&admin.chain_pem),
        STANDARD.encode(&admin.key_pem),
    );
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: coracle
  cluster:
    server: https://{host}:{port}
    certificate-authority-data: {ca}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: coracle
  context:
    cluster: coracle
    user: kubernetes-admin
current-context: coracle
"
    )
}

#[cfg(test)]
mod tests {
    use coracle_store::{Entry, Op, Revision, Store, Txn};

    use super::*;

    #[test]
    fn what_is_kept_before_a_format_changes_can_be_restored() {
        let dir = std::env::temp_dir().join(format!("coracle-format-{}", std::process::id()));
        fs::create_dir_all(dir.join("pki")).unwrap();
        fs::write(dir.join("pki/ca.key"), b"secret").unwrap();
        let entry =
            Entry { key: "/registry/a".into(), revision: Revision(3), value: [7; 9].into() };
        let loaded = Loaded { entries: vec![entry.clone()], revision_reserved: Revision(5) };
        keep_before_change(&dir, 1, loaded).unwrap();
        let mut file = File::open(dir.join("store-format-1.backup")).unwrap();
        let back = Archive::read(&mut file).unwrap();
        assert_eq!(back.loaded.entries, [entry]);
        assert_eq!(back.files, [("pki/ca.key".to_owned(), b"secret".to_vec())]);
        fs::remove_dir_all(&dir).unwrap();
        let error = keep_before_change(&dir, 1, Loaded::default()).unwrap_err();
        assert!(error.what.contains("store-format-1.backup"), "{error:?}");
    }

    #[test]
    fn a_damaged_store_is_refused_with_the_backup_to_use() {
        let dir = std::env::temp_dir().join(format!("coracle-{}-damaged", std::process::id()));
        fs::create_dir_all(dir.join("backups")).unwrap();
        let path = dir.join("store.redb");
        let mut store = open_store(&path).unwrap();
        let op = Op::Put("/registry/a".into(), b"a value that nobody may bend".as_slice().into());
        let txn = Txn { guards: vec![], op, revision: Revision(1) };
        store.commit(&[txn], Revision(10)).unwrap();
        drop(store);
        assert_eq!(open_store(&path).unwrap().load().unwrap().entries.len(), 1);
        let mut bytes = fs::read(&path).unwrap();
        // Every copy: which of them is in use only redb knows.
        let places: Vec<usize> = bytes
            .windows(8)
            .enumerate()
            .filter(|(_, at)| at == b"may bend")
            .map(|(at, _)| at)
            .collect();
        for at in places {
            bytes[at] ^= 1;
        }
        fs::write(&path, bytes).unwrap();
        let refused = |want: &str| {
            let error = open_store(&path).unwrap_err();
            let text = format!("{}: {}", error.what, error.source);
            assert!(text.contains("damaged") && text.contains(want), "{text}");
        };
        refused("a backup");
        fs::write(dir.join("backups/last-good.1"), "").unwrap();
        refused("backups/last-good.1");
        fs::remove_dir_all(&dir).unwrap();
    }
}
