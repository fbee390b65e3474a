//! Placement of pods on nodes, with Kubernetes' meaning: exact, deterministic, integers only, no allocator.
//!
//! [`Placement`] mirrors what nodes have and which pods are on them, in tables whose storage the caller owns: arrays
//! ([`Fixed`]) on a bare board, `Vec`s ([`tables_in_vecs!`]) elsewhere. It knows no strings: the caller numbers taints,
//! node requirements, host ports, affinity terms, domains and budgets, and hands in sets of bits.
//!
//! | question | answer |
//! |---|---|
//! | [`Placement::place`] | the best node for a pod, or none |
//! | [`Placement::explain`], [`Placement::reasons`], [`Placement::why_not`], [`Placement::shortfalls`] | why not, for the cluster and for each node |
//! | [`Placement::assume`], then [`Placement::confirm`] or [`Placement::forget`] | a pod takes its place before the binding is written, and keeps it or not |
//! | [`Placement::preempt`], [`Placement::nominate`], [`Placement::take_up`] | who must leave for a pod of higher priority |
//! | [`Placement::assume_gang`], [`Placement::assume_batch`] | several pods at once: all or none, or each its best |
//! | [`Placement::repack`], [`Placement::make_room`] | which moves free whole nodes, or make a refused pod fit |
//!
//! ```
//! use sched_core::{Amounts, Ask, Fixed, NodeOffer, Placement, Profile, Reason, Resource, blocks_for};
//!
//! // Three nodes, ten pods, and the tables that go with them.
//! let tables = Fixed::<3, 10, 4, { blocks_for(3) }, 0>::default();
//! let mut placement = Placement::new(tables, Profile::PACK);
//! let board = Amounts { cpu_milli: 4000, memory_bytes: 4 << 30, pods: 110, ..Amounts::ZERO };
//! for _ in 0..3 {
//!     placement.add_node(&NodeOffer { allocatable: board, ..NodeOffer::default() })?;
//! }
//! let mut ask = Ask::default();
//! ask.pod.requests = Amounts { cpu_milli: 3000, pods: 1, ..Amounts::ZERO };
//! for _ in 0..3 {
//!     let at = placement.place(&ask).expect("each board takes one");
//!     placement.assume(&ask, at)?;
//! }
//! assert_eq!(placement.place(&ask), None);
//! assert_eq!(placement.explain(&ask).of(Reason::Insufficient(Resource::Cpu)), 3);
//! # Ok::<(), sched_core::Error>(())
//! ```
//!
//! # Promises
//!
//! - P1: no pod is assumed on a node that lacks anything it asks for. [`Placement::add_bound`] mirrors what others did.
//! - P2: a bound pod is never moved; what [`Placement::preempt`] and [`Placement::repack`] give are proposals.
//! - P3: the same calls give the same answers on every machine. Of equal nodes the one with the lowest index is taken.
//! - P4: a refusal counts, for each node, a constraint that does refuse.
//!
//! # How it is fast, and still exact
//!
//! Nodes that no constraint can tell apart form a class (taints, requirements met, domains, ports and terms of the pods on
//! them). What is free on them is told apart in 64 by 64 cells of CPU and memory, and nodes of a cell score alike. A
//! search looks at the classes that admit the pod, at their cells from the best on, and in a cell at the first node whose
//! exact amounts suffice; blocks of nodes that lack them are passed by on a summary. It ends when no cell left can score
//! more, so the answer is that of a scan over all nodes. Nothing is sampled.
//!
//! What tells nodes apart one by one (preferred terms over hosts, the fragmentation gradient) is looked at node by node.
//!
//! # Sizes
//!
//! A node's record is at most [`NODE_RECORD_BYTES_MAX`] bytes. The largest frame under [`Placement::place`] has 600 bytes of
//! stack (x86-64), and it calls four deep: 2 KiB do. Preemption, gangs, batches and repacking keep lists of up to
//! [`NODE_PODS_MAX`] or [`BATCH_PODS_MAX`] entries on the stack besides.
#![no_std]
#![forbid(unsafe_code)]

mod amounts;
mod ask;
mod audit;
mod bits;
mod change;
mod cheapest;
mod classes;
mod filter;
mod fit;
mod group;
mod limits;
mod offers;
mod order;
mod preempt;
mod profile;
mod question;
mod reasons;
mod records;
mod repack;
mod settle;
mod storage;
mod table;
mod terms;
mod victims;
mod view;
mod words;
mod workload;

pub use amounts::{Amounts, Resource};
pub use ask::{
    Alternatives, Ask, Budgets, DeviceAsk, Domain, Limits, NodeOffer, NodePolicy, Pod, Ports,
    Requirements, Spread, Strength, Taints, TermIndex, Terms, TopologyKey,
};
pub use bits::Bits;
pub use cheapest::{CheapestBlock, CheapestRecord};
pub use filter::{Reason, Refusal};
pub use group::GangError;
pub use limits::*;
pub use preempt::{Cost, Preemption, Victims};
pub use profile::{Fit, Profile};
pub use records::{
    BlockRecord, BlockSummary, ClassRecord, DomainRecord, HostRecord, NodeRecord, PodRecord,
    PodState,
};
pub use repack::Move;
pub use storage::{Fixed, Storage, Tables, TablesMut};
pub use table::{Error, NodeIndex, Placement, PodHandle, Table};
pub use view::Balance;
pub use words::{Operator, Taint, Toleration};
pub use workload::{MemoRecord, ShapeRecord};
