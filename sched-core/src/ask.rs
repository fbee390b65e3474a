//! What nodes offer and pods ask for, in numbers and bits: the caller interns names.

use heapless::Vec;

use crate::{
    amounts::Amounts,
    bits::Bits,
    limits::{
        AFFINITY_TERMS_MAX, ALTERNATIVES_MAX, BUDGETS_MAX, DEVICE_MILLI, HOST_PORTS_MAX,
        PREFERENCES_MAX, REQUIREMENTS_MAX, SPREADS_MAX, TAINTS_MAX, TOPOLOGY_KEYS_MAX,
    },
    table::NodeIndex,
};

/// Interned taints.
pub type Taints = Bits<{ TAINTS_MAX / 64 }>;
/// Interned node requirements: conditions on a node that the caller has looked at ([`crate::Operator`] has their meaning).
pub type Requirements = Bits<{ REQUIREMENTS_MAX / 64 }>;
/// Interned host ports.
pub type Ports = Bits<{ HOST_PORTS_MAX / 64 }>;
/// Interned affinity terms; see [`TermIndex`].
pub type Terms = Bits<{ AFFINITY_TERMS_MAX / 64 }>;
/// Interned PodDisruptionBudgets.
pub type Budgets = Bits<{ BUDGETS_MAX / 64 }>;

/// Number of an affinity term, below [`AFFINITY_TERMS_MAX`]: some pods (by namespaces and selector) and a topology key.
///
/// A pod's several required affinity terms count pods that match all of them together (KEP-less, but so kube-scheduler
/// does); the caller interns that conjunction once for each topology key.
pub type TermIndex = u8;

/// A topology key: the host itself, or one that the caller numbered.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopologyKey {
    /// `kubernetes.io/hostname`: each node is a domain of its own.
    #[default]
    Host,
    /// Zones, racks, …: below [`TOPOLOGY_KEYS_MAX`].
    Label(u8),
}

/// A value of a topology key, in the order of the caller's domain records. Keys do not share domains.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(pub u16);

impl Domain {
    /// The node has no such label.
    pub const NONE: Self = Self(u16::MAX);
}

/// What a node offers to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOffer {
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What pods may use.
    pub allocatable: Amounts,
    /// Shareable devices, at most [`crate::DEVICES_MAX`]; more are not counted.
    pub devices: u8,
    /// NoSchedule and NoExecute taints.
    pub taints: Taints,
    /// PreferNoSchedule taints.
    pub soft_taints: Taints,
    /// Node requirements that it meets.
    pub meets: Requirements,
    /// Its domain of each topology key.
    pub domains: [Domain; TOPOLOGY_KEYS_MAX],
}

impl Default for NodeOffer {
    fn default() -> Self {
        Self {
            unschedulable: false,
            allocatable: Amounts::ZERO,
            devices: 0,
            taints: Taints::EMPTY,
            soft_taints: Taints::EMPTY,
            meets: Requirements::EMPTY,
            domains: [Domain::NONE; TOPOLOGY_KEYS_MAX],
        }
    }
}

/// A slice of one device, or several whole ones.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceAsk {
    count: u8,
    milli: u16,
}

impl DeviceAsk {
    /// No device.
    pub const NONE: Self = Self { count: 0, milli: 0 };

    /// So many thousandths of one device, 1 to 1000.
    pub fn slice(milli: u16) -> Option<Self> {
        (1..=DEVICE_MILLI).contains(&milli).then_some(Self { count: 1, milli })
    }

    /// So many whole devices; of none none.
    pub fn whole(count: u8) -> Self {
        if count == 0 { Self::NONE } else { Self { count, milli: DEVICE_MILLI } }
    }

    /// How many devices.
    pub fn count(self) -> u8 {
        self.count
    }

    /// How many thousandths of each.
    pub fn milli(self) -> u16 {
        self.milli
    }
}

/// The limits of a pod: what it may use beyond what it asks for. Zero: no limit is set.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Bytes.
    pub memory_bytes: u64,
}

/// What a pod is and takes, wherever it runs.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Of each resource; `pods` is 1.
    pub requests: Amounts,
    /// Summed up for each node; no decision looks at them.
    pub limits: Limits,
    /// Of the node's shareable devices.
    pub devices: DeviceAsk,
    /// Host ports that it takes.
    pub ports: Ports,
    /// Affinity terms by which it is selected, whoever has them.
    pub matches: Terms,
    /// Its own required anti-affinity terms: pods that match them stay away, now and later.
    pub repels: Terms,
    /// `spec.priority`.
    pub priority: i32,
    /// Disruption budgets that cover it.
    pub budgets: Budgets,
}

/// Alternatives of required node affinity: one must be met whole. None at all: every node will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alternatives(Vec<Requirements, ALTERNATIVES_MAX>);

impl Alternatives {
    /// Adds an alternative. Gives `false` if there are [`ALTERNATIVES_MAX`] already.
    #[must_use = "an alternative that does not fit is not looked at"]
    pub fn push(&mut self, all_of: Requirements) -> bool {
        self.0.push(all_of).is_ok()
    }

    /// The one alternative, if there is exactly one.
    pub(crate) fn only(&self) -> Option<&Requirements> {
        self.0.first().filter(|_| self.0.len() == 1)
    }

    pub(crate) fn are_met_by(&self, meets: &Requirements) -> bool {
        self.0.is_empty() || self.0.iter().any(|all_of| all_of.is_subset(meets))
    }
}

/// Whether a constraint must hold or is wished for with this weight.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Strength {
    /// `DoNotSchedule`.
    Required,
    /// `ScheduleAnyway`: each matching pod in the domain costs so much.
    Preferred(i32),
}

/// Whether nodes that the pod may not use count in a spread.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodePolicy {
    /// They do not count.
    Honor,
    /// They count.
    Ignore,
}

/// A topology spread constraint (KEP-895, KEP-3094, KEP-3022).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The pods counted, and the topology key.
    pub term: TermIndex,
    /// Domains may differ by so many pods.
    pub max_skew: u32,
    /// With fewer eligible domains than this the smallest count is taken as none. 0 and 1: no such rule.
    pub min_domains: u32,
    /// `whenUnsatisfiable`.
    pub strength: Strength,
    /// `nodeAffinityPolicy`; Kubernetes' default is Honor.
    pub affinity_policy: NodePolicy,
    /// `nodeTaintsPolicy`; Kubernetes' default is Ignore.
    pub taints_policy: NodePolicy,
}

/// What a pod asks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// What it is and takes.
    pub pod: Pod,
    /// The one node it is for (`spec.nodeName`, a required `metadata.name`).
    pub node: Option<NodeIndex>,
    /// Taints that it tolerates.
    pub tolerates: Taints,
    /// Soft taints that it tolerates.
    pub tolerates_soft: Taints,
    /// Tolerates `node.kubernetes.io/unschedulable`.
    pub tolerates_unschedulable: bool,
    /// Node selector and required node affinity.
    pub affinity: Alternatives,
    /// What its image needs (architecture, operating system): all must be met.
    pub image: Requirements,
    /// What its volumes need (volume node affinity): all must be met.
    pub volumes: Requirements,
    /// Preferred node affinity, image locality: a weight where all is met.
    pub prefers: Vec<(Requirements, i32), PREFERENCES_MAX>,
    /// Host ports that must be free: its own and those that collide with them (any address, one address).
    pub ports_wanted: Ports,
    /// Required pod affinity.
    pub near: Terms,
    /// Preferred pod affinity (weight above 0) and anti-affinity (below 0), for each matching pod in the domain.
    pub near_preferred: Vec<(TermIndex, i32), PREFERENCES_MAX>,
    /// Topology spread constraints.
    pub spreads: Vec<Spread, SPREADS_MAX>,
}
