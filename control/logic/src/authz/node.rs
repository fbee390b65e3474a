//! The Node authorizer: what a node's agent may do, as `system:node:NAME` in the group `system:nodes`.
//!
//! A node sees itself, the pods bound to it and what these refer to. What it may write of these is for the
//! NodeRestriction plugin to bound.

use coracle_api::Resource;
use serde_json::Value;

use super::Asked;
use crate::{cache::Cache, call::User};

/// Group of all nodes.
pub const NODES: &str = "system:nodes";
/// What a node's user name begins with.
pub const NODE_PREFIX: &str = "system:node:";
/// Where nodes have their leases.
pub const NODE_LEASES: &str = "kube-node-lease";
/// Annotation of pods that mirror a node's own manifest files.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The node that this user is, if it is one.
pub fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(NODE_PREFIX)?;
    (!name.is_empty() && user.groups.iter().any(|group| group == NODES)).then_some(name)
}

/// Whether the Node authorizer lets this through; false leaves it to RBAC.
pub(super) fn allows(node: &str, asked: &Asked<'_>, cache: &Cache) -> bool {
    let Asked { verb, group, resource, subresource: sub, namespace, name, field_selector, .. } =
        *asked;
    let reads = matches!(verb, "get" | "list" | "watch");
    match (group, resource, sub) {
        ("", "nodes", "") => match verb {
            "create" | "update" | "patch" => true,
            _ => reads && name == node,
        },
        ("", "nodes" | "pods", "status") => matches!(verb, "update" | "patch"),
        ("", "pods", "") => match verb {
            "create" | "delete" => true,
            "get" => cache
                .get(Resource::PODS, namespace, name)
                .is_some_and(|pod| node_name(&pod.value()) == node),
            "list" | "watch" => selects_node(field_selector, node),
            _ => false,
        },
        ("", "pods", "eviction") => verb == "create",
        ("", "secrets", "") => reads && refers(cache, node, namespace, Referent::Secret, name),
        ("", "configmaps", "") => {
            reads && refers(cache, node, namespace, Referent::ConfigMap, name)
        }
        ("", "serviceaccounts", "token") => {
            verb == "create" && refers(cache, node, namespace, Referent::ServiceAccount, name)
        }
        ("", "serviceaccounts", "") => {
            verb == "get" && refers(cache, node, namespace, Referent::ServiceAccount, name)
        }
        ("coordination.k8s.io", "leases", "") => {
            namespace == NODE_LEASES
                && match verb {
                    "get" | "update" | "patch" | "delete" => name == node,
                    // The plugin sees the name of what is made.
                    "create" => name.is_empty() || name == node,
                    _ => false,
                }
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            verb == "create" || (reads && asked_for(cache, name, node))
        }
        ("" | "events.k8s.io", "events", "") => matches!(verb, "create" | "update" | "patch"),
        // The agent carries Services' traffic itself, so it reads what a proxy reads.
        ("", "services", "") | ("discovery.k8s.io", "endpointslices", "") => reads,
        // The agent's own port asks the control plane who calls and what they may.
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            verb == "create"
        }
        _ => false,
    }
}

fn selects_node(field_selector: &str, node: &str) -> bool {
    field_selector.split(',').any(|term| {
        term.strip_prefix("spec.nodeName")
            .and_then(|rest| rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')))
            == Some(node)
    })
}

fn asked_for(cache: &Cache, csr: &str, node: &str) -> bool {
    cache.get(Resource::CERTIFICATE_SIGNING_REQUESTS, "", csr).is_some_and(|csr| {
        let user = csr.value();
        let user = user.pointer("/spec/username").and_then(Value::as_str);
        user.and_then(|name| name.strip_prefix(NODE_PREFIX)) == Some(node)
    })
}

/// The kinds of things that pods refer to and nodes may read because of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Referent {
    Secret,
    ConfigMap,
    ServiceAccount,
}

/// Whether a pod that is bound to the node refers to this.
fn refers(cache: &Cache, node: &str, namespace: &str, kind: Referent, name: &str) -> bool {
    if namespace.is_empty() || name.is_empty() {
        return false;
    }
    cache.pods_on(node).filter(|pod| pod.meta.namespace == namespace).any(|pod| {
        let pod = pod.value();
        let mirrored =
            pod.pointer("/metadata/annotations").is_some_and(|all| all.get(MIRROR).is_some());
        !mirrored && pod_refers(&pod, kind, name)
    })
}

fn node_name(pod: &Value) -> &str {
    text(pod, "/spec/nodeName")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], |items| items.as_slice())
}

fn pod_refers(pod: &Value, kind: Referent, name: &str) -> bool {
    let (env_key, env_from, volume, source_name) = match kind {
        Referent::ServiceAccount => return text(pod, "/spec/serviceAccountName") == name,
        Referent::Secret => (
            "/valueFrom/secretKeyRef/name",
            "/secretRef/name",
            "/secret/secretName",
            "/secret/name",
        ),
        Referent::ConfigMap => (
            "/valueFrom/configMapKeyRef/name",
            "/configMapRef/name",
            "/configMap/name",
            "/configMap/name",
        ),
    };

    let pulls = kind == Referent::Secret
        && list(pod, "/spec/imagePullSecrets").iter().any(|secret| text(secret, "/name") == name);
    let volumes = || {
        list(pod, "/spec/volumes").iter().any(|one| {
            text(one, volume) == name
                || list(one, "/projected/sources")
                    .iter()
                    .any(|source| text(source, source_name) == name)
        })
    };
    let containers = || {
        ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"]
            .iter()
            .flat_map(|at| list(pod, at))
            .any(|container| {
                list(container, "/env").iter().any(|env| text(env, env_key) == name)
                    || list(container, "/envFrom").iter().any(|from| text(from, env_from) == name)
            })
    };
    pulls || volumes() || containers()
}
