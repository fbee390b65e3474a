//! All that can happen to the agent's pods, and all that the agent can ask for. One list each.

use alloc::{collections::BTreeSet, string::String, sync::Arc, vec::Vec};

use serde_json::Value;

use crate::{
    spec::{Pod, PodUid},
    time::Millis,
};

/// What happened. Surprises (an answer for a pod that is gone) are handled, not asserted.
#[derive(Clone, Debug)]
pub enum Event {
    /// At start: a pod that was on this node, with the status that was last recorded for it.
    FromDisk(Arc<Pod>, Option<Value>),
    /// At start, once, after all `FromDisk`: what the shims still have.
    Recovered(Vec<FoundSandbox>),
    /// A pod of this node was made or changed.
    PodChanged(Arc<Pod>),
    /// A pod is gone from the API server.
    PodGone(PodUid),
    /// A full list was read: pods that are not in it are gone.
    Listed(BTreeSet<PodUid>),
    /// The volumes are there.
    VolumesReady(PodUid),
    /// A volume could not be made; `message` as for an event.
    VolumesFailed(PodUid, String),
    /// Sandbox, shim and network are there. Addresses in order; the node's with `hostNetwork`.
    SandboxMade(PodUid, Vec<String>),
    /// They could not be made.
    SandboxFailed(PodUid, String),
    /// The shim is gone, and its containers with it.
    SandboxLost(PodUid),
    /// A registry is being asked for the image.
    ImagePulling(PodUid, String),
    /// The image of this container can be used.
    ImageReady(PodUid, String, ImageFacts),
    /// It cannot.
    ImageFailed(PodUid, String, ImageFault, String),
    /// The entrypoint was executed.
    Started {
        /// Of.
        uid: PodUid,
        /// Its name.
        container: String,
        /// As in the action.
        attempt: u32,
        /// Unix seconds.
        at_s: i64,
    },
    /// It was not.
    StartFailed {
        /// Of.
        uid: PodUid,
        /// Its name.
        container: String,
        /// As in the action.
        attempt: u32,
        /// How far it came.
        fault: StartFault,
        /// Cause.
        message: String,
    },
    /// The entrypoint ended.
    Exited {
        /// Of.
        uid: PodUid,
        /// Its name.
        container: String,
        /// As in the action.
        attempt: u32,
        /// How.
        exit: Exit,
    },
    /// Sandbox, network and volumes are gone; logs are not.
    TornDown(PodUid),
    /// Something of them is still there.
    TearDownFailed(PodUid, String),
    /// The API server has this version of the status.
    StatusAcked(PodUid, u64),
    /// It has not, and may have it later.
    StatusFailed(PodUid),
    /// The pod was deleted there, or was gone already.
    DeleteAcked(PodUid),
    /// It was not, and may be later.
    DeleteFailed(PodUid),
    /// Time given to `WakeAt` has come.
    Timer,
}

/// What a shim still had when the agent started.
#[derive(Clone, Debug)]
pub struct FoundSandbox {
    /// Of this pod.
    pub uid: PodUid,
    /// Its shim lives. If not, only the records of its containers are left.
    pub alive: bool,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Attempts of containers; also those that ended unseen: their numbers are not given again.
    pub containers: Vec<FoundContainer>,
}

/// A container that a shim had.
#[derive(Clone, Debug)]
pub struct FoundContainer {
    /// Its name.
    pub name: String,
    /// Which attempt.
    pub attempt: u32,
    /// Unix seconds of its start.
    pub started_s: i64,
    /// How it ended, if it did.
    pub exit: Option<Exit>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
    /// The kernel's out-of-memory killer was in its cgroup.
    pub oom_killed: bool,
    /// Nobody saw it: its shim or its machine ended first.
    pub unseen: bool,
    /// Unix seconds.
    pub started_s: i64,
    /// Unix seconds.
    pub finished_s: i64,
    /// What it left for people; at most [`crate::limits::TERMINATION_MESSAGE_BYTES_MAX`].
    pub message: String,
}

impl Exit {
    /// Of an attempt that ended with its shim or its machine. Unix seconds; `started_s` as far as it is known.
    pub fn unseen(started_s: i64, finished_s: i64) -> Self {
        Self {
            code: 137,
            unseen: true,
            started_s,
            finished_s,
            message: "The container's shim or its machine ended, and the container with it".into(),
            ..Self::default()
        }
    }
}

/// What is known of an image that can be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Name with digest.
    pub id: String,
    /// How it came here.
    pub origin: ImageOrigin,
}

/// How an image came to be on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageOrigin {
    /// It was there.
    #[default]
    Present,
    /// It was there from an archive, and no registry was asked whatever the policy.
    Pinned,
    /// It was pulled now.
    Pulled {
        /// How long it took.
        took_ms: u64,
        /// Bytes on disk.
        bytes: u64,
    },
}

/// Why an image cannot be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ImageFault {
    /// Not a name.
    InvalidName,
    /// Not here, and the policy is `Never`.
    NeverPull,
    /// The pull failed.
    Pull,
}

/// How far a start came.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// The configuration cannot be put together (a ConfigMap is missing).
    Config,
    /// The container could not be made.
    Create,
    /// It was made and its entrypoint could not be executed.
    Run,
}

/// What is to be done. Each is safe to carry out twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write the pod to disk.
    Keep(PodUid),
    /// Make the volumes, and keep those that change up to date.
    PrepareVolumes(PodUid),
    /// Make shim, namespaces and network; clean up what an earlier attempt left.
    MakeSandbox(PodUid),
    /// Have the container's image here, by its pull policy.
    EnsureImage(PodUid, String),
    /// Start this attempt of the container.
    Start(PodUid, String, u32),
    /// Ask it to stop, with the image's stop signal.
    Stop(PodUid, String, u32),
    /// End it.
    Kill(PodUid, String, u32),
    /// End and remove sandbox, network and volumes; keep the logs.
    TearDown(PodUid),
    /// Remove all that is left of it, logs too.
    Forget(PodUid),
    /// Record the status on disk, then patch it. The number comes back in `StatusAcked`.
    PatchStatus(PodUid, u64, Value),
    /// Delete it at the API server with grace period 0, this uid only.
    Delete(PodUid),
    /// Tell people.
    Tell(PodUid, Tale),
    /// Send `Timer` then. The earliest of all; later ones are given again.
    WakeAt(Millis),
}

/// An Event of the API about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tale {
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The container that it is about.
    pub container: Option<String>,
}
