//! Carries out what the pod machine asks for. Each action is a task of its own; its answer comes back as an event.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    net::Ipv4Addr,
    path::Path,
    rc::Rc,
    sync::Arc,
};

use coracle_agent_logic::{
    Action, Event, PodUid, env,
    event::{Exit, StartFault},
    limits::TERMINATION_MESSAGE_BYTES_MAX,
};
use coracle_disk as disk;
use coracle_image::ImageStore;
use coracle_runtime::{ContainerId, ContainerState, Runtime as _, RuntimeError};
use serde_json::Value;

use super::{
    Shell, chain, containers, exit_of, images, limits, log::warning, seconds, state::StateDir,
    volumes,
};

impl Shell {
    /// Begins an action.
    pub(crate) fn carry(self: &Rc<Self>, action: Action) {
        let shell = Rc::clone(self);
        match action {
            Action::Keep(uid) => self.member.local.spawn(shell.keep(uid)),
            Action::PrepareVolumes(uid) => self.member.local.spawn(shell.prepare_volumes(uid)),
            Action::MakeSandbox(uid) => self.member.local.spawn(shell.make_sandbox(uid)),
            Action::EnsureImage(uid, name) => {
                self.member.local.spawn(shell.ensure_image(uid, name))
            }
            Action::Start(uid, name, attempt) => {
                self.member.local.spawn(shell.start_container(uid, name, attempt))
            }
            Action::Stop(uid, name, attempt) => {
                self.member.local.spawn(shell.stop_container(uid, name, attempt))
            }
            Action::Kill(uid, name, attempt) => {
                self.member.local.spawn(shell.kill_container(uid, name, attempt))
            }
            Action::TearDown(uid) => self.member.local.spawn(shell.tear_down(uid)),
            Action::Forget(uid) => self.member.local.spawn(shell.forget(uid)),
            Action::PatchStatus(uid, version, status) => {
                self.member.local.spawn(shell.patch_status(uid, version, status));
            }
            Action::Delete(uid) => {
                self.member.local.spawn(async move { shell.member.delete(uid).await });
            }
            Action::Tell(uid, tale) => self.member.tell(&uid, tale),
            Action::WakeAt(at) => self.member.wake_at(at),
        }
    }

    async fn keep(self: Rc<Self>, uid: PodUid) {
        let Some(pod) = self.pod(&uid) else { return };
        let state = self.state.clone();
        let kept = self.blocking(move || state.write_pod(&pod.uid, "pod.json", &pod.bytes)).await;
        if let Err(error) = kept {
            warning!(
                "cannot keep pod {uid} on disk: {error}; it would not be started again after a reboot without a server"
            );
        }
        // Its labels or annotations may be in a volume.
        self.refresh_volumes(&uid);
    }

    async fn make_sandbox(self: Rc<Self>, uid: PodUid) {
        let Some(pod) = self.pod(&uid) else { return };
        let (runtime, network) = (Arc::clone(&self.runtime), Arc::clone(&self.network));
        let host_ips = self.member.machine.borrow().ips.clone();
        let made = self
            .blocking(move || -> Result<Vec<String>, String> {
                let spec = containers::sandbox(&pod)?;
                let status = match runtime.create_pod(&spec) {
                    Err(RuntimeError::PodExists(id)) => runtime
                        .pod(&id)
                        .map_err(|error| chain(&error))?
                        .ok_or("the sandbox was there and is gone")?,
                    other => other.map_err(|error| chain(&error))?,
                };
                match status.netns {
                    Some(netns) if !spec.host_network => {
                        let ip: Ipv4Addr =
                            network.attach(&pod.uid, &netns).map_err(|error| chain(&error))?;
                        Ok(vec![ip.to_string()])
                    }
                    _ => Ok(host_ips),
                }
            })
            .await;
        let event = match made {
            Ok(ips) => Event::SandboxMade(uid, ips),
            Err(why) => Event::SandboxFailed(uid, why),
        };
        self.send(event).await;
    }

    async fn start_container(self: Rc<Self>, uid: PodUid, name: String, attempt: u32) {
        let event = match self.try_start(&uid, &name, attempt).await {
            Ok(events) => {
                for event in events {
                    self.send(event).await;
                }
                self.drop_old_attempts(&uid, &name, attempt).await;
                return;
            }
            Err((fault, message)) => {
                // This attempt is over like one that ran, and the next has another number.
                if fault == StartFault::Run {
                    self.drop_old_attempts(&uid, &name, attempt).await;
                }
                Event::StartFailed { uid, container: name, attempt, fault, message }
            }
        };
        self.send(event).await;
    }

    async fn try_start(
        self: &Rc<Self>,
        uid: &PodUid,
        name: &str,
        attempt: u32,
    ) -> Result<Vec<Event>, containers::Fault> {
        let create = |message: &str| (StartFault::Create, message.to_owned());
        let pod = self.pod(uid).ok_or_else(|| create("the pod is gone"))?;
        let container = pod.container(name).ok_or_else(|| create("the container is gone"))?;
        let image = self.image_of(&pod, name).await.ok_or_else(|| create("its image is gone"))?;
        let objects = self
            .gather_env(&pod, env::references(container))
            .await
            .map_err(|why| (StartFault::Config, why))?;
        let services = self.services.of(&pod, &self.options.server);
        let place = self.place(uid);
        let node_memory_bytes = self.member.machine.borrow().memory_bytes;
        let (state, runtime) = (self.state.clone(), Arc::clone(&self.runtime));
        let (uid, name) = (uid.clone(), name.to_owned());
        self.blocking(move || {
            let container = pod.container(&name).ok_or((StartFault::Create, "gone".to_owned()))?;
            let spec = containers::ready(&containers::Start {
                state: &state,
                pod: &pod,
                container,
                attempt,
                image: &image,
                services: &services,
                objects: &objects,
                place: &place,
                node_memory_bytes,
            })?;
            let id = runtime_uid(&uid).map_err(|why| (StartFault::Create, why))?;
            let state = match runtime.start_container(&id, &spec) {
                Ok(status) => status.state,
                Err(RuntimeError::AlreadyStarted { state, .. }) => state,
                Err(RuntimeError::Start { message, .. }) => return Err((StartFault::Run, message)),
                Err(error) => return Err((StartFault::Create, chain(&error))),
            };
            after_start(&uid, &name, attempt, state)
        })
        .await
    }

    /// Removes what earlier attempts left: their writable layers at once, their logs when there are newer ones enough.
    async fn drop_old_attempts(&self, uid: &PodUid, name: &str, attempt: u32) {
        let (runtime, state) = (Arc::clone(&self.runtime), self.state.clone());
        let (uid, name) = (uid.clone(), name.to_owned());
        self.blocking(move || drop_attempts_before(&*runtime, &state, &uid, &name, attempt)).await;
    }

    async fn stop_container(self: Rc<Self>, uid: PodUid, name: String, attempt: u32) {
        let Some(pod) = self.pod(&uid) else { return };
        let image = self.image_of(&pod, &name).await;
        let signal = image.map_or(15, |image| signal_number(&image.config.stop_signal));
        let runtime = Arc::clone(&self.runtime);
        let (id, of) = (ContainerId::parse(&name, attempt), runtime_uid(&uid));
        let (Ok(id), Ok(of)) = (id, of) else { return };
        let sent = self.blocking(move || runtime.signal(&of, &id, signal)).await;
        if let Err(error) = sent.or_else(gone_is_fine) {
            warning!("cannot ask container {name} of pod {uid} to stop: {}", chain(&error));
        }
    }

    async fn kill_container(self: Rc<Self>, uid: PodUid, name: String, attempt: u32) {
        let runtime = Arc::clone(&self.runtime);
        let (id, of) = (ContainerId::parse(&name, attempt), runtime_uid(&uid));
        let (Ok(id), Ok(of)) = (id, of) else { return };
        let killed = self.blocking(move || runtime.kill(&of, &id)).await;
        if let Err(error) = killed.or_else(gone_is_fine) {
            warning!("cannot kill container {name} of pod {uid}: {}; trying again", chain(&error));
        }
    }

    async fn tear_down(self: Rc<Self>, uid: PodUid) {
        self.volumes.release(&uid);
        if let Some(online) = self.online.get() {
            online.follower.release(&uid);
        }
        self.mint.release(&uid);
        let (runtime, network, state) =
            (Arc::clone(&self.runtime), Arc::clone(&self.network), self.state.clone());
        let gone = uid.clone();
        let status = self.member.agent.borrow().status(&uid).map(str::to_owned);
        let done = self
            .blocking(move || {
                take_down(&*runtime, &state, &gone, status.as_deref(), || {
                    network.detach(&gone).map_err(|error| chain(&error))
                })
            })
            .await;
        let event = match done {
            Ok(()) => Event::TornDown(uid),
            Err(why) => {
                warning!("cannot take down pod {uid}: {why}; trying again");
                Event::TearDownFailed(uid, why)
            }
        };
        self.send(event).await;
    }

    async fn forget(self: Rc<Self>, uid: PodUid) {
        self.release_images(&uid);
        let (state, images) = (self.state.clone(), Arc::clone(&self.images));
        let gone = uid.clone();
        let done = self.blocking(move || forget(&state, &images, &gone)).await;
        if let Err(error) = done {
            warning!(
                "cannot remove the directory of pod {uid}: {error}; the next start of the agent tries again"
            );
        }
    }

    async fn patch_status(self: Rc<Self>, uid: PodUid, version: u64, status: Value) {
        if self.pod(&uid).is_none() {
            return;
        }
        let (state, recorded, id) = (self.state.clone(), status.to_string(), uid.clone());
        let written =
            self.blocking(move || state.record_pod(&id, "status.json", recorded.as_bytes())).await;
        if let Err(error) = written {
            warning!("cannot record the status of pod {uid}: {error}");
        }
        self.member.patch_status(uid, version, status).await;
    }

    /// An exit, with the container's last words.
    pub(crate) async fn exited(self: &Rc<Self>, uid: PodUid, name: &str, attempt: u32, exit: Exit) {
        let mut exit = exit;
        if let Some(pod) = self.pod(&uid) {
            let file = containers::termination_path(&self.state, &pod.uid, name, attempt);
            let fallback = pod.container(name).is_some_and(|container| {
                container.termination_message_policy == "FallbackToLogsOnError" && exit.code != 0
            });
            let log = fallback.then(|| self.state.log(&uid, name, attempt));
            exit.message = self.blocking(move || last_words(&file, log.as_deref())).await;
        }
        self.send(Event::Exited { uid, container: name.into(), attempt, exit }).await;
    }
}

/// What earlier attempts left, as [`Shell::drop_old_attempts`] has it.
pub(crate) fn drop_attempts_before(
    runtime: &dyn coracle_runtime::Runtime,
    state: &StateDir,
    uid: &PodUid,
    name: &str,
    attempt: u32,
) {
    let Ok(pod) = runtime_uid(uid) else { return };
    let before = attempt.checked_sub(1);
    if let Some(id) = before.and_then(|before| ContainerId::parse(name, before).ok())
        && let Err(error) = runtime.remove_container(&pod, &id)
    {
        warning!("cannot remove container {id} of pod {pod}: {}", chain(&error));
    }
    let Some(old) = attempt.checked_sub(limits::ATTEMPTS_KEPT) else { return };
    let _ = disk::remove_file(&containers::termination_path(state, uid, name, old));
    let log = state.log(uid, name, old);
    let mut rotated = log.clone().into_os_string();
    let _ = disk::remove_file(&log);
    for number in 1.. {
        rotated.clear();
        rotated.push(&log);
        rotated.push(format!(".{number}"));
        if !Path::new(&rotated).exists() || disk::remove_file(Path::new(&rotated)).is_err() {
            return;
        }
    }
}

/// Ends a pod on this machine and removes all of it but records and logs. `status` is its latest, `None` if it is gone
/// from the API server; `detach` unplugs it.
pub(crate) fn take_down(
    runtime: &dyn coracle_runtime::Runtime,
    state: &StateDir,
    uid: &PodUid,
    status: Option<&str>,
    detach: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    match status {
        // The shim's records go: from now on only the status says that the pod is over.
        Some(status) => {
            if let Err(error) = state.settle_pod(uid, "status.json", status.as_bytes()) {
                // A full disk must not keep a pod from its end.
                warning!(
                    "cannot record the status of pod {uid}: {error}; it may be started again after a power cut"
                );
            }
        }
        // Nobody wants it any more: first of all it is no pod that is to be started.
        None => disk::remove_file(&state.pod(uid).join("pod.json"))
            .map_err(|error| format!("cannot remove the record of pod {uid}: {error}"))?,
    }
    runtime.remove_pod(&runtime_uid(uid)?).map_err(|error| chain(&error))?;
    detach()?;
    for dir in [state.volumes(uid), state.files(uid)] {
        volumes::remove(&dir)
            .map_err(|error| format!("cannot remove {}: {error}", dir.display()))?;
    }
    Ok(())
}

/// Removes what is left of a pod, and lets go of its images.
pub(crate) fn forget(state: &StateDir, images: &ImageStore, uid: &PodUid) -> std::io::Result<()> {
    // By its uid: which containers it had, a damaged record does not say.
    if let Err(error) = images.release_all(|holder| images::pod_of(holder).as_ref() == Some(uid)) {
        warning!("images of pod {uid}: {}", chain(&error));
    }
    // First: without the rest it is a pod that never ran here.
    disk::remove_file(&state.pod(uid).join("pod.json"))?;
    volumes::remove(&state.pod(uid))
}

pub(crate) fn runtime_uid(uid: &PodUid) -> Result<coracle_runtime::PodUid, String> {
    coracle_runtime::PodUid::parse(uid.as_str()).map_err(|error| error.to_string())
}

fn gone_is_fine(error: RuntimeError) -> Result<(), RuntimeError> {
    let gone = matches!(
        error,
        RuntimeError::NoSuchPod(_)
            | RuntimeError::ShimDead(_)
            | RuntimeError::NoSuchContainer { .. }
    );
    if gone { Ok(()) } else { Err(error) }
}

/// What the state after a start says: it may have ended by then.
fn after_start(
    uid: &PodUid,
    name: &str,
    attempt: u32,
    state: ContainerState,
) -> Result<Vec<Event>, containers::Fault> {
    let started = |at_ms: u64| Event::Started {
        uid: uid.clone(),
        container: name.into(),
        attempt,
        at_s: seconds(at_ms),
    };
    Ok(match state {
        ContainerState::Running { started_at_ms, .. } => vec![started(started_at_ms)],
        ContainerState::Starting => vec![started(super::clock::wall_ms())],
        ContainerState::Exited(exit) => vec![
            started(exit.started_at_ms),
            Event::Exited {
                uid: uid.clone(),
                container: name.into(),
                attempt,
                exit: exit_of(&exit),
            },
        ],
        ContainerState::StartFailed { message, .. } => return Err((StartFault::Run, message)),
        ContainerState::Unknown => {
            return Err((StartFault::Run, "its shim ended while it was starting".into()));
        }
    })
}

/// The termination message: the file's, or the end of the log (80 lines, 2048 bytes, as kubelet has it).
fn last_words(file: &Path, log: Option<&Path>) -> String {
    let mut text = read_end(file, TERMINATION_MESSAGE_BYTES_MAX as u64);
    if text.is_empty()
        && let Some(log) = log
    {
        let end = read_end(log, 2048);
        let lines: Vec<&str> = end.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        text = lines.get(lines.len().saturating_sub(80)..).unwrap_or_default().join("\n");
    }
    text
}

fn read_end(path: &Path, bytes_max: u64) -> String {
    let Ok(mut file) = fs::File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |meta| meta.len());
    if file.seek(SeekFrom::Start(length.saturating_sub(bytes_max))).is_err() {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = file.take(bytes_max).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `SIGTERM`, `TERM`, `15`, `RTMIN+3`; 15 for what is none.
fn signal_number(text: &str) -> i32 {
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { number } else { 15 };
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = offset.strip_prefix('+').unwrap_or("0").parse().unwrap_or(0);
        let number = 34 + offset;
        return if (34..=64).contains(&number) { number } else { 15 };
    }
    const NAMES: [(&str, i32); 14] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("WINCH", 28),
    ];
    NAMES.iter().find(|(known, _)| *known == name).map_or(15, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_read() {
        for (text, want) in [
            ("", 15),
            ("SIGQUIT", 3),
            ("QUIT", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("SIGNONE", 15),
            ("99", 15),
        ] {
            assert_eq!(signal_number(text), want, "{text}");
        }
    }

    #[test]
    fn last_words_are_the_files_or_the_logs() {
        let dir = std::env::temp_dir().join(format!("coracle-words-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, log) = (dir.join("termination"), dir.join("0.log"));
        fs::write(&log, "t stdout F one\nt stderr F two\n").unwrap();
        assert_eq!(last_words(&file, None), "");
        assert_eq!(last_words(&file, Some(&log)), "one\ntwo");
        fs::write(&file, "because").unwrap();
        assert_eq!(last_words(&file, Some(&log)), "because");
        fs::remove_dir_all(&dir).unwrap();
    }
}
