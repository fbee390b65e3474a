//! Makes a failing world smaller: fewer boards, pods, faults, less time; as long as the same promise breaks.

use crate::{Failure, Setup, limits::SHRINKS_MAX, play};

/// The smallest world that was found in which the same promise breaks under the same seed.
pub fn shrink(failure: Box<Failure>) -> Box<Failure> {
    let mut smallest = failure;
    let mut tries = 0;
    loop {
        let before = smallest.world.clone();
        let count = smallest.world.fields().len();
        for at in 0..count {
            for lower in [|_| 0, |value| value / 4, |value| value / 2, |value: u64| value - 1] {
                if SHRINKS_MAX <= tries {
                    return smallest;
                }
                let mut world = smallest.world.clone();
                let Some((name, field)) = world.fields().into_iter().nth(at) else { continue };
                // What a world cannot be without.
                let least = u64::from(matches!(name, "nodes" | "cpus" | "delay_ms" | "commit_ms"));
                let value = if *field == 0 { 0 } else { lower(*field).max(least) };
                if value == *field {
                    continue;
                }
                *field = value;
                tries += 1;
                let setup = Setup { world: Some(world), ..smallest.setup.clone() };
                if let Err(found) = play(&setup)
                    && found.promise() == smallest.promise()
                {
                    smallest = found;
                }
            }
        }
        if before == smallest.world {
            return smallest;
        }
    }
}
