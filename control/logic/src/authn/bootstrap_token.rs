//! Bootstrap tokens: `id.secret`, kept as Secrets in kube-system, with which machines join.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use base64::{Engine, engine::general_purpose::STANDARD};
use coracle_api::{Resource, time};
use coracle_keys::{Keys, join};
use serde::Deserialize;

use super::{Identity, same_secret};
use crate::{Millis, cache::Cache, call::User};

/// Type of the Secrets that hold them.
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Where they are.
const NAMESPACE: &str = "kube-system";
/// Group of all who come with one.
const GROUP: &str = "system:bootstrappers";

#[derive(Deserialize, Default)]
#[serde(default)]
struct SecretView {
    #[serde(rename = "type")]
    kind: String,
    data: Option<BTreeMap<String, String>>,
}

/// Whose token it is: `system:bootstrap:ID`, where the Secret is there, has not expired, and allows authentication.
pub(super) fn identify(
    token: &str,
    cache: &Cache,
    keys: &dyn Keys,
    now: Millis,
) -> Option<Identity> {
    let (id, secret) = join::parse_bootstrap(token).ok()?;
    let object = cache.get(Resource::SECRETS, NAMESPACE, &format!("bootstrap-token-{id}"))?;
    if object.meta.deletion_timestamp.is_some() {
        return None;
    }
    let view: SecretView = object.view().ok()?;
    let data = view.data.filter(|_| view.kind == SECRET_TYPE)?;
    let field = |name: &str| data.get(name).and_then(|text| STANDARD.decode(text).ok());
    let text = |name: &str| field(name).and_then(|bytes| String::from_utf8(bytes).ok());
    let wanted = field("token-secret")?;
    // Compared as MACs: their time tells nothing of the secret, not even its length.
    if wanted.is_empty() || !same_secret(&keys.mac(&wanted), &keys.mac(secret.as_bytes())) {
        return None;
    }
    if text("token-id")? != id || text("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    if let Some(expiration) = field("expiration") {
        let expiration = String::from_utf8(expiration).ok().filter(|text| !text.is_empty());
        // What cannot be read as a time has expired.
        if time::parse_ms(&expiration?)? <= now.0 {
            return None;
        }
    }
    let mut groups = Vec::from([String::from(GROUP)]);
    let more = text("auth-extra-groups").unwrap_or_default();
    // Others would let who may write such a Secret give any group away.
    let more = more.split(',').map(str::trim).filter(|group| is_extra_group(group));
    groups.extend(more.map(Into::into));
    let user = User { name: format!("system:bootstrap:{id}"), groups, ..User::default() };
    Some(Identity { user, audiences: Vec::new() })
}

/// `system:bootstrappers:` and then letters, digits, `:` and `-`, ending in a letter or digit.
fn is_extra_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}
