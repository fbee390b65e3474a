//! The cheapest victims by trying every set: for clusters of a few pods a node.

use sched_core::PodState;

use crate::{
    naive::{NOBODY, Naive},
    spec::{AskSpec, places},
};

/// What victims cost, in the documented order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Victims beyond what their budgets allow.
    pub budgets_broken: u32,
    /// The highest priority of a victim.
    pub priority_max: i32,
    /// How many.
    pub victims: u32,
    /// The sum of their priorities.
    pub priority_sum: i64,
}

impl Naive {
    /// The cost of these victims (a bit each). A victim breaks a budget if, of those that leave, more are covered by it
    /// than it allows: whichever are counted first, so many are beyond.
    pub fn cost(&self, victims: u64) -> Cost {
        let mut cost =
            Cost { budgets_broken: 0, priority_max: i32::MIN, victims: 0, priority_sum: 0 };
        let mut disrupted = [0_u32; 8];
        // In the order in which the core looks at them: the lowest priority first, of equals the largest.
        let mut chosen: Vec<usize> =
            (0..self.pods.len()).filter(|place| victims >> place & 1 == 1).collect();
        chosen.sort_by_key(|place| {
            let pod = &self.pods[*place].ask.pod;
            let size = u64::from(pod.sizes.cpu) + (pod.sizes.memory >> 20);
            (pod.priority, u64::MAX - size, self.pods[*place].handle)
        });
        for place in chosen {
            let pod = &self.pods[place].ask.pod;
            cost.victims += 1;
            cost.priority_max = cost.priority_max.max(pod.priority);
            cost.priority_sum += i64::from(pod.priority);
            let mut breaks = false;
            for budget in places(pod.budgets) {
                disrupted[budget] += 1;
                breaks |= self.allowed[budget] < disrupted[budget];
            }
            cost.budgets_broken += u32::from(breaks);
        }
        cost
    }

    /// Pods on a node that may leave for this one.
    pub fn candidates(&self, at: u32, ask: &AskSpec) -> u64 {
        let mut candidates = 0;
        for (place, held) in self.pods.iter().enumerate() {
            let may = held.ask.pod.priority < ask.pod.priority && held.state != PodState::Leaving;
            if held.node == at && may {
                candidates |= 1 << place;
            }
        }
        candidates
    }

    /// The least cost of victims on any node, and the lowest node where it is had. As kube-scheduler, the core looks at
    /// a node only if the pod fits once all who may leave have left.
    pub fn cheapest(&self, ask: &AskSpec) -> Option<(Cost, u32)> {
        let mut best: Option<(Cost, u32)> = None;
        for (at, _) in self.all_nodes() {
            let all = self.candidates(at, ask);
            let fits = |away: u64| self.reason(at, ask, away).is_none();
            if all == 0 || !self.could_take(at, ask) || !fits(all) || fits(NOBODY) {
                continue;
            }
            // Every non-empty subset, by the usual trick of counting down within a mask.
            let mut victims = all;
            while victims != 0 {
                let cost = self.cost(victims);
                if best.is_none_or(|(least, _)| cost < least) && fits(victims) {
                    best = Some((cost, at));
                }
                victims = (victims - 1) & all;
            }
        }
        best
    }
}
