//! The shim's one loop: requests of the agent, reports of starters, output and ends of containers.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use coracle_disk::Sync;
use coracle_runtime::limits::{CONTAINERS_PER_POD_MAX, SHIM_CONNECTIONS_MAX};
use coracle_runtime::linux::os::{self, ChildSignals, Ended, Forked};
use coracle_runtime::linux::prepare_pod_namespaces;
use coracle_runtime::linux::protocol::{
    Answer, CGROUP_FILE, HEAD_BYTES, LOCK, PID_FILE, POD_FILE, Report, Request, SOCKET, receive,
    send,
};
use coracle_runtime::linux::starter::Start;
use coracle_runtime::{ContainerId, ContainerState, PodSandboxSpec, state_dir, wire};

use crate::log::Stream;
use crate::table::{Entry, Live};
use crate::{Options, record};

/// How long a connected agent may take to say what it wants: it has nothing to wait for.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that the loop works on.
struct Shim {
    pod_cgroup: String,
    signals: ChildSignals,
    listener: UnixListener,
    subscribers: Vec<UnixStream>,
    entries: Vec<Entry>,
    fail_step: Option<usize>,
    /// The state directory's lock: held until the last descriptor of it is closed.
    _lock: File,
}

/// What a descriptor of the poll is.
#[derive(Copy, Clone)]
enum Source {
    Signals,
    Listener,
    Subscriber(usize),
    Report(usize),
    Output(usize, Stream),
}

/// Becomes the pod's shim, and comes back only if that fails.
pub(crate) fn serve(options: &Options) -> Result<Infallible, String> {
    let mut shim = Shim::prepare(options)?;
    let mut stdout = io::stdout();
    let told = stdout.write_all(b"ready\n").and_then(|()| stdout.flush());
    told.map_err(|error| error.to_string())?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| format!("open /dev/null: {error}"))?;
    for fd in 0..=2 {
        os::replace_stdio(&null, fd).map_err(|error| format!("let go of stdio: {error}"))?;
    }
    drop(null);
    loop {
        // Nothing that goes wrong in one round may end the shim: its containers would die with it.
        if shim.round().is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Shim {
    fn prepare(options: &Options) -> Result<Self, String> {
        let (Some(data_dir), Some(uid)) = (&options.data_dir, &options.pod) else {
            return Err("give --data-dir DIR and --pod UID".to_owned());
        };
        let step = |doing: &'static str| move |error: io::Error| format!("{doing}: {error}");
        // Already a leader if a shell started it; nothing is lost then.
        let _leader = os::new_session();
        let state = state_dir(data_dir, uid);
        std::env::set_current_dir(&state).map_err(step("enter the state directory"))?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(LOCK);
        let lock = lock.map_err(step("open the lock"))?;
        if !os::try_lock(&lock).map_err(step("take the lock"))? {
            return Err(format!("pod {uid} has a shim already"));
        }
        let spec = fs::read(POD_FILE).map_err(step("read the pod's spec"))?;
        let spec: PodSandboxSpec =
            wire::decode(&spec).map_err(|error| format!("the pod's spec is {error}"))?;
        // Needs CAP_SYS_RESOURCE; without it the host's facts say so, and the shim is as mortal as others.
        let _without_right = fs::write("/proc/self/oom_score_adj", "-999");
        let pod_cgroup = fs::read_to_string(CGROUP_FILE).map_err(step("read the cgroup"))?;
        prepare_pod_namespaces(&spec.hostname, spec.host_network)
            .map_err(step("make the pod's namespaces"))?;
        let signals = ChildSignals::open().map_err(step("watch for ended children"))?;
        let loaded = record::load(Path::new(".")).map_err(step("read the records"))?;
        let entries = loaded.into_iter().map(|status| Entry { status, live: None }).collect();
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("remove the old socket: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(SOCKET).map_err(step("listen"))?;
        fs::set_permissions(SOCKET, PermissionsExt::from_mode(0o600)).map_err(step("listen"))?;
        listener.set_nonblocking(true).map_err(step("listen"))?;
        fs::write(PID_FILE, own_life().unwrap_or_default()).map_err(step("write the pid"))?;
        Ok(Self {
            pod_cgroup,
            signals,
            listener,
            subscribers: Vec::new(),
            entries,
            fail_step: options.fail_step,
            _lock: lock,
        })
    }

    /// Waits for something, and does it.
    fn round(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        let sources = {
            let mut fds: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd(), self.listener.as_fd()];
            let mut sources = vec![Source::Signals, Source::Listener];
            for (at, subscriber) in self.subscribers.iter().enumerate() {
                fds.push(subscriber.as_fd());
                sources.push(Source::Subscriber(at));
            }
            for (at, entry) in self.entries.iter().enumerate() {
                let Some(live) = &entry.live else { continue };
                if let Some(report) = &live.report {
                    fds.push(report.as_fd());
                    sources.push(Source::Report(at));
                }
                if live.log.is_none() {
                    continue;
                }
                for (stream, output) in
                    [(Stream::Stdout, &live.stdout), (Stream::Stderr, &live.stderr)]
                {
                    if let Some(output) = output {
                        fds.push(output.pipe.as_fd());
                        sources.push(Source::Output(at, stream));
                    }
                }
            }
            os::wait_readable(&fds, -1, &mut ready)?;
            sources
        };
        let ready: Vec<Source> = ready.iter().filter_map(|at| sources.get(*at).copied()).collect();
        let mut gone = Vec::new();
        let (mut ended, mut asked) = (false, false);
        for source in ready {
            match source {
                Source::Signals => ended = true,
                Source::Listener => asked = true,
                Source::Subscriber(at) => gone.push(at),
                Source::Report(at) => self.report(at),
                Source::Output(at, stream) => {
                    if let Some(live) = self.entries.get_mut(at).and_then(|e| e.live.as_mut()) {
                        live.pump(stream, false);
                    }
                }
            }
        }
        // A subscriber says nothing after its request: whatever comes is its end.
        for at in gone.into_iter().rev() {
            if at < self.subscribers.len() {
                self.subscribers.swap_remove(at);
            }
        }
        if ended {
            self.reap()?;
        }
        if asked {
            self.accept();
        }
        Ok(())
    }

    /// Starters report before their containers can end, so the reports are read first.
    fn reap(&mut self) -> io::Result<()> {
        self.signals.clear();
        self.pending_reports()?;
        while let Some((pid, how)) = os::reap()? {
            let at = self.entries.iter().position(|entry| {
                entry.live.as_ref().is_some_and(|live| live.pid == pid && live.pid > 0)
            });
            // Starters are reaped here too; nobody waits for them.
            let Some(at) = at else { continue };
            let running = self
                .entries
                .get(at)
                .is_some_and(|entry| matches!(entry.status.state, ContainerState::Running { .. }));
            if running {
                self.exited(at, how);
            } else if let Some(live) = self.entries.get_mut(at).and_then(|e| e.live.as_mut()) {
                live.ended = Some(how);
            }
        }
        Ok(())
    }

    fn pending_reports(&mut self) -> io::Result<()> {
        for at in 0..self.entries.len() {
            loop {
                let report = self.entries.get(at).and_then(|e| e.live.as_ref()?.report.as_ref());
                let Some(report) = report else { break };
                let mut ready = Vec::new();
                os::wait_readable(&[report.as_fd()], 0, &mut ready)?;
                if ready.is_empty() {
                    break;
                }
                self.report(at);
            }
        }
        Ok(())
    }

    /// Takes one report of the starter of the container at `at`.
    fn report(&mut self, at: usize) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        let Some(live) = entry.live.as_mut() else { return };
        let Some(pipe) = live.report.as_mut() else { return };
        let message = match receive::<Report>(pipe) {
            Ok(Report::Cloned { pid, log, oom_file }) => {
                live.cloned(pid, log, oom_file);
                return;
            }
            Ok(Report::Running { started_at_ms }) => {
                live.running(started_at_ms);
                entry.status.state = ContainerState::Running { pid: live.pid, started_at_ms };
                if let Some(how) = live.ended {
                    self.exited(at, how);
                }
                return;
            }
            Ok(Report::Failed(message)) => message,
            Err(error) => {
                if live.pid > 0 {
                    let _ended = os::kill(live.pid, 9);
                }
                format!("the starter died before it was done: {error}")
            }
        };
        entry.status.state = ContainerState::StartFailed { message, at_ms: os::now_ms() };
        entry.live = None;
        // If the disk is full the agent has the answer all the same.
        let _full = record::write_end(Path::new("."), &entry.status);
    }

    /// Records an exit, then tells it.
    fn exited(&mut self, at: usize, how: Ended) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        let Some(mut live) = entry.live.take() else { return };
        entry.status.state = ContainerState::Exited(live.finish(how));
        let _full = record::write_end(Path::new("."), &entry.status);
        let status = entry.status.clone();
        // Who cannot take an event at once is let go: it connects anew and asks for all states.
        self.subscribers.retain_mut(|subscriber| send(subscriber, &status).is_ok());
    }

    fn accept(&mut self) {
        let Ok((mut agent, _)) = self.listener.accept() else { return };
        // The directory's mode keeps others out; this is the second lock.
        if !os::peer(&agent).is_ok_and(|(uid, _)| uid == os::user_id()) {
            return;
        }
        let ready = agent
            .set_nonblocking(false)
            .and_then(|()| agent.set_read_timeout(Some(HEAD_TIMEOUT)))
            .and_then(|()| agent.set_write_timeout(Some(HEAD_TIMEOUT)));
        let mut head = [0; HEAD_BYTES];
        if ready.and_then(|()| agent.read_exact(&mut head)).is_err() {
            return;
        }
        let answer = match Request::of_head(&head) {
            Ok(Request::List) => {
                Answer::Containers(self.entries.iter().map(|entry| entry.status.clone()).collect())
            }
            Ok(Request::Start { id, spec_bytes }) => match self.start(agent, id, spec_bytes) {
                Some((back, refusal)) => {
                    agent = back;
                    refusal
                }
                None => return,
            },
            Ok(Request::Signal { id, signal }) => self.signal(&id, signal),
            Ok(Request::Forget { id }) => self.forget(&id),
            Ok(Request::Events) => {
                if self.subscribers.len() >= SHIM_CONNECTIONS_MAX {
                    // The oldest is an agent that is long dead, or one too many.
                    self.subscribers.remove(0);
                }
                if send(&mut agent, &Answer::Done).is_ok() && agent.set_nonblocking(true).is_ok() {
                    self.subscribers.push(agent);
                }
                return;
            }
            // Of another version: no answer is better than one that is misread.
            Err(_) => return,
        };
        let _gone = send(&mut agent, &answer);
    }

    fn at(&self, id: &ContainerId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.status.id == *id)
    }

    /// Forks a starter, which answers; gives the connection back with a refusal.
    fn start(
        &mut self,
        agent: UnixStream,
        id: ContainerId,
        spec_bytes: usize,
    ) -> Option<(UnixStream, Answer)> {
        if let Some(entry) = self.at(&id).and_then(|at| self.entries.get(at)) {
            return Some((agent, Answer::AlreadyStarted(entry.status.state.clone())));
        }
        if self.entries.len() >= CONTAINERS_PER_POD_MAX {
            return Some((agent, Answer::Full));
        }
        let failed = |doing: &str, error: &io::Error| {
            Answer::Failed(format!("{doing}: {error}"), error.raw_os_error())
        };
        let pipes = || -> io::Result<_> {
            let pipes = (os::pipe()?, os::pipe()?, os::pipe()?);
            os::set_nonblocking(&pipes.1.0)?;
            os::set_nonblocking(&pipes.2.0)?;
            Ok(pipes)
        };
        let ((report, to_report), (stdout, to_stdout), (stderr, to_stderr)) = match pipes() {
            Ok(pipes) => pipes,
            Err(error) => return Some((agent, failed("make pipes", &error))),
        };
        let entry = Entry::starting(id.clone(), report, stdout, stderr);
        // R5: on disk before anything runs, so that no later shim starts this attempt again.
        if let Err(error) = record::write(Path::new("."), &entry.status, Sync::Later) {
            return Some((agent, failed("record the start", &error)));
        }
        match os::fork() {
            Ok(Forked::Child) => {
                let start = Start {
                    agent,
                    spec_bytes,
                    id,
                    pod_cgroup: self.pod_cgroup.clone(),
                    report: to_report,
                    stdout: to_stdout,
                    stderr: to_stderr,
                    fail_at: self.fail_step,
                };
                start.carry_out();
                os::exit_now(0)
            }
            Ok(Forked::Parent(_)) => {
                self.fail_step = self.fail_step.map(|step| step + 1);
                self.entries.push(entry);
                None
            }
            Err(error) => {
                let _full = record::remove(&id);
                Some((agent, failed("fork", &error)))
            }
        }
    }

    fn signal(&self, id: &ContainerId, signal: i32) -> Answer {
        let Some(entry) = self.at(id).and_then(|at| self.entries.get(at)) else {
            return Answer::NotFound;
        };
        // Its id cannot be another's: it is a child that was not reaped.
        if let (ContainerState::Running { pid, .. }, Some(Live { ended: None, .. })) =
            (&entry.status.state, &entry.live)
        {
            let _ended = os::kill(*pid, signal);
        }
        Answer::Done
    }

    fn forget(&mut self, id: &ContainerId) -> Answer {
        let Some(at) = self.at(id) else { return Answer::NotFound };
        if self.entries.get(at).is_some_and(|entry| entry.live.is_some()) {
            return Answer::Running;
        }
        match record::remove(id) {
            Ok(()) => {
                self.entries.remove(at);
                Answer::Done
            }
            Err(error) => Answer::Failed(format!("forget {id}: {error}"), error.raw_os_error()),
        }
    }
}

/// `PID START-TIME`: the start time (field 22 of `/proc/self/stat`, in ticks since boot) tells it from a later process of the same id.
fn own_life() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let start = stat.rsplit(')').next()?.split_whitespace().nth(19)?;
    Some(format!("{} {start}\n", std::process::id()))
}
