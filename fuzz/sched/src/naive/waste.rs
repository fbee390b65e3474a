//! What a choice makes useless for the workload seen: the fragmentation gradient as the core documents it, worked out
//! anew each time.

use crate::{
    naive::{NOBODY, Naive},
    spec::AskSpec,
};

/// Pods drawn, and orders in which they are tried.
const SAMPLE: usize = 256;
const ORDERS: usize = 16;

/// A shape of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    cpu: u32,
    memory: u64,
    devices: (u8, u16),
    needs: u8,
}

/// Shapes seen and how often, and pods drawn from them.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    shapes: Vec<(Shape, u64)>,
    seen: u64,
    /// Pods drawn, and how often each shape had come by then.
    sample: Vec<usize>,
    weights: Vec<u64>,
}

impl Workload {
    /// Takes note of a pod.
    pub fn observe(&mut self, ask: &AskSpec) {
        let pod = &ask.pod;
        let needs = match ask.affinity.as_slice() {
            [only] => *only,
            _ => 0,
        };
        let shape =
            Shape { cpu: pod.sizes.cpu, memory: pod.sizes.memory, devices: pod.devices, needs };
        match self.shapes.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, count)) => *count += 1,
            None => self.shapes.push((shape, 1)),
        }
        self.seen += 1;
        // Few pods are seen here, so that each of the first ones and then each 64th draws anew.
        if self.seen <= 16 || self.seen.is_multiple_of(64) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        // Each shape as often as its share says, in a shuffled order.
        let total: u64 = self.shapes.iter().map(|(_, count)| count).sum();
        self.weights = self.shapes.iter().map(|(_, count)| *count).collect();
        self.sample.clear();
        for part in 0..SAMPLE as u64 {
            let wanted = (2 * part + 1) * total / (2 * SAMPLE as u64);
            let mut upto = 0;
            let drawn = self.shapes.iter().position(|(_, count)| {
                upto += count;
                wanted < upto
            });
            self.sample.push(drawn.unwrap_or(0));
        }
        let mut seed = 0_u64;
        for last in (1..SAMPLE).rev() {
            let other = split_mix(&mut seed) % (last as u64 + 1);
            self.sample.swap(last, other as usize);
        }
    }
}

/// Free on a node.
#[derive(Clone, Debug)]
struct Free {
    cpu: u64,
    memory: u64,
    totals: (u64, u64),
    devices: Vec<u16>,
    meets: u8,
}

impl Naive {
    /// What the choice of a node adds to the waste, in 16ths of a thousandth, and the devices by which it adds least.
    pub(super) fn added_waste(&self, at: u32, ask: &AskSpec) -> (i64, u8) {
        let Some(node) = self.node(at) else { return (0, 0) };
        let used = self.used(at, NOBODY);
        let free = |total: u64, used: u128| {
            u64::try_from(u128::from(total).saturating_sub(used)).unwrap_or(u64::MAX)
        };
        let before = Free {
            cpu: free(node.sizes.cpu.into(), used.cpu),
            memory: free(node.sizes.memory, used.memory),
            totals: (node.sizes.cpu.into(), node.sizes.memory),
            devices: self.devices_free(at, NOBODY),
            meets: node.meets,
        };
        let mut after = before.clone();
        after.cpu = after.cpu.saturating_sub(ask.pod.sizes.cpu.into());
        after.memory = after.memory.saturating_sub(ask.pod.sizes.memory);
        let (count, milli) = ask.pod.devices;
        let mut best: Option<(i64, u8)> = None;
        if count == 1 {
            for (bit, left) in before.devices.iter().enumerate() {
                if *left < milli {
                    continue;
                }
                let mut option = after.clone();
                option.devices[bit] -= milli;
                let waste = self.waste(&option);
                if best.is_none_or(|(least, _)| waste < least) {
                    best = Some((waste, 1 << bit));
                }
            }
        }
        let (waste, mask) = best.unwrap_or_else(|| {
            let mask = self.tightest(at, ask.pod.devices);
            for (bit, left) in after.devices.iter_mut().enumerate() {
                if mask >> bit & 1 == 1 {
                    *left = left.saturating_sub(milli);
                }
            }
            (self.waste(&after), mask)
        });
        (waste - self.waste(&before), mask)
    }

    fn waste(&self, free: &Free) -> i64 {
        let total = free.capacity();
        if total == 0 || self.workload.shapes.is_empty() {
            return 0;
        }
        let workload = &self.workload;
        let drawn = workload.shapes.iter().zip(&workload.weights);
        let (mut useless, mut weights) = (0_u64, 0_u64);
        for ((shape, _), weight) in drawn.filter(|((shape, _), _)| free.concerns(shape)) {
            weights += weight;
            useless += weight * free.useless_to(shape, total);
        }
        let useless = useless * 16 / weights.max(1);
        let (mut all, mut best) = (0, 0);
        for order in 0..ORDERS {
            // A start and an odd stride: each pod of the sample once.
            let turn = |at| (order * (SAMPLE / ORDERS) + at * (2 * order + 1)) % SAMPLE;
            let sample = (0..SAMPLE).filter_map(|at| workload.sample.get(turn(at)).copied());
            let filled = free.fill(sample, workload);
            all += filled;
            best = best.max(filled);
        }
        let used = (all * 16 / ORDERS as u64 + best * 16) / 2;
        i64::try_from(useless + (total * 16).saturating_sub(used)).unwrap_or(i64::MAX)
    }
}

impl Free {
    /// Thousandths: of devices where there are any, else of CPU and memory.
    fn capacity(&self) -> u64 {
        if !self.devices.is_empty() {
            return self.devices.iter().map(|left| u64::from(*left)).sum();
        }
        let share = |amount: u64, total: u64| amount.saturating_mul(1000) / total.max(1);
        share(self.cpu, self.totals.0) + share(self.memory, self.totals.1)
    }

    fn concerns(&self, shape: &Shape) -> bool {
        self.devices.is_empty() || shape.devices.0 != 0
    }

    fn takes(&self, shape: &Shape) -> bool {
        let enough = self.devices.iter().filter(|left| shape.devices.1 <= **left && **left != 0);
        u64::from(shape.cpu) <= self.cpu
            && shape.memory <= self.memory
            && shape.needs & !self.meets == 0
            && usize::from(shape.devices.0) <= enough.count()
    }

    fn useless_to(&self, shape: &Shape, total: u64) -> u64 {
        if !self.takes(shape) {
            return total;
        }
        let small = self.devices.iter().filter(|left| **left < shape.devices.1);
        small.map(|left| u64::from(*left)).sum()
    }

    /// The capacity that pods use, one after the other, each that still fits.
    fn fill(&self, sample: impl Iterator<Item = usize>, workload: &Workload) -> u64 {
        let mut left = self.clone();
        for drawn in sample {
            let (shape, _) = &workload.shapes[drawn];
            if !left.concerns(shape) || !left.takes(shape) {
                continue;
            }
            left.cpu -= u64::from(shape.cpu);
            left.memory -= shape.memory;
            for _ in 0..shape.devices.0 {
                let enough = left.devices.iter_mut().filter(|free| shape.devices.1 <= **free);
                if let Some(tightest) = enough.min_by_key(|free| **free) {
                    *tightest -= shape.devices.1;
                }
            }
        }
        self.capacity() - left.capacity()
    }
}

/// `SplitMix64`, by which the core draws.
fn split_mix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
