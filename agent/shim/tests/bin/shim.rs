//! The shim by itself, for tests: `--data-dir DIR --pod UID`, and `--fail-step N` to make
//! the first start fail at step N, the next at the step after it, and so on (R4).

use std::process::ExitCode;

fn main() -> ExitCode {
    coracle_shim::main_for_tests(std::env::args_os().skip(1))
}
