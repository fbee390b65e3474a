//! Worlds that every change must survive, and the one of `CORACLE_SIM_SEED` (the commit's hash, in CI).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use coracle_sim::run;

const SEEDS: [u64; 8] = [1, 10, 16, 24, 26, 27, 35, 36];

#[test]
fn fixed_seeds() {
    let mut accidents = 0;
    for seed in SEEDS {
        let report = run(seed).unwrap_or_else(|why| panic!("{why}"));
        assert!(report.watched > 50, "seed {seed} watched nothing: {report:?}");
        assert!(report.acknowledged > 20, "seed {seed} wrote nothing: {report:?}");
        assert!(report.containers > 0, "seed {seed} started nothing: {report:?}");
        accidents += report.accidents;
    }
    assert!(accidents > 10, "the weather was calm everywhere");
}

#[test]
fn the_seed_of_the_environment() {
    // Decimal, or the hex of a commit's hash; without one, a world that the fixed seeds have not.
    let text = std::env::var("CORACLE_SIM_SEED").unwrap_or_else(|_| "5".into());
    let hex = text.get(..16).unwrap_or(&text);
    let seed = text.parse().or_else(|_| u64::from_str_radix(hex, 16)).unwrap();
    run(seed).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let once = run(3).unwrap();
    assert_eq!(once, run(3).unwrap());
    assert_ne!(once.trace, run(4).unwrap().trace);
}
