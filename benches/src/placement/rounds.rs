//! Rounds: a cluster is filled, and emptied again when it is as full as its shape says, until enough was decided.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::time::{ClockId, clock_gettime};
use sched_core::{Ask, Error, Placement, PodHandle};

use crate::placement::{
    Heap,
    shapes::{Arrivals, Shape, cluster},
};

/// Pods that are drawn before they are decided on.
const SOME: usize = 256;
/// Pods of no priority that come for each node, before others preempt them: more than it has room for.
const LOW_PODS: usize = 8;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Decisions, and the thread's time that they took.
    pub decisions: usize,
    /// See `decisions`.
    pub total: Duration,
    /// Nanoseconds of one decision on the wall clock: half of them take less, and 99 of 100.
    pub p50: u64,
    /// See `p50`.
    pub p99: u64,
    /// Decisions that gave a place.
    pub placed: usize,
    /// Places found by asking each node in turn, and the thread's time that they took.
    pub scans: u32,
    /// See `scans`.
    pub scan_total: Duration,
}

impl Figures {
    /// Decisions a second.
    pub fn per_second(&self) -> f64 {
        // So many are exact in a float.
        self.decisions as f64 / self.total.as_secs_f64()
    }

    /// Scans a second.
    pub fn scans_per_second(&self) -> f64 {
        f64::from(self.scans) / self.scan_total.as_secs_f64()
    }
}

/// Decides at least so often, and scans at most so often beside it. An error says that the core contradicts itself.
pub fn measure(shape: Shape, nodes: usize, decisions: usize, scans: u32) -> Result<Figures> {
    let mut placement = cluster(shape, nodes)?;
    let mut arrivals = Arrivals::new(shape, 1);
    let mut clock = Clock::default();
    let most = arrivals.most(nodes).pods(nodes);
    // All that a round can hold.
    placement.storage_mut().grow_pods(most + nodes * LOW_PODS + 1);
    let (mut placed, mut scan) = (0, Scan { left: scans, ..Scan::default() });
    while clock.times.len() < decisions {
        let mut pods = Vec::new();
        if shape == Shape::Preemption {
            fill_with_low(&mut placement, &mut arrivals, nodes, &mut pods)?;
        }
        let (mut come, others) = (0, pods.len());
        while come < most {
            let asks = arrivals.some(SOME.min(most - come))?;
            come += asks.len();
            if let Some(ask) = asks.first() {
                scan.look(&placement, ask)?;
            }
            let found = clock.time(&asks, |ask| decide(&mut placement, ask))?;
            pods.extend(found.into_iter().flatten());
        }
        placed += pods.len() - others;
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
    Ok(Figures {
        decisions: times.len(),
        total,
        p50: at(50),
        p99: at(99),
        placed,
        scans: scan.decisions,
        scan_total: scan.total,
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
    left: u32,
    decisions: u32,
    total: Duration,
}

impl Scan {
    /// Looks at each of a few pods spread over the run, and says if it would choose another node.
    fn look(&mut self, placement: &Placement<Heap>, ask: &Ask) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let start = thread_time()?;
        let found = black_box(placement.place_by_scan(ask));
        self.total += thread_time()?.saturating_sub(start);
        self.decisions += 1;
        let place = placement.place(ask);
        ensure!(found == place, "a scan chooses {found:?}, the core {place:?}");
        Ok(())
    }
}
