//! ClusterRoles with an `aggregationRule` show the rules of all that they select.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use coracle_api::{
    Resource,
    selector::LabelSelector,
    views::{ClusterRoleView, PolicyRule},
};
use serde_json::json;

use super::{
    ask::{Ask, Plan},
    queue::Queue,
    work::Reconcile,
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

/// The aggregation controller of ClusterRoles.
#[derive(Debug, Default)]
pub(crate) struct Aggregation {
    /// Those that aggregate.
    aggregating: BTreeSet<String>,
}

impl Reconcile for Aggregation {
    /// Name of a ClusterRole.
    type Key = String;
    const NAME: &'static str = "clusterrole-aggregation";
    const USER: &'static str =
        "system:serviceaccount:kube-system:clusterrole-aggregation-controller";
    const COMPONENT: &'static str = "clusterrole-aggregation-controller";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<String>) {
        if change.resource != Resource::CLUSTER_ROLES {
            return;
        }
        for (object, is_there) in [(&change.old, false), (&change.new, true)] {
            let Some(object) = object else { continue };
            let view = object.view::<ClusterRoleView>();
            if is_there && view.is_ok_and(|view| view.aggregation_rule.is_some()) {
                self.aggregating.insert(object.meta.name.clone());
            } else {
                self.aggregating.remove(&object.meta.name);
            }
        }
        queue.extend(self.aggregating.iter().cloned());
    }

    fn look(&mut self, _now: Millis, key: &String, cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let Some(object) = cache.get(Resource::CLUSTER_ROLES, "", key) else { return };
        let Ok(role) = object.view::<ClusterRoleView>() else { return };
        if role.aggregation_rule.is_none() {
            return;
        }
        let wanted = gathered(&role, cache);
        // The order of rules means nothing, nor does one that stands there twice.
        let covers =
            |all: &[PolicyRule], some: &[PolicyRule]| some.iter().all(|rule| all.contains(rule));
        if covers(&role.rules, &wanted) && covers(&wanted, &role.rules) {
            return;
        }
        let mut value = object.value();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("rules".into(), json!(wanted));
        }
        plan.call(Ask::update(object, value));
    }
}

/// The rules of all that a role selects, through and through. Only roles with rules of their own count: two that select
/// each other would else hand each other's rules back and forth for ever.
fn gathered(role: &ClusterRoleView, cache: &Cache) -> Vec<PolicyRule> {
    let selectors_of = |role: &ClusterRoleView| -> Option<Vec<LabelSelector>> {
        let selectors = &role.aggregation_rule.as_ref()?.cluster_role_selectors;
        Some(selectors.iter().filter_map(|one| LabelSelector::from_view(one).ok()).collect())
    };
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pending: Vec<Vec<LabelSelector>> = selectors_of(role).into_iter().collect();
    while let Some(selectors) = pending.pop() {
        for part in cache.list(Resource::CLUSTER_ROLES, None) {
            let selected = selectors.iter().any(|selector| selector.matches(&part.meta.labels));
            if !selected || !seen.insert(part.meta.name.as_str()) {
                continue;
            }
            let Ok(part) = part.view::<ClusterRoleView>() else { continue };
            match selectors_of(&part) {
                Some(more) => pending.push(more),
                None => {
                    for rule in part.rules {
                        if !rules.contains(&rule) {
                            rules.push(rule);
                        }
                    }
                }
            }
        }
    }
    rules
}
