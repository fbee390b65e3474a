//! The scheduler in a small world: nodes and pods come and go, its calls are answered by hand.

mod anew;
mod filters;
mod limits;
mod preemption;

use alloc::{
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, Resource, Status};
use serde_json::{Value, json};

use super::{PlacementProfile, Scheduler};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    controllers::{CallAction, Controller, ControllerCall},
};

struct World {
    now: Millis,
    cache: Cache,
    scheduler: Scheduler,
    revision: u64,
}

impl World {
    fn new() -> Self {
        Self {
            now: Millis(1_800_000_000_000),
            cache: Cache::default(),
            scheduler: Scheduler::new(PlacementProfile::Pack),
            revision: 0,
        }
    }

    fn put(&mut self, resource: Resource, value: Value) -> Arc<Object> {
        self.revision += 1;
        let object = crate::controllers::testing::object(resource, value, self.revision);
        let old = self.cache.insert(object.clone());
        let change = Change { revision: self.revision, resource, old, new: Some(object.clone()) };
        self.scheduler.changed(self.now, &change);
        object
    }

    fn remove(&mut self, resource: Resource, namespace: &str, name: &str) {
        self.revision += 1;
        let old = self.cache.remove(resource, namespace, name);
        self.scheduler
            .changed(self.now, &Change { revision: self.revision, resource, old, new: None });
    }

    /// `name cpu_milli [taint=value:effect] [label=value] [cordoned]`.
    fn node(&mut self, words: &str) {
        let mut words = words.split_whitespace();
        let (name, cpu) = (words.next().unwrap(), words.next().unwrap());
        let (mut labels, mut taints, mut cordoned) = (json!({}), Vec::new(), false);
        for word in words {
            match (word, word.split_once('='), word.split_once(':')) {
                ("cordoned", ..) => cordoned = true,
                (_, Some((key, _)), Some((taint, effect))) => {
                    let value = taint.split_once('=').unwrap().1;
                    taints.push(json!({"key": key, "value": value, "effect": effect}));
                }
                (_, Some((key, value)), None) => labels[key] = value.into(),
                _ => panic!("{word}"),
            }
        }
        self.put(
            Resource::NODES,
            json!({
                "metadata": {"name": name, "uid": format!("node-{name}"), "labels": labels},
                "spec": {"taints": taints, "unschedulable": cordoned},
                "status": {"allocatable": {"cpu": format!("{cpu}m"), "memory": "1Gi", "pods": "10"}},
            }),
        );
    }

    fn pod(&mut self, name: &str, cpu: &str, more: Value) -> Arc<Object> {
        let mut spec = json!({"schedulerName": "default-scheduler", "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.put(Resource::PODS, json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("pod-{name}")}, "spec": spec}))
    }

    fn step(&mut self) -> Vec<ControllerCall> {
        let mut calls = Vec::new();
        self.scheduler.step(self.now, &self.cache, &mut Rng(1), &mut calls);
        calls
    }

    /// Carries calls out; a line for each binding, each thing told of a pod, each pod that is made to leave.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else it asks for is an event")]
    fn settle(&mut self) -> String {
        let mut lines = Vec::new();
        for call in self.step() {
            let found = self.cache.get(Resource::PODS, "ns", &call.name);
            let mut pod = found.map(|pod| pod.value()).unwrap_or_default();
            match &call.action {
                CallAction::Create(binding) if call.subresource == "binding" => {
                    let node = binding["target"]["name"].as_str().unwrap().to_string();
                    lines.push(format!("{} -> {node}", call.name));
                    pod["spec"]["nodeName"] = node.into();
                    pod["status"]["nominatedNodeName"] = Value::Null;
                }
                CallAction::Patch(_, patch) if call.resource == Resource::PODS => {
                    let status = &patch["status"];
                    assert_eq!(patch["metadata"]["uid"], pod["metadata"]["uid"]);
                    if let Some(condition) = status["conditions"].get(0) {
                        let message = condition["message"].as_str().unwrap();
                        lines.push(format!("{}: {message}", call.name));
                        pod["status"]["conditions"] = json!([condition]);
                    }
                    if let Some(node) = status.get("nominatedNodeName") {
                        let shown = node.as_str().unwrap_or("no node");
                        lines.push(format!("{shown} is kept for {}", call.name));
                        pod["status"]["nominatedNodeName"] = node.clone();
                    }
                }
                CallAction::Delete { uid, .. } => {
                    assert_eq!(uid.as_deref(), pod["metadata"]["uid"].as_str());
                    lines.push(format!("{} must leave", call.name));
                    pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
                }
                _ => {
                    assert_eq!(call.resource, Resource::EVENTS);
                    continue;
                }
            }
            let object = self.put(Resource::PODS, pod);
            self.scheduler.done(self.now, &call, Ok(&object));
        }
        lines.join("; ")
    }

    /// A node as its manifest says: 4 cores, 4 GiB, 110 pods if it says nothing.
    fn node_of(&mut self, name: &str, manifest: &Value) {
        let mut node = json!({
            "metadata": {"labels": {}},
            "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}},
        });
        merge(&mut node, manifest);
        node["metadata"]["name"] = name.into();
        node["metadata"]["uid"] = format!("node-{name}").into();
        self.put(Resource::NODES, node);
    }

    /// A pod as its manifest says, in the namespace `ns`.
    fn pod_of(&mut self, name: &str, manifest: &Value) {
        let mut pod = json!({
            "metadata": {"namespace": "ns"},
            "spec": {"containers": [{"name": "c"}]},
        });
        merge(&mut pod, manifest);
        pod["metadata"]["name"] = name.into();
        pod["metadata"]["uid"] = format!("pod-{name}").into();
        self.put(Resource::PODS, pod);
    }

    fn later(&mut self, ms: u64) {
        self.now = Millis(self.now.0 + ms);
    }
}

/// Puts the fields of `more` into a manifest.
fn merge(into: &mut Value, more: &Value) {
    let Some(fields) = more.as_object() else {
        *into = more.clone();
        return;
    };
    for (key, value) in fields {
        merge(&mut into[key], value);
    }
}

#[track_caller]
fn check(nodes: &[&str], pod: (&str, Value), want: &str) {
    let mut world = World::new();
    for node in nodes {
        world.node(node);
    }
    world.pod("a", pod.0, pod.1);
    assert_eq!(world.settle(), want);
}

#[test]
fn pods_go_where_they_fit_or_hear_why_not() {
    check(&["pi1 4000", "pi2 1000"], ("500m", json!({})), "a -> pi2");
    check(&[], ("500m", json!({})), "a: no nodes available to schedule pods");
    check(
        &["pi1 100", "pi2 4000 cordoned", "pi3 4000 only=gpu:NoSchedule", "pi4 4000"],
        ("500m", json!({"nodeSelector": {"disk": "ssd"}})),
        "a: 0/4 nodes are available: 1 node(s) had untolerated taint {only: gpu}, 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
    );
    check(
        &["pi1 100"],
        ("500m", json!({})),
        "a: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    check(
        &["pi1 4000", "pi2 4000 disk=ssd"],
        ("1", json!({"nodeSelector": {"disk": "ssd"}})),
        "a -> pi2",
    );
    let tolerant = json!({"tolerations": [{"key": "only", "operator": "Exists"}]});
    check(&["pi1 4000 only=gpu:NoExecute"], ("1", tolerant), "a -> pi1");
    check(&["pi1 1000 only=x:PreferNoSchedule", "pi2 4000"], ("900m", json!({})), "a -> pi2");
}

#[test]
fn node_affinity_is_understood_and_what_is_not_is_refused_by_name() {
    let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let nodes = ["pi1 4000 cores=4 arch=arm", "pi2 4000 cores=8 arch=arm64"];
    let one = |key: &str, operator: &str, values: Value| {
        affinity(
            json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]),
        )
    };
    check(&nodes, ("1", one("cores", "Gt", json!(["4"]))), "a -> pi2");
    check(&nodes, ("1", one("cores", "Lt", json!(["8"]))), "a -> pi1");
    check(&nodes, ("1", one("arch", "NotIn", json!(["arm"]))), "a -> pi2");
    check(&nodes, ("1", one("gpu", "DoesNotExist", json!([]))), "a -> pi1");
    check(
        &nodes,
        (
            "1",
            affinity(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["pi2"]}]}]),
            ),
        ),
        "a -> pi2",
    );
    check(
        &nodes,
        ("1", affinity(json!([{}]))),
        "a: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]});
    check(
        &nodes,
        ("1", spread),
        "a: 0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints (missing required label). preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn what_is_being_bound_counts_as_bound() {
    let mut world = World::new();
    world.node("pi1 1000");
    world.pod("a", "600m", json!({}));
    world.pod("b", "600m", json!({}));
    let calls = world.step();
    let bindings: Vec<_> = calls
        .iter()
        .filter(|call| call.subresource == "binding")
        .map(|call| call.name.as_str())
        .collect();
    assert_eq!(bindings, ["a"], "P1: not both");

    // The binding is refused: the room is free again, for the next one in the line.
    let bind = calls.into_iter().find(|call| call.subresource == "binding").unwrap();
    world.scheduler.done(world.now, &bind, Err(&Status::new(500, "InternalError", "disk on fire")));
    world.later(10_000);
    assert_eq!(
        world.settle(),
        "a -> pi1; b: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn a_refused_pod_is_looked_at_again_when_room_changes() {
    let mut world = World::new();
    world.node("pi1 1000");
    world.pod("a", "900m", json!({}));
    assert_eq!(world.settle(), "a -> pi1");
    world.pod("b", "900m", json!({}));
    assert_eq!(
        world.settle(),
        "b: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    world.later(20_000);
    assert_eq!(world.settle(), "", "nothing changed, so nothing is tried");
    world.remove(Resource::PODS, "ns", "a");
    assert_eq!(world.settle(), "b -> pi1");
    // A pod that ended leaves its room, though its object stays.
    world.pod("c", "900m", json!({}));
    assert!(world.settle().starts_with("c: 0/1"));
    let mut ended = world.cache.get(Resource::PODS, "ns", "b").unwrap().value();
    ended["status"] = json!({"phase": "Succeeded"});
    world.put(Resource::PODS, ended);
    world.later(1_000);
    assert_eq!(world.settle(), "c -> pi1");
}

#[test]
fn a_pod_that_found_no_node_waits_out_its_back_off_and_a_node_brings_it_back() {
    let mut world = World::new();
    world.pod("a", "1", json!({}));
    assert_eq!(world.settle(), "a: no nodes available to schedule pods");
    world.node("pi1 500");
    assert_eq!(world.settle(), "", "within the back-off");
    let due = world.scheduler.next_due().unwrap();
    assert!(world.now < due && due <= Millis(world.now.0 + 1_000));
    world.later(1_000);
    assert_eq!(
        world.settle(),
        "a: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    world.node("pi2 2000");
    world.later(2_000);
    assert_eq!(world.settle(), "a -> pi2");
    // Only the event is left to be written.
    assert_eq!(world.settle(), "");
    assert_eq!(world.scheduler.next_due(), None);
}

#[test]
fn higher_priority_goes_first_and_others_pods_are_left_alone() {
    let mut world = World::new();
    world.pod("low", "900m", json!({}));
    world.pod("other", "900m", json!({"schedulerName": "mine"}));
    world.pod("gated", "900m", json!({"schedulingGates": [{"name": "wait"}]}));
    world.later(1);
    world.pod("high", "900m", json!({"priority": 1000}));
    world.node("pi1 1000");
    assert_eq!(
        world.settle(),
        "high -> pi1; low: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
}

#[test]
fn pods_known_before_their_node_take_their_room_when_it_comes() {
    let mut world = World::new();
    world.pod("old", "900m", json!({"nodeName": "pi1"}));
    world.node("pi1 1000");
    world.pod("new", "900m", json!({}));
    assert_eq!(
        world.settle(),
        "new: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    // The node goes and comes back: the pod is still counted.
    world.remove(Resource::NODES, "", "pi1");
    world.node("pi1 1000");
    world.later(300_000);
    assert_eq!(world.settle(), "", "nothing new to tell");
}

#[test]
fn each_profile_has_its_own_idea_of_the_best_node() {
    let place = |profile: PlacementProfile| {
        let mut world = World { scheduler: Scheduler::new(profile), ..World::new() };
        world.node("full 4000");
        world.node("idle 4000");
        world.pod("old", "2", json!({"nodeName": "full"}));
        for name in ["a", "b"] {
            world.pod(name, "1", json!({}));
        }
        world.settle()
    };
    assert_eq!(place(PlacementProfile::Pack), "a -> full; b -> full");
    assert_eq!(place(PlacementProfile::Spread), "a -> idle; b -> idle");
    let told = place(PlacementProfile::Gradient);
    assert_eq!(told.matches(" -> ").count(), 2, "{told}");
    assert_eq!(told, place(PlacementProfile::Gradient), "P3");
}
