//! An idle hour: 5 boards, 20 pods, nobody who asks for anything. What is written and what is said is counted and held
//! against what a small board's flash and radio can bear.

use crate::{
    Canary,
    cluster::{Cluster, Traffic},
    limits,
    rng::Rng,
    trace::Trace,
    world::World,
};

/// Boards.
pub const NODES: u64 = 5;
/// Pods on them.
pub const PODS: u64 = 20;
/// How long nothing is asked, in ms.
pub const IDLE_MS: u64 = 3_600_000;
/// Until what follows on the last change (pods to collect, old changes to forget) is over, in ms.
const REST_MS: u64 = 15 * 60 * 1000;

/// A count of the idle hour with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// What was counted in the hour.
    pub count: u64,
    /// The most that it may be.
    pub limit: u64,
}

/// Plays the idle hour.
///
/// # Errors
/// A broken promise, or a cluster that does not come to rest.
pub fn idle_hour(seed: u64) -> Result<Vec<Figure>, String> {
    let mut rng = Rng::new(seed);
    let world = World::quiet(NODES);
    let mut cluster = Cluster::new(&world, &mut rng, Trace::default(), Canary::default());
    cluster.only_asks_for(PODS);
    cluster.begin()?;
    let mut waited = 0;
    while let Some(why) = cluster.unsettled() {
        if limits::CALM_MS <= waited {
            return Err(format!("L1: not settled after {waited} ms: {why}"));
        }
        waited += limits::LOOK_MS;
        cluster.play(limits::LOOK_MS)?;
    }
    cluster.play(REST_MS)?;
    let before = cluster.traffic();
    cluster.play(IDLE_MS)?;
    match cluster.unsettled() {
        Some(why) => Err(format!("L1: did not stay settled: {why}")),
        None => Ok(figures(before, cluster.traffic())),
    }
}

fn figures(before: Traffic, after: Traffic) -> Vec<Figure> {
    // An agent renews its Lease every 10 s, which is 360 an hour; beside that it reopens watches and renews its pods' tokens.
    let leases = NODES * IDLE_MS / limits::LEASE_EVERY_MS;
    vec![
        Figure { name: "commits", count: after.commits - before.commits, limit: 0 },
        Figure { name: "durable_changes", count: after.changes - before.changes, limit: 0 },
        Figure {
            name: "requests_of_agents",
            count: after.requests - before.requests,
            limit: leases + leases / 10,
        },
        // Bookmarks of three watches of each, one a minute.
        Figure {
            name: "frames_to_agents",
            count: after.frames - before.frames,
            limit: 3 * 60 * NODES,
        },
        // A look at each board's silence every 50 s, the bookmarks' minutes, what the hour brings; not one for each Lease.
        Figure {
            name: "ticks_of_the_control_plane",
            count: after.ticks - before.ticks,
            limit: IDLE_MS / 3000,
        },
    ]
}
