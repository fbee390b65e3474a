//! What a pod or a container may use, in the kernel's units, and where its cgroup sits.

/// Kubernetes' quality-of-service class: decides the directory of a pod's cgroup.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum QosClass {
    /// Requests equal limits: directly under the root.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// None: first to go.
    #[default]
    BestEffort,
}

impl QosClass {
    /// Directory below Coracle's cgroup root; `None` for Guaranteed, which sits directly under it.
    pub fn dir(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

/// Limits of one cgroup. `None` is "not limited here".
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Share of the CPU under contention, 2..=262_144, 1024 to the core (cgroup v1's unit; see [`Resources::cpu_weight`]).
    pub cpu_shares: Option<u64>,
    /// CPU time in microseconds per [`Resources::CPU_PERIOD_US`]; at least 1000, the kernel's least.
    pub cpu_quota_us: Option<u64>,
    /// Memory in bytes; swap is not added to it.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
}

impl Resources {
    /// Period of the CPU quota, in microseconds, as Kubernetes has it.
    pub const CPU_PERIOD_US: u64 = 100_000;

    /// CPU shares of a request in thousandths of a core; the kernel's least is 2.
    pub fn cpu_shares_of_milli(milli_cpu: u64) -> u64 {
        (milli_cpu.saturating_mul(1024) / 1000).clamp(2, 262_144)
    }

    /// CPU quota in microseconds of a limit in thousandths of a core; the kernel's least is 1 ms.
    pub fn cpu_quota_us_of_milli(milli_cpu: u64) -> u64 {
        (milli_cpu.saturating_mul(Self::CPU_PERIOD_US) / 1000).max(1000)
    }

    /// cgroup v2's `cpu.weight` (1..=10_000) for cgroup v1's shares.
    ///
    /// Linear between the kernel's ends: 2 shares are 1, 262_144 shares are 10_000. Source: Kubernetes KEP-2254.
    pub fn cpu_weight(shares: u64) -> u64 {
        1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milli_cpu_in_the_kernels_units() {
        fn check(milli: u64, shares: u64, weight: u64, quota_us: u64) {
            let got = Resources::cpu_shares_of_milli(milli);
            assert_eq!(got, shares, "{milli}m shares");
            assert_eq!(Resources::cpu_weight(got), weight, "{milli}m weight");
            assert_eq!(Resources::cpu_quota_us_of_milli(milli), quota_us, "{milli}m quota");
        }
        check(0, 2, 1, 1000);
        check(1, 2, 1, 1000);
        check(100, 102, 4, 10_000);
        check(1000, 1024, 39, 100_000);
        check(1500, 1536, 59, 150_000);
        check(u64::MAX, 262_144, 10_000, u64::MAX / 1000);
    }
}
