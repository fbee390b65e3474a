//! Everything that differs between worlds, drawn once from the seed; and the same as words, for a replay by hand.

use crate::{limits, rng::Rng};

/// Size and weather of one world. Half of the faults are off in a world, so that rare mixes are met too.
///
/// Rates are in a thousand: of messages, of actions, or of seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Boards.
    pub nodes: u64,
    /// Cores of each.
    pub cpus: u64,
    /// How long the weather is rough, in ms.
    pub rough_ms: u64,
    /// Writers whose acknowledged writes are logged.
    pub writers: u64,
    /// Lines of the client's script.
    pub lines: u64,
    /// Longest time between two deeds of the chaos user, in ms; 0: there is none.
    pub chaos_ms: u64,
    /// Most replicas that it asks for.
    pub chaos_pods: u64,

    /// Clock: steps of a wall clock (a board's or the control plane's), also back, a second.
    pub clock_step: u64,
    /// Clock: a board's clock runs this much slow or fast at most, in a thousand.
    pub drift: u64,
    /// Clock: boards and the control plane start in 1970, of starts; the right time comes later.
    pub born_1970: u64,

    /// Network: longest way of a message, in ms.
    pub delay_ms: u64,
    /// Network: messages that are lost.
    pub lose: u64,
    /// Network: calls that are refused at once.
    pub refuse: u64,
    /// Network: a caller's messages stand still for a while, a second.
    pub stall: u64,
    /// Network: streams that break, a second.
    pub break_stream: u64,
    /// Network: writes of a stream after whose first half it breaks.
    pub break_frame: u64,
    /// Network: pulls of a watch that come late.
    pub slow_pull: u64,
    /// Network: boards cut off from the control plane in one direction or both, a second.
    pub cut_off: u64,

    /// Disk: longest commit, in ms.
    pub commit_ms: u64,
    /// Disk: commits that fail with an unknown outcome.
    pub fail_commit: u64,
    /// Disk: it is full for a while, a second.
    pub disk_full: u64,
    /// Disk: power cuts of the control plane, a second.
    pub power_cut: u64,

    /// Host: actions of the runtime that fail.
    pub fail_action: u64,
    /// Host: actions of the runtime (a pull, a mount) that take up to a minute.
    pub slow_action: u64,
    /// Host: containers that crash or are killed for their memory, a second.
    pub crash: u64,
    /// Host: containers that do not listen to SIGTERM.
    pub deaf: u64,

    /// Processes: restarts of an agent, a second.
    pub agent_restart: u64,
    /// Processes: an agent stands still for a while, beyond its lease too, a second.
    pub pause: u64,
    /// Processes: reboots of a board, a second.
    pub reboot: u64,
    /// Processes: deaths of a shim, a second.
    pub shim_death: u64,
}

/// How many fields a [`World`] has.
const FIELDS: usize = 30;

impl World {
    /// Draws a world.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut sometimes = |most: u64| if rng.chance(500) { rng.between(1, most) } else { 0 };
        Self {
            clock_step: sometimes(10),
            drift: sometimes(20),
            born_1970: sometimes(600),
            lose: sometimes(60),
            refuse: sometimes(60),
            stall: sometimes(10),
            break_stream: sometimes(60),
            break_frame: sometimes(30),
            slow_pull: sometimes(100),
            cut_off: sometimes(8),
            fail_commit: sometimes(8),
            disk_full: sometimes(3),
            power_cut: sometimes(12),
            fail_action: sometimes(80),
            slow_action: sometimes(60),
            crash: sometimes(15),
            deaf: sometimes(300),
            agent_restart: sometimes(15),
            pause: sometimes(8),
            reboot: sometimes(4),
            shim_death: sometimes(10),
            chaos_ms: sometimes(20_000),
            chaos_pods: rng.between(1, 8),
            delay_ms: 1 + if rng.chance(500) { rng.between(1, 400) } else { 0 },
            commit_ms: 1 + if rng.chance(500) { rng.between(1, 200) } else { 0 },
            nodes: rng.between(1, limits::NODES_MAX),
            cpus: rng.between(1, 4),
            rough_ms: limits::ROUGH_MS,
            writers: 2,
            lines: rng.between(3, 10),
        }
    }

    /// The world by which speed is measured: 3 boards, 30 pods, a deed every 10 s, for an hour, with the faults of this
    /// seed.
    pub fn standard(rng: &mut Rng) -> Self {
        Self {
            nodes: 3,
            cpus: 4,
            rough_ms: 3_600_000,
            writers: 0,
            lines: 3,
            chaos_ms: 20_000,
            chaos_pods: 30,
            ..Self::draw(rng)
        }
    }

    /// So many boards without weather, writers or chaos.
    pub fn quiet(nodes: u64) -> Self {
        let drawn = Self::draw(&mut Rng::new(0));
        Self { nodes, cpus: 4, rough_ms: 0, writers: 0, lines: 0, chaos_ms: 0, ..drawn.calm() }
    }

    /// The same cluster with the weather gone.
    #[must_use]
    pub fn calm(&self) -> Self {
        let mut calm = self.clone();
        for (name, field) in calm.fields() {
            if !matches!(
                name,
                "nodes" | "cpus" | "rough_ms" | "writers" | "lines" | "chaos_ms" | "chaos_pods"
            ) {
                *field = if matches!(name, "delay_ms" | "commit_ms") { 5 } else { 0 };
            }
        }
        calm
    }

    /// All fields by name.
    pub fn fields(&mut self) -> [(&'static str, &mut u64); FIELDS] {
        [
            ("nodes", &mut self.nodes),
            ("cpus", &mut self.cpus),
            ("rough_ms", &mut self.rough_ms),
            ("writers", &mut self.writers),
            ("lines", &mut self.lines),
            ("chaos_ms", &mut self.chaos_ms),
            ("chaos_pods", &mut self.chaos_pods),
            ("clock_step", &mut self.clock_step),
            ("drift", &mut self.drift),
            ("born_1970", &mut self.born_1970),
            ("delay_ms", &mut self.delay_ms),
            ("lose", &mut self.lose),
            ("refuse", &mut self.refuse),
            ("stall", &mut self.stall),
            ("break_stream", &mut self.break_stream),
            ("break_frame", &mut self.break_frame),
            ("slow_pull", &mut self.slow_pull),
            ("cut_off", &mut self.cut_off),
            ("commit_ms", &mut self.commit_ms),
            ("fail_commit", &mut self.fail_commit),
            ("disk_full", &mut self.disk_full),
            ("power_cut", &mut self.power_cut),
            ("fail_action", &mut self.fail_action),
            ("slow_action", &mut self.slow_action),
            ("crash", &mut self.crash),
            ("deaf", &mut self.deaf),
            ("agent_restart", &mut self.agent_restart),
            ("pause", &mut self.pause),
            ("reboot", &mut self.reboot),
            ("shim_death", &mut self.shim_death),
        ]
    }

    /// As one line of `name=value`, without what is zero.
    pub fn words(&self) -> String {
        let mut world = self.clone();
        let words = world.fields().into_iter().filter(|(_, value)| **value != 0);
        words.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    /// What [`World::words`] wrote.
    ///
    /// # Errors
    /// The word that is no field of a world.
    pub fn parse(words: &str) -> Result<Self, String> {
        let mut world = Self::draw(&mut Rng::new(0));
        world.fields().into_iter().for_each(|(_, value)| *value = 0);
        for word in words.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| word.to_owned())?;
            let value = value.parse().map_err(|_| word.to_owned())?;
            let mut fields = world.fields().into_iter();
            let field = fields.find(|(of, _)| *of == name).ok_or_else(|| word.to_owned())?;
            *field.1 = value;
        }
        Ok(world)
    }
}

#[cfg(test)]
mod tests {
    use super::World;
    use crate::rng::Rng;

    #[test]
    fn words_are_the_world() {
        for seed in 0..50 {
            let world = World::draw(&mut Rng::new(seed));
            assert_eq!(World::parse(&world.words()), Ok(world));
        }
        assert_eq!(World::parse("nodes=1 moons=2"), Err("moons=2".into()));
    }

    #[test]
    fn half_of_the_faults_are_off() {
        let (mut on, mut all) = (0, 0);
        for seed in 0..200 {
            let mut world = World::draw(&mut Rng::new(seed));
            let calm = world.calm().words();
            for (name, value) in world.fields() {
                // What a calm world has not, and delays that every world has.
                if !calm.contains(&format!("{name}=")) {
                    all += 1;
                    on += u64::from(*value != 0);
                }
            }
        }
        assert!((all * 45..all * 55).contains(&(on * 100)), "{on} of {all}");
    }
}
