//! Kubernetes' bootstrap roles and bindings: what every cluster begins with, and gets back at start.

mod table;

use alloc::{format, string::String, vec::Vec};

use coracle_api::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{
    authz::{PolicyRule, rules::uncovered},
    cache::Cache,
    kinds::access::child,
};
use table::{BINDINGS, BindingText, NAMESPACED, NamespacedText, ROLES, RoleText};

/// `false` on a role or binding keeps it as people made it.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const API_GROUP: &str = "rbac.authorization.k8s.io";

/// What start-up has to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Ensure {
    /// It is missing.
    Create(Resource, Value),
    /// It lacks rules or subjects; the value is the stored object with them added.
    Update(Resource, Value),
}

/// All of them, as they are made: roles first, so that no binding stands before its role; those in namespaces last.
pub fn objects() -> impl Iterator<Item = (Resource, Value)> {
    let roles = ROLES.iter().map(|role| (Resource::CLUSTER_ROLES, role_object(role)));
    let bindings =
        BINDINGS.iter().map(|one| (Resource::CLUSTER_ROLE_BINDINGS, binding_object(one)));
    let inside = NAMESPACED.iter().flat_map(|one| {
        let [role, binding] = namespaced_objects(one);
        [(Resource::ROLES, role), (Resource::ROLE_BINDINGS, binding)]
    });
    roles.chain(bindings).chain(inside)
}

/// What of them is missing in the cache, or lacks rules or subjects. Nothing is ever taken away: people may have added.
pub fn ensure(cache: &Cache) -> Vec<Ensure> {
    objects()
        .filter_map(|(resource, wanted)| {
            let name = wanted.pointer("/metadata/name")?.as_str()?;
            let namespace = wanted.pointer("/metadata/namespace").and_then(Value::as_str);
            let Some(stored) = cache.get(resource, namespace.unwrap_or_default(), name) else {
                return Some(Ensure::Create(resource, wanted));
            };
            let stored = stored.value();
            extended(&stored, &wanted).map(|value| Ensure::Update(resource, value))
        })
        .collect()
}

/// The stored object with what it lacks; `None`: it lacks nothing, or is not to be touched.
fn extended(stored: &Value, wanted: &Value) -> Option<Value> {
    let annotations = stored.pointer("/metadata/annotations");
    if annotations.and_then(|all| all.get(AUTOUPDATE)).and_then(Value::as_str) == Some("false") {
        return None;
    }
    let mut value = stored.clone();
    let mut changed = false;
    if wanted.get("rules").is_some() {
        let have: Vec<PolicyRule> = read(stored.get("rules"));
        let want: Vec<PolicyRule> = read(wanted.get("rules"));
        let lacking: Vec<&PolicyRule> = want
            .iter()
            .filter(|rule| !uncovered(&have, core::slice::from_ref(*rule)).is_empty())
            .collect();
        if !lacking.is_empty() {
            let all: Vec<&PolicyRule> = have.iter().chain(lacking).collect();
            changed |= put(&mut value, "rules", serde_json::to_value(all).ok()?);
        }
        if wanted.get("aggregationRule").is_some() && stored.get("aggregationRule").is_none() {
            changed |= put(&mut value, "aggregationRule", wanted.get("aggregationRule")?.clone());
        }
    }
    if let Some(want) = wanted.get("subjects").and_then(Value::as_array) {
        let mut all: Vec<Value> = read(stored.get("subjects"));
        let before = all.len();
        all.extend(want.iter().filter(|one| !read_has(stored, one)).cloned());
        if all.len() > before {
            changed |= put(&mut value, "subjects", all.into());
        }
    }
    changed.then_some(value)
}

fn read_has(stored: &Value, subject: &Value) -> bool {
    stored.get("subjects").and_then(Value::as_array).is_some_and(|all| {
        all.iter().any(|have| {
            ["kind", "name", "namespace"].iter().all(|key| have.get(key) == subject.get(key))
        })
    })
}

fn read<T: DeserializeOwned>(list: Option<&Value>) -> Vec<T> {
    list.and_then(|list| coracle_api::views::read(list).ok()).unwrap_or_default()
}

fn put(value: &mut Value, key: &str, to: Value) -> bool {
    value.as_object_mut().is_some_and(|map| {
        map.insert(key.into(), to);
        true
    })
}

fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn object(kind: &str, name: &str, aggregate_to: Option<&str>) -> Map<String, Value> {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
    if let Some(to) = aggregate_to {
        labels.insert(aggregation_label(to), "true".into());
    }
    let mut map = Map::new();
    map.insert("apiVersion".into(), "rbac.authorization.k8s.io/v1".into());
    map.insert("kind".into(), kind.into());
    map.insert(
        "metadata".into(),
        json!({"name": name, "labels": labels, "annotations": {AUTOUPDATE: "true"}}),
    );
    map
}

fn role_object(role: &RoleText) -> Value {
    let mut map = object("ClusterRole", role.name, role.aggregate_to);
    if let Some(what) = role.aggregates {
        let selector = json!({"matchLabels": {aggregation_label(what): "true"}});
        map.insert("aggregationRule".into(), json!({"clusterRoleSelectors": [selector]}));
    }
    let rules = serde_json::to_value(rules_of(role)).expect("rules have string keys only");
    map.insert("rules".into(), rules);
    Value::Object(map)
}

/// A role's own rules and, as the table is free of circles, those of all that it aggregates.
fn rules_of(role: &RoleText) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = role.rules.lines().map(read_rule).collect();
    if let Some(what) = role.aggregates {
        rules
            .extend(ROLES.iter().filter(|part| part.aggregate_to == Some(what)).flat_map(rules_of));
    }
    rules
}

/// `VERBS GROUPS RESOURCES [NAMES]` or `VERBS /PATHS`.
fn read_rule(line: &str) -> PolicyRule {
    let mut words = line.split(' ').map(|word| {
        let items = word.split(',').map(|item| if item == "core" { "" } else { item });
        items.map(String::from).collect::<Vec<_>>()
    });
    let mut next = || words.next().unwrap_or_default();
    let (verbs, second) = (next(), next());
    if second.iter().any(|item| item.starts_with('/')) {
        return PolicyRule { verbs, non_resource_urls: second, ..PolicyRule::default() };
    }
    PolicyRule {
        verbs,
        api_groups: second,
        resources: next(),
        resource_names: next(),
        ..PolicyRule::default()
    }
}

fn binding_object(binding: &BindingText) -> Value {
    let mut map = object("ClusterRoleBinding", binding.name, None);
    bind(&mut map, "ClusterRole", binding.role, binding.subjects);
    Value::Object(map)
}

/// The Role and its RoleBinding.
fn namespaced_objects(text: &NamespacedText) -> [Value; 2] {
    let rules: Vec<PolicyRule> = text.rules.lines().map(read_rule).collect();
    let mut role = object("Role", text.name, None);
    role.insert("rules".into(), serde_json::to_value(rules).expect("rules have string keys only"));
    let mut binding = object("RoleBinding", text.name, None);
    bind(&mut binding, "Role", text.name, text.subjects);
    [role, binding].map(|map| {
        let mut value = Value::Object(map);
        put(child(&mut value, "metadata"), "namespace", text.namespace.into());
        value
    })
}

fn bind(map: &mut Map<String, Value>, kind: &str, role: &str, subjects: &[&str]) {
    map.insert("roleRef".into(), json!({"apiGroup": API_GROUP, "kind": kind, "name": role}));
    let subjects: Vec<Value> = subjects.iter().filter_map(|text| subject(text)).collect();
    if !subjects.is_empty() {
        map.insert("subjects".into(), subjects.into());
    }
}

fn subject(text: &str) -> Option<Value> {
    match text.split_once(':')? {
        ("g", name) => Some(json!({"kind": "Group", "apiGroup": API_GROUP, "name": name})),
        ("u", name) => Some(json!({"kind": "User", "apiGroup": API_GROUP, "name": name})),
        (_, name) => {
            let (namespace, name) = name.split_once('/')?;
            Some(json!({"kind": "ServiceAccount", "namespace": namespace, "name": name}))
        }
    }
}

#[cfg(test)]
mod tests;
