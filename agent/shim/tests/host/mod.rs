//! A piece of the real host for one test: a data directory, a cgroup root of its own, a busybox image, a runtime.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![allow(missing_docs, unreachable_pub, reason = "for the tests beside it only")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use coracle_runtime::linux::LinuxRuntime;
use coracle_runtime::{
    Config, ContainerId, ContainerSpec, ContainerState, ContainerStatus, Event, Exit, LogSpec,
    PodSandboxSpec, PodUid, QosClass, Resources, Runtime,
};

/// How long anything awaited may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct TestHost {
    pub dir: PathBuf,
    pub config: Config,
    pub runtime: LinuxRuntime,
    pub layer: PathBuf,
}

impl TestHost {
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("coracle-test-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        let config = Config {
            data_dir: dir.join("data"),
            cgroup_root: name,
            // Another build of it (release, static) can be measured with the same tests.
            shim_program: std::env::var_os("CORACLE_TEST_SHIM")
                .unwrap_or_else(|| env!("CARGO_BIN_EXE_coracle-test-shim").into())
                .into(),
            shim_args: Vec::new(),
        };
        let layer = busybox(&dir.join("layer"));
        let runtime = LinuxRuntime::new(config.clone()).unwrap();
        Self { dir, config, runtime, layer }
    }

    /// The same host, with shims whose first start fails at the first step, the second at the second, and so on.
    pub fn fail_each_step_in_turn(&mut self) {
        self.config.shim_args = vec!["--fail-step".into(), "0".into()];
        self.restart_agent();
    }

    /// A new agent over the same data directory; what the old one knew is gone.
    pub fn restart_agent(&mut self) {
        self.runtime = LinuxRuntime::new(self.config.clone()).unwrap();
    }

    pub fn pod(&self, uid: &str) -> PodUid {
        let spec = pod_spec(uid);
        let status = self.runtime.create_pod(&spec).unwrap();
        assert_eq!(status.spec, spec);
        assert!(status.shim_pid.is_some());
        spec.uid
    }

    /// A container of the busybox image.
    pub fn spec(&self, name: &str, argv: &[&str]) -> ContainerSpec {
        let id = ContainerId::parse(name, 0).unwrap();
        let log = LogSpec::new(self.dir.join("logs").join(format!("{name}.log")));
        let mut spec = ContainerSpec::new(id, log);
        spec.argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
        spec.env = vec!["PATH=/bin".to_owned()];
        spec.layers = vec![self.layer.clone()];
        spec
    }

    /// Starts a container and waits for its end.
    pub fn run(&self, pod: &PodUid, spec: &ContainerSpec) -> Exit {
        self.runtime.start_container(pod, spec).unwrap();
        self.exit_of(pod, &spec.id)
    }

    pub fn exit_of(&self, pod: &PodUid, id: &ContainerId) -> Exit {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let event = self.runtime.wait_event(Duration::from_secs(1)).unwrap();
            if let Some(Event::ContainerExited { pod: of, id: which, exit }) = event
                && of == *pod
                && which == *id
            {
                return exit;
            }
        }
        panic!("{id} did not end: {:?}", self.runtime.pod(pod));
    }

    pub fn state_of(&self, pod: &PodUid, id: &ContainerId) -> Option<ContainerState> {
        let status = self.runtime.pod(pod).unwrap()?;
        status.containers.into_iter().find(|c| c.id == *id).map(|c| c.state)
    }

    /// Content of a log without times: `stdout F line`.
    pub fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("logs").join(format!("{name}.log"))).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// What a container printed to stdout, whole lines.
    pub fn output(&self, name: &str) -> String {
        let lines = self
            .log(name)
            .into_iter()
            .filter_map(|line| line.strip_prefix("stdout F ").map(|line| format!("{line}\n")));
        lines.collect()
    }

    pub fn cgroup_dirs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for tree in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let dir = tree.unwrap().path().join(&self.config.cgroup_root);
            if dir.is_dir() {
                found.push(dir);
            }
        }
        let v2 = Path::new("/sys/fs/cgroup").join(&self.config.cgroup_root);
        found.extend(v2.is_dir().then_some(v2));
        found
    }

    /// Everything on the host that a pod of this test could leave behind.
    pub fn traces(&self) -> BTreeSet<String> {
        let mut traces = BTreeSet::new();
        for dir in self.cgroup_dirs() {
            let below = files_below(&dir).into_iter().filter(|path| path.is_dir());
            traces.extend(below.chain([dir]).map(|dir| format!("cgroup {}", dir.display())));
        }
        for entry in files_below(&self.config.data_dir.join("pods")) {
            traces.insert(format!("file {}", entry.display()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.dir.to_string_lossy().into_owned();
        for line in mounts.lines().filter(|line| line.contains(&ours)) {
            traces.insert(format!("mount {line}"));
        }
        for pid in processes_with(&ours) {
            traces.insert(format!("process {pid}"));
        }
        traces
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        let runtime = LinuxRuntime::new(self.config.clone()).unwrap();
        for pod in runtime.recover().unwrap_or_default() {
            let _best_effort = runtime.remove_pod(&pod.spec.uid);
        }
        let _best_effort = fs::remove_dir_all(&self.dir);
    }
}

pub fn pod_spec(uid: &str) -> PodSandboxSpec {
    PodSandboxSpec {
        uid: PodUid::parse(uid).unwrap(),
        name: "web".into(),
        namespace: "default".into(),
        hostname: "web-host".into(),
        host_network: false,
        qos: QosClass::Burstable,
        resources: Resources::default(),
    }
}

pub fn running_pid(status: &ContainerStatus) -> i32 {
    let ContainerState::Running { pid, .. } = status.state else { panic!("{status:?}") };
    pid
}

pub fn exit(code: i32, signal: Option<i32>, oom_killed: bool) -> (i32, Option<i32>, bool) {
    (code, signal, oom_killed)
}

pub fn how(exit: Exit) -> (i32, Option<i32>, bool) {
    assert!(exit.finished_at_ms >= exit.started_at_ms && exit.started_at_ms > 0, "{exit:?}");
    (exit.code, exit.signal, exit.oom_killed)
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(2)); // polls: what the caller waits for
    }
}

pub fn is_process(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.rsplit(')').next().unwrap().starts_with(" Z")
}

/// Living processes with this in their command line.
fn processes_with(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(text) && is_process(pid) {
            found.push(pid);
        }
    }
    found
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// An unpacked layer with busybox and the usual files.
fn busybox(dir: &Path) -> PathBuf {
    for name in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let from =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let from = from.expect("install busybox-static");
    // By another process: a descriptor of ours, inherited by a shim just being forked, would make it "text file busy".
    let copied = Command::new("cp").arg(from).arg(dir.join("bin/busybox")).status().unwrap();
    assert!(copied.success());
    let applets = Command::new(from).arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", dir.join("bin").join(applet)).unwrap();
        }
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n")
        .unwrap();
    dir.to_owned()
}
