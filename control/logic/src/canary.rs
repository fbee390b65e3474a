//! Switches that break a promise on purpose, so that the simulator can show that it notices. Without the feature
//! `canaries` (which nothing that is shipped has) a [`Switch`] is nothing, and no code of theirs is compiled in.

/// What is done wrong.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Canary {
    /// S1: a write is answered before the store has it.
    AnswersEarly,
    /// S2: numbers are given beyond what is reserved on disk.
    GivesTwice,
    /// S3: an update of another version than the stored one goes through.
    TakesStale,
    /// W6: a watcher that is behind is not told of one event.
    SkipsForSlow,
    /// W2: a bookmark stands behind what was told.
    MarksAhead,
    /// W4: a watch goes on from where the ring no longer reaches.
    ResumesOutside,
    /// W5: an object leaves a selection, and its watcher is not told.
    HidesLeaving,
    /// P1: a pod that is being bound takes no room until it is.
    BindsUnassumed,
    /// P2: a Binding of a bound pod moves it.
    BindsTwice,
    /// L1: what is deleted in the foreground keeps its finalizer.
    ForgetsFinalizer,
}

impl Canary {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::AnswersEarly,
        Self::GivesTwice,
        Self::TakesStale,
        Self::SkipsForSlow,
        Self::MarksAhead,
        Self::ResumesOutside,
        Self::HidesLeaving,
        Self::BindsUnassumed,
        Self::BindsTwice,
        Self::ForgetsFinalizer,
    ];
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
