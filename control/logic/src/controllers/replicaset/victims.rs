//! Which pods go first when there are too many.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::cmp::Ordering;

use coracle_api::{time, views::PodView};

use crate::{Millis, controllers::pods};

/// How cheap it is to lose this pod (`controller.kubernetes.io/pod-deletion-cost`; lower goes first).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What the order goes by.
#[derive(Debug)]
pub(crate) struct Ranked<'a> {
    pod: &'a PodView,
    /// Related active pods on the same node.
    neighbours: usize,
    ready_since: Option<Millis>,
    created: Millis,
    cost: i32,
}

/// The pods in the order in which they go. `related` are the active pods of all ReplicaSets of the same owner: of two
/// pods the one that has more of them beside it goes first.
pub(crate) fn ranked<'a>(
    now: Millis,
    pods: impl IntoIterator<Item = &'a PodView>,
    related: impl IntoIterator<Item = &'a PodView>,
) -> Vec<&'a PodView> {
    let mut on_node = BTreeMap::<&str, usize>::new();
    for pod in related.into_iter().filter(|pod| pods::is_active(pod)) {
        *on_node.entry(&pod.spec.node_name).or_default() += 1;
    }
    let mut ranked: Vec<_> = pods
        .into_iter()
        .map(|pod| Ranked {
            pod,
            neighbours: on_node.get(pod.spec.node_name.as_str()).copied().unwrap_or(0),
            ready_since: pods::ready_since(pod),
            created: created(pod),
            cost: cost(pod),
        })
        .collect();
    ranked.sort_by(|a, b| order(now, a, b));
    ranked.into_iter().map(|ranked| ranked.pod).collect()
}

/// `Less`: `a` goes before `b`. Upstream's order, point by point, but for one thing: upstream parts two ages of one
/// magnitude by uid at once, and goes on to the next point where they are equal. That is no order (`a` before `b`, `b`
/// before `c`, `c` before `a`), and a sort may panic on it. Here uids are the last point.
fn order(now: Millis, a: &Ranked<'_>, b: &Ranked<'_>) -> Ordering {
    let placed = |r: &Ranked<'_>| !r.pod.spec.node_name.is_empty();
    placed(a)
        .cmp(&placed(b))
        .then_with(|| phase(a.pod).cmp(&phase(b.pod)))
        .then_with(|| a.ready_since.is_some().cmp(&b.ready_since.is_some()))
        .then_with(|| a.cost.cmp(&b.cost))
        .then_with(|| b.neighbours.cmp(&a.neighbours))
        .then_with(|| match (a.ready_since, b.ready_since) {
            (Some(a_since), Some(b_since)) => younger(now, a_since, b_since),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(b.pod).cmp(&restarts(a.pod)))
        .then_with(|| younger(now, a.created, b.created))
        .then_with(|| a.pod.metadata.uid.cmp(&b.pod.metadata.uid))
}

/// The younger first, with ages in powers of two, so that it is not always the last wave that goes.
fn younger(now: Millis, at: Millis, bt: Millis) -> Ordering {
    age_rank(now, at).cmp(&age_rank(now, bt))
}

/// Whole logarithm (base 2) of the age in nanoseconds; -1 for none.
fn age_rank(now: Millis, since: Millis) -> i32 {
    let age_ns = u128::from(now.0.saturating_sub(since.0)) * 1_000_000;
    age_ns.checked_ilog2().and_then(|log| i32::try_from(log).ok()).unwrap_or(-1)
}

fn phase(pod: &PodView) -> u8 {
    match pod.status.phase.as_str() {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn cost(pod: &PodView) -> i32 {
    pod.metadata.annotations.get(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// Most restarts of one container, init containers counted only where the others are equal.
fn restarts(pod: &PodView) -> (i32, i32) {
    let most = |statuses: &[coracle_api::views::ContainerStatus]| {
        statuses.iter().map(|status| status.restart_count).max().unwrap_or(0)
    };
    (most(&pod.status.container_statuses), most(&pod.status.init_container_statuses))
}

fn created(pod: &PodView) -> Millis {
    let created: Option<&String> = pod.metadata.creation_timestamp.as_ref();
    Millis(created.and_then(|text| time::parse_ms(text)).unwrap_or(0))
}
