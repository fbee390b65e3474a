//! Delays that grow with each failure and are forgotten after a long calm.

use crate::{limits, time::Millis};

/// The delay before a container is restarted, or an image pulled again.
///
/// The first repetition is at once; then 10 s, doubling to 300 s. Ten minutes without a repetition start it anew.
/// Source: kubelet's container and image back-off.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    delay_ms: u64,
    updated: Millis,
}

impl Backoff {
    /// When what failed at `failed` may be tried again; `None` if it may be at once.
    pub fn due(&self, now: Millis, failed: Millis) -> Option<Millis> {
        if self.delay_ms == 0 || self.expired(now) {
            return None;
        }
        let due = failed.plus(self.delay_ms);
        (due > now).then_some(due)
    }

    /// The delay in force, in ms (0 before the first repetition).
    pub fn delay_ms(&self) -> u64 {
        self.delay_ms
    }

    /// Notes one repetition: the next delay is longer.
    pub fn advance(&mut self, now: Millis) {
        self.delay_ms = if self.delay_ms == 0 || self.expired(now) {
            limits::BACKOFF_MS_MIN
        } else {
            (self.delay_ms * 2).min(limits::BACKOFF_MS_MAX)
        };
        self.updated = now;
    }

    fn expired(&self, now: Millis) -> bool {
        now.since(self.updated) > limits::BACKOFF_RESET_MS
    }
}

/// Delay before try number `tries` (from 0) of a setup step, in ms.
pub fn setup_retry_ms(tries: u32) -> u64 {
    (limits::SETUP_RETRY_MS_MIN << tries.min(16)).min(limits::SETUP_RETRY_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn restarts_wait_as_kubelet_does() {
        let mut backoff = Backoff::default();
        let mut now = Millis(5_000);
        let mut waits_s = Vec::new();
        for _ in 0..8 {
            let due = backoff.due(now, now).unwrap_or(now);
            waits_s.push(due.since(now) / 1000);
            now = due;
            backoff.advance(now);
        }
        assert_eq!(waits_s, [0, 10, 20, 40, 80, 160, 300, 300]);
        // Ten calm minutes: as new.
        now = now.plus(limits::BACKOFF_RESET_MS + 1);
        assert_eq!(backoff.due(now, now), None);
        backoff.advance(now);
        assert_eq!(backoff.delay_ms(), limits::BACKOFF_MS_MIN);
    }

    #[test]
    fn setup_is_tried_less_and_less() {
        assert_eq!(setup_retry_ms(0), 500);
        assert_eq!(setup_retry_ms(3), 4_000);
        assert_eq!(setup_retry_ms(60), limits::SETUP_RETRY_MS_MAX);
    }
}
