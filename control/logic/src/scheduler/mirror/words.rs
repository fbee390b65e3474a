//! What pods say, in numbers. What finds no number because all are in use is told by the name of the limit.

use alloc::{format, string::String, vec::Vec};

use coracle_api::views::{PodAffinityTerm, PodView};
use sched_core::{
    AFFINITY_TERMS_MAX, HOST_PORTS_MAX, Ports, REQUIREMENTS_MAX, Requirements, TOPOLOGY_KEYS_MAX,
    TermIndex, Terms, TopologyKey,
};

use super::Mirror;
use crate::scheduler::{
    interned::Number,
    ports::{self, HostPort},
    requirement::Requirement,
    term::Term,
    topology::HOSTNAME,
};

/// A pod's host ports.
pub(super) struct PodPorts {
    /// Those it takes.
    pub(super) taken: Ports,
    /// Those that must be free.
    pub(super) wanted: Ports,
}

impl Mirror {
    /// Puts a requirement into a set.
    pub(super) fn require(
        &mut self,
        set: &mut Requirements,
        requirement: Requirement,
    ) -> Result<(), String> {
        let number = self.requirements.want(requirement).ok_or_else(|| {
            format!("limit reached: the pod's node selector and node affinity name more than {REQUIREMENTS_MAX} conditions")
        })?;
        let bit = match number {
            Number::Known(bit) => bit,
            Number::New(bit) => {
                self.define_requirement(bit);
                bit
            }
        };
        let fits = set.insert(bit);
        debug_assert!(fits, "below REQUIREMENTS_MAX");
        Ok(())
    }

    /// The number of a term.
    pub(super) fn term(&mut self, term: Term) -> Result<TermIndex, String> {
        let key = self.topology_key(&term.key)?;
        let number = self.terms.want(term).ok_or_else(|| {
            format!("limit reached: pods in this cluster have {AFFINITY_TERMS_MAX} different terms of pod affinity and topology spread; the pod needs one more")
        })?;
        let bit = match number {
            Number::Known(bit) => bit,
            Number::New(bit) => {
                self.define_term(bit, key);
                bit
            }
        };
        TermIndex::try_from(bit)
            .map_err(|_| String::from("internal error: a term beyond the table"))
    }

    fn topology_key(&mut self, key: &str) -> Result<TopologyKey, String> {
        if key == HOSTNAME {
            return Ok(TopologyKey::Host);
        }
        let known = self.topology.keys.iter().find(|(_, known)| *known == key).map(|(at, _)| at);
        let full = || {
            format!(
                "limit reached: pods in this cluster use {TOPOLOGY_KEYS_MAX} topology keys beside {HOSTNAME}; {key} is one more"
            )
        };
        if known.is_none() && !self.free_a_key() {
            return Err(full());
        }
        let number = self.topology.add(key).ok_or_else(full)?;
        if known.is_none() {
            self.define_domains();
        }
        let label = u8::try_from(number);
        label
            .map(TopologyKey::Label)
            .map_err(|_| String::from("internal error: a key beyond the table"))
    }

    /// Where all numbers are given, a key whose terms nobody needs gives its own back. Gives whether one is free.
    fn free_a_key(&mut self) -> bool {
        if self.topology.keys.iter().count() < TOPOLOGY_KEYS_MAX {
            return true;
        }
        let of_key = |key: &str| -> Vec<usize> {
            let terms = self.terms.iter().filter(|(_, term)| term.key == key);
            terms.map(|(bit, _)| bit).collect()
        };
        let keys = self.topology.keys.iter().map(|(at, key)| (at, of_key(key)));
        let idle = keys.filter(|(at, terms)| {
            self.topology.keys.is_idle(*at) && terms.iter().all(|bit| self.terms.is_idle(*bit))
        });
        let Some((at, terms)) = idle.min_by_key(|(_, terms)| terms.len()) else { return false };
        for bit in terms {
            self.forget_term(bit);
        }
        self.topology.keys.forget(at);
        true
    }

    /// A pod's required anti-affinity.
    pub(super) fn repels(&mut self, pod: &PodView) -> Result<Terms, String> {
        let mut repels = Terms::EMPTY;
        for term in anti_affinity(pod) {
            let term = self.term(Term::of_affinity(pod, term)?)?;
            let fits = repels.insert(usize::from(term));
            debug_assert!(fits, "below AFFINITY_TERMS_MAX");
        }
        Ok(repels)
    }

    /// A pod's host ports, and all known ones that collide with them.
    pub(super) fn ports(&mut self, pod: &PodView) -> Result<PodPorts, String> {
        let mut ports = PodPorts { taken: Ports::EMPTY, wanted: Ports::EMPTY };
        let own = ports::of_pod(pod);
        for port in &own {
            let number = self.ports.want(port.clone()).ok_or_else(|| {
                format!("limit reached: pods in this cluster take {HOST_PORTS_MAX} different host ports; the pod needs one more")
            })?;
            let (Number::Known(bit) | Number::New(bit)) = number;
            let fits = ports.taken.insert(bit);
            debug_assert!(fits, "below HOST_PORTS_MAX");
        }
        let collides = |known: &HostPort| own.iter().any(|port| port.collides(known));
        for (bit, known) in self.ports.iter() {
            let fits = !collides(known) || ports.wanted.insert(bit);
            debug_assert!(fits, "below HOST_PORTS_MAX");
        }
        Ok(ports)
    }
}

fn anti_affinity(pod: &PodView) -> &[PodAffinityTerm] {
    let affinity = pod.spec.affinity.as_ref();
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    anti.map_or(&[], |anti| anti.required_during_scheduling_ignored_during_execution.as_slice())
}
