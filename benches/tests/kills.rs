//! Ten rounds of SIGKILL to anything while a rollout goes on and a writer logs what was acknowledged: converged at the end,
//! every acknowledged write there (S1), never more than one set of processes for a pod (R5).

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::ensure;
use coracle_benches::{
    cluster::{Cluster, project, wait_for},
    host,
};

const ROUNDS: usize = 10;

/// Shims by the pod uid in their command line.
fn shims_by_pod(cluster: &Cluster) -> BTreeMap<String, Vec<i32>> {
    host::shims_by_pod(&cluster.dir().display().to_string())
}

#[test]
fn whatever_is_killed_nothing_is_lost_and_nothing_runs_twice() {
    let mut cluster = Cluster::start().unwrap();
    cluster.import("pi1", &project().join("target/demo/testing-service.tar")).unwrap();
    cluster.agent("pi1", &[]).unwrap();
    let manifest = project().join("control/examples/basic-deployment.yml");
    cluster.ok(&["create", "-f", &manifest.display().to_string()]).unwrap();

    // The writer: its own kubectl processes, whatever happens to the server.
    let acknowledged: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (log, stop) = (acknowledged.clone(), stop.clone());
        let kubectl = project().join("target/tools/kubectl");
        let (kubeconfig, home) = (cluster.kubeconfig(), cluster.dir().join("writer"));
        move || {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return number;
                }
                let name = format!("written-{number}");
                let output = Command::new(&kubectl)
                    .args([
                        "create",
                        "configmap",
                        &name,
                        "-o",
                        "jsonpath={.metadata.resourceVersion}",
                        "--request-timeout=5s",
                    ])
                    .env("KUBECONFIG", &kubeconfig)
                    .env("HOME", &home)
                    .output()
                    .unwrap();
                if let (true, Ok(revision)) =
                    (output.status.success(), String::from_utf8_lossy(&output.stdout).parse())
                {
                    log.lock().unwrap().push((name, revision));
                }
            }
            0
        }
    });

    for round in 0..ROUNDS {
        // A rollout under way: each round changes the template.
        let patch = format!(
            r#"{{"spec":{{"template":{{"metadata":{{"annotations":{{"round":"{round}"}}}}}}}}}}"#
        );
        cluster.ok(&["patch", "deployment", "test-service-deploy", "-p", &patch]).unwrap();
        let before = acknowledged.lock().unwrap().len();
        wait_for("the writer to write", || {
            ensure!(before + 2 <= acknowledged.lock().unwrap().len(), "nothing is acknowledged");
            Ok(())
        })
        .unwrap();
        let (server, agent, shim) = match round % 4 {
            0 => (true, false, false),
            1 => (false, true, false),
            2 => (false, false, true),
            _ => (true, true, true),
        };
        println!("round {round}: SIGKILL to server {server}, agent {agent}, a shim {shim}");
        if server {
            cluster.kill_server().unwrap();
        }
        if agent {
            cluster.kill_agent("pi1").unwrap();
        }
        if shim && let Some(pid) = cluster.shims().first() {
            assert!(
                Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success()
            );
        }
        if server {
            cluster.restart_server().unwrap();
        }
        if agent {
            cluster.start_agent("pi1").unwrap();
        }
        for (uid, shims) in shims_by_pod(&cluster) {
            assert!(shims.len() <= 1, "R5: pod {uid} has shims {shims:?}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let tried = writer.join().unwrap();

    wait_for("the rollout to settle", || {
        let list = cluster.ok(&["get", "pods", "--no-headers"])?;
        let running = list
            .lines()
            .filter(|line| line.contains(" 1/1 ") && line.contains(" Running "))
            .count();
        ensure!(running == 2 && list.lines().count() == 2, "{list}");
        Ok(())
    })
    .unwrap();
    let by_pod = shims_by_pod(&cluster);
    assert_eq!(by_pod.len(), 2, "{by_pod:?}");
    assert!(by_pod.values().all(|shims| shims.len() == 1), "R5: {by_pod:?}");

    let lines = cluster
        .ok(&[
            "get",
            "configmaps",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}",
        ])
        .unwrap();
    let stored: BTreeMap<&str, u64> = lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, revision)| Some((name, revision.parse().ok()?)))
        .collect();
    let acknowledged = acknowledged.lock().unwrap();
    for (name, revision) in acknowledged.iter() {
        assert_eq!(
            stored.get(name.as_str()),
            Some(revision),
            "S1: {name} was acknowledged at {revision}"
        );
    }
    println!("{tried} writes tried, {} acknowledged, all there", acknowledged.len());
    assert!(2 * ROUNDS <= acknowledged.len());
}
