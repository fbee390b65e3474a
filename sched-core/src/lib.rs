//! Placement of pods on nodes: exact, deterministic, without an allocator.
//!
//! [`Placement`] mirrors what nodes have and what pods were given, in tables whose storage the caller owns (arrays or
//! `heapless` vectors on a bare board, `Vec`s in the shipped control plane). It answers where a pod fits best, or why it
//! fits nowhere. It knows no strings: the caller interns taints and node requirements and hands in sets of bits.
//!
//! Keeps the promises P1 (no node is over-committed, not even between assume and bind), P2 (a bound pod never moves:
//! there is no call for it), P3 (the same input gives the same place: integers only, ties by index) and P4 (a refusal
//! names, per node, a constraint that really refuses).
#![no_std]
#![forbid(unsafe_code)]

mod amounts;
mod bits;
mod filter;
mod limits;
mod score;
mod table;

pub use amounts::{Amounts, Resource};
pub use bits::Bits;
pub use filter::{Reason, Refusal};
pub use limits::*;
pub use table::{
    Ask, Error, NodeIndex, NodeOffer, NodeRecord, Placement, PodHandle, PodRecord, Requirements,
    Taints, Terms,
};
