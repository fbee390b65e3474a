//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or out of reach.

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{Attributes, Scene};
use crate::{
    call::Verb,
    kinds::access::{child, items, object, text},
};

/// Seconds that a pod stays (Kubernetes' default).
const SECONDS: u32 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Adds the two tolerations where the pod says nothing about these taints.
pub(super) fn mutate(
    attributes: &Attributes<'_>,
    _old: Option<&Value>,
    pod: &mut Value,
    _scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let writes = matches!(attributes.verb, Verb::Create | Verb::Update | Verb::Patch);
    if attributes.resource != Resource::PODS || !attributes.subresource.is_empty() || !writes {
        return Ok(());
    }
    for taint in TAINTS {
        let tolerated = items(pod, &["spec", "tolerations"]).iter().any(|one| {
            let (key, effect) = (text(one, &["key"]), text(one, &["effect"]));
            (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
        });
        if tolerated {
            continue;
        }
        let added = json!({
            "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
        });
        let list = object(child(pod, "spec")).entry("tolerations").or_insert(Value::Null);
        match list.as_array_mut() {
            Some(list) => list.push(added),
            None => *list = json!([added]),
        }
    }
    Ok(())
}
