//! Files that must never be half there: written beside, synced, renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::KeyError;

/// Writes a file whole or not at all, readable by its owner only (0600), durable on return.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), KeyError> {
    let told = |e: io::Error| KeyError(format!("cannot write {}: {e}", path.display()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // A leftover of a crash may have another mode; make it anew.
    match fs::remove_file(beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told(e)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside).map_err(told)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(told)?;
    fs::rename(beside, path).map_err(told)?;
    sync_parent(path).map_err(told)
}

/// Makes a rename or removal in the file's directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Reads a small text file; the error names it.
pub fn read_text(path: &Path) -> Result<String, KeyError> {
    fs::read_to_string(path).map_err(|e| KeyError(format!("cannot read {}: {e}", path.display())))
}
