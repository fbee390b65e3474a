//! The processes of pods, as the machine shows them: never two sets for one pod (R5), none too many in calm, nothing left
//! at the end.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use coracle_benches::host;

use crate::{boards::Board, journal::Journal};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// First word of the containers' command line.
const PROGRAM: &str = "/testing-service";

/// Containers' first processes by the pod uid in their cgroup.
fn containers(cgroup_root: &str) -> BTreeMap<String, Vec<i32>> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for pid in host::pids_with(PROGRAM) {
        if host::words(pid).first().is_none_or(|word| word != PROGRAM) {
            continue;
        }
        let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mut parts = table.lines().filter(|line| line.contains(cgroup_root));
        let uid = parts.find_map(|line| line.split("/pod").nth(1)?.split('/').next());
        if let Some(uid) = uid {
            found.entry(uid.to_owned()).or_default().push(pid);
        }
    }
    found
}

/// When a process was started, in ticks since the boot; `None` once it is gone or a zombie.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let is_dead = matches!(*fields.first()?, "Z" | "X");
    fields.get(19)?.parse().ok().filter(|_| !is_dead)
}

/// Sets of processes of one pod that are two at the same time. A look takes a while: only what was there before and after
/// counts.
fn doubled(look: impl Fn() -> BTreeMap<String, Vec<i32>>) -> Option<(String, Vec<i32>)> {
    let many = |all: BTreeMap<String, Vec<i32>>| -> BTreeMap<String, Vec<i32>> {
        all.into_iter().filter(|(_, pids)| 1 < pids.len()).collect()
    };
    for (uid, pids) in many(look()) {
        let begun: Vec<Option<u64>> = pids.iter().map(|pid| started(*pid)).collect();
        let again = many(look());
        let Some(after) = again.get(&uid) else { continue };
        let both: Vec<i32> = pids
            .iter()
            .zip(begun)
            .filter(|(pid, begun)| {
                after.contains(pid) && begun.is_some() && started(**pid) == *begun
            })
            .map(|(pid, _)| *pid)
            .collect();
        if 1 < both.len() {
            return Some((uid, both));
        }
    }
    None
}

/// Looks until all is over.
pub(crate) fn watch(dir: &Path, cgroup_root: &str, journal: &Journal) {
    let dir = dir.display().to_string();
    while !journal.is_over() {
        let shims = || host::shims_by_pod(&dir);
        for (what, twice) in
            [("shims", doubled(shims)), ("containers", doubled(|| containers(cgroup_root)))]
        {
            if let Some((uid, pids)) = twice {
                let lines: Vec<String> =
                    pids.iter().map(|pid| host::words(*pid).join(" ")).collect();
                journal
                    .broken(&format!("R5: pod {uid} has {what} {pids:?} at one time: {lines:?}"));
                return;
            }
        }
        journal.checked("looks_at_processes", 1);
        thread::sleep(LOOK_EVERY);
    }
}

/// Pods that should have processes, against those that have a shim and one container; the difference in words.
pub(crate) fn differs(dir: &Path, cgroup_root: &str, pods: &[String]) -> Option<String> {
    let mut wanted = pods.to_vec();
    wanted.sort();
    let of = |all: BTreeMap<String, Vec<i32>>| -> Vec<String> { all.into_keys().collect() };
    let shims = of(host::shims_by_pod(&dir.display().to_string()));
    let containers = of(containers(cgroup_root));
    (shims != wanted || containers != wanted)
        .then(|| format!("pods {wanted:?}, shims of {shims:?}, containers of {containers:?}"))
}

/// What pods left on the boards although none is there any more; empty: nothing.
pub(crate) fn left(boards: &[Board], cgroup_root: &str) -> Vec<String> {
    let mut found = Vec::new();
    for board in boards {
        let shims = board.shims();
        found.extend(shims.iter().map(|pid| format!("shim {pid} of {}", board.name)));
        found.extend(board.mounts().into_iter().map(|at| format!("mount {at} of {}", board.name)));
        for entry in fs::read_dir(board.dir.join("pods")).into_iter().flatten().flatten() {
            found.push(format!("directory {}", entry.path().display()));
        }
        let links = board.inside(&["ip", "-o", "link", "show", "type", "veth"]);
        let links = links.unwrap_or_default();
        found.extend(
            links
                .lines()
                .filter(|line| !line.contains(" eth0@"))
                .map(|line| format!("link {line} of {}", board.name)),
        );
    }
    let containers = containers(cgroup_root);
    found.extend(containers.iter().map(|(uid, pids)| format!("processes {pids:?} of pod {uid}")));
    for dir in cgroups(cgroup_root) {
        if dir.contains("/pod") {
            found.push(format!("cgroup {dir}"));
        }
    }
    found
}

/// Directories of cgroups with this in their path, each after those below it.
pub(crate) fn cgroups(text: &str) -> Vec<String> {
    fn below(dir: &Path, depth: u32, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            // No symbolic links (`cpu` to `cpu,cpuacct`): each tree once.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && 0 < depth {
                below(&entry.path(), depth - 1, found);
                found.push(entry.path().display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new("/sys/fs/cgroup"), 8, &mut found);
    found.retain(|dir| dir.contains(text));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_live_are_doubled_and_one_that_died_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let parent = host::parent_of(own).unwrap();
        let both = || BTreeMap::from([("uid".to_owned(), vec![own, parent])]);
        assert_eq!(doubled(both), Some(("uid".to_owned(), vec![own, parent])));
        // No process has that number (the kernel's largest is 2^22).
        let gone = || BTreeMap::from([("uid".to_owned(), vec![own, i32::MAX])]);
        assert_eq!(doubled(gone), None);
    }
}
