//! `coracle-sim`: plays worlds and says which of them broke a promise. Reads a clock only to say how fast it was. What
//! torments the real programs is a program of its own beside it: this crate does no I/O.
#![expect(clippy::print_stdout, reason = "a tool for a terminal")]

use std::{
    collections::BTreeMap,
    num::NonZero,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use coracle_sim::{
    Failure, Setup,
    cluster::Report,
    limits::{LINES_MAX, LINES_SHOWN},
    play, play_all,
    rng::Rng,
    shrink::shrink,
    world::World,
};

const USAGE: &str = "usage: coracle-sim run SEED | range A B | soak MINUTES [FROM] | standard A B
       coracle-sim canaries [NAME] (feature `canaries`)
       coracle-sim replay SEED [--trace] [--world 'nodes=1 …']
       coracle-sim silence
       coracle-sim torment [MINUTES] [--seed N] [--bin-dir DIR] [--trace]
A SEED is a decimal number or the hex of a commit's hash. --shrink makes what fails smaller.
standard: the world by which speed is measured. A line for each seed; exit code 1 if any failed.
silence: what is written and said in an idle hour of 5 boards and 20 pods, each beside its limit.
torment: the real programs of DIR (or beside this one), killed, stopped, cut off and filled up; wants root.";

struct Flags {
    shrink: bool,
    trace: bool,
    world: Option<World>,
}

fn main() -> ExitCode {
    let mut words = Vec::new();
    let mut flags = Flags { shrink: false, trace: false, world: None };
    let mut args = std::env::args().skip(1);
    if std::env::args().nth(1).is_some_and(|word| word == "torment") {
        return torment();
    }
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--shrink" => flags.shrink = true,
            "--trace" => flags.trace = true,
            "--world" => match World::parse(&args.next().unwrap_or_default()) {
                Ok(world) => flags.world = Some(world),
                Err(word) => return usage(&format!("no word of a world: {word}")),
            },
            _ => words.push(arg),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let range = |from: &str, to: &str| seed(from).zip(seed(to));
    match words.as_slice() {
        ["run", one] => match seed(one) {
            Some(one) => Tally::default().all(one..=one, &flags, false),
            None => usage("no seed"),
        },
        ["silence"] => silence(),
        ["replay", one] => seed(one).map_or_else(|| usage("no seed"), |one| replay(one, &flags)),
        ["range", from, to] => match range(from, to) {
            Some((from, to)) => Tally::default().all(from..to, &flags, false),
            None => usage("no range"),
        },
        ["standard", from, to] => match range(from, to) {
            Some((from, to)) => Tally::default().all(from..to, &flags, true),
            None => usage("no range"),
        },
        #[cfg(feature = "canaries")]
        ["canaries", only @ ..] => canaries(only.first().copied().unwrap_or_default()),
        ["soak", minutes, from @ ..] => {
            let from = from.first().map_or(Some(1 << 32), |from| seed(from));
            match minutes.parse::<u64>().ok().zip(from) {
                Some((minutes, from)) => {
                    let until = Instant::now() + Duration::from_secs(60 * minutes);
                    let seeds = (from..).take_while(|_| Instant::now() < until);
                    Tally::default().all(seeds, &flags, false)
                }
                None => usage("no number of minutes"),
            }
        }
        _ => usage("what is to be done?"),
    }
}

/// An idle hour, a line a figure.
fn silence() -> ExitCode {
    let figures = match coracle_sim::silence::idle_hour(0) {
        Ok(figures) => figures,
        Err(why) => {
            println!("FAILED {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut code = ExitCode::SUCCESS;
    for coracle_sim::silence::Figure { name, count, limit } in figures {
        let judged = if limit < count { "over" } else { "ok" };
        println!("silence simulated_{name} {count} an_hour limit {limit} {judged}");
        if limit < count {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Becomes the program that torments the real ones, with the same words.
fn torment() -> ExitCode {
    let beside = std::env::current_exe().map(|own| own.with_file_name("torment"));
    match beside {
        Ok(program) => {
            let error = Command::new(&program).args(std::env::args().skip(2)).exec();
            usage(&format!("cannot run {}: {error}; run `make torment`", program.display()))
        }
        Err(error) => usage(&format!("cannot find this program: {error}")),
    }
}

/// Breaks each promise on purpose, until it is noticed.
#[cfg(feature = "canaries")]
fn canaries(only: &str) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let birds = coracle_sim::canaries::all().into_iter();
    for bird in birds.filter(|bird| format!("{:?}", bird.name).contains(only)) {
        match coracle_sim::canaries::hunt(&bird, 0) {
            Ok((seeds, why)) => {
                println!("NOTICED {:?} after {seeds} seeds: {why}", bird.name);
            }
            Err(why) => {
                println!("FAILED {why}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn usage(why: &str) -> ExitCode {
    eprintln!("{why}\n{USAGE}");
    ExitCode::from(2)
}

fn seed(text: &str) -> Option<u64> {
    let hex = text.get(..16).unwrap_or(text);
    text.parse().ok().or_else(|| u64::from_str_radix(hex, 16).ok())
}

fn passed(seed: u64, report: &Report) -> String {
    format!("PASSED seed={seed} events={} fingerprint={:016x}", report.events, report.trace)
}

/// Plays one seed and shows all of it.
fn replay(seed: u64, flags: &Flags) -> ExitCode {
    let lines = if flags.trace { LINES_MAX } else { 0 };
    let (lines, played) =
        play_all(&Setup { seed, world: flags.world.clone(), lines, ..Setup::of(seed) });
    for line in lines {
        println!("{line}");
    }
    match played {
        Ok(report) => {
            println!("{report:#?}\n{}", passed(seed, &report));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: Vec<u64>,
    simulated_ms: u64,
    events: u64,
}

impl Tally {
    fn all(
        mut self,
        seeds: impl Iterator<Item = u64> + Send,
        flags: &Flags,
        is_standard: bool,
    ) -> ExitCode {
        let begin = Instant::now();
        let seeds = Mutex::new(seeds.enumerate());
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
                let (tell, seeds) = (tell.clone(), &seeds);
                // A world is one thread's; worlds are many.
                scope.spawn(move || {
                    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
                    while let Some((at, seed)) = next() {
                        let standard = is_standard.then(|| World::standard(&mut Rng::new(seed)));
                        let world = flags.world.clone().or(standard);
                        let played = play(&Setup { world, ..Setup::of(seed) });
                        let played = played.map_err(|failure| explained(failure, flags));
                        if tell.send((at, seed, played)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            // Told in the order of the seeds, whoever was first.
            let (mut early, mut due) = (BTreeMap::new(), 0);
            for (at, seed, played) in told {
                early.insert(at, (seed, played));
                while let Some((seed, played)) = early.remove(&due) {
                    self.note(seed, played);
                    due += 1;
                }
            }
        });
        self.summary(begin.elapsed())
    }

    fn note(&mut self, seed: u64, played: Result<Report, Box<Failure>>) {
        match played {
            Ok(report) => {
                self.passed += 1;
                self.simulated_ms += report.simulated_ms;
                self.events += report.events;
                println!("{}", passed(seed, &report));
            }
            Err(failure) => {
                self.simulated_ms += failure.at_ms;
                self.failed.push(seed);
                println!("{failure}");
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    fn summary(&self, took: Duration) -> ExitCode {
        let hours = self.simulated_ms as f64 / 3_600_000.0;
        let minutes = took.as_secs_f64() / 60.0;
        println!(
            "sim: {} passed, {} failed; {hours:.1} cluster-hours and {} events in {minutes:.2} minutes: {:.0} cluster-hours a minute",
            self.passed,
            self.failed.len(),
            self.events,
            hours / minutes.max(f64::EPSILON),
        );
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            println!("sim: failed seeds: {:?}", self.failed);
            ExitCode::FAILURE
        }
    }
}

/// A failure with the lines before it: the same seed gives the same again.
fn explained(failure: Box<Failure>, flags: &Flags) -> Box<Failure> {
    let failure = if flags.shrink { shrink(failure) } else { failure };
    let setup =
        Setup { world: Some(failure.world.clone()), lines: LINES_SHOWN, ..failure.setup.clone() };
    match play(&setup) {
        Err(again) => again,
        Ok(_) => failure,
    }
}
