//! cgroups of version 1, 2 and hybrid hosts: cgroups-rs makes, limits and fills them; what it does not do or does
//! wrongly (weights, OOM counts, killing, removing) is plain file access here.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuacct::CpuAcctController;
use cgroups_rs::freezer::FreezerController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, CgroupPid, Hierarchy, MaxValue, Subsystem};

use crate::limits::KILL_MS_MAX;
use crate::plan::HostFacts;
use crate::{Resources, RuntimeError, Stats};

/// Where systemd, and everybody else, mounts cgroups.
const MOUNT: &str = "/sys/fs/cgroup";

/// A controller that Coracle uses.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Shares and quota.
    Cpu,
    /// CPU time (v1; in v2 it is part of the tree).
    CpuAcct,
    /// Memory limit, use, OOM kills.
    Memory,
    /// Number of processes.
    Pids,
    /// Stopping all processes of a group (v1; in v2 it is part of the tree).
    Freezer,
}

impl Controller {
    const ALL: [Self; 5] = [Self::Cpu, Self::CpuAcct, Self::Memory, Self::Pids, Self::Freezer];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuAcct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }
}

/// The cgroup trees of this host, as mounted.
#[derive(Clone)]
pub struct CgroupSet {
    v2: bool,
    /// Each controller with the directory of its tree.
    trees: Vec<(Controller, PathBuf)>,
    /// Controllers of each v1 tree, as `cpu,cpuacct`.
    v1_trees: Vec<String>,
}

impl fmt::Debug for CgroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.v2 { "v2" } else { "v1" };
        write!(f, "cgroup {version}, controllers")?;
        self.trees.iter().try_for_each(|(controller, _)| write!(f, " {}", controller.name()))
    }
}

impl CgroupSet {
    /// Looks at the mount table. A host without cgroups gives an empty set.
    pub fn of_this_host() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let v2 = fs::read_to_string(format!("{MOUNT}/cgroup.controllers")).unwrap_or_default();
        Ok(Self::parse(&mounts, &v2))
    }

    /// `mountinfo` is that file; `v2` the controllers of a v2 tree at [`MOUNT`], empty if there is none.
    pub(super) fn parse(mountinfo: &str, v2_controllers: &str) -> Self {
        let (mut v2, mut trees, mut v1_trees) = (false, Vec::new(), Vec::new());
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            let fstype = right.next();
            let options = right.next_back().unwrap_or_default();
            if fstype == Some("cgroup2") && point == MOUNT {
                v2 = true;
            } else if fstype == Some("cgroup") {
                let mine: Vec<_> = Controller::ALL
                    .into_iter()
                    .filter(|mine| options.split(',').any(|option| option == mine.name()))
                    .filter(|mine| !trees.iter().any(|(other, _)| other == mine))
                    .collect();
                if !mine.is_empty() {
                    let names: Vec<_> = mine.iter().map(|mine| mine.name()).collect();
                    v1_trees.push(names.join(","));
                }
                trees.extend(mine.into_iter().map(|mine| (mine, PathBuf::from(point))));
            }
        }
        if v2 {
            v1_trees.clear();
            trees = [Controller::Cpu, Controller::Memory, Controller::Pids]
                .into_iter()
                .filter(|mine| v2_controllers.split_whitespace().any(|name| name == mine.name()))
                .map(|mine| (mine, PathBuf::from(MOUNT)))
                .collect();
        }
        Self { v2, trees, v1_trees }
    }

    /// One tree for all.
    pub fn is_v2(&self) -> bool {
        self.v2
    }

    /// Whether limits of this controller are enforced here.
    pub fn has(&self, controller: Controller) -> bool {
        self.trees.iter().any(|(mine, _)| *mine == controller)
    }

    /// What the plan of a container wants to know.
    pub fn facts(&self) -> HostFacts {
        HostFacts { cgroup_v2: self.v2, cgroup_v1: self.v1_trees.clone() }
    }

    /// The directory of `path` in `controller`'s tree.
    fn dir(&self, controller: Controller, path: &str) -> Option<PathBuf> {
        let tree = self.trees.iter().find(|(mine, _)| *mine == controller);
        tree.map(|(_, root)| root.join(path))
    }

    /// `path` in every tree, each once.
    fn dirs(&self, path: &str) -> Vec<PathBuf> {
        if self.v2 {
            return vec![Path::new(MOUNT).join(path)];
        }
        let mut dirs: Vec<_> = self.trees.iter().map(|(_, root)| root.join(path)).collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn group(&self, path: &str) -> Cgroup {
        let names = if self.v2 {
            self.trees.iter().map(|(mine, _)| mine.name().to_owned()).collect()
        } else {
            // v1 trees are not chosen by name: what is mounted is used.
            Controller::ALL.iter().map(|mine| mine.name().to_owned()).collect()
        };
        Cgroup::load_with_specified_controllers(Box::new(Trees(self.clone())), path, names)
    }

    /// Makes a group and those above it, in every tree.
    pub fn make(&self, path: &str) -> Result<(), RuntimeError> {
        if let Some(memory) = self.dir(Controller::Memory, "").filter(|_| !self.v2) {
            // Before Linux 5.11 a v1 memory group counts its children only if this is set before there are any.
            if let Some(first) = path.split('/').next() {
                let top = memory.join(first);
                let _there = fs::create_dir(&top);
                let _newer = fs::write(top.join("memory.use_hierarchy"), "1");
            }
        }
        self.group(path).create().map_err(|error| failed("make cgroup", path, &error))?;
        // cgroups-rs only logs when a directory of v1 cannot be made.
        match self.dirs(path).into_iter().find(|dir| !dir.is_dir()) {
            Some(dir) => Err(RuntimeError::Host(format!(
                "cannot make cgroup {}: run as root, with the cgroup trees writable",
                dir.display()
            ))),
            None => Ok(()),
        }
    }

    /// Sets the limits that this host has controllers for; [`super::facts`] tell of the others.
    pub fn limit(&self, path: &str, resources: &Resources) -> Result<(), RuntimeError> {
        let group = self.group(path);
        let failed = |error: cgroups_rs::error::Error| failed("limit cgroup", path, &error);
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        if let Some(cpu) = group.controller_of::<CpuController>() {
            if let Some(shares) = resources.cpu_shares {
                // cgroups-rs writes shares as weight unconverted on v2.
                let value = if self.v2 { Resources::cpu_weight(shares) } else { shares };
                cpu.set_shares(value).map_err(failed)?;
            }
            if let Some(quota) = resources.cpu_quota_us {
                cpu.set_cfs_quota_and_period(Some(signed(quota)), Some(Resources::CPU_PERIOD_US))
                    .map_err(failed)?;
            }
        }
        if let (Some(memory), Some(bytes)) =
            (group.controller_of::<MemController>(), resources.memory_bytes)
        {
            memory.set_limit(signed(bytes)).map_err(failed)?;
            let dir = self.dir(Controller::Memory, path).unwrap_or_default();
            // Without swap accounting these are absent, and there is nothing to keep.
            let (file, value) = if self.v2 {
                ("memory.swap.max", 0)
            } else {
                ("memory.memsw.limit_in_bytes", bytes)
            };
            let _absent = fs::write(dir.join(file), value.to_string());
        }
        if let (Some(pids), Some(max)) =
            (group.controller_of::<PidController>(), resources.pids_max)
        {
            pids.set_pid_max(MaxValue::Value(signed(max))).map_err(failed)?;
        }
        Ok(())
    }

    /// One process of the group over its memory limit takes all of the group with it (v2), as the kubelet has it.
    pub fn kill_together_on_oom(&self, path: &str) {
        if self.v2
            && let Some(dir) = self.dir(Controller::Memory, path)
        {
            let _older = fs::write(dir.join("memory.oom.group"), "1");
        }
    }

    /// Puts a process into the group, in every tree.
    pub fn add(&self, path: &str, pid: i32) -> Result<(), RuntimeError> {
        let id = CgroupPid::from(u64::try_from(pid).unwrap_or(0));
        if self.trees.is_empty() && self.v2 {
            // No controller at all: cgroups-rs has nothing to go by, but the group is there.
            return fs::write(Path::new(MOUNT).join(path).join("cgroup.procs"), pid.to_string())
                .map_err(|source| io_failed("add a process to cgroup", path, source));
        }
        self.group(path)
            .add_task_by_tgid(id)
            .map_err(|error| failed("add a process to cgroup", path, &error))
    }

    /// The group's directory on a host with one tree, to clone a process into it.
    pub(super) fn open_v2(&self, path: &str) -> Option<OwnedFd> {
        let dir = self.v2.then(|| Path::new(MOUNT).join(path))?;
        fs::File::open(dir).ok().map(OwnedFd::from)
    }

    /// The file whose `oom_kill` line counts processes of the group that the kernel killed for memory.
    pub fn oom_file(&self, path: &str) -> Option<PathBuf> {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        Some(self.dir(Controller::Memory, path)?.join(file))
    }

    /// Kills every process in the group and below it, and waits until there is none.
    pub fn kill(&self, path: &str) -> Result<(), RuntimeError> {
        let dirs: Vec<_> = self.dirs(path).into_iter().filter(|dir| dir.is_dir()).collect();
        let deadline = Instant::now() + Duration::from_millis(KILL_MS_MAX);
        let mut pause = Duration::from_micros(200);
        let mut frozen = false;
        loop {
            let mut pids = Vec::new();
            for dir in &dirs {
                processes(dir, &mut pids);
            }
            if pids.is_empty() {
                return Ok(());
            }
            let at_once =
                self.v2 && dirs.iter().all(|dir| fs::write(dir.join("cgroup.kill"), "1").is_ok());
            if !at_once {
                // Frozen, none of them can fork away from the list.
                frozen = !frozen;
                self.freeze(path, frozen);
                for pid in pids {
                    let _gone = super::os::kill(pid, libc::SIGKILL);
                }
                self.freeze(path, false);
            }
            if Instant::now() > deadline {
                return Err(RuntimeError::Host(format!(
                    "processes of cgroup {path} do not die; one hangs in the kernel (a dead disk or network share?)"
                )));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn freeze(&self, path: &str, frozen: bool) {
        let (dir, file, value) = if self.v2 {
            (Some(Path::new(MOUNT).join(path)), "cgroup.freeze", if frozen { "1" } else { "0" })
        } else {
            let value = if frozen { "FROZEN" } else { "THAWED" };
            (self.dir(Controller::Freezer, path), "freezer.state", value)
        };
        if let Some(dir) = dir {
            // A help, not a condition: without it the loop in `kill` goes around once more.
            let _absent = fs::write(dir.join(file), value);
        }
    }

    /// Removes the group and those below it. They must be empty of processes.
    pub fn remove(&self, path: &str) -> Result<(), RuntimeError> {
        for dir in self.dirs(path) {
            remove_tree(&dir).map_err(|source| io_failed("remove cgroup", path, source))?;
        }
        Ok(())
    }

    /// Removes the groups above `path` that nothing is in any more.
    pub fn remove_empty_parents(&self, path: &str) {
        let mut above = Path::new(path).parent();
        while let Some(parent) = above.filter(|parent| !parent.as_os_str().is_empty()) {
            for dir in self.dirs(&parent.to_string_lossy()) {
                // The kernel refuses while there are other groups in it.
                let _in_use = fs::remove_dir(dir);
            }
            above = parent.parent();
        }
    }

    /// What the group uses now. What there is no controller for is 0.
    pub fn stats(&self, path: &str) -> Stats {
        let read = |controller, v1: &str, v2: &str| {
            let dir = self.dir(controller, path)?;
            fs::read_to_string(dir.join(if self.v2 { v2 } else { v1 })).ok()
        };
        let number = |text: Option<String>| text.and_then(|t| t.trim().parse().ok()).unwrap_or(0);
        let memory_bytes =
            number(read(Controller::Memory, "memory.usage_in_bytes", "memory.current"));
        let stat = read(Controller::Memory, "memory.stat", "memory.stat").unwrap_or_default();
        let inactive = if self.v2 { "inactive_file" } else { "total_inactive_file" };
        let cpu_nanos = if self.v2 {
            let stat = fs::read_to_string(Path::new(MOUNT).join(path).join("cpu.stat"));
            field(&stat.unwrap_or_default(), "usage_usec").unwrap_or(0) * 1000
        } else {
            number(read(Controller::CpuAcct, "cpuacct.usage", ""))
        };
        Stats {
            memory_bytes,
            memory_working_set_bytes: memory_bytes
                .saturating_sub(field(&stat, inactive).unwrap_or(0)),
            cpu_nanos,
            pids: number(read(Controller::Pids, "pids.current", "pids.current")),
        }
    }
}

/// The value in a file of `name value` lines.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn processes(dir: &Path, pids: &mut Vec<i32>) {
    let list = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in subdirs(dir) {
        processes(&child, pids);
    }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in subdirs(dir) {
        remove_tree(&child)?;
    }
    let deadline = Instant::now() + Duration::from_millis(KILL_MS_MAX);
    loop {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // The last process has exited but is not yet taken out.
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_micros(500));
            }
            done => return done,
        }
    }
}

fn failed(doing: &str, path: &str, error: &cgroups_rs::error::Error) -> RuntimeError {
    let mut text = format!("cannot {doing} {path}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    RuntimeError::Host(text)
}

fn io_failed(doing: &str, path: &str, source: io::Error) -> RuntimeError {
    RuntimeError::Io { doing: format!("{doing} {path}"), source }
}

/// The trees as cgroups-rs wants them: only what is used, so that its parsing of huge pages and the like is not even linked.
#[derive(Debug)]
struct Trees(CgroupSet);

impl Hierarchy for Trees {
    fn subsystems(&self) -> Vec<Subsystem> {
        let v2 = self.0.v2;
        let one = |(controller, root): &(Controller, PathBuf)| {
            let root = root.clone();
            match controller {
                Controller::Cpu => Subsystem::Cpu(CpuController::new(root, v2)),
                Controller::CpuAcct => Subsystem::CpuAcct(CpuAcctController::new(root)),
                Controller::Memory => Subsystem::Mem(MemController::new(root, v2)),
                Controller::Pids => Subsystem::Pid(PidController::new(root, v2)),
                Controller::Freezer => Subsystem::Freezer(FreezerController::new(root, v2)),
            }
        };
        self.0.trees.iter().map(one).collect()
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(MOUNT)
    }

    fn root_control_group(&self) -> Cgroup {
        Cgroup::load(Box::new(Self(self.0.clone())), "")
    }

    fn parent_control_group(&self, path: &str) -> Cgroup {
        let parent = Path::new(path).parent().unwrap_or(Path::new(""));
        Cgroup::load(Box::new(Self(self.0.clone())), parent)
    }

    fn v2(&self) -> bool {
        self.0.v2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_host_is_understood() {
        fn check(mountinfo: &str, controllers: &str, want: &str, v1: &[&str]) {
            let got = CgroupSet::parse(mountinfo, controllers);
            assert_eq!(format!("{got:?}"), want);
            assert_eq!(got.facts().cgroup_v1, v1);
        }
        check("", "", "cgroup v1, controllers", &[]);
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate",
            "cpuset cpu io memory pids",
            "cgroup v2, controllers cpu memory pids",
            &[],
        );
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "cpu io pids",
            "cgroup v2, controllers cpu pids",
            &[],
        );
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            "",
            "cgroup v1, controllers cpu cpuacct memory",
            &["cpu,cpuacct", "memory"],
        );
    }
}
