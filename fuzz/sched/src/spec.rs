//! What nodes offer and pods ask for in the model's own plain data: sets are the bits of a byte, amounts are wide. The
//! core is given the same in its own words. Few of each kind, so that they meet; their numbers in the core lie where its
//! words of bits begin and end.

use sched_core::{
    Alternatives, Amounts, Ask, Bits, DeviceAsk, Domain, EXTENDED_RESOURCES, Limits, NodeIndex,
    NodeOffer, NodePolicy, Pod, Spread, Strength, TOPOLOGY_KEYS_MAX, TopologyKey,
};

/// Numbers in the core of the model's taints.
pub const TAINTS: [usize; 8] = [0, 1, 62, 63, 64, 65, 100, 127];
/// Of its node requirements.
pub const REQUIREMENTS: [usize; 8] = [0, 63, 64, 127, 128, 191, 192, 255];
/// Of its host ports.
pub const PORTS: [usize; 8] = [0, 31, 32, 63, 64, 96, 126, 127];
/// Of its affinity terms.
pub const TERMS: [u8; 8] = [0, 1, 63, 64, 65, 100, 126, 127];
/// Of its budgets.
pub const BUDGETS: [u8; 8] = [0, 1, 2, 31, 32, 33, 62, 63];
/// Of its extended resources.
pub const EXTENDED: [u8; 2] = [0, 7];
/// Of its topology keys, beside the host.
pub const LABELS: [u8; 2] = [0, 6];
/// Topology domains: so many of each label, one after the other.
pub const DOMAINS_EACH: u16 = 3;
/// In all.
pub const DOMAINS: usize = 6;

/// What a node has, or a pod asks for. A pod asks for one pod.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Thousandths of a core.
    pub cpu: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub storage: u64,
    /// Pods.
    pub pods: u32,
    /// By the places of [`EXTENDED`].
    pub extended: [u32; 2],
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSpec {
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// What pods may use.
    pub sizes: Sizes,
    /// Devices.
    pub devices: u8,
    /// Hard taints.
    pub taints: u8,
    /// Soft taints.
    pub soft_taints: u8,
    /// Requirements met.
    pub meets: u8,
    /// Its domain of each label, below [`DOMAINS_EACH`].
    pub domains: [Option<u16>; 2],
}

/// A pod, wherever it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// What it asks for.
    pub sizes: Sizes,
    /// Its limits of CPU and memory.
    pub limits: (u32, u64),
    /// How many devices, and how many thousandths of each.
    pub devices: (u8, u16),
    /// Host ports taken.
    pub ports: u8,
    /// Terms by which it is selected.
    pub matches: u8,
    /// Terms of its required anti-affinity.
    pub repels: u8,
    /// Its priority.
    pub priority: i32,
    /// Budgets that cover it.
    pub budgets: u8,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadSpec {
    /// Place in [`TERMS`].
    pub term: usize,
    /// By how many pods domains may differ.
    pub max_skew: u32,
    /// With fewer domains the least is none.
    pub min_domains: u32,
    /// `None`: required.
    pub preferred: Option<i32>,
    /// Nodes that its affinity forbids count.
    pub ignores_affinity: bool,
    /// Nodes with taints that it does not tolerate count.
    pub ignores_taints: bool,
}

/// What a pod asks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskSpec {
    /// What it is and takes.
    pub pod: PodSpec,
    /// The one node it is for.
    pub node: Option<u32>,
    /// Hard taints tolerated.
    pub tolerates: u8,
    /// Soft taints tolerated.
    pub tolerates_soft: u8,
    /// Tolerates unschedulable nodes.
    pub tolerates_unschedulable: bool,
    /// Alternatives of required node affinity.
    pub affinity: Vec<u8>,
    /// Requirements of its image.
    pub image: u8,
    /// Requirements of its volumes.
    pub volumes: u8,
    /// Requirements wished for, and how much.
    pub prefers: Vec<(u8, i32)>,
    /// Ports that must be free.
    pub ports_wanted: u8,
    /// Terms of its required affinity.
    pub near: u8,
    /// Terms wished near (places in [`TERMS`]), and how much.
    pub near_preferred: Vec<(usize, i32)>,
    /// Its spread constraints.
    pub spreads: Vec<SpreadSpec>,
}

/// The places of a set's bits.
pub fn places(set: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |place| set >> place & 1 == 1)
}

/// A set as the core knows it.
pub fn bits<const WORDS: usize>(set: u8, numbers: &[impl Copy + Into<usize>; 8]) -> Bits<WORDS> {
    let mut bits = Bits::EMPTY;
    for place in places(set) {
        assert!(bits.insert(numbers[place].into()), "a number beyond the core's sets");
    }
    bits
}

impl Sizes {
    /// As the core knows it.
    pub fn amounts(&self) -> Amounts {
        let mut extended = [0; EXTENDED_RESOURCES];
        for (number, amount) in EXTENDED.iter().zip(self.extended) {
            extended[usize::from(*number)] = amount;
        }
        Amounts {
            cpu_milli: self.cpu,
            pods: self.pods,
            memory_bytes: self.memory,
            storage_bytes: self.storage,
            extended,
        }
    }
}

impl NodeSpec {
    /// As the core knows it.
    pub fn offer(&self) -> NodeOffer {
        let mut domains = [Domain::NONE; TOPOLOGY_KEYS_MAX];
        for (place, domain) in self.domains.iter().enumerate() {
            if let Some(domain) = domain {
                let first = if place == 0 { 0 } else { DOMAINS_EACH };
                domains[usize::from(LABELS[place])] = Domain(first + domain);
            }
        }
        NodeOffer {
            unschedulable: self.unschedulable,
            allocatable: self.sizes.amounts(),
            devices: self.devices,
            taints: bits(self.taints, &TAINTS),
            soft_taints: bits(self.soft_taints, &TAINTS),
            meets: bits(self.meets, &REQUIREMENTS),
            domains,
        }
    }
}

impl PodSpec {
    /// As the core knows it.
    pub fn pod(&self) -> Pod {
        let devices = match self.devices {
            (1, milli) => DeviceAsk::slice(milli).unwrap_or(DeviceAsk::NONE),
            (count, _) => DeviceAsk::whole(count),
        };
        Pod {
            requests: self.sizes.amounts(),
            limits: Limits { cpu_milli: self.limits.0, memory_bytes: self.limits.1 },
            devices,
            ports: bits(self.ports, &PORTS),
            matches: bits(self.matches, &TERMS),
            repels: bits(self.repels, &TERMS),
            priority: self.priority,
            budgets: bits(self.budgets, &BUDGETS),
        }
    }
}

impl AskSpec {
    /// As the core knows it.
    pub fn ask(&self) -> Ask {
        let mut ask = Ask {
            pod: self.pod.pod(),
            node: self.node.map(NodeIndex),
            tolerates: bits(self.tolerates, &TAINTS),
            tolerates_soft: bits(self.tolerates_soft, &TAINTS),
            tolerates_unschedulable: self.tolerates_unschedulable,
            affinity: Alternatives::default(),
            image: bits(self.image, &REQUIREMENTS),
            volumes: bits(self.volumes, &REQUIREMENTS),
            ports_wanted: bits(self.ports_wanted, &PORTS),
            near: bits(self.near, &TERMS),
            ..Ask::default()
        };
        for all_of in &self.affinity {
            assert!(ask.affinity.push(bits(*all_of, &REQUIREMENTS)), "too many alternatives");
        }
        ask.prefers.extend(
            self.prefers.iter().map(|(all_of, weight)| (bits(*all_of, &REQUIREMENTS), *weight)),
        );
        ask.near_preferred
            .extend(self.near_preferred.iter().map(|(term, weight)| (TERMS[*term], *weight)));
        ask.spreads.extend(self.spreads.iter().map(SpreadSpec::spread));
        ask
    }
}

impl SpreadSpec {
    fn spread(&self) -> Spread {
        let policy = |ignores| if ignores { NodePolicy::Ignore } else { NodePolicy::Honor };
        Spread {
            term: TERMS[self.term],
            max_skew: self.max_skew,
            min_domains: self.min_domains,
            strength: self.preferred.map_or(Strength::Required, Strength::Preferred),
            affinity_policy: policy(self.ignores_affinity),
            taints_policy: policy(self.ignores_taints),
        }
    }
}

/// A term's topology key: the host, or a place in [`LABELS`].
pub fn topology_key(label: Option<usize>) -> TopologyKey {
    label.map_or(TopologyKey::Host, |label| TopologyKey::Label(LABELS[label]))
}
