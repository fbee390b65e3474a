//! Rows of Deployments and ReplicaSets.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{
    selector::LabelSelector,
    views::{self, DeploymentView, PodTemplateSpec, ReplicaSetView},
};
use serde_json::Value;

use super::{At, or_none, view};

/// Containers, Images.
fn containers(template: &Value) -> [String; 2] {
    let template: PodTemplateSpec = view(template);
    let all = &template.spec.containers;
    let names: Vec<&str> = all.iter().map(|container| container.name.as_str()).collect();
    let images: Vec<&str> = all.iter().map(|container| container.image.as_str()).collect();
    [names.join(","), images.join(",")]
}

fn selector(of: &views::LabelSelector) -> String {
    match LabelSelector::from_view(of) {
        Ok(selector) => or_none(&format!("{selector}")),
        Err(_) => "<error>".into(),
    }
}

/// Name, Ready, Up-to-date, Available, Age, Containers, Images, Selector.
pub(super) fn deployment(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: DeploymentView = view(value);
    let [names, images] = containers(&it.spec.template);
    let wanted = it.spec.replicas.unwrap_or(1);
    [
        at.name.into(),
        format!("{}/{wanted}", it.status.ready_replicas).into(),
        it.status.updated_replicas.into(),
        it.status.available_replicas.into(),
        at.age().into(),
        names.into(),
        images.into(),
        selector(&it.spec.selector).into(),
    ]
    .into()
}

/// Name, Desired, Current, Ready, Age, Containers, Images, Selector.
pub(super) fn replica_set(at: &At<'_>, value: &Value) -> Vec<Value> {
    let it: ReplicaSetView = view(value);
    let [names, images] = containers(&it.spec.template);
    [
        at.name.into(),
        it.spec.replicas.unwrap_or(1).into(),
        it.status.replicas.into(),
        it.status.ready_replicas.into(),
        at.age().into(),
        names.into(),
        images.into(),
        selector(&it.spec.selector).into(),
    ]
    .into()
}
