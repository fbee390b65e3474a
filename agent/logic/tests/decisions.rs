//! Scripts of decisions: events in, the actions they must lead to, in order.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Arc};

use coracle_agent_logic::{
    Action, Agent, Event, Millis, Now, Pod, PodUid,
    event::{Exit, FoundContainer, FoundSandbox, ImageFacts, ImageFault, ImageOrigin, StartFault},
};
use serde_json::{Value, json};

const WALL_S: i64 = 1_790_000_000;

struct Script {
    agent: Agent,
    now_ms: u64,
    statuses: BTreeMap<String, Value>,
    wake: Option<u64>,
}

fn uid(text: &str) -> PodUid {
    PodUid::parse(text).unwrap()
}

fn pod(spec: Value) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": spec,
    })
}

fn simple() -> Value {
    pod(json!({"containers": [{"name": "c", "image": "img"}]}))
}

fn parse(pod: &Value) -> Arc<Pod> {
    Arc::new(Pod::parse(serde_json::to_vec(pod).unwrap().into()).unwrap())
}

impl Script {
    fn new() -> Self {
        let agent = Agent::new(vec!["192.0.2.7".into()]);
        let mut script = Self { agent, now_ms: 1_000_000, statuses: BTreeMap::new(), wake: None };
        assert_eq!(script.send(Event::Recovered(vec![])), "");
        script
    }

    /// Sends an event; gives the actions in short, statuses answered at once.
    fn send(&mut self, event: Event) -> String {
        let mut words = Vec::new();
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now = Now {
                mono: Millis(self.now_ms),
                wall_s: WALL_S + i64::try_from(self.now_ms / 1000).unwrap(),
            };
            let mut out = Vec::new();
            self.agent.step(now, event, &mut out);
            self.wake = None;
            for action in out {
                match action {
                    Action::Keep(_) => {}
                    Action::PrepareVolumes(_) => words.push("volumes".into()),
                    Action::MakeSandbox(_) => words.push("sandbox".into()),
                    Action::EnsureImage(_, c) => words.push(format!("image:{c}")),
                    Action::Start(_, c, n) => words.push(format!("start:{c}.{n}")),
                    Action::Stop(_, c, n) => words.push(format!("stop:{c}.{n}")),
                    Action::Kill(_, c, n) => words.push(format!("kill:{c}.{n}")),
                    Action::TearDown(uid) => words.push(format!("teardown:{uid}")),
                    Action::Forget(uid) => words.push(format!("forget:{uid}")),
                    Action::PatchStatus(uid, version, status) => {
                        words.push(format!("status:{}", brief(&status)));
                        self.statuses.insert(uid.to_string(), status);
                        events.push(Event::StatusAcked(uid, version));
                    }
                    Action::Delete(uid) => words.push(format!("delete:{uid}")),
                    Action::Tell(_, tale) => words.push(tale.reason.to_string()),
                    Action::WakeAt(at) => self.wake = Some(at.0),
                }
            }
        }
        words.join(" ")
    }

    #[track_caller]
    fn check(&mut self, event: Event, want: &str) {
        assert_eq!(self.send(event), want);
    }

    /// Goes on until the machine next wants to be woken; gives the seconds that passed.
    fn sleep(&mut self) -> (u64, String) {
        let at = self.wake.expect("something is due later");
        let passed_ms = at.saturating_sub(self.now_ms);
        self.now_ms = self.now_ms.max(at);
        (passed_ms / 1000, self.send(Event::Timer))
    }

    fn run_to_sandbox(&mut self, pod: &Value) {
        assert_eq!(self.send(Event::PodChanged(parse(pod))), "volumes");
        self.check(Event::VolumesReady(uid("u1")), "sandbox");
        let images: Vec<String> = parse(pod)
            .spec
            .containers
            .iter()
            .map(|container| format!("image:{}", container.name))
            .collect();
        self.check(Event::SandboxMade(uid("u1"), vec!["10.42.0.2".into()]), &images.join(" "));
    }

    fn run(&mut self, pod: &Value) {
        self.run_to_sandbox(pod);
        self.check(image_ready("c"), "Pulled start:c.0");
        self.check(started("c", 0), "Created Started status:Running/c=running");
    }

    fn status(&self) -> &Value {
        &self.statuses["u1"]
    }
}

/// `Running/c=running,d=waiting(ErrImagePull)`.
fn brief(status: &Value) -> String {
    let containers: Vec<String> = status["containerStatuses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| {
            let (kind, state) = container["state"].as_object().unwrap().iter().next().unwrap();
            let reason = state["reason"].as_str().map(|r| format!("({r})")).unwrap_or_default();
            format!("{}={kind}{reason}", container["name"].as_str().unwrap())
        })
        .collect();
    format!("{}/{}", status["phase"].as_str().unwrap(), containers.join(","))
}

fn image_ready(name: &str) -> Event {
    let facts = ImageFacts { id: "img@sha256:1".into(), origin: ImageOrigin::Present };
    Event::ImageReady(uid("u1"), name.into(), facts)
}

fn started(name: &str, attempt: u32) -> Event {
    Event::Started { uid: uid("u1"), container: name.into(), attempt, at_s: WALL_S }
}

fn exited(name: &str, attempt: u32, code: i32) -> Event {
    let exit = Exit { code, finished_s: WALL_S + 1, started_s: WALL_S, ..Exit::default() };
    Event::Exited { uid: uid("u1"), container: name.into(), attempt, exit }
}

fn deleted(pod: &Value, grace_s: i64) -> Event {
    let mut pod = pod.clone();
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-23T15:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace_s);
    Event::PodChanged(parse(&pod))
}

#[test]
fn a_pod_comes_up_in_one_status_write() {
    let mut s = Script::new();
    s.run(&simple());
    let status = s.status();
    assert_eq!(status["podIP"], "10.42.0.2");
    assert_eq!(status["hostIP"], "192.0.2.7");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["containerStatuses"][0]["containerID"], "coracle://u1.c.0");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(status["containerStatuses"][0]["ready"], true);
    let on: Vec<(&str, &str)> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    let want =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    assert_eq!(on, want.map(|kind| (kind, "True")));
}

#[test]
fn a_slow_start_is_told_after_a_second() {
    let mut s = Script::new();
    s.run_to_sandbox(&simple());
    assert_eq!(s.sleep(), (1, "status:Pending/c=waiting(ContainerCreating)".into()));
    s.check(Event::ImagePulling(uid("u1"), "c".into()), "Pulling");
    s.check(image_ready("c"), "Pulled start:c.0");
    s.check(started("c", 0), "Created Started status:Running/c=running");
}

#[test]
fn crashes_back_off_as_kubelets_do() {
    let mut s = Script::new();
    s.run(&simple());
    // The first restart is at once.
    s.check(exited("c", 0, 1), "image:c");
    s.check(image_ready("c"), "Pulled start:c.1");
    s.check(started("c", 1), "Created Started status:Running/c=running");
    assert_eq!(s.status()["containerStatuses"][0]["restartCount"], 1);
    for (attempt, wait_s) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300)] {
        s.check(exited("c", attempt, 3), "BackOff status:Running/c=waiting(CrashLoopBackOff)");
        let status = &s.status()["containerStatuses"][0];
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
        assert_eq!(status["lastState"]["terminated"]["reason"], "Error");
        let message = status["state"]["waiting"]["message"].as_str().unwrap();
        assert!(
            message.ends_with("restarting failed container=c pod=web_default(u1)"),
            "{message}"
        );
        let (passed_s, actions) = s.sleep();
        assert_eq!((passed_s, actions.as_str()), (wait_s, "image:c"));
        s.check(image_ready("c"), &format!("Pulled start:c.{}", attempt + 1));
        s.check(started("c", attempt + 1), "Created Started status:Running/c=running");
    }
    // Ten calm minutes, and it is as new.
    s.now_ms += 700_000;
    s.check(exited("c", 8, 0), "image:c");
}

#[test]
fn policies_decide_about_restarts_and_phases() {
    let check = |policy: &str, code: i32, want: &str| {
        let mut s = Script::new();
        s.run(&pod(
            json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "img"}]}),
        ));
        s.check(exited("c", 0, code), want);
        s
    };
    check("Never", 0, "teardown:u1 status:Succeeded/c=terminated(Completed)");
    check("OnFailure", 0, "teardown:u1 status:Succeeded/c=terminated(Completed)");
    check("OnFailure", 1, "image:c");
    let mut s = check("Never", 7, "teardown:u1 status:Failed/c=terminated(Error)");
    s.check(Event::TornDown(uid("u1")), "status:Failed/c=terminated(Error)");
    let ready = &s.status()["conditions"][2];
    assert_eq!(
        (ready["status"].as_str(), ready["reason"].as_str()),
        (Some("False"), Some("PodFailed"))
    );
}

#[test]
fn oom_and_signals_are_told_apart() {
    let check = |exit: Exit, reason: &str, signal: Option<i64>| {
        let mut s = Script::new();
        s.run(&pod(
            json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "img"}]}),
        ));
        s.send(Event::Exited { uid: uid("u1"), container: "c".into(), attempt: 0, exit });
        let ended = &s.status()["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["reason"], reason);
        assert_eq!(ended["signal"].as_i64(), signal);
    };
    check(
        Exit { code: 137, signal: Some(9), oom_killed: true, ..Exit::default() },
        "OOMKilled",
        Some(9),
    );
    check(Exit { code: 143, signal: Some(15), ..Exit::default() }, "Error", Some(15));
    check(Exit { code: 2, ..Exit::default() }, "Error", None);
}

#[test]
fn deletion_respects_the_grace_period() {
    // R6: TERM now, KILL when the time is over and not before, then the last status, then the delete call.
    let mut s = Script::new();
    s.run(&simple());
    s.check(deleted(&simple(), 30), "Killing stop:c.0 status:Running/c=running");
    assert_eq!(s.sleep(), (30, "kill:c.0".into()));
    // A process that does not die is killed again.
    assert_eq!(s.sleep(), (10, "kill:c.0".into()));
    s.check(exited("c", 0, 137), "teardown:u1 status:Running/c=terminated(Error)");
    s.check(Event::TornDown(uid("u1")), "status:Failed/c=terminated(Error) delete:u1");
    s.check(Event::DeleteAcked(uid("u1")), "forget:u1");
    assert_eq!(s.agent.pods().count(), 0);
}

#[test]
fn a_second_delete_brings_the_end_nearer_never_farther() {
    let mut s = Script::new();
    s.run(&simple());
    s.send(deleted(&simple(), 600));
    s.now_ms += 5_000;
    s.check(deleted(&simple(), 1), "");
    assert_eq!(s.sleep(), (1, "kill:c.0".into()));
}

#[test]
fn a_pod_that_is_gone_is_ended_without_asking() {
    let mut s = Script::new();
    s.run(&simple());
    s.check(Event::Listed([].into()), "Killing stop:c.0");
    s.check(exited("c", 0, 0), "teardown:u1");
    s.check(Event::TornDown(uid("u1")), "forget:u1");
}

#[test]
fn a_stop_during_a_start_waits_for_the_start() {
    let mut s = Script::new();
    s.run_to_sandbox(&simple());
    s.check(image_ready("c"), "Pulled start:c.0");
    s.check(deleted(&simple(), 30), "status:Pending/c=waiting(ContainerCreating)");
    s.check(started("c", 0), "Created Started Killing stop:c.0 status:Running/c=running");
}

#[test]
fn a_stop_before_anything_was_made_deletes_at_once() {
    let unsupported = pod(json!({"containers": [{"name": "c", "livenessProbe": {"exec": {}}}]}));
    let mut s = Script::new();
    s.check(
        Event::PodChanged(parse(&unsupported)),
        "Unsupported status:Pending/c=waiting(ContainerCreating)",
    );
    assert_eq!(
        s.status()["message"],
        "spec.containers[0].livenessProbe is not implemented by this agent yet"
    );
    let actions = s.send(deleted(&unsupported, 30));
    assert!(actions.ends_with("delete:u1"), "{actions}");
    assert!(!actions.contains("teardown"), "{actions}");
}

#[test]
fn images_back_off() {
    let mut s = Script::new();
    s.run_to_sandbox(&simple());
    let fail =
        || Event::ImageFailed(uid("u1"), "c".into(), ImageFault::Pull, "no such host".into());
    s.check(fail(), "Failed Failed status:Pending/c=waiting(ErrImagePull)");
    assert_eq!(s.sleep(), (2, "BackOff status:Pending/c=waiting(ImagePullBackOff)".into()));
    assert_eq!(
        s.status()["containerStatuses"][0]["state"]["waiting"]["message"],
        "Back-off pulling image \"img\": ErrImagePull: no such host"
    );
    assert_eq!(s.sleep(), (10, "image:c".into()));
    assert!(s.wake.is_none());
    s.check(fail(), "Failed Failed status:Pending/c=waiting(ErrImagePull)");
    assert_eq!(s.sleep().0, 2);
    assert_eq!(s.sleep(), (20, "image:c".into()));
    s.check(image_ready("c"), "Pulled start:c.0");
}

#[test]
fn starts_that_fail_say_how_far_they_came() {
    let fail = |fault| Event::StartFailed {
        uid: uid("u1"),
        container: "c".into(),
        attempt: 0,
        fault,
        message: "configmap \"x\" not found".into(),
    };
    let mut s = Script::new();
    s.run_to_sandbox(&simple());
    s.check(image_ready("c"), "Pulled start:c.0");
    s.check(
        fail(StartFault::Config),
        "Failed status:Pending/c=waiting(CreateContainerConfigError)",
    );
    assert_eq!(s.sleep(), (10, "image:c".into()));
    // The attempt was not used up.
    s.check(image_ready("c"), "Pulled start:c.0");
    s.check(fail(StartFault::Run), "Failed image:c");
    assert_eq!(s.sleep().1, "status:Running/c=waiting(ContainerCreating)");
    let last = &s.status()["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(
        (last["reason"].as_str(), last["exitCode"].as_i64()),
        (Some("StartError"), Some(128))
    );
    s.check(image_ready("c"), "Pulled start:c.1");
}

#[test]
fn a_lost_shim_means_a_new_sandbox_and_a_new_attempt() {
    let mut s = Script::new();
    s.run(&simple());
    let actions = s.send(Event::SandboxLost(uid("u1")));
    assert_eq!(actions, "SandboxChanged sandbox");
    assert_eq!(s.sleep(), (1, "status:Running/c=waiting(ContainerCreating)".into()));
    let last = &s.status()["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["reason"], "ContainerStatusUnknown");
    assert_eq!(last["exitCode"], 137);
    s.check(Event::SandboxMade(uid("u1"), vec!["10.42.0.3".into()]), "image:c");
    s.check(image_ready("c"), "Pulled start:c.1");
}

#[test]
fn an_agent_that_starts_again_starts_nothing_twice() {
    // R5: the shim still has attempt 0 running.
    let mut s = Script::new();
    s.run(&simple());
    let recorded = s.status().clone();

    let mut again = Script::new();
    again.agent = Agent::new(vec!["192.0.2.7".into()]);
    again.check(Event::FromDisk(parse(&simple()), Some(recorded.clone())), "");
    let found = |exit: Option<Exit>| FoundSandbox {
        uid: uid("u1"),
        alive: true,
        ips: vec!["10.42.0.2".into()],
        containers: vec![FoundContainer { name: "c".into(), attempt: 0, started_s: WALL_S, exit }],
    };
    again.check(Event::Recovered(vec![found(None)]), "volumes status:Running/c=running");
    assert_eq!(*again.status(), recorded);
    again.check(Event::VolumesReady(uid("u1")), "");
    again.check(Event::PodChanged(parse(&simple())), "");

    // It ended while no agent was there.
    let mut ended = Script::new();
    ended.agent = Agent::new(vec!["192.0.2.7".into()]);
    ended.send(Event::FromDisk(parse(&simple()), Some(recorded.clone())));
    let exit = Exit { code: 5, ..Exit::default() };
    ended.check(Event::Recovered(vec![found(Some(exit))]), "volumes");
    ended.check(Event::VolumesReady(uid("u1")), "image:c");
    ended.check(image_ready("c"), "Pulled start:c.1");

    // The machine was switched off and on: no shim, everything anew.
    let mut rebooted = Script::new();
    rebooted.agent = Agent::new(vec!["192.0.2.7".into()]);
    rebooted.send(Event::FromDisk(parse(&simple()), Some(recorded)));
    rebooted.check(Event::Recovered(vec![]), "volumes");
    rebooted.check(Event::VolumesReady(uid("u1")), "sandbox");
}

/// A power cut took the status and left the shim's record of a start: the number was given again.
#[test]
fn an_attempt_whose_end_nobody_saw_is_not_started_again() {
    let mut s = Script { agent: Agent::new(vec![]), ..Script::new() };
    s.check(Event::FromDisk(parse(&simple()), None), "");
    let exit = Some(Exit::unseen(WALL_S, WALL_S));
    let container = FoundContainer { name: "c".into(), attempt: 4, started_s: WALL_S, exit };
    let containers = vec![container];
    s.send(Event::Recovered(vec![FoundSandbox {
        uid: uid("u1"),
        alive: false,
        ips: vec![],
        containers,
    }]));
    s.send(Event::VolumesReady(uid("u1")));
    s.send(Event::SandboxMade(uid("u1"), vec!["10.42.0.2".into()]));
    s.check(image_ready("c"), "Pulled start:c.5");
}

#[test]
fn a_sandbox_of_nobody_is_taken_down() {
    let found = FoundSandbox { uid: uid("stray"), alive: true, ips: vec![], containers: vec![] };
    // Whether anybody wants it, the list says.
    let mut s = Script { agent: Agent::new(vec![]), ..Script::new() };
    s.check(Event::Recovered(vec![found]), "");
    s.check(Event::Listed([].into()), "teardown:stray");
    s.check(Event::TornDown(uid("stray")), "forget:stray");
}

/// An agent that was killed before it had written a pod down found its containers without a record and ended them,
/// without asking them to stop (R6). Seed 0 of the simulator's standard world.
#[test]
fn a_pod_that_is_on_no_disk_goes_on() {
    let found = |attempt| FoundSandbox {
        uid: uid("u1"),
        alive: true,
        ips: vec!["10.42.0.2".into()],
        containers: vec![FoundContainer {
            name: "c".into(),
            attempt,
            started_s: WALL_S,
            exit: None,
        }],
    };
    let mut s = Script { agent: Agent::new(vec![]), ..Script::new() };
    s.check(Event::Recovered(vec![found(0)]), "");
    s.check(Event::PodChanged(parse(&simple())), "volumes status:Running/c=running");
    s.check(Event::Listed([uid("u1")].into()), "");
    // What happened to it before it was known counts.
    let mut s = Script { agent: Agent::new(vec![]), ..Script::new() };
    s.check(Event::Recovered(vec![found(3)]), "");
    s.check(exited("c", 3, 1), "");
    s.check(Event::PodChanged(parse(&simple())), "volumes");
    s.check(Event::VolumesReady(uid("u1")), "image:c");
    s.check(image_ready("c"), "Pulled start:c.4");
}

/// A start that took long went on after its shim had died and the next attempt ran: two attempts of one container at
/// one time (R5). Seed 37 of the simulator.
#[test]
fn a_start_under_way_when_its_shim_dies_is_waited_for() {
    let to_start = || {
        let mut s = Script::new();
        s.send(Event::PodChanged(parse(&simple())));
        s.send(Event::VolumesReady(uid("u1")));
        s.send(Event::SandboxMade(uid("u1"), vec!["10.42.0.2".into()]));
        s.check(image_ready("c"), "Pulled start:c.0");
        // No new sandbox yet, in which the old start could come up.
        s.check(Event::SandboxLost(uid("u1")), "SandboxChanged");
        s
    };
    let at_s = WALL_S;
    let mut s = to_start();
    let started = Event::Started { uid: uid("u1"), container: "c".into(), attempt: 0, at_s };
    s.check(started, "Created Started sandbox");
    s.check(Event::SandboxMade(uid("u1"), vec!["10.42.0.3".into()]), "image:c");
    s.check(image_ready("c"), "Pulled start:c.1");
    let mut s = to_start();
    let (fault, message) = (StartFault::Create, "its shim is gone".into());
    let container = "c".into();
    let failed = Event::StartFailed { uid: uid("u1"), container, attempt: 0, fault, message };
    assert!(s.send(failed).contains("sandbox"));
}

/// An image that came after the shim had died was started without a sandbox (R1). Found beside seed 37.
#[test]
fn an_image_that_comes_after_its_sandbox_has_gone_waits() {
    let mut s = Script::new();
    s.send(Event::PodChanged(parse(&simple())));
    s.send(Event::VolumesReady(uid("u1")));
    s.check(Event::SandboxMade(uid("u1"), vec!["10.42.0.2".into()]), "image:c");
    s.check(Event::SandboxLost(uid("u1")), "SandboxChanged sandbox");
    s.check(image_ready("c"), "Pulled");
    s.check(Event::SandboxMade(uid("u1"), vec!["10.42.0.3".into()]), "image:c");
    s.check(image_ready("c"), "Pulled start:c.0");
}

#[test]
fn a_pod_that_ended_before_is_not_run_again() {
    let mut ended = simple();
    ended["status"] = json!({"phase": "Succeeded", "containerStatuses": [{
        "name": "c", "restartCount": 0, "containerID": "coracle://u1.c.0",
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
    let mut s = Script::new();
    let actions = s.send(Event::PodChanged(parse(&ended)));
    assert_eq!(actions, "status:Succeeded/c=terminated(Completed)");
    assert!(s.send(deleted(&ended, 0)).ends_with("delete:u1"));
}

#[test]
fn what_an_end_left_is_removed_by_the_next_life_of_the_agent() {
    let agent = Agent::new(vec!["192.0.2.7".into()]);
    let mut s = Script { agent, now_ms: 1_000_000, statuses: BTreeMap::new(), wake: None };
    let over = json!({"phase": "Failed", "containerStatuses": [{
        "name": "c", "restartCount": 0, "containerID": "coracle://u1.c.0",
        "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
    s.check(Event::FromDisk(parse(&simple()), Some(over)), "");
    let actions = s.send(Event::Recovered(vec![]));
    assert_eq!(actions, "teardown:u1 status:Failed/c=terminated(Error)");
    s.check(Event::TornDown(uid("u1")), "");
    s.check(Event::PodGone(uid("u1")), "forget:u1");
}

#[test]
fn a_changed_image_replaces_the_container() {
    let mut s = Script::new();
    s.run(&simple());
    let mut changed = simple();
    changed["spec"]["containers"][0]["image"] = json!("img:2");
    s.check(Event::PodChanged(parse(&changed)), "Killing stop:c.0 status:Running/c=running");
    s.check(exited("c", 0, 0), "image:c");
    s.check(image_ready("c"), "Pulled start:c.1");
}

#[test]
fn an_active_deadline_ends_the_pod() {
    let mut s = Script::new();
    s.run(&pod(json!({"activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "c", "image": "img"}]})));
    assert_eq!(s.sleep(), (60, "Killing stop:c.0 status:Failed/c=running".into()));
    assert_eq!(s.sleep(), (5, "kill:c.0".into()));
    s.check(exited("c", 0, 137), "teardown:u1 status:Failed/c=terminated(Error)");
    s.check(Event::TornDown(uid("u1")), "status:Failed/c=terminated(Error)");
    assert_eq!(s.status()["reason"], "DeadlineExceeded");
    assert!(s.send(deleted(&simple(), 0)).ends_with("delete:u1"));
}

#[test]
fn late_answers_about_something_else_change_nothing() {
    let mut s = Script::new();
    s.run(&simple());
    s.check(exited("c", 4, 1), "");
    s.check(exited("d", 0, 1), "");
    s.check(started("c", 0), "");
    s.check(image_ready("c"), "");
    s.check(
        Event::Exited { uid: uid("u2"), container: "c".into(), attempt: 0, exit: Exit::default() },
        "",
    );
}

#[test]
fn setup_is_tried_again() {
    let mut s = Script::new();
    s.check(Event::PodChanged(parse(&simple())), "volumes");
    s.check(Event::VolumesFailed(uid("u1"), "configmap \"x\" not found".into()), "FailedMount");
    assert_eq!(s.sleep().1, "volumes");
    s.check(Event::VolumesReady(uid("u1")), "sandbox");
    s.check(Event::SandboxFailed(uid("u1"), "no address left".into()), "FailedCreatePodSandBox");
    // Half a second each; the status waits for a second.
    assert_eq!(s.sleep().1, "sandbox status:Pending/c=waiting(ContainerCreating)");
}

#[test]
fn what_others_said_of_its_pod_is_put_right() {
    let mut script = Script::new();
    script.run(&simple());
    // Its node was lost for a while: the control plane marked the pod as not ready.
    let mut marked = simple();
    marked["status"] = json!({"conditions": [{"type": "Ready", "status": "False"}]});
    script.check(Event::PodChanged(parse(&marked)), "status:Running/c=running");
    let ready = |status: &Value| {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().find(|one| one["type"] == "Ready").unwrap()["status"].clone()
    };
    assert_eq!(ready(script.status()), "True");
    // Its own word is not answered.
    marked["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    script.check(Event::PodChanged(parse(&marked)), "");
}

#[test]
fn a_container_that_comes_up_in_a_dying_pod_has_its_whole_grace_period() {
    let mut script = Script::new();
    let mut dying = simple();
    script.run_to_sandbox(&dying);
    script.check(image_ready("c"), "Pulled start:c.0");
    dying["metadata"]["deletionTimestamp"] = json!("2026-09-21T00:00:00Z");
    dying["metadata"]["deletionGracePeriodSeconds"] = json!(5);
    script.send(Event::PodChanged(parse(&dying)));
    script.now_ms += 4_000;
    let words = script.send(started("c", 0));
    assert!(words.contains("stop:c.0") && !words.contains("kill"), "{words}");
    assert_eq!(script.sleep(), (5, "kill:c.0".into()));
}

#[test]
fn what_falls_due_while_another_pod_has_news_is_not_forgotten() {
    let mut script = Script::new();
    script.run(&simple());
    script.check(exited("c", 0, 1), "image:c");
    script.check(image_ready("c"), "Pulled start:c.1");
    script.send(started("c", 1));
    script.check(exited("c", 1, 1), "BackOff status:Running/c=waiting(CrashLoopBackOff)");
    let due = script.wake.unwrap();
    // Before the timer fires, the other pod has something to say: at that very time, or later on a busy board.
    for late_ms in [0, 700] {
        script.now_ms = due + late_ms;
        let mut other = simple();
        other["metadata"]["uid"] = json!("u2");
        script.check(Event::PodChanged(parse(&other)), if late_ms == 0 { "volumes" } else { "" });
        assert_eq!(script.wake, Some(due), "{late_ms}");
    }
    assert_eq!(script.sleep().1, "image:c");
    assert_ne!(script.wake, Some(due));
}
