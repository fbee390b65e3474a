//! Any bytes as a history: commits, failures, power cuts and reopenings on redb, held against the model.

use std::sync::Arc;

use crate::{
    Guard, Loaded, Op, Revision, Store, Txn,
    faults::{FaultyDisk, Plan},
    mem::{MemDisk, MemStore},
    redb::RedbStore,
};

/// Longest history, in steps: each is cheap, a run stays under a second.
const STEPS_MAX: usize = 256;

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.next().unwrap_or(0) % bound
    }
}

struct Run {
    disk: FaultyDisk,
    real: Option<RedbStore>,
    model: MemDisk,
    revision: u64,
    seed: u64,
}

/// Runs the history that the bytes spell; panics where redb and the model differ (S1, S2, S3).
pub fn store_against_model(data: &[u8]) {
    let disk = FaultyDisk::default();
    let mut run = Run { real: None, model: MemDisk::default(), revision: 0, seed: 1, disk };
    let mut bytes = Bytes(data);
    for _ in 0..STEPS_MAX {
        match bytes.next() {
            None => break,
            Some(0..=159) => run.commit(&mut bytes, Plan::default()),
            Some(160..=179) => run.fail(&mut bytes),
            Some(180..=199) => run.cut_power(&mut bytes),
            Some(200..=229) => run.real = None,
            Some(230..=239) => run.store().compact().expect("a healthy store compacts"),
            Some(_) => run.compare(),
        }
    }
    run.compare();
}

impl Run {
    fn store(&mut self) -> &mut RedbStore {
        let disk = &self.disk;
        self.real.get_or_insert_with(|| {
            RedbStore::with_backend(disk.backend(), "fuzz").expect("a healthy disk opens")
        })
    }

    fn batch(&mut self, bytes: &mut Bytes<'_>) -> Vec<Txn> {
        let mut batch = Vec::new();
        for _ in 0..=bytes.below(4) {
            self.revision += 1 + u64::from(bytes.below(3));
            let key = |n: u8| -> Arc<str> { format!("/registry/core/pods/{n}").into() };
            let guards = (0..bytes.below(3))
                .map(|_| Guard {
                    key: key(bytes.below(6)),
                    expected: Revision(match bytes.below(4) {
                        0 => 0,
                        back => self.revision.saturating_sub(u64::from(back)),
                    }),
                })
                .collect();
            let target = key(bytes.below(6));
            let op = match bytes.below(4) {
                0 => Op::Delete(target),
                size => {
                    let fill = bytes.below(255);
                    Op::Put(target, vec![fill; usize::from(fill) << (size * 2)].into())
                }
            };
            batch.push(Txn { guards, op, revision: Revision(self.revision) });
        }
        batch
    }

    fn commit(&mut self, bytes: &mut Bytes<'_>, plan: Plan) {
        let batch = self.batch(bytes);
        let reserve = Revision(self.revision + u64::from(bytes.below(100)));
        self.store();
        let before = self.model_loaded();
        self.disk.plan(plan);
        let got = self.store().commit(&batch, reserve);
        let mut model = MemStore::open(&self.model);
        match got {
            Ok(outcomes) => {
                let want = model.commit(&batch, reserve).expect("the model has no fault");
                assert_eq!(outcomes, want, "outcomes differ for {batch:?}");
            }
            Err(_) => {
                // The outcome is unknown: all of it or nothing of it, which the disk shows after a power cut.
                self.real = None;
                self.cut_power(bytes);
                let after = self.store().load().expect("it opens after a failure");
                if !same(&after, &before) {
                    model.commit(&batch, reserve).expect("the model has no fault");
                    assert!(same(&after, &self.model_loaded()), "a batch is torn (S1)");
                }
            }
        }
        self.disk.plan(Plan::default());
    }

    fn fail(&mut self, bytes: &mut Bytes<'_>) {
        let after = u32::from(bytes.below(12));
        let plan = match bytes.below(3) {
            0 => Plan { fail_write_in: Some(after), ..Plan::default() },
            1 => Plan { fail_sync_in: Some(0), ..Plan::default() },
            _ => Plan { capacity: Some(4096 * u64::from(after)), ..Plan::default() },
        };
        self.commit(bytes, plan);
    }

    fn cut_power(&mut self, bytes: &mut Bytes<'_>) {
        self.seed =
            self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d) | u64::from(bytes.below(255)) << 1;
        // Dropping the database would sync: the power is cut before it can.
        if let Some(store) = self.real.take() {
            self.disk.plan(Plan {
                fail_write_in: Some(0),
                fail_sync_in: Some(0),
                capacity: Some(0),
            });
            drop(store);
        }
        let seed = &mut self.seed;
        self.disk.cut_power(|| {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            *seed >> 63 == 1
        });
    }

    fn model_loaded(&self) -> Loaded {
        MemStore::open(&self.model).load().expect("the model loads")
    }

    fn compare(&mut self) {
        let got = self.store().load().expect("a healthy store loads");
        let want = self.model_loaded();
        assert!(same(&got, &want), "redb {got:?}\nmodel {want:?}");
    }
}

fn same(a: &Loaded, b: &Loaded) -> bool {
    a.entries == b.entries && a.revision_reserved == b.revision_reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_of_many_seeds() {
        for seed in 0..150_u64 {
            let mut state = seed;
            let bytes: Vec<u8> = (0..400)
                .map(|_| {
                    state = state
                        .wrapping_mul(0x5851_f42d_4c95_7f2d)
                        .wrapping_add(0x1405_7b7e_f767_814f);
                    state.to_be_bytes()[0]
                })
                .collect();
            store_against_model(&bytes);
        }
    }
}
