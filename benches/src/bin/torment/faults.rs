//! Mischief: what is done to boards, cables and the disk, drawn from the seed, and how it is taken back.

use std::time::{Duration, Instant};

use anyhow::Result;
use coracle_benches::disk::LoopDisk;
use coracle_sim::rng::Rng;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    boards::{Board, run},
    journal::Journal,
};

/// Longest that something is broken as a rule, in ms.
const SHORT_MS: (u64, u64) = (1_000, 15_000);
/// Longer than the 50 s after which a silent node counts as lost, in ms.
const LONG_MS: (u64, u64) = (55_000, 75_000);
/// A killed program is down for so long, in ms.
const DOWN_MS: (u64, u64) = (0, 6_000);
/// Between two draws, in ms.
const PAUSE_MS: (u64, u64) = (300, 3_000);
/// The table of the packet filter that makes weather.
const TABLE: &str = "torment";

/// What can be done to a board.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL to its program, which is started again.
    Kill,
    /// SIGKILL to one of its shims.
    KillShim,
    /// SIGKILL to its program and all its shims at once.
    KillAll,
    /// SIGSTOP, then SIGCONT.
    Stand,
    /// Its cable is out.
    Cut,
    /// Nothing goes in, or nothing out.
    OneWay,
    /// Packets are lost at random.
    Loss,
    /// Its cable is slow, and loses what waits too long; with netem where the kernel has it.
    Slow,
    /// The disk of the store is full.
    Full,
}

const OF_CONTROL: [Fault; 8] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Stand,
    Fault::Cut,
    Fault::Loss,
    Fault::Slow,
    Fault::Full,
    Fault::Full,
];
const OF_AGENT: [Fault; 12] = [
    Fault::Kill,
    Fault::Kill,
    Fault::KillShim,
    Fault::KillShim,
    Fault::KillShim,
    Fault::KillAll,
    Fault::Stand,
    Fault::Stand,
    Fault::Cut,
    Fault::OneWay,
    Fault::Loss,
    Fault::Slow,
];

struct Active {
    board: usize,
    fault: Fault,
    until: Instant,
}

/// The weather of one cluster. Board 0 is the control plane's.
pub(crate) struct Weather {
    rng: Rng,
    active: Vec<Active>,
    next: Instant,
    /// Whether the kernel has netem.
    has_netem: bool,
    /// A long fault is due in this round.
    is_long_due: bool,
}

impl Weather {
    /// Fine as yet.
    pub(crate) fn new(rng: Rng) -> Self {
        let netem = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"];
        let has_netem = run(&netem).is_ok();
        if has_netem {
            // It was a trial.
            let _gone = run(&["tc", "qdisc", "del", "dev", "lo", "root"]);
        }
        Self { rng, active: Vec::new(), next: Instant::now(), has_netem, is_long_due: false }
    }

    /// How cables are made slow here.
    pub(crate) fn words(&self) -> &'static str {
        if self.has_netem {
            "slow cables by netem"
        } else {
            "this kernel has no netem: cables are slow by a token bucket, packets are lost by nft"
        }
    }

    /// A new round begins. If it lasts long enough, one fault of it outlasts a node's lease.
    pub(crate) fn begin(&mut self, lasts: Duration) {
        self.is_long_due = Duration::from_millis(LONG_MS.1) < lasts;
        self.next = Instant::now();
    }

    /// Takes back what is over, and draws what is next.
    pub(crate) fn step(
        &mut self,
        boards: &mut [Board],
        disk: &LoopDisk,
        journal: &Journal,
    ) -> Result<()> {
        let now = Instant::now();
        let (over, on): (Vec<Active>, Vec<Active>) =
            std::mem::take(&mut self.active).into_iter().partition(|active| active.until <= now);
        self.active = on;
        for active in over {
            self.undo(&active, boards, disk, journal)?;
        }
        if now < self.next {
            return Ok(());
        }
        let ms = self.rng.between(PAUSE_MS.0, PAUSE_MS.1);
        self.next = now + Duration::from_millis(ms);
        let count = boards.len() as u64;
        // The control plane has as much of it as two boards.
        let board =
            usize::try_from(self.rng.below(count + 1).min(count)).unwrap_or(0) % boards.len();
        let fault = if board == 0 {
            self.rng.pick(&OF_CONTROL, Fault::Kill)
        } else {
            self.rng.pick(&OF_AGENT, Fault::Kill)
        };
        if self.active.iter().any(|active| active.board == board) {
            return Ok(());
        }
        self.make(board, fault, boards, disk, journal)
    }

    fn lasts(&mut self, fault: Fault) -> Duration {
        let range = match fault {
            Fault::Kill | Fault::KillAll => DOWN_MS,
            Fault::Stand | Fault::Cut | Fault::OneWay if std::mem::take(&mut self.is_long_due) => {
                LONG_MS
            }
            Fault::Stand
            | Fault::Cut
            | Fault::OneWay
            | Fault::KillShim
            | Fault::Loss
            | Fault::Slow
            | Fault::Full => SHORT_MS,
        };
        Duration::from_millis(self.rng.between(range.0, range.1))
    }

    fn make(
        &mut self,
        at: usize,
        fault: Fault,
        boards: &mut [Board],
        disk: &LoopDisk,
        journal: &Journal,
    ) -> Result<()> {
        let Some(board) = boards.get_mut(at) else { return Ok(()) };
        if !board.runs() {
            return Ok(());
        }
        let lasts = self.lasts(fault);
        let what = match fault {
            Fault::Kill => {
                board.kill()?;
                if at == 0 { "kill_control_plane" } else { "kill_agent" }
            }
            Fault::KillShim => {
                let shims = board.shims();
                let Some(shim) = shims.get(usize::try_from(self.rng.below(shims.len() as u64))?)
                else {
                    return Ok(());
                };
                // It may have ended just now.
                let _ended = kill(Pid::from_raw(*shim), Signal::SIGKILL);
                journal.say(&format!("{}: kill_shim {shim}", board.name));
                journal.done("kill_shim");
                return Ok(());
            }
            Fault::KillAll => {
                board.kill()?;
                for shim in board.shims() {
                    let _ended = kill(Pid::from_raw(shim), Signal::SIGKILL);
                }
                "kill_agent_and_shims"
            }
            Fault::Stand => {
                board.signal(Signal::SIGSTOP);
                if at == 0 { "stop_control_plane" } else { "stop_agent" }
            }
            Fault::Cut => {
                run(&["ip", "link", "set", &board.cable(), "down"])?;
                "cut_cable"
            }
            Fault::OneWay => {
                let hook = if self.rng.chance(500) { "input" } else { "output" };
                board.inside(&["nft", &filter(hook, "")])?;
                if hook == "input" { "nothing_goes_in" } else { "nothing_goes_out" }
            }
            Fault::Loss => {
                let percent = self.rng.between(5, 40);
                let some = format!("numgen random mod 100 < {percent}");
                board.inside(&["nft", &filter("input", &some)])?;
                "lose_packets"
            }
            Fault::Slow => {
                let kbit = format!("{}kbit", self.rng.between(64, 512));
                let ms = format!("{}ms", self.rng.between(50, 800));
                let cable = board.cable();
                let add = ["tc", "qdisc", "replace", "dev", &cable, "root"];
                let how: Vec<&str> = if self.has_netem {
                    vec!["netem", "delay", &ms, &ms, "loss", "2%"]
                } else {
                    vec!["tbf", "rate", &kbit, "burst", "4kb", "latency", &ms]
                };
                run(&[&add[..], &how].concat())?;
                "slow_cable"
            }
            Fault::Full => {
                disk.fill()?;
                "fill_disk"
            }
        };
        let is_long = LONG_MS.0 <= u64::try_from(lasts.as_millis())?;
        journal.say(&format!("{}: {what} for {} ms", board.name, lasts.as_millis()));
        journal.done(what);
        if is_long {
            journal.done("beyond_the_lease");
        }
        self.active.push(Active { board: at, fault, until: Instant::now() + lasts });
        Ok(())
    }

    fn undo(
        &mut self,
        active: &Active,
        boards: &mut [Board],
        disk: &LoopDisk,
        journal: &Journal,
    ) -> Result<()> {
        let Some(board) = boards.get_mut(active.board) else { return Ok(()) };
        journal.say(&format!("{}: over: {:?}", board.name, active.fault));
        match active.fault {
            Fault::Kill | Fault::KillAll => board.start()?,
            Fault::Stand => board.signal(Signal::SIGCONT),
            Fault::Cut => _ = run(&["ip", "link", "set", &board.cable(), "up"])?,
            Fault::OneWay | Fault::Loss => {
                board.inside(&["nft", &format!("delete table inet {TABLE}")])?;
            }
            Fault::Slow => _ = run(&["tc", "qdisc", "del", "dev", &board.cable(), "root"])?,
            Fault::Full => disk.free()?,
            Fault::KillShim => {}
        }
        Ok(())
    }

    /// All is taken back.
    pub(crate) fn calm(
        &mut self,
        boards: &mut [Board],
        disk: &LoopDisk,
        journal: &Journal,
    ) -> Result<()> {
        for active in std::mem::take(&mut self.active) {
            self.undo(&active, boards, disk, journal)?;
        }
        Ok(())
    }

    /// Whether the disk of the store is full.
    pub(crate) fn disk_is_full(&self) -> bool {
        self.active.iter().any(|active| active.fault == Fault::Full)
    }
}

/// A table that drops what comes or goes by the cable, if it meets this too.
fn filter(hook: &str, also: &str) -> String {
    let cable = if hook == "input" { "iifname" } else { "oifname" };
    format!(
        "table inet {TABLE} {{\nchain {hook} {{\ntype filter hook {hook} priority -300;\n{cable} \"eth0\" {also} drop\n}}\n}}"
    )
}
