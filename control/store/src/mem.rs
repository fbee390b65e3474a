//! The model: a map. What it does is what every backend must do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Entry, Loaded, Op, Outcome, Revision, Store, StoreError, Txn};

/// What outlives a store: hand it to [`MemStore::open`] again after a crash.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    entries: BTreeMap<Arc<str>, (Revision, Arc<[u8]>)>,
    reserved: Revision,
    fault: Option<Fault>,
}

/// How the next commit fails. The caller learns only that it failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing reached the disk.
    Lost,
    /// Everything reached the disk, the news of it did not come back.
    Kept,
    /// Only the first so many transactions' changes are there: no real backend may do this; it shows that a
    /// checker notices.
    Torn(usize),
}

impl MemDisk {
    /// Makes the next commit fail in this way.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in memory.
#[derive(Debug)]
pub struct MemStore {
    disk: MemDisk,
    failed: bool,
}

impl MemStore {
    /// Opens what is on the disk.
    pub fn open(disk: &MemDisk) -> Self {
        Self { disk: disk.clone(), failed: false }
    }
}

impl Disk {
    fn revision(&self, key: &str) -> Revision {
        self.entries.get(key).map_or(Revision(0), |(revision, _)| *revision)
    }

    fn apply(&mut self, txn: &Txn) -> Outcome {
        for guard in &txn.guards {
            let actual = self.revision(&guard.key);
            if actual != guard.expected {
                return Outcome::Conflict { key: guard.key.clone(), actual };
            }
        }
        match &txn.op {
            Op::Put(key, value) => {
                self.entries.insert(key.clone(), (txn.revision, value.clone()));
            }
            Op::Delete(key) => {
                self.entries.remove(key);
            }
        }
        self.reserved = self.reserved.max(txn.revision);
        Outcome::Done
    }
}

impl Store for MemStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let disk = self.disk.lock();
        let entry = |(key, (revision, value)): (&Arc<str>, &(Revision, Arc<[u8]>))| Entry {
            key: key.clone(),
            revision: *revision,
            value: value.clone(),
        };
        Ok(Loaded {
            entries: disk.entries.iter().map(entry).collect(),
            revision_reserved: disk.reserved,
        })
    }

    fn commit(&mut self, batch: &[Txn], reserve: Revision) -> Result<Vec<Outcome>, StoreError> {
        let mut disk = self.disk.lock();
        let fault = disk.fault.take();
        let failure = || StoreError::new("committing a batch in memory", "a fault was asked for");
        if self.failed {
            return Err(StoreError::new(
                "committing a batch in memory",
                "an earlier commit failed",
            ));
        }
        let reach = match fault {
            None | Some(Fault::Kept) => batch.len(),
            Some(Fault::Lost) => 0,
            Some(Fault::Torn(count)) => count,
        };
        let outcomes: Vec<Outcome> = batch.iter().take(reach).map(|txn| disk.apply(txn)).collect();
        if fault != Some(Fault::Lost) {
            disk.reserved = disk.reserved.max(reserve);
        }
        if fault.is_some() {
            self.failed = true;
            return Err(failure());
        }
        Ok(outcomes)
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        let disk = MemDisk::default();
        crate::contract::check(&mut || Box::new(MemStore::open(&disk)));
    }

    #[test]
    fn faults_leave_what_they_say() {
        let check = |fault, want: usize| {
            let disk = MemDisk::default();
            disk.fail_next(fault);
            let mut store = MemStore::open(&disk);
            let txn = |n: u64| Txn {
                guards: vec![],
                op: Op::Put(format!("/registry/{n}").into(), [0].into()),
                revision: Revision(n),
            };
            assert!(store.commit(&[txn(1), txn(2)], Revision(9)).is_err());
            assert!(store.commit(&[txn(3)], Revision(9)).is_err(), "failed until reopened");
            assert_eq!(MemStore::open(&disk).load().unwrap().entries.len(), want);
        };
        check(Fault::Lost, 0);
        check(Fault::Kept, 2);
        check(Fault::Torn(1), 1);
    }
}
