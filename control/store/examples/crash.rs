//! `crash [POINTS [SEED]]`: cuts the power under redb at so many points (10,000) and says what was survived.
#![expect(clippy::print_stdout, reason = "a tool for a terminal")]

use std::{process::ExitCode, time::Duration};

use coracle_store::crash::{Survived, survive};

/// Cuts of one workload; then a new one begins.
const POINTS: u64 = 10_000;
/// Batches of one workload.
const BATCHES: u64 = 250;
/// A store of this size opens in no more than that.
const OPENING_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Ok(points), Ok(mut seed)) =
        (args.next().unwrap_or(Ok(POINTS)), args.next().unwrap_or(Ok(1)))
    else {
        eprintln!("usage: crash [POINTS [SEED]]");
        return ExitCode::from(2);
    };
    let mut sum = Survived::default();
    while sum.points < points {
        let survived = match survive(seed, BATCHES, POINTS.min(points - sum.points)) {
            Ok(survived) => survived,
            Err(why) => {
                println!("crash: {why}");
                return ExitCode::FAILURE;
            }
        };
        sum.points += survived.points;
        sum.partial += survived.partial;
        sum.again += survived.again;
        sum.all += survived.all;
        sum.worst = sum.worst.max(survived.worst);
        seed += 1;
    }
    let openings = u32::try_from(sum.points + sum.again).unwrap_or(u32::MAX);
    println!(
        "crash: {} cuts survived, {} of them with a part of what was not synced, {} openings cut again; opened in {:.1?} on average, {:.1?} at worst (limit {OPENING_MAX:?})",
        sum.points,
        sum.partial,
        sum.again,
        sum.all / openings.max(1),
        sum.worst,
    );
    if sum.worst <= OPENING_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
