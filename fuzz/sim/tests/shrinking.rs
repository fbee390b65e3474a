//! A failing world is made smaller, and what is left still fails, in the same way.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use coracle_agent_logic::canary::{Canary as OfAgent, Switch};
use coracle_sim::{Canary, Setup, play, shrink::shrink, world::World};

#[test]
fn what_fails_gets_smaller_and_fails_the_same_way() {
    let agent = Switch { on: Some(OfAgent::StartsUncaged) };
    let setup = Setup { canary: Canary { agent, ..Canary::default() }, ..Setup::of(0) };
    let found = play(&setup).unwrap_err();
    let before = found.world.words();
    let small = shrink(found.clone());
    assert_eq!(small.promise(), found.promise());
    // One board, no writers, nobody who meddles: a pod whose start is not waited for is enough.
    assert_eq!((small.world.nodes, small.world.writers, small.world.chaos_ms), (1, 0, 0));
    assert!(small.world.words().len() < before.len() / 2, "{before}\n{}", small.world.words());
    // The line that replays it does.
    let world = Some(World::parse(&small.world.words()).unwrap());
    let again = play(&Setup { world, ..setup }).unwrap_err();
    assert_eq!((again.why, again.at_ms), (small.why.clone(), small.at_ms));
}
