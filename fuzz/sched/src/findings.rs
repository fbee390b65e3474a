//! What the fuzz targets found, and what mutants needed to be found, as clusters rather than as bytes: they outlive a
//! change of how bytes are read.

use sched_core::{Error, NodeIndex, Profile, Reason};

use crate::{
    heap::Heap,
    pair::{Pair, profile},
    spec::{AskSpec, NodeSpec, PodSpec, Sizes, SpreadSpec, TAINTS},
};

fn pair() -> Pair {
    Pair::new(Heap::new(2, 8), profile(0), 2, 8)
}

fn node() -> NodeSpec {
    let sizes = Sizes { cpu: 4000, memory: 8 << 30, pods: 110, ..Sizes::default() };
    NodeSpec { sizes, ..NodeSpec::default() }
}

fn pod(cpu: u32) -> AskSpec {
    let sizes = Sizes { cpu, pods: 1, ..Sizes::default() };
    AskSpec { pod: PodSpec { sizes, ..PodSpec::default() }, ..AskSpec::default() }
}

/// A node without the label of a second spread is told so: in the first, over hosts, it does not count (P4).
#[test]
fn a_missing_label_is_named_before_too_many_pods_on_the_host() {
    let mut pair = pair();
    pair.add_node(node());
    let mut ask = pod(100);
    ask.pod.matches = 1;
    pair.add_bound(&ask, 0, 0);
    // Term 0 has the host as its key, term 5 a label.
    for (term, min_domains) in [(0, 2), (5, 0)] {
        ask.spreads.push(SpreadSpec {
            term,
            max_skew: 1,
            min_domains,
            preferred: None,
            ignores_affinity: true,
            ignores_taints: true,
        });
    }
    pair.explain(&ask);
}

/// Sums that have reached the end of their range are made anew when a pod leaves (P1).
#[test]
fn a_node_far_beyond_what_it_has_is_not_empty_when_one_of_two_pods_leaves() {
    let mut pair = pair();
    pair.add_node(node());
    for _ in 0..2 {
        pair.add_bound(&pod(3 << 30), 0, 0);
    }
    let first = pair.naive.pods[0].handle;
    pair.remove_pod(first);
    pair.check();
    pair.audit();
    assert_eq!(pair.place(&pod(1000)), None);
}

/// A repack that was only thought through leaves pods in the order in which they came (P3).
#[test]
fn a_repack_leaves_the_order_of_pods() {
    let mut pair = pair();
    pair.add_node(node());
    pair.add_node(node());
    for at in [0, 0, 1] {
        pair.add_bound(&pod(500), 0, at);
    }
    let asks: Vec<_> = pair.naive.pods.iter().map(|held| (held.handle, held.ask.ask())).collect();
    let ask_of = |pod| asks.iter().find(|(one, _)| *one == pod).map(|(_, ask)| ask);
    let mut moves = [sched_core::Move::default(); 8];
    assert_eq!(pair.core.repack(&ask_of, &mut moves), 1);
    pair.check();
}

/// A pod kept out by a host port gets the node of the one that holds it, as soon as that one is told to leave.
#[test]
fn a_node_is_kept_for_a_pod_whose_port_is_still_held() {
    let mut pair = pair();
    pair.add_node(node());
    let mut holder = pod(100);
    holder.pod.ports = 1;
    pair.add_bound(&holder, 0, 0);
    let mut ask = holder.clone();
    (ask.ports_wanted, ask.pod.priority) = (1, 10);
    let found = pair.core.preempt(&ask.ask());
    let nominated = found.and_then(|found| pair.core.nominate(&ask.ask(), &found).ok());
    let Some(nominated) = nominated else { panic!("the node is not kept") };
    assert_eq!(pair.core.take_up(nominated), Err(Error::Stale), "the holder is still there");
    assert_eq!(pair.core.remove_pod(pair.naive.pods[0].handle), Ok(()));
    assert_eq!(pair.core.take_up(nominated), Ok(NodeIndex(0)));
    assert_eq!(pair.core.take_up(nominated), Err(Error::Stale), "taken up twice");
}

/// What was true when victims were looked for may be no longer when they are told to leave.
#[test]
fn no_node_is_kept_that_has_changed_since() {
    let mut pair = pair();
    pair.add_node(node());
    pair.add_bound(&pod(4000), 0, 0);
    let mut ask = pod(1000);
    ask.pod.priority = 10;
    let Some(found) = pair.core.preempt(&ask.ask()) else { panic!("nobody need stay") };
    pair.update_node(0, NodeSpec { taints: 4, ..node() });
    let refused = Err(Error::Refused(Reason::Taint(TAINTS[2])));
    assert_eq!(pair.core.nominate(&ask.ask(), &found), refused);
    pair.update_node(0, node());
    let elsewhere = AskSpec { node: Some(1), ..ask.clone() };
    let refused = Err(Error::Refused(Reason::Name));
    assert_eq!(pair.core.nominate(&elsewhere.ask(), &found), refused);
    pair.check();
    assert!(pair.core.nominate(&ask.ask(), &found).is_ok());
}

/// With a profile that weighs fragmentation a slice gets the device by which the workload loses least.
#[test]
fn slices_go_where_the_workload_loses_least() {
    let slices = [230, 470, 320, 650, 810, 160, 1000, 590];
    for first in 0..9_usize {
        let mut pair = Pair::new(Heap::new(2, 16).with_workload(4), Profile::GRADIENT, 2, 16);
        for devices in [3, 4] {
            pair.add_node(NodeSpec { devices, ..node() });
        }
        for step in 0..10 {
            let mut ask = pod(50);
            ask.pod.devices = (1, slices[(first + step * (1 + first / 2)) % slices.len()]);
            pair.observe(&ask);
            if let Some(at) = pair.place(&ask) {
                pair.assume(&ask, at);
            }
            pair.check();
        }
    }
}

/// What pods seen since the last sample change counts in the next one: an answer remembered is the answer (P3).
#[test]
fn a_score_is_the_same_remembered_or_worked_out() {
    let mut pair = Pair::new(Heap::new(2, 16).with_workload(4), Profile::GRADIENT, 2, 16);
    pair.add_node(node());
    for _ in 0..16 {
        pair.observe(&pod(100));
    }
    pair.explain(&pod(100));
    for cpu in 1..16 {
        pair.observe(&pod(3950));
        pair.explain(&pod(100));
        pair.explain(&pod(100 + cpu));
    }
}
