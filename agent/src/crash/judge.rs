//! What must hold of an agent that starts after a cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use coracle_agent_logic::{Event, Millis, PodUid, time::Now};
use coracle_disk::crash::{Deaf, History, Rng, Tree, begin, length};
use coracle_image::{PullPolicy, Registry};
use serde_json::Value;

use super::{
    Played, Survived,
    board::{Board, Mark, Server},
};
use crate::shell::{chain, images::holder};

/// One start in so many is itself cut.
const CUT_AGAIN: u64 = 16;
/// After one start in so many everything is deleted.
const CLEAR: u64 = 4;
/// How long a node is watched without a server, and with it, in ms.
const WATCHED_MS: u64 = 30_000;

/// What is in a layer: mode and content of files, targets of links, by path.
pub(crate) type Content = BTreeMap<PathBuf, (u32, Vec<u8>)>;

/// Notes the layers of all images, which are complete.
pub(crate) fn take_layers(
    board: &Board,
    layers: &mut BTreeMap<String, Content>,
) -> Result<(), String> {
    for dir in layers_in_use(board)? {
        let content = content(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        layers.entry(name_of(&dir)).or_insert(content);
    }
    Ok(())
}

fn layers_in_use(board: &Board) -> Result<BTreeSet<PathBuf>, String> {
    let registry = Registry::new(Vec::new(), &[]);
    let mut found = BTreeSet::new();
    for stored in board.images.list().map_err(|error| chain(&error))? {
        for name in &stored.names {
            let image = board.images.resolve(name, PullPolicy::Never, &registry, &[]);
            found.extend(image.map_err(|error| format!("LAYER: {}", chain(&error)))?.layers);
        }
    }
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn content(dir: &Path) -> std::io::Result<Content> {
    let mut found = Content::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        let name = path.strip_prefix(dir).unwrap_or(&path).to_owned();
        let mode = meta.permissions().mode();
        if meta.is_dir() {
            found.extend(content(&path)?.into_iter().map(|(below, what)| (name.join(below), what)));
            found.insert(name, (mode, Vec::new()));
        } else if meta.is_symlink() {
            let target = fs::read_link(&path)?.into_os_string().into_encoded_bytes();
            found.insert(name, (0, target));
        } else {
            found.insert(name, (mode, fs::read(&path)?));
        }
    }
    Ok(found)
}

/// What the world had seen when the power went.
struct Seen {
    server: Server,
    /// The API server knows that they are over, or gone.
    over: BTreeSet<PodUid>,
    /// Latest attempt whose end was told.
    ended: BTreeMap<(PodUid, String), u32>,
    /// Pods that have been on the disk for long.
    settled: BTreeSet<PodUid>,
}

fn seen(played: &Played, at: usize) -> Seen {
    let server = |at: usize| {
        let servers = played.servers.iter().take_while(|(upto, _)| *upto <= at);
        servers.last().map(|(_, server)| server.clone()).unwrap_or_default()
    };
    let mut seen = Seen {
        server: server(at),
        over: BTreeSet::new(),
        ended: BTreeMap::new(),
        settled: BTreeSet::new(),
    };
    for (when, mark) in played.marks.iter().take_while(|(when, _)| *when <= at) {
        match mark {
            Mark::Acked(uid, status) => {
                if let Some(pod) = seen.server.pods.get_mut(uid).and_then(Value::as_object_mut) {
                    pod.insert("status".into(), status.clone());
                }
                if says_over(status) {
                    seen.over.insert(uid.clone());
                }
            }
            Mark::Ended(uid, name, attempt) => {
                seen.ended.insert((uid.clone(), name.clone()), *attempt);
            }
            Mark::Deleted(uid) => {
                seen.server.pods.remove(uid);
                seen.over.insert(uid.clone());
            }
            Mark::Forgetting(uid) => {
                seen.settled.remove(uid);
            }
            Mark::Quiet => {
                let there = server(*when).pods.into_keys();
                seen.settled = there.filter(|uid| !seen.over.contains(uid)).collect();
            }
        }
    }
    seen
}

/// Starts an agent on what a cut after so many calls has left, and looks at what it does.
pub(crate) fn judge(
    played: &Played,
    at: usize,
    tree: &Tree,
    dir: &Path,
    rng: &mut Rng,
    survived: &mut Survived,
) -> Result<(), String> {
    let (opening, history) = open(played, at, tree, dir, rng, survived)?;
    if rng.below(CUT_AGAIN) != 0 {
        return Ok(());
    }
    let upto = rng.size(opening as u64 + 1);
    survived.again += 1;
    let tree = history.cut(upto, rng);
    let done = open(played, at, &tree, dir, rng, survived);
    done.map(drop).map_err(|why| format!("and again after call {upto} of {opening}: {why}"))
}

/// The calls of the start, and all calls.
fn open(
    played: &Played,
    at: usize,
    tree: &Tree,
    dir: &Path,
    rng: &mut Rng,
    survived: &mut Survived,
) -> Result<(usize, History), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(failed)?;
    }
    tree.put(dir).map_err(failed)?;
    let mut seen = seen(played, at);
    seen.server.is_there = false;
    let now = Now { mono: Millis(1_000), wall_s: played.now.wall_s + 60 };
    begin(rng.below(u64::MAX));
    let before = on_cpu();
    let mut board = Board::start(dir, seen.server.clone(), now)?;
    let took = on_cpu().saturating_sub(before);
    survived.all += took;
    survived.worst = survived.worst.max(took);
    let opening = length();

    layers_are_whole(played, &board)?;
    known(&seen, &board)?;
    board.pass(WATCHED_MS)?;
    runs(&seen, &board)?;
    not_twice(&seen, &board)?;

    board.server.is_there = true;
    board.tell(Event::Listed(board.server.pods.keys().cloned().collect()))?;
    let uids: Vec<PodUid> = board.server.pods.keys().cloned().collect();
    for uid in &uids {
        if let Some(pod) = board.server.pod(uid) {
            board.tell(Event::PodChanged(pod))?;
        }
    }
    board.pass(WATCHED_MS)?;
    not_twice(&seen, &board)?;
    layers_are_whole(played, &board)?;
    nothing_is_orphaned(dir, &board)?;
    if rng.below(CLEAR) == 0 {
        board.server.pods.clear();
        board.tell(Event::Listed(BTreeSet::new()))?;
        board.pass(2 * WATCHED_MS)?;
        nothing_is_orphaned(dir, &board)?;
        if let Some(pod) = board.agent.pods().next() {
            return Err(format!("ORPHAN: pod {} does not go", pod.uid));
        }
    }
    survived.started += board.started.len() as u64;
    Ok((opening, History::end(dir, tree.clone(), Deaf::No)?))
}

fn layers_are_whole(played: &Played, board: &Board) -> Result<(), String> {
    for dir in layers_in_use(board)? {
        let there = content(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let name = name_of(&dir);
        if played.layers.get(&name).is_none_or(|whole| *whole != there) {
            return Err(format!("LAYER: {name} is used and is not whole"));
        }
    }
    Ok(())
}

fn known(seen: &Seen, board: &Board) -> Result<(), String> {
    match seen.settled.iter().find(|uid| board.agent.pod(uid).is_none()) {
        Some(uid) => Err(format!("LOST: pod {uid} was on the disk for long and is not known")),
        None => Ok(()),
    }
}

/// A pod that is to run for ever, was here for long and has its image runs without a server.
fn runs(seen: &Seen, board: &Board) -> Result<(), String> {
    for uid in seen.settled.iter().filter(|uid| !seen.over.contains(uid)) {
        // Its end may be on the disk before it is seen elsewhere.
        let Some(pod) = board.agent.pod(uid) else { continue };
        if pod.meta.deletion_timestamp.is_some()
            || pod.spec.restart_policy != coracle_agent_logic::spec::RestartPolicy::Always
        {
            continue;
        }
        for container in &pod.spec.containers {
            let image = coracle_image::Reference::parse(&container.image);
            let image = image.and_then(|image| board.images.find(&image));
            let is_here = image.map_err(|error| chain(&error))?.is_some();
            if is_here && !board.running.contains_key(&(uid.clone(), container.name.clone())) {
                return Err(format!(
                    "LOST: container {} of pod {uid} does not run without a server",
                    container.name
                ));
            }
        }
    }
    Ok(())
}

fn not_twice(seen: &Seen, board: &Board) -> Result<(), String> {
    for (uid, name, attempt) in &board.started {
        if seen.over.contains(uid) {
            return Err(format!("TWICE: pod {uid} was over, and {name}.{attempt} is started"));
        }
        if seen.ended.get(&(uid.clone(), name.clone())).is_some_and(|ended| attempt <= ended) {
            return Err(format!("TWICE: the end of {name}.{attempt} of pod {uid} was told"));
        }
    }
    let mut once = BTreeSet::new();
    match board.started.iter().find(|one| !once.insert(*one)) {
        Some(one) => Err(format!("TWICE: {one:?} is started a second time")),
        None => Ok(()),
    }
}

/// Nothing is there that no record names, and secrets are for nobody else.
fn nothing_is_orphaned(root: &Path, board: &Board) -> Result<(), String> {
    let pods: BTreeSet<String> = board.agent.pods().map(|pod| pod.uid.to_string()).collect();
    let mut holders = BTreeSet::new();
    for pod in board.agent.pods() {
        holders.extend(pod.spec.containers.iter().map(|one| holder(&pod.uid, &one.name)));
    }
    let stored = board.images.list().map_err(|error| chain(&error))?;
    let short = |digest: &String| digest.get(7..23).unwrap_or_default().to_owned();
    let layers: BTreeSet<String> =
        stored.iter().flat_map(|stored| &stored.layers).map(short).collect();
    let only = |dir: &str, wanted: &dyn Fn(&str) -> bool| {
        let entries = fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
        match entries.map(|entry| name_of(&entry.path())).find(|name| !wanted(name)) {
            Some(name) => Err(format!("ORPHAN: {dir}/{name}")),
            None => Ok(()),
        }
    };
    only("", &|name| ["agent", "pods", "images"].contains(&name))?;
    only("agent", &|name| {
        ["network.json", "addresses.json", "services.json"].contains(&name)
            && is_private(&root.join("agent").join(name))
    })?;
    only("images", &|name| {
        ["index.json", "layers", "tmp", "holds", "lock", "pulls"].contains(&name)
    })?;
    only("images/layers", &|name| layers.contains(name))?;
    only("images/tmp", &|_| false)?;
    only("images/holds", &|name| holders.contains(name))?;
    only("pods", &|name| pods.contains(name) && is_private(&root.join("pods").join(name)))?;
    for uid in &pods {
        let dir = format!("pods/{uid}");
        only(&dir, &|name| {
            ["pod.json", "status.json", "objects.json", "volumes", "files", "logs", "shim"]
                .contains(&name)
                && is_private(&root.join(&dir).join(name))
        })?;
        if is_over(board, uid) {
            // Its end is made again by every start, until nothing is left of it.
            only(&dir, &|name| !["volumes", "files", "shim"].contains(&name))?;
            continue;
        }
        let volume = format!("{dir}/volumes/cfg");
        let data = fs::read_link(root.join(&volume).join("..data")).unwrap_or_default();
        only(&volume, &|name| {
            !name.starts_with("..") || name == "..data" || Path::new(name) == data
        })?;
    }
    Ok(())
}

fn is_over(board: &Board, uid: &str) -> bool {
    let status = PodUid::parse(uid).and_then(|uid| board.agent.status(&uid).map(str::to_owned));
    let status = status.and_then(|text| serde_json::from_str(&text).ok());
    status.as_ref().is_some_and(says_over)
}

/// Whether a pod with this status never runs again.
fn says_over(status: &Value) -> bool {
    matches!(status.get("phase").and_then(Value::as_str), Some("Succeeded" | "Failed"))
}

/// Nobody but the owner can read it or look into it.
fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 == 0)
}

/// Time that this thread had a processor: what else the machine does is no part of a start.
fn on_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
