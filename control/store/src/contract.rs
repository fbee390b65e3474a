//! What every [`Store`] owes, as one suite (S1, S2, S3). It panics with the name of what does not hold.

use std::sync::Arc;

use crate::{Entry, Guard, Op, Outcome, Revision, Store, Txn};

/// Opens the storage (empty the first time); what was opened before has been dropped.
pub type Open<'a> = &'a mut dyn FnMut() -> Box<dyn Store>;

/// Runs the suite on storage that is empty.
pub fn check(open: Open<'_>) {
    starts_empty(open);
    puts_and_deletes(open);
    guards(open);
    batches(open);
    numbers(open);
    sizes(open);
}

fn put(revision: u64, key: &str, value: &[u8]) -> Txn {
    Txn { guards: vec![], op: Op::Put(key.into(), value.into()), revision: Revision(revision) }
}

fn delete(revision: u64, key: &str) -> Txn {
    Txn { guards: vec![], op: Op::Delete(key.into()), revision: Revision(revision) }
}

fn only_if(mut txn: Txn, key: &str, expected: u64) -> Txn {
    txn.guards.push(Guard { key: key.into(), expected: Revision(expected) });
    txn
}

fn conflict(key: &str, actual: u64) -> Outcome {
    Outcome::Conflict { key: key.into(), actual: Revision(actual) }
}

fn commit(store: &mut dyn Store, batch: &[Txn]) -> Vec<Outcome> {
    store.commit(batch, Revision(0)).expect("a healthy store commits")
}

fn entries(store: &mut dyn Store) -> Vec<(Arc<str>, u64, Arc<[u8]>)> {
    let plain = |e: Entry| (e.key, e.revision.0, e.value);
    store.load().expect("a healthy store loads").entries.into_iter().map(plain).collect()
}

fn entry(key: &str, revision: u64, value: &[u8]) -> (Arc<str>, u64, Arc<[u8]>) {
    (key.into(), revision, value.into())
}

fn starts_empty(open: Open<'_>) {
    let loaded = open().load().expect("an empty store loads");
    assert!(loaded.entries.is_empty(), "it starts empty");
    assert_eq!(loaded.revision_reserved, Revision(0), "no number is given yet");
}

fn puts_and_deletes(open: Open<'_>) {
    let mut store = open();
    let batch =
        [put(1, "/registry/b", b"2"), put(2, "/registry/a", b"1"), put(3, "/registry/c", b"")];
    assert_eq!(commit(&mut *store, &batch), vec![Outcome::Done; 3]);
    let batch = [put(4, "/registry/b", b"22"), delete(5, "/registry/c"), delete(6, "/registry/no")];
    assert_eq!(commit(&mut *store, &batch), vec![Outcome::Done; 3]);
    let want = vec![entry("/registry/a", 2, b"1"), entry("/registry/b", 4, b"22")];
    assert_eq!(entries(&mut *store), want, "pairs come in the order of keys");
    drop(store);
    let mut store = open();
    assert_eq!(entries(&mut *store), want, "they are there after reopening (S1)");
}

fn guards(open: Open<'_>) {
    let mut store = open();
    let cases = [
        (only_if(put(10, "/registry/a", b"x"), "/registry/a", 1), conflict("/registry/a", 2)),
        (only_if(put(11, "/registry/a", b"x"), "/registry/a", 0), conflict("/registry/a", 2)),
        (only_if(put(12, "/registry/n", b"x"), "/registry/n", 5), conflict("/registry/n", 0)),
        (only_if(delete(13, "/registry/a"), "/registry/b", 3), conflict("/registry/b", 4)),
        (
            only_if(only_if(put(14, "/registry/n", b"x"), "/registry/a", 2), "/registry/b", 9),
            conflict("/registry/b", 4),
        ),
    ];
    for (txn, want) in cases {
        let before = entries(&mut *store);
        assert_eq!(commit(&mut *store, std::slice::from_ref(&txn)), [want], "{txn:?}");
        assert_eq!(entries(&mut *store), before, "a refused transaction writes nothing (S3)");
    }
    let good = only_if(only_if(put(15, "/registry/n", b"new"), "/registry/n", 0), "/registry/a", 2);
    assert_eq!(commit(&mut *store, &[good]), [Outcome::Done]);
    let good = only_if(delete(16, "/registry/n"), "/registry/n", 15);
    assert_eq!(commit(&mut *store, &[good]), [Outcome::Done]);
}

fn batches(open: Open<'_>) {
    let mut store = open();
    let batch = [
        only_if(put(20, "/registry/q", b"1"), "/registry/q", 0),
        only_if(put(21, "/registry/q", b"2"), "/registry/q", 0),
        only_if(put(22, "/registry/q", b"3"), "/registry/q", 20),
        only_if(delete(23, "/registry/q"), "/registry/q", 22),
        only_if(put(24, "/registry/q", b"4"), "/registry/q", 0),
    ];
    let want =
        [Outcome::Done, conflict("/registry/q", 20), Outcome::Done, Outcome::Done, Outcome::Done];
    assert_eq!(commit(&mut *store, &batch), want, "each sees those before it, and fails alone");
    drop(store);
    assert!(entries(&mut *open()).contains(&entry("/registry/q", 24, b"4")));
}

fn numbers(open: Open<'_>) {
    let reserved = |store: &mut dyn Store| store.load().expect("it loads").revision_reserved.0;
    let mut store = open();
    assert_eq!(reserved(&mut *store), 24, "a number used is a number given (S2)");
    store.commit(&[], Revision(1000)).expect("a reservation alone is committed");
    assert_eq!(reserved(&mut *store), 1000);
    store.commit(&[put(25, "/registry/r", b"")], Revision(30)).expect("it commits");
    assert_eq!(reserved(&mut *store), 1000, "a reservation never sinks (S2)");
    drop(store);
    assert_eq!(reserved(&mut *open()), 1000, "nor by reopening");
    let refused = only_if(put(2000, "/registry/r", b""), "/registry/r", 7);
    commit(&mut *open(), &[refused]);
    assert!(reserved(&mut *open()) >= 1000);
}

fn sizes(open: Open<'_>) {
    let mut store = open();
    let big = vec![b'x'; crate::limits::VALUE_BYTES_MAX];
    let key = format!("/registry/{}", "k".repeat(crate::limits::KEY_BYTES_MAX - 10));
    let many: Vec<Txn> =
        (0..500).map(|n| put(3000 + n, &format!("/registry/m/{n:03}"), b"m")).collect();
    commit(&mut *store, &[put(2999, &key, &big)]);
    commit(&mut *store, &many);
    store.compact().expect("it compacts");
    drop(store);
    let mut store = open();
    let all = entries(&mut *store);
    assert!(all.contains(&entry(&key, 2999, &big)), "a large value comes back");
    assert_eq!(all.iter().filter(|(key, ..)| key.starts_with("/registry/m/")).count(), 500);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "in the order of keys");
}
