//! RBAC: an index from subject to the rules that bindings give it, kept in step with the stored objects.

use alloc::{
    boxed::Box,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::{Object, Resource};
use serde::Deserialize;

use super::{
    Asked,
    rules::{PolicyRule, Rules, nullable},
};
use crate::{authn::service_account_of, cache::Change, call::User};

/// The roles and bindings in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By namespace (empty: ClusterRoles) and name.
    roles: BTreeMap<(Box<str>, Box<str>), Role>,
    /// By `u:USER` or `g:GROUP`.
    bound: BTreeMap<Box<str>, Vec<Bound>>,
}

#[derive(Clone, Debug)]
struct Role {
    rules: Rules,
    /// Of ClusterRoles: what other roles' aggregation goes by.
    labels: BTreeMap<String, String>,
    /// The rules are those of all ClusterRoles that one of these selects.
    aggregate: Option<Vec<Selector>>,
}

/// One binding's grant to one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bound {
    /// Where it holds; empty: everywhere.
    namespace: Box<str>,
    binding: Box<str>,
    role: Box<str>,
    /// The role is a ClusterRole.
    cluster_role: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RoleView {
    #[serde(deserialize_with = "nullable")]
    rules: Vec<PolicyRule>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    #[serde(deserialize_with = "nullable")]
    cluster_role_selectors: Vec<Selector>,
}

/// A label selector as it stands in an object (meta/v1).
#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Selector {
    #[serde(deserialize_with = "nullable")]
    match_labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
struct Requirement {
    key: String,
    operator: String,
    #[serde(deserialize_with = "nullable")]
    values: Vec<String>,
}

impl Selector {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|term| {
                let value = labels.get(&term.key);
                match term.operator.as_str() {
                    "In" => value.is_some_and(|value| term.values.contains(value)),
                    "NotIn" => value.is_none_or(|value| !term.values.contains(value)),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

/// What a RoleBinding or ClusterRoleBinding says.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BindingView {
    #[serde(deserialize_with = "nullable")]
    subjects: Vec<Subject>,
    pub(super) role_ref: RoleRef,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// Which role.
#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(default)]
pub(super) struct RoleRef {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Index {
    pub(super) fn changed(&mut self, change: &Change) {
        match change.resource {
            Resource::ROLES | Resource::CLUSTER_ROLES => {
                if let Some(old) = &change.old {
                    self.roles.remove(&role_key(old));
                }
                if let Some(new) = &change.new {
                    self.roles.insert(role_key(new), read_role(new));
                }
            }
            Resource::ROLE_BINDINGS | Resource::CLUSTER_ROLE_BINDINGS => {
                if let Some(old) = &change.old {
                    self.unbind(old);
                }
                if let Some(new) = &change.new {
                    self.bind(new);
                }
            }
            _ => {}
        }
    }

    fn bind(&mut self, binding: &Object) {
        for (subject, bound) in grants(binding) {
            let list = self.bound.entry(subject).or_default();
            if !list.contains(&bound) {
                list.push(bound);
            }
        }
    }

    fn unbind(&mut self, binding: &Object) {
        for (subject, bound) in grants(binding) {
            if let Some(list) = self.bound.get_mut(&subject) {
                list.retain(|have| *have != bound);
                if list.is_empty() {
                    self.bound.remove(&subject);
                }
            }
        }
    }

    /// Whether a rule of the user's lets this through.
    pub(super) fn allows(&self, user: &User, asked: &Asked<'_>) -> bool {
        self.rules_of(user, asked.namespace)
            .any(|rules| rules.iter().any(|rule| rule.allows(asked)))
    }

    /// All rules that the user has in a namespace (empty: those that hold everywhere).
    pub(super) fn list(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        unpack(self.rules_of(user, namespace))
    }

    /// The rules of a role; `namespace` is empty for ClusterRoles. `None`: there is no such role.
    pub(super) fn role(&self, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        let role = self.roles.get(&(namespace.into(), name.into()))?;
        Some(unpack(self.rules_in(role).into_iter()))
    }

    fn rules_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Rules> + 'a {
        self.grants_of(user, namespace)
            .filter_map(|(_, bound)| self.role_of(bound))
            .flat_map(|role| self.rules_in(role))
    }

    fn grants_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Bound)> + 'a {
        let keys = core::iter::once(format!("u:{}", user.name))
            .chain(user.groups.iter().map(|group| format!("g:{group}")));
        keys.filter_map(move |key| self.bound.get_key_value(key.as_str()))
            .flat_map(|(key, all)| all.iter().map(move |bound| (&**key, bound)))
            .filter(move |(_, bound)| bound.namespace.is_empty() || *bound.namespace == *namespace)
    }

    fn role_of(&self, bound: &Bound) -> Option<&Role> {
        let at = if bound.cluster_role { "".into() } else { bound.namespace.clone() };
        self.roles.get(&(at, bound.role.clone()))
    }

    /// Which binding lets this through, for people to read.
    pub(super) fn reason(&self, user: &User, asked: &Asked<'_>) -> Option<String> {
        let (subject, bound) = self.grants_of(user, asked.namespace).find(|(_, bound)| {
            self.role_of(bound).is_some_and(|role| {
                self.rules_in(role).iter().any(|rules| rules.iter().any(|rule| rule.allows(asked)))
            })
        })?;
        let binding = if bound.namespace.is_empty() {
            format!("ClusterRoleBinding {:?}", bound.binding)
        } else {
            format!("RoleBinding \"{}/{}\"", bound.binding, bound.namespace)
        };
        let role = if bound.cluster_role { "ClusterRole" } else { "Role" };
        let name = subject.get(2..).unwrap_or_default();
        let subject = match service_account_of(name) {
            Some((namespace, name)) => format!("ServiceAccount \"{name}/{namespace}\""),
            None if subject.starts_with("u:") => format!("User {name:?}"),
            None => format!("Group {name:?}"),
        };
        Some(format!("RBAC: allowed by {binding} of {role} {:?} to {subject}", bound.role))
    }

    /// A role's own rules, or those that it aggregates, through and through (admin holds edit holds view).
    fn rules_in<'a>(&'a self, role: &'a Role) -> Vec<&'a Rules> {
        match &role.aggregate {
            None => Vec::from([&role.rules]),
            Some(selectors) => self.selected(selectors),
        }
    }

    fn selected<'a>(&'a self, selectors: &'a [Selector]) -> Vec<&'a Rules> {
        let mut rules = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let mut pending = Vec::from([selectors]);
        while let Some(selectors) = pending.pop() {
            for ((_, name), role) in self.cluster_roles() {
                if seen.contains(&&**name) || !selectors.iter().any(|one| one.matches(&role.labels))
                {
                    continue;
                }
                seen.push(name);
                match &role.aggregate {
                    None => rules.push(&role.rules),
                    Some(more) => pending.push(more),
                }
            }
        }
        rules
    }

    fn cluster_roles(&self) -> impl Iterator<Item = (&(Box<str>, Box<str>), &Role)> {
        self.roles.iter().take_while(|((namespace, _), _)| namespace.is_empty())
    }
}

/// As stored, each once.
fn unpack<'a>(rules: impl Iterator<Item = &'a Rules>) -> Vec<PolicyRule> {
    let mut all: Vec<PolicyRule> = Vec::new();
    for packed in rules {
        for rule in packed.iter() {
            let rule = rule.unpack();
            if !all.contains(&rule) {
                all.push(rule);
            }
        }
    }
    all
}

fn role_key(role: &Object) -> (Box<str>, Box<str>) {
    (role.meta.namespace.as_str().into(), role.meta.name.as_str().into())
}

/// A role whose JSON cannot be read gives nothing.
fn read_role(role: &Object) -> Role {
    let view: RoleView = role.view().unwrap_or_default();
    let cluster = role.resource == Resource::CLUSTER_ROLES;
    Role {
        rules: Rules::pack(&view.rules),
        labels: if cluster { role.meta.labels.clone() } else { BTreeMap::new() },
        aggregate: view
            .aggregation_rule
            .filter(|_| cluster)
            .map(|rule| rule.cluster_role_selectors),
    }
}

/// The aggregation selectors of a ClusterRole's JSON.
pub(super) fn selectors_of(role: &serde_json::Value) -> Option<Vec<Selector>> {
    let rule = role.get("aggregationRule").filter(|rule| !rule.is_null())?;
    let rule: AggregationRule = coracle_api::views::read(rule).ok()?;
    Some(rule.cluster_role_selectors)
}

fn grants(binding: &Object) -> Vec<(Box<str>, Bound)> {
    let view: BindingView = binding.view().unwrap_or_default();
    let namespace = binding.meta.namespace.as_str();
    let cluster_role = view.role_ref.kind == "ClusterRole";
    if !cluster_role && (view.role_ref.kind != "Role" || namespace.is_empty()) {
        return Vec::new();
    }
    let subjects = view.subjects.iter().filter_map(|subject| match subject.kind.as_str() {
        "User" => Some(format!("u:{}", subject.name)),
        "Group" => Some(format!("g:{}", subject.name)),
        "ServiceAccount" => {
            let at = if subject.namespace.is_empty() { namespace } else { &subject.namespace };
            (!at.is_empty()).then(|| format!("u:system:serviceaccount:{at}:{}", subject.name))
        }
        _ => None,
    });
    subjects
        .map(|subject| {
            let bound = Bound {
                namespace: namespace.into(),
                binding: binding.meta.name.as_str().into(),
                role: view.role_ref.name.to_string().into(),
                cluster_role,
            };
            (subject.into(), bound)
        })
        .collect()
}
