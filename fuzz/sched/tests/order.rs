//! The order of many nodes, which close and open so that its blocks fill, split, shrink and join.

use coracle_sched_model::spec::{NodeSpec, Sizes};
use sched_core::{NodeIndex, Placement, Profile};

sched_core::tables_in_vecs! {
    /// Tables that grow.
    struct Heap;
}

const NODES: u32 = 600;

fn node(pods: u32) -> NodeSpec {
    let sizes = Sizes { cpu: 4000, memory: 1 << 33, pods, ..Sizes::default() };
    NodeSpec { sizes, ..NodeSpec::default() }
}

fn set(core: &mut Placement<Heap>, nodes: impl Iterator<Item = u32>, pods: u32) {
    for at in nodes {
        assert_eq!(core.update_node(NodeIndex(at), &node(pods).offer()), Ok(()));
    }
}

/// A full block beside a small one is split: what is small then is joined, or there would be more blocks than the table
/// has room for.
#[test]
fn a_half_beside_a_small_block_is_joined_with_it() {
    let mut heap = Heap::default();
    heap.grow_nodes(NODES as usize);
    let mut core = Placement::new(heap, Profile::PACK);
    for _ in 0..NODES {
        core.add_node(&node(0).offer()).unwrap();
    }
    // Each fourth node, so that others can come between them: blocks of 16.
    set(&mut core, (0..NODES).step_by(4), 110);
    let pairs = || (0..NODES - 128).step_by(128);
    let between = |first: u32| (first + 64..).filter(|at| at % 4 != 0);
    for first in pairs() {
        set(&mut core, between(first).take(16), 110);
        assert_eq!(core.audit(), Ok(()), "every other block is full, up to {first}");
    }
    for first in pairs() {
        set(&mut core, (first + 4..first + 64).step_by(4), 0);
        assert_eq!(core.audit(), Ok(()), "the others have one node, up to {first}");
    }
    for first in pairs() {
        set(&mut core, between(first).skip(16).take(1), 110);
        assert_eq!(core.audit(), Ok(()), "the full ones are split, up to {first}");
    }
}
