//! Policy rules: reading them, keeping them small, matching them, and whether some cover others.

use alloc::{boxed::Box, string::String, vec::Vec};

use serde::{Deserialize, Deserializer, Serialize};

use super::Asked;
use crate::limits;

/// One rule of a Role or ClusterRole, as stored (rbac.authorization.k8s.io/v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Verbs; `*` is all.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// API groups; empty text is the core group, `*` is all.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Only these names; none: all.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths outside the API; a `*` at the end matches the rest.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

/// A list, or null for none.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

// No verb, group, resource, name or path that a request can bring holds one of these: rules that do match nothing.
const ITEM: char = '\u{1f}';
const LIST: char = '\u{1e}';
const RULE: char = '\u{1d}';

/// All rules of one role in one allocation: a cluster has some hundred rules, and most are never asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(Box<str>);

impl Rules {
    /// Packs them.
    pub(super) fn pack(rules: &[PolicyRule]) -> Self {
        let mut text = String::new();
        for rule in rules {
            text.push(RULE);
            for list in [
                &rule.verbs,
                &rule.api_groups,
                &rule.resources,
                &rule.resource_names,
                &rule.non_resource_urls,
            ] {
                text.push(LIST);
                for item in list {
                    text.push(ITEM);
                    // A separator in an item would forge others.
                    if item.contains([ITEM, LIST, RULE]) {
                        text.push('\u{0}');
                    } else {
                        text.push_str(item);
                    }
                }
            }
        }
        Self(text.into())
    }

    /// The rules.
    pub(super) fn iter(&self) -> impl Iterator<Item = Packed<'_>> {
        self.0.split(RULE).skip(1).map(|rule| {
            let mut lists = rule.split(LIST).skip(1);
            let mut next = || lists.next().unwrap_or_default();
            Packed { verbs: next(), groups: next(), resources: next(), names: next(), urls: next() }
        })
    }
}

/// One rule inside [`Rules`].
#[derive(Copy, Clone, Debug)]
pub(super) struct Packed<'a> {
    verbs: &'a str,
    groups: &'a str,
    resources: &'a str,
    names: &'a str,
    urls: &'a str,
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(ITEM).skip(1)
}

fn has(list: &str, wanted: &str) -> bool {
    items(list).any(|item| item == "*" || item == wanted)
}

impl Packed<'_> {
    /// Whether the rule lets this through.
    pub(super) fn allows(&self, asked: &Asked<'_>) -> bool {
        if !has(self.verbs, asked.verb) {
            return false;
        }
        if asked.resource.is_empty() {
            return items(self.urls).any(|url| path_matches(url, asked.path));
        }
        has(self.groups, asked.group)
            && items(self.resources)
                .any(|rule| resource_matches(rule, asked.resource, asked.subresource))
            && (self.names.is_empty() || items(self.names).any(|name| name == asked.name))
    }

    /// As stored.
    pub(super) fn unpack(&self) -> PolicyRule {
        let list = |text| items(text).map(Into::into).collect();
        PolicyRule {
            verbs: list(self.verbs),
            api_groups: list(self.groups),
            resources: list(self.resources),
            resource_names: list(self.names),
            non_resource_urls: list(self.urls),
        }
    }
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, below)) => {
            !subresource.is_empty() && below == subresource && (of == "*" || of == resource)
        }
    }
}

fn path_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(front) => path.starts_with(front),
        None => rule == path,
    }
}

/// What of `wanted` no rule of `owned` gives: empty when all is covered. Each answer is one verb on one thing, or a whole
/// rule where taking it apart would go past [`limits::POLICY_PARTS_MAX`]: such a rule must be covered by a single one.
pub(crate) fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut parts_left = limits::POLICY_PARTS_MAX;
    let mut missing = Vec::new();
    let covered = |part: &PolicyRule| owned.iter().any(|rule| covers(rule, part));
    for rule in wanted.iter().filter(|rule| !covered(rule)) {
        let parts = parts_of(rule);
        if parts > parts_left {
            missing.push(rule.clone());
            continue;
        }
        parts_left -= parts;
        missing.extend(singles(rule).into_iter().filter(|part| !covered(part)));
    }
    missing
}

/// How many rules [`singles`] would make of it.
fn parts_of(rule: &PolicyRule) -> usize {
    let things = rule
        .api_groups
        .len()
        .saturating_mul(rule.resources.len())
        .saturating_mul(rule.resource_names.len().max(1));
    things.saturating_add(rule.non_resource_urls.len()).saturating_mul(rule.verbs.len())
}

/// Takes a rule apart into rules of one verb, one group, one resource, one name.
fn singles(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Vec::from([text.clone()]);
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let part = PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    parts.push(part);
                    continue;
                }
                parts.extend(
                    rule.resource_names
                        .iter()
                        .map(|name| PolicyRule { resource_names: one(name), ..part.clone() }),
                );
            }
        }
        parts.extend(rule.non_resource_urls.iter().map(|url| PolicyRule {
            verbs: one(verb),
            non_resource_urls: one(url),
            ..PolicyRule::default()
        }));
    }
    parts
}

fn covers(rule: &PolicyRule, single: &PolicyRule) -> bool {
    let all = |have: &[String], want: &[String]| {
        have.iter().any(|item| item == "*") || want.iter().all(|item| have.contains(item))
    };
    let resources = single.resources.iter().all(|wanted| {
        rule.resources.iter().any(|have| {
            have == "*"
                || have == wanted
                || wanted.split_once('/').is_some_and(|(_, below)| {
                    have.strip_prefix("*/").is_some_and(|sub| sub == below)
                })
        })
    });
    // No name asked for means all names: only a rule without names gives that.
    let names = rule.resource_names.is_empty()
        || (!single.resource_names.is_empty()
            && single.resource_names.iter().all(|name| rule.resource_names.contains(name)));
    let urls = single.non_resource_urls.iter().all(|wanted| {
        rule.non_resource_urls.iter().any(|have| {
            have == wanted || have.strip_suffix('*').is_some_and(|front| wanted.starts_with(front))
        })
    });
    all(&rule.verbs, &single.verbs)
        && all(&rule.api_groups, &single.api_groups)
        && resources
        && names
        && urls
}
