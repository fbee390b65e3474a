//! Fixed sizes of the records.

/// Extended resources (`vendor.example/gpu`, hugepages, …) that the cluster's nodes and pods may name together.
pub const EXTENDED_RESOURCES: usize = 8;
/// Distinct hard taints in the cluster at one time.
pub const TAINTS_MAX: usize = 128;
/// Distinct node requirements that pending pods make at one time.
pub const REQUIREMENTS_MAX: usize = 256;
/// Alternatives (OR) in a pod's required node affinity.
pub const TERMS_MAX: usize = 8;
/// Bytes of one node's record: two sets of amounts, two flags, and the three sets of bits.
pub const NODE_RECORD_BYTES_MAX: usize = 208 + TAINTS_MAX / 8 * 2 + REQUIREMENTS_MAX / 8;

const _: () = assert!(TAINTS_MAX.is_multiple_of(64) && REQUIREMENTS_MAX.is_multiple_of(64));
