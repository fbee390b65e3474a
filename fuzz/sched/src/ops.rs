//! Operations that every body knows: nodes and pods come, change and go.

use sched_core::PodHandle;

use crate::{
    bytes::Bytes,
    draw,
    heap::Heap,
    pair::{Pair, profile},
};

/// Plays the bytes in rounds of one operation: those that every body knows, and every sixth or so the body's own, with how
/// many pods the core has room for. The pair is compared after each.
pub(crate) fn rounds(
    bytes: &[u8],
    rounds: usize,
    (nodes, pods): (usize, usize),
    own: impl Fn(&mut Pair, &mut Bytes<'_>, usize),
) {
    let mut bytes = Bytes::new(bytes);
    let (shape, weighs) = (bytes.byte(), bytes.byte());
    let room = if shape & 7 == 7 { usize::from(shape >> 3) } else { pods };
    let mut pair = Pair::new(Heap::new(nodes, room), profile(weighs % 29), nodes, pods);
    for step in 0..rounds {
        if bytes.is_empty() {
            break;
        }
        match bytes.below(50) {
            choice @ 0..CHOICES => play(&mut pair, choice, &mut bytes),
            40..48 => own(&mut pair, &mut bytes, room),
            _ => add_node(&mut pair, &mut bytes),
        }
        pair.check();
        if step % 4 == 3 {
            pair.audit();
        }
    }
    pair.clear();
}

/// How many choices of [`play`] there are.
pub(crate) const CHOICES: usize = KINDS.len();

/// The kind of each choice: pods and nodes come more often than all else, so that there is something to look at.
pub(crate) const KINDS: [usize; 40] = [
    0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 6, 6, 7, 8, 9, 10, 11, 12, 12,
    12, 13, 14, 14, 14, 14, 14, 14, 14, 14,
];

/// Plays one operation.
pub(crate) fn play(pair: &mut Pair, choice: usize, bytes: &mut Bytes<'_>) {
    match KINDS[choice] {
        0 => add_node(pair, bytes),
        1 => {
            place(pair, bytes);
        }
        2 => confirmed(pair, bytes),
        3 => bound(pair, bytes),
        4 => on_pod(bytes, pair, Pair::remove_pod),
        5 => on_pod(bytes, pair, Pair::forget),
        6 => update_node(pair, bytes),
        7 => {
            let at = pair.some_node(bytes).unwrap_or(99);
            pair.remove_node(at);
        }
        8 => {
            let term = bytes.below(8);
            let label = [None, Some(0), Some(1)][bytes.below(3)];
            let matches = bytes.byte();
            pair.define_term(term, label, matches);
        }
        9 => {
            let what = bytes.byte();
            pair.set_budget(usize::from(what & 3), u32::from(what >> 2 & 3));
        }
        10 => {
            let budgets = bytes.byte() & 15;
            on_pod(bytes, pair, |pair, pod| pair.set_budgets_of(pod, budgets));
        }
        11 => {
            let ask = pair.draw(bytes);
            let at = u32::from(bytes.byte()) % (pair.naive.nodes.len() as u32 + 1);
            pair.assume(&ask, at);
        }
        12 => {
            let ask = pair.draw(bytes);
            pair.explain(&ask);
        }
        13 => pair.set_profile(profile(bytes.byte())),
        _ => plain(pair, bytes),
    }
}

/// A node comes: mostly one like another, for what is of one kind is kept together by the core.
pub(crate) fn add_node(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let like = if bytes.byte() & 3 != 0 { pair.some_node(bytes) } else { None };
    let known = like.and_then(|at| pair.naive.node(at).cloned());
    pair.add_node(known.unwrap_or_else(|| draw::node(bytes)));
}

/// A pod is placed by both and assumed.
pub(crate) fn place(pair: &mut Pair, bytes: &mut Bytes<'_>) -> Option<PodHandle> {
    let ask = pair.draw(bytes);
    match pair.place(&ask) {
        Some(at) => pair.assume(&ask, at),
        None => {
            pair.explain(&ask);
            None
        }
    }
}

/// A pod is placed, assumed and bound.
pub(crate) fn confirmed(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    if let Some(pod) = place(pair, bytes) {
        pair.confirm(pod);
    }
}

fn bound(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let ask = pair.draw(bytes);
    let what = bytes.byte();
    let devices = if what & 1 == 1 { bytes.byte() } else { 0 };
    let at = u32::from(what >> 1) % (pair.naive.nodes.len() as u32 + 1);
    pair.add_bound(&ask, devices, at);
}

/// A pod that only has a size is placed, or is there already: nodes of one kind stay of one kind and fill unevenly.
fn plain(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let (ask, what) = (draw::plain(bytes), bytes.byte());
    let at = if what & 1 == 1 { pair.place(&ask) } else { pair.some_node(bytes) };
    if let Some(at) = at {
        pair.add_bound(&ask, 0, at);
    }
}

/// Mostly of a pod that is there; sometimes of one that is gone.
fn on_pod(bytes: &mut Bytes<'_>, pair: &mut Pair, operate: impl FnOnce(&mut Pair, PodHandle)) {
    let live = pair.some_pod(bytes);
    let pod = live.or_else(|| pair.gone.last().copied());
    if let Some(pod) = pod {
        operate(pair, pod);
    }
}

fn update_node(pair: &mut Pair, bytes: &mut Bytes<'_>) {
    let Some(at) = pair.some_node(bytes) else { return };
    let fresh = draw::node(bytes);
    let Some(known) = pair.naive.node(at).cloned() else { return };
    // Half of the time one thing alone changes, as it does in life.
    let mut node = known;
    match bytes.below(10) {
        0 => node.sizes = fresh.sizes,
        1 => node.taints = fresh.taints,
        2 => node.domains = fresh.domains,
        3 => node.unschedulable = !node.unschedulable,
        4 => node.meets = fresh.meets,
        5 => node.devices = fresh.devices,
        _ => node = fresh,
    }
    pair.update_node(at, node);
}
