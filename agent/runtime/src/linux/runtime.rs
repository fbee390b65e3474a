//! The [`Runtime`] port over shims: one per pod, found again after a restart of the agent.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coracle_disk::{self as disk, Sync};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::cgroup::CgroupSet;
use super::client::{self, Link};
use super::host::{HostSteps, explain};
use super::protocol::{Answer, CGROUP_FILE, CONTAINERS, POD_FILE, RECORDS, Request};
use crate::limits::SHIM_READY_MS_MAX;
use crate::plan::{self, Step, StepError, Sys, pod_steps};
use crate::{
    Config, ContainerId, ContainerSpec, ContainerState, ContainerStatus, Event, PodSandboxSpec,
    PodStatus, PodUid, QosClass, Runtime, RuntimeError, Stats, wire,
};

/// Pods as processes of this machine.
#[derive(Debug)]
pub struct LinuxRuntime {
    config: Config,
    cgroups: CgroupSet,
    pods: Mutex<BTreeMap<PodUid, Arc<Mutex<Pod>>>>,
    /// One maker or remover of directories that pods share at a time.
    tree: Mutex<()>,
    epoll: Epoll,
    pending: Mutex<VecDeque<Event>>,
}

/// A pod's life as this agent knows it.
#[derive(Debug, Default)]
struct Pod {
    /// `None` while it is being made.
    spec: Option<PodSandboxSpec>,
    /// `None`: its shim is dead.
    link: Option<Link>,
}

impl LinuxRuntime {
    /// Takes the settings; makes the data directory's `pods` if absent. Call [`Runtime::recover`] next.
    ///
    /// Fails if the directory cannot be made or the mount table not be read.
    pub fn new(config: Config) -> Result<Self, RuntimeError> {
        let pods = config.data_dir.join("pods");
        disk::make_dirs(&pods, 0o700).map_err(|source| io_error("make", &pods, source))?;
        let proc = Path::new("/proc/self/mountinfo");
        let cgroups = CgroupSet::of_this_host().map_err(|source| io_error("read", proc, source))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|source| io_error("make an epoll for", &pods, source.into()))?;
        let (tree, pending) = (Mutex::default(), Mutex::default());
        Ok(Self { config, cgroups, pods: Mutex::default(), tree, epoll, pending })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The host's cgroups, as found at the start.
    pub fn cgroups(&self) -> &CgroupSet {
        &self.cgroups
    }

    fn known(&self, uid: &PodUid) -> Option<Arc<Mutex<Pod>>> {
        lock(&self.pods).get(uid).cloned()
    }

    fn spec_of(&self, uid: &PodUid) -> Result<PodSandboxSpec, RuntimeError> {
        let pod = self.known(uid).ok_or_else(|| RuntimeError::NoSuchPod(uid.clone()))?;
        let spec = lock(&pod).spec.clone();
        spec.ok_or_else(|| RuntimeError::NoSuchPod(uid.clone()))
    }

    /// One request to a pod's shim. [`RuntimeError::ShimDead`] if nobody answers.
    fn ask(&self, uid: &PodUid, request: &Request, body: &[u8]) -> Result<Answer, RuntimeError> {
        let state = self.config.state_dir(uid);
        client::ask(&state, request, body).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                RuntimeError::Protocol { pod: uid.clone(), got: error.to_string() }
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io_error("wait for the shim in", &state, error)
            }
            _ => RuntimeError::ShimDead(uid.clone()),
        })
    }

    fn watch(&self, link: &Link) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, link.token());
        Ok(self.epoll.add(link.as_fd(), event)?)
    }

    fn status(&self, spec: &PodSandboxSpec, shim_pid: Option<i32>) -> PodStatus {
        let uid = &spec.uid;
        let alive = shim_pid.and_then(|pid| match self.ask(uid, &Request::List, &[]) {
            Ok(Answer::Containers(containers)) => Some((pid, containers)),
            Ok(_) | Err(_) => None,
        });
        let (shim_pid, containers) = match alive {
            Some((pid, containers)) => (Some(pid), containers),
            None => (None, records(&self.config.state_dir(uid))),
        };
        let netns = shim_pid
            .filter(|_pid| !spec.host_network)
            .map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net")));
        PodStatus { spec: spec.clone(), shim_pid, netns, containers }
    }

    /// A pod found on disk: joins its shim, or makes sure that it is dead.
    fn recover_pod(&self, uid: &PodUid) -> Result<Option<PodStatus>, RuntimeError> {
        let state = self.config.state_dir(uid);
        if !state.is_dir() {
            return Ok(None);
        }
        let bytes = fs::read(state.join(POD_FILE)).unwrap_or_default();
        let Ok(spec) = wire::decode::<PodSandboxSpec>(&bytes) else {
            // Cut off while it was being made (or damaged): nothing of it was ever reported.
            self.sweep(uid)?;
            return Ok(None);
        };
        let deadline = Instant::now() + Duration::from_millis(SHIM_READY_MS_MAX);
        let link = loop {
            match client::join(&state) {
                Ok(link) => break Some(link),
                // A shim that has its lock is about to listen.
                Err(_) if client::is_locked(&state) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => break None,
            }
        };
        match &link {
            Some(link) => {
                self.watch(link).map_err(|source| io_error("watch", &state, source))?;
            }
            None => {
                // The next shim works in what this says; a power cut may have damaged it.
                let (path, cgroup) = (state.join(CGROUP_FILE), self.config.pod_cgroup(&spec));
                if !fs::read(&path).is_ok_and(|bytes| bytes == cgroup.as_bytes()) {
                    disk::overwrite(&path, cgroup.as_bytes(), 0o600, Sync::Later)
                        .map_err(|source| io_error("write", &path, source))?;
                }
                // One that hangs in the kernel must not keep the agent from all other pods; creating the pod anew and
                // removing it both begin with this again.
                let _hangs = self.cgroups.kill(&self.config.pod_cgroup(&spec));
            }
        }
        let shim_pid = link.as_ref().map(Link::shim_pid);
        let pod = Pod { spec: Some(spec.clone()), link };
        lock(&self.pods).insert(uid.clone(), Arc::new(Mutex::new(pod)));
        let mut status = self.status(&spec, shim_pid);
        // A start that the last agent asked for: its answer went to nobody, and a failure is told in no event.
        while status.containers.iter().any(|found| found.state == ContainerState::Starting)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
            status = self.status(&spec, shim_pid);
        }
        Ok(Some(status))
    }

    /// Removes everything of a pod, wherever its cgroup is.
    fn sweep(&self, uid: &PodUid) -> Result<(), RuntimeError> {
        let root = &self.config.cgroup_root;
        for qos in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let path = match qos.dir() {
                Some(tier) => format!("{root}/{tier}/pod{uid}"),
                None => format!("{root}/pod{uid}"),
            };
            self.cgroups.kill(&path)?;
            self.cgroups.remove(&path)?;
            let _one = lock(&self.tree);
            self.cgroups.remove_empty_parents(&path);
        }
        let state = self.config.state_dir(uid);
        disk::remove_dir_all(&state).map_err(|source| io_error("remove", &state, source))?;
        // The pod's directory is the agent's; it goes with the last thing in it.
        let _agents_own = disk::remove_dir(&self.config.pod_dir(uid));
        Ok(())
    }

    /// Reads what a shim sent; an end of it is the shim's.
    fn read_events(&self, token: u64) -> Result<(), RuntimeError> {
        let pods: Vec<_> =
            lock(&self.pods).iter().map(|(uid, pod)| (uid.clone(), Arc::clone(pod))).collect();
        for (uid, pod) in pods {
            let mut pod = lock(&pod);
            let Some(link) = pod.link.as_mut().filter(|link| link.token() == token) else {
                continue;
            };
            let (statuses, alive) = link.read();
            for ContainerStatus { id, state } in statuses {
                if let ContainerState::Exited(exit) = state {
                    let event = Event::ContainerExited { pod: uid.clone(), id, exit };
                    lock(&self.pending).push_back(event);
                }
            }
            if !alive {
                if let Some(link) = pod.link.take() {
                    link.bury();
                }
                let killed = match &pod.spec {
                    Some(spec) => self.cgroups.kill(&self.config.pod_cgroup(spec)),
                    None => Ok(()),
                };
                lock(&self.pending).push_back(Event::ShimDied { pod: uid });
                killed?;
            }
            return Ok(());
        }
        Ok(())
    }
}

/// Waiting for [`Runtime::wait_event`]: readable when it would not wait.
impl AsFd for LinuxRuntime {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Runtime for LinuxRuntime {
    fn create_pod(&self, spec: &PodSandboxSpec) -> Result<PodStatus, RuntimeError> {
        let uid = &spec.uid;
        let entry = Arc::clone(lock(&self.pods).entry(uid.clone()).or_default());
        let mut pod = lock(&entry);
        if pod.link.is_some() {
            return Err(RuntimeError::PodExists(uid.clone()));
        }
        let again = pod.spec.is_some();
        if again {
            self.cgroups.kill(&self.config.pod_cgroup(spec))?;
        }
        let host = HostSteps::new(self.cgroups.clone());
        let mut maker = PodMaker { runtime: self, host, link: None };
        let made = plan::run(&pod_steps(spec, &self.config, again), &mut maker);
        let link = maker.link.take();
        match (made, link) {
            (Ok(()), Some(link)) => {
                self.watch(&link)
                    .map_err(|source| io_error("watch", &self.config.state_dir(uid), source))?;
                let pid = link.shim_pid();
                *pod = Pod { spec: Some(spec.clone()), link: Some(link) };
                drop(pod);
                Ok(self.status(spec, Some(pid)))
            }
            (made, _) => {
                if !again {
                    lock(&self.pods).remove(uid);
                    let _agents_own = disk::remove_dir(&self.config.pod_dir(uid));
                }
                let (message, errno) = match made {
                    Err(StepError { message, errno }) => (message, errno),
                    Ok(()) => ("the shim was lost".to_owned(), None),
                };
                Err(RuntimeError::Start { message, errno })
            }
        }
    }

    fn start_container(
        &self,
        pod: &PodUid,
        spec: &ContainerSpec,
    ) -> Result<ContainerStatus, RuntimeError> {
        self.spec_of(pod)?;
        let body = wire::encode(spec);
        let id = spec.id.clone();
        if body.len() > crate::limits::SPEC_BYTES_MAX {
            let max = crate::limits::SPEC_BYTES_MAX;
            return Err(RuntimeError::Full { what: "bytes of a container's spec", max });
        }
        let request = Request::Start { id: id.clone(), spec_bytes: body.len() };
        match self.ask(pod, &request, &body)? {
            Answer::Containers(mut list) if list.len() == 1 => {
                list.pop().ok_or_else(|| unexpected(pod, &Answer::Done))
            }
            Answer::AlreadyStarted(state) => Err(RuntimeError::AlreadyStarted { id, state }),
            Answer::Failed(message, errno) => Err(RuntimeError::Start { message, errno }),
            Answer::Full => Err(RuntimeError::Full {
                what: "containers of one pod, ended ones included",
                max: crate::limits::CONTAINERS_PER_POD_MAX,
            }),
            other => Err(unexpected(pod, &other)),
        }
    }

    fn signal(&self, pod: &PodUid, id: &ContainerId, signal: i32) -> Result<(), RuntimeError> {
        self.spec_of(pod)?;
        match self.ask(pod, &Request::Signal { id: id.clone(), signal }, &[]) {
            Ok(Answer::Done) | Err(RuntimeError::ShimDead(_)) => Ok(()),
            Ok(Answer::NotFound) => {
                Err(RuntimeError::NoSuchContainer { pod: pod.clone(), id: id.clone() })
            }
            Ok(other) => Err(unexpected(pod, &other)),
            Err(error) => Err(error),
        }
    }

    fn kill(&self, pod: &PodUid, id: &ContainerId) -> Result<(), RuntimeError> {
        let spec = self.spec_of(pod)?;
        if !self.config.state_dir(pod).join(RECORDS).join(id.to_string()).exists() {
            return Err(RuntimeError::NoSuchContainer { pod: pod.clone(), id: id.clone() });
        }
        self.cgroups.kill(&format!("{}/{id}", self.config.pod_cgroup(&spec)))
    }

    fn remove_container(&self, pod: &PodUid, id: &ContainerId) -> Result<(), RuntimeError> {
        let Ok(spec) = self.spec_of(pod) else { return Ok(()) };
        match self.ask(pod, &Request::Forget { id: id.clone() }, &[]) {
            Ok(Answer::Done | Answer::NotFound) | Err(RuntimeError::ShimDead(_)) => {}
            Ok(Answer::Running) => return Err(RuntimeError::StillRunning(id.clone())),
            Ok(other) => return Err(unexpected(pod, &other)),
            Err(error) => return Err(error),
        }
        let cgroup = format!("{}/{id}", self.config.pod_cgroup(&spec));
        self.cgroups.kill(&cgroup)?;
        self.cgroups.remove(&cgroup)?;
        let state = self.config.state_dir(pod);
        let dir = state.join(CONTAINERS).join(id.to_string());
        let record = state.join(RECORDS).join(id.to_string());
        disk::remove_dir_all(&dir).map_err(|source| io_error("remove", &dir, source))?;
        disk::remove_file(&record).map_err(|source| io_error("remove", &record, source))
    }

    fn remove_pod(&self, uid: &PodUid) -> Result<(), RuntimeError> {
        let Some(entry) = self.known(uid) else { return Ok(()) };
        let mut pod = lock(&entry);
        // Nobody is to hear of a death that was ordered.
        let link = pod.link.take();
        let swept = self.sweep(uid);
        if let Some(link) = link {
            link.bury();
        }
        swept?;
        lock(&self.pods).remove(uid);
        Ok(())
    }

    fn pod(&self, uid: &PodUid) -> Result<Option<PodStatus>, RuntimeError> {
        let Some(entry) = self.known(uid) else { return Ok(None) };
        let pod = lock(&entry);
        let Some(spec) = pod.spec.clone() else { return Ok(None) };
        let shim_pid = pod.link.as_ref().map(Link::shim_pid);
        drop(pod);
        Ok(Some(self.status(&spec, shim_pid)))
    }

    fn recover(&self) -> Result<Vec<PodStatus>, RuntimeError> {
        let dir = self.config.data_dir.join("pods");
        let entries = fs::read_dir(&dir).map_err(|source| io_error("read", &dir, source))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| io_error("read", &dir, source))?;
            let Some(uid) = entry.file_name().to_str().and_then(|name| PodUid::parse(name).ok())
            else {
                continue;
            };
            if self.known(&uid).is_none() {
                found.extend(self.recover_pod(&uid)?);
            }
        }
        found.sort_by(|a, b| a.spec.uid.cmp(&b.spec.uid));
        Ok(found)
    }

    fn wait_event(&self, timeout: Duration) -> Result<Option<Event>, RuntimeError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = lock(&self.pending).pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
            let wait = EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::ZERO);
            let mut ready = [EpollEvent::empty(); 16];
            let count = match self.epoll.wait(&mut ready, wait) {
                Ok(0) if left.is_zero() => return Ok(None),
                Ok(count) => count,
                Err(nix::Error::EINTR) => 0,
                Err(error) => {
                    return Err(io_error(
                        "wait for events of",
                        &self.config.data_dir,
                        error.into(),
                    ));
                }
            };
            for event in ready.iter().take(count) {
                self.read_events(event.data())?;
            }
        }
    }

    fn stats(&self, pod: &PodUid, id: Option<&ContainerId>) -> Result<Stats, RuntimeError> {
        let cgroup = self.config.pod_cgroup(&self.spec_of(pod)?);
        Ok(self.cgroups.stats(&id.map_or(cgroup.clone(), |id| format!("{cgroup}/{id}"))))
    }
}

/// The host as [`Runtime::create_pod`] works on it.
struct PodMaker<'a> {
    runtime: &'a LinuxRuntime,
    host: HostSteps,
    link: Option<Link>,
}

impl Sys for PodMaker<'_> {
    fn perform(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::StartShim { uid, cgroup } => {
                let link = client::start(&self.runtime.config, uid, |pid| {
                    self.host.cgroups.add(cgroup, pid)
                });
                self.link = Some(link.map_err(|error| {
                    let (message, errno) = explain(&error);
                    StepError { message, errno }
                })?);
                Ok(())
            }
            Step::MakeCgroup { .. } => {
                let _one = lock(&self.runtime.tree);
                self.host.perform(step)
            }
            other => self.host.perform(other),
        }
    }

    fn undo(&mut self, step: &Step) {
        self.host.undo(step);
        if let Step::MakeCgroup { path } = step {
            let _one = lock(&self.runtime.tree);
            self.host.cgroups.remove_empty_parents(path);
        }
        if let (Step::StartShim { .. }, Some(link)) = (step, self.link.take()) {
            link.bury();
        }
    }
}

/// What the records say of a pod whose shim is dead: what had not ended then is unknown, and so is a damaged record.
fn records(state: &Path) -> Vec<ContainerStatus> {
    let entries = fs::read_dir(state.join(RECORDS)).into_iter().flatten().filter_map(Result::ok);
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(ContainerId::from_dir_name) else { continue };
        let record = wire::decode::<ContainerStatus>(&fs::read(entry.path()).unwrap_or_default());
        let state = match record {
            Ok(status) if !status.state.is_live() => status.state,
            Ok(_) | Err(_) => ContainerState::Unknown,
        };
        found.push(ContainerStatus { id, state });
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    found
}

fn unexpected(pod: &PodUid, answer: &Answer) -> RuntimeError {
    RuntimeError::Protocol { pod: pod.clone(), got: format!("{answer:?}") }
}

fn io_error(doing: &str, path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::Io { doing: format!("{doing} {}", path.display()), source }
}

/// A thread that panicked with the lock left the map as it was between two statements: every one of them keeps it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
