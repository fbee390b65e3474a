//! Events: the same thing told again is counted in the event that is there, not written anew; chatter is cut off.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
};

use coracle_api::{Resource, Status, time};
use serde_json::json;

use super::{
    CallAction, ControllerCall,
    ask::{About, Ask, Note, Tone},
    limits::{
        EVENT_MESSAGE_BYTES_MAX, EVENT_REFILL_MS, EVENTS_PER_OBJECT_BURST, EVENTS_REMEMBERED_MAX,
        EVENTS_UNDER_WAY_MAX, EVENTS_WAITING_MAX,
    },
};
use crate::{Millis, call::PatchType};

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Same {
    resource: Resource,
    namespace: String,
    name: String,
    uid: String,
    tone: Tone,
    reason: &'static str,
    message: String,
}

/// An event that was told.
#[derive(Debug)]
struct Told {
    about: About,
    /// Name of the Event object; a new one for each try to create it.
    event: String,
    /// The Event object is there.
    written: bool,
    /// A call about it is under way.
    under_way: bool,
    /// Something about it is not written yet.
    stale: bool,
    count: u32,
    first: Millis,
    last: Millis,
}

/// How many events about one object may come.
#[derive(Debug)]
struct Allowance {
    left: u32,
    since: Millis,
}

/// Writes one controller's events.
#[derive(Debug)]
pub(crate) struct Recorder {
    component: &'static str,
    told: BTreeMap<Same, Told>,
    waiting: VecDeque<Same>,
    under_way: usize,
    allowances: BTreeMap<(Resource, String, String), Allowance>,
    sequence: u64,
}

impl Recorder {
    /// `component` is the events' `source.component` (`deployment-controller`).
    pub(crate) fn new(component: &'static str) -> Self {
        // Two controllers that tell of one object in one millisecond must not choose one name: begin apart.
        let salt = component.bytes().fold(0u64, |salt, byte| salt * 31 % 999_983 + u64::from(byte));
        Self {
            component,
            told: BTreeMap::new(),
            waiting: VecDeque::new(),
            under_way: 0,
            allowances: BTreeMap::new(),
            sequence: salt,
        }
    }

    /// Tells an event.
    pub(crate) fn tell(&mut self, now: Millis, note: Note) {
        if self.waiting.len() >= EVENTS_WAITING_MAX || !self.allow(now, &note.about) {
            return;
        }
        let Note { about, tone, reason, mut message } = note;
        let mut end = message.len().min(EVENT_MESSAGE_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        let (resource, uid) = (about.resource, about.uid.clone());
        let (namespace, name) = (about.namespace.clone(), about.name.clone());
        let same = Same { resource, namespace, name, uid, tone, reason, message };
        if !self.told.contains_key(&same) && self.told.len() >= EVENTS_REMEMBERED_MAX {
            self.forget_oldest();
        }
        let told = self.told.entry(same.clone()).or_insert_with(|| Told {
            about,
            event: String::new(),
            written: false,
            under_way: false,
            stale: false,
            count: 0,
            first: now,
            last: now,
        });
        told.count = told.count.saturating_add(1);
        told.last = now;
        if !told.stale {
            told.stale = true;
            if !told.under_way {
                self.waiting.push_back(same);
            }
        }
    }

    /// Whether [`Self::next`] has something to ask for.
    pub(crate) fn has_next(&self) -> bool {
        !self.waiting.is_empty() && self.under_way < EVENTS_UNDER_WAY_MAX
    }

    /// The next call, with what it is about.
    pub(crate) fn next(&mut self) -> Option<(Same, Ask)> {
        if self.under_way >= EVENTS_UNDER_WAY_MAX {
            return None;
        }
        let same = self.waiting.pop_front()?;
        let told = self.told.get_mut(&same)?;
        told.stale = false;
        told.under_way = true;
        self.under_way += 1;
        let last = time::rfc3339(told.last.0);
        let namespace =
            if told.about.namespace.is_empty() { "default" } else { &told.about.namespace };
        if told.written {
            let patch = json!({"count": told.count, "lastTimestamp": last});
            let ask = Ask {
                action: CallAction::Patch(PatchType::Merge, patch),
                resource: Resource::EVENTS,
                namespace: namespace.into(),
                name: told.event.clone(),
                subresource: "",
                then: None,
                otherwise: None,
            };
            return Some((same, ask));
        }
        self.sequence = (self.sequence + 1) % 1_000_000;
        let nanoseconds = told.first.0.saturating_mul(1_000_000).saturating_add(self.sequence);
        told.event = format!("{}.{nanoseconds:x}", told.about.name);
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": told.event, "namespace": namespace},
            "involvedObject": told.about.reference(),
            "reason": same.reason,
            "message": same.message,
            "source": {"component": self.component},
            "firstTimestamp": time::rfc3339(told.first.0),
            "lastTimestamp": last,
            "count": told.count,
            "type": match same.tone { Tone::Normal => "Normal", Tone::Warning => "Warning" },
            "eventTime": null,
            "reportingComponent": self.component,
            "reportingInstance": "",
        });
        let ask = Ask::create(Resource::EVENTS, namespace, event);
        Some((same, ask))
    }

    /// A call of [`Self::next`] ended.
    pub(crate) fn done(&mut self, same: &Same, call: &ControllerCall, result: Result<(), &Status>) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(told) = self.told.get_mut(same) else { return };
        told.under_way = false;
        match (&call.action, result) {
            (_, Ok(())) => told.written = true,
            // It is gone (events are kept for an hour): begin anew.
            (CallAction::Patch(..), Err(status)) if status.reason == "NotFound" => {
                told.written = false;
                told.count = 1;
                told.first = told.last;
                told.stale = true;
            }
            // The name is taken: the next try has another.
            (CallAction::Create(_), Err(status)) if status.reason == "AlreadyExists" => {
                told.stale = true;
            }
            // Best effort: what is refused (a namespace that ends) is not tried again.
            (_, Err(_)) => {
                self.told.remove(same);
                return;
            }
        }
        if told.stale {
            self.waiting.push_back(same.clone());
        }
    }

    fn allow(&mut self, now: Millis, about: &About) -> bool {
        let key = (about.resource, about.namespace.clone(), about.name.clone());
        if !self.allowances.contains_key(&key) && self.allowances.len() >= EVENTS_REMEMBERED_MAX {
            let oldest =
                self.allowances.iter().min_by_key(|(_, a)| a.since).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                self.allowances.remove(&oldest);
            }
        }
        let allowance = self
            .allowances
            .entry(key)
            .or_insert(Allowance { left: EVENTS_PER_OBJECT_BURST, since: now });
        let refills = now.0.saturating_sub(allowance.since.0) / EVENT_REFILL_MS;
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(u32::MAX);
            allowance.left = allowance.left.saturating_add(refills).min(EVENTS_PER_OBJECT_BURST);
            allowance.since = now;
        }
        let allowed = allowance.left > 0;
        allowance.left = allowance.left.saturating_sub(1);
        allowed
    }

    fn forget_oldest(&mut self) {
        let idle = self.told.iter().filter(|(_, told)| !told.under_way && !told.stale);
        let oldest = idle.min_by_key(|(_, told)| told.last).map(|(same, _)| same.clone());
        if let Some(oldest) = oldest {
            self.told.remove(&oldest);
        }
    }
}
