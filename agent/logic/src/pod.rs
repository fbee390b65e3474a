//! What the agent knows of one pod on its node.

use alloc::{string::String, sync::Arc, vec::Vec};

use serde_json::Value;

use crate::{
    backoff::{Backoff, setup_retry_ms},
    conditions::Conditions,
    event::{Exit, FoundSandbox},
    spec::{Pod, RestartPolicy},
    time::{Millis, Now, parse_rfc3339},
};

/// A setup step that is asked for, under way, done, or to be tried again.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    state: StepState,
    tries: u32,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum StepState {
    #[default]
    Todo,
    Doing,
    Retry {
        at: Millis,
    },
    Done,
}

impl Step {
    /// Whether it is to be asked for now; then it counts as under way.
    pub(crate) fn take(&mut self, now: Millis) -> bool {
        let due = match self.state {
            StepState::Todo => true,
            StepState::Retry { at } => at <= now,
            StepState::Doing | StepState::Done => false,
        };
        if due {
            self.state = StepState::Doing;
        }
        due
    }

    pub(crate) fn done(&mut self) {
        *self = Self { state: StepState::Done, tries: 0 };
    }

    /// Tries again after a growing delay.
    pub(crate) fn failed(&mut self, now: Millis) {
        self.state = StepState::Retry { at: now.plus(setup_retry_ms(self.tries)) };
        self.tries = self.tries.saturating_add(1);
    }

    /// To be done again now, on top of what an earlier try left.
    pub(crate) fn stale(&mut self, now: Millis) {
        self.state = StepState::Retry { at: now };
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == StepState::Done
    }

    pub(crate) fn is_doing(&self) -> bool {
        self.state == StepState::Doing
    }

    pub(crate) fn untouched(&self) -> bool {
        self.state == StepState::Todo
    }

    pub(crate) fn wake(&self) -> Option<Millis> {
        match self.state {
            StepState::Retry { at } => Some(at),
            StepState::Todo | StepState::Doing | StepState::Done => None,
        }
    }
}

/// Where one container is.
///
/// ```text
/// Waiting --due--> Ensuring --image--> Starting --executed--> Running --ended--> Ended
///    ^                |                   |                      |                 |
///    |                +---no image--------+---not executed-------|---> Ended       |
///    +----------------------------- back-off, by restart policy -------------------+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Nothing under way; something is due at `until`.
    Waiting { until: Millis },
    /// The image is being looked for or pulled.
    Ensuring,
    /// The start was asked for.
    Starting { attempt: u32 },
    /// It runs.
    Running { attempt: u32, started_s: i64 },
    /// The last attempt ended.
    Ended { exit: Ended, at: Millis },
}

/// How an attempt ended, as a status tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) attempt: u32,
    pub(crate) reason: String,
    pub(crate) exit: Exit,
}

/// Why a container is not running, for its waiting state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Wait {
    pub(crate) fn creating() -> Self {
        Self { reason: "ContainerCreating", message: String::new() }
    }

    /// Whether it only says "still starting".
    pub(crate) fn is_calm(&self) -> bool {
        self.reason == "ContainerCreating"
    }
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub(crate) struct ContainerState {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) run: Run,
    pub(crate) wait: Wait,
    /// Attempts that were made; the number of the next one.
    pub(crate) attempts: u32,
    /// The attempt before the one in `run`.
    pub(crate) last: Option<Ended>,
    pub(crate) image_id: String,
    pub(crate) restart: Backoff,
    pub(crate) pull: Backoff,
    /// Its image was changed: the running attempt is to end and another to start, whatever the policy.
    pub(crate) replace: Option<Millis>,
    /// When the running attempt was asked to stop.
    pub(crate) stop_sent: Option<Millis>,
    pub(crate) kill_sent: Option<Millis>,
    /// Its shim died while its start was under way: if it came up, it is gone.
    pub(crate) orphaned: bool,
}

impl ContainerState {
    fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            run: Run::Waiting { until: Millis(0) },
            wait: Wait::creating(),
            attempts: 0,
            last: None,
            image_id: String::new(),
            restart: Backoff::default(),
            pull: Backoff::default(),
            replace: None,
            stop_sent: None,
            kill_sent: None,
            orphaned: false,
        }
    }

    /// A process of it may exist.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.run, Run::Running { .. } | Run::Starting { .. })
    }

    pub(crate) fn ended(&mut self, now: Millis, attempt: u32, reason: String, exit: Exit) {
        self.attempts = self.attempts.max(attempt.saturating_add(1));
        self.run = Run::Ended { exit: Ended { attempt, reason, exit }, at: now };
        self.stop_sent = None;
        self.kill_sent = None;
        self.orphaned = false;
    }

    /// Its start is under way.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.run, Run::Starting { .. })
    }

    /// The attempt that is or was running is lost with its shim or its machine.
    pub(crate) fn lost(&mut self, now: Now) {
        let (attempt, started_s) = match self.run {
            Run::Running { attempt, started_s } => (attempt, started_s),
            Run::Starting { attempt } => (attempt, now.wall_s),
            Run::Waiting { .. } | Run::Ensuring | Run::Ended { .. } => return,
        };
        let exit = Exit::unseen(started_s, now.wall_s);
        self.ended(now.mono, attempt, reason_of(&exit), exit);
    }

    /// Whether an attempt that ended like this is followed by another.
    pub(crate) fn restarts_after(&self, policy: RestartPolicy, exit: &Exit) -> bool {
        self.replace.is_some()
            || match policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => exit.code != 0,
                RestartPolicy::Never => false,
            }
    }

    pub(crate) fn wake(&self) -> Option<Millis> {
        match self.run {
            Run::Waiting { until } => Some(until),
            Run::Ensuring | Run::Starting { .. } | Run::Running { .. } | Run::Ended { .. } => None,
        }
    }
}

/// Why a pod's containers are being ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is to be deleted; the API server waits for the agent.
    Deleted,
    /// It is gone from the API server.
    Gone,
    /// `activeDeadlineSeconds`.
    Deadline,
}

/// A pod's end under way.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) why: Why,
    pub(crate) since: Millis,
    pub(crate) grace_ms: u64,
}

impl Stop {
    /// When a container that was asked to stop at `asked` has had its grace period (R6): one that only came up
    /// while its pod was already ending is asked later, and has as long as the others.
    pub(crate) fn kill_at(&self, asked: Millis) -> Millis {
        self.since.plus(self.grace_ms).plus(asked.since(self.since))
    }
}

/// What of the status went out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) text: String,
    pub(crate) version: u64,
    pub(crate) acked: u64,
    pub(crate) in_flight: bool,
    pub(crate) not_before: Millis,
    pub(crate) hold_until: Option<Millis>,
}

impl Outbox {
    pub(crate) fn is_settled(&self) -> bool {
        self.acked == self.version && !self.in_flight
    }
}

/// Everything known of one pod.
#[derive(Clone, Debug)]
pub(crate) struct PodState {
    pub(crate) pod: Arc<Pod>,
    /// Unix seconds at which the agent first saw it.
    pub(crate) start_s: i64,
    /// For `activeDeadlineSeconds`.
    pub(crate) active_since: Millis,
    /// Failed for good, before or beside its containers: reason and message.
    pub(crate) refused: Option<(&'static str, String)>,
    /// It ended in an earlier life of the agent: its phase then.
    pub(crate) over: Option<&'static str>,
    pub(crate) told_unsupported: bool,
    pub(crate) volumes: Step,
    pub(crate) sandbox: Step,
    /// The network was up at least once: shown in the status even after the end.
    pub(crate) ips: Vec<String>,
    pub(crate) containers: Vec<ContainerState>,
    pub(crate) stop: Option<Stop>,
    pub(crate) teardown: Step,
    pub(crate) delete: Step,
    pub(crate) conditions: Conditions,
    pub(crate) outbox: Outbox,
    /// It came back at the API server while its end was under way.
    pub(crate) again: Option<Arc<Pod>>,
    /// When all that was due of it was last asked for.
    pub(crate) settled: Millis,
}

impl PodState {
    /// A pod as it was last recorded; `status` is empty for a new one.
    pub(crate) fn new(pod: Arc<Pod>, status: &Value, now: Now) -> Self {
        let mut containers: Vec<ContainerState> = pod
            .spec
            .containers
            .iter()
            .map(|spec| ContainerState::new(&spec.name, &spec.image))
            .collect();
        for container in &mut containers {
            let recorded = status.get("containerStatuses").and_then(Value::as_array);
            let recorded = recorded.into_iter().flatten().find(|recorded| {
                recorded.get("name").and_then(Value::as_str) == Some(&*container.name)
            });
            if let Some(recorded) = recorded {
                restore(container, recorded, now);
            }
        }
        let start = status.get("startTime").and_then(Value::as_str).and_then(parse_rfc3339);
        let start_s = start.unwrap_or(now.wall_s);
        let active_ms = u64::try_from(now.wall_s.saturating_sub(start_s)).unwrap_or(0) * 1000;
        let over = match status.get("phase").and_then(Value::as_str) {
            Some("Succeeded") => Some("Succeeded"),
            Some("Failed") => Some("Failed"),
            _ => None,
        };
        let ips = status.get("podIPs").and_then(Value::as_array);
        let ips = ips
            .into_iter()
            .flatten()
            .filter_map(|ip| Some(ip.get("ip")?.as_str()?.into()))
            .collect();
        Self {
            pod,
            start_s,
            active_since: Millis(now.mono.0.saturating_sub(active_ms)),
            refused: None,
            over,
            told_unsupported: false,
            volumes: Step::default(),
            sandbox: Step::default(),
            ips,
            containers,
            stop: None,
            teardown: Step::default(),
            delete: Step::default(),
            conditions: Conditions::restore(status),
            outbox: Outbox::default(),
            again: None,
            settled: Millis(0),
        }
    }

    /// Lays what a shim still has over what was recorded; `None` if no shim has it.
    pub(crate) fn recover(&mut self, found: Option<&FoundSandbox>, now: Now) {
        let mut alive = false;
        if let Some(found) = found {
            alive = found.alive;
            if alive {
                self.sandbox.done();
                self.ips.clone_from(&found.ips);
            } else {
                self.sandbox.stale(now.mono);
            }
            for seen in &found.containers {
                let Some(container) = self.container_mut(&seen.name) else { continue };
                if seen.attempt.saturating_add(1) < container.attempts {
                    continue;
                }
                let known = matches!(&container.run, Run::Ended { exit, .. } if exit.attempt == seen.attempt);
                // What was recorded knows when it began; below it is lost.
                let recorded = matches!(&container.run, Run::Running { attempt, .. } if *attempt == seen.attempt);
                match &seen.exit {
                    None if alive => {
                        container.attempts = seen.attempt.saturating_add(1);
                        container.run =
                            Run::Running { attempt: seen.attempt, started_s: seen.started_s };
                    }
                    Some(exit) if !(known || exit.unseen && recorded) => {
                        container.ended(now.mono, seen.attempt, reason_of(exit), exit.clone());
                    }
                    None | Some(_) => {}
                }
            }
        }
        for container in &mut self.containers {
            let running = found.is_some_and(|found| {
                found
                    .containers
                    .iter()
                    .any(|seen| seen.name == container.name && seen.exit.is_none())
            });
            if !alive || !running {
                container.lost(now);
            }
        }
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> Option<&mut ContainerState> {
        self.containers.iter_mut().find(|container| container.name == name)
    }

    /// The grace period for this pod's end, in ms.
    pub(crate) fn grace_ms(&self) -> u64 {
        let asked_s = self
            .pod
            .meta
            .deletion_grace_period_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .or(self.pod.spec.termination_grace_period_seconds)
            .unwrap_or(30);
        (asked_s.min(crate::limits::GRACE_S_MAX) * 1000).max(crate::limits::GRACE_MS_MIN)
    }

    /// Every container ended, and none will be started again.
    pub(crate) fn finished(&self) -> bool {
        if self.over.is_some() || self.refused.is_some() {
            return true;
        }
        let policy = self.pod.spec.restart_policy;
        !self.containers.is_empty()
            && self.containers.iter().all(|container| match &container.run {
                Run::Ended { exit, .. } => !container.restarts_after(policy, &exit.exit),
                Run::Waiting { .. }
                | Run::Ensuring
                | Run::Starting { .. }
                | Run::Running { .. } => false,
            })
    }

    /// The pod's phase, by kubelet's rules.
    pub(crate) fn phase(&self) -> &'static str {
        if self.refused.is_some() {
            return "Failed";
        }
        if let Some(over) = self.over {
            return over;
        }
        let (mut waiting, mut running, mut failed) = (0, 0, 0);
        for container in &self.containers {
            match &container.run {
                Run::Running { .. } => running += 1,
                Run::Ended { exit, .. } => failed += usize::from(exit.exit.code != 0),
                Run::Waiting { .. } | Run::Ensuring | Run::Starting { .. } => match &container.last
                {
                    Some(last) => failed += usize::from(last.exit.code != 0),
                    None => waiting += 1,
                },
            }
        }
        let at_end = self.stop.is_some() && self.teardown.is_done();
        match (waiting, running, self.pod.spec.restart_policy) {
            (1.., _, _) => "Pending",
            (_, 1.., _) => "Running",
            (_, _, _) if at_end && failed > 0 => "Failed",
            (_, _, _) if at_end => "Succeeded",
            (_, _, RestartPolicy::Always) => "Running",
            (_, _, RestartPolicy::OnFailure) if failed > 0 => "Running",
            (_, _, RestartPolicy::Never) if failed > 0 => "Failed",
            (_, _, RestartPolicy::OnFailure | RestartPolicy::Never) => "Succeeded",
        }
    }
}

/// `Completed`, `Error`, `OOMKilled` or `ContainerStatusUnknown`.
pub(crate) fn reason_of(exit: &Exit) -> String {
    let reason = match exit {
        Exit { unseen: true, .. } => "ContainerStatusUnknown",
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        Exit { .. } => "Error",
    };
    reason.into()
}

fn restore(container: &mut ContainerState, recorded: &Value, now: Now) {
    let text = |name: &str| recorded.get(name).and_then(Value::as_str).unwrap_or_default();
    let count = recorded.get("restartCount").and_then(Value::as_u64).unwrap_or(0);
    let count = u32::try_from(count).unwrap_or(u32::MAX - 1);
    container.image_id = text("imageID").into();
    if text("containerID").is_empty() {
        return;
    }
    container.attempts = count + 1;
    let before = count.saturating_sub(1);
    container.last =
        recorded.pointer("/lastState/terminated").map(|ended| read_ended(ended, before));
    if let Some(ended) = recorded.pointer("/state/terminated") {
        container.run = Run::Ended { exit: read_ended(ended, count), at: now.mono };
    } else if let Some(running) = recorded.pointer("/state/running") {
        let started = running.get("startedAt").and_then(Value::as_str).and_then(parse_rfc3339);
        container.run = Run::Running { attempt: count, started_s: started.unwrap_or(now.wall_s) };
    } else if let Some(last) = container.last.take() {
        // It waited to be restarted: the attempt that ended is the latest one.
        container.run = Run::Ended { exit: Ended { attempt: count, ..last }, at: now.mono };
    }
}

fn read_ended(ended: &Value, attempt: u32) -> Ended {
    let text = |name: &str| ended.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| {
        ended.get(name).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
    };
    let exit = Exit {
        code: number("exitCode").unwrap_or(137),
        signal: number("signal"),
        oom_killed: text("reason") == "OOMKilled",
        unseen: text("reason") == "ContainerStatusUnknown",
        started_s: parse_rfc3339(text("startedAt")).unwrap_or(0),
        finished_s: parse_rfc3339(text("finishedAt")).unwrap_or(0),
        message: text("message").into(),
    };
    Ended { attempt, reason: text("reason").into(), exit }
}
