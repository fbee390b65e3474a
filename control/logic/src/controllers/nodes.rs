//! Nodes: which are alive, what their state forbids, which pods they lose for it, and their share of pod addresses.

pub(crate) mod eviction;
pub(crate) mod ipam;
pub(crate) mod lifecycle;
mod taints;

#[cfg(test)]
mod tests;

/// Who acts on nodes.
const USER: &str = "system:serviceaccount:kube-system:node-controller";
const COMPONENT: &str = "node-controller";
