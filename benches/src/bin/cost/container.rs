//! A container's life without a cluster (pod, start of `/bin/true`, exit), beside `runc run` of the same program.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use coracle_benches::cluster::{PATIENCE, bin_dir};
use coracle_runtime::{
    Config, ContainerId, ContainerSpec, Event, LogSpec, PodSandboxSpec, PodUid, QosClass,
    Resources, Runtime, linux::LinuxRuntime,
};

/// Rounds of each; the middle one counts.
const ROUNDS: usize = 15;

/// Middle times of ours and of runc's, in the same run, turn by turn.
pub(crate) fn times(dir: &Path) -> Result<(Duration, Duration)> {
    let root = dir.join("bundle/rootfs");
    fs::create_dir_all(root.join("bin"))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    // By another process: a descriptor of ours, inherited by a child just being forked, would make it "text file busy".
    let copied = Command::new("cp")
        .arg(busybox.context("install busybox-static")?)
        .arg(root.join("bin/true"))
        .status()?;
    ensure!(copied.success(), "cannot copy busybox");
    let bundle = dir.join("bundle");
    let made = Command::new("runc").arg("spec").current_dir(&bundle).status().context("no runc")?;
    ensure!(made.success(), "runc spec failed");
    let spec = fs::read_to_string(bundle.join("config.json"))?;
    let mut spec: serde_json::Value = serde_json::from_str(&spec)?;
    if let Some(process) = spec.get_mut("process") {
        *process.get_mut("terminal").context("no terminal")? = false.into();
        *process.get_mut("args").context("no args")? = serde_json::json!(["/bin/true"]);
    }
    fs::write(bundle.join("config.json"), spec.to_string())?;

    let runtime = LinuxRuntime::new(Config {
        data_dir: dir.join("node"),
        cgroup_root: format!("coracle-cost-{}", std::process::id()),
        shim_program: bin_dir()?.join("coracle-agent"),
        shim_args: vec!["shim".into()],
    })?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let uid = format!("cost-{round}");
        let begun = Instant::now();
        let ended = one(&runtime, dir, &uid);
        ours.push(begun.elapsed());
        let removed = runtime.remove_pod(&PodUid::parse(&uid)?);
        ended?;
        removed?;
        let begun = Instant::now();
        let name = format!("coracle-cost-{}-{round}", std::process::id());
        let ran = Command::new("runc").arg("run").arg(name).current_dir(&bundle).output()?;
        theirs.push(begun.elapsed());
        ensure!(ran.status.success(), "runc run: {}", String::from_utf8_lossy(&ran.stderr));
    }
    ours.sort_unstable();
    theirs.sort_unstable();
    let middle = |times: &[Duration]| times.get(ROUNDS / 2).copied().unwrap_or_default();
    Ok((middle(&ours), middle(&theirs)))
}

fn one(runtime: &LinuxRuntime, dir: &Path, uid: &str) -> Result<()> {
    let uid = PodUid::parse(uid)?;
    runtime.create_pod(&PodSandboxSpec {
        uid: uid.clone(),
        name: "cost".into(),
        namespace: "default".into(),
        hostname: "cost".into(),
        host_network: false,
        qos: QosClass::Burstable,
        resources: Resources::default(),
    })?;
    let id = ContainerId::parse("true", 0)?;
    let mut spec = ContainerSpec::new(id.clone(), LogSpec::new(dir.join("cost.log")));
    spec.argv = vec!["/bin/true".into()];
    spec.layers = vec![dir.join("bundle/rootfs")];
    runtime.start_container(&uid, &spec)?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let event = runtime.wait_event(Duration::from_secs(1))?;
        if let Some(Event::ContainerExited { pod, exit, .. }) = event
            && pod == uid
        {
            ensure!(exit.code == 0, "/bin/true ended with {}", exit.code);
            return Ok(());
        }
    }
    anyhow::bail!("/bin/true did not end")
}
