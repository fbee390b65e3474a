//! NodeRestriction: what the Node authorizer lets a node write, it may write of itself only.

mod labels;

use alloc::{format, string::String, vec::Vec};

use coracle_api::{Resource, Status};
use serde_json::Value;

use super::{Attributes, Scene, forbidden};
use crate::{
    authn::ISSUER,
    authz::node::{MIRROR, NODE_LEASES, node_of},
    call::Verb,
    kinds::access::{at, items, same, text},
};

/// Refuses (403) whatever reaches beyond the node; users that are no nodes pass.
pub(super) fn validate(
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &mut Scene<'_>,
) -> Result<(), Status> {
    let Some(node) = node_of(attributes.user) else { return Ok(()) };
    let checked = match attributes.resource {
        Resource::PODS => pod(node, attributes, old, new, scene),
        Resource::NODES => own_node(node, attributes, old, new),
        Resource::LEASES => lease(node, attributes, new),
        Resource::SERVICE_ACCOUNTS if attributes.subresource == "token" => {
            token_request(node, attributes, new, scene)
        }
        _ => Ok(()),
    };
    checked.map_err(|why| {
        let subject = if new.is_null() { old.unwrap_or(new) } else { new };
        forbidden(attributes, subject, &why)
    })
}

fn node_name(pod: &Value) -> &str {
    text(pod, &["spec", "nodeName"])
}

fn pod(
    node: &str,
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
    scene: &Scene<'_>,
) -> Result<(), String> {
    let Attributes { verb, subresource, namespace, name, .. } = *attributes;
    let was_here = old.is_some_and(|pod| node_name(pod) == node);
    match (verb, subresource) {
        (Verb::Create, "") => mirror_pod(node, new),
        (Verb::Delete, "") if was_here => Ok(()),
        (Verb::Delete, "") => {
            Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        (Verb::Update | Verb::Patch, "status") => {
            if !was_here {
                return Err(format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                ));
            }
            let labels = &["metadata", "labels"];
            if same(old.and_then(|old| at(old, labels)), at(new, labels)) {
                Ok(())
            } else {
                Err(format!("node {node:?} cannot update labels through pod status"))
            }
        }
        (Verb::Create, "eviction") => {
            let pod = scene.cache.get(Resource::PODS, namespace, name);
            if pod.is_some_and(|pod| node_name(&pod.value()) == node) {
                Ok(())
            } else {
                Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
        }
        (_, "" | "status" | "eviction") => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            verb.as_str()
        )),
        _ => Err(format!(
            "unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"
        )),
    }
}

fn mirror_pod(node: &str, pod: &Value) -> Result<(), String> {
    if at(pod, &["metadata", "annotations", MIRROR]).is_none() {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if node_name(pod) != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = items(pod, &["metadata", "ownerReferences"]);
    let own = owners
        .iter()
        .all(|owner| text(owner, &["kind"]) == "Node" && text(owner, &["name"]) == node);
    if owners.len() > 1 || !own {
        return Err(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Err(format!("node {node:?} can not create pods that reference a service account"));
    }
    let spec = at(pod, &["spec"]).map(|spec| format!("{spec}")).unwrap_or_default();
    for (key, what) in [
        ("secretKeyRef", "secrets"),
        ("secretRef", "secrets"),
        ("secretName", "secrets"),
        ("imagePullSecrets", "secrets"),
        ("configMap", "configmaps"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("serviceAccountToken", "a service account"),
        ("\"secret\"", "secrets"),
    ] {
        if spec.contains(key) {
            return Err(format!("node {node:?} can not create pods that reference {what}"));
        }
    }
    Ok(())
}

fn own_node(
    node: &str,
    attributes: &Attributes<'_>,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), String> {
    let name =
        if attributes.name.is_empty() { text(new, &["metadata", "name"]) } else { attributes.name };
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    match attributes.verb {
        Verb::Create => labels::check(None, new).map_err(|labels| {
            format!("node {node:?} is not allowed to set the following labels: {labels}")
        }),
        Verb::Update | Verb::Patch => {
            let metadata =
                |of: Option<&Value>, key| of.and_then(|of| at(of, &["metadata", key])).cloned();
            let owners = (metadata(old, "ownerReferences"), metadata(Some(new), "ownerReferences"));
            if !same(owners.0.as_ref(), owners.1.as_ref()) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let taints = &["spec", "taints"];
            if !same(old.and_then(|old| at(old, taints)), at(new, taints)) {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            labels::check(old, new)
                .map_err(|labels| format!("is not allowed to modify labels: {labels}"))
        }
        Verb::Delete => Err(format!("node {node:?} is not allowed to delete nodes")),
        Verb::Get | Verb::List | Verb::Watch | Verb::DeleteCollection => Ok(()),
    }
}

fn lease(node: &str, attributes: &Attributes<'_>, new: &Value) -> Result<(), String> {
    if attributes.namespace != NODE_LEASES {
        return Err(format!("can only access leases in the {NODE_LEASES:?} system namespace"));
    }
    let name = match attributes.name {
        "" => text(new, &["metadata", "name"]),
        name => name,
    };
    if name == node {
        Ok(())
    } else {
        Err("can only access node lease with the same name as the requesting node".into())
    }
}

fn token_request(
    node: &str,
    attributes: &Attributes<'_>,
    request: &Value,
    scene: &Scene<'_>,
) -> Result<(), String> {
    let bound = at(request, &["spec", "boundObjectRef"]).unwrap_or(&Value::Null);
    let (name, uid) = (text(bound, &["name"]), text(bound, &["uid"]));
    if text(bound, &["apiVersion"]) != "v1" || text(bound, &["kind"]) != "Pod" || name.is_empty() {
        return Err("node requested token not bound to a pod".into());
    }
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".into());
    }
    let pod = scene
        .cache
        .get(Resource::PODS, attributes.namespace, name)
        .ok_or_else(|| format!("pods {name:?} not found"))?;
    if pod.meta.uid != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
             have been deleted and then recreated"
        ));
    }
    let pod = pod.value();
    if node_name(&pod) != node {
        return Err("node requested token bound to a pod scheduled on a different node".into());
    }
    let wanted = items(request, &["spec", "audiences"]).iter().filter_map(Value::as_str);
    let mounted: Vec<&str> = items(&pod, &["spec", "volumes"])
        .iter()
        .flat_map(|volume| items(volume, &["projected", "sources"]))
        .filter_map(|source| at(source, &["serviceAccountToken"]))
        .map(|token| text(token, &["audience"]))
        .collect();
    for audience in wanted {
        if audience != ISSUER && !audience.is_empty() && !mounted.contains(&audience) {
            return Err(format!(
                "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this \
                 audience",
                attributes.user.name
            ));
        }
    }
    Ok(())
}
