//! `coracle up`: a control plane and one node in one command, for a person who wants to see pods run.
//!
//! The control plane runs in this process, on the main thread; the agent, started from beside this program, is a child. A
//! second thread does with the built-in client what a person would do, and ends what it began.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use async_signal::{Signal, Signals};
use clap::Args;
use serde_json::Value;
use smol::stream::StreamExt;

use crate::{
    cli::{DirArgs, ServeArgs},
    client::{
        Client,
        api::{Ask, encode, is_not_found},
        delete::{Cascade, delete, wait_gone},
        kubeconfig::Kubeconfig,
        manifest::{self, Document},
        say,
        target::{Target, of_document},
        wait::{condition, current},
        write::apply_document,
    },
    limits::{UP_AGENT_STOP_TIMEOUT, UP_END_TIMEOUT, UP_LOOK_EVERY, UP_NODE_TIMEOUT},
    log, serve,
};

/// Arguments of `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept; the node's part in DIR/agent.
    #[command(flatten)]
    dir: DirArgs,
    /// Where the control plane listens; port 0 takes a free one. Default: port 6443 on all addresses.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<std::net::SocketAddr>,
    /// Pods' addresses; the node gets a /24 of it.
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16", value_parser = crate::cli::pod_cidr)]
    pod_cidr: String,
    /// How nodes are chosen among those that can take a pod.
    #[arg(long, value_enum, default_value_t)]
    placement: crate::client::plan::Placement,
    /// An image archive that the node's pods may use without asking a registry.
    #[arg(long, value_name = "TAR")]
    image_archive: Vec<PathBuf>,
    /// Objects to apply, as with `apply -f`.
    #[arg(long, value_name = "FILE")]
    manifest: Vec<String>,
    /// Leave objects and pods as they are when told to stop.
    #[arg(long)]
    keep: bool,
}

/// Runs until SIGINT or SIGTERM.
pub(crate) fn run(args: &UpArgs) -> anyhow::Result<()> {
    if !is_root()? {
        bail!("`up` makes containers, for which it must be root: run it with sudo");
    }
    let agent = agent_program()?;
    // Before anything is begun: what cannot be read is told now.
    let documents =
        if args.manifest.is_empty() { Vec::new() } else { manifest::read(&args.manifest)? };
    for archive in &args.image_archive {
        if !archive.is_file() {
            bail!("the image archive {} does not exist", archive.display());
        }
    }
    let mut signals =
        Signals::new([Signal::Term, Signal::Int]).context("cannot wait for SIGTERM and SIGINT")?;
    let (told, stop) = channel();
    std::thread::spawn(move || {
        // A second signal ends the waiting for the pods' end.
        while smol::future::block_on(signals.next()).is_some() && told.send(()).is_ok() {}
    });
    let serve_args = ServeArgs {
        dir: args.dir.clone(),
        listen: args.listen.clone(),
        advertise: Vec::new(),
        pod_cidr: args.pod_cidr.clone(),
        placement: args.placement,
    };
    let (done, finished) = smol::channel::bounded(1);
    let (ready, port) = channel();
    let up = Up { args: args.clone(), agent, node: serve::host_name(), documents, stop };
    let body = std::thread::spawn(move || {
        let result = port.recv().map_err(|_| anyhow!("the control plane did not start"));
        let result = result.and_then(|port| up.run(port));
        // Nobody waits if the control plane ended by itself.
        let _unheard = done.send_blocking(());
        result
    });
    let finished = async move {
        // Sent, or the thread ended: both mean the end.
        let _ended = finished.recv().await;
        "the end of `up`".to_owned()
    };
    let served = serve::run_until(&serve_args, finished, move |port| {
        // The thread waits for it.
        let _heard = ready.send(port);
    });
    let ran = body.join().map_err(|_| anyhow!("`up` broke off"))?;
    served.and(ran)
}

struct Up {
    args: UpArgs,
    agent: PathBuf,
    /// This host, as a node.
    node: String,
    documents: Vec<Document>,
    stop: Receiver<()>,
}

/// Told to stop.
struct Stopped;

impl Up {
    fn run(&self, port: u16) -> anyhow::Result<()> {
        let data = &self.args.dir.data_dir;
        for archive in &self.args.image_archive {
            self.import(archive)?;
        }
        let client = Client::of(Kubeconfig::read(&data.join("admin.kubeconfig"))?)?;
        let mut agent = self.start_agent(port)?;
        let mut applied = Vec::new();
        let ran = self.live(&client, &mut agent, &mut applied);
        // Without an agent nothing ends; what is left is left as after a power cut, and the next `up` finds it.
        let keep = self.args.keep || agent.try_wait()?.is_some();
        let ended = if keep { Ok(()) } else { self.take_down(&client, &applied) };
        let stopped = stop(&mut agent);
        if !keep && ended.is_ok() && stopped.is_ok() {
            self.agent_does(&["down"])?;
        }
        ran.and(ended).and(stopped)
    }

    /// From the node's joining to the word to stop.
    fn live(
        &self,
        client: &Client,
        agent: &mut Child,
        applied: &mut Vec<Target>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + UP_NODE_TIMEOUT;
        let joined = self.look(agent, || {
            match client.api.json("GET", &node_path(&self.node), b"") {
                Ok(node) if condition(&node, "Ready") == Some("True") => return Ok(true),
                Err(error) if !is_not_found(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
            if Instant::now() >= deadline {
                bail!("the node did not become ready; see what the agent says above");
            }
            Ok(false)
        })?;
        if let Some(Stopped) = joined {
            return Ok(());
        }
        say(&format!("node/{} is ready", self.node))?;
        uncordon(client, &self.node)?;
        for document in &self.documents {
            // Before it is done: what was done by half is taken down, too.
            applied.push(of_document(client, document)?);
            say(&apply_document(client, document)?)?;
        }
        let mut seen = BTreeMap::new();
        let ready = self.look(agent, || {
            let mut all = true;
            for target in applied.iter() {
                let object = client.api.json("GET", &target.path(), b"")?;
                all &= show(
                    &mut seen,
                    &target.shown(),
                    &progress(target, &object),
                    is_ready(target, &object),
                );
            }
            for (kind, path) in
                [("replicaset.apps", "/apis/apps/v1/replicasets"), ("pod", "/api/v1/pods")]
            {
                for item in items(&client.api.json("GET", path, b"")?) {
                    let name = format!("{kind}/{}", text(item, "/metadata/name"));
                    let told =
                        if kind == "pod" { pod(item) } else { replicas(item, "readyReplicas") };
                    show(&mut seen, &name, &told, true);
                }
            }
            Ok(all)
        })?;
        if let Some(Stopped) = ready {
            return Ok(());
        }
        let kubeconfig = self.args.dir.data_dir.join("admin.kubeconfig");
        say(&format!(
            "up: all is ready; stop with Ctrl-C; look at it with KUBECONFIG={} kubectl get pods -o wide",
            kubeconfig.display()
        ))?;
        self.look(agent, || Ok(false))?;
        Ok(())
    }

    /// Looks again and again until `done`, the word to stop, or the agent's end.
    fn look(
        &self,
        agent: &mut Child,
        mut done: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<Option<Stopped>> {
        loop {
            if let Some(status) = agent.try_wait()? {
                bail!(
                    "the agent ended ({status}); what it says above is why; its pods go on until the next `up`"
                );
            }
            if done()? {
                return Ok(None);
            }
            match self.stop.recv_timeout(UP_LOOK_EVERY) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(Some(Stopped)),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Deletes what was applied, then whatever else runs on the node.
    fn take_down(&self, client: &Client, applied: &[Target]) -> anyhow::Result<()> {
        let deadline = Instant::now() + UP_END_TIMEOUT;
        let mut marked = Vec::new();
        for target in applied.iter().rev() {
            match delete(client, target, Cascade::Foreground, None) {
                Ok(uid) => marked.push((target, uid)),
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
        for (target, uid) in marked {
            wait_gone(client, target, &uid, deadline)?;
            say(&format!("{} is gone", target.shown()))?;
        }
        self.drain(client, deadline)?;
        // The node forgets a pod a moment after the API has: its files go last.
        let pods = self.args.dir.data_dir.join("agent/pods");
        while std::fs::read_dir(&pods).is_ok_and(|mut left| left.next().is_some()) {
            if Instant::now() >= deadline {
                bail!("files of pods are left in {}", pods.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What is bound to the node ends; objects that own such pods stay, and get their pods back at the next start.
    fn drain(&self, client: &Client, deadline: Instant) -> anyhow::Result<()> {
        let node = self.node.as_str();
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", encode(node));
        let mut asked = std::collections::BTreeSet::new();
        loop {
            let pods = client.api.json("GET", &path, b"")?;
            let pods: Vec<&Value> = items(&pods).collect();
            if pods.is_empty() {
                return Ok(());
            }
            if asked.is_empty() {
                schedulable(client, node, false)?;
            }
            for pod in pods {
                let (namespace, name) =
                    (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
                if asked.insert(text(pod, "/metadata/uid")) {
                    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
                    match client.api.json("DELETE", &path, b"") {
                        Err(error) if !is_not_found(&error) => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
            }
            if Instant::now() >= deadline {
                bail!("pods of node {node} do not end; they are left running");
            }
            if self.stop.recv_timeout(UP_LOOK_EVERY).is_ok() {
                bail!("told to stop again: pods of node {node} are left running");
            }
        }
    }

    fn agent(&self) -> Command {
        let mut command = Command::new(&self.agent);
        command.arg("--data-dir").arg(self.args.dir.data_dir.join("agent")).stdin(Stdio::null());
        // Ctrl-C on a terminal is ours to act on.
        command.process_group(0);
        command
    }

    fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.to_str().context("the image archive's name is not UTF-8")?;
        self.agent_does(&["image", "import", archive])
    }

    fn agent_does(&self, words: &[&str]) -> anyhow::Result<()> {
        let status = self.agent().args(words).status();
        let status = status.with_context(|| format!("cannot run {}", self.agent.display()))?;
        if !status.success() {
            bail!("coracle-agent {} failed; what it says above is why", words.join(" "));
        }
        Ok(())
    }

    fn start_agent(&self, port: u16) -> anyhow::Result<Child> {
        let data = &self.args.dir.data_dir;
        let config = Kubeconfig::read(&data.join("admin.kubeconfig"))?;
        log::debug!("the node joins {} (port {port})", config.server);
        let mut command = self.agent();
        command.args(["--server", &config.server, "--node-name", &self.node]);
        command.arg("--token-file").arg(data.join("join-token"));
        command.spawn().with_context(|| format!("cannot run {}", self.agent.display()))
    }
}

fn stop(agent: &mut Child) -> anyhow::Result<()> {
    if agent.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = agent.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    let deadline = Instant::now() + UP_AGENT_STOP_TIMEOUT;
    while sent.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < deadline {
        if agent.try_wait()?.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    agent.kill().context("cannot stop the agent")?;
    agent.wait().context("cannot stop the agent")?;
    Ok(())
}

fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{}", encode(name))
}

fn uncordon(client: &Client, node: &str) -> anyhow::Result<()> {
    let path = node_path(node);
    let found = client.api.json("GET", &path, b"")?;
    if found.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        schedulable(client, node, true)?;
    }
    Ok(())
}

fn schedulable(client: &Client, node: &str, yes: bool) -> anyhow::Result<()> {
    let path = format!("{}?fieldManager=coracle", node_path(node));
    let body = serde_json::json!({ "spec": { "unschedulable": !yes } }).to_string();
    let ask = Ask {
        method: "PATCH",
        path: &path,
        content_type: "application/merge-patch+json",
        body: body.as_bytes(),
        ..Default::default()
    };
    client.api.value(&ask).map(|_node| ())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Prints what is new; gives `ready` back.
fn show(seen: &mut BTreeMap<String, String>, name: &str, told: &str, ready: bool) -> bool {
    if !told.is_empty() && seen.get(name).is_none_or(|before| before != told) {
        seen.insert(name.to_owned(), told.to_owned());
        // Whether anyone reads it is no reason to stop.
        let _unheard = say(&format!("{name}  {told}"));
    }
    ready
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn replicas(object: &Value, field: &str) -> String {
    let (have, want) =
        (number(object, &format!("/status/{field}")), number(object, "/spec/replicas"));
    format!("{have}/{want} ready")
}

/// What is told of an applied object; nothing of what has no progress.
fn progress(target: &Target, object: &Value) -> String {
    match target.kind.kind.as_str() {
        "Deployment" | "ReplicaSet" => replicas(object, "readyReplicas"),
        "Pod" => pod(object),
        _ => String::new(),
    }
}

fn is_ready(target: &Target, object: &Value) -> bool {
    match target.kind.kind.as_str() {
        "Deployment" => {
            let want = number(object, "/spec/replicas");
            current(object)
                && condition(object, "Available") == Some("True")
                && number(object, "/status/readyReplicas") == want
                && number(object, "/status/updatedReplicas") == want
        }
        "ReplicaSet" => {
            current(object)
                && number(object, "/status/readyReplicas") == number(object, "/spec/replicas")
        }
        "Pod" => {
            condition(object, "Ready") == Some("True")
                || text(object, "/status/phase") == "Succeeded"
        }
        _ => true,
    }
}

/// `Pending`, `ErrImagePull: no such image`, `Running 10.42.0.3`.
fn pod(pod: &Value) -> String {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating".into();
    }
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
    let waiting = statuses.into_iter().flatten().find_map(|status| {
        let reason = text(status, "/state/waiting/reason");
        let message = text(status, "/state/waiting/message");
        let plain =
            reason.is_empty() || reason == "ContainerCreating" || reason == "PodInitializing";
        (!plain).then(|| format!("{reason}: {message}").trim_end_matches(": ").to_owned())
    });
    let phase = text(pod, "/status/phase");
    waiting
        .unwrap_or_else(|| format!("{phase} {}", text(pod, "/status/podIP")).trim_end().to_owned())
}

fn is_root() -> anyhow::Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0"))
}

/// Beside this program.
fn agent_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let agent = own.with_file_name("coracle-agent");
    if !agent.is_file() {
        bail!(
            "{} is missing; `up` starts it as the node: install it beside `coracle`",
            agent.display()
        );
    }
    Ok(agent)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_of_a_pod() {
        let check = |status: Value, want: &str| assert_eq!(pod(&json!({ "status": status })), want);
        check(json!({ "phase": "Pending" }), "Pending");
        check(json!({ "phase": "Running", "podIP": "10.42.0.3" }), "Running 10.42.0.3");
        let waiting = |reason: &str, message: &str| {
            json!({ "phase": "Pending", "containerStatuses": [
                { "state": { "waiting": { "reason": reason, "message": message } } },
            ]})
        };
        check(waiting("ContainerCreating", ""), "Pending");
        check(waiting("ErrImagePull", "no such image"), "ErrImagePull: no such image");
        check(waiting("CrashLoopBackOff", ""), "CrashLoopBackOff");
    }
}
