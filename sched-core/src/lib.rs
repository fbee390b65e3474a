//! Placement of pods on nodes: exact, deterministic, without an allocator.
#![no_std]
#![forbid(unsafe_code)]

mod amounts;
mod ask;
mod bits;
mod classes;
mod filter;
mod fit;
mod group;
mod limits;
mod order;
mod preempt;
mod profile;
mod question;
mod reasons;
mod records;
mod repack;
mod storage;
mod table;
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
pub use filter::{Reason, Refusal};
pub use group::GangError;
pub use limits::*;
pub use preempt::{Cost, Preemption, Victims};
pub use profile::{Fit, Profile};
pub use records::{
    BlockRecord, BlockSummary, CheapestRecord, ClassRecord, DomainRecord, HostRecord, NodeRecord, PodRecord,
    PodState,
};
pub use repack::Move;
pub use storage::{Fixed, Storage, Tables, TablesMut};
pub use table::{Error, NodeIndex, Placement, PodHandle, Table};
pub use view::Balance;
pub use words::{Operator, Taint, Toleration};
pub use workload::{MemoRecord, ShapeRecord};
