//! coracle-runtime: containers from namespaces and cgroups, with no container runtime underneath.
//!
//! Without features this crate is words: what a pod's sandbox and a container are ([`PodSandboxSpec`],
//! [`ContainerSpec`]), what becomes of them ([`ContainerState`], [`Event`]), the [`Runtime`] port that the agent calls,
//! and the pure [`plan`] of steps with undo. The feature `linux` adds the real thing.
//!
//! It must never know the Kubernetes API, images, or an async runtime: everything here blocks.
//!
//! ```text
//! agent ── Runtime::start_container ──► shim (one per pod) ── fork ──► starter ── clone(NEWPID|NEWNS) ──► entrypoint
//!                                        │  holds net, ipc, uts           └ cgroup, plan, seccomp program; then gone
//!                                        └  parent of the entrypoint: logs, exit records, PDEATHSIG
//! ```

mod caps;
mod config;
mod error;
mod fact;
mod id;
pub mod limits;
#[cfg(feature = "linux")]
pub mod linux;
pub mod plan;
mod port;
mod resources;
mod spec;
mod state;
pub mod wire;

pub use caps::{Capabilities, Capability, UnknownCapability};
pub use config::{Config, pod_dir, state_dir};
pub use error::RuntimeError;
pub use fact::{Fact, FactKind};
pub use id::{BadId, ContainerId, PodUid};
pub use port::Runtime;
pub use resources::{QosClass, Resources};
pub use spec::{
    ContainerSpec, LogSpec, Mount, MountSource, PodSandboxSpec, Propagation, Seccomp,
    TerminationMessage, User,
};
pub use state::{ContainerState, ContainerStatus, Event, Exit, PodStatus, Stats};
