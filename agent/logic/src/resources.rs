//! What a pod may use, from quantities to the kernel's numbers. Source: kubelet's `cm` package and KEP-2254 for CPU,
//! kubelet's QoS policy for `oom_score_adj`.

use alloc::collections::BTreeMap;

use coracle_api::quantity::{Quantity, from_json};
use coracle_runtime::{QosClass, Resources};
use serde_json::Value;

use crate::{
    limits,
    spec::{Container, PodSpec},
};

/// Of a pod, with its name for the status.
pub fn qos_class(spec: &PodSpec) -> Qos {
    let mut any = false;
    let mut guaranteed = !spec.containers.is_empty();
    for container in &spec.containers {
        for name in ["cpu", "memory"] {
            let limit = positive(&container.resources.limits, name);
            let request = positive(&container.resources.requests, name).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    Qos(match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    })
}

/// A quality-of-service class.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Qos(pub QosClass);

impl Qos {
    /// As `status.qosClass` has it.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

/// Limits of one container's cgroup.
pub fn of_container(container: &Container) -> Resources {
    let limits = &container.resources.limits;
    let cpu_limit = positive(limits, "cpu").map(|cpu| milli(&cpu));
    let cpu_request =
        positive(&container.resources.requests, "cpu").map(|cpu| milli(&cpu)).or(cpu_limit);
    Resources {
        cpu_shares: Some(Resources::cpu_shares_of_milli(cpu_request.unwrap_or(0))),
        cpu_quota_us: cpu_limit.map(Resources::cpu_quota_us_of_milli),
        memory_bytes: positive(limits, "memory").map(|memory| bytes(&memory)),
        pids_max: None,
    }
}

/// Limits of the pod's cgroup: shares of all requests; a quota or memory limit only where every container has one.
pub fn of_pod(spec: &PodSpec) -> Resources {
    let mut request_milli = 0_u64;
    let mut cpu_limit_milli = Some(0_u64);
    let mut memory_bytes = Some(0_u64);
    for container in &spec.containers {
        let limits = &container.resources.limits;
        let cpu = positive(limits, "cpu").map(|cpu| milli(&cpu));
        let memory = positive(limits, "memory").map(|memory| bytes(&memory));
        let request = positive(&container.resources.requests, "cpu").map(|cpu| milli(&cpu)).or(cpu);
        request_milli = request_milli.saturating_add(request.unwrap_or(0));
        cpu_limit_milli = cpu_limit_milli.zip(cpu).map(|(sum, cpu)| sum.saturating_add(cpu));
        memory_bytes = memory_bytes.zip(memory).map(|(sum, memory)| sum.saturating_add(memory));
    }
    Resources {
        cpu_shares: Some(Resources::cpu_shares_of_milli(request_milli)),
        cpu_quota_us: cpu_limit_milli.map(Resources::cpu_quota_us_of_milli),
        memory_bytes,
        pids_max: Some(limits::PIDS_PER_POD),
    }
}

/// How early the kernel's out-of-memory killer takes the container: -997 for Guaranteed, 1000 for BestEffort, between
/// by the requested part of the node's memory.
pub fn oom_score_adj(spec: &PodSpec, container: &Container, node_memory_bytes: u64) -> i32 {
    const CRITICAL_PRIORITY: i32 = 2_000_000_000;
    let critical = spec.priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY);
    match qos_class(spec).0 {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = positive(&container.resources.requests, "memory")
                .or_else(|| positive(&container.resources.limits, "memory"))
                .map_or(0, |memory| bytes(&memory));
            let part = u128::from(request) * 1000 / u128::from(node_memory_bytes.max(1));
            let adj = 1000 - i32::try_from(part).unwrap_or(1000);
            // Above Guaranteed, below BestEffort.
            adj.clamp(3, 999)
        }
    }
}

/// A quantity of the list that is more than nothing.
pub(crate) fn positive(
    list: &BTreeMap<alloc::string::String, Value>,
    name: &str,
) -> Option<Quantity> {
    let quantity = from_json(list.get(name)?).ok()?;
    (!quantity.is_zero() && !quantity.is_negative()).then_some(quantity)
}

/// Thousandths, rounded up.
pub(crate) fn milli(quantity: &Quantity) -> u64 {
    u64::try_from(quantity.milli_value()).unwrap_or(0)
}

/// Whole units, rounded up.
pub(crate) fn bytes(quantity: &Quantity) -> u64 {
    u64::try_from(quantity.value()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(containers: Value) -> PodSpec {
        serde_json::from_value(json!({ "containers": containers })).unwrap()
    }

    #[test]
    fn classes_are_kubelets() {
        let check = |containers: Value, want: &str| {
            assert_eq!(qos_class(&spec(containers.clone())).as_str(), want, "{containers}");
        };
        let both = json!({"cpu": "1", "memory": "1Gi"});
        check(json!([{"name": "a"}]), "BestEffort");
        check(json!([{"resources": {"limits": both}}]), "Guaranteed");
        check(
            json!([{"resources": {"limits": both, "requests": {"cpu": "1000m", "memory": "1Gi"}}}]),
            "Guaranteed",
        );
        check(json!([{"resources": {"limits": both}}, {"name": "b"}]), "Burstable");
        check(json!([{"resources": {"requests": {"cpu": "100m"}}}]), "Burstable");
        check(json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort");
    }

    #[test]
    fn numbers_are_the_kernels() {
        let spec = spec(json!([
            {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
            {"name": "b", "resources": {"limits": {"memory": "32Mi"}}},
        ]));
        let one = of_container(&spec.containers[0]);
        assert_eq!(one.cpu_shares, Some(256));
        assert_eq!(one.cpu_quota_us, Some(50_000));
        assert_eq!(one.memory_bytes, Some(64 << 20));
        let pod = of_pod(&spec);
        assert_eq!(pod.cpu_shares, Some(256));
        assert_eq!(pod.cpu_quota_us, None, "the second container has no limit");
        assert_eq!(pod.memory_bytes, Some(96 << 20));
        assert_eq!(pod.pids_max, Some(limits::PIDS_PER_POD));
    }

    #[test]
    fn the_greedy_go_first() {
        let check = |containers: Value, want: i32| {
            let spec = spec(containers);
            assert_eq!(oom_score_adj(&spec, &spec.containers[0], 1 << 30), want);
        };
        check(json!([{"name": "a"}]), 1000);
        check(json!([{"resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}]), -997);
        check(json!([{"resources": {"requests": {"memory": "512Mi"}}}]), 500);
        check(json!([{"resources": {"requests": {"memory": "1Gi"}}}]), 3);
        check(json!([{"resources": {"requests": {"cpu": "1m"}}}]), 999);
    }
}
