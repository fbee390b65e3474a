//! Calm: whether all is as asked (L1), and the end, after which nothing of the pods is left.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use coracle_benches::https::Admin;
use coracle_sim::wire::{number, text};
use serde_json::Value;

use crate::{
    boards::Board,
    live,
    user::{DEPLOYMENTS, JSON, PODS, decoded},
};

/// Until everything is as asked. A container that was killed often waits for up to 300 s until it is started again, and a
/// controller that failed often for a minute or two.
pub(crate) const CALM_MAX: Duration = Duration::from_secs(420);
/// Until nothing of deleted pods is left.
const END_MAX: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn list(admin: &Admin, path: &str) -> Result<Vec<Value>> {
    let (code, body) = admin.dial()?.answer("GET", path, JSON, "")?;
    ensure!(code == 200, "GET {path}: {code}");
    let list = decoded(&body)?;
    Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn has(object: &Value, condition: &str) -> bool {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .any(|one| text(one, "/type") == condition && text(one, "/status") == "True")
}

/// When each node renewed its Lease last, by name.
pub(crate) fn renewals(admin: &Admin) -> Result<BTreeMap<String, String>> {
    let leases = list(admin, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases")?;
    let of = |lease: &Value, path: &str| text(lease, path).to_owned();
    let pairs = leases.iter().map(|one| (of(one, "/metadata/name"), of(one, "/spec/renewTime")));
    Ok(pairs.collect())
}

/// Everything is as asked, and each node has renewed its Lease since it was as in `before`; fails with what is not.
pub(crate) fn settled(
    admin: &Admin,
    boards: &[Board],
    cgroup_root: &str,
    before: &BTreeMap<String, String>,
) -> Result<()> {
    let now = renewals(admin)?;
    let nodes = list(admin, "/api/v1/nodes")?;
    for board in boards.get(1..).unwrap_or_default() {
        let node = nodes.iter().find(|node| text(node, "/metadata/name") == board.name);
        let node = node.with_context(|| format!("node {} is not there", board.name))?;
        ensure!(has(node, "Ready"), "node {} is not Ready", board.name);
        let is_heard = now.get(&board.name).is_some_and(|at| before.get(&board.name) != Some(at));
        ensure!(is_heard, "nothing is heard of node {}", board.name);
        let taints = node.pointer("/spec/taints").and_then(Value::as_array);
        ensure!(taints.is_none_or(Vec::is_empty), "node {} has taints {taints:?}", board.name);
    }
    let mut asked = 0;
    for deployment in list(admin, DEPLOYMENTS.path)? {
        let name = text(&deployment, "/metadata/name");
        let want = number(&deployment, "/spec/replicas");
        for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
            let there = number(&deployment, &format!("/status/{field}"));
            ensure!(there == want, "deployment {name} has {there} {field} of {want}");
        }
        let seen = number(&deployment, "/status/observedGeneration");
        let generation = number(&deployment, "/metadata/generation");
        ensure!(seen == generation, "deployment {name}: generation {seen} of {generation} is seen");
        asked += want;
    }
    let pods = list(admin, PODS.path)?;
    for pod in &pods {
        let name = text(pod, "/metadata/name");
        let is_ending = pod.pointer("/metadata/deletionTimestamp").is_some();
        let phase = text(pod, "/status/phase");
        ensure!(
            !is_ending && phase == "Running" && has(pod, "Ready"),
            "pod {name} is {phase}: {}",
            pod["status"]
        );
    }
    ensure!(pods.len() as u64 == asked, "{} pods of {asked}", pods.len());
    let uids: Vec<String> = pods.iter().map(|pod| text(pod, "/metadata/uid").to_owned()).collect();
    let dir = boards.first().and_then(|board| board.dir.parent()).context("no boards")?;
    let differs = live::differs(dir, cgroup_root, &uids);
    ensure!(differs.is_none(), "{}", differs.unwrap_or_default());
    Ok(())
}

/// Waits for it; the time that it took.
pub(crate) fn wait<T>(
    bound: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<(T, Duration)> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok((value, begun.elapsed())),
            Err(why) if bound < begun.elapsed() => {
                return Err(why.context(format!("L1: {what} not within {bound:?} of calm")));
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

/// Deletes all Deployments, waits until nothing of their pods is left, and ends the programs.
pub(crate) fn end(admin: &Admin, boards: &mut [Board], cgroup_root: &str) -> Result<()> {
    for deployment in list(admin, DEPLOYMENTS.path)? {
        let path = format!("{}/{}", DEPLOYMENTS.path, text(&deployment, "/metadata/name"));
        let (code, body) = admin.dial()?.answer("DELETE", &path, JSON, "")?;
        ensure!(code == 200, "DELETE {path}: {code} {body}");
    }
    wait(END_MAX, "an end of all pods", || {
        let pods = list(admin, PODS.path)?;
        ensure!(pods.is_empty(), "{} pods are there", pods.len());
        let left = live::left(boards, cgroup_root);
        ensure!(left.is_empty(), "{}", left.join("; "));
        Ok(())
    })?;
    for board in boards.iter_mut().rev() {
        let status = board.stop()?;
        ensure!(status.success(), "the program of {} ended with {status}", board.name);
        let bridges = board.inside(&["ip", "-o", "link", "show", "type", "bridge"])?;
        ensure!(bridges.trim().is_empty(), "{} is left on {}", bridges.trim(), board.name);
        let tables = board.inside(&["nft", "list", "tables"])?;
        ensure!(!tables.contains("coracle"), "{} is left on {}", tables.trim(), board.name);
    }
    Ok(())
}
