//! What goes beyond the core's numbers: the pod waits, and hears which limit it is; numbers that nobody needs go round.

use std::{format, vec::Vec};

use serde_json::{Value, json};

use super::World;

fn selector(index: usize) -> Value {
    json!({"spec": {"nodeSelector": {"label": format!("{index}")}}})
}

fn anti(index: usize) -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": format!("{index}")}}, "topologyKey": "kubernetes.io/hostname"});
    json!({
        "metadata": {"labels": {"app": format!("{index}")}},
        "spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
    })
}

fn roomy(world: &mut World, name: &str) {
    world.node_of(name, &json!({"status": {"allocatable": {"pods": "1000"}}}));
}

#[track_caller]
fn lines(world: &mut World, want: &str) {
    world.later(60_000);
    assert_eq!(world.settle(), want);
}

#[test]
fn requirements() {
    let mut world = World::new();
    // More in all than there are numbers: those of pods that are decided go round.
    for index in 0..300 {
        let label = json!({"metadata": {"labels": {"label": format!("{index}")}}});
        world.node_of(&format!("n{index}"), &label);
    }
    for index in 0..300 {
        world.pod_of("p", &selector(index));
        assert_eq!(world.settle(), format!("p -> n{index}"));
        world.remove(coracle_api::Resource::PODS, "ns", "p");
    }
    let many: serde_json::Map<_, _> =
        (0..257).map(|index| (format!("l{index}"), json!("x"))).collect();
    world.pod_of("many", &json!({"spec": {"nodeSelector": many}}));
    lines(
        &mut world,
        "many: limit reached: the pod's node selector and node affinity name more than 256 conditions",
    );
}

#[test]
fn terms() {
    let mut world = World::new();
    roomy(&mut world, "a");
    for index in 0..128 {
        world.pod_of(&format!("p{index}"), &anti(index));
        assert_eq!(world.settle(), format!("p{index} -> a"));
    }
    world.pod_of("more", &anti(128));
    lines(
        &mut world,
        "more: limit reached: pods in this cluster have 128 different terms of pod affinity and topology spread; the pod needs one more",
    );
    world.remove(coracle_api::Resource::PODS, "ns", "p7");
    lines(&mut world, "more -> a");
    // The number of the term that went means the new one.
    world.pod_of("again", &anti(128));
    world.later(60_000);
    assert!(world.settle().contains("1 node(s) didn't match pod anti-affinity rules."));
    world.pod_of("free", &json!({"metadata": {"labels": {"app": "7"}}}));
    lines(&mut world, "free -> a");
}

#[test]
fn topology_keys() {
    let mut world = World::new();
    let keyed = |key: usize| {
        let mut pod = anti(key);
        let affinity = &mut pod["spec"]["affinity"]["podAntiAffinity"];
        affinity["requiredDuringSchedulingIgnoredDuringExecution"][0]["topologyKey"] =
            format!("k{key}").into();
        pod
    };
    let labels: serde_json::Map<_, _> =
        (0..9).map(|key| (format!("k{key}"), json!("here"))).collect();
    world.node_of("a", &json!({"metadata": {"labels": labels}}));
    for key in 0..7 {
        world.pod_of(&format!("p{key}"), &keyed(key));
        assert_eq!(world.settle(), format!("p{key} -> a"));
    }
    world.pod_of("more", &keyed(7));
    lines(
        &mut world,
        "more: limit reached: pods in this cluster use 7 topology keys beside kubernetes.io/hostname; k7 is one more",
    );
    world.remove(coracle_api::Resource::PODS, "ns", "p3");
    lines(&mut world, "more -> a");
    world.pod_of("again", &keyed(7));
    world.later(60_000);
    assert!(world.settle().contains("1 node(s) didn't match pod anti-affinity rules."));
}

#[test]
fn taints() {
    let mut world = World::new();
    for index in 0..130 {
        let taint = json!({"key": format!("t{index}"), "effect": "NoSchedule"});
        world.node_of(&format!("n{index:03}"), &json!({"spec": {"taints": [taint]}}));
    }
    let tolerant =
        |key: &str| json!({"spec": {"tolerations": [{"key": key, "operator": "Exists"}]}});
    world.pod_of("last", &tolerant("t129"));
    world.later(60_000);
    let told = world.settle();
    assert!(told.contains("3 node(s) had a taint beyond the 127 that can be told apart"), "{told}");
    world.pod_of("all", &json!({"spec": {"tolerations": [{"operator": "Exists"}]}}));
    world.later(60_000);
    assert_eq!(world.settle(), "all -> n000");
    // A number is free again: the node that lacked one gets it.
    for index in 1..4 {
        world.remove(coracle_api::Resource::NODES, "", &format!("n{index:03}"));
    }
    lines(&mut world, "last -> n129");
}

#[test]
fn extended_resources_and_host_ports() {
    let mut world = World::new();
    let offers: serde_json::Map<_, _> =
        (0..8).map(|index| (format!("example.com/r{index}"), json!("4"))).collect();
    world.node_of("a", &json!({"status": {"allocatable": offers}}));
    let asks = |index: usize| {
        let requests = json!({format!("example.com/r{index}"): 1});
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}})
    };
    world.pod_of("p", &asks(7));
    assert_eq!(world.settle(), "p -> a");
    world.pod_of("more", &asks(8));
    lines(
        &mut world,
        "more: limit reached: more than 8 extended resources are in use in this cluster; `example.com/r8` is beyond them",
    );
    let ports: Vec<Value> = (1..130).map(|port| json!({"hostPort": port})).collect();
    world.pod_of("ports", &json!({"spec": {"containers": [{"name": "c", "ports": ports}]}}));
    lines(
        &mut world,
        "ports: limit reached: pods in this cluster take 128 different host ports; the pod needs one more",
    );
}

#[test]
fn lists_of_one_pod() {
    let mut world = World::new();
    roomy(&mut world, "a");
    let term = json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]});
    let terms = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": Vec::from_iter((0..9).map(|_| term.clone()))}});
    world.pod_of("terms", &json!({"spec": {"affinity": {"nodeAffinity": terms}}}));
    let wish = json!({"weight": 1, "preference": term});
    let wishes = json!({"preferredDuringSchedulingIgnoredDuringExecution": Vec::from_iter((0..17).map(|_| wish.clone()))});
    world.pod_of("wishes", &json!({"spec": {"affinity": {"nodeAffinity": wishes}}}));
    let spread = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let spreads = Vec::from_iter((0..9).map(|_| spread.clone()));
    world.pod_of("spreads", &json!({"spec": {"topologySpreadConstraints": spreads}}));
    let told = world.settle();
    for limit in [
        "terms: limit reached: spec.affinity.nodeAffinity has more than 8 nodeSelectorTerms",
        "wishes: limit reached: the pod prefers nodes by more than 16 terms",
        "spreads: limit reached: the pod has more than 8 topologySpreadConstraints",
    ] {
        assert!(told.contains(limit), "{told}");
    }
}
