//! An honest fake of a board's runtime: sandboxes and containers that start, end and fail, and nothing but these records
//! of them. It outlives the agent, as shims do, and notices when a promise is broken (R5). The simulator's boards have
//! it, and the nodes of `coracle-agent --fake`.

use alloc::{
    borrow::ToOwned as _,
    collections::BTreeMap,
    format,
    string::{String, ToString as _},
    vec,
    vec::Vec,
};

use crate::{
    PodUid,
    event::{Exit, FoundContainer, FoundSandbox},
};

/// Where sandboxes have their addresses until a range is given.
const RANGE: &str = "10.42.0";

/// One attempt of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// It runs since then (Unix seconds).
    Runs(i64),
    /// It ended so.
    Ended(Exit),
}

/// A pod's shim and its containers by name and attempt.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Its shim lives.
    pub alive: bool,
    /// Its address.
    pub ip: String,
    /// All attempts.
    pub containers: BTreeMap<(String, u32), Process>,
}

/// One board's runtime.
#[derive(Debug, Default)]
pub struct Runtime {
    sandboxes: BTreeMap<PodUid, Sandbox>,
    next_ip: u64,
    /// First three numbers of new addresses; empty: [`RANGE`].
    range: String,
    /// Containers that were ever started.
    pub started: u64,
}

impl Runtime {
    /// New sandboxes have addresses of this range, a /24 as `10.42.7.0/24`; of one that is none they do not.
    pub fn set_range(&mut self, cidr: &str) {
        if let Some((range, _)) =
            cidr.rsplit_once('.').filter(|(range, _)| range.matches('.').count() == 2)
        {
            self.range = range.to_string();
        }
    }

    /// All sandboxes.
    pub fn sandboxes(&self) -> impl Iterator<Item = (&PodUid, &Sandbox)> {
        self.sandboxes.iter()
    }

    /// Containers of a pod that run.
    pub fn running(&self, uid: &PodUid) -> usize {
        let containers = self.sandboxes.get(uid).map(|sandbox| &sandbox.containers);
        let all = containers.into_iter().flat_map(BTreeMap::values);
        all.filter(|process| matches!(process, Process::Runs(_))).count()
    }

    /// Makes a sandbox; one that is there is given again. Gives its address.
    pub fn make(&mut self, uid: &PodUid) -> String {
        let sandbox = self.sandboxes.entry(uid.clone()).or_default();
        if !sandbox.alive {
            self.next_ip += 1;
            let range = if self.range.is_empty() { RANGE } else { &self.range };
            sandbox.ip = format!("{range}.{}", 1 + self.next_ip % 250);
            sandbox.alive = true;
        }
        sandbox.ip.clone()
    }

    /// Starts an attempt; `None` without a living sandbox. One that was started is given as it is.
    ///
    /// # Errors
    /// Another attempt of it runs (R5).
    pub fn start(
        &mut self,
        uid: &PodUid,
        name: &str,
        attempt: u32,
        now_s: i64,
    ) -> Result<Option<Process>, String> {
        let Some(sandbox) = self.sandboxes.get_mut(uid).filter(|sandbox| sandbox.alive) else {
            return Ok(None);
        };
        if let Some(there) = sandbox.containers.get(&(name.to_owned(), attempt)) {
            return Ok(Some(there.clone()));
        }
        let other = sandbox
            .containers
            .iter()
            .find(|((of, _), process)| of == name && matches!(process, Process::Runs(_)));
        if let Some(((_, other), _)) = other {
            return Err(format!(
                "R5: attempt {attempt} of {name} in pod {uid} is started while {other} runs"
            ));
        }
        self.started += 1;
        let process = Process::Runs(now_s);
        sandbox.containers.insert((name.to_owned(), attempt), process.clone());
        Ok(Some(process))
    }

    /// Ends an attempt, if it runs. Whether it did.
    pub fn end(&mut self, uid: &PodUid, name: &str, attempt: u32, code: i32, now_s: i64) -> bool {
        let sandbox = self.sandboxes.get_mut(uid);
        let of = (name.to_owned(), attempt);
        let Some(process) = sandbox.and_then(|sandbox| sandbox.containers.get_mut(&of)) else {
            return false;
        };
        let Process::Runs(started_s) = *process else { return false };
        *process = Process::Ended(exit(code, started_s, now_s));
        true
    }

    /// How an attempt ended, if it did.
    pub fn exit(&self, uid: &PodUid, name: &str, attempt: u32) -> Option<Exit> {
        match self.sandboxes.get(uid)?.containers.get(&(name.to_owned(), attempt))? {
            Process::Ended(exit) => Some(exit.clone()),
            Process::Runs(_) => None,
        }
    }

    /// The shim dies, and its containers with it: nobody saw how they ended.
    pub fn lose_shim(&mut self, uid: &PodUid) {
        if let Some(sandbox) = self.sandboxes.get_mut(uid) {
            sandbox.alive = false;
            sandbox.containers.retain(|_, process| matches!(process, Process::Ended(_)));
        }
    }

    /// The board starts again: no process is left, what was recorded is.
    pub fn reboot(&mut self) {
        let uids: Vec<PodUid> = self.sandboxes.keys().cloned().collect();
        uids.iter().for_each(|uid| self.lose_shim(uid));
    }

    /// Takes a sandbox away. Gives how many containers still ran in it.
    pub fn remove(&mut self, uid: &PodUid) -> usize {
        let running = self.running(uid);
        self.sandboxes.remove(uid);
        running
    }

    /// What an agent that starts finds.
    pub fn found(&self) -> Vec<FoundSandbox> {
        let found = |(uid, sandbox): (&PodUid, &Sandbox)| FoundSandbox {
            uid: uid.clone(),
            alive: sandbox.alive,
            ips: vec![sandbox.ip.clone()],
            containers: sandbox.containers.iter().map(found_container).collect(),
        };
        self.sandboxes.iter().map(found).collect()
    }
}

fn found_container(((name, attempt), process): (&(String, u32), &Process)) -> FoundContainer {
    let (started_s, exit) = match process {
        Process::Runs(started_s) => (*started_s, None),
        Process::Ended(exit) => (exit.started_s, Some(exit.clone())),
    };
    FoundContainer { name: name.clone(), attempt: *attempt, started_s, exit }
}

fn exit(code: i32, started_s: i64, finished_s: i64) -> Exit {
    let signal = (code > 128).then_some(code - 128);
    Exit { code, signal, started_s, finished_s, ..Exit::default() }
}
