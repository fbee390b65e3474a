//! Boards: each a network and a mount namespace with a cable to one bridge, on which one of the two programs runs. The
//! bridge is in the namespace of this process, so that nothing of it is on the host's network.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use coracle_benches::host;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The bridge that all cables lead to.
const BRIDGE: &str = "boards";
/// Addresses of boards: this and the number of the board.
const NET: &str = "192.168.77.";
/// Holds a board's namespaces. /sys is mounted anew because it shows the interfaces of whom it was mounted by; the cgroup
/// trees below it are kept.
const HOLD: &str = r#"set -e
ip link set lo up
mkdir -p "$1/trees"
mount --rbind /sys/fs/cgroup "$1/trees"
mount -t sysfs sysfs /sys
mount --rbind "$1/trees" /sys/fs/cgroup
umount -l "$1/trees"
echo held
exec sleep infinity"#;

/// Runs a command; fails with what it said.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    let (program, rest) = words.split_first().context("no words of a command")?;
    let output = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes the bridge.
pub(crate) fn bridge() -> Result<()> {
    run(&["ip", "link", "set", "lo", "up"])?;
    run(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
    run(&["ip", "address", "add", &format!("{NET}254/24"), "dev", BRIDGE])?;
    run(&["ip", "link", "set", BRIDGE, "up"])?;
    Ok(())
}

/// One board and the program on it.
pub(crate) struct Board {
    /// Its name: of the node, too.
    pub(crate) name: String,
    /// Where its program keeps everything.
    pub(crate) dir: PathBuf,
    number: u8,
    holder: Child,
    /// Words of the program's command line.
    words: Vec<String>,
    program: Option<Child>,
}

impl Board {
    /// Makes a board and its cable; nothing runs on it yet.
    pub(crate) fn make(name: &str, number: u8, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", HOLD, name])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare")?;
        let mut said = String::new();
        let output = holder.stdout.take().context("its output is piped")?;
        BufReader::new(output).read_line(&mut said)?;
        ensure!(said.trim() == "held", "cannot make the namespaces of {name}");
        let (pid, end) = (holder.id().to_string(), format!("to-{name}"));
        run(&["ip", "link", "add", &end, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
        run(&["ip", "link", "set", &end, "master", BRIDGE, "up"])?;
        let board = Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            number,
            holder,
            words: Vec::new(),
            program: None,
        };
        board.inside(&["ip", "address", "add", &format!("{}/24", board.ip()), "dev", "eth0"])?;
        board.inside(&["ip", "link", "set", "eth0", "up"])?;
        board.inside(&["ip", "route", "add", "default", "via", &format!("{NET}254")])?;
        Ok(board)
    }

    /// Its address.
    pub(crate) fn ip(&self) -> String {
        format!("{NET}{}", self.number)
    }

    /// The end of its cable at the bridge.
    pub(crate) fn cable(&self) -> String {
        format!("to-{}", self.name)
    }

    fn entered(&self) -> Vec<String> {
        let pid = self.holder.id().to_string();
        ["nsenter", "--target", &pid, "--net", "--mount", "--"].map(str::to_owned).to_vec()
    }

    /// Runs a command on the board.
    pub(crate) fn inside(&self, words: &[&str]) -> Result<String> {
        let entered = self.entered();
        let all: Vec<&str> =
            entered.iter().map(String::as_str).chain(words.iter().copied()).collect();
        run(&all)
    }

    /// Mounts of the board below the directory of its program.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{}/mounts", self.holder.id()));
        let prefix = format!("{}/", self.dir.display());
        let places = table.unwrap_or_default();
        let places = places.lines().filter_map(|line| line.split(' ').nth(1));
        places.filter(|place| place.starts_with(&prefix)).map(str::to_owned).collect()
    }

    /// Starts the program with these words, and again with the same ones later.
    pub(crate) fn set_words(&mut self, words: Vec<String>) {
        self.words = words;
    }

    /// Starts the program.
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = self.log_file();
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut words = self.entered();
        words.extend(self.words.iter().cloned());
        let (first, rest) = words.split_first().context("no words of a command")?;
        let child = Command::new(first)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start the program of {}", self.name))?;
        self.program = Some(child);
        Ok(())
    }

    /// What the program wrote.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// Whether the program was started and is not known to have ended.
    pub(crate) fn runs(&self) -> bool {
        self.program.is_some()
    }

    /// How the program ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.program.as_mut()?.try_wait().ok()??;
        self.program = None;
        Some(status)
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.program.as_ref().and_then(|child| i32::try_from(child.id()).ok()) {
            // It may have ended just now.
            let _ended = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Kills the program and waits until it is gone; what it started lives on.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.program.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the program to end and waits for it.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let mut child = self.program.take().context("nothing runs")?;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if until < std::time::Instant::now() {
                let name = &self.name;
                bail!("the program of {name} does not end within 30 s of SIGTERM");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Pids of the pods' shims of this board.
    pub(crate) fn shims(&self) -> Vec<i32> {
        let all = host::pids_with(&self.dir.display().to_string()).into_iter();
        all.filter(|pid| host::words(*pid).iter().any(|word| word == "shim")).collect()
    }
}
