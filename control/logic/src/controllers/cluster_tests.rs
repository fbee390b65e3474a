//! The controllers inside a whole control plane: real admission, rights, registry and store model. Nodes are played.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use coracle_keys::{CsrFacts, fake::request_pem};
use serde_json::{Value, json};

use crate::{call::Peer, scripted::Scripted};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn manifest(image: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1beta1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 9876}]}]},
        }},
    })
}

fn items(cluster: &mut Scripted, url: &str) -> Vec<Value> {
    cluster.get(url)["items"].as_array().unwrap().clone()
}

/// Binds pods, makes them ready, and lets the deleted ones go, until nothing changes.
fn play_node(cluster: &mut Scripted) {
    for _ in 0..50 {
        let mut moved = false;
        for pod in items(cluster, PODS) {
            let name = pod["metadata"]["name"].as_str().unwrap().to_string();
            let url = format!("{PODS}/{name}");
            if pod["metadata"]["deletionTimestamp"].is_string() {
                cluster.want(200, "DELETE", &format!("{url}?gracePeriodSeconds=0"), Value::Null);
            } else if pod["spec"]["nodeName"].is_null() {
                let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": "pi1"}});
                cluster.want(201, "POST", &format!("{url}/binding"), binding);
            } else if pod["status"]["phase"] == "Pending" {
                let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:20Z"});
                let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
                cluster.want(200, "STRATEGIC", &format!("{url}/status"), status);
            } else {
                continue;
            }
            moved = true;
        }
        cluster.tick(10);
        if !moved {
            return;
        }
    }
    panic!("the pods do not settle");
}

/// `revision image replicas` of each ReplicaSet, by revision.
fn sets(cluster: &mut Scripted) -> Vec<String> {
    let mut sets: Vec<_> = items(cluster, SETS)
        .iter()
        .map(|set| {
            let revision = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
            let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
            format!(
                "{} {} {}",
                revision.as_str().unwrap(),
                image.as_str().unwrap(),
                set["spec"]["replicas"]
            )
        })
        .collect();
    sets.sort();
    sets
}

fn progress(cluster: &mut Scripted) -> String {
    let d = cluster.get(&format!("{DEPLOYMENTS}/web"));
    let conditions = d["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == "Progressing");
    found.map_or_else(String::new, |found| found["reason"].as_str().unwrap().to_string())
}

fn started() -> Scripted {
    let mut cluster = Scripted::with_controllers();
    for _ in 0..20 {
        cluster.tick(100);
    }
    assert!(cluster.plane.is_ready(), "{}", cluster.call("GET", "/readyz?verbose", None).text());
    cluster.want(
        201,
        "POST",
        "/api/v1/nodes",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pi1"}}),
    );
    cluster.tick(100);
    cluster
}

#[test]
fn a_new_cluster_gets_what_controllers_make() {
    let mut cluster = started();
    for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        cluster.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts/default"));
        let map =
            cluster.get(&format!("/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"));
        assert!(map["data"]["ca.crt"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    }
    assert_eq!(cluster.get("/api/v1/nodes/pi1")["spec"]["podCIDR"], "10.42.0.0/24");
}

#[test]
fn a_cluster_that_came_up_is_quiet() {
    let mut cluster = started();
    let before = cluster.commits;
    cluster.tick(3_600_000);
    assert_eq!(cluster.commits, before);
}

#[test]
fn a_deployment_all_the_way() {
    let mut cluster = started();
    let legacy = "/apis/apps/v1beta1/namespaces/default/deployments";
    cluster.want(201, "POST", legacy, manifest("a:1", 2));
    play_node(&mut cluster);
    assert_eq!(sets(&mut cluster), ["1 a:1 2"]);
    assert_eq!(progress(&mut cluster), "NewReplicaSetAvailable");
    let d = cluster.get(&format!("{DEPLOYMENTS}/web"));
    assert_eq!(
        (&d["status"]["availableReplicas"], &d["metadata"]["generation"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    let pod = &items(&mut cluster, PODS)[0];
    let name = pod["metadata"]["name"].as_str().unwrap();
    assert_eq!(name.rsplit('-').next().unwrap().len(), 5, "{name}");

    let image = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    cluster.want(200, "STRATEGIC", &format!("{DEPLOYMENTS}/web"), image("b:1"));
    play_node(&mut cluster);
    assert_eq!(sets(&mut cluster), ["1 a:1 0", "2 b:1 2"]);

    let rollback = json!({"apiVersion": "apps/v1beta1", "kind": "DeploymentRollback", "name": "web", "rollbackTo": {"revision": 0}});
    let answer = cluster.call("POST", &format!("{legacy}/web/rollback"), Some(&rollback));
    assert!(matches!(answer.code, 200 | 201), "{}", answer.text());
    play_node(&mut cluster);
    assert_eq!(sets(&mut cluster), ["2 b:1 0", "3 a:1 2"]);

    let scale = json!({"spec": {"replicas": 5}});
    cluster.want(200, "MERGE", &format!("{DEPLOYMENTS}/web/scale"), scale);
    play_node(&mut cluster);
    assert_eq!(sets(&mut cluster), ["2 b:1 0", "3 a:1 5"]);
    assert_eq!(items(&mut cluster, PODS).len(), 5);

    let events = items(&mut cluster, "/api/v1/namespaces/default/events");
    let scaled = events.iter().any(|event| {
        event["message"].as_str().is_some_and(|text| text.starts_with("Scaled up replica set web-"))
    });
    assert!(scaled, "{events:?}");

    let before = cluster.commits;
    cluster.tick(3_600_000);
    cluster.tick(3_600_000);
    assert_eq!(cluster.commits - before, 0, "an idle cluster writes nothing");

    cluster.want(
        200,
        "DELETE",
        &format!("{DEPLOYMENTS}/web?propagationPolicy=Background"),
        Value::Null,
    );
    play_node(&mut cluster);
    assert!(items(&mut cluster, SETS).is_empty() && items(&mut cluster, PODS).is_empty());
}

#[test]
fn a_namespace_goes_with_everything_in_it() {
    let mut cluster = started();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}});
    cluster.want(201, "POST", "/api/v1/namespaces", namespace);
    cluster.tick(100);
    cluster.get("/api/v1/namespaces/demo/serviceaccounts/default");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    cluster.want(201, "POST", "/api/v1/namespaces/demo/configmaps", map);
    cluster.want(200, "DELETE", "/api/v1/namespaces/demo", Value::Null);
    for _ in 0..20 {
        cluster.tick(100);
    }
    cluster.want(404, "GET", "/api/v1/namespaces/demo", Value::Null);
    assert!(items(&mut cluster, "/api/v1/namespaces/demo/configmaps").is_empty());
}

#[test]
fn a_node_joins_with_a_token_and_gets_its_certificate() {
    let mut cluster = started();
    let facts = CsrFacts {
        common_name: "system:node:pi2".into(),
        organizations: ["system:nodes".into()].into(),
        ..CsrFacts::default()
    };
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "pi2"},
        "spec": {
            "request": STANDARD.encode(request_pem(&facts, b"key of pi2")),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    });
    let url = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let mut http = Scripted::http("POST", url, Some(&request));
    http.peer = Some(Peer {
        common_name: "system:bootstrap:abcdef".into(),
        organizations: ["system:bootstrappers".into()].into(),
    });
    let id = cluster.send_http(http);
    cluster.run();
    assert_eq!(cluster.answers.remove(&id).unwrap().code, 201);
    cluster.tick(100);
    let made = cluster.get(&format!("{url}/pi2"));
    assert_eq!(made["status"]["conditions"][0]["reason"], "AutoApproved", "{made}");
    assert!(made["status"]["certificate"].is_string(), "{made}");
}

#[test]
fn roles_that_aggregate_each_other_come_to_rest() {
    let mut cluster = Scripted::with_controllers();
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let rule =
        |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
    let role = |name: &str, selects: &str, resource: &str| {
        json!({
            "metadata": {"name": name, "labels": {"is": name}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"is": selects}}]},
            "rules": [rule(resource)],
        })
    };
    let part = json!({"metadata": {"name": "c", "labels": {"is": "a"}}, "rules": [rule("nodes")]});
    cluster.want(201, "POST", roles, role("a", "b", "pods"));
    cluster.want(201, "POST", roles, role("b", "a", "secrets"));
    cluster.want(201, "POST", roles, part);
    for _ in 0..50 {
        cluster.tick(10);
    }
    let commits = cluster.commits;
    for _ in 0..50 {
        cluster.tick(10);
    }
    assert_eq!(cluster.commits, commits);
    for name in ["a", "b"] {
        assert_eq!(
            cluster.get(&format!("{roles}/{name}"))["rules"],
            json!([rule("nodes")]),
            "{name}"
        );
    }
}
