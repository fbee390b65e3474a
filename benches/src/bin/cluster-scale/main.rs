//! `make scale`: pods on fake nodes, end to end: a control plane with its store on this machine's disk, `coracle-agent
//! --fake`, and clients of the API. What is measured is a line `cluster_scale NAME VALUE case=CASE`; the first number of
//! interest is `pods_bound_per_second` of the case `backlog`.
//!
//! | case | what waits for what |
//! |---|---|
//! | `backlog` | all pods are pending (every node is cordoned), then the nodes take pods |
//! | `create` | the nodes are there and the scheduler idles; clients create the pods one by one |
//! | `join` | the pods are pending without any node, then the nodes join |
//! | `deployment` | as `create`, by one Deployment |
//!
//! ```text
//! cluster-scale [--nodes 100] [--pods 1000] [--clients 8] [--case all|backlog|create|join|deployment]
//! ```
//!
//! Needs `make setup` and both programs beside it (`make build`); no root.
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::cast_precision_loss, reason = "numbers for people to read")]

mod seen;

use std::{
    collections::BTreeMap,
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use coracle_benches::{
    cluster::{Cluster, wait_for},
    host,
    https::{Admin, Client},
};
use serde_json::{Value, json};

use seen::Seen;

const CASES: [&str; 4] = ["backlog", "create", "join", "deployment"];
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// The process that plays the nodes.
const AGENT: &str = "fakes";

struct Args {
    nodes: usize,
    pods: usize,
    clients: usize,
    cases: Vec<&'static str>,
}

fn main() -> ExitCode {
    let done = args().and_then(|args| {
        println!(
            "# {} pods of 100m and 64Mi on {} nodes of 4 cores and 4Gi; {} clients create them",
            args.pods, args.nodes, args.clients
        );
        args.cases
            .iter()
            .try_for_each(|case| measure(case, &args).with_context(|| format!("case {case}")))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn args() -> Result<Args> {
    let mut args = Args { nodes: 100, pods: 1000, clients: 8, cases: CASES.to_vec() };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} wants a value"))?;
        let number = || value.parse().with_context(|| format!("{word} {value} is no number"));
        match word.as_str() {
            "--nodes" => args.nodes = number()?,
            "--pods" => args.pods = number()?,
            "--clients" => args.clients = number()?,
            "--case" if value == "all" => {}
            "--case" => {
                let case = CASES.iter().find(|case| **case == value);
                args.cases = vec![case.with_context(|| format!("--case is all or {CASES:?}"))?];
            }
            _ => bail!("{word} is none of --nodes, --pods, --clients, --case"),
        }
    }
    ensure!(0 < args.nodes && 0 < args.pods && 0 < args.clients, "each number is at least 1");
    // 4 cores less what a node keeps for itself.
    let room = args.nodes * 39;
    ensure!(args.pods <= room, "{} nodes have room for {room} pods of 100m", args.nodes);
    Ok(args)
}

fn spec() -> Value {
    json!({"containers": [{
        "name": "main",
        "image": "docker.io/library/busybox:1",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }]})
}

fn measure(case: &str, args: &Args) -> Result<()> {
    let mut cluster = Cluster::start()?;
    let admin = Admin::of(&cluster.kubeconfig())?;
    let seen = Seen::watch(&admin)?;
    let server = cluster.server_pid().context("no control plane")?;
    if case != "join" {
        cluster.fake_agent(AGENT, args.nodes)?;
        ready(&admin, args.nodes)?;
    }
    let ticks = host::cpu_ticks(server).unwrap_or(0);
    let written = host::bytes_written(server).context("no /proc/PID/io")?;
    // From when each pod is counted, where that is not when the watch first saw it.
    let mut from: BTreeMap<String, Instant> = BTreeMap::new();
    let begun = match case {
        "backlog" => {
            cordon(&admin, args, Cordon::On)?;
            create(&admin, args)?;
            seen.wait("the pods to be made", args.pods, 0, 0)?;
            refused(&admin, args.pods)?;
            let begun = Instant::now();
            cordon(&admin, args, Cordon::Off)?;
            begun
        }
        "create" => {
            let begun = Instant::now();
            from = create(&admin, args)?;
            begun
        }
        "join" => {
            create(&admin, args)?;
            seen.wait("the pods to be made", args.pods, 0, 0)?;
            let begun = Instant::now();
            cluster.fake_agent(AGENT, args.nodes)?;
            begun
        }
        _ => {
            let labels = json!({"app": "scale"});
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "scale"},
                "spec": {
                    "replicas": args.pods, "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec()},
                },
            });
            let begun = Instant::now();
            let path = "/apis/apps/v1/namespaces/default/deployments";
            admin.dial()?.ask("POST", path, JSON, &deployment.to_string())?;
            begun
        }
    };
    seen.wait("the pods to be bound", args.pods, args.pods, 0)?;
    seen.wait("the pods to run", args.pods, args.pods, args.pods)?;
    let lives = seen.lives();
    let waited = |name: &String, life: &seen::Life| {
        let made = from.get(name).copied().unwrap_or(life.made).max(begun);
        life.bound.map(|bound| bound.saturating_duration_since(made))
    };
    let mut waits: Vec<Duration> =
        lives.iter().filter_map(|(name, life)| waited(name, life)).collect();
    waits.sort_unstable();
    let at = |part: usize| waits.get((waits.len() * part / 100).min(waits.len() - 1)).copied();
    let after = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(begun));
    let bound = lives.values().filter_map(|life| after(life.bound)).max().unwrap_or_default();
    let running = lives.values().filter_map(|life| after(life.running)).max().unwrap_or_default();
    let say = |name: &str, value: f64| println!("cluster_scale {name} {value:.1} case={case}");
    say("pods_bound_per_second", args.pods as f64 / bound.as_secs_f64().max(0.001));
    say("all_bound_ms", millis(bound));
    say("all_running_ms", millis(running));
    say("create_to_bound_p50_ms", millis(at(50).unwrap_or_default()));
    say("create_to_bound_p99_ms", millis(at(99).unwrap_or_default()));
    // A reading of its own: what follows on Running (events, statuses of sets) is in it only in part.
    let bytes = host::bytes_written(server).context("no /proc/PID/io")? - written;
    say("flash_bytes", bytes as f64);
    say("flash_bytes_per_pod", bytes as f64 / args.pods as f64);
    let used = host::cpu_ticks(server).unwrap_or(0).saturating_sub(ticks);
    say("control_plane_cpu_ms", used as f64 * 10.0);
    say("watch_restarts", seen.restarts() as f64);
    let pss = |pid: i32| host::pss_bytes(pid).context("cannot read smaps_rollup");
    say("control_plane_pss_kib", pss(server)? as f64 / 1024.0);
    let agent = cluster.agent_pid(AGENT).context("no agent")?;
    say("fake_agent_pss_kib", pss(agent)? as f64 / 1024.0);
    let threads = host::status_field(agent, "Threads").and_then(|text| text.parse().ok());
    say("fake_agent_threads", threads.unwrap_or(0.0));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Waits until so many nodes are Ready.
fn ready(admin: &Admin, nodes: usize) -> Result<()> {
    let mut client = admin.dial()?;
    wait_for("the nodes to be Ready", || {
        let list: Value = serde_json::from_str(&client.ask("GET", "/api/v1/nodes", JSON, "")?)?;
        let ready =
            list.get("items").and_then(Value::as_array).into_iter().flatten().filter(|node| {
                let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
                // The taint of a node that was not ready goes after that.
                node.pointer("/spec/taints").is_none()
                    && conditions.into_iter().flatten().any(|condition| {
                        condition.get("type").and_then(Value::as_str) == Some("Ready")
                            && condition.get("status").and_then(Value::as_str) == Some("True")
                    })
            });
        let ready = ready.count();
        ensure!(ready == nodes, "{ready} of {nodes} are Ready");
        Ok(())
    })
}

/// Waits until the scheduler has told of each pod that it finds no node for it, and has nothing more to do.
fn refused(admin: &Admin, pods: usize) -> Result<()> {
    let mut client = admin.dial()?;
    wait_for("the pods to be refused", || {
        let list: Value = serde_json::from_str(&client.ask("GET", PODS, JSON, "")?)?;
        let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
        let told = items.filter(|pod| pod.pointer("/status/conditions/0/reason").is_some()).count();
        ensure!(told == pods, "{told} of {pods} are told");
        Ok(())
    })
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Cordon {
    On,
    Off,
}

fn cordon(admin: &Admin, args: &Args, to: Cordon) -> Result<()> {
    let body = json!({"spec": {"unschedulable": (to == Cordon::On).then_some(true)}}).to_string();
    let body = &body;
    side_by_side(admin, args.clients, args.nodes, move |client, number| {
        client.ask("PATCH", &format!("/api/v1/nodes/fake-{number}"), MERGE, body)?;
        Ok(())
    })?;
    Ok(())
}

/// Creates the pods; gives when each was asked for.
fn create(admin: &Admin, args: &Args) -> Result<BTreeMap<String, Instant>> {
    let asked = side_by_side(admin, args.clients, args.pods, |client, number| {
        let name = format!("pod-{number:05}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec(),
        });
        let asked = Instant::now();
        client.ask("POST", PODS, JSON, &pod.to_string())?;
        Ok((name, asked))
    })?;
    Ok(asked.into_iter().collect())
}

/// Does what `one` does for each number below `count`, by so many clients, each on a connection of its own.
fn side_by_side<T: Send>(
    admin: &Admin,
    clients: usize,
    count: usize,
    one: impl Fn(&mut Client, usize) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    let next = Arc::new(AtomicUsize::new(0));
    let (next, one) = (&next, &one);
    thread::scope(|scope| {
        let working: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || -> Result<Vec<T>> {
                    let mut client = admin.dial()?;
                    let mut done = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(done);
                        }
                        done.push(one(&mut client, number)?);
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in working {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            all.extend(done?);
        }
        Ok(all)
    })
}
