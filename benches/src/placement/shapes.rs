//! Clusters and pods as Kubernetes' scheduler_perf has them, with pods of mixed sizes.

use anyhow::{Context as _, Result, ensure};
use sched_core::{
    Amounts, Ask, Domain, NodeOffer, NodePolicy, Placement, Profile, Requirements, Spread,
    Strength, TOPOLOGY_KEYS_MAX, Taints, Terms, TopologyKey,
};

use crate::placement::{Draw, Heap};

/// A node of scheduler_perf: 4 CPUs, 32 GiB, 110 pods.
const NODE_CPU_MILLI: u32 = 4000;
const NODE_MEMORY_MIB: u64 = 32 << 10;
const NODE_PODS: u32 = 110;
/// Zones, and nodes belong to them in turn.
const ZONES: usize = 10;
/// Applications: pods of one are told apart from others by a label.
const APPS: usize = 10;
/// The largest pod but for those that preempt.
const POD_CPU_MILLI: u32 = 400;
const POD_MEMORY_MIB: u64 = 3200;

/// What pods ask for beside amounts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Basic,
    /// One of two zones of ten.
    NodeAffinity,
    /// Nodes have one of three taints or none; a pod tolerates one.
    Taints,
    /// No other pod of its application on its node.
    AntiAffinity,
    /// A zone with pods of its application.
    Affinity,
    /// Even over ten zones, but for five.
    Spread,
    /// The cluster is full of pods of lower priority.
    Preemption,
    /// All of those but the last in turn.
    Mixed,
    /// Nothing; on a cluster 80 % full one goes for each that comes.
    Churn,
    /// Nothing; until the cluster is 95 % full.
    Full,
}

/// Each with its name, and placements a second that are to be reached with 5,000 nodes on one core.
pub const SHAPES: [(&str, Shape, Option<f64>); 10] = [
    ("basic", Shape::Basic, Some(1e6)),
    ("node-affinity", Shape::NodeAffinity, Some(5e5)),
    ("taints", Shape::Taints, None),
    ("anti-affinity", Shape::AntiAffinity, Some(2e5)),
    ("affinity", Shape::Affinity, Some(2e5)),
    ("spread", Shape::Spread, Some(2e5)),
    ("preemption", Shape::Preemption, Some(5e4)),
    ("mixed", Shape::Mixed, None),
    ("churn", Shape::Churn, None),
    ("full", Shape::Full, None),
];

pub(crate) fn amounts(cpu_milli: u32, memory_mib: u64) -> Amounts {
    Amounts { cpu_milli, pods: 1, memory_bytes: memory_mib << 20, ..Amounts::ZERO }
}

/// One of 256 sizes: 25 m to 400 m, 200 MiB to 3,200 MiB.
fn size(draw: &mut Draw) -> Amounts {
    let (cpu, memory) = (draw.small(16) + 1, draw.small(16) + 1);
    amounts(POD_CPU_MILLI / 16 * cpu, POD_MEMORY_MIB / 16 * u64::from(memory))
}

/// A cluster without pods.
pub(crate) fn cluster(shape: Shape, nodes: usize) -> Result<Placement<Heap>> {
    let mut heap = Heap::default();
    heap.grow_nodes(nodes);
    heap.set_domains(ZONES);
    let mut placement = Placement::new(heap, Profile::PACK);
    for number in 0..nodes {
        let mut offer = NodeOffer {
            allocatable: Amounts { pods: NODE_PODS, ..amounts(NODE_CPU_MILLI, NODE_MEMORY_MIB) },
            domains: [Domain::NONE; TOPOLOGY_KEYS_MAX],
            ..NodeOffer::default()
        };
        if has_zones(shape) {
            let zone = number % ZONES;
            if let Some(domain) = offer.domains.first_mut() {
                *domain = Domain(u16::try_from(zone)?);
            }
            ensure!(offer.meets.insert(zone), "more zones than requirements");
        }
        if matches!(shape, Shape::Taints | Shape::Mixed) {
            ensure!(number % 4 == 0 || offer.taints.insert(number % 4), "more taints than bits");
        }
        let added = placement.add_node(&offer);
        ensure!(added.is_ok(), "a node is refused: {added:?}");
    }
    for app in 0..APPS {
        let term = |kind: usize| u8::try_from(kind * APPS + app).context("more terms than bits");
        placement.define_term(term(HOST)?, TopologyKey::Host, |_, _| false);
        placement.define_term(term(ZONE)?, TopologyKey::Label(0), |_, _| false);
    }
    Ok(placement)
}

/// As in scheduler_perf nodes have a zone where pods ask for one; here also where they ask for all sorts of things.
fn has_zones(shape: Shape) -> bool {
    matches!(shape, Shape::NodeAffinity | Shape::Affinity | Shape::Spread | Shape::Mixed)
}

/// Terms of the host key come first, those of zones after.
const HOST: usize = 0;
const ZONE: usize = 1;

/// Pods as they come.
#[derive(Debug)]
pub(crate) struct Arrivals {
    shape: Shape,
    draw: Draw,
    count: usize,
}

impl Arrivals {
    pub(crate) fn new(shape: Shape, seed: u64) -> Self {
        Self { shape, draw: Draw::new(seed), count: 0 }
    }

    pub(crate) fn draw(&mut self) -> &mut Draw {
        &mut self.draw
    }

    /// One that others may preempt, of three quarters of a core on average.
    pub(crate) fn low(&mut self) -> Ask {
        let mut ask = Ask::default();
        let step = self.draw.small(64);
        ask.pod.requests = amounts(450 + 10 * step, 512);
        ask
    }

    /// The next ones.
    pub(crate) fn some(&mut self, count: usize) -> Result<Vec<Ask>> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Result<Ask> {
        let kinds = [
            Shape::Basic,
            Shape::NodeAffinity,
            Shape::Taints,
            Shape::AntiAffinity,
            Shape::Affinity,
            Shape::Spread,
        ];
        self.count += 1;
        let mut shape = self.shape;
        if shape == Shape::Mixed {
            shape = kinds.get(self.count % kinds.len()).copied().unwrap_or(Shape::Basic);
        }
        let mut ask = Ask::default();
        ask.pod.requests = size(&mut self.draw);
        let app = self.draw.below(APPS);
        let term = |kind: usize| kind * APPS + app;
        let mut of_app = Terms::EMPTY;
        match shape {
            Shape::Basic | Shape::Churn | Shape::Full | Shape::Mixed => {}
            Shape::NodeAffinity => {
                // One zone or the next.
                let zone = self.draw.below(ZONES);
                for zone in [zone, (zone + 1) % ZONES] {
                    let mut named = Requirements::EMPTY;
                    ensure!(named.insert(zone) && ask.affinity.push(named), "no room for a zone");
                }
            }
            Shape::Taints => {
                let mut tolerates = Taints::EMPTY;
                ensure!(tolerates.insert(1 + self.draw.below(3)), "no room for a taint");
                ask.tolerates = tolerates;
            }
            Shape::AntiAffinity => {
                ensure!(of_app.insert(term(HOST)), "no room for a term");
                (ask.pod.matches, ask.pod.repels) = (of_app, of_app);
            }
            Shape::Affinity => {
                ensure!(of_app.insert(term(ZONE)), "no room for a term");
                (ask.pod.matches, ask.near) = (of_app, of_app);
            }
            Shape::Spread => {
                ensure!(of_app.insert(term(ZONE)), "no room for a term");
                ask.pod.matches = of_app;
                let spread = Spread {
                    term: u8::try_from(term(ZONE))?,
                    max_skew: 5,
                    min_domains: 1,
                    strength: Strength::Required,
                    affinity_policy: NodePolicy::Honor,
                    taints_policy: NodePolicy::Ignore,
                };
                ensure!(ask.spreads.push(spread).is_ok(), "no room for a spread constraint");
            }
            Shape::Preemption => {
                // 1 to 3 cores.
                let step = self.draw.small(64);
                ask.pod.requests = amounts(1000 + 30 * step, 512);
                ask.pod.priority = 1000;
            }
        }
        Ok(ask)
    }

    /// How full the cluster becomes before it is emptied, in percent of its CPU; of pods kept apart, so many a node.
    pub(crate) fn most(&self, nodes: usize) -> Most {
        match self.shape {
            Shape::AntiAffinity => Most::Pods(nodes * APPS / 2),
            Shape::Churn => Most::Percent(80),
            Shape::Full => Most::Percent(95),
            Shape::Preemption => Most::Pods(nodes),
            Shape::Basic
            | Shape::NodeAffinity
            | Shape::Taints
            | Shape::Affinity
            | Shape::Spread
            | Shape::Mixed => Most::Percent(50),
        }
    }
}

/// When a round ends.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Most {
    /// So much of the CPU is asked for.
    Percent(u64),
    /// So many pods have come.
    Pods(usize),
}

impl Most {
    /// In pods of this shape's mean size.
    pub(crate) fn pods(self, nodes: usize) -> usize {
        match self {
            Self::Pods(pods) => pods,
            Self::Percent(percent) => {
                let mean = u64::from(POD_CPU_MILLI / 16) * 17 / 2;
                let cpu = nodes as u64 * u64::from(NODE_CPU_MILLI) * percent / 100;
                usize::try_from(cpu / mean).unwrap_or(usize::MAX)
            }
        }
    }
}
