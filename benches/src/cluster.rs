//! One control plane and any number of agents, in a scratch directory, on this machine's loopback.

use std::{
    env, fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::host;

/// How long anything that a test waits for may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which kubectl.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kubectl {
    /// The current one.
    Current,
    /// Debian 12's 1.20.
    Old,
}

/// A running cluster. Dropping it takes everything down.
pub struct Cluster {
    dir: PathBuf,
    /// Clusters on one machine share its routes: each has a range of its own.
    pod_cidr: String,
    _range_lock: fs::File,
    server: Option<Child>,
    agents: Vec<(String, Vec<String>, Option<Child>)>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The directory with `coracle` and `coracle-agent`.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("CORACLE_BIN_DIR") {
        return Ok(dir.into());
    }
    // target/PROFILE/deps/TEST or target/PROFILE/BENCH.
    let own = env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(3)
        .find(|dir| dir.join("coracle").is_file() && dir.join("coracle-agent").is_file());
    found.map(Path::to_owned).context("coracle and coracle-agent are not built; run `cargo build --workspace` or set CORACLE_BIN_DIR")
}

/// A /16 of 10.0.0.0/8 that no interface of this machine has an address in, and its lock: clusters of other tests look
/// at the same time, before any of them has made its bridge. The range is this cluster's until the lock is dropped.
fn free_range() -> Result<(String, fs::File)> {
    let taken = Command::new("ip").args(["-4", "-o", "addr"]).output().context("cannot run ip")?;
    let taken = String::from_utf8_lossy(&taken.stdout).into_owned();
    for second in (50..200).filter(|second| !taken.contains(&format!(" 10.{second}."))) {
        let lock = fs::File::create(env::temp_dir().join(format!("coracle-range-{second}.lock")))?;
        if lock.try_lock().is_ok() {
            return Ok((format!("10.{second}.0.0/16"), lock));
        }
    }
    bail!("all of 10.50.0.0 to 10.199.0.0 is in use on this machine")
}

/// The root of the project.
pub fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Waits until `ready` gives something; fails with `what` and the last reason.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ready() {
            Ok(value) => return Ok(value),
            Err(error) if deadline < Instant::now() => {
                return Err(error.context(format!("waited {PATIENCE:?} for {what}")));
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

impl Cluster {
    /// Starts a control plane on a free port of the loopback and waits until it is ready.
    pub fn start() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::start_in(env::temp_dir().join(format!("coracle-{}-{number}", std::process::id())))
    }

    /// The same with everything below this directory (which may be a small disk).
    pub fn start_on(disk: &Path) -> Result<Self> {
        Self::start_in(disk.join("coracle"))
    }

    fn start_in(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (pod_cidr, range_lock) = free_range()?;
        let mut cluster =
            Self { dir, pod_cidr, _range_lock: range_lock, server: None, agents: Vec::new() };
        cluster.start_server("127.0.0.1:0")?;
        Ok(cluster)
    }

    /// The scratch directory; in the command line of every process.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The control plane's data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("control")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("admin.kubeconfig")
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> Result<String> {
        let text = fs::read_to_string(self.kubeconfig()).context("no kubeconfig yet")?;
        let url = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("server:"))
            .context("the kubeconfig names no server")?;
        Ok(url.trim().trim_matches('"').to_owned())
    }

    /// Pid of the control plane.
    pub fn server_pid(&self) -> Option<i32> {
        self.server.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Pid of an agent.
    pub fn agent_pid(&self, name: &str) -> Option<i32> {
        let agent = self.agents.iter().find(|(agent, ..)| agent == name)?;
        agent.2.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    fn spawn_server(&mut self, listen: &str) -> Result<()> {
        let log =
            fs::File::options().create(true).append(true).open(self.dir.join("control.log"))?;
        let child = Command::new(bin_dir()?.join("coracle"))
            .args(["serve", "--listen", listen, "--pod-cidr", &self.pod_cidr, "--data-dir"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start coracle")?;
        self.server = Some(child);
        Ok(())
    }

    fn start_server(&mut self, listen: &str) -> Result<()> {
        self.spawn_server(listen)?;
        wait_for("the control plane to be ready", || {
            let answer = self.kubectl(Kubectl::Current, &["get", "--raw", "/readyz"])?;
            ensure!(answer.status.success(), "{}", self.log("control"));
            Ok(())
        })
    }

    /// Starts the control plane again on the port that it had.
    pub fn restart_server(&mut self) -> Result<()> {
        let url = self.url()?;
        let listen = url.strip_prefix("https://").context("the URL is not https")?.to_owned();
        self.start_server(&listen)
    }

    /// Starts the control plane again; gives the time from there until `/readyz` says ok, less what
    /// the asking `curl` takes itself.
    pub fn time_server_start(&mut self) -> Result<Duration> {
        let url = self.url()?;
        let listen = url.strip_prefix("https://").context("the URL is not https")?.to_owned();
        let begun = Instant::now();
        self.spawn_server(&listen)?;
        loop {
            // No event tells when the port opens.
            if TcpStream::connect(&listen).is_ok() {
                let answer =
                    Command::new("curl").args(["-sk", &format!("{url}/readyz")]).output()?;
                if answer.stdout == b"ok" {
                    let took = begun.elapsed();
                    let asked = Instant::now();
                    Command::new("curl").args(["-sk", &format!("{url}/readyz")]).output()?;
                    return Ok(took.saturating_sub(asked.elapsed()));
                }
            }
            ensure!(begun.elapsed() < PATIENCE, "never ready:\n{}", self.log("control"));
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Imports an archive into a node's store before or while its agent runs.
    pub fn import(&self, name: &str, archive: &Path) -> Result<()> {
        let output = Command::new(bin_dir()?.join("coracle-agent"))
            .arg("--data-dir")
            .arg(self.agent_dir(name))
            .args(["image", "import"])
            .arg(archive)
            .output()?;
        ensure!(output.status.success(), "import: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// An agent's data directory.
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Starts an agent and waits until its node is Ready.
    pub fn agent(&mut self, name: &str, more: &[&str]) -> Result<()> {
        self.agents.push((
            name.to_owned(),
            more.iter().map(|word| (*word).to_owned()).collect(),
            None,
        ));
        self.start_agent(name)
    }

    /// Starts one process that plays so many nodes, `fake-0` and on; waits for nothing.
    pub fn fake_agent(&mut self, name: &str, nodes: usize) -> Result<()> {
        let more = vec!["--fake".to_owned(), nodes.to_string()];
        self.agents.push((name.to_owned(), more, None));
        self.spawn_agent(name, &[])
    }

    fn spawn_agent(&mut self, name: &str, words: &[&str]) -> Result<()> {
        let url = self.url()?;
        let token = self.data().join("join-token");
        let dir = self.agent_dir(name);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("{name}.log")))?;
        let agent =
            self.agents.iter_mut().find(|(agent, ..)| agent == name).context("no such agent")?;
        let child = Command::new(bin_dir()?.join("coracle-agent"))
            .arg("--data-dir")
            .arg(&dir)
            .args(["--server", &url, "--token-file"])
            .arg(&token)
            .args(words)
            .args(&agent.1)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start coracle-agent")?;
        agent.2 = Some(child);
        Ok(())
    }

    /// Starts an agent (again) and waits until its node is Ready.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        self.spawn_agent(name, &["--node-name", name])?;
        let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        wait_for("the node to be Ready", || {
            let answer = self.kubectl(Kubectl::Current, &["get", "node", name, "-o", condition])?;
            ensure!(
                text(&answer) == "True",
                "{}\n{}",
                String::from_utf8_lossy(&answer.stderr),
                self.log(name)
            );
            Ok(())
        })
    }

    /// Kills the control plane with SIGKILL and waits until it is gone.
    pub fn kill_server(&mut self) -> Result<()> {
        if let Some(mut child) = self.server.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Kills an agent with SIGKILL and waits until it is gone; its shims live on.
    pub fn kill_agent(&mut self, name: &str) -> Result<()> {
        let agent =
            self.agents.iter_mut().find(|(agent, ..)| agent == name).context("no such agent")?;
        if let Some(mut child) = agent.2.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Pids of all shims.
    pub fn shims(&self) -> Vec<i32> {
        let dir = self.dir.display().to_string();
        let of_agents = host::pids_with(&dir).into_iter();
        of_agents
            .filter(|pid| {
                fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.split(|b| *b == 0).any(|word| word == b"shim"))
            })
            .collect()
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, which: Kubectl, words: &[&str]) -> Result<Output> {
        self.kubectl_with(which, words, "")
    }

    /// Runs kubectl with this on its standard input.
    pub fn kubectl_with(&self, which: Kubectl, words: &[&str], input: &str) -> Result<Output> {
        use std::io::Write as _;
        let name = match which {
            Kubectl::Current => "kubectl",
            Kubectl::Old => "kubectl-1.20",
        };
        let tool = project().join("target/tools").join(name);
        ensure!(tool.exists(), "{} is not there; run `make setup`", tool.display());
        let mut child = Command::new(&tool)
            .args(words)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.join(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", tool.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that reads nothing has closed it already.
            let _ = stdin.write_all(input.as_bytes());
        }
        Ok(child.wait_with_output()?)
    }

    /// Starts a kubectl that goes on (`get -w`, `logs -f`) and gives its lines as they come; it ends when it is dropped.
    pub fn follow(&self, which: Kubectl, words: &[&str]) -> Result<Following> {
        use std::io::BufRead as _;
        let name = match which {
            Kubectl::Current => "kubectl",
            Kubectl::Old => "kubectl-1.20",
        };
        let mut child = Command::new(project().join("target/tools").join(name))
            .args(words)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.join(name))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().context("its output is piped")?;
        let (send, lines) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for line in std::io::BufReader::new(output).lines().map_while(|line| line.ok()) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Following { child, lines })
    }

    /// Runs the current kubectl; gives its standard output, or fails with what it said.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        self.ok_with(words, "")
    }

    /// Like [`Cluster::ok`], with this on standard input.
    pub fn ok_with(&self, words: &[&str], input: &str) -> Result<String> {
        let output = self.kubectl_with(Kubectl::Current, words, input)?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                words.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(text(&output))
    }

    /// The end of a process's log (`control` or an agent's name).
    pub fn log(&self, name: &str) -> String {
        let log = fs::read_to_string(self.dir.join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    /// Deletes all Deployments and Pods and waits until no shim is left.
    pub fn empty(&self) -> Result<()> {
        self.ok(&[
            "delete",
            "deployments,replicasets,pods",
            "--all",
            "--all-namespaces",
            "--wait=false",
            "--grace-period=1",
        ])?;
        wait_for("the pods to be gone", || {
            ensure!(self.shims().is_empty(), "shims {:?} are left", self.shims());
            Ok(())
        })
    }
}

/// A kubectl that goes on.
pub struct Following {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Following {
    /// Waits for the next line that contains `text`.
    pub fn line_with(&self, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => seen.push(line),
                Err(error) => {
                    bail!("no line with `{text}` ({error}); there were:\n{}", seen.join("\n"))
                }
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Standard output as text, without the line break at its end.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- control plane:\n{}", self.log("control"));
            for (name, ..) in &self.agents {
                eprintln!("--- {name}:\n{}", self.log(name));
            }
        }
        let whole = self.server.is_some() && self.agents.iter().all(|(.., child)| child.is_some());
        if whole && !self.agents.is_empty() && !self.shims().is_empty() {
            // Best effort: what is left is killed below.
            let _ = self.empty();
        }
        let children = self
            .agents
            .iter_mut()
            .filter_map(|(.., child)| child.as_mut())
            .chain(self.server.as_mut());
        for child in children {
            // An agent without pods takes its bridge away.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let deadline = Instant::now() + Duration::from_secs(5);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(LOOK_EVERY);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let dir = self.dir.display().to_string();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !host::pids_with(&dir).is_empty() && Instant::now() < deadline {
            for pid in host::pids_with(&dir) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
            thread::sleep(LOOK_EVERY);
        }
        for (name, ..) in &self.agents {
            // Whatever a killed agent left: its bridge and its rules.
            let program = bin_dir().map(|dir| dir.join("coracle-agent")).unwrap_or_default();
            let _ = Command::new(program)
                .arg("--data-dir")
                .arg(self.agent_dir(name))
                .args(["down", "--pods"])
                .output();
        }
        for place in host::mounts_below(&self.dir) {
            let _ = Command::new("umount").args(["-l", &place]).status();
        }
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
