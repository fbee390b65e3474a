//! Holds every table against what the nodes and pods in it say, and against each other. It costs as much as making all of
//! it anew: for tests, fuzzing, and an owner that doubts its memory.

use crate::{
    ask::{Ports, Terms, TopologyKey},
    cheapest::{CheapestRecord, mib},
    fit,
    limits::{AFFINITY_TERMS_MAX, BLOCK_MERGE_NODES, BLOCK_NODES, LEVELS},
    order,
    records::{Cell, ClassKey, ClassRecord, NONE, NodeRecord, PodState},
    settle::memory_kib,
    storage::Storage,
    table::Placement,
    view::View,
};

/// Which rule is broken.
type Audit = Result<(), &'static str>;

/// A rule, in words.
fn rule(holds: bool, words: &'static str) -> Audit {
    if holds { Ok(()) } else { Err(words) }
}

impl<S: Storage> Placement<S> {
    /// Whether the tables agree with each other; the rule that does not hold, else. Without nodes it says that nothing is
    /// left of those that were: but for the lives of pods and the order of free records the tables are as new.
    pub fn audit(&self) -> Result<(), &'static str> {
        let view = self.view();
        view.audit_nodes()?;
        view.audit_counts()?;
        view.audit_classes()?;
        view.audit_order()?;
        view.audit_free()
    }
}

impl View<'_> {
    fn audit_nodes(&self) -> Audit {
        let live = self.nodes().count();
        rule(live == self.state.nodes as usize, "nodes are counted")?;
        let mut pods = 0_usize;
        for (at, node) in self.nodes() {
            let mut previous = NONE;
            for (handle, record) in self.pods_of(at) {
                pods += 1;
                rule(pods <= self.tables.pods.len(), "a list of pods has an end")?;
                rule(record.node == at, "a pod in a node's list is on it")?;
                rule(record.previous == previous, "lists of pods run both ways")?;
                previous = handle.index;
            }
            self.audit_amounts(at, node)?;
            self.audit_class_of(at, node)?;
            self.audit_cheapest(at, node)?;
        }
        let with_node = self.tables.pods.iter().filter(|pod| pod.node != NONE);
        rule(with_node.count() == pods, "each pod is in the list of a node")
    }

    fn audit_amounts(&self, at: u32, node: &NodeRecord) -> Audit {
        let mut fresh = NodeRecord { allocatable: node.allocatable, ..NodeRecord::default() };
        for (_, record) in self.pods_of(at).filter(|(_, pod)| pod.state != PodState::Leaving) {
            fresh.take(&record.pod, 0);
        }
        rule(fresh.used == node.used, "what pods on a node use is their sum")?;
        rule(fresh.limits == node.limits, "the limits of a node are its pods' sum")?;
        rule(node.devices_free == self.devices_left(at, node.devices), "devices are what pods left")
    }

    fn audit_class_of(&self, at: u32, node: &NodeRecord) -> Audit {
        let class = self.tables.classes.get(node.class as usize).filter(|class| class.nodes != 0);
        let Some(class) = class else { return Err("a node has a class") };
        let (mut ports, mut matching, mut repelling) = (Ports::EMPTY, Terms::EMPTY, Terms::EMPTY);
        for (_, record) in self.pods_of(at) {
            ports = ports.union(&record.pod.ports);
            matching = matching.union(&record.pod.matches);
            repelling = repelling.union(&record.pod.repels);
        }
        let (cpu_step, memory_step) =
            fit::steps(node.allocatable.cpu_milli, node.allocatable.memory_bytes);
        let extended = node.free().extended;
        let free = (0_u8..).zip(&extended).filter(|(_, free)| **free != 0);
        let key = ClassKey {
            ports,
            matching: self.of_host_key(&matching),
            repelling: self.of_host_key(&repelling),
            cpu_step,
            memory_step,
            devices: node.devices,
            extended: free.fold(0, |bits, (bit, _)| bits | 1 << bit),
            ..class.key
        };
        rule(key == class.key, "a node's class says what it and its pods are")?;
        let cell = if node.is_closed() { Cell::OUT } else { fit::cell(node, &class.key) };
        rule(cell == node.cell, "a node stands in the cell of what is free")
    }

    fn audit_cheapest(&self, at: u32, node: &NodeRecord) -> Audit {
        let mut fresh = CheapestRecord::NONE;
        for (_, record) in self.pods_of(at) {
            fresh.note(&record.pod);
        }
        let Some(noted) = self.tables.cheapest.get(at as usize) else {
            return Err("a node has a record of its cheapest pods");
        };
        (fresh.cpu.free, fresh.mib.free) = (node.free_cpu(), mib(node.free_memory()));
        let of = |one: &CheapestRecord| (one.priority, one.cpu, one.mib);
        rule(of(&fresh) == of(noted), "the cheapest pods of a node are noted, and what is free")?;
        rule(noted.priority_next <= fresh.priority_next, "no pod is cheaper than noted")
    }

    fn audit_counts(&self) -> Audit {
        for (at, host) in (0_u32..).zip(self.tables.hosts) {
            let mut matching = [0_u16; AFFINITY_TERMS_MAX];
            for (_, record) in self.pods_of(at) {
                count(&mut matching, &record.pod.matches, |slot| *slot += 1);
            }
            rule(matching == host.matching, "a host's matching pods are counted")?;
        }
        for (domain, record) in (0_u16..).zip(self.tables.domains) {
            let mut matching = [0_u32; AFFINITY_TERMS_MAX];
            let mut repelling = [0_u32; AFFINITY_TERMS_MAX];
            for (at, node) in self.nodes() {
                let Some(key) = self.class_key(node.class) else { continue };
                let here = |term: usize| match self.term_key_at(term) {
                    TopologyKey::Host => false,
                    TopologyKey::Label(label) => key.domain(label).0 == domain,
                };
                for (_, pod) in self.pods_of(at) {
                    let (matches, repels) = (&pod.pod.matches, &pod.pod.repels);
                    count(&mut matching, &only(matches, here), |slot| *slot += 1);
                    count(&mut repelling, &only(repels, here), |slot| *slot += 1);
                }
            }
            rule(matching == record.matching, "a domain's matching pods are counted")?;
            rule(repelling == record.repelling, "a domain's repelling pods are counted")?;
        }
        let mut matching = [0_u32; AFFINITY_TERMS_MAX];
        let mut repelling = [0_u32; AFFINITY_TERMS_MAX];
        for record in self.tables.pods.iter().filter(|record| record.node != NONE) {
            count(&mut matching, &record.pod.matches, |slot| *slot += 1);
            count(&mut repelling, &record.pod.repels, |slot| *slot += 1);
        }
        rule(matching == self.state.matching, "the cluster's matching pods are counted")?;
        rule(repelling == self.state.repelling, "the cluster's repelling pods are counted")?;
        let mut terms = repelling.iter().enumerate();
        let same = terms.all(|(term, count)| self.state.repelled.contains(term) == (*count != 0));
        rule(same, "terms that some pod repels are known")
    }

    fn audit_classes(&self) -> Audit {
        for (number, class) in self.classes() {
            let mut fresh = ClassRecord { columns: [0; LEVELS as usize], ..ClassRecord::default() };
            for (_, node) in self.nodes().filter(|(_, node)| node.class == number) {
                fresh.nodes += 1;
                if node.cell != Cell::OUT {
                    fresh.mark(node.cell);
                }
            }
            rule(fresh.nodes == class.nodes, "a class's nodes are counted")?;
            let same = fresh.rows == class.rows && fresh.columns == class.columns;
            rule(same, "a class knows its cells")?;
            let mut others = self.classes().filter(|(other, _)| *other < number);
            rule(others.all(|(_, other)| other.key != class.key), "no two classes are the same")?;
        }
        Ok(())
    }

    fn audit_order(&self) -> Audit {
        let mut last = None;
        let mut stand = 0;
        for entry in self.order().range(0, u64::MAX, 0, 0) {
            rule(last < Some(entry.key), "the order is sorted")?;
            last = Some(entry.key);
            stand += 1;
            let Some(node) = self.node(order::node_of(entry.key)) else {
                return Err("in the order are nodes that are there");
            };
            let key = order::key(node.class, node.cell) | u64::from(order::node_of(entry.key));
            rule(entry.key == key, "in the order a node stands in its class and cell")?;
            let free = (node.free_cpu(), memory_kib(node.free_memory()));
            rule(free == (entry.cpu, entry.memory_kib), "the order knows what is free")?;
        }
        let open = self.nodes().filter(|(_, node)| node.cell != Cell::OUT).count();
        rule(stand == open, "each open node is in the order")?;
        let mut before = BLOCK_NODES;
        for (summary, entries) in self.order().blocks() {
            rule(!entries.is_empty(), "no block of the order is empty")?;
            rule(BLOCK_MERGE_NODES < before + entries.len(), "small blocks are joined")?;
            before = entries.len();
            let first = entries.first().map(|entry| entry.key);
            let cpu = entries.iter().map(|entry| entry.cpu).max();
            let memory = entries.iter().map(|entry| entry.memory_kib).max();
            let said = (Some(summary.first), Some(summary.cpu_max), Some(summary.memory_kib_max));
            rule((first, cpu, memory) == said, "a block's summary is right")?;
        }
        Ok(())
    }

    /// Every record that is not in use can be had again.
    fn audit_free(&self) -> Audit {
        let tables = self.tables;
        let state = self.state;
        let (free, fresh) = state.free_nodes();
        let next = |at: u32| tables.nodes.get(at as usize).filter(|one| one.class == NONE);
        let spare = chain(free, |at| next(at).map(|node| node.pods));
        rule(spare + self.nodes().count() == fresh as usize, "free nodes are kept")?;
        let (free, fresh) = state.free_pods();
        let next = |at: u32| tables.pods.get(at as usize).filter(|one| one.node == NONE);
        let spare = chain(free, |at| next(at).map(|pod| pod.next));
        let used = tables.pods.iter().filter(|pod| pod.node != NONE).count();
        rule(spare + used == fresh as usize, "free pods are kept")?;
        let (free, fresh) = (state.classes.free(), state.classes.fresh);
        let next = |at: u32| tables.classes.get(at as usize).filter(|one| one.nodes == 0);
        let spare = chain(free, |at| next(at).map(|class| class.next));
        rule(spare + self.classes().count() == fresh as usize, "free classes are kept")?;
        let (free, fresh) = state.order.free();
        let next = |at: u32| tables.blocks.get(at as usize).filter(|one| one.len == 0);
        let spare = chain(free, |at| next(at).map(|block| block.next_free));
        rule(spare + self.order().blocks().count() == fresh as usize, "free blocks are kept")
    }
}

fn count<T>(counts: &mut [T; AFFINITY_TERMS_MAX], terms: &Terms, add: impl Fn(&mut T)) {
    for term in terms.iter() {
        counts.get_mut(term).into_iter().for_each(&add);
    }
}

fn only(terms: &Terms, keep: impl Fn(usize) -> bool) -> Terms {
    let mut kept = *terms;
    for term in terms.iter().filter(|term| !keep(*term)) {
        kept.remove(term);
    }
    kept
}

/// How long a chain of free records is; one that runs in a ring or into a record in use is far too long.
fn chain(first: u32, next: impl Fn(u32) -> Option<u32>) -> usize {
    let mut at = first;
    let mut length = 0;
    while at != NONE {
        let Some(after) = next(at).filter(|_| length < NONE as usize) else {
            return usize::MAX / 2;
        };
        at = after;
        length += 1;
    }
    length
}
