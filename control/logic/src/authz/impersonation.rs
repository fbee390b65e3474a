//! Impersonation: a caller who may, acts as someone else (`Impersonate-*` headers).

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::Status;

use super::{Asked, Authorizer, forbidden};
use crate::{
    authn::{
        ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account_groups, service_account_of,
    },
    cache::Cache,
    call::{Authenticated, Call, User, query::unescape},
    limits,
};

const GROUP: &str = "authentication.k8s.io";

impl Call<Authenticated> {
    /// The call as the one that it is to be made as. 403 where the caller may not be them.
    pub(super) fn impersonated(
        mut self,
        authorizer: &Authorizer,
        cache: &Cache,
    ) -> Result<Self, Status> {
        if !self.http.headers.iter().any(|(key, _)| key.starts_with("impersonate-")) {
            return Ok(self);
        }
        let wanted = read(&self.http.headers)?;
        let user = &self.stage.user;
        for asked in needs(&wanted).iter().map(Need::asked) {
            if !authorizer.allows(user, &asked, cache) {
                return Err(forbidden(user, &asked));
            }
        }
        self.stage.user = Arc::new(completed(wanted));
        Ok(self)
    }
}

fn read(headers: &[(String, String)]) -> Result<User, Status> {
    let mut user = User::default();
    for (key, value) in headers {
        let Some(what) = key.strip_prefix("impersonate-") else { continue };
        match what {
            "user" => user.name.clone_from(value),
            "group" => user.groups.push(value.clone()),
            "uid" => user.uid.clone_from(value),
            _ => {
                let Some(key) = what.strip_prefix("extra-") else { continue };
                let key = unescape(key, false).ok_or_else(|| {
                    Status::bad_request(format!("header {key:?} has a bad escape"))
                })?;
                match user.extra.iter_mut().find(|(have, _)| *have == key) {
                    Some((_, values)) => values.push(value.clone()),
                    None => user.extra.push((key, Vec::from([value.clone()]))),
                }
            }
        }
    }
    let parts =
        user.groups.len() + user.extra.iter().map(|(_, values)| values.len()).sum::<usize>();
    if parts > limits::IMPERSONATED_PARTS_MAX {
        return Err(Status::bad_request(format!(
            "{parts} groups and extras are impersonated, at most {} can be",
            limits::IMPERSONATED_PARTS_MAX
        )));
    }
    if user.name.is_empty() {
        return Err(Status::bad_request(
            "groups, uid or extras are impersonated without a user: set Impersonate-User too",
        ));
    }
    Ok(user)
}

/// One thing that the caller must be allowed to impersonate.
struct Need<'a> {
    group: &'static str,
    resource: &'static str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

impl Need<'_> {
    fn asked(&self) -> Asked<'_> {
        Asked {
            verb: "impersonate",
            group: self.group,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            ..Asked::default()
        }
    }
}

fn needs(user: &User) -> Vec<Need<'_>> {
    let need =
        |group, resource, name| Need { group, resource, subresource: "", namespace: "", name };
    let mut needs = Vec::new();
    match service_account_of(&user.name) {
        Some((namespace, name)) => {
            needs.push(Need { namespace, ..need("", "serviceaccounts", name) });
        }
        None => needs.push(need("", "users", &user.name)),
    }
    needs.extend(user.groups.iter().map(|group| need("", "groups", group)));
    for (key, values) in &user.extra {
        needs.extend(
            values
                .iter()
                .map(|value| Need { subresource: key, ..need(GROUP, "userextras", value) }),
        );
    }
    if !user.uid.is_empty() {
        needs.push(need(GROUP, "uids", &user.uid));
    }
    needs
}

fn completed(mut user: User) -> User {
    if user.groups.is_empty()
        && let Some((namespace, _)) = service_account_of(&user.name)
    {
        user.groups = service_account_groups(namespace);
    }
    let has = |group: &str| user.groups.iter().any(|have| have == group);
    if user.name == ANONYMOUS {
        if !has(UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.to_string());
        }
    } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_string());
    }
    user
}
