//! Places the pods of a trace and says how well: `traces --nodes NODES.csv --pods PODS.csv --seeds N`.
//!
//! Prints, a line a figure: the GPU allocated, in percent of what there is, when pods asking for 100 % and for 130 % of it
//! have come (mean over seeds: pods shuffled, then drawn again at random; placed once, never moved, skipped where
//! nothing fits); and how many nodes of 96 cores and 384 GiB all pods need by CPU and memory alone, in file order, a new
//! node opened only when no open one fits, then after moves, beside the lower bound (the largest dimension's total over
//! a node's, rounded up). The protocol is that of "Beware of Fragmentation" (USENIX ATC 2023).
#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{collections::BTreeMap, env, fs, process::ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use coracle_benches::placement::{Draw, Heap};
use sched_core::{
    Amounts, Ask, DeviceAsk, Move, NodeOffer, Placement, PodHandle, Profile, Requirements,
};

/// The node of the packing figures.
const NODE_CPU_MILLI: u32 = 96_000;
const NODE_MEMORY_MIB: u64 = 393_216;
/// Answers about waste that are kept.
const MEMOS: usize = 1 << 16;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("traces: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    nodes: String,
    pods: String,
    seeds: u64,
}

fn arguments() -> Result<Arguments> {
    let mut given = BTreeMap::new();
    let mut words = env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().with_context(|| format!("{name} wants a value"))?;
        given.insert(name, value);
    }
    let mut take = |name: &str| {
        given.remove(name).with_context(|| {
            format!("{name} is missing; use --nodes NODES.csv --pods PODS.csv --seeds N")
        })
    };
    let (nodes, pods, seeds) = (take("--nodes")?, take("--pods")?, take("--seeds")?);
    if let Some(name) = given.keys().next() {
        bail!("`{name}` is not known; use --nodes, --pods and --seeds");
    }
    let seeds = seeds.parse().with_context(|| format!("--seeds {seeds} is no number"))?;
    ensure!(0 < seeds, "--seeds must be at least 1");
    Ok(Arguments { nodes, pods, seeds })
}

/// A node of the trace.
struct Node {
    cpu_milli: u32,
    memory_mib: u64,
    gpus: u8,
    model: String,
}

/// A pod of the trace.
struct Pod {
    cpu_milli: u32,
    memory_mib: u64,
    gpus: u8,
    gpu_milli: u16,
    /// Models allowed; empty: any.
    models: String,
}

impl Pod {
    /// Thousandths of GPUs that it asks for.
    fn gpu(&self) -> u64 {
        u64::from(self.gpus) * u64::from(self.gpu_milli)
    }
}

/// The rows of a table as maps from column to text.
fn rows(path: &str) -> Result<Vec<BTreeMap<String, String>>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().context("an empty table")?.split(',').collect();
    let row = |line: &str| {
        head.iter().map(ToString::to_string).zip(line.split(',').map(ToOwned::to_owned)).collect()
    };
    Ok(lines.filter(|line| !line.is_empty()).map(row).collect())
}

fn number<T: std::str::FromStr>(row: &BTreeMap<String, String>, column: &str) -> Result<T> {
    let text = row.get(column).with_context(|| format!("no column `{column}`"))?;
    // Some tables write whole numbers with a fraction of zero.
    let whole = text.strip_suffix(".0").unwrap_or(text);
    whole.parse().ok().with_context(|| format!("`{text}` in `{column}` is no number"))
}

fn text(row: &BTreeMap<String, String>, column: &str) -> String {
    row.get(column).cloned().unwrap_or_default()
}

fn read_nodes(path: &str) -> Result<Vec<Node>> {
    let node = |row: &BTreeMap<String, String>| {
        Ok(Node {
            cpu_milli: number(row, "cpu_milli")?,
            memory_mib: number(row, "memory_mib")?,
            gpus: number(row, "gpu")?,
            model: text(row, "model"),
        })
    };
    rows(path)?.iter().map(node).collect::<Result<_>>().with_context(|| path.to_owned())
}

fn read_pods(path: &str) -> Result<Vec<Pod>> {
    let pod = |row: &BTreeMap<String, String>| {
        Ok(Pod {
            cpu_milli: number(row, "cpu_milli")?,
            memory_mib: number(row, "memory_mib")?,
            gpus: number(row, "num_gpu")?,
            gpu_milli: number(row, "gpu_milli")?,
            models: text(row, "gpu_spec"),
        })
    };
    rows(path)?.iter().map(pod).collect::<Result<_>>().with_context(|| path.to_owned())
}

fn run() -> Result<()> {
    let given = arguments()?;
    let (nodes, pods) = (read_nodes(&given.nodes)?, read_pods(&given.pods)?);
    let (mut at_100, mut at_130) = (0.0, 0.0);
    for seed in 0..given.seeds {
        let (one, other) = gpu_alloc(&nodes, &pods, seed)?;
        at_100 += one;
        at_130 += other;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of seeds")]
    let seeds = given.seeds as f64;
    println!("trace gpu_alloc_at_100 {:.2}", at_100 / seeds);
    println!("trace gpu_alloc_at_130 {:.2}", at_130 / seeds);
    let (online, repacked, lower_bound) = nodes_needed(&pods)?;
    println!("trace nodes_online {online}");
    println!("trace nodes_repacked {repacked}");
    println!("trace nodes_lower_bound {lower_bound}");
    Ok(())
}

fn amounts(cpu_milli: u32, memory_mib: u64, pods: u32) -> Amounts {
    Amounts { cpu_milli, pods, memory_bytes: memory_mib << 20, ..Amounts::ZERO }
}

/// One requirement for each list of models that pods name.
struct Models<'a>(Vec<&'a str>);

impl<'a> Models<'a> {
    fn of(pods: &'a [Pod]) -> Self {
        let mut lists: Vec<&str> = pods.iter().map(|pod| pod.models.as_str()).collect();
        lists.sort_unstable();
        lists.dedup();
        lists.retain(|list| !list.is_empty());
        Self(lists)
    }

    fn met_by(&self, model: &str) -> Result<Requirements> {
        let mut meets = Requirements::EMPTY;
        for (bit, list) in self.0.iter().enumerate() {
            let named = list.split('|').any(|one| one == model);
            ensure!(!named || meets.insert(bit), "more lists of models than requirements");
        }
        Ok(meets)
    }

    fn ask(&self, pod: &Pod) -> Result<Ask> {
        let mut ask = Ask::default();
        ask.pod.requests = amounts(pod.cpu_milli, pod.memory_mib, 1);
        ask.pod.devices = match pod.gpus {
            0 => DeviceAsk::NONE,
            1 => DeviceAsk::slice(pod.gpu_milli).context("gpu_milli is 1 to 1000")?,
            more => DeviceAsk::whole(more),
        };
        let list = self.0.iter().position(|list| *list == pod.models);
        if let Some(bit) = list.filter(|_| pod.gpus != 0) {
            let mut named = Requirements::EMPTY;
            ensure!(named.insert(bit) && ask.affinity.push(named), "a list has no requirement");
        }
        Ok(ask)
    }
}

/// Percent of the GPU that is allocated when 100 % and 130 % of it have been asked for.
fn gpu_alloc(nodes: &[Node], pods: &[Pod], seed: u64) -> Result<(f64, f64)> {
    let models = Models::of(pods);
    let asks: Vec<Ask> = pods.iter().map(|pod| models.ask(pod)).collect::<Result<_>>()?;
    let with_gpus = || nodes.iter().filter(|node| node.gpus != 0);
    let capacity: u64 = with_gpus().map(|node| u64::from(node.gpus) * 1000).sum();
    ensure!(0 < capacity && pods.iter().any(|pod| pod.gpu() != 0), "a trace without GPUs");
    let mut heap = Heap::default();
    heap.grow_nodes(with_gpus().count());
    heap.set_workload(MEMOS);
    let mut placement = Placement::new(heap, Profile::GRADIENT);
    for node in with_gpus() {
        let offer = NodeOffer {
            allocatable: amounts(node.cpu_milli, node.memory_mib, u32::MAX),
            devices: node.gpus,
            meets: models.met_by(&node.model)?,
            ..NodeOffer::default()
        };
        let added = placement.add_node(&offer);
        ensure!(added.is_ok(), "a node is refused: {added:?}");
    }
    let mut draw = Draw::new(seed);
    let mut order: Vec<usize> = (0..pods.len()).collect();
    draw.shuffle(&mut order);
    let mut arrivals = order.into_iter();
    let (mut asked, mut given, mut at_100) = (0_u64, 0_u64, None);
    while asked * 10 < capacity * 13 {
        let next = arrivals.next().unwrap_or_else(|| draw.below(pods.len()));
        let (Some(pod), Some(ask)) = (pods.get(next), asks.get(next)) else { continue };
        placement.observe(ask);
        asked += pod.gpu();
        if let Some(at) = placement.place(ask) {
            assume(&mut placement, ask, at)?;
            given += pod.gpu();
        }
        if at_100.is_none() && capacity <= asked {
            at_100 = Some(given);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a percentage with two places")]
    let percent = |given: u64| given as f64 * 100.0 / capacity as f64;
    Ok((percent(at_100.unwrap_or(given)), percent(given)))
}

fn assume(
    placement: &mut Placement<Heap>,
    ask: &Ask,
    at: sched_core::NodeIndex,
) -> Result<PodHandle> {
    let mut assumed = placement.assume(ask, at);
    if assumed == Err(sched_core::Error::Full(sched_core::Table::Pods)) {
        placement.storage_mut().grow_pods(1024);
        assumed = placement.assume(ask, at);
    }
    assumed.map_err(|error| anyhow::anyhow!("a place was given and then refused: {error:?}"))
}

/// Nodes in use online and after moves, and the lower bound.
fn nodes_needed(pods: &[Pod]) -> Result<(usize, usize, u64)> {
    let offer = NodeOffer {
        allocatable: amounts(NODE_CPU_MILLI, NODE_MEMORY_MIB, u32::MAX),
        ..NodeOffer::default()
    };
    let fits = |pod: &&Pod| pod.cpu_milli <= NODE_CPU_MILLI && pod.memory_mib <= NODE_MEMORY_MIB;
    let mut heap = Heap::default();
    heap.set_workload(MEMOS);
    let mut placement = Placement::new(heap, Profile::GRADIENT);
    let mut asks = BTreeMap::new();
    let (mut cpu, mut memory) = (0, 0);
    for pod in pods.iter().filter(fits) {
        let mut ask = Ask::default();
        ask.pod.requests = amounts(pod.cpu_milli, pod.memory_mib, 1);
        cpu += u64::from(pod.cpu_milli);
        memory += pod.memory_mib;
        placement.observe(&ask);
        let at = match placement.place(&ask) {
            Some(at) => at,
            None => {
                placement.storage_mut().grow_nodes(1);
                let opened = placement.add_node(&offer);
                opened.map_err(|error| anyhow::anyhow!("a node is refused: {error:?}"))?
            }
        };
        let handle = assume(&mut placement, &ask, at)?;
        let bound = placement.confirm(handle);
        ensure!(bound.is_ok(), "an assumed pod cannot be confirmed");
        asks.insert(handle, ask);
    }
    let in_use = |placement: &Placement<Heap>| {
        placement.nodes().filter(|(_, node)| node.used().pods != 0).count()
    };
    let online = in_use(&placement);
    repack(&mut placement, &mut asks)?;
    let bound = cpu.div_ceil(u64::from(NODE_CPU_MILLI)).max(memory.div_ceil(NODE_MEMORY_MIB));
    Ok((online, in_use(&placement), bound))
}

/// Proposes and carries out moves until none frees a node any more.
fn repack(placement: &mut Placement<Heap>, asks: &mut BTreeMap<PodHandle, Ask>) -> Result<()> {
    let mut moves = vec![Move::default(); asks.len()];
    loop {
        let made = placement.repack(&|pod| asks.get(&pod), &mut moves);
        if made == 0 {
            return Ok(());
        }
        // A pod that moves twice is named both times as it was before the first.
        let mut now = BTreeMap::new();
        for one in moves.iter().take(made) {
            let pod = now.get(&one.pod).copied().unwrap_or(one.pod);
            let ask = asks.remove(&pod).context("a move of a pod that is not there")?;
            let gone = placement.remove_pod(pod);
            ensure!(gone.is_ok(), "a move of a pod that is gone");
            let handle = assume(placement, &ask, one.to)?;
            let bound = placement.confirm(handle);
            ensure!(bound.is_ok(), "an assumed pod cannot be confirmed");
            asks.insert(handle, ask);
            now.insert(one.pod, handle);
        }
    }
}
