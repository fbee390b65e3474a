//! A whole Coracle cluster in one thread from one seed: the real control plane, real pod machines, and a world that
//! delays, loses and breaks what is between them, cuts the power and fails the disks. First rough, then calm.
//!
//! | part | what |
//! |---|---|
//! | [`world`] | size and weather, drawn from the seed |
//! | [`cluster`] | the queue of events |
//! | [`server`] | the control plane over the model store |
//! | [`node`], [`register`] | a board: the pod machine over the fake runtime of `coracle-agent-logic` |
//! | [`clock`] | clocks that are wrong |
//! | [`client`], [`chaos`], [`writer`] | `kubectl` by a script; a user without one; writers whose acknowledged writes are logged |
//! | [`history`], [`checker`], [`promises`] | the model, and what is held against it |
//! | [`trace`], [`shrink`] | what happened, as a number and as lines; a failing world made smaller |
//! | `canaries` (feature) | each promise broken on purpose, until it is noticed |
//! | [`silence`] | what goes on in an idle hour |
//! | [`bodies`] | fuzz bodies |
//!
//! Promises checked: S1, S2, S3, W1-W6, P1, P2, R1, R5, R6, L1. Does no I/O and reads no clock.

pub mod bodies;
#[cfg(feature = "canaries")]
pub mod canaries;
pub mod chaos;
pub mod checker;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod history;
pub mod limits;
pub mod node;
pub mod promises;
pub mod reflector;
pub mod register;
pub mod rng;
pub mod server;
pub mod shrink;
pub mod silence;
pub mod trace;
pub mod wire;
pub mod world;
pub mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::{Cluster, Report};
use rng::Rng;
use trace::Trace;
use world::World;

/// What is to be played.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everything that is drawn.
    pub seed: u64,
    /// Another world than the seed's.
    pub world: Option<World>,
    /// Lines that are kept of what happened; 0: none.
    pub lines: usize,
    /// What is done wrong on purpose.
    pub canary: Canary,
}

/// What the control plane and the agents do wrong on purpose: nothing, without the feature `canaries`.
#[derive(Copy, Clone, Debug, Default)]
pub struct Canary {
    /// The control plane.
    pub plane: coracle_control_logic::canary::Switch,
    /// The agents.
    pub agent: coracle_agent_logic::canary::Switch,
}

impl Setup {
    /// The world of this seed.
    pub fn of(seed: u64) -> Self {
        Self { seed, world: None, lines: 0, canary: Canary::default() }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where.
    pub setup: Setup,
    /// Which, and how: its name, a colon, what happened.
    pub why: String,
    /// In which world.
    pub world: World,
    /// Simulated time since the beginning, in ms.
    pub at_ms: u64,
    /// What happened, oldest first, if lines were asked for.
    pub lines: Vec<String>,
}

impl Failure {
    /// Name of the promise.
    pub fn promise(&self) -> &str {
        self.why.split(':').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Setup { seed, .. } = self.setup;
        let world = self.world.words();
        writeln!(f, "FAILED seed={seed} at {} ms: {}", self.at_ms, self.why)?;
        for line in &self.lines {
            writeln!(f, "    {line}")?;
        }
        write!(f, "  replay: coracle-sim replay {seed} --trace --world '{world}'")
    }
}

/// Plays the world of this seed: rough, then calm until all is settled.
///
/// # Errors
/// The promise that was broken, when, and the line that plays it again.
pub fn run(seed: u64) -> Result<Report, String> {
    play(&Setup::of(seed)).map_err(|failure| failure.to_string())
}

/// Plays what is set up. A panic counts as a broken promise.
///
/// # Errors
/// The promise that was broken.
pub fn play(setup: &Setup) -> Result<Report, Box<Failure>> {
    play_all(setup).1
}

/// [`play`], with the lines of a run that went well too.
pub fn play_all(setup: &Setup) -> (Vec<String>, Result<Report, Box<Failure>>) {
    let mut rng = Rng::new(setup.seed);
    let drawn = World::draw(&mut rng);
    let world = setup.world.clone().unwrap_or(drawn);
    let trace = if setup.lines == 0 { Trace::default() } else { Trace::with_lines(setup.lines) };
    let mut cluster = Cluster::new(&world, &mut rng, trace, setup.canary);
    let played = catch_unwind(AssertUnwindSafe(|| rough_then_calm(&mut cluster, &world)));
    let played = played.unwrap_or_else(|_| Err("panic: what it said stands above".into()));
    let lines = cluster.take_lines();
    match played {
        Ok(report) => (lines, Ok(report)),
        Err(why) => {
            let at_ms = cluster.since_begin_ms();
            let setup = setup.clone();
            (Vec::new(), Err(Box::new(Failure { setup, why, world, at_ms, lines })))
        }
    }
}

fn rough_then_calm(cluster: &mut Cluster, world: &World) -> Result<Report, String> {
    cluster.begin()?;
    cluster.play(world.rough_ms)?;
    cluster.calm();
    let mut looks = 0;
    while let Some(why) = cluster.unsettled() {
        if looks * limits::LOOK_MS >= limits::CALM_MS {
            return Err(format!("L1: not settled after {} ms of calm: {why}", limits::CALM_MS));
        }
        looks += 1;
        cluster.play(limits::LOOK_MS)?;
    }
    cluster.check_writes()?;
    Ok(Report { settled_ms: looks * limits::LOOK_MS, ..cluster.report() })
}
