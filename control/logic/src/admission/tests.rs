//! Objects in, objects or refusals out.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use coracle_keys::{CsrFacts, fake::request_pem};
use serde_json::{Value, json};

use super::*;
use crate::fixture::{NOW, World, node, user};

/// What the plugins make of it, or `CODE message`.
fn admit(
    world: &World,
    who: &User,
    (verb, resource, subresource): (Verb, Resource, &str),
    old: Option<&Value>,
    new: &Value,
) -> Result<Value, String> {
    let subject = if new.is_null() || text(new, &["metadata", "name"]).is_empty() {
        old.unwrap_or(new)
    } else {
        new
    };
    let attributes = Attributes {
        user: who,
        verb,
        resource,
        subresource,
        namespace: text(subject, &["metadata", "namespace"]),
        name: text(subject, &["metadata", "name"]),
        dry_run: false,
    };
    let mut new = new.clone();
    let mut scene = Scene {
        cache: &world.cache,
        authorizer: &world.authorizer,
        now: NOW,
        rng: &mut Rng(1),
        warnings: &mut Vec::new(),
    };
    admit_mutating(&attributes, old, &mut new, &mut scene)
        .and_then(|()| admit_validating(&attributes, old, &new, &mut scene))
        .map(|()| new)
        .map_err(|status| format!("{} {}", status.code, status.message))
}

fn world() -> World {
    let namespace = |name: &str| json!({"kind": "Namespace", "metadata": {"name": name}});
    let mut ending = namespace("ending");
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let account = |name: &str| json!({"kind": "ServiceAccount", "metadata": {"name": name, "namespace": "ns"}});
    let mut quiet = account("quiet");
    quiet["automountServiceAccountToken"] = false.into();
    quiet["imagePullSecrets"] = json!([{"name": "pull"}]);
    World::of([namespace("ns"), namespace("default"), ending, account("default"), quiet])
}

fn pod(spec: Value) -> Value {
    json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
}

fn root() -> User {
    user("root", &["system:masters"])
}

const CREATE_POD: (Verb, Resource, &str) = (Verb::Create, Resource::PODS, "");

#[test]
fn a_plain_pod_gets_account_token_tolerations_and_priority() {
    let plain = pod(json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}));
    let made = admit(&world(), &root(), CREATE_POD, None, &plain).expect("admitted");
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["serviceAccount"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    assert_eq!(spec.get("priorityClassName"), None);
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().expect("a name");
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
    assert_eq!(volume["projected"]["sources"][1]["configMap"]["name"], "kube-root-ca.crt");
    assert_eq!(volume["projected"]["defaultMode"], 420);
    for list in ["containers", "initContainers"] {
        let mount = &spec[list][0]["volumeMounts"][0];
        assert_eq!(mount["name"], name);
        assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
        assert_eq!(mount["readOnly"], true);
    }
    let tolerations: Vec<String> = items(spec, &["tolerations"])
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                text(one, &["key"]),
                text(one, &["effect"]),
                one["tolerationSeconds"]
            )
        })
        .collect();
    assert_eq!(
        tolerations,
        [
            "node.kubernetes.io/not-ready NoExecute 300",
            "node.kubernetes.io/unreachable NoExecute 300"
        ]
    );
    // Again, as it stands: nothing is added twice.
    assert_eq!(admit(&world(), &root(), CREATE_POD, None, &made), Ok(made));
}

#[test]
fn tokens_are_mounted_where_nobody_says_no() {
    let check = |spec: Value, mounts: usize, pull: bool| {
        let made = admit(&world(), &root(), CREATE_POD, None, &pod(spec)).expect("admitted");
        let got = items(&made, &["spec", "containers"])
            .iter()
            .map(|one| items(one, &["volumeMounts"]).len())
            .sum::<usize>();
        assert_eq!(got, mounts, "{made}");
        assert_eq!(items(&made, &["spec", "volumes"]).len(), usize::from(mounts > 0), "{made}");
        assert_eq!(made["spec"].get("imagePullSecrets").is_some(), pull, "{made}");
    };
    let one = || json!([{"name": "a"}]);
    check(json!({"containers": one(), "automountServiceAccountToken": false}), 0, false);
    check(json!({"containers": one(), "serviceAccountName": "quiet"}), 0, true);
    check(
        json!({"containers": one(), "serviceAccountName": "quiet", "automountServiceAccountToken": true}),
        1,
        true,
    );
}

#[test]
fn a_mount_of_ones_own_is_left_alone() {
    let own = json!({"name": "mine", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let spec = json!({"containers": [{"name": "a", "volumeMounts": [own]}]});
    let made = admit(&world(), &root(), CREATE_POD, None, &pod(spec)).expect("admitted");
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"], json!([own]));
    assert_eq!(made["spec"].get("volumes"), None);
}

#[test]
fn pods_are_refused_by_name_of_what_is_missing() {
    let check = |object: Value, want: &str| {
        assert_eq!(admit(&world(), &root(), CREATE_POD, None, &object).expect_err("refused"), want);
    };
    check(
        pod(json!({"serviceAccountName": "none"})),
        "403 pods \"p\" is forbidden: error looking up service account ns/none: serviceaccount \"none\" not found",
    );
    let elsewhere = |namespace: &str| {
        let mut pod = pod(json!({}));
        pod["metadata"]["namespace"] = namespace.into();
        pod
    };
    check(elsewhere("nowhere"), "404 namespaces \"nowhere\" not found");
    check(
        elsewhere("ending"),
        "403 pods \"p\" is forbidden: unable to create new content in namespace ending because it is being \
         terminated",
    );
    check(
        pod(json!({"priorityClassName": "none"})),
        "403 pods \"p\" is forbidden: no PriorityClass with name none was found",
    );
    check(
        pod(json!({"priority": 5})),
        "403 pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority \
         admission controller computed 0 from the given PriorityClass name",
    );
    let mut mirror = pod(json!({"serviceAccountName": "default"}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    check(mirror, "403 pods \"p\" is forbidden: a mirror pod may not reference service accounts");
}

#[test]
fn an_ending_namespace_says_so_in_its_cause() {
    let world = world();
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ending"}});
    let attributes = Attributes {
        user: &root(),
        verb: Verb::Create,
        resource: Resource::CONFIG_MAPS,
        subresource: "",
        namespace: "ending",
        name: "c",
        dry_run: false,
    };
    let mut scene = Scene {
        cache: &world.cache,
        authorizer: &world.authorizer,
        now: NOW,
        rng: &mut Rng(1),
        warnings: &mut Vec::new(),
    };
    let status = admit_mutating(&attributes, None, &mut map.clone(), &mut scene).expect_err("403");
    let cause = &status.details.expect("details").causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.field.as_str()),
        ("NamespaceTerminating", "metadata.namespace")
    );
    // What is there can still change and go.
    let what = |verb| (verb, Resource::CONFIG_MAPS, "");
    assert!(admit(&world, &root(), what(Verb::Update), Some(&map), &map).is_ok());
    assert!(admit(&world, &root(), what(Verb::Delete), Some(&map), &Value::Null).is_ok());
}

#[test]
fn some_namespaces_stay() {
    let check = |name: &str, verb, stays: bool| {
        let old = json!({"kind": "Namespace", "metadata": {"name": name}});
        let got =
            admit(&world(), &root(), (verb, Resource::NAMESPACES, ""), Some(&old), &Value::Null);
        let want =
            format!("403 namespaces {name:?} is forbidden: this namespace may not be deleted");
        assert_eq!(got.err(), stays.then_some(want));
    };
    check("default", Verb::Delete, true);
    check("kube-system", Verb::Delete, true);
    check("kube-public", Verb::DeleteCollection, true);
    check("ns", Verb::Delete, false);
}

#[test]
fn priority_comes_from_the_class() {
    let class = |name: &str, value: i64, default: bool| {
        json!({"kind": "PriorityClass", "metadata": {"name": name}, "value": value, "globalDefault": default,
               "preemptionPolicy": "Never"})
    };
    let mut world = world();
    world.put(class("high", 100, false));
    world.put(class("usual", 7, true));
    let check = |spec: Value, want: (&str, i64, &str)| {
        let made = admit(&world, &root(), CREATE_POD, None, &pod(spec)).expect("admitted");
        let spec = &made["spec"];
        assert_eq!(
            (
                text(spec, &["priorityClassName"]),
                spec["priority"].as_i64(),
                text(spec, &["preemptionPolicy"])
            ),
            (want.0, Some(want.1), want.2)
        );
    };
    check(json!({}), ("usual", 7, "Never"));
    check(json!({"priorityClassName": "high"}), ("high", 100, "Never"));
    check(json!({"priorityClassName": "high", "priority": 100}), ("high", 100, "Never"));
    check(
        json!({"priorityClassName": "system-node-critical"}),
        ("system-node-critical", 2_000_001_000, "PreemptLowerPriority"),
    );
    let what = (Verb::Create, Resource::PRIORITY_CLASSES, "");
    assert_eq!(
        admit(&world, &root(), what, None, &class("second", 1, true)).expect_err("refused"),
        "403 priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass usual is already marked as \
         default. Only one default can exist"
    );
    let what = (Verb::Update, Resource::PRIORITY_CLASSES, "");
    let usual = class("usual", 7, true);
    assert_eq!(admit(&world, &root(), what, Some(&usual), &usual), Ok(usual));
    // An update that leaves priority out keeps it.
    let old = pod(json!({"priority": 7, "preemptionPolicy": "Never"}));
    let new = pod(json!({}));
    let made = admit(&world, &root(), (Verb::Update, Resource::PODS, ""), Some(&old), &new)
        .expect("admitted");
    assert_eq!(made["spec"]["priority"], 7);
}

#[test]
fn an_apply_that_creates_needs_the_right_to() {
    let mut world = world();
    world.put(json!({
        "kind": "ClusterRole", "metadata": {"name": "r"},
        "rules": [{"verbs": ["patch"], "apiGroups": [""], "resources": ["configmaps"]}],
    }));
    world.put(json!({
        "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}],
    }));
    let map = json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}});
    let what = (Verb::Patch, Resource::CONFIG_MAPS, "");
    let jane = user("jane", &[]);
    assert_eq!(
        admit(&world, &jane, what, None, &map).expect_err("refused"),
        "403 configmaps \"c\" is forbidden: User \"jane\" cannot create resource \"configmaps\" in API group \"\" in \
         the namespace \"ns\""
    );
    assert!(admit(&world, &jane, what, Some(&map), &map).is_ok());
}

#[test]
fn nodes_write_themselves_only() {
    let mut world = world();
    let at = |name: &str, on: &str, uid: &str| {
        json!({"kind": "Pod", "metadata": {"name": name, "namespace": "ns", "uid": uid}, "spec": {
            "nodeName": on,
            "volumes": [{"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}],
        }})
    };
    world.put(at("mine", "n1", "u1"));
    world.put(at("theirs", "n2", "u2"));
    let me = node("n1");
    let check = |what, old: Option<&Value>, new: &Value, want: &str| {
        let got =
            admit(&world, &me, what, old, new).map_or_else(|error| error, |_| "ok".to_string());
        assert_eq!(got, want, "{new}");
    };
    let status = (Verb::Patch, Resource::PODS, "status");
    let (mine, theirs) = (at("mine", "n1", "u1"), at("theirs", "n2", "u2"));
    check(status, Some(&mine), &mine, "ok");
    check(
        status,
        Some(&theirs),
        &theirs,
        "403 pods \"theirs\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to \
         itself",
    );
    let mut labelled = mine.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    check(
        status,
        Some(&mine),
        &labelled,
        "403 pods \"mine\" is forbidden: node \"n1\" cannot update labels through pod status",
    );
    let delete = (Verb::Delete, Resource::PODS, "");
    check(delete, Some(&mine), &Value::Null, "ok");
    check(
        delete,
        Some(&theirs),
        &Value::Null,
        "403 pods \"theirs\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself",
    );
    check(
        CREATE_POD,
        None,
        &pod(json!({"nodeName": "n1"})),
        "403 pods \"p\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can \
         only create mirror pods",
    );
    let mirror = |on: &str, spec: Value| {
        let mut pod = pod(spec);
        pod["spec"]["nodeName"] = on.into();
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod
    };
    check(CREATE_POD, None, &mirror("n1", json!({})), "ok");
    check(
        CREATE_POD,
        None,
        &mirror("n2", json!({})),
        "403 pods \"p\" is forbidden: node \"n1\" can only create pods with spec.nodeName set to itself",
    );
    check(
        CREATE_POD,
        None,
        &mirror("n1", json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]})),
        "403 pods \"p\" is forbidden: node \"n1\" can not create pods that reference secrets",
    );
    let evict = (Verb::Create, Resource::PODS, "eviction");
    check(evict, Some(&mine), &json!({"metadata": {"name": "mine", "namespace": "ns"}}), "ok");
    check(
        evict,
        Some(&theirs),
        &json!({"metadata": {"name": "theirs", "namespace": "ns"}}),
        "403 pods \"theirs\" is forbidden: node n1 can only evict pods with spec.nodeName set to itself",
    );

    let token = (Verb::Create, Resource::SERVICE_ACCOUNTS, "token");
    let request = |reference: Value, audiences: Value| {
        json!({"metadata": {"name": "default", "namespace": "ns"},
               "spec": {"boundObjectRef": reference, "audiences": audiences}})
    };
    let to = |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
    let refused = "403 serviceaccounts \"default\" is forbidden: ";
    let deny = |reference: Value, audiences: Value, why: &str| {
        check(token, None, &request(reference, audiences), &format!("{refused}{why}"));
    };
    check(token, None, &request(to("mine", "u1"), json!([])), "ok");
    check(token, None, &request(to("mine", "u1"), json!(["vault"])), "ok");
    deny(Value::Null, json!([]), "node requested token not bound to a pod");
    deny(to("mine", ""), json!([]), "node requested token with a pod binding without a uid");
    deny(
        to("theirs", "u2"),
        json!([]),
        "node requested token bound to a pod scheduled on a different node",
    );
    deny(
        to("mine", "u9"),
        json!([]),
        "the UID in the bound object reference (u9) does not match the UID in record. The object might have been \
         deleted and then recreated",
    );
    deny(
        to("mine", "u1"),
        json!(["bank"]),
        "audience \"bank\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this \
         audience",
    );
}

#[test]
fn nodes_label_themselves_with_what_is_theirs() {
    let world = world();
    let me = node("n1");
    let object = |name: &str, labels: Value, taints: Value| json!({"kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}});
    let plain = object("n1", json!({"kubernetes.io/hostname": "n1"}), json!([]));
    let check = |verb, old: Option<&Value>, new: &Value, want: Option<&str>| {
        let got = admit(&world, &me, (verb, Resource::NODES, ""), old, new).err();
        let want =
            want.map(|why| format!("403 nodes {} is forbidden: {why}", new["metadata"]["name"]));
        assert_eq!(got, want, "{new}");
    };
    let update = |new: &Value, want| check(Verb::Update, Some(&plain), new, want);
    check(Verb::Create, None, &plain, None);
    check(
        Verb::Create,
        None,
        &object(
            "n1",
            json!({"node.kubernetes.io/x": "", "mine": "1", "a.io/b": ""}),
            json!([{"key": "k"}]),
        ),
        None,
    );
    check(
        Verb::Create,
        None,
        &object(
            "n1",
            json!({"node-restriction.kubernetes.io/a": "", "node-role.kubernetes.io/b": ""}),
            json!([]),
        ),
        Some(
            "node \"n1\" is not allowed to set the following labels: node-restriction.kubernetes.io/a, \
             node-role.kubernetes.io/b",
        ),
    );
    check(
        Verb::Create,
        None,
        &object("n2", json!({}), json!([])),
        Some("node \"n1\" is not allowed to modify node \"n2\""),
    );
    update(&plain, None);
    update(&object("n1", json!({}), json!([])), None);
    update(
        &object("n1", json!({"kubernetes.io/hostname": "n1", "x.k8s.io/y": "z"}), json!([])),
        Some("is not allowed to modify labels: x.k8s.io/y"),
    );
    update(
        &object("n1", json!({"kubernetes.io/hostname": "n1"}), json!([{"key": "k"}])),
        Some("node \"n1\" is not allowed to modify taints"),
    );
}

#[test]
fn certificates_are_approved_by_whom_the_signer_lets() {
    let mut world = world();
    world.put(json!({
        "kind": "ClusterRole", "metadata": {"name": "r"},
        "rules": [{"verbs": ["approve"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
                   "resourceNames": ["a.io/*", "b.io/one"]}],
    }));
    world.put(json!({
        "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}],
    }));
    let csr = |signer: &str, groups: &[&str], certificate: Value| {
        let facts = CsrFacts {
            common_name: "bob".into(),
            organizations: groups.iter().map(ToString::to_string).collect(),
            ..CsrFacts::default()
        };
        json!({
            "kind": "CertificateSigningRequest", "metadata": {"name": "c"},
            "spec": {"signerName": signer, "request": STANDARD.encode(request_pem(&facts, b"key"))},
            "status": {"certificate": certificate},
        })
    };
    let check =
        |verb, sub, signer: &str, groups: &[&str], certificate: Value, want: Option<&str>| {
            let old = csr(signer, groups, Value::Null);
            let new = csr(signer, groups, certificate);
            let what = (verb, Resource::CERTIFICATE_SIGNING_REQUESTS, sub);
            let old = (verb != Verb::Create).then_some(&old);
            let got = admit(&world, &user("jane", &[]), what, old, &new).err();
            let want = want.map(|why| {
                format!(
                    "403 certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: {why}"
                )
            });
            assert_eq!(got, want);
        };
    let client = "kubernetes.io/kube-apiserver-client";
    check(Verb::Create, "", client, &["dev"], Value::Null, None);
    check(
        Verb::Create,
        "",
        client,
        &["dev", "system:masters"],
        Value::Null,
        Some(
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        ),
    );
    check(Verb::Update, "approval", "a.io/x", &[], Value::Null, None);
    check(Verb::Update, "approval", "b.io/one", &[], Value::Null, None);
    check(
        Verb::Update,
        "approval",
        "b.io/two",
        &[],
        Value::Null,
        Some("user not permitted to approve requests with signerName \"b.io/two\""),
    );
    check(Verb::Update, "status", "a.io/x", &[], Value::Null, None);
    check(
        Verb::Patch,
        "status",
        "a.io/x",
        &[],
        "cert".into(),
        Some("user not permitted to sign requests with signerName \"a.io/x\""),
    );
}

fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    crate::kinds::access::items(value, path)
}
