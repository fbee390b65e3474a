//! What happened to each attempt, on disk: the memory that outlives shim and agent.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use coracle_runtime::linux::protocol::RECORDS;
use coracle_runtime::{ContainerId, ContainerState, ContainerStatus, wire};

/// Writes a container's state over the one before. With `durable` it is on disk when this returns, whatever happens to
/// the power (a filesystem that syncs a new file syncs its name with it: ext4, f2fs, btrfs, xfs). A record that a power
/// cut damaged says that the container was started, and no more; a start is not waited for, since then nothing runs.
pub(crate) fn write(status: &ContainerStatus, durable: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(format!("{RECORDS}/{}", status.id))?;
    file.write_all(&wire::encode(status))?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// Forgets a container. `Ok` if it is not there.
pub(crate) fn remove(id: &ContainerId) -> io::Result<()> {
    match fs::remove_file(format!("{RECORDS}/{id}")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What an earlier shim of this pod left: whatever had not ended died with it, unseen.
pub(crate) fn load() -> io::Result<Vec<ContainerStatus>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(RECORDS)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(ContainerId::from_dir_name) else { continue };
        // A damaged record is a container that was started, and more is not known.
        let state = match wire::decode::<ContainerStatus>(&fs::read(entry.path())?) {
            Ok(status) if !status.state.is_live() => status.state,
            Ok(_) | Err(_) => ContainerState::Unknown,
        };
        found.push(ContainerStatus { id, state });
    }
    Ok(found)
}
