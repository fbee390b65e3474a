//! Placement, played by hand.

extern crate std;
use std::{format, string::String, vec, vec::Vec};

use super::*;
use crate::amounts::Resource;

type Table = Placement<Vec<NodeRecord>, Vec<PodRecord>>;

fn table() -> Table {
    Placement::new(vec![NodeRecord::default(); 8], vec![PodRecord::default(); 64])
}

fn node(cpu_milli: u64, memory_mib: u64) -> NodeOffer {
    let allocatable =
        Amounts { cpu_milli, memory_bytes: memory_mib << 20, pods: 110, ..Amounts::ZERO };
    NodeOffer { allocatable, ..NodeOffer::default() }
}

fn ask(cpu_milli: u64, memory_mib: u64) -> Ask {
    let requests = Amounts { cpu_milli, memory_bytes: memory_mib << 20, pods: 1, ..Amounts::ZERO };
    Ask { requests, ..Ask::default() }
}

/// `nodes` is `cpu/mem` words (milli-cores, MiB), `pods` likewise; the answer is a node number or `-` for each pod.
#[track_caller]
fn check(nodes: &str, pods: &str, want: &str) {
    let pair = |word: &str| {
        let (cpu, memory) = word.split_once('/').unwrap();
        (cpu.parse().unwrap(), memory.parse().unwrap())
    };
    let mut table = table();
    for word in nodes.split_whitespace() {
        let (cpu, memory) = pair(word);
        table.add_node(node(cpu, memory)).unwrap();
    }
    let mut got = String::new();
    for word in pods.split_whitespace() {
        let (cpu, memory) = pair(word);
        let ask = ask(cpu, memory);
        match table.place(&ask) {
            Ok(at) => {
                table.assume(&ask, at).unwrap();
                got += &format!("{} ", at.0);
            }
            Err(_) => got += "- ",
        }
    }
    assert_eq!(got.trim_end(), want);
}

#[test]
fn fills_the_fullest_node_that_fits() {
    check("4000/4096 1000/1024", "500/512 500/512 500/512", "1 1 0");
    check("1000/1024 1000/1024", "600/100 600/100 600/100", "0 1 -");
    check("4000/4096", "4000/4096 1/1", "0 -");
    // Nothing asked for: counted in scores, never refused for CPU or memory.
    check("1000/1024", "1000/1024 0/0", "0 0");
}

#[test]
fn keeps_cpu_and_memory_balanced() {
    // Node 0 has its CPU half used by then: the memory-heavy pod evens it out.
    check("2000/2048 2000/2048", "1000/128 128/1000", "0 0");
}

#[test]
fn taints_requirements_and_cordons_refuse_with_their_reason() {
    let mut table = table();
    let mut tainted = node(1000, 1024);
    assert!(tainted.taints.insert(5));
    let tainted = table.add_node(tainted).unwrap();
    let cordoned = table.add_node(NodeOffer { unschedulable: true, ..node(1000, 1024) }).unwrap();
    let mut arm = node(1000, 1024);
    assert!(arm.meets.insert(200));
    let arm = table.add_node(arm).unwrap();

    let mut wants_arm = Requirements::EMPTY;
    assert!(wants_arm.insert(200));
    let mut pod = ask(2000, 1);
    assert!(pod.terms.push(wants_arm));
    let refusal = table.place(&pod).unwrap_err();
    assert_eq!((refusal.nodes, refusal.taint[5], refusal.unschedulable), (3, 1, 1));
    assert_eq!(refusal.insufficient_in(Resource::Cpu), 1);
    assert_eq!(table.why_not(tainted, &pod), Ok(Some(Reason::Taint(5))));
    assert_eq!(table.why_not(cordoned, &pod), Ok(Some(Reason::Unschedulable)));
    assert_eq!(table.why_not(arm, &pod), Ok(Some(Reason::Insufficient(Resource::Cpu))));

    pod.requests.cpu_milli = 10;
    assert_eq!(table.place(&pod), Ok(arm));
    assert!(pod.tolerates.insert(5));
    assert_eq!(table.why_not(tainted, &pod), Ok(Some(Reason::Requirements)));
}

#[test]
fn soft_taints_outweigh_fit() {
    let mut table = table();
    let mut soft = node(1000, 1024);
    assert!(soft.soft_taints.insert(0));
    table.add_node(soft).unwrap();
    let other = table.add_node(node(64_000, 65_536)).unwrap();
    assert_eq!(table.place(&ask(500, 512)), Ok(other));
}

#[test]
fn an_assumed_pod_counts_until_it_is_forgotten() {
    let mut table = table();
    let at = table.add_node(node(1000, 1024)).unwrap();
    let pod = ask(1000, 1024);
    let assumed = table.assume(&pod, at).unwrap();
    assert_eq!(table.assume(&pod, at), Err(Error::Refused(Reason::Insufficient(Resource::Cpu))));
    table.forget(assumed).unwrap();
    assert_eq!(table.forget(assumed), Err(Error::Stale));
    let bound = table.assume(&pod, at).unwrap();
    table.confirm(bound).unwrap();
    assert_eq!(table.forget(bound), Err(Error::Stale), "a bound pod never moves (P2)");
    table.remove_pod(bound).unwrap();
    assert_eq!(table.node(at).unwrap().used(), &Amounts::ZERO);
}

#[test]
fn a_full_table_is_an_answer_and_stale_handles_fall_dead() {
    let mut table = Placement::new([NodeRecord::default()], [PodRecord::default()]);
    let at = table.add_node(node(1000, 1024)).unwrap();
    assert_eq!(table.add_node(node(1, 1)), Err(Error::Full));
    let pod = table.add_bound(&ask(1, 1).requests, at).unwrap();
    assert_eq!(table.add_bound(&ask(1, 1).requests, at), Err(Error::Full));
    table.remove_node(at).unwrap();
    assert_eq!(table.remove_pod(pod), Err(Error::Stale));
    assert_eq!(table.place(&ask(1, 1)).unwrap_err().nodes, 0);
}
