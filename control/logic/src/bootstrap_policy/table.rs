//! The roles and bindings themselves, one rule a line.
//!
//! A rule reads `VERBS GROUPS RESOURCES [NAMES]`, lists with commas and no spaces, `core` for the core group; or
//! `VERBS /PATHS`. What Coracle does not serve is left out of the roles for people: it is added, by the reconciliation at
//! start, when it is served.

/// One ClusterRole.
pub(super) struct RoleText {
    pub(super) name: &'static str,
    /// `view`: its rules are also those of the role `view`.
    pub(super) aggregate_to: Option<&'static str>,
    /// `view`: its rules are those of all roles that aggregate to `view`.
    pub(super) aggregates: Option<&'static str>,
    pub(super) rules: &'static str,
}

/// One Role with the RoleBinding of the same name.
pub(super) struct NamespacedText {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    pub(super) rules: &'static str,
    pub(super) subjects: &'static [&'static str],
}

/// One ClusterRoleBinding, named as its role unless `name` is set. Subjects: `g:GROUP`, `u:USER`, `s:NAMESPACE/NAME`.
pub(super) struct BindingText {
    pub(super) name: &'static str,
    pub(super) role: &'static str,
    pub(super) subjects: &'static [&'static str],
}

const fn role(name: &'static str, rules: &'static str) -> RoleText {
    RoleText { name, aggregate_to: None, aggregates: None, rules }
}

const fn part(name: &'static str, to: &'static str, rules: &'static str) -> RoleText {
    RoleText { name, aggregate_to: Some(to), aggregates: None, rules }
}

const fn bind(role: &'static str, subjects: &'static [&'static str]) -> BindingText {
    BindingText { name: role, role, subjects }
}

pub(super) const ROLES: &[RoleText] = &[
    role("cluster-admin", "* * *\n* /*"),
    role(
        "system:discovery",
        "get /api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/",
    ),
    role("system:public-info-viewer", "get /healthz,/livez,/readyz,/version,/version/"),
    role(
        "system:basic-user",
        "create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews\n\
         create authentication.k8s.io selfsubjectreviews",
    ),
    role(
        "system:monitoring",
        "get /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*",
    ),
    role(
        "system:service-account-issuer-discovery",
        "get /.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/",
    ),
    RoleText { name: "admin", aggregate_to: None, aggregates: Some("admin"), rules: "" },
    RoleText { name: "edit", aggregate_to: Some("admin"), aggregates: Some("edit"), rules: "" },
    RoleText { name: "view", aggregate_to: Some("edit"), aggregates: Some("view"), rules: "" },
    part(
        "system:aggregate-to-admin",
        "admin",
        "create authorization.k8s.io localsubjectaccessreviews\n\
         create,delete,deletecollection,get,list,patch,update,watch rbac.authorization.k8s.io rolebindings,roles",
    ),
    part(
        "system:aggregate-to-edit",
        "edit",
        "get,list,watch core pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy\n\
         impersonate core serviceaccounts\n\
         create,delete,deletecollection,patch,update core pods,pods/attach,pods/exec,pods/portforward,pods/proxy\n\
         create core pods/eviction\n\
         create,delete,deletecollection,patch,update core configmaps,events,secrets,serviceaccounts,services,services/proxy\n\
         create core serviceaccounts/token\n\
         create,delete,deletecollection,patch,update apps,extensions deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale\n\
         create,delete,deletecollection,get,list,patch,update,watch coordination.k8s.io leases",
    ),
    part(
        "system:aggregate-to-view",
        "view",
        "get,list,watch core bindings,configmaps,events,namespaces,namespaces/status,pods,pods/log,pods/status,serviceaccounts,services,services/status\n\
         get,list,watch discovery.k8s.io endpointslices\n\
         get,list,watch apps,extensions deployments,deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status",
    ),
    role(
        "system:auth-delegator",
        "create authentication.k8s.io tokenreviews\n\
         create authorization.k8s.io subjectaccessreviews",
    ),
    role(
        "system:kubelet-api-admin",
        "get,list,watch core nodes\n\
         * core nodes\n\
         * core nodes/configz,nodes/healthz,nodes/log,nodes/metrics,nodes/pods,nodes/proxy,nodes/spec,nodes/stats",
    ),
    // What nodes may do is decided by the Node authorizer; this role is for people who look, and binds no one.
    role(
        "system:node",
        "create authentication.k8s.io tokenreviews\n\
         create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews\n\
         get,list,watch core services\n\
         create,get,list,watch core nodes\n\
         patch,update core nodes/status\n\
         create,patch,update core events\n\
         get,list,watch core pods\n\
         create,delete core pods\n\
         patch,update core pods/status\n\
         create core pods/eviction\n\
         get,list,watch core configmaps,secrets\n\
         create,get,list,watch certificates.k8s.io certificatesigningrequests\n\
         create,delete,get,patch,update coordination.k8s.io leases\n\
         create core serviceaccounts/token",
    ),
    role(
        "system:node-bootstrapper",
        "create,get,list,watch certificates.k8s.io certificatesigningrequests",
    ),
    role(
        "system:node-proxier",
        "list,watch core endpoints,services\n\
         get,list,watch core nodes\n\
         create,patch,update core,events.k8s.io events\n\
         list,watch discovery.k8s.io endpointslices",
    ),
    role(
        "system:kube-scheduler",
        "create,patch,update core,events.k8s.io events\n\
         create coordination.k8s.io leases\n\
         get,list,update,watch coordination.k8s.io leases kube-scheduler\n\
         get,list,watch core namespaces,nodes,services\n\
         delete,get,list,watch core pods\n\
         create core bindings,pods/binding\n\
         patch,update core pods/status\n\
         get,list,watch apps,extensions replicasets\n\
         create authentication.k8s.io tokenreviews\n\
         create authorization.k8s.io subjectaccessreviews",
    ),
    role(
        "system:kube-controller-manager",
        "create,patch,update core,events.k8s.io events\n\
         create coordination.k8s.io leases\n\
         get,list,update,watch coordination.k8s.io leases kube-controller-manager\n\
         create core secrets,serviceaccounts\n\
         delete core secrets\n\
         get core configmaps,namespaces,secrets,serviceaccounts\n\
         update core secrets,serviceaccounts\n\
         create authentication.k8s.io tokenreviews\n\
         create authorization.k8s.io subjectaccessreviews\n\
         create core serviceaccounts/token\n\
         list,watch * *",
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        "create certificates.k8s.io certificatesigningrequests/nodeclient",
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "create certificates.k8s.io certificatesigningrequests/selfnodeclient",
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client",
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        "approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet",
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        "approve certificates.k8s.io signers kubernetes.io/kubelet-serving",
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        "approve certificates.k8s.io signers kubernetes.io/legacy-unknown",
    ),
    role(
        "system:controller:deployment-controller",
        "get,list,patch,update,watch apps,extensions deployments\n\
         patch,update apps,extensions deployments/status\n\
         update apps,extensions deployments/finalizers\n\
         create,delete,get,list,patch,update,watch apps,extensions replicasets\n\
         get,list,update,watch core pods\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:replicaset-controller",
        "get,list,update,watch apps,extensions replicasets\n\
         patch,update apps,extensions replicasets/status\n\
         update apps,extensions replicasets/finalizers\n\
         create,delete,get,list,patch,watch core pods\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:generic-garbage-collector",
        "delete,get,list,patch,update,watch * *\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:namespace-controller",
        "delete,get,list,watch core namespaces\n\
         patch,update core namespaces/finalize,namespaces/status\n\
         delete,deletecollection,get,list * *",
    ),
    role(
        "system:controller:node-controller",
        "delete,get,list,patch,update,watch core nodes\n\
         patch,update core nodes/status\n\
         delete,get,list,watch core pods\n\
         patch,update core pods/status\n\
         get,list,watch coordination.k8s.io leases\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:pod-garbage-collector",
        "delete,list,watch core pods\n\
         get,list,watch core nodes\n\
         patch core pods/status",
    ),
    role(
        "system:controller:service-account-controller",
        "create core serviceaccounts\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:root-ca-cert-publisher",
        "create,update core configmaps\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:certificate-controller",
        "delete,get,list,watch certificates.k8s.io certificatesigningrequests\n\
         update certificates.k8s.io certificatesigningrequests/approval,certificatesigningrequests/status\n\
         approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet\n\
         sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown\n\
         create authorization.k8s.io subjectaccessreviews\n\
         create,patch,update core,events.k8s.io events",
    ),
    role(
        "system:controller:clusterrole-aggregation-controller",
        "escalate,get,list,patch,update,watch rbac.authorization.k8s.io clusterroles",
    ),
];

pub(super) const BINDINGS: &[BindingText] = &[
    bind("cluster-admin", &["g:system:masters"]),
    bind("system:discovery", &["g:system:authenticated"]),
    bind("system:basic-user", &["g:system:authenticated"]),
    bind("system:public-info-viewer", &["g:system:authenticated", "g:system:unauthenticated"]),
    bind("system:monitoring", &["g:system:monitoring"]),
    bind("system:service-account-issuer-discovery", &["g:system:serviceaccounts"]),
    bind("system:node", &[]),
    bind("system:node-proxier", &["u:system:kube-proxy"]),
    bind("system:kube-scheduler", &["u:system:kube-scheduler"]),
    bind("system:kube-controller-manager", &["u:system:kube-controller-manager"]),
    bind("system:controller:deployment-controller", &["s:kube-system/deployment-controller"]),
    bind("system:controller:replicaset-controller", &["s:kube-system/replicaset-controller"]),
    bind(
        "system:controller:generic-garbage-collector",
        &["s:kube-system/generic-garbage-collector"],
    ),
    bind("system:controller:namespace-controller", &["s:kube-system/namespace-controller"]),
    bind("system:controller:node-controller", &["s:kube-system/node-controller"]),
    bind("system:controller:pod-garbage-collector", &["s:kube-system/pod-garbage-collector"]),
    bind(
        "system:controller:service-account-controller",
        &["s:kube-system/service-account-controller"],
    ),
    bind("system:controller:root-ca-cert-publisher", &["s:kube-system/root-ca-cert-publisher"]),
    bind("system:controller:certificate-controller", &["s:kube-system/certificate-controller"]),
    bind(
        "system:controller:clusterrole-aggregation-controller",
        &["s:kube-system/clusterrole-aggregation-controller"],
    ),
    // Joining: whoever has a join token may ask for a node's certificate and gets it; nodes renew theirs.
    BindingText {
        name: "coracle:node-bootstrapper",
        role: "system:node-bootstrapper",
        subjects: &["g:system:bootstrappers"],
    },
    BindingText {
        name: "coracle:node-autoapprove-bootstrap",
        role: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        subjects: &["g:system:bootstrappers"],
    },
    BindingText {
        name: "coracle:node-autoapprove-certificate-rotation",
        role: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        subjects: &["g:system:nodes"],
    },
];

pub(super) const NAMESPACED: &[NamespacedText] = &[NamespacedText {
    namespace: "kube-system",
    name: "system:controller:token-cleaner",
    rules: "delete,get,list,watch core secrets\n\
            create,patch,update core,events.k8s.io events",
    subjects: &["s:kube-system/token-cleaner"],
}];
