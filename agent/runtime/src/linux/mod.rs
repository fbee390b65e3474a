//! The real runtime: namespaces, mounts, cgroups, seccomp and capabilities of Linux.

mod runtime;
pub mod seccomp;

pub use runtime::LinuxRuntime;
