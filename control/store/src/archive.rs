//! Backup files: everything in a store and the files that belong to it (the keys), in one file that is checked whole
//! before anything of it is used.
//!
//! A line `coracle-backup 1`, then records: kind (1 octet: 1 object, 2 file, 3 end), revision, length of the key, length
//! of the value (8 octets each, big-endian), key, value. The end record's revision is the reserved number, its value the
//! FNV-1a checksum (64 bits) of all before it and of that number.

use std::io::{self, Read, Write};

use crate::{
    Entry, Loaded, Op, Revision, Store, StoreError, Txn,
    limits::{KEY_BYTES_MAX, RESTORE_STRIDE, VALUE_BYTES_MAX},
};

const MAGIC: &[u8] = b"coracle-backup 1\n";
const OBJECT: u8 = 1;
const FILE: u8 = 2;
const END: u8 = 3;
/// Objects written in one batch while restoring.
const RESTORE_BATCH: usize = 256;

/// What a backup holds.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    /// The store's content.
    pub loaded: Loaded,
    /// Files beside it: relative name, content.
    pub files: Vec<(String, Vec<u8>)>,
}

struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn record(
    out: &mut dyn Write,
    sum: &mut Fnv,
    kind: u8,
    revision: Revision,
    key: &[u8],
    value: &[u8],
) -> io::Result<()> {
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).map_err(io::Error::other);
    let mut head = vec![kind];
    for number in [revision.0, length(key)?, length(value)?] {
        head.extend_from_slice(&number.to_be_bytes());
    }
    for part in [&head, key, value] {
        sum.add(part);
        out.write_all(part)?;
    }
    Ok(())
}

fn end(out: &mut dyn Write, sum: &mut Fnv, reserved: Revision) -> io::Result<()> {
    let mut covered = Fnv(sum.0);
    covered.add(&reserved.0.to_be_bytes());
    let checksum = covered.0.to_be_bytes();
    record(out, sum, END, reserved, b"", &checksum)
}

/// Writes what a store holds, pair by pair, and these files.
///
/// # Errors
/// The store cannot be read, or the backup not be written.
pub fn write_store(
    store: &mut dyn Store,
    files: &[(String, Vec<u8>)],
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let told = |e| StoreError::new("writing a backup", e);
    let mut sum = Fnv(FNV_START);
    sum.add(MAGIC);
    out.write_all(MAGIC).map_err(told)?;
    for (name, content) in files {
        record(out, &mut sum, FILE, Revision(0), name.as_bytes(), content).map_err(told)?;
    }
    let reserved = store.each(&mut |key, revision, value| {
        record(out, &mut sum, OBJECT, revision, key.as_bytes(), value)
    })?;
    end(out, &mut sum, reserved).map_err(told)?;
    out.flush().map_err(told)
}

impl Archive {
    /// Writes it out.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut sum = Fnv(FNV_START);
        sum.add(MAGIC);
        out.write_all(MAGIC)?;
        for (name, content) in &self.files {
            record(out, &mut sum, FILE, Revision(0), name.as_bytes(), content)?;
        }
        for entry in &self.loaded.entries {
            record(out, &mut sum, OBJECT, entry.revision, entry.key.as_bytes(), &entry.value)?;
        }
        end(out, &mut sum, self.loaded.revision_reserved)
    }

    /// Reads one and checks it whole.
    pub fn read(input: &mut dyn Read) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut sum = Fnv(FNV_START);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).map_err(|_| bad("it is no coracle backup"))?;
        if magic != MAGIC {
            return Err(bad("it is no coracle backup, or one of another format"));
        }
        sum.add(&magic);
        let mut archive = Self::default();
        loop {
            let short = |_| bad("it ends early: the copy is not whole");
            let mut head = [0; 25];
            input.read_exact(&mut head).map_err(short)?;
            let mut covered = Fnv(sum.0);
            sum.add(&head);
            let [kind, numbers @ ..] = head;
            let mut numbers = numbers.chunks(8).map(|chunk| {
                u64::from_be_bytes(chunk.try_into().expect("three chunks of eight octets"))
            });
            let mut number = || numbers.next().unwrap_or_default();
            let revision = Revision(number());
            covered.add(&revision.0.to_be_bytes());
            let mut block = |length: u64, max: usize| -> io::Result<Vec<u8>> {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > max {
                    return Err(bad("a record is longer than any can be: it is damaged"));
                }
                let mut bytes = vec![0; length];
                input.read_exact(&mut bytes).map_err(short)?;
                sum.add(&bytes);
                Ok(bytes)
            };
            let (key_len, value_len) = (number(), number());
            let key = String::from_utf8(block(key_len, KEY_BYTES_MAX)?)
                .map_err(|_| bad("a name is not UTF-8: it is damaged"))?;
            let value = block(value_len, VALUE_BYTES_MAX)?;
            match kind {
                OBJECT => archive.loaded.entries.push(Entry {
                    key: key.into(),
                    revision,
                    value: value.into(),
                }),
                FILE => archive.files.push((key, value)),
                END if value == covered.0.to_be_bytes() => {
                    archive.loaded.revision_reserved = revision;
                    return Ok(archive);
                }
                _ => return Err(bad("its checksum does not hold: it is damaged")),
            }
        }
    }
}

/// Where numbers begin after a restore of this backup over a store that had given `replaced` (0: unknown): past every
/// number that can have been given since (S2).
pub fn begin_after_restore(reserved: Revision, replaced: Revision) -> Revision {
    let highest = reserved.0.max(replaced.0);
    Revision((highest / RESTORE_STRIDE + 1) * RESTORE_STRIDE)
}

/// Fills an empty store. Objects keep their revisions; new numbers begin at `begin`.
pub fn restore(store: &mut dyn Store, loaded: &Loaded, begin: Revision) -> Result<(), StoreError> {
    if !store.load()?.entries.is_empty() {
        return Err(StoreError::new("restoring", "the store is not empty"));
    }
    store.commit(&[], begin)?;
    for entries in loaded.entries.chunks(RESTORE_BATCH) {
        let batch: Vec<Txn> = entries
            .iter()
            .map(|entry| Txn {
                guards: Vec::new(),
                op: Op::Put(entry.key.clone(), entry.value.clone()),
                revision: entry.revision,
            })
            .collect();
        store.commit(&batch, begin)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{MemDisk, MemStore};

    fn some() -> Archive {
        let entry = |n: u64| Entry {
            key: format!("/registry/core/pods/default/{n}").into(),
            revision: Revision(n),
            value: vec![u8::try_from(n % 256).unwrap(); 100].into(),
        };
        Archive {
            loaded: Loaded {
                entries: (100..900).map(entry).collect(),
                revision_reserved: Revision(1000),
            },
            files: vec![("pki/ca.key".into(), b"secret".to_vec())],
        }
    }

    #[test]
    fn round_trip_into_a_store() {
        let mut bytes = Vec::new();
        some().write(&mut bytes).unwrap();
        let back = Archive::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(back.files, some().files);
        let mut store = MemStore::open(&MemDisk::default());
        let begin = begin_after_restore(back.loaded.revision_reserved, Revision(0));
        restore(&mut store, &back.loaded, begin).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.entries, some().loaded.entries);
        assert_eq!(loaded.revision_reserved, Revision(RESTORE_STRIDE));
        assert!(restore(&mut store, &back.loaded, begin).is_err(), "not over something");
        // Pair by pair it is the same.
        let (mut whole, mut pairs) = (Vec::new(), Vec::new());
        Archive { loaded: store.load().unwrap(), files: back.files.clone() }
            .write(&mut whole)
            .unwrap();
        write_store(&mut store, &back.files, &mut pairs).unwrap();
        assert_eq!(whole, pairs);
    }

    #[test]
    fn damage_is_found_at_every_byte() {
        let mut small = some();
        small.loaded.entries.truncate(2);
        let mut bytes = Vec::new();
        small.write(&mut bytes).unwrap();
        for at in 0..bytes.len() {
            assert!(Archive::read(&mut &bytes[..at]).is_err(), "cut at {at}");
            let mut bent = bytes.clone();
            bent[at] ^= 0x10;
            assert!(Archive::read(&mut bent.as_slice()).is_err(), "bent at {at}");
        }
    }

    #[test]
    fn numbers_begin_past_all_given() {
        let check = |reserved, replaced, want| {
            let begin = begin_after_restore(Revision(reserved), Revision(replaced));
            assert_eq!(begin, Revision(want * RESTORE_STRIDE));
        };
        check(0, 0, 1);
        check(5, 0, 1);
        check(5, RESTORE_STRIDE, 2);
        check(RESTORE_STRIDE + 9, 3, 2);
    }
}
