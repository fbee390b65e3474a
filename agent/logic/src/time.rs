//! Time as the agent's decisions see it: a monotonic count for delays and wall clock seconds for what is shown.

use alloc::string::String;

/// Milliseconds of a monotonic clock whose zero means nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    /// This much later; saturates.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long after `earlier`, in ms; 0 if it is not after it.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// When an event happened. Delays use `mono`, so a clock that is set (a board without a battery) shortens no grace
/// period; timestamps in statuses use `wall_s`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic.
    pub mono: Millis,
    /// Unix seconds.
    pub wall_s: i64,
}

/// `2026-01-02T03:04:05Z`, as `metav1.Time` is written. Times before 1970 read as 1970.
pub fn rfc3339(unix_s: i64) -> String {
    coracle_api::time::rfc3339(u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000))
}

/// Unix seconds of an RFC 3339 time; fractions of a second are dropped. `None` if it is not one.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    coracle_api::time::parse_ms(text).and_then(|ms| i64::try_from(ms / 1000).ok())
}
