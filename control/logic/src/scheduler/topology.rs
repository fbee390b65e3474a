//! Topology keys and their domains: which labels of nodes make them near to each other.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use sched_core::{Domain, TOPOLOGY_KEYS_MAX};

use super::{
    interned::{Interned, Number},
    term::Labels,
};

/// Each node is a domain of its own by this key, whatever its label says.
pub(crate) const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node's domain of each key.
pub(crate) type Domains = [Domain; TOPOLOGY_KEYS_MAX];

/// The domains of a node without labels.
pub(crate) const NOWHERE: Domains = [Domain::NONE; TOPOLOGY_KEYS_MAX];

#[derive(Debug)]
struct Known {
    key: usize,
    value: String,
    nodes: u32,
}

/// Keys and domains by number.
///
/// Invariant: a domain has a number while a node is in it.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) keys: Interned<String>,
    numbers: BTreeMap<(usize, String), u16>,
    domains: Vec<Option<Known>>,
}

impl Default for Topology {
    fn default() -> Self {
        let keys = Interned::new(TOPOLOGY_KEYS_MAX);
        Self { keys, numbers: BTreeMap::new(), domains: Vec::new() }
    }
}

impl Topology {
    /// A key gets a number that is free. `None`: there is none.
    pub(crate) fn add(&mut self, key: &str) -> Option<usize> {
        match self.keys.want(key.to_string())? {
            Number::Known(at) | Number::New(at) => Some(at),
        }
    }

    /// A node is in the domains that its labels say; in `before` no more.
    pub(crate) fn enter(&mut self, labels: &Labels, before: &Domains) -> Domains {
        let mut domains = NOWHERE;
        let keys: Vec<(usize, String)> =
            self.keys.iter().map(|(at, key)| (at, key.clone())).collect();
        for (at, key) in keys {
            if let Some((slot, value)) = domains.get_mut(at).zip(labels.get(&key)) {
                *slot = self.enter_one(at, value);
            }
        }
        self.leave(before);
        domains
    }

    /// A node is in these domains no more.
    pub(crate) fn leave(&mut self, domains: &Domains) {
        for domain in domains.iter().filter(|domain| **domain != Domain::NONE) {
            let Some(slot) = self.domains.get_mut(usize::from(domain.0)) else { continue };
            let Some(known) = slot else { continue };
            known.nodes = known.nodes.saturating_sub(1);
            if known.nodes == 0 {
                self.numbers.remove(&(known.key, core::mem::take(&mut known.value)));
                *slot = None;
            }
        }
    }

    /// How many numbers domains have had.
    pub(crate) fn len(&self) -> usize {
        self.domains.len()
    }

    /// More domains than there are numbers: as if the label were not there.
    fn enter_one(&mut self, key: usize, value: &str) -> Domain {
        if let Some(number) = self.numbers.get(&(key, value.to_string())) {
            if let Some(Some(known)) = self.domains.get_mut(usize::from(*number)) {
                known.nodes = known.nodes.saturating_add(1);
            }
            return Domain(*number);
        }
        let free = self.domains.iter().position(Option::is_none);
        let at = free.unwrap_or(self.domains.len());
        let Some(number) = u16::try_from(at).ok().filter(|number| Domain(*number) != Domain::NONE)
        else {
            return Domain::NONE;
        };
        let known = Some(Known { key, value: value.to_string(), nodes: 1 });
        match self.domains.get_mut(at) {
            Some(slot) => *slot = known,
            None => self.domains.push(known),
        }
        self.numbers.insert((key, value.to_string()), number);
        Domain(number)
    }
}
