//! What nodes have and pods ask for.

use crate::limits::EXTENDED_RESOURCES;

/// One kind of thing that runs out.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Thousandths of a core.
    Cpu,
    /// Bytes.
    Memory,
    /// Bytes.
    EphemeralStorage,
    /// Pods.
    Pods,
    /// Whatever the caller interned under this number, below [`EXTENDED_RESOURCES`].
    Extended(u8),
}

/// An amount of each resource.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub storage_bytes: u64,
    /// Pods: a pod asks for one.
    pub pods: u64,
    /// By interned number.
    pub extended: [u64; EXTENDED_RESOURCES],
}

impl Amounts {
    /// Nothing of anything.
    pub const ZERO: Self = Self {
        cpu_milli: 0,
        memory_bytes: 0,
        storage_bytes: 0,
        pods: 0,
        extended: [0; EXTENDED_RESOURCES],
    };

    /// Each resource with its amount, in a fixed order.
    pub fn each(&self) -> impl Iterator<Item = (Resource, u64)> + '_ {
        let named = [
            (Resource::Pods, self.pods),
            (Resource::Cpu, self.cpu_milli),
            (Resource::Memory, self.memory_bytes),
            (Resource::EphemeralStorage, self.storage_bytes),
        ];
        let extended = (0_u8..)
            .zip(&self.extended)
            .map(|(index, amount)| (Resource::Extended(index), *amount));
        named.into_iter().chain(extended)
    }

    /// The sum; beyond `u64` it stays at the end, which no node offers.
    #[must_use]
    pub fn saturating_add(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// The difference; never below zero (a node may shrink under its pods).
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    /// The first resource of which `self` asks for more than `free` has. What is not asked for is not looked at, as
    /// Kubernetes does: a node over its limit still takes a pod that asks for nothing of it.
    pub fn first_beyond(&self, free: &Self) -> Option<Resource> {
        let mut pairs = self.each().zip(free.each());
        pairs
            .find(|((_, ask), (_, have))| *ask != 0 && have < ask)
            .map(|((resource, _), _)| resource)
    }

    fn zip(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut extended = self.extended;
        for (mine, theirs) in extended.iter_mut().zip(&other.extended) {
            *mine = join(*mine, *theirs);
        }
        Self {
            cpu_milli: join(self.cpu_milli, other.cpu_milli),
            memory_bytes: join(self.memory_bytes, other.memory_bytes),
            storage_bytes: join(self.storage_bytes, other.storage_bytes),
            pods: join(self.pods, other.pods),
            extended,
        }
    }
}
