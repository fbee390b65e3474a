//! A refusal in Kubernetes' words: `0/5 nodes are available: 3 Insufficient memory, 2 node(s) were unschedulable.`

use alloc::{format, string::String, vec::Vec};

use coracle_api::views::Taint;
use sched_core::{Amounts, Refusal, Resource};

use super::ask::Names;

/// Says how many nodes each constraint removed. `taint` gives an interned taint back.
pub(crate) fn text<'a>(
    refusal: &Refusal,
    names: &Names,
    taint: impl Fn(usize) -> Option<&'a Taint>,
) -> String {
    if refusal.nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut reasons: Vec<String> = Vec::new();
    let mut add = |count: u32, reason: String| {
        if count != 0 {
            reasons.push(format!("{count} {reason}"));
        }
    };
    add(refusal.unschedulable, "node(s) were unschedulable".into());
    for (bit, count) in refusal.taint.iter().enumerate() {
        let which = taint(bit)
            .map_or_else(String::new, |taint| format!(" {{{}: {}}}", taint.key, taint.value));
        add(*count, format!("node(s) had untolerated taint{which}"));
    }
    add(refusal.requirements, "node(s) didn't match Pod's node affinity/selector".into());
    for (resource, _) in Amounts::ZERO.each() {
        let reason = match resource {
            Resource::Pods => "Too many pods".into(),
            Resource::Cpu => "Insufficient cpu".into(),
            Resource::Memory => "Insufficient memory".into(),
            Resource::EphemeralStorage => "Insufficient ephemeral-storage".into(),
            Resource::Extended(number) => format!("Insufficient {}", names.name(number)),
        };
        add(refusal.insufficient_in(resource), reason);
    }
    reasons.sort();
    format!("0/{} nodes are available: {}.", refusal.nodes, reasons.join(", "))
}
