//! Tables whose memory the caller owns: arrays on a bare board, `Vec`s or anything else that is a slice elsewhere.

use crate::{
    cheapest::{CheapestBlock, CheapestRecord},
    limits::blocks_for,
    records::{
        BlockRecord, BlockSummary, ClassRecord, DomainRecord, HostRecord, NodeRecord, PodRecord,
    },
    workload::{MemoRecord, ShapeRecord},
};

/// The tables, to read.
#[derive(Copy, Clone, Debug)]
pub struct Tables<'a> {
    /// As many nodes as there can be.
    pub nodes: &'a [NodeRecord],
    /// As long as `nodes`.
    pub hosts: &'a [HostRecord],
    /// As long as `nodes`.
    pub cheapest: &'a [CheapestRecord],
    /// As long as `blocks`.
    pub cheapest_blocks: &'a [CheapestBlock],
    /// As many pods with a node as there can be.
    pub pods: &'a [PodRecord],
    /// Kinds of nodes: at most one more than nodes.
    pub classes: &'a [ClassRecord],
    /// [`blocks_for`] the nodes.
    pub blocks: &'a [BlockRecord],
    /// As long as `blocks`.
    pub summaries: &'a [BlockSummary],
    /// Topology domains, numbered by the caller.
    pub domains: &'a [DomainRecord],
    /// Pod shapes seen, for profiles that weigh fragmentation: at most [`crate::SHAPES_MAX`] are used; may be empty.
    pub shapes: &'a [ShapeRecord],
    /// Answers kept, for the same: the more, the faster; may be empty.
    pub memos: &'a [MemoRecord],
}

/// The tables, to write. Only records of this crate's making go in.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is what it is in `Tables`")]
pub struct TablesMut<'a> {
    pub nodes: &'a mut [NodeRecord],
    pub hosts: &'a mut [HostRecord],
    pub cheapest: &'a mut [CheapestRecord],
    pub cheapest_blocks: &'a mut [CheapestBlock],
    pub pods: &'a mut [PodRecord],
    pub classes: &'a mut [ClassRecord],
    pub blocks: &'a mut [BlockRecord],
    pub summaries: &'a mut [BlockSummary],
    pub domains: &'a mut [DomainRecord],
    pub shapes: &'a mut [ShapeRecord],
    pub memos: &'a mut [MemoRecord],
}

/// Where the tables are. They may grow by default records at the end between calls; they never shrink and nothing in
/// them is moved or written by the owner.
pub trait Storage {
    /// To read.
    fn tables(&self) -> Tables<'_>;
    /// To write.
    fn tables_mut(&mut self) -> TablesMut<'_>;
}

/// Tables of a fixed size, for a board without an allocator. `CLASSES` is best one more than `NODES`; `BLOCKS` is
/// [`blocks_for`] `NODES`, which the compiler checks.
#[derive(Clone, Debug)]
pub struct Fixed<
    const NODES: usize,
    const PODS: usize,
    const CLASSES: usize,
    const BLOCKS: usize,
    const DOMAINS: usize,
> {
    nodes: heapless::Vec<NodeRecord, NODES>,
    hosts: heapless::Vec<HostRecord, NODES>,
    cheapest: heapless::Vec<CheapestRecord, NODES>,
    cheapest_blocks: heapless::Vec<CheapestBlock, BLOCKS>,
    pods: heapless::Vec<PodRecord, PODS>,
    classes: heapless::Vec<ClassRecord, CLASSES>,
    blocks: heapless::Vec<BlockRecord, BLOCKS>,
    summaries: heapless::Vec<BlockSummary, BLOCKS>,
    domains: heapless::Vec<DomainRecord, DOMAINS>,
}

impl<
    const NODES: usize,
    const PODS: usize,
    const CLASSES: usize,
    const BLOCKS: usize,
    const DOMAINS: usize,
> Default for Fixed<NODES, PODS, CLASSES, BLOCKS, DOMAINS>
{
    fn default() -> Self {
        const { assert!(blocks_for(NODES) <= BLOCKS) };
        let mut fixed = Self {
            nodes: heapless::Vec::new(),
            hosts: heapless::Vec::new(),
            cheapest: heapless::Vec::new(),
            cheapest_blocks: heapless::Vec::new(),
            pods: heapless::Vec::new(),
            classes: heapless::Vec::new(),
            blocks: heapless::Vec::new(),
            summaries: heapless::Vec::new(),
            domains: heapless::Vec::new(),
        };
        // Each is filled to its capacity, so nothing is turned away.
        let filled = fixed.nodes.resize_default(NODES).is_ok()
            && fixed.hosts.resize_default(NODES).is_ok()
            && fixed.cheapest.resize_default(NODES).is_ok()
            && fixed.cheapest_blocks.resize_default(BLOCKS).is_ok()
            && fixed.pods.resize_default(PODS).is_ok()
            && fixed.classes.resize_default(CLASSES).is_ok()
            && fixed.blocks.resize_default(BLOCKS).is_ok()
            && fixed.summaries.resize_default(BLOCKS).is_ok()
            && fixed.domains.resize_default(DOMAINS).is_ok();
        debug_assert!(filled);
        fixed
    }
}

impl<
    const NODES: usize,
    const PODS: usize,
    const CLASSES: usize,
    const BLOCKS: usize,
    const DOMAINS: usize,
> Storage for Fixed<NODES, PODS, CLASSES, BLOCKS, DOMAINS>
{
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
            shapes: &[],
            memos: &[],
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
            shapes: &mut [],
            memos: &mut [],
        }
    }
}

/// Makes a struct of tables in whatever `Vec` is in scope (`alloc`'s, for this crate has no allocator), that grows.
///
/// `tables_in_vecs!(pub struct Heap);` gives `Heap` with [`Storage`], `Default` (empty) and `grow`.
#[macro_export]
macro_rules! tables_in_vecs {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident;) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        $visibility struct $name {
            nodes: Vec<$crate::NodeRecord>,
            hosts: Vec<$crate::HostRecord>,
            cheapest: Vec<$crate::CheapestRecord>,
            cheapest_blocks: Vec<$crate::CheapestBlock>,
            pods: Vec<$crate::PodRecord>,
            classes: Vec<$crate::ClassRecord>,
            blocks: Vec<$crate::BlockRecord>,
            summaries: Vec<$crate::BlockSummary>,
            domains: Vec<$crate::DomainRecord>,
            shapes: Vec<$crate::ShapeRecord>,
            memos: Vec<$crate::MemoRecord>,
        }

        impl $name {
            /// Makes room for so many nodes more, and what goes with them.
            $visibility fn grow_nodes(&mut self, more: usize) {
                let nodes = self.nodes.len() + more;
                self.nodes.resize_with(nodes, Default::default);
                self.hosts.resize_with(nodes, Default::default);
                self.cheapest.resize_with(nodes, Default::default);
                self.classes.resize_with(nodes + 2, Default::default);
                self.blocks.resize_with($crate::blocks_for(nodes + 1), Default::default);
                self.summaries.resize_with($crate::blocks_for(nodes + 1), Default::default);
                self.cheapest_blocks.resize_with($crate::blocks_for(nodes + 1), Default::default);
            }

            /// Makes room for so many pods more.
            $visibility fn grow_pods(&mut self, more: usize) {
                self.pods.resize_with(self.pods.len() + more, Default::default);
            }

            /// Makes room for so many topology domains in all.
            $visibility fn set_domains(&mut self, domains: usize) {
                self.domains.resize_with(domains.max(self.domains.len()), Default::default);
            }

            /// Makes room for a workload, and for so many answers about it.
            $visibility fn set_workload(&mut self, memos: usize) {
                self.shapes.resize_with($crate::SHAPES_MAX, Default::default);
                self.memos.resize_with(memos, Default::default);
            }
        }

        impl $crate::Storage for $name {
            fn tables(&self) -> $crate::Tables<'_> {
                $crate::Tables {
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

            fn tables_mut(&mut self) -> $crate::TablesMut<'_> {
                $crate::TablesMut {
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
    };
}
