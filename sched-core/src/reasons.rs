//! The first reason of each node, for callers that tell of nodes one by one.

use crate::{
    ask::Ask,
    filter::Reason,
    storage::Storage,
    table::{NodeIndex, Placement},
};

impl<S: Storage> Placement<S> {
    /// Gives each node, by index, with the first reason why it refuses this pod (P4): what [`Self::why_not`] says of each,
    /// but the cluster is looked at once for all of them.
    pub fn reasons(&self, ask: &Ask, mut each: impl FnMut(NodeIndex, Option<Reason>)) {
        let view = self.view();
        let question = view.question(ask);
        for (at, node) in view.nodes() {
            each(NodeIndex(at), view.reason(&question, at, node));
        }
    }
}
