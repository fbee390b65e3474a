//! Pods that wait for a node: by priority, then by age; those that found none wait until room changes, with back-off.
//!
//! ```text
//!  add --> Ready --take--> Binding --remove--> (gone)
//!            ^  \--park--> Parked     \--park--> Parked
//!            +---- back-off over and room changed, or LOOK_AGAIN_MS over
//! ```

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
};

use super::limits::{BACK_OFF_MS_MAX, BACK_OFF_MS_MIN, LOOK_AGAIN_MS};
use crate::Millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Binding,
    Parked {
        /// Not before, whatever changes.
        until: Millis,
        /// Then in any case.
        at_last: Millis,
        /// Room has changed since.
        stirred: bool,
    },
}

#[derive(Debug)]
struct Waiting {
    namespace: String,
    name: String,
    priority: i32,
    since: Millis,
    attempts: u32,
    state: State,
}

/// All pods that wait, by uid.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pods: BTreeMap<String, Waiting>,
    /// Ready ones: highest priority first, then oldest.
    ready: BTreeSet<(core::cmp::Reverse<i32>, Millis, String)>,
}

impl Backlog {
    /// A pod wants a node. One that is known stays where it is, but for a new priority.
    pub(crate) fn add(
        &mut self,
        now: Millis,
        uid: &str,
        namespace: &str,
        name: &str,
        priority: i32,
    ) {
        if self.pods.get(uid).is_some_and(|pod| pod.priority == priority) {
            return;
        }
        self.remove(uid);
        let (namespace, name) = (namespace.into(), name.into());
        let pod =
            Waiting { namespace, name, priority, since: now, attempts: 0, state: State::Ready };
        self.ready.insert(key(uid, &pod));
        self.pods.insert(uid.into(), pod);
    }

    /// It is gone, bound, or not ours.
    pub(crate) fn remove(&mut self, uid: &str) {
        if let Some(pod) = self.pods.remove(uid) {
            self.ready.remove(&key(uid, &pod));
        }
    }

    /// Namespace and name of a waiting pod.
    pub(crate) fn name_of(&self, uid: &str) -> Option<(&str, &str)> {
        self.pods.get(uid).map(|pod| (pod.namespace.as_str(), pod.name.as_str()))
    }

    /// The pod to decide on next. It stays first until it is taken, parked or removed.
    pub(crate) fn next(&mut self, now: Millis) -> Option<String> {
        let awake: alloc::vec::Vec<String> = self
            .pods
            .iter()
            .filter(|(_, pod)| match pod.state {
                State::Parked { until, at_last, stirred } => {
                    at_last <= now || stirred && until <= now
                }
                State::Ready | State::Binding => false,
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in awake {
            self.set(&uid, State::Ready);
        }
        self.ready.first().map(|(_, _, uid)| uid.clone())
    }

    /// Its binding is on the way.
    pub(crate) fn take(&mut self, uid: &str) {
        self.set(uid, State::Binding);
    }

    /// It found no node, or its binding was refused.
    pub(crate) fn park(&mut self, now: Millis, uid: &str) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let delay_ms = (BACK_OFF_MS_MIN << pod.attempts.min(8)).min(BACK_OFF_MS_MAX);
        pod.attempts = pod.attempts.saturating_add(1);
        let after = |ms: u64| Millis(now.0.saturating_add(ms));
        let state = State::Parked {
            until: after(delay_ms),
            at_last: after(LOOK_AGAIN_MS),
            stirred: pod.state == State::Binding,
        };
        self.set(uid, state);
    }

    /// A node came or changed, or a pod left its node: who found none may find one now.
    pub(crate) fn room_changed(&mut self) {
        for pod in self.pods.values_mut() {
            if let State::Parked { stirred, .. } = &mut pod.state {
                *stirred = true;
            }
        }
    }

    /// When [`Self::next`] has something, if nothing changes; `Millis(0)`: now.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        if !self.ready.is_empty() {
            return Some(Millis(0));
        }
        let due = self.pods.values().filter_map(|pod| match pod.state {
            State::Parked { until, stirred: true, .. } => Some(until),
            State::Parked { at_last, stirred: false, .. } => Some(at_last),
            State::Ready | State::Binding => None,
        });
        due.min()
    }

    fn set(&mut self, uid: &str, state: State) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        self.ready.remove(&key(uid, pod));
        pod.state = state;
        if state == State::Ready {
            self.ready.insert(key(uid, pod));
        }
    }
}

fn key(uid: &str, pod: &Waiting) -> (core::cmp::Reverse<i32>, Millis, String) {
    (core::cmp::Reverse(pod.priority), pod.since, uid.into())
}
