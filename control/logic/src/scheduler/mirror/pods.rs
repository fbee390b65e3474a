//! Pods in the mirror: bound, being bound, or with a node kept for them.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use coracle_api::views::PodView;
use sched_core::{Ask, NodeIndex, PodHandle, PodState, Preemption, Terms};

use super::{Mirror, Victim};
use crate::scheduler::term::{Labels, Subject};

/// Where a pod stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its object says so.
    Bound,
    /// The binding is on the way.
    Assumed,
    /// It waits until others have left the node that is kept for it.
    Nominated,
}

/// A pod that has a node.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(super) node: String,
    namespace: String,
    name: String,
    labels: Labels,
    is_ending: bool,
    pub(super) stage: Stage,
    /// `None`: its node is not known (yet).
    pub(super) handle: Option<PodHandle>,
    /// As the core has it; its bits are held.
    what: sched_core::Pod,
}

impl Pod {
    fn subject<'a>(
        &'a self,
        namespaces: &'a alloc::collections::BTreeMap<String, Labels>,
    ) -> Subject<'a> {
        Subject {
            namespace: &self.namespace,
            namespace_labels: namespaces.get(&self.namespace),
            labels: &self.labels,
            is_ending: self.is_ending,
        }
    }
}

impl Mirror {
    /// A pod has a node: enters it, or confirms what was assumed. Gives whether others may fit now that did not before.
    pub(crate) fn pod_bound(&mut self, view: &PodView) -> bool {
        let uid = view.metadata.uid.as_str();
        let is_ending = view.metadata.deletion_timestamp.is_some();
        let same_place =
            |pod: &&mut Pod| pod.node == view.spec.node_name && pod.stage != Stage::Nominated;
        let Some(pod) = self.pods.get_mut(uid).filter(same_place) else {
            self.pod_gone(uid);
            self.enter_bound(view);
            return self.pods.get(uid).is_some_and(|pod| !pod.what.matches.is_empty());
        };
        pod.stage = Stage::Bound;
        let handle = pod.handle;
        let same = pod.labels == view.metadata.labels && pod.is_ending == is_ending;
        if let Some(handle) = handle {
            // Confirmed twice is confirmed.
            let _ = self.placement.confirm(handle);
        } else {
            self.settle(uid);
        }
        if same {
            return false;
        }
        let Some(pod) = self.pods.get_mut(uid) else { return false };
        pod.labels.clone_from(&view.metadata.labels);
        pod.is_ending = is_ending;
        self.match_anew(uid)
    }

    fn enter_bound(&mut self, view: &PodView) {
        self.begin();
        let what = self.describe(view);
        self.enter(view, what, &view.spec.node_name, None, Stage::Bound);
        if self.placement.profile().fragmentation_weight != 0 {
            self.placement.observe(&Ask { pod: what, ..Ask::default() });
        }
        self.settle(&view.metadata.uid);
    }

    /// Takes note of a pod that the core knows by this handle, or will know.
    pub(super) fn enter(
        &mut self,
        view: &PodView,
        what: sched_core::Pod,
        node: &str,
        handle: Option<PodHandle>,
        stage: Stage,
    ) {
        self.hold(&what);
        let meta = &view.metadata;
        if let Some(handle) = handle {
            self.handles.insert(handle, meta.uid.clone());
        }
        let pod = Pod {
            node: node.to_string(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            labels: meta.labels.clone(),
            is_ending: meta.deletion_timestamp.is_some(),
            stage,
            handle,
            what,
        };
        self.pods.insert(meta.uid.clone(), pod);
    }

    /// A pod ended or is gone. Gives whether it had room on a node.
    pub(crate) fn pod_gone(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.remove(uid) else { return false };
        self.release(&pod.what);
        let Some(handle) = pod.handle else { return false };
        self.handles.remove(&handle);
        self.placement.remove_pod(handle).is_ok()
    }

    /// Where a pod stands; `None`: it has no node.
    pub(crate) fn stage(&self, uid: &str) -> Option<Stage> {
        self.pods.get(uid).map(|pod| pod.stage)
    }

    /// The node that a pod has, will have, or that is kept for it.
    pub(crate) fn node_of(&self, uid: &str) -> Option<&str> {
        self.pods.get(uid).map(|pod| pod.node.as_str())
    }

    /// Whether some term of pod affinity or spread selects a pod.
    pub(crate) fn is_selected(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| !pod.what.matches.is_empty())
    }

    /// The binding was written.
    pub(crate) fn confirm(&mut self, uid: &str) {
        let assumed = |pod: &&mut Pod| pod.stage == Stage::Assumed;
        let Some(pod) = self.pods.get_mut(uid).filter(assumed) else { return };
        pod.stage = Stage::Bound;
        if let Some(handle) = pod.handle {
            // Confirmed twice is confirmed.
            let _ = self.placement.confirm(handle);
        }
    }

    /// The binding was refused. What has become bound in the meantime stays (P2).
    pub(crate) fn forget(&mut self, uid: &str) {
        if self.stage(uid) == Some(Stage::Assumed) {
            self.pod_gone(uid);
        }
    }

    /// A victim could not be made to leave: its room is its own again, and no longer kept for anybody.
    pub(crate) fn stay(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        let leaving = pod.handle.and_then(|handle| self.placement.pod(handle));
        if leaving.is_none_or(|(_, record)| record.state() != PodState::Leaving) {
            return;
        }
        let kept = self
            .pods
            .iter()
            .filter(|(_, other)| other.node == pod.node && other.stage == Stage::Nominated);
        let kept: Vec<String> = kept.map(|(uid, _)| uid.clone()).collect();
        for uid in kept {
            self.pod_gone(&uid);
        }
        self.enter_again(uid);
    }

    /// Makes a nominated pod an assumed one if all are gone that were to leave. Gives its node.
    pub(super) fn take_up(&mut self, uid: &str) -> Option<String> {
        let pod = self.pods.get_mut(uid).filter(|pod| pod.stage == Stage::Nominated)?;
        self.placement.take_up(pod.handle?).ok()?;
        pod.stage = Stage::Assumed;
        Some(pod.node.clone())
    }

    /// Whether pods of lower priority are being deleted on the node that a pod's status names.
    pub(super) fn waits_for_endings(&self, view: &PodView) -> bool {
        let Some(node) = self.nodes.get(&view.status.nominated_node_name) else { return false };
        let priority = view.spec.priority.unwrap_or(0);
        self.placement.pods_of(node.index).any(|(handle, record)| {
            let uid = self.handles.get(&handle);
            record.pod().priority < priority && uid.is_some_and(|uid| self.is_ending(uid))
        })
    }

    /// Victims on the node that a pod's status names, if all of them are being deleted already.
    pub(super) fn leaving_for(&self, view: &PodView, ask: &Ask) -> Option<Preemption> {
        let node = self.nodes.get(&view.status.nominated_node_name)?.index;
        let there = Ask { node: Some(node), ..ask.clone() };
        let chosen = self.placement.preempt(&there)?;
        let mut uids = chosen.victims.iter().map(|victim| self.handles.get(victim));
        uids.all(|uid| uid.is_some_and(|uid| self.is_ending(uid))).then_some(chosen)
    }

    pub(super) fn is_ending(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| pod.is_ending)
    }

    pub(super) fn victim(&self, uid: &str) -> Option<Victim> {
        let pod = self.pods.get(uid)?;
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        Some(Victim { uid: uid.to_string(), namespace, name })
    }

    /// Pods that came before their node.
    pub(super) fn settle_pods_of(&mut self, node: &str) {
        let there = self.pods.iter().filter(|(_, pod)| pod.node == node);
        let uids: Vec<String> = there.map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.settle(&uid);
        }
    }

    fn settle(&mut self, uid: &str) {
        let lost = |pod: &&Pod| pod.handle.is_none() && pod.stage == Stage::Bound;
        let Some(pod) = self.pods.get(uid).filter(lost) else { return };
        let Some(index) = self.nodes.get(&pod.node).map(|node| node.index) else { return };
        let matches = self.matches(&pod.subject(&self.namespaces));
        let what = sched_core::Pod { matches, ..pod.what };
        self.enter_core(uid, what, index, 0);
    }

    fn enter_core(&mut self, uid: &str, what: sched_core::Pod, at: NodeIndex, devices: u8) {
        let entered = self.grown(|placement| placement.add_bound(&what, devices, at));
        let Some(pod) = self.pods.get_mut(uid) else { return };
        (pod.handle, pod.what) = (entered.ok(), what);
        if let Some(handle) = pod.handle {
            self.handles.insert(handle, uid.to_string());
        }
    }

    /// Takes a pod out of the core and puts it in again as it is now.
    fn enter_again(&mut self, uid: &str) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let Some(handle) = pod.handle.take() else { return };
        self.handles.remove(&handle);
        let there = self.placement.pod(handle).map(|(at, record)| (at, record.devices()));
        let known = self.placement.remove_pod(handle);
        debug_assert_eq!(known, Ok(()), "the handle of a pod in the mirror is live");
        if let Some(((at, devices), what)) = there.zip(self.pods.get(uid).map(|pod| pod.what)) {
            self.enter_core(uid, what, at, devices);
        }
    }

    /// Labels of a pod or of its namespace changed. Gives whether other terms select it now.
    fn match_anew(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.get(uid) else { return false };
        let matches = self.matches(&pod.subject(&self.namespaces));
        let state = pod.handle.and_then(|handle| self.placement.pod(handle));
        let rests = state.is_some_and(|(_, record)| {
            matches!(record.state(), PodState::Bound | PodState::Assumed)
        });
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.what.matches != matches) else {
            return false;
        };
        pod.what.matches = matches;
        // One that is leaving, or waits for that, keeps its terms: it goes, or is looked at when it is bound.
        if rests {
            self.enter_again(uid);
        }
        true
    }

    /// A namespace has these labels now. Gives whether pods may fit that did not before.
    pub(crate) fn namespace_changed(&mut self, name: &str, labels: Option<&Labels>) -> bool {
        if self.namespaces.get(name) == labels {
            return false;
        }
        match labels {
            Some(labels) => self.namespaces.insert(name.to_string(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        if !self.terms.iter().any(|(_, term)| term.looks_at_namespaces()) {
            return false;
        }
        let there = self.pods.iter().filter(|(_, pod)| pod.namespace == name);
        let uids: Vec<String> = there.map(|(uid, _)| uid.clone()).collect();
        let mut any = false;
        for uid in &uids {
            any |= self.match_anew(uid);
        }
        any
    }

    /// The terms that select a pod.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> Terms {
        let mut terms = Terms::EMPTY;
        for (bit, term) in self.terms.iter() {
            let fits = !term.matches(subject) || terms.insert(bit);
            debug_assert!(fits, "below AFFINITY_TERMS_MAX");
        }
        terms
    }

    /// A term has this number now: pods are looked at for it.
    pub(super) fn define_term(&mut self, bit: usize, key: sched_core::TopologyKey) {
        let Self { placement, terms, pods, handles, namespaces, .. } = self;
        let (Some(term), Ok(number)) = (terms.get(bit), u8::try_from(bit)) else { return };
        placement.define_term(number, key, |handle, _| {
            let pod = handles.get(&handle).and_then(|uid| pods.get(uid));
            pod.is_some_and(|pod| term.matches(&pod.subject(namespaces)))
        });
        for pod in pods.values_mut() {
            let is_meant = term.matches(&pod.subject(namespaces));
            pod.what.matches.remove(bit);
            let fits = !is_meant || pod.what.matches.insert(bit);
            debug_assert!(fits, "below AFFINITY_TERMS_MAX");
        }
    }

    /// A term's number means nothing now.
    pub(super) fn forget_term(&mut self, bit: usize) {
        if let Ok(number) = u8::try_from(bit) {
            self.placement.define_term(number, sched_core::TopologyKey::Host, |_, _| false);
        }
        for pod in self.pods.values_mut() {
            pod.what.matches.remove(bit);
        }
        self.terms.forget(bit);
    }

    fn hold(&mut self, what: &sched_core::Pod) {
        what.repels.iter().for_each(|bit| self.terms.hold(bit));
        what.ports.iter().for_each(|bit| self.ports.hold(bit));
        for (number, _) in what.requests.extended.iter().enumerate().filter(|(_, ask)| **ask != 0) {
            self.resources.hold(number);
        }
    }

    fn release(&mut self, what: &sched_core::Pod) {
        what.repels.iter().for_each(|bit| self.terms.release(bit));
        what.ports.iter().for_each(|bit| self.ports.release(bit));
        for (number, _) in what.requests.extended.iter().enumerate().filter(|(_, ask)| **ask != 0) {
            self.resources.release(number);
        }
    }
}
