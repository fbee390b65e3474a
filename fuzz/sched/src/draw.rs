//! Nodes and pods drawn from bytes. Sizes are those of small boards, of Kubernetes' own benches and of a published trace
//! of a GPU cluster, with the ends of the ranges among them.

use crate::{
    bytes::Bytes,
    spec::{AskSpec, DOMAINS_EACH, NodeSpec, PodSpec, Sizes, SpreadSpec},
};

const MIB: u64 = 1 << 20;

/// What nodes have: thousandths of a core, MiB, devices.
pub(crate) const NODE_SIZES: [(u32, u64, u8); 16] = [
    (4000, 8192, 0),
    (1000, 1024, 0),
    (4000, 32_768, 0),
    (8000, 16_384, 1),
    (8000, 32_768, 2),
    (96_000, 393_216, 8),
    (104_000, 524_288, 2),
    (32_000, 262_144, 0),
    (16_000, 122_880, 2),
    (96_000, 524_288, 0),
    (128_000, 786_432, 8),
    (64_000, 262_144, 4),
    (3999, 8191, 3),
    (2000, 512, 0),
    (0, 0, 0),
    (u32::MAX, u64::MAX >> 20, 8),
];

/// What pods ask for: thousandths of a core, MiB.
pub(crate) const POD_SIZES: [(u32, u64); 32] = [
    (1000, 1024),
    (0, 0),
    (100, 128),
    (250, 200),
    (500, 512),
    (2000, 4096),
    (4000, 8192),
    (64, 1200),
    (900, 64),
    (1001, 1025),
    (1500, 100),
    (300, 2900),
    (0, 1024),
    (1000, 0),
    (3152, 5600),
    (11_300, 49_152),
    (11_908, 47_104),
    (8000, 30_517),
    (12_500, 57_344),
    (32_000, 49_152),
    (18_708, 64_512),
    (9810, 41_560),
    (4000, 22_888),
    (12_000, 24_576),
    (4152, 10_600),
    (16_000, 32_768),
    (62, 128),
    (63, 127),
    (10, 700),
    (700, 10),
    (8000, 16_384),
    (u32::MAX, u64::MAX >> 20),
];

/// Thousandths of a device that pods ask for.
const SLICES: [u16; 8] = [1000, 500, 250, 810, 470, 320, 1, 999];
const WEIGHTS: [i32; 8] = [1, 10, 100, -1, -50, 0, i32::MAX, i32::MIN];
const PRIORITIES: [i32; 8] = [0, 1, 10, 100, -1, 1000, i32::MAX, i32::MIN];

/// A node: its size, what is unusual about it, and that.
pub(crate) fn node(bytes: &mut Bytes<'_>) -> NodeSpec {
    let (cpu, mib, devices) = bytes.one_of(&NODE_SIZES);
    let unusual = bytes.byte();
    let has = |bit: u8| unusual >> bit & 1 == 1;
    let mut node = NodeSpec {
        sizes: Sizes { cpu, memory: mib * MIB, storage: 10 << 30, pods: 110, extended: [0; 2] },
        devices,
        meets: u8::MAX,
        domains: [Some(0), Some(0)],
        ..NodeSpec::default()
    };
    if has(0) {
        let zones = bytes.byte();
        let each = DOMAINS_EACH + 1;
        let domain = |zone: u8| Some(u16::from(zone) % each).filter(|zone| *zone < DOMAINS_EACH);
        node.domains = [domain(zones & 15), domain(zones >> 4)];
    }
    if has(1) {
        node.taints = bytes.byte() & bytes.byte();
    }
    if has(2) {
        node.soft_taints = bytes.byte();
    }
    if has(3) {
        node.meets = bytes.byte();
    }
    if has(4) {
        node.sizes.extended = [u32::from(bytes.byte() % 4), u32::from(bytes.byte() % 4)];
    }
    if has(5) {
        node.sizes.pods = u32::from(bytes.byte() % 6);
    }
    if has(6) {
        node.sizes.memory = node.sizes.memory.saturating_add(u64::from(bytes.byte()));
        node.sizes.storage = u64::from(bytes.byte() % 4) << 30;
    }
    node.unschedulable = has(7) && bytes.byte() % 2 == 1;
    node
}

/// A pod's ask that is nothing but a size.
pub(crate) fn plain(bytes: &mut Bytes<'_>) -> AskSpec {
    let size = bytes.byte();
    let (cpu, mib) = POD_SIZES[usize::from(size) % POD_SIZES.len()];
    // Some bytes more than a round number.
    let odd = [0, 0, 0, 0, 1, 3, 100, 1000][usize::from(size >> 5)];
    let sizes = Sizes { cpu, memory: (mib * MIB).saturating_add(odd), pods: 1, ..Sizes::default() };
    let pod = PodSpec { sizes, limits: (cpu, mib * MIB), ..PodSpec::default() };
    AskSpec { pod, ..AskSpec::default() }
}

/// A pod's ask: its size, what is unusual about it, and that. `nodes` are those it may be for.
pub(crate) fn ask(bytes: &mut Bytes<'_>, nodes: u32) -> AskSpec {
    let mut ask = plain(bytes);
    let unusual = bytes.byte();
    let has = |bit: u8| unusual >> bit & 1 == 1;
    let mut pod = std::mem::take(&mut ask.pod);
    if has(0) {
        let what = bytes.byte();
        pod.devices = match what % 4 {
            3 => (2 + what / 4 % 7, 1000),
            _ => (1, SLICES[usize::from(what / 4 % 8)]),
        };
    }
    if has(1) {
        let what = bytes.byte();
        pod.sizes.extended = [u32::from(what & 3), u32::from(what >> 2 & 3)];
        pod.sizes.storage = u64::from(what >> 4 & 7) << 29;
    }
    if has(2) {
        ask.tolerates = bytes.byte();
        ask.tolerates_soft = bytes.byte();
        ask.tolerates_unschedulable = ask.tolerates_soft & 1 == 1;
    }
    if has(3) {
        requirements(bytes, &mut ask);
    }
    if has(4) {
        pod.matches = bytes.byte();
        let which = bytes.byte();
        pod.repels = if which & 1 == 1 { bytes.byte() & bytes.byte() } else { 0 };
        ask.near = if which & 2 == 2 { bytes.byte() & bytes.byte() } else { 0 };
    }
    if has(5) {
        for _ in 0..1 + bytes.below(2) {
            ask.spreads.push(spread(bytes));
        }
    }
    if has(6) {
        for _ in 0..1 + bytes.below(2) {
            ask.prefers.push((bytes.byte(), bytes.one_of(&WEIGHTS)));
            ask.near_preferred.push((bytes.below(8), bytes.one_of(&WEIGHTS)));
        }
    }
    if has(7) {
        let what = bytes.byte();
        pod.priority = PRIORITIES[usize::from(what & 7)];
        if what & 8 != 0 {
            pod.budgets = bytes.byte() & 15;
        }
        if what & 16 != 0 {
            pod.ports = bytes.byte() & bytes.byte();
            ask.ports_wanted = pod.ports | bytes.byte() & bytes.byte();
        }
        if what & 0xE0 == 0xE0 {
            ask.node = Some(u32::from(bytes.byte()) % nodes.max(1));
        }
    }
    ask.pod = pod;
    ask
}

fn requirements(bytes: &mut Bytes<'_>, ask: &mut AskSpec) {
    let what = bytes.byte();
    for _ in 0..what % 4 {
        ask.affinity.push(bytes.byte() & bytes.byte());
    }
    if what & 4 == 4 {
        ask.image = bytes.byte() & bytes.byte();
    }
    if what & 8 == 8 {
        ask.volumes = bytes.byte() & bytes.byte();
    }
}

fn spread(bytes: &mut Bytes<'_>) -> SpreadSpec {
    let (term, what) = (bytes.below(8), bytes.byte());
    SpreadSpec {
        term,
        max_skew: 1 + u32::from(what & 1),
        min_domains: u32::from(what >> 1 & 3),
        preferred: (what & 8 == 8).then(|| bytes.one_of(&WEIGHTS)),
        ignores_affinity: what & 16 == 16,
        ignores_taints: what & 32 == 32,
    }
}
