//! What nodes have and pods ask for.

use crate::limits::EXTENDED_RESOURCES;

/// One kind of thing that runs out.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Pods.
    Pods,
    /// Thousandths of a core.
    Cpu,
    /// Bytes.
    Memory,
    /// Bytes.
    EphemeralStorage,
    /// Whatever the caller interned under this number, below [`EXTENDED_RESOURCES`].
    Extended(u8),
    /// Shareable devices with enough of each left.
    Devices,
}

/// An amount of each resource. What is beyond a field's range is the caller's to refuse: it must not be cut to fit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Pods: a pod asks for one.
    pub pods: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub storage_bytes: u64,
    /// By interned number, in units that the caller chooses (pieces; pages of a hugepage size).
    pub extended: [u32; EXTENDED_RESOURCES],
}

impl Amounts {
    /// Nothing of anything.
    pub const ZERO: Self = Self {
        cpu_milli: 0,
        pods: 0,
        memory_bytes: 0,
        storage_bytes: 0,
        extended: [0; EXTENDED_RESOURCES],
    };

    /// Each resource with its amount, in a fixed order.
    pub fn each(&self) -> impl Iterator<Item = (Resource, u64)> + '_ {
        let named = [
            (Resource::Pods, u64::from(self.pods)),
            (Resource::Cpu, u64::from(self.cpu_milli)),
            (Resource::Memory, self.memory_bytes),
            (Resource::EphemeralStorage, self.storage_bytes),
        ];
        let extended = (0_u8..)
            .zip(&self.extended)
            .map(|(index, amount)| (Resource::Extended(index), u64::from(*amount)));
        named.into_iter().chain(extended)
    }

    /// The amount of one resource; of devices none, they are counted elsewhere.
    pub fn of(&self, resource: Resource) -> u64 {
        self.each().find(|(one, _)| *one == resource).map_or(0, |(_, amount)| amount)
    }

    /// The sum; beyond a field's range it stays at the end, which no node offers.
    #[must_use]
    pub fn saturating_add(&self, other: &Self) -> Self {
        self.zip(other, u32::saturating_add, u64::saturating_add)
    }

    /// The difference; never below zero (a node may shrink under its pods).
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        self.zip(other, u32::saturating_sub, u64::saturating_sub)
    }

    /// Whether one of them is at the end of its range, where [`Self::saturating_add`] stays.
    pub(crate) fn is_at_end(&self) -> bool {
        self.cpu_milli == u32::MAX
            || self.pods == u32::MAX
            || self.memory_bytes == u64::MAX
            || self.storage_bytes == u64::MAX
            || self.extended.contains(&u32::MAX)
    }

    /// The larger of each.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        self.zip(other, u32::max, u64::max)
    }

    /// The resources of which `self` asks for more than `free` has. What is not asked for is not looked at, as
    /// Kubernetes does: a node over its limit still takes a pod that asks for nothing of it.
    pub fn beyond<'a>(&'a self, free: &'a Self) -> impl Iterator<Item = Resource> + 'a {
        let pairs = self.each().zip(free.each());
        pairs
            .filter(|((_, ask), (_, have))| *ask != 0 && have < ask)
            .map(|((resource, _), _)| resource)
    }

    /// Whether [`Self::beyond`] is empty.
    pub fn fits(&self, free: &Self) -> bool {
        let named = (self.cpu_milli == 0 || self.cpu_milli <= free.cpu_milli)
            && (self.memory_bytes == 0 || self.memory_bytes <= free.memory_bytes)
            && (self.pods == 0 || self.pods <= free.pods)
            && (self.storage_bytes == 0 || self.storage_bytes <= free.storage_bytes);
        named && self.extended.iter().zip(&free.extended).all(|(ask, have)| ask <= have)
    }

    fn zip(
        &self,
        other: &Self,
        join: impl Fn(u32, u32) -> u32,
        wide: impl Fn(u64, u64) -> u64,
    ) -> Self {
        let mut extended = self.extended;
        for (mine, theirs) in extended.iter_mut().zip(&other.extended) {
            *mine = join(*mine, *theirs);
        }
        Self {
            cpu_milli: join(self.cpu_milli, other.cpu_milli),
            pods: join(self.pods, other.pods),
            memory_bytes: wide(self.memory_bytes, other.memory_bytes),
            storage_bytes: wide(self.storage_bytes, other.storage_bytes),
            extended,
        }
    }
}
