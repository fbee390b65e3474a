//! Every command that a user starts with, by both kubectls, against a real control plane and a real node: exit code and
//! output equal a Kubernetes 1.36 API server's, with names and ages masked.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; each command is told")]

use std::{fs, path::PathBuf};

use coracle_benches::{
    cluster::{Cluster, Kubectl, project, text, wait_for},
    masks::masked,
};

/// The quick start's image, packed by `make target/demo/testing-service.tar`.
fn image() -> PathBuf {
    let path = project().join("target/demo/testing-service.tar");
    assert!(
        path.exists(),
        "{} is not there; run `make setup target/demo/testing-service.tar`",
        path.display()
    );
    path
}

struct Session {
    cluster: Cluster,
    kubectl: Kubectl,
    failed: Vec<String>,
    ran: usize,
}

impl Session {
    fn start(kubectl: Kubectl) -> Self {
        let mut cluster = Cluster::start().unwrap();
        cluster.import("pi1", &image()).unwrap();
        cluster.agent("pi1", &[]).unwrap();
        Self { cluster, kubectl, failed: Vec::new(), ran: 0 }
    }

    /// Runs one command; its standard output and then its standard error, masked, are to be `want`.
    fn step(&mut self, command: &str, want: &str) {
        self.step_with(command, "", want);
    }

    fn step_with(&mut self, command: &str, input: &str, want: &str) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = self.cluster.kubectl_with(self.kubectl, &words, input).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = masked(&format!("{}\n{}", text(&output), errors.trim_end()));
        let code = output.status.code().unwrap_or(-1);
        // How long it had to wait is its own affair.
        let said = if command.starts_with("rollout status") {
            said.trim().lines().last().unwrap_or("")
        } else {
            said.trim()
        };
        let got = format!("{said}\n[exit {code}]");
        let want =
            if want.contains("[exit ") { want.to_owned() } else { format!("{want}\n[exit 0]") };
        let want = want.trim().to_owned();
        self.ran += 1;
        println!(
            "{} {command}: {}",
            if got == want { "ok  " } else { "DIFF" },
            got.lines().last().unwrap_or("")
        );
        if got != want {
            self.failed.push(format!("$ kubectl {command}\n--- want\n{want}\n--- got\n{got}"));
        }
    }

    /// Waits until this many pods of the quick start run and no other is left.
    fn settled(&self, pods: usize) {
        wait_for("the rollout to settle", || {
            let list =
                self.cluster.ok(&["get", "pods", "-l", "app=test-service", "--no-headers"])?;
            let running = list.lines().filter(|line| line.contains(" Running ")).count();
            anyhow_ensure(list.lines().count() == pods && running == pods, &list)
        })
        .unwrap();
    }

    fn finish(self) {
        println!("{} commands, {} differ", self.ran, self.failed.len());
        assert!(self.failed.is_empty(), "{}", self.failed.join("\n\n"));
    }
}

fn anyhow_ensure(holds: bool, said: &str) -> anyhow::Result<()> {
    anyhow::ensure!(holds, "{said}");
    Ok(())
}

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cfg}\ndata: {a: '1'}\n";

fn session(kubectl: Kubectl) {
    let mut s = Session::start(kubectl);
    let manifest = project().join("control/examples/basic-deployment.yml");
    let create = format!("create -f {}", manifest.display());
    let deprecated = "Warning: apps/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment";
    let created = format!("deployment.apps/test-service-deploy created\n{deprecated}");
    s.step("get ns", "NAME  STATUS  AGE\ndefault  Active  AGE\nkube-node-lease  Active  AGE\nkube-public  Active  AGE\nkube-system  Active  AGE");
    s.step(
        "get nodes -o custom-columns=N:.metadata.name,A:.status.nodeInfo.operatingSystem",
        "N  A\npi1  linux",
    );

    // The manifest, byte for byte.
    s.step(&create, &created);
    s.settled(2);
    s.step(
        "rollout status deployment/test-service-deploy --timeout=60s",
        "deployment \"test-service-deploy\" successfully rolled out",
    );
    s.step(
        "get deploy",
        "NAME  READY  UP-TO-DATE  AVAILABLE  AGE\ntest-service-deploy  2/2  2  2  AGE",
    );
    s.step("get rs", "NAME  DESIRED  CURRENT  READY  AGE\ntest-service-deploy-HASH  2  2  2  AGE");
    let pod = "test-service-deploy-HASH-XXXXX";
    s.step("get pods", &format!("NAME  READY  STATUS  RESTARTS  AGE\n{pod}  1/1  Running  0  AGE\n{pod}  1/1  Running  0  AGE"));
    s.step(
        "get pods -o wide",
        &format!("NAME  READY  STATUS  RESTARTS  AGE  IP  NODE  NOMINATED  NODE  READINESS  GATES\n{pod}  1/1  Running  0  AGE  IP  pi1  <none>  <none>\n{pod}  1/1  Running  0  AGE  IP  pi1  <none>  <none>"),
    );
    s.step(
        "get pods -A",
        &format!("NAMESPACE  NAME  READY  STATUS  RESTARTS  AGE\ndefault  {pod}  1/1  Running  0  AGE\ndefault  {pod}  1/1  Running  0  AGE"),
    );
    s.step(
        "get pods -l app=test-service --field-selector=status.phase=Running -o name",
        &format!("pod/{pod}\npod/{pod}"),
    );
    s.step("get pods -l app=other", "No resources found in default namespace.");
    s.step("get pod nope", "Error from server (NotFound): pods \"nope\" not found\n[exit 1]");
    s.step("get foos", "error: the server doesn't have a resource type \"foos\"\n[exit 1]");
    let path = "jsonpath={.spec.revisionHistoryLimit},{.spec.progressDeadlineSeconds},{.spec.selector.matchLabels.app},{.metadata.labels.app},{.apiVersion}";
    s.step(
        &format!("get deploy test-service-deploy -o {path}"),
        "2,600,test-service,test-service,apps/v1",
    );
    s.step(
        "get deployments.v1beta1.apps test-service-deploy -o jsonpath={.apiVersion}",
        &format!("apps/v1beta1\n{deprecated}"),
    );
    s.step(
        "wait --for=condition=Available deployment/test-service-deploy --timeout=30s",
        "deployment.apps/test-service-deploy condition met",
    );
    let names = s.cluster.ok(&["get", "pods", "-o", "name"]).unwrap();
    let one_pod = names.lines().next().unwrap().to_owned();
    for kind in ["deployment test-service-deploy", one_pod.as_str(), "node pi1", "rs"] {
        let words: Vec<&str> = kind.split(' ').collect();
        let output = s.cluster.kubectl(kubectl, &[&["describe"][..], &words].concat()).unwrap();
        assert!(
            output.status.success(),
            "describe {kind}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = text(&output);
        for must in if kind == "node pi1" {
            ["Allocatable:", "Conditions:"]
        } else {
            ["Labels:", "Events:"]
        } {
            assert!(said.contains(must), "describe {kind} lacks {must}:\n{said}");
        }
    }
    let logs = text(
        &s.cluster
            .kubectl(kubectl, &["logs", "deployment/test-service-deploy", "--tail=1"])
            .unwrap(),
    );
    assert_eq!(logs, "listening on port 9876");

    s.step(
        "scale deployment/test-service-deploy --replicas=3",
        "deployment.apps/test-service-deploy scaled",
    );
    s.settled(3);
    s.step(
        "scale deployment/test-service-deploy --current-replicas=3 --replicas=2",
        "deployment.apps/test-service-deploy scaled",
    );
    s.settled(2);
    // An image that is not there: the rollout stands, the old pods stay, undo brings it back.
    s.step(
        "set image deployment/test-service-deploy test-ser=127.0.0.1:1/none:1",
        "deployment.apps/test-service-deploy image updated",
    );
    wait_for("the new pod to fail its pull", || {
        let list = s.cluster.ok(&["get", "pods", "--no-headers"])?;
        anyhow_ensure(list.contains("ImagePullBackOff") || list.contains("ErrImagePull"), &list)
    })
    .unwrap();
    s.step(
        "rollout undo deployment/test-service-deploy",
        "deployment.apps/test-service-deploy rolled back",
    );
    s.settled(2);
    s.step(
        "rollout status deployment/test-service-deploy --timeout=60s",
        "deployment \"test-service-deploy\" successfully rolled out",
    );

    let missing = "no warning of the missing annotation";
    s.step_with("create -f -", CONFIG, "configmap/cfg created");
    s.step_with("create -f -", CONFIG, "Error from server (AlreadyExists): error when creating \"STDIN\": configmaps \"cfg\" already exists\n[exit 1]");
    let output = s
        .cluster
        .kubectl_with(kubectl, &["apply", "-f", "-"], &CONFIG.replace("'1'", "'2'"))
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        kubectl == Kubectl::Old || errors.contains("last-applied-configuration"),
        "{missing}: {errors}"
    );
    assert_eq!(text(&output), "configmap/cfg configured");
    s.step_with("apply -f -", &CONFIG.replace("'1'", "'2'"), "configmap/cfg unchanged");
    s.step("get cm cfg -o jsonpath={.data.a}", "2");
    s.step("create configmap lit --from-literal=k=v", "configmap/lit created");
    s.step("create namespace demo", "namespace/demo created");
    s.step(
        "create deployment imp -n demo --image=jagadesh1982/testing-service --replicas=1",
        "deployment.apps/imp created",
    );
    s.step(
        "rollout status -n demo deployment/imp --timeout=60s",
        "deployment \"imp\" successfully rolled out",
    );
    let from = |namespace: &str| {
        if kubectl == Kubectl::Current {
            format!(" from {namespace} namespace")
        } else {
            String::new()
        }
    };
    s.step("delete configmap cfg", &format!("configmap \"cfg\" deleted{}", from("default")));
    s.step(
        "delete deployment test-service-deploy",
        &format!("deployment.apps \"test-service-deploy\" deleted{}", from("default")),
    );
    s.step("delete namespace demo", "namespace \"demo\" deleted");
    wait_for("everything to be gone", || {
        let list =
            s.cluster.ok(&["get", "deploy,rs,pods", "-A", "--no-headers", "--ignore-not-found"])?;
        anyhow_ensure(list.is_empty() && s.cluster.shims().is_empty(), &list)
    })
    .unwrap();
    s.finish();
}

#[test]
fn watches_and_logs_are_followed_by_both() {
    let mut cluster = Cluster::start().unwrap();
    cluster.import("pi1", &image()).unwrap();
    cluster.agent("pi1", &[]).unwrap();
    let manifest = project().join("control/examples/basic-deployment.yml").display().to_string();
    cluster.ok(&["create", "-f", &manifest]).unwrap();
    cluster
        .ok(&[
            "wait",
            "--for=condition=Available",
            "deployment/test-service-deploy",
            "--timeout=60s",
        ])
        .unwrap();
    for kubectl in [Kubectl::Current, Kubectl::Old] {
        let watch = cluster.follow(kubectl, &["get", "deployments", "-w"]).unwrap();
        watch.line_with("2/2").unwrap();
        cluster.ok(&["scale", "deployment/test-service-deploy", "--replicas=3"]).unwrap();
        watch.line_with("2/3").unwrap();
        watch.line_with("3/3").unwrap();
        cluster.ok(&["scale", "deployment/test-service-deploy", "--replicas=2"]).unwrap();
        watch.line_with("2/2").unwrap();

        let names = cluster.ok(&["get", "pods", "--field-selector=status.phase=Running", "-o", "jsonpath={range .items[?(!@.metadata.deletionTimestamp)]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}"]);
        let names = names.unwrap_or_else(|_| {
            cluster
                .ok(&[
                    "get",
                    "pods",
                    "-o",
                    "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
                ])
                .unwrap()
        });
        let (name, ip) = names.lines().next().unwrap().split_once(' ').unwrap();
        let logs = cluster.follow(kubectl, &["logs", "-f", "--tail=1", name]).unwrap();
        let path = format!("/asked-by-{kubectl:?}");
        let output = std::process::Command::new("curl")
            .args(["-s", "--max-time", "10", &format!("http://{ip}:9876{path}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "curl {ip}: {output:?}");
        logs.line_with(&path).unwrap();
    }
}

#[test]
fn the_current_kubectl() {
    session(Kubectl::Current);
}

#[test]
fn debians_kubectl() {
    session(Kubectl::Old);
}

#[test]
fn discovery_and_versions_are_told_to_both() {
    let cluster = Cluster::start().unwrap();
    for kubectl in [Kubectl::Current, Kubectl::Old] {
        let list = text(&cluster.kubectl(kubectl, &["api-resources", "--no-headers"]).unwrap());
        for must in [
            "deployments",
            "pods",
            "configmaps",
            "leases",
            "certificatesigningrequests",
            "endpointslices",
        ] {
            assert!(
                list.lines().any(|line| line.starts_with(must)),
                "{kubectl:?}: no {must} in\n{list}"
            );
        }
        for not_yet in ["daemonsets", "statefulsets", "jobs", "ingresses", "persistentvolumes"] {
            assert!(
                !list.lines().any(|line| line.starts_with(not_yet)),
                "{kubectl:?}: {not_yet} is told and not there"
            );
        }
        let version = text(&cluster.kubectl(kubectl, &["version"]).unwrap());
        assert!(version.contains("v1.36"), "{version}");
    }
    // Strict validation, as `create -f` asks for it: unknown and doubled fields are told by name.
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndatum: {a: b}\n";
    let output = cluster.kubectl_with(Kubectl::Current, &["create", "-f", "-"], bad).unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("strict decoding error: unknown field \"datum\""), "{said}");
    assert!(
        fs::metadata(cluster.kubeconfig())
            .is_ok_and(|meta| std::os::unix::fs::MetadataExt::mode(&meta) & 0o077 == 0)
    );
}
