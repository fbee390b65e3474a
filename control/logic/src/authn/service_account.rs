//! Service account tokens: JWTs that we signed, good while what they are bound to is there.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{Object, Resource, time};
use coracle_keys::Keys;
use serde::{Deserialize, Serialize};

use super::{ISSUER, Identity, service_account_groups};
use crate::{Millis, cache::Cache, call::User, limits};

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// Audiences. A single one may stand without a list.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Not good from this second on.
    pub exp: i64,
    /// Made in this second.
    pub iat: i64,
    /// Issuer.
    pub iss: String,
    /// Its own number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// Not good before this second.
    pub nbf: i64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
}

/// The `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bound {
    /// Of the service account (and pod, and secret).
    pub namespace: String,
    /// The node that the pod is on, or that alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// A pod whose life the token shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// A Secret likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The service account.
    pub serviceaccount: Named,
}

/// One life of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// Name.
    pub name: String,
    /// Which life of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(from)? {
        Audience::One(one) => Vec::from([one]),
        Audience::Many(many) => many,
    })
}

/// Whose token it is, if signature, issuer, audience, times, and everything that it is bound to hold.
pub(super) fn identify(
    token: &str,
    audiences: &[String],
    cache: &Cache,
    keys: &dyn Keys,
    now: Millis,
) -> Option<Identity> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return None;
    }
    let claims = keys.verify_jwt(token).ok()?;
    let claims: Claims = serde_json::from_str(&claims).ok()?;
    let now_s = i64::try_from(now.0 / 1000).ok()?;
    let Claims { bound, .. } = &claims;
    if claims.iss != ISSUER || claims.exp <= now_s || claims.nbf > now_s {
        return None;
    }
    let asked_for = |audience: &&String| {
        if audiences.is_empty() { *audience == ISSUER } else { audiences.contains(audience) }
    };
    let audiences: Vec<String> = claims.aud.iter().filter(asked_for).cloned().collect();
    let account = &bound.serviceaccount;
    if audiences.is_empty() || claims.sub != user_name(&bound.namespace, &account.name) {
        return None;
    }
    alive(cache, now, Resource::SERVICE_ACCOUNTS, &bound.namespace, account)?;
    let mut extra = Vec::new();
    let mut tell = |key: &str, value: &str| {
        extra.push((format!("authentication.kubernetes.io/{key}"), Vec::from([value.into()])));
    };
    if !claims.jti.is_empty() {
        tell("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(secret) = &bound.secret {
        alive(cache, now, Resource::SECRETS, &bound.namespace, secret)?;
    }
    if let Some(node) = &bound.node {
        // Beside a pod the node is a fact about it, by itself it is what the token lives with.
        if bound.pod.is_none() {
            alive(cache, now, Resource::NODES, "", node)?;
        }
        tell("node-name", &node.name);
        if !node.uid.is_empty() {
            tell("node-uid", &node.uid);
        }
    }
    if let Some(pod) = &bound.pod {
        alive(cache, now, Resource::PODS, &bound.namespace, pod)?;
        tell("pod-name", &pod.name);
        tell("pod-uid", &pod.uid);
    }
    extra.sort();
    let user = User {
        name: claims.sub.clone(),
        uid: account.uid.clone(),
        groups: service_account_groups(&bound.namespace),
        extra,
    };
    Some(Identity { user, audiences })
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The same life of that name, not deleted longer ago than [`limits::TOKEN_OF_DELETED_MS_MAX`].
fn alive<'a>(
    cache: &'a Cache,
    now: Millis,
    resource: Resource,
    namespace: &str,
    named: &Named,
) -> Option<&'a Object> {
    let object = cache.get(resource, namespace, &named.name)?;
    let since = object.meta.deletion_timestamp.as_deref();
    let gone = match since {
        None => false,
        // A time that cannot be read is long ago.
        Some(since) => time::parse_ms(since)
            .is_none_or(|since| since.saturating_add(limits::TOKEN_OF_DELETED_MS_MAX) < now.0),
    };
    (object.meta.uid == named.uid && !gone).then_some(object)
}
