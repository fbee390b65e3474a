//! Pods of lower priority leave for others: who, what they and the others are told, and whose the room is meanwhile.

use std::{
    format,
    string::{String, ToString},
};

use coracle_api::{Resource, Status};
use serde_json::{Value, json};

use super::{PlacementProfile, Scheduler, World};
use crate::{
    cache::Change,
    controllers::{CallAction, Controller as _},
};

const TOLD: &str = "low: default-scheduler: preempting to accommodate a higher priority pod";
const SHORT: &str = "0/1 nodes are available: 1 Insufficient cpu.";

fn asks(cpu: &str, priority: i32) -> Value {
    json!({"spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

/// One node of one core, with `low` on it.
fn crowded() -> World {
    let mut world = World::new();
    world.node("pi1 1000");
    world.pod_of("low", &asks("900m", 0));
    assert_eq!(world.settle(), "low -> pi1");
    world
}

#[test]
fn a_victim_leaves_and_its_room_is_kept() {
    let mut world = crowded();
    world.pod_of("high", &asks("900m", 100));
    assert_eq!(
        world.settle(),
        format!("{TOLD}; low must leave; high: {SHORT}; pi1 is kept for high")
    );
    // Others do not get that room, whether it is free yet or not; nor does `high` before it is.
    let refused =
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    world.pod_of("mid", &asks("500m", 50));
    assert_eq!(
        world.settle(),
        format!("mid: {SHORT} preemption: 0/1 nodes are available: 1 Insufficient cpu.")
            .replace("preemption: 0/1 nodes are available: 1 Insufficient cpu.", refused)
    );
    world.later(400_000);
    let told = world.settle();
    assert!(!told.contains("->") && !told.contains("leave"), "{told}");
    world.remove(Resource::PODS, "ns", "low");
    world.pod_of("late", &asks("500m", 60));
    world.later(20_000);
    let told = world.settle();
    assert!(told.starts_with("high -> pi1"), "{told}");
    assert!(!told.contains("late ->") && !told.contains("mid ->"), "{told}");
}

#[test]
fn who_may_not_preempt_says_why() {
    let check = |change: Value, want: &str| {
        let mut world = crowded();
        let mut pod = asks("900m", 100);
        super::merge(&mut pod, &change);
        world.pod_of("high", &pod);
        assert_eq!(world.settle(), format!("high: {want}"));
    };
    check(
        json!({"spec": {"preemptionPolicy": "Never"}}),
        &format!("{SHORT} preemption: not eligible due to preemptionPolicy=Never."),
    );
    check(
        json!({"spec": {"priority": 0}}),
        &format!(
            "{SHORT} preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ),
    );
    // More than the node has: nobody's leaving helps.
    check(
        asks("1001m", 100),
        &format!(
            "{SHORT} preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        ),
    );
    check(
        json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
}

#[test]
fn those_of_lower_priority_together_may_be_too_few() {
    let mut world = World::new();
    world.node("pi1 1000");
    world.pod_of("equal", &asks("500m", 100));
    world.pod_of("low", &asks("400m", 0));
    world.settle();
    world.pod_of("high", &asks("900m", 100));
    assert_eq!(
        world.settle(),
        format!("high: {SHORT} preemption: 0/1 nodes are available: 1 Insufficient cpu.")
    );
}

#[test]
fn the_least_important_leave() {
    let mut world = World::new();
    world.node("pi1 1000");
    world.node("pi2 1000");
    for (name, node, priority) in [("a", "pi1", 10), ("b", "pi2", 5)] {
        let mut pod = asks("900m", priority);
        pod["spec"]["nodeName"] = node.into();
        world.pod_of(name, &pod);
    }
    world.pod_of("high", &asks("900m", 100));
    let told = world.settle();
    assert!(told.contains("b must leave") && told.contains("pi2 is kept for high"), "{told}");
    assert!(!told.contains("a must leave"), "{told}");
}

#[test]
fn higher_priority_takes_a_node_that_is_kept_for_another() {
    let mut world = crowded();
    world.pod_of("high", &asks("900m", 100));
    world.settle();
    world.pod_of("top", &asks("900m", 1000));
    let told = world.settle();
    assert!(
        told.contains("no node is kept for high") && told.contains("pi1 is kept for top"),
        "{told}"
    );
    assert!(!told.contains("must leave"), "low leaves already: {told}");
    world.remove(Resource::PODS, "ns", "low");
    world.later(20_000);
    assert!(world.settle().starts_with("top -> pi1"));
}

#[test]
fn another_node_is_taken_if_one_comes() {
    let mut world = crowded();
    world.pod_of("high", &asks("900m", 100));
    world.settle();
    world.node("pi2 1000");
    world.later(20_000);
    assert_eq!(world.settle(), "high -> pi2");
    // What was kept is for all again.
    world.remove(Resource::PODS, "ns", "low");
    world.pod_of("mid", &asks("900m", 50));
    world.later(20_000);
    assert_eq!(world.settle(), "mid -> pi1");
}

#[test]
fn what_is_kept_ends_with_the_pod_it_is_kept_for() {
    let mut world = crowded();
    world.pod_of("high", &asks("900m", 100));
    world.settle();
    world.remove(Resource::PODS, "ns", "high");
    world.remove(Resource::PODS, "ns", "low");
    world.pod_of("mid", &asks("900m", 50));
    assert_eq!(world.settle(), "mid -> pi1");
}

#[test]
fn a_victim_that_cannot_be_deleted_keeps_its_room() {
    let mut world = crowded();
    world.pod_of("high", &asks("900m", 100));
    let calls = world.step();
    let delete = calls.iter().find(|call| matches!(call.action, CallAction::Delete { .. }));
    let refused = Status::new(500, "InternalError", "disk on fire");
    world.scheduler.done(world.now, delete.unwrap(), Err(&refused));
    // P1: the room that it has is nobody else's; it is asked to leave again.
    world.pod_of("mid", &asks("500m", 0));
    let told = world.settle();
    assert!(told.contains(&format!("mid: {SHORT}")), "{told}");
    world.later(20_000);
    assert!(world.settle().contains("low must leave"));
}

#[test]
fn after_a_restart_nobody_else_must_leave() {
    let mut world = World::new();
    world.node("pi1 1000");
    world.node("pi2 1000");
    for name in ["low", "low2"] {
        world.pod_of(name, &asks("900m", 0));
    }
    world.settle();
    world.pod_of("high", &asks("900m", 100));
    assert!(world.settle().contains("low must leave"));
    world.scheduler = Scheduler::new(PlacementProfile::Pack);
    for resource in [Resource::NODES, Resource::PODS] {
        let all: std::vec::Vec<_> = world.cache.list(resource, None).cloned().collect();
        for object in all {
            let change =
                Change { revision: object.revision, resource, old: None, new: Some(object) };
            world.scheduler.changed(world.now, &change);
        }
    }
    let told = world.settle();
    assert!(!told.contains("must leave") && !told.contains("->"), "{told}");
    world.remove(Resource::PODS, "ns", "low");
    world.later(20_000);
    assert_eq!(world.settle(), String::from("high -> pi1").to_string());
}

#[test]
fn ports_and_anti_affinity_are_mended_by_leaving() {
    let mut world = World::new();
    world.node("pi1 1000");
    let port = json!({"spec": {"priority": 0, "containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}});
    world.pod_of("low", &port);
    assert_eq!(world.settle(), "low -> pi1");
    let mut high = port;
    high["spec"]["priority"] = 10.into();
    world.pod_of("high", &high);
    let told = world.settle();
    assert!(told.contains("low must leave"), "{told}");
    assert!(
        told.contains("1 node(s) didn't have free ports for the requested pod ports"),
        "{told}"
    );
    world.later(5_000);
    let waits = world.settle();
    assert!(!waits.contains("->"), "the port is still taken: {waits}");
    world.remove(Resource::PODS, "ns", "low");
    world.later(20_000);
    assert_eq!(world.settle(), "high -> pi1");
}
