//! The mirror while it changes: pods come and go, and what is derived from them is kept true.

use crate::{
    ask::{Ask, Pod, Ports, Terms},
    cheapest::CheapestRecord,
    offers::extended_of,
    order::OrderMut,
    records::{ClassKey, NONE, NodeRecord, PodRecord, PodState},
    storage::{Tables, TablesMut},
    table::{Error, NodeIndex, PodHandle, State, Table},
    terms::Counting,
    view::View,
};

/// The mirror while it changes.
pub(crate) struct Core<'a> {
    pub(crate) tables: TablesMut<'a>,
    pub(crate) state: &'a mut State,
}

impl Core<'_> {
    pub(crate) fn view(&self) -> View<'_> {
        let tables = Tables {
            nodes: self.tables.nodes,
            hosts: self.tables.hosts,
            cheapest: self.tables.cheapest,
            cheapest_blocks: self.tables.cheapest_blocks,
            pods: self.tables.pods,
            classes: self.tables.classes,
            blocks: self.tables.blocks,
            summaries: self.tables.summaries,
            domains: self.tables.domains,
            memos: self.tables.memos,
            shapes: self.tables.shapes,
        };
        View { tables, state: self.state }
    }

    pub(crate) fn order(&mut self) -> OrderMut<'_> {
        OrderMut {
            state: &mut self.state.order,
            blocks: self.tables.blocks,
            summaries: self.tables.summaries,
        }
    }

    pub(crate) fn node_mut(&mut self, at: u32) -> Option<&mut NodeRecord> {
        self.tables.nodes.get_mut(at as usize).filter(|node| node.class != NONE)
    }

    pub(crate) fn pod_mut(&mut self, pod: PodHandle) -> Result<&mut PodRecord, Error> {
        let slot = self.tables.pods.get_mut(pod.index as usize);
        slot.filter(|slot| slot.life == pod.life && slot.node != NONE).ok_or(Error::Stale)
    }

    pub(crate) fn class_key(&self, class: u32) -> ClassKey {
        self.tables.classes.get(class as usize).map_or_else(ClassKey::default, |class| class.key)
    }

    pub(crate) fn assume(&mut self, ask: &Ask, at: NodeIndex) -> Result<PodHandle, Error> {
        let view = self.view();
        let node = view.node(at.0).ok_or(Error::NoNode)?;
        if let Some(reason) = view.reason(&view.question(ask), at.0, node) {
            return Err(Error::Refused(reason));
        }
        self.enter_chosen(ask, at, PodState::Assumed)
    }

    /// Enters a pod on a node that was found to have room for it.
    pub(crate) fn enter_chosen(
        &mut self,
        ask: &Ask,
        at: NodeIndex,
        state: PodState,
    ) -> Result<PodHandle, Error> {
        let view = self.view();
        let node = view.node(at.0).ok_or(Error::NoNode)?;
        let devices = match ask.pod.devices.count() {
            0 => 0,
            _ => view.choose_devices(&view.question(ask), at.0, node),
        };
        self.enter(&ask.pod, at.0, state, devices)
    }

    /// Enters a pod on a node.
    pub(crate) fn enter(
        &mut self,
        pod: &Pod,
        at: u32,
        state: PodState,
        devices: u8,
    ) -> Result<PodHandle, Error> {
        let view = self.view();
        let node = view.node(at).ok_or(Error::NoNode)?;
        let devices = if devices == 0 { view.tightest_devices(pod.devices, node) } else { devices };
        let index = match self.state.pods_free {
            NONE => self.state.pods_fresh,
            free => free,
        };
        let slot = self.tables.pods.get_mut(index as usize).ok_or(Error::Full(Table::Pods))?;
        if self.state.pods_free == NONE {
            self.state.pods_fresh += 1;
        } else {
            self.state.pods_free = slot.next;
        }
        let life = slot.life;
        *slot = PodRecord { pod: *pod, life, state, ..PodRecord::default() };
        self.put(index, at, devices);
        Ok(PodHandle { index, life })
    }

    /// Puts a pod that is on no node on one, before those that are there.
    pub(crate) fn put(&mut self, index: u32, at: u32, devices: u8) {
        self.put_behind(index, at, devices, NONE);
    }

    /// Puts a pod that is on no node on one, behind this one of its pods; before all of them, if that is [`NONE`].
    pub(crate) fn put_behind(&mut self, index: u32, at: u32, devices: u8, previous: u32) {
        let Some(node) = self.view().node(at) else { return };
        let (class, first) = (node.class, node.pods);
        let before = self.tables.pods.get_mut(previous as usize);
        let next = before.map_or(first, |before| core::mem::replace(&mut before.next, index));
        let Some(slot) = self.tables.pods.get_mut(index as usize) else { return };
        (slot.node, slot.next, slot.previous, slot.devices) = (at, next, previous, devices);
        let (pod, state) = (slot.pod, slot.state);
        if let Some(after) = self.tables.pods.get_mut(next as usize) {
            after.previous = index;
        }
        let mut extended = 0;
        if let Some(node) = self.node_mut(at) {
            if previous == NONE {
                node.pods = index;
            }
            if state != PodState::Leaving {
                node.take(&pod, devices);
            }
            extended = extended_of(node);
        }
        if let Some(cheapest) = self.tables.cheapest.get_mut(at as usize) {
            cheapest.note(&pod);
        }
        self.count(&pod, at, Counting::In);
        let has_bits = !(pod.ports.is_empty() && pod.matches.is_empty() && pod.repels.is_empty());
        if has_bits || self.view().class_key(class).is_some_and(|key| key.extended != extended) {
            let (mut key, view) = (self.class_key(class), self.view());
            key.extended = extended;
            key.ports = key.ports.union(&pod.ports);
            key.matching = key.matching.union(&view.of_host_key(&pod.matches));
            key.repelling = key.repelling.union(&view.of_host_key(&pod.repels));
            self.reclass(at, &key);
        }
        self.settle(at);
    }

    /// Takes a pod off its node; its record stays.
    pub(crate) fn lift(&mut self, index: u32) {
        let Some(slot) = self.tables.pods.get_mut(index as usize) else { return };
        let PodRecord { pod, node: at, next, previous, state, .. } = slot.clone();
        slot.node = NONE;
        if let Some(before) = self.tables.pods.get_mut(previous as usize) {
            before.next = next;
        } else if let Some(node) = self.node_mut(at) {
            node.pods = next;
        }
        if let Some(after) = self.tables.pods.get_mut(next as usize) {
            after.previous = previous;
        }
        self.count(&pod, at, Counting::Out);
        if state != PodState::Leaving {
            self.give_back(at, &pod);
        }
        self.after(at, &pod);
    }

    /// A node has back what a pod took of it. A sum at the end of its range does not know by how much it is beyond: it is
    /// made anew from the pods that stay, or the node would seem emptier than it is (P1).
    pub(crate) fn give_back(&mut self, at: u32, pod: &Pod) {
        let Some(node) = self.node_mut(at) else { return };
        let sums = (node.used, node.limits);
        node.give_back(pod);
        if !sums.0.is_at_end() && sums.1.cpu_milli != u32::MAX && sums.1.memory_bytes != u64::MAX {
            return;
        }
        let mut fresh = NodeRecord::default();
        for (_, record) in self.view().pods_of(at) {
            if record.state != PodState::Leaving {
                fresh.take(&record.pod, 0);
            }
        }
        if let Some(node) = self.node_mut(at) {
            (node.used, node.limits) = (fresh.used, fresh.limits);
        }
    }

    /// Takes a pod off its node and frees its record.
    pub(crate) fn drop_pod(&mut self, index: u32) {
        self.lift(index);
        let free = self.state.pods_free;
        let Some(slot) = self.tables.pods.get_mut(index as usize) else { return };
        *slot = PodRecord { life: slot.life.wrapping_add(1), next: free, ..PodRecord::default() };
        self.state.pods_free = index;
    }

    /// Makes anew what this pod, which has left its node or leaves it, may have been the reason for.
    pub(crate) fn after(&mut self, at: u32, gone: &Pod) {
        let view = self.view();
        let Some(node) = view.node(at) else { return };
        let cheapest = view.tables.cheapest.get(at as usize);
        let is_first = cheapest.is_some_and(|cheapest| gone.priority <= cheapest.priority);
        let has_devices = gone.devices.count() != 0;
        let has_bits =
            !(gone.ports.is_empty() && gone.matches.is_empty() && gone.repels.is_empty());
        let extended = extended_of(node);
        let extended_changes =
            view.class_key(node.class).is_some_and(|key| key.extended != extended);
        if is_first || has_devices || has_bits || extended_changes {
            self.refresh(at);
        } else {
            self.settle(at);
        }
    }

    /// Makes anew what is derived from a node's pods.
    pub(crate) fn refresh(&mut self, at: u32) {
        let view = self.view();
        let Some(node) = view.node(at) else { return };
        let mut key = self.class_key(node.class);
        let mut fresh = node.clone();
        let mut cheapest = CheapestRecord::NONE;
        fresh.devices_free = view.devices_left(at, node.devices);
        (key.ports, key.repelling) = (Ports::EMPTY, Terms::EMPTY);
        let mut matching = Terms::EMPTY;
        for (_, record) in view.pods_of(at) {
            cheapest.note(&record.pod);
            key.ports = key.ports.union(&record.pod.ports);
            key.repelling = key.repelling.union(&record.pod.repels);
            matching = matching.union(&record.pod.matches);
        }
        key.repelling = view.of_host_key(&key.repelling);
        key.matching = view.of_host_key(&matching);
        key.extended = extended_of(&fresh);
        if let Some(node) = self.node_mut(at) {
            *node = fresh;
        }
        if let Some(slot) = self.tables.cheapest.get_mut(at as usize) {
            *slot = cheapest;
        }
        self.reclass(at, &key);
        self.settle(at);
    }
}
