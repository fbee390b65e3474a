//! A real control plane and real agents on this machine for one test, taken down whole afterwards. Wants root, and the
//! packages of `.ci/setup`. One at a time: every cluster gives its first node the same addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(missing_docs, unreachable_pub, reason = "for the tests beside it only")]
#![allow(dead_code, reason = "each of these tests uses a part of it")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::Engine as _;
use serde_json::{Value, json};

/// How long anything awaited may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const BUSYBOX: &str = "docker.io/library/busybox:latest";

static TURN: Mutex<()> = Mutex::new(());

pub struct Cluster {
    pub dir: PathBuf,
    control: Option<Child>,
    nodes: Vec<Node>,
    url: String,
    pod_cidr: String,
    _turn: MutexGuard<'static, ()>,
}

pub struct Node {
    pub name: String,
    pub data: PathBuf,
    pub bridge: String,
    cgroup_root: String,
    agent: Option<Child>,
    extra: Vec<String>,
}

fn agent_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_coracle-agent"))
}

/// The control plane's binary, of the same build.
fn control_program() -> PathBuf {
    static BUILT: Mutex<bool> = Mutex::new(false);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !*built {
        let release = agent_program().parent().unwrap().ends_with("release");
        let profile = if release { "release" } else { "dev" };
        let done = Command::new(env!("CARGO"))
            .args(["build", "-q", "-p", "coracle-control", "--profile", profile])
            .status();
        assert!(done.unwrap().success(), "the control plane does not build");
        *built = true;
    }
    agent_program().with_file_name("coracle")
}

/// A busybox image as an OCI archive, made once by umoci and skopeo.
pub fn busybox_archive() -> PathBuf {
    static MADE: Mutex<()> = Mutex::new(());
    let _one = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
    let archive = dir.join("busybox.tar");
    if archive.exists() {
        return archive;
    }
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    let script = r#"
        set -e
        cd "$1"
        umoci init --layout image
        umoci new --image image:latest
        umoci unpack --rootless --image image:latest bundle
        mkdir -p bundle/rootfs/bin bundle/rootfs/etc bundle/rootfs/tmp
        cp "$(command -v busybox)" bundle/rootfs/bin/busybox
        for name in sh ls cat echo sleep env id ps head tr hostname httpd wget true mkdir; do
            ln -s busybox bundle/rootfs/bin/$name
        done
        echo 'root:x:0:0:root:/:/bin/sh' > bundle/rootfs/etc/passwd
        umoci repack --image image:latest bundle
        skopeo copy -q oci:image:latest "oci-archive:new.tar:$2"
        mv new.tar busybox.tar
    "#;
    let made =
        Command::new("sh").args(["-c", script, "sh"]).arg(&dir).arg(BUSYBOX).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    archive
}

impl Cluster {
    /// A control plane without nodes.
    pub fn start() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
        let dir = std::env::temp_dir().join(format!("coracle-node-{}-{nanos}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // One cluster at a time here; those of the other tests take 10.50.0.0 to 10.199.0.0. A killed
        // run may have left a bridge: another process takes another range.
        let pod_cidr = format!("10.{}.0.0/16", 200 + std::process::id() % 50);
        let (nodes, url) = (Vec::new(), String::new());
        let mut cluster = Self { dir, control: None, nodes, url, pod_cidr, _turn: turn };
        cluster.start_control("127.0.0.1:0");
        cluster
    }

    fn start_control(&mut self, listen: &str) {
        let log = self.append("control.log");
        let child = Command::new(control_program())
            .arg("serve")
            .arg("--data-dir")
            .arg(self.dir.join("control"))
            .args(["--listen", listen, "--pod-cidr", &self.pod_cidr])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.control = Some(child.unwrap());
        self.eventually("the control plane is ready", |cluster| {
            cluster.read_kubeconfig() && cluster.raw("GET", "/readyz", None).contains("ok")
        });
    }

    pub fn kill_control(&mut self) {
        let mut control = self.control.take().unwrap();
        control.kill().unwrap();
        control.wait().unwrap();
    }

    pub fn restart_control(&mut self) {
        let listen = self.url.trim_start_matches("https://").to_owned();
        self.start_control(&listen);
    }

    fn append(&self, name: &str) -> fs::File {
        fs::OpenOptions::new().create(true).append(true).open(self.dir.join(name)).unwrap()
    }

    fn read_kubeconfig(&mut self) -> bool {
        let path = self.dir.join("control/admin.kubeconfig");
        let Ok(text) = fs::read_to_string(path) else { return false };
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().trim_matches('"').to_owned())
        };
        let Some(url) = value("server") else { return false };
        self.url = url;
        for (field, file) in [
            ("certificate-authority-data", "ca.pem"),
            ("client-certificate-data", "admin.crt"),
            ("client-key-data", "admin.key"),
        ] {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value(field).unwrap());
            fs::write(self.dir.join(file), bytes.unwrap()).unwrap();
        }
        true
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// A node with the busybox image, joined and Ready.
    pub fn add_node(&mut self, name: &str, extra: &[&str]) -> usize {
        let data = self.dir.join(name);
        let unique = format!("{:05}{}", std::process::id() % 100_000, self.nodes.len());
        self.nodes.push(Node {
            name: name.into(),
            data: data.clone(),
            bridge: format!("cort{unique}"),
            cgroup_root: format!("coracle-node-test-{unique}"),
            agent: None,
            extra: extra.iter().map(|text| (*text).to_owned()).collect(),
        });
        let number = self.nodes.len() - 1;
        let imported = Command::new(agent_program())
            .arg("--data-dir")
            .arg(&data)
            .args(["image", "import"])
            .arg(busybox_archive())
            .output()
            .unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        self.start_agent(number);
        let path = format!("/api/v1/nodes/{name}");
        self.eventually("the node is ready and has a podCIDR", |cluster| {
            let node = cluster.get(&path);
            node["spec"]["podCIDR"].is_string() && condition(&node, "Ready") == "True"
        });
        number
    }

    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub fn start_agent(&mut self, number: usize) {
        let log = self.append("agent.log");
        let token = self.dir.join("control/join-token");
        let url = self.url.clone();
        let node = &mut self.nodes[number];
        let child = Command::new(agent_program())
            .arg("--data-dir")
            .arg(&node.data)
            .args(["--server", &url, "--node-name", &node.name, "--bridge", &node.bridge])
            .args(["--cgroup-root", &node.cgroup_root])
            .arg("--token-file")
            .arg(token)
            .args(&node.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        node.agent = Some(child.unwrap());
    }

    /// A process that plays nodes, with these words more on its command line. Started again by [`Self::start_fakes`].
    pub fn add_fakes(&mut self, words: &[&str]) -> usize {
        self.nodes.push(Node {
            name: "fakes".into(),
            data: self.dir.join("fakes"),
            bridge: "none".into(),
            cgroup_root: "coracle-no-such-root".into(),
            agent: None,
            extra: words.iter().map(|word| (*word).to_owned()).collect(),
        });
        let number = self.nodes.len() - 1;
        self.start_fakes(number);
        number
    }

    pub fn start_fakes(&mut self, number: usize) {
        let log = self.append("agent.log");
        let node = &mut self.nodes[number];
        let child = Command::new(agent_program())
            .arg("--data-dir")
            .arg(&node.data)
            .args(["--server", &self.url, "--token-file"])
            .arg(self.dir.join("control/join-token"))
            .args(&node.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        node.agent = Some(child.unwrap());
    }

    pub fn kill_agent(&mut self, number: usize) {
        let mut agent = self.nodes[number].agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// SIGTERM; gives how long it took to end.
    pub fn stop_agent(&mut self, number: usize) -> Duration {
        let mut agent = self.nodes[number].agent.take().unwrap();
        let began = Instant::now();
        signal(agent.id(), "TERM");
        assert!(agent.wait().unwrap().success());
        began.elapsed()
    }

    /// Pids of the shims of a node, or of one of its pods.
    pub fn shims(&self, number: usize, uid: &str) -> Vec<u32> {
        let data = self.nodes[number].data.to_str().unwrap();
        processes(|words| {
            let is = |word: &str| words.iter().any(|known| known == word);
            is("shim") && is(data) && (uid.is_empty() || is(uid))
        })
    }

    pub fn raw(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> String {
        let file = |name: &str| self.dir.join(name);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "60", "-X", method, "--cacert"])
            .arg(file("ca.pem"))
            .arg("--cert")
            .arg(file("admin.crt"))
            .arg("--key")
            .arg(file("admin.key"))
            .arg(format!("{}{path}", self.url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((kind, _)) = body {
            curl.args(["-H", &format!("Content-Type: {kind}"), "--data-binary", "@-"]);
        }
        let mut child = curl.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if let Some((_, body)) = body {
            stdin.write_all(body.to_string().as_bytes()).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.raw("GET", path, None)).unwrap_or_default()
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.raw("POST", path, Some(("application/json", body)));
        let made: Value = serde_json::from_str(&answer).unwrap_or_default();
        assert!(made["metadata"]["uid"].is_string(), "{answer}");
        made
    }

    pub fn merge(&self, path: &str, body: &Value) {
        self.raw("PATCH", path, Some(("application/merge-patch+json", body)));
    }

    /// Makes a pod with one container `c` of busybox; gives its uid.
    pub fn pod(&self, name: &str, container: Value, mut spec: Value) -> String {
        let mut whole = json!({"name": "c", "image": BUSYBOX});
        whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        spec["containers"] = json!([whole]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
        let made = self.post("/api/v1/namespaces/default/pods", &pod);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    pub fn get_pod(&self, name: &str) -> Value {
        self.get(&format!("/api/v1/namespaces/default/pods/{name}"))
    }

    pub fn delete_pod(&self, name: &str) {
        self.raw("DELETE", &format!("/api/v1/namespaces/default/pods/{name}"), None);
    }

    pub fn log(&self, name: &str, query: &str) -> String {
        self.raw("GET", &format!("/api/v1/namespaces/default/pods/{name}/log?{query}"), None)
    }

    /// Waits for a pod; gives it as it then is.
    #[track_caller]
    pub fn pod_is(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let pod = self.get_pod(name);
            if wanted(&pod) {
                return pod;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "pod {name} is not {what}: {:#}\n{}",
                pod["status"],
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(50)); // polls: what the caller waits for
        }
    }

    #[track_caller]
    pub fn running(&self, name: &str) -> Value {
        self.pod_is(name, "running", |pod| condition(pod, "Ready") == "True")
    }

    #[track_caller]
    pub fn eventually(&mut self, what: &str, wanted: impl Fn(&mut Self) -> bool) {
        let began = Instant::now();
        while !wanted(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(50)); // polls: what the caller waits for
        }
    }

    /// Reasons and messages of the events about a pod.
    pub fn events(&self, name: &str) -> Vec<(String, String)> {
        let list = self.get("/api/v1/namespaces/default/events");
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        items
            .iter()
            .filter(|event| event["involvedObject"]["name"] == name)
            .map(|event| (text(&event["reason"]), text(&event["message"])))
            .collect()
    }

    fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        format!("control plane:\n{}\nagents:\n{}", read("control.log"), read("agent.log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self
            .control
            .iter_mut()
            .chain(self.nodes.iter_mut().filter_map(|node| node.agent.as_mut()))
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        for number in 0..self.nodes.len() {
            // A container's init dies with its shim.
            for shim in self.shims(number, "") {
                signal(shim, "KILL");
            }
        }
        let dir = self.dir.to_str().unwrap().to_owned();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if path.starts_with(&dir) {
                quiet("umount", &["-l", path]);
            }
        }
        for node in &self.nodes {
            quiet("ip", &["link", "delete", &node.bridge]);
            quiet("nft", &["delete", "table", "ip", &format!("coracle_{}", node.bridge)]);
            let cgroups = format!(
                "find /sys/fs/cgroup -depth -type d -path '*/{}*' -exec rmdir {{}} +",
                node.cgroup_root
            );
            quiet("sh", &["-c", &cgroups]);
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

pub fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.and_then(|found| found["status"].as_str()).unwrap_or_default().to_owned()
}

/// Pids whose command line, as words, is wanted.
pub fn processes(wanted: impl Fn(&[String]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let bytes = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> = bytes
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if wanted(&words) {
            found.push(pid);
        }
    }
    found
}

pub fn signal(pid: u32, name: &str) {
    quiet("kill", &[&format!("-{name}"), &pid.to_string()]);
}

fn quiet(program: &str, args: &[&str]) {
    let _ = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
