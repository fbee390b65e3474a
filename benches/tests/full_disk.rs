//! A control plane whose disk is full: writes are refused in words, reads go on, nothing acknowledged is lost.

use std::fs;

use coracle_benches::{
    cluster::{Cluster, Kubectl, wait_for},
    disk::SmallDisk,
};
use serde_json::json;

#[test]
fn a_full_disk_stops_writes_only_and_loses_nothing() {
    let dir = std::env::temp_dir().join(format!("coracle-full-{}", std::process::id()));
    let disk = SmallDisk::mount(&dir, "6m").unwrap();
    let mut cluster = Cluster::start_on(&dir).unwrap();
    let filler = "x".repeat(300_000);
    let manifest = |name: &str, text: &str| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": text } })
            .to_string()
    };
    let create = |cluster: &Cluster, name: &str, text: &str| {
        let output = cluster
            .kubectl_with(Kubectl::Current, &["create", "-f", "-"], &manifest(name, text))
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    let mut acknowledged = Vec::new();
    let refusal = (0..60)
        .find_map(|number| {
            let name = format!("big{number}");
            let refused = create(&cluster, &name, &filler).err();
            if refused.is_none() {
                acknowledged.push(name);
            }
            refused
        })
        .expect("60 times 300 kB do not fit 6 MiB");
    for words in ["No space left on device", "store.redb", "free space on that disk"] {
        assert!(refusal.contains(words), "{refusal} does not say {words:?}");
    }
    let names = |cluster: &Cluster| {
        let list = cluster.ok(&["get", "configmaps", "-o", "name"])?;
        Ok(list.replace("configmap/", ""))
    };
    let all_there = |cluster: &Cluster| {
        let list = wait_for("reads to be answered", || names(cluster)).unwrap();
        for name in &acknowledged {
            assert!(list.lines().any(|line| line == name), "{name} was acknowledged: {list}");
        }
    };
    // Still full: again and again the same, and reads go on between.
    for _ in 0..3 {
        let refusal = create(&cluster, "more", &filler).unwrap_err();
        assert!(refusal.contains("store"), "{refusal}");
        all_there(&cluster);
    }
    disk.resize("40m").unwrap();
    wait_for("writes to work again", || {
        create(&cluster, "after", "small").map_err(anyhow::Error::msg)
    })
    .unwrap();
    all_there(&cluster);
    cluster.kill_server().unwrap();
    cluster.restart_server().unwrap();
    all_there(&cluster);
    assert!(names(&cluster).unwrap().contains("after"));
    drop(cluster);
    drop(disk);
    fs::remove_dir(&dir).unwrap();
}
