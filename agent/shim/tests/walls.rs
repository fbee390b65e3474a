//! What a container is given and what it is kept from, read back from /proc and the cgroup files (R1, R2, R3), and R4 on
//! the real host.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking, helpers too"
)]

mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use coracle_runtime::{
    Capabilities, ContainerId, ContainerState, Mount, MountSource, Propagation, Resources, Runtime,
    Seccomp, TerminationMessage, User,
};
use host::{TestHost, eventually, exit, how, running_pid};

/// `Name: value` lines of `/proc/PID/status`.
fn status_of(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

/// The value in one of the container's cgroup files, whichever version the host has.
fn cgroup_value(pid: i32, controller: &str, v1: &str, v2: &str) -> String {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |name: &str| {
        cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let names = parts.nth(1)?;
            let path = parts.next()?.trim_start_matches('/');
            names.split(',').any(|n| n == name).then(|| path.to_owned())
        })
    };
    let file = match path(controller) {
        Some(path) => Path::new("/sys/fs/cgroup").join(controller).join(path).join(v1),
        None => Path::new("/sys/fs/cgroup").join(path("").unwrap()).join(v2),
    };
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().into()
}

#[test]
fn a_running_container_is_walled_in() {
    let host = TestHost::new();
    let pod = host.pod("walls");
    let mut spec = host.spec("web", &["sleep", "1000"]);
    spec.resources = Resources {
        cpu_shares: Some(Resources::cpu_shares_of_milli(250)),
        cpu_quota_us: Some(Resources::cpu_quota_us_of_milli(500)),
        memory_bytes: Some(64 << 20),
        pids_max: Some(32),
    };
    let pid = running_pid(&host.runtime.start_container(&pod, &spec).unwrap());
    let own = std::process::id().to_string();
    let shim = host.runtime.pod(&pod).unwrap().unwrap().shim_pid.unwrap().to_string();
    let container = pid.to_string();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(namespace(&container, kind), namespace(&own, kind), "{kind} is the host's");
    }
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(namespace(&container, kind), namespace(&shim, kind), "{kind} is the pod's");
    }
    assert_eq!(namespace(&shim, "pid"), namespace(&own, "pid"));

    let status = status_of(pid);
    assert!(status["NSpid"].ends_with("\t1"), "PID 1 inside: {}", status["NSpid"]);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap(), "sleep\x001000\0");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status[set], "00000000a80425fb", "{set}");
    }
    assert_eq!(status["CapInh"], "0000000000000000");
    assert_eq!(status["CapAmb"], "0000000000000000");
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(status["NoNewPrivs"], "0");
    assert_eq!(status["SigBlk"], "0000000000000000");
    assert_eq!(status["SigIgn"], "0000000000000000");
    let open: BTreeSet<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(open, BTreeSet::from(["0".into(), "1".into(), "2".into()]));

    let memory = cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (64 << 20).to_string());
    assert_eq!(cgroup_value(pid, "pids", "pids.max", "pids.max"), "32");
    let quota = cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(["50000", "50000 100000"].contains(&quota.as_str()), "{quota}");
    let shares = cgroup_value(pid, "cpu", "cpu.shares", "cpu.weight");
    assert!(["256", "10"].contains(&shares.as_str()), "{shares}");

    let stats = host.runtime.stats(&pod, Some(&spec.id)).unwrap();
    assert_eq!(stats.pids, 1);
    assert!(stats.memory_bytes > 0 && stats.memory_bytes < 64 << 20, "{stats:?}");
    assert!(host.runtime.stats(&pod, None).unwrap().memory_bytes >= stats.memory_bytes);
}

#[test]
fn r2_the_mount_table_has_nothing_of_the_host() {
    let host = TestHost::new();
    let pod = host.pod("mounts");
    let spec = host.spec("web", &["cat", "/proc/self/mountinfo"]);
    assert_eq!(how(host.run(&pod, &spec)), exit(0, None, false));
    let table = host.output("web");
    let mut seen = BTreeSet::new();
    for line in table.lines() {
        let (left, right) = line.split_once(" - ").unwrap();
        let (point, options) = (left.split(' ').nth(4).unwrap(), left.split(' ').nth(5).unwrap());
        let fstype = right.split(' ').next().unwrap();
        let ours = ["overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];
        assert!(ours.contains(&fstype), "{line}");
        assert!(!line.contains(host.dir.to_str().unwrap()), "a path of the host: {line}");
        let device = ["null", "zero", "full", "random", "urandom", "tty"]
            .iter()
            .any(|name| point == format!("/dev/{name}"));
        // What /dev's nodes are bound from lies under /dev's own mount and cannot be reached.
        let holds_devices = device
            || point == "/dev/pts"
            || (point == "/dev" && !options.contains("nodev"))
            || fstype == "tmpfs" && (point.starts_with("/proc/") && !point.contains("scsi"));
        assert!(options.contains("nodev") || holds_devices, "device nodes would work: {line}");
        seen.insert(point.to_owned());
    }
    for point in
        ["/", "/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/dev/null"]
    {
        assert!(seen.contains(point), "{point} is missing of {seen:?}");
    }
}

/// Runs a script as `name` and gives what it printed.
fn script(host: &TestHost, pod: &coracle_runtime::PodUid, name: &str, text: &str) -> String {
    let spec = host.spec(name, &["sh", "-c", text]);
    host.run(pod, &spec);
    host.output(name)
}

#[test]
fn what_is_forbidden_does_not_work() {
    let host = TestHost::new();
    let pod = host.pod("forbidden");
    let refused = |name: &str, text: &str| {
        let out = script(
            &host,
            &pod,
            name,
            &format!("({text}) >/dev/null 2>&1 && echo done || echo refused"),
        );
        assert_eq!(out, "refused\n", "{text}");
    };
    refused("mount", "mount -t tmpfs tmpfs /tmp");
    refused("unshare", "unshare -m true");
    refused("sysctl", "echo 1 > /proc/sys/kernel/panic");
    refused("sysrq", "echo b > /proc/sysrq-trigger");
    refused("sysfs", "echo 1 > /sys/kernel/profiling");
    refused("kcore", "test -s /proc/kcore");
    refused("device", "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk");
    refused("hostname", "hostname other");
    refused("kill", "kill -9 $PPID");
    assert_eq!(script(&host, &pod, "name", "hostname"), "web-host\n");
    assert_eq!(script(&host, &pod, "up", "ip -o link show lo | grep -c LOOPBACK,UP"), "1\n");
    assert_eq!(script(&host, &pod, "links", "ls /sys/class/net"), "lo\n");
    assert_eq!(script(&host, &pod, "pids", "echo $$; set -- /proc/[0-9]*; echo $#"), "1\n1\n");
    assert_eq!(script(&host, &pod, "limits", "ulimit -n; ulimit -c"), "1024\n0\n");
    let devices = "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 2 /dev/urandom | wc -c; \
        echo y > /dev/full || echo full; test -c /dev/ptmx && echo ptmx; umask";
    assert_eq!(script(&host, &pod, "dev", devices), "3\n2\nfull\nptmx\n0022\n");
}

#[test]
fn a_user_without_rights_has_none() {
    let host = TestHost::new();
    let pod = host.pod("user");
    let text = "id -u; id -g; id -G; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status | tr -d '\\t'; \
        echo again > /dev/stdout; pwd; touch /x 2>/dev/null || echo readonly; echo w > /tmp/x && echo writable";
    let mut spec = host.spec("web", &["sh", "-c", text]);
    spec.user = User { uid: 1000, gid: 1001, groups: vec![7] };
    spec.no_new_privs = true;
    spec.readonly_rootfs = true;
    spec.cwd = "/srv/made".into();
    spec.mounts = vec![Mount {
        source: MountSource::Tmpfs { size_bytes: Some(1 << 20), mode: 0o1777 },
        target: "/tmp".into(),
        readonly: false,
        propagation: Propagation::Private,
    }];
    assert_eq!(how(host.run(&pod, &spec)), exit(0, None, false));
    assert_eq!(
        host.output("web"),
        "1000\n1001\n1001 7\nCapInh:0000000000000000\nCapPrm:0000000000000000\n\
         CapEff:0000000000000000\nCapBnd:00000000a80425fb\nCapAmb:0000000000000000\n\
         NoNewPrivs:1\nSeccomp:2\nagain\n/srv/made\nreadonly\nwritable\n"
    );
    let mut open = host.spec(
        "open",
        &["sh", "-c", "grep -E '^(CapEff|Seccomp:)' /proc/self/status | tr -d '\\t'"],
    );
    open.seccomp = Seccomp::Unconfined;
    open.capabilities = Capabilities::EMPTY;
    host.run(&pod, &open);
    assert_eq!(host.output("open"), "CapEff:0000000000000000\nSeccomp:0\n");
}

#[test]
fn volumes_are_where_and_as_they_are_asked_for() {
    let host = TestHost::new();
    let pod = host.pod("volumes");
    let volume = host.dir.join("volume");
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("file"), "from the host\n").unwrap();
    // An image that wants its volume mounted somewhere on the host.
    std::os::unix::fs::symlink("/proc/self/fd/255/../../../etc", host.layer.join("trap")).unwrap();
    std::os::unix::fs::symlink("/tmp", host.layer.join("link")).unwrap();
    let bind = |from: &Path, target: &str, readonly| Mount {
        source: MountSource::Bind(from.to_owned()),
        target: target.into(),
        readonly,
        propagation: Propagation::Private,
    };
    let text = "cat /data/file; echo new > /data/new && echo written; echo x > /ro/file || echo ro; cat /etc/one; \
        cat /tmp/in/file; ls /data/inner; echo bye > /dev/termination-log";
    let mut spec = host.spec("web", &["sh", "-c", text]);
    spec.mounts = vec![
        bind(&volume.join("sub"), "/data/inner/deep", false),
        bind(&volume, "/data", false),
        bind(&volume, "/ro", true),
        bind(&volume.join("file"), "/etc/one", true),
        bind(&volume, "/link/in", false),
    ];
    fs::create_dir_all(volume.join("inner/deep")).unwrap();
    spec.termination_message = Some(TerminationMessage {
        host_path: host.dir.join("message"),
        container_path: "/dev/termination-log".into(),
    });
    assert_eq!(how(host.run(&pod, &spec)), exit(0, None, false));
    assert_eq!(
        host.output("web"),
        "from the host\nwritten\nro\nfrom the host\nfrom the host\ndeep\n"
    );
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(host.dir.join("message")).unwrap(), "bye\n");

    let mut trap = host.spec("trap", &["true"]);
    trap.mounts = vec![bind(&volume, "/trap/coracle-was-here", false)];
    host.runtime.start_container(&pod, &trap).unwrap_err();
    assert!(!Path::new("/etc/coracle-was-here").exists());
    // Symlinks that go up, as Alpine's /var/run does, stay in the image however far they go.
    fs::create_dir_all(host.layer.join("var")).unwrap();
    fs::create_dir_all(host.layer.join("run")).unwrap();
    std::os::unix::fs::symlink("../run", host.layer.join("var/run")).unwrap();
    let here = host.dir.strip_prefix("/").unwrap();
    std::os::unix::fs::symlink(Path::new("../..").join(here), host.layer.join("up")).unwrap();
    let mut up = host.spec("up", &["cat", "/run/coracle-test/deep/file"]);
    up.mounts = vec![
        bind(&volume, "/var/run/coracle-test/deep", true),
        bind(&volume, "/up/coracle-was-here", true),
    ];
    host.runtime.start_container(&pod, &up).unwrap_err();
    assert!(!host.dir.join("coracle-was-here").exists());
    assert!(!Path::new("/run/coracle-test").exists());
    let mut run = host.spec("run", &["cat", "/run/coracle-test/deep/file"]);
    run.mounts = vec![bind(&volume, "/var/run/coracle-test/deep", true)];
    assert_eq!(how(host.run(&pod, &run)), exit(0, None, false));
    assert_eq!(host.output("run"), "from the host\n");
    // A container made the way of another's subPath a symlink.
    fs::create_dir_all(volume.join("real/deep")).unwrap();
    std::os::unix::fs::symlink("/etc", volume.join("evil")).unwrap();
    std::os::unix::fs::symlink("real", volume.join("fine")).unwrap();
    let mut sub = host.spec("sub", &["ls", "/sub"]);
    let below = |path: &str| Mount {
        source: MountSource::BindBelow { dir: volume.clone(), path: path.into() },
        ..bind(Path::new(""), "/sub", false)
    };
    sub.mounts = vec![below("fine")];
    assert_eq!(how(host.run(&pod, &sub)), exit(0, None, false));
    assert_eq!(host.output("sub"), "deep\n");
    let mut evil = host.spec("evil", &["ls", "/sub"]);
    evil.mounts = vec![below("evil")];
    let error = host.runtime.start_container(&pod, &evil).unwrap_err().to_string();
    assert!(error.starts_with("open evil without leaving "), "{error}");

    let mut cwd = host.spec("cwd", &["sh", "-c", "pwd; ls"]);
    cwd.cwd = "/proc/self/fd/255".into();
    host.runtime.start_container(&pod, &cwd).unwrap_err();
}

#[test]
fn r4_whichever_step_fails_the_host_is_as_found() {
    let mut host = TestHost::new();
    let volume = host.dir.join("volume");
    fs::create_dir_all(&volume).unwrap();
    host.fail_each_step_in_turn();
    let pod = host.pod("undo");
    let before = host.traces();
    let mut steps = 0;
    loop {
        let mut spec = host.spec("web", &["true"]);
        spec.id = ContainerId::parse("web", steps).unwrap();
        spec.mounts = vec![Mount {
            source: MountSource::Bind(volume.clone()),
            target: "/data".into(),
            readonly: true,
            propagation: Propagation::Slave,
        }];
        if host.runtime.start_container(&pod, &spec).is_ok() {
            break;
        }
        let state = host.state_of(&pod, &spec.id);
        assert!(matches!(state, Some(ContainerState::StartFailed { .. })), "{steps}: {state:?}");
        // Not `remove_container`: it would clean up what undo must.
        fs::remove_file(host.config.state_dir(&pod).join(format!("records/web.{steps}"))).unwrap();
        eventually("nothing is left", || host.traces() == before);
        host.runtime.remove_container(&pod, &spec.id).unwrap();
        steps += 1;
        assert!(steps < 200);
    }
    // Directories, cgroup, limits, and well over fifty steps of the child.
    assert!(steps > 60, "only {steps} steps");
    host.runtime.remove_pod(&pod).unwrap();
    assert_eq!(host.traces(), BTreeSet::new());
}

#[test]
fn the_shims_program_cannot_be_written_through_its_process() {
    let host = TestHost::new();
    let pod = host.pod("exe");
    let shim = host.runtime.pod(&pod).unwrap().unwrap().shim_pid.unwrap();
    // Not "text file busy", which would end with the process.
    let opened =
        fs::OpenOptions::new().write(true).truncate(true).open(format!("/proc/{shim}/exe"));
    assert_eq!(opened.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let command = fs::read_to_string(format!("/proc/{shim}/cmdline")).unwrap();
    let words: Vec<_> = command.split('\0').collect();
    let data_dir = host.config.data_dir.to_str().unwrap();
    assert_eq!(words[1..], ["--data-dir", data_dir, "--pod", "exe", ""]);
    assert_eq!(words[0], host.config.shim_program.to_str().unwrap());
}

#[test]
fn r1_processes_are_counted_where_they_belong() {
    let host = TestHost::new();
    let pod = host.pod("forks");
    let mut spec =
        host.spec("web", &["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait"]);
    spec.resources.pids_max = Some(5);
    host.runtime.start_container(&pod, &spec).unwrap();
    eventually("four sleepers beside the shell", || {
        host.runtime.stats(&pod, Some(&spec.id)).unwrap().pids >= 5
            || host.state_of(&pod, &spec.id).is_none_or(|state| !state.is_live())
    });
    if host.state_of(&pod, &spec.id).unwrap().is_live() {
        host.runtime.kill(&pod, &spec.id).unwrap();
    }
    host.exit_of(&pod, &spec.id);
    assert_eq!(host.runtime.stats(&pod, Some(&spec.id)).unwrap().pids, 0);
}
