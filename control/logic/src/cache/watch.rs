//! Open watches: cursors into the ring. Nothing is queued and nothing is copied for a watcher (W1-W6).

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec,
    vec::Vec,
};

use coracle_api::{Object, Resource};

use super::{
    Change,
    encode::{EventType, Pieces, bookmark},
    ring::{Ring, Slot},
};
use crate::{
    Millis,
    canary::{Canary, Switch},
    limits::{BOOKMARK_INTERVAL_MS, WATCH_PULL_BYTES, WATCH_PULL_EVENTS, WATCHES_MAX},
    plane::{RequestId, WatchId, WatchPoll},
};

/// A canary skips what comes after so many events of one pull.
const SKIPPED_AT: usize = 3;

/// Whether an object is selected by its labels and fields.
pub type Selects = Arc<dyn Fn(&Object) -> bool + Send + Sync>;

/// Which objects a list or watch is about.
#[derive(Clone, Default)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this name (`metadata.name` selectors, and watches of a single object).
    pub name: Option<String>,
    /// Label and field selectors; `None`: all.
    pub matches: Option<Selects>,
}

impl Filter {
    /// Whether this version is in the selection.
    pub fn selects(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|want| *want == object.meta.namespace)
            && self.name.as_ref().is_none_or(|want| *want == object.meta.name)
            && self.matches.as_ref().is_none_or(|matches| matches(object))
    }
}

/// Writes one object as the watcher asked for it (another version, a Table); the bytes it gets are the object's, the time is
/// that of the change (`None`: it is one of the initial objects).
pub type Render = Box<dyn FnMut(Option<Millis>, &Object, &[u8]) -> Arc<[u8]> + Send>;

/// What a watch is to be.
pub struct WatchSpec {
    /// Whose answer it is.
    pub request: RequestId,
    /// Of what.
    pub resource: Resource,
    /// Which of them.
    pub filter: Filter,
    /// `apiVersion` and `kind` that bookmarks carry.
    pub type_meta: (String, String),
    /// Another form than the stored one.
    pub render: Option<Render>,
    /// What exists now, told first as ADDED.
    pub initial: Vec<Arc<Object>>,
    /// Say when the initial objects are all told (watch-list).
    pub initial_end: bool,
    /// Everything up to here is known to the watcher (through `initial` or before).
    pub after: u64,
    /// A bookmark about every minute.
    pub bookmarks: bool,
    /// When it ends.
    pub until: Millis,
}

struct Watch {
    spec: WatchSpec,
    /// Told up to here. While `waiting` it stands for the newest revision: nothing since concerned this watch.
    cursor: u64,
    waiting: bool,
    bookmark_due: Millis,
    /// A bookmark is to be sent with the next pull.
    bookmark_now: bool,
    /// End it with the next pull, with this Status if there is one.
    ending: Option<Option<Arc<[u8]>>>,
}

/// All open watches.
#[derive(Default)]
pub struct Watches {
    open: BTreeMap<WatchId, Watch>,
    by_resource: BTreeMap<Resource, BTreeSet<WatchId>>,
    by_request: BTreeMap<RequestId, WatchId>,
    next: u64,
    pieces: Pieces,
    canary: Switch,
}

impl core::fmt::Debug for Watches {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Watches({})", self.open.len())
    }
}

/// No more watches can be opened.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TooManyWatches;

impl Watches {
    /// None is open.
    pub fn new(canary: Switch) -> Self {
        Self { canary, ..Self::default() }
    }

    /// Opens one. It can be pulled at once; [`WatchPoll::Wait`] makes it wait for its next change.
    ///
    /// # Errors
    /// [`WATCHES_MAX`] are open.
    pub fn open(&mut self, now: Millis, mut spec: WatchSpec) -> Result<WatchId, TooManyWatches> {
        if self.open.len() >= WATCHES_MAX {
            return Err(TooManyWatches);
        }
        self.next += 1;
        let id = WatchId(self.next);
        self.by_resource.entry(spec.resource).or_default().insert(id);
        self.by_request.insert(spec.request, id);
        // Pulled from the back.
        spec.initial.reverse();
        let watch = Watch {
            cursor: spec.after,
            waiting: false,
            bookmark_due: next_bookmark(now),
            bookmark_now: false,
            ending: None,
            spec,
        };
        self.open.insert(id, watch);
        Ok(id)
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes the watch of a request whose connection is gone.
    pub fn gone(&mut self, request: RequestId) -> bool {
        let id = self.by_request.get(&request).copied();
        if let Some(id) = id {
            self.forget(id);
        }
        id.is_some()
    }

    fn forget(&mut self, id: WatchId) {
        if let Some(watch) = self.open.remove(&id) {
            self.by_request.remove(&watch.spec.request);
            if let Some(ids) = self.by_resource.get_mut(&watch.spec.resource) {
                ids.remove(&id);
            }
        }
    }

    /// Wakes the watches that a change concerns. Called once for each change, before or after it is in the ring.
    pub fn published(&mut self, change: &Change, woken: &mut Vec<WatchId>) {
        for id in self.by_resource.get(&change.resource).into_iter().flatten() {
            if let Some(watch) = self.open.get_mut(id)
                && watch.waiting
                && seen_as(&watch.spec.filter, change).is_some()
            {
                // Nothing between the old cursor and this change concerned it, or it would not be waiting.
                watch.cursor = change.revision - 1;
                watch.waiting = false;
                woken.push(*id);
            }
        }
    }

    /// Ends every watch, with this Status as its last event.
    pub fn end(&mut self, status: &Arc<[u8]>, woken: &mut Vec<WatchId>) {
        for (id, watch) in &mut self.open {
            watch.ending = Some(Some(status.clone()));
            woken.push(*id);
        }
    }

    /// Sends due bookmarks and ends what is over. Gives when to look again.
    pub fn tick(&mut self, now: Millis, revision: u64, woken: &mut Vec<WatchId>) -> Option<Millis> {
        let mut next: Option<Millis> = None;
        for (id, watch) in &mut self.open {
            if watch.ending.is_some() {
                continue;
            }
            if watch.spec.until <= now {
                watch.ending = Some(None);
                woken.push(*id);
                continue;
            }
            let mut due = watch.spec.until;
            if watch.spec.bookmarks {
                if watch.bookmark_due <= now {
                    watch.bookmark_due = next_bookmark(now);
                    if watch.waiting || self.canary.sings(Canary::MarksAhead) {
                        // It has been told everything, so it stands at the newest revision.
                        watch.cursor = revision;
                        watch.bookmark_now = true;
                        watch.waiting = false;
                        woken.push(*id);
                    }
                }
                due = due.min(watch.bookmark_due);
            }
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        next
    }

    /// Appends the next events of a watch, a bounded amount.
    ///
    /// `expired` is the Status of a watch that fell out of the ring.
    pub(crate) fn pull(
        &mut self,
        id: WatchId,
        ring: &Ring,
        revision: u64,
        expired: impl FnOnce() -> Arc<[u8]>,
        out: &mut Vec<Arc<[u8]>>,
    ) -> WatchPoll {
        let Some(watch) = self.open.get_mut(&id) else { return WatchPoll::Closed };
        let mut budget = Budget { events: WATCH_PULL_EVENTS, bytes: WATCH_PULL_BYTES };
        if watch.tell_initial(&self.pieces, &mut budget, out) == WatchPoll::More {
            return WatchPoll::More;
        }
        if watch.ending.is_none() && !watch.waiting {
            if !ring.covers(watch.cursor) && !self.canary.sings(Canary::ResumesOutside) {
                watch.ending = Some(Some(expired()));
            } else if watch.tell_changes(self.canary, &self.pieces, ring, &mut budget, out)
                == WatchPoll::More
            {
                return WatchPoll::More;
            } else {
                watch.cursor = revision.max(watch.cursor);
                watch.waiting = true;
            }
        }
        if watch.bookmark_now {
            watch.bookmark_now = false;
            watch.tell_bookmark(false, &self.pieces, out);
        }
        if let Some(status) = watch.ending.take() {
            if let Some(status) = status {
                self.pieces.event(EventType::Error, status, out);
            }
            self.forget(id);
            return WatchPoll::Closed;
        }
        WatchPoll::Wait
    }
}

/// What is told of, and when it happened (`None`: it was there already).
struct Told<'a> {
    kind: EventType,
    at: Option<Millis>,
    object: &'a Object,
}

struct Budget {
    events: usize,
    bytes: usize,
}

impl Budget {
    fn spend(&mut self, bytes: usize) {
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_spent(&self) -> bool {
        self.events == 0 || self.bytes == 0
    }
}

impl Watch {
    fn tell_initial(
        &mut self,
        pieces: &Pieces,
        budget: &mut Budget,
        out: &mut Vec<Arc<[u8]>>,
    ) -> WatchPoll {
        while let Some(object) = self.spec.initial.pop() {
            let told = Told { kind: EventType::Added, at: None, object: &object };
            self.tell(told, object.bytes.clone(), pieces, budget, out);
            if budget.is_spent() {
                return WatchPoll::More;
            }
        }
        self.spec.initial = vec![];
        if core::mem::take(&mut self.spec.initial_end) {
            self.tell_bookmark(true, pieces, out);
        }
        WatchPoll::Wait
    }

    fn tell_changes(
        &mut self,
        canary: Switch,
        pieces: &Pieces,
        ring: &Ring,
        budget: &mut Budget,
        out: &mut Vec<Arc<[u8]>>,
    ) -> WatchPoll {
        for slot in ring.after(self.cursor) {
            let is_hidden = canary.sings(Canary::SkipsForSlow)
                && budget.events + SKIPPED_AT == WATCH_PULL_EVENTS
                || canary.sings(Canary::HidesLeaving)
                    && slot.change.new.as_ref().is_some_and(|new| !self.spec.filter.selects(new));
            if is_hidden {
                budget.spend(0);
            } else if slot.change.resource == self.spec.resource
                && let Some((kind, object)) = seen_as(&self.spec.filter, &slot.change)
            {
                let bytes = bytes_for(kind, object, slot);
                let object = object.clone();
                let told = Told { kind, at: Some(slot.at()), object: &object };
                self.tell(told, bytes, pieces, budget, out);
            }
            self.cursor = slot.change.revision;
            if budget.is_spent() {
                return WatchPoll::More;
            }
        }
        WatchPoll::Wait
    }

    fn tell(
        &mut self,
        told: Told<'_>,
        bytes: Arc<[u8]>,
        pieces: &Pieces,
        budget: &mut Budget,
        out: &mut Vec<Arc<[u8]>>,
    ) {
        let bytes = match &mut self.spec.render {
            Some(render) => render(told.at, told.object, &bytes),
            None => bytes,
        };
        budget.spend(bytes.len());
        pieces.event(told.kind, bytes, out);
    }

    fn tell_bookmark(&self, initial_end: bool, pieces: &Pieces, out: &mut Vec<Arc<[u8]>>) {
        let (api_version, kind) = &self.spec.type_meta;
        let object = bookmark(api_version, kind, self.cursor, initial_end);
        pieces.event(EventType::Bookmark, object, out);
    }
}

/// How a change looks through a filter: entering is ADDED, leaving is DELETED (W5), neither is nothing.
fn seen_as<'a>(filter: &Filter, change: &'a Change) -> Option<(EventType, &'a Arc<Object>)> {
    let old = change.old.as_ref().filter(|old| filter.selects(old));
    let new = change.new.as_ref().filter(|new| filter.selects(new));
    match (old, new) {
        (None, Some(new)) => Some((EventType::Added, new)),
        (Some(_), Some(new)) => Some((EventType::Modified, new)),
        (Some(old), None) => Some((EventType::Deleted, old)),
        (None, None) => None,
    }
}

fn bytes_for(kind: EventType, object: &Arc<Object>, slot: &Slot) -> Arc<[u8]> {
    if kind == EventType::Deleted { slot.gone(object) } else { object.bytes.clone() }
}

/// The next full minute (of the bound's length).
fn next_bookmark(now: Millis) -> Millis {
    Millis((now.0 / BOOKMARK_INTERVAL_MS).saturating_add(1).saturating_mul(BOOKMARK_INTERVAL_MS))
}
