//! Authentication: who is calling. A verified client certificate or a bearer token; everyone else gets 401, but for the
//! few paths that strangers may see.

mod bootstrap_token;
pub mod service_account;

use alloc::{format, string::String, sync::Arc, vec::Vec};

use coracle_api::Status;
use coracle_keys::Keys;

use crate::{
    Millis,
    cache::Cache,
    call::{Authenticated, Call, HttpRequest, Received, Target, User},
};

/// The user that a stranger is, where strangers may be.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of everyone with an identity.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everyone without.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Who issues service account tokens, and whom they are for where nothing else is said.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A user, and what the token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub user: User,
    /// Those of the asked-for audiences that the token is for; empty for kinds of tokens that name none.
    pub audiences: Vec<String>,
}

impl Call<Received> {
    /// Finds out who calls, or 401. The certificate goes before the token, as in Kubernetes.
    pub fn authenticate(
        self,
        cache: &Cache,
        keys: &dyn Keys,
        now: Millis,
    ) -> Result<Call<Authenticated>, Status> {
        let user = identify(&self, cache, keys, now).ok_or_else(Status::unauthorized)?;
        let Self { http, verb, target, authz_name, options, .. } = self;
        let stage = Authenticated { user: Arc::new(user) };
        Ok(Call { http, verb, target, authz_name, options, stage })
    }
}

fn identify(call: &Call<Received>, cache: &Cache, keys: &dyn Keys, now: Millis) -> Option<User> {
    match by_head(&call.http, cache, keys, now) {
        Shown::Nothing if is_open(&call.target) => Some(User {
            name: ANONYMOUS.into(),
            groups: [String::from(UNAUTHENTICATED)].into(),
            ..User::default()
        }),
        Shown::Nothing | Shown::Wrong => None,
        Shown::Good(user) => Some(user),
    }
}

/// Whether the head of a request alone shows who sends it.
pub(crate) fn is_known(head: &HttpRequest, cache: &Cache, keys: &dyn Keys, now: Millis) -> bool {
    matches!(by_head(head, cache, keys, now), Shown::Good(_))
}

/// What a request shows of its sender.
enum Shown {
    Nothing,
    Wrong,
    Good(User),
}

fn by_head(head: &HttpRequest, cache: &Cache, keys: &dyn Keys, now: Millis) -> Shown {
    if let Some(peer) = head.peer.as_ref().filter(|peer| !peer.common_name.is_empty()) {
        let (name, groups) = (peer.common_name.clone(), peer.organizations.clone());
        return Shown::Good(completed(User { name, groups, ..User::default() }));
    }
    let Some(header) = head.header("authorization") else { return Shown::Nothing };
    let bearer = header
        .trim()
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match bearer.and_then(|token| token_identity(token, &[], cache, keys, now)) {
        Some(identity) => Shown::Good(completed(identity.user)),
        None => Shown::Wrong,
    }
}

/// Whose token this is; `audiences` are those that the asker stands for (none: the API's own). `None`: nobody's that
/// is known here and now.
pub fn token_identity(
    token: &str,
    audiences: &[String],
    cache: &Cache,
    keys: &dyn Keys,
    now: Millis,
) -> Option<Identity> {
    match token.split('.').count() {
        2 => bootstrap_token::identify(token, cache, keys, now),
        3 => service_account::identify(token, audiences, cache, keys, now),
        _ => None,
    }
}

/// The user with the group that everyone with an identity is in.
pub fn completed(mut user: User) -> User {
    // Nobody is made a stranger, or known, by what a certificate says of itself.
    user.groups.retain(|group| group != UNAUTHENTICATED && group != AUTHENTICATED);
    user.groups.push(AUTHENTICATED.into());
    user
}

/// Paths that need no identity.
fn is_open(target: &Target) -> bool {
    let Target::Path(path) = target else { return false };
    path == "/version"
        || ["/healthz", "/livez", "/readyz"].iter().any(|open| {
            path.strip_prefix(open).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
}

/// Namespace and name of the service account that this user is, if it is one.
pub fn service_account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of every service account of a namespace.
pub fn service_account_groups(namespace: &str) -> Vec<String> {
    Vec::from(["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")])
}

/// Compares without telling by its time where they differ.
pub(crate) fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
