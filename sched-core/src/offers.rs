//! Nodes come, change what they offer, and go.

use crate::{
    amounts::Amounts,
    ask::NodeOffer,
    change::Core,
    cheapest::CheapestRecord,
    classes, fit,
    limits::{CHEAPEST_NODES, DEVICES_MAX, blocks_for},
    records::{ClassKey, HostRecord, NONE, NodeRecord},
    storage::{Tables, TablesMut},
    table::{Error, NodeIndex, Table},
    terms::Counting,
};

impl Core<'_> {
    pub(crate) fn add_node(&mut self, offer: &NodeOffer) -> Result<NodeIndex, Error> {
        let wanted = self.state.nodes as usize + 2;
        if self.tables.classes.len() < wanted {
            return Err(Error::Full(Table::Classes));
        }
        let TablesMut { blocks, summaries, cheapest_blocks, .. } = &self.tables;
        let blocks = blocks.len().min(summaries.len()).min(cheapest_blocks.len());
        if blocks < blocks_for(wanted - 1) || !self.order().has_room() {
            return Err(Error::Full(Table::Blocks));
        }
        let at = match self.state.nodes_free {
            NONE => self.state.nodes_fresh,
            free => free,
        };
        let Tables { nodes, hosts, cheapest, .. } = self.view().tables;
        let records = nodes.len().min(hosts.len()).min(cheapest.len());
        if records <= at as usize {
            return Err(Error::Full(Table::Nodes));
        }
        if self.state.nodes_free == NONE {
            self.state.nodes_fresh += 1;
        } else {
            // A free record has the next free one where a live one has its pods.
            let free = self.tables.nodes.get(at as usize);
            self.state.nodes_free = free.map_or(NONE, |node| node.pods);
        }
        self.state.nodes += 1;
        let allocatable = offer.allocatable;
        let record = NodeRecord { allocatable, ..NodeRecord::default() };
        let key = class_key_of(offer, &record);
        // Two more classes than nodes: there is one.
        let class = classes::enter(&mut self.state.classes, self.tables.classes, &key);
        if let Some(slot) = self.tables.nodes.get_mut(at as usize) {
            *slot = NodeRecord { class: class.unwrap_or(NONE), ..record };
        }
        self.refit(at, offer);
        self.settle(at);
        Ok(NodeIndex(at))
    }

    pub(crate) fn update_node(&mut self, at: NodeIndex, offer: &NodeOffer) -> Result<(), Error> {
        let class = self.view().node(at.0).ok_or(Error::NoNode)?.class;
        let domains_change = self.class_key(class).domains != offer.domains.map(|domain| domain.0);
        if domains_change {
            self.count_pods_of(at.0, Counting::Out);
        }
        self.refit(at.0, offer);
        let mut key = self.class_key(class);
        if let Some(node) = self.view().node(at.0) {
            let offered = class_key_of(offer, node);
            let ClassKey { ports, matching, repelling, .. } = key;
            key = ClassKey { ports, matching, repelling, ..offered };
        }
        self.reclass(at.0, &key);
        if domains_change {
            self.count_pods_of(at.0, Counting::In);
        }
        self.settle(at.0);
        Ok(())
    }

    pub(crate) fn remove_node(&mut self, at: NodeIndex) -> Result<(), Error> {
        self.view().node(at.0).ok_or(Error::NoNode)?;
        while let Some(pod) =
            self.view().node(at.0).map(|node| node.pods).filter(|pod| *pod != NONE)
        {
            self.drop_pod(pod);
        }
        self.unsettle(at.0);
        let free = self.state.nodes_free;
        if let Some(node) = self.node_mut(at.0) {
            let class = node.class;
            *node = NodeRecord { pods: free, ..NodeRecord::default() };
            classes::leave(&mut self.state.classes, self.tables.classes, class);
        }
        if let Some(host) = self.tables.hosts.get_mut(at.0 as usize) {
            *host = HostRecord::default();
        }
        if let Some(cheapest) = self.tables.cheapest.get_mut(at.0 as usize) {
            *cheapest = CheapestRecord::NONE;
        }
        if let Some(block) = self.tables.cheapest_blocks.get_mut(at.0 as usize / CHEAPEST_NODES) {
            block.forget();
        }
        self.state.nodes_free = at.0;
        self.state.nodes -= 1;
        Ok(())
    }

    /// Takes over what the offer has in amounts and devices.
    fn refit(&mut self, at: u32, offer: &NodeOffer) {
        let free = self.view().devices_left(at, devices_of(offer));
        if let Some(node) = self.node_mut(at) {
            node.allocatable = offer.allocatable;
            node.devices = devices_of(offer);
            node.devices_free = free;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "DEVICES_MAX is 8")]
fn devices_of(offer: &NodeOffer) -> u8 {
    offer.devices.min(DEVICES_MAX as u8)
}

pub(crate) fn extended_of(node: &NodeRecord) -> u8 {
    let free = node.free().extended;
    (0_u8..).zip(&free).filter(|(_, free)| **free != 0).fold(0, |bits, (bit, _)| bits | 1 << bit)
}

/// What the offer says of a node's class; ports and terms of its pods are not in it.
fn class_key_of(offer: &NodeOffer, node: &NodeRecord) -> ClassKey {
    let Amounts { cpu_milli, memory_bytes, .. } = offer.allocatable;
    let (cpu_step, memory_step) = fit::steps(cpu_milli, memory_bytes);
    ClassKey {
        taints: offer.taints,
        soft_taints: offer.soft_taints,
        meets: offer.meets,
        domains: offer.domains.map(|domain| domain.0),
        cpu_step,
        memory_step,
        unschedulable: offer.unschedulable,
        devices: devices_of(offer),
        extended: extended_of(node),
        ..ClassKey::default()
    }
}
