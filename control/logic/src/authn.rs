//! Authentication: who is calling. A verified client certificate or a bearer token; everyone else gets 401, but for the
//! few paths that strangers may see.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use coracle_api::Status;
use coracle_keys::Keys;

use crate::{
    Millis,
    cache::Cache,
    call::{Authenticated, Call, Received, Target, User},
};

/// The user that a stranger is, where strangers may be.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of everyone with an identity.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everyone without.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

impl Call<Received> {
    /// Finds out who calls, or 401.
    pub fn authenticate(
        self,
        _cache: &Cache,
        _keys: &dyn Keys,
        _now: Millis,
    ) -> Result<Call<Authenticated>, Status> {
        let user = if let Some(peer) = self.http.peer.as_ref().filter(|p| !p.common_name.is_empty())
        {
            let mut groups = peer.organizations.clone();
            groups.push(AUTHENTICATED.into());
            User { name: peer.common_name.clone(), groups, ..User::default() }
        } else if is_open(&self.target) && self.http.header("authorization").is_none() {
            User {
                name: ANONYMOUS.into(),
                groups: [String::from(UNAUTHENTICATED)].into(),
                ..User::default()
            }
        } else {
            return Err(unauthorized());
        };
        let Self { http, verb, target, authz_name, options, .. } = self;
        let stage = Authenticated { user: Arc::new(user) };
        Ok(Call { http, verb, target, authz_name, options, stage })
    }
}

/// Paths that need no identity.
fn is_open(target: &Target) -> bool {
    let Target::Path(path) = target else { return false };
    path == "/version"
        || ["/healthz", "/livez", "/readyz"].iter().any(|open| {
            path.strip_prefix(open).is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
}

/// 401 as Kubernetes words it.
pub fn unauthorized() -> Status {
    Status::new(401, "Unauthorized", "Unauthorized")
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
