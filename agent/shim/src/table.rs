//! The shim's table of containers: what each is doing, and its pipes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use coracle_runtime::linux::os::{self, Ended};
use coracle_runtime::{ContainerId, ContainerState, ContainerStatus, Exit, LogSpec};

use crate::log::{Lines, Log, Stream};

/// One attempt of one container.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) status: ContainerStatus,
    /// Set from the start until the exit is recorded.
    pub(crate) live: Option<Live>,
}

/// What a container has while it lives.
#[derive(Debug)]
pub(crate) struct Live {
    /// 0 until the starter has cloned it.
    pub(crate) pid: i32,
    /// The starter's reports; `None` once it has told how the start went.
    pub(crate) report: Option<File>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    /// Open once the starter has told where.
    pub(crate) log: Option<Log>,
    oom_file: Option<PathBuf>,
    started_at_ms: u64,
    /// It was reaped before the starter told that it runs.
    pub(crate) ended: Option<Ended>,
}

/// The reading end of a container's stdout or stderr.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) pipe: File,
    lines: Lines,
}

/// How much is read of one output before others get their turn.
const READS_IN_A_ROW: usize = 16;

impl Entry {
    /// A container whose starter is about to be forked.
    pub(crate) fn starting(
        id: ContainerId,
        report: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Self {
        let output = |pipe: OwnedFd| Some(Output { pipe: pipe.into(), lines: Lines::default() });
        let live = Live {
            pid: 0,
            report: Some(report.into()),
            stdout: output(stdout),
            stderr: output(stderr),
            log: None,
            oom_file: None,
            started_at_ms: 0,
            ended: None,
        };
        Self { status: ContainerStatus { id, state: ContainerState::Starting }, live: Some(live) }
    }
}

impl Live {
    /// The starter has cloned it.
    pub(crate) fn cloned(&mut self, pid: i32, log: LogSpec, oom_file: Option<PathBuf>) {
        self.pid = pid;
        self.log = Some(Log::open(log));
        self.oom_file = oom_file;
    }

    /// It has become its program.
    pub(crate) fn running(&mut self, started_at_ms: u64) {
        self.report = None;
        self.started_at_ms = started_at_ms;
    }

    /// Reads one output into the log; at its end, lets go of it.
    pub(crate) fn pump(&mut self, stream: Stream, all: bool) {
        let Self { stdout, stderr, log, .. } = self;
        let output = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        let (Some(open), Some(log)) = (output.as_mut(), log.as_mut()) else { return };
        let mut bytes = [0; 4096];
        let mut left = if all { usize::MAX } else { READS_IN_A_ROW };
        let at_end = loop {
            if left == 0 {
                break false;
            }
            left -= 1;
            match open.pipe.read(&mut bytes) {
                Ok(0) => break true,
                Ok(count) => {
                    let now = os::time_of_day();
                    let read = bytes.get(..count).unwrap_or_default();
                    open.lines.take(read, |whole, line| log.record(now, stream, whole, line));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        if at_end || all {
            let now = os::time_of_day();
            open.lines.end(|whole, line| log.record(now, stream, whole, line));
            *output = None;
        }
    }

    /// Everything it has said is in the log, and this is how it ended.
    pub(crate) fn finish(&mut self, ended: Ended) -> Exit {
        self.pump(Stream::Stdout, true);
        self.pump(Stream::Stderr, true);
        let (code, signal) = match ended {
            Ended::Code(code) => (code, None),
            Ended::Signal(signal) => (128 + signal, Some(signal)),
        };
        const SIGKILL: i32 = 9;
        let oom_killed = code == 128 + SIGKILL && self.oom_kills() > 0;
        Exit {
            code,
            signal,
            oom_killed,
            started_at_ms: self.started_at_ms,
            finished_at_ms: os::now_ms(),
        }
    }

    fn oom_kills(&self) -> u64 {
        let text = self.oom_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let text = text.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
        count.unwrap_or(0)
    }
}
