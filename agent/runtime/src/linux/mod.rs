//! The real runtime: namespaces, mounts, cgroups, seccomp and capabilities of Linux.

mod runtime;

pub use runtime::LinuxRuntime;
