//! Affinity terms: how many pods match or repel in each host, domain and the cluster.

use crate::{
    ask::{Pod, TermIndex, TopologyKey},
    change::Core,
    limits::AFFINITY_TERMS_MAX,
    records::{ClassKey, DomainRecord, NONE},
    table::PodHandle,
};

impl Core<'_> {
    /// Counts a pod's terms in its host, its domains and the cluster.
    pub(crate) fn count(&mut self, pod: &Pod, at: u32, counting: Counting) {
        if pod.matches.is_empty() && pod.repels.is_empty() {
            return;
        }
        let class = self.tables.nodes.get(at as usize).map_or(NONE, |node| node.class);
        let key = self.class_key(class);
        for term in pod.matches.iter() {
            if let Some(host) = self.tables.hosts.get_mut(at as usize)
                && let Some(slot) = host.matching.get_mut(term)
            {
                *slot = counting.apply16(*slot);
            }
            if let Some(slot) = self.state.matching.get_mut(term) {
                *slot = counting.apply(*slot);
            }
            if let Some(domain) = self.domain_mut(term, &key)
                && let Some(slot) = domain.matching.get_mut(term)
            {
                *slot = counting.apply(*slot);
            }
        }
        for term in pod.repels.iter() {
            if let Some(slot) = self.state.repelling.get_mut(term) {
                *slot = counting.apply(*slot);
                if *slot == 0 {
                    self.state.repelled.remove(term);
                } else {
                    let fits = self.state.repelled.insert(term);
                    debug_assert!(fits);
                }
            }
            if let Some(domain) = self.domain_mut(term, &key)
                && let Some(slot) = domain.repelling.get_mut(term)
            {
                *slot = counting.apply(*slot);
            }
        }
    }

    pub(crate) fn domain_mut(&mut self, term: usize, key: &ClassKey) -> Option<&mut DomainRecord> {
        match self.state.term_keys.get(term)? {
            TopologyKey::Host => None,
            TopologyKey::Label(label) => {
                self.tables.domains.get_mut(usize::from(key.domain(*label).0))
            }
        }
    }

    pub(crate) fn count_pods_of(&mut self, at: u32, counting: Counting) {
        let mut index = self.tables.nodes.get(at as usize).map_or(NONE, |node| node.pods);
        while let Some(record) = self.tables.pods.get(index as usize) {
            let (pod, next) = (record.pod, record.next);
            self.count(&pod, at, counting);
            index = next;
        }
    }

    pub(crate) fn define_term(
        &mut self,
        term: TermIndex,
        key: TopologyKey,
        mut matches: impl FnMut(PodHandle, &Pod) -> bool,
    ) {
        let bit = usize::from(term);
        if AFFINITY_TERMS_MAX <= bit {
            return;
        }
        for index in 0..self.state.pods_fresh {
            let Some(record) = self.tables.pods.get(index as usize) else { continue };
            let (pod, at, life) = (record.pod, record.node, record.life);
            let had = pod.matches.contains(bit) || pod.repels.contains(bit);
            if at != NONE && had {
                self.count(&pod, at, Counting::Out);
                let mut without = pod;
                without.matches.remove(bit);
                without.repels.remove(bit);
                self.count(&without, at, Counting::In);
                self.rewrite(PodHandle { index, life }, without);
            }
        }
        if let Some(slot) = self.state.term_keys.get_mut(bit) {
            *slot = key;
        }
        for index in 0..self.state.pods_fresh {
            let Some(record) = self.tables.pods.get(index as usize) else { continue };
            let (pod, at, life) = (record.pod, record.node, record.life);
            let handle = PodHandle { index, life };
            if at != NONE && matches(handle, &pod) {
                let mut with = pod;
                if with.matches.insert(bit) {
                    self.count(&pod, at, Counting::Out);
                    self.count(&with, at, Counting::In);
                    self.rewrite(handle, with);
                }
            }
        }
    }

    pub(crate) fn rewrite(&mut self, handle: PodHandle, pod: Pod) {
        let Ok(record) = self.pod_mut(handle) else { return };
        record.pod = pod;
        let at = record.node;
        self.refresh(at);
    }
}

/// Whether a pod comes or goes.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Counting {
    In,
    Out,
}

impl Counting {
    pub(crate) fn apply(self, count: u32) -> u32 {
        match self {
            Self::In => count.saturating_add(1),
            Self::Out => count.saturating_sub(1),
        }
    }

    pub(crate) fn apply16(self, count: u16) -> u16 {
        match self {
            Self::In => count.saturating_add(1),
            Self::Out => count.saturating_sub(1),
        }
    }
}
