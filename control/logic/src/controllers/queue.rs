//! The work queue: each key at most once, later ones by time, failures with exponential back-off.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use super::limits::{BACK_OFF_MS_MAX, BACK_OFF_MS_MIN};
use crate::Millis;

/// Keys to look at. Never holds more than the keys that its owner knows objects (or just gone objects) for.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    /// To be looked at now, first in first out.
    ready: VecDeque<K>,
    /// What is in `ready`.
    queued: BTreeSet<K>,
    /// To be looked at then; the earliest wish for a key counts.
    due: BTreeMap<K, Millis>,
    /// `due` by time.
    by_time: BTreeSet<(Millis, K)>,
    /// Failures in a row.
    failures: BTreeMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            due: BTreeMap::new(),
            by_time: BTreeSet::new(),
            failures: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Look at this key soon.
    pub(crate) fn add(&mut self, key: K) {
        if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Look at these keys soon.
    pub(crate) fn extend(&mut self, keys: impl IntoIterator<Item = K>) {
        keys.into_iter().for_each(|key| self.add(key));
    }

    /// Look at this key then, if nothing wants it earlier.
    pub(crate) fn add_at(&mut self, key: K, at: Millis) {
        match self.due.get(&key).copied() {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                self.by_time.remove(&(later, key.clone()));
            }
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    /// Look at this key again after its back-off.
    pub(crate) fn add_failed(&mut self, key: K, now: Millis) {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay_ms = back_off_ms(*failures);
        *failures = failures.saturating_add(1);
        self.add_at(key, Millis(now.0.saturating_add(delay_ms)));
    }

    /// The key's last look went well.
    pub(crate) fn forget(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// The next key to look at.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<K> {
        while let Some((at, _)) = self.by_time.first() {
            if *at > now {
                break;
            }
            let Some((_, key)) = self.by_time.pop_first() else { break };
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        Some(key)
    }

    /// When there is a key to look at; `Millis(0)`: now.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        if self.ready.is_empty() {
            self.by_time.first().map(|(at, _)| *at)
        } else {
            Some(Millis(0))
        }
    }
}

/// Delay after this many earlier failures in a row.
fn back_off_ms(failures: u32) -> u64 {
    1u64.checked_shl(failures)
        .and_then(|factor| BACK_OFF_MS_MIN.checked_mul(factor))
        .map_or(BACK_OFF_MS_MAX, |ms| ms.min(BACK_OFF_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::{Queue, back_off_ms};
    use crate::Millis;

    #[test]
    fn a_key_waits_once_and_first_in_is_first_out() {
        let mut queue = Queue::default();
        for key in ["b", "a", "b"] {
            queue.add(key);
        }
        assert_eq!(queue.next_due(), Some(Millis(0)));
        assert_eq!(queue.pop(Millis(1)), Some("b"));
        assert_eq!(queue.pop(Millis(1)), Some("a"));
        assert_eq!(queue.pop(Millis(1)), None);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn the_earliest_wish_counts() {
        let mut queue = Queue::default();
        queue.add_at("a", Millis(30));
        queue.add_at("a", Millis(10));
        queue.add_at("a", Millis(20));
        assert_eq!(queue.next_due(), Some(Millis(10)));
        assert_eq!(queue.pop(Millis(9)), None);
        assert_eq!(queue.pop(Millis(10)), Some("a"));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn failures_double_up_to_the_bound_and_are_forgotten() {
        let want = [(0, 5), (1, 10), (2, 20), (10, 5120), (17, 655_360), (18, 1_000_000)];
        for (failures, ms) in want {
            assert_eq!(back_off_ms(failures), ms, "{failures}");
        }
        assert_eq!(back_off_ms(63), 1_000_000);
        assert_eq!(back_off_ms(u32::MAX), 1_000_000);
        let mut queue = Queue::default();
        queue.add_failed("a", Millis(100));
        assert_eq!(queue.next_due(), Some(Millis(105)));
        assert_eq!(queue.pop(Millis(105)), Some("a"));
        queue.add_failed("a", Millis(200));
        assert_eq!(queue.next_due(), Some(Millis(210)));
        assert_eq!(queue.pop(Millis(210)), Some("a"));
        queue.forget(&"a");
        queue.add_failed("a", Millis(300));
        assert_eq!(queue.next_due(), Some(Millis(305)));
    }
}
