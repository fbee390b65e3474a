//! Writes the seeds of each body below a directory, as libFuzzer reads them: `cargo run -p coracle-sched-model -- fuzz/corpus`.

use std::{env, fs, path::PathBuf, process::ExitCode};

use coracle_sched_model::seeds;

fn main() -> ExitCode {
    let Some(corpus) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: coracle-sched-model DIRECTORY");
        return ExitCode::FAILURE;
    };
    for (name, histories) in seeds::all() {
        let directory = corpus.join(name);
        let written = fs::create_dir_all(&directory).and_then(|()| {
            let mut numbered = histories.iter().enumerate();
            numbered.try_for_each(|(number, bytes)| {
                fs::write(directory.join(format!("seed-{number:02}")), bytes)
            })
        });
        if let Err(error) = written {
            eprintln!("{}: {error}", directory.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
