//! `coracle`: the control plane, and the commands around it.
//!
//! | part | what |
//! |---|---|
//! | [`cli`] | the command line and its exit codes |
//! | [`serve`] | `coracle serve`: puts keys, store, control plane and listeners together |
//! | [`shell`] | the async part: HTTP, TLS, drive loop, store thread, node tunnels |
//! | [`data_dir`] | the files of a data directory, and who may use it |
//! | [`last_good`] | a backup a day by itself |
//! | [`offline`] | `backup`, `restore`, `check` |
//! | `pages` | manual pages and completions for packages, where built with feature `pages` |
//! | [`token`] | `token create`, `list`, `delete` |
//! | [`client`] | the built-in client: `create`, `apply`, `get`, `delete`, `logs`, `wait` |
//! | [`up`] | `coracle up`: a control plane and one node in one command |

mod cli;
mod client;
mod data_dir;
mod last_good;
mod limits;
mod log;
mod offline;
mod serve;
mod shell;
mod token;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "pages")]
    if let Some(done) = coracle_pages::asked(cli::command) {
        return done;
    }
    cli::run()
}
