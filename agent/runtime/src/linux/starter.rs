//! The starter: a short-lived copy of the shim that carries out one container's plan. What it allocates dies with it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::cgroup::CgroupSet;
use super::host::{HostSteps, explain, step_error};
use super::os;
use super::protocol::{Answer, CONTAINERS, Report, send};
use super::seccomp::{Arch, Instruction, default_profile};
use super::spawn::Spawn;
use crate::limits::SHIM_ANSWER_MS_MAX;
use crate::plan::{Step, StepError, Sys, container_steps, run};
use crate::wire;
use crate::{ContainerId, ContainerSpec, ContainerState, ContainerStatus, RuntimeError, Seccomp};

/// What the shim gives to its starter.
#[derive(Debug)]
pub struct Start {
    /// The agent's connection; the encoded spec comes from it and the answer goes to it.
    pub agent: UnixStream,
    /// Length of the encoded spec.
    pub spec_bytes: usize,
    /// As in the request's head; the spec must agree.
    pub id: ContainerId,
    /// The pod's cgroup.
    pub pod_cgroup: String,
    /// Reports to the shim.
    pub report: OwnedFd,
    /// Ends that the container writes to.
    pub stdout: OwnedFd,
    /// See `stdout`.
    pub stderr: OwnedFd,
    /// For the test of R4: the number of the step that fails, the child's steps counted after the host's.
    pub fail_at: Option<usize>,
}

impl Start {
    /// Carries it out, and answers agent and shim. To be called in a copy made by [`os::fork`], with the state directory as
    /// working directory; the caller then leaves by [`os::exit_now`].
    pub fn carry_out(self) {
        let keep = [
            self.agent.as_raw_fd(),
            self.report.as_raw_fd(),
            self.stdout.as_raw_fd(),
            self.stderr.as_raw_fd(),
        ];
        let mut agent = match self.agent.try_clone() {
            Ok(agent) => agent,
            Err(_) => return,
        };
        let mut report = File::from(match self.report.try_clone() {
            Ok(report) => report,
            Err(_) => return,
        });
        let id = self.id.clone();
        let kept: Vec<RawFd> =
            keep.into_iter().chain([agent.as_raw_fd(), report.as_raw_fd()]).collect();
        let done = prepare(&kept)
            .map_err(|error| RuntimeError::Io { doing: "prepare a start".into(), source: error })
            .and_then(|()| self.start(&mut report));
        // The shim hears first: when the agent has its answer, the shim's table agrees with it.
        let answer = match done {
            Ok(pid) => {
                let started_at_ms = os::now_ms();
                let _shim_died = send(&mut report, &Report::Running { started_at_ms });
                let state = ContainerState::Running { pid, started_at_ms };
                Answer::Containers(vec![ContainerStatus { id, state }])
            }
            Err(error) => {
                let (message, errno) = explain(&error);
                let _shim_died = send(&mut report, &Report::Failed(message.clone()));
                Answer::Failed(message, errno)
            }
        };
        // An agent that died meanwhile asks for the state when it is back.
        let _agent_died = send(&mut agent, &answer);
    }

    fn start(mut self, report: &mut File) -> Result<i32, RuntimeError> {
        let io = |doing: &str| {
            let doing = doing.to_owned();
            move |source| RuntimeError::Io { doing, source }
        };
        let timeout = Some(Duration::from_millis(SHIM_ANSWER_MS_MAX));
        self.agent.set_read_timeout(timeout).map_err(io("read a container's spec"))?;
        let mut bytes = vec![0; self.spec_bytes];
        self.agent.read_exact(&mut bytes).map_err(io("read a container's spec"))?;
        let spec: ContainerSpec = wire::decode(&bytes)
            .map_err(|damaged| RuntimeError::BadSpec(format!("the spec is {damaged}")))?;
        if spec.id != self.id {
            return Err(RuntimeError::BadSpec(format!("asked for {}, got {}", self.id, spec.id)));
        }
        let cgroups = CgroupSet::of_this_host().map_err(io("read the mount table"))?;
        let state = std::env::current_dir().map_err(io("find the state directory"))?;
        let dir = state.join(CONTAINERS).join(spec.id.to_string());
        let cgroup = format!("{}/{}", self.pod_cgroup, spec.id);
        let steps = container_steps(&spec, &dir, &cgroup, &cgroups.facts())?;
        let filter = match spec.seccomp {
            Seccomp::Default => default_profile(Arch::of_this_machine(), spec.capabilities),
            Seccomp::Unconfined => Vec::new(),
        };
        let host_steps = steps.len() - 1;
        let stdin = stdin(spec.stdin_open).map_err(io("open stdin"))?;
        let mut sys = Starter {
            host: HostSteps::new(cgroups),
            spec: &spec,
            filter,
            stdio: Some([stdin, self.stdout, self.stderr]),
            report,
            pid: 0,
            fail_at: self.fail_at,
            performed: 0,
            host_steps,
        };
        run(&steps, &mut sys)
            .map_err(|StepError { message, errno }| RuntimeError::Start { message, errno })?;
        Ok(sys.pid)
    }
}

fn prepare(keep: &[RawFd]) -> io::Result<()> {
    os::die_with_parent()?;
    os::close_all_but(keep)
}

fn stdin(open: bool) -> io::Result<OwnedFd> {
    if !open {
        return Ok(File::open("/dev/null")?.into());
    }
    // A FIFO that the container itself keeps open for reading and writing: it never ends and nothing comes.
    let (read, write) = os::pipe()?;
    let path = format!("/proc/self/fd/{}", write.as_raw_fd());
    drop(read);
    Ok(fs::OpenOptions::new().read(true).write(true).open(path)?.into())
}

/// The host as the starter works on it.
struct Starter<'a> {
    host: HostSteps,
    spec: &'a ContainerSpec,
    filter: Vec<Instruction>,
    stdio: Option<[OwnedFd; 3]>,
    report: &'a mut File,
    pid: i32,
    fail_at: Option<usize>,
    performed: usize,
    host_steps: usize,
}

impl Sys for Starter<'_> {
    fn perform(&mut self, step: &Step) -> Result<(), StepError> {
        let at = self.performed;
        self.performed += 1;
        let spawning = at == self.host_steps;
        if self.fail_at == Some(at) && !spawning {
            return Err(StepError { message: format!("step {at} was made to fail"), errno: None });
        }
        match step {
            Step::Spawn { cgroup, child } => {
                let child_fails_at = self.fail_at.and_then(|fail| fail.checked_sub(at));
                self.spawn(cgroup, child, child_fails_at)
            }
            other => self.host.perform(other),
        }
    }

    fn undo(&mut self, step: &Step) {
        if matches!(step, Step::Spawn { .. }) && self.pid > 0 {
            // The shim reaps it. Its namespaces, with everything mounted in them, go with it.
            let _ended = os::kill(self.pid, libc::SIGKILL);
        }
        self.host.undo(step);
    }
}

impl Starter<'_> {
    fn spawn(
        &mut self,
        cgroup: &str,
        steps: &[crate::plan::ChildStep],
        fail_at: Option<usize>,
    ) -> Result<(), StepError> {
        let Some(stdio) = self.stdio.take() else {
            return Err(StepError { message: "spawned twice".into(), errno: None });
        };
        let dir = self.host.cgroups.open_v2(cgroup);
        let spawn = Spawn { steps, stdio, filter: &self.filter, cgroup: dir, fail_at };
        let (cgroups, report, pid_out) = (&self.host.cgroups, &mut *self.report, &mut self.pid);
        let log = self.spec.log.clone();
        let oom_file = cgroups.oom_file(cgroup);
        cgroups.kill_together_on_oom(cgroup);
        spawn.run(&mut |pid, to_be_placed| {
            *pid_out = pid;
            send(report, &Report::Cloned { pid, log: log.clone(), oom_file: oom_file.clone() })
                .map_err(|error| StepError {
                    message: format!("tell the shim of the container's process: {error}"),
                    errno: error.raw_os_error(),
                })?;
            if to_be_placed { cgroups.add(cgroup, pid).map_err(step_error) } else { Ok(()) }
        })
    }
}
