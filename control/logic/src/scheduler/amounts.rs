//! What nodes offer and pods ask for, in the core's units.

use alloc::{format, string::String};

use coracle_api::{
    quantity::{Quantity, ResourceList},
    views::{Container, PodView},
};
use sched_core::{Amounts, Limits};

use super::interned::{Interned, Number};

/// Names of extended resources.
pub(crate) type Resources = Interned<String>;

/// Whether part of a unit counts: what is asked for is rounded up, what is offered down.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Asked,
    Offered,
}

/// The core's own names; all others are extended resources.
fn is_core(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods")
}

/// The amounts of a list. Below zero counts as nothing. An extended resource without a number is given to `beyond`.
pub(crate) fn amounts(
    list: &ResourceList,
    side: Side,
    resources: &mut Resources,
    mut beyond: impl FnMut(&str),
) -> Amounts {
    let mut sum = Amounts::ZERO;
    for (name, quantity) in list {
        let whole = whole(quantity);
        match name.as_str() {
            "cpu" => {
                sum.cpu_milli = narrow(u64::try_from(quantity.milli_value()).unwrap_or(0), side);
            }
            "memory" => sum.memory_bytes = whole,
            "ephemeral-storage" => sum.storage_bytes = whole,
            "pods" => sum.pods = narrow(whole, side),
            other => {
                let slot = match resources.want(other.into()) {
                    Some(Number::Known(at) | Number::New(at)) => sum.extended.get_mut(at),
                    None => None,
                };
                match slot {
                    Some(slot) => *slot = narrow(in_units(other, whole, side), side),
                    None => beyond(other),
                }
            }
        }
    }
    sum
}

fn whole(quantity: &Quantity) -> u64 {
    u64::try_from(quantity.value()).unwrap_or(0)
}

/// No node offers the largest number, so that an amount beyond the range finds no place.
fn narrow(amount: u64, side: Side) -> u32 {
    let most = if side == Side::Asked { u32::MAX } else { u32::MAX - 1 };
    u32::try_from(amount).map_or(most, |amount| amount.min(most))
}

/// Huge pages are counted in pages: their bytes do not fit the core's range.
fn in_units(name: &str, amount: u64, side: Side) -> u64 {
    let page = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    match page.map(|page| whole(&page)).filter(|page| *page != 0) {
        Some(page) if side == Side::Asked => amount.div_ceil(page),
        Some(page) => amount / page,
        None => amount,
    }
}

/// What a pod asks for: its containers together or the most that its start needs (KEP-753), overhead added; what
/// `spec.resources` says for the pod as a whole goes before (KEP-2837). One pod.
pub(crate) fn requests(
    pod: &PodView,
    resources: &mut Resources,
    beyond: &mut dyn FnMut(&str),
) -> Amounts {
    let mut sum = together(pod, &mut |container| {
        amounts(&container.resources.requests, Side::Asked, resources, &mut *beyond)
    });
    if let Some(whole) = &pod.spec.resources {
        let said = amounts(&whole.requests, Side::Asked, resources, &mut *beyond);
        if whole.requests.contains_key("cpu") {
            sum.cpu_milli = said.cpu_milli;
        }
        if whole.requests.contains_key("memory") {
            sum.memory_bytes = said.memory_bytes;
        }
        for (slot, said) in sum.extended.iter_mut().zip(said.extended).filter(|(_, one)| *one != 0)
        {
            *slot = said;
        }
    }
    let overhead = amounts(&pod.spec.overhead, Side::Asked, resources, beyond);
    Amounts { pods: 1, ..sum.saturating_add(&overhead) }
}

/// The limits of a pod: zero where a container has none.
pub(crate) fn limits(pod: &PodView) -> Limits {
    let of = |name: &str| {
        let whole = pod.spec.resources.as_ref().and_then(|whole| whole.limits.get(name));
        let said = |container: &&Container| container.resources.limits.contains_key(name);
        whole.is_some() || pod.spec.containers.iter().all(|container| said(&container))
    };
    let mut names = Interned::new(0);
    let mut sum = together(pod, &mut |container| {
        amounts(&container.resources.limits, Side::Asked, &mut names, |_| {})
    });
    if let Some(whole) = &pod.spec.resources {
        let said = amounts(&whole.limits, Side::Asked, &mut names, |_| {});
        sum = sum.max(&said);
    }
    Limits {
        cpu_milli: if of("cpu") { sum.cpu_milli } else { 0 },
        memory_bytes: if of("memory") { sum.memory_bytes } else { 0 },
    }
}

fn together(pod: &PodView, of: &mut dyn FnMut(&Container) -> Amounts) -> Amounts {
    let (mut beside, mut most) = (Amounts::ZERO, Amounts::ZERO);
    for container in &pod.spec.init_containers {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            beside = beside.saturating_add(&own);
            most = most.max(&beside);
        } else {
            most = most.max(&beside.saturating_add(&own));
        }
    }
    let mut running = beside;
    for container in &pod.spec.containers {
        running = running.saturating_add(&of(container));
    }
    running.max(&most)
}

/// Says that a pod asks for a resource that has no number.
pub(crate) fn beyond(name: &str, max: usize) -> String {
    debug_assert!(!is_core(name));
    format!(
        "limit reached: more than {max} extended resources are in use in this cluster; `{name}` is beyond them"
    )
}
