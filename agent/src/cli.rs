//! The command line. Exit codes: 0, 1 (failed: one line on stderr says what, why, what to do), 2 (usage).

use std::{
    collections::BTreeMap, fs, io::Write as _, path::PathBuf, process::ExitCode, time::Duration,
};

use clap::{Args, Parser, Subcommand};
use coracle_api::quantity::Quantity;
use coracle_image::{ImageStore, Mirror, Platform};

use crate::{
    doctor,
    down::{self, Pods},
    shell::{
        self, Options,
        api::Server,
        chain,
        containers::host_name,
        fake::{self, Fakes},
        limits::{FAKE_NODES_MAX, FAKE_PODS_MAX},
        state::StateDir,
    },
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
    #[command(flatten)]
    fake: Fake,
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

/// Nodes that are not there: for trying out how a cluster of many behaves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fake nodes")]
struct Fake {
    /// Plays so many nodes instead of being one: they join, register and report pods as running that nobody runs.
    /// Needs no root.
    #[arg(long, value_name = "N", conflicts_with = "node_name")]
    fake: Option<usize>,
    /// They are PREFIX-0, PREFIX-1, and on.
    #[arg(long, value_name = "PREFIX", requires = "fake", default_value = "fake")]
    fake_prefix: String,
    /// Cores of each.
    #[arg(long, value_name = "CORES", requires = "fake", default_value_t = 4)]
    fake_cpu: u64,
    /// Memory of each, as 512Mi or 4Gi.
    #[arg(long, value_name = "BYTES", requires = "fake", default_value = "4Gi")]
    fake_memory: String,
    /// Pods of each at one time.
    #[arg(long, value_name = "PODS", requires = "fake", default_value_t = 110)]
    fake_pods: usize,
    /// How long a container takes to start, in milliseconds.
    #[arg(long, value_name = "MS", requires = "fake", default_value_t = 0)]
    fake_start_ms: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Images of this node.
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Says what this host can and cannot do.
    Doctor {
        /// Mends what a line in a Raspberry Pi's cmdline.txt mends, after a copy of the file.
        #[arg(long)]
        fix: bool,
    },
    /// Takes back the bridge and packet filter rules; no agent may run, no pods may be left.
    Down {
        /// Kills all pods first, without a grace period, and removes what they had.
        #[arg(long)]
        pods: bool,
    },
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

/// The command line itself, for what is written about it.
#[cfg(feature = "pages")]
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
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
        Some(Command::Doctor { fix }) => doctor::run(cli.data_dir.as_deref(), fix),
        Some(Command::Down { pods }) => match &cli.data_dir {
            Some(dir) => down::run(dir, if pods { Pods::End } else { Pods::Keep }),
            None => return usage("--data-dir DIR is needed"),
        },
        Some(Command::Image { command }) => match &cli.data_dir {
            Some(dir) => image(dir, &command),
            None => return usage("--data-dir DIR is needed"),
        },
        None => {
            let (options, fakes) = match (options(cli.run), fakes(cli.fake)) {
                (Err(Trouble::Failed(why)), _) => return failed(&why),
                (Err(Trouble::Usage(why)), _) | (_, Err(why)) => return usage(&why),
                (Ok(options), Ok(fakes)) => (options, fakes),
            };
            let Some(data_dir) = cli.data_dir else { return usage("--data-dir DIR is needed") };
            let options = Options { data_dir, ..options };
            match fakes {
                Some(fakes) => fake::run(options, fakes),
                None => shell::run(options),
            }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => failed(&why),
    }
}

fn failed(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "coracle-agent: {}", why.replace('\n', " "));
    ExitCode::FAILURE
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
    if !names_a_node(&node_name) {
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

fn names_a_node(name: &str) -> bool {
    let ok = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    let ends = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.len() <= 253
        && name.bytes().all(ok)
        && ends(name.bytes().next())
        && ends(name.bytes().last())
}

/// What `--fake` and its options say.
fn fakes(fake: Fake) -> Result<Option<Fakes>, String> {
    let Some(count) = fake.fake else { return Ok(None) };
    let range = |name: &str, value: u64, max: u64, why: &str| {
        if (1..=max).contains(&value) {
            return Ok(value);
        }
        Err(format!("--{name} {value} is not 1 to {max}{why}"))
    };
    range(
        "fake",
        count as u64,
        FAKE_NODES_MAX as u64,
        ": each node is a connection, and the control plane takes 256; play fewer",
    )?;
    let cpus = range("fake-cpu", fake.fake_cpu, 1024, "")?;
    range(
        "fake-pods",
        fake.fake_pods as u64,
        FAKE_PODS_MAX as u64,
        ": a node's range has no more addresses",
    )?;
    let memory = Quantity::parse(&fake.fake_memory)
        .ok()
        .and_then(|memory| u64::try_from(memory.value()).ok())
        .filter(|bytes| *bytes > 0);
    let Some(memory_bytes) = memory else {
        return Err(format!(
            "--fake-memory {} is no size; it reads 4Gi or 512Mi",
            fake.fake_memory
        ));
    };
    if !names_a_node(&format!("{}-{count}", fake.fake_prefix)) {
        return Err(format!(
            "--fake-prefix {} cannot begin the name of a node: use a-z, 0-9, - and ., first a letter or digit",
            fake.fake_prefix
        ));
    }
    Ok(Some(Fakes {
        count,
        prefix: fake.fake_prefix,
        cpus,
        memory_bytes,
        pods_max: fake.fake_pods,
        start: Duration::from_millis(fake.fake_start_ms),
    }))
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
        assert!(fakes(cli.fake).unwrap().is_none());
    }

    #[test]
    fn fake_nodes_are_what_the_command_line_says() {
        let read = |more: &str| {
            let line = format!("coracle-agent --data-dir d --server https://h:1 {more}");
            let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
            fakes(cli.fake)
        };
        let check = |more: &str, says: &str| {
            let said = read(more).unwrap_err();
            assert!(said.contains(says), "{more}: {said}");
        };
        let all = "--fake 3 --fake-prefix f --fake-cpu 2 --fake-memory 1Gi --fake-pods 7";
        let fakes = read(all).unwrap().unwrap();
        assert_eq!((fakes.count, fakes.cpus, fakes.pods_max), (3, 2, 7));
        assert_eq!((fakes.prefix.as_str(), fakes.memory_bytes), ("f", 1 << 30));
        check("--fake 0", "--fake 0 is not 1 to 200");
        check("--fake 201", "the control plane takes 256");
        check("--fake 1 --fake-cpu 0", "--fake-cpu 0 is not 1 to 1024");
        check("--fake 1 --fake-pods 251", "no more addresses");
        check("--fake 1 --fake-memory much", "it reads 4Gi or 512Mi");
        check("--fake 1 --fake-prefix Big", "cannot begin the name of a node");
        check("--fake-cpu 2", "--fake <N>");
        check("--fake 1 --node-name n", "cannot be used with");
    }
}
