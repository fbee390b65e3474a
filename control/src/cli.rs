//! The command line. Exit codes: 0 done, 1 failed (one line on stderr says what, why, what to do), 2 wrong usage.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    client::{self, delete, get, logs, plan, wait, write},
    log::{self, Level},
    offline, serve,
    token::{self, TokenArgs},
    up,
};

/// Kubernetes for small boards: the control plane.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, about, max_term_width = 100)]
struct Cli {
    /// How much is logged on stderr.
    #[arg(long, global = true, value_enum, default_value = "info", env = "CORACLE_LOG")]
    log: Level,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane. The first start makes the CA, keys, DIR/admin.kubeconfig and DIR/join-token.
    Serve(ServeArgs),
    /// Run a control plane and one node, apply manifests, and take all down when told to stop.
    Up(up::UpArgs),
    /// Make objects from files.
    Create(write::CreateArgs),
    /// Make objects from files, or change them to what the files say.
    Apply(write::ApplyArgs),
    /// Show objects.
    Get(get::GetArgs),
    /// Delete objects, and wait until they are gone.
    Delete(delete::DeleteArgs),
    /// Show what containers wrote.
    Logs(logs::LogsArgs),
    /// Wait until something holds for objects.
    Wait(wait::WaitArgs),
    /// Show where the pods of files would go, and why. Nothing is changed; exit code 1: some would have no place.
    Plan(plan::PlanArgs),
    /// Show why a pod is where it is, or why it has no node: what each node is to it now.
    Why(plan::WhyArgs),
    /// Bootstrap tokens: what agents join with.
    Token(TokenArgs),
    /// Write everything (objects and keys) to FILE, whether the server runs or not.
    Backup(FileArgs),
    /// Fill an empty data directory from a backup.
    Restore(FileArgs),
    /// Verify the store (the server must not run) and count what is in it.
    Check(DirArgs),
}

/// Where everything is.
#[derive(Clone, Debug, Args)]
pub(crate) struct DirArgs {
    /// Data directory.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/coracle",
        env = "CORACLE_DATA_DIR"
    )]
    pub(crate) data_dir: PathBuf,
}

/// Arguments of `serve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where.
    #[command(flatten)]
    pub(crate) dir: DirArgs,
    /// Where to listen; port 0 takes a free one. Default: port 6443 on all addresses.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Name or address under which agents and clients reach this server (in its certificate).
    #[arg(long, value_name = "NAME|IP")]
    pub(crate) advertise: Vec<String>,
    /// Pods' addresses; each node gets a /24 of it. Not to be changed once nodes have joined.
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16", value_parser = pod_cidr)]
    pub(crate) pod_cidr: String,
    /// How nodes are chosen among those that can take a pod.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) placement: plan::Placement,
}

/// Arguments of `backup` and `restore`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FileArgs {
    /// Where.
    #[command(flatten)]
    pub(crate) dir: DirArgs,
    /// The backup file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// An IPv4 range with room for at least one node's /24.
pub(crate) fn pod_cidr(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{text}` is not an IPv4 range such as 10.42.0.0/16 with a prefix of 8 to 24");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    address.parse::<std::net::Ipv4Addr>().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if (8..=24).contains(&prefix) { Ok(text.into()) } else { Err(wrong()) }
}

/// The command line itself, for what is written about it.
#[cfg(feature = "pages")]
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    log::set_level(cli.log);
    let mut tell: fn(&anyhow::Error) = client::tell;
    let done = match cli.command {
        Command::Create(args) => write::create(&args),
        Command::Apply(args) => write::apply(&args),
        Command::Get(args) => get::run(&args),
        Command::Delete(args) => delete::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Why(args) => plan::why(&args),
        Command::Serve(args) => {
            tell = logged;
            serve::run(&args)
        }
        Command::Up(args) => up::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Backup(args) => offline::backup(&args),
        Command::Restore(args) => offline::restore(&args),
        Command::Check(args) => offline::check(&args.data_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

fn logged(error: &anyhow::Error) {
    log::error!("{error:#}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_understood() {
        let check = |line: &str, good: bool| {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
        };
        check("coracle serve --data-dir /d", true);
        check("coracle serve --data-dir /d --listen 127.0.0.1:0 --listen [::1]:7000", true);
        check("coracle serve --data-dir /d --advertise pi0.local --advertise 10.0.0.5", true);
        check("coracle serve --listen 127.0.0.1", false);
        check("coracle serve --placement gradient", true);
        check("coracle up --placement spread", true);
        check("coracle serve --placement random", false);
        check("coracle plan -f a.yml --placement spread -n x", true);
        check("coracle plan", false);
        check("coracle why pod/x -n y", true);
        check("coracle why", false);
        check("coracle backup /b --data-dir /d --log debug", true);
        check("coracle backup", false);
        check("coracle check --data-dir /d", true);
        check("coracle token create --data-dir /d --ttl 0", true);
        check("coracle token --data-dir /d list --kubeconfig /k", true);
        check("coracle token delete abcdef", true);
        check("coracle token", false);
        check("coracle create -f a.yml -f - -n x --validate=strict", true);
        check("coracle create", false);
        check("coracle apply -f a.yml --force-conflicts --kubeconfig /k", true);
        check("coracle get po,deploy -A -o wide -l a=b --watch", true);
        check("coracle get pods -o go-template", false);
        check("coracle get -f a.yml -l a=b", false);
        check("coracle delete deploy/x --wait=false --cascade=foreground", true);
        check("coracle delete pods --all --grace-period=0 --force", true);
        check("coracle logs x -f --tail -1 -c y --previous", true);
        check("coracle logs x --tail=20", true);
        check("coracle logs", false);
        check("coracle wait pod/x --for=condition=Ready --timeout=5m", true);
        check("coracle wait pod/x --for=gone", false);
        check("coracle wait pod/x", false);
        check(
            "coracle up --data-dir /d --image-archive a.tar --manifest a.yml --manifest b.yml --keep",
            true,
        );
        check("coracle", false);
    }
}
