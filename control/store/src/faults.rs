//! A disk that fails: writes and syncs that error, a disk that is full, and power cuts that keep any part of what
//! was not synced. It stands under redb as its backend.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::redb::StorageBackend;

use crate::recording::{Log, Mark};

/// What the next calls do.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The write after so many fails.
    pub fail_write_in: Option<u32>,
    /// The sync after so many fails; what it should have synced stays unsynced.
    pub fail_sync_in: Option<u32>,
    /// Bytes the disk has; growing beyond is "no space left".
    pub capacity: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Unsynced, in order: where, and what.
    pending: Vec<Pending>,
    plan: Plan,
    log: Option<Log>,
    syncs: u64,
}

#[derive(Clone, Debug)]
enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

/// The disk; clones are the same one. It outlives the database on it.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

/// Bytes that reach the disk together or not at all.
const SECTOR: usize = 512;

impl FaultyDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backend on this disk, for one opening of the database.
    pub fn backend(&self) -> FaultyBackend {
        FaultyBackend(self.clone())
    }

    /// From now on.
    pub fn plan(&self, plan: Plan) {
        self.lock().plan = plan;
    }

    /// From now on writes and syncs are marked there.
    pub fn record(&self, log: &Log) {
        self.lock().log = Some(log.clone());
    }

    /// Syncs that succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Cuts the power: of what was not synced, each sector is kept or lost as `keep` says (called once for each, in
    /// order). The plan is cleared. The database on it must be forgotten first.
    pub fn cut_power(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.lock();
        let mut bytes = std::mem::take(&mut state.durable);
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Length(length) => {
                    if keep() {
                        bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
                    }
                }
                Pending::Write(offset, data) => {
                    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        let from = offset + n * SECTOR;
                        if keep()
                            && let Some(place) = bytes.get_mut(from..from + sector.len())
                        {
                            place.copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        state.durable.clone_from(&bytes);
        state.bytes = bytes;
        state.plan = Plan::default();
    }
}

/// One opening of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyBackend(FaultyDisk);

fn counts_down(countdown: &mut Option<u32>) -> bool {
    match countdown {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let from = usize::try_from(offset).map_err(io::Error::other)?;
    Ok(from..from.saturating_add(length))
}

impl StorageBackend for FaultyBackend {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.0.lock().bytes.len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let range = place(offset, out.len())?;
        out.copy_from_slice(state.bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.plan.capacity.is_some_and(|capacity| len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        state.pending.push(Pending::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if counts_down(&mut state.plan.fail_sync_in) {
            return Err(io::Error::other("the disk does not sync"));
        }
        let pending = std::mem::take(&mut state.pending);
        // Only what was touched is copied: databases are large, commits are small.
        let mut whole = state.durable.len() != state.bytes.len();
        let mut touched = BTreeSet::new();
        for change in &pending {
            match change {
                Pending::Write(offset, data) => _ = touched.insert((*offset, data.len())),
                Pending::Length(_) => whole = true,
            }
        }
        let State { bytes, durable, .. } = &mut *state;
        if whole {
            durable.clone_from(bytes);
        } else {
            for (offset, length) in touched {
                let range = place(offset, length)?;
                if let (Some(to), Some(from)) = (durable.get_mut(range.clone()), bytes.get(range)) {
                    to.copy_from_slice(from);
                }
            }
        }
        state.syncs += 1;
        if let Some(log) = &state.log {
            log.push(Mark::Synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        if counts_down(&mut state.plan.fail_write_in) {
            return Err(io::Error::other("the disk does not write"));
        }
        let range = place(offset, data.len())?;
        let full = state.plan.capacity.and_then(|capacity| usize::try_from(capacity).ok());
        if full.is_some_and(|capacity| range.end > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.bytes.len() < range.end {
            state.bytes.resize(range.end, 0);
            let length = u64::try_from(range.end).map_err(io::Error::other)?;
            state.pending.push(Pending::Length(length));
        }
        if let Some(place) = state.bytes.get_mut(range) {
            place.copy_from_slice(data);
        }
        state.pending.push(Pending::Write(offset, data.into()));
        if let Some(log) = &state.log {
            log.push(Mark::Wrote);
        }
        Ok(())
    }
}
