//! Authorization: may this user do this. RBAC from stored objects, the Node authorizer, and system:masters.

pub(crate) mod escalation;
mod impersonation;
pub mod node;
mod rbac;
pub(crate) mod rules;

use alloc::{string::String, vec::Vec};

use coracle_api::{Resource, Status, status::Denied};

use crate::{
    cache::{Cache, Change},
    call::{Authenticated, Authorized, Call, Target, User, routes},
};
pub use rules::PolicyRule;

/// Who may do anything.
pub const MASTERS: &str = "system:masters";

/// What is asked for, as rules see it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// `get`, `list`, …; for a path the HTTP method in lower case.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural; empty: `path` is asked for.
    pub resource: &'a str,
    /// Empty: the resource itself.
    pub subresource: &'a str,
    /// Empty: cluster-scoped, or all namespaces.
    pub namespace: &'a str,
    /// Empty: all names.
    pub name: &'a str,
    /// A path outside the API's resources.
    pub path: &'a str,
    /// Of a list or watch, as sent.
    pub field_selector: &'a str,
}

/// The rules in force. Built from `Change`s; holds only what deciding needs.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    rbac: rbac::Index,
}

impl Authorizer {
    /// Takes note of a change (at start: of every object once). Changes of other resources cost nothing.
    pub fn changed(&mut self, change: &Change) {
        self.rbac.changed(change);
    }

    /// Whether the user may: `system:masters` always, nodes by the Node authorizer, everyone by RBAC.
    pub fn allows(&self, user: &User, asked: &Asked<'_>, cache: &Cache) -> bool {
        user.groups.iter().any(|group| group == MASTERS)
            || node::node_of(user).is_some_and(|node| node::allows(node, asked, cache))
            || self.rbac.allows(user, asked)
    }

    /// Which binding allows it, in Kubernetes' words; `None` where none does (what system:masters and nodes may besides
    /// has no reason).
    pub fn reason(&self, user: &User, asked: &Asked<'_>) -> Option<String> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return None;
        }
        self.rbac.reason(user, asked)
    }

    /// The rules that the user has in a namespace, those that hold everywhere among them. What nodes have besides is not
    /// in them (nor does Kubernetes list it).
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let all = || Vec::from([String::from("*")]);
        let mut rules = Vec::new();
        if user.groups.iter().any(|group| group == MASTERS) {
            rules.push(PolicyRule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..PolicyRule::default()
            });
            rules.push(PolicyRule {
                verbs: all(),
                non_resource_urls: all(),
                ..PolicyRule::default()
            });
        }
        for rule in self.rbac.list(user, namespace) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    }
}

impl Call<Authenticated> {
    /// Lets the call through if its user may make it (403 otherwise), and if what it asks for is served (404, 405) with
    /// good options (400, 422).
    pub fn authorize(
        self,
        authorizer: &Authorizer,
        cache: &Cache,
    ) -> Result<Call<Authorized>, Status> {
        let call = self.impersonated(authorizer, cache)?;
        let user = &call.stage.user;
        let method = call.http.method.to_ascii_lowercase();
        let asked = match &call.target {
            Target::Path(path) => Asked { verb: &method, path, ..Asked::default() },
            Target::Resource(target) => Asked {
                verb: call.verb.as_str(),
                group: &target.group,
                resource: &target.plural,
                subresource: &target.subresource,
                // A Namespace lies in itself, so that a Role in it can let its people see it.
                namespace: match target.hub {
                    Some(Resource::NAMESPACES) => &call.authz_name,
                    _ => &target.namespace,
                },
                name: &call.authz_name,
                path: "",
                field_selector: call
                    .options
                    .as_ref()
                    .map_or("", |options| options.field_selector.as_str()),
            },
        };
        if !authorizer.allows(user, &asked, cache) {
            return Err(forbidden(user, &asked));
        }
        if let Target::Resource(target) = &call.target
            && !routes::is_always_empty(call.verb, target)
        {
            routes::check(call.verb, target)?;
        }
        let Self { http, verb, target, authz_name, options, stage } = call;
        let options = options?;
        let stage = Authorized { user: stage.user, options: options.clone() };
        Ok(Call { http, verb, target, authz_name, options: Ok(options), stage })
    }
}

/// 403 as Kubernetes words it.
pub fn forbidden(user: &User, asked: &Asked<'_>) -> Status {
    let Asked { verb, group, resource: plural, subresource, namespace, name, path, .. } = *asked;
    if plural.is_empty() {
        return Status::forbidden_path(&user.name, verb, path);
    }
    Status::forbidden_resource(&Denied {
        user: &user.name,
        verb,
        group,
        plural,
        subresource,
        namespace,
        name,
        reason: "",
    })
}

#[cfg(test)]
mod tests;
