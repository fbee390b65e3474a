//! `make cost`: what Coracle costs on this machine, each budget of the design in a line
//! `cost NAME VALUE UNIT limit LIMIT ok|over`; after `#`, how it was measured. Exit 1 if memory or idle writes are over.
//!
//! Needs root, `make setup`, `make build` and the quick start's archive. `COST_IDLE_SECONDS` (600) shortens the idle
//! window, `COST_PODS` (20) and `COST_OBJECTS` (5000) the rest.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "numbers for people to read")]

mod container;
mod http;

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use coracle_benches::{
    budgets::{Budgets, number_of},
    cluster::{Cluster, Kubectl, bin_dir, project, text, wait_for},
    host,
    syncs::Syncs,
};
use http::Proxy;

const MIB: f64 = 1024.0 * 1024.0;
/// The node of the cluster.
const NODE: &str = "pi0";
/// Creates and deletes before the memory is read.
const CHURN: usize = 1000;

fn main() -> ExitCode {
    Budgets::judge("cost", measure)
}

fn measure(budgets: &mut Budgets) -> Result<()> {
    let pods = usize::try_from(number_of("COST_PODS", 20)?)?;
    let mut cluster = Cluster::start()?;
    cluster.import(NODE, &project().join("target/demo/testing-service.tar"))?;
    cluster.agent(NODE, &[])?;
    let mut proxy = Proxy::start(&cluster)?;

    let fsync = fsync_time(cluster.dir())?;
    println!("# fsync of 4 KiB in the data directory: {:.2} ms (middle of 50)", millis(fsync));
    starts(budgets, &cluster, &mut proxy, pods)?;
    commits(budgets, &cluster, &mut proxy)?;
    for index in 0..CHURN {
        config_map(&mut proxy, &format!("churn-{index}"))?;
    }
    for index in 0..CHURN {
        let path = format!("/api/v1/namespaces/default/configmaps/churn-{index}");
        proxy.ask("DELETE", &path, "")?;
    }
    drop(proxy);
    idle(budgets, &cluster, pods)?;
    sizes(budgets)?;
    match container::times(cluster.dir()) {
        Ok((ours, theirs)) => {
            println!(
                "# pod, /bin/true, exit: {:.1} ms; runc run: {:.1} ms (runc's default spec, no shim, no seccomp)",
                millis(ours),
                millis(theirs)
            );
            let part = ours.as_secs_f64() / theirs.as_secs_f64();
            budgets.aim("container_run", part, "of_runc", 0.2);
        }
        Err(error) => budgets.missing("container_run", &format!("{error:#}")),
    }
    restart(budgets, &mut cluster)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Middle time of writing and syncing one block.
fn fsync_time(dir: &Path) -> Result<Duration> {
    let mut file = fs::File::create(dir.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times.get(25).copied().context("no times")
}

fn pod(name: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "docker.io/jagadesh1982/testing-service"}],
        },
    })
    .to_string()
}

fn config_map(proxy: &mut Proxy, name: &str) -> Result<String> {
    let body = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name}, "data": {"text": "0123456789abcdef".repeat(16)},
    });
    proxy.ask("POST", "/api/v1/namespaces/default/configmaps", &body.to_string())
}

fn runs(cluster: &Cluster, name: &str) -> Result<()> {
    wait_for("the pod to run", || {
        let phase = cluster.ok(&["get", "pod", name, "-o", "jsonpath={.status.phase}"])?;
        ensure!(phase == "Running", "{name} is {phase}; {}", cluster.log(NODE));
        Ok(())
    })
}

/// From sending the request that creates a pod to the first line that its program wrote (which is after its exec).
fn starts(budgets: &mut Budgets, cluster: &Cluster, proxy: &mut Proxy, pods: usize) -> Result<()> {
    let mut times = Vec::new();
    for index in 0..pods {
        let name = format!("cost-{index}");
        let sent = SystemTime::now().duration_since(UNIX_EPOCH)?;
        proxy.ask("POST", "/api/v1/namespaces/default/pods", &pod(&name))?;
        runs(cluster, &name)?;
        let log = wait_for("a first line", || {
            let log = cluster.ok(&["logs", &name, "--timestamps"])?;
            ensure!(!log.is_empty(), "{name} wrote nothing");
            Ok(log)
        })?;
        let written = second_of_day(&log).with_context(|| format!("no time in `{log}`"))?;
        let day = Duration::from_secs(86_400).as_nanos();
        let nanos = (written.as_nanos() + day - sent.as_nanos() % day) % day;
        times.push(Duration::from_nanos(u64::try_from(nanos)?));
    }
    times.sort_unstable();
    let half = times.get(pods / 2).copied().unwrap_or_default();
    let last = times.last().copied().unwrap_or_default();
    println!(
        "# pod created to process started: p50 {:.1} ms; p99 is the largest of {pods}",
        millis(half)
    );
    budgets.aim("pod_start_p99", millis(last), "ms", 50.0);
    Ok(())
}

/// Time of day of a log line that begins with an RFC 3339 time in UTC.
fn second_of_day(line: &str) -> Option<Duration> {
    let clock = line.split('T').nth(1)?.split('Z').next()?;
    let mut parts = clock.split(':');
    let hours: f64 = parts.next()?.parse().ok()?;
    let minutes: f64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds))
}

/// Syncs of the store in one pod's life until Running, counted with strace; the bytes from `/proc/PID/io`.
fn commits(budgets: &mut Budgets, cluster: &Cluster, proxy: &mut Proxy) -> Result<()> {
    let pid = cluster.server_pid().context("no control plane")?;
    let syncs = match Syncs::attach(pid, &cluster.dir().join("syncs")) {
        Ok(syncs) => syncs,
        Err(error) => {
            budgets.missing("pod_commits", &format!("{error:#}"));
            return Ok(());
        }
    };
    let before = host::bytes_written(pid).context("no /proc/PID/io")?;
    proxy.ask("POST", "/api/v1/namespaces/default/pods", &pod("counted"))?;
    runs(cluster, "counted")?;
    // What follows on Running (conditions, events) has come after this.
    thread::sleep(Duration::from_secs(2));
    let bytes = host::bytes_written(pid).context("no /proc/PID/io")? - before;
    let syncs = syncs.count()?;
    println!(
        "# pod_commits: fsync and fdatasync calls of the control plane seen by strace; {bytes} bytes written"
    );
    budgets.aim("pod_commits", syncs as f64, "commits", 6.0);
    cluster.ok(&["delete", "pod", "counted"])?;
    Ok(())
}

/// Memory, writes and CPU at rest.
fn idle(budgets: &mut Budgets, cluster: &Cluster, pods: usize) -> Result<()> {
    let seconds = number_of("COST_IDLE_SECONDS", 600)?;
    let server = cluster.server_pid().context("no control plane")?;
    let agent = cluster.agent_pid(NODE).context("no agent")?;
    let shims = cluster.shims();
    ensure!(shims.len() == pods, "{} shims for {pods} pods", shims.len());
    // The last deletes have been seen by everyone after this.
    thread::sleep(Duration::from_secs(15));
    let all: Vec<i32> = shims.iter().copied().chain([server, agent]).collect();
    let written = || all.iter().map(|pid| host::bytes_written(*pid)).sum::<Option<u64>>();
    let used = || [server, agent].iter().map(|pid| host::cpu_ticks(*pid)).sum::<Option<u64>>();
    let before = (written().context("a process is gone")?, used().context("a process is gone")?);
    let pss = |pid| host::pss_bytes(pid).context("cannot read smaps_rollup");
    println!(
        "# before {seconds} s of rest: control plane {:.2} MiB, agent {:.2} MiB",
        pss(server)? as f64 / MIB,
        pss(agent)? as f64 / MIB
    );
    thread::sleep(Duration::from_secs(seconds));
    let bytes = written().context("a process is gone")? - before.0;
    let ticks = used().context("a process is gone")? - before.1;
    budgets.must("control_plane_memory", pss(server)? as f64 / MIB, "MiB_PSS", 8.0);
    budgets.must("agent_memory", pss(agent)? as f64 / MIB, "MiB_PSS", 4.0);
    let of_shims = shims.iter().map(|pid| pss(*pid)).sum::<Result<u64>>()?;
    let of_each = of_shims as f64 / MIB / shims.len().max(1) as f64;
    budgets.must("pod_memory", of_each, "MiB_PSS", 0.3);
    println!("# idle window {seconds} s; CPU counts in ticks of 10 ms, {ticks} of them");
    budgets.must("idle_writes", bytes as f64, "bytes", 0.0);
    budgets.aim("idle_cpu", ticks as f64 / seconds as f64, "%_of_a_core", 0.2);
    Ok(())
}

fn sizes(budgets: &mut Budgets) -> Result<()> {
    let arm = env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("target"), Into::into);
    let arm = arm.join("aarch64-unknown-linux-musl/release");
    for (program, limit) in [("coracle", 6.0), ("coracle-agent", 4.0)] {
        let size = |dir: &Path| fs::metadata(dir.join(program)).map(|file| file.len() as f64 / MIB);
        let name = program.replace('-', "_");
        budgets.aim(&format!("{name}_size_x86_64"), size(&bin_dir()?)?, "MiB", limit);
        match size(&arm) {
            Ok(size) => budgets.aim(&format!("{name}_size_aarch64"), size, "MiB", limit),
            Err(_) => budgets.missing(&format!("{name}_size_aarch64"), "not built"),
        }
    }
    Ok(())
}

/// SIGKILL, then until `/readyz` says ok.
fn restart(budgets: &mut Budgets, cluster: &mut Cluster) -> Result<()> {
    let objects = number_of("COST_OBJECTS", 5000)?;
    let mut proxy = Proxy::start(cluster)?;
    for index in 0..objects {
        config_map(&mut proxy, &format!("many-{index}"))?;
    }
    drop(proxy);
    let mut times = Vec::new();
    for _ in 0..3 {
        cluster.kill_server()?;
        times.push(cluster.time_server_start()?);
    }
    times.sort_unstable();
    let there = cluster.kubectl(Kubectl::Current, &["get", "configmap", "many-0", "-o", "name"])?;
    ensure!(text(&there) == "configmap/many-0", "many-0 is lost");
    println!(
        "# start after SIGKILL, {objects} objects: middle of 3, the asking curl's own time taken off"
    );
    budgets.aim("start", millis(times.get(1).copied().unwrap_or_default()), "ms", 100.0);
    Ok(())
}
