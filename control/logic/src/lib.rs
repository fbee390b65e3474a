//! The control plane's decisions: a value that is stepped with events and gives actions.
//!
//! Reads no clock, no file, no socket, no random source. Order of iteration is part of the result.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod access;
pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap_policy;
pub mod cache;
pub mod call;
pub mod canary;
pub mod controllers;
#[cfg(test)]
mod fixture;
pub mod kinds;
pub mod limits;
pub mod plane;
pub(crate) mod registry;
pub mod scheduler;
#[cfg(test)]
mod scripted;
pub(crate) mod views;

/// Wall-clock time in milliseconds since 1970 (UTC). Comes in with each event.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// Pseudo-random numbers from a seed that came in with an event (splitmix64). Not for keys or secrets.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
