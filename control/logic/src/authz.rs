//! Authorization: may this user do this. RBAC from stored objects, the Node authorizer, and system:masters.

use alloc::{format, string::String};

use coracle_api::{Status, status::qualified};

use crate::{
    cache::{Cache, Change},
    call::{Authenticated, Authorized, Call, Target, User, routes},
};

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
}

/// The rules in force. Built from `Change`s; holds only what deciding needs.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {}

impl Authorizer {
    /// Takes note of a change (at start: of every object once).
    pub fn changed(&mut self, _change: &Change) {}

    /// Whether the user may.
    pub fn allows(&self, user: &User, _asked: &Asked<'_>, _cache: &Cache) -> bool {
        user.groups.iter().any(|group| group == MASTERS)
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
        let user = &self.stage.user;
        let method = self.http.method.to_lowercase();
        let asked = match &self.target {
            Target::Path(path) => Asked { verb: &method, path, ..Asked::default() },
            Target::Resource(target) => Asked {
                verb: self.verb.as_str(),
                group: &target.group,
                resource: &target.plural,
                subresource: &target.subresource,
                namespace: &target.namespace,
                name: &self.authz_name,
                path: "",
            },
        };
        if !authorizer.allows(user, &asked, cache) {
            return Err(forbidden(user, &asked));
        }
        if let Target::Resource(target) = &self.target {
            routes::check(self.verb, target)?;
        }
        let Self { http, verb, target, authz_name, options, stage } = self;
        let options = options?;
        let stage = Authorized { user: stage.user, options: options.clone() };
        Ok(Call { http, verb, target, authz_name, options: Ok(options), stage })
    }
}

/// 403 as Kubernetes words it.
pub fn forbidden(user: &User, asked: &Asked<'_>) -> Status {
    let Asked { verb, group, resource, subresource, namespace, name, path } = *asked;
    let who = &user.name;
    if resource.is_empty() {
        let message = format!("forbidden: User {who:?} cannot {verb} path {path:?}");
        return Status::new(403, "Forbidden", message);
    }
    let what = qualified(group, resource);
    let one = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    let place = if namespace.is_empty() {
        "at the cluster scope".into()
    } else {
        format!("in the namespace {namespace:?}")
    };
    Status::new(
        403,
        "Forbidden",
        format!(
            "{what}{one} is forbidden: User {who:?} cannot {verb} resource \"{resource}{below}\" in API group {group:?} {place}"
        ),
    )
}
