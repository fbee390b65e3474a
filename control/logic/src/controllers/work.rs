//! The loop that all controllers share: a queue of keys, one look at a key at a time, calls under way, events.
//!
//! While a key's calls are unanswered the key is not looked at again, and an answer comes only when the cache shows
//! what was written. So a look never counts too little of what the controller itself made or removed, however slow the
//! answers are: what upstream needs expectations for.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};

use coracle_api::{Object, Status};

use super::{
    CallAction, Controller, ControllerCall,
    ask::{Ask, Name, Note, Plan},
    limits::{CALLS_PER_LOOK_MAX, CALLS_UNDER_WAY_MAX, EVENTS_UNDER_WAY_MAX, KEYS_PER_STEP_MAX},
    queue::Queue,
    recorder::{Recorder, Same},
};
use crate::{
    Millis, Rng,
    cache::{Cache, Change},
};

/// What tells one controller from another.
pub(crate) trait Reconcile: Send {
    /// What is looked at.
    type Key: Ord + Clone + core::fmt::Debug + Send;

    /// Short name for logs.
    const NAME: &'static str;
    /// Who makes the calls.
    const USER: &'static str;
    /// `source.component` of its events.
    const COMPONENT: &'static str;

    /// Notes which keys a change concerns.
    fn changed(&mut self, now: Millis, change: &Change, queue: &mut Queue<Self::Key>);

    /// Looks at one key and decides. Its earlier calls are all answered and in the cache.
    fn look(&mut self, now: Millis, key: &Self::Key, cache: &Cache, rng: &mut Rng, plan: &mut Plan);

    /// One of the key's calls was answered. True: that is well; false: look again after the back-off.
    fn answered(
        &mut self,
        _now: Millis,
        _key: &Self::Key,
        call: &ControllerCall,
        result: Result<&Arc<Object>, &Status>,
    ) -> bool {
        result.is_ok() || is_gone_already(call, result)
    }
}

/// A delete found nothing to delete: as good as done.
pub(crate) fn is_gone_already(
    call: &ControllerCall,
    result: Result<&Arc<Object>, &Status>,
) -> bool {
    matches!(call.action, CallAction::Delete { .. })
        && result.is_err_and(|status| status.reason == "NotFound")
}

/// The namespace takes nothing new because it ends: no use in trying again.
pub(crate) fn is_namespace_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
        || (status.code == 403 && status.message.contains("because it is being terminated"))
}

/// What was to be made is there, whoever made it, or can no longer be made because its namespace ends.
pub(crate) fn is_made(result: Result<&Arc<Object>, &Status>) -> bool {
    result
        .err()
        .is_none_or(|status| status.reason == "AlreadyExists" || is_namespace_ending(status))
}

/// Calls of a key that are under way.
#[derive(Debug, Default)]
struct Busy {
    unanswered: usize,
    failed: bool,
    /// It changed meanwhile.
    changed: bool,
    /// The look wished for another one.
    again: bool,
}

/// Who waits for a call.
#[derive(Debug)]
enum Waits<K> {
    Key { key: K, then: Option<Note>, otherwise: Option<Note> },
    Event(Same),
}

/// A controller: [`Reconcile`] in the shared loop.
pub(crate) struct Work<R: Reconcile> {
    reconcile: R,
    queue: Queue<R::Key>,
    busy: BTreeMap<R::Key, Busy>,
    under_way: BTreeMap<u64, Waits<R::Key>>,
    last_call: u64,
    recorder: Recorder,
}

impl<R: Reconcile + 'static> Work<R> {
    /// Puts it into the loop.
    pub(crate) fn boxed(reconcile: R) -> Box<dyn Controller> {
        Box::new(Self::new(reconcile))
    }
}

impl<R: Reconcile> Work<R> {
    pub(crate) fn new(reconcile: R) -> Self {
        Self {
            reconcile,
            queue: Queue::default(),
            busy: BTreeMap::new(),
            under_way: BTreeMap::new(),
            last_call: 0,
            recorder: Recorder::new(R::COMPONENT),
        }
    }

    fn has_room(&self) -> bool {
        self.under_way.len() + CALLS_PER_LOOK_MAX + EVENTS_UNDER_WAY_MAX <= CALLS_UNDER_WAY_MAX
    }

    fn call(&mut self, ask: Ask, waits: Waits<R::Key>, out: &mut Vec<ControllerCall>) {
        self.last_call += 1;
        self.under_way.insert(self.last_call, waits);
        let Ask { action, resource, namespace, name, subresource, .. } = ask;
        let (id, user) = (self.last_call, R::USER);
        out.push(ControllerCall { id, user, action, resource, namespace, name, subresource });
    }

    fn carry_out(&mut self, now: Millis, key: R::Key, plan: Plan, out: &mut Vec<ControllerCall>) {
        for note in plan.notes {
            self.recorder.tell(now, note);
        }
        if let Some(at) = plan.again_at {
            self.queue.add_at(key.clone(), at);
        }
        let (failed, again) = (plan.failed, plan.again);
        let busy = Busy { unanswered: plan.calls.len(), failed, changed: false, again };
        if plan.calls.is_empty() {
            self.end(now, key, &busy);
            return;
        }
        self.busy.insert(key.clone(), busy);
        for mut ask in plan.calls {
            let (then, otherwise) = (ask.then.take(), ask.otherwise.take());
            self.call(ask, Waits::Key { key: key.clone(), then, otherwise }, out);
        }
    }

    /// All of a look's calls are answered. What was refused waits for its back-off, whatever the look wished: without a
    /// change the next answer would be the same.
    fn end(&mut self, now: Millis, key: R::Key, busy: &Busy) {
        if busy.failed {
            self.queue.add_failed(key.clone(), now);
        } else {
            self.queue.forget(&key);
        }
        if busy.changed || (busy.again && !busy.failed) {
            self.queue.add(key);
        }
    }
}

impl<R: Reconcile> Controller for Work<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn changed(&mut self, now: Millis, change: &Change) {
        self.reconcile.changed(now, change, &mut self.queue);
    }

    fn step(&mut self, now: Millis, cache: &Cache, rng: &mut Rng, out: &mut Vec<ControllerCall>) {
        for _ in 0..KEYS_PER_STEP_MAX {
            if !self.has_room() {
                break;
            }
            let Some(key) = self.queue.pop(now) else { break };
            if let Some(busy) = self.busy.get_mut(&key) {
                busy.changed = true;
                continue;
            }
            let mut plan = Plan::default();
            self.reconcile.look(now, &key, cache, rng, &mut plan);
            self.carry_out(now, key, plan, out);
        }
        while let Some((same, ask)) = self.recorder.next() {
            self.call(ask, Waits::Event(same), out);
        }
    }

    fn done(&mut self, now: Millis, call: &ControllerCall, result: Result<&Arc<Object>, &Status>) {
        match self.under_way.remove(&call.id) {
            None => {}
            Some(Waits::Event(same)) => self.recorder.done(&same, call, result.map(|_| ())),
            Some(Waits::Key { key, then, otherwise }) => {
                let well = self.reconcile.answered(now, &key, call, result);
                let (note, mark, text) = match result {
                    Ok(object) => (then, "{name}", &object.meta.name),
                    Err(status) => (otherwise, "{error}", &status.message),
                };
                if let Some(mut note) = note {
                    note.message = note.message.replace(mark, text);
                    self.recorder.tell(now, note);
                }
                let Some(busy) = self.busy.get_mut(&key) else { return };
                busy.unanswered = busy.unanswered.saturating_sub(1);
                busy.failed |= !well;
                if busy.unanswered == 0 {
                    let busy = self.busy.remove(&key).unwrap_or_default();
                    self.end(now, key, &busy);
                }
            }
        }
    }

    fn next_due(&self) -> Option<Millis> {
        if self.recorder.has_next() {
            return Some(Millis(0));
        }
        // Without room nothing can be begun; an answer will make room, and the plane steps after answers.
        if self.has_room() { self.queue.next_due() } else { None }
    }
}

/// Which names of one resource there are, by namespace: for changes that concern all of them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    names: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    /// Follows the resource's own changes.
    pub(crate) fn follow(&mut self, change: &Change) {
        if let Some(new) = &change.new {
            let names = self.names.entry(new.meta.namespace.clone()).or_default();
            names.insert(new.meta.name.clone());
        } else if let Some(old) = &change.old
            && let Some(names) = self.names.get_mut(&old.meta.namespace)
        {
            names.remove(&old.meta.name);
            if names.is_empty() {
                self.names.remove(&old.meta.namespace);
            }
        }
    }

    /// All in this namespace.
    pub(crate) fn in_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = Name> + 'a {
        let names = self.names.get(namespace).into_iter().flatten();
        names.map(move |name| Name::new(namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use coracle_api::Resource;
    use serde_json::json;

    use super::*;

    /// Makes the same object again and again.
    struct Again;

    impl Reconcile for Again {
        type Key = ();
        const NAME: &'static str = "again";
        const USER: &'static str = "again";
        const COMPONENT: &'static str = "again";

        fn changed(&mut self, _now: Millis, _change: &Change, queue: &mut Queue<()>) {
            queue.add(());
        }

        fn look(&mut self, _: Millis, (): &(), _: &Cache, _: &mut Rng, plan: &mut Plan) {
            plan.call(Ask::create(Resource::CONFIG_MAPS, "default", json!({})));
            plan.again = true;
        }
    }

    #[test]
    fn what_is_refused_waits_though_another_look_is_wished() {
        let check = |changes: bool, refusal: Status, want: Option<u64>| {
            let (now, cache, mut rng) = (Millis(100), Cache::default(), Rng(1));
            let mut work = Work::new(Again);
            let mut calls = Vec::new();
            work.queue.add(());
            work.step(now, &cache, &mut rng, &mut calls);
            if changes {
                work.queue.add(());
                work.step(now, &cache, &mut rng, &mut calls);
            }
            let [call] = calls.as_slice() else { panic!("{calls:?}") };
            work.done(now, call, Err(&refusal));
            assert_eq!(work.next_due(), want.map(Millis), "{changes} {}", refusal.reason);
        };
        let forbidden = || Status::new(403, "Forbidden", "no");
        check(false, forbidden(), Some(105));
        check(true, forbidden(), Some(0));
    }
}
