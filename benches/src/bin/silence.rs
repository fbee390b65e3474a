//! `make silence`: what an idle cluster of 5 agents and 20 pods does on this machine: bytes to disk, wake-ups and CPU, each
//! process for itself; then what one update of an object costs the disk, beside etcd's for the same where it is installed.
//!
//! A line a figure, `silence NAME VALUE UNIT limit LIMIT ok|over`; after `#`, how it was measured. Exit 1 if one is over.
//! Needs root, `make build` and the quick start's archive. `SILENCE_SECONDS` (600) shortens the idle window.
//!
//! A wake-up is a thread's return from sleep (`voluntary_ctxt_switches`), of all threads that are there at one of the
//! looks, one a second.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "numbers for people to read")]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use coracle_benches::{
    budgets::{Budgets, number_of},
    cluster::{Cluster, project, wait_for},
    host,
    https::Admin,
    syncs::Syncs,
};
use serde_json::{Value, json};

const AGENTS: usize = 5;
const PODS: usize = 20;
/// Until what follows on the start (conditions, events, hourly things that begin) is over.
const REST: Duration = Duration::from_secs(30);
/// Updates of which one's cost is the mean.
const UPDATES: usize = 50;
/// Bytes of the object that is updated: about what a pod has.
const OBJECT_BYTES: usize = 2500;
const JSON: &str = "application/json";

fn main() -> ExitCode {
    Budgets::judge("silence", measure)
}

/// One process over the idle window.
struct Process {
    /// `control`, an agent's name, or `shim`.
    name: String,
    pid: i32,
    written: u64,
    ticks: u64,
    sleeps: BTreeMap<i32, u64>,
    wakes: u64,
}

impl Process {
    fn look(name: &str, pid: i32) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            pid,
            written: host::bytes_written(pid).with_context(|| format!("{name} is gone"))?,
            ticks: host::cpu_ticks(pid).with_context(|| format!("{name} is gone"))?,
            sleeps: host::sleeps(pid),
            wakes: 0,
        })
    }

    fn count(&mut self) {
        let now = host::sleeps(self.pid);
        for (thread, count) in &now {
            self.wakes += count.saturating_sub(self.sleeps.get(thread).copied().unwrap_or(0));
        }
        self.sleeps = now;
    }
}

fn measure(budgets: &mut Budgets) -> Result<()> {
    let seconds = number_of("SILENCE_SECONDS", 600)?;
    let mut cluster = Cluster::start()?;
    let names: Vec<String> = (1..=AGENTS).map(|number| format!("pi{number}")).collect();
    for name in &names {
        cluster.import(name, &project().join("target/demo/testing-service.tar"))?;
        cluster.agent(name, &[])?;
    }
    let admin = Admin::of(&cluster.kubeconfig())?;
    start_pods(&cluster, &admin)?;
    thread::sleep(REST);
    idle(budgets, &cluster, &names, seconds)?;
    let server = cluster.server_pid().context("no control plane")?;
    let mut client = admin.dial()?;
    let path = "/api/v1/namespaces/default/configmaps";
    client.ask("POST", path, JSON, &config_map(0).to_string())?;
    let path = format!("{path}/updated");
    let (bytes, syncs) = update(server, &cluster.dir().join("syncs"), |number| {
        client.ask("PUT", &path, JSON, &config_map(number).to_string()).map(drop)
    })?;
    println!(
        "# one update of an object of {OBJECT_BYTES} bytes, mean of {UPDATES} one after the other: /proc/PID/io, strace"
    );
    budgets.must("update_syncs", syncs, "fsyncs", 1.0);
    budgets.tell("update_bytes", bytes, "bytes");
    match etcd(cluster.dir()) {
        Ok((bytes, syncs)) => {
            budgets.tell("etcd_update_syncs", syncs, "fsyncs");
            budgets.tell("etcd_update_bytes", bytes, "bytes");
        }
        Err(error) => budgets.missing("etcd_update", &format!("{error:#}")),
    }
    Ok(())
}

/// A Deployment of all the pods, spread as they come; waits until they are Ready.
fn start_pods(cluster: &Cluster, admin: &Admin) -> Result<()> {
    let body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "idle"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "idle"}},
            "template": {
                "metadata": {"labels": {"app": "idle"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": "idle"}},
                    }],
                    "containers": [{"name": "main", "image": "docker.io/jagadesh1982/testing-service"}],
                },
            },
        },
    });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let mut client = admin.dial()?;
    client.ask("POST", path, JSON, &body.to_string())?;
    wait_for("the pods to run", || {
        let idle: Value =
            serde_json::from_str(&client.ask("GET", &format!("{path}/idle"), JSON, "")?)?;
        let ready = idle.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or(0);
        ensure!(ready == PODS as u64 && cluster.shims().len() == PODS, "{ready} are ready");
        Ok(())
    })
}

fn idle(budgets: &mut Budgets, cluster: &Cluster, names: &[String], seconds: u64) -> Result<()> {
    let mut all =
        vec![Process::look("control", cluster.server_pid().context("no control plane")?)?];
    for name in names {
        all.push(Process::look(name, cluster.agent_pid(name).context("no agent")?)?);
    }
    for shim in cluster.shims() {
        all.push(Process::look("shim", shim)?);
    }
    let begun = Instant::now();
    let mut next = begun;
    for _ in 0..seconds {
        next += Duration::from_secs(1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        all.iter_mut().for_each(Process::count);
    }
    let took = begun.elapsed().as_secs_f64();
    println!("# idle for {seconds} s: {AGENTS} agents, {PODS} pods; CPU counts in ticks of 10 ms");
    let (mut shims, mut bytes_of_shims, mut ticks_of_shims) = (Vec::new(), 0, 0);
    let (mut of_control, mut of_agents) = (0.0, Vec::new());
    for process in &all {
        let bytes =
            host::bytes_written(process.pid).context("a process is gone")? - process.written;
        let ticks = host::cpu_ticks(process.pid).context("a process is gone")? - process.ticks;
        let (wakes, percent) = (process.wakes as f64 / took, ticks as f64 / took);
        match process.name.as_str() {
            "shim" => {
                shims.push(wakes);
                bytes_of_shims += bytes;
                ticks_of_shims += ticks;
                continue;
            }
            "control" => of_control = percent,
            _ => of_agents.push(percent),
        }
        budgets.must(&format!("{}_writes", process.name), bytes as f64, "bytes", 0.0);
        budgets.must(&format!("{}_wakes", process.name), wakes, "a_second", 2.0);
        println!("# {}: {percent:.3} % of a core", process.name);
    }
    let most = shims.iter().copied().fold(0.0, f64::max);
    budgets.must("shims_writes", bytes_of_shims as f64, "bytes", 0.0);
    budgets.must("shims_wakes_most", most, "a_second", 2.0);
    println!("# all {} shims: {ticks_of_shims} ticks", shims.len());
    let busiest = of_agents.iter().copied().fold(0.0, f64::max);
    budgets.must("cpu", of_control + busiest, "%_of_a_core", 0.2);
    println!("# cpu: control plane and the busiest agent");
    Ok(())
}

fn config_map(number: usize) -> Value {
    let text = format!("{number:04}").repeat(OBJECT_BYTES / 4);
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "updated"}, "data": {"text": text}})
}

/// Bytes and fsyncs of a process for one update.
fn update(pid: i32, trace: &Path, mut ask: impl FnMut(usize) -> Result<()>) -> Result<(f64, f64)> {
    let syncs = Syncs::attach(pid, trace)?;
    let before = host::bytes_written(pid).context("no /proc/PID/io")?;
    for number in 1..=UPDATES {
        ask(number)?;
    }
    let bytes = host::bytes_written(pid).context("no /proc/PID/io")? - before;
    Ok((bytes as f64 / UPDATES as f64, syncs.count()? as f64 / UPDATES as f64))
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The same update in etcd: the same bytes under one key, through its JSON gateway.
fn etcd(dir: &Path) -> Result<(f64, f64)> {
    use base64::Engine as _;
    let free = || -> Result<String> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(format!("http://{address}"))
    };
    let (url, peer) = (free()?, free()?);
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.join("etcd"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("no etcd; install etcd-server")?;
    let child = Running(child);
    let put = |number: usize| -> Result<()> {
        let text = |bytes: &str| base64::engine::general_purpose::STANDARD.encode(bytes);
        let value = text(&config_map(number).to_string());
        let body = json!({"key": text("/registry/configmaps/default/updated"), "value": value});
        let output = Command::new("curl")
            .args(["-sf", "--noproxy", "*", "-d", &body.to_string(), &format!("{url}/v3/kv/put")])
            .output()?;
        ensure!(output.status.success(), "etcd did not take the update");
        Ok(())
    };
    wait_for("etcd", || put(0))?;
    update(i32::try_from(child.0.id())?, &dir.join("etcd-syncs"), put)
}
