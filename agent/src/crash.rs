//! `coracle-agent crash [CUTS [SEED]]`: power cuts at each file call by which the agent, its image store and its shims
//! keep what they know. Only with feature `crash`; nothing that is shipped has it.
//!
//! A workload is played on a directory: images come and go, pods come, restart, change, end, are deleted. Then the agent
//! is started on what a cut after any of the calls may leave, first without a server, then with it, and held against what
//! the world had seen: no half-unpacked layer is used, no attempt is started twice, no pod that is over starts again, what
//! was on the disk is known, and what nobody knows is taken away. Some of the starts are cut too.

mod archives;
mod board;
mod judge;

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use coracle_agent_logic::{Event, Millis, PodUid, time::Now};
use coracle_disk::crash::{Deaf, History, Rng, Tree, begin, length};
use coracle_image::ImageError;
use serde_json::{Value, json};

use self::{
    archives::IMAGES,
    board::{Board, Mark, Server},
};
use crate::shell::{chain, watch::Seen};

/// Cuts, if the command line does not say.
const CUTS: u64 = 10_000;
/// Cuts of one workload; then a new one begins.
const CUTS_OF_ONE: u64 = 500;
/// Things that happen in one workload.
const STEPS: u64 = 40;
/// An agent finds itself again in no more than that.
const OPENING_MAX: Duration = Duration::from_secs(1);
/// Pods at one time.
const PODS: usize = 4;

/// Does it if the command line says `crash`.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some("crash") {
        return None;
    }
    let mut numbers = words.map(|word| word.parse::<u64>());
    let (cuts, seed) = (numbers.next().unwrap_or(Ok(CUTS)), numbers.next().unwrap_or(Ok(1)));
    let (Ok(cuts), Ok(seed)) = (cuts, seed) else {
        say("usage: coracle-agent crash [CUTS [SEED]]");
        return Some(ExitCode::from(2));
    };
    let sum = match survive_all(seed, cuts) {
        Ok(sum) => sum,
        Err(why) => {
            say(&format!("crash: {why}"));
            return Some(ExitCode::FAILURE);
        }
    };
    let openings = u32::try_from(sum.cuts + sum.again).unwrap_or(u32::MAX);
    say(&format!(
        "crash: {} cuts survived, {} of them with power and only the process killed, {} starts cut again; {} starts of containers after them; opened in {:.1?} on average, worst opening {:.1} ms (limit {OPENING_MAX:?})",
        sum.cuts,
        sum.killed,
        sum.again,
        sum.started,
        sum.all / openings.max(1),
        sum.worst.as_secs_f64() * 1000.0,
    ));
    Some(if sum.worst <= OPENING_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Workloads from this seed on, one for each [`CUTS_OF_ONE`], on all processors.
fn survive_all(seed: u64, cuts: u64) -> Result<Survived, String> {
    let (next, last) = (AtomicU64::new(seed), seed + cuts.div_ceil(CUTS_OF_ONE));
    let work = || -> Result<Survived, String> {
        let mut sum = Survived::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if last <= seed {
                return Ok(sum);
            }
            sum.add(&survive(seed, STEPS, CUTS_OF_ONE.min(cuts), Deaf::No)?);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut sum = Survived::default();
        for worker in workers {
            sum.add(&worker.join().map_err(|_| "a workload panicked".to_owned())??);
        }
        Ok(sum)
    })
}

fn say(text: &str) {
    use std::io::Write as _;
    let _nobody_reads = writeln!(std::io::stdout(), "{text}");
}

/// What was survived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survived {
    /// Cuts that were tried.
    cuts: u64,
    /// Of these, those that took the process and not the power.
    killed: u64,
    /// Cuts in the midst of a start after a cut.
    again: u64,
    /// Containers that were started after cuts.
    started: u64,
    /// Longest start of an agent, in processor time.
    worst: Duration,
    /// All of them together.
    all: Duration,
}

impl Survived {
    fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.killed += other.killed;
        self.again += other.again;
        self.started += other.started;
        self.worst = self.worst.max(other.worst);
        self.all += other.all;
    }
}

/// What happened, and what the world saw of it.
struct Played {
    history: History,
    marks: Vec<(usize, Mark)>,
    /// The control plane after so many calls.
    servers: Vec<(usize, Server)>,
    /// Complete layers by the name of their directory.
    layers: BTreeMap<String, judge::Content>,
    now: Now,
}

/// A directory of this run; gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    /// In memory where there is such a place: thousands of small trees are made and removed.
    fn new(seed: u64, deaf: Deaf) -> Result<Self, String> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = place.join(format!("coracle-crash-{}-{seed}-{deaf:?}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Plays the workload of a seed and cuts the power at about this many points of it. `deaf` disks forget syncs: a run on
/// one must fail.
///
/// # Errors
/// The seed, the point, and what was broken.
pub(crate) fn survive(seed: u64, steps: u64, cuts: u64, deaf: Deaf) -> Result<Survived, String> {
    let scratch = Scratch::new(seed, deaf)?;
    let mut rng = Rng::new(seed);
    let root = scratch.0.join("played");
    let played = play(&scratch.0, &root, seed, steps, deaf, &mut rng)
        .map_err(|why| format!("seed {seed}, before any cut: {why}"))?;
    let calls = played.history.length() as u64;
    let mut survived = Survived::default();
    let cut_dir = scratch.0.join("cut");
    for at in 0..=played.history.length() {
        // Spread evenly, rounded by a draw.
        let share = cuts * 1000 / (calls + 1) + rng.below(1000);
        for _ in 0..share / 1000 {
            let is_killed = rng.below(8) == 0;
            let tree = if is_killed {
                played.history.killed(at)
            } else {
                played.history.cut(at, &mut rng)
            };
            survived.cuts += 1;
            survived.killed += u64::from(is_killed);
            let judged = catch_unwind(AssertUnwindSafe(|| {
                judge::judge(&played, at, &tree, &cut_dir, &mut rng, &mut survived)
            }));
            judged.unwrap_or_else(|_| Err("it panics: what it said stands above".into())).map_err(
                |why| {
                    let how = if is_killed { "killed" } else { "cut" };
                    format!("seed {seed}, {how} after call {at} of {calls}: {why}")
                },
            )?;
        }
    }
    Ok(survived)
}

fn play(
    dir: &Path,
    root: &Path,
    seed: u64,
    steps: u64,
    deaf: Deaf,
    rng: &mut Rng,
) -> Result<Played, String> {
    let mut archives = Vec::new();
    for (name, layers) in IMAGES {
        let path = dir.join(format!("{}.tar", name.replace(':', "-")));
        archives::write(&path, name, layers).map_err(|error| error.to_string())?;
        archives.push(path);
    }
    fs::create_dir(root).map_err(|error| error.to_string())?;
    begin(seed);
    let server = Server { is_there: true, ..Server::default() };
    let now = Now { mono: Millis(1_000_000), wall_s: 1_700_000_000 };
    let mut board = Board::start(root, server, now)?;
    board.tell(Event::Listed([].into()))?;
    board.network.learn(Some("10.9.0.0/24"), None, None).map_err(|error| chain(&error))?;
    board.services.take(Seen::Listed(vec![json!({
        "metadata": {"namespace": "default", "name": "kubernetes"},
        "spec": {"clusterIP": "10.8.0.1", "ports": [{"name": "https", "port": 443}]},
    })]));
    let mut layers = BTreeMap::new();
    let mut servers = vec![(0, Server::default())];
    for number in 0..steps {
        match rng.below(16) {
            0 | 1 => {
                if let Some(archive) = archives.get(rng.size(IMAGES.len() as u64)) {
                    board.images.import(archive, None).map_err(|error| chain(&error))?;
                }
                judge::take_layers(&board, &mut layers)?;
            }
            2 | 3 => {
                let (name, _) = IMAGES.get(rng.size(IMAGES.len() as u64)).unwrap_or(&IMAGES[0]);
                match board.images.remove(name) {
                    Ok(()) | Err(ImageError::InUse { .. } | ImageError::NotFound { .. }) => {}
                    Err(error) => return Err(chain(&error)),
                }
            }
            4..=6 if board.server.pods.len() < PODS => {
                let uid = PodUid::parse(&format!("u{number}")).ok_or("no uid")?;
                board.server.pods.insert(uid.clone(), pod(number, rng));
                change(&mut board, &uid)?;
            }
            7 | 8 => {
                let running: Vec<_> = board.running.keys().cloned().collect();
                if let Some((uid, name)) = running.get(rng.size(running.len() as u64)) {
                    board.end(uid, name, i32::from(rng.below(2) == 0))?;
                    board.settle()?;
                }
            }
            what @ 9..=11 => {
                let uids: Vec<_> = board.server.pods.keys().cloned().collect();
                let Some(uid) = uids.get(rng.size(uids.len() as u64)) else { continue };
                if what == 11 && rng.below(2) == 0 {
                    board.server.pods.remove(uid);
                    board.tell(Event::PodGone(uid.clone()))?;
                } else {
                    if let Some(meta) =
                        board.server.pods.get_mut(uid).and_then(|p| p.get_mut("metadata"))
                    {
                        match what {
                            9 => meta["labels"] = json!({"step": number.to_string().repeat(400)}),
                            _ => meta["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
                        }
                    }
                    change(&mut board, uid)?;
                }
            }
            12 => {
                board.server.config += 1;
                let uids: Vec<_> = board.agent.pods().map(|pod| pod.uid.clone()).collect();
                for uid in uids {
                    if board.state.volumes(&uid).exists() {
                        board.make_volumes(&uid)?;
                    }
                }
            }
            13 => {
                coracle_disk::note_all_synced().map_err(|error| error.to_string())?;
                board.mark(Mark::Quiet);
            }
            _ => board.pass(rng.below(30_000))?,
        }
        board.pass(1_500)?;
        servers.push((length(), board.server.clone()));
    }
    let Board { marks, now, .. } = board;
    let history = History::end(root, Tree::default(), deaf)?;
    Ok(Played { history, marks, servers, layers, now })
}

fn change(board: &mut Board, uid: &PodUid) -> Result<(), String> {
    match board.server.pod(uid) {
        Some(pod) => board.tell(Event::PodChanged(pod)),
        None => Err(format!("the workload's pod {uid} is none")),
    }
}

fn pod(number: u64, rng: &mut Rng) -> Value {
    let policy = ["Always", "OnFailure", "Never"].get(rng.size(3)).copied().unwrap_or("Always");
    let container = |name: &str, rng: &mut Rng| {
        let (image, _) = IMAGES.get(rng.size(IMAGES.len() as u64)).unwrap_or(&IMAGES[0]);
        json!({"name": name, "image": image,
            "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}]})
    };
    let mut containers = vec![container("one", rng)];
    if rng.below(3) == 0 {
        containers.push(container("two", rng));
    }
    json!({
        "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": format!("u{number}")},
        "spec": {
            "restartPolicy": policy, "containers": containers, "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "cfg", "configMap": {"name": "cm"}}, {"name": "own", "emptyDir": {}}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_anywhere_is_survived() {
        let survived = survive(1, 30, 300, Deaf::No).unwrap();
        assert!(survived.cuts > 200 && survived.killed > 10 && survived.again > 5);
        assert!(survived.started > 50 && survived.worst > Duration::ZERO, "{survived:?}");
    }

    /// What is broken first on a disk that does not hear.
    fn broken_on(deaf: Deaf, first_seed: u64) -> String {
        let mut seeds = first_seed..=20;
        let first = seeds.find_map(|seed| survive(seed, 30, 400, deaf).err());
        first.unwrap_or_else(|| panic!("{deaf:?} is not noticed"))
    }

    /// Files that take the place of others before they are on the disk, ends of containers that are only said to be.
    #[test]
    fn a_disk_that_does_not_sync_files_is_noticed() {
        let why = broken_on(Deaf::ToFiles, 1);
        assert!(why.contains("LOST") || why.contains("TWICE") || why.contains("index"), "{why}");
    }

    /// Names that come later than what was done on their word.
    #[test]
    fn a_disk_that_does_not_sync_directories_is_noticed() {
        let why = broken_on(Deaf::ToDirs, 3);
        assert!(why.contains("TWICE") || why.contains("LAYER"), "{why}");
    }

    /// Layers that are complete before their files are on the disk.
    #[test]
    fn a_layer_that_is_complete_too_early_is_noticed() {
        let why = broken_on(Deaf::ToAll, 1);
        assert!(why.contains("LAYER"), "{why}");
    }
}
