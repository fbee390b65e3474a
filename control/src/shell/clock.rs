//! The wall clock as the control plane sees it: it may jump forward, never back.

use std::{
    cell::Cell,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use coracle_control_logic::Millis;

/// Milliseconds since 1970 that never sink. Where the system's clock was set back, time goes on from where it was.
#[derive(Debug)]
pub(crate) struct Clock {
    last: Cell<(Millis, Instant)>,
}

fn system() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Clock {
    /// Starts with the system's time.
    pub(crate) fn new() -> Self {
        Self { last: Cell::new((system(), Instant::now())) }
    }

    /// Now.
    pub(crate) fn now(&self) -> Millis {
        self.advance(system(), Instant::now())
    }

    fn advance(&self, wall: Millis, instant: Instant) -> Millis {
        let (last, seen) = self.last.get();
        let passed = u64::try_from(instant.saturating_duration_since(seen).as_millis());
        let now = if wall >= last {
            wall
        } else {
            Millis(last.0.saturating_add(passed.unwrap_or(u64::MAX)))
        };
        self.last.set((now, instant));
        now
    }
}

/// Seconds since 1970, for certificates.
pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(system().0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn never_back() {
        let start = Instant::now();
        let clock = Clock { last: Cell::new((Millis(1000), start)) };
        let check = |wall: u64, after_ms: u64, want: u64| {
            let got = clock.advance(Millis(wall), start + Duration::from_millis(after_ms));
            assert_eq!(got, Millis(want));
        };
        check(1010, 10, 1010);
        check(500, 30, 1030);
        check(600, 130, 1130);
        check(9000, 140, 9000);
    }
}
