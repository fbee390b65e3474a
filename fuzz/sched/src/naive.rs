//! The obvious slow scheduler: lists of nodes and pods, every sum made anew for every question, a scan over all nodes.
//!
//! It is written from what Kubernetes means and what the core documents, and asks the core nothing: the core's types
//! are here only as names for what goes in and comes out (handles, reasons, states, weights).

use sched_core::{PodHandle, PodState, Profile};

use crate::spec::{AskSpec, NodeSpec, Sizes};

mod filter;
mod score;
mod victims;
mod waste;

pub use filter::{Counted, Lack};
pub use victims::Cost;
pub use waste::Workload;

/// A pod that has a node.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its handle in the core.
    pub handle: PodHandle,
    /// Its node.
    pub node: u32,
    /// What it asked for when it came; `pod` is what it is now.
    pub ask: AskSpec,
    /// Where it stands.
    pub state: PodState,
    /// The node's devices that it has.
    pub devices: u8,
}

/// Nodes and pods.
#[derive(Clone, Debug)]
pub struct Naive {
    /// By the core's index.
    pub nodes: Vec<Option<NodeSpec>>,
    /// In the order in which they came to their nodes; at most 64.
    pub pods: Vec<Held>,
    /// Topology key of each term: the host, or a place in the labels.
    pub keys: [Option<usize>; 8],
    /// Disruptions that each budget allows.
    pub allowed: [u32; 8],
    /// What decisions weigh.
    pub profile: Profile,
    /// What came so far, for profiles that weigh fragmentation.
    pub workload: Workload,
}

/// What pods on a node ask for together.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Thousandths of a core.
    pub cpu: u128,
    /// Bytes.
    pub memory: u128,
    /// Bytes.
    pub storage: u128,
    /// Pods.
    pub pods: u128,
    /// Extended resources.
    pub extended: [u128; 2],
    /// Their limits of CPU and memory.
    pub limits: (u128, u128),
}

/// No pod is thought away.
pub const NOBODY: u64 = 0;

impl Naive {
    /// An empty cluster.
    pub fn new(profile: Profile) -> Self {
        Self {
            nodes: Vec::new(),
            pods: Vec::new(),
            keys: [None; 8],
            allowed: [0; 8],
            profile,
            workload: Workload::default(),
        }
    }

    /// The node with this index.
    pub fn node(&self, at: u32) -> Option<&NodeSpec> {
        self.nodes.get(at as usize)?.as_ref()
    }

    /// All nodes, by index.
    pub fn all_nodes(&self) -> impl Iterator<Item = (u32, &NodeSpec)> {
        (0_u32..).zip(&self.nodes).filter_map(|(at, node)| Some((at, node.as_ref()?)))
    }

    /// The pods of a node but for those in `away` (a bit each, by their place in the list).
    pub fn pods_on(&self, at: u32, away: u64) -> impl Iterator<Item = &Held> {
        let pods = self.pods.iter().enumerate();
        pods.filter(move |(place, held)| held.node == at && away >> place & 1 == 0)
            .map(|(_, held)| held)
    }

    /// The place of a pod in the list.
    pub fn place_of(&self, handle: PodHandle) -> Option<usize> {
        self.pods.iter().position(|held| held.handle == handle)
    }

    /// How many nodes have pods.
    pub fn nodes_in_use(&self) -> usize {
        self.all_nodes().filter(|(at, _)| self.pods.iter().any(|held| held.node == *at)).count()
    }

    /// What pods that are not leaving take.
    pub fn used(&self, at: u32, away: u64) -> Used {
        let mut used = Used::default();
        for held in self.pods_on(at, away).filter(|held| held.state != PodState::Leaving) {
            let Sizes { cpu, memory, storage, pods, extended } = held.ask.pod.sizes;
            used.cpu += u128::from(cpu);
            used.memory += u128::from(memory);
            used.storage += u128::from(storage);
            used.pods += u128::from(pods);
            used.extended[0] += u128::from(extended[0]);
            used.extended[1] += u128::from(extended[1]);
            used.limits.0 += u128::from(held.ask.pod.limits.0);
            used.limits.1 += u128::from(held.ask.pod.limits.1);
        }
        used
    }

    /// Thousandths left of each of a node's devices.
    pub fn devices_free(&self, at: u32, away: u64) -> Vec<u16> {
        let count = self.node(at).map_or(0, |node| node.devices.min(8));
        let mut free = vec![1000_u16; usize::from(count)];
        for held in self.pods_on(at, away).filter(|held| held.state != PodState::Leaving) {
            for (bit, left) in free.iter_mut().enumerate() {
                if held.devices >> bit & 1 == 1 {
                    *left = left.saturating_sub(held.ask.pod.devices.1);
                }
            }
        }
        free
    }

    /// The devices for a pod: one after the other the one with the least left that is enough, else that with the most
    /// left; the lowest of equals.
    pub fn tightest(&self, at: u32, devices: (u8, u16)) -> u8 {
        let free = self.devices_free(at, NOBODY);
        let mut mask = 0_u8;
        for _ in 0..devices.0 {
            let open = (0..free.len()).filter(|bit| mask >> bit & 1 == 0);
            let enough = open.clone().filter(|bit| devices.1 <= free[*bit]);
            let tightest = enough.min_by_key(|bit| (free[*bit], *bit));
            let widest = open.max_by_key(|bit| (free[*bit], usize::MAX - *bit));
            if let Some(bit) = tightest.or(widest) {
                mask |= 1 << bit;
            }
        }
        mask
    }

    /// The devices that a pod which fits gets.
    pub fn devices_for(&self, at: u32, ask: &AskSpec) -> u8 {
        if self.profile.fragmentation_weight == 0 || ask.pod.devices.0 != 1 {
            return self.tightest(at, ask.pod.devices);
        }
        self.added_waste(at, ask).1
    }

    /// The node for a pod: of those that take it the one with the highest score, of equals the lowest index.
    pub fn place(&self, ask: &AskSpec) -> Option<u32> {
        self.place_but(ask, u32::MAX)
    }

    /// The same, of all nodes but one.
    pub fn place_but(&self, ask: &AskSpec, but: u32) -> Option<u32> {
        let mut best: Option<(i128, u32)> = None;
        for (at, _) in self.all_nodes() {
            if at == but || self.reason(at, ask, NOBODY).is_some() {
                continue;
            }
            let score = self.score(at, ask);
            if best.is_none_or(|(highest, _)| highest < score) {
                best = Some((score, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// Puts a pod on a node.
    pub fn put(&mut self, handle: PodHandle, at: u32, ask: AskSpec, state: PodState, devices: u8) {
        self.pods.push(Held { handle, node: at, ask, state, devices });
    }
}
