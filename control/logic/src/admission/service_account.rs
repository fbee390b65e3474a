//! ServiceAccount: every pod runs as one, with its token mounted unless it says no.

use alloc::{
    format,
    string::{String, ToString},
};

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{Attributes, Scene, forbidden};
use crate::{
    Rng,
    authz::node::MIRROR,
    call::Verb,
    kinds::access::{at, child, items, object, set, text},
};

/// Where containers find token, CA and namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and seven seconds: long enough that agents renew it, odd enough to be known as ours (Kubernetes' value).
const TOKEN_SECONDS: u32 = 3607;
/// Kubernetes' alphabet for generated names: no vowels, so no words.
const NAME_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Names the account, mounts its token, takes over its imagePullSecrets. 403 where there is no such account.
pub(super) fn mutate(
    attributes: &Attributes<'_>,
    _old: Option<&Value>,
    pod: &mut Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let is_pod = attributes.resource == Resource::PODS && attributes.subresource.is_empty();
    if !is_pod || attributes.verb != Verb::Create {
        return Ok(());
    }
    let named = text(pod, &["spec", "serviceAccountName"]);
    if at(pod, &["metadata", "annotations", MIRROR]).is_some() {
        return if named.is_empty() {
            Ok(())
        } else {
            Err(forbidden(attributes, pod, "a mirror pod may not reference service accounts"))
        };
    }
    let name: String = if named.is_empty() { "default" } else { named }.into();
    let namespace = attributes.namespace;
    let Some(account) = scene.cache.get(Resource::SERVICE_ACCOUNTS, namespace, &name) else {
        let why = format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        );
        return Err(forbidden(attributes, pod, &why));
    };
    let account = account.value();
    let spec = child(pod, "spec");
    // The second is its old name; readers of either find it.
    set(spec, "serviceAccountName", name.as_str());
    set(spec, "serviceAccount", name.as_str());
    let says = |of: &Value| of.get("automountServiceAccountToken").and_then(Value::as_bool);
    if says(spec).or_else(|| says(&account)).unwrap_or(true) {
        mount_token(spec, scene.rng);
    }
    if items(spec, &["imagePullSecrets"]).is_empty()
        && let Some(secrets) = at(&account, &["imagePullSecrets"])
    {
        set(spec, "imagePullSecrets", secrets.clone());
    }
    Ok(())
}

fn mount_token(spec: &mut Value, rng: &mut Rng) {
    let has =
        |name: &str| items(spec, &["volumes"]).iter().any(|volume| text(volume, &["name"]) == name);
    let ready = items(spec, &["volumes"])
        .iter()
        .map(|volume| text(volume, &["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(ToString::to_string);
    let volume = ready.clone().unwrap_or_else(|| {
        let mut name = volume_name(rng);
        while has(&name) {
            name = volume_name(rng);
        }
        name
    });
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let own = items(container, &["volumeMounts"])
                .iter()
                .any(|mount| text(mount, &["mountPath"]) == MOUNT_PATH);
            if own {
                continue;
            }
            push(
                container,
                "volumeMounts",
                json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}),
            );
            mounted = true;
        }
    }
    if mounted && ready.is_none() {
        push(spec, "volumes", token_volume(&volume));
    }
}

fn push(value: &mut Value, key: &str, item: Value) {
    let list = object(value).entry(key).or_insert(Value::Null);
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

fn volume_name(rng: &mut Rng) -> String {
    let mut name = String::from(VOLUME_PREFIX);
    let letters = NAME_LETTERS.len() as u64;
    for _ in 0..5 {
        let pick = usize::try_from(rng.next_u64() % letters).unwrap_or(0);
        name.push(NAME_LETTERS.get(pick).copied().map_or('x', char::from));
    }
    name
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca.crt"}],
                }},
                {"downwardAPI": {"items": [{
                    "path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                }]}},
            ],
        },
    })
}
