//! A node from end to end: a real control plane, real containers, a real network, and what happens when parts of it die.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod cluster;

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use cluster::{Cluster, condition, processes, signal};
use serde_json::{Value, json};

/// Runs for ever; `mark` finds its processes again. SIGTERM ends it after `echo term`.
fn forever(mark: &str) -> Value {
    let script =
        format!(": {mark}; trap 'echo term; exit 0' TERM; echo up; while true; do sleep 0.2; done");
    json!({"command": ["sh", "-c", script]})
}

fn marked(mark: &str) -> usize {
    processes(|words| {
        words.first().is_some_and(|word| word == "sh")
            && words.iter().any(|word| word.contains(mark))
    })
    .len()
}

#[test]
fn a_node_joins_with_its_own_key() {
    let mut cluster = Cluster::start();
    // A token of another cluster: the server is not the one it speaks of, and nothing was sent to it.
    let other = format!("K10{}::abcdef.0123456789abcdef", "0".repeat(64));
    let refused = Command::new(env!("CARGO_BIN_EXE_coracle-agent"))
        .arg("--data-dir")
        .arg(cluster.dir.join("stranger"))
        .args(["--server", cluster.url(), "--token", &other, "--node-name", "stranger"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("the server is not the one the join token speaks of"), "{said}");

    let node = cluster.add_node("pi-1", &["--label", "room=attic"]);
    let object = cluster.get("/api/v1/nodes/pi-1");
    assert_eq!(object["metadata"]["labels"]["room"], "attic");
    assert_eq!(object["status"]["nodeInfo"]["operatingSystem"], "linux");
    assert!(object["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap().starts_with("v1.36."));
    let mode = |name: &str| {
        let path = cluster.node(node).data.join(name);
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("agent/identity.pem"), 0o600);
    assert_eq!(mode(""), 0o700);
    cluster.eventually("the lease is renewed", |cluster| {
        let lease =
            cluster.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/pi-1");
        lease["spec"]["holderIdentity"] == "pi-1"
    });
    let again = Command::new(env!("CARGO_BIN_EXE_coracle-agent"))
        .arg("--data-dir")
        .arg(&cluster.node(node).data)
        .args(["--server", cluster.url(), "--node-name", "pi-1"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&again.stderr).contains("another coracle-agent uses"));
    let took = cluster.stop_agent(node);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_pod_has_its_network_volumes_and_environment() {
    let mut cluster = Cluster::start();
    let node = cluster.add_node("n1", &[]);
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.post(maps, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "1"}}));
    let script = "echo $IP $A; echo $(cat /labels/l /cm/a); mkdir /w; echo page > /w/index.html; exec httpd -f -p 9876 -h /w";
    let uid = cluster.pod(
        "web",
        json!({
            "command": ["sh", "-c", script],
            "env": [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}},
            ],
            "volumeMounts": [{"name": "cm", "mountPath": "/cm"}, {"name": "labels", "mountPath": "/labels"}],
        }),
        json!({"volumes": [
            {"name": "cm", "configMap": {"name": "cm"}},
            {"name": "labels", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}),
    );
    let ip = cluster.running("web")["status"]["podIP"].as_str().unwrap().to_owned();
    let fetch = |args: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--max-time", "10"]).args(args).output().unwrap();
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let page = format!("http://{ip}:9876/");
    cluster.eventually("the pod answers", |_| fetch(&[&page]) == "page\n");
    assert_eq!(cluster.log("web", ""), format!("{ip} 1\napp=\"web\"1\n"));

    // From inside, the service's address leads to the API server, and the token is good there.
    let shim = cluster.shims(node, &uid)[0].to_string();
    let volumes = cluster.node(node).data.join(format!("pods/{uid}/volumes"));
    let access = fs::read_dir(&volumes).unwrap().flatten().map(|entry| entry.path());
    let access = access.into_iter().find(|path| path.join("token").exists()).unwrap();
    let token = fs::read_to_string(access.join("token")).unwrap();
    let asked = Command::new("nsenter")
        .args(["-t", &shim, "-n", "curl", "-sS", "--max-time", "10", "--cacert"])
        .arg(access.join("ca.crt"))
        .args([
            "-H",
            &format!("Authorization: Bearer {token}"),
            "https://10.43.0.1/api/v1/namespaces/default/pods",
        ])
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(answer.contains("system:serviceaccount:default:default"), "{answer}");

    // A change arrives in the volume, whole.
    cluster.merge(&format!("{maps}/cm"), &json!({"data": {"a": "2", "b": "3"}}));
    cluster.eventually("the change is in the volume", |_| {
        let read =
            |name: &str| fs::read_to_string(volumes.join("cm").join(name)).unwrap_or_default();
        read("a") == "2" && read("b") == "3"
    });

    cluster.delete_pod("web");
    cluster.pod_is("web", "gone", |pod| pod["code"] == 404);
    let left = cluster.node(node).data.join("pods").join(&uid);
    cluster.eventually("nothing of it is left", |cluster| {
        !left.exists() && cluster.shims(0, &uid).is_empty()
    });
    assert!(
        fs::read_dir(format!("/sys/class/net/{}/brif", cluster.node(node).bridge))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn the_grace_period_is_respected() {
    // R6
    let mut cluster = Cluster::start();
    cluster.add_node("n1", &[]);
    let polite = "trap 'sleep 2; exit 0' TERM; while true; do sleep 0.1; done";
    cluster.pod(
        "polite",
        json!({"command": ["sh", "-c", polite]}),
        json!({"terminationGracePeriodSeconds": 30}),
    );
    let deaf = "trap '' TERM; while true; do sleep 0.1; done";
    cluster.pod(
        "deaf",
        json!({"command": ["sh", "-c", deaf]}),
        json!({"terminationGracePeriodSeconds": 4}),
    );
    for (name, from_s, to_s) in [("polite", 2, 20), ("deaf", 4, 20)] {
        cluster.running(name);
        let began = std::time::Instant::now();
        cluster.delete_pod(name);
        cluster.pod_is(name, "gone", |pod| pod["code"] == 404);
        let took_s = began.elapsed().as_secs();
        assert!((from_s..to_s).contains(&took_s), "{name} took {took_s} s");
    }
}

#[test]
fn living_pods_go_on_and_dead_ones_come_back_once() {
    // R5
    let mut cluster = Cluster::start();
    let node = cluster.add_node("n1", &[]);
    let mark = format!("mark-{}", std::process::id());
    let uid = cluster.pod("web", forever(&mark), json!({}));
    let started = cluster.running("web")["status"]["containerStatuses"][0]["state"].clone();
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();

    cluster.kill_agent(node);
    assert_eq!(marked(&mark), 1);
    cluster.start_agent(node);
    cluster.pod("second", forever("second"), json!({}));
    cluster.running("second");
    let pod = cluster.get_pod("web");
    assert_eq!(pod["status"]["containerStatuses"][0]["state"], started, "it was not restarted");
    assert_eq!(marked(&mark), 1);

    let shim = cluster.shims(node, &uid)[0];
    signal(shim, "KILL");
    let pod = cluster.pod_is("web", "restarted", |pod| {
        restarts(pod) == Some(1) && condition(pod, "Ready") == "True"
    });
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (last["reason"].as_str(), last["exitCode"].as_i64()),
        (Some("ContainerStatusUnknown"), Some(137))
    );
    assert_eq!(marked(&mark), 1);

    // Everything at once, and no control plane when the agent comes back: as after a power cut.
    cluster.kill_control();
    cluster.kill_agent(node);
    for shim in cluster.shims(node, "") {
        signal(shim, "KILL");
    }
    cluster.eventually("all is dead", |_| marked(&mark) == 0);
    cluster.start_agent(node);
    cluster.eventually("the pod runs with no server in sight", |_| marked(&mark) == 1);
    cluster.restart_control();
    cluster
        .pod_is("web", "told", |pod| restarts(pod) == Some(2) && condition(pod, "Ready") == "True");
    assert_eq!(marked(&mark), 1);
    let access = fs::read_dir(cluster.node(node).data.join(format!("pods/{uid}/volumes")))
        .unwrap()
        .flatten();
    let token = access.map(|entry| entry.path().join("token")).find(|path| path.exists()).unwrap();
    cluster.eventually("its token is new", |_| {
        fs::metadata(&token).is_ok_and(|meta| meta.len() > 100)
    });
    let took = cluster.stop_agent(node);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(marked(&mark), 1, "pods outlive a stopped agent");
}

#[test]
fn what_goes_wrong_is_said() {
    let mut cluster = Cluster::start();
    cluster.add_node("n1", &[]);
    let never = || json!({"restartPolicy": "Never"});
    let fill = "cat /dev/zero | head -c 200000000 | tr '\\0' x | { read -r all; echo $all; }";
    cluster.pod(
        "oom",
        json!({"command": ["sh", "-c", fill], "resources": {"limits": {"memory": "16Mi"}}}),
        never(),
    );
    cluster.pod("crash", json!({"command": ["sh", "-c", "echo try; exit 3"]}), json!({}));
    cluster.pod(
        "probe",
        json!({"command": ["true"], "livenessProbe": {"exec": {"command": ["true"]}}}),
        json!({}),
    );
    cluster.pod("image", json!({"image": "127.0.0.1:1/nothing:1"}), json!({}));
    cluster.pod(
        "map",
        json!({"command": ["env"], "envFrom": [{"configMapRef": {"name": "later"}}]}),
        never(),
    );
    cluster.pod("program", json!({"command": ["/nope"]}), never());

    let state =
        |pod: &Value, kind: &str| pod["status"]["containerStatuses"][0]["state"][kind].clone();
    let oom = cluster.pod_is("oom", "failed", |pod| pod["status"]["phase"] == "Failed");
    let inner = state(&oom, "terminated");
    assert!(inner["reason"] == "OOMKilled" || inner["exitCode"] != 0, "{inner}");
    let crash = cluster.pod_is("crash", "backing off", |pod| {
        state(pod, "waiting")["reason"] == "CrashLoopBackOff"
    });
    assert_eq!(crash["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(cluster.log("crash", "previous=true"), "try\n");
    let probe = cluster.pod_is("probe", "refused", |pod| pod["status"]["reason"] == "Unsupported");
    assert_eq!(probe["status"]["phase"], "Pending");
    assert_eq!(
        cluster.events("probe").iter().find(|(reason, _)| reason == "Unsupported").unwrap().1,
        "spec.containers[0].livenessProbe is not implemented by this agent yet"
    );
    cluster.pod_is("image", "backing off", |pod| {
        state(pod, "waiting")["reason"] == "ImagePullBackOff"
    });
    cluster.pod_is("map", "waiting", |pod| {
        state(pod, "waiting") == json!({"reason": "CreateContainerConfigError", "message": "configmap \"later\" not found"})
    });
    let program = cluster.pod_is("program", "failed", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(state(&program, "terminated")["reason"], "StartError");

    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"LATER": "here"}});
    cluster.post("/api/v1/namespaces/default/configmaps", &map);
    cluster.pod_is("map", "done", |pod| pod["status"]["phase"] == "Succeeded");
    assert!(cluster.log("map", "").contains("LATER=here\n"));
}

#[test]
fn logs_come_over_the_agents_own_connection() {
    let mut cluster = Cluster::start();
    cluster.add_node("n1", &[]);
    let script = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done";
    cluster.pod(
        "lines",
        json!({"command": ["sh", "-c", script]}),
        json!({"restartPolicy": "Never"}),
    );
    cluster.running("lines");
    // Ends by itself when the container does.
    let followed = cluster.log("lines", "follow=true");
    assert_eq!(followed, (1..=6).map(|n| format!("line {n}\n")).collect::<String>());
    assert_eq!(cluster.log("lines", "tailLines=2"), "line 5\nline 6\n");
    let timed = cluster.log("lines", "tailLines=1&timestamps=true");
    assert!(timed.starts_with("20") && timed.ends_with("Z line 6\n"), "{timed}");
    assert!(cluster.log("lines", "previous=true").contains("previous terminated container"));
}

#[test]
fn two_agents_share_a_machine() {
    let mut cluster = Cluster::start();
    cluster.add_node("n1", &[]);
    cluster.add_node("n2", &[]);
    for name in ["n1", "n2"] {
        let container = json!({"command": ["sh", "-c", "mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w"]});
        cluster.pod(
            &format!("on-{name}"),
            container,
            json!({"nodeSelector": {"kubernetes.io/hostname": name}}),
        );
    }
    for name in ["on-n1", "on-n2"] {
        let ip = cluster.running(name)["status"]["podIP"].as_str().unwrap().to_owned();
        cluster.eventually("it answers", |_| {
            let output = Command::new("curl")
                .args(["-s", "--max-time", "5", &format!("http://{ip}/")])
                .output();
            String::from_utf8_lossy(&output.unwrap().stdout) == format!("{name}\n")
        });
    }
}
