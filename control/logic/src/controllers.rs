//! Controllers: each watches the cache's changes and answers with calls through the same front door as everyone.

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use coracle_api::{Object, Resource, Status};
use coracle_keys::Keys;
use serde_json::Value;

use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
    canary::Switch,
};

mod aggregation;
mod ask;
mod bootstrap_tokens;
mod certificates;
#[cfg(test)]
mod cluster_tests;
mod deployment;
mod gc;
mod limits;
mod namespaces;
mod nodes;
mod owned;
mod pod_gc;
mod pods;
mod queue;
mod recorder;
mod replicaset;
mod root_ca;
mod service_accounts;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use ask::{About, Ask, Note, Tone, about};
pub(crate) use recorder::{Recorder, Same};
use work::Work;

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

/// What the controllers are told of their surroundings.
#[derive(Clone)]
pub struct Config {
    /// Publishes the root certificate, reads and signs requests for certificates.
    pub keys: Arc<dyn Keys>,
    /// Nodes' shares of pod addresses are cut from this: IPv4, a prefix of 8 to 24 bits (`10.42.0.0/16`).
    pub pod_cidr: String,
    /// What is done wrong on purpose.
    pub canary: Switch,
}

/// All controllers, in the order in which they are stepped.
pub fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    let keys = || config.keys.clone();
    alloc::vec![
        Work::boxed(deployment::Deployments::default()),
        Work::boxed(replicaset::ReplicaSets::default()),
        Work::boxed(gc::Collector::new(config.canary)),
        Work::boxed(pod_gc::PodGc::default()),
        Work::boxed(namespaces::Namespaces::default()),
        Work::boxed(nodes::lifecycle::Lifecycle::default()),
        Work::boxed(nodes::eviction::Eviction::default()),
        Work::boxed(nodes::ipam::Ipam::new(&config.pod_cidr)),
        Work::boxed(service_accounts::ServiceAccounts),
        Work::boxed(root_ca::RootCa::new(keys())),
        Work::boxed(certificates::Certificates::new(keys())),
        Work::boxed(bootstrap_tokens::BootstrapTokens),
        Work::boxed(aggregation::Aggregation::default()),
    ]
}
