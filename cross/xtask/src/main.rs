//! `cargo run -p xtask -- image NAME BINARY ARCHIVE`: packs a static binary as an OCI image archive.

mod image;

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["image", name, binary, archive] => {
            image::pack(name, Path::new(binary), Path::new(archive))
        }
        _ => {
            eprintln!("usage: xtask image NAME BINARY ARCHIVE");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
