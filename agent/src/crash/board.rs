//! A node without a kernel: the agent's pod machine over its own data directory, image store and shims' records, each
//! action carried out at once by the code that the agent's shell and the shim use. What runs is a word in a map.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    fs,
    net::Ipv4Addr,
    path::Path,
    sync::Arc,
};

use coracle_agent_logic::{
    Action, Agent, Event, Millis, Pod, PodUid,
    env::{ObjectRef, Objects},
    event::{ImageFacts, ImageFault, StartFault},
    fields::Place,
    time::Now,
};
use coracle_disk::{Sync, crash::length};
use coracle_image::{ImageStore, Platform, PullPolicy, Registry};
use coracle_runtime::{
    Config, ContainerId, ContainerState, ContainerStatus, Exit, Runtime as _,
    linux::{
        HostSteps, LinuxRuntime,
        protocol::{CGROUP_FILE, CONTAINERS, POD_FILE},
    },
    plan::{self, HostFacts, Step, StepError, Sys, container_steps, pod_steps},
};
use coracle_shim::record;
use serde_json::Value;

use crate::shell::{
    carry::{self, runtime_uid},
    chain, containers, found_sandbox, images,
    network::Network,
    objects,
    services::Services,
    state::StateDir,
    volumes, volumes_kept,
};

/// What the rest of the world has seen, with the number of calls by then.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    /// The API server has this status.
    Acked(PodUid, Value),
    /// The shim has told that an attempt ended.
    Ended(PodUid, String, u32),
    /// The API server was told that the pod is gone from the node.
    Deleted(PodUid),
    /// The pod is gone from the API server, and the node is about to forget it.
    Forgetting(PodUid),
    /// Half a minute went by: the kernel has written everything back.
    Quiet,
}

/// The control plane, as far as nodes know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    /// Pods by uid.
    pub(crate) pods: BTreeMap<PodUid, Value>,
    /// Content of the ConfigMap `cm`.
    pub(crate) config: u64,
    /// Answers.
    pub(crate) is_there: bool,
}

impl Server {
    pub(crate) fn pod(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        let bytes = self.pods.get(uid)?.to_string().into_bytes();
        Pod::parse(bytes.into()).ok().map(Arc::new)
    }

    /// Keys and values of `cm`: some sectors, and not always the same keys.
    pub(crate) fn objects(&self) -> Objects {
        let value = |key: &str| format!("{key}{} ", self.config).repeat(90).into_bytes();
        let keys = if self.config.is_multiple_of(2) { ["one", "two"] } else { ["one", "three"] };
        let data = keys.into_iter().map(|key| (key.to_owned(), value(key))).collect();
        Objects::from([(ObjectRef::ConfigMap("cm".into()), Some(data))])
    }
}

/// See the module.
pub(crate) struct Board {
    pub(crate) state: StateDir,
    pub(crate) images: ImageStore,
    pub(crate) network: Network,
    pub(crate) services: Services,
    pub(crate) server: Server,
    pub(crate) agent: Agent,
    pub(crate) now: Now,
    pub(crate) running: BTreeMap<(PodUid, String), u32>,
    pub(crate) marks: Vec<(usize, Mark)>,
    /// Attempts that were started.
    pub(crate) started: Vec<(PodUid, String, u32)>,
    runtime: LinuxRuntime,
    config: Config,
    events: VecDeque<Event>,
    wake: Option<Millis>,
}

impl Board {
    /// Starts the agent, as `Shell::start` and `Shell::recover` do.
    pub(crate) fn start(root: &Path, server: Server, now: Now) -> Result<Self, String> {
        let state = StateDir::open(root).map_err(|error| chain(&error))?;
        state.sweep().map_err(|error| chain(&error))?;
        let config = Config {
            data_dir: state.root().to_owned(),
            cgroup_root: "coracle-crash".into(),
            shim_program: "/none".into(),
            shim_args: Vec::<OsString>::new(),
        };
        let runtime = LinuxRuntime::new(config.clone()).map_err(|error| chain(&error))?;
        let images =
            ImageStore::open(&state.images(), Platform::host()).map_err(|error| chain(&error))?;
        let mut board = Self {
            network: Network::open(&state, None),
            services: Services::open(&state),
            agent: Agent::new(vec!["192.0.2.1".into()]),
            running: BTreeMap::new(),
            marks: Vec::new(),
            started: Vec::new(),
            events: VecDeque::new(),
            wake: None,
            state,
            images,
            server,
            now,
            runtime,
            config,
        };
        board.recover()?;
        Ok(board)
    }

    fn recover(&mut self) -> Result<(), String> {
        let pods = self.state.pods();
        let found = self.runtime.recover().map_err(|error| chain(&error))?;
        let mut keep: BTreeSet<PodUid> = pods.iter().map(|(pod, _)| pod.uid.clone()).collect();
        for (pod, status) in pods {
            self.tell(Event::FromDisk(pod, status))?;
        }
        let found: Vec<_> = found
            .iter()
            .filter_map(|status| {
                let uid = PodUid::parse(status.spec.uid.as_str())?;
                Some(found_sandbox(uid, status, Vec::new()))
            })
            .collect();
        keep.extend(found.iter().map(|found| found.uid.clone()));
        for uid in self.network.strays(&keep) {
            self.network.take_back(&uid).map_err(|error| chain(&error))?;
        }
        for uid in self.state.pod_dirs() {
            if !keep.contains(&uid) {
                self.carry(Action::Forget(uid))?;
            }
        }
        images::retain(&self.images, &keep).map_err(|error| chain(&error))?;
        self.tell(Event::Recovered(found))
    }

    /// Hands an event to the pod machine and carries out what comes of it, to the end.
    pub(crate) fn tell(&mut self, event: Event) -> Result<(), String> {
        self.events.push_back(event);
        self.settle()
    }

    /// Carries out all that is waiting.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        while let Some(event) = self.events.pop_front() {
            let mut actions = Vec::new();
            self.agent.step(self.now, event, &mut actions);
            for action in actions {
                self.carry(action)?;
            }
        }
        Ok(())
    }

    /// Time goes by, and what is due by itself happens.
    pub(crate) fn pass(&mut self, ms: u64) -> Result<(), String> {
        let end = self.now.mono.plus(ms);
        while let Some(at) = self.wake.take().filter(|at| *at <= end) {
            self.set(at);
            self.tell(Event::Timer)?;
        }
        self.set(end);
        self.tell(Event::Timer)
    }

    fn set(&mut self, at: Millis) {
        let ms = at.since(self.now.mono);
        self.now.wall_s += i64::try_from(ms / 1000).unwrap_or(0);
        self.now.mono = self.now.mono.max(at);
    }

    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks.push((length(), mark));
    }

    fn carry(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Keep(uid) => {
                if let Some(pod) = self.agent.pod(&uid).cloned() {
                    let kept = self.state.write_pod(&uid, "pod.json", &pod.bytes);
                    kept.map_err(|error| format!("cannot keep pod {uid}: {error}"))?;
                }
            }
            Action::PrepareVolumes(uid) => {
                let event = match self.make_volumes(&uid) {
                    Ok(()) => Event::VolumesReady(uid),
                    Err(why) => Event::VolumesFailed(uid, why),
                };
                self.events.push_back(event);
            }
            Action::MakeSandbox(uid) => {
                let event = match self.make_sandbox(&uid)? {
                    Ok(ip) => Event::SandboxMade(uid, vec![ip.to_string()]),
                    Err(why) => Event::SandboxFailed(uid, why),
                };
                self.events.push_back(event);
            }
            Action::EnsureImage(uid, name) => self.ensure_image(uid, name)?,
            Action::Start(uid, name, attempt) => self.start_container(uid, name, attempt)?,
            Action::Stop(uid, name, attempt) | Action::Kill(uid, name, attempt) => {
                if self.running.get(&(uid.clone(), name.clone())) == Some(&attempt) {
                    self.end(&uid, &name, 143)?;
                }
            }
            Action::TearDown(uid) => {
                if self.agent.status(&uid).is_none() {
                    self.mark(Mark::Forgetting(uid.clone()));
                }
                let network = &self.network;
                let detach = || network.take_back(&uid).map_err(|error| chain(&error));
                let status = self.agent.status(&uid);
                carry::take_down(&self.runtime, &self.state, &uid, status, detach)?;
                self.running.retain(|(of, _), _| *of != uid);
                self.events.push_back(Event::TornDown(uid));
            }
            Action::Forget(uid) => {
                self.mark(Mark::Forgetting(uid.clone()));
                carry::forget(&self.state, &self.images, &uid)
                    .map_err(|error| format!("cannot forget pod {uid}: {error}"))?;
            }
            Action::PatchStatus(uid, version, status) => {
                let text = status.to_string();
                let written = self.state.record_pod(&uid, "status.json", text.as_bytes());
                written.map_err(|error| format!("cannot record a status: {error}"))?;
                if self.server.is_there {
                    if let Some(pod) = self.server.pods.get_mut(&uid).and_then(Value::as_object_mut)
                    {
                        pod.insert("status".into(), status.clone());
                    }
                    self.mark(Mark::Acked(uid.clone(), status));
                    self.events.push_back(Event::StatusAcked(uid, version));
                } else {
                    self.events.push_back(Event::StatusFailed(uid));
                }
            }
            Action::Delete(uid) => {
                if self.server.is_there {
                    self.server.pods.remove(&uid);
                    self.mark(Mark::Deleted(uid.clone()));
                    self.events.push_back(Event::DeleteAcked(uid));
                } else {
                    self.events.push_back(Event::DeleteFailed(uid));
                }
            }
            Action::Tell(_, _) => {}
            Action::WakeAt(at) => self.wake = Some(at),
        }
        Ok(())
    }

    /// As `Shell::make_volumes`: from the server, or as they last were.
    pub(crate) fn make_volumes(&mut self, uid: &PodUid) -> Result<(), String> {
        let pod = self.agent.pod(uid).cloned().ok_or("the pod is gone")?;
        let objects = if self.server.is_there {
            self.server.objects()
        } else {
            let kept = self.state.read_pod(uid, "objects.json").ok_or("no server in sight")?;
            objects::from_disk(&kept)
        };
        let (dir, place) = (self.state.volumes(uid), Place::default());
        volumes::prepare(&dir, &pod, &objects, &Default::default(), &place)?;
        volumes_kept::remember(&self.state, uid, &objects);
        let published = objects.values().flatten().flatten();
        for (key, bytes) in published {
            let path = dir.join("cfg").join(key);
            if fs::read(&path).ok().as_ref() != Some(bytes) {
                return Err(format!("VOLUME: {} is not what was published", path.display()));
            }
        }
        Ok(())
    }

    fn make_sandbox(&mut self, uid: &PodUid) -> Result<Result<Ipv4Addr, String>, String> {
        let pod = self.agent.pod(uid).cloned().ok_or("the pod is gone")?;
        let spec = containers::sandbox(&pod)?;
        let known = self.runtime.pod(&spec.uid).map_err(|error| chain(&error))?;
        let mut steps = Steps::new()?;
        if let Err(error) = plan::run(&pod_steps(&spec, &self.config, known.is_some()), &mut steps)
        {
            return Ok(Err(error.message));
        }
        // What the shim reads before it listens.
        let state = self.config.state_dir(&spec.uid);
        let cgroup = fs::read_to_string(state.join(CGROUP_FILE)).unwrap_or_default();
        if cgroup != self.config.pod_cgroup(&spec) {
            return Err(format!("R1: the shim of pod {uid} works in cgroup {cgroup:?}"));
        }
        let bytes = fs::read(state.join(POD_FILE)).unwrap_or_default();
        if coracle_runtime::wire::decode(&bytes) != Ok(spec) {
            return Err(format!("the shim of pod {uid} cannot read what pod it is of"));
        }
        record::load(&state).map_err(|error| format!("records of pod {uid}: {error}"))?;
        self.runtime.recover().map_err(|error| chain(&error))?;
        Ok(self.network.give(uid).map(|(ip, _)| ip).map_err(|error| chain(&error)))
    }

    fn ensure_image(&mut self, uid: PodUid, name: String) -> Result<(), String> {
        let Some(pod) = self.agent.pod(&uid).cloned() else { return Ok(()) };
        let wanted = pod.container(&name).map(|container| container.image.clone());
        let registry = Registry::new(Vec::new(), &[]);
        let found =
            self.images.resolve(&wanted.unwrap_or_default(), PullPolicy::Never, &registry, &[]);
        let event = match found {
            Ok(image) => {
                let held = self.images.hold(&image, &images::holder(&uid, &name));
                held.map_err(|error| chain(&error))?;
                let facts = ImageFacts { id: image.digest.to_string(), ..ImageFacts::default() };
                Event::ImageReady(uid, name, facts)
            }
            Err(error) => Event::ImageFailed(uid, name, ImageFault::Pull, chain(&error)),
        };
        self.events.push_back(event);
        Ok(())
    }

    /// As `Shell::start_container` and the shim's `start`.
    fn start_container(&mut self, uid: PodUid, name: String, attempt: u32) -> Result<(), String> {
        let id = ContainerId::parse(&name, attempt).map_err(|error| error.to_string())?;
        let state = self.config.state_dir(&runtime_uid(&uid)?);
        self.started.push((uid.clone(), name.clone(), attempt));
        for trace in fs::read_dir(state.join(CONTAINERS)).into_iter().flatten().flatten() {
            let trace = trace.file_name().to_str().and_then(ContainerId::from_dir_name);
            if let Some(trace) = trace.filter(|trace| trace.name() == name)
                && attempt <= trace.attempt()
            {
                return Err(format!("ATTEMPT: {trace} of pod {uid} was made, and {id} is started"));
            }
        }
        let records = record::load(&state).map_err(|error| error.to_string())?;
        if let Some(found) =
            records.iter().find(|found| found.id.name() == name && attempt <= found.id.attempt())
        {
            return Err(format!(
                "ATTEMPT: {} of pod {uid} is on record, and {id} is started",
                found.id
            ));
        }
        let spec = match self.ready(&uid, &name, attempt) {
            Ok(spec) => spec,
            Err((fault, message)) => {
                let event = Event::StartFailed { uid, container: name, attempt, fault, message };
                self.events.push_back(event);
                return Ok(());
            }
        };
        let mut status = ContainerStatus { id: id.clone(), state: ContainerState::Starting };
        record::write(&state, &status, Sync::Later).map_err(|error| error.to_string())?;
        let dir = state.join(CONTAINERS).join(id.to_string());
        let steps = container_steps(&spec, &dir, "coracle-crash", &HostFacts::default());
        let steps = steps.map_err(|error| chain(&error))?;
        let event = match plan::run(&steps, &mut Steps::new()?) {
            Ok(()) => {
                self.running.insert((uid.clone(), name.clone()), attempt);
                let at_s = self.now.wall_s;
                Event::Started { uid: uid.clone(), container: name.clone(), attempt, at_s }
            }
            Err(StepError { message, .. }) => {
                status.state = ContainerState::StartFailed { message: message.clone(), at_ms: 0 };
                record::write_end(&state, &status).map_err(|error| error.to_string())?;
                let (uid, container, fault) = (uid.clone(), name.clone(), StartFault::Run);
                Event::StartFailed { uid, container, attempt, fault, message }
            }
        };
        self.events.push_back(event);
        carry::drop_attempts_before(&self.runtime, &self.state, &uid, &name, attempt);
        Ok(())
    }

    fn ready(
        &self,
        uid: &PodUid,
        name: &str,
        attempt: u32,
    ) -> Result<coracle_runtime::ContainerSpec, containers::Fault> {
        let gone = |what: &str| (StartFault::Create, what.to_owned());
        let pod = self.agent.pod(uid).ok_or_else(|| gone("the pod is gone"))?;
        let container = pod.container(name).ok_or_else(|| gone("the container is gone"))?;
        let registry = Registry::new(Vec::new(), &[]);
        let image = self.images.resolve(&container.image, PullPolicy::Never, &registry, &[]);
        containers::ready(&containers::Start {
            state: &self.state,
            pod,
            container,
            attempt,
            image: &image.map_err(|error| gone(&chain(&error)))?,
            services: &[],
            objects: &Objects::new(),
            place: &Place::default(),
            node_memory_bytes: 1 << 30,
        })
    }

    /// A running container ends, and its shim says so; [`Self::settle`] goes on with it.
    pub(crate) fn end(&mut self, uid: &PodUid, name: &str, code: i32) -> Result<(), String> {
        let Some(attempt) = self.running.remove(&(uid.clone(), name.to_owned())) else {
            return Ok(());
        };
        let state = self.config.state_dir(&runtime_uid(uid)?);
        let ms = u64::try_from(self.now.wall_s).unwrap_or(0) * 1000;
        let exit =
            Exit { code, signal: None, oom_killed: false, started_at_ms: ms, finished_at_ms: ms };
        let id = ContainerId::parse(name, attempt).map_err(|error| error.to_string())?;
        let status = ContainerStatus { id, state: ContainerState::Exited(exit) };
        record::write_end(&state, &status).map_err(|error| error.to_string())?;
        self.mark(Mark::Ended(uid.clone(), name.to_owned(), attempt));
        let exit = crate::shell::exit_of(&exit);
        let (uid, container) = (uid.clone(), name.to_owned());
        self.events.push_back(Event::Exited { uid, container, attempt, exit });
        Ok(())
    }
}

/// The steps that need no kernel.
struct Steps(HostSteps);

impl Steps {
    fn new() -> Result<Self, String> {
        let cgroups = coracle_runtime::linux::CgroupSet::of_this_host();
        Ok(Self(HostSteps::new(cgroups.map_err(|error| error.to_string())?)))
    }
}

impl Sys for Steps {
    fn perform(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::MakeCgroup { .. }
            | Step::Limit { .. }
            | Step::StartShim { .. }
            | Step::Spawn { .. } => Ok(()),
            Step::MakeDir { .. }
            | Step::KeepDir { .. }
            | Step::WriteFile { .. }
            | Step::KeepFile { .. } => self.0.perform(step),
        }
    }

    fn undo(&mut self, step: &Step) {
        if matches!(step, Step::MakeDir { .. } | Step::WriteFile { .. }) {
            self.0.undo(step);
        }
    }
}
