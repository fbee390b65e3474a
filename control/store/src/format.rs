//! Formats of the store's file, and how one becomes the next: in one transaction with its number, after what it was has
//! been kept elsewhere. A newer format than ours is refused; an older one is only changed by who says [`Upgrade`].
//!
//! When the layout changes: raise [`FORMAT`], and put a [`Step`] from the old number at the end of [`STEPS`], with the
//! reader that the old version had. Steps stay for ever: a board may have been off for years.

use ::redb::{ReadTransaction, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use crate::{Loaded, StoreError};

/// Where a format's number is kept, in every format.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// What this version reads and writes.
pub const FORMAT: u64 = 1;
/// The ways from older formats; each leads to the next number.
pub(crate) const STEPS: &[Step] = &[];

/// One change of the layout.
#[derive(Copy, Clone)]
pub(crate) struct Step {
    /// The number that it starts from.
    pub(crate) from: u64,
    /// Everything that a store of that format holds, for the backup; the name is for errors.
    pub(crate) read: fn(&ReadTransaction, &str) -> Result<Loaded, StoreError>,
    /// Makes it the next format; durable with the new number or not at all.
    pub(crate) change: fn(&WriteTransaction) -> Result<(), ::redb::Error>,
}

/// The formats that a version knows.
#[derive(Copy, Clone)]
pub(crate) struct Known {
    pub(crate) format: u64,
    pub(crate) steps: &'static [Step],
}

/// Those of this version.
pub(crate) const KNOWN: Known = Known { format: FORMAT, steps: STEPS };

/// What becomes of a store of an older format.
pub enum Upgrade<'a> {
    /// It is refused, and stays as it is.
    Refuse,
    /// It is changed, after this has kept what is in it (the number of its format, its content) and returned without an
    /// error.
    After(&'a mut Keep<'a>),
}

/// Keeps the content of a store, before its format changes.
pub type Keep<'a> = dyn FnMut(u64, Loaded) -> Result<(), StoreError> + 'a;

/// The number in the file; `None` for a file that was never a store.
pub(crate) fn found(database: &::redb::Database) -> Result<Option<u64>, ::redb::Error> {
    let read = database.begin_read()?;
    match read.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map(|number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Brings a store from format `from` to that of `known`, or says why not. `name` is for errors.
pub(crate) fn upgrade(
    database: &::redb::Database,
    name: &str,
    from: u64,
    known: Known,
    upgrade: Upgrade<'_>,
) -> Result<(), StoreError> {
    let refused = |why: String| Err(StoreError::new(format!("opening the store {name}"), why));
    let ours = known.format;
    if from > ours {
        return refused(format!(
            "it has format {from}, this version reads {ours}; use the version of coracle that wrote it, or a newer one"
        ));
    }
    let steps: Vec<Step> =
        (from..ours).filter_map(|at| known.steps.iter().find(|s| s.from == at).copied()).collect();
    let complete = u64::try_from(steps.len()).is_ok_and(|count| count == ours - from);
    let Some(first) = steps.first().filter(|_| complete) else {
        return refused(format!(
            "it has format {from}, which this version cannot change to {ours}; restore a backup instead"
        ));
    };
    let Upgrade::After(keep) = upgrade else {
        return refused(format!(
            "it has format {from}, this version reads {ours}; `coracle serve` changes it, after a backup"
        ));
    };
    let told = |e: ::redb::Error| StoreError::new(format!("changing the format of {name}"), e);
    let read = database.begin_read().map_err(|e| told(e.into()))?;
    keep(from, (first.read)(&read, name)?)?;
    drop(read);
    let write = database.begin_write().map_err(|e| told(e.into()))?;
    for step in steps {
        (step.change)(&write).map_err(told)?;
    }
    {
        let mut meta = write.open_table(META).map_err(|e| told(e.into()))?;
        meta.insert("format", ours).map_err(|e| told(e.into()))?;
    }
    write.commit().map_err(|e| told(e.into()))
}
