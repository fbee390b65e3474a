//! How good a node is for a pod. Fit and balance: what is used of CPU and memory in 1024ths of a node, the node told in
//! 64 steps and the pod in 1024; the rest is a sum of wishes. The numbers are restated here, not taken from the core.

use sched_core::Fit;

use crate::{
    naive::{NOBODY, Naive},
    spec::AskSpec,
};

/// Steps of a node's size.
const STEPS: u64 = 64;
/// A whole node.
const WHOLE: u64 = 1024;
/// A step.
const STEP: u64 = WHOLE / STEPS;

impl Naive {
    /// The score of a node for a pod: the larger, the better. It says nothing about whether it fits.
    pub fn score(&self, at: u32, ask: &AskSpec) -> i128 {
        let Some(node) = self.node(at) else { return i128::MIN };
        let profile = &self.profile;
        let used = self.used(at, NOBODY);
        let want = ask.pod.sizes;
        // A pod that asks for none counts for as much as Kubernetes takes it to use.
        let cpu = if want.cpu == 0 { 100 } else { u64::from(want.cpu) };
        let memory = if want.memory == 0 { 200 << 20 } else { want.memory };
        let cpu = in_use(node.sizes.cpu.into(), used.cpu, cpu);
        let memory = in_use(node.sizes.memory, used.memory, memory);
        let fit = (cpu + memory) * i128::from(profile.fit_weight());
        let fit = if profile.fit() == Fit::Pack { fit } else { -fit };
        let uneven = (cpu - memory).abs() * i128::from(profile.balance_weight());

        let prefers = ask.prefers.iter().filter(|(all_of, _)| all_of & !node.meets == 0);
        let mut wishes: i128 = prefers.map(|(_, weight)| i128::from(*weight)).sum();
        let crowd = |term: usize, weight: i32| {
            i128::from(self.matching(at, term, NOBODY).unwrap_or(0)) * i128::from(weight)
        };
        for (term, weight) in &ask.near_preferred {
            wishes += crowd(*term, *weight);
        }
        for spread in &ask.spreads {
            wishes -= spread.preferred.map_or(0, |weight| crowd(spread.term, weight));
        }
        let soft = i128::from((node.soft_taints & !ask.tolerates_soft).count_ones());
        let mut score = fit - uneven + wishes * i128::from(profile.wish_weight)
            - soft * i128::from(profile.soft_taint_weight);
        if profile.fragmentation_weight != 0 {
            let waste = i64::saturating_mul(
                self.added_waste(at, ask).0,
                i64::from(profile.fragmentation_weight),
            );
            score -= i128::from(waste / 16);
        }
        score
    }
}

/// 1024ths of a node that are in use with the pod on it, by steps of what is free.
fn in_use(total: u64, used: u128, pod: u64) -> i128 {
    let step = step_of(total);
    let free = u128::from(total).saturating_sub(used);
    let steps = (free / u128::from(step)).min(u128::from(STEPS - 1));
    let pod = (u128::from(pod) * u128::from(STEP) / u128::from(step)).min(u128::from(WHOLE));
    i128::from(WHOLE) - (steps * u128::from(STEP)) as i128 - i128::from(STEP / 2) + pod as i128
}

/// A 64th of a node, its size rounded up to four binary digits, so that sizes within an eighth share one.
fn step_of(total: u64) -> u64 {
    let mut unit = 1_u128;
    while u128::from(total) >= 16 * unit {
        unit *= 2;
    }
    let rounded = u128::from(total).div_ceil(unit) * unit;
    u64::try_from(rounded.div_ceil(u128::from(STEPS)).max(1)).unwrap_or(u64::MAX)
}
