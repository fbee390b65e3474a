//! The pod machine of one node: one event in, actions out.

use alloc::{collections::BTreeMap, format, string::String, sync::Arc, vec::Vec};

use serde_json::Value;

use crate::{
    canary::{Canary, Switch},
    event::{
        Action, Event, Exit, FoundSandbox, ImageFacts, ImageFault, ImageOrigin, StartFault, Tale,
    },
    limits,
    pod::{ContainerState, PodState, Run, Stop, Wait, Why, reason_of},
    settle::{Fate, cut, settle, tell, wake},
    spec::{Pod, PodUid},
    time::{Millis, Now},
};

/// All pods of a node. Only [`Agent::step`] changes it.
#[derive(Debug)]
pub struct Agent {
    host_ips: Vec<String>,
    pods_max: usize,
    pods: BTreeMap<PodUid, PodState>,
    /// Pods from disk wait for what the shims have.
    recovered: bool,
    /// What shims have of pods that are on no disk: the agent died before it wrote them down. Whether they are wanted,
    /// the first list says.
    orphans: BTreeMap<PodUid, FoundSandbox>,
    canary: Switch,
}

impl Agent {
    /// An agent without pods. `host_ips` are the node's addresses, for statuses.
    pub fn new(host_ips: Vec<String>) -> Self {
        let (pods_max, pods) = (limits::PODS_MAX, BTreeMap::new());
        Self {
            host_ips,
            pods_max,
            pods,
            recovered: false,
            orphans: BTreeMap::new(),
            canary: Switch::default(),
        }
    }

    /// The same for a node that takes so many pods at one time and not [`limits::PODS_MAX`].
    #[must_use]
    pub fn with_pods_max(self, pods_max: usize) -> Self {
        Self { pods_max, ..self }
    }

    /// The same, doing something wrong on purpose.
    #[must_use]
    pub fn with_canary(self, canary: Switch) -> Self {
        Self { canary, ..self }
    }

    /// The pod of this uid, as last seen.
    pub fn pod(&self, uid: &PodUid) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|state| &state.pod)
    }

    /// All pods that are known.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values().map(|state| &state.pod)
    }

    /// The attempt of a container that runs or last ran, and the one before it; for logs.
    pub fn attempts(&self, uid: &PodUid, container: &str) -> Option<(u32, Option<u32>)> {
        let state = self.pods.get(uid)?;
        let container = state.containers.iter().find(|known| known.name == container)?;
        let latest = container.attempts.checked_sub(1)?;
        Some((latest, latest.checked_sub(1)))
    }

    /// Whether this attempt may still write to its log.
    pub fn is_running(&self, uid: &PodUid, container: &str, attempt: u32) -> bool {
        self.pods.get(uid).is_some_and(|state| {
            state.containers.iter().any(|known| {
                known.name == container
                    && matches!(known.run, Run::Running { attempt: now, .. } if now == attempt)
            })
        })
    }

    /// The status of a pod that is still the API server's, as it is to be recorded; `None` before there is one.
    pub fn status(&self, uid: &PodUid) -> Option<&str> {
        let state = self.pods.get(uid)?;
        let is_gone = state.stop.is_some_and(|stop| stop.why == Why::Gone);
        (!is_gone && !state.outbox.text.is_empty()).then_some(state.outbox.text.as_str())
    }

    /// Addresses of a pod whose sandbox was made.
    pub fn ips(&self, uid: &PodUid) -> &[String] {
        self.pods.get(uid).map_or(&[], |state| &state.ips)
    }

    /// The node's addresses changed.
    pub fn set_host_ips(&mut self, host_ips: Vec<String>) {
        self.host_ips = host_ips;
    }

    /// Takes one event to its actions. The shell calls this with real events, a simulator with made-up ones.
    pub fn step(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::FromDisk(pod, status) => {
                let state = PodState::new(pod, &status.unwrap_or(Value::Null), now);
                self.pods.insert(state.pod.uid.clone(), state);
            }
            Event::Recovered(found) => self.recovered(now, &found, out),
            Event::PodChanged(pod) => self.changed(now, pod, out),
            Event::PodGone(uid) => self.gone(now, &uid, out),
            Event::Listed(uids) => {
                let missing: Vec<PodUid> =
                    self.pods.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
                for uid in missing {
                    self.gone(now, &uid, out);
                }
                let orphans = core::mem::take(&mut self.orphans);
                out.extend(orphans.into_keys().map(Action::TearDown));
            }
            Event::Timer => {
                let uids: Vec<PodUid> = self.pods.keys().cloned().collect();
                for uid in uids {
                    self.settle(now, &uid, out);
                }
            }
            Event::VolumesReady(uid) => self.about(now, &uid, out, |state, _| state.volumes.done()),
            Event::VolumesFailed(uid, message) => self.about(now, &uid, out, |state, out| {
                state.volumes.failed(now.mono);
                let tale = Tale {
                    warning: true,
                    reason: "FailedMount",
                    message: cut(message),
                    container: None,
                };
                out.push(Action::Tell(state.pod.uid.clone(), tale));
            }),
            Event::SandboxMade(uid, ips) => self.about(now, &uid, out, |state, _| {
                state.sandbox.done();
                state.ips = ips;
            }),
            Event::SandboxFailed(uid, message) => self.about(now, &uid, out, |state, out| {
                state.sandbox.failed(now.mono);
                let message = cut(format!("Failed to create pod sandbox: {message}"));
                let tale = Tale {
                    warning: true,
                    reason: "FailedCreatePodSandBox",
                    message,
                    container: None,
                };
                out.push(Action::Tell(state.pod.uid.clone(), tale));
            }),
            Event::SandboxLost(uid) if self.orphans.contains_key(&uid) => {
                self.orphans.entry(uid).and_modify(|orphan| orphan.alive = false);
            }
            Event::SandboxLost(uid) => self.about(now, &uid, out, |state, out| {
                for container in &mut state.containers {
                    // A start under way is answered yet; until then no other attempt may begin (R5).
                    if container.is_starting() {
                        container.orphaned = true;
                    } else {
                        container.lost(now);
                    }
                }
                if state.sandbox.is_done() && state.stop.is_none() {
                    state.sandbox.stale(now.mono);
                    let message =
                        String::from("Pod sandbox changed, it will be killed and re-created.");
                    let tale =
                        Tale { warning: false, reason: "SandboxChanged", message, container: None };
                    out.push(Action::Tell(state.pod.uid.clone(), tale));
                }
            }),
            Event::ImagePulling(uid, name) => {
                self.container(now, &uid, &name, out, |uid, container, out| {
                    let message = format!("Pulling image \"{}\"", container.image);
                    tell(uid, container, false, "Pulling", message, out);
                })
            }
            Event::ImageReady(uid, name, facts) => {
                let can_start = self.pods.get(&uid).is_some_and(|state| {
                    state.sandbox.is_done() || self.canary.sings(Canary::StartsUncaged)
                });
                self.container(now, &uid, &name, out, |uid, container, out| {
                    image_ready(uid, container, facts, can_start, now.mono, out);
                });
            }
            Event::ImageFailed(uid, name, fault, message) => {
                self.container(now, &uid, &name, out, |uid, container, out| {
                    image_failed(uid, container, fault, message, now.mono, out);
                });
            }
            Event::Started { uid, container: name, attempt, at_s } => {
                self.container(now, &uid, &name, out, |uid, container, out| {
                    // An exit can overtake the answer of its start.
                    if container.run == (Run::Starting { attempt }) {
                        container.attempts = attempt.saturating_add(1);
                        container.run = Run::Running { attempt, started_s: at_s };
                        tell(uid, container, false, "Created", "Container created".into(), out);
                        tell(uid, container, false, "Started", "Container started".into(), out);
                        if container.orphaned {
                            container.lost(now);
                        }
                    }
                });
            }
            Event::StartFailed { uid, container: name, attempt, fault, message } => {
                self.container(now, &uid, &name, out, |uid, container, out| {
                    if container.run == (Run::Starting { attempt }) {
                        start_failed(uid, container, attempt, fault, message, now, out);
                    }
                });
            }
            Event::Exited { uid, container: name, attempt, exit }
                if self.orphans.contains_key(&uid) =>
            {
                let containers = self.orphans.get_mut(&uid).into_iter();
                containers
                    .flat_map(|orphan| &mut orphan.containers)
                    .filter(|seen| seen.name == name && seen.attempt == attempt)
                    .for_each(|seen| seen.exit = Some(exit.clone()));
            }
            Event::Exited { uid, container: name, attempt, exit } => {
                self.container(now, &uid, &name, out, |_, container, _| {
                    let live = match container.run {
                        Run::Running { attempt: now, .. } | Run::Starting { attempt: now } => {
                            Some(now)
                        }
                        Run::Waiting { .. } | Run::Ensuring | Run::Ended { .. } => None,
                    };
                    if live == Some(attempt) {
                        container.ended(now.mono, attempt, reason_of(&exit), exit);
                    }
                });
            }
            Event::TornDown(uid) => {
                if !self.pods.contains_key(&uid) {
                    out.push(Action::Forget(uid));
                    return self.wake(out);
                }
                self.about(now, &uid, out, |state, _| {
                    state.teardown.done();
                    for container in &mut state.containers {
                        container.lost(now);
                    }
                });
            }
            Event::TearDownFailed(uid, message) => self.about(now, &uid, out, |state, out| {
                state.teardown.failed(now.mono);
                let tale = Tale {
                    warning: true,
                    reason: "FailedKillPod",
                    message: cut(message),
                    container: None,
                };
                out.push(Action::Tell(state.pod.uid.clone(), tale));
            }),
            Event::StatusAcked(uid, version) => self.about(now, &uid, out, |state, _| {
                state.outbox.in_flight = false;
                state.outbox.acked = version;
            }),
            Event::StatusFailed(uid) if self.canary.sings(Canary::ForgetsStatus) => {
                self.about(now, &uid, out, |state, _| {
                    state.outbox.in_flight = false;
                    state.outbox.acked = state.outbox.version;
                });
            }
            Event::StatusFailed(uid) => self.about(now, &uid, out, |state, _| {
                state.outbox.in_flight = false;
                state.outbox.not_before = now.mono.plus(limits::STATUS_RETRY_MS);
            }),
            Event::DeleteAcked(uid) => self.gone(now, &uid, out),
            Event::DeleteFailed(uid) => {
                self.about(now, &uid, out, |state, _| state.delete.failed(now.mono));
            }
        }
        self.wake(out);
    }

    fn recovered(&mut self, now: Now, found: &[FoundSandbox], out: &mut Vec<Action>) {
        self.recovered = true;
        for state in self.pods.values_mut() {
            let seen = found.iter().find(|seen| seen.uid == state.pod.uid);
            let seen = seen.filter(|_| !self.canary.sings(Canary::ForgetsRunning));
            state.recover(seen, now);
            // What an earlier life made of it, or had not removed yet, is not known: it is made good or removed.
            state.volumes.stale(now.mono);
        }
        let orphans = found.iter().filter(|seen| !self.pods.contains_key(&seen.uid));
        self.orphans = orphans.map(|seen| (seen.uid.clone(), seen.clone())).collect();
        let uids: Vec<PodUid> = self.pods.keys().cloned().collect();
        for uid in uids {
            self.settle(now, &uid, out);
        }
    }

    fn changed(&mut self, now: Now, pod: Arc<Pod>, out: &mut Vec<Action>) {
        let uid = pod.uid.clone();
        match self.pods.get_mut(&uid) {
            Some(state) if state.stop.is_some_and(|stop| stop.why == Why::Gone) => {
                state.again = Some(pod);
            }
            Some(state) => {
                let before = core::mem::replace(&mut state.pod, pod);
                // A node that was lost for a while finds its pods marked unready: they are told anew.
                if state.conditions.contradicted_by(&state.pod.conditions) {
                    state.outbox.version += 1;
                }
                if replaced_images(state, now) || before.meta != state.pod.meta {
                    out.push(Action::Keep(uid.clone()));
                }
            }
            None => self.admit(now, pod, out),
        }
        self.settle(now, &uid, out);
    }

    fn admit(&mut self, now: Now, pod: Arc<Pod>, out: &mut Vec<Action>) {
        let full = self.pods.values().filter(|state| !state.finished()).count() >= self.pods_max;
        let status = recorded_status(&pod);
        let uid = pod.uid.clone();
        let mut state = PodState::new(pod, &status, now);
        // Without an orphan, what the API server says ran here was not found: its machine or its records are gone.
        state.recover(self.orphans.remove(&uid).as_ref(), now);
        if full && !state.finished() {
            let message = format!(
                "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {0}, capacity: {0}",
                self.pods_max
            );
            let tale = Tale {
                warning: true,
                reason: "OutOfpods",
                message: message.clone(),
                container: None,
            };
            out.push(Action::Tell(uid.clone(), tale));
            state.refused = Some(("OutOfpods", message));
        }
        self.pods.insert(uid.clone(), state);
        out.push(Action::Keep(uid));
    }

    fn gone(&mut self, now: Now, uid: &PodUid, out: &mut Vec<Action>) {
        self.about(now, uid, out, |state, _| match &mut state.stop {
            Some(stop) => stop.why = Why::Gone,
            None => {
                let grace_ms = state.grace_ms();
                state.stop = Some(Stop { why: Why::Gone, since: now.mono, grace_ms });
            }
        });
    }

    fn about(
        &mut self,
        now: Now,
        uid: &PodUid,
        out: &mut Vec<Action>,
        change: impl FnOnce(&mut PodState, &mut Vec<Action>),
    ) {
        if let Some(state) = self.pods.get_mut(uid) {
            change(state, out);
            self.settle(now, uid, out);
        }
    }

    fn container(
        &mut self,
        now: Now,
        uid: &PodUid,
        name: &str,
        out: &mut Vec<Action>,
        change: impl FnOnce(&PodUid, &mut ContainerState, &mut Vec<Action>),
    ) {
        self.about(now, uid, out, |state, out| {
            if let Some(container) = state.container_mut(name) {
                change(uid, container, out);
            }
        });
    }

    fn settle(&mut self, now: Now, uid: &PodUid, out: &mut Vec<Action>) {
        if !self.recovered {
            return;
        }
        let Some(state) = self.pods.get_mut(uid) else { return };
        if settle(state, &self.host_ips, self.canary, now, out) == Fate::Stays {
            return;
        }
        let again = self.pods.remove(uid).and_then(|state| state.again);
        if let Some(pod) = again {
            self.changed(now, pod, out);
        }
    }

    /// Timers are not counted: the shell keeps the earliest.
    fn wake(&self, out: &mut Vec<Action>) {
        if !self.recovered {
            return;
        }
        if let Some(at) = self.pods.values().filter_map(wake).min() {
            out.push(Action::WakeAt(at));
        }
    }
}

/// The status in the object itself, for a pod that has no record on disk.
fn recorded_status(pod: &Pod) -> Value {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct WithStatus {
        status: Value,
    }
    serde_json::from_slice::<WithStatus>(&pod.bytes).unwrap_or_default().status
}

/// Notes images that were changed by an update; true if one was.
fn replaced_images(state: &mut PodState, now: Now) -> bool {
    let grace_ms = state.grace_ms();
    let pod = Arc::clone(&state.pod);
    let mut any = false;
    for container in &mut state.containers {
        let Some(wanted) = pod.container(&container.name) else { continue };
        if wanted.image != container.image {
            any = true;
            container.image.clone_from(&wanted.image);
            container.pull = crate::backoff::Backoff::default();
            if container.is_live() {
                container.replace = Some(now.mono.plus(grace_ms));
            } else if matches!(container.run, Run::Waiting { .. }) {
                container.run = Run::Waiting { until: now.mono };
                container.wait = Wait::creating();
            }
        }
    }
    any
}

fn image_ready(
    uid: &PodUid,
    container: &mut ContainerState,
    facts: ImageFacts,
    can_start: bool,
    now: Millis,
    out: &mut Vec<Action>,
) {
    if container.run != Run::Ensuring {
        return;
    }
    let image = &container.image;
    let message = match facts.origin {
        ImageOrigin::Present => {
            format!("Container image \"{image}\" already present on machine")
        }
        ImageOrigin::Pinned => format!(
            "Container image \"{image}\" comes from an imported archive and is pinned: no registry was asked"
        ),
        ImageOrigin::Pulled { took_ms, bytes } => format!(
            "Successfully pulled image \"{image}\" in {}.{:03}s. Image size: {bytes} bytes.",
            took_ms / 1000,
            took_ms % 1000
        ),
    };
    tell(uid, container, false, "Pulled", message, out);
    container.image_id = facts.id;
    container.pull = crate::backoff::Backoff::default();
    container.wait = Wait::creating();
    if !can_start {
        // Its sandbox was lost meanwhile: what is started without one is started outside its cgroup (R1).
        container.run = Run::Waiting { until: now };
        return;
    }
    let attempt = container.attempts;
    container.run = Run::Starting { attempt };
    out.push(Action::Start(uid.clone(), container.name.clone(), attempt));
}

fn image_failed(
    uid: &PodUid,
    container: &mut ContainerState,
    fault: ImageFault,
    message: String,
    now: Millis,
    out: &mut Vec<Action>,
) {
    if container.run != Run::Ensuring {
        return;
    }
    let image = container.image.clone();
    container.pull.advance(now);
    let (reason, event, text) = match fault {
        ImageFault::InvalidName => (
            "InvalidImageName",
            "InspectFailed",
            format!("Failed to apply default image tag \"{image}\": {message}"),
        ),
        ImageFault::NeverPull => (
            "ErrImageNeverPull",
            "ErrImageNeverPull",
            format!(
                "Container image \"{image}\" is not present with pull policy of Never; import it with `coracle-agent image import`, or let the policy be IfNotPresent"
            ),
        ),
        ImageFault::Pull => {
            ("ErrImagePull", "Failed", format!("Failed to pull image \"{image}\": {message}"))
        }
    };
    tell(uid, container, true, event, text.clone(), out);
    tell(uid, container, true, "Failed", format!("Error: {reason}"), out);
    container.wait =
        Wait { reason, message: cut(if fault == ImageFault::Pull { message } else { text }) };
    let until = match fault {
        ImageFault::Pull => now.plus(limits::PULL_ERROR_SHOWN_MS),
        ImageFault::InvalidName | ImageFault::NeverPull => now.plus(container.pull.delay_ms()),
    };
    container.run = Run::Waiting { until };
}

fn start_failed(
    uid: &PodUid,
    container: &mut ContainerState,
    attempt: u32,
    fault: StartFault,
    message: String,
    now: Now,
    out: &mut Vec<Action>,
) {
    let message = cut(message);
    container.orphaned = false;
    tell(uid, container, true, "Failed", format!("Error: {message}"), out);
    let reason = match fault {
        StartFault::Config => "CreateContainerConfigError",
        StartFault::Create => "CreateContainerError",
        StartFault::Run => {
            // As containerd and kubelet have it: an attempt that ended before it began.
            let exit = Exit {
                code: 128,
                finished_s: now.wall_s,
                message: message.clone(),
                ..Exit::default()
            };
            container.ended(now.mono, attempt, "StartError".into(), exit);
            container.wait = Wait { reason: "RunContainerError", message };
            return;
        }
    };
    container.wait = Wait { reason, message };
    container.run = Run::Waiting { until: now.mono.plus(limits::CONFIG_RETRY_MS) };
}
