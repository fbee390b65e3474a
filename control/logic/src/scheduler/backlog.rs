//! Pods that wait for a node: by priority, then in the order they came; those that found none wait until room changes,
//! with back-off. Three queues, each an ordered set: no operation looks at pods that it does not move.
//!
//! ```text
//!  add --> active --take--> Binding --remove--> (gone)
//!            ^  \--park--> unschedulable --room_changed--> backoff --back-off over--> active
//!            |                   |               ^
//!            +-- LOOK_AGAIN_MS --+               +--park-- Binding (its binding was refused: that is news)
//! ```
//!
//! With `n` pods: `add`, `remove`, `take`, `park` and each pod that `next` or `room_changed` moves cost O(log n); a pod
//! is moved by them at most twice for each time it was parked. `next_due` looks at three first elements.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
};
use core::cmp::Reverse;

use super::limits::{BACK_OFF_MS_MAX, BACK_OFF_MS_MIN, LOOK_AGAIN_MS};
use crate::Millis;

/// In which queue a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    /// In none: its binding is on the way.
    Binding,
    /// Room has changed since it found no node.
    BackOff {
        /// Not before, whatever changes.
        until: Millis,
    },
    /// It has not.
    Unschedulable {
        /// Not before, also if it does.
        until: Millis,
        /// Then in any case.
        at_last: Millis,
    },
}

#[derive(Debug)]
struct Waiting {
    uid: Arc<str>,
    namespace: String,
    name: String,
    priority: i32,
    /// Which pod this is of all that ever came.
    arrival: u64,
    attempts: u32,
    state: State,
}

/// Arrivals are unique: uids are never compared.
type Timed = (Millis, u64, Arc<str>);

/// All pods that wait, by uid.
///
/// Invariant: each pod is in the queue that its state names and in no other.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pods: BTreeMap<Arc<str>, Waiting>,
    arrivals: u64,
    active: BTreeSet<(Reverse<i32>, u64, Arc<str>)>,
    backoff: BTreeSet<Timed>,
    unschedulable: BTreeSet<Timed>,
}

impl Backlog {
    /// A pod wants a node. One that is known stays where it is, but for a new priority.
    pub(crate) fn add(&mut self, uid: &str, namespace: &str, name: &str, priority: i32) {
        if self.pods.get(uid).is_some_and(|pod| pod.priority == priority) {
            return;
        }
        self.remove(uid);
        self.arrivals += 1;
        let uid: Arc<str> = uid.into();
        self.active.insert((Reverse(priority), self.arrivals, uid.clone()));
        let pod = Waiting {
            uid: uid.clone(),
            namespace: namespace.into(),
            name: name.into(),
            priority,
            arrival: self.arrivals,
            attempts: 0,
            state: State::Active,
        };
        self.pods.insert(uid, pod);
    }

    /// It is gone, bound, or not ours.
    pub(crate) fn remove(&mut self, uid: &str) {
        // Out of its queue first.
        self.set(uid, State::Binding);
        self.pods.remove(uid);
    }

    /// Namespace and name of a waiting pod.
    pub(crate) fn name_of(&self, uid: &str) -> Option<(&str, &str)> {
        self.pods.get(uid).map(|pod| (pod.namespace.as_str(), pod.name.as_str()))
    }

    /// The pod to decide on next. It stays first until it is taken, parked or removed.
    pub(crate) fn next(&mut self, now: Millis) -> Option<String> {
        while let Some(uid) = due(&self.backoff, now).or_else(|| due(&self.unschedulable, now)) {
            self.set(&uid, State::Active);
        }
        self.active.first().map(|(_, _, uid)| String::from(&**uid))
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
        let until = after(delay_ms);
        let state = match pod.state {
            State::Binding => State::BackOff { until },
            State::Active | State::BackOff { .. } | State::Unschedulable { .. } => {
                State::Unschedulable { until, at_last: after(LOOK_AGAIN_MS) }
            }
        };
        self.set(uid, state);
    }

    /// A node came or changed, or a pod left its node: who found none may find one now.
    pub(crate) fn room_changed(&mut self) {
        while let Some((_, _, uid)) = self.unschedulable.pop_first() {
            let Some(pod) = self.pods.get_mut(&uid) else { continue };
            let State::Unschedulable { until, .. } = pod.state else { continue };
            pod.state = State::BackOff { until };
            self.backoff.insert((until, pod.arrival, uid));
        }
    }

    /// When [`Self::next`] has something, if nothing changes; `Millis(0)`: now.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        if !self.active.is_empty() {
            return Some(Millis(0));
        }
        let first = |queue: &BTreeSet<Timed>| queue.first().map(|(at, ..)| *at);
        first(&self.backoff).into_iter().chain(first(&self.unschedulable)).min()
    }

    /// From one queue to another.
    fn set(&mut self, uid: &str, state: State) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let (uid, arrival) = (&pod.uid, pod.arrival);
        let timed = |at: Millis| (at, arrival, uid.clone());
        let ranked = (Reverse(pod.priority), arrival, uid.clone());
        match pod.state {
            State::Active => self.active.remove(&ranked),
            State::Binding => false,
            State::BackOff { until } => self.backoff.remove(&timed(until)),
            State::Unschedulable { at_last, .. } => self.unschedulable.remove(&timed(at_last)),
        };
        match state {
            State::Active => self.active.insert(ranked),
            State::Binding => false,
            State::BackOff { until } => self.backoff.insert(timed(until)),
            State::Unschedulable { at_last, .. } => self.unschedulable.insert(timed(at_last)),
        };
        pod.state = state;
    }
}

fn due(queue: &BTreeSet<Timed>, now: Millis) -> Option<Arc<str>> {
    queue.first().filter(|(at, ..)| *at <= now).map(|(_, _, uid)| uid.clone())
}

#[cfg(test)]
mod tests;
