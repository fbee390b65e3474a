//! Everything that differs between worlds, drawn once from the seed.

use crate::{limits, rng::Rng};

/// Size and weather of one world. Some faults are off in some worlds, so that rare mixes are met too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Boards.
    pub nodes: u64,
    /// Cores of each.
    pub cpus: u64,
    /// Longest way of a message, in ms.
    pub delay_ms: u64,
    /// Messages that are lost, in a thousand.
    pub lose: u64,
    /// Streams that break, in a thousand a second.
    pub break_stream: u64,
    /// Pulls of a watch that come late, in a thousand.
    pub slow_pull: u64,
    /// Longest commit, in ms.
    pub commit_ms: u64,
    /// Commits that fail with an unknown outcome, in a thousand.
    pub fail_commit: u64,
    /// Power cuts of the control plane, in a thousand a second.
    pub power_cut: u64,
    /// Restarts of an agent, in a thousand a second.
    pub agent_restart: u64,
    /// Reboots of a board, in a thousand a second.
    pub reboot: u64,
    /// Deaths of a shim, in a thousand a second.
    pub shim_death: u64,
    /// Crashes of a container, in a thousand a second.
    pub crash: u64,
    /// Boards cut off from the control plane, in a thousand a second.
    pub cut_off: u64,
    /// Actions of the runtime that fail, in a thousand.
    pub fail_action: u64,
}

impl World {
    /// Draws a world.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut sometimes = |percent: u64, most: u64| {
            if rng.chance(percent * 10) { rng.between(1, most) } else { 0 }
        };
        Self {
            lose: sometimes(60, 60),
            break_stream: sometimes(60, 60),
            slow_pull: sometimes(40, 100),
            fail_commit: sometimes(40, 8),
            power_cut: sometimes(60, 12),
            agent_restart: sometimes(60, 15),
            reboot: sometimes(30, 4),
            shim_death: sometimes(40, 10),
            crash: sometimes(40, 15),
            cut_off: sometimes(40, 6),
            fail_action: sometimes(40, 80),
            delay_ms: 1 + sometimes(70, 400),
            commit_ms: 1 + sometimes(70, 200),
            nodes: rng.between(1, limits::NODES_MAX),
            cpus: rng.between(1, 4),
        }
    }

    /// The same cluster with the weather gone.
    #[must_use]
    pub fn calm(&self) -> Self {
        Self {
            nodes: self.nodes,
            cpus: self.cpus,
            delay_ms: 5,
            commit_ms: 5,
            lose: 0,
            break_stream: 0,
            slow_pull: 0,
            fail_commit: 0,
            power_cut: 0,
            agent_restart: 0,
            reboot: 0,
            shim_death: 0,
            crash: 0,
            cut_off: 0,
            fail_action: 0,
        }
    }
}
