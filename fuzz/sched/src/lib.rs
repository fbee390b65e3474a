//! The obvious slow scheduler, and fuzz bodies that hold `sched-core` against it (P1-P4).
//!
//! A body is a function of bytes: libFuzzer drives it from `fuzz/`, `cargo test` from seeds. It plays the bytes as
//! operations on the core and on the [`naive`] model and panics where they differ. This crate knows the core's public
//! face and nothing else of Coracle; the model shares no index, no sum and no code with it.
#![allow(clippy::indexing_slicing, reason = "what is out of range here is a finding")]
#![allow(clippy::cast_possible_truncation, reason = "there are few of everything here")]

mod batch;
mod bytes;
mod draw;
#[cfg(test)]
mod findings;
mod gang;
mod heap;
pub mod naive;
mod ops;
mod pair;
mod place;
mod preempt;
mod repack;
pub mod seeds;
pub mod spec;

pub use batch::sched_batch;
pub use gang::sched_gang;
pub use place::sched_place;
pub use preempt::sched_preempt;
pub use repack::sched_repack;
