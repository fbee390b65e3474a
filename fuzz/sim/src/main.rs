//! `coracle-sim SEED`, or `coracle-sim --seeds N [--from S]`: plays worlds and says which of them broke a promise.
#![expect(clippy::print_stdout, reason = "a tool for a terminal")]

use std::process::ExitCode;

const USAGE: &str = "usage: coracle-sim SEED | coracle-sim --seeds N [--from S]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let seeds = match args.as_slice() {
        [seed] => number(seed).map(|seed| (seed, 1)),
        ["--seeds", count] => number(count).map(|count| (0, count)),
        ["--seeds", count, "--from", from] => number(count).zip(number(from)).map(|(n, s)| (s, n)),
        _ => None,
    };
    let Some((from, count)) = seeds else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut failed: u64 = 0;
    for seed in from..from.saturating_add(count) {
        match coracle_sim::run(seed) {
            Ok(report) if count == 1 => println!("{report:#?}"),
            Ok(_) => {}
            Err(why) => {
                failed += 1;
                println!("seed {seed}: {why}");
            }
        }
    }
    println!("sim: {} passed, {failed} failed", count - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
