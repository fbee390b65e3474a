//! The order of the nodes: sorted by class, cell and index, in blocks of at most [`BLOCK_NODES`], with a summary for each
//! block by which it can be passed by. Two levels of what a B+ tree is, which is enough for any cluster there is.
//!
//! Invariants: summaries `0..count` are sorted by `first`, each block holds at least one entry, entries are sorted,
//! neighbouring blocks hold more than [`BLOCK_MERGE_NODES`] together.

use crate::{
    limits::{BLOCK_MERGE_NODES, BLOCK_NODES},
    records::{BlockRecord, BlockSummary, Cell, Entry, NONE},
};

/// Bits of a node's index, and of a cell, in a key.
const INDEX_BITS: u32 = 32;
const CELL_BITS: u32 = 12;

/// The first key of a cell of a class.
pub(crate) fn key(class: u32, cell: Cell) -> u64 {
    // A sum, so that the cell after a class's last one is the next class's first.
    ((u64::from(class) << CELL_BITS) + u64::from(cell.0)) << INDEX_BITS
}

/// The node of an entry.
#[expect(clippy::cast_possible_truncation, reason = "the low half of the key is the index")]
pub(crate) fn node_of(key: u64) -> u32 {
    (key & u64::from(u32::MAX)) as u32
}

/// The cell of an entry.
#[expect(clippy::cast_possible_truncation, reason = "a cell has 12 bits")]
pub(crate) fn cell_of(key: u64) -> Cell {
    Cell((key >> INDEX_BITS) as u16 & ((1 << CELL_BITS) - 1))
}

/// How many blocks are in use, and which are free.
#[derive(Copy, Clone, Debug)]
pub(crate) struct OrderState {
    count: u32,
    /// Blocks that were given back.
    free: u32,
    /// Blocks from here on were never used.
    fresh: u32,
}

impl Default for OrderState {
    fn default() -> Self {
        Self { count: 0, free: NONE, fresh: 0 }
    }
}

impl OrderState {
    /// The first free block, and the first that was never used.
    pub(crate) fn free(&self) -> (u32, u32) {
        (self.free, self.fresh)
    }
}

/// The order, to read.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Order<'a> {
    blocks: &'a [BlockRecord],
    summaries: &'a [BlockSummary],
}

impl<'a> Order<'a> {
    pub(crate) fn new(
        state: &OrderState,
        blocks: &'a [BlockRecord],
        summaries: &'a [BlockSummary],
    ) -> Self {
        Self { blocks, summaries: summaries.get(..state.count as usize).unwrap_or_default() }
    }

    /// Each block's summary and entries.
    pub(crate) fn blocks(self) -> impl Iterator<Item = (&'a BlockSummary, &'a [Entry])> {
        self.summaries.iter().map(move |summary| (summary, entries(self.blocks, summary.block)))
    }

    /// Entries from `from` up to `to` in blocks that have one with so much CPU and one with so much memory, in order.
    /// Exact amounts are the caller's to look at.
    pub(crate) fn range(
        self,
        from: u64,
        to: u64,
        cpu: u32,
        memory_kib: u32,
    ) -> impl Iterator<Item = &'a Entry> {
        let start = position(self.summaries, from);
        let summaries = self.summaries.get(start..).unwrap_or_default();
        summaries
            .iter()
            .take_while(move |summary| summary.first < to)
            .filter(move |summary| cpu <= summary.cpu_max && memory_kib <= summary.memory_kib_max)
            .flat_map(move |summary| entries(self.blocks, summary.block))
            .filter(move |entry| {
                from <= entry.key
                    && entry.key < to
                    && cpu <= entry.cpu
                    && memory_kib <= entry.memory_kib
            })
    }
}

fn entries(blocks: &[BlockRecord], block: u32) -> &[Entry] {
    let block = blocks.get(block as usize);
    block.and_then(|block| block.entries.get(..block.len)).unwrap_or_default()
}

/// The place of the block that has, or would have, this key.
fn position(summaries: &[BlockSummary], key: u64) -> usize {
    summaries.partition_point(|summary| summary.first <= key).saturating_sub(1)
}

/// The order, to write.
#[derive(Debug)]
pub(crate) struct OrderMut<'a> {
    pub(crate) state: &'a mut OrderState,
    pub(crate) blocks: &'a mut [BlockRecord],
    pub(crate) summaries: &'a mut [BlockSummary],
}

impl OrderMut<'_> {
    /// Whether a node more has a block for certain.
    pub(crate) fn has_room(&self) -> bool {
        let fresh = self.blocks.len().min(self.summaries.len());
        self.state.free != NONE || (self.state.fresh as usize) < fresh
    }

    fn live(&self) -> &[BlockSummary] {
        self.summaries.get(..self.state.count as usize).unwrap_or_default()
    }

    fn block_at(&mut self, place: usize) -> Option<&mut BlockRecord> {
        let block = self.live().get(place)?.block;
        self.blocks.get_mut(block as usize)
    }

    fn summarize(&mut self, place: usize) {
        let Some(block) = self.live().get(place).map(|summary| summary.block) else { return };
        let held = entries(self.blocks, block);
        let first = held.first().map_or(u64::MAX, |entry| entry.key);
        let mut summary = BlockSummary { first, block, cpu_max: 0, memory_kib_max: 0 };
        for entry in held {
            summary.cpu_max = summary.cpu_max.max(entry.cpu);
            summary.memory_kib_max = summary.memory_kib_max.max(entry.memory_kib);
        }
        if let Some(slot) = self.summaries.get_mut(place) {
            *slot = summary;
        }
    }

    /// The summary of a block in which an entry came or went. Looks at the whole block only where what went may have been
    /// the least or the most.
    fn resummarize(&mut self, place: usize, gone: Option<Entry>, came: Option<Entry>) {
        let Some(summary) = self.summaries.get_mut(place) else { return };
        if gone.is_some_and(|gone| {
            gone.key == summary.first
                || gone.cpu == summary.cpu_max
                || gone.memory_kib == summary.memory_kib_max
        }) {
            return self.summarize(place);
        }
        if let Some(came) = came {
            summary.first = summary.first.min(came.key);
            summary.cpu_max = summary.cpu_max.max(came.cpu);
            summary.memory_kib_max = summary.memory_kib_max.max(came.memory_kib);
        }
    }

    /// Puts an entry in whose key is not there. Room was seen to by [`Self::has_room`].
    pub(crate) fn insert(&mut self, entry: Entry) {
        if self.state.count == 0 {
            self.open(0);
        }
        let mut place = position(self.live(), entry.key);
        if self.block_at(place).is_some_and(|block| block.len == BLOCK_NODES) {
            self.split(place);
            place = position(self.live(), entry.key);
        }
        let Some(block) = self.block_at(place) else { return };
        let len = block.len;
        let held = block.entries.get(..len).unwrap_or_default();
        let at = held.partition_point(|one| one.key < entry.key);
        if let Some(tail) = block.entries.get_mut(at..=len) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = entry;
            }
            block.len += 1;
        }
        self.resummarize(place, None, Some(entry));
    }

    /// Changes the amounts of an entry.
    pub(crate) fn update(&mut self, entry: Entry) {
        let place = position(self.live(), entry.key);
        let Some(block) = self.block_at(place) else { return };
        let len = block.len;
        let held = block.entries.get_mut(..len).unwrap_or_default();
        if let Ok(at) = held.binary_search_by_key(&entry.key, |one| one.key)
            && let Some(slot) = held.get_mut(at)
        {
            let gone = core::mem::replace(slot, entry);
            self.resummarize(place, Some(gone), Some(entry));
        }
    }

    /// Takes an entry out. Gives whether its cell has another.
    pub(crate) fn remove(&mut self, key: u64) -> bool {
        let place = position(self.live(), key);
        let Some(block) = self.block_at(place) else { return false };
        let len = block.len;
        let held = block.entries.get_mut(..len).unwrap_or_default();
        let Ok(at) = held.binary_search_by_key(&key, |one| one.key) else { return false };
        let gone = held.get(at).copied();
        if let Some(tail) = held.get_mut(at..) {
            tail.rotate_left(1);
        }
        block.len -= 1;
        let is_last = block.len == 0;
        let has_other = self
            .neighbours(place, at)
            .into_iter()
            .flatten()
            .any(|neighbour| neighbour >> INDEX_BITS == key >> INDEX_BITS);
        if is_last {
            self.close(place);
            return has_other;
        }
        self.resummarize(place, gone, None);
        if !self.merge(place) && 0 < place {
            self.merge(place - 1);
        }
        has_other
    }

    /// The keys on both sides of a gap in the order: before this entry of this block, and from it on.
    fn neighbours(&self, place: usize, at: usize) -> [Option<u64>; 2] {
        let live = self.live();
        let held = |place: usize| {
            live.get(place).map_or(&[][..], |summary| entries(self.blocks, summary.block))
        };
        let before = match at.checked_sub(1) {
            Some(before) => held(place).get(before),
            None => place.checked_sub(1).and_then(|place| held(place).last()),
        };
        let behind = held(place).get(at).or_else(|| held(place + 1).first());
        [before, behind].map(|entry| entry.map(|entry| entry.key))
    }

    /// A new empty block at this place of the order.
    fn open(&mut self, place: usize) {
        let block = if self.state.free == NONE {
            let fresh = self.state.fresh;
            self.state.fresh += 1;
            fresh
        } else {
            let free = self.state.free;
            let record = self.blocks.get(free as usize);
            self.state.free = record.map_or(NONE, |record| record.next_free);
            free
        };
        let end = self.state.count as usize;
        self.state.count += 1;
        if let Some(tail) = self.summaries.get_mut(place..=end) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = BlockSummary { block, first: u64::MAX, ..BlockSummary::default() };
            }
        }
    }

    /// Gives the block at this place back.
    fn close(&mut self, place: usize) {
        let free = self.state.free;
        if let Some(summary) = self.live().get(place).copied() {
            if let Some(record) = self.blocks.get_mut(summary.block as usize) {
                record.len = 0;
                record.next_free = free;
            }
            self.state.free = summary.block;
            let end = self.state.count as usize;
            if let Some(tail) = self.summaries.get_mut(place..end) {
                tail.rotate_left(1);
            }
            self.state.count -= 1;
        }
    }

    /// Moves the upper half of a full block into a new one behind it. A half joins a neighbour that was small enough only
    /// beside the whole.
    fn split(&mut self, place: usize) {
        self.open(place + 1);
        let half = BLOCK_NODES / 2;
        let Some(full) = self.block_at(place) else { return };
        let entries = full.entries;
        full.len = half;
        if let Some(new) = self.block_at(place + 1) {
            for (slot, entry) in new.entries.iter_mut().zip(entries.iter().skip(half)) {
                *slot = *entry;
            }
            new.len = half;
        }
        self.summarize(place);
        self.summarize(place + 1);
        self.merge(place + 1);
        if 0 < place {
            self.merge(place - 1);
        }
    }

    /// Joins the block at this place with the next if both are small. Gives whether it did.
    fn merge(&mut self, place: usize) -> bool {
        let Some(next) = self.live().get(place + 1).map(|summary| summary.block) else {
            return false;
        };
        let behind = entries(self.blocks, next).len();
        let Some(block) = self.block_at(place) else { return false };
        let len = block.len;
        if BLOCK_MERGE_NODES < len + behind {
            return false;
        }
        for offset in 0..behind {
            let entry = entries(self.blocks, next).get(offset).copied().unwrap_or_default();
            if let Some(slot) =
                self.block_at(place).and_then(|block| block.entries.get_mut(len + offset))
            {
                *slot = entry;
            }
        }
        if let Some(block) = self.block_at(place) {
            block.len += behind;
        }
        self.close(place + 1);
        self.summarize(place);
        true
    }
}
