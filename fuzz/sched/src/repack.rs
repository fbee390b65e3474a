//! Body `sched_repack`: moves that free nodes, and moves that make room.

use sched_core::{Ask, Move, PodHandle, PodState};

use crate::{
    bytes::Bytes,
    heap::Heap,
    naive::{NOBODY, Naive},
    ops,
    pair::{Pair, profile},
    spec::{AskSpec, places},
};

const OPS_MAX: usize = 32;
const NODES: usize = 6;
const PODS: usize = 24;

/// Plays the bytes and holds each proposal against the model: every move is legal when its turn comes, no budget is
/// spent beyond what it allows, nodes in use never grow in number, and the mirror is as it was.
pub fn sched_repack(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let weighs = bytes.byte();
    let mut pair = Pair::new(Heap::new(NODES, PODS), profile(weighs % 29), NODES, PODS);
    for step in 0..OPS_MAX {
        if bytes.is_empty() {
            break;
        }
        match bytes.below(52) {
            choice @ 0..ops::CHOICES => ops::play(&mut pair, choice, &mut bytes),
            40..44 => repack(&pair.naive.clone(), &mut pair, &mut bytes),
            44..47 => make_room(&pair.naive.clone(), &mut pair, &mut bytes),
            47 => ops::add_node(&mut pair, &mut bytes),
            48 => (0..4).for_each(|budget| pair.set_budget(budget, 3)),
            _ => ops::confirmed(&mut pair, &mut bytes),
        }
        pair.check();
        if step % 4 == 3 {
            pair.audit();
        }
    }
    pair.clear();
}

/// What each pod asks for; those whose place in the list, modulo 8, is in `stay` must stay.
fn asks(naive: &Naive, stay: u8) -> Vec<(PodHandle, Ask)> {
    let pods = naive.pods.iter().enumerate();
    let may = pods.filter(|(place, _)| stay >> (place % 8) & 1 == 0);
    may.map(|(_, held)| (held.handle, held.ask.ask())).collect()
}

fn repack(naive: &Naive, pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let what = bytes.byte();
    let stay = if what & 1 == 1 { bytes.byte() & bytes.byte() } else { 0 };
    let mut moves = vec![Move::default(); if what & 2 == 2 { usize::from(what >> 2) } else { 32 }];
    let asks = asks(naive, stay);
    let ask_of = |pod: PodHandle| asks.iter().find(|(one, _)| *one == pod).map(|(_, ask)| ask);
    let made = pair.core.repack(&ask_of, &mut moves);
    assert!(made <= moves.len());
    // The same again: nothing of the first is left.
    let mut again = vec![Move::default(); moves.len()];
    assert_eq!(pair.core.repack(&ask_of, &mut again), made);
    assert_eq!(again[..made], moves[..made], "the second repack is another");

    let mut world = naive.clone();
    let mut spent = [0_u32; 8];
    let before = world.nodes_in_use();
    for one in &moves[..made] {
        assert!(ask_of(one.pod).is_some(), "a pod that must stay");
        carry_out(&mut world, one, &mut spent);
        assert!(world.nodes_in_use() <= before, "more nodes in use on the way");
    }
    assert!(made == 0 || world.nodes_in_use() < before, "moves that free no node");
}

fn make_room(naive: &Naive, pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let ask = pair.draw(bytes);
    let what = bytes.byte();
    let stay = if what & 1 == 1 { bytes.byte() & bytes.byte() } else { 0 };
    if pair.place(&ask).is_some() {
        return;
    }
    let mut moves = vec![Move::default(); if what & 2 == 2 { usize::from(what >> 4) } else { 32 }];
    let asks = asks(naive, stay);
    let ask_of = |pod: PodHandle| asks.iter().find(|(one, _)| *one == pod).map(|(_, ask)| ask);
    let answer = pair.core.make_room(&ask.ask(), &ask_of, &mut moves);
    let Some((at, made)) = answer else {
        assert_eq!(one_move(naive, &ask, stay, moves.len()), None, "one move would do: {ask:?}");
        return;
    };
    let mut world = naive.clone();
    let mut spent = [0_u32; 8];
    for one in &moves[..made] {
        assert!(ask_of(one.pod).is_some(), "a pod that must stay");
        assert_eq!(one.from, at, "a pod of another node");
        carry_out(&mut world, one, &mut spent);
    }
    assert_eq!(world.reason(at.0, &ask, NOBODY), None, "{made} moves made no room on {at:?}");
    // The fewest moves win, then the lowest index.
    if let Some(one) = one_move(naive, &ask, stay, moves.len()) {
        assert_eq!((at.0, made), (one, 1), "one move would do");
    }
}

/// The lowest node where one pod that goes to the best other one is enough.
fn one_move(naive: &Naive, ask: &AskSpec, stay: u8, moves: usize) -> Option<u32> {
    if moves == 0 {
        return None;
    }
    let makes_room = |at: u32, place: usize| {
        let held = &naive.pods[place];
        let may = held.node == at
            && held.state == PodState::Bound
            && held.ask.node.is_none()
            && stay >> (place % 8) & 1 == 0
            && places(held.ask.pod.budgets).all(|budget| naive.allowed[budget] != 0);
        if !may {
            return false;
        }
        let mut world = naive.clone();
        let mut gone = world.pods.remove(place);
        let Some(to) = world.place_but(&gone.ask, at) else { return false };
        gone.devices = world.devices_for(to, &gone.ask);
        gone.node = to;
        world.pods.push(gone);
        world.reason(at, ask, NOBODY).is_none()
    };
    let mut nodes = naive.all_nodes().map(|(at, _)| at);
    nodes.find(|at| (0..naive.pods.len()).any(|place| makes_room(*at, place)))
}

/// Moves a pod in the model, which must allow it.
fn carry_out(world: &mut Naive, one: &Move, spent: &mut [u32; 8]) {
    let Some(place) = world.place_of(one.pod) else { panic!("a pod that is not there: {one:?}") };
    let mut held = world.pods.remove(place);
    assert_eq!((held.node, held.state), (one.from.0, PodState::Bound), "{one:?}");
    assert_ne!(one.from, one.to);
    assert_eq!(held.ask.node, None, "a pod that is for its node moves");
    assert_eq!(world.reason(one.to.0, &held.ask, NOBODY), None, "{one:?} of {:?}", held.ask);
    for budget in places(held.ask.pod.budgets) {
        spent[budget] += 1;
        assert!(spent[budget] <= world.allowed[budget], "a budget is overspent");
    }
    held.devices = world.devices_for(one.to.0, &held.ask);
    held.node = one.to.0;
    world.pods.push(held);
}
