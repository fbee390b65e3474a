//! From a pod's container and its image to what the runtime starts.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use coracle_agent_logic::{
    Pod,
    env::{self, ConfigError, Objects, ServiceFacts},
    event::StartFault,
    fields::Place,
    files as texts,
    resources::{of_container, of_pod, oom_score_adj, qos_class},
    spec::{Container, Volume, VolumeMount},
    volumes::is_published,
};
use coracle_disk::{self as disk, Sync};
use coracle_image::Image;
use coracle_runtime::{
    Capabilities, ContainerId, ContainerSpec, LogSpec, Mount, MountSource, PodSandboxSpec, PodUid,
    Propagation, Seccomp, TerminationMessage,
};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::{
    state::{StateDir, private_dir},
    users, volumes,
};

/// All that a start needs, gathered beforehand.
pub(crate) struct Start<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) attempt: u32,
    pub(crate) image: &'a Image,
    pub(crate) services: &'a [ServiceFacts],
    pub(crate) objects: &'a Objects,
    pub(crate) place: &'a Place,
    pub(crate) node_memory_bytes: u64,
}

/// Why it cannot be put together.
pub(crate) type Fault = (StartFault, String);

/// The sandbox of a pod.
pub(crate) fn sandbox(pod: &Pod) -> Result<PodSandboxSpec, String> {
    Ok(PodSandboxSpec {
        uid: PodUid::parse(pod.uid.as_str()).map_err(|error| error.to_string())?,
        name: pod.meta.name.clone(),
        namespace: pod.meta.namespace.clone(),
        hostname: if pod.spec.host_network { host_name() } else { pod.hostname().to_owned() },
        host_network: pod.spec.host_network,
        qos: qos_class(&pod.spec).0,
        resources: of_pod(&pod.spec),
    })
}

/// This machine's host name.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// The container's spec. Writes the files that it gets mounted.
pub(crate) fn ready(start: &Start<'_>) -> Result<ContainerSpec, Fault> {
    let Start { state, pod, container, image, .. } = start;
    let config = |error: ConfigError| (StartFault::Config, error.0);
    let create = |doing: &str, error: &io::Error| (StartFault::Create, format!("{doing}: {error}"));
    let env = env::environment(
        pod,
        container,
        &image.config.env,
        start.services,
        start.objects,
        start.place,
    )
    .map_err(config)?;
    let command = env::command(
        container,
        &image.config.entrypoint,
        &image.config.cmd,
        &image.config.working_dir,
        &env,
    )
    .map_err(config)?;
    let user = users::resolve(pod, container, &image.config.user, &image.layers)
        .map_err(|why| (StartFault::Config, why))?;
    let id = ContainerId::parse(&container.name, start.attempt)
        .map_err(|error| (StartFault::Config, error.to_string()))?;
    let log = state.log(&pod.uid, &container.name, start.attempt);
    if let Some(parent) = log.parent() {
        private_dir(parent).map_err(|error| create("cannot make the log directory", &error))?;
    }
    let mut spec = ContainerSpec::new(id, LogSpec::new(log));
    spec.argv = command.argv;
    spec.cwd = command.cwd;
    spec.user = user;
    spec.layers.clone_from(&image.layers);
    let security = &container.security_context;
    spec.readonly_rootfs = security.read_only_root_filesystem.unwrap_or(false);
    spec.capabilities = Capabilities::DEFAULT
        .adjusted(&security.capabilities.drop, &security.capabilities.add)
        .map_err(|error| (StartFault::Config, error.to_string()))?;
    spec.no_new_privs = security.allow_privilege_escalation == Some(false);
    let profile =
        security.seccomp_profile.as_ref().or(pod.spec.security_context.seccomp_profile.as_ref());
    spec.seccomp = match profile.map(|profile| profile.kind.as_str()) {
        Some("Unconfined") => Seccomp::Unconfined,
        _ => Seccomp::Default,
    };
    spec.resources = of_container(container);
    spec.oom_score_adj = oom_score_adj(&pod.spec, container, start.node_memory_bytes);

    let files = state.files(&pod.uid);
    own_files(&files, start).map_err(|error| create("cannot write the pod's files", &error))?;
    let wanted = |path: &str| container.volume_mounts.iter().any(|mount| mount.mount_path == path);
    for (name, target) in [
        ("hosts", "/etc/hosts"),
        ("hostname", "/etc/hostname"),
        ("resolv.conf", "/etc/resolv.conf"),
    ] {
        if !wanted(target) {
            spec.mounts.push(bind(files.join(name), target, false));
        }
    }
    let known = env.iter().cloned().collect();
    for mount in &container.volume_mounts {
        let volume = volume_of(pod, mount)?;
        let source = mount_source(start, mount, volume, &known)?;
        let readonly = mount.read_only || is_published(volume);
        spec.mounts.push(Mount { source, ..bind(PathBuf::new(), &mount.mount_path, readonly) });
    }
    // Outer before inner, whatever the order in the pod.
    spec.mounts
        .sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    spec.termination_message = Some(TerminationMessage {
        host_path: termination_path(state, &pod.uid, &container.name, start.attempt),
        container_path: match container.termination_message_path.as_str() {
            "" => "/dev/termination-log".into(),
            path => path.into(),
        },
    });
    spec.env = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(spec)
}

/// Where a container leaves its last words.
pub(crate) fn termination_path(
    state: &StateDir,
    uid: &coracle_agent_logic::PodUid,
    name: &str,
    attempt: u32,
) -> PathBuf {
    state.files(uid).join(format!("termination-{name}.{attempt}"))
}

fn bind(source: PathBuf, target: &str, readonly: bool) -> Mount {
    Mount {
        source: MountSource::Bind(source),
        target: target.into(),
        readonly,
        propagation: Propagation::Private,
    }
}

fn own_files(files: &Path, start: &Start<'_>) -> io::Result<()> {
    private_dir(files)?;
    let pod = start.pod;
    let node = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // systemd-resolved's stub listens on the node's loopback, which is not the pod's.
    let resolv = match node("/etc/resolv.conf") {
        text if text.contains("127.0.0.53") && !pod.spec.host_network => {
            match node("/run/systemd/resolve/resolv.conf") {
                real if real.is_empty() => text,
                real => real,
            }
        }
        text => text,
    };
    let hostname = if pod.spec.host_network { host_name() } else { pod.hostname().to_owned() };
    let all = [
        ("hosts", texts::hosts(pod, &start.place.pod_ips, &node("/etc/hosts"))),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", texts::resolv_conf(&pod.spec, &resolv)),
    ];
    for (name, text) in all {
        let path = files.join(name);
        // Other containers have it mounted: the file stays the same one.
        if fs::read(&path).is_ok_and(|now| now == text.as_bytes()) {
            continue;
        }
        if path.exists() {
            disk::overwrite(&path, text.as_bytes(), 0o644, Sync::Later)?;
        } else {
            disk::replace(&path, text.as_bytes(), 0o644, Sync::Later)?;
        }
    }
    Ok(())
}

fn volume_of<'a>(pod: &'a Pod, mount: &VolumeMount) -> Result<&'a Volume, Fault> {
    let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name);
    volume.ok_or_else(|| {
        (StartFault::Config, format!("no volume named {} for its mount", mount.name))
    })
}

fn mount_source(
    start: &Start<'_>,
    mount: &VolumeMount,
    volume: &Volume,
    known: &std::collections::BTreeMap<String, String>,
) -> Result<MountSource, Fault> {
    let Start { state, pod, .. } = start;
    let dir = volumes::source(&state.volumes(&pod.uid), volume)
        .ok_or_else(|| (StartFault::Config, format!("volume {} has no place", volume.name)))?;
    let expanded;
    let sub_path = if mount.sub_path_expr.is_empty() {
        &mount.sub_path
    } else {
        expanded = env::expand(&mount.sub_path_expr, known);
        if expanded.contains("$(") {
            let text =
                format!("subPathExpr {} names a variable that is not set", mount.sub_path_expr);
            return Err((StartFault::Config, text));
        }
        &expanded
    };
    if sub_path.is_empty() {
        return Ok(MountSource::Bind(dir));
    }
    let failed = |error: io::Error| {
        let text = format!(
            "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
            mount.name, start.container.name
        );
        (StartFault::Config, text)
    };
    // Made and looked at here; found again by the same rule when it is mounted, in the container's mount namespace.
    open_below(&dir, Path::new(sub_path)).map_err(failed)?;
    Ok(MountSource::BindBelow { dir, path: sub_path.into() })
}

/// Opens a path that must stay below `dir`, symlinks included; makes it a directory if it is not there.
fn open_below(dir: &Path, path: &Path) -> io::Result<OwnedFd> {
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        return Err(io::Error::other("it is not a relative path without `..`"));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags | OFlags::DIRECTORY, Mode::empty())?;
    // Whoever may write to the volume may write to what is made in it, as kubelet has it.
    let mode = fs::metadata(dir)?.permissions().mode() & 0o7777;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => return Ok(fd),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut at = root;
    for part in path.components() {
        let name = part.as_os_str();
        let open = |at: &OwnedFd| {
            openat2(at, name, flags | OFlags::NOFOLLOW | OFlags::DIRECTORY, Mode::empty(), resolve)
        };
        let next = match open(&at) {
            Err(rustix::io::Errno::NOENT) => {
                match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) => {
                        let made = open(&at)?;
                        // By the descriptor: the name may be another thing by now.
                        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                        made
                    }
                    Err(rustix::io::Errno::EXIST) => open(&at)?,
                    Err(error) => return Err(error.into()),
                }
            }
            other => other?,
        };
        at = next;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_paths_stay_inside() {
        let dir = std::env::temp_dir().join(format!("coracle-subpath-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("volume/here")).unwrap();
        fs::create_dir_all(dir.join("outside")).unwrap();
        std::os::unix::fs::symlink("../outside", dir.join("volume/out")).unwrap();
        std::os::unix::fs::symlink("here", dir.join("volume/in")).unwrap();
        let check = |path: &str, want: bool| {
            let got = open_below(&dir.join("volume"), Path::new(path));
            assert_eq!(got.is_ok(), want, "{path}: {got:?}");
        };
        check("here", true);
        check("in", true);
        check("made/deep", true);
        assert!(dir.join("volume/made/deep").is_dir());
        check("out", false);
        check("out/made", false);
        check("../outside", false);
        check("/etc", false);
        assert!(!dir.join("outside/made").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
