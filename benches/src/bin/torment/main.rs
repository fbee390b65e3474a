//! `coracle-sim torment`: the real programs on boards of network namespaces, in real weather, with real users; every
//! promise that shows from outside is held against what they answer.
//!
//! ```text
//! torment [MINUTES] [--seed N] [--bin-dir DIR] [--trace]
//! ```
//!
//! One control plane and three agents. Rounds of rough weather, each followed by calm in which everything must become as
//! asked, until the minutes (10) are over. S1, S2, S3, P2, W1, W2, R5 and L1 are checked; at the end nothing of a pod may
//! be left: no process, mount, cgroup, link, directory. Exit code 1 and the lines of what happened if one is broken.
//!
//! This process makes a PID, mount and network namespace and plays inside it: whatever ends it, also SIGKILL, ends
//! everything in there. What outlives a namespace (a directory, cgroups) is removed by the process outside.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

mod boards;
mod calm;
mod faults;
mod journal;
mod live;
mod user;
mod watcher;

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use coracle_benches::{
    cluster::{bin_dir, project},
    disk::LoopDisk,
    https::Admin,
};
use coracle_sim::rng::Rng;
use nix::sys::signal::{SigSet, Signal};

use boards::Board;
use faults::Weather;
use journal::{EndsAll, Journal};
use user::{Acknowledged, CONFIG_MAPS, DEPLOYMENTS, PODS, User};
use watcher::Watcher;

const USAGE: &str = "usage: torment [MINUTES] [--seed N] [--bin-dir DIR] [--trace]";
/// Rough weather of one round, at most.
const ROUND: Duration = Duration::from_secs(100);
/// MiB of the disk with the store.
const DISK_MIB: u64 = 64;
/// Until a program that ended by itself is started again, as a service manager does.
const RESTART: Duration = Duration::from_secs(1);
/// Boards: the control plane's, and the nodes'.
const BOARDS: [&str; 4] = ["control", "pi1", "pi2", "pi3"];

/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

struct Args {
    minutes: u64,
    seed: u64,
    bin_dir: PathBuf,
    is_loud: bool,
    /// Where everything is, for the process inside.
    inside: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = args().and_then(|args| match &args.inside {
        Some(dir) => inside(dir, &args),
        None => outside(&args),
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("torment: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn args() -> Result<Args> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut args = Args {
        minutes: 10,
        seed: now.as_secs(),
        bin_dir: PathBuf::new(),
        is_loud: false,
        inside: None,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().with_context(|| format!("{word} needs a value; {USAGE}"));
        match word.as_str() {
            "--seed" => args.seed = next()?.parse().context("--seed wants a number")?,
            "--bin-dir" => args.bin_dir = next()?.into(),
            "--inside" => args.inside = Some(next()?.into()),
            "--trace" => args.is_loud = true,
            _ => args.minutes = word.parse().with_context(|| format!("`{word}`? {USAGE}"))?,
        }
    }
    if args.bin_dir.as_os_str().is_empty() {
        args.bin_dir = bin_dir()?;
    }
    args.bin_dir = args.bin_dir.canonicalize().context("--bin-dir is not there")?;
    for program in ["coracle", "coracle-agent"] {
        let path = args.bin_dir.join(program);
        ensure!(path.is_file(), "{} is not there; run `make build`", path.display());
    }
    ensure!(0 < args.minutes, "at least one minute; {USAGE}");
    Ok(args)
}

/// The archive of the image that pods run.
fn archive() -> PathBuf {
    project().join("target/demo/testing-service.tar")
}

/// What cgroups of this run begin with.
fn cgroup_root(dir: &Path) -> String {
    dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Plays inside new namespaces, and removes what outlives them.
fn outside(args: &Args) -> Result<ExitCode> {
    ensure!(nix::unistd::geteuid().is_root(), "containers need root: run it as root or with sudo");
    ensure!(archive().is_file(), "{} is not there; run `make torment`", archive().display());
    let dir = env::temp_dir().join(format!("torment-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(["unshare", "--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        // The first process of the namespace collects the children that others left: shims.
        .args(["sh", "-c", "\"$@\" & wait $!", "torment"])
        .arg(env::current_exe()?)
        .args(["--inside".as_ref(), dir.as_os_str()])
        .args(["--bin-dir".as_ref(), args.bin_dir.as_os_str()])
        .args(["--seed", &args.seed.to_string(), &args.minutes.to_string()])
        .args(args.is_loud.then_some("--trace"))
        .stdin(Stdio::null())
        // Ctrl-C is for this process, which then ends that one.
        .process_group(0)
        .spawn()
        .context("cannot run setpriv and unshare")?;
    // Not before: a child has the mask of its parent.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break u8::try_from(status.code().unwrap_or(2)).unwrap_or(2);
        }
        if signals.wait()? != Signal::SIGCHLD {
            println!("torment: interrupted, taking everything down");
            child.kill()?;
            child.wait()?;
            break INTERRUPTED;
        }
    };
    let left = remove_cgroups(&cgroup_root(&dir));
    ensure!(left.is_empty(), "cgroups are left: {left:?}");
    if code != 0 && code != INTERRUPTED {
        println!("torment: logs and state are kept in {}", dir.display());
    } else {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(ExitCode::from(code))
}

/// Removes the cgroups of the run; what could not be removed.
fn remove_cgroups(root: &str) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        for dir in live::cgroups(root) {
            // Its processes may still be on their way out; it is tried again.
            let _busy = fs::remove_dir(dir);
        }
        let left = live::cgroups(root);
        if left.is_empty() || until < Instant::now() {
            return left;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The whole run, in namespaces of its own.
fn inside(dir: &Path, args: &Args) -> Result<ExitCode> {
    println!("torment: seed={} minutes={}", args.seed, args.minutes);
    let journal = Journal::new(args.is_loud);
    let played = play(dir, args, &journal);
    journal.end();
    if let Err(error) = &played {
        // What the machine refuses, and what did not become as asked in calm.
        journal.broken(&format!("{error:#}"));
    }
    let (done, checked) = journal.counts();
    println!("torment: done: {done}\ntorment: checked: {checked}");
    match journal.verdict() {
        None => {
            println!("PASSED seed={}", args.seed);
            Ok(ExitCode::SUCCESS)
        }
        Some(why) => {
            println!("FAILED seed={}: {why}", args.seed);
            for line in journal.lines() {
                println!("    {line}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Makes the boards and starts everything; the way to the API.
fn begin(dir: &Path, args: &Args) -> Result<(Vec<Board>, LoopDisk, Admin)> {
    boards::bridge()?;
    let disk = LoopDisk::mount(&dir.join("disk.ext4"), &dir.join("control"), DISK_MIB)?;
    let mut boards = Vec::new();
    for (number, name) in (1..).zip(BOARDS) {
        boards.push(Board::make(name, number, &dir.join(name))?);
    }
    let program = |name: &str| args.bin_dir.join(name).display().to_string();
    let server = boards.first().map(Board::ip).context("no boards")?;
    let data = dir.join("control/data");
    for board in &mut boards {
        let data = if board.name == "control" { &data } else { &board.dir };
        let data = data.display().to_string();
        let words = if board.name == "control" {
            let listen = format!("{server}:6443");
            [&program("coracle"), "serve", "--listen", &listen, "--data-dir", &data]
                .map(str::to_owned)
                .to_vec()
        } else {
            let agent = program("coracle-agent");
            board.inside(&[
                &agent,
                "--data-dir",
                &data,
                "image",
                "import",
                &archive().display().to_string(),
            ])?;
            let root = format!("{}-{}", cgroup_root(dir), board.name);
            let token = dir.join("control/data/join-token").display().to_string();
            let url = format!("https://{server}:6443");
            [
                &agent,
                "--data-dir",
                &data,
                "--server",
                &url,
                "--token-file",
                &token,
                "--node-name",
                &board.name,
                "--cgroup-root",
                &root,
            ]
            .map(str::to_owned)
            .to_vec()
        };
        board.set_words(words);
        board.start()?;
        if board.name == "control" {
            calm::wait(calm::CALM_MAX, "a control plane", || {
                let admin = Admin::of(&dir.join("control/data/admin.kubeconfig"))?;
                admin.dial()?.answer("GET", "/readyz", user::JSON, "")
            })?;
        }
    }
    let admin = Admin::of(&dir.join("control/data/admin.kubeconfig"))?;
    Ok((boards, disk, admin.patient(Duration::from_secs(20))))
}

fn play(dir: &Path, args: &Args, journal: &Journal) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60 * args.minutes);
    let root = cgroup_root(dir);
    let (mut boards, disk, admin) = begin(dir, args)?;
    calm::wait(calm::CALM_MAX, "a cluster", || {
        calm::settled(&admin, &boards, &root, &BTreeMap::new())
    })?;
    let mut rng = Rng::new(args.seed);
    let mut weather = Weather::new(rng.fork());
    println!("torment: {}", weather.words());
    let acknowledged = Acknowledged::default();
    let mut users = Vec::new();
    for (name, collection) in
        [("apps", DEPLOYMENTS), ("maps-a", CONFIG_MAPS), ("maps-b", CONFIG_MAPS)]
    {
        users.push(User::new(name, collection, rng.fork(), &admin, journal, &acknowledged));
    }
    // Each twice, to be held against each other.
    let watchers: Vec<Watcher> =
        [PODS, DEPLOYMENTS, CONFIG_MAPS, PODS, DEPLOYMENTS, CONFIG_MAPS].map(Watcher::new).into();
    thread::scope(|scope| {
        for watcher in &watchers {
            scope.spawn(|| watcher.run(&admin, journal));
        }
        scope.spawn(|| live::watch(dir, &root, journal));
        let _ends = EndsAll(journal);
        (|| -> Result<()> {
            while Instant::now() < until && !journal.is_over() {
                round(until, &mut boards, &disk, &mut weather, &mut users, journal)?;
                if journal.is_over() {
                    break;
                }
                let (before, _) =
                    calm::wait(calm::CALM_MAX, "an answer", || calm::renewals(&admin))?;
                let look = || {
                    restart(&mut boards, &weather, journal)?;
                    ensure!(!journal.is_over(), "another promise was broken");
                    calm::settled(&admin, &boards, &root, &before)
                };
                let ((), took) = calm::wait(calm::CALM_MAX, "a settled cluster", look)?;
                journal.say(&format!("settled after {} ms", took.as_millis()));
                println!("torment: a round, settled after {:.1} s", took.as_secs_f64());
                held(&admin, &watchers, &mut users, &acknowledged, journal)?;
                journal.checked("rounds_settled", 1);
            }
            if !journal.is_over() {
                calm::end(&admin, &mut boards, &root)?;
                journal.checked("nothing_left", 1);
            }
            panics(&boards)
        })()
    })
}

/// Rough weather for a round.
fn round(
    until: Instant,
    boards: &mut [Board],
    disk: &LoopDisk,
    weather: &mut Weather,
    users: &mut [User<'_>],
    journal: &Journal,
) -> Result<()> {
    let until = until.min(Instant::now() + ROUND);
    weather.begin(until.saturating_duration_since(Instant::now()));
    let rough = thread::scope(|scope| {
        for user in users {
            scope.spawn(move || user.act_until(until));
        }
        let rough = (|| -> Result<()> {
            while Instant::now() < until && !journal.is_over() {
                weather.step(boards, disk, journal)?;
                restart(boards, weather, journal)?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })();
        if rough.is_err() {
            journal.end();
        }
        rough
    });
    rough?;
    weather.calm(boards, disk, journal)
}

/// Starts again what ended by itself. Only a control plane without a disk may.
fn restart(boards: &mut [Board], weather: &Weather, journal: &Journal) -> Result<()> {
    for board in boards {
        let Some(status) = board.ended() else { continue };
        journal.say(&format!("{}: ended by itself: {status}", board.name));
        ensure!(
            board.name == "control" && weather.disk_is_full(),
            "the program of {} ended by itself: {status}; {}",
            board.name,
            last_line(board)
        );
        journal.done("control_plane_ended_on_a_full_disk");
        thread::sleep(RESTART);
        board.start()?;
    }
    Ok(())
}

fn last_line(board: &Board) -> String {
    let log = fs::read_to_string(board.log_file()).unwrap_or_default();
    log.lines().last().unwrap_or_default().to_owned()
}

/// In calm: what users know, what watchers were told.
fn held(
    admin: &Admin,
    watchers: &[Watcher],
    users: &mut [User<'_>],
    acknowledged: &Acknowledged,
    journal: &Journal,
) -> Result<()> {
    let broken = |why: String| anyhow::anyhow!(why);
    for user in users.iter_mut() {
        user.settle().map_err(broken)?;
    }
    user::check_counter(users.get_mut(1..).unwrap_or_default()).map_err(broken)?;
    watcher::catch_up(watchers, admin, calm::CALM_MAX)?;
    let acknowledged = acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for watcher in watchers {
        watcher.told_all(&acknowledged, journal).map_err(broken)?;
    }
    for (one, two) in watchers.iter().zip(watchers.get(3..).unwrap_or_default()) {
        one.agrees(two, journal).map_err(broken)?;
        two.agrees(one, journal).map_err(broken)?;
    }
    Ok(())
}

/// No program panicked.
fn panics(boards: &[Board]) -> Result<()> {
    for board in boards {
        let log = fs::read_to_string(board.log_file()).unwrap_or_default();
        let line = log.lines().find(|line| line.contains("panicked at"));
        ensure!(line.is_none(), "panic on {}: {}", board.name, line.unwrap_or_default());
    }
    Ok(())
}
