//! Nodes in a small world.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use coracle_api::{
    Resource, time,
    views::{Taint, Toleration},
};
use serde_json::{Value, json};

use super::{eviction::Eviction, ipam::Ipam, lifecycle::Lifecycle, taints};
use crate::controllers::{Controller, testing::World, work::Work};

fn world() -> World {
    let controllers: Vec<Box<dyn Controller>> =
        vec![Work::boxed(Lifecycle::default()), Work::boxed(Eviction::default())];
    World::new(controllers, 1)
}

fn add_node(world: &mut World, name: &str) {
    let now = time::rfc3339(world.now.0);
    let conditions: Vec<_> = [("Ready", "True"), ("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False")]
        .iter()
        .map(|(r#type, status)| json!({"type": r#type, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now}))
        .collect();
    world.create(
        Resource::NODES,
        json!({"metadata": {"name": name}, "spec": {}, "status": {"conditions": conditions}}),
    );
    world.create(
        Resource::LEASES,
        json!({"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"renewTime": now}}),
    );
}

fn renew(world: &mut World, name: &str) {
    let now = time::rfc3339(world.now.0);
    world.edit(Resource::LEASES, "kube-node-lease", name, "", |lease| {
        lease["spec"]["renewTime"] = now.into()
    });
}

/// Time passes; these nodes renew every ten seconds.
fn pass(world: &mut World, seconds: u64, alive: &[&str]) {
    for _ in 0..seconds / 10 {
        world.settle(false, 10_000);
        alive.iter().for_each(|name| renew(world, name));
    }
    world.settle(false, 0);
}

fn set_ready(world: &mut World, name: &str, status: &str) {
    let now = time::rfc3339(world.now.0);
    world.edit(Resource::NODES, "", name, "status", |node| {
        for condition in node["status"]["conditions"].as_array_mut().unwrap() {
            let is_ready = condition["type"] == "Ready";
            condition["status"] = if is_ready { status } else { "False" }.into();
            condition["lastHeartbeatTime"] = now.clone().into();
        }
    });
}

/// `key:effect` of all taints.
fn node_taints(world: &World, name: &str) -> Vec<String> {
    let node = world.get(Resource::NODES, "", name);
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let mut taints: Vec<_> = taints
        .iter()
        .map(|taint| {
            let key = taint["key"]
                .as_str()
                .unwrap()
                .trim_start_matches("node.kubernetes.io/")
                .to_string();
            alloc::format!("{key}:{}", taint["effect"].as_str().unwrap())
        })
        .collect();
    taints.sort();
    taints
}

fn ready(world: &World, name: &str) -> Value {
    world.get(Resource::NODES, "", name)["status"]["conditions"][0]["status"].clone()
}

fn add_pod(world: &mut World, name: &str, node: &str, tolerations: Value) {
    world.create(
        Resource::PODS,
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": node, "tolerations": tolerations},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
    );
}

fn default_tolerations() -> Value {
    let tolerates = |key: &str| json!({"key": alloc::format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    json!([tolerates("not-ready"), tolerates("unreachable")])
}

#[test]
fn a_silent_node_is_unknown_and_loses_its_pods() {
    let mut world = world();
    add_node(&mut world, "n1");
    add_node(&mut world, "n2");
    add_pod(&mut world, "default", "n1", default_tolerations());
    add_pod(&mut world, "for-ever", "n1", json!([{"operator": "Exists"}]));
    add_pod(&mut world, "at-once", "n1", json!([]));
    add_pod(&mut world, "elsewhere", "n2", json!([]));
    pass(&mut world, 40, &["n2"]);
    assert_eq!(ready(&world, "n1"), "True");
    pass(&mut world, 20, &["n2"]);
    assert_eq!(ready(&world, "n1"), "Unknown");
    assert_eq!(node_taints(&world, "n1"), ["unreachable:NoExecute", "unreachable:NoSchedule"]);
    let going = |world: &World, name: &str| {
        world.get(Resource::PODS, "a", name)["metadata"]["deletionTimestamp"].is_string()
    };
    assert!(going(&world, "at-once") && !going(&world, "default") && !going(&world, "for-ever"));
    let pod = world.get(Resource::PODS, "a", "for-ever");
    assert_eq!(pod["status"]["conditions"][0]["status"], "False", "it is not ready any more");
    assert_eq!(
        world.get(Resource::PODS, "a", "elsewhere")["status"]["conditions"][0]["status"],
        "True"
    );
    pass(&mut world, 280, &["n2"]);
    assert!(!going(&world, "default"));
    pass(&mut world, 20, &["n2"]);
    assert!(going(&world, "default") && !going(&world, "for-ever"));
    let target = &world.get(Resource::PODS, "a", "default")["status"]["conditions"][1];
    assert_eq!(target["reason"], "DeletionByTaintManager");
    // It comes back.
    set_ready(&mut world, "n1", "True");
    pass(&mut world, 60, &["n1", "n2"]);
    assert_eq!(ready(&world, "n1"), "True");
    assert!(node_taints(&world, "n1").is_empty());
}

#[test]
fn a_node_that_comes_back_in_time_keeps_its_pods() {
    let mut world = world();
    add_node(&mut world, "n1");
    add_node(&mut world, "n2");
    add_pod(&mut world, "default", "n1", default_tolerations());
    pass(&mut world, 200, &["n2"]);
    assert_eq!(ready(&world, "n1"), "Unknown");
    set_ready(&mut world, "n1", "True");
    pass(&mut world, 600, &["n1", "n2"]);
    assert!(world.get(Resource::PODS, "a", "default")["metadata"]["deletionTimestamp"].is_null());
    let events = world.list(Resource::EVENTS);
    assert!(events.iter().any(|event| event["message"] == "Cancelling deletion of Pod a/default"));
}

#[test]
fn when_all_nodes_are_silent_none_loses_its_pods() {
    let mut world = world();
    for name in ["n1", "n2"] {
        add_node(&mut world, name);
        add_pod(&mut world, name, name, json!([]));
    }
    pass(&mut world, 600, &[]);
    for name in ["n1", "n2"] {
        assert_eq!(ready(&world, name), "Unknown");
        assert_eq!(node_taints(&world, name), ["unreachable:NoSchedule"]);
        assert!(world.get(Resource::PODS, "a", name)["metadata"]["deletionTimestamp"].is_null());
    }
}

#[test]
fn a_sleep_of_ours_is_no_silence_of_theirs() {
    let mut world = world();
    add_node(&mut world, "n1");
    add_node(&mut world, "n2");
    pass(&mut world, 30, &["n1", "n2"]);
    world.now.0 += 3_600_000;
    world.settle(false, 0);
    assert_eq!((ready(&world, "n1"), ready(&world, "n2")), (json!("True"), json!("True")));
    pass(&mut world, 60, &["n2"]);
    assert_eq!((ready(&world, "n1"), ready(&world, "n2")), (json!("Unknown"), json!("True")));
}

#[test]
fn nodes_lose_their_pods_one_after_the_other() {
    let mut world = world();
    let names: Vec<String> = (1..=8).map(|index| alloc::format!("n{index}")).collect();
    names.iter().for_each(|name| add_node(&mut world, name));
    for name in &names[..4] {
        set_ready(&mut world, name, "False");
    }
    let evicting = |world: &World| {
        names
            .iter()
            .filter(|name| node_taints(world, name).contains(&"not-ready:NoExecute".into()))
            .count()
    };
    let alive: Vec<&str> = names.iter().map(String::as_str).collect();
    world.settle(false, 0);
    assert_eq!(evicting(&world), 1);
    pass(&mut world, 20, &alive);
    assert_eq!(evicting(&world), 3);
    pass(&mut world, 100, &alive);
    assert_eq!(evicting(&world), 4);
    // Five of eight down: no further one.
    set_ready(&mut world, "n5", "False");
    pass(&mut world, 100, &alive);
    assert_eq!(evicting(&world), 4);
}

#[test]
fn conditions_become_taints() {
    let mut world = world();
    add_node(&mut world, "n1");
    world.edit(Resource::NODES, "", "n1", "", |node| {
        node["spec"]["unschedulable"] = true.into();
        node["spec"]["taints"] = json!([{"key": "mine", "effect": "NoSchedule"}]);
    });
    world.edit(Resource::NODES, "", "n1", "status", |node| {
        for index in 1..4 {
            node["status"]["conditions"][index]["status"] = "True".into();
        }
    });
    world.settle(false, 1_000);
    let want = [
        "disk-pressure:NoSchedule",
        "memory-pressure:NoSchedule",
        "mine:NoSchedule",
        "pid-pressure:NoSchedule",
        "unschedulable:NoSchedule",
    ];
    assert_eq!(node_taints(&world, "n1"), want);
    world.edit(Resource::NODES, "", "n1", "", |node| node["spec"]["unschedulable"] = Value::Null);
    set_ready(&mut world, "n1", "True");
    world.settle(false, 1_000);
    assert_eq!(node_taints(&world, "n1"), ["mine:NoSchedule"]);
}

#[test]
fn an_idle_cluster_writes_nothing() {
    let mut world = world();
    add_node(&mut world, "n1");
    pass(&mut world, 100, &["n1"]);
    let before = world.log.len();
    pass(&mut world, 1_000, &["n1"]);
    assert_eq!(world.log.len(), before);
}

#[test]
fn tolerated_seconds() {
    let taint =
        |key: &str| Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() };
    let tolerates = |key: &str, operator: &str, seconds: Option<i64>| Toleration {
        key: key.into(),
        operator: operator.into(),
        toleration_seconds: seconds,
        ..Toleration::default()
    };
    let check = |tolerations: &[Toleration], want| {
        assert_eq!(
            taints::tolerated_seconds(&[taint("a"), taint("b")], tolerations),
            want,
            "{tolerations:?}"
        );
    };
    check(&[], Some(0));
    check(&[tolerates("a", "Exists", None)], Some(0));
    check(&[tolerates("", "Exists", None)], None);
    check(&[tolerates("a", "Exists", Some(9)), tolerates("b", "Equal", Some(5))], Some(5));
    check(&[tolerates("a", "Exists", None), tolerates("b", "", Some(-5))], Some(0));
    let other_value = Toleration { value: "x".into(), ..tolerates("a", "Equal", None) };
    check(&[other_value, tolerates("b", "Exists", None)], Some(0));
}

#[test]
fn nodes_get_addresses_of_their_own() {
    let mut world = World::new(vec![Work::boxed(Ipam::new("10.42.0.0/22"))], 1);
    let cidr = |world: &World, name: &str| {
        world.get(Resource::NODES, "", name)["spec"]["podCIDR"]
            .as_str()
            .unwrap_or("none")
            .to_string()
    };
    world.create(
        Resource::NODES,
        json!({"metadata": {"name": "fixed"}, "spec": {"podCIDR": "10.42.1.0/24"}}),
    );
    for name in ["a", "b", "c", "d"] {
        world.create(Resource::NODES, json!({"metadata": {"name": name}, "spec": {}}));
    }
    world.settle(false, 1_000);
    let all: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| cidr(&world, name)).collect();
    assert_eq!(all, ["10.42.0.0/24", "10.42.2.0/24", "10.42.3.0/24", "none"]);
    assert_eq!(world.list(Resource::EVENTS)[0]["reason"], "CIDRNotAvailable");
    world.remove(Resource::NODES, "", "a");
    world.settle(false, 1_000);
    assert_eq!(cidr(&world, "d"), "10.42.0.0/24");
    let node = world.get(Resource::NODES, "", "d");
    assert_eq!(node["spec"]["podCIDRs"], json!(["10.42.0.0/24"]));
}
