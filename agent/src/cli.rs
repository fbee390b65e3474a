//! The command line. Exit codes: 0, 1 (failed: one line on stderr says what, why, what to do), 2 (usage).

use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use coracle_image::{ImageStore, Mirror, Platform};

use crate::{
    doctor, down,
    shell::{self, Options, api::Server, chain, containers::host_name, state::StateDir},
};

/// Runs the pods of one node of a Coracle cluster.
#[derive(Debug, Parser)]
#[command(name = "coracle-agent", version)]
struct Cli {
    /// Where the agent keeps its identity, images, pods and logs.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Run {
    /// The control plane, as https://HOST:PORT.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The join token; needed the first time only.
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that holds the join token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of the node; the host's name if not given.
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// A label of the node.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Another place to ask for a registry's images first.
    #[arg(long = "registry-mirror", value_name = "HOST=URL")]
    mirrors: Vec<String>,
    /// Name of the pods' bridge; the first free coracleN if not given.
    #[arg(long, value_name = "NAME", hide = true)]
    bridge: Option<String>,
    /// First directory of the pods' cgroups.
    #[arg(long, value_name = "NAME", hide = true, default_value = "coracle")]
    cgroup_root: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Images of this node.
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Says what this host can and cannot do.
    Doctor,
    /// Takes back the bridge and packet filter rules; no agent may run, no pods may be left.
    Down,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Imports an OCI or Docker archive and pins its images.
    Import {
        /// The archive.
        archive: PathBuf,
        /// Name of its image, if the archive does not say it.
        #[arg(long)]
        name: Option<String>,
    },
    /// Lists images.
    List,
    /// Removes an image by name.
    Remove {
        /// As `list` shows it.
        name: String,
    },
}

/// Runs what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match cli.command {
        Some(Command::Doctor) => doctor::run(cli.data_dir.as_deref()),
        Some(Command::Down) => match &cli.data_dir {
            Some(dir) => down::run(dir),
            None => return usage("--data-dir DIR is needed"),
        },
        Some(Command::Image { command }) => match &cli.data_dir {
            Some(dir) => image(dir, &command),
            None => return usage("--data-dir DIR is needed"),
        },
        None => match (cli.data_dir, options(cli.run)) {
            (None, _) => return usage("--data-dir DIR is needed"),
            (_, Err(Trouble::Usage(why))) => return usage(&why),
            (_, Err(Trouble::Failed(why))) => Err(why),
            (Some(data_dir), Ok(options)) => shell::run(Options { data_dir, ..options }),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "coracle-agent: {}", why.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn usage(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "coracle-agent: {why}; see coracle-agent --help");
    ExitCode::from(2)
}

enum Trouble {
    Usage(String),
    Failed(String),
}

fn options(run: Run) -> Result<Options, Trouble> {
    let server = run.server.ok_or_else(|| Trouble::Usage("--server URL is needed".into()))?;
    let server = Server::parse(&server).map_err(Trouble::Usage)?;
    let token = match (run.token, run.token_file) {
        (Some(token), _) => Some(token),
        (None, Some(file)) => Some(fs::read_to_string(&file).map_err(|error| {
            Trouble::Failed(format!("cannot read the join token from {}: {error}", file.display()))
        })?),
        (None, None) => None,
    };
    let node_name = run.node_name.unwrap_or_else(|| host_name().to_lowercase());
    let ok = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let ends = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let fits = node_name.len() <= 253
        && node_name.bytes().all(ok)
        && ends(node_name.bytes().next())
        && ends(node_name.bytes().last());
    if !fits {
        return Err(Trouble::Usage(format!(
            "`{node_name}` cannot name a node: use a-z, 0-9, - and ., first and last a letter or digit; give --node-name"
        )));
    }
    let mut labels = BTreeMap::new();
    for label in run.labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Trouble::Usage(format!("--label {label} is not KEY=VALUE")))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let mirrors: Result<Vec<Mirror>, String> =
        run.mirrors.iter().map(|text| Mirror::parse(text)).collect();
    Ok(Options {
        data_dir: PathBuf::new(),
        server,
        token,
        node_name,
        labels,
        mirrors: mirrors.map_err(Trouble::Usage)?,
        bridge: run.bridge,
        cgroup_root: run.cgroup_root,
    })
}

/// May run beside an agent on the same directory.
fn image(dir: &std::path::Path, command: &ImageCommand) -> Result<(), String> {
    let state = StateDir::open(dir).map_err(|error| chain(&error))?;
    let store =
        ImageStore::open(&state.images(), Platform::host()).map_err(|error| chain(&error))?;
    let mut out = std::io::stdout().lock();
    let mut say =
        |line: String| writeln!(out, "{line}").map_err(|error| format!("cannot write: {error}"));
    match command {
        ImageCommand::Import { archive, name } => {
            let imported = store.import(archive, name.as_deref()).map_err(|error| chain(&error))?;
            for image in imported {
                say(format!("imported {} {}", image.names.join(" "), image.digest))?;
            }
        }
        ImageCommand::List => {
            for image in store.list().map_err(|error| chain(&error))? {
                let pinned = if image.pinned { "pinned" } else { "pulled" };
                for name in &image.names {
                    say(format!("{name} {} {} {pinned}", image.digest, image.bytes))?;
                }
            }
        }
        ImageCommand::Remove { name } => {
            store.remove(name).map_err(|error| chain(&error))?;
            say(format!("removed {name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let line = "coracle-agent --data-dir d image import x.tar --name n";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(matches!(
            cli.command,
            Some(Command::Image { command: ImageCommand::Import { .. } })
        ));
        let line =
            "coracle-agent --data-dir d --server https://h:1 --token t --label a=b --label c=d";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Ok(options) = options(cli.run) else { panic!("it is a good line") };
        assert_eq!(options.labels.len(), 2);
    }
}
