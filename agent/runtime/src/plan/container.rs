//! The steps to a running container.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::limits::{LAYERS_MAX, MOUNTS_MAX};
use crate::{Capabilities, ContainerSpec, Mount, MountSource, Propagation, RuntimeError, Seccomp};

use super::{ChildStep, Step, mount_flags as flag};

/// First fixed descriptor: above whatever a shim has open, below the usual soft limit of 1024.
pub const FD_BASE: i32 = 256;
/// The directory `/proc/self/fd` of the host's /proc: binds name their sources in it.
pub const FD_PROC: i32 = FD_BASE - 1;
/// The host's root, until it is detached.
pub const FD_OLD_ROOT: i32 = FD_BASE - 2;

/// The container's root, while the old one is left.
pub const FD_NEW_ROOT: i32 = FD_BASE - 4;

/// The container's own tmpfs with device nodes, under its /dev.
const FD_DEVICES: i32 = FD_BASE - 3;

/// Numbers: Linux' devices.txt; the set: OCI runtime specification, default devices.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the plan has to know of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// One cgroup v2 tree at /sys/fs/cgroup.
    pub cgroup_v2: bool,
    /// cgroup v1 hierarchies: the controllers of each, as `cpu,cpuacct`.
    pub cgroup_v1: Vec<String>,
}

/// The steps that start `spec`. `dir` is the container's directory in the pod's state directory, `cgroup` its cgroup.
///
/// Fails with [`RuntimeError::BadSpec`] on what cannot be carried out: NUL in a text, a relative path, too many layers.
pub fn container_steps(
    spec: &ContainerSpec,
    dir: &Path,
    cgroup: &str,
    host: &HostFacts,
) -> Result<Vec<Step>, RuntimeError> {
    if spec.layers.is_empty() || spec.layers.len() > LAYERS_MAX {
        return bad(format!("{} layers; 1 to {LAYERS_MAX} are possible", spec.layers.len()));
    }
    if spec.mounts.len() > MOUNTS_MAX {
        return Err(RuntimeError::Full { what: "mounts of one container", max: MOUNTS_MAX });
    }
    let mut steps = vec![Step::MakeDir { path: dir.to_owned(), mode: 0o700 }];
    for name in ["upper", "work", "root"] {
        steps.push(Step::MakeDir { path: dir.join(name), mode: 0o755 });
    }
    if let Some(logs) = spec.log.path.parent() {
        steps.push(Step::KeepDir { path: logs.to_owned() });
    }
    if let Some(message) = &spec.termination_message {
        steps.push(Step::KeepFile { path: message.host_path.clone() });
    }
    steps.push(Step::MakeCgroup { path: cgroup.to_owned() });
    steps.push(Step::Limit { path: cgroup.to_owned(), resources: spec.resources });
    let child = child_steps(spec, dir, host)?;
    steps.push(Step::Spawn { cgroup: cgroup.to_owned(), child });
    Ok(steps)
}

fn child_steps(
    spec: &ContainerSpec,
    dir: &Path,
    host: &HostFacts,
) -> Result<Vec<ChildStep>, RuntimeError> {
    let mut steps = vec![
        ChildStep::DieWithShim,
        ChildStep::NewSession,
        ChildStep::NewKeyring,
        ChildStep::NewCgroupNamespace,
        ChildStep::OomScoreAdj(c(spec.oom_score_adj.to_string())?),
        ChildStep::SlaveMounts,
    ];
    let mut fds = FD_BASE..;
    root(spec, dir, &mut fds, &mut steps)?;
    let mounts = all_mounts(spec);
    let mut sources = Vec::new();
    for mount in &mounts {
        sources.push(match &mount.source {
            MountSource::Bind(path) => Some(open(path, &mut fds, &mut steps)?),
            MountSource::BindBelow { dir, path } => {
                Some(open_below(dir, path, &mut fds, &mut steps)?)
            }
            MountSource::Tmpfs { .. } => None,
        });
    }
    steps.push(ChildStep::Open { fd: FD_PROC, path: c("/proc/self/fd")? });
    steps.push(ChildStep::EnterRoot { root: c(dir.join("root").as_os_str().as_bytes())? });
    sys(host, &mut steps)?;
    dev(&mut steps)?;
    for (mount, source) in mounts.iter().zip(sources) {
        volume(mount, source, &mut steps)?;
    }
    // The container's own /proc comes after everything that resolves paths of the image: until then no magic link
    // (/proc/self/fd, /proc/self/root) can lead such a path to the host.
    steps.push(ChildStep::RealDir(c("/proc")?));
    steps.push(filesystem("proc", "/proc", flag::NOSUID | flag::NODEV | flag::NOEXEC, "")?);
    for path in &spec.readonly_paths {
        steps.push(ChildStep::ReadonlyPath(c(path.as_str())?));
    }
    for path in &spec.masked_paths {
        steps.push(ChildStep::Mask(c(path.as_str())?));
    }
    steps.push(ChildStep::LeaveOldRoot);
    steps.extend([ChildStep::Stdio, ChildStep::CloseOthers]);
    steps.push(ChildStep::Cwd { parents: parents(&spec.cwd, true)?, path: c(spec.cwd.as_str())? });
    if spec.readonly_rootfs {
        steps.push(ChildStep::ReadonlyRoot);
    }
    steps.extend([ChildStep::Rlimits, ChildStep::Signals]);
    rights(spec, &mut steps);
    steps.push(exec(spec)?);
    Ok(steps)
}

fn root(
    spec: &ContainerSpec,
    dir: &Path,
    fds: &mut std::ops::RangeFrom<i32>,
    steps: &mut Vec<ChildStep>,
) -> Result<(), RuntimeError> {
    let mut lower = Vec::new();
    for layer in &spec.layers {
        lower.push(format!("/proc/self/fd/{}", open(layer, fds, steps)?));
    }
    let upper = open(&dir.join("upper"), fds, steps)?;
    let work = open(&dir.join("work"), fds, steps)?;
    let lower = lower.join(":");
    let options =
        format!("lowerdir={lower},upperdir=/proc/self/fd/{upper},workdir=/proc/self/fd/{work}");
    steps.push(ChildStep::Overlay {
        target: c(dir.join("root").as_os_str().as_bytes())?,
        options_volatile: c(format!("{options},volatile"))?,
        options: c(options)?,
    });
    Ok(())
}

fn open(
    path: &Path,
    fds: &mut std::ops::RangeFrom<i32>,
    steps: &mut Vec<ChildStep>,
) -> Result<i32, RuntimeError> {
    let fd = fds.next().unwrap_or(i32::MAX);
    steps.push(ChildStep::Open { fd, path: c(path.as_os_str().as_bytes())? });
    Ok(fd)
}

fn open_below(
    dir: &Path,
    path: &Path,
    fds: &mut std::ops::RangeFrom<i32>,
    steps: &mut Vec<ChildStep>,
) -> Result<i32, RuntimeError> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(c(name.as_bytes())?),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return bad(format!("`{}` is not a relative path without `..`", path.display()));
            }
        }
    }
    let fd = fds.next().unwrap_or(i32::MAX);
    let (dir, path) = (c(dir.as_os_str().as_bytes())?, c(path.as_os_str().as_bytes())?);
    steps.push(ChildStep::OpenBelow { fd, dir, path, parts });
    Ok(fd)
}

fn sys(host: &HostFacts, steps: &mut Vec<ChildStep>) -> Result<(), RuntimeError> {
    let safe = flag::NOSUID | flag::NODEV | flag::NOEXEC;
    steps.push(ChildStep::RealDir(c("/sys")?));
    steps.push(filesystem("sysfs", "/sys", safe | flag::RDONLY, "")?);
    if host.cgroup_v2 {
        steps.push(optional("cgroup2", "/sys/fs/cgroup", safe | flag::RDONLY, "")?);
    } else if !host.cgroup_v1.is_empty() {
        let target = "/sys/fs/cgroup";
        steps.push(filesystem("tmpfs", target, safe, "mode=755,size=64k")?);
        for controllers in &host.cgroup_v1 {
            let at = format!("{target}/{controllers}");
            steps.push(ChildStep::MakeDir(c(at.as_str())?));
            steps.push(optional("cgroup", &at, safe | flag::RDONLY, controllers)?);
        }
        let flags = safe | flag::RDONLY | flag::REMOUNT;
        steps.push(filesystem("tmpfs", target, flags, "mode=755,size=64k")?);
    }
    Ok(())
}

/// Device nodes work only where they are bound: every mount of a container but these is nodev, so a node that the
/// container makes (it has CAP_MKNOD, as with Docker) opens nothing. No devices cgroup is needed for that.
fn dev(steps: &mut Vec<ChildStep>) -> Result<(), RuntimeError> {
    let plain = flag::NOSUID | flag::NOEXEC;
    let safe = plain | flag::NODEV;
    steps.push(ChildStep::RealDir(c("/dev")?));
    steps.push(filesystem("tmpfs", "/dev", plain, "mode=755,size=64k")?);
    for (name, major, minor) in DEVICES {
        steps.push(ChildStep::Device { path: c(format!("/dev/{name}"))?, major, minor });
    }
    steps.push(ChildStep::Open { fd: FD_DEVICES, path: c("/dev")? });
    steps.push(filesystem("tmpfs", "/dev", safe | flag::STRICTATIME, "mode=755,size=65536k")?);
    for (name, ..) in DEVICES {
        let path = c(format!("/dev/{name}"))?;
        steps.push(ChildStep::MakeFile(path.clone()));
        let name = c(name)?;
        steps.push(ChildStep::BindDevice { dir: FD_DEVICES, name, target: path });
    }
    for path in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        steps.push(ChildStep::MakeDir(c(path)?));
    }
    let options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    steps.push(filesystem("devpts", "/dev/pts", plain, options)?);
    steps.push(filesystem("tmpfs", "/dev/shm", safe, "mode=1777,size=65536k")?);
    steps.push(optional("mqueue", "/dev/mqueue", safe, "")?);
    for (to, name) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
    ] {
        steps.push(ChildStep::Symlink { to: c(to)?, at: c(format!("/dev/{name}"))? });
    }
    Ok(())
}

fn all_mounts(spec: &ContainerSpec) -> Vec<Mount> {
    let mut mounts = spec.mounts.clone();
    // A volume at /a goes under a volume at /a/b, in whichever order they are asked for; the sort keeps equals in order.
    mounts.sort_by_key(|mount| mount.target.matches('/').count());
    if let Some(message) = &spec.termination_message {
        mounts.push(Mount {
            source: MountSource::Bind(message.host_path.clone()),
            target: message.container_path.clone(),
            readonly: false,
            propagation: Propagation::Private,
        });
    }
    mounts
}

fn volume(
    mount: &Mount,
    source: Option<i32>,
    steps: &mut Vec<ChildStep>,
) -> Result<(), RuntimeError> {
    let target = mount.target.as_str();
    if target == "/" || target == "/proc" || target.starts_with("/proc/") {
        return bad(format!("a volume cannot be mounted on {target}"));
    }
    if mount.propagation == Propagation::Shared {
        return bad(format!(
            "mount propagation Bidirectional of {target} needs a privileged container"
        ));
    }
    let path = c(target)?;
    let fd = source.unwrap_or(-1);
    steps.push(ChildStep::Target { fd, parents: parents(target, false)?, path: path.clone() });
    match &mount.source {
        MountSource::Bind(host) | MountSource::BindBelow { path: host, .. } => {
            steps.push(ChildStep::Bind {
                dir: FD_PROC,
                name: c(fd.to_string())?,
                target: path,
                readonly: mount.readonly,
                propagation: mount.propagation,
                source: c(host.as_os_str().as_bytes())?,
            })
        }
        MountSource::Tmpfs { size_bytes, mode } => {
            let size = size_bytes.map_or(String::new(), |bytes| format!(",size={bytes}"));
            let readonly = if mount.readonly { flag::RDONLY } else { 0 };
            let flags = flag::NOSUID | flag::NODEV | readonly;
            steps.push(filesystem("tmpfs", target, flags, &format!("mode={mode:o}{size}"))?);
        }
    }
    Ok(())
}

/// The order matters (R3): loading a filter needs CAP_SYS_ADMIN or no_new_privs, and setting ids needs CAP_SETUID.
fn rights(spec: &ContainerSpec, steps: &mut Vec<ChildStep>) {
    let filtered = spec.seccomp == Seccomp::Default;
    if filtered && !spec.no_new_privs {
        steps.push(ChildStep::Seccomp);
    }
    let held = if spec.user.uid == 0 { spec.capabilities } else { Capabilities::EMPTY };
    steps.push(ChildStep::BoundingSet(spec.capabilities));
    steps.push(ChildStep::Identity(spec.user.clone()));
    steps.push(ChildStep::Capabilities(held));
    steps.push(ChildStep::DieWithShim);
    if spec.no_new_privs {
        steps.push(ChildStep::NoNewPrivs);
    }
    if filtered && spec.no_new_privs {
        steps.push(ChildStep::Seccomp);
    }
}

fn exec(spec: &ContainerSpec) -> Result<ChildStep, RuntimeError> {
    let Some(program) = spec.argv.first().filter(|program| !program.is_empty()) else {
        return bad("no command: neither the pod nor the image has one".to_owned());
    };
    let mut env: Vec<&str> = Vec::new();
    for entry in &spec.env {
        let name = entry.split('=').next().unwrap_or(entry);
        env.retain(|old| old.split('=').next() != Some(name));
        env.push(entry);
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let mut candidates = Vec::new();
    if program.contains('/') {
        candidates.push(c(program.as_str())?);
    } else {
        for dir in path.unwrap_or(PATH_DEFAULT).split(':') {
            let dir = if dir.is_empty() { "." } else { dir };
            candidates.push(c(format!("{dir}/{program}"))?);
        }
    }
    Ok(ChildStep::Exec {
        candidates,
        argv: spec.argv.iter().map(|arg| c(arg.as_str())).collect::<Result<_, _>>()?,
        envp: env.into_iter().map(c).collect::<Result<_, _>>()?,
    })
}

/// Every directory on the way to `path`, the outermost first; with `whole`, `path` too.
fn parents(path: &str, whole: bool) -> Result<Vec<CString>, RuntimeError> {
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return bad(format!("`{path}` is not an absolute path without `..`"));
    }
    let mut out = Vec::new();
    let mut way = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        way.push('/');
        way.push_str(part);
        out.push(c(way.as_str())?);
    }
    if !whole {
        out.pop();
    }
    Ok(out)
}

fn filesystem(
    fstype: &str,
    target: &str,
    flags: u64,
    options: &str,
) -> Result<ChildStep, RuntimeError> {
    let (fstype, target, options) = (c(fstype)?, c(target)?, c(options)?);
    Ok(ChildStep::Mount { fstype, target, flags, options, optional: false })
}

fn optional(
    fstype: &str,
    target: &str,
    flags: u64,
    options: &str,
) -> Result<ChildStep, RuntimeError> {
    let (fstype, target, options) = (c(fstype)?, c(target)?, c(options)?);
    Ok(ChildStep::Mount { fstype, target, flags, options, optional: true })
}

fn c(text: impl Into<Vec<u8>>) -> Result<CString, RuntimeError> {
    CString::new(text).map_err(|nul| {
        let text = String::from_utf8_lossy(&nul.into_vec()).replace('\0', "\\0");
        RuntimeError::BadSpec(format!("`{text}` has a NUL byte in it"))
    })
}

fn bad<T>(why: String) -> Result<T, RuntimeError> {
    Err(RuntimeError::BadSpec(why))
}
