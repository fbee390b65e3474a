//! What a cluster wants of a place: a weighted sum of integers.

/// Whether pods go together or apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Best fit: the fullest node that can take it (bin packing).
    Pack,
    /// The emptiest node (least allocated).
    Spread,
}

/// The weights of a decision. A score is their sum over what they weigh; the largest wins, of equals the lowest index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    fit: Fit,
    fit_weight: u16,
    balance_weight: u16,
    /// For each point of a wish's own weight (preferred node affinity, pod affinity, spread).
    pub wish_weight: u16,
    /// For each soft taint that is not tolerated. Against a fit of at most 2048 points times its weight.
    pub soft_taint_weight: u16,
    /// For each thousandth of a device (on nodes without devices: of the node) that the choice makes useless for the
    /// workload seen. 0: it is not looked at, and a decision costs much less.
    pub fragmentation_weight: u16,
}

impl Profile {
    /// Best fit with balance: the default.
    pub const PACK: Self = Self {
        fit: Fit::Pack,
        fit_weight: 4,
        balance_weight: 1,
        wish_weight: 100,
        soft_taint_weight: 40_000,
        fragmentation_weight: 0,
    };
    /// Least allocated, with balance.
    pub const SPREAD: Self = Self { fit: Fit::Spread, ..Self::PACK };
    /// Fragmentation gradient first, best fit between equals: for boards with devices, and where every node counts.
    pub const GRADIENT: Self = Self { fragmentation_weight: 10_000, ..Self::PACK };

    /// With other weights of fit and balance. `None`: the balance must weigh less than the fit.
    #[must_use]
    pub fn weighing(self, fit: Fit, fit_weight: u16, balance_weight: u16) -> Option<Self> {
        (balance_weight < fit_weight).then_some(Self { fit, fit_weight, balance_weight, ..self })
    }

    /// Together or apart.
    pub fn fit(&self) -> Fit {
        self.fit
    }

    /// For each 1024th of CPU and of memory in use.
    pub fn fit_weight(&self) -> u16 {
        self.fit_weight
    }

    /// For each 1024th by which CPU and memory in use differ.
    pub fn balance_weight(&self) -> u16 {
        self.balance_weight
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::PACK
    }
}
