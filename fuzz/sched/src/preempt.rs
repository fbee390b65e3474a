//! Body `sched_preempt`: who must leave, and what becomes of the room.

use sched_core::{Error, NodeIndex, PodHandle, PodState, Preemption};

use crate::{
    bytes::Bytes,
    draw,
    heap::Heap,
    naive::{Cost, NOBODY},
    ops,
    pair::{Pair, profile},
    spec::{AskSpec, NodeSpec},
};

const OPS_MAX: usize = 40;
const NODES: usize = 4;
const PODS: usize = 14;
/// So many pods that may leave a node are searched to the end, whatever their budgets.
const SEARCHED: u32 = 11;

/// Plays the bytes on a small cluster and holds each preemption against every set of victims there is: none is
/// cheaper (where not too many could leave to look at all), the pod fits without them and not with them, and the room is kept for it.
pub fn sched_preempt(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let weighs = bytes.byte();
    let mut pair = Pair::new(Heap::new(NODES, PODS + 2), profile(weighs % 29), NODES, PODS);
    for step in 0..OPS_MAX {
        if bytes.is_empty() {
            break;
        }
        match bytes.below(50) {
            choice @ 0..ops::CHOICES => ops::play(&mut pair, choice, &mut bytes),
            40..46 => preempt(&mut pair, &mut bytes),
            46 => take_up(&mut pair, &mut bytes),
            47 => leave(&mut pair),
            48 => ops::add_node(&mut pair, &mut bytes),
            _ => crowd(&mut pair, &mut bytes),
        }
        pair.check();
        if step % 4 == 3 {
            pair.audit();
        }
    }
    pair.clear();
}

/// Pods of several sizes, priorities and budgets come to a node, which is full of them: who must leave is a puzzle.
fn crowd(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let Some(at) = pair.some_node(bytes) else { return };
    let mut node = NodeSpec::default();
    (node.sizes.pods, node.meets) = (110, u8::MAX);
    for _ in 0..5 {
        let what = bytes.byte();
        let mut ask = AskSpec::default();
        ask.pod.sizes.pods = 1;
        ask.pod.sizes.cpu = 250 * (1 + u32::from(what & 7));
        ask.pod.sizes.memory = u64::from(what >> 2 & 7) << 28;
        ask.pod.priority = i32::from(what >> 4 & 3);
        ask.pod.budgets = what >> 6;
        node.sizes.cpu += ask.pod.sizes.cpu;
        node.sizes.memory += ask.pod.sizes.memory;
        pair.add_bound(&ask, 0, at);
    }
    pair.update_node(at, node);
}

/// A pod that finds no node asks who must leave for it; then, mostly, they are made to.
fn preempt(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let what = bytes.byte();
    let mut ask = if what & 32 == 32 { draw::plain(bytes) } else { pair.draw(bytes) };
    if what & 64 == 64 {
        ask.node = pair.some_node(bytes);
    }
    if what & 3 != 0 {
        ask.pod.priority = ask.pod.priority.max(500);
    }
    if pair.place(&ask).is_some() {
        return;
    }
    let (found, best) = (pair.core.preempt(&ask.ask()), pair.naive.cheapest(&ask));
    let cost = found.as_ref().map(|found| (cost(found), found.node.0));
    let several = |at: u32| SEARCHED < pair.naive.candidates(at, &ask).count_ones();
    if pair.naive.all_nodes().any(|(at, _)| several(at)) {
        // The search may end before it is through: it finds victims, and none cheaper than there are.
        assert_eq!(cost.is_some(), best.is_some(), "{found:?} for {ask:?}");
        assert!(best <= cost, "{found:?} for {ask:?}");
    } else {
        assert_eq!(cost, best, "{found:?} for {ask:?}");
    }
    let Some(found) = found else { return };
    let victims = victims(pair, &ask, &found);
    assert_eq!(
        Some(pair.naive.cost(victims)),
        cost.map(|(cost, _)| cost),
        "the cost is the victims'"
    );
    let at = found.node.0;
    assert_eq!(pair.naive.reason(at, &ask, victims), None, "it would still not fit");
    assert_ne!(pair.naive.reason(at, &ask, NOBODY), None, "nobody need leave");
    if what & 16 != 0 {
        stale(pair, &ask, &found, victims);
    }
    if what & 12 != 0 && pair.naive.pods.len() < PODS {
        nominate(pair, &ask, &found, victims);
    }
}

fn cost(found: &Preemption) -> Cost {
    let cost = found.cost;
    Cost {
        budgets_broken: cost.budgets_broken,
        priority_max: cost.priority_max,
        victims: cost.victims,
        priority_sum: cost.priority_sum,
    }
}

/// The victims as the model's bits: on the node, of lower priority, not leaving already, the highest priority first.
fn victims(pair: &Pair, ask: &AskSpec, found: &Preemption) -> u64 {
    let may = pair.naive.candidates(found.node.0, ask);
    let mut victims = 0_u64;
    let mut before = i32::MAX;
    for victim in &found.victims {
        let place = pair.naive.place_of(*victim).filter(|place| may >> place & 1 == 1);
        let Some(place) = place else { panic!("{victim:?} may not leave for {ask:?}") };
        assert_eq!(victims >> place & 1, 0, "a victim twice");
        victims |= 1 << place;
        let priority = pair.naive.pods[place].ask.pod.priority;
        assert!(priority <= before, "the highest priority first");
        before = priority;
    }
    victims
}

fn nominate(pair: &mut Pair, ask: &AskSpec, found: &Preemption, victims: u64) {
    let Ok(handle) = pair.core.nominate(&ask.ask(), found) else {
        panic!("what preemption found is refused: {found:?} for {ask:?}");
    };
    for (place, held) in pair.naive.pods.iter_mut().enumerate() {
        if victims >> place & 1 == 1 {
            held.state = PodState::Leaving;
        }
    }
    let at = found.node.0;
    let devices = pair.naive.devices_for(at, ask);
    pair.naive.put(handle, at, ask.clone(), PodState::Nominated, devices);
}

/// A preemption that is not, or no longer, what would make room changes nothing.
fn stale(pair: &mut Pair, ask: &AskSpec, found: &Preemption, victims: u64) {
    let mut twice = found.clone();
    if let Some(first) = found.victims.first()
        && twice.victims.push(*first).is_ok()
    {
        assert_eq!(pair.core.nominate(&ask.ask(), &twice), Err(Error::Stale), "a victim twice");
    }
    let elsewhere = Preemption { node: NodeIndex(found.node.0 + 1), ..found.clone() };
    assert!(pair.core.nominate(&ask.ask(), &elsewhere).is_err(), "victims of another node");
    let mut fewer = found.clone();
    let spared = fewer.victims.pop().and_then(|spared| pair.naive.place_of(spared));
    let fewer_bits = spared.map_or(victims, |place| victims & !(1 << place));
    if pair.naive.reason(found.node.0, ask, fewer_bits).is_some() {
        let answer = pair.core.nominate(&ask.ask(), &fewer);
        assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}: one victim too few");
    }
}

fn take_up(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let nominated = pair.naive.pods.iter().find(|held| held.state == PodState::Nominated);
    let pod: Option<PodHandle> = nominated.map(|held| held.handle).or_else(|| pair.some_pod(bytes));
    let Some((pod, place)) = pod.and_then(|pod| Some((pod, pair.naive.place_of(pod)?))) else {
        return;
    };
    let held = &pair.naive.pods[place];
    let leaving = |one: &&crate::naive::Held| one.state == PodState::Leaving;
    let waits = pair.naive.pods_on(held.node, NOBODY).find(leaving).is_some();
    let may = held.state == PodState::Nominated && !waits;
    let answer = pair.core.take_up(pod);
    assert_eq!(answer.ok(), may.then_some(NodeIndex(held.node)));
    if may {
        pair.naive.pods[place].state = PodState::Assumed;
    }
}

/// Who was made to leave is gone.
fn leave(pair: &mut Pair) {
    for held in pair.naive.pods.clone() {
        if held.state == PodState::Leaving {
            pair.remove_pod(held.handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{PodSpec, Sizes};

    fn pod(cpu: u32, priority: i32, matches: u8) -> AskSpec {
        let sizes = Sizes { cpu, pods: 1, ..Sizes::default() };
        let pod = PodSpec { sizes, priority, matches, ..PodSpec::default() };
        AskSpec { pod, ..AskSpec::default() }
    }

    /// Pods that the newcomer wants to be near to count against a set of victims: more victims may be worse.
    #[test]
    fn victims_of_low_priority_are_found_beside_company_that_must_stay() {
        let mut pair = Pair::new(Heap::new(1, 16), profile(0), 1, 16);
        let sizes = Sizes { cpu: 4000, memory: 1 << 30, pods: 110, ..Sizes::default() };
        pair.add_node(NodeSpec { sizes, ..NodeSpec::default() });
        // Terms 0 and 3 have the host as their key.
        for held in [pod(500, 0, 0), pod(500, 0, 0), pod(500, 0, 0), pod(750, 0, 1), pod(750, 1, 8)]
        {
            pair.add_bound(&held, 0, 0);
        }
        pair.add_bound(&pod(1000, 1000, 0), 0, 0);
        let mut ask = pod(1500, 10, 9);
        ask.near = 9;
        assert_eq!(pair.place(&ask), None);
        let cost = pair.core.preempt(&ask.ask()).map(|found| (cost(&found), found.node.0));
        assert_eq!(cost, pair.naive.cheapest(&ask));
    }

    /// Where those of the lowest priority are not enough, others of low priority leave with them.
    #[test]
    fn victims_may_be_of_several_priorities() {
        let mut pair = Pair::new(Heap::new(1, 16), profile(0), 1, 16);
        let sizes = Sizes { cpu: 4000, memory: 1 << 30, pods: 110, ..Sizes::default() };
        pair.add_node(NodeSpec { sizes, ..NodeSpec::default() });
        for held in [pod(1000, 0, 0), pod(2000, 1, 0), pod(1000, 9, 0)] {
            pair.add_bound(&held, 0, 0);
        }
        for (cpu, priority) in [(500, 10), (1500, 10), (2500, 10), (3500, 10), (3500, 9), (2500, 1)]
        {
            let ask = pod(cpu, priority, 0);
            let cost = pair.core.preempt(&ask.ask()).map(|found| (cost(&found), found.node.0));
            assert_eq!(cost, pair.naive.cheapest(&ask), "{cpu} at {priority}");
        }
    }

    /// A node is not passed by where fewer of the same priority, or as few as its largest allow, are enough.
    #[test]
    fn fewer_victims_on_a_later_node_win() {
        for (short, here, there) in [(2000, 500, 1000), (3000, 750, 1000), (2000, 500, 667)] {
            let mut pair = Pair::new(Heap::new(2, 16), profile(0), 2, 16);
            for (at, cpu) in [(0, here), (1, there)] {
                let sizes = Sizes { cpu: 4 * cpu, memory: 1 << 30, pods: 110, ..Sizes::default() };
                pair.add_node(NodeSpec { sizes, ..NodeSpec::default() });
                (0..4).for_each(|_| pair.add_bound(&pod(cpu, 0, 0), 0, at));
            }
            let ask = pod(short, 10, 0);
            let found = pair.core.preempt(&ask.ask()).map(|found| (cost(&found), found.node.0));
            assert_eq!(found, pair.naive.cheapest(&ask), "{short} of {here} or {there}");
            assert_eq!(found.map(|(_, at)| at), Some(1));
        }
    }

    /// Puzzles of one full node: the first try, which calls pods back one by one, is not always the cheapest.
    #[test]
    fn no_set_of_victims_is_cheaper() {
        let mut seed = 1_u32;
        let mut draw = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % below
        };
        for round in 0..900 {
            let mut pair = Pair::new(Heap::new(1, 8), profile(0), 1, 8);
            let mut full = Sizes { pods: 110, ..Sizes::default() };
            // Room alone; devices as well; company as well.
            let (has_devices, has_company) = (round % 3 == 1, round % 3 == 2);
            let devices = if has_devices { 3 } else { 0 };
            pair.add_node(NodeSpec { sizes: full, devices, ..NodeSpec::default() });
            (0..4).for_each(|budget| pair.set_budget(budget, u32::from(budget < 2)));
            for _ in 0..6 {
                let priority = [-5, -5, -1, 0, 1][draw(5) as usize];
                let mut held = pod(100 * (1 + draw(9)), priority, 0);
                held.pod.sizes.memory = u64::from(draw(9)) << 28;
                held.pod.budgets = if draw(3) == 0 { 1 << draw(4) } else { 0 };
                if has_devices {
                    held.pod.devices = [(0, 0), (1, 500), (1, 1000), (2, 1000)][draw(4) as usize];
                }
                if has_company {
                    held.pod.matches = [0, 1, 8, 9][draw(4) as usize];
                    held.pod.repels = [0, 0, 0, 1][draw(4) as usize];
                }
                (full.cpu, full.memory) =
                    (full.cpu + held.pod.sizes.cpu, full.memory + held.pod.sizes.memory);
                pair.add_bound(&held, 0, 0);
            }
            // Sometimes there is room, and only devices or company are in the way.
            full.cpu += 3000 * draw(2);
            pair.update_node(0, NodeSpec { sizes: full, devices, ..NodeSpec::default() });
            let mut ask = pod(100 * (1 + draw(20)), 10, 0);
            ask.pod.sizes.memory = u64::from(draw(20)) << 28;
            if has_devices {
                ask.pod.devices = [(0, 0), (1, 500), (1, 1000), (2, 1000)][draw(4) as usize];
            }
            if has_company {
                ask.pod.repels = [0, 1, 8, 9][draw(4) as usize];
                ask.pod.matches = draw(2) as u8;
            }
            if pair.place(&ask).is_some() {
                continue;
            }
            let found = pair.core.preempt(&ask.ask()).map(|found| (cost(&found), found.node.0));
            assert_eq!(found, pair.naive.cheapest(&ask), "{:?} for {ask:?}", pair.naive.pods);
        }
    }
}
