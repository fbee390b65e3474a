//! Every node gets a /24 of the cluster's pod addresses of its own; it is free again when the node is gone.

use alloc::{collections::BTreeSet, format, string::String};
use core::net::Ipv4Addr;

use coracle_api::{Resource, views::NodeView};
use serde_json::json;

use super::USER;
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
    call::PatchType,
    controllers::{
        ask::{Ask, Note, Plan},
        queue::Queue,
        work::Reconcile,
    },
};

/// Length of a node's prefix.
const NODE_PREFIX: u32 = 24;

/// The address allocator of nodes.
#[derive(Debug)]
pub(crate) struct Ipam {
    /// First /24 and how many there are.
    range: Option<(u32, u32)>,
}

impl Ipam {
    /// `cluster_cidr` is IPv4 with a prefix of at most 24 bits; with another no node gets addresses.
    pub(crate) fn new(cluster_cidr: &str) -> Self {
        Self { range: parse(cluster_cidr, NODE_PREFIX) }
    }
}

/// (First /24, number of /24s) of a network whose prefix has at most `longest` bits.
fn parse(cidr: &str, longest: u32) -> Option<(u32, u32)> {
    let (address, prefix) = cidr.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let prefix: u32 = prefix.parse().ok().filter(|prefix| (8..=longest).contains(prefix))?;
    let count = 1u32 << NODE_PREFIX.saturating_sub(prefix);
    let first = (u32::from(address) >> (32 - NODE_PREFIX)) & !(count - 1);
    Some((first, count))
}

impl Reconcile for Ipam {
    /// All nodes at once: two must never be given the same.
    type Key = ();
    const NAME: &'static str = "node-ipam";
    const USER: &'static str = USER;
    const COMPONENT: &'static str = "cidrAllocator";

    fn changed(&mut self, _now: Millis, change: &Change, queue: &mut Queue<()>) {
        if change.resource == Resource::NODES && (change.old.is_none() || change.new.is_none()) {
            queue.add(());
        }
    }

    fn look(&mut self, _now: Millis, (): &(), cache: &Cache, _rng: &mut Rng, plan: &mut Plan) {
        let Some((first, count)) = self.range else { return };
        let mut used = BTreeSet::new();
        let mut without = BTreeSet::<String>::new();
        for object in cache.list(Resource::NODES, None) {
            let Ok(node) = object.view::<NodeView>() else { continue };
            let all = node.spec.pod_cidrs.iter().chain([&node.spec.pod_cidr]);
            let held = all.filter_map(|cidr| parse(cidr, 32));
            used.extend(held.flat_map(|(first, count)| first..first.saturating_add(count)));
            if node.spec.pod_cidr.is_empty() && object.meta.deletion_timestamp.is_none() {
                without.insert(object.meta.name.clone());
            }
        }
        let mut free = (first..first.saturating_add(count)).filter(|index| !used.contains(index));
        for name in without {
            let Some(object) = cache.get(Resource::NODES, "", &name) else { continue };
            let Some(index) = free.next() else {
                let message = format!("Node {name} status is now: CIDRNotAvailable");
                plan.notes.push(Note::normal(object, "CIDRNotAvailable", message));
                continue;
            };
            let cidr = format!("{}/{NODE_PREFIX}", Ipv4Addr::from(index << (32 - NODE_PREFIX)));
            let patch = json!({
                "metadata": {"uid": object.meta.uid},
                "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            });
            plan.call(Ask::patch(object, PatchType::Merge, patch));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn networks() {
        let check = |cidr, want| assert_eq!(parse(cidr, 24), want, "{cidr}");
        check("10.42.0.0/16", Some((0x000a_2a00, 256)));
        check("10.42.7.0/16", Some((0x000a_2a00, 256)));
        check("10.42.7.0/24", Some((0x000a_2a07, 1)));
        check("10.42.7.0/25", None);
        check("fd00::/64", None);
        check("10.42.0.0", None);
        assert_eq!(parse("10.42.7.128/25", 32), Some((0x000a_2a07, 1)));
    }
}
