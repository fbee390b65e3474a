//! `backup`, `restore` and `check`: what is done with a data directory besides serving it.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use coracle_keys::files;
use coracle_store::{
    Revision, Store,
    archive::{self, Archive},
    redb::RedbStore,
};

use crate::{
    cli::FileArgs,
    client::{
        api::{Api, Ask},
        kubeconfig::Kubeconfig,
        say,
    },
    data_dir::{DataDir, InUse, key_files, open_store},
    serve::BACKUP_PATH,
};

/// Writes a backup: from the files where no server runs, else of the running server.
pub(crate) fn backup(args: &FileArgs) -> anyhow::Result<()> {
    let (archive, bytes) = match DataDir::open(&args.dir.data_dir) {
        Ok(dir) => {
            let mut store = open_store(&existing(&dir)?)?;
            let archive = Archive { loaded: store.load()?, files: key_files(&dir.path)? };
            let mut bytes = Vec::new();
            archive.write(&mut bytes)?;
            (archive, bytes)
        }
        Err(error) if error.is::<InUse>() => {
            let path = args.dir.data_dir.join("admin.kubeconfig");
            let api = Api::new(Kubeconfig::read(&path)?)?;
            let ask = Ask { path: BACKUP_PATH, accept: "*/*", ..Ask::default() };
            let bytes = api.bytes(&ask).context("the running server gives no backup")?;
            // Read as a restore would: a backup that cannot be used is none.
            (Archive::read(&mut bytes.as_slice())?, bytes)
        }
        Err(error) => return Err(error),
    };
    files::write_private(&args.file, &bytes)?;
    let (objects, file) = (archive.loaded.entries.len(), args.file.display());
    say(&format!(
        "{objects} objects and the cluster's keys are in {file}; keep it as safe as the keys"
    ))
}

fn existing(dir: &DataDir) -> anyhow::Result<std::path::PathBuf> {
    let path = dir.store_path();
    if path.exists() {
        Ok(path)
    } else {
        bail!("there is no store in {}; is --data-dir right?", dir.path.display())
    }
}

/// Fills a data directory that has no store and no keys. Numbers begin past all that were ever given.
pub(crate) fn restore(args: &FileArgs) -> anyhow::Result<()> {
    let file = args.file.display();
    let mut input = fs::File::open(&args.file).with_context(|| format!("cannot open {file}"))?;
    let archive = Archive::read(&mut input).with_context(|| format!("cannot use {file}"))?;
    let dir = DataDir::open_or_create(&args.dir.data_dir)?;
    let (store_path, pki) = (dir.store_path(), dir.path.join("pki"));
    for there in [&store_path, &pki] {
        if there.exists() {
            bail!(
                "{} is there; restore fills an empty data directory only: move the old one away",
                there.display()
            );
        }
    }
    // The store appears under its name when it is whole; the keys before it, so that no start makes others.
    let beside = dir.path.join("store.redb.new");
    remove_if_there(&beside)?;
    let begin = archive::begin_after_restore(archive.loaded.revision_reserved, Revision(0));
    let mut store = RedbStore::open(&beside)?;
    archive::restore(&mut store, &archive.loaded, begin)?;
    drop(store);
    restore_keys(&dir, &archive)?;
    fs::rename(&beside, &store_path)
        .and_then(|()| files::sync_parent(&store_path))
        .with_context(|| format!("cannot put {} in place", store_path.display()))?;
    let objects = archive.loaded.entries.len();
    say(&format!("{objects} objects are restored; resourceVersions go on from {}", begin.0))
}

fn restore_keys(dir: &DataDir, archive: &Archive) -> anyhow::Result<()> {
    let beside = dir.path.join("pki.new");
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&beside)?;
    for (name, content) in &archive.files {
        let plain = name
            .strip_prefix("pki/")
            .filter(|rest| !rest.is_empty() && !rest.contains('/') && !rest.starts_with('.'));
        let Some(plain) = plain else {
            bail!("the backup names a file `{name}`, which is none of ours")
        };
        files::write_private(&beside.join(plain), content)?;
    }
    let pki = dir.path.join("pki");
    fs::rename(&beside, &pki).and_then(|()| files::sync_parent(&pki))?;
    Ok(())
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Verifies every page of the store and counts its objects.
pub(crate) fn check(data_dir: &Path) -> anyhow::Result<()> {
    let dir = DataDir::open(data_dir)?;
    let checked = open_store(&existing(&dir)?)?.check()?;
    for (resource, count) in &checked.counts {
        say(&format!("{count:6} {resource}"))?;
    }
    say(&format!(
        "{} bytes of values, highest resourceVersion {}, reserved up to {}",
        checked.value_bytes, checked.revision_max.0, checked.revision_reserved.0
    ))?;
    if !checked.sound {
        bail!(
            "the store was damaged and has been repaired as far as possible; compare with a backup"
        );
    }
    say("the store is sound")
}
