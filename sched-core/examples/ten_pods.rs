//! Ten pods on three boards: `cargo run -p sched-core --example ten_pods`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use sched_core::{
    Amounts, Ask, Error, Fixed, NodeOffer, Placement, Profile, Reason, Resource, blocks_for,
};

/// Three nodes, ten pods, one class more than nodes, no topology domains.
type Boards = Fixed<3, 10, 4, { blocks_for(3) }, 0>;

fn amounts(cpu_milli: u32, memory_mib: u64, pods: u32) -> Amounts {
    Amounts { cpu_milli, memory_bytes: memory_mib << 20, pods, ..Amounts::ZERO }
}

fn main() -> Result<(), Error> {
    let mut placement = Placement::new(Boards::default(), Profile::PACK);
    // A Pi 5, a Pi 4 and a Pi Zero 2, less what the system keeps.
    for (cpu_milli, memory_mib) in [(3800, 7800), (3800, 3600), (3800, 350)] {
        let allocatable = amounts(cpu_milli, memory_mib, 110);
        placement.add_node(&NodeOffer { allocatable, ..NodeOffer::default() })?;
    }
    for number in 0..10 {
        let mut ask = Ask::default();
        ask.pod.requests = amounts(250 * (1 + number % 4), 300 * u64::from(1 + number % 5), 1);
        let requests = ask.pod.requests;
        match placement.place(&ask) {
            Some(at) => {
                placement.assume(&ask, at)?;
                println!("pod {number} ({} m): node {}", requests.cpu_milli, at.0);
            }
            None => {
                let refusal = placement.explain(&ask);
                let cpu = refusal.of(Reason::Insufficient(Resource::Cpu));
                let memory = refusal.of(Reason::Insufficient(Resource::Memory));
                println!("pod {number}: no node; {cpu} lack CPU, {memory} lack memory");
            }
        }
    }
    Ok(())
}
