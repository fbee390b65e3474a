//! How well a pod fits a node, in levels: what is free is told apart in [`LEVELS`] steps of the node's size, so that
//! nodes can be kept in cells of equal fit and the best one found without looking at all.
//!
//! Levels only rank. Whether a pod fits at all is decided by exact amounts.

use crate::{
    ask::Pod,
    limits::LEVELS,
    profile::{Fit, Profile},
    records::{Cell, ClassKey, NodeRecord},
};

/// Parts of a level in scores: a pod's own size is told finer than a node's fill.
const PARTS: i64 = 16;
/// A whole node in parts.
const WHOLE: i64 = LEVELS as i64 * PARTS;
/// What a pod counts for that asks for no CPU, in milli-cores, in scores only: Kubernetes' own value.
const CPU_MILLI_ASSUMED: u32 = 100;
/// What a pod counts for that asks for no memory, in bytes, in scores only: Kubernetes' own value.
const MEMORY_BYTES_ASSUMED: u64 = 200 << 20;
const LEVEL_LAST: u64 = LEVELS as u64 - 1;
const LEVELS_BITS: u32 = LEVELS.trailing_zeros();

/// The size of a level for a node with so much of a resource: sizes within an eighth of each other share one, so that
/// nodes that differ by a reserved megabyte are of one kind.
fn step(allocatable: u64) -> u64 {
    let bits = u64::BITS - allocatable.leading_zeros();
    let shift = bits.saturating_sub(4);
    // Of the four binary digits that are kept, rounded up; their sum with the rest could be beyond the range.
    let units = allocatable.div_ceil(1 << shift);
    if LEVELS_BITS <= shift {
        units << (shift - LEVELS_BITS)
    } else {
        (units << shift).div_ceil(LEVELS as u64).max(1)
    }
}

/// The sizes of a level of CPU and of memory.
pub(crate) fn steps(cpu_milli: u32, memory_bytes: u64) -> (u32, u64) {
    // A 64th of a u32, rounded up by an eighth at most.
    let cpu = u32::try_from(step(u64::from(cpu_milli))).unwrap_or(u32::MAX);
    (cpu, step(memory_bytes))
}

fn level(amount: u64, step: u64) -> u32 {
    (amount / step.max(1)).min(LEVEL_LAST) as u32
}

/// The cell of what is free on a node of this kind.
pub(crate) fn cell(node: &NodeRecord, key: &ClassKey) -> Cell {
    let row = level(u64::from(node.free_cpu()), u64::from(key.cpu_step));
    Cell::new(row, level(node.free_memory(), key.memory_step))
}

/// A pod's size in the levels and parts of one kind of nodes.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Size {
    /// The lowest row that can hold it.
    pub(crate) row: u32,
    /// The lowest column that can hold it.
    pub(crate) column: u32,
    cpu: i64,
    memory: i64,
    weight: i64,
    balance: i64,
    packs: bool,
}

impl Size {
    pub(crate) fn new(pod: &Pod, key: &ClassKey, profile: &Profile) -> Self {
        let (cpu_step, memory_step) = (u64::from(key.cpu_step.max(1)), key.memory_step.max(1));
        let (cpu, memory) = (u64::from(pod.requests.cpu_milli), pod.requests.memory_bytes);
        let parts = |ask: u64, step: u64| {
            // Where the product is beyond the range, a step is a multiple of a part or the pod is larger than the node.
            let product = ask.checked_mul(PARTS as u64);
            let parts = product
                .map_or_else(|| ask / (step / PARTS as u64).max(1), |product| product / step);
            i64::try_from(parts).unwrap_or(WHOLE).min(WHOLE)
        };
        let assumed_cpu = if cpu == 0 { u64::from(CPU_MILLI_ASSUMED) } else { cpu };
        let assumed_memory = if memory == 0 { MEMORY_BYTES_ASSUMED } else { memory };
        Self {
            row: level(cpu, cpu_step),
            column: level(memory, memory_step),
            cpu: parts(assumed_cpu, cpu_step),
            memory: parts(assumed_memory, memory_step),
            weight: i64::from(profile.fit_weight()),
            balance: i64::from(profile.balance_weight()),
            packs: profile.fit() == Fit::Pack,
        }
    }

    /// Larger is better. A pack falls and a spread rises with each level that is free: the balance weighs less than the
    /// fit, which [`Profile`] sees to.
    pub(crate) fn score(&self, row: u32, column: u32) -> i64 {
        let used_cpu = WHOLE - i64::from(row) * PARTS - PARTS / 2 + self.cpu;
        let used_memory = WHOLE - i64::from(column) * PARTS - PARTS / 2 + self.memory;
        let uneven = (used_cpu - used_memory).abs() * self.balance;
        let fit = (used_cpu + used_memory) * self.weight;
        if self.packs { fit - uneven } else { -fit - uneven }
    }

    pub(crate) fn score_of(&self, cell: Cell) -> i64 {
        let (row, column) = cell.split();
        self.score(row, column)
    }

    pub(crate) fn packs(&self) -> bool {
        self.packs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_reach_to_the_end_of_the_range() {
        assert_eq!(step(0), 1);
        assert_eq!(step(64), 1);
        assert_eq!(step(4000), 64);
        assert_eq!(step(1 << 63), 1 << 57);
        assert_eq!(step(u64::MAX), 1 << 58);
        let key = ClassKey { cpu_step: 64, memory_step: step(u64::MAX), ..ClassKey::default() };
        let mut pod = Pod::default();
        pod.requests.memory_bytes = 1 << 62;
        assert_eq!(Size::new(&pod, &key, &Profile::PACK).memory, WHOLE / 4);
        pod.requests.memory_bytes = u64::MAX;
        assert_eq!(Size::new(&pod, &key, &Profile::PACK).memory, WHOLE - 1);
    }
}
