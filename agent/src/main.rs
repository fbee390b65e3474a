//! `coracle-agent`: the node agent. It dials the control plane, runs the pods that are bound to its node, and opens no port.
//!
//! | part | what |
//! |---|---|
//! | `cli` | the command line |
//! | `cmdline` | what `doctor --fix` mends: a Raspberry Pi's kernel command line |
//! | `crash` | power cuts at each file call of the agent, where built with feature `crash` |
//! | `down` | takes back what the agent leaves on a host |
//! | `doctor` | what this host can and cannot do |
//! | `pages` | manual pages and completions for packages, where built with feature `pages` |
//! | `surroundings` | clock, disk and random numbers, for `doctor` |
//! | `shell` | everything that touches clocks, disks and networks; decisions are in `coracle-agent-logic` |

mod cli;
mod cmdline;
#[cfg(feature = "crash")]
mod crash;
mod doctor;
mod down;
mod shell;
mod surroundings;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The shim is this program too. It must be itself before anything here makes a thread or opens a file.
    let mut args = std::env::args_os();
    let _program = args.next();
    if std::env::args_os().nth(1).is_some_and(|word| word == "shim") {
        return coracle_shim::main(args.skip(1));
    }
    #[cfg(feature = "pages")]
    if let Some(done) = coracle_pages::asked(cli::command) {
        return done;
    }
    #[cfg(feature = "crash")]
    if let Some(done) = crash::asked() {
        return done;
    }
    cli::main()
}
