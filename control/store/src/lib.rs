//! The store port: what durable storage owes the control plane (promises S1, S2, S3).
//!
//! Keys and bytes only: this crate knows nothing of Kubernetes objects. A backend loads everything once, commits
//! batches of transactions with one sync a batch, and is durable when it returns. It is driven by one writer thread.
//! `mem` is the model, `redb` (feature) the default; both pass [`contract`]'s suite.
//!
//! | part | what |
//! |---|---|
//! | [`mem`] | the model; with faults for the simulator |
//! | `redb` (feature) | one file, a small stated page cache, one durable write transaction a batch |
//! | [`recording`] | writes down when what was synced and answered (S1) |
//! | [`archive`] | backup files, and where numbers begin after a restore (S2) |
//! | `format` (feature `redb`) | the formats of redb's file, and how one becomes the next |
//! | `faults` (feature `redb`) | disks that fail, fill up and lose power under redb |
//! | `crash` (feature `redb`) | power cuts at every write that redb makes |
//! | `flips` (feature `redb`) | flipped bits in a store that was closed well |
//! | [`contract`] | the suite; `fuzz` runs any bytes against the model |

use std::{error, fmt, io, sync::Arc};

pub mod archive;
pub mod contract;
#[cfg(feature = "redb")]
pub mod crash;
#[cfg(feature = "redb")]
pub mod faults;
#[cfg(feature = "redb")]
pub mod flips;
#[cfg(feature = "redb")]
pub mod format;
#[cfg(feature = "redb")]
pub mod fuzz;
pub mod limits;
pub mod mem;
pub mod recording;
#[cfg(feature = "redb")]
pub mod redb;

/// Number of one change, durable or volatile. Strictly rising for ever (S2); 0 means "absent".
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A condition on one key: it is at exactly this revision ([`Revision`] 0: it does not exist).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// `/registry/<group>/<resource>/[<namespace>/]<name>`.
    pub key: Arc<str>,
    /// Revision the key must have.
    pub expected: Revision,
}

/// The one change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes the value.
    Put(Arc<str>, Arc<[u8]>),
    /// Removes the key.
    Delete(Arc<str>),
}

/// Any number of guards and exactly one change, with a revision of its own; fails alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub guards: Vec<Guard>,
    /// What is changed.
    pub op: Op,
    /// Given by the sequencer; above every earlier one.
    pub revision: Revision,
}

/// One stored pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// Revision of the last write of this key.
    pub revision: Revision,
    /// The value.
    pub value: Arc<[u8]>,
}

/// What happened to one transaction of a batch that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Done,
    /// A guard did not hold; nothing of it was written.
    Conflict {
        /// The guarded key.
        key: Arc<str>,
        /// Where the key really is.
        actual: Revision,
    },
}

/// Everything that is stored, at start.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// All pairs, by key.
    pub entries: Vec<Entry>,
    /// Numbers up to and including this one may have been given; the next must be above it.
    pub revision_reserved: Revision,
}

/// A failure of the backend. After it the outcome of the batch is unknown: reopen and reload.
#[derive(Debug)]
pub struct StoreError {
    /// What was being done, to which file.
    pub what: String,
    /// Why it failed.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// What was being done, and why it failed.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: source.into() }
    }

    /// Whether the content of the file cannot be trusted: only a backup helps.
    pub fn is_damage(&self) -> bool {
        self.source.is::<Damage>()
    }
}

/// Something in the file is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage(pub String);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is damaged ({}); restore a backup", self.0)
    }
}

impl error::Error for Damage {}

/// The cause is not repeated here: whoever prints walks `source()`.
impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl error::Error for StoreError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// Takes a key, its revision and its value.
pub type See<'a> = dyn FnMut(&str, Revision, &[u8]) -> io::Result<()> + 'a;

/// A backend. Blocking; owned by one thread.
pub trait Store: Send {
    /// Reads everything.
    fn load(&mut self) -> Result<Loaded, StoreError>;
    /// Commits a batch in order with one sync; durable when it returns. Gives one outcome for each transaction.
    /// Also raises the reserved revision to `reserve` where that is higher.
    fn commit(&mut self, batch: &[Txn], reserve: Revision) -> Result<Vec<Outcome>, StoreError>;
    /// Shows every pair by key, one at a time, without holding them all; gives the reserved number.
    fn each(&mut self, see: &mut See<'_>) -> Result<Revision, StoreError> {
        let loaded = self.load()?;
        for Entry { key, revision, value } in &loaded.entries {
            see(key, *revision, value).map_err(|e| StoreError::new("taking a pair", e))?;
        }
        Ok(loaded.revision_reserved)
    }
    /// Gives unused space back to the file system.
    fn compact(&mut self) -> Result<(), StoreError>;
}
