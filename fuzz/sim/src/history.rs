//! The model: every durable change that the store made, in order. Checkers hold what others saw against it.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use coracle_store::{Entry, Op, Txn};
use serde_json::Value;

use crate::wire::text;

/// Keys of pods begin so.
pub const PODS: &str = "/registry/core/pods/";

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Change {
    /// Of what.
    pub key: Arc<str>,
    /// The version before.
    pub old: Option<Arc<Value>>,
    /// The version after.
    pub new: Option<Arc<Value>>,
}

/// All changes by revision, and what is there now.
#[derive(Clone, Debug, Default)]
pub struct History {
    changes: BTreeMap<u64, Change>,
    now: BTreeMap<Arc<str>, (u64, Arc<Value>)>,
    newest: u64,
    /// Changes of pods.
    pods: u64,
    /// Where each pod uid was bound (P2).
    bound: BTreeMap<String, String>,
}

impl History {
    /// Notes a change that reached the disk.
    ///
    /// # Errors
    /// It breaks S2 or P2.
    pub fn apply(&mut self, txn: &Txn) -> Result<(), String> {
        let revision = txn.revision.0;
        if revision <= self.newest {
            return Err(format!("S2: revision {revision} was given after {}", self.newest));
        }
        self.newest = revision;
        let (key, new) = match &txn.op {
            Op::Put(key, bytes) => {
                // Sealed values are no JSON; nobody looks into them.
                (key, Some(Arc::new(serde_json::from_slice(bytes).unwrap_or(Value::Null))))
            }
            Op::Delete(key) => (key, None),
        };
        let old = match &new {
            Some(new) => self.now.insert(key.clone(), (revision, new.clone())),
            None => self.now.remove(key),
        };
        let old = old.map(|(_, old)| old);
        if key.starts_with(PODS) {
            self.pods += 1;
            new.as_ref().map_or(Ok(()), |new| self.bind(new))?;
        }
        self.changes.insert(revision, Change { key: key.clone(), old, new });
        Ok(())
    }

    fn bind(&mut self, pod: &Value) -> Result<(), String> {
        let node = text(pod, "/spec/nodeName");
        let uid = text(pod, "/metadata/uid");
        match self.bound.get(uid) {
            Some(before) if before != node => {
                Err(format!("P2: pod {uid} moved from {before} to `{node}`"))
            }
            Some(_) => Ok(()),
            None => {
                if !node.is_empty() {
                    self.bound.insert(uid.into(), node.into());
                }
                Ok(())
            }
        }
    }

    /// Holds what a reload found against what was acknowledged by the store (S1).
    ///
    /// # Errors
    /// They differ.
    pub fn same_as(&self, entries: &[Entry]) -> Result<(), String> {
        let there = entries.iter().map(|entry| (&entry.key, entry.revision.0));
        let known = self.now.iter().map(|(key, (revision, _))| (key, *revision));
        let differs = there.clone().zip(known).find(|(there, known)| there != known);
        match differs {
            Some((there, known)) => {
                Err(format!("S1: the disk holds {there:?} where {known:?} was written"))
            }
            None if there.count() != self.now.len() => {
                Err("S1: the disk holds another number of keys than were written".into())
            }
            None => Ok(()),
        }
    }

    /// How many changes there were.
    pub fn len(&self) -> u64 {
        self.changes.len() as u64
    }

    /// How many of them were of pods.
    pub fn pods(&self) -> u64 {
        self.pods
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The newest revision.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The change of this revision.
    pub fn change(&self, revision: u64) -> Option<&Change> {
        self.changes.get(&revision)
    }

    /// Changes below this prefix, after the one revision and before the other.
    pub fn between<'a>(
        &'a self,
        prefix: &'a str,
        after: u64,
        before: u64,
    ) -> impl Iterator<Item = (u64, &'a Change)> + 'a {
        let range = (after + 1)..before.max(after + 1);
        self.changes
            .range(range)
            .filter(move |(_, change)| change.key.starts_with(prefix))
            .map(|(revision, change)| (*revision, change))
    }

    /// What was there at this revision: the newest change of each key up to it.
    pub fn at(&self, prefix: &str, revision: u64) -> BTreeMap<Arc<str>, (u64, Arc<Value>)> {
        let mut there = BTreeMap::new();
        for (at, change) in self.between(prefix, 0, revision + 1) {
            match &change.new {
                Some(new) => _ = there.insert(change.key.clone(), (at, new.clone())),
                None => _ = there.remove(&change.key),
            }
        }
        there
    }

    /// What is there now below this prefix.
    pub fn now<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, u64, &'a Value)> + 'a {
        self.now
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, (revision, value))| (key, *revision, &**value))
    }

    /// The value of a key now.
    pub fn get(&self, key: &str) -> Option<(u64, &Value)> {
        self.now.get(key).map(|(revision, value)| (*revision, &**value))
    }
}
