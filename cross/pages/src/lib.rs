//! `PROGRAM pages DIR`: manual pages and shell completions, for packages. Both programs have it with their feature `pages`;
//! what is shipped has neither the word nor the crates.

use std::{ffi::OsString, fs, io, io::Write as _, path::Path, process::ExitCode};

use clap::Command;
use clap_complete::Shell;

/// Does it if the command line says `pages DIR`. It is no subcommand: those are written about.
pub fn asked(command: fn() -> Command) -> Option<ExitCode> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [word, dir] = words.as_slice() else { return None };
    if word != "pages" {
        return None;
    }
    match write(command(), Path::new(dir)) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            let _ = writeln!(io::stderr(), "pages: cannot write: {error}");
            Some(ExitCode::FAILURE)
        }
    }
}

/// Writes `DIR/man1/PROGRAM*.1` and `DIR/completions/{bash,zsh,fish}/…`.
fn write(mut command: Command, dir: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let completions = dir.join("completions");
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let into = completions.join(shell.to_string());
        fs::create_dir_all(&into)?;
        clap_complete::generate_to(shell, &mut command, &name, &into)?;
    }
    let pages = dir.join("man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command, pages)
}
