//! The built-in client against the real server on a loopback port: what it prints, where, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A server with a data directory of its own; both go with it.
struct Cluster {
    dir: PathBuf,
    server: Child,
}

impl Cluster {
    fn start(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("coracle-client-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut server = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&dir)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let ready = lines.find(|line| line.as_ref().unwrap().contains("ready after"));
        assert!(ready.is_some(), "the server ended");
        // Nobody to read it must not stop the server.
        std::thread::spawn(move || lines.count());
        Self { dir, server }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command
            .args(words)
            .current_dir(&self.dir)
            .env("KUBECONFIG", self.dir.join("admin.kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    /// Exit code, stdout, stderr.
    fn run(&self, line: &str) -> (i32, String, String) {
        told(&mut self.command(&line.split(' ').collect::<Vec<_>>()))
    }

    /// Gives stdout; stderr must be `warnings`.
    fn good(&self, line: &str, warnings: &str) -> String {
        let (code, out, errors) = self.run(line);
        assert_eq!((code, errors.as_str()), (0, warnings), "{line}: {out}");
        out
    }

    /// Exit 1, nothing on stdout, one line on stderr that begins and goes on like this.
    fn bad(&self, line: &str, begin: &str, contains: &str) {
        let (code, out, errors) = self.run(line);
        assert_eq!((code, out.as_str()), (1, ""), "{line}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{line}: {errors}");
        assert!(errors.starts_with(begin) && errors.contains(contains), "{line}: {errors}");
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whatever fails here, the test has said what it had to.
        let _ended = self.server.kill();
        let _reaped = self.server.wait();
        let _removed = fs::remove_dir_all(&self.dir);
    }
}

fn told(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/basic-deployment.yml")
        .display()
        .to_string()
}

const DEPRECATED: &str = "Warning: apps/v1beta1 Deployment is deprecated in v1.8+, unavailable in v1.16+; use apps/v1 Deployment\n";

fn config_map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  labels: {{t: x}}\ndata:\n  k: {value}\n"
    )
}

#[test]
fn the_manifest_of_the_project() {
    let cluster = Cluster::start("manifest");
    let example = example();
    let warnings = format!("{DEPRECATED}Warning: duplicate field \"apiVersion\"\n");
    let created = cluster.good(&format!("create -f {example}"), &warnings);
    assert_eq!(created, "deployment.apps/test-service-deploy created\n");
    let (code, out, errors) = cluster.run(&format!("create -f {example}"));
    assert_eq!((code, out.as_str()), (1, ""));
    let again = format!(
        "Error from server (AlreadyExists): error when creating \"{example}\": deployments.apps \"test-service-deploy\" already exists"
    );
    assert_eq!(errors.lines().last(), Some(again.as_str()));

    let wait = "wait deploy/test-service-deploy --timeout=10s";
    let out = cluster.good(&format!("{wait} --for=jsonpath={{.status.unavailableReplicas}}=2"), "");
    assert_eq!(out, "deployment.apps/test-service-deploy condition met\n");
    let out = cluster.good("get deploy,rs,po", "");
    let shape: Vec<&str> =
        out.lines().map(|line| line.split(['-', ' ']).next().unwrap_or_default()).collect();
    let (deployment, set, pod) = ("deployment.apps/test", "replicaset.apps/test", "pod/test");
    assert_eq!(shape, ["NAME", deployment, "", "NAME", set, "", "NAME", pod, pod], "{out}");
    assert!(out.contains("0/2     2            0"), "{out}");
    let yaml = cluster.good("get deploy test-service-deploy -o yaml", "");
    for line in ["apiVersion: apps/v1", "  revisionHistoryLimit: 2", "          value: \"0.5\""] {
        assert!(yaml.lines().any(|have| have == line), "{line}: {yaml}");
    }
    assert!(!yaml.contains("managedFields"));

    let short = "wait deploy/test-service-deploy --for=condition=Available --timeout=200ms";
    cluster.bad(
        short,
        "error: timed out waiting for the condition on deployments/test-service-deploy",
        "",
    );
    cluster.bad(
        "logs deploy/nope",
        "Error from server (NotFound): ",
        "deployments.apps \"nope\" not found",
    );
    let deleted = cluster.good(&format!("delete -f {example}"), DEPRECATED);
    assert_eq!(deleted, "deployment.apps \"test-service-deploy\" deleted from default namespace\n");
    let out = cluster.good("get deploy", "No resources found in default namespace.\n");
    assert_eq!(out, "");
    let gone = format!("{wait} --for=delete");
    assert_eq!(cluster.good(&gone, ""), "deployment.apps/test-service-deploy condition met\n");
    assert_eq!(
        cluster
            .good("wait pods -l app=test-service --for=delete --timeout=10s", "")
            .lines()
            .count(),
        0
    );
}

#[test]
fn apply_makes_changes_and_leaves_alone() {
    let cluster = Cluster::start("apply");
    cluster.write(
        "a.yaml",
        &format!("---\n{}---\n{}", config_map("a", "one"), config_map("b", "'yes'")),
    );
    let out = cluster.good("apply -f a.yaml", "");
    assert_eq!(out, "configmap/a created\nconfigmap/b created\n");
    cluster.write(
        "a.yaml",
        &format!("{}---\n{}", config_map("a", "'0644'"), config_map("b", "'yes'")),
    );
    assert_eq!(
        cluster.good("apply -f a.yaml --dry-run=server", "").lines().next(),
        Some("configmap/a configured (server dry run)")
    );
    assert_eq!(
        cluster.good("apply -f a.yaml", ""),
        "configmap/a configured\nconfigmap/b unchanged\n"
    );
    let yaml = cluster.good("get cm/a -o yaml", "");
    assert!(yaml.contains("\n  k: \"0644\"\n"), "{yaml}");
    // What it prints, the server reads as the same.
    cluster.write("back.yaml", &yaml);
    cluster.good("delete cm a", "");
    cluster.write(
        "back.yaml",
        &yaml
            .lines()
            .filter(|line| !line.contains("uid:") && !line.contains("resourceVersion:"))
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
    assert_eq!(cluster.good("create -f back.yaml", ""), "configmap/a created\n");
    assert_eq!(cluster.good("get cm a -o jsonpath={.data.k}", ""), "0644\n");
    assert_eq!(cluster.good("get cm -l t=x -o name", ""), "configmap/a\nconfigmap/b\n");
    let json: serde_json::Value =
        serde_json::from_str(&cluster.good("get cm -l t=x -o json", "")).unwrap();
    assert_eq!(
        (json["kind"].as_str(), json["items"][1]["data"]["k"].as_str()),
        (Some("List"), Some("yes"))
    );
    assert_eq!(json["items"][0]["kind"].as_str(), Some("ConfigMap"));

    let mut piped = cluster
        .command(&["apply", "-f", "-", "-n", "kube-public"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(config_map("p", "x").as_bytes()).unwrap();
    assert_eq!(piped.wait_with_output().unwrap().stdout, b"configmap/p created\n");
    let all = cluster.good("get cm -A -l t=x --no-headers", "");
    let places: Vec<Vec<&str>> =
        all.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(places, [["default", "a", "1"], ["default", "b", "1"], ["kube-public", "p", "1"]]);
    assert_eq!(
        cluster.good("delete cm -l t=x", ""),
        "configmap \"a\" deleted from default namespace\nconfigmap \"b\" deleted from default namespace\n"
    );
    assert_eq!(cluster.good("delete cm a --ignore-not-found", ""), "");
    assert_eq!(
        cluster.good("get ns default kube-system -o name", ""),
        "namespace/default\nnamespace/kube-system\n"
    );
}

#[test]
fn watches_show_what_comes() {
    let cluster = Cluster::start("watch");
    cluster.write("a.yaml", &config_map("a", "one"));
    cluster.good("create -f a.yaml", "");
    let mut watching =
        cluster.command(&["get", "cm", "-l", "t=x", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!((next(), next()), ("NAME".into(), "a".into()));
    cluster.write("b.yaml", &config_map("b", "one"));
    cluster.good("create -f b.yaml", "");
    assert_eq!(next(), "b");
    watching.kill().unwrap();
    watching.wait().unwrap();

    let mut waiting = cluster
        .command(&["wait", "cm/b", "--for=delete", "--timeout=20s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    cluster.good("delete cm b", "");
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn bad_manifests() {
    let cluster = Cluster::start("bad");
    let map = config_map("ok", "one");
    let check = |text: &str, begin: &str, contains: &str| {
        cluster.write("bad.yaml", text);
        for verb in ["create", "apply"] {
            cluster.bad(&format!("{verb} -f bad.yaml"), begin, contains);
        }
    };
    check("a: [", "error: error parsing bad.yaml: error converting YAML to JSON: ", "");
    check("", "error: no objects in bad.yaml", "");
    check("- a", "error: error parsing bad.yaml: it holds something that is no object", "");
    check("kind: ConfigMap", "error: error validating \"bad.yaml\": apiVersion not set", "");
    check(
        "apiVersion: v1\nkind: Nope\nmetadata: {name: x1}\n",
        "error: resource mapping not found for name: \"x1\"",
        "no matches for kind \"Nope\"",
    );
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n",
        "Error from server (Invalid): ",
        "UPPER",
    );
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x1}\ndata: 7\n",
        "Error from server (",
        "bad.yaml",
    );
    check(
        &format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000)),
        "error: error parsing bad.yaml: ",
        "",
    );
    check(&config_map("big", &"x".repeat(4 << 20)), "Error from server (", "error when ");
    // Nothing of a file is done if a part of it cannot be read.
    check(&format!("{map}---\na: ["), "error: error parsing bad.yaml", "");
    cluster.bad("get cm ok", "Error from server (NotFound): configmaps \"ok\" not found", "");

    // What can be done is done, each failure is told, and the exit code says so.
    let wrong = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: UPPER}\n";
    cluster.write("half.yaml", &format!("{wrong}---\n{map}"));
    let (code, out, errors) = cluster.run("create -f half.yaml");
    assert_eq!((code, out.as_str()), (1, "configmap/ok created\n"), "{errors}");

    cluster
        .write("field.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f}\ndataa: {}\n");
    assert_eq!(
        cluster.good("create -f field.yaml", "Warning: unknown field \"dataa\"\n"),
        "configmap/f created\n"
    );
    cluster.good("delete -f field.yaml", "");
    cluster.bad(
        "create -f field.yaml --validate=strict",
        "Error from server (BadRequest): ",
        "unknown field \"dataa\"",
    );
    cluster.write(
        "there.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: f, namespace: kube-public}\n",
    );
    cluster.bad(
        "create -f there.yaml -n default",
        "error: the namespace from the provided object \"kube-public\" does not match",
        "",
    );
    cluster.bad("create -f nope.yaml", "error: the path \"nope.yaml\" does not exist", "");
}

#[test]
fn bad_questions() {
    let cluster = Cluster::start("questions");
    cluster.bad("get foos", "error: the server doesn't have a resource type \"foos\"", "");
    cluster.bad("get pod nope", "Error from server (NotFound): pods \"nope\" not found", "");
    cluster.bad("delete pods", "error: resource(s) were provided, but no name was specified", "");
    cluster.bad("delete pod/a/b", "error: `pod/a/b` is not understood", "");
    cluster.bad(
        "wait pod/nope --for=condition=Ready",
        "Error from server (NotFound): pods \"nope\" not found",
        "",
    );
    cluster.bad("wait pods --all --for=condition=Ready", "error: no matching resources found", "");
    cluster.bad("get", "error: say what", "");
    cluster.bad("get pods -l a==b==c", "Error from server (BadRequest): ", "");
    cluster.bad("get pods --kubeconfig /nope", "error: cannot read kubeconfig /nope", "");
    let (code, out, errors) = cluster.run("get pod nope namespace/default");
    assert_eq!((code, out.as_str()), (1, ""), "{errors}");
    for line in ["get pods -o nonsense", "wait pod/x", "create", "logs", "get pods --nonsense"] {
        assert_eq!(cluster.run(line).0, 2, "{line}");
    }
    let mut alone = cluster.command(&["get", "pods"]);
    let kubeconfig = fs::read_to_string(cluster.dir.join("admin.kubeconfig")).unwrap();
    let (before, after) = kubeconfig.split_once("https://127.0.0.1:").unwrap();
    let rest = &after[after.find('\n').unwrap()..];
    cluster.write("nobody", &format!("{before}https://127.0.0.1:1{rest}"));
    let (code, _, errors) = told(alone.env("KUBECONFIG", cluster.dir.join("nobody")));
    assert_eq!((code, errors.lines().count()), (1, 1), "{errors}");
    assert!(
        errors.starts_with("error: ") && errors.contains("is `coracle serve` running?"),
        "{errors}"
    );
}

const NODES: &str = "\
apiVersion: v1
kind: Node
metadata: {name: pi1, labels: {disk: ssd}}
status:
  allocatable: {cpu: \"1\", memory: 1Gi, pods: \"10\"}
  conditions: [{type: Ready, status: \"True\"}]
---
apiVersion: v1
kind: Node
metadata: {name: pi2}
status:
  allocatable: {cpu: \"4\", memory: 4Gi, pods: \"10\"}
  conditions: [{type: Ready, status: \"True\"}]
";

/// Pods that ask for so much CPU and keep away from each other's nodes.
fn shy(replicas: u32, cpu: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: ConfigMap
metadata: {{name: makes-no-pods}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers: [{{name: c, image: x, resources: {{requests: {{cpu: {cpu}}}}}}}]
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - labelSelector: {{matchLabels: {{app: web}}}}
            topologyKey: kubernetes.io/hostname
"
    )
}

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn plan_says_what_the_scheduler_then_does_and_why_explains_it() {
    let cluster = Cluster::start("plan");
    cluster.write("nodes.yaml", NODES);
    cluster.write("two.yaml", &shy(2, "400m"));
    cluster.write("three.yaml", &shy(3, "400m"));
    cluster.write("none.yaml", &config_map("a", "b"));
    cluster.good("create -f nodes.yaml", "");

    let plan = cluster.good("plan -f two.yaml", "");
    let lines = words(&plan);
    assert_eq!(lines[0], ["POD", "NODE", "SCORE", "WHY"]);
    assert_eq!(lines[1][..2], ["default/web-1", "pi1"], "the fullest that takes it: {plan}");
    assert_eq!(lines[2][..2], ["default/web-2", "pi2"], "{plan}");
    assert!(plan.contains("best of 2") && plan.contains("best of 1"), "{plan}");
    let apart = cluster.good("plan -f two.yaml --placement spread", "");
    assert_eq!(words(&apart)[1][..2], ["default/web-1", "pi2"], "the emptiest: {apart}");

    let (code, out, errors) = cluster.run("plan -f three.yaml");
    assert_eq!((code, errors.as_str()), (1, "1 of 3 pods would have no place\n"), "{out}");
    let why = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.";
    assert!(out.lines().last().unwrap().ends_with(why), "{out}");
    cluster.bad("plan -f none.yaml", "error: nothing in none.yaml makes pods", "");
    // Nothing was made.
    assert_eq!(cluster.good("get pods -o name", ""), "");

    cluster.good("create -f three.yaml", "");
    let pods = loop {
        let json: serde_json::Value =
            serde_json::from_str(&cluster.good("get pods -o json", "")).unwrap();
        let items = json["items"].as_array().unwrap();
        if items.iter().filter(|pod| !pod["status"]["conditions"][0].is_null()).count() == 3 {
            break items.clone();
        }
        std::thread::sleep(std::time::Duration::from_millis(50)); // polls: what the scheduler says of each pod
    };
    let node_of =
        |pod: &serde_json::Value| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    let mut nodes: Vec<String> = pods.iter().map(node_of).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["", "pi1", "pi2"], "as planned");
    for pod in &pods {
        let (name, node) = (pod["metadata"]["name"].as_str().unwrap(), node_of(pod));
        let told = cluster.good(&format!("why pod/{name}"), "");
        let first = told.lines().next().unwrap();
        let table = words(&told);
        assert_eq!(table[1], ["NODE", "RANK", "SCORE", "WHY"], "{told}");
        if node.is_empty() {
            assert_eq!(first, format!("pod/{name} is pending: {why}"));
            assert_eq!(table[2][..3], ["pi1", "-", "-"], "{told}");
        } else {
            let want =
                format!("pod/{name} is on {node}, now number 1 of 1 nodes that could take it");
            assert_eq!(first, want);
            assert_eq!(table[2][..2], [node.as_str(), "1"], "{told}");
            assert!(told.contains("node(s) didn't match pod anti-affinity rules"), "{told}");
        }
    }

    // What one node lacks, in numbers.
    cluster.write("big.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec:\n  containers: [{name: c, image: x, resources: {requests: {cpu: 4, memory: 512Mi}}}]\n");
    cluster.good("create -f big.yaml", "");
    let told = cluster.good("why big", "");
    assert!(
        told.starts_with("pod/big is pending: 0/2 nodes are available: 2 Insufficient cpu."),
        "{told}"
    );
    assert!(told.contains("cpu: requested 4, free 600m, total 1"), "{told}");
    assert!(told.contains("cpu: requested 4, free 3600m, total 4"), "{told}");
    cluster.bad("why pod/none", "Error from server (NotFound): ", "pods \"none\" not found");
}
