//! Fake nodes against a real control plane: they join each as itself, and their pods live as pods do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod cluster;

use std::time::{Duration, Instant};

use cluster::{Cluster, condition};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "c", "image": "docker.io/library/busybox:1"}],
        },
    })
}

fn waiting(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or("")
}

#[test]
fn fake_nodes_join_and_play_their_pods() {
    let mut cluster = Cluster::start();
    let words = "--fake 3 --fake-prefix f --fake-cpu 2 --fake-memory 1Gi --fake-pods 2 --fake-start-ms 2500 --label kind=fake";
    let fakes = cluster.add_fakes(&words.split(' ').collect::<Vec<_>>());
    cluster.eventually("all nodes are Ready, have a range and no taint", |cluster| {
        (0..3).all(|number| {
            let node = cluster.get(&format!("/api/v1/nodes/f-{number}"));
            condition(&node, "Ready") == "True"
                && node["spec"]["podCIDR"].is_string()
                && node["spec"]["taints"].is_null()
        })
    });
    let node = cluster.get("/api/v1/nodes/f-1");
    assert_eq!(node["metadata"]["labels"]["kind"], "fake");
    assert_eq!(node["status"]["capacity"]["cpu"], "2");
    assert_eq!(node["status"]["capacity"]["memory"], "1Gi");
    assert_eq!(node["status"]["capacity"]["pods"], "2");
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/f-2";
    assert_eq!(cluster.get(path)["spec"]["holderIdentity"], "f-2");
    let requests = cluster.get("/apis/certificates.k8s.io/v1/certificatesigningrequests");
    let asked = requests["items"].as_array().unwrap().len();
    assert_eq!(asked, 3, "each node has a certificate of its own");

    // Pending, ContainerCreating, Running with an address of its node's range.
    cluster.post(PODS, &pod("a", "f-1"));
    cluster.pod_is("a", "being created", |pod| waiting(pod) == "ContainerCreating");
    let running = cluster.running("a");
    assert_eq!(running["status"]["phase"], "Running");
    let range = node["spec"]["podCIDR"].as_str().unwrap().rsplit_once('.').unwrap().0.to_owned();
    let ip = running["status"]["podIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with(&format!("{range}.")), "{ip} is not of {range}");
    let reasons: Vec<String> = cluster.events("a").into_iter().map(|(reason, _)| reason).collect();
    assert!(reasons.contains(&"Started".to_owned()), "{reasons:?}");

    // One more than its pods: refused as by a node that is full.
    cluster.post(PODS, &pod("b", "f-1"));
    cluster.post(PODS, &pod("c", "f-1"));
    let refused = cluster.pod_is("c", "refused", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(refused["status"]["reason"], "OutOfpods");
    // What no registry could have is refused too.
    let mut bad = pod("bad", "f-2");
    bad["spec"]["containers"][0]["image"] = "UPPER CASE".into();
    cluster.post(PODS, &bad);
    cluster.pod_is("bad", "refused", |pod| waiting(pod) == "InvalidImageName");

    // It listens to SIGTERM: gone well before its grace period is over.
    let began = Instant::now();
    cluster.delete_pod("a");
    cluster.pod_is("a", "gone", |pod| pod["code"] == 404);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());

    // Started again, they are the same nodes, and what they should run runs again.
    cluster.running("b");
    cluster.stop_agent(fakes);
    cluster.start_fakes(fakes);
    cluster.pod_is("b", "started again", |pod| {
        condition(pod, "Ready") == "True"
            && pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    });
    let requests = cluster.get("/apis/certificates.k8s.io/v1/certificatesigningrequests");
    assert_eq!(requests["items"].as_array().unwrap().len(), asked, "nobody joined anew");
}
