//! What a host can and cannot do, for `doctor` and for node conditions.

/// How much a [`Fact`] matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKind {
    /// As it should be.
    Good,
    /// Pods run, but something is not enforced or not there.
    Lacking,
    /// Pods cannot run.
    Fatal,
}

/// One thing found out about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Stable short name: `cgroup`, `memory-controller`, `overlayfs`, `seccomp`, `nftables`, ….
    pub name: &'static str,
    /// How much it matters.
    pub kind: FactKind,
    /// What was found, as `cgroup v2, controllers cpu memory pids`.
    pub found: String,
    /// What to do about it, one line; empty if nothing.
    pub fix: String,
}
