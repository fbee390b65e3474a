//! What a choice makes useless: the fragmentation gradient of "Beware of Fragmentation" (USENIX ATC 2023), carried on.
//!
//! The workload is what was seen to arrive: shapes of pods and how often each came. Capacity that is free on a node is
//! useless to a shape that finds no place there; the paper's measure weighs it by how often that shape comes. It looks
//! one pod ahead. Beside it stands what pods drawn from the workload would leave unused if the node were filled with
//! them, in several orders (half the mean, half the best of them, since a scheduler picks what goes well together). The
//! waste is their sum, and a score falls by what a choice adds to it.
//!
//! On a node with devices the capacity is thousandths of devices; on any other, thousandths of its CPU and memory.

use core::cell::Cell;

use crate::{
    ask::{Ask, DeviceAsk, Requirements},
    change::Core,
    limits::{DEVICES_MAX, ROLLOUTS, SAMPLE_PODS, SHAPES_MAX},
    question::Question,
    records::{ClassKey, NodeRecord, take},
    storage::Storage,
    table::Placement,
    view::View,
};

/// Waste is counted in this part of a thousandth.
const FINE: u64 = 16;
/// Pods until which the sample is drawn anew with each, then with each 64th, then with each 1024th.
const SEEN_FEW: u32 = 16;
const SEEN_SOME: u32 = 512;

/// A shape of pods, and how often it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShapeRecord {
    cpu_milli: u32,
    count: u32,
    /// How often it had come when the sample was drawn: what is worked out between two samples is the same whenever it
    /// is asked for (P3), remembered or not.
    weight: u32,
    memory_bytes: u64,
    devices: DeviceAsk,
    needs: Requirements,
}

impl ShapeRecord {
    fn of(ask: &Ask) -> Self {
        let pod = &ask.pod;
        Self {
            cpu_milli: pod.requests.cpu_milli,
            count: 1,
            weight: 0,
            memory_bytes: pod.requests.memory_bytes,
            devices: pod.devices,
            needs: ask.affinity.only().copied().unwrap_or_default(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.cpu_milli == other.cpu_milli
            && self.memory_bytes == other.memory_bytes
            && self.devices == other.devices
            && self.needs == other.needs
    }
}

/// The part of the workload that is not in a table.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadState {
    shapes: u32,
    seen: u32,
    /// Rises with each new sample, and with each shape that gives way; 0 is none.
    version: u32,
    sample: [u8; SAMPLE_PODS],
}

impl WorkloadState {
    /// What was worked out before holds no more.
    fn forget_answers(&mut self) {
        self.version = self.version.wrapping_add(1).max(1);
    }
}

impl Default for WorkloadState {
    fn default() -> Self {
        Self { shapes: 0, seen: 0, version: 0, sample: [0; SAMPLE_PODS] }
    }
}

/// What is free on a node: all that its waste depends on.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Left {
    cpu_milli: u32,
    cpu_total: u32,
    memory_bytes: u64,
    memory_total: u64,
    /// From the most to the least left.
    devices: [u16; DEVICES_MAX],
    has_devices: bool,
    meets: Requirements,
}

/// A waste that was worked out.
#[derive(Clone, Debug, Default)]
pub struct MemoRecord {
    known: Cell<(u32, Left, i64)>,
}

impl<S: Storage> Placement<S> {
    /// Takes note of a pod that asks for a place, once a pod. Only profiles that weigh fragmentation look at it.
    pub fn observe(&mut self, ask: &Ask) {
        self.core().observe(ask);
    }
}

impl Core<'_> {
    fn observe(&mut self, ask: &Ask) {
        let shape = ShapeRecord::of(ask);
        let room = self.tables.shapes.len().min(SHAPES_MAX);
        if room == 0 {
            return;
        }
        let workload = &mut self.state.workload;
        let known = self.tables.shapes.get_mut(..workload.shapes as usize).unwrap_or_default();
        if let Some(same) = known.iter_mut().find(|known| known.is_same(&shape)) {
            same.count = same.count.saturating_add(1);
        } else if (workload.shapes as usize) < room {
            if let Some(slot) = self.tables.shapes.get_mut(workload.shapes as usize) {
                *slot = shape;
            }
            workload.shapes += 1;
        } else if let Some(rarest) = known.iter_mut().min_by_key(|known| known.count) {
            // Space-saving (Metwally et al. 2005): the rarest gives way and leaves its count behind, in the sample too.
            let (count, weight) = (rarest.count.saturating_add(1), rarest.weight);
            *rarest = ShapeRecord { count, weight, ..shape };
            workload.forget_answers();
        }
        workload.seen = workload.seen.saturating_add(1);
        let seen = workload.seen;
        let every = if seen <= SEEN_FEW {
            1
        } else if seen <= SEEN_SOME {
            64
        } else {
            1024
        };
        if seen.is_multiple_of(every) {
            self.draw();
        }
    }

    /// Draws the sample anew: each shape as often as its share of the workload says (systematic sampling), in an order
    /// shuffled by a generator with a fixed seed: the same workload, the same sample (P3).
    fn draw(&mut self) {
        let workload = &mut self.state.workload;
        workload.forget_answers();
        let shapes = self.tables.shapes.get_mut(..workload.shapes as usize).unwrap_or_default();
        for shape in shapes.iter_mut() {
            shape.weight = shape.count;
        }
        let total: u64 = shapes.iter().map(|shape| u64::from(shape.count)).sum();
        let (mut shape, mut upto) = (0_u8, 0);
        let mut counts = shapes.iter().map(|shape| u64::from(shape.count));
        let mut left = counts.next().unwrap_or(0);
        for (slot, index) in workload.sample.iter_mut().zip(0_u64..) {
            // The middle of each of so many equal parts.
            let wanted = (2 * index + 1) * total / (2 * SAMPLE_PODS as u64);
            while upto + left <= wanted {
                upto += left;
                let Some(next) = counts.next() else { break };
                (left, shape) = (next, shape.saturating_add(1));
            }
            *slot = shape;
        }
        let mut seed = 0_u64;
        for last in (1..SAMPLE_PODS).rev() {
            #[expect(clippy::cast_possible_truncation, reason = "a remainder of a usize")]
            let other = (next_random(&mut seed) % (last as u64 + 1)) as usize;
            workload.sample.swap(last, other);
        }
    }
}

/// `SplitMix64`.
fn next_random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

impl View<'_> {
    /// What the choice of this node adds to the waste, in 16ths of a thousandth, and the devices by which it adds the
    /// least.
    pub(crate) fn waste_of(
        &self,
        question: &Question<'_>,
        node: &NodeRecord,
        key: &ClassKey,
    ) -> (i64, u8) {
        let pod = &question.ask.pod;
        let before = Left {
            cpu_milli: node.free_cpu(),
            cpu_total: node.allocatable.cpu_milli,
            memory_bytes: node.free_memory(),
            memory_total: node.allocatable.memory_bytes,
            devices: node.devices_free,
            has_devices: node.devices != 0,
            meets: key.meets,
        };
        let mut after = before;
        after.cpu_milli = after.cpu_milli.saturating_sub(pod.requests.cpu_milli);
        after.memory_bytes = after.memory_bytes.saturating_sub(pod.requests.memory_bytes);
        let tightest = self.tightest_devices(pod.devices, node);
        let mut best: Option<(i64, u8)> = None;
        for (bit, left) in node.devices_free().enumerate() {
            // A slice may go to each device that has enough; those with equally much are alike.
            let again = node.devices_free().take(bit).any(|before| before == left);
            if pod.devices.count() != 1 || left < pod.devices.milli() || again {
                continue;
            }
            // DEVICES_MAX is 8.
            let mask = 1_u8 << bit;
            let mut option = after;
            take(&mut option.devices, mask, pod.devices.milli());
            let waste = self.waste(option);
            if best.is_none_or(|(so_far, _)| waste < so_far) {
                best = Some((waste, mask));
            }
        }
        let (waste, mask) = best.unwrap_or_else(|| {
            take(&mut after.devices, tightest, pod.devices.milli());
            (self.waste(after), tightest)
        });
        (waste - self.waste(before), mask)
    }

    fn waste(&self, mut left: Left) -> i64 {
        left.devices.sort_unstable_by(|a, b| b.cmp(a));
        if left.has_devices {
            // Of no matter to device thousandths.
            (left.cpu_total, left.memory_total) = (0, 0);
        }
        let version = self.state.workload.version;
        let slots = self.tables.memos.len().max(1) as u64;
        #[expect(clippy::cast_possible_truncation, reason = "below the table's length")]
        let memo = self.tables.memos.get((left.hash() % slots) as usize);
        if let Some((of_version, same, waste)) = memo.map(|memo| memo.known.get())
            && of_version == version
            && version != 0
            && same == left
        {
            return waste;
        }
        let waste = self.work_out(&left);
        if let Some(memo) = memo {
            memo.known.set((version, left, waste));
        }
        waste
    }

    fn work_out(&self, left: &Left) -> i64 {
        let workload = &self.state.workload;
        let shapes = self.tables.shapes.get(..workload.shapes as usize).unwrap_or_default();
        let total = left.capacity(u64::from(left.cpu_milli), left.memory_bytes, &left.devices);
        if total == 0 || shapes.is_empty() {
            return 0;
        }
        let (mut useless, mut weights) = (0_u64, 0_u64);
        for shape in shapes.iter().filter(|shape| left.concerns(shape)) {
            weights += u64::from(shape.weight);
            useless += u64::from(shape.weight) * left.useless_to(shape, total);
        }
        let useless = useless * FINE / weights.max(1);
        let (mut used_by_all, mut used_by_best) = (0, 0);
        let (orders, step) = (ROLLOUTS as u64, SAMPLE_PODS / ROLLOUTS);
        for order in 0..ROLLOUTS {
            // Each order has a start and an (odd) stride of its own, so that it meets each pod of the sample once.
            let sample = &workload.sample;
            let drawn = (0..SAMPLE_PODS)
                .filter_map(|at| sample.get((order * step + at * (2 * order + 1)) % SAMPLE_PODS));
            let filled = left.fill(drawn, shapes);
            used_by_all += filled;
            used_by_best = used_by_best.max(filled);
        }
        let used = (used_by_all * FINE / orders + used_by_best * FINE) / 2;
        // Both are at most 8,000 * 16.
        i64::try_from(useless + (total * FINE).saturating_sub(used)).unwrap_or(i64::MAX)
    }
}

impl Left {
    fn hash(&self) -> u64 {
        let mut seed = u64::from(self.cpu_milli) << 32 ^ self.memory_bytes;
        for device in self.devices {
            seed = seed.rotate_left(13) ^ u64::from(device);
        }
        for bit in self.meets.iter() {
            seed = seed.rotate_left(7) ^ bit as u64;
        }
        seed ^= u64::from(self.cpu_total) << 24 ^ self.memory_total;
        next_random(&mut seed)
    }

    /// Thousandths of capacity: of devices where there are any, else of the node.
    fn capacity(&self, cpu: u64, memory: u64, devices: &[u16; DEVICES_MAX]) -> u64 {
        if self.has_devices {
            return devices.iter().map(|free| u64::from(*free)).sum();
        }
        let share = |amount: u64, total: u64| amount.saturating_mul(1000) / total.max(1);
        share(cpu, u64::from(self.cpu_total)) + share(memory, self.memory_total)
    }

    /// Shapes without devices say nothing about devices.
    fn concerns(&self, shape: &ShapeRecord) -> bool {
        !self.has_devices || shape.devices.count() != 0
    }

    fn takes(&self, shape: &ShapeRecord) -> bool {
        shape.cpu_milli <= self.cpu_milli
            && shape.memory_bytes <= self.memory_bytes
            && shape.needs.is_subset(&self.meets)
            && self.devices_for(shape) >= usize::from(shape.devices.count())
    }

    fn devices_for(&self, shape: &ShapeRecord) -> usize {
        self.devices.iter().filter(|free| shape.devices.milli() <= **free && **free != 0).count()
    }

    /// The paper's measure for one shape: all, if the node does not take it; else what is left on devices too small.
    fn useless_to(&self, shape: &ShapeRecord, total: u64) -> u64 {
        if !self.takes(shape) {
            return total;
        }
        if !self.has_devices {
            return 0;
        }
        let small = self.devices.iter().filter(|free| **free < shape.devices.milli());
        small.map(|free| u64::from(*free)).sum()
    }

    /// The capacity that the pods drawn use, one after the other, each that still fits.
    fn fill<'a>(&self, sample: impl Iterator<Item = &'a u8>, shapes: &[ShapeRecord]) -> u64 {
        let mut left = *self;
        for number in sample {
            let Some(shape) = shapes.get(usize::from(*number)) else { continue };
            if !left.concerns(shape) || !left.takes(shape) {
                continue;
            }
            left.cpu_milli -= shape.cpu_milli;
            left.memory_bytes -= shape.memory_bytes;
            for _ in 0..shape.devices.count() {
                let enough = left.devices.iter_mut().filter(|free| shape.devices.milli() <= **free);
                if let Some(tightest) = enough.min_by_key(|free| **free) {
                    *tightest -= shape.devices.milli();
                }
            }
            if left.has_devices && left.devices.iter().all(|free| *free == 0) {
                break;
            }
        }
        let whole = self.capacity(u64::from(self.cpu_milli), self.memory_bytes, &self.devices);
        let rest = left.capacity(u64::from(left.cpu_milli), left.memory_bytes, &left.devices);
        whole - rest
    }
}
