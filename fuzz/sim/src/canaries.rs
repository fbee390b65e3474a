//! Canaries: each promise is broken on purpose, and worlds are played until a checker notices. One that survives says
//! that nothing would notice the real thing.

use coracle_agent_logic::canary::{Canary as OfAgent, Switch as AgentSwitch};
use coracle_control_logic::canary::{Canary as OfPlane, Switch as PlaneSwitch};

use crate::{Canary, Setup, play};

/// Worlds in which each must be noticed.
pub const SEEDS_MAX: u64 = 500;

/// A canary: its name, how it is set, and the promises by which it may be noticed.
#[derive(Copy, Clone, Debug)]
pub struct Bird {
    /// What is done wrong.
    pub name: Name,
    /// Names of promises.
    pub promises: &'static [&'static str],
}

/// What is done wrong, and where.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// In the control plane.
    Plane(OfPlane),
    /// In the agents.
    Agent(OfAgent),
}

/// All of them.
pub fn all() -> Vec<Bird> {
    let plane = OfPlane::ALL.map(|canary| {
        let promises: &[&str] = match canary {
            // A watcher sees what was answered early before the disk has it.
            OfPlane::AnswersEarly => &["S1", "W2"],
            OfPlane::GivesTwice => &["S2", "W1", "W2"],
            OfPlane::TakesStale => &["S3"],
            OfPlane::SkipsForSlow | OfPlane::MarksAhead | OfPlane::ResumesOutside => &["W2", "W5"],
            OfPlane::HidesLeaving => &["W2", "W5", "L1"],
            OfPlane::BindsUnassumed => &["P1"],
            OfPlane::BindsTwice => &["P2"],
            OfPlane::ForgetsFinalizer => &["L1"],
        };
        Bird { name: Name::Plane(canary), promises }
    });
    let agent = OfAgent::ALL.map(|canary| {
        let promises: &[&str] = match canary {
            OfAgent::StartsUncaged => &["R1"],
            OfAgent::ForgetsRunning => &["R5"],
            OfAgent::KillsAtOnce => &["R6"],
            OfAgent::ForgetsStatus => &["L1"],
        };
        Bird { name: Name::Agent(canary), promises }
    });
    plane.into_iter().chain(agent).collect()
}

/// Plays worlds from this seed on until the canary is noticed. Gives how many it took, and what was said.
///
/// # Errors
/// Nobody noticed, or it was taken for something else.
pub fn hunt(bird: &Bird, from: u64) -> Result<(u64, String), String> {
    let canary = match bird.name {
        Name::Plane(on) => Canary { plane: PlaneSwitch { on: Some(on) }, ..Canary::default() },
        Name::Agent(on) => Canary { agent: AgentSwitch { on: Some(on) }, ..Canary::default() },
    };
    for seed in from..from + SEEDS_MAX {
        let Err(failure) = play(&Setup { canary, ..Setup::of(seed) }) else { continue };
        if bird.promises.contains(&failure.promise()) {
            return Ok((seed - from + 1, failure.why));
        }
        return Err(format!("{:?} was taken for something else: {failure}", bird.name));
    }
    Err(format!("{:?} sang in {SEEDS_MAX} worlds, and nobody noticed", bird.name))
}
