//! The last minute of a deployment.

use std::time::Duration;

/// Length of the window, in seconds, and the number of its buckets.
const SECONDS: u64 = 60;

/// Counts of one second, or of all seconds of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Calls placed, for the limit of requests per minute.
    pub(crate) requests: u64,
    /// Tokens reserved or used, for the limit of tokens per minute.
    pub(crate) tokens: u64,
    /// Calls that ended well or badly through the deployment's own doing.
    pub(crate) calls: u64,
    /// Those of `calls` that ended badly.
    pub(crate) failures: u64,
}

impl Counts {
    fn subtract(&mut self, other: Self) {
        self.requests = self.requests.saturating_sub(other.requests);
        self.tokens = self.tokens.saturating_sub(other.tokens);
        self.calls = self.calls.saturating_sub(other.calls);
        self.failures = self.failures.saturating_sub(other.failures);
    }
}

/// Limits per minute; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) requests: Option<u64>,
    pub(crate) tokens: Option<u64>,
}

/// A sliding window of one minute in buckets of one second. What a bucket holds leaves the window between 59 and 60
/// seconds after it was counted. Nothing runs in the background: the window moves when it is looked at.
#[derive(Debug)]
pub(crate) struct Window {
    sum: Counts,
    /// The newest second, counted from an epoch of the owner's choice.
    second: u64,
    buckets: Box<[Counts; SECONDS as usize]>,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            sum: Counts::default(),
            second: 0,
            buckets: Box::new([Counts::default(); SECONDS as usize]),
        }
    }

    /// Moves the window on. A second of the past changes nothing.
    pub(crate) fn roll(&mut self, second: u64) {
        if second <= self.second {
            return;
        }
        if self.sum != Counts::default() {
            let first = second.saturating_sub(SECONDS - 1).max(self.second + 1);
            if first > self.second + 1 {
                *self.buckets = [Counts::default(); SECONDS as usize];
                self.sum = Counts::default();
            } else {
                for leaving in first..=second {
                    let bucket = &mut self.buckets[(leaving % SECONDS) as usize];
                    self.sum.subtract(std::mem::take(bucket));
                }
            }
        }
        self.second = second;
    }

    /// Returns the sums of the window as it was last moved.
    pub(crate) const fn sum(&self) -> Counts {
        self.sum
    }

    /// Changes what was counted in `second`, if that is still in the window.
    pub(crate) fn count(&mut self, second: u64, change: impl Fn(&mut Counts)) {
        let second = second.min(self.second);
        if second + SECONDS > self.second {
            let bucket = &mut self.buckets[(second % SECONDS) as usize];
            self.sum.subtract(*bucket);
            change(bucket);
            self.sum.requests += bucket.requests;
            self.sum.tokens = self.sum.tokens.saturating_add(bucket.tokens);
            self.sum.calls += bucket.calls;
            self.sum.failures += bucket.failures;
        }
    }

    /// Forgets calls and failures; requests and tokens stay.
    pub(crate) fn forget_failures(&mut self) {
        for counts in self.buckets.iter_mut().chain([&mut self.sum]) {
            counts.calls = 0;
            counts.failures = 0;
        }
    }

    /// Tells whether one more request of `tokens` fits. More tokens than the whole limit count as the whole limit:
    /// they must not wait forever.
    pub(crate) fn fits(&self, limits: &Limits, tokens: u64) -> bool {
        fits(self.sum, limits, tokens)
    }

    /// Returns how long after the time `since_epoch` one more request of `tokens` fits, if nothing else comes.
    /// `None` if it never will: a limit is 0.
    pub(crate) fn wait(
        &self,
        limits: &Limits,
        tokens: u64,
        since_epoch: Duration,
    ) -> Option<Duration> {
        let mut sum = self.sum;
        if fits(sum, limits, tokens) {
            return Some(Duration::ZERO);
        }
        let oldest = self.second.saturating_sub(SECONDS - 1);
        (oldest..=self.second).find_map(|second| {
            sum.subtract(self.buckets[(second % SECONDS) as usize]);
            let free = Duration::from_secs(second + SECONDS);
            fits(sum, limits, tokens).then(|| free.saturating_sub(since_epoch))
        })
    }
}

fn fits(sum: Counts, limits: &Limits, tokens: u64) -> bool {
    limits.requests.is_none_or(|limit| sum.requests < limit)
        && limits
            .tokens
            .is_none_or(|limit| limit > 0 && sum.tokens.saturating_add(tokens.min(limit)) <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64, requests: u64, tokens: u64) -> Window {
        let mut window = Window::new();
        window.roll(second);
        window.count(second, |counts| {
            counts.requests += requests;
            counts.tokens += tokens;
        });
        window
    }

    #[test]
    fn what_was_counted_leaves_after_a_minute() {
        let mut window = at(7, 2, 50);
        window.roll(66);
        assert_eq!(window.sum().requests, 2);
        window.roll(67);
        assert_eq!(window.sum(), Counts::default());
    }

    #[test]
    fn a_long_silence_empties_the_window() {
        let mut window = at(7, 2, 50);
        window.roll(100_000);
        assert_eq!(window.sum(), Counts::default());
        window.count(100_000, |counts| counts.requests += 1);
        assert_eq!(window.sum().requests, 1);
    }

    #[test]
    fn corrections_find_their_second_or_are_dropped_with_it() {
        let mut window = at(7, 1, 100);
        window.roll(30);
        window.count(7, |counts| counts.tokens = counts.tokens.saturating_sub(60));
        assert_eq!(window.sum().tokens, 40);
        window.roll(67);
        window.count(7, |counts| counts.tokens += 1000);
        assert_eq!(window.sum(), Counts::default());
    }

    #[test]
    fn the_wait_is_as_long_as_enough_stays_in_the_window() {
        let mut window = at(10, 1, 60);
        window.roll(20);
        window.count(20, |counts| {
            counts.requests += 1;
            counts.tokens += 30;
        });
        window.roll(25);
        let wait = |requests, tokens, demand| {
            let limits = Limits { requests, tokens };
            window.wait(&limits, demand, Duration::from_millis(25_500))
        };
        assert_eq!(wait(Some(3), None, 0), Some(Duration::ZERO));
        assert_eq!(wait(Some(2), None, 0), Some(Duration::from_millis(44_500)));
        assert_eq!(wait(Some(1), None, 0), Some(Duration::from_millis(54_500)));
        assert_eq!(wait(None, Some(100), 20), Some(Duration::from_millis(44_500)));
        assert_eq!(wait(None, Some(100), 5000), Some(Duration::from_millis(54_500)));
        assert_eq!(wait(Some(0), None, 0), None);
        assert_eq!(wait(None, Some(0), 0), None);
    }
}
