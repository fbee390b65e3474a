//! The real runtime: namespaces, mounts, cgroups, seccomp and capabilities of Linux.

#![allow(
    unsafe_code,
    reason = "the kernel's calls that no safe crate wraps are here and nowhere else"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "steps and answers are passed on by their kind; naming all others each time hides the one that is meant"
)]

mod cgroup;
mod child;
mod client;
mod doctor;
pub mod heap;
mod host;
mod net;
pub mod os;
pub mod protocol;
mod runtime;
pub mod seccomp;
mod spawn;
pub mod starter;

pub use cgroup::{CgroupSet, Controller};
pub use doctor::facts;
pub use host::HostSteps;
pub use net::prepare_pod_namespaces;
pub use runtime::LinuxRuntime;
