//! Where a node stands: in the class of its kind, and there in the cell of what is free on it.

use crate::{
    change::Core,
    cheapest::mib,
    classes, fit,
    limits::CHEAPEST_NODES,
    order,
    records::{Cell, ClassKey, Entry},
};

impl Core<'_> {
    /// Moves a node to the class with this key.
    pub(crate) fn reclass(&mut self, at: u32, key: &ClassKey) {
        let Some(old) = self.view().node(at).map(|node| node.class) else { return };
        if self.tables.classes.get(old as usize).is_some_and(|class| class.key == *key) {
            return;
        }
        self.unsettle(at);
        // There are two more classes than nodes, so there is one.
        if let Some(new) = classes::enter(&mut self.state.classes, self.tables.classes, key) {
            classes::leave(&mut self.state.classes, self.tables.classes, old);
            if let Some(node) = self.node_mut(at) {
                node.class = new;
            }
        }
    }

    /// Puts a node into the cell of what is free on it.
    pub(crate) fn settle(&mut self, at: u32) {
        let Some(node) = self.tables.nodes.get(at as usize) else { return };
        let Some(class) = self.tables.classes.get(node.class as usize) else { return };
        let (old, number) = (node.cell, node.class);
        if let Some(cheapest) = self.tables.cheapest.get_mut(at as usize) {
            (cheapest.cpu.free, cheapest.mib.free) = (node.free_cpu(), mib(node.free_memory()));
        }
        if let Some(block) = self.tables.cheapest_blocks.get_mut(at as usize / CHEAPEST_NODES) {
            block.forget();
        }
        let new = if node.is_closed() { Cell::OUT } else { fit::cell(node, &class.key) };
        let entry = Entry {
            key: order::key(number, new) | u64::from(at),
            cpu: node.free_cpu(),
            memory_kib: memory_kib(node.free_memory()),
        };
        if old == new {
            if new != Cell::OUT {
                self.order().update(entry);
            }
            return;
        }
        self.unsettle(at);
        if new == Cell::OUT {
            return;
        }
        self.order().insert(entry);
        if let Some(node) = self.tables.nodes.get_mut(at as usize) {
            node.cell = new;
        }
        if let Some(class) = self.tables.classes.get_mut(number as usize) {
            class.mark(new);
        }
    }

    /// Takes a node out of its cell.
    pub(crate) fn unsettle(&mut self, at: u32) {
        let Some(node) = self.tables.nodes.get_mut(at as usize) else { return };
        let (cell, number) = (node.cell, node.class);
        if cell == Cell::OUT {
            return;
        }
        node.cell = Cell::OUT;
        let has_other = self.order().remove(order::key(number, cell) | u64::from(at));
        if !has_other && let Some(class) = self.tables.classes.get_mut(number as usize) {
            class.unmark(cell);
        }
    }
}

/// Free memory in KiB, rounded up.
pub(crate) fn memory_kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
