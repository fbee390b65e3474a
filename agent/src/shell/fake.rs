//! Fake nodes: each joins, registers, renews its Lease and plays its pods with the agent's own pod machine; only what it
//! would do to a machine is made up. For trying out schedulers and control planes of a hundred nodes on one board: no
//! root, no cgroups, no bridge, no images.
//!
//! A fake container runs until its pod is deleted or evicted; it ends on SIGTERM, by the signal. There is no program and
//! so nothing to read of it: a fake node opens no tunnel, and `kubectl logs` finds none.

use std::{cell::RefCell, net::SocketAddr, path::PathBuf, rc::Rc, time::Duration};

use coracle_agent_logic::{
    Action, Agent, Event, PodUid,
    event::{Exit, ImageFacts, ImageFault, ImageOrigin, StartFault},
    fake::{Process, Runtime},
    node::NodeFacts,
};
use coracle_image::Reference;
use coracle_rt::{Local, sleep};
use smol::{channel, lock::Semaphore};

use super::{
    Options, chain, clock, limits,
    log::info,
    machine_facts,
    member::{self, Board, Member, Task},
    state::StateDir,
    stop_signals, stopped_or_failed,
};

/// What fake nodes there are and what each offers.
#[derive(Clone, Debug)]
pub(crate) struct Fakes {
    /// How many.
    pub(crate) count: usize,
    /// They are `PREFIX-0`, `PREFIX-1`, ….
    pub(crate) prefix: String,
    /// Cores of each.
    pub(crate) cpus: u64,
    /// Bytes of memory of each.
    pub(crate) memory_bytes: u64,
    /// Pods of each at one time.
    pub(crate) pods_max: usize,
    /// From the wish for a container until it runs.
    pub(crate) start: Duration,
}

impl Fakes {
    fn facts(&self, number: usize, host: &NodeFacts) -> NodeFacts {
        let name = format!("{}-{number}", self.prefix);
        NodeFacts {
            hostname: name.clone(),
            machine_id: name.clone(),
            system_uuid: name.clone(),
            name,
            os_image: "none: a fake node of coracle-agent".into(),
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            memory_free_bytes: self.memory_bytes,
            disk_bytes: limits::FAKE_DISK_BYTES,
            disk_free_bytes: limits::FAKE_DISK_BYTES,
            pids: (1, 32_768),
            pods_max: Some(self.pods_max),
            lacking: Vec::new(),
            ..host.clone()
        }
    }
}

/// Runs fake nodes until SIGTERM or SIGINT. Their pods end with them: nobody else knows of them.
///
/// # Errors
/// One line for people: what failed, why, what to do.
pub(crate) fn run(options: Options, fakes: Fakes) -> Result<(), String> {
    let local = Local::default();
    let main = local.clone();
    smol::future::block_on(main.run(async move { start(local, &options, &fakes).await }))
}

async fn start(local: Local, options: &Options, fakes: &Fakes) -> Result<(), String> {
    let state = StateDir::open(&options.data_dir).map_err(|error| chain(&error))?;
    let _lock = state.lock().map_err(|error| chain(&error))?;
    let signals = stop_signals()?;
    let host = machine_facts::read("", state.root(), None, &[]);
    let (fatal, failed) = channel::bounded::<String>(1);
    let joining = Rc::new(Semaphore::new(limits::FAKE_JOINS_MAX));
    info!("playing {} nodes, {}-0 and on", fakes.count, fakes.prefix);
    for number in 0..fakes.count {
        let facts = fakes.facts(number, &host);
        let dir = state.root().join(&facts.name);
        let agent = Agent::new(facts.ips.clone()).with_pods_max(fakes.pods_max);
        let (server, labels) = (options.server.clone(), options.labels.clone());
        let (member, incoming) = Member::new(local.clone(), server, labels, facts, agent);
        let node = FakeNode { member, runtime: RefCell::default(), start: fakes.start };
        let board: Rc<dyn Board> = Rc::new(node);
        member::step(&board, Event::Recovered(Vec::new()));
        local.spawn(member::drive(Rc::clone(&board), incoming));
        let (token, joining, fatal) = (options.token.clone(), Rc::clone(&joining), fatal.clone());
        local.spawn(async move {
            let place = joining.acquire().await;
            let joined = join(&board, dir, token.as_deref()).await;
            drop(place);
            if let Err(why) = joined {
                // The first reason is told; the others are the same.
                let _ = fatal.try_send(format!("node {}: {why}", board.member().name));
            }
        });
    }
    stopped_or_failed(signals, failed).await?;
    info!("stopping; the fake nodes and their pods are no more");
    Ok(())
}

async fn join(board: &Rc<dyn Board>, dir: PathBuf, token: Option<&str>) -> Result<(), String> {
    let state = StateDir::open(&dir).map_err(|error| chain(&error))?;
    let api = member::join(board, &state, token).await?;
    api.connected().await;
    member::attend(board, &api);
    Ok(())
}

/// A node whose machine is made up.
struct FakeNode {
    member: Member,
    runtime: RefCell<Runtime>,
    start: Duration,
}

impl Board for FakeNode {
    fn member(&self) -> &Member {
        &self.member
    }

    fn begin(self: Rc<Self>, action: Action) {
        let local = self.member.local.clone();
        match action {
            Action::Tell(uid, tale) => self.member.tell(&uid, tale),
            Action::WakeAt(at) => self.member.wake_at(at),
            Action::PatchStatus(uid, version, status) => {
                local.spawn(async move { self.member.patch_status(uid, version, status).await });
            }
            Action::Delete(uid) => local.spawn(async move { self.member.delete(uid).await }),
            Action::Start(..) => local.spawn(async move {
                if !self.start.is_zero() {
                    sleep(self.start).await;
                }
                self.play(action).await;
            }),
            // Nothing of a pod is on a disk.
            Action::Keep(_) | Action::Forget(_) => {}
            Action::PrepareVolumes(_)
            | Action::MakeSandbox(_)
            | Action::EnsureImage(..)
            | Action::Stop(..)
            | Action::Kill(..)
            | Action::TearDown(_) => local.spawn(self.play(action)),
        }
    }

    fn look(self: Rc<Self>, _peer: Option<SocketAddr>) -> Task<'static, NodeFacts> {
        Box::pin(async move { self.member.machine.borrow().clone() })
    }

    fn range_learned(self: Rc<Self>, cidr: String) -> Task<'static, ()> {
        self.runtime.borrow_mut().set_range(&cidr);
        Box::pin(std::future::ready(()))
    }
}

impl FakeNode {
    /// What a machine would do, at once.
    async fn play(self: Rc<Self>, action: Action) {
        for event in self.events_of(action) {
            self.member.send(event).await;
        }
    }

    fn events_of(&self, action: Action) -> Vec<Event> {
        let mut runtime = self.runtime.borrow_mut();
        match action {
            Action::PrepareVolumes(uid) => vec![Event::VolumesReady(uid)],
            Action::MakeSandbox(uid) => match self.member.pod(&uid) {
                None => vec![],
                Some(pod) if pod.spec.host_network => {
                    runtime.make(&uid);
                    let ips = self.member.machine.borrow().ips.clone();
                    vec![Event::SandboxMade(uid, ips)]
                }
                Some(_) => {
                    let ip = runtime.make(&uid);
                    vec![Event::SandboxMade(uid, vec![ip])]
                }
            },
            Action::EnsureImage(uid, name) => self.image(uid, name).into_iter().collect(),
            Action::Start(uid, name, attempt) => self.started(&mut runtime, uid, name, attempt),
            Action::Stop(uid, name, attempt) => ended(&mut runtime, uid, name, attempt, SIGTERM),
            Action::Kill(uid, name, attempt) => ended(&mut runtime, uid, name, attempt, SIGKILL),
            Action::TearDown(uid) => {
                runtime.remove(&uid);
                vec![Event::TornDown(uid)]
            }
            Action::Keep(_)
            | Action::Forget(_)
            | Action::PatchStatus(..)
            | Action::Delete(_)
            | Action::Tell(..)
            | Action::WakeAt(_) => vec![],
        }
    }

    /// Every image is there whose name is one.
    fn image(&self, uid: PodUid, name: String) -> Option<Event> {
        let pod = self.member.pod(&uid)?;
        let image = &pod.container(&name)?.image;
        Some(match Reference::parse(image) {
            Ok(_) => {
                let facts = ImageFacts { id: image.clone(), origin: ImageOrigin::Present };
                Event::ImageReady(uid, name, facts)
            }
            Err(error) => Event::ImageFailed(uid, name, ImageFault::InvalidName, chain(&error)),
        })
    }

    fn started(
        &self,
        runtime: &mut Runtime,
        uid: PodUid,
        container: String,
        attempt: u32,
    ) -> Vec<Event> {
        if self.member.pod(&uid).is_none() {
            return vec![];
        }
        let failed = |message: String| {
            let (uid, container) = (uid.clone(), container.clone());
            let fault = StartFault::Create;
            vec![Event::StartFailed { uid, container, attempt, fault, message }]
        };
        match runtime.start(&uid, &container, attempt, clock::wall_s()) {
            Err(broken) => failed(broken),
            Ok(None) => failed("its sandbox is gone".into()),
            Ok(Some(Process::Runs(at_s))) => vec![Event::Started { uid, container, attempt, at_s }],
            Ok(Some(Process::Ended(exit))) => {
                let (of, name, at_s) = (uid.clone(), container.clone(), exit.started_s);
                vec![
                    Event::Started { uid: of, container: name, attempt, at_s },
                    Event::Exited { uid, container, attempt, exit },
                ]
            }
        }
    }
}

/// Exit codes of what a signal ended, as a shell gives them.
const SIGTERM: i32 = 128 + 15;
const SIGKILL: i32 = 128 + 9;

fn ended(
    runtime: &mut Runtime,
    uid: PodUid,
    container: String,
    attempt: u32,
    code: i32,
) -> Vec<Event> {
    if !runtime.end(&uid, &container, attempt, code, clock::wall_s()) {
        return vec![];
    }
    let exit: Option<Exit> = runtime.exit(&uid, &container, attempt);
    exit.into_iter()
        .map(|exit| Event::Exited { uid: uid.clone(), container: container.clone(), attempt, exit })
        .collect()
}
