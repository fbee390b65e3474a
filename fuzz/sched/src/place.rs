//! Body `sched_place`: everything that can happen to a mirror, and where the next pod goes.

use crate::{
    bytes::Bytes,
    heap::Heap,
    ops,
    pair::{Pair, profile},
};

/// Operations of one history.
const OPS_MAX: usize = 48;
const NODES: usize = 8;
const PODS: usize = 32;

/// Plays the bytes on the core and on the naive scheduler: the same place (P3), the same refusals (P4), nothing
/// over-committed (P1), nothing moved (P2), a full table an answer, and nothing left at the end.
pub fn sched_place(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let (shape, weighs) = (bytes.byte(), bytes.byte());
    let mut pair = Pair::new(heap(shape), profile(weighs), NODES, PODS);
    for step in 0..OPS_MAX {
        if bytes.is_empty() {
            break;
        }
        match bytes.below(ops::CHOICES + 4) {
            ops::CHOICES => {
                let which = bytes.below(8);
                pair.grow(which);
            }
            41.. => {
                let ask = pair.draw(&mut bytes);
                pair.observe(&ask);
            }
            choice => ops::play(&mut pair, choice, &mut bytes),
        }
        pair.check();
        if step % 4 == 3 {
            pair.audit();
        }
    }
    pair.clear();
}

/// Tables that suffice, or of which one is short.
fn heap(shape: u8) -> Heap {
    let few = usize::from(shape >> 3 & 3);
    match shape % 8 {
        0..4 => Heap::new(NODES, PODS),
        4 => Heap::new(few, PODS),
        5 => Heap::new(NODES, few),
        6 => Heap::new(NODES, PODS).without(NODES - few, 0),
        _ => Heap::new(2, PODS).without(0, 1 + few % 2),
    }
    .with_workload(usize::from(shape >> 5))
}
