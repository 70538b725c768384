//! Keeps a store that does not answer from being asked by each request.

use std::sync::atomic::{AtomicU64, Ordering};

/// Closed (0), or open until a moment in milliseconds. Once that has come, one call may try, and the others go on waiting.
#[derive(Debug, Default)]
pub(super) struct Breaker(AtomicU64);

impl Breaker {
    /// Tells whether a call may be made at `now`, which is not 0. If the breaker was open, this is the one call that may try,
    /// and the next one may after `pause`.
    pub(super) fn allows(&self, now: u64, pause: u64) -> bool {
        let until = self.0.load(Ordering::Relaxed);
        until == 0
            || (now >= until
                && self
                    .0
                    .compare_exchange(until, now + pause, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok())
    }

    /// The store answered.
    pub(super) fn close(&self) {
        if !self.is_closed() {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// The store did not answer.
    pub(super) fn open(&self, now: u64, pause: u64) {
        self.0.fetch_max(now + pause, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Breaker;

    #[test]
    fn an_open_breaker_lets_one_call_try_each_pause() {
        let breaker = Breaker::default();
        assert!(breaker.allows(10, 1000) && breaker.allows(10, 1000));
        breaker.open(50, 1000);
        assert!(!breaker.allows(1049, 1000));
        assert!(breaker.allows(1050, 1000));
        assert!(!breaker.allows(1051, 1000), "one call is trying");
        assert!(breaker.allows(2050, 1000), "that call was given up");
        breaker.close();
        assert!(breaker.allows(2051, 1000) && breaker.allows(2051, 1000) && breaker.is_closed());
    }
}
