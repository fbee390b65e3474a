//! Writes down the order of syncs, commits and answers, for the test of S1: no answer before its sync.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{Loaded, Outcome, Revision, Store, StoreError, Txn};

/// Something that happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Bytes were handed to the disk.
    Wrote,
    /// The disk said that all before is durable.
    Synced,
    /// The store returned these as done.
    Committed(Vec<Revision>),
    /// A client was told of this number.
    Answered(Revision),
}

/// The marks so far; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Mark>>>);

impl Log {
    /// Adds a mark.
    pub fn push(&self, mark: Mark) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }

    /// All marks so far.
    pub fn marks(&self) -> Vec<Mark> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first answer that came before a sync covered its write, or was never committed. `None`: S1 held.
    pub fn first_early_answer(&self) -> Option<Revision> {
        let (mut dirty, mut durable) = (false, std::collections::BTreeSet::new());
        for mark in self.marks() {
            match mark {
                Mark::Wrote => dirty = true,
                Mark::Synced => dirty = false,
                Mark::Committed(done) if !dirty => durable.extend(done),
                Mark::Committed(_) => {}
                Mark::Answered(revision) if durable.contains(&revision) => {}
                Mark::Answered(revision) => return Some(revision),
            }
        }
        None
    }
}

/// A store that marks what its inner one returns.
#[derive(Debug)]
pub struct Recording<S> {
    inner: S,
    log: Log,
}

impl<S: Store> Recording<S> {
    /// Wraps a store.
    pub fn new(inner: S, log: &Log) -> Self {
        Self { inner, log: log.clone() }
    }
}

impl<S: Store> Store for Recording<S> {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.inner.load()
    }

    fn commit(&mut self, batch: &[Txn], reserve: Revision) -> Result<Vec<Outcome>, StoreError> {
        let outcomes = self.inner.commit(batch, reserve)?;
        let done = batch.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Done);
        self.log.push(Mark::Committed(done.map(|(txn, _)| txn.revision).collect()));
        Ok(outcomes)
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        self.inner.compact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_answers_are_found() {
        let check = |marks: &[Mark], want: Option<u64>| {
            let log = Log::default();
            marks.iter().for_each(|mark| log.push(mark.clone()));
            assert_eq!(log.first_early_answer(), want.map(Revision), "{marks:?}");
        };
        let done = Mark::Committed(vec![Revision(7)]);
        let told = Mark::Answered(Revision(7));
        check(&[], None);
        check(&[Mark::Wrote, Mark::Synced, done.clone(), told.clone()], None);
        check(&[Mark::Wrote, done.clone(), told.clone()], Some(7));
        check(&[Mark::Wrote, Mark::Synced, Mark::Wrote, done.clone(), told.clone()], Some(7));
        check(&[told, Mark::Wrote, Mark::Synced, done], Some(7));
    }
}
