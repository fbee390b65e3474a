//! The data directory: what the agent knows across restarts and reboots. Everything in it is 0600 or 0700.
//!
//! ```text
//! DIR/lock                     held while an agent runs
//! DIR/agent/ca.pem             the cluster's root certificate, pinned by the join token
//! DIR/agent/identity.pem       the node's certificate and key, in one file so that they are never of two minds
//! DIR/agent/network.json       podCIDR and what else the control plane said of the network
//! DIR/agent/addresses.json     the addresses given out
//! DIR/agent/services.json      services that containers are told of
//! DIR/pods/UID/pod.json        the pod as last seen
//! DIR/pods/UID/status.json     its status as last recorded
//! DIR/pods/UID/objects.json    ConfigMaps and Secrets that it needs to start again with no server in sight
//! DIR/pods/UID/volumes/NAME    its volumes
//! DIR/pods/UID/files           /etc/hosts and the like, termination messages
//! DIR/pods/UID/logs/NAME       ATTEMPT.log, ATTEMPT.log.1, …
//! DIR/pods/UID/shim            the runtime's
//! DIR/images                   the image store's
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use coracle_agent_logic::{Pod, PodUid};
use coracle_disk::{self as disk, Sync};
use serde_json::Value;

use super::log::warning;

/// Paths of the data directory.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
}

/// The data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("another coracle-agent uses {}; stop it, or give this one its own --data-dir", .0.display())]
    Locked(PathBuf),
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StateDir {
    /// Makes the directory if it is absent. The path becomes absolute: shims have it in their command line.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StateError::Io { doing, path, source }
        };
        private_dir(root).map_err(io("make", root))?;
        let root = root.canonicalize().map_err(io("resolve", root))?;
        let state = Self { root };
        for part in ["agent", "pods"] {
            let path = state.root.join(part);
            private_dir(&path).map_err(io("make", &path))?;
        }
        Ok(state)
    }

    /// Keeps a second agent out for as long as the file lives.
    pub(crate) fn lock(&self) -> Result<File, StateError> {
        let path = self.root.join("lock");
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file =
            open.map_err(|source| StateError::Io { doing: "open", path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(StateError::Locked(self.root.clone())),
            Err(fs::TryLockError::Error(source)) => {
                Err(StateError::Io { doing: "lock", path, source })
            }
        }
    }

    /// Takes away what was being written when the agent or the power went. To be called with the lock held.
    pub(crate) fn sweep(&self) -> Result<(), StateError> {
        let pods = self.pod_dirs();
        let dirs = pods.iter().map(|uid| self.pod(uid)).chain([self.root.join("agent")]);
        for dir in dirs {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if disk::is_leftover(&entry.file_name()) {
                    let removed = disk::remove_file(&path);
                    removed.map_err(|source| StateError::Io { doing: "remove", path, source })?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn agent(&self, name: &str) -> PathBuf {
        self.root.join("agent").join(name)
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> PathBuf {
        self.root.join("pods").join(uid.as_str())
    }

    pub(crate) fn volumes(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    pub(crate) fn files(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("files")
    }

    pub(crate) fn log(&self, uid: &PodUid, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("logs").join(container).join(format!("{attempt}.log"))
    }

    /// Writes a file of the pod whole or not at all. After a power cut the old one may be there again, and a first one may
    /// be damaged: what is in these files is either with the API server too or made anew.
    pub(crate) fn write_pod(&self, uid: &PodUid, name: &str, bytes: &[u8]) -> io::Result<()> {
        let dir = self.pod(uid);
        private_dir(&dir)?;
        disk::replace(&dir.join(name), bytes, 0o600, Sync::Later)
    }

    /// As [`Self::write_pod`], unless the file says so already: what is only sent again wears no flash.
    pub(crate) fn record_pod(&self, uid: &PodUid, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.read_pod(uid, name) {
            Some(now) if now == bytes => Ok(()),
            Some(_) | None => self.write_pod(uid, name, bytes),
        }
    }

    /// As [`Self::record_pod`]; it is on disk when this returns, with all that was written of the pod before.
    pub(crate) fn settle_pod(&self, uid: &PodUid, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.record_pod(uid, name, bytes)?;
        let dir = self.pod(uid);
        let path = dir.join(name);
        disk::sync_file(&File::open(&path)?, &path)?;
        disk::sync_dir(&dir)
    }

    pub(crate) fn read_pod(&self, uid: &PodUid, name: &str) -> Option<Vec<u8>> {
        fs::read(self.pod(uid).join(name)).ok()
    }

    /// Pods and their last statuses. A file that cannot be read (a power cut, a dying card) is told and left out.
    pub(crate) fn pods(&self) -> Vec<(Arc<Pod>, Option<Value>)> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(self.root.join("pods")) else { return found };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(uid) = name.to_str().and_then(PodUid::parse) else { continue };
            let Some(bytes) = self.read_pod(&uid, "pod.json") else { continue };
            match Pod::parse(bytes.into()) {
                Ok(pod) if pod.uid == uid => {
                    let status = self.read_pod(&uid, "status.json");
                    let status = status.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                    found.push((Arc::new(pod), status));
                }
                Ok(_) => warning!("pod record {uid}: it speaks of another pod; left out"),
                Err(error) => warning!("pod record {uid}: {}; left out", error.0),
            }
        }
        found
    }

    /// Uids that have a directory, whatever is in it.
    pub(crate) fn pod_dirs(&self) -> Vec<PodUid> {
        let entries = fs::read_dir(self.root.join("pods"));
        let entries = entries.into_iter().flatten().flatten();
        entries.filter_map(|entry| PodUid::parse(entry.file_name().to_str()?)).collect()
    }
}

/// Makes a directory and those above it, 0700.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    disk::make_dirs(path, 0o700)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_read_back_and_one_agent_holds_the_lock() {
        let dir = std::env::temp_dir().join(format!("coracle-state-{}", std::process::id()));
        let state = StateDir::open(&dir).unwrap();
        let _lock = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StateError::Locked(_))));

        let uid = PodUid::parse("u1").unwrap();
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u1"}, "spec": {}});
        state.write_pod(&uid, "pod.json", &serde_json::to_vec(&pod).unwrap()).unwrap();
        state.write_pod(&uid, "status.json", b"{\"phase\":\"Running\"}").unwrap();
        state.write_pod(&PodUid::parse("torn").unwrap(), "pod.json", b"{\"meta").unwrap();
        let pods = state.pods();
        assert_eq!(pods.len(), 1);
        assert_eq!(pods[0].0.meta.name, "p");
        assert_eq!(pods[0].1.as_ref().unwrap()["phase"], "Running");
        let inode = || {
            use std::os::unix::fs::MetadataExt as _;
            fs::metadata(state.pod(&uid).join("status.json")).unwrap().ino()
        };
        let before = inode();
        state.record_pod(&uid, "status.json", b"{\"phase\":\"Running\"}").unwrap();
        assert_eq!(inode(), before, "nothing was written");
        state.record_pod(&uid, "status.json", b"{\"phase\":\"Failed\"}").unwrap();
        assert_eq!(state.read_pod(&uid, "status.json").unwrap(), b"{\"phase\":\"Failed\"}");
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.pod(&uid)), 0o700);
        assert_eq!(mode(&state.pod(&uid).join("pod.json")), 0o600);
        fs::remove_dir_all(&dir).unwrap();
    }
}
