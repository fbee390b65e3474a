//! The port: what the agent asks of whatever runs its pods. `linux::LinuxRuntime` is the real one.

use std::time::Duration;

use crate::{
    ContainerId, ContainerSpec, ContainerStatus, Event, PodSandboxSpec, PodStatus, PodUid,
    RuntimeError, Stats,
};

/// Runs pods. Every call blocks (milliseconds, at most the bounds of [`crate::limits`]); call it from blocking threads.
/// Calls for different pods run side by side; those for one pod are put one after the other.
pub trait Runtime: Send + Sync {
    /// Makes the pod's cgroup, starts its shim and its namespaces. The loopback interface is up; the network is the agent's.
    ///
    /// A pod whose shim died may be created anew under its uid: its container records stay, so no attempt starts twice.
    /// Fails with [`RuntimeError::PodExists`] if its shim lives.
    fn create_pod(&self, spec: &PodSandboxSpec) -> Result<PodStatus, RuntimeError>;

    /// Starts one attempt of a container, returning after `exec` succeeded.
    ///
    /// The attempt counts as used whatever happens: on a failure it is `StartFailed`, and a second call with the same
    /// id gives [`RuntimeError::AlreadyStarted`] with its state (R5). After an answer that was lost, ask [`Runtime::pod`].
    fn start_container(
        &self,
        pod: &PodUid,
        spec: &ContainerSpec,
    ) -> Result<ContainerStatus, RuntimeError>;

    /// Sends a signal (its number, as 15) to a container's entrypoint. `Ok` also if it has ended meanwhile.
    fn signal(&self, pod: &PodUid, id: &ContainerId, signal: i32) -> Result<(), RuntimeError>;

    /// Kills every process of a container. The exit comes as an event. `Ok` also if it has ended meanwhile.
    fn kill(&self, pod: &PodUid, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Forgets an ended container: its writable layer, cgroup and record. Its log files and volumes stay.
    /// `Ok` if it is not there; [`RuntimeError::StillRunning`] if it lives.
    fn remove_container(&self, pod: &PodUid, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Kills what is left of a pod and removes everything the runtime made for it: shim, namespaces, cgroups, state
    /// directory. `Ok` if it is not there.
    fn remove_pod(&self, pod: &PodUid) -> Result<(), RuntimeError>;

    /// One pod as it is now; `None` if it is not there.
    fn pod(&self, pod: &PodUid) -> Result<Option<PodStatus>, RuntimeError>;

    /// Finds every pod below the data directory after a start of the agent, joins the shims that live, and kills what
    /// is left of those that died. Call it once, first. Exits that came meanwhile are in the states, not events.
    fn recover(&self) -> Result<Vec<PodStatus>, RuntimeError>;

    /// The next event, `None` after `timeout`. For one thread at a time. Events may repeat what a state already said.
    fn wait_event(&self, timeout: Duration) -> Result<Option<Event>, RuntimeError>;

    /// Use of a whole pod (`id` is `None`) or of one container.
    fn stats(&self, pod: &PodUid, id: Option<&ContainerId>) -> Result<Stats, RuntimeError>;
}
