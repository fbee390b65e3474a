//! The [`Runtime`] port over shims: one per pod, found again after a restart of the agent.

use std::time::Duration;

use crate::{
    Config, ContainerId, ContainerSpec, ContainerStatus, Event, PodSandboxSpec, PodStatus, PodUid,
    Runtime, RuntimeError, Stats,
};

/// Pods as processes of this machine.
#[derive(Debug)]
pub struct LinuxRuntime {
    config: Config,
}

impl LinuxRuntime {
    /// Takes the settings; makes the data directory's `pods` if absent. Call [`Runtime::recover`] next.
    pub fn new(config: Config) -> Result<Self, RuntimeError> {
        Ok(Self { config })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

fn not_yet<T>() -> Result<T, RuntimeError> {
    Err(RuntimeError::Host("this build of the runtime cannot run pods yet".to_owned()))
}

impl Runtime for LinuxRuntime {
    fn create_pod(&self, _spec: &PodSandboxSpec) -> Result<PodStatus, RuntimeError> {
        not_yet()
    }

    fn start_container(
        &self,
        _pod: &PodUid,
        _spec: &ContainerSpec,
    ) -> Result<ContainerStatus, RuntimeError> {
        not_yet()
    }

    fn signal(&self, _pod: &PodUid, _id: &ContainerId, _signal: i32) -> Result<(), RuntimeError> {
        not_yet()
    }

    fn kill(&self, _pod: &PodUid, _id: &ContainerId) -> Result<(), RuntimeError> {
        not_yet()
    }

    fn remove_container(&self, _pod: &PodUid, _id: &ContainerId) -> Result<(), RuntimeError> {
        not_yet()
    }

    fn remove_pod(&self, _pod: &PodUid) -> Result<(), RuntimeError> {
        not_yet()
    }

    fn pod(&self, _pod: &PodUid) -> Result<Option<PodStatus>, RuntimeError> {
        not_yet()
    }

    fn recover(&self) -> Result<Vec<PodStatus>, RuntimeError> {
        not_yet()
    }

    fn wait_event(&self, _timeout: Duration) -> Result<Option<Event>, RuntimeError> {
        not_yet()
    }

    fn stats(&self, _pod: &PodUid, _id: Option<&ContainerId>) -> Result<Stats, RuntimeError> {
        not_yet()
    }
}
