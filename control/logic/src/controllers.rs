//! Controllers: each watches the cache's changes and answers with calls through the same front door as everyone.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status};
use serde_json::Value;

use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
};

mod ask;
mod deployment;
mod limits;
mod owned;
mod pods;
mod queue;
mod recorder;
mod replicaset;
#[cfg(test)]
pub(crate) mod testing;
mod work;

pub(crate) use ask::{About, Ask, Note, Tone, about};
pub(crate) use recorder::{Recorder, Same};

/// A call that a controller asks for. The plane sends it through authorize, admit and registry as `user`.
#[derive(Clone, Debug)]
pub struct ControllerCall {
    /// Chosen by the controller, unique within it; comes back with the answer.
    pub id: u64,
    /// `system:serviceaccount:kube-system:deployment-controller`, `system:kube-scheduler`, …
    pub user: &'static str,
    /// What to do.
    pub action: CallAction,
    /// Of what; always the hub version.
    pub resource: Resource,
    /// Empty for cluster-scoped.
    pub namespace: String,
    /// Empty only for creates with `generateName`.
    pub name: String,
    /// `status`, `binding`, `scale`, …; empty: the object itself.
    pub subresource: &'static str,
}

/// What to do with it.
#[derive(Clone, Debug)]
pub enum CallAction {
    /// Create from this object (or POST it to the subresource).
    Create(Value),
    /// Replace; the object's `metadata.resourceVersion`, where set, guards it.
    Update(Value),
    /// Patch.
    Patch(PatchType, Value),
    /// Delete, with preconditions where set.
    Delete {
        /// Only this life of the name.
        uid: Option<String>,
        /// Only this version.
        resource_version: Option<String>,
        /// `Background`, `Foreground` or `Orphan`.
        propagation: Option<&'static str>,
        /// Seconds; `None`: the object's own.
        grace_seconds: Option<i64>,
    },
}

/// One controller: fed with changes, stepped, told how its calls ended. Never blocks, never reads a clock.
pub trait Controller: Send {
    /// Short name for logs and metrics (`deployment`, `scheduler`).
    fn name(&self) -> &'static str;
    /// A change was published (at start: every object once, with `old` empty). Only takes notes.
    fn changed(&mut self, now: Millis, change: &Change);
    /// Works off what is due, a bounded amount a step, and asks for calls.
    fn step(&mut self, now: Millis, cache: &Cache, rng: &mut Rng, out: &mut Vec<ControllerCall>);
    /// A call ended. The cache already shows what was written.
    fn done(&mut self, now: Millis, call: &ControllerCall, result: Result<&Arc<Object>, &Status>);
    /// When to step again even if nothing changes; `None`: no need. In the past: at once.
    fn next_due(&self) -> Option<Millis>;
}

/// All controllers, in the order in which they are stepped.
pub fn all() -> Vec<Box<dyn Controller>> {
    alloc::vec![
        work::Work::boxed(deployment::Deployments::default()),
        work::Work::boxed(replicaset::ReplicaSets::default()),
    ]
}
