//! How well a pod fits a node that can take it: best fit with balance, in whole thousandths.
//!
//! A node that the pod fills best is best (bin packing, as Kubernetes' `MostAllocated`); among those the one whose CPU
//! and memory run out together (as `NodeResourcesBalancedAllocation`), so that no half of a board is stranded. Soft
//! taints that are not tolerated cost more than any fit gains.

use crate::table::{Ask, NodeRecord};

/// What a pod counts for that asks for no CPU, in milli-cores, in scores only: Kubernetes' own value.
const CPU_MILLI_ASSUMED: u64 = 100;
/// What a pod counts for that asks for no memory, in bytes, in scores only: Kubernetes' own value.
const MEMORY_BYTES_ASSUMED: u64 = 200 << 20;
/// One soft taint outweighs the whole range of fit.
const SOFT_TAINT_COST: i64 = 10_000;

/// Larger is better. Range: -SOFT_TAINT_COST * taints ..= 2000.
pub(crate) fn score(node: &NodeRecord, ask: &Ask) -> i64 {
    let offer = node.offer();
    let cpu = share(
        node.used().cpu_milli,
        or(ask.requests.cpu_milli, CPU_MILLI_ASSUMED),
        offer.allocatable.cpu_milli,
    );
    let memory = share(
        node.used().memory_bytes,
        or(ask.requests.memory_bytes, MEMORY_BYTES_ASSUMED),
        offer.allocatable.memory_bytes,
    );
    let soft = i64::from(offer.soft_taints.count_missing_from(&ask.tolerates_soft));
    cpu + memory - (cpu - memory).abs() / 2 - soft * SOFT_TAINT_COST
}

fn or(ask: u64, assumed: u64) -> u64 {
    if ask == 0 { assumed } else { ask }
}

/// Thousandths of `total` in use once `ask` is added, at most 1000.
fn share(used: u64, ask: u64, total: u64) -> i64 {
    let after = u128::from(used.saturating_add(ask));
    let share = (after * 1000).checked_div(u128::from(total)).unwrap_or(1000).min(1000);
    i64::try_from(share).unwrap_or(1000)
}
