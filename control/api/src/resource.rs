//! The resources that Coracle serves, in their hub version: what is stored and cached.

/// Index of a served resource. Made only from the table in this file (custom resources will extend it at run time).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(u16);

/// What one stored resource is.
#[derive(Debug)]
pub struct ResourceDef {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Hub version: the one that is stored.
    pub version: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    /// Kind, as in manifests.
    pub kind: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Changes are not made durable (Events).
    pub volatile: bool,
}

macro_rules! resources {
    ($($index:literal $const:ident $group:literal $version:literal $plural:literal $kind:literal $namespaced:literal $volatile:literal;)*) => {
        impl Resource {
            $(#[doc = concat!("`", $plural, "` of group `", $group, "`.")]
            pub const $const: Self = Self($index);)*
        }
        static TABLE: &[ResourceDef] = &[
            $(ResourceDef { group: $group, version: $version, plural: $plural, kind: $kind, namespaced: $namespaced, volatile: $volatile },)*
        ];
        // The constants index the table: each sits at its own number.
        const _: () = { let mut next = 0_usize; $(assert!(next == $index); next += 1;)* assert!(next == TABLE.len()); };
    };
}

resources! {
    0 NAMESPACES "" "v1" "namespaces" "Namespace" false false;
    1 NODES "" "v1" "nodes" "Node" false false;
    2 PODS "" "v1" "pods" "Pod" true false;
    3 CONFIG_MAPS "" "v1" "configmaps" "ConfigMap" true false;
    4 SECRETS "" "v1" "secrets" "Secret" true false;
    5 SERVICE_ACCOUNTS "" "v1" "serviceaccounts" "ServiceAccount" true false;
    6 SERVICES "" "v1" "services" "Service" true false;
    7 EVENTS "" "v1" "events" "Event" true true;
    8 REPLICA_SETS "apps" "v1" "replicasets" "ReplicaSet" true false;
    9 DEPLOYMENTS "apps" "v1" "deployments" "Deployment" true false;
    10 LEASES "coordination.k8s.io" "v1" "leases" "Lease" true false;
    11 ENDPOINT_SLICES "discovery.k8s.io" "v1" "endpointslices" "EndpointSlice" true false;
    12 ROLES "rbac.authorization.k8s.io" "v1" "roles" "Role" true false;
    13 ROLE_BINDINGS "rbac.authorization.k8s.io" "v1" "rolebindings" "RoleBinding" true false;
    14 CLUSTER_ROLES "rbac.authorization.k8s.io" "v1" "clusterroles" "ClusterRole" false false;
    15 CLUSTER_ROLE_BINDINGS "rbac.authorization.k8s.io" "v1" "clusterrolebindings" "ClusterRoleBinding" false false;
    16 PRIORITY_CLASSES "scheduling.k8s.io" "v1" "priorityclasses" "PriorityClass" false false;
    17 CERTIFICATE_SIGNING_REQUESTS "certificates.k8s.io" "v1" "certificatesigningrequests" "CertificateSigningRequest" false false;
}

impl Resource {
    /// What it is.
    #[expect(
        clippy::indexing_slicing,
        reason = "a Resource is only made from the table's own indexes"
    )]
    pub fn def(self) -> &'static ResourceDef {
        &TABLE[usize::from(self.0)]
    }

    /// All stored resources, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).take(TABLE.len()).map(Self)
    }

    /// The resource of this group and plural, in whatever version it was asked for.
    pub fn find(group: &str, plural: &str) -> Option<Self> {
        Self::all()
            .find(|resource| resource.def().group == group && resource.def().plural == plural)
    }
}

impl ResourceDef {
    /// `v1` or `apps/v1`: the hub's apiVersion.
    pub fn api_version(&self) -> alloc::string::String {
        if self.group.is_empty() {
            self.version.into()
        } else {
            alloc::format!("{}/{}", self.group, self.version)
        }
    }
}
