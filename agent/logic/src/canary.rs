//! Switches that break a promise on purpose, so that the simulator can show that it notices. Without the feature
//! `canaries` (which nothing that is shipped has) a [`Switch`] is nothing, and no code of theirs is compiled in.

/// What is done wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Canary {
    /// R1: a container is started before its sandbox, and so its cgroup, is made.
    StartsUncaged,
    /// R5: an agent that starts forgets what runs.
    ForgetsRunning,
    /// R6: who is asked to stop is killed at once.
    KillsAtOnce,
    /// L1: a status that was refused is not sent again.
    ForgetsStatus,
}

impl Canary {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::StartsUncaged, Self::ForgetsRunning, Self::KillsAtOnce, Self::ForgetsStatus];
}

/// At most one canary sings.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// Which.
    #[cfg(feature = "canaries")]
    pub on: Option<Canary>,
}

impl Switch {
    /// Whether this one sings.
    #[cfg(feature = "canaries")]
    pub(crate) fn sings(self, canary: Canary) -> bool {
        self.on == Some(canary)
    }

    /// Never: there are none.
    #[cfg(not(feature = "canaries"))]
    #[expect(clippy::unused_self, reason = "one signature, with the feature and without")]
    pub(crate) const fn sings(self, _canary: Canary) -> bool {
        false
    }
}
