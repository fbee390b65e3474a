//! Gives every change its number, durable and volatile alike, in the order in which they are published (S1, S2, S3).
//!
//! Numbers come from a block that is reserved on disk before any of them is given. Durable changes wait in a queue,
//! go to the store as one batch with one sync, and are published when that is back. Volatile ones (Events, renewals
//! of Leases, heartbeats of Nodes) are published at once, or right behind the batch that is under way.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    sync::Arc,
    vec,
    vec::Vec,
};

use coracle_api::{Object, Resource, Status};
use coracle_keys::Keys;
use coracle_store::{Guard, Op, Outcome, Revision, Txn};
use serde_json::Value;

use super::Admitted;
use crate::{
    cache::{Change, encode},
    canary::{Canary, Switch},
    limits::{BATCH_BYTES_MAX, BATCH_TXNS_MAX, REVISION_BLOCK},
};

/// Names one object: resource, namespace (empty for cluster-scoped), name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(object: &Object) -> Self {
        Self::new(object.resource, &object.meta.namespace, &object.meta.name)
    }

    fn store_key(&self) -> Arc<str> {
        encode::store_key(self.resource, &self.namespace, &self.name)
    }
}

/// One admitted write, on its way.
#[derive(Debug)]
struct Write {
    key: Key,
    /// What it was computed from; its revision is the guard (S3).
    old: Option<Arc<Object>>,
    /// The hub JSON to be; `None`: delete.
    new: Option<Value>,
    /// Goes to the store.
    durable: bool,
    /// Who waits for it.
    ticket: u64,
}

/// How one write ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) key: Key,
    pub(crate) ticket: u64,
    /// What is now published, or why it is not.
    pub(crate) result: Result<Change, Status>,
}

struct Numbered {
    key: Key,
    ticket: u64,
    change: Change,
    /// What the store is to hold; `None`: nothing.
    stored: Option<Vec<u8>>,
}

/// What the store is to be asked for.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) txns: Vec<Txn>,
    pub(crate) reserve: Revision,
}

/// The one place where revisions are given.
pub(crate) struct Sequencer {
    keys: Arc<dyn Keys>,
    given: u64,
    reserved: u64,
    volatile: VecDeque<Write>,
    durable: VecDeque<Write>,
    flight: Option<(Vec<Numbered>, u64)>,
    /// Revision in the store, where the cache has a newer, volatile version of the object.
    stored_at: BTreeMap<Key, u64>,
    /// Makes nonces differ between clusters that share a key (a backup restored beside its original).
    nonce_salt: [u8; 4],
    canary: Switch,
}

impl core::fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sequencer")
            .field("given", &self.given)
            .field("reserved", &self.reserved)
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Sequencer {
    /// Begins past every number that may ever have been given.
    pub(crate) fn new(keys: Arc<dyn Keys>, reserved: u64, entropy: u64, canary: Switch) -> Self {
        let [a, b, c, d, ..] = entropy.to_be_bytes();
        Self {
            keys,
            given: reserved,
            reserved,
            volatile: VecDeque::new(),
            durable: VecDeque::new(),
            flight: None,
            stored_at: BTreeMap::new(),
            nonce_salt: [a, b, c, d],
            canary,
        }
    }

    /// Writes that wait or are under way.
    pub(crate) fn queued(&self) -> usize {
        self.volatile.len()
            + self.durable.len()
            + self.flight.as_ref().map_or(0, |(batch, _)| batch.len())
    }

    /// Takes an admitted write. The caller sees to it that a key has one at a time.
    pub(crate) fn submit(&mut self, admitted: Admitted, ticket: u64) {
        let durable = admitted.durable();
        let (key, old, new) = admitted.into_parts();
        let write = Write { key, old, new, durable, ticket };
        if durable {
            self.durable.push_back(write);
        } else {
            self.volatile.push_back(write);
        }
    }

    /// Moves on what can be moved on: volatile writes end at once, durable ones become the next batch.
    pub(crate) fn pump(&mut self, ended: &mut Vec<Ended>) -> Option<Batch> {
        if self.flight.is_some() {
            return None;
        }
        while self.given < self.reserved || self.canary.sings(Canary::GivesTwice) {
            let Some(write) = self.volatile.pop_front() else { break };
            self.given += 1;
            let end = match number(write, self.given) {
                Ok(numbered) => {
                    self.note_volatile(&numbered);
                    end_of(numbered)
                }
                Err(end) => end,
            };
            ended.push(end);
        }
        if self.durable.is_empty() && self.volatile.is_empty() {
            return None;
        }
        Some(self.next_batch(ended))
    }

    fn next_batch(&mut self, ended: &mut Vec<Ended>) -> Batch {
        let mut flight = Vec::new();
        let mut txns = Vec::new();
        let mut bytes = 0;
        while txns.len() < BATCH_TXNS_MAX && (bytes < BATCH_BYTES_MAX || txns.is_empty()) {
            let Some(write) = self.durable.pop_front() else { break };
            self.given += 1;
            match number(write, self.given) {
                Ok(mut numbered) => {
                    let txn = self.txn(&mut numbered);
                    if let Op::Put(_, value) = &txn.op {
                        bytes += value.len();
                    }
                    txns.push(txn);
                    flight.push(numbered);
                }
                Err(end) => ended.push(end),
            }
        }
        if self.canary.sings(Canary::AnswersEarly) {
            ended.extend(flight.drain(..).map(end_of));
        }
        let reserve = if self.canary.sings(Canary::GivesTwice) {
            self.reserved
        } else if self.given + REVISION_BLOCK / 2 > self.reserved {
            self.given + REVISION_BLOCK
        } else {
            self.reserved
        };
        self.flight = Some((flight, reserve));
        Batch { txns, reserve: Revision(reserve) }
    }

    /// The batch under way is durable, but for what conflicted.
    pub(crate) fn committed(&mut self, outcomes: Vec<Outcome>, ended: &mut Vec<Ended>) {
        let Some((flight, reserve)) = self.flight.take() else { return };
        self.reserved = self.reserved.max(reserve);
        // A backend that gives too few outcomes has not said that the rest is durable.
        let silent = core::iter::repeat_with(|| None);
        for (numbered, outcome) in
            flight.into_iter().zip(outcomes.into_iter().map(Some).chain(silent))
        {
            match outcome {
                Some(Outcome::Done) => {
                    self.stored_at.remove(&numbered.key);
                    ended.push(end_of(numbered));
                }
                Some(Outcome::Conflict { key, actual }) => {
                    let why = format!(
                        "the store has {key} at revision {}, the write was computed from another",
                        actual.0
                    );
                    ended.push(failed(numbered, &why));
                }
                None => ended.push(failed(numbered, "the store gave no outcome for the write")),
            }
        }
    }

    fn note_volatile(&mut self, numbered: &Numbered) {
        let Some(old) = &numbered.change.old else { return };
        if old.resource.def().volatile {
            return;
        }
        self.stored_at.entry(numbered.key.clone()).or_insert(old.revision);
    }

    fn txn(&self, numbered: &mut Numbered) -> Txn {
        let (key, change) = (numbered.key.store_key(), &numbered.change);
        let at = self.stored_at.get(&numbered.key).copied();
        let expected = at.or(change.old.as_ref().map(|old| old.revision)).unwrap_or(0);
        let revision = change.revision;
        let op = match numbered.stored.take() {
            None => Op::Delete(key.clone()),
            Some(plain) => {
                Op::Put(key.clone(), self.seal(numbered.key.resource, &key, revision, plain))
            }
        };
        let guards = vec![Guard { key, expected: Revision(expected) }];
        Txn { guards, op, revision: Revision(revision) }
    }

    /// Secrets are sealed. The nonce holds the revision, which is never given twice.
    fn seal(&self, resource: Resource, key: &str, revision: u64, plain: Vec<u8>) -> Arc<[u8]> {
        if resource != Resource::SECRETS {
            return plain.into();
        }
        let [a, b, c, d] = self.nonce_salt;
        let [e, f, g, h, i, j, k, l] = revision.to_be_bytes();
        self.keys.seal(key.as_bytes(), [a, b, c, d, e, f, g, h, i, j, k, l], &plain).into()
    }
}

fn number(mut write: Write, revision: u64) -> Result<Numbered, Ended> {
    let resource = write.key.resource;
    let mut stored = None;
    let mut new = None;
    if let Some(mut value) = write.new.take() {
        if write.durable {
            stored = Some(encode::stored_bytes(&mut value));
        }
        match encode::written(resource, value, revision) {
            Ok(object) => new = Some(Arc::new(object)),
            Err(refused) => {
                let result = Err(refused);
                return Err(Ended { key: write.key, ticket: write.ticket, result });
            }
        }
    }
    let change = Change { revision, resource, old: write.old, new };
    Ok(Numbered { key: write.key, ticket: write.ticket, change, stored })
}

fn end_of(numbered: Numbered) -> Ended {
    Ended { key: numbered.key, ticket: numbered.ticket, result: Ok(numbered.change) }
}

fn failed(numbered: Numbered, why: &str) -> Ended {
    let def = numbered.key.resource.def();
    let status = Status::conflict(def.group, def.plural, &numbered.key.name, why);
    Ended { key: numbered.key, ticket: numbered.ticket, result: Err(status) }
}
