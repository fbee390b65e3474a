//! A pod's ask beside what must be known of the whole cluster to answer it: what its spread constraints allow, and
//! whether its affinity has anybody to be near to.

use crate::{
    ask::{Ask, NodePolicy, Spread, Strength, TopologyKey},
    filter::Reason,
    limits::SPREADS_MAX,
    records::{ClassKey, NONE},
    view::View,
};

/// What one spread constraint allows.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// It only costs.
    Anything,
    /// At most so many matching pods more than the least in the domain.
    Matching { term: usize, label: u8, least: u32, more: i64 },
    /// Not the domains that have this bit.
    Unblocked { label: u8, bit: u8 },
    /// At most so many matching pods more than the least on the host.
    OnHost { term: usize, least: u32, more: i64 },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) ask: &'a Ask,
    /// Extended resources asked for, a bit each.
    pub(crate) extended: u8,
    /// Neither terms nor volumes: nothing to look at after the amounts.
    pub(crate) is_simple: bool,
    /// CPU and memory alone decide on a node of an admitting class.
    pub(crate) is_plain: bool,
    /// Nodes of one class and cell may have different scores.
    pub(crate) by_node: bool,
    /// Nobody matches its required affinity, and it would itself: it is the first of its kind.
    is_first: bool,
    allowed: [Allowed; SPREADS_MAX],
}

impl<'a> View<'a> {
    pub(crate) fn question<'q>(&self, ask: &'q Ask) -> Question<'q> {
        let pod = &ask.pod;
        let extended = (0_u8..).zip(&pod.requests.extended).filter(|(_, ask)| **ask != 0);
        let of_host = |term: usize| self.term_key_at(term) == TopologyKey::Host;
        let mut question = Question {
            ask,
            extended: extended.fold(0, |bits, (bit, _)| bits | 1 << bit),
            is_simple: ask.volumes.is_empty()
                && ask.spreads.is_empty()
                && ask.near.is_empty()
                && pod.repels.is_empty()
                && !pod.matches.intersects(&self.state.repelled),
            is_plain: false,
            by_node: ask.near_preferred.iter().any(|(term, _)| of_host(usize::from(*term))),
            is_first: !ask.near.is_empty()
                && ask.near.is_subset(&pod.matches)
                && ask.near.iter().all(|term| self.matching_at(term) == 0),
            allowed: [Allowed::Anything; SPREADS_MAX],
        };
        for (index, spread) in ask.spreads.iter().enumerate() {
            let allowed = match spread.strength {
                Strength::Preferred(_) => {
                    question.by_node |= of_host(usize::from(spread.term));
                    continue;
                }
                Strength::Required => self.allowed(ask, spread, index),
            };
            if let Some(slot) = question.allowed.get_mut(index) {
                *slot = allowed;
            }
        }
        let on_host = question.allowed.iter().any(|one| matches!(one, Allowed::OnHost { .. }));
        question.is_plain = pod.requests.pods <= 1
            && pod.requests.storage_bytes == 0
            && question.extended == 0
            && pod.devices.count() == 0
            && !on_host;
        question
    }

    /// Whether nodes of a class count for a spread constraint.
    fn counts(&self, ask: &Ask, spread: &Spread, key: &ClassKey) -> bool {
        let affinity =
            spread.affinity_policy == NodePolicy::Ignore || ask.affinity.are_met_by(&key.meets);
        let taints =
            spread.taints_policy == NodePolicy::Ignore || key.taints.is_subset(&ask.tolerates);
        let required = ask.spreads.iter().filter(|one| one.strength == Strength::Required);
        let mut labels = required.map(|one| self.term_key_at(usize::from(one.term)));
        let labelled = labels.all(|topology| match topology {
            TopologyKey::Host => true,
            TopologyKey::Label(label) => self.domain(key, label).is_some(),
        });
        affinity && taints && labelled
    }

    fn allowed(&self, ask: &Ask, spread: &Spread, index: usize) -> Allowed {
        let term = usize::from(spread.term);
        let myself = i64::from(ask.pod.matches.contains(term));
        let more = i64::from(spread.max_skew) - myself;
        let least_of =
            |domains: u32, least: u32| if domains < spread.min_domains { 0 } else { least };
        let label = match self.term_key_at(term) {
            TopologyKey::Host => {
                let (mut hosts, mut least) = (0, u32::MAX);
                for (at, node) in self.nodes() {
                    if self.class_key(node.class).is_some_and(|key| self.counts(ask, spread, key)) {
                        hosts += 1;
                        least = least.min(self.matching_on(at, term));
                    }
                }
                return Allowed::OnHost { term, least: least_of(hosts, least), more };
            }
            TopologyKey::Label(label) => label,
        };
        for domain in self.tables.domains {
            domain.counted.set(0);
            domain.eligible.set(false);
        }
        let mut all_count = true;
        for (_, class) in self.classes() {
            let Some(domain) = self.domain(&class.key, label) else { continue };
            if self.counts(ask, spread, &class.key) {
                domain.eligible.set(true);
            } else {
                all_count = false;
            }
        }
        if all_count {
            let counts = self.tables.domains.iter().filter(|domain| domain.eligible.get());
            let matching = counts.map(|domain| domain.matching.get(term).copied().unwrap_or(0));
            let (domains, least) =
                matching.fold((0, u32::MAX), |(domains, least), one| (domains + 1, least.min(one)));
            return Allowed::Matching { term, label, least: least_of(domains, least), more };
        }
        // Only pods on nodes that count are counted.
        for (at, node) in self.nodes() {
            let Some(key) = self.class_key(node.class) else { continue };
            let Some(domain) = self.domain(key, label) else { continue };
            if self.counts(ask, spread, key) {
                domain.counted.set(domain.counted.get() + self.matching_on(at, term));
            }
        }
        let eligible = self.tables.domains.iter().filter(|domain| domain.eligible.get());
        let (domains, least) = eligible.fold((0, u32::MAX), |(domains, least), domain| {
            (domains + 1, least.min(domain.counted.get()))
        });
        let most = i64::from(least_of(domains, least)) + more;
        // SPREADS_MAX is 8, so a bit fits.
        let bit = 1_u8 << index;
        for domain in self.tables.domains {
            let others = domain.blocked.get() & !bit;
            let blocked = most < i64::from(domain.counted.get());
            domain.blocked.set(others | if blocked { bit } else { 0 });
        }
        Allowed::Unblocked { label, bit }
    }
}

impl Question<'_> {
    /// The first spread constraint that a node of the class breaks. Spread over hosts is looked at if a host is given.
    pub(crate) fn spread_reason(
        &self,
        view: &View<'_>,
        key: &ClassKey,
        host: Option<u32>,
    ) -> Option<Reason> {
        self.spread_without(view, key, host, |_| 0)
    }

    /// The same, with so many of each term's matching pods of the node thought away.
    pub(crate) fn spread_without(
        &self,
        view: &View<'_>,
        key: &ClassKey,
        host: Option<u32>,
        away: impl Fn(usize) -> u32,
    ) -> Option<Reason> {
        // Where pods leave the domain with the least, the least falls with them.
        let too_many = |count: u32, term: usize, least: u32, more: i64| {
            let count = count.saturating_sub(away(term));
            i64::from(least.min(count)) + more < i64::from(count)
        };
        for allowed in self.allowed.iter().take(self.ask.spreads.len()) {
            match *allowed {
                Allowed::Anything => {}
                Allowed::Matching { term, label, least, more } => {
                    let Some(domain) = view.domain(key, label) else {
                        return Some(Reason::SpreadLabel);
                    };
                    let count = domain.matching.get(term).copied().unwrap_or(0);
                    if too_many(count, term, least, more) {
                        return Some(Reason::Spread);
                    }
                }
                Allowed::Unblocked { label, bit } => {
                    let Some(domain) = view.domain(key, label) else {
                        return Some(Reason::SpreadLabel);
                    };
                    if domain.blocked.get() & bit != 0 {
                        return Some(Reason::Spread);
                    }
                }
                Allowed::OnHost { term, least, more } => {
                    let count = host.map_or(0, |at| view.matching_on(at, term));
                    if host.is_some() && too_many(count, term, least, more) {
                        // A node that lacks the label of another one does not count, so it cannot have too many.
                        let lacks = self.lacks_label(view, key);
                        return Some(if lacks { Reason::SpreadLabel } else { Reason::Spread });
                    }
                }
            }
        }
        None
    }

    /// Whether nodes of the class lack the label of a required spread constraint.
    fn lacks_label(&self, view: &View<'_>, key: &ClassKey) -> bool {
        self.allowed.iter().take(self.ask.spreads.len()).any(|allowed| match *allowed {
            Allowed::Anything | Allowed::OnHost { .. } => false,
            Allowed::Matching { label, .. } | Allowed::Unblocked { label, .. } => {
                view.domain(key, label).is_none()
            }
        })
    }

    /// Whether a node of the class might take the pod if pods left it.
    pub(crate) fn could_admit(&self, key: &ClassKey) -> bool {
        let ask = self.ask;
        (!key.unschedulable || ask.tolerates_unschedulable)
            && key.taints.is_subset(&ask.tolerates)
            && ask.affinity.are_met_by(&key.meets)
            && ask.image.is_subset(&key.meets)
            && ask.volumes.is_subset(&key.meets)
            && ask.pod.devices.count() <= key.devices
    }

    /// The rule of pod affinity or anti-affinity that a node of the class breaks.
    pub(crate) fn affinity_reason(&self, view: &View<'_>, key: &ClassKey) -> Option<Reason> {
        let pod = &self.ask.pod;
        for term in self.ask.near.iter() {
            let near = match view.term_key_at(term) {
                TopologyKey::Host => self.is_first || key.matching.contains(term),
                TopologyKey::Label(label) => view.domain(key, label).is_some_and(|domain| {
                    self.is_first || domain.matching.get(term).is_some_and(|count| *count != 0)
                }),
            };
            if !near {
                return Some(Reason::PodAffinity);
            }
        }
        // A class has terms of the host key alone.
        if key.matching.intersects(&pod.repels) {
            return Some(Reason::PodAntiAffinity);
        }
        for term in pod.repels.iter() {
            if let TopologyKey::Label(label) = view.term_key_at(term)
                && let Some(domain) = view.domain(key, label)
                && domain.matching.get(term).is_some_and(|count| *count != 0)
            {
                return Some(Reason::PodAntiAffinity);
            }
        }
        if key.repelling.intersects(&pod.matches) {
            return Some(Reason::ExistingAntiAffinity);
        }
        if pod.matches.intersects(&view.state.repelled) {
            for term in pod.matches.iter() {
                if let TopologyKey::Label(label) = view.term_key_at(term)
                    && let Some(domain) = view.domain(key, label)
                    && domain.repelling.get(term).is_some_and(|count| *count != 0)
                {
                    return Some(Reason::ExistingAntiAffinity);
                }
            }
        }
        None
    }
}

impl View<'_> {
    /// How many pods on a node match a term.
    pub(crate) fn matching_on(&self, at: u32, term: usize) -> u32 {
        let host = self.tables.hosts.get(at as usize);
        u32::from(host.and_then(|host| host.matching.get(term)).copied().unwrap_or(0))
    }

    /// How many pods in the cluster match a term.
    pub(crate) fn matching_at(&self, term: usize) -> u32 {
        self.state.matching.get(term).copied().unwrap_or(0)
    }

    /// A class's domain of a topology key; `None`: it lacks the label.
    pub(crate) fn domain(
        &self,
        key: &ClassKey,
        label: u8,
    ) -> Option<&crate::records::DomainRecord> {
        self.tables.domains.get(usize::from(key.domain(label).0))
    }

    /// The topology key of a term.
    pub(crate) fn term_key_at(&self, term: usize) -> TopologyKey {
        self.state.term_keys.get(term).copied().unwrap_or_default()
    }

    pub(crate) fn class_key(&self, class: u32) -> Option<&ClassKey> {
        debug_assert!(class != NONE);
        self.tables.classes.get(class as usize).map(|class| &class.key)
    }
}
