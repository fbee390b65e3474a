//! Clusters large enough that every index is in use, against the plain meaning: a scan, and node after node.

use sched_core::{
    Amounts, Ask, Domain, NodeIndex, NodeOffer, NodePolicy, Placement, PodHandle, Preemption,
    Profile, Spread, Strength, Taints, Terms, TopologyKey,
};

sched_core::tables_in_vecs! {
    struct Heap;
}

/// `SplitMix64`.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn small(&mut self, bound: u64) -> u32 {
        u32::try_from(self.below(bound)).expect("a small bound")
    }
}

const NODES: usize = 150;
const ZONES: u16 = 3;
/// The first is of the host key, the second of zones.
const TERMS: usize = 2;

fn amounts(cpu_milli: u32, memory_mib: u64) -> Amounts {
    Amounts { cpu_milli, memory_bytes: memory_mib << 20, pods: 1, ..Amounts::ZERO }
}

fn cluster(draw: &mut Draw, profile: Profile) -> Placement<Heap> {
    let mut heap = Heap::default();
    heap.grow_nodes(NODES);
    heap.grow_pods(NODES * 12);
    heap.set_domains(usize::from(ZONES));
    heap.set_workload(4096);
    let mut placement = Placement::new(heap, profile);
    for _ in 0..NODES {
        let size = 1 + draw.small(2);
        let mut offer = NodeOffer {
            allocatable: Amounts { pods: 8, ..amounts(2000 * size, 4096 * u64::from(size)) },
            ..NodeOffer::default()
        };
        offer.domains[0] = Domain(u16::try_from(draw.below(u64::from(ZONES))).expect("a zone"));
        assert!(draw.below(4) != 0 || offer.taints.insert(0));
        placement.add_node(&offer).expect("room for a node");
    }
    placement.define_term(0, TopologyKey::Host, |_, _| false);
    placement.define_term(1, TopologyKey::Label(0), |_, _| false);
    placement
}

fn ask(draw: &mut Draw) -> Ask {
    let mut ask = Ask::default();
    ask.pod.requests = amounts(50 * draw.small(20), 128 * draw.below(12));
    ask.pod.priority = i32::try_from(draw.below(3)).expect("small") * 10;
    let mut tolerates = Taints::EMPTY;
    assert!(draw.below(2) != 0 || tolerates.insert(0));
    ask.tolerates = tolerates;
    let mut term = |odds: u64| {
        let mut terms = Terms::EMPTY;
        if draw.below(odds) == 0 {
            assert!(terms.insert(usize::try_from(draw.below(TERMS as u64)).expect("small")));
        }
        terms
    };
    (ask.pod.matches, ask.pod.repels, ask.near) = (term(2), term(8), term(10));
    if draw.below(6) == 0 {
        let spread = Spread {
            term: u8::try_from(draw.below(TERMS as u64)).expect("small"),
            max_skew: 1 + draw.small(3),
            min_domains: 1,
            strength: Strength::Required,
            affinity_policy: NodePolicy::Honor,
            taints_policy: NodePolicy::Ignore,
        };
        ask.spreads.push(spread).expect("room for one");
    }
    ask
}

/// Fills a cluster, and takes one pod in five away again; asks `look` before each pod.
fn live(
    seed: u64,
    profile: Profile,
    steps: usize,
    mut look: impl FnMut(&Placement<Heap>, &Ask),
) -> Placement<Heap> {
    let mut draw = Draw(seed);
    let mut placement = cluster(&mut draw, profile);
    let mut pods: Vec<PodHandle> = Vec::new();
    for _ in 0..steps {
        let ask = ask(&mut draw);
        placement.observe(&ask);
        look(&placement, &ask);
        if let Some(at) = placement.place(&ask) {
            let pod = placement.assume(&ask, at).expect("a place that was given");
            placement.confirm(pod).expect("an assumed pod");
            pods.push(pod);
        }
        if draw.below(5) == 0 && !pods.is_empty() {
            let gone = usize::try_from(draw.below(pods.len() as u64)).expect("an index");
            placement.remove_pod(pods.swap_remove(gone)).expect("a pod that is there");
        }
    }
    placement
}

#[test]
fn a_place_is_what_a_scan_finds() {
    let few = |many: usize| if cfg!(miri) { 20 } else { many };
    let profiles = [
        (1, Profile::PACK, few(1200)),
        (2, Profile::SPREAD, few(1200)),
        (3, Profile::GRADIENT, few(100)),
    ];
    for (seed, profile, few) in profiles {
        let mut placed = 0;
        let placement = live(seed, profile, few, |placement, ask| {
            let place = placement.place(ask);
            assert_eq!(place, placement.place_by_scan(ask));
            assert_eq!(place.is_none(), placement.explain(ask).fitting == 0);
            placed += usize::from(place.is_some());
        });
        assert_eq!(placement.audit(), Ok(()));
        assert!(few / 3 < placed, "{placed} of {few} found a place");
    }
}

#[test]
fn preemption_chooses_as_if_each_node_were_looked_at() {
    let few = if cfg!(miri) { 3 } else { 60 };
    let mut draw = Draw(9);
    for profile in [Profile::PACK, Profile::SPREAD] {
        let steps = if cfg!(miri) { 100 } else { 1500 };
        let placement = live(4, profile, steps, |_, _| {});
        let mut found = 0;
        for _ in 0..few {
            let mut ask = ask(&mut draw);
            ask.pod.requests = amounts(200 + 50 * draw.small(60), 128 * draw.below(40));
            ask.pod.priority = 15;
            if placement.place(&ask).is_some() {
                continue;
            }
            let chosen = placement.preempt(&ask);
            let on = |node: NodeIndex| placement.preempt(&Ask { node: Some(node), ..ask.clone() });
            let each: Vec<Preemption> = placement.nodes().filter_map(|(at, _)| on(at)).collect();
            let cheapest = each.iter().min_by_key(|one| (one.cost, one.node));
            assert_eq!(chosen.as_ref(), cheapest);
            found += usize::from(chosen.is_some());
        }
        assert!(cfg!(miri) || 10 < found, "{found} of {few} were looked at");
    }
}
