//! The last changes in order, bounded in number, bytes and age: what watches read and resume from (W1-W4).

use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    sync::Arc,
};
use core::cell::OnceCell;

use coracle_api::{Object, Resource};

use super::{Change, encode};
use crate::{
    Millis,
    limits::{
        RING_AGE_MS_MAX, RING_BYTES_MAX, RING_CHANGE_OVERHEAD_BYTES, RING_CHANGES_MAX,
        RING_LATE_MS_MAX, RING_VERSION_OVERHEAD_BYTES,
    },
};

/// One change in the ring.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) change: Change,
    at: Millis,
    bytes: usize,
    gone: OnceCell<Arc<[u8]>>,
}

impl Slot {
    /// When it was published.
    pub(crate) fn at(&self) -> Millis {
        self.at
    }

    /// The version before, under this change's revision: what a watcher gets when the object is gone for it.
    pub(crate) fn gone(&self, old: &Object) -> Arc<[u8]> {
        self.gone.get_or_init(|| encode::with_revision(old, self.change.revision)).clone()
    }
}

/// By (namespace, name): the version then, `None` where there was none.
pub(crate) type Differences = BTreeMap<(String, String), Option<Arc<Object>>>;

/// The changes after `dropped`, in order of their revisions.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: VecDeque<Slot>,
    bytes: usize,
    dropped: u64,
}

impl Ring {
    /// An empty ring: whatever happened up to `start` is not in it.
    pub(crate) fn new(start: u64) -> Self {
        Self { slots: VecDeque::new(), bytes: 0, dropped: start }
    }

    /// Everything after this revision can be told; nothing at or before it is missing to one who has seen it.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether one who has seen everything up to `revision` can be told all that came after.
    pub(crate) fn covers(&self, revision: u64) -> bool {
        revision >= self.dropped
    }

    /// Adds the newest change; the oldest fall off where a bound is reached.
    pub(crate) fn push(&mut self, now: Millis, change: Change) {
        debug_assert!(
            self.slots.back().is_none_or(|last| last.change.revision < change.revision),
            "W1: revisions rise"
        );
        let old = change.old.as_ref();
        let old = old.map_or(0, |old| old.bytes.len() + RING_VERSION_OVERHEAD_BYTES);
        let bytes = old + RING_CHANGE_OVERHEAD_BYTES;
        // Room is made first: one slot more than the bound would double the queue.
        while self.slots.len() >= RING_CHANGES_MAX
            || (self.bytes + bytes > RING_BYTES_MAX && !self.slots.is_empty())
        {
            self.drop_oldest();
        }
        self.bytes += bytes;
        self.slots.push_back(Slot { change, at: now, bytes, gone: OnceCell::new() });
    }

    /// Drops what is too old to be worth its memory. Gives when to look again.
    pub(crate) fn expire(&mut self, now: Millis) -> Option<Millis> {
        while let Some(oldest) = self.slots.front() {
            let due = Millis(oldest.at.0.saturating_add(RING_AGE_MS_MAX));
            if due > now {
                return Some(Millis(due.0.saturating_add(RING_LATE_MS_MAX)));
            }
            self.drop_oldest();
        }
        self.slots.shrink_to_fit();
        None
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.bytes -= slot.bytes;
            self.dropped = slot.change.revision;
        }
    }

    /// The changes after `revision`, oldest first.
    pub(crate) fn after(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Slot> {
        let start = self.slots.partition_point(|slot| slot.change.revision <= revision);
        self.slots.range(start..)
    }

    /// What was different at `revision` of a resource, by (namespace, name): the version then, `None` where there
    /// was none. Laid over the cache it gives the state at that revision. `None`: it is too long ago.
    pub(crate) fn differences_at(&self, resource: Resource, revision: u64) -> Option<Differences> {
        if !self.covers(revision) {
            return None;
        }
        let mut then = BTreeMap::new();
        for slot in self.after(revision).rev() {
            if slot.change.resource == resource
                && let Some(subject) = slot.change.subject()
            {
                let key = (subject.meta.namespace.clone(), subject.meta.name.clone());
                then.insert(key, slot.change.old.clone());
            }
        }
        Some(then)
    }
}
