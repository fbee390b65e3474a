//! What the placement benches share: tables in memory, numbers drawn from a seed, clusters and rounds of decisions.

mod rounds;
mod shapes;

pub use rounds::{Figures, measure};
pub use shapes::{SHAPES, Shape};

sched_core::tables_in_vecs! {
    /// Tables of a placement core, on the heap.
    pub struct Heap;
}

/// `SplitMix64`: the same numbers for the same seed, everywhere.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from(self.number() % bound).unwrap_or(0)
    }

    /// The same of a small bound.
    pub fn small(&mut self, bound: u32) -> u32 {
        u32::try_from(self.number() % u64::from(bound.max(1))).unwrap_or(0)
    }

    /// Puts them in another order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}
