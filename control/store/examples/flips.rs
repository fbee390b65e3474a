//! `flips [TIMES [SEED]]`: flips bits of closed stores so many times (20,000) and says what became of it.
#![expect(clippy::print_stdout, reason = "a tool for a terminal")]

use std::process::ExitCode;

use coracle_store::flips::flip;

/// Flips of one store.
const TIMES: u64 = 2_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Ok(times), Ok(from)) = (args.next().unwrap_or(Ok(20_000)), args.next().unwrap_or(Ok(1)))
    else {
        eprintln!("usage: flips [TIMES [SEED]]");
        return ExitCode::from(2);
    };
    // redb's own panics are refusals, and counted as such.
    std::panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(|at| at.file().contains("/redb-")) {
            eprintln!("{panic}");
        }
    }));
    let (mut same, mut refused) = (0, 0);
    for seed in from..from + times.div_ceil(TIMES) {
        match flip(seed, TIMES) {
            Ok(flipped) => {
                same += flipped.same;
                refused += flipped.refused;
            }
            Err(why) => {
                println!("flips: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "flips: {same} times what was written was read, {refused} times the store was refused"
    );
    ExitCode::SUCCESS
}
