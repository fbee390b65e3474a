//! Why the runtime did not do what it was asked.

use std::io;

use crate::{ContainerId, ContainerState, PodUid};

/// A request to the runtime that failed; what it had done before is undone (R4).
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The pod is there and its shim lives.
    #[error("pod {0} already has a sandbox; remove it first")]
    PodExists(PodUid),
    /// There is no sandbox of that uid.
    #[error("pod {0} has no sandbox; create it first")]
    NoSuchPod(PodUid),
    /// The pod's shim is dead.
    #[error(
        "the shim of pod {0} is dead and its containers with it; remove the pod or create it anew"
    )]
    ShimDead(PodUid),
    /// This attempt of this container was started before (R5).
    #[error("container {id} was started before; use the next attempt")]
    AlreadyStarted {
        /// Which.
        id: ContainerId,
        /// Where it is now.
        state: ContainerState,
    },
    /// The pod has no such container.
    #[error("pod {pod} has no container {id}")]
    NoSuchContainer {
        /// The pod.
        pod: PodUid,
        /// Which.
        id: ContainerId,
    },
    /// The container lives; it has to be killed before it is removed.
    #[error("container {0} is running; kill it first")]
    StillRunning(ContainerId),
    /// A step on the way to `exec` failed. The text names the step, its object and the kernel's word.
    #[error("{message}")]
    Start {
        /// As `exec /bin/nope: No such file or directory`.
        message: String,
        /// The kernel's error number, if it was the kernel's refusal.
        errno: Option<i32>,
    },
    /// The spec cannot be carried out as it is.
    #[error("cannot run this: {0}")]
    BadSpec(String),
    /// A bound of `limits.rs` was reached.
    #[error("{what}: at most {max}")]
    Full {
        /// Of what there is too much.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The host lacks something; the text says the fix.
    #[error("{0}")]
    Host(String),
    /// The shim said something that this version does not understand.
    #[error("the shim of pod {pod} answered {got}; restart the pod")]
    Protocol {
        /// The pod.
        pod: PodUid,
        /// What it said.
        got: String,
    },
    /// The operating system refused.
    #[error("{doing}")]
    Io {
        /// What was being done, with the name of the object.
        doing: String,
        /// Its reason.
        source: io::Error,
    },
}
