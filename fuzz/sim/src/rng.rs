//! Numbers drawn from the seed, with the words that drawing needs.

use coracle_control_logic::Rng as Stream;

/// A generator for one part of the world.
#[derive(Clone, Debug)]
pub struct Rng(Stream);

impl Rng {
    /// Begins at this seed.
    pub fn new(seed: u64) -> Self {
        Self(Stream(seed))
    }

    /// A generator of its own, so that one part's draws do not move another's.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.draw())
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound` (which is taken as at least 1).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T], or: T) -> T {
        let at = self.below(u64::try_from(of.len()).unwrap_or(1));
        usize::try_from(at).ok().and_then(|at| of.get(at)).copied().unwrap_or(or)
    }
}
