//! Clocks that are wrong: they step, run slow or fast, and begin in 1970.

use crate::limits::BEGIN_MS;

/// One machine's clocks. True time goes in.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// It runs so many thousandths fast (or slow).
    pub drift: i64,
    /// Its wall clock is so far ahead, in ms (or behind).
    pub ahead_ms: i64,
}

impl Clock {
    /// The wall clock, in ms since 1970; it does not read a time before.
    pub fn wall(&self, now_ms: u64) -> u64 {
        self.mono(now_ms).saturating_add_signed(self.ahead_ms)
    }

    /// The monotonic clock, in ms.
    pub fn mono(&self, now_ms: u64) -> u64 {
        let passed = now_ms.saturating_sub(BEGIN_MS);
        let wrong = i64::try_from(passed).unwrap_or(i64::MAX).saturating_mul(self.drift) / 1000;
        now_ms.saturating_add_signed(wrong)
    }

    /// How long it really takes until this clock has gone on by so many ms.
    pub fn really(&self, ms: u64) -> u64 {
        let rate = 1000_u64.saturating_add_signed(self.drift).max(1);
        ms.saturating_mul(1000).div_ceil(rate)
    }

    /// The wall clock reads so many ms since 1970.
    pub fn set(&mut self, now_ms: u64, wall_ms: u64) {
        let mono = i64::try_from(self.mono(now_ms)).unwrap_or(i64::MAX);
        self.ahead_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub(mono);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_as_asked() {
        let mut clock = Clock { drift: 20, ahead_ms: -5_000 };
        let now = BEGIN_MS + 100_000;
        assert_eq!(clock.mono(now), now + 2_000);
        assert_eq!(clock.wall(now), now - 3_000);
        assert!(
            (0..=1).contains(&(clock.mono(now + clock.really(10_000)) - clock.mono(now) - 10_000))
        );
        clock.set(now, 40);
        assert_eq!((clock.wall(now), clock.wall(now + 1_000)), (40, 1_060));
    }
}
