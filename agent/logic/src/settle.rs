//! What to do next for one pod, from what is known of it. Called after every event about the pod and when time has
//! come; asks for nothing twice while it is under way.

use alloc::{format, string::String, vec::Vec};

use crate::{
    canary::{Canary, Switch},
    event::{Action, Tale},
    limits,
    pod::{ContainerState, Ended, PodState, Run, Stop, Wait, Why},
    spec::PodUid,
    status,
    time::{Millis, Now},
};

/// Whether the pod stays known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use = "a pod that is over has to be dropped"]
pub(crate) enum Fate {
    /// It stays.
    Stays,
    /// All of it is gone.
    Over,
}

/// Asks for what is due. `host_ips` are the node's addresses.
pub(crate) fn settle(
    state: &mut PodState,
    host_ips: &[String],
    canary: Switch,
    now: Now,
    out: &mut Vec<Action>,
) -> Fate {
    state.settled = now.mono;
    if state.stop.is_none() {
        begin_stop(state, now);
    } else {
        shorten_stop(state, now);
    }
    let fate = if state.stop.is_some() || state.finished() {
        wind_down(state, canary, now, out)
    } else {
        bring_up(state, canary, now, out);
        Fate::Stays
    };
    if fate == Fate::Stays {
        report(state, host_ips, now, out);
        // The last word about a pod comes before its deletion.
        let deleted = state.stop.is_some_and(|stop| stop.why == Why::Deleted);
        if deleted
            && state.teardown.is_done()
            && state.outbox.is_settled()
            && state.delete.take(now.mono)
        {
            out.push(Action::Delete(state.pod.uid.clone()));
        }
    }
    fate
}

/// The earliest time at which something becomes due by itself. What was due when the pod was last settled waits for an
/// event; what became due since then, while events about other pods came, is owed a timer.
pub(crate) fn wake(state: &PodState) -> Option<Millis> {
    let outbox = &state.outbox;
    let dirty = outbox.acked != outbox.version && !outbox.in_flight;
    let send = dirty.then(|| outbox.not_before.max(outbox.hold_until.unwrap_or_default()));
    let steps = [&state.volumes, &state.sandbox, &state.teardown, &state.delete];
    let steps = steps.into_iter().filter_map(|step| step.wake());
    let stopping = state.stop;
    let deadline = deadline(state).filter(|_| stopping.is_none() && !state.finished());
    let containers = state.containers.iter().filter_map(|container| {
        if !container.is_live() {
            return if stopping.is_none() { container.wake() } else { None };
        }
        let asked = container.stop_sent?;
        let kill_at = container.replace.or(stopping.map(|stop| stop.kill_at(asked)))?;
        Some(container.kill_sent.map_or(kill_at, |sent| sent.plus(limits::KILL_RETRY_MS)))
    });
    steps.chain(send).chain(deadline).chain(containers).filter(|at| *at > state.settled).min()
}

fn deadline(state: &PodState) -> Option<Millis> {
    let seconds = state.pod.spec.active_deadline_seconds?;
    Some(state.active_since.plus(seconds.min(limits::GRACE_S_MAX) * 1000))
}

fn begin_stop(state: &mut PodState, now: Now) {
    let why = if state.pod.meta.deletion_timestamp.is_some() {
        Why::Deleted
    } else if !state.finished() && deadline(state).is_some_and(|deadline| deadline <= now.mono) {
        let message = "Pod was active on the node longer than the specified deadline";
        state.refused = Some(("DeadlineExceeded", message.into()));
        Why::Deadline
    } else {
        return;
    };
    state.stop = Some(Stop { why, since: now.mono, grace_ms: state.grace_ms() });
}

/// A second `kubectl delete --grace-period` can only bring the end nearer.
fn shorten_stop(state: &mut PodState, now: Now) {
    let grace_ms = state.grace_ms();
    let deleted = state.pod.meta.deletion_timestamp.is_some();
    let Some(stop) = &mut state.stop else { return };
    if stop.why == Why::Deadline && deleted {
        stop.why = Why::Deleted;
    }
    let until_ms = now.mono.since(stop.since).saturating_add(grace_ms);
    if deleted && grace_ms < stop.grace_ms && until_ms < stop.grace_ms {
        stop.grace_ms = until_ms;
    }
}

fn wind_down(state: &mut PodState, canary: Switch, now: Now, out: &mut Vec<Action>) -> Fate {
    let uid = state.pod.uid.clone();
    // `finished` without `stop`: nothing lives, nothing is owed but cleaning up.
    let stop = state.stop;
    for container in &mut state.containers {
        let asked = container.stop_sent.unwrap_or(now.mono);
        let kill_at = stop.map_or(now.mono, |stop| stop.kill_at(asked));
        let kill_at = if canary.sings(Canary::KillsAtOnce) { now.mono } else { kill_at };
        match container.run {
            Run::Running { attempt, .. } => end(&uid, container, attempt, kill_at, now, out),
            // An image that is being looked for is no longer wanted.
            Run::Ensuring => container.run = Run::Waiting { until: Millis(u64::MAX) },
            Run::Starting { .. } | Run::Waiting { .. } | Run::Ended { .. } => {}
        }
    }
    let busy = state.sandbox.is_doing()
        || state.volumes.is_doing()
        || state.containers.iter().any(ContainerState::is_live);
    if busy {
        return Fate::Stays;
    }
    if state.sandbox.untouched() && state.volumes.untouched() && state.teardown.untouched() {
        state.teardown.done();
    }
    if state.teardown.take(now.mono) {
        out.push(Action::TearDown(uid.clone()));
    }
    if state.teardown.is_done() && state.stop.is_some_and(|stop| stop.why == Why::Gone) {
        out.push(Action::Forget(uid));
        return Fate::Over;
    }
    Fate::Stays
}

/// Asks a running attempt to stop, and ends it when its time is over (R6).
fn end(
    uid: &PodUid,
    container: &mut ContainerState,
    attempt: u32,
    kill_at: Millis,
    now: Now,
    out: &mut Vec<Action>,
) {
    if container.stop_sent.is_none() {
        container.stop_sent = Some(now.mono);
        let message = format!("Stopping container {}", container.name);
        tell(uid, container, false, "Killing", message, out);
        out.push(Action::Stop(uid.clone(), container.name.clone(), attempt));
    }
    let due = container.kill_sent.map_or(kill_at, |sent| sent.plus(limits::KILL_RETRY_MS));
    if due <= now.mono {
        container.kill_sent = Some(now.mono);
        out.push(Action::Kill(uid.clone(), container.name.clone(), attempt));
    }
}

fn bring_up(state: &mut PodState, canary: Switch, now: Now, out: &mut Vec<Action>) {
    let uid = state.pod.uid.clone();
    if let Some(field) = &state.pod.unsupported {
        if !state.told_unsupported {
            state.told_unsupported = true;
            let tale = Tale {
                warning: true,
                reason: "Unsupported",
                message: field.clone(),
                container: None,
            };
            out.push(Action::Tell(uid, tale));
        }
        return;
    }
    if state.volumes.take(now.mono) {
        out.push(Action::PrepareVolumes(uid.clone()));
    }
    // Living containers are looked after even while their volumes are read anew (after a restart of the agent).
    // A start under way belongs to the old sandbox: in a new one it could come up beside the next attempt (R5).
    let starting = state.containers.iter().any(ContainerState::is_starting);
    if state.volumes.is_done() && !starting && state.sandbox.take(now.mono) {
        out.push(Action::MakeSandbox(uid.clone()));
    }
    let is_caged = state.sandbox.is_done() || canary.sings(Canary::StartsUncaged);
    let can_start = state.volumes.is_done() && is_caged;
    let policy = state.pod.spec.restart_policy;
    let full_name = state.pod.full_name();
    for container in &mut state.containers {
        match &container.run {
            Run::Running { attempt, .. } => {
                if let Some(kill_at) = container.replace {
                    let attempt = *attempt;
                    end(&uid, container, attempt, kill_at, now, out);
                }
            }
            Run::Ended { exit, at } if container.restarts_after(policy, &exit.exit) => {
                let (exit, at) = (exit.clone(), *at);
                again(&uid, &full_name, container, exit, at, now, out);
            }
            Run::Waiting { .. } | Run::Ensuring | Run::Starting { .. } | Run::Ended { .. } => {}
        }
        if let Run::Waiting { until } = container.run {
            let pulling_back = container.wait.reason == "ErrImagePull";
            if pulling_back && until <= now.mono {
                back_off_pull(&uid, container, now, out);
            } else if can_start && until <= now.mono {
                container.run = Run::Ensuring;
                out.push(Action::EnsureImage(uid.clone(), container.name.clone()));
            }
        }
    }
}

/// A container that ended and is to run again: at once, or after its back-off.
fn again(
    uid: &PodUid,
    full_name: &str,
    container: &mut ContainerState,
    exit: Ended,
    ended: Millis,
    now: Now,
    out: &mut Vec<Action>,
) {
    let replaced = container.replace.take().is_some();
    let due = if replaced { None } else { container.restart.due(now.mono, ended) };
    container.last = Some(exit);
    if let Some(due) = due {
        let delay_s = container.restart.delay_ms() / 1000;
        let name = &container.name;
        container.wait = Wait {
            reason: "CrashLoopBackOff",
            message: format!(
                "back-off {} restarting failed container={name} pod={full_name}",
                go_seconds(delay_s)
            ),
        };
        let message = format!("Back-off restarting failed container {name} in pod {full_name}");
        tell(uid, container, true, "BackOff", message, out);
        container.restart.advance(due);
        container.run = Run::Waiting { until: due };
    } else {
        if !replaced {
            container.restart.advance(now.mono);
        }
        container.wait = Wait::creating();
        container.run = Run::Waiting { until: now.mono };
    }
}

/// `ErrImagePull` was shown long enough: from now on it is a back-off.
fn back_off_pull(uid: &PodUid, container: &mut ContainerState, now: Now, out: &mut Vec<Action>) {
    let image = container.image.clone();
    let cause = core::mem::take(&mut container.wait.message);
    container.wait = Wait {
        reason: "ImagePullBackOff",
        message: format!("Back-off pulling image \"{image}\": ErrImagePull: {cause}"),
    };
    tell(uid, container, false, "BackOff", format!("Back-off pulling image \"{image}\""), out);
    container.run = Run::Waiting { until: now.mono.plus(container.pull.delay_ms()) };
}

pub(crate) fn tell(
    uid: &PodUid,
    container: &ContainerState,
    warning: bool,
    reason: &'static str,
    message: String,
    out: &mut Vec<Action>,
) {
    let message = cut(message);
    let tale = Tale { warning, reason, message, container: Some(container.name.clone()) };
    out.push(Action::Tell(uid.clone(), tale));
}

/// Cuts a message at the limit, at a character's border.
pub(crate) fn cut(mut message: String) -> String {
    if message.len() > limits::MESSAGE_BYTES_MAX {
        let mut end = limits::MESSAGE_BYTES_MAX - 3;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str("...");
    }
    message
}

/// `10s`, `1m20s`, `5m0s`: durations as kubelet's messages have them.
fn go_seconds(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

/// Sends the status if it changed, unless it only says "still starting" and may soon say more.
fn report(state: &mut PodState, host_ips: &[String], now: Now, out: &mut Vec<Action>) {
    if state.stop.is_some_and(|stop| stop.why == Why::Gone) {
        return;
    }
    let status = status::build(state, host_ips, now);
    let text = format!("{status}");
    let starting = |container: &ContainerState| match container.run {
        Run::Running { .. } => false,
        Run::Waiting { .. } | Run::Ensuring | Run::Starting { .. } | Run::Ended { .. } => true,
    };
    let calm = state.stop.is_none()
        && !state.finished()
        && state.pod.unsupported.is_none()
        && state.containers.iter().any(starting)
        && state
            .containers
            .iter()
            .all(|container| !starting(container) || container.wait.is_calm());
    let outbox = &mut state.outbox;
    if outbox.text != text {
        outbox.text = text;
        outbox.version += 1;
    }
    if outbox.acked == outbox.version || outbox.in_flight {
        return;
    }
    if calm {
        let hold = *outbox.hold_until.get_or_insert(now.mono.plus(limits::STATUS_HOLD_MS));
        if now.mono < hold {
            return;
        }
    }
    outbox.hold_until = None;
    if outbox.not_before <= now.mono {
        outbox.in_flight = true;
        out.push(Action::PatchStatus(state.pod.uid.clone(), outbox.version, status));
    }
}
