//! The agent's shell: the only part that is async, reads clocks and touches the machine. One thread runs it; what blocks
//! goes to a few threads beside it.
//!
//! ```text
//! API server ── watch ──► Event ──► Agent::step ──► Action ──► carry (runtime, images, volumes, network, API) ──► Event
//! ```
//!
//! What a node says to the control plane is [`member`]'s, whether its machine is this one or a [`fake`].

pub(crate) mod api;
pub(crate) mod carry;
mod chance;
pub(crate) mod clock;
pub(crate) mod containers;
mod events;
pub(crate) mod fake;
pub(crate) mod images;
mod join;
pub(crate) mod limits;
pub(crate) mod log;
mod logs;
pub(crate) mod machine_facts;
mod member;
mod netlink;
pub(crate) mod network;
mod node;
pub(crate) mod objects;
mod pool;
pub(crate) mod services;
pub(crate) mod state;
mod tls;
mod tokens;
mod tunnel;
mod users;
pub(crate) mod volumes;
pub(crate) mod volumes_kept;
pub(crate) mod watch;

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use coracle_agent_logic::{Action, Agent, Event, Pod, PodUid, event, node::NodeFacts};
use coracle_image::{Image, ImageStore, Mirror, Platform};
use coracle_rt::{Local, sleep};
use coracle_runtime::{
    Config, ContainerState, ContainerStatus, Fact, PodStatus, Runtime as _, linux::LinuxRuntime,
};
use smol::{channel, lock::Semaphore, stream::StreamExt as _};

use self::{
    api::{Api, Server},
    log::{info, warning},
    member::{Board, Member, Task},
    network::Network,
    services::Services,
    state::StateDir,
    tokens::Mint,
};

/// What the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) data_dir: PathBuf,
    pub(crate) server: Server,
    pub(crate) token: Option<String>,
    pub(crate) node_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) bridge: Option<String>,
    pub(crate) cgroup_root: String,
}

/// Everything that the tasks of the one thread share.
pub(crate) struct Shell {
    pub(crate) member: Member,
    pub(crate) options: Options,
    pub(crate) state: StateDir,
    pub(crate) lacking: Arc<Vec<Fact>>,
    runtime: Arc<LinuxRuntime>,
    images: Arc<ImageStore>,
    network: Arc<Network>,
    services: Services,
    mint: Mint,
    volumes: volumes_kept::Kept,
    held_images: RefCell<BTreeMap<(PodUid, String), Image>>,
    online: OnceCell<Online>,
    pulls: Semaphore,
}

/// What is there once the node has its certificate.
struct Online {
    api: Api,
    follower: objects::Follower,
}

/// Runs the agent until SIGTERM or SIGINT. Pods go on.
///
/// # Errors
/// One line for people: what failed, why, what to do.
pub(crate) fn run(options: Options) -> Result<(), String> {
    coracle_runtime::linux::heap::one_heap();
    let local = Local::default();
    let main = local.clone();
    // Not smol's own, under which two threads hand the sockets to each other and wake ten times for one answer.
    smol::future::block_on(main.run(async move { Shell::start(local, options).await }))
}

impl Shell {
    async fn start(local: Local, options: Options) -> Result<(), String> {
        let state = StateDir::open(&options.data_dir).map_err(|error| chain(&error))?;
        let _lock = state.lock().map_err(|error| chain(&error))?;
        state.sweep().map_err(|error| chain(&error))?;
        let program = std::env::current_exe()
            .map_err(|error| format!("cannot find this program: {error}"))?;
        let mut config = Config::new(state.root().to_owned(), program);
        config.cgroup_root.clone_from(&options.cgroup_root);
        let runtime = Arc::new(LinuxRuntime::new(config).map_err(|error| chain(&error))?);
        let images =
            ImageStore::open(&state.images(), Platform::host()).map_err(|error| chain(&error))?;
        let network = Arc::new(Network::open(&state, options.bridge.clone()));
        let lacking = Arc::new(images::host_facts());
        let facts = machine_facts::read(&options.node_name, state.root(), None, &lacking);
        let agent = Agent::new(facts.ips.clone());
        let (server, labels) = (options.server.clone(), options.labels.clone());
        let (member, incoming) = Member::new(local.clone(), server, labels, facts, agent);
        let shell = Rc::new(Self {
            member,
            services: Services::open(&state),
            pulls: Semaphore::new(limits::PULLS_MAX),
            images: Arc::new(images),
            mint: Mint::default(),
            volumes: volumes_kept::Kept::default(),
            held_images: RefCell::default(),
            online: OnceCell::new(),
            options,
            state,
            lacking,
            runtime,
            network,
        });
        let signals = stop_signals()?;
        shell.recover().await?;
        let board: Rc<dyn Board> = Rc::clone(&shell) as _;
        local.spawn(member::drive(board, incoming));
        local.spawn(Rc::clone(&shell).watch_runtime());
        local.spawn(Rc::clone(&shell).look_after_network());
        let (fatal, failed) = channel::bounded::<String>(1);
        let closing = Rc::clone(&shell);
        let joining = Rc::clone(&shell);
        local.spawn(async move {
            if let Err(why) = Rc::clone(&joining).go_online().await {
                if joining.member.agent.borrow().pods().next().is_some() {
                    warning!("{why}; the pods of this node go on");
                } else {
                    let _ = fatal.send(why).await;
                }
            }
        });
        stopped_or_failed(signals, failed).await?;
        info!("stopping; the pods of this node go on");
        if closing.member.agent.borrow().pods().next().is_none()
            && let Err(error) = closing.network.close()
        {
            warning!("{error}");
        }
        Ok(())
    }

    /// Runs something that blocks on another thread.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        pool::QUICK.run(work).await
    }

    pub(crate) fn pod(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.member.pod(uid)
    }

    async fn send(&self, event: Event) {
        self.member.send(event).await;
    }

    fn step(self: &Rc<Self>, event: Event) {
        member::step(&(Rc::clone(self) as Rc<dyn Board>), event);
    }

    /// Pods from disk, what their shims still have, and the removal of what neither knows.
    async fn recover(self: &Rc<Self>) -> Result<(), String> {
        let (state, runtime) = (self.state.clone(), Arc::clone(&self.runtime));
        let (pods, found) = self.blocking(move || (state.pods(), runtime.recover())).await;
        let found = found.map_err(|error| {
            format!("cannot find the pods of this node again: {}", chain(&error))
        })?;
        let known: BTreeSet<PodUid> = pods.iter().map(|(pod, _)| pod.uid.clone()).collect();
        for (pod, status) in pods {
            self.step(Event::FromDisk(pod, status));
        }
        let found: Vec<event::FoundSandbox> =
            found.iter().filter_map(|status| self.found(status)).collect();
        let alive: BTreeSet<PodUid> = found.iter().map(|found| found.uid.clone()).collect();
        let keep: BTreeSet<PodUid> = known.union(&alive).cloned().collect();
        let (network, kept) = (Arc::clone(&self.network), keep.clone());
        self.blocking(move || network.retain(&kept)).await;
        for uid in self.state.pod_dirs() {
            if !keep.contains(&uid) {
                self.carry(Action::Forget(uid));
            }
        }
        let images = Arc::clone(&self.images);
        let retained = self.blocking(move || images::retain(&images, &keep)).await;
        if let Err(error) = retained {
            warning!("images that nothing stands on: {}", chain(&error));
        }
        if !found.is_empty() {
            info!("found {} pods of this node again", found.len());
        }
        self.step(Event::Recovered(found));
        Ok(())
    }

    fn found(&self, status: &PodStatus) -> Option<event::FoundSandbox> {
        let uid = PodUid::parse(status.spec.uid.as_str())?;
        let ips = if status.spec.host_network {
            self.member.machine.borrow().ips.clone()
        } else {
            self.network.given(&uid).iter().map(Ipv4Addr::to_string).collect()
        };
        Some(found_sandbox(uid, status, ips))
    }

    /// Exits and lost shims, from a thread that waits for them.
    async fn watch_runtime(self: Rc<Self>) {
        let (send, receive) = channel::bounded(limits::EVENTS_MAX);
        let runtime = Arc::clone(&self.runtime);
        let waiting = std::thread::Builder::new()
            .name("exits".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                loop {
                    match runtime.wait_event(Duration::from_secs(3600)) {
                        Ok(Some(event)) => {
                            if send.send_blocking(event).is_err() {
                                return;
                            }
                        }
                        Ok(None) => {}
                        Err(error) => {
                            warning!("cannot wait for containers: {}; trying again", chain(&error));
                            std::thread::sleep(Duration::from_secs(5));
                        }
                    }
                }
            });
        if let Err(error) = waiting {
            warning!("cannot start the thread that waits for containers: {error}");
            return;
        }
        while let Ok(event) = receive.recv().await {
            match event {
                coracle_runtime::Event::ContainerExited { pod, id, exit } => {
                    if let Some(uid) = PodUid::parse(pod.as_str()) {
                        self.exited(uid, id.name(), id.attempt(), exit_of(&exit)).await;
                    }
                }
                coracle_runtime::Event::ShimDied { pod } => {
                    if let Some(uid) = PodUid::parse(pod.as_str()) {
                        self.send(Event::SandboxLost(uid)).await;
                    }
                }
            }
        }
    }

    /// Once a minute: what other programs did to the packet filter.
    async fn look_after_network(self: Rc<Self>) {
        let mut told = String::new();
        loop {
            let network = Arc::clone(&self.network);
            match self.blocking(move || network.look_after()).await {
                Ok(()) => told.clear(),
                Err(network::NetworkError::NoRange) => {}
                Err(error) => {
                    let text = chain(&error);
                    if text != told {
                        warning!("pod network: {text}");
                        told = text;
                    }
                }
            }
            sleep(limits::FILTER_EVERY).await;
        }
    }

    /// The control plane said something about the network.
    pub(crate) async fn network_learned(&self, cidr: Option<String>, server: Option<SocketAddr>) {
        let (network, service) = (Arc::clone(&self.network), self.services.kubernetes());
        let done = self
            .blocking(move || match network.learn(cidr.as_deref(), server, service) {
                Ok(true) => network.ensure(),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            })
            .await;
        match done {
            Ok(()) | Err(network::NetworkError::NoRange) => {}
            Err(error) => warning!("pod network: {}", chain(&error)),
        }
    }

    /// Joins if that was not done, and starts everything that talks to the control plane.
    async fn go_online(self: Rc<Self>) -> Result<(), String> {
        let board: Rc<dyn Board> = Rc::clone(&self) as _;
        let api = member::join(&board, &self.state, self.options.token.as_deref()).await?;
        let local = &self.member.local;
        let (changed, to_refresh) = channel::bounded(limits::EVENTS_MAX);
        let follower = objects::Follower::new(local, api.clone(), changed);
        if self.online.set(Online { api: api.clone(), follower }).is_err() {
            return Err("joined twice".into());
        }
        member::attend(&board, &api);
        local.spawn(tunnel::keep(Rc::clone(&self), api.clone()));
        let shell = Rc::clone(&self);
        local.spawn(async move {
            while let Ok(uid) = to_refresh.recv().await {
                shell.refresh_volumes(&uid);
            }
        });
        local.spawn(Rc::clone(&self).follow_services(api));
        Ok(())
    }

    async fn follow_services(self: Rc<Self>, api: Api) {
        watch::follow(&api, "/api/v1/services", "", async |seen| {
            self.services.take(seen);
            self.network_learned(None, api.peer()).await;
        })
        .await;
    }
}

impl Board for Shell {
    fn member(&self) -> &Member {
        &self.member
    }

    fn begin(self: Rc<Self>, action: Action) {
        self.carry(action);
    }

    fn look(self: Rc<Self>, peer: Option<SocketAddr>) -> Task<'static, NodeFacts> {
        Box::pin(async move { self.facts(peer).await })
    }

    fn range_learned(self: Rc<Self>, cidr: String) -> Task<'static, ()> {
        Box::pin(async move { self.network_learned(Some(cidr), None).await })
    }
}

/// What tells the agent to stop. Made before any task: signals that come early are not lost.
fn stop_signals() -> Result<async_signal::Signals, String> {
    async_signal::Signals::new([async_signal::Signal::Term, async_signal::Signal::Int])
        .map_err(|error| format!("cannot wait for signals: {error}"))
}

/// Waits for SIGTERM or SIGINT, or for a reason to end that comes first.
async fn stopped_or_failed(
    mut signals: async_signal::Signals,
    failed: channel::Receiver<String>,
) -> Result<(), String> {
    let stopped = async {
        let _ = signals.next().await;
        Ok(())
    };
    let failed = async {
        match failed.recv().await {
            Ok(why) => Err(why),
            Err(_) => smol::future::pending().await,
        }
    };
    smol::future::or(stopped, failed).await
}

/// How a container ended, for the pod machine; its last words are read elsewhere.
pub(crate) fn exit_of(exit: &coracle_runtime::Exit) -> event::Exit {
    event::Exit {
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        unseen: false,
        started_s: seconds(exit.started_at_ms),
        finished_s: seconds(exit.finished_at_ms),
        message: String::new(),
    }
}

fn seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

/// A sandbox that the runtime found, for the pod machine.
pub(crate) fn found_sandbox(
    uid: PodUid,
    status: &PodStatus,
    ips: Vec<String>,
) -> event::FoundSandbox {
    let containers = status.containers.iter().map(found_container).collect();
    event::FoundSandbox { uid, alive: status.shim_pid.is_some(), ips, containers }
}

fn found_container(status: &ContainerStatus) -> event::FoundContainer {
    let (started_s, exit) = match &status.state {
        ContainerState::Running { started_at_ms, .. } => (seconds(*started_at_ms), None),
        ContainerState::Starting => (clock::wall_s(), None),
        ContainerState::Exited(exit) => (seconds(exit.started_at_ms), Some(exit_of(exit))),
        ContainerState::StartFailed { message, at_ms } => {
            let at_s = seconds(*at_ms);
            let exit = event::Exit {
                code: 128,
                started_s: at_s,
                finished_s: at_s,
                message: message.clone(),
                ..event::Exit::default()
            };
            (at_s, Some(exit))
        }
        ContainerState::Unknown => {
            let now_s = clock::wall_s();
            (now_s, Some(event::Exit::unseen(now_s, now_s)))
        }
    };
    let name = status.id.name().to_owned();
    event::FoundContainer { name, attempt: status.id.attempt(), started_s, exit }
}

/// An error and all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
