//! The walls of a running container, read back from /proc and the cgroup files of the host.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use anyhow::{Context as _, ensure};
use coracle_benches::{
    cluster::{Cluster, project, wait_for},
    host,
};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: walls}
spec:
  containers:
  - name: c
    image: docker.io/jagadesh1982/testing-service
    resources:
      requests: {cpu: 100m, memory: 16Mi}
      limits: {cpu: 250m, memory: 32Mi}
    securityContext: {allowPrivilegeEscalation: false}
"#;

/// The pid, as the host sees it, of the container's first process.
fn container_pid(cluster: &Cluster) -> anyhow::Result<i32> {
    let shims = cluster.shims();
    let children = shims.iter().flat_map(|shim| host::children_of(*shim));
    let mut inside = children.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.starts_with(b"/testing-service"))
    });
    inside.next().with_context(|| format!("no /testing-service below shims {shims:?}"))
}

/// Where a v1 or v2 cgroup file of the process is: the first of the names that is there, for its controller.
fn cgroup_value(pid: i32, controller: &str, names: &[&str]) -> Option<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    for line in table.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let base = if controllers.is_empty() {
            "/sys/fs/cgroup".to_owned()
        } else {
            format!("/sys/fs/cgroup/{controllers}")
        };
        if !controllers.is_empty() && !controllers.split(',').any(|one| one == controller) {
            continue;
        }
        for name in names {
            if let Ok(text) = fs::read_to_string(format!("{base}{path}/{name}")) {
                return Some(text.trim().to_owned());
            }
        }
    }
    None
}

#[test]
fn a_container_has_the_walls_it_asked_for() {
    let mut cluster = Cluster::start().unwrap();
    cluster.import("pi1", &project().join("target/demo/testing-service.tar")).unwrap();
    cluster.agent("pi1", &[]).unwrap();
    cluster.ok_with(&["create", "-f", "-"], POD).unwrap();
    cluster.ok(&["wait", "--for=condition=Ready", "pod/walls", "--timeout=60s"]).unwrap();
    let pid = wait_for("the container's process", || container_pid(&cluster)).unwrap();

    for namespace in ["pid", "mnt", "net", "ipc", "uts"] {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
    }
    let nspid = host::status_field(pid, "NSpid").unwrap();
    assert_eq!(nspid.split_whitespace().last(), Some("1"), "the entrypoint is PID 1: {nspid}");
    // The image's user is 65534: nothing effective; the bounding set is Docker's default fourteen.
    assert_eq!(host::status_field(pid, "CapEff").unwrap(), "0000000000000000");
    assert_eq!(host::status_field(pid, "CapBnd").unwrap(), "00000000a80425fb");
    assert_eq!(host::status_field(pid, "Seccomp").unwrap(), "2");
    assert_eq!(host::status_field(pid, "NoNewPrivs").unwrap(), "1");

    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(places.iter().filter(|place| **place == "/").count(), 1, "{mounts}");
    let known = [
        "/",
        "/proc",
        "/dev",
        "/sys",
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/var/run/secrets",
        "/run/secrets",
    ];
    for place in &places {
        assert!(
            known.iter().any(|one| place == one || *one != "/" && place.starts_with(one)),
            "R2: {place} is mounted:\n{mounts}"
        );
    }
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.contains(" - overlay "), "{root}");

    let memory = cgroup_value(pid, "memory", &["memory.max", "memory.limit_in_bytes"]).unwrap();
    assert_eq!(memory, (32_u64 << 20).to_string());
    match cgroup_value(pid, "cpu", &["cpu.max"]) {
        Some(max) => assert_eq!(max, "25000 100000"),
        None => assert_eq!(cgroup_value(pid, "cpu", &["cpu.cfs_quota_us"]).unwrap(), "25000"),
    }
}

#[test]
fn exits_signals_and_memory_kills_are_told_apart() {
    let mut cluster = Cluster::start().unwrap();
    cluster.agent("pi1", &[]).unwrap();
    let archive = busybox(&cluster);
    cluster.import("pi1", &archive).unwrap();
    let pod = |name: &str, command: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: local/busybox:1\n    command: [sh, -c, '{command}']\n    resources: {{limits: {{memory: 32Mi}}}}\n---\n"
        )
    };
    let manifest = [
        pod("seven", "exit 7"),
        pod("killed", "kill -9 $$; sleep 5"),
        pod("greedy", "x=a; while true; do x=$x$x; done"),
        pod("fine", "exit 0"),
    ]
    .concat();
    cluster.ok_with(&["create", "-f", "-"], &manifest).unwrap();
    for (name, phase, reason, code) in [
        ("seven", "Failed", "Error", "7"),
        ("fine", "Succeeded", "Completed", "0"),
        ("greedy", "Failed", "OOMKilled", "137"),
    ] {
        let path = "jsonpath={.status.phase} {.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}";
        wait_for(name, || {
            let got = cluster.ok(&["get", "pod", name, "-o", path])?;
            ensure!(got == format!("{phase} {reason} {code}"), "{name}: {got}");
            Ok(())
        })
        .unwrap();
    }
    let missing = pod("missing", "x").replace("[sh, -c, 'x']", "[/no/such/program]");
    cluster.ok_with(&["create", "-f", "-"], &missing).unwrap();
    wait_for("the missing program to be told", || {
        let said = cluster.ok(&[
            "get",
            "pod",
            "missing",
            "-o",
            "jsonpath={.status.containerStatuses[0].state}",
        ])?;
        ensure!(said.contains("/no/such/program"), "{said}");
        Ok(())
    })
    .unwrap();
}

/// An image of busybox with its applets, made by umoci; gives its archive.
fn busybox(cluster: &Cluster) -> std::path::PathBuf {
    let script = "set -e
        umoci init --layout bb; umoci new --image bb:1; umoci unpack --rootless --image bb:1 bundle
        mkdir -p bundle/rootfs/bin bundle/rootfs/tmp; cp \"$(command -v busybox)\" bundle/rootfs/bin/busybox
        for a in sh sleep cat echo kill; do ln -s busybox bundle/rootfs/bin/$a; done
        umoci repack --image bb:1 bundle; umoci config --image bb:1 --config.env PATH=/bin
        skopeo --insecure-policy copy --quiet oci:bb:1 oci-archive:bb.tar:local/busybox:1";
    let dir = cluster.dir().join("made");
    fs::create_dir_all(&dir).unwrap();
    let output =
        std::process::Command::new("sh").args(["-c", script]).current_dir(&dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir.join("bb.tar")
}
