//! `coracle`: the control plane, and the commands around it.
//!
//! | part | what |
//! |---|---|
//! | [`cli`] | the command line and its exit codes |
//! | [`serve`] | `coracle serve`: puts keys, store, control plane and listeners together |
//! | [`shell`] | the async part: HTTP, TLS, drive loop, store thread, node tunnels |
//! | [`data_dir`] | the files of a data directory, and who may use it |
//! | [`offline`] | `backup`, `restore`, `check` |
//! | [`token`] | `token create`, `list`, `delete` |
//! | [`client`] | the built-in client: `create`, `apply`, `get`, `delete`, `logs`, `wait` |
//! | [`up`] | `coracle up`: a control plane and one node in one command |

mod cli;
mod client;
mod data_dir;
mod limits;
mod log;
mod offline;
mod serve;
mod shell;
mod token;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
