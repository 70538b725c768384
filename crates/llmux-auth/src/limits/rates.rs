//! The last minute of a scope.

use std::collections::VecDeque;
use std::time::Duration;

/// How many seconds a second stays in the window after it began: a minute after it ended, so that no 60 seconds,
/// wherever they begin, hold more than the limit.
pub(super) const STAY: u32 = 61;

/// What was counted in one second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    second: u32,
    requests: u32,
    tokens: u64,
}

/// A sliding window of one minute. It holds the seconds in which something happened, the oldest first: a scope that
/// calls rarely costs little memory. Nothing runs in the background: the window moves when it is looked at.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    buckets: VecDeque<Bucket>,
}

impl Rates {
    /// Forgets what left the window by `second`.
    pub(super) fn roll(&mut self, second: u32) {
        while let Some(oldest) = self.buckets.front() {
            if second.saturating_sub(oldest.second) < STAY {
                break;
            }
            self.requests -= u64::from(oldest.requests);
            self.tokens = self.tokens.saturating_sub(oldest.tokens);
            self.buckets.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Counts in `second`, which other threads may already have left behind.
    pub(super) fn add(&mut self, second: u32, requests: u32, tokens: u64) {
        let index = match self.buckets.back() {
            Some(newest) if newest.second == second => self.buckets.len() - 1,
            Some(newest) if newest.second > second => self.place(second),
            _ => self.buckets.len(),
        };
        if self.buckets.get(index).is_none_or(|bucket| bucket.second != second) {
            self.buckets.insert(index, Bucket { second, requests: 0, tokens: 0 });
        }
        let bucket = &mut self.buckets[index];
        // A second that is full to the brim of its type takes no more; the sum stays the sum of the buckets.
        let requests = requests.min(u32::MAX - bucket.requests);
        bucket.requests += requests;
        self.requests += u64::from(requests);
        let tokens = tokens.min(u64::MAX - self.tokens);
        bucket.tokens += tokens;
        self.tokens += tokens;
    }

    /// Takes back what was counted in `second`, if that is still in the window.
    pub(super) fn remove(&mut self, second: u32, requests: u32, tokens: u64) {
        let index = self.place(second);
        let Some(bucket) = self.buckets.get_mut(index).filter(|bucket| bucket.second == second)
        else {
            return;
        };
        let requests = requests.min(bucket.requests);
        let tokens = tokens.min(bucket.tokens);
        bucket.requests -= requests;
        bucket.tokens -= tokens;
        self.requests -= u64::from(requests);
        self.tokens -= tokens;
        if bucket.requests == 0 && bucket.tokens == 0 {
            self.buckets.remove(index);
        }
    }

    /// Returns the time since the epoch at which `fits` is true of the requests and tokens left, if nothing else
    /// comes. `None` if it never will.
    pub(super) fn free_at(&self, fits: impl Fn(u64, u64) -> bool) -> Option<Duration> {
        let (mut requests, mut tokens) = (self.requests, self.tokens);
        self.buckets.iter().find_map(|bucket| {
            requests -= u64::from(bucket.requests);
            tokens = tokens.saturating_sub(bucket.tokens);
            fits(requests, tokens).then(|| left_at(bucket.second))
        })
    }

    /// Returns the time since the epoch at which the window is empty, if nothing else comes.
    pub(super) fn empty_at(&self) -> Duration {
        self.buckets.back().map_or(Duration::ZERO, |newest| left_at(newest.second))
    }

    fn place(&self, second: u32) -> usize {
        self.buckets.partition_point(|bucket| bucket.second < second)
    }
}

/// The time since the epoch at which `second` leaves the window.
pub(super) const fn left_at(second: u32) -> Duration {
    Duration::from_secs(second as u64 + STAY as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stays_for_a_whole_minute() {
        let mut rates = Rates::default();
        rates.add(7, 2, 50);
        rates.roll(67);
        assert_eq!((rates.requests, rates.tokens), (2, 50));
        rates.roll(68);
        assert_eq!((rates.requests, rates.tokens), (0, 0));
        assert!(rates.is_empty());
    }

    #[test]
    fn threads_that_lag_behind_count_in_their_own_second() {
        let mut rates = Rates::default();
        for second in [10, 12, 11, 10] {
            rates.add(second, 1, 5);
        }
        let seconds: Vec<_> =
            rates.buckets.iter().map(|bucket| (bucket.second, bucket.requests)).collect();
        assert_eq!(seconds, [(10, 2), (11, 1), (12, 1)]);
        rates.roll(71);
        assert_eq!((rates.requests, rates.tokens), (2, 10));
    }

    #[test]
    fn what_is_taken_back_is_gone_and_never_twice() {
        let mut rates = Rates::default();
        rates.add(10, 1, 5);
        rates.add(11, 1, 5);
        rates.remove(10, 1, 9);
        assert_eq!((rates.requests, rates.tokens), (1, 5));
        rates.remove(10, 1, 5);
        rates.remove(99, 1, 5);
        assert_eq!((rates.requests, rates.tokens), (1, 5));
        rates.roll(72);
        assert!(rates.is_empty());
    }

    #[test]
    fn there_is_room_again_when_enough_has_left() {
        let mut rates = Rates::default();
        rates.add(10, 1, 60);
        rates.add(20, 1, 30);
        assert_eq!(rates.free_at(|requests, _| requests < 2), Some(Duration::from_secs(71)));
        assert_eq!(rates.free_at(|_, tokens| tokens == 0), Some(Duration::from_secs(81)));
        assert_eq!(rates.free_at(|_, _| false), None);
        assert_eq!(rates.empty_at(), Duration::from_secs(81));
    }
}
