//! The records of the tables. They are plain values with a default that means "free"; only this crate writes them.

use crate::{
    amounts::Amounts,
    ask::{Domain, Limits, Pod, Ports, Requirements, Taints, Terms},
    limits::{
        AFFINITY_TERMS_MAX, BLOCK_NODES, DEVICES_MAX, LEVELS, NODE_RECORD_BYTES_MAX,
        TOPOLOGY_KEYS_MAX,
    },
};

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// One node. What it shares with others of its kind (taints, requirements, domains) is in its [`ClassRecord`].
#[derive(Clone, Debug)]
pub struct NodeRecord {
    pub(crate) allocatable: Amounts,
    /// Invariant: the sum over its pods that are not leaving.
    pub(crate) used: Amounts,
    /// Thousandths left of each device; those beyond `devices` are 0.
    pub(crate) devices_free: [u16; DEVICES_MAX],
    pub(crate) limits: Limits,
    /// Its class; [`NONE`]: the record is free.
    pub(crate) class: u32,
    /// First of its pods in the pod table.
    pub(crate) pods: u32,
    /// Free CPU and memory in levels, and whether it stands in the order.
    pub(crate) cell: Cell,
    pub(crate) devices: u8,
}

const _: () = assert!(size_of::<NodeRecord>() <= NODE_RECORD_BYTES_MAX);

impl Default for NodeRecord {
    fn default() -> Self {
        Self {
            allocatable: Amounts::ZERO,
            used: Amounts::ZERO,
            devices_free: [0; DEVICES_MAX],
            limits: Limits::default(),
            class: NONE,
            pods: NONE,
            cell: Cell::OUT,
            devices: 0,
        }
    }
}

impl NodeRecord {
    /// What pods may use.
    pub fn allocatable(&self) -> &Amounts {
        &self.allocatable
    }

    /// What pods on it ask for together.
    pub fn used(&self) -> &Amounts {
        &self.used
    }

    /// What is left.
    pub fn free(&self) -> Amounts {
        self.allocatable.saturating_sub(&self.used)
    }

    /// The limits of the pods on it together: beside `allocatable`, how far it is over-subscribed.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Thousandths left of each of its devices.
    pub fn devices_free(&self) -> impl Iterator<Item = u16> + '_ {
        self.devices_free.iter().take(usize::from(self.devices)).copied()
    }

    pub(crate) fn free_cpu(&self) -> u32 {
        self.allocatable.cpu_milli.saturating_sub(self.used.cpu_milli)
    }

    pub(crate) fn free_memory(&self) -> u64 {
        self.allocatable.memory_bytes.saturating_sub(self.used.memory_bytes)
    }

    /// No pod fits any more, whatever it asks for.
    pub(crate) fn is_closed(&self) -> bool {
        self.allocatable.pods <= self.used.pods
    }
}

/// Free CPU (row) and free memory (column) in levels below [`LEVELS`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell(pub(crate) u16);

impl Cell {
    /// Of a node that stands in no cell: it takes no pod at all.
    pub(crate) const OUT: Self = Self(u16::MAX);

    /// The first of a class.
    pub(crate) const FIRST: Self = Self(0);

    /// The one after it, in the order.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Of a row and a column, both below [`LEVELS`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "LEVELS is 64, so the number is below 4096"
    )]
    pub(crate) fn new(row: u32, column: u32) -> Self {
        Self((row * LEVELS + column) as u16)
    }

    /// Row and column.
    pub(crate) fn split(self) -> (u32, u32) {
        let number = u32::from(self.0);
        (number / LEVELS, number % LEVELS)
    }
}

/// How many pods on a node match each affinity term.
#[derive(Clone, Debug)]
pub struct HostRecord {
    pub(crate) matching: [u16; AFFINITY_TERMS_MAX],
}

impl Default for HostRecord {
    fn default() -> Self {
        Self { matching: [0; AFFINITY_TERMS_MAX] }
    }
}

/// How many pods in a topology domain match each affinity term, and how many have it as required anti-affinity.
#[derive(Clone, Debug)]
pub struct DomainRecord {
    pub(crate) matching: [u32; AFFINITY_TERMS_MAX],
    pub(crate) repelling: [u32; AFFINITY_TERMS_MAX],
    /// Scratch of one question: matching pods on nodes that count.
    pub(crate) counted: core::cell::Cell<u32>,
    /// Scratch of one question: a node that counts is in it.
    pub(crate) eligible: core::cell::Cell<bool>,
    /// Scratch of one question: the spread constraints, a bit each, by which a pod more is too many here.
    pub(crate) blocked: core::cell::Cell<u8>,
}

impl Default for DomainRecord {
    fn default() -> Self {
        Self {
            matching: [0; AFFINITY_TERMS_MAX],
            repelling: [0; AFFINITY_TERMS_MAX],
            counted: core::cell::Cell::new(0),
            eligible: core::cell::Cell::new(false),
            blocked: core::cell::Cell::new(0),
        }
    }
}

/// Where a pod stands.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum PodState {
    /// Its node is chosen, the binding is not written yet.
    #[default]
    Assumed,
    /// Bound.
    Bound,
    /// It was made to leave for another: it runs until it ends, its room is promised.
    Leaving,
    /// Room is kept for it on a node that others are leaving.
    Nominated,
}

/// One pod that has a node.
#[derive(Clone, Debug)]
pub struct PodRecord {
    pub(crate) pod: Pod,
    /// [`NONE`]: the record is free, and `next` is the next free one.
    pub(crate) node: u32,
    pub(crate) next: u32,
    pub(crate) previous: u32,
    pub(crate) life: u32,
    pub(crate) state: PodState,
    /// Which of the node's devices it has.
    pub(crate) devices: u8,
}

impl Default for PodRecord {
    fn default() -> Self {
        Self {
            pod: Pod::default(),
            node: NONE,
            next: NONE,
            previous: NONE,
            life: 0,
            state: PodState::Assumed,
            devices: 0,
        }
    }
}

impl PodRecord {
    /// What it is and takes.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// Where it stands.
    pub fn state(&self) -> PodState {
        self.state
    }

    /// The node's devices that it has a part of, a bit each.
    pub fn devices(&self) -> u8 {
        self.devices
    }
}

/// What makes nodes of one kind: no filter can tell them apart, but for the amounts that are free.
///
/// What rules most classes out comes first, beside what a search reads anyway: one cache line a class then says no.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct ClassKey {
    /// Terms of the host key by which a pod on the node is selected.
    pub(crate) matching: Terms,
    /// Terms of the host key that a pod on the node has as required anti-affinity.
    pub(crate) repelling: Terms,
    pub(crate) unschedulable: bool,
    pub(crate) devices: u8,
    /// Extended resources of which something is free, a bit each.
    pub(crate) extended: u8,
    /// Free CPU of one level, thousandths of a core.
    pub(crate) cpu_step: u32,
    /// Free memory of one level, bytes.
    pub(crate) memory_step: u64,
    pub(crate) taints: Taints,
    pub(crate) meets: Requirements,
    /// Host ports taken.
    pub(crate) ports: Ports,
    pub(crate) soft_taints: Taints,
    pub(crate) domains: [u16; TOPOLOGY_KEYS_MAX],
}

impl ClassKey {
    pub(crate) fn domain(&self, label: u8) -> Domain {
        Domain(self.domains.get(usize::from(label)).copied().unwrap_or(u16::MAX))
    }
}

/// A kind of nodes, and which cells they stand in.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct ClassRecord {
    /// Rows that have a node, a bit each.
    pub(crate) rows: u64,
    pub(crate) key: ClassKey,
    /// Nodes of this kind; 0: the record is free, and `next` is the next free one.
    pub(crate) nodes: u32,
    /// Next class in the same bucket.
    pub(crate) next: u32,
    /// First class of the bucket with this record's number.
    pub(crate) bucket: u32,
    pub(crate) hash: u64,
    /// For each row the columns that have a node.
    pub(crate) columns: [u64; LEVELS as usize],
}

impl Default for ClassRecord {
    fn default() -> Self {
        Self {
            key: ClassKey::default(),
            nodes: 0,
            next: NONE,
            bucket: NONE,
            hash: 0,
            rows: 0,
            columns: [0; LEVELS as usize],
        }
    }
}

impl ClassRecord {
    /// A cell has a node.
    pub(crate) fn mark(&mut self, cell: Cell) {
        let (row, column) = cell.split();
        self.rows |= 1 << row;
        if let Some(columns) = self.columns.get_mut(row as usize) {
            *columns |= 1 << column;
        }
    }

    /// A cell has no node any more.
    pub(crate) fn unmark(&mut self, cell: Cell) {
        let (row, column) = cell.split();
        if let Some(columns) = self.columns.get_mut(row as usize) {
            *columns &= !(1 << column);
            if *columns == 0 {
                self.rows &= !(1 << row);
            }
        }
    }

    /// The columns of a row.
    pub(crate) fn columns_of(&self, row: u32) -> u64 {
        self.columns.get(row as usize).copied().unwrap_or(0)
    }
}

/// A node in the order: by class, cell, index.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    pub(crate) cpu: u32,
    /// Free memory in KiB, rounded up: a first look, not the answer.
    pub(crate) memory_kib: u32,
}

/// A run of the order.
#[derive(Clone, Debug)]
pub struct BlockRecord {
    pub(crate) entries: [Entry; BLOCK_NODES],
    pub(crate) len: usize,
    pub(crate) next_free: u32,
}

impl Default for BlockRecord {
    fn default() -> Self {
        Self { entries: [Entry::default(); BLOCK_NODES], len: 0, next_free: NONE }
    }
}

/// What one must know of a block to pass it by, in the order of the blocks.
#[derive(Copy, Clone, Debug, Default)]
pub struct BlockSummary {
    pub(crate) first: u64,
    pub(crate) block: u32,
    pub(crate) cpu_max: u32,
    pub(crate) memory_kib_max: u32,
}

/// Takes thousandths from each device in the mask; never below zero.
pub(crate) fn take(free: &mut [u16; DEVICES_MAX], mask: u8, milli: u16) {
    for (bit, slot) in free.iter_mut().enumerate() {
        if mask & 1 << bit != 0 {
            *slot = slot.saturating_sub(milli);
        }
    }
}

impl NodeRecord {
    pub(crate) fn take(&mut self, pod: &Pod, devices: u8) {
        self.used = self.used.saturating_add(&pod.requests);
        self.limits.cpu_milli = self.limits.cpu_milli.saturating_add(pod.limits.cpu_milli);
        self.limits.memory_bytes = self.limits.memory_bytes.saturating_add(pod.limits.memory_bytes);
        take(&mut self.devices_free, devices, pod.devices.milli());
    }

    /// What is left of its devices is made anew from the pods that stay.
    pub(crate) fn give_back(&mut self, pod: &Pod) {
        self.used = self.used.saturating_sub(&pod.requests);
        self.limits.cpu_milli = self.limits.cpu_milli.saturating_sub(pod.limits.cpu_milli);
        self.limits.memory_bytes = self.limits.memory_bytes.saturating_sub(pod.limits.memory_bytes);
    }
}
