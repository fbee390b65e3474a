//! Tables whose lengths are set one by one, so that each can be the one that is full.

use sched_core::{
    BlockRecord, BlockSummary, CheapestBlock, CheapestRecord, ClassRecord, DomainRecord,
    HostRecord, MemoRecord, NodeRecord, PodRecord, SHAPES_MAX, ShapeRecord, Storage, Tables,
    TablesMut, blocks_for,
};

use crate::spec::DOMAINS;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heap {
    nodes: Vec<NodeRecord>,
    hosts: Vec<HostRecord>,
    cheapest: Vec<CheapestRecord>,
    cheapest_blocks: Vec<CheapestBlock>,
    pods: Vec<PodRecord>,
    classes: Vec<ClassRecord>,
    blocks: Vec<BlockRecord>,
    summaries: Vec<BlockSummary>,
    domains: Vec<DomainRecord>,
    shapes: Vec<ShapeRecord>,
    memos: Vec<MemoRecord>,
}

impl Heap {
    /// For so many nodes and pods.
    pub(crate) fn new(nodes: usize, pods: usize) -> Self {
        let mut heap = Self::default();
        heap.domains.resize_with(DOMAINS, Default::default);
        heap.nodes.resize_with(nodes, Default::default);
        heap.hosts.resize_with(nodes, Default::default);
        heap.cheapest.resize_with(nodes, Default::default);
        heap.pods.resize_with(pods, Default::default);
        heap.classes.resize_with(nodes + 2, Default::default);
        heap.blocks.resize_with(blocks_for(nodes + 1), Default::default);
        heap.summaries.resize_with(blocks_for(nodes + 1), Default::default);
        heap.cheapest_blocks.resize_with(blocks_for(nodes + 1), Default::default);
        heap
    }

    /// Room for a workload, and for so many answers about it.
    pub(crate) fn with_workload(mut self, memos: usize) -> Self {
        self.shapes.resize_with(SHAPES_MAX, Default::default);
        self.memos.resize_with(memos, Default::default);
        self
    }

    /// Cuts records off the tables of classes and of blocks, before they are used.
    pub(crate) fn without(mut self, classes: usize, blocks: usize) -> Self {
        self.classes.truncate(self.classes.len().saturating_sub(classes));
        self.blocks.truncate(self.blocks.len().saturating_sub(blocks));
        self
    }

    /// Makes one of the tables longer.
    pub(crate) fn grow(&mut self, which: usize) {
        match which {
            0 => self.nodes.push(NodeRecord::default()),
            1 => self.hosts.push(HostRecord::default()),
            2 => self.cheapest.push(CheapestRecord::default()),
            3 => self.pods.push(PodRecord::default()),
            4 => self.classes.push(ClassRecord::default()),
            5 => self.blocks.push(BlockRecord::default()),
            6 => self.summaries.push(BlockSummary::default()),
            _ => self.cheapest_blocks.push(CheapestBlock::default()),
        }
    }

    /// How many nodes `nodes`, `hosts` and `cheapest` have room for.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len().min(self.hosts.len()).min(self.cheapest.len())
    }

    /// How many pods.
    pub(crate) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// How many classes.
    pub(crate) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// How many blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len().min(self.summaries.len()).min(self.cheapest_blocks.len())
    }
}

impl Storage for Heap {
    fn tables(&self) -> Tables<'_> {
        Tables {
            nodes: &self.nodes,
            hosts: &self.hosts,
            cheapest: &self.cheapest,
            cheapest_blocks: &self.cheapest_blocks,
            pods: &self.pods,
            classes: &self.classes,
            blocks: &self.blocks,
            summaries: &self.summaries,
            domains: &self.domains,
            shapes: &self.shapes,
            memos: &self.memos,
        }
    }

    fn tables_mut(&mut self) -> TablesMut<'_> {
        TablesMut {
            nodes: &mut self.nodes,
            hosts: &mut self.hosts,
            cheapest: &mut self.cheapest,
            cheapest_blocks: &mut self.cheapest_blocks,
            pods: &mut self.pods,
            classes: &mut self.classes,
            blocks: &mut self.blocks,
            summaries: &mut self.summaries,
            domains: &mut self.domains,
            shapes: &mut self.shapes,
            memos: &mut self.memos,
        }
    }
}
