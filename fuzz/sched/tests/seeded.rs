//! Every body on bytes from a generator: what libFuzzer does, small, in every `cargo test`.

use coracle_sched_model::{sched_batch, sched_gang, sched_place, sched_preempt, sched_repack};

/// Histories of each body; another number in the environment variable of this name.
const HISTORIES: u64 = 1000;

/// `SplitMix64`.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Plays histories; one that fails is named by its seed. Half of the bytes are small, so that unusual things are rarer.
fn play(body: fn(&[u8])) {
    let told = std::env::var("HISTORIES").ok().and_then(|number| number.parse().ok());
    let histories = told.unwrap_or(HISTORIES);
    for seed in 0..histories {
        let mut state = seed;
        let bytes: Vec<u8> = (0..600)
            .map(|_| {
                let word = next(&mut state);
                let [byte, plain, small, ..] = word.to_le_bytes();
                if plain & 1 == 0 { byte } else { small & 63 }
            })
            .collect();
        let played = std::panic::catch_unwind(|| body(&bytes));
        if let Err(finding) = played {
            eprintln!("history {seed} of {histories}");
            std::panic::resume_unwind(finding);
        }
    }
}

#[test]
fn place() {
    play(sched_place);
}

#[test]
fn preempt() {
    play(sched_preempt);
}

#[test]
fn gang() {
    play(sched_gang);
}

#[test]
fn repack() {
    play(sched_repack);
}

#[test]
fn batch() {
    play(sched_batch);
}

/// Seeds are histories of the bodies as they are: each is read to its end without a finding.
#[test]
fn seeds() {
    for (name, histories) in coracle_sched_model::seeds::all() {
        let body = match name {
            "sched_place" => sched_place,
            "sched_preempt" => sched_preempt,
            "sched_gang" => sched_gang,
            "sched_repack" => sched_repack,
            "sched_batch" => sched_batch,
            _ => panic!("no body is called {name}"),
        };
        assert!(!histories.is_empty());
        for bytes in histories {
            body(&bytes);
        }
    }
}
