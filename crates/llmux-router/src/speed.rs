//! How fast a deployment is, as far as its recent answers tell.

use std::time::{Duration, Instant};

/// Samples this old have lost most of their weight.
const MEMORY: Duration = Duration::from_secs(5);
/// The same for what a deployment's load usually is: longer than most calls take, so that a rush cannot become usual
/// before its own answers have told what it does to the speed.
pub(crate) const LOAD_MEMORY: Duration = Duration::from_secs(30);
/// The most that one sample weighs against all before it, once there are two: rare calls must not make the mean jump
/// with each of them.
const MOST: f64 = 0.5;

/// How many samples there were, and when the last one came: decides what the next one weighs.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    samples: u32,
    last: Option<Instant>,
}

impl Pace {
    /// Returns the weight of a sample that comes `now`, 0 to 1. The first few average evenly; later ones weigh by the
    /// time that passed, so that the mean covers a span of time and not a number of calls.
    fn weigh(&mut self, now: Instant, memory: Duration) -> f64 {
        let passed = self.last.map_or(memory, |last| now.saturating_duration_since(last));
        self.samples = self.samples.saturating_add(1);
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        let by_time = 1.0 - (-passed.as_secs_f64() / memory.as_secs_f64()).exp();
        by_time.min(MOST).max(1.0 / f64::from(self.samples))
    }
}

/// A mean that forgets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    value: f64,
    pace: Pace,
}

impl Mean {
    pub(crate) fn add(&mut self, sample: f64, now: Instant) {
        self.add_over(sample, now, MEMORY);
    }

    /// Adds a sample to a mean that remembers for longer or shorter than usual.
    pub(crate) fn add_over(&mut self, sample: f64, now: Instant, memory: Duration) {
        let weight = self.pace.weigh(now, memory);
        self.value += weight * (sample - self.value);
    }

    /// Returns the mean; `None` before the first sample.
    pub(crate) fn get(&self) -> Option<f64> {
        (self.pace.samples > 0).then_some(self.value)
    }
}

/// Duration of whole answers as a linear function of their length: a fixed part, and a time per output token. Fitted
/// by least squares with weights that fade.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pace: Pace,
    tokens: f64,
    seconds: f64,
    tokens_squared: f64,
    tokens_seconds: f64,
}

impl Line {
    pub(crate) fn add(&mut self, tokens: f64, seconds: f64, now: Instant) {
        let weight = self.pace.weigh(now, MEMORY);
        for (mean, sample) in [
            (&mut self.tokens, tokens),
            (&mut self.seconds, seconds),
            (&mut self.tokens_squared, tokens * tokens),
            (&mut self.tokens_seconds, tokens * seconds),
        ] {
            *mean += weight * (sample - *mean);
        }
    }

    /// Returns the seconds that an answer of `tokens` takes; `None` before the first sample.
    pub(crate) fn at(&self, tokens: f64) -> Option<f64> {
        (self.pace.samples > 0)
            .then(|| (self.seconds + self.slope() * (tokens - self.tokens)).max(0.0))
    }

    /// Returns the seconds per output token: between 0 and what leaves nothing for the fixed part.
    fn slope(&self) -> f64 {
        let spread = self.tokens_squared - self.tokens * self.tokens;
        if self.tokens <= 0.0 || spread <= 1e-6 * self.tokens_squared {
            return 0.0;
        }
        let together = self.tokens_seconds - self.tokens * self.seconds;
        (together / spread).clamp(0.0, self.seconds / self.tokens)
    }
}

/// What was learned of a deployment. Streams and whole answers are kept apart: a client that reads slowly stretches a
/// stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Speed {
    /// Seconds to a stream's first output.
    pub(crate) first_output: Mean,
    pub(crate) streams: Line,
    pub(crate) whole: Line,
    /// 1 for each success, 0 for each failure.
    pub(crate) success: Mean,
    /// Calls in flight when a call began, itself included.
    pub(crate) load: Mean,
    /// When the last sample of any kind came.
    pub(crate) last: Option<Instant>,
}

impl Speed {
    /// Returns the share of calls that ended well, 1 before the first.
    pub(crate) fn success_rate(&self) -> f64 {
        self.success.get().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_first_samples_average_evenly() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        for sample in [1.0, 2.0, 6.0] {
            mean.add(sample, start());
        }
        assert!((mean.get().expect("three samples") - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_mean_forgets_with_time_not_with_calls() {
        let t0 = start();
        let (mut busy, mut quiet) = (Mean::default(), Mean::default());
        for step in 0..1000 {
            busy.add(1.0, t0 + Duration::from_millis(step));
            quiet.add(1.0, t0 + Duration::from_secs(step));
        }
        // 100 calls within a tenth of a second, and two calls in two seconds.
        for step in 0..100 {
            busy.add(10.0, t0 + Duration::from_millis(1000 + step));
        }
        for step in 0..2 {
            quiet.add(10.0, t0 + Duration::from_secs(1000 + step));
        }
        assert!(busy.get() < Some(2.0), "{busy:?}");
        assert!(quiet.get() > Some(3.0), "{quiet:?}");
    }

    #[test]
    fn the_line_finds_the_fixed_part_and_the_time_per_token() {
        let mut line = Line::default();
        for (step, tokens) in [10.0, 200.0, 50.0, 400.0, 90.0, 10.0].into_iter().enumerate() {
            line.add(tokens, 0.3 + 0.01 * tokens, start() + Duration::from_secs(step as u64));
        }
        for tokens in [0.0, 100.0, 1000.0] {
            let expected = 0.3 + 0.01 * tokens;
            assert!((line.at(tokens).expect("samples") - expected).abs() < 1e-6, "{tokens}");
        }
    }

    #[test]
    fn answers_of_one_length_say_nothing_about_other_lengths() {
        let mut line = Line::default();
        for _ in 0..5 {
            line.add(20.0, 2.0, start());
        }
        assert_eq!(line.at(500.0), line.at(20.0));
        assert!((line.at(20.0).expect("samples") - 2.0).abs() < 1e-9);
    }
}
