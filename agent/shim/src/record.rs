//! What happened to each attempt, on disk: the memory that outlives shim and agent.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use coracle_disk::{self as disk, Sync};
use coracle_runtime::linux::protocol::{POD_FILE, RECORDS};
use coracle_runtime::{ContainerId, ContainerState, ContainerStatus, wire};

/// Writes a container's state over the one before, in the pod's state directory. With [`Sync::Now`] it is on disk when
/// this returns, whatever happens to the power. A record that a power cut damaged says that the container was started,
/// and no more; a start is not waited for, since then nothing runs.
///
/// # Errors
/// As `open`, `write`, `fsync`.
pub fn write(state: &Path, status: &ContainerStatus, sync: Sync) -> io::Result<()> {
    let path = state.join(RECORDS).join(status.id.to_string());
    disk::overwrite(&path, &wire::encode(status), 0o600, sync)
}

/// Writes how an attempt ended, or that it could not begin. It is on disk when this returns, with what says of which pod
/// it is: an end whose pod is not known is swept away.
///
/// # Errors
/// As [`write`].
pub fn write_end(state: &Path, status: &ContainerStatus) -> io::Result<()> {
    let pod = state.join(POD_FILE);
    // Costs nothing from the second time on: there is nothing to be written then.
    let synced = File::open(&pod).and_then(|file| disk::sync_file(&file, &pod));
    write(state, status, Sync::Now)?;
    synced
}

/// Forgets a container. `Ok` if it is not there.
pub(crate) fn remove(id: &ContainerId) -> io::Result<()> {
    disk::remove_file(&Path::new(RECORDS).join(id.to_string()))
}

/// What an earlier shim of this pod left: whatever had not ended died with it, unseen.
///
/// # Errors
/// As `readdir` and `read`.
pub fn load(state: &Path) -> io::Result<Vec<ContainerStatus>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state.join(RECORDS))? {
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
