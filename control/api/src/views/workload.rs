//! Deployments and ReplicaSets.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::{PodSpec, views};
use crate::{intstr::IntOrString, object::Meta};

views! {
    /// `meta/v1 LabelSelector`; [`crate::selector::LabelSelector::from_view`] makes it matchable.
    LabelSelector {
        match_labels: BTreeMap<String, String>,
        match_expressions: Vec<LabelSelectorRequirement>,
    }
    LabelSelectorRequirement { values: Vec<String>, } + { key: String, operator: String, }

    PodTemplateSpec { metadata: Meta, spec: PodSpec, }

    /// `apps/v1/Deployment`.
    DeploymentView { metadata: Meta, spec: DeploymentSpec, status: DeploymentStatus, }
    DeploymentSpec {
        replicas: Option<i32>,
        selector: LabelSelector,
        /// Whole, as the ReplicaSet will get it; see [`PodTemplateSpec`] for a typed view.
        template: serde_json::Value,
        strategy: DeploymentStrategy,
        min_ready_seconds: i32,
        revision_history_limit: Option<i32>,
        paused: bool,
        progress_deadline_seconds: Option<i32>,
    }
    DeploymentStrategy { r#type: String, rolling_update: Option<RollingUpdateDeployment>, }
    RollingUpdateDeployment {
        max_unavailable: Option<IntOrString>,
        max_surge: Option<IntOrString>,
    }
    DeploymentStatus {
        observed_generation: i64,
        replicas: i32,
        updated_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        unavailable_replicas: i32,
        terminating_replicas: Option<i32>,
        conditions: Vec<DeploymentCondition>,
        collision_count: Option<i32>,
    }
    DeploymentCondition {
        last_update_time: Option<String>,
        last_transition_time: Option<String>,
        reason: String,
        message: String,
    } + { r#type: String, status: String, }

    /// `apps/v1/ReplicaSet`.
    ReplicaSetView { metadata: Meta, spec: ReplicaSetSpec, status: ReplicaSetStatus, }
    ReplicaSetSpec {
        replicas: Option<i32>,
        min_ready_seconds: i32,
        selector: LabelSelector,
        /// Whole, as pods will get it; see [`PodTemplateSpec`] for a typed view.
        template: serde_json::Value,
    }
    ReplicaSetStatus {
        fully_labeled_replicas: i32,
        ready_replicas: i32,
        available_replicas: i32,
        terminating_replicas: Option<i32>,
        observed_generation: i64,
        conditions: Vec<ReplicaSetCondition>,
    } + { replicas: i32, }
    ReplicaSetCondition {
        last_transition_time: Option<String>,
        reason: String,
        message: String,
    } + { r#type: String, status: String, }
}
