//! The cluster as `sched-core` sees it: names become numbers, taints and requirements become bits.

use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::{NodeView, PodView, Taint};
use sched_core::{
    Amounts, Ask, Error, NodeIndex, NodeOffer, NodeRecord, Placement, PodHandle, PodRecord,
    Requirements, TAINTS_MAX, Taints, Terms,
};

use super::{
    ask::{Names, amounts, requests, tolerates, unsupported},
    refusal,
    requirement::{Interned, Requirement},
};
use crate::cache::Change;

/// Storage grows by this many records at a time.
const GROWTH: usize = 32;
/// The last taint bit stands for all taints beyond the table: no pod tolerates it.
const TAINT_BEYOND: usize = TAINTS_MAX - 1;

#[derive(Debug)]
struct Node {
    index: NodeIndex,
    labels: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Pod {
    node: String,
    requests: Amounts,
    /// `None`: its node is not known (yet).
    handle: Option<PodHandle>,
    assumed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mirror {
    placement: Placement<Vec<NodeRecord>, Vec<PodRecord>>,
    nodes: BTreeMap<String, Node>,
    names: BTreeMap<NodeIndex, String>,
    pods: BTreeMap<String, Pod>,
    /// Taints by bit; a bit that no node has any more is free.
    taints: Vec<Option<Taint>>,
    requirements: Interned,
    resources: Names,
}

impl Default for Mirror {
    fn default() -> Self {
        Self {
            placement: Placement::new(Vec::new(), Vec::new()),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            pods: BTreeMap::new(),
            taints: Vec::new(),
            requirements: Interned::default(),
            resources: Names::default(),
        }
    }
}

impl Mirror {
    /// Mirrors a node's change. Gives whether a pod may fit now that did not before.
    pub(crate) fn node_changed(&mut self, change: &Change) -> bool {
        let Some(object) = &change.new else {
            if let Some(old) = &change.old {
                self.node_gone(&old.meta.name);
            }
            return false;
        };
        let Ok(view) = object.view::<NodeView>() else { return false };
        let name = view.metadata.name.clone();
        let labels = view.metadata.labels;
        let taints = view.spec.taints;
        self.forget_unused_taints();
        let mut offer = NodeOffer {
            unschedulable: view.spec.unschedulable,
            allocatable: amounts(&view.status.allocatable, &mut self.resources),
            meets: self.requirements.met_by(&name, &labels),
            ..NodeOffer::default()
        };
        for taint in &taints {
            let bit = self.taint_bit(taint);
            let set = if taint.effect == "PreferNoSchedule" {
                &mut offer.soft_taints
            } else {
                &mut offer.taints
            };
            // Below TAINTS_MAX by `taint_bit`, so it fits.
            let fits = set.insert(bit);
            debug_assert!(fits);
        }
        match self.nodes.get_mut(&name) {
            Some(node) => {
                let before = self.placement.node(node.index).map(NodeRecord::offer);
                let changed = before != Some(&offer) || node.labels != labels;
                node.labels = labels;
                let known = self.placement.update_node(node.index, offer);
                debug_assert_eq!(known, Ok(()), "a node of the table is live");
                changed
            }
            None => {
                let index = self.add_node(offer);
                self.names.insert(index, name.clone());
                self.nodes.insert(name.clone(), Node { index, labels });
                self.settle_pods_of(&name);
                true
            }
        }
    }

    fn add_node(&mut self, offer: NodeOffer) -> NodeIndex {
        loop {
            match self.placement.add_node(offer.clone()) {
                Ok(index) => return index,
                Err(_) => {
                    let nodes = self.placement.storage().0;
                    nodes.resize(nodes.len() + GROWTH, NodeRecord::default());
                }
            }
        }
    }

    fn node_gone(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else { return };
        self.names.remove(&node.index);
        let known = self.placement.remove_node(node.index);
        debug_assert_eq!(known, Ok(()), "a node of the table is live");
        for pod in self.pods.values_mut().filter(|pod| pod.node == name) {
            pod.handle = None;
        }
    }

    /// Pods that came before their node.
    fn settle_pods_of(&mut self, node: &str) {
        let uids: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.node == node)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in uids {
            self.settle(&uid);
        }
    }

    fn settle(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid).filter(|pod| pod.handle.is_none()) else { return };
        let Some(node) = self.nodes.get(&pod.node) else { return };
        let (requests, index) = (pod.requests, node.index);
        let handle = self.enter(|placement| placement.add_bound(&requests, index));
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.handle = handle.ok();
        }
    }

    /// Tries again with more room where the table is full.
    fn enter(
        &mut self,
        mut add: impl FnMut(&mut Placement<Vec<NodeRecord>, Vec<PodRecord>>) -> Result<PodHandle, Error>,
    ) -> Result<PodHandle, Error> {
        let first = add(&mut self.placement);
        if first != Err(Error::Full) {
            return first;
        }
        let pods = self.placement.storage().1;
        pods.resize(pods.len() + GROWTH, PodRecord::default());
        add(&mut self.placement)
    }

    /// A pod has a node: enters it, or confirms what was assumed.
    pub(crate) fn pod_bound(&mut self, view: &PodView) {
        let uid = &view.metadata.uid;
        if let Some(pod) = self.pods.get_mut(uid) {
            if pod.node == view.spec.node_name {
                pod.assumed = false;
                if let Some(handle) = pod.handle {
                    // Confirmed twice is confirmed.
                    let _ = self.placement.confirm(handle);
                }
                return;
            }
            self.pod_gone(uid);
        }
        let requests = requests(view, &mut self.resources);
        let pod = Pod { node: view.spec.node_name.clone(), requests, handle: None, assumed: false };
        self.pods.insert(uid.clone(), pod);
        self.settle(uid);
    }

    /// A pod ended or is gone. Gives whether it had room on a node.
    pub(crate) fn pod_gone(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.remove(uid) else { return false };
        pod.handle.is_some_and(|handle| self.placement.remove_pod(handle).is_ok())
    }

    /// Whether a binding of it is on the way.
    pub(crate) fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| pod.assumed)
    }

    /// Chooses a node for the pod and enters it there, or says why there is none.
    pub(crate) fn assume(&mut self, view: &PodView) -> Result<(PodHandle, String), String> {
        if let Some(why) = unsupported(view, &mut self.resources) {
            return Err(why);
        }
        let ask = self.ask(view)?;
        let index = self.placement.place(&ask).map_err(|refused| {
            refusal::text(&refused, &self.resources, |bit| {
                self.taints.get(bit).and_then(Option::as_ref)
            })
        })?;
        let node = self.names.get(&index).cloned().unwrap_or_default();
        let handle = self.enter(|placement| placement.assume(&ask, index));
        // What `place` gave fits, and `enter` made room.
        let handle = handle.map_err(|error| {
            alloc::format!("internal: {node} was chosen and then refused: {error:?}")
        })?;
        let pod =
            Pod { node: node.clone(), requests: ask.requests, handle: Some(handle), assumed: true };
        self.pods.insert(view.metadata.uid.clone(), pod);
        Ok((handle, node))
    }

    /// The binding was written.
    pub(crate) fn confirm(&mut self, uid: &str, handle: PodHandle) {
        if let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.handle == Some(handle)) {
            pod.assumed = false;
            // Confirmed twice is confirmed.
            let _ = self.placement.confirm(handle);
        }
    }

    /// The binding was refused. What has become bound in the meantime stays.
    pub(crate) fn forget(&mut self, uid: &str, handle: PodHandle) {
        if self.pods.get(uid).is_some_and(|pod| pod.assumed && pod.handle == Some(handle)) {
            self.pods.remove(uid);
            let known = self.placement.forget(handle);
            debug_assert_eq!(known, Ok(()), "an assumed pod can be forgotten");
        } else if self.pods.get(uid).is_some_and(|pod| pod.assumed && pod.handle.is_none()) {
            // Its node went away under it.
            self.pods.remove(uid);
        }
    }

    fn ask(&mut self, view: &PodView) -> Result<Ask, String> {
        let mut ask = Ask { requests: requests(view, &mut self.resources), ..Ask::default() };
        for (bit, taint) in self.taints.iter().enumerate() {
            let Some(taint) = taint else { continue };
            if bit != TAINT_BEYOND && view.spec.tolerations.iter().any(|one| tolerates(one, taint))
            {
                let fits = ask.tolerates.insert(bit) && ask.tolerates_soft.insert(bit);
                debug_assert!(fits);
            }
        }
        let cordon = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        ask.tolerates_unschedulable =
            view.spec.tolerations.iter().any(|one| tolerates(one, &cordon));
        ask.terms = self.terms(view)?;
        Ok(ask)
    }

    /// nodeSelector AND (term OR term …), as core/v1 has it; a term without any condition is met by no node.
    fn terms(&mut self, view: &PodView) -> Result<Terms, String> {
        self.requirements.begin();
        let mut selector = Requirements::EMPTY;
        for (key, value) in &view.spec.node_selector {
            self.require(&mut selector, &Requirement::label(key, value))?;
        }
        let mut terms = Terms::default();
        let affinity =
            view.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity
            .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
        let full = || {
            "Unsupported: spec.affinity.nodeAffinity has more alternatives than this scheduler takes (8)".to_string()
        };
        match required {
            None if view.spec.node_selector.is_empty() => {}
            None => terms.push(selector).then_some(()).ok_or_else(full)?,
            Some(required) => {
                for term in &required.node_selector_terms {
                    let mut all_of = selector;
                    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
                        self.require(&mut all_of, &Requirement::never())?;
                    }
                    for one in &term.match_expressions {
                        self.require(&mut all_of, &Requirement::of(one, false))?;
                    }
                    for one in &term.match_fields {
                        self.require(&mut all_of, &Requirement::of(one, true))?;
                    }
                    terms.push(all_of).then_some(()).ok_or_else(full)?;
                }
            }
        }
        Ok(terms)
    }

    fn require(&mut self, set: &mut Requirements, requirement: &Requirement) -> Result<(), String> {
        let (bit, new) = self.requirements.bit(requirement).ok_or_else(|| {
            "Unsupported: the pod's node selector and affinity name more conditions than this scheduler takes (256)".to_string()
        })?;
        if new {
            let (names, nodes) = (&self.names, &self.nodes);
            self.placement.update_requirements(|index, meets| {
                let name = names.get(&index).map_or("", String::as_str);
                let met =
                    nodes.get(name).is_some_and(|node| requirement.is_met(name, &node.labels));
                meets.remove(bit);
                let fits = !met || meets.insert(bit);
                debug_assert!(fits);
            });
        }
        let fits = set.insert(bit);
        debug_assert!(fits);
        Ok(())
    }

    fn taint_bit(&mut self, taint: &Taint) -> usize {
        let same = |one: &Taint| {
            one.key == taint.key && one.value == taint.value && one.effect == taint.effect
        };
        if let Some(bit) = self.taints.iter().position(|one| one.as_ref().is_some_and(same)) {
            return bit;
        }
        let known = Taint { time_added: None, ..taint.clone() };
        if let Some((bit, free)) = (0_usize..).zip(&mut self.taints).find(|(_, one)| one.is_none())
        {
            *free = Some(known);
            return bit;
        }
        if TAINT_BEYOND <= self.taints.len() {
            return TAINT_BEYOND;
        }
        self.taints.push(Some(known));
        self.taints.len() - 1
    }

    fn forget_unused_taints(&mut self) {
        if self.taints.len() < TAINT_BEYOND / 2 {
            return;
        }
        let mut used = Taints::EMPTY;
        for (_, record) in self.placement.nodes() {
            for bit in 0..TAINTS_MAX {
                if record.offer().taints.contains(bit) || record.offer().soft_taints.contains(bit) {
                    let fits = used.insert(bit);
                    debug_assert!(fits);
                }
            }
        }
        for (bit, taint) in self.taints.iter_mut().enumerate() {
            if !used.contains(bit) {
                *taint = None;
            }
        }
    }
}
