//! What the host shows of processes: found by what is in their command line, as everything of a cluster can be.

use std::{collections::BTreeMap, fs, path::Path};

/// Pids of the processes whose command line contains `text`, ascending, this process not among them.
pub fn pids_with(text: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(bytes) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if line.contains(text) && u32::try_from(pid).ok() != Some(std::process::id()) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// Words of a process's command line; none once it is gone.
pub fn words(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Shims by the pod uid in their command line, of all whose command line contains `text`. A clone on its way to exec still
/// shows its parent's command line for a moment: shims are not each other's children.
pub fn shims_by_pod(text: &str) -> BTreeMap<String, Vec<i32>> {
    let mut shims = BTreeMap::new();
    for pid in pids_with(text) {
        let words = words(pid);
        let after = |name: &str| words.iter().skip_while(|word| *word != name).nth(1);
        if let (Some(_), Some(uid)) = (after("shim"), after("--pod")) {
            shims.insert(pid, uid.clone());
        }
    }
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (pid, uid) in &shims {
        if !parent_of(*pid).is_some_and(|parent| shims.contains_key(&parent)) {
            found.entry(uid.clone()).or_default().push(*pid);
        }
    }
    found
}

/// The parent of a process, from `/proc/PID/stat`; `None` once it is gone.
pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in brackets, which may hold anything: state, parent.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Processes whose parent is `pid`.
pub fn children_of(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let child = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(child) = child.filter(|child| parent_of(*child) == Some(pid)) {
            found.push(child);
        }
    }
    found
}

/// A field of `/proc/PID/status` (`CapEff`, `Seccomp`, `NSpid`), without its name.
pub fn status_field(pid: i32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Proportional set size of a process in bytes (`Pss` of `/proc/PID/smaps_rollup`).
pub fn pss_bytes(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// CPU time that a process has used so far, in clock ticks of 10 ms (user and system; `/proc/PID/stat` fields 14, 15).
pub fn cpu_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// How often each thread of a process has gone to sleep so far, by thread id (`voluntary_ctxt_switches`): each was followed
/// by a wake-up. Preemptions are not counted.
pub fn sleeps(pid: i32) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        if let Some(count) = line.and_then(|text| text.trim().parse().ok()) {
            found.insert(thread, count);
        }
    }
    found
}

/// Bytes that a process has sent to be written to a disk (`write_bytes` of `/proc/PID/io`).
pub fn bytes_written(pid: i32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

/// Mount points below `dir`, deepest first.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let prefix = format!("{}/", dir.display());
    let mut found: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|place| place.starts_with(&prefix))
        .map(str::to_owned)
        .collect();
    found.sort_by_key(|place| std::cmp::Reverse(place.len()));
    found
}
