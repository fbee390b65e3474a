//! Users and questions in, yes or no out.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{Resource, Status};
use coracle_keys::fake::FakeKeys;
use serde_json::{Value, json};

use super::*;
use crate::{
    Rng, admission, bootstrap_policy,
    call::Verb,
    fixture::{NOW, World, node, request, user},
};

fn role(name: &str, rules: Value) -> Value {
    json!({"kind": "Role", "metadata": {"name": name, "namespace": "ns"}, "rules": rules})
}

fn cluster_role(name: &str, rules: Value) -> Value {
    json!({"kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn bound(namespace: Option<&str>, role: (&str, &str), subjects: Value) -> Value {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    json!({
        "kind": kind,
        "metadata": {"name": format!("{}-{}", role.1, subjects[0]["name"]), "namespace": namespace.unwrap_or("")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": subjects,
    })
}

fn person(name: &str) -> Value {
    json!([{"kind": "User", "name": name}])
}

/// The status of a request of `peer` (`CN/O,O`), and its message where it is refused.
fn answer(world: &World, peer: &str, method: &str, url: &str, headers: &[(&str, &str)]) -> String {
    let ended = Call::parse(request(method, url, headers, Some(peer)))
        .and_then(|call| call.authenticate(&world.cache, &FakeKeys::new(1), NOW))
        .and_then(|call| call.authorize(&world.authorizer, &world.cache));
    match ended {
        Ok(call) => format!("200 {}", call.user().name),
        Err(status) => format!("{} {}", status.code, status.message),
    }
}

fn code(world: &World, peer: &str, method: &str, url: &str) -> String {
    answer(world, peer, method, url, &[]).chars().take(3).collect()
}

#[test]
fn rules_let_through_what_they_say() {
    let rule = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
        {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
        {"verbs": ["update", "watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"]},
        {"verbs": ["delete"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["get\u{1f}update"], "apiGroups": [""], "resources": ["secrets"]},
    ]);
    let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"]}]);
    let world = World::of([
        role("r", rule),
        bound(Some("ns"), ("Role", "r"), person("jane")),
        cluster_role("c", paths),
        bound(None, ("ClusterRole", "c"), person("jane")),
    ]);
    let check =
        |method, url, want| assert_eq!(code(&world, "jane", method, url), want, "{method} {url}");
    check("GET", "/api/v1/namespaces/ns/pods", "200");
    check("GET", "/api/v1/namespaces/ns/pods/p", "200");
    check("GET", "/api/v1/namespaces/ns/pods/p/log", "200");
    check("GET", "/api/v1/namespaces/ns/pods/p/status", "403");
    check("GET", "/api/v1/namespaces/ns/pods?watch=1", "403");
    check("GET", "/api/v1/pods", "403");
    check("GET", "/api/v1/namespaces/other/pods", "403");
    check("PATCH", "/apis/apps/v1/namespaces/ns/deployments/d/scale", "200");
    check("PATCH", "/apis/apps/v1/namespaces/ns/deployments/d", "403");
    check("PATCH", "/apis/extensions/v1beta1/namespaces/ns/deployments/d/scale", "403");
    check("PUT", "/api/v1/namespaces/ns/configmaps/one", "200");
    check("PUT", "/api/v1/namespaces/ns/configmaps/two", "403");
    check("GET", "/api/v1/namespaces/ns/configmaps?watch=1&fieldSelector=metadata.name=one", "200");
    check("GET", "/api/v1/namespaces/ns/configmaps?watch=1", "403");
    check("DELETE", "/api/v1/namespaces/ns/secrets/s", "200");
    check("GET", "/api/v1/namespaces/ns/secrets/s", "403");
    check("DELETE", "/api/v1/namespaces/ns", "200");
    check("GET", "/metrics", "200");
    check("POST", "/metrics", "403");
    check("GET", "/metrics/x", "403");
    check("GET", "/debug/x", "200");
    check("GET", "/logs", "403");
}

#[test]
fn refusals_read_as_in_kubernetes() {
    let world = World::default();
    let check = |method, url, want: &str| {
        assert_eq!(answer(&world, "jane", method, url, &[]), want, "{method} {url}");
    };
    check(
        "POST",
        "/apis/apps/v1/namespaces/default/deployments",
        "403 deployments.apps is forbidden: User \"jane\" cannot create resource \"deployments\" in API group \
         \"apps\" in the namespace \"default\"",
    );
    check(
        "PATCH",
        "/api/v1/namespaces/default/pods/p/status",
        "403 pods \"p\" is forbidden: User \"jane\" cannot patch resource \"pods/status\" in API group \"\" in the \
         namespace \"default\"",
    );
    check(
        "GET",
        "/api/v1/nodes",
        "403 nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
    );
    check(
        "GET",
        "/api/v1/namespaces/x",
        "403 namespaces \"x\" is forbidden: User \"jane\" cannot get resource \"namespaces\" in API group \"\" in the \
         namespace \"x\"",
    );
    check("GET", "/metrics", "403 forbidden: User \"jane\" cannot get path \"/metrics\"");
}

#[test]
fn bindings_reach_whom_they_name() {
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let mut world = World::of([
        cluster_role("all", all),
        bound(
            Some("ns"),
            ("ClusterRole", "all"),
            json!([
                {"kind": "Group", "name": "dev"},
                {"kind": "ServiceAccount", "name": "sa", "namespace": "other"},
            ]),
        ),
        bound(None, ("ClusterRole", "missing"), person("jane")),
    ]);
    let url = "/api/v1/namespaces/ns/pods";
    assert_eq!(code(&world, "x/dev", "GET", url), "200");
    assert_eq!(code(&world, "x/dev", "GET", "/api/v1/namespaces/other/pods"), "403");
    assert_eq!(code(&world, "dev", "GET", url), "403");
    assert_eq!(code(&world, "system:serviceaccount:other:sa", "GET", url), "200");
    assert_eq!(code(&world, "system:serviceaccount:ns:sa", "GET", url), "403");
    assert_eq!(code(&world, "jane", "GET", url), "403");
    assert_eq!(code(&world, "x/system:masters", "GET", "/anything"), "200");
    // What is taken away is gone at once.
    world.put(json!({
        "kind": "RoleBinding", "metadata": {"name": "all-\"dev\"", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "all"}, "subjects": person("jane"),
    }));
    assert_eq!(code(&world, "x/dev", "GET", url), "403");
    assert_eq!(code(&world, "jane", "GET", url), "200");
    world.take(Resource::CLUSTER_ROLES, "", "all");
    assert_eq!(code(&world, "jane", "GET", url), "403");
}

#[test]
fn the_bootstrap_roles_do_what_their_names_say() {
    let mut world = World::of(bootstrap_policy::objects().map(|(_, object)| object));
    for role in ["admin", "edit", "view"] {
        world.put(bound(Some("ns"), ("ClusterRole", role), person(role)));
    }
    let mut role =
        cluster_role("more", json!([{"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}]));
    role["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    world.put(role);
    let check = |who, method, url, want| {
        assert_eq!(code(&world, who, method, url), want, "{who} {method} {url}")
    };
    for who in ["admin", "edit", "view", "anyone"] {
        check(who, "GET", "/api/v1", "200");
        check(who, "GET", "/openapi/v3/apis/apps/v1", "200");
        check(who, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "200");
        check(who, "GET", "/api/v1/nodes", "403");
        check(who, "GET", "/metrics", "403");
    }
    for (who, secrets, deploys, roles, pods) in [
        ("admin", "200", "200", "200", "200"),
        ("edit", "200", "200", "403", "200"),
        ("view", "403", "403", "403", "200"),
        ("anyone", "403", "403", "403", "403"),
    ] {
        check(who, "GET", "/api/v1/namespaces/ns/secrets/s", secrets);
        check(who, "POST", "/apis/apps/v1/namespaces/ns/deployments", deploys);
        check(who, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/roles", roles);
        check(who, "GET", "/api/v1/namespaces/ns/pods/p/log", pods);
        // Not served, so 404 for those who may ask.
        let asked = if who == "anyone" { "403" } else { "404" };
        check(who, "GET", "/apis/x/v1/namespaces/ns/y/z", asked);
    }
    let ctl = "system:serviceaccount:kube-system:replicaset-controller";
    check(ctl, "POST", "/api/v1/namespaces/ns/pods", "200");
    check(ctl, "POST", "/api/v1/namespaces/ns/secrets", "403");
    check("system:kube-scheduler", "POST", "/api/v1/namespaces/ns/pods/p/binding", "200");
    let joining = "system:bootstrap:abcdef/system:bootstrappers";
    check(joining, "POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", "200");
    check(joining, "GET", "/api/v1/namespaces/kube-system/secrets", "403");
}

#[test]
fn a_stranger_with_a_certificate_gets_nothing() {
    let world = World::of(bootstrap_policy::objects().map(|(_, object)| object));
    for route in coracle_api::served::all() {
        let own = route.group == "authorization.k8s.io"
            && route.plural().starts_with("selfsubject")
            || route.plural() == "selfsubjectreviews";
        let front =
            if route.group.is_empty() { "/api".into() } else { format!("/apis/{}", route.group) };
        let inside = if route.namespaced { "namespaces/ns/" } else { "" };
        let below = if route.subresource().is_empty() {
            String::new()
        } else {
            format!("/{}", route.subresource())
        };
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let url = format!("{front}/{}/{inside}{}/n{below}", route.version, route.plural());
            let want = if own && method == "POST" { "405" } else { "403" };
            assert_eq!(code(&world, "eve", method, &url), want, "{method} {url}");
        }
        for method in ["GET", "POST", "DELETE"] {
            let url = format!("{front}/{}/{inside}{}", route.version, route.plural());
            let want = if own && method == "POST" { "200" } else { "403" };
            assert_eq!(code(&world, "eve", method, &url), want, "{method} {url}");
        }
    }
}

fn cluster_of_nodes() -> World {
    let pod = |name: &str, node: &str, spec: Value| {
        let mut pod =
            json!({"kind": "Pod", "metadata": {"name": name, "namespace": "ns"}, "spec": spec});
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    let csr = |name: &str, node: &str| {
        json!({"kind": "CertificateSigningRequest", "metadata": {"name": name},
               "spec": {"username": format!("system:node:{node}")}})
    };
    World::of([
        pod(
            "a",
            "n1",
            json!({
                "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [
                    {"name": "v", "secret": {"secretName": "vol"}},
                    {"name": "w", "projected": {"sources": [{"configMap": {"name": "projected"}}, {"secret": {"name": "ps"}}]}},
                    {"name": "x", "configMap": {"name": "cfg"}},
                ],
                "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "envfrom"}}]}],
                "initContainers": [{"name": "i", "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "envcfg", "key": "k"}}}]}],
            }),
        ),
        pod(
            "b",
            "n2",
            json!({
                "serviceAccountName": "other",
                "volumes": [{"name": "v", "secret": {"secretName": "foreign"}}],
                "containers": [{"name": "n1", "image": "n1"}],
            }),
        ),
        csr("mine", "n1"),
        csr("theirs", "n2"),
    ])
}

#[test]
fn nodes_see_themselves_and_what_their_pods_need() {
    let world = cluster_of_nodes();
    let me = "system:node:n1/system:nodes";
    let check =
        |method, url: &str, want| assert_eq!(code(&world, me, method, url), want, "{method} {url}");
    let inside = |what: &str| format!("/api/v1/namespaces/ns/{what}");
    for name in ["pull", "vol", "ps", "envfrom"] {
        check("GET", &inside(&format!("secrets/{name}")), "200");
        check(
            "GET",
            &inside(&format!("secrets?watch=1&fieldSelector=metadata.name={name}")),
            "200",
        );
        check("GET", &inside(&format!("configmaps/{name}")), "403");
        check("PUT", &inside(&format!("secrets/{name}")), "403");
        check("GET", &format!("/api/v1/namespaces/other/secrets/{name}"), "403");
    }
    for name in ["projected", "cfg", "envcfg"] {
        check("GET", &inside(&format!("configmaps/{name}")), "200");
    }
    check("GET", &inside("secrets/foreign"), "403");
    check("GET", &inside("secrets"), "403");
    check("GET", "/api/v1/secrets?fieldSelector=metadata.name=vol", "403");
    check("DELETE", &inside("secrets/vol"), "403");
    check("POST", &inside("serviceaccounts/sa/token"), "200");
    check("POST", &inside("serviceaccounts/other/token"), "403");
    check("GET", &inside("pods/a"), "200");
    check("GET", &inside("pods/b"), "403");
    check("GET", "/api/v1/pods?fieldSelector=spec.nodeName=n1", "200");
    check("GET", "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1", "200");
    check("GET", "/api/v1/pods?fieldSelector=spec.nodeName=n2", "403");
    check("GET", "/api/v1/pods?fieldSelector=spec.nodeName!=n1", "403");
    check("GET", "/api/v1/pods", "403");
    check("PATCH", &inside("pods/a/status"), "200");
    check("PATCH", &inside("pods/a"), "403");
    check("GET", "/api/v1/nodes/n1", "200");
    check("GET", "/api/v1/nodes/n2", "403");
    check("GET", "/api/v1/nodes", "403");
    check("GET", "/api/v1/nodes?watch=1&fieldSelector=metadata.name=n1", "200");
    check("PATCH", "/api/v1/nodes/n1/status", "200");
    check("DELETE", "/api/v1/nodes/n1", "403");
    let lease = |name: &str| {
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases{name}")
    };
    check("PUT", &lease("/n1"), "200");
    check("PUT", &lease("/n2"), "403");
    check("POST", &lease(""), "200");
    check("GET", &lease(""), "403");
    check("PUT", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/n1", "403");
    let csr = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    check("POST", csr, "200");
    check("GET", &format!("{csr}/mine"), "200");
    check("GET", &format!("{csr}/theirs"), "403");
    check("PUT", &format!("{csr}/mine/approval"), "403");
    check("GET", "/api/v1/services?watch=1", "200");
    check("GET", "/apis/discovery.k8s.io/v1/endpointslices", "200");
    check("POST", &inside("events"), "200");
    // The name alone makes no node, nor the group.
    for who in ["system:node:n1", "n1/system:nodes", "system:node:/system:nodes"] {
        assert_eq!(code(&world, who, "GET", &inside("secrets/vol")), "403", "{who}");
    }
}

#[test]
fn impersonation_needs_the_right_to_it() {
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]},
    ]);
    let view = json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]);
    let world = World::of([
        cluster_role("i", rules),
        bound(None, ("ClusterRole", "i"), person("jane")),
        cluster_role("v", view),
        bound(None, ("ClusterRole", "v"), json!([{"kind": "Group", "name": "dev"}])),
    ]);
    let check = |headers: &[(&str, &str)], want: &str| {
        assert_eq!(answer(&world, "jane", "GET", "/metrics", headers), want, "{headers:?}");
    };
    let bob = ("impersonate-user", "bob");
    check(&[bob], "403 forbidden: User \"bob\" cannot get path \"/metrics\"");
    check(&[bob, ("impersonate-group", "dev")], "200 bob");
    check(&[bob, ("impersonate-group", "dev"), ("impersonate-extra-scopes", "x")], "200 bob");
    check(
        &[bob, ("impersonate-group", "system:masters")],
        "403 groups \"system:masters\" is forbidden: User \"jane\" cannot impersonate resource \"groups\" in API \
         group \"\" at the cluster scope",
    );
    check(
        &[bob, ("impersonate-uid", "1")],
        "403 uids.authentication.k8s.io \"1\" is forbidden: User \"jane\" cannot impersonate resource \"uids\" in \
         API group \"authentication.k8s.io\" at the cluster scope",
    );
    check(
        &[("impersonate-user", "system:serviceaccount:ns:sa")],
        "403 serviceaccounts \"sa\" is forbidden: User \"jane\" cannot impersonate resource \"serviceaccounts\" in \
         API group \"\" in the namespace \"ns\"",
    );
    check(
        &[("impersonate-group", "dev")],
        "400 groups, uid or extras are impersonated without a user: set Impersonate-User too",
    );
    let sa = [("impersonate-user", "system:serviceaccount:ns:sa")];
    let got = answer(&world, "root/system:masters", "GET", "/metrics", &sa);
    assert_eq!(
        got,
        "403 forbidden: User \"system:serviceaccount:ns:sa\" cannot get path \"/metrics\""
    );
}

#[test]
fn no_one_gives_away_what_they_do_not_have() {
    let own = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
         "resourceNames": ["mine"]},
        {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
         "resourceNames": ["bindable"]},
    ]);
    let secrets = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets"]}]);
    let world = World::of([
        role("own", own),
        bound(Some("ns"), ("Role", "own"), person("jane")),
        cluster_role("bindable", secrets.clone()),
        cluster_role("secrets", secrets.clone()),
        cluster_role(
            "pods",
            json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]),
        ),
    ]);
    let write =
        |who: &User, resource: Resource, old: Option<&Value>, new: &Value| -> Result<(), Status> {
            let attributes = admission::Attributes {
                user: who,
                verb: if old.is_some() { Verb::Update } else { Verb::Create },
                resource,
                subresource: "",
                namespace: new["metadata"]["namespace"].as_str().unwrap_or(""),
                name: new["metadata"]["name"].as_str().expect("a name"),
                dry_run: false,
            };
            let mut scene = admission::Scene {
                cache: &world.cache,
                authorizer: &world.authorizer,
                now: NOW,
                rng: &mut Rng(1),
                warnings: &mut Vec::new(),
            };
            escalation::check(&attributes, old, new, &mut scene)
        };
    let jane = user("jane", &["system:authenticated"]);
    let root = user("root", &["system:masters"]);
    let small = role("new", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
    let large = role("new", secrets.clone());
    let check = |who: &User, resource, old: Option<&Value>, new: &Value, want: Option<&str>| {
        let got = write(who, resource, old, new).err().map(|status| status.message);
        assert_eq!(got.as_deref(), want, "{new}");
    };
    let refused = "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not \
                   currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}";
    let role_refused = format!("roles.rbac.authorization.k8s.io \"new\" is forbidden: {refused}");
    check(&jane, Resource::ROLES, None, &small, None);
    check(&jane, Resource::ROLES, None, &large, Some(&role_refused));
    check(&jane, Resource::ROLES, Some(&small), &large, Some(&role_refused));
    check(&jane, Resource::ROLES, Some(&large), &large, None);
    check(&root, Resource::ROLES, None, &large, None);
    // `escalate` comes with the wildcard on the role of that name.
    check(&jane, Resource::ROLES, None, &role("mine", secrets.clone()), None);
    // More in a namespace than everywhere: rules of a namespace cover nothing of a ClusterRole.
    let wide = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]);
    let got = write(&jane, Resource::CLUSTER_ROLES, None, &cluster_role("wide", wide));
    assert_eq!(got.expect_err("not covered").code, 403);

    let binding = |role: &str| bound(Some("ns"), ("ClusterRole", role), person("bob"));
    check(&jane, Resource::ROLE_BINDINGS, None, &binding("pods"), None);
    check(&jane, Resource::ROLE_BINDINGS, None, &binding("bindable"), None);
    let got = write(&jane, Resource::ROLE_BINDINGS, None, &binding("secrets"));
    let got = got.expect_err("not covered");
    assert_eq!(got.code, 403);
    assert!(got.message.ends_with(refused), "{}", got.message);
    assert_eq!(
        write(&jane, Resource::ROLE_BINDINGS, None, &binding("none")).expect_err("no role").code,
        404
    );
    let mut gathers = cluster_role("gathers", json!(null));
    gathers["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    assert_eq!(
        write(&jane, Resource::CLUSTER_ROLES, None, &gathers).expect_err("all rights").code,
        403
    );
    assert_eq!(write(&root, Resource::CLUSTER_ROLES, None, &gathers), Ok(()));
    assert_eq!(node("n1").name, "system:node:n1");
}

#[test]
fn a_rule_that_would_fall_into_millions_is_taken_whole() {
    let many = |what: &str| -> Vec<String> { (0..2000).map(|n| format!("{what}{n}")).collect() };
    let huge = PolicyRule {
        verbs: many("v"),
        api_groups: many("g"),
        resources: many("r"),
        resource_names: many("n"),
        ..PolicyRule::default()
    };
    let star = || Vec::from([String::from("*")]);
    let all = PolicyRule {
        verbs: star(),
        api_groups: star(),
        resources: star(),
        ..PolicyRule::default()
    };
    let some = PolicyRule { verbs: many("v"), ..all.clone() };
    let wanted = core::slice::from_ref(&huge);
    assert_eq!(rules::uncovered(&[], wanted), wanted);
    assert_eq!(rules::uncovered(&[all], wanted), []);
    assert_eq!(rules::uncovered(&[some], wanted), []);
}
