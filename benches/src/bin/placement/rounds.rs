//! Rounds: a cluster is filled, and emptied again when it is as full as its shape says, until enough was decided.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use coracle_benches::placement::Heap;
use nix::time::{ClockId, clock_gettime};
use sched_core::{Ask, Error, Placement, PodHandle};

use crate::shapes::{Arrivals, Shape, cluster};

/// Decisions of the plain scan: it is slow.
const SCANS: u32 = 200;
/// Pods that are drawn before they are decided on.
const SOME: usize = 256;
/// Pods of no priority that come for each node, before others preempt them: more than it has room for.
const LOW_PODS: usize = 8;

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    /// Nanoseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) decisions: usize,
    pub(crate) placed: usize,
    /// Places found by asking each node in turn.
    pub(crate) scan_per_second: f64,
}

/// Decides at least so often.
pub(crate) fn measure(shape: Shape, nodes: usize, decisions: usize) -> Result<Figures> {
    let mut placement = cluster(shape, nodes)?;
    let mut arrivals = Arrivals::new(shape, 1);
    let mut clock = Clock::default();
    let most = arrivals.most(nodes).pods(nodes);
    // All that a round can hold.
    placement.storage_mut().grow_pods(most + nodes * LOW_PODS + 1);
    let (mut placed, mut scan) = (0, Scan::default());
    while clock.times.len() < decisions {
        let mut pods = Vec::new();
        if shape == Shape::Preemption {
            fill_with_low(&mut placement, &mut arrivals, nodes, &mut pods)?;
        }
        let mut come = 0;
        while come < most {
            let asks = arrivals.some(SOME.min(most - come))?;
            come += asks.len();
            if let Some(ask) = asks.first() {
                scan.look(&placement, ask)?;
            }
            let found = clock.time(&asks, |ask| decide(&mut placement, ask))?;
            pods.extend(found.into_iter().flatten());
        }
        placed += pods.len();
        if shape == Shape::Churn {
            placed += churn(&mut placement, &mut arrivals, &mut pods, &mut clock)?;
        }
        for pod in pods {
            // A victim is gone already.
            let _gone = placement.remove_pod(pod);
        }
    }
    let Clock { mut times, total } = clock;
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let per_second = times.len() as f64 / total.as_secs_f64();
    Ok(Figures {
        per_second,
        p50: at(50),
        p99: at(99),
        decisions: times.len(),
        placed,
        scan_per_second: scan.per_second(),
    })
}

/// What is measured.
#[inline(never)]
fn decide(placement: &mut Placement<Heap>, ask: &Ask) -> Result<Option<PodHandle>> {
    if let Some(at) = placement.place(ask) {
        return enter(placement.assume(ask, at)).map(Some);
    }
    if ask.pod.priority == 0 {
        return Ok(None);
    }
    let Some(chosen) = placement.preempt(ask) else { return Ok(None) };
    let kept = enter(placement.nominate(ask, &chosen))?;
    for victim in &chosen.victims {
        enter(placement.remove_pod(*victim))?;
    }
    enter(placement.take_up(kept))?;
    Ok(Some(kept))
}

fn enter<T>(given: Result<T, Error>) -> Result<T> {
    given.map_err(|error| anyhow!("a place was given and then refused: {error:?}"))
}

/// Pods of no priority until no node has room for one.
fn fill_with_low(
    placement: &mut Placement<Heap>,
    arrivals: &mut Arrivals,
    nodes: usize,
    pods: &mut Vec<PodHandle>,
) -> Result<()> {
    for _ in 0..nodes * LOW_PODS {
        let ask = arrivals.low();
        if let Some(at) = placement.place(&ask) {
            let pod = enter(placement.assume(&ask, at))?;
            enter(placement.confirm(pod))?;
            pods.push(pod);
        }
    }
    Ok(())
}

/// As many pods go as there are, and another comes for each: both are in the time. Gives how many found a place.
fn churn(
    placement: &mut Placement<Heap>,
    arrivals: &mut Arrivals,
    pods: &mut Vec<PodHandle>,
    clock: &mut Clock,
) -> Result<usize> {
    let mut placed = 0;
    arrivals.draw().shuffle(pods);
    let mut left = std::mem::take(pods);
    while !left.is_empty() {
        let gone = left.split_off(left.len().saturating_sub(SOME));
        let asks = arrivals.some(gone.len())?;
        let mut leaving = gone.into_iter();
        let found = clock.time(&asks, |ask| {
            if let Some(pod) = leaving.next() {
                enter(placement.remove_pod(pod))?;
            }
            decide(placement, ask)
        })?;
        pods.extend(found.into_iter().flatten());
    }
    placed += pods.len();
    Ok(placed)
}

/// Wall time of each decision, for the percentiles, and the thread's CPU time of all, for the rate: others on the machine
/// are no part of it.
#[derive(Debug, Default)]
struct Clock {
    /// Nanoseconds.
    times: Vec<u64>,
    total: Duration,
}

impl Clock {
    fn time<T>(
        &mut self,
        asks: &[Ask],
        mut decide: impl FnMut(&Ask) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::with_capacity(asks.len());
        self.times.reserve(asks.len());
        let start = thread_time()?;
        let mut before = Instant::now();
        for ask in asks {
            found.push(decide(black_box(ask))?);
            let now = Instant::now();
            self.times.push(u64::try_from((now - before).as_nanos()).unwrap_or(u64::MAX));
            before = now;
        }
        self.total += thread_time()?.saturating_sub(start);
        Ok(found)
    }
}

fn thread_time() -> Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("no clock of the thread")?;
    Ok(Duration::from(time))
}

/// The peer of the same run: every node is asked, and the best taken.
#[derive(Debug, Default)]
struct Scan {
    decisions: u32,
    total: Duration,
}

impl Scan {
    /// Looks at each of a few pods spread over the run, and says if it would choose another node.
    fn look(&mut self, placement: &Placement<Heap>, ask: &Ask) -> Result<()> {
        if SCANS <= self.decisions {
            return Ok(());
        }
        let start = thread_time()?;
        let found = black_box(placement.place_by_scan(ask));
        self.total += thread_time()?.saturating_sub(start);
        self.decisions += 1;
        let place = placement.place(ask);
        ensure!(found == place, "a scan chooses {found:?}, the core {place:?}");
        Ok(())
    }

    fn per_second(&self) -> f64 {
        f64::from(self.decisions) / self.total.as_secs_f64()
    }
}
