//! Flipped bits in a store that was closed well: whatever was hit, the store gives what was written, or refuses and says
//! what to do. It never gives anything else, and it does not panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    Entry, Op, Revision, Store, Txn,
    crash::{Disk, Rng},
    redb::RedbStore,
};

/// Bytes at the beginning of the file that say where everything is.
const HEADER: u64 = 512;

/// What became of the flips.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flipped {
    /// What was written was read: the bit was in nothing that is used.
    pub same: u64,
    /// The store was refused.
    pub refused: u64,
}

/// Flips so many times one bit, a byte or a sector of a store, a quarter of the times in its header.
///
/// # Errors
/// Something else than what was written was given, a refusal did not name the way out, or the store panicked.
pub fn flip(seed: u64, times: u64) -> Result<Flipped, String> {
    let mut rng = Rng::new(seed);
    let disk = Disk::default();
    let mut store = disk.open()?;
    for number in 1..=400_u64 {
        let key: Arc<str> = format!("/registry/core/pods/default/{}", rng.below(150)).into();
        let length = if rng.below(20) == 0 { rng.size(60_000) } else { rng.size(3_000) };
        let value: Vec<u8> = (0..length).map(|_| rng.draw().to_le_bytes()[0]).collect();
        let op = if rng.below(5) == 0 { Op::Delete(key) } else { Op::Put(key, value.into()) };
        let txn = Txn { guards: vec![], op, revision: Revision(number) };
        store.commit(&[txn], Revision(1000)).map_err(|error| error.what)?;
    }
    let written = store.load().map_err(|error| error.what)?.entries;
    drop(store);
    let whole = disk.bytes();
    let mut flipped = Flipped::default();
    for n in 0..times {
        let mut bytes = whole.clone();
        let among = if n % 4 == 0 { HEADER } else { bytes.len() as u64 };
        let at = rng.size(among);
        let length = match rng.below(8) {
            0 => 512,
            1 => 1,
            _ => 0,
        };
        match bytes.get_mut(at) {
            Some(byte) if length == 0 => *byte ^= 1 << rng.below(8),
            _ => bytes.iter_mut().skip(at).take(length).for_each(|byte| {
                *byte = rng.draw().to_le_bytes()[0];
            }),
        }
        let opened = catch_unwind(AssertUnwindSafe(|| read(&Disk::holding(bytes))));
        let place = format!("seed {seed}, flip {n}, {length} bytes at {at}");
        match opened {
            Err(_) => return Err(format!("{place}: the store panics: what it said stands above")),
            Ok(Ok(entries)) if entries == written => flipped.same += 1,
            Ok(Ok(_)) => {
                return Err(format!("{place}: the store gives other data than was written"));
            }
            Ok(Err(why)) if why.contains("backup") => flipped.refused += 1,
            Ok(Err(why)) => return Err(format!("{place}: the refusal says no way out: {why}")),
        }
    }
    Ok(flipped)
}

fn read(disk: &Disk) -> Result<Vec<Entry>, String> {
    let mut store: RedbStore = disk.open()?;
    let loaded = store.load().map_err(|error| format!("{}: {}", error.what, error.source))?;
    Ok(loaded.entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_is_ever_read() {
        let flipped = flip(1, 60).unwrap();
        assert!(flipped.same > 5 && flipped.refused > 5, "{flipped:?}");
    }
}
