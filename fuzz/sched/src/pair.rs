//! The core and the model side by side: each operation is done to both, and their answers are compared.

use sched_core::{
    Ask, Error, Fit, NodeIndex, Placement, PodHandle, PodState, Profile, Reason, Resource, Table,
    blocks_for,
};

use crate::{
    bytes::Bytes,
    draw,
    heap::Heap,
    naive::{NOBODY, Naive},
    spec::{AskSpec, BUDGETS, EXTENDED, NodeSpec, TAINTS, TERMS, bits, topology_key},
};

/// The two.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// Under test.
    pub(crate) core: Placement<Heap>,
    /// What it should say.
    pub(crate) naive: Naive,
    /// Handles of pods that are gone.
    pub(crate) gone: Vec<PodHandle>,
    nodes_max: usize,
    pods_max: usize,
}

/// Every reason that is not a taint or a resource.
const REASONS: [Reason; 11] = [
    Reason::Unschedulable,
    Reason::Name,
    Reason::Affinity,
    Reason::Image,
    Reason::Ports,
    Reason::Volumes,
    Reason::SpreadLabel,
    Reason::Spread,
    Reason::PodAffinity,
    Reason::PodAntiAffinity,
    Reason::ExistingAntiAffinity,
];
const RESOURCES: [Resource; 7] = [
    Resource::Pods,
    Resource::Cpu,
    Resource::Memory,
    Resource::EphemeralStorage,
    Resource::Devices,
    Resource::Extended(EXTENDED[0]),
    Resource::Extended(EXTENDED[1]),
];

/// The profiles, the default first; those that weigh fragmentation, which cost most to work out, are the rarest.
pub(crate) fn profile(number: u8) -> Profile {
    let weighed = |fit, fit_weight, balance| {
        Profile::PACK.weighing(fit, fit_weight, balance).unwrap_or(Profile::PACK)
    };
    match number % 32 {
        0..8 => Profile::PACK,
        8..14 => Profile::SPREAD,
        14..20 => weighed(Fit::Pack, 1, 0),
        20..25 => weighed(Fit::Spread, 8, 7),
        25..30 => {
            let mut wishes = Profile::PACK;
            (wishes.wish_weight, wishes.soft_taint_weight) = (u16::MAX, 1);
            wishes
        }
        30 => Profile::GRADIENT,
        _ => {
            let mut apart = Profile::SPREAD;
            apart.fragmentation_weight = 3;
            apart
        }
    }
}

impl Pair {
    /// Both empty. So many nodes and pods are the most that will be entered, whatever the tables have room for.
    pub(crate) fn new(heap: Heap, profile: Profile, nodes_max: usize, pods_max: usize) -> Self {
        assert!(pods_max <= 64, "the model has a bit for each of 64 pods");
        let core = Placement::new(heap, profile);
        let naive = Naive::new(profile);
        let mut pair = Self { core, naive, gone: Vec::new(), nodes_max, pods_max };
        for (term, label) in
            [None, Some(0), Some(1), None, Some(0), Some(1), None, Some(0)].iter().enumerate()
        {
            pair.define_term(term, *label, 0);
        }
        pair
    }

    fn heap(&mut self) -> &mut Heap {
        self.core.storage_mut()
    }

    /// Makes one of the core's tables longer.
    pub(crate) fn grow(&mut self, which: usize) {
        self.heap().grow(which);
    }

    /// One of the nodes there are, if any.
    pub(crate) fn some_node(&self, bytes: &mut Bytes<'_>) -> Option<u32> {
        let count = self.naive.all_nodes().count();
        let skipped = bytes.below(count.max(1));
        self.naive.all_nodes().nth(skipped).map(|(at, _)| at)
    }

    /// One of the pods there are, if any.
    pub(crate) fn some_pod(&self, bytes: &mut Bytes<'_>) -> Option<PodHandle> {
        let chosen = bytes.below(self.naive.pods.len().max(1));
        self.naive.pods.get(chosen).map(|held| held.handle)
    }

    /// Draws what a pod asks for.
    pub(crate) fn draw(&self, bytes: &mut Bytes<'_>) -> AskSpec {
        draw::ask(bytes, self.naive.nodes.len() as u32)
    }

    /// Adds a node.
    pub(crate) fn add_node(&mut self, node: NodeSpec) {
        let count = self.naive.all_nodes().count();
        if self.nodes_max <= count {
            return;
        }
        let heap = self.core.storage_mut();
        let short = [
            (Table::Nodes, heap.nodes() <= count),
            (Table::Classes, heap.classes() < count + 2),
            (Table::Blocks, heap.blocks() < blocks_for(count + 1)),
        ];
        match self.core.add_node(&node.offer()) {
            Ok(at) => {
                assert!(!short.iter().any(|(_, short)| *short), "a node without room: {short:?}");
                let at = at.0 as usize;
                if self.naive.nodes.len() <= at {
                    self.naive.nodes.resize(at + 1, None);
                }
                let before = self.naive.nodes[at].replace(node);
                assert_eq!(before, None, "the index of a node that is there");
            }
            Err(Error::Full(table)) => {
                assert!(short.contains(&(table, true)), "{table:?} is not full: {short:?}");
            }
            Err(error) => panic!("a node was refused: {error:?}"),
        }
    }

    /// Changes a node.
    pub(crate) fn update_node(&mut self, at: u32, node: NodeSpec) {
        let known = self.naive.node(at).is_some();
        let answer = self.core.update_node(NodeIndex(at), &node.offer());
        assert_eq!(answer, if known { Ok(()) } else { Err(Error::NoNode) });
        if known {
            self.naive.nodes[at as usize] = Some(node);
        }
    }

    /// Removes a node and its pods.
    pub(crate) fn remove_node(&mut self, at: u32) {
        let known = self.naive.node(at).is_some();
        let answer = self.core.remove_node(NodeIndex(at));
        assert_eq!(answer, if known { Ok(()) } else { Err(Error::NoNode) });
        if known {
            self.naive.nodes[at as usize] = None;
            let gone = self.naive.pods.extract_if(.., |held| held.node == at);
            self.gone.extend(gone.map(|held| held.handle));
        }
    }

    /// Gives a term a key; of the pods there are those match whose place in the list, modulo 8, is in `matches`.
    pub(crate) fn define_term(&mut self, term: usize, label: Option<usize>, matches: u8) {
        let pods = self.naive.pods.iter().enumerate();
        let matching: Vec<PodHandle> = pods
            .filter(|(place, _)| matches >> (place % 8) & 1 == 1)
            .map(|(_, held)| held.handle)
            .collect();
        self.core.define_term(TERMS[term], topology_key(label), |pod, _| matching.contains(&pod));
        self.naive.keys[term] = label;
        for held in &mut self.naive.pods {
            held.ask.pod.repels &= !(1 << term);
            held.ask.pod.matches &= !(1 << term);
            held.ask.pod.matches |= u8::from(matching.contains(&held.handle)) << term;
        }
    }

    /// Sets what a budget allows.
    pub(crate) fn set_budget(&mut self, budget: usize, allowed: u32) {
        self.core.set_budget(BUDGETS[budget], allowed);
        self.naive.allowed[budget] = allowed;
    }

    /// Changes a pod's budgets.
    pub(crate) fn set_budgets_of(&mut self, pod: PodHandle, budgets: u8) {
        let place = self.naive.place_of(pod);
        let answer = self.core.set_budgets_of(pod, bits(budgets, &BUDGETS));
        assert_eq!(answer.is_ok(), place.is_some());
        if let Some(place) = place {
            self.naive.pods[place].ask.pod.budgets = budgets;
        }
    }

    /// Changes what decisions weigh.
    pub(crate) fn set_profile(&mut self, profile: Profile) {
        self.core.set_profile(profile);
        self.naive.profile = profile;
    }

    /// Takes note of a pod.
    pub(crate) fn observe(&mut self, ask: &AskSpec) {
        self.core.observe(&ask.ask());
        self.naive.workload.observe(ask);
    }

    /// Both choose a node: the same (P3).
    pub(crate) fn place(&self, ask: &AskSpec) -> Option<u32> {
        let (theirs, mine) = (self.core.place(&ask.ask()), self.naive.place(ask));
        if theirs.map(|at| at.0) != mine {
            let scores: Vec<_> = self
                .naive
                .all_nodes()
                .map(|(at, _)| (at, self.naive.reason(at, ask, NOBODY), self.naive.score(at, ask)))
                .collect();
            panic!("placed on {theirs:?}, should be {mine:?}: {ask:?}: {scores:?}");
        }
        mine
    }

    /// Both say why (P4), for each node and counted, and how good each node is.
    pub(crate) fn explain(&self, ask: &AskSpec) {
        let core_ask = ask.ask();
        self.explain_as(ask, &core_ask);
        for (at, _) in self.naive.all_nodes() {
            let reason = self.naive.reason(at, ask, NOBODY);
            assert_eq!(self.core.why_not(NodeIndex(at), &core_ask), Ok(reason), "node {at}");
            let lacks = self.naive.lacks(at, ask, NOBODY);
            let theirs: Vec<_> = self.core.shortfalls(NodeIndex(at), &core_ask).collect();
            let pairs = lacks.iter().zip(&theirs);
            let same = pairs.clone().all(|(mine, theirs)| {
                (mine.resource, mine.requested, mine.free, mine.total)
                    == (theirs.resource, theirs.requested, theirs.free, theirs.total)
            });
            assert!(same && lacks.len() == theirs.len(), "{theirs:?}, should be {lacks:?}");
            let score = self.core.score(NodeIndex(at), &core_ask).map(i128::from);
            assert_eq!(score, Some(self.naive.score(at, ask)), "score of {at}: {ask:?}");
        }
    }

    fn explain_as(&self, ask: &AskSpec, core_ask: &Ask) {
        let (theirs, mine) = (self.core.explain(core_ask), self.naive.explain(ask));
        assert_eq!((theirs.nodes, theirs.fitting), (mine.nodes, mine.fitting));
        let count = |reason| {
            mine.reasons.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count)
        };
        let resources = RESOURCES.map(Reason::Insufficient);
        for reason in REASONS.into_iter().chain(resources).chain(TAINTS.map(Reason::Taint)) {
            assert_eq!(theirs.of(reason), count(reason), "nodes refused for {reason:?}: {ask:?}");
        }
    }

    /// Assumes a pod on a node, fitting or not (P1). Gives its handle if it was taken.
    pub(crate) fn assume(&mut self, ask: &AskSpec, at: u32) -> Option<PodHandle> {
        if self.pods_max <= self.naive.pods.len() {
            return None;
        }
        let answer = self.core.assume(&ask.ask(), NodeIndex(at));
        let is_full = self.heap().pods() == self.naive.pods.len();
        let expected = match (self.naive.node(at), self.naive.reason(at, ask, NOBODY)) {
            (None, _) => Some(Error::NoNode),
            (_, Some(reason)) => Some(Error::Refused(reason)),
            (_, None) => is_full.then_some(Error::Full(Table::Pods)),
        };
        assert_eq!(answer.as_ref().err(), expected.as_ref(), "{ask:?} on {at}");
        let handle = answer.ok()?;
        let devices = self.naive.devices_for(at, ask);
        self.naive.put(handle, at, ask.clone(), PodState::Assumed, devices);
        Some(handle)
    }

    /// Enters a bound pod, fitting or not.
    pub(crate) fn add_bound(&mut self, ask: &AskSpec, devices: u8, at: u32) {
        if self.pods_max <= self.naive.pods.len() {
            return;
        }
        let is_full = self.heap().pods() == self.naive.pods.len();
        match self.core.add_bound(&ask.pod.pod(), devices, NodeIndex(at)) {
            Ok(handle) => {
                assert!(!is_full && self.naive.node(at).is_some());
                let tightest = self.naive.tightest(at, ask.pod.devices);
                let devices = if devices == 0 { tightest } else { devices };
                self.naive.put(handle, at, ask.clone(), PodState::Bound, devices);
            }
            Err(Error::Full(Table::Pods)) => assert!(is_full),
            Err(error) => {
                assert_eq!((error, self.naive.node(at)), (Error::NoNode, None));
            }
        }
    }

    /// The binding is written.
    pub(crate) fn confirm(&mut self, pod: PodHandle) {
        let place = self.naive.place_of(pod);
        let answer = self.core.confirm(pod);
        assert_eq!(answer, if place.is_some() { Ok(()) } else { Err(Error::Stale) });
        if let Some(place) = place {
            let state = &mut self.naive.pods[place].state;
            if *state == PodState::Assumed {
                *state = PodState::Bound;
            }
        }
    }

    /// The binding is refused: a bound pod stays (P2).
    pub(crate) fn forget(&mut self, pod: PodHandle) {
        let place = self.naive.place_of(pod);
        let may = place.is_some_and(|place| {
            matches!(self.naive.pods[place].state, PodState::Assumed | PodState::Nominated)
        });
        let answer = self.core.forget(pod);
        assert_eq!(answer, if may { Ok(()) } else { Err(Error::Stale) });
        if let Some(place) = place.filter(|_| may) {
            self.gone.push(self.naive.pods.remove(place).handle);
        }
    }

    /// The pod is gone.
    pub(crate) fn remove_pod(&mut self, pod: PodHandle) {
        let place = self.naive.place_of(pod);
        let answer = self.core.remove_pod(pod);
        assert_eq!(answer, if place.is_some() { Ok(()) } else { Err(Error::Stale) });
        if let Some(place) = place {
            self.gone.push(self.naive.pods.remove(place).handle);
        }
    }

    /// The core's tables agree with each other. It is looked at less often than [`Self::check`], for it costs more.
    pub(crate) fn audit(&self) {
        if let Err(flaw) = self.core.audit() {
            panic!("the core contradicts itself: {flaw}");
        }
    }

    /// Compares all that both hold.
    pub(crate) fn check(&self) {
        let nodes: Vec<u32> = self.core.nodes().map(|(at, _)| at.0).collect();
        assert!(self.naive.all_nodes().map(|(at, _)| at).eq(nodes.iter().copied()));
        for (at, node) in self.naive.all_nodes() {
            self.check_node(at, node);
        }
        for held in &self.naive.pods {
            let Some((at, record)) = self.core.pod(held.handle) else {
                panic!("a pod is lost: {held:?}");
            };
            assert_eq!(at.0, held.node, "a pod has moved (P2): {held:?}");
            assert_eq!((record.state(), record.devices()), (held.state, held.devices));
            assert_eq!(*record.pod(), held.ask.pod.pod());
        }
        for pod in &self.gone {
            assert_eq!(self.core.pod(*pod).map(|(at, _)| at), None, "a pod that is gone");
        }
    }

    fn check_node(&self, at: u32, node: &NodeSpec) {
        let index = NodeIndex(at);
        assert_eq!(self.core.offer(index).as_ref(), Some(&node.offer()));
        let Some(record) = self.core.node(index) else { panic!("node {at} is lost") };
        let (used, theirs) = (self.naive.used(at, NOBODY), record.used());
        let narrow = |amount: u128| u32::try_from(amount).unwrap_or(u32::MAX);
        let wide = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
        assert_eq!(theirs.cpu_milli, narrow(used.cpu), "CPU of node {at}");
        assert_eq!(theirs.pods, narrow(used.pods), "pods of node {at}");
        assert_eq!(theirs.memory_bytes, wide(used.memory), "memory of node {at}");
        assert_eq!(theirs.storage_bytes, wide(used.storage), "storage of node {at}");
        for (number, amount) in EXTENDED.iter().zip(used.extended) {
            assert_eq!(theirs.extended[usize::from(*number)], narrow(amount));
        }
        let limits = record.limits();
        assert_eq!(limits.cpu_milli, narrow(used.limits.0), "CPU limits of node {at}");
        assert_eq!(limits.memory_bytes, wide(used.limits.1), "memory limits of node {at}");
        assert!(record.devices_free().eq(self.naive.devices_free(at, NOBODY)), "devices of {at}");
        // The latest first.
        let theirs = self.core.pods_of(index).map(|(pod, _)| pod);
        let mut mine: Vec<_> = self.naive.pods_on(at, NOBODY).map(|held| held.handle).collect();
        mine.reverse();
        assert!(theirs.eq(mine), "the pods of node {at} or their order");
    }

    /// Removes all there is: nothing must be left of it.
    pub(crate) fn clear(&mut self) {
        for held in self.naive.pods.clone() {
            if held.node % 2 == 0 {
                self.remove_pod(held.handle);
            }
        }
        for at in 0..self.naive.nodes.len() as u32 {
            self.remove_node(at);
        }
        self.check();
        self.audit();
        assert_eq!(self.core.nodes().count(), 0);
    }
}
