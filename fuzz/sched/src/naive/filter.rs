//! Which nodes take a pod, and why the others do not: Kubernetes' filters, in its order.

use sched_core::{Reason, Resource};

use crate::{
    naive::{NOBODY, Naive},
    spec::{AskSpec, EXTENDED, NodeSpec, SpreadSpec, TAINTS, places},
};

/// What a node lacks: asked for, free, in all.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Of what.
    pub resource: Resource,
    /// What the pod asks for.
    pub requested: u64,
    /// What is free.
    pub free: u64,
    /// What there is.
    pub total: u64,
}

/// How many nodes each reason removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Nodes looked at.
    pub nodes: u32,
    /// Nodes that take the pod.
    pub fitting: u32,
    /// The others, by their first reason; one that lacks several resources under each.
    pub reasons: Vec<(Reason, u32)>,
}

impl Naive {
    /// The first reason why a node refuses a pod, with pods in `away` thought away.
    pub fn reason(&self, at: u32, ask: &AskSpec, away: u64) -> Option<Reason> {
        let node = self.node(at)?;
        if node.unschedulable && !ask.tolerates_unschedulable {
            return Some(Reason::Unschedulable);
        }
        if ask.node.is_some_and(|only| only != at) {
            return Some(Reason::Name);
        }
        if let Some(taint) = places(node.taints & !ask.tolerates).next() {
            return Some(Reason::Taint(TAINTS[taint]));
        }
        if !meets_affinity(node, ask) {
            return Some(Reason::Affinity);
        }
        if ask.image & !node.meets != 0 {
            return Some(Reason::Image);
        }
        if self.pods_on(at, away).any(|held| held.ask.pod.ports & ask.ports_wanted != 0) {
            return Some(Reason::Ports);
        }
        if let Some(lack) = self.lacks(at, ask, away).first() {
            return Some(Reason::Insufficient(lack.resource));
        }
        if ask.volumes & !node.meets != 0 {
            return Some(Reason::Volumes);
        }
        let mut broken = ask.spreads.iter().map(|spread| self.breaks(at, ask, spread, away));
        broken.find_map(|reason| reason).or_else(|| self.company(at, ask, away))
    }

    /// All that a node lacks.
    pub fn lacks(&self, at: u32, ask: &AskSpec, away: u64) -> Vec<Lack> {
        let Some(node) = self.node(at) else { return Vec::new() };
        let (used, total, want) = (self.used(at, away), node.sizes, ask.pod.sizes);
        let rows = [
            (Resource::Pods, want.pods.into(), total.pods.into(), used.pods),
            (Resource::Cpu, want.cpu.into(), total.cpu.into(), used.cpu),
            (Resource::Memory, want.memory, total.memory, used.memory),
            (Resource::EphemeralStorage, want.storage, total.storage, used.storage),
            extended(want.extended[0], total.extended[0], used.extended[0], 0),
            extended(want.extended[1], total.extended[1], used.extended[1], 1),
        ];
        let mut lacks = Vec::new();
        for (resource, requested, total, used) in rows {
            let free = u64::try_from(u128::from(total).saturating_sub(used)).unwrap_or(u64::MAX);
            if requested != 0 && free < requested {
                lacks.push(Lack { resource, requested, free, total });
            }
        }
        let (count, milli) = ask.pod.devices;
        let enough = self.devices_free(at, away).iter().filter(|free| milli <= **free).count();
        if enough < usize::from(count) {
            let (requested, total) = (u64::from(count), u64::from(node.devices));
            let resource = Resource::Devices;
            lacks.push(Lack { resource, requested, free: enough as u64, total });
        }
        lacks
    }

    /// Each node under its reasons.
    pub fn explain(&self, ask: &AskSpec) -> Counted {
        let mut counted = Counted::default();
        for (at, _) in self.all_nodes() {
            counted.nodes += 1;
            match self.reason(at, ask, NOBODY) {
                None => counted.fitting += 1,
                Some(Reason::Insufficient(_)) => {
                    for lack in self.lacks(at, ask, NOBODY) {
                        counted.count(Reason::Insufficient(lack.resource));
                    }
                }
                Some(reason) => counted.count(reason),
            }
        }
        counted
    }

    /// A node's domain of a topology key: of the host, itself.
    pub fn domain(&self, at: u32, label: Option<usize>) -> Option<u32> {
        match label {
            None => Some(at),
            Some(label) => self.node(at)?.domains[label].map(u32::from),
        }
    }

    /// How many pods match a term in a node's domain of the term's key; `None`: it has no such label.
    pub fn matching(&self, at: u32, term: usize, away: u64) -> Option<u32> {
        self.count(at, term, away, |pod| pod.matches)
    }

    fn count(
        &self,
        at: u32,
        term: usize,
        away: u64,
        terms: impl Fn(&crate::spec::PodSpec) -> u8,
    ) -> Option<u32> {
        let label = self.keys[term];
        let domain = self.domain(at, label)?;
        let mut count = 0;
        for (place, held) in self.pods.iter().enumerate() {
            let is_here = self.domain(held.node, label) == Some(domain);
            count += u32::from(
                is_here && away >> place & 1 == 0 && terms(&held.ask.pod) >> term & 1 == 1,
            );
        }
        Some(count)
    }

    /// Whether a node counts in a spread: by its affinity, its taints, and the labels of all that are required.
    fn counts(&self, at: u32, ask: &AskSpec, spread: &SpreadSpec) -> bool {
        let Some(node) = self.node(at) else { return false };
        let mut required = ask.spreads.iter().filter(|one| one.preferred.is_none());
        (spread.ignores_affinity || meets_affinity(node, ask))
            && (spread.ignores_taints || node.taints & !ask.tolerates == 0)
            && required.all(|one| self.domain(at, self.keys[one.term]).is_some())
    }

    fn breaks(&self, at: u32, ask: &AskSpec, spread: &SpreadSpec, away: u64) -> Option<Reason> {
        if spread.preferred.is_some() {
            return None;
        }
        let label = self.keys[spread.term];
        let Some(mine) = self.domain(at, label) else { return Some(Reason::SpreadLabel) };
        // As the core documents: who leaves does not mend a spread that not all nodes count for.
        let nodes = self.all_nodes().map(|(other, _)| other);
        let labelled: Vec<u32> =
            nodes.filter(|other| self.domain(*other, label).is_some()).collect();
        let all_count = labelled.iter().all(|other| self.counts(*other, ask, spread));
        let away = if label.is_none() || all_count { away } else { NOBODY };
        let mut domains: Vec<(u32, i64)> = Vec::new();
        for other in labelled {
            if !self.counts(other, ask, spread) {
                continue;
            }
            let domain = self.domain(other, label)?;
            let pods = self.pods_on(other, away);
            let here = pods.filter(|held| held.ask.pod.matches >> spread.term & 1 == 1).count();
            match domains.iter_mut().find(|(one, _)| *one == domain) {
                Some((_, count)) => *count += here as i64,
                None => domains.push((domain, here as i64)),
            }
        }
        let least = domains.iter().map(|(_, count)| *count).min().unwrap_or(i64::MAX / 2);
        let few = (domains.len() as u32) < spread.min_domains;
        let least = if few { 0 } else { least };
        let known = domains.iter().find(|(one, _)| *one == mine);
        let count = known.map_or(0, |(_, count)| *count);
        let myself = i64::from(ask.pod.matches >> spread.term & 1);
        (i64::from(spread.max_skew) < count + myself - least).then_some(Reason::Spread)
    }

    /// Required affinity and anti-affinity, of the pod and of those that are there.
    fn company(&self, at: u32, ask: &AskSpec, away: u64) -> Option<Reason> {
        let pod = &ask.pod;
        let stay = |place: usize| away >> place & 1 == 0;
        let anybody = |term: usize| {
            let mut pods = self.pods.iter().enumerate();
            pods.any(|(place, held)| stay(place) && held.ask.pod.matches >> term & 1 == 1)
        };
        let is_first = ask.near & !pod.matches == 0 && !places(ask.near).any(anybody);
        for term in places(ask.near) {
            match self.matching(at, term, away) {
                Some(count) if count != 0 || is_first => {}
                _ => return Some(Reason::PodAffinity),
            }
        }
        if places(pod.repels).any(|term| self.matching(at, term, away).unwrap_or(0) != 0) {
            return Some(Reason::PodAntiAffinity);
        }
        let repelled = |term| self.count(at, term, away, |pod| pod.repels).unwrap_or(0) != 0;
        places(pod.matches).any(repelled).then_some(Reason::ExistingAntiAffinity)
    }

    /// Whether pods that leave could make a node take a pod: what room and company cannot mend is as it must be.
    pub fn could_take(&self, at: u32, ask: &AskSpec) -> bool {
        self.node(at).is_some_and(|node| {
            (!node.unschedulable || ask.tolerates_unschedulable)
                && node.taints & !ask.tolerates == 0
                && meets_affinity(node, ask)
                && (ask.image | ask.volumes) & !node.meets == 0
        })
    }
}

impl Counted {
    fn count(&mut self, reason: Reason) {
        match self.reasons.iter_mut().find(|(one, _)| *one == reason) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }
}

fn extended(want: u32, total: u32, used: u128, place: usize) -> (Resource, u64, u64, u128) {
    (Resource::Extended(EXTENDED[place]), want.into(), total.into(), used)
}

fn meets_affinity(node: &NodeSpec, ask: &AskSpec) -> bool {
    ask.affinity.is_empty() || ask.affinity.iter().any(|all_of| all_of & !node.meets == 0)
}
