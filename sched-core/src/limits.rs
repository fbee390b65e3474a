//! Fixed sizes of the records. How many nodes and pods there are is the caller's storage's affair alone.

/// Extended resources (`vendor.example/fpga`, hugepages, …) that the cluster's nodes and pods may name together.
pub const EXTENDED_RESOURCES: usize = 8;
/// Shareable devices (GPUs, NPUs) of one node.
pub const DEVICES_MAX: usize = 8;
/// One whole device, in its thousandths.
pub const DEVICE_MILLI: u16 = 1000;
/// Distinct taints in the cluster at one time.
pub const TAINTS_MAX: usize = 128;
/// Distinct node requirements that pods make at one time.
pub const REQUIREMENTS_MAX: usize = 256;
/// Distinct host ports (address, protocol, port) that pods take or want at one time.
pub const HOST_PORTS_MAX: usize = 128;
/// Distinct affinity terms (pods selected, topology key) in use at one time.
pub const AFFINITY_TERMS_MAX: usize = 128;
/// Topology keys in use at one time, beside the host itself.
pub const TOPOLOGY_KEYS_MAX: usize = 7;
/// PodDisruptionBudgets at one time.
pub const BUDGETS_MAX: usize = 64;
/// Alternatives (OR) in a pod's required node affinity.
pub const ALTERNATIVES_MAX: usize = 8;
/// Weighted wishes of one pod of one kind (preferred node affinities, preferred pod affinities).
pub const PREFERENCES_MAX: usize = 16;
/// Topology spread constraints of one pod.
pub const SPREADS_MAX: usize = 8;
/// Pending pods that one batch looks at together.
pub const BATCH_PODS_MAX: usize = 256;
/// Steps of free CPU and of free memory, from none to all of a node, that scores tell apart.
pub const LEVELS: u32 = 64;
/// Nodes in one block of the order.
pub const BLOCK_NODES: usize = 32;
/// Nodes whose cheapest victims are noted together.
pub(crate) const CHEAPEST_NODES: usize = 32;
/// Blocks next to each other hold more nodes than this together.
pub(crate) const BLOCK_MERGE_NODES: usize = 24;
/// Distinct pod shapes that a workload remembers.
pub const SHAPES_MAX: usize = 256;
/// Pods drawn from the workload to try on a node.
pub const SAMPLE_PODS: usize = 256;
/// Orders in which they are tried.
pub const ROLLOUTS: usize = 16;
/// Pods on one node among which victims are looked for.
pub const NODE_PODS_MAX: usize = 256;
/// Steps of the exact search for the fewest victims on one node; beyond them the best found counts. Eleven pods that may
/// leave a node are searched to the end, whatever their priorities and budgets; commonly far more.
pub const VICTIM_STEPS_MAX: u32 = 16_384;
/// Bytes of one node's record. Its labels and taints are sets of bits that nodes of one kind share in a class record.
pub const NODE_RECORD_BYTES_MAX: usize = 192;

const _: () = assert!(TAINTS_MAX.is_multiple_of(64) && REQUIREMENTS_MAX.is_multiple_of(64));
const _: () = assert!(HOST_PORTS_MAX.is_multiple_of(64) && AFFINITY_TERMS_MAX.is_multiple_of(64));
// Levels and budgets are bits of one word.
const _: () = assert!(LEVELS == 64 && BUDGETS_MAX == 64);
// A split block and its half are more than what would be merged again at once.
const _: () = assert!(BLOCK_MERGE_NODES < BLOCK_NODES && BLOCK_NODES.is_multiple_of(2));
// A shape's number in a sample is a byte.
const _: () = assert!(SHAPES_MAX <= 256 && SAMPLE_PODS.is_multiple_of(ROLLOUTS));

/// Blocks (and what is as long as they) that so many nodes need: neighbours hold more than [`BLOCK_MERGE_NODES`] together.
#[must_use]
pub const fn blocks_for(nodes: usize) -> usize {
    nodes * 2 / BLOCK_MERGE_NODES + 2
}
