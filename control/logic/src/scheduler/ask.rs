//! What a pod asks for, from its spec; and what it asks for that this scheduler cannot give yet.

use alloc::{format, string::String, vec::Vec};

use coracle_api::{
    quantity::ResourceList,
    views::{PodView, Taint, Toleration},
};
use sched_core::{Amounts, EXTENDED_RESOURCES};

/// Extended resource names that have a number.
///
/// Invariant: at most [`EXTENDED_RESOURCES`], in order of first mention.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// The number of this resource; a new one gets a number if `add` and there is one left.
    fn number(&mut self, name: &str, add: bool) -> Option<usize> {
        let known = self.0.iter().position(|one| one == name);
        if known.is_none() && add && self.0.len() < EXTENDED_RESOURCES {
            self.0.push(name.into());
            return Some(self.0.len() - 1);
        }
        known
    }

    /// The name of a number.
    pub(crate) fn name(&self, number: u8) -> &str {
        self.0.get(usize::from(number)).map_or("", String::as_str)
    }
}

/// What a node offers, or what one container asks for. Negative amounts count as none. Names beyond the table are not
/// offered, and asking for one is refused by [`unsupported`].
pub(crate) fn amounts(list: &ResourceList, names: &mut Names) -> Amounts {
    let mut sum = Amounts::ZERO;
    for (name, quantity) in list {
        let whole = u64::try_from(quantity.value()).unwrap_or(0);
        match name.as_str() {
            "cpu" => sum.cpu_milli = u64::try_from(quantity.milli_value()).unwrap_or(0),
            "memory" => sum.memory_bytes = whole,
            "ephemeral-storage" => sum.storage_bytes = whole,
            "pods" => sum.pods = whole,
            other => {
                let number = names.number(other, true);
                if let Some(slot) = number.and_then(|number| sum.extended.get_mut(number)) {
                    *slot = whole;
                }
            }
        }
    }
    sum
}

/// A pod's request: its containers together, or its largest init container, plus overhead (KEP-753 has the sidecars'
/// part, which the agent does not run yet). One pod.
pub(crate) fn requests(pod: &PodView, names: &mut Names) -> Amounts {
    let mut together = Amounts::ZERO;
    for container in &pod.spec.containers {
        together = together.saturating_add(&amounts(&container.resources.requests, names));
    }
    for container in &pod.spec.init_containers {
        together = larger(&together, &amounts(&container.resources.requests, names));
    }
    let mut sum = together.saturating_add(&amounts(&pod.spec.overhead, names));
    sum.pods = 1;
    sum
}

fn larger(a: &Amounts, b: &Amounts) -> Amounts {
    // a + (b - a), where the difference is nothing if `a` is the larger.
    a.saturating_add(&b.saturating_sub(a))
}

/// The first field by which a pod asks for what is not implemented: it stays pending, with this text.
pub(crate) fn unsupported(pod: &PodView, names: &mut Names) -> Option<String> {
    let spec = &pod.spec;
    let affinity = spec.affinity.as_ref();
    let required = |part: Option<&coracle_api::views::PodAffinity>| {
        part.is_some_and(|part| {
            !part.required_during_scheduling_ignored_during_execution.is_empty()
        })
    };
    let hard_spread = |when: &str| when.is_empty() || when == "DoNotSchedule";
    let field = if required(affinity.and_then(|affinity| affinity.pod_affinity.as_ref())) {
        "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    } else if required(affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref())) {
        "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"
    } else if spec
        .topology_spread_constraints
        .iter()
        .any(|one| hard_spread(&one.when_unsatisfiable))
    {
        "spec.topologySpreadConstraints with whenUnsatisfiable DoNotSchedule"
    } else if spec
        .containers
        .iter()
        .flat_map(|container| &container.ports)
        .any(|port| port.host_port != 0 && !spec.host_network)
    {
        "spec.containers[].ports[].hostPort"
    } else if !spec.resource_claims.is_empty() {
        "spec.resourceClaims"
    } else {
        let mut asked =
            spec.containers.iter().flat_map(|container| container.resources.requests.keys());
        let core = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods");
        let beyond = asked.find(|name| !core(name) && names.number(name, true).is_none())?;
        return Some(format!(
            "Unsupported: more than {EXTENDED_RESOURCES} extended resources are named in this cluster; `{beyond}` is beyond them"
        ));
    };
    Some(format!("Unsupported: {field} is not implemented by this scheduler yet"))
}

/// Whether a toleration covers a taint (core/v1 `Toleration`): an empty key with `Exists` covers all, an empty effect
/// all effects.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.is_empty() || toleration.effect == taint.effect;
    let key = toleration.key.is_empty() || toleration.key == taint.key;
    let value = match toleration.operator.as_str() {
        "" | "Equal" => !toleration.key.is_empty() && toleration.value == taint.value,
        "Exists" => true,
        _ => false,
    };
    effect && key && value
}
