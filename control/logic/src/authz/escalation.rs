//! No one gives away rights that they do not have: writing roles and bindings.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use coracle_api::{Resource, Status, views::read};
use serde_json::Value;

use super::{
    Asked, Authorizer, MASTERS,
    rbac::{BindingView, selectors_of},
    rules::{PolicyRule, uncovered},
};
use crate::{
    admission::{Attributes, Scene},
    call::{User, Verb},
    limits,
};

/// Refuses a role with rules, or a binding to a role with rules, that the caller does not have (403), unless the caller
/// may `escalate` or `bind` it. Everything else passes.
pub(crate) fn check(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let writes = matches!(attributes.verb, Verb::Create | Verb::Update | Verb::Patch);
    if !writes || attributes.user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    match attributes.resource {
        Resource::ROLES | Resource::CLUSTER_ROLES => check_role(attributes, old, new, scene),
        Resource::ROLE_BINDINGS | Resource::CLUSTER_ROLE_BINDINGS => {
            check_binding(attributes, old, new, scene)
        }
        _ => Ok(()),
    }
}

fn check_role(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &Scene<'_>,
) -> Result<(), Status> {
    let same = |key| old.is_some_and(|old| old.get(key) == new.get(key));
    if same("rules") && same("aggregationRule") {
        return Ok(());
    }
    let asked = Asked {
        verb: "escalate",
        namespace: attributes.namespace,
        name: attributes.name,
        ..about(attributes.resource)
    };
    if scene.authorizer.allows(attributes.user, &asked, scene.cache) {
        return Ok(());
    }
    let mut rules = rules_in(new)?;
    // What it will gather is not known yet, so it takes all rights to make one.
    if selectors_of(new).is_some() {
        let all = || Vec::from([String::from("*")]);
        let everything = PolicyRule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        };
        let paths = PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() };
        rules.extend([everything, paths]);
    }
    confirm(attributes, scene.authorizer, &rules)
}

fn check_binding(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &Scene<'_>,
) -> Result<(), Status> {
    let same = |key| old.is_some_and(|old| old.get(key) == new.get(key));
    if same("roleRef") && same("subjects") {
        return Ok(());
    }
    let role = read::<BindingView>(new).unwrap_or_default().role_ref;
    let resource =
        if role.kind == "ClusterRole" { Resource::CLUSTER_ROLES } else { Resource::ROLES };
    let asked = Asked {
        verb: "bind",
        namespace: attributes.namespace,
        name: &role.name,
        ..about(resource)
    };
    if scene.authorizer.allows(attributes.user, &asked, scene.cache) {
        return Ok(());
    }
    let at = if resource == Resource::ROLES { attributes.namespace } else { "" };
    let rules = scene.authorizer.rbac.role(at, &role.name).ok_or_else(|| {
        let def = resource.def();
        Status::not_found(def.group, def.plural, &role.name)
    })?;
    confirm(attributes, scene.authorizer, &rules)
}

fn about(resource: Resource) -> Asked<'static> {
    let def = resource.def();
    Asked { group: def.group, resource: def.plural, ..Asked::default() }
}

fn rules_in(role: &Value) -> Result<Vec<PolicyRule>, Status> {
    match role.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => read(rules).map_err(|error| {
            Status::bad_request(format!("the role's rules cannot be read: {error}"))
        }),
    }
}

fn confirm(
    attributes: &Attributes<'_>,
    authorizer: &Authorizer,
    wanted: &[PolicyRule],
) -> Result<(), Status> {
    let owned = authorizer.rbac.list(attributes.user, attributes.namespace);
    let missing = uncovered(&owned, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let def = attributes.resource.def();
    let why = format!(
        "user {} is attempting to grant RBAC permissions not currently held:\n{}",
        described(attributes.user),
        lines(&missing)
    );
    Err(Status::forbidden(def.group, def.plural, attributes.name, &why))
}

fn described(user: &User) -> String {
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    format!("{:?} (groups=[{}])", user.name, groups.join(" "))
}

/// One line for each thing, with all verbs on it.
fn lines(rules: &[PolicyRule]) -> String {
    let mut verbs_on: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules.iter().take(limits::POLICY_PARTS_NAMED_MAX) {
        let lists = [
            ("APIGroups", &rule.api_groups),
            ("Resources", &rule.resources),
            ("ResourceNames", &rule.resource_names),
            ("NonResourceURLs", &rule.non_resource_urls),
        ];
        let parts: Vec<String> = lists
            .iter()
            .filter(|(_, items)| !items.is_empty())
            .map(|(name, items)| format!("{name}:{}", quoted(items)))
            .collect();
        let verbs = verbs_on.entry(parts.join(", ")).or_default();
        verbs.extend(
            rule.verbs.iter().filter(|verb| !verbs.contains(verb)).cloned().collect::<Vec<_>>(),
        );
    }
    let lines: Vec<String> = verbs_on
        .iter()
        .map(|(what, verbs)| format!("{{{what}, Verbs:{}}}", quoted(verbs)))
        .collect();
    match rules.len().saturating_sub(limits::POLICY_PARTS_NAMED_MAX) {
        0 => lines.join("\n"),
        more => format!("{}\nand {more} more", lines.join("\n")),
    }
}

fn quoted(items: &[String]) -> String {
    let named = items.iter().take(limits::POLICY_PARTS_NAMED_MAX);
    let named: Vec<String> = named.map(|item| format!("{item:?}")).collect();
    format!("[{}]", named.join(" "))
}
