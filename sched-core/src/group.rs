//! Several pods at once: gangs, all or none, and batches, each its best.

use heapless::Vec;

use crate::{
    ask::Ask,
    limits::BATCH_PODS_MAX,
    storage::Storage,
    table::{Error, NodeIndex, Placement, PodHandle},
};

/// Why a gang got no place: nothing of it was left in the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GangError {
    /// No node takes this pod of the gang beside those placed before it.
    NoNode {
        /// Its place in the gang.
        index: usize,
    },
    /// The answer has no room for all of the gang, or the gang is larger than [`BATCH_PODS_MAX`].
    TooLong,
    /// The mirror refused.
    Table(Error),
}

impl<S: Storage> Placement<S> {
    /// Assumes all pods of a gang, or none: `out` gets a handle for each, in the gang's order. The largest are placed
    /// first; where that fails, the gang's own order is tried.
    pub fn assume_gang(
        &mut self,
        gang: &[Ask],
        out: &mut [Option<PodHandle>],
    ) -> Result<(), GangError> {
        if out.len() < gang.len() || BATCH_PODS_MAX < gang.len() {
            return Err(GangError::TooLong);
        }
        let by_size = self.by_size(gang);
        if self.assume_all(gang, &by_size, out).is_ok() {
            return Ok(());
        }
        let as_given: Order = (0..gang.len()).collect();
        self.assume_all(gang, &as_given, out)
    }

    fn assume_all(
        &mut self,
        gang: &[Ask],
        order: &Order,
        out: &mut [Option<PodHandle>],
    ) -> Result<(), GangError> {
        for slot in out.iter_mut() {
            *slot = None;
        }
        let mut result = Ok(());
        for index in order {
            let Some(ask) = gang.get(*index) else { continue };
            let entered = match self.place(ask) {
                Some(at) => self.assume(ask, at).map_err(GangError::Table),
                None => Err(GangError::NoNode { index: *index }),
            };
            match entered {
                Ok(pod) => {
                    if let Some(slot) = out.get_mut(*index) {
                        *slot = Some(pod);
                    }
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        if result.is_err() {
            for slot in out.iter_mut() {
                if let Some(pod) = slot.take() {
                    let known = self.forget(pod);
                    debug_assert_eq!(known, Ok(()), "an assumed pod can be forgotten");
                }
            }
        }
        result
    }

    /// Assumes up to [`BATCH_PODS_MAX`] pending pods that were looked at together: higher priorities first, among equals
    /// the largest first, which packs tighter than the order of arrival. `out` gets a handle, or none for a pod that no
    /// node takes; pods beyond the limit or the answer's length are left alone. Gives how many have a place. A full table
    /// ends the batch with what was placed so far.
    pub fn assume_batch(
        &mut self,
        batch: &[Ask],
        out: &mut [Option<PodHandle>],
    ) -> Result<usize, Error> {
        for slot in out.iter_mut() {
            *slot = None;
        }
        let batch = batch.get(..batch.len().min(out.len()).min(BATCH_PODS_MAX)).unwrap_or_default();
        let mut order = self.by_size(batch);
        let priority = |index: &usize| batch.get(*index).map_or(0, |ask| ask.pod.priority);
        // By size within a priority: the sort keeps what is equal, by the place it has.
        let mut ranked: Vec<(core::cmp::Reverse<i32>, usize, usize), BATCH_PODS_MAX> = Vec::new();
        for (rank, index) in order.iter().enumerate() {
            let fits = ranked.push((core::cmp::Reverse(priority(index)), rank, *index)).is_ok();
            debug_assert!(fits);
        }
        ranked.sort_unstable();
        order.clear();
        order.extend(ranked.iter().map(|(_, _, index)| *index));
        let mut placed = 0;
        for index in &order {
            let Some(ask) = batch.get(*index) else { continue };
            let Some(at) = self.place(ask) else { continue };
            let pod = self.assume(ask, at)?;
            if let Some(slot) = out.get_mut(*index) {
                *slot = Some(pod);
                placed += 1;
            }
        }
        Ok(placed)
    }

    /// Indices by size, the largest first: by the larger of its shares of the largest node's CPU and memory.
    fn by_size(&self, asks: &[Ask]) -> Order {
        let (mut cpu, mut memory) = (1_u64, 1_u64);
        for (_, node) in self.nodes() {
            cpu = cpu.max(u64::from(node.allocatable().cpu_milli));
            memory = memory.max(node.allocatable().memory_bytes);
        }
        let share = |ask: &Ask| {
            let requests = &ask.pod.requests;
            let of_cpu = u128::from(requests.cpu_milli) * 1_000_000 / u128::from(cpu);
            let of_memory = u128::from(requests.memory_bytes) * 1_000_000 / u128::from(memory);
            let devices = u128::from(ask.pod.devices.count()) * u128::from(ask.pod.devices.milli());
            (devices, of_cpu.max(of_memory))
        };
        let mut ranked: Vec<_, BATCH_PODS_MAX> = Vec::new();
        for (index, ask) in asks.iter().enumerate().take(BATCH_PODS_MAX) {
            let fits = ranked.push((core::cmp::Reverse(share(ask)), index)).is_ok();
            debug_assert!(fits);
        }
        ranked.sort_unstable();
        ranked.iter().map(|(_, index)| *index).collect()
    }

    /// The node of each handle.
    pub fn nodes_of(&self, pods: &[Option<PodHandle>]) -> impl Iterator<Item = Option<NodeIndex>> {
        pods.iter().map(|pod| pod.and_then(|pod| self.pod(pod)).map(|(at, _)| at))
    }
}

/// Indices in the order in which they are looked at.
type Order = Vec<usize, BATCH_PODS_MAX>;
