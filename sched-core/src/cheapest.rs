//! What is noted of the cheapest victims, so that preemption passes most nodes by: each node's pods of the lowest priority,
//! and what the nodes of a block have at the most.
//!
//! Notes are bounds: where they say that victims on a node cost no less than the best so far, it is so.

use core::cell::Cell;

use crate::{
    ask::{Ask, Pod},
    limits::CHEAPEST_NODES,
    preempt::Cost,
};

/// Largest pods that are noted one by one.
const TOP: usize = 4;

/// Amounts of one resource that victims hold: the largest few, the largest first, and all together.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) free: u32,
    pub(crate) sum: u32,
    top: [u32; TOP],
}

impl Held {
    const NONE: Self = Self { free: 0, sum: 0, top: [0; TOP] };

    fn note(&mut self, amount: u32) {
        self.sum = self.sum.saturating_add(amount);
        let mut rest = amount;
        for slot in &mut self.top {
            if *slot < rest {
                core::mem::swap(slot, &mut rest);
            }
        }
    }

    /// What can be free when so many leave.
    fn reach(&self, victims: u32) -> u64 {
        let mut reach = u64::from(self.free);
        let mut left = victims;
        for amount in &self.top {
            if left == 0 {
                return reach;
            }
            reach += u64::from(*amount);
            left -= 1;
        }
        let least = self.top.last().copied().unwrap_or(0);
        (reach + u64::from(least) * u64::from(left)).min(self.reach_all())
    }

    fn reach_all(&self) -> u64 {
        u64::from(self.free) + u64::from(self.sum)
    }
}

/// The cheapest victims on a node: its pods of the lowest priority.
#[derive(Clone, Debug)]
pub struct CheapestRecord {
    /// The lowest priority; `i32::MAX` without pods.
    pub(crate) priority: i32,
    /// The lowest priority of the other pods on the node; `i32::MAX` without others.
    pub(crate) priority_next: i32,
    /// Thousandths of a core.
    pub(crate) cpu: Held,
    /// MiB; what is free is rounded up as well.
    pub(crate) mib: Held,
}

impl CheapestRecord {
    pub(crate) const NONE: Self =
        Self { priority: i32::MAX, priority_next: i32::MAX, cpu: Held::NONE, mib: Held::NONE };

    /// Takes note of a pod on the node.
    pub(crate) fn note(&mut self, pod: &Pod) {
        if pod.priority < self.priority {
            let (cpu, mib) = (self.cpu.free, self.mib.free);
            *self = Self { priority: pod.priority, priority_next: self.priority, ..Self::NONE };
            (self.cpu.free, self.mib.free) = (cpu, mib);
        }
        if self.priority < pod.priority {
            self.priority_next = self.priority_next.min(pod.priority);
        }
        if pod.priority == self.priority {
            self.cpu.note(pod.requests.cpu_milli);
            self.mib.note(mib(pod.requests.memory_bytes));
        }
    }

    /// Whether victims on this node could cost less than the best so far.
    pub(crate) fn may_be_cheaper(&self, ask: &Ask, best: Option<Cost>) -> bool {
        let wanted = Wanted::new(ask);
        if ask.pod.priority <= self.priority {
            return false;
        }
        let is_short = !wanted.is_within(self.cpu.reach_all(), self.mib.reach_all());
        if is_short && ask.pod.priority <= self.priority_next {
            // Nobody else may leave.
            return false;
        }
        let Some(best) = best.filter(|best| best.budgets_broken == 0) else { return true };
        // Where the cheapest do not suffice, one of the others leaves too.
        let priority = if is_short { self.priority_next } else { self.priority };
        if priority != best.priority_max || is_short {
            return priority <= best.priority_max;
        }
        // Only its cheapest pods could cost as little: they must hold enough, and fewer of them.
        let fewer = best.victims.saturating_sub(1);
        wanted.is_within(self.cpu.reach(fewer), self.mib.reach(fewer))
    }
}

impl Default for CheapestRecord {
    fn default() -> Self {
        Self::NONE
    }
}

/// What the next [`CHEAPEST_NODES`] nodes have at the most. It is made anew when it is asked for after a change.
#[derive(Clone, Debug, Default)]
pub struct CheapestBlock {
    known: Cell<Option<Most>>,
}

/// The most of each that any node of a block has.
#[derive(Copy, Clone, Debug)]
struct Most {
    priority: i32,
    priority_next: i32,
    /// What is free when none, one, two, … of that lowest priority leave.
    cpu: [u64; TOP + 1],
    mib: [u64; TOP + 1],
    cpu_all: u64,
    mib_all: u64,
}

impl CheapestBlock {
    /// One of its nodes has changed.
    pub(crate) fn forget(&mut self) {
        self.known.set(None);
    }

    /// Whether victims on any of these nodes could cost less than the best so far. `nodes` are those of the block.
    pub(crate) fn may_be_cheaper(
        &self,
        nodes: &[CheapestRecord],
        ask: &Ask,
        best: Option<Cost>,
    ) -> bool {
        debug_assert!(nodes.len() <= CHEAPEST_NODES);
        let most = self.known.get().unwrap_or_else(|| Most::of(nodes));
        self.known.set(Some(most));
        let wanted = Wanted::new(ask);
        if ask.pod.priority <= most.priority {
            return false;
        }
        let is_short = !wanted.is_within(most.cpu_all, most.mib_all);
        if is_short && ask.pod.priority <= most.priority_next {
            return false;
        }
        let Some(best) = best.filter(|best| best.budgets_broken == 0) else { return true };
        if most.priority != best.priority_max {
            return most.priority < best.priority_max;
        }
        let fewer = best.victims.saturating_sub(1) as usize;
        match (most.cpu.get(fewer), most.mib.get(fewer)) {
            (Some(cpu), Some(mib)) => wanted.is_within(*cpu, *mib),
            // More than are told apart.
            _ => true,
        }
    }
}

impl Most {
    fn of(nodes: &[CheapestRecord]) -> Self {
        let mut most = Self {
            priority: i32::MAX,
            priority_next: i32::MAX,
            cpu: [0; TOP + 1],
            mib: [0; TOP + 1],
            cpu_all: 0,
            mib_all: 0,
        };
        let with_pods = || nodes.iter().filter(|node| node.priority != i32::MAX);
        for node in with_pods() {
            most.priority = most.priority.min(node.priority);
            most.priority_next = most.priority_next.min(node.priority_next);
            most.cpu_all = most.cpu_all.max(node.cpu.reach_all());
            most.mib_all = most.mib_all.max(node.mib.reach_all());
        }
        for node in with_pods().filter(|node| node.priority == most.priority) {
            for (victims, (cpu, mib)) in (0..).zip(most.cpu.iter_mut().zip(&mut most.mib)) {
                *cpu = (*cpu).max(node.cpu.reach(victims));
                *mib = (*mib).max(node.mib.reach(victims));
            }
        }
        most
    }
}

/// What a pod asks for, in the units of the notes.
#[derive(Copy, Clone, Debug)]
struct Wanted {
    cpu: u64,
    /// Rounded down, and no more than what is noted at the most: free and held are rounded up.
    mib: u64,
}

impl Wanted {
    fn new(ask: &Ask) -> Self {
        let requests = &ask.pod.requests;
        Self {
            cpu: u64::from(requests.cpu_milli),
            mib: (requests.memory_bytes >> 20).min(u64::from(u32::MAX)),
        }
    }

    fn is_within(self, cpu: u64, mib: u64) -> bool {
        self.cpu <= cpu && self.mib <= mib
    }
}

/// Mebibytes, rounded up.
pub(crate) fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX)
}
