//! What is served where: every group, version, resource and subresource with its verbs. Discovery shows this table,
//! and what is not in it is answered with 404.

use coracle_api::{Resource, Status};

use super::{ResourceTarget, Verb};

/// One served resource or subresource.
#[derive(Debug)]
pub struct Route {
    /// Group as asked; empty for the core group.
    pub group: &'static str,
    /// Version as asked.
    pub version: &'static str,
    /// Plural.
    pub plural: &'static str,
    /// Empty: the resource itself.
    pub subresource: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// The stored resource behind it; `None`: computed, never stored.
    pub hub: Option<Resource>,
    /// The verbs that it has.
    pub verbs: &'static [Verb],
}

const ALL: &[Verb] = &[
    Verb::Create,
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
];
const NO_COLLECTION_DELETE: &[Verb] =
    &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];
const CHANGE: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
const CREATE: &[Verb] = &[Verb::Create];
const GET: &[Verb] = &[Verb::Get];
const UPDATE: &[Verb] = &[Verb::Update];

macro_rules! routes {
    ($($group:literal $version:literal $plural:literal $sub:literal $namespaced:literal $hub:expr, $verbs:expr;)*) => {
        /// Every route.
        pub static ROUTES: &[Route] = &[$(Route {
            group: $group, version: $version, plural: $plural, subresource: $sub,
            namespaced: $namespaced, hub: $hub, verbs: $verbs,
        },)*];
    };
}

use Resource as R;

routes! {
    "" "v1" "configmaps" "" true Some(R::CONFIG_MAPS), ALL;
    "" "v1" "events" "" true Some(R::EVENTS), ALL;
    "" "v1" "namespaces" "" false Some(R::NAMESPACES), NO_COLLECTION_DELETE;
    "" "v1" "namespaces" "finalize" false Some(R::NAMESPACES), UPDATE;
    "" "v1" "namespaces" "status" false Some(R::NAMESPACES), CHANGE;
    "" "v1" "nodes" "" false Some(R::NODES), ALL;
    "" "v1" "nodes" "status" false Some(R::NODES), CHANGE;
    "" "v1" "pods" "" true Some(R::PODS), ALL;
    "" "v1" "pods" "binding" true Some(R::PODS), CREATE;
    "" "v1" "pods" "eviction" true Some(R::PODS), CREATE;
    "" "v1" "pods" "log" true Some(R::PODS), GET;
    "" "v1" "pods" "status" true Some(R::PODS), CHANGE;
    "" "v1" "secrets" "" true Some(R::SECRETS), ALL;
    "" "v1" "serviceaccounts" "" true Some(R::SERVICE_ACCOUNTS), ALL;
    "" "v1" "serviceaccounts" "token" true Some(R::SERVICE_ACCOUNTS), CREATE;
    "" "v1" "services" "" true Some(R::SERVICES), ALL;
    "" "v1" "services" "status" true Some(R::SERVICES), CHANGE;
    "apps" "v1" "deployments" "" true Some(R::DEPLOYMENTS), ALL;
    "apps" "v1" "deployments" "scale" true Some(R::DEPLOYMENTS), CHANGE;
    "apps" "v1" "deployments" "status" true Some(R::DEPLOYMENTS), CHANGE;
    "apps" "v1" "replicasets" "" true Some(R::REPLICA_SETS), ALL;
    "apps" "v1" "replicasets" "scale" true Some(R::REPLICA_SETS), CHANGE;
    "apps" "v1" "replicasets" "status" true Some(R::REPLICA_SETS), CHANGE;
    "apps" "v1beta1" "deployments" "" true Some(R::DEPLOYMENTS), ALL;
    "apps" "v1beta1" "deployments" "rollback" true Some(R::DEPLOYMENTS), CREATE;
    "apps" "v1beta1" "deployments" "scale" true Some(R::DEPLOYMENTS), CHANGE;
    "apps" "v1beta1" "deployments" "status" true Some(R::DEPLOYMENTS), CHANGE;
    "apps" "v1beta2" "deployments" "" true Some(R::DEPLOYMENTS), ALL;
    "apps" "v1beta2" "deployments" "scale" true Some(R::DEPLOYMENTS), CHANGE;
    "apps" "v1beta2" "deployments" "status" true Some(R::DEPLOYMENTS), CHANGE;
    "apps" "v1beta2" "replicasets" "" true Some(R::REPLICA_SETS), ALL;
    "apps" "v1beta2" "replicasets" "scale" true Some(R::REPLICA_SETS), CHANGE;
    "apps" "v1beta2" "replicasets" "status" true Some(R::REPLICA_SETS), CHANGE;
    "authentication.k8s.io" "v1" "selfsubjectreviews" "" false None, CREATE;
    "authentication.k8s.io" "v1" "tokenreviews" "" false None, CREATE;
    "authorization.k8s.io" "v1" "localsubjectaccessreviews" "" true None, CREATE;
    "authorization.k8s.io" "v1" "selfsubjectaccessreviews" "" false None, CREATE;
    "authorization.k8s.io" "v1" "selfsubjectrulesreviews" "" false None, CREATE;
    "authorization.k8s.io" "v1" "subjectaccessreviews" "" false None, CREATE;
    "certificates.k8s.io" "v1" "certificatesigningrequests" "" false Some(R::CERTIFICATE_SIGNING_REQUESTS), ALL;
    "certificates.k8s.io" "v1" "certificatesigningrequests" "approval" false Some(R::CERTIFICATE_SIGNING_REQUESTS), CHANGE;
    "certificates.k8s.io" "v1" "certificatesigningrequests" "status" false Some(R::CERTIFICATE_SIGNING_REQUESTS), CHANGE;
    "coordination.k8s.io" "v1" "leases" "" true Some(R::LEASES), ALL;
    "discovery.k8s.io" "v1" "endpointslices" "" true Some(R::ENDPOINT_SLICES), ALL;
    "events.k8s.io" "v1" "events" "" true Some(R::EVENTS), ALL;
    "extensions" "v1beta1" "deployments" "" true Some(R::DEPLOYMENTS), ALL;
    "extensions" "v1beta1" "deployments" "rollback" true Some(R::DEPLOYMENTS), CREATE;
    "extensions" "v1beta1" "deployments" "scale" true Some(R::DEPLOYMENTS), CHANGE;
    "extensions" "v1beta1" "deployments" "status" true Some(R::DEPLOYMENTS), CHANGE;
    "extensions" "v1beta1" "replicasets" "" true Some(R::REPLICA_SETS), ALL;
    "extensions" "v1beta1" "replicasets" "scale" true Some(R::REPLICA_SETS), CHANGE;
    "extensions" "v1beta1" "replicasets" "status" true Some(R::REPLICA_SETS), CHANGE;
    "rbac.authorization.k8s.io" "v1" "clusterrolebindings" "" false Some(R::CLUSTER_ROLE_BINDINGS), ALL;
    "rbac.authorization.k8s.io" "v1" "clusterroles" "" false Some(R::CLUSTER_ROLES), ALL;
    "rbac.authorization.k8s.io" "v1" "rolebindings" "" true Some(R::ROLE_BINDINGS), ALL;
    "rbac.authorization.k8s.io" "v1" "roles" "" true Some(R::ROLES), ALL;
    "scheduling.k8s.io" "v1" "priorityclasses" "" false Some(R::PRIORITY_CLASSES), ALL;
}

/// The route of exactly this group, version, resource and subresource.
pub fn find(group: &str, version: &str, plural: &str, subresource: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| {
        route.group == group
            && route.version == version
            && route.plural == plural
            && route.subresource == subresource
    })
}

/// The stored resource behind a group, version and plural, where one is served.
pub fn hub(group: &str, version: &str, plural: &str) -> Option<Resource> {
    find(group, version, plural, "")?.hub
}

/// 404 for what is not served, 405 for a verb that it has not. Asked after authorization, as Kubernetes does.
pub fn check(verb: Verb, target: &ResourceTarget) -> Result<&'static Route, Status> {
    let ResourceTarget { group, version, plural, subresource, namespace, name, .. } = target;
    let route = find(group, version, plural, subresource).ok_or_else(Status::not_served)?;
    let in_namespace = !namespace.is_empty();
    if route.namespaced != in_namespace {
        // Across all namespaces a namespaced resource can be listed and watched, nothing else.
        return match verb {
            Verb::List | Verb::Watch if route.namespaced => Ok(route),
            Verb::Create | Verb::DeleteCollection if route.namespaced && name.is_empty() => {
                Err(Status::method_not_allowed())
            }
            _ => Err(Status::not_served()),
        };
    }
    let names_one = !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
        && (verb != Verb::Create || !subresource.is_empty());
    if !route.verbs.contains(&verb) || names_one == name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    Ok(route)
}
