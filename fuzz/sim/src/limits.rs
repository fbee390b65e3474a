//! Bounds of a simulated world: what ends a run that would not end by itself.

/// Wall clock at which every world begins, in ms since 1970.
pub const BEGIN_MS: u64 = 1_700_000_000_000;
/// Rough weather, in ms.
pub const ROUGH_MS: u64 = 240_000;
/// Time in calm until everything must be as asked, in ms. Controllers back off up to 1000 s, so one may just have begun.
pub const CALM_MS: u64 = 45 * 60 * 1000;
/// Between two looks whether all is settled, in ms.
pub const LOOK_MS: u64 = 2_000;
/// Between two draws of mischief, in ms.
pub const MISCHIEF_MS: u64 = 1_000;
/// A call without an answer is given up after this long, in ms.
pub const CALL_MS: u64 = 10_000;
/// Events of one run, and for each of its ms; more is a world that spins.
pub const EVENTS_MAX: u64 = 1_000_000;
/// See [`EVENTS_MAX`].
pub const EVENTS_PER_MS_MAX: u64 = 1;
/// Lines of a trace that are kept.
pub const LINES_MAX: usize = 200_000;
/// Lines that are shown of a broken promise.
pub const LINES_SHOWN: usize = 40;
/// Worlds that are tried to make a failing one smaller.
pub const SHRINKS_MAX: usize = 400;
/// Boards of one world.
pub const NODES_MAX: u64 = 4;
/// Between two renewals of a node's lease, in ms.
pub const LEASE_EVERY_MS: u64 = 10_000;
/// Between two looks at a board, in ms.
pub const FACTS_EVERY_MS: u64 = 30_000;
/// Longest that a board is cut off, in ms: beyond the 50 s after which a node counts as lost.
pub const CUT_OFF_MS_MAX: u64 = 90_000;
/// Longest that an agent stands still, in ms: beyond the 50 s too.
pub const PAUSE_MS_MAX: u64 = 90_000;
/// Longest that a caller's messages stand still, in ms.
pub const STALL_MS_MAX: u64 = 40_000;
/// Longest that a disk is full, in ms.
pub const FULL_MS_MAX: u64 = 45_000;
/// Largest step of a clock, in ms.
pub const STEP_MS_MAX: u64 = 2 * 3_600_000;
/// Longest until a clock that began in 1970 is set, in ms.
pub const UNSET_MS_MAX: u64 = 120_000;
/// Longest that the control plane or an agent is down, in ms.
pub const DOWN_MS_MAX: u64 = 15_000;
/// Pulls that are late are so by up to this long, in ms: beyond the ring's age.
pub const LATE_MS_MAX: u64 = 400_000;

const _: () = assert!(CALM_MS > 1_000_000);
const _: () = assert!(LATE_MS_MAX > coracle_control_logic::limits::RING_AGE_MS_MAX);
