//! Histories to begin with: clusters as they are, from what published traces and small boards look like. libFuzzer finds
//! the rest from there. They are made by code, so that they follow when the bodies read their bytes in another way.

use crate::{
    draw::{NODE_SIZES, POD_SIZES},
    ops::{CHOICES, KINDS},
};

/// Nodes of one kind and pods of some sizes, by their places in the tables of sizes.
struct Cluster {
    nodes: &'static [u8],
    pods: &'static [u8],
    /// What is unusual about each pod: a byte of flags, and what these flags want to be told.
    unusual: &'static [&'static [u8]],
}

/// Nothing is unusual.
const PLAIN: &[u8] = &[0];

const CLUSTERS: [Cluster; 8] = [
    // A homelab: three boards of 4 cores, small pods.
    Cluster { nodes: &[0, 0, 0], pods: &[2, 3, 4, 0, 3, 2, 0, 5], unusual: &[PLAIN] },
    // Boards of several sizes, pods that fill them.
    Cluster { nodes: &[0, 1, 13, 1], pods: &[0, 6, 8, 9, 12, 13], unusual: &[PLAIN, &[2, 0x15]] },
    // Kubernetes' own bench: 4 cores and 32 GiB.
    Cluster { nodes: &[2, 2, 2, 2, 2], pods: &[0, 3, 0, 3, 0, 3, 4, 4], unusual: &[PLAIN] },
    // The trace: nodes with eight, two and no devices; its most frequent shapes, with whole devices and slices.
    Cluster {
        nodes: &[5, 6, 7, 8, 10],
        pods: &[14, 15, 16, 17, 15, 14, 18, 19, 20, 21],
        unusual: &[&[1, 0], &[1, 12], &[1, 16], &[1, 20], &[1, 0xff]],
    },
    // One pod a host, and pods that repel by zone.
    Cluster {
        nodes: &[0, 0, 0, 0],
        pods: &[2, 3, 2, 3],
        unusual: &[&[0x10, 1, 1, 1, 1], &[0x10, 2, 1, 2, 2], &[0x10, 2, 2, 2, 2]],
    },
    // Spread over zones and over hosts.
    Cluster {
        nodes: &[0, 0, 0, 0, 0, 0],
        pods: &[2, 2, 3, 3, 2, 2],
        unusual: &[
            &[0x30, 2, 0, 0, 1, 0x20],
            &[0x30, 1, 0, 0, 0, 0x30],
            &[0x30, 4, 0, 0, 2, 0x0a, 1],
        ],
    },
    // Priorities and budgets on full nodes.
    Cluster {
        nodes: &[0, 0, 1],
        pods: &[0, 0, 5, 0, 5, 0, 6, 6],
        unusual: &[&[0x80, 0], &[0x80, 9, 1], &[0x80, 11, 3], &[0x80, 5]],
    },
    // Taints, wishes, ports, node affinity.
    Cluster {
        nodes: &[0, 3, 4, 3],
        pods: &[0, 2, 3, 4],
        unusual: &[
            &[4, 1, 0],
            &[8, 13, 3, 3, 1, 1, 2, 2],
            &[0x40, 0, 1, 2, 0, 1],
            &[0x80, 16, 3, 3, 3, 3],
        ],
    },
];

/// Choices of the bodies (see [`KINDS`]) that the histories are made of.
const ADD_NODE: u8 = 0;
const PLACE: u8 = 4;
const CONFIRMED: u8 = 10;
const REMOVE_POD: u8 = 17;
const BUDGET: u8 = 25;

const _: () =
    assert!(KINDS[0] == 0 && KINDS[4] == 1 && KINDS[10] == 2 && KINDS[17] == 4 && KINDS[25] == 9);
const _: () = assert!(KINDS[28] == 12 && CHOICES < 41);

/// Bodies by name: bytes before the operations, the number of its own operation, and what follows a pod there.
const BODIES: [(&str, &[u8], u8, &[u8]); 5] = [
    ("sched_place", &[0, 0], 28, &[]),
    ("sched_preempt", &[0], 41, &[7]),
    ("sched_gang", &[0, 0], 41, &[3]),
    ("sched_repack", &[0], 41, &[0]),
    ("sched_batch", &[0, 0], 41, &[6]),
];

/// Each body's name with its seeds.
pub fn all() -> impl Iterator<Item = (&'static str, Vec<Vec<u8>>)> {
    BODIES.into_iter().map(|(name, head, own, what)| {
        let clusters = CLUSTERS.iter().flat_map(move |cluster| {
            // Two of each: pods that are only placed, and pods that are bound.
            [PLACE, CONFIRMED].map(|come| cluster.history(name, head, own, what, come))
        });
        (name, clusters.collect())
    })
}

impl Cluster {
    fn history(&self, name: &str, head: &[u8], own: u8, what: &[u8], come: u8) -> Vec<u8> {
        let mut bytes = head.to_vec();
        for (place, node) in (0_u8..).zip(self.nodes) {
            debug_assert!(usize::from(*node) < NODE_SIZES.len());
            // Like no other, of this size; the first bit of what is unusual: its zones.
            bytes.extend([ADD_NODE, 0, *node, 1, ((place % 3) << 4) | (place % 2)]);
        }
        bytes.extend([BUDGET, 4]);
        for (pod, unusual) in self.pods.iter().zip(self.unusual.iter().cycle()) {
            debug_assert!(usize::from(*pod) < POD_SIZES.len());
            bytes.extend([come, *pod]);
            bytes.extend(*unusual);
        }
        bytes.extend([REMOVE_POD, 1]);
        bytes.push(own);
        match name {
            // Their own operation begins with a byte and goes on with pods.
            "sched_gang" | "sched_batch" => bytes.extend(what),
            "sched_preempt" => bytes.extend(what),
            "sched_repack" => {
                bytes.extend([0, own, 0, 44]);
            }
            _ => {}
        }
        for (pod, unusual) in self.pods.iter().rev().zip(self.unusual.iter().cycle()).take(4) {
            bytes.push(*pod);
            bytes.extend(*unusual);
        }
        bytes
    }
}
