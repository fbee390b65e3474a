//! Events are kept for an hour and up to a number; the oldest goes first.

use alloc::collections::VecDeque;

use coracle_api::Resource;

use super::ControlPlane;
use crate::{
    Millis,
    cache::Change,
    limits::{EVENT_TTL_MS, EVENTS_MAX},
    registry::{Registry, sequencer::Key},
};

/// Which Event version is to go when. A version that was replaced is skipped.
#[derive(Debug, Default)]
pub(super) struct Retention {
    queue: VecDeque<(Millis, Key, u64)>,
    kept: usize,
}

impl Retention {
    pub(super) fn changed(&mut self, now: Millis, change: &Change) {
        if change.resource != Resource::EVENTS {
            return;
        }
        match (&change.old, &change.new) {
            (None, Some(_)) => self.kept += 1,
            (Some(_), None) => self.kept = self.kept.saturating_sub(1),
            _ => {}
        }
        if let Some(new) = &change.new {
            let due = Millis(now.0.saturating_add(EVENT_TTL_MS));
            self.queue.push_back((due, Key::of(new), new.revision));
        }
    }

    pub(super) fn next_due(&self) -> Option<Millis> {
        self.queue.front().map(|(due, ..)| *due)
    }

    fn take_due(&mut self, now: Millis, leaving: usize) -> Option<(Key, u64)> {
        let (due, ..) = self.queue.front()?;
        let full = self.kept.saturating_sub(leaving) > EVENTS_MAX;
        if *due > now && !full && self.queue.len() <= 2 * EVENTS_MAX {
            return None;
        }
        self.queue.pop_front().map(|(_, key, revision)| (key, revision))
    }
}

impl ControlPlane {
    /// Removes Events that are old or too many.
    pub(super) fn expire_events(&mut self, now: Millis) {
        let mut leaving = 0;
        while let Some((key, revision)) = self.retention.take_due(now, leaving) {
            let held = self.cache.get(key.resource, &key.namespace, &key.name).cloned();
            let Some(event) = held.filter(|event| event.revision == revision) else { continue };
            if self.busy.contains_key(&key) {
                continue;
            }
            let registry = Registry {
                cache: &self.cache,
                authorizer: &self.authorizer,
                now,
                rng: &mut self.rng,
                canary: self.config.canary,
                warnings: alloc::vec![],
            };
            let admitted = registry.admit_removal(&event);
            leaving += 1;
            self.busy.insert(key, VecDeque::new());
            // Nobody waits for it: its ticket has no flight.
            self.next_ticket += 1;
            self.sequencer.submit(admitted, self.next_ticket);
        }
    }
}
