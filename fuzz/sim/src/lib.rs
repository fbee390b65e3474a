//! A whole Coracle cluster in one thread from one seed: the real control plane, real pod machines, and a world that
//! delays, loses and breaks what is between them, cuts the power and fails the disks. First rough, then calm.
//!
//! | part | what |
//! |---|---|
//! | [`world`] | size and weather, drawn from the seed |
//! | [`cluster`] | the queue of events |
//! | [`server`] | the control plane over the model store |
//! | [`node`], [`register`] | a board: the pod machine over the fake runtime of `coracle-agent-logic` |
//! | [`client`], [`writer`] | `kubectl` by a script; writers whose acknowledged writes are logged |
//! | [`history`], [`checker`], [`promises`] | the model, and what is held against it |
//! | [`bodies`] | fuzz bodies |
//!
//! Promises checked: S1, S2, S3, W1-W5, P1, P2, R5, R6, L1. Does no I/O and reads no clock.

pub mod bodies;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod history;
pub mod limits;
pub mod node;
pub mod promises;
pub mod reflector;
pub mod register;
pub mod rng;
pub mod server;
pub mod trace;
pub mod wire;
pub mod world;
pub mod writer;

use cluster::{Cluster, Report};
use rng::Rng;
use world::World;

/// Plays the world of this seed: rough, then calm until all is settled.
///
/// # Errors
/// The promise that was broken, when, and the line that plays it again.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut rng = Rng::new(seed);
    let world = World::draw(&mut rng);
    let mut cluster = Cluster::new(&world, &mut rng);
    play(&mut cluster).map_err(|why| {
        format!(
            "{why}\n  at {} ms of seed {seed}; replay: cargo run -p coracle-sim -- {seed}\n  {world:?}",
            cluster.since_begin_ms()
        )
    })
}

fn play(cluster: &mut Cluster) -> Result<Report, String> {
    cluster.begin()?;
    cluster.play(limits::ROUGH_MS)?;
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
