//! Power cuts at every point: a disk under redb writes down each write, length and sync; then the store is opened on
//! what a cut at any of them may leave, and held against what was acknowledged (S1, S2, S3).
//!
//! What was synced is there. Of what was written since, a cut keeps all, or some writes, or some sectors of some writes.
//! Some of the openings are cut too.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redb::StorageBackend;

use crate::{Guard, Op, Outcome, Revision, Store, Txn, redb::RedbStore};

/// Bytes that reach a disk together or not at all.
const SECTOR: usize = 512;
/// Keys of the workload: few, so that they are changed and deleted often.
const KEYS: u64 = 60;
/// One opening in so many is itself cut.
const CUT_AGAIN: u64 = 16;
/// One store in so many is written to and checked whole after its opening.
const LOOK_CLOSER: u64 = 8;

/// Anything that happens to the file.
#[derive(Clone, Debug)]
enum Entry {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    journal: Vec<Entry>,
}

/// A disk in memory with a journal; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, journal: Vec::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> usize {
        self.lock().journal.len()
    }

    fn take_journal(&self) -> Vec<Entry> {
        std::mem::take(&mut self.lock().journal)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    pub(crate) fn open(&self) -> Result<RedbStore, String> {
        let store = RedbStore::with_backend(Backend(self.clone()), "disk");
        store.map_err(|error| {
            format!("S1: the store does not open: {}: {}", error.what, error.source)
        })
    }
}

#[derive(Debug)]
struct Backend(Disk);

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.0.lock().bytes.len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, from) = (self.0.lock(), index(offset)?);
        let there = state.bytes.get(from..from.saturating_add(out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, entry) = (self.0.lock(), Entry::Length(index(len)?));
        apply(&mut state.bytes, &entry);
        state.journal.push(entry);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.lock().journal.push(Entry::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, entry) = (self.0.lock(), Entry::Write(index(offset)?, data.into()));
        apply(&mut state.bytes, &entry);
        state.journal.push(entry);
        Ok(())
    }
}

fn apply(bytes: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Write(from, data) => put(bytes, *from, data),
        Entry::Length(length) => bytes.resize(*length, 0),
        Entry::Sync => {}
    }
}

/// A write beyond the end makes the file longer.
fn put(bytes: &mut Vec<u8>, from: usize, data: &[u8]) {
    let to = from.saturating_add(data.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    if let Some(place) = bytes.get_mut(from..to) {
        place.copy_from_slice(data);
    }
}

/// Numbers from a seed (xorshift64*).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) | 1)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub(crate) fn size(&mut self, bound: u64) -> usize {
        usize::try_from(self.below(bound)).unwrap_or(0)
    }
}

/// How much of the unsynced tail a cut keeps.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Keep {
    /// All of it.
    All,
    /// Some writes.
    Writes,
    /// Some sectors.
    Sectors,
}

fn cut(durable: &[u8], tail: &[Entry], keep: Keep, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    // Now most is kept, now little.
    let odds = 1 + rng.below(9);
    for entry in tail {
        match (keep, entry) {
            (Keep::All, _) => apply(&mut bytes, entry),
            (Keep::Sectors, Entry::Write(from, data)) => {
                for (at, sector) in data.chunks(SECTOR).enumerate() {
                    if rng.below(10) < odds {
                        put(&mut bytes, from + at * SECTOR, sector);
                    }
                }
            }
            (Keep::Writes | Keep::Sectors, _) => {
                if rng.below(10) < odds {
                    apply(&mut bytes, entry);
                }
            }
        }
    }
    bytes
}

type Model = BTreeMap<Arc<str>, (Revision, Arc<[u8]>)>;

/// What was written, and what was acknowledged when.
struct Played {
    journal: Vec<Entry>,
    /// The model after so many batches, with the highest number that was given or reserved.
    models: Vec<(Model, Revision)>,
    /// Where in the journal each batch began and ended.
    batches: Vec<(usize, usize)>,
    /// Where the store was made: before that it has no name yet, and nothing to lose.
    made: usize,
}

/// What was survived.
#[derive(Clone, Debug, Default)]
pub struct Survived {
    /// Cuts that were tried.
    pub points: u64,
    /// Of these, with a tail of which some was lost.
    pub partial: u64,
    /// Cuts in the midst of an opening after a cut.
    pub again: u64,
    /// Longest opening with reading all, in processor time.
    pub worst: Duration,
    /// All openings together.
    pub all: Duration,
    /// Writes, lengths and syncs of the workload.
    pub journal: u64,
}

/// Plays a workload of this seed and cuts the power at about this many points of it, at each of its writes at least
/// once where there are as many points.
///
/// # Errors
/// The point, and what was broken.
pub fn survive(seed: u64, batches: u64, points: u64) -> Result<Survived, String> {
    let mut rng = Rng::new(seed);
    let played = play(&mut rng, batches)?;
    let journal = played.journal.len() as u64;
    let mut survived = Survived { journal, ..Survived::default() };
    let (mut durable, mut synced) = (Vec::new(), 0);
    for at in 0..=played.journal.len() {
        if let Some(Entry::Sync) = at.checked_sub(1).and_then(|before| played.journal.get(before)) {
            for entry in played.journal.get(synced..at).unwrap_or_default() {
                apply(&mut durable, entry);
            }
            synced = at;
        }
        if at < played.made {
            continue;
        }
        // Spread evenly, rounded by a draw.
        let share = points * 1000 / (journal + 1 - played.made as u64) + rng.below(1000);
        let tail = played.journal.get(synced..at).unwrap_or_default();
        for n in 0..share / 1000 {
            let keep = match n {
                0 => Keep::All,
                _ if tail.is_empty() => break,
                _ if rng.below(2) == 0 => Keep::Writes,
                _ => Keep::Sectors,
            };
            survived.points += 1;
            survived.partial += u64::from(keep != Keep::All && !tail.is_empty());
            let image = cut(&durable, tail, keep, &mut rng);
            let judged = catch_unwind(AssertUnwindSafe(|| {
                judge(&played, at, image, &mut rng, &mut survived)
            }));
            judged
                .unwrap_or_else(|_| Err("S1: the store panics: what it said stands above".into()))
                .map_err(|why| {
                    format!("seed {seed}, cut after {at} of {journal}, {keep:?}: {why}")
                })?;
        }
    }
    Ok(survived)
}

fn play(rng: &mut Rng, count: u64) -> Result<Played, String> {
    let disk = Disk::default();
    let mut store = disk.open()?;
    let mut played = Played {
        journal: Vec::new(),
        models: vec![(Model::new(), Revision(0))],
        batches: Vec::new(),
        made: disk.written(),
    };
    let (mut model, mut number, mut reserved) = (Model::new(), 0, 0);
    for _ in 0..count {
        match rng.below(80) {
            0 => store.compact().map_err(|error| error.what)?,
            1 => {
                drop(store);
                store = disk.open()?;
            }
            _ => {}
        }
        let mut batch = Vec::new();
        for _ in 0..=rng.below(6) {
            number += 1;
            let key: Arc<str> = format!("/registry/core/pods/default/{}", rng.below(KEYS)).into();
            let expected = model.get(&key).map_or(Revision(0), |(revision, _)| *revision);
            let guards = vec![Guard { key: key.clone(), expected }];
            let revision = Revision(number);
            let op = if rng.below(4) == 0 {
                model.remove(&key);
                Op::Delete(key)
            } else {
                let length = match rng.below(40) {
                    0 => rng.size(200_000),
                    1..=9 => rng.size(9_000),
                    _ => rng.size(1_500),
                };
                let value: Arc<[u8]> = vec![number.to_le_bytes()[0]; length].into();
                model.insert(key.clone(), (revision, value.clone()));
                Op::Put(key, value)
            };
            batch.push(Txn { guards, op, revision });
        }
        if reserved < number + 8 {
            reserved = number + 100;
        }
        let begin = disk.written();
        let outcomes = store.commit(&batch, Revision(reserved)).map_err(|error| error.what)?;
        if outcomes.iter().any(|outcome| *outcome != Outcome::Done) {
            return Err(format!("S3: guards that hold were refused: {outcomes:?}"));
        }
        played.batches.push((begin, disk.written()));
        played.models.push((model.clone(), Revision(reserved)));
    }
    drop(store);
    played.journal = disk.take_journal();
    Ok(played)
}

/// Opens what a cut after so many entries left.
fn judge(
    played: &Played,
    at: usize,
    image: Vec<u8>,
    rng: &mut Rng,
    survived: &mut Survived,
) -> Result<(), String> {
    let is_cut_again = rng.below(CUT_AGAIN) == 0;
    let before = if is_cut_again { image.clone() } else { Vec::new() };
    let disk = Disk::holding(image);
    open_and_compare(played, at, &disk, rng, survived)?;
    if !is_cut_again {
        return Ok(());
    }
    let journal = disk.take_journal();
    let upto = rng.size(journal.len() as u64 + 1);
    let mut durable = before;
    let synced = journal.iter().take(upto).rposition(|entry| matches!(entry, Entry::Sync));
    let synced = synced.map_or(0, |last| last + 1);
    for entry in journal.get(..synced).unwrap_or_default() {
        apply(&mut durable, entry);
    }
    let tail = journal.get(synced..upto).unwrap_or_default();
    let image = cut(&durable, tail, Keep::Sectors, rng);
    survived.again += 1;
    // Only what the opening wrote may be cut here: what a closer look writes is another batch.
    open_and_compare(played, at, &Disk::holding(image), rng, survived)
        .map_err(|why| format!("and again after {upto} of {}: {why}", journal.len()))
}

fn open_and_compare(
    played: &Played,
    at: usize,
    disk: &Disk,
    rng: &mut Rng,
    survived: &mut Survived,
) -> Result<(), String> {
    let begin = on_cpu();
    let mut store = disk.open()?;
    let loaded = store.load().map_err(|error| format!("S1: {}: {}", error.what, error.source))?;
    let took = on_cpu().saturating_sub(begin);
    survived.all += took;
    survived.worst = survived.worst.max(took);

    let acknowledged = played.batches.iter().take_while(|(_, end)| *end <= at).count();
    let begun = played.batches.get(acknowledged).is_some_and(|(begin, _)| *begin < at);
    let matching = (acknowledged..=acknowledged + usize::from(begun)).find(|count| {
        played.models.get(*count).is_some_and(|(model, _)| {
            let there = loaded.entries.iter().map(|one| (&one.key, one.revision, &one.value));
            there.eq(model.iter().map(|(key, (revision, value))| (key, *revision, value)))
        })
    });
    let Some(count) = matching else {
        return Err(format!(
            "S1: {} objects, neither what was acknowledged ({acknowledged} batches) nor one batch more",
            loaded.entries.len()
        ));
    };
    let reserved = played.models.get(count).map_or(Revision(0), |(_, reserved)| *reserved);
    if loaded.revision_reserved < reserved {
        return Err(format!("S2: {:?} are reserved, not {reserved:?}", loaded.revision_reserved));
    }
    if rng.below(LOOK_CLOSER) == 0 {
        // What an opening alone wrote is to be cut again, not this.
        let journal = disk.take_journal();
        look_closer(&mut store, loaded.revision_reserved, loaded.entries.first())?;
        drop(store);
        disk.lock().journal = journal;
    }
    Ok(())
}

/// Time that this thread had a processor: the disk is memory, and what else the machine does is no part of an opening.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The store is sound, refuses what is stale and takes what is not.
fn look_closer(
    store: &mut RedbStore,
    reserved: Revision,
    first: Option<&crate::Entry>,
) -> Result<(), String> {
    let checked = store.check().map_err(|error| format!("{}: {}", error.what, error.source))?;
    if !checked.sound {
        return Err("S1: a page's checksum does not hold".into());
    }
    let Some(first) = first else { return Ok(()) };
    let put = |expected: u64, revision: u64| Txn {
        guards: vec![Guard { key: first.key.clone(), expected: Revision(expected) }],
        op: Op::Put(first.key.clone(), [1].into()),
        revision: Revision(revision),
    };
    let next = reserved.0 + 1;
    let batch = [put(first.revision.0 + 1, next), put(first.revision.0, next + 1)];
    let outcomes = store.commit(&batch, Revision(next + 1)).map_err(|error| error.what)?;
    match outcomes.as_slice() {
        [Outcome::Conflict { .. }, Outcome::Done] => Ok(()),
        _ => Err(format!("S3: after the cut guards mean something else: {outcomes:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_anywhere_is_survived() {
        let survived = survive(1, 30, 600).unwrap();
        assert!(survived.points > 500 && survived.partial > 100 && survived.again > 10);
        assert!(survived.worst > Duration::ZERO, "nothing was measured");
    }

    /// A disk that forgets a sync must be noticed, or nothing above says anything.
    #[test]
    fn a_sync_that_is_none_is_noticed() {
        let mut rng = Rng::new(3);
        let mut played = play(&mut rng, 20).unwrap();
        let entries = played.journal.len();
        let kept = played.batches.first().map_or(0, |(_, end)| *end);
        let mut durable = Vec::new();
        for entry in played.journal.drain(..kept) {
            apply(&mut durable, &entry);
        }
        let disk = Disk::holding(durable);
        let error = open_and_compare(&played, entries, &disk, &mut rng, &mut Survived::default());
        assert!(error.unwrap_err().starts_with("S1"));
    }
}
