//! One board: the real pod machine, its shell played, its runtime faked. What the shell does in tasks takes time here,
//! and an agent that is killed leaves half of it done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use coracle_agent_logic::{
    Action, Agent, Event, Millis, Now, Pod, PodUid,
    canary::Switch,
    event::{ImageFacts, ImageFault, ImageOrigin, StartFault},
    fake::{Process, Runtime},
    node::{self, NodeFacts},
};
use coracle_control_logic::call::Peer;
use serde_json::Value;

use crate::{
    client::NO_IMAGE,
    clock::Clock,
    reflector::{Reflector, Seen},
    register::Registration,
    wire::{HostEvent, Method, News, Order, Scene, Tag, request, text},
    world::World,
};

/// A call of the pod machine's that is under way.
#[derive(Debug)]
enum Pending {
    Status(PodUid, u64),
    Delete(PodUid),
    Forgotten,
}

/// Which messages between a board and the control plane are lost.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All.
    Both,
    /// Those of the agent.
    ToServer,
    /// Those to the agent.
    FromServer,
}

/// One board.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    peer: Peer,
    facts: NodeFacts,
    /// Of the agent; news for an earlier one is lost.
    pub life: u64,
    /// Messages are lost until then, in ms.
    pub cut_off_until: u64,
    /// Which of them.
    pub cut: Cut,
    /// Its agent stands still until then, in ms.
    pub paused_until: u64,
    /// Its clocks.
    pub clock: Clock,
    agent: Option<Agent>,
    disk: BTreeMap<PodUid, (Arc<Pod>, Option<Value>)>,
    /// What shims hold.
    pub runtime: Runtime,
    pods: Reflector,
    registration: Registration,
    calls: BTreeMap<Tag, Pending>,
    acts: BTreeMap<Tag, Action>,
    wake: Option<(Tag, u64)>,
    /// When each living attempt was asked to stop, in this life of the agent, in ms (R6).
    asked_to_stop: BTreeMap<(PodUid, String, u32), u64>,
    /// Pods whose sandbox the agent knows to be there, in this life (R1).
    caged: BTreeSet<PodUid>,
    canary: Switch,
    fail_action: u64,
    slow_action: u64,
    deaf: u64,
}

impl Node {
    /// A board without an agent.
    pub fn new(index: usize, world: &World, canary: Switch) -> Self {
        let name = format!("board{index}");
        let peer = Peer {
            common_name: format!("system:node:{name}"),
            organizations: vec!["system:nodes".into()],
        };
        let facts = NodeFacts {
            name: name.clone(),
            hostname: name.clone(),
            ips: vec![format!("192.168.7.{}", index + 10)],
            architecture: "arm64".into(),
            kernel: "6.12.0".into(),
            os_image: "Debian GNU/Linux 12 (bookworm)".into(),
            cpus: world.cpus,
            memory_bytes: 1 << 30,
            memory_free_bytes: 700 << 20,
            disk_bytes: 32 << 30,
            disk_free_bytes: 20 << 30,
            pids: (100, 32_768),
            ..NodeFacts::default()
        };
        let selector = format!("fieldSelector=spec.nodeName%3D{name}");
        Self {
            pods: Reflector::new(peer.clone(), "/api/v1/pods", &selector),
            registration: Registration::new(peer.clone(), facts.clone()),
            name,
            peer,
            facts,
            life: 0,
            cut_off_until: 0,
            cut: Cut::Both,
            paused_until: 0,
            clock: Clock::default(),
            agent: None,
            disk: BTreeMap::new(),
            runtime: Runtime::default(),
            calls: BTreeMap::new(),
            acts: BTreeMap::new(),
            wake: None,
            asked_to_stop: BTreeMap::new(),
            canary,
            caged: BTreeSet::new(),
            fail_action: 0,
            slow_action: 0,
            deaf: 0,
        }
    }

    /// What its pods may ask for together: milli-cores and bytes of memory.
    pub fn allocatable(&self) -> (u64, u64) {
        (node::allocatable_cpu_milli(&self.facts), node::allocatable_memory_bytes(&self.facts))
    }

    /// Whether an agent runs.
    pub fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// Nothing is left of pods that this answers `false` for, and what runs is what the machine knows.
    pub fn holds_only(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.agent.is_some()
            && self.acts.is_empty()
            && self.runtime.sandboxes().all(|(uid, _)| wanted(uid.as_str()))
            && self.disk.keys().all(|uid| wanted(uid.as_str()))
    }

    /// The agent starts: pods from disk, what shims have, then the control plane.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn start(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        self.life += 1;
        self.agent = Some(Agent::new(self.facts.ips.clone()).with_canary(self.canary));
        for (pod, status) in self.disk.values().cloned().collect::<Vec<_>>() {
            self.step(Event::FromDisk(pod, status), scene)?;
        }
        let found = self.runtime.found();
        self.step(Event::Recovered(found), scene)?;
        let selector = format!("fieldSelector=spec.nodeName%3D{}", self.name);
        self.pods = Reflector::new(self.peer.clone(), "/api/v1/pods", &selector);
        self.registration = Registration::new(self.peer.clone(), self.facts.clone());
        self.pods.start(scene);
        self.registration.start(scene);
        Ok(())
    }

    /// The agent is killed. Of what it had begun, some is done all the same.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn kill(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        for action in std::mem::take(&mut self.acts).into_values() {
            if scene.rng.chance(500) {
                let _unheard = self.carry_out(action, scene)?;
            }
        }
        self.life += 1;
        self.agent = None;
        self.calls.clear();
        self.wake = None;
        self.asked_to_stop.clear();
        Ok(())
    }

    /// The board loses power: all processes end; its disk stays.
    pub fn reboot(&mut self) {
        self.acts.clear();
        self.life += 1;
        self.agent = None;
        self.calls.clear();
        self.wake = None;
        self.asked_to_stop.clear();
        self.runtime.reboot();
    }

    /// A shim dies, if there is one.
    pub fn lose_shim(&mut self, scene: &mut Scene<'_>) -> Result<(), String> {
        let Some(uid) = self.some_sandbox(scene) else { return Ok(()) };
        self.runtime.lose_shim(&uid);
        self.step(Event::SandboxLost(uid), scene)
    }

    /// A container crashes, if one runs.
    pub fn crash(&mut self, scene: &mut Scene<'_>) {
        let Some(uid) = self.some_sandbox(scene) else { return };
        let running = self.runtime.sandboxes().filter(|(of, _)| **of == uid).find_map(|(_, of)| {
            of.containers.iter().find(|(_, process)| matches!(process, Process::Runs(_)))
        });
        if let Some(((name, attempt), _)) = running {
            let code = scene.rng.pick(&[0, 1, 137], 1);
            let exits = HostEvent::Exits(uid, name.clone(), *attempt, code);
            scene.orders.push(Order::Host(1, exits));
        }
    }

    fn some_sandbox(&self, scene: &mut Scene<'_>) -> Option<PodUid> {
        let alive: Vec<&PodUid> =
            self.runtime.sandboxes().filter(|(_, of)| of.alive).map(|(uid, _)| uid).collect();
        let at = usize::try_from(scene.rng.below(alive.len() as u64)).unwrap_or(0);
        alive.get(at).map(|uid| (*uid).clone())
    }

    /// Sets the weather.
    pub fn weather(&mut self, world: &World) {
        self.fail_action = world.fail_action;
        self.slow_action = world.slow_action;
        self.deaf = world.deaf;
    }

    /// Something happens on the board by itself.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn host(&mut self, event: HostEvent, scene: &mut Scene<'_>) -> Result<(), String> {
        match event {
            HostEvent::Exits(uid, name, attempt, code) => {
                if self.runtime.end(&uid, &name, attempt, code, wall_s(scene.wall_ms)) {
                    let ms = scene.rng.between(1, 50);
                    scene.orders.push(Order::Host(ms, HostEvent::Told(uid, name, attempt)));
                }
                Ok(())
            }
            HostEvent::Told(uid, name, attempt) => match self.runtime.exit(&uid, &name, attempt) {
                Some(exit) => {
                    self.step(Event::Exited { uid, container: name, attempt, exit }, scene)
                }
                None => Ok(()),
            },
        }
    }

    /// Takes news.
    ///
    /// # Errors
    /// A promise is broken.
    pub fn news(&mut self, news: &News, scene: &mut Scene<'_>) -> Result<(), String> {
        if self.agent.is_none() {
            return Ok(());
        }
        self.registration.news(news, scene)?;
        for seen in self.pods.news(news, scene)? {
            self.seen(seen, scene)?;
        }
        let tag = news.tag();
        if let Some(action) = self.acts.remove(&tag) {
            for event in self.carry_out(action, scene)? {
                self.step(event, scene)?;
            }
        }
        if self.wake.is_some_and(|(wake, _)| wake == tag) {
            self.wake = None;
            self.step(Event::Timer, scene)?;
        }
        if let Some(pending) = self.calls.remove(&tag) {
            let code = if let News::Answer(_, code, _) = news { Some(*code) } else { None };
            let is_done = matches!(code, Some(200..=299 | 404 | 409));
            let event = match pending {
                Pending::Status(uid, version) if is_done => Event::StatusAcked(uid, version),
                Pending::Status(uid, _) => Event::StatusFailed(uid),
                Pending::Delete(uid) if is_done => Event::DeleteAcked(uid),
                Pending::Delete(uid) => Event::DeleteFailed(uid),
                Pending::Forgotten => return Ok(()),
            };
            if matches!(code, Some(400 | 401 | 403 | 422)) {
                return Err(format!("{}: {event:?} was answered {news:?}", self.name));
            }
            self.step(event, scene)?;
        }
        Ok(())
    }

    fn seen(&mut self, seen: Seen, scene: &mut Scene<'_>) -> Result<(), String> {
        match seen {
            Seen::Listed(_, items) => {
                let mut uids = BTreeSet::new();
                for item in &items {
                    uids.extend(PodUid::parse(text(item, "/metadata/uid")));
                    self.pod(item, scene)?;
                }
                self.step(Event::Listed(uids), scene)
            }
            Seen::Line(kind, item) => match kind.as_str() {
                "ADDED" | "MODIFIED" => self.pod(&item, scene),
                "DELETED" => match PodUid::parse(text(&item, "/metadata/uid")) {
                    Some(uid) => self.step(Event::PodGone(uid), scene),
                    None => Ok(()),
                },
                _ => Ok(()),
            },
        }
    }

    fn pod(&mut self, item: &Value, scene: &mut Scene<'_>) -> Result<(), String> {
        let pod = Pod::parse(item.to_string().into_bytes().into()).map_err(|error| error.0)?;
        if let Some(field) = &pod.unsupported {
            return Err(format!("{}: the agent cannot run the quick start: {field}", self.name));
        }
        self.step(Event::PodChanged(Arc::new(pod)), scene)
    }

    fn step(&mut self, event: Event, scene: &mut Scene<'_>) -> Result<(), String> {
        let Some(agent) = &mut self.agent else { return Ok(()) };
        let mono = self.clock.mono(scene.now_ms);
        let now = Now { mono: Millis(mono), wall_s: wall_s(scene.wall_ms) };
        let name = &self.name;
        scene.trace.say(scene.now_ms, || format!("{name}: {event:?}"));
        if let Event::Recovered(found) = &event {
            let alive = found.iter().filter(|one| one.alive);
            self.caged = alive.map(|one| one.uid.clone()).collect();
        } else if let Event::SandboxMade(uid, _) = &event {
            self.caged.insert(uid.clone());
        } else if let Event::SandboxLost(uid) | Event::TornDown(uid) = &event {
            self.caged.remove(uid);
        }
        let mut actions = Vec::new();
        agent.step(now, event, &mut actions);
        self.wake = None;
        for action in actions {
            self.begin(action, scene)?;
        }
        Ok(())
    }

    /// What the shell does at once, and what it begins.
    fn begin(&mut self, action: Action, scene: &mut Scene<'_>) -> Result<(), String> {
        match action {
            Action::WakeAt(at) => {
                let ms = at.0.saturating_sub(self.clock.mono(scene.now_ms));
                let tag = scene.after(self.clock.really(ms).max(1));
                self.wake = Some((tag, at.0));
                return Ok(());
            }
            Action::Tell(uid, tale) => {
                let Some(pod) = self.pod_of(&uid) else { return Ok(()) };
                let body =
                    crate::register::event(&self.name, &pod, &tale, scene.wall_ms, scene.rng);
                let url = format!("/api/v1/namespaces/{}/events", pod.meta.namespace);
                let tag = scene.call(request(&self.peer, Method::Post, &url, &body));
                self.calls.insert(tag, Pending::Forgotten);
                return Ok(());
            }
            Action::Start(ref uid, ref name, _) if !self.caged.contains(uid) => {
                return Err(format!("R1: {name} of pod {uid} is started without a sandbox"));
            }
            Action::Start(..) => {}
            Action::Stop(ref uid, ref name, attempt) => {
                let of = (uid.clone(), name.clone(), attempt);
                let mono = self.clock.mono(scene.now_ms);
                self.asked_to_stop.entry(of).or_insert(mono);
            }
            Action::Kill(ref uid, ref name, attempt) => self.may_kill(uid, name, attempt, scene)?,
            Action::Keep(_)
            | Action::PrepareVolumes(_)
            | Action::MakeSandbox(_)
            | Action::EnsureImage(..)
            | Action::TearDown(_)
            | Action::Forget(_)
            | Action::PatchStatus(..)
            | Action::Delete(_) => {}
        }
        let most = if scene.rng.chance(100) { 2_000 } else { 30 };
        let most = if scene.rng.chance(self.slow_action) { 60_000 } else { most };
        let name = &self.name;
        scene.trace.say(scene.now_ms, || format!("{name}: begins {}", short(&action)));
        let ms = scene.rng.between(1, most);
        let tag = scene.after(ms);
        self.acts.insert(tag, action);
        Ok(())
    }

    /// R6: nothing is killed before its grace period is over.
    fn may_kill(
        &self,
        uid: &PodUid,
        name: &str,
        attempt: u32,
        scene: &Scene<'_>,
    ) -> Result<(), String> {
        let Some(pod) = self.pod_of(uid) else { return Ok(()) };
        let of = (uid.clone(), name.to_owned(), attempt);
        let Some(asked) = self.asked_to_stop.get(&of) else {
            return Err(format!("R6: {name} of pod {uid} is killed without being asked to stop"));
        };
        let deletion = pod.meta.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
        let grace_s = deletion.or(pod.spec.termination_grace_period_seconds).unwrap_or(30);
        let given_ms = self.clock.mono(scene.now_ms) - asked;
        if given_ms < (grace_s * 1000).max(1000) {
            return Err(format!("R6: {name} of pod {uid} got {given_ms} ms of {grace_s} s"));
        }
        Ok(())
    }

    fn pod_of(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.agent.as_ref()?.pod(uid).cloned()
    }

    /// An action takes effect; gives what the machine is told of it.
    fn carry_out(&mut self, action: Action, scene: &mut Scene<'_>) -> Result<Vec<Event>, String> {
        let fails = scene.rng.chance(self.fail_action);
        let why = || String::from("the simulator wants it to fail");
        let events = match action {
            Action::Keep(uid) => {
                if let Some(pod) = self.pod_of(&uid) {
                    let status = self.disk.remove(&uid).and_then(|(_, status)| status);
                    self.disk.insert(uid, (pod, status));
                }
                vec![]
            }
            Action::PrepareVolumes(uid) if fails => vec![Event::VolumesFailed(uid, why())],
            Action::PrepareVolumes(uid) => vec![Event::VolumesReady(uid)],
            Action::MakeSandbox(uid) if fails => vec![Event::SandboxFailed(uid, why())],
            Action::MakeSandbox(uid) => {
                if self.pod_of(&uid).is_none() {
                    return Ok(vec![]);
                }
                let ip = self.runtime.make(&uid);
                vec![Event::SandboxMade(uid, vec![ip])]
            }
            Action::EnsureImage(uid, name) => self.image(uid, name, fails, scene),
            Action::Start(uid, name, attempt) => {
                self.start_container(uid, name, attempt, fails, scene)?
            }
            Action::Stop(uid, name, attempt) => {
                // Most listen; some take longer than they are given.
                if scene.rng.chance(self.deaf) {
                    return Ok(vec![]);
                }
                let ms = scene.rng.pick(&[10, 500, 3_000, 20_000, 100_000], 10);
                let exits = HostEvent::Exits(uid, name, attempt, 0);
                scene.orders.push(Order::Host(ms, exits));
                vec![]
            }
            Action::Kill(uid, name, attempt) => {
                scene.orders.push(Order::Host(1, HostEvent::Exits(uid, name, attempt, 137)));
                vec![]
            }
            Action::TearDown(uid) if fails => vec![Event::TearDownFailed(uid, why())],
            Action::TearDown(uid) => {
                let known = self.pod_of(&uid).is_some();
                let running = self.runtime.remove(&uid);
                if known && running > 0 {
                    return Err(format!("R6: pod {uid} is taken down with {running} living"));
                }
                vec![Event::TornDown(uid)]
            }
            Action::Forget(uid) => {
                self.disk.remove(&uid);
                vec![]
            }
            Action::PatchStatus(uid, version, status) => self.patch(uid, version, status, scene),
            Action::Delete(uid) => self.delete(uid, scene),
            Action::Tell(..) | Action::WakeAt(_) => vec![],
        };
        Ok(events)
    }

    fn image(
        &mut self,
        uid: PodUid,
        name: String,
        fails: bool,
        scene: &mut Scene<'_>,
    ) -> Vec<Event> {
        let Some(pod) = self.pod_of(&uid) else { return vec![] };
        let missing =
            pod.container(&name).is_some_and(|container| container.image.starts_with(NO_IMAGE));
        let pulling = Event::ImagePulling(uid.clone(), name.clone());
        if missing || fails {
            let why = "the registry has no such image".into();
            return vec![pulling, Event::ImageFailed(uid, name, ImageFault::Pull, why)];
        }
        let took_ms = scene.rng.between(10, 900);
        let origin = ImageOrigin::Pulled { took_ms, bytes: 1 << 20 };
        let facts = ImageFacts { id: "sha256:1".into(), origin };
        vec![pulling, Event::ImageReady(uid, name, facts)]
    }

    fn start_container(
        &mut self,
        uid: PodUid,
        name: String,
        attempt: u32,
        fails: bool,
        scene: &Scene<'_>,
    ) -> Result<Vec<Event>, String> {
        let now_s = wall_s(scene.wall_ms);
        // The shell looks the pod up again before it starts anything.
        let process = match self.pod_of(&uid) {
            Some(_) if !fails => self.runtime.start(&uid, &name, attempt, now_s)?,
            _ => None,
        };
        let Some(process) = process else {
            let message = String::from("the simulator wants it to fail");
            let fault = StartFault::Create;
            return Ok(vec![Event::StartFailed { uid, container: name, attempt, fault, message }]);
        };
        let at_s = match &process {
            Process::Runs(at_s) => *at_s,
            Process::Ended(exit) => exit.started_s,
        };
        let container = name.clone();
        let mut events = vec![Event::Started { uid: uid.clone(), container, attempt, at_s }];
        if let Process::Ended(exit) = process {
            events.push(Event::Exited { uid, container: name, attempt, exit });
        }
        Ok(events)
    }

    fn patch(
        &mut self,
        uid: PodUid,
        version: u64,
        status: Value,
        scene: &mut Scene<'_>,
    ) -> Vec<Event> {
        let Some(pod) = self.pod_of(&uid) else { return vec![] };
        let url = format!("{}/status", url(&pod));
        let body = serde_json::json!({"metadata": {"uid": uid.as_str()}, "status": status});
        if let Some((_, kept)) = self.disk.get_mut(&uid) {
            *kept = Some(status);
        }
        let tag = scene.call(request(&self.peer, Method::Merge, &url, &body));
        self.calls.insert(tag, Pending::Status(uid, version));
        vec![]
    }

    fn delete(&mut self, uid: PodUid, scene: &mut Scene<'_>) -> Vec<Event> {
        let Some(pod) = self.pod_of(&uid) else { return vec![] };
        let options = serde_json::json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid.as_str()},
        });
        let tag = scene.call(request(&self.peer, Method::Delete, &url(&pod), &options));
        self.calls.insert(tag, Pending::Delete(uid));
        vec![]
    }
}

fn url(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.meta.namespace, pod.meta.name)
}

/// An action in a line.
fn short(action: &Action) -> String {
    let text = format!("{action:?}");
    text.chars().take(200).collect()
}

fn wall_s(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}
