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

/// What was heard this long ago may no longer be true.
pub(crate) const OUTDATED: Duration = Duration::from_secs(3);
/// A latency below this share of the expected one is good news ...
const GOOD: f64 = 0.5;
/// ... and so much of it in a row is believed.
const BELIEVED: u32 = 3;

/// Good news of a deployment that had not been heard of for a while: it seems to be faster than it was. It is held back
/// until there is enough of it. A mean of old and new would take long to come down, since a deployment that counts as
/// slow gets few calls; and a single quick answer proves nothing.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    good: u32,
    ratios: f64,
}

/// What to do with a sample.
enum Heard {
    /// Average it.
    Usual,
    /// Wait for more.
    HeldBack,
    /// Forget the past: the latency is this share of what it was.
    Changed(f64),
}

impl News {
    fn hear(&mut self, seconds: f64, expected: f64, silent: bool) -> Heard {
        if seconds >= expected * GOOD || (self.good == 0 && !silent) {
            *self = Self::default();
            return Heard::Usual;
        }
        self.good += 1;
        self.ratios += seconds / expected;
        if self.good < BELIEVED {
            return Heard::HeldBack;
        }
        Heard::Changed(std::mem::take(self).ratios / f64::from(BELIEVED))
    }
}

/// How many samples there were, and when the last one came: decides what the next one weighs.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    samples: u32,
    last: Option<Instant>,
}

impl Pace {
    fn is_silent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) >= OUTDATED)
    }

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

/// The mean time to the first output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FirstOutput {
    mean: Mean,
    news: News,
}

impl FirstOutput {
    pub(crate) fn add(&mut self, seconds: f64, now: Instant) {
        let silent = self.mean.pace.is_silent(now);
        match self.news.hear(seconds, self.mean.value, silent) {
            Heard::Usual => self.mean.add(seconds, now),
            Heard::HeldBack => self.mean.pace.last = Some(now),
            Heard::Changed(ratio) => {
                self.mean.value *= ratio;
                self.mean.pace = Pace { samples: BELIEVED, last: Some(now) };
            }
        }
    }

    /// Returns the seconds; `None` before the first sample.
    pub(crate) fn get(&self) -> Option<f64> {
        self.mean.get()
    }
}

/// Duration of whole answers as a linear function of their length: a fixed part, and a time per output token. Fitted
/// by least squares with weights that fade.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pace: Pace,
    news: News,
    tokens: f64,
    seconds: f64,
    tokens_squared: f64,
    tokens_seconds: f64,
}

impl Line {
    pub(crate) fn add(&mut self, tokens: f64, seconds: f64, now: Instant) {
        let expected = self.at(tokens).unwrap_or(0.0);
        match self.news.hear(seconds, expected, self.pace.is_silent(now)) {
            Heard::Usual => {}
            Heard::HeldBack => {
                self.pace.last = Some(now);
                return;
            }
            Heard::Changed(ratio) => {
                self.seconds *= ratio;
                self.tokens_seconds *= ratio;
                self.pace = Pace { samples: BELIEVED, last: Some(now) };
                return;
            }
        }
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
    pub(crate) first_output: FirstOutput,
    pub(crate) streams: Line,
    pub(crate) whole: Line,
    /// 1 for each success, 0 for each failure.
    pub(crate) success: Mean,
    /// Calls in flight when a call began, itself included.
    pub(crate) load: Mean,
    /// When the last sample of any kind came.
    pub(crate) last: Option<Instant>,
    /// When a call last ended that told nothing.
    pub(crate) in_vain: Option<Instant>,
}

impl Speed {
    fn kind(&self, stream: bool) -> (&Pace, &News) {
        match stream {
            true => (&self.first_output.mean.pace, &self.first_output.news),
            false => (&self.whole.pace, &self.whole.news),
        }
    }

    /// Tells whether nothing recent is known of streams, or of whole answers.
    pub(crate) fn is_outdated(&self, stream: bool, now: Instant) -> bool {
        let (pace, _) = self.kind(stream);
        pace.last.is_none() || pace.is_silent(now)
    }

    /// Tells whether there is good news that is not believed yet.
    pub(crate) fn is_promising(&self, stream: bool) -> bool {
        self.kind(stream).1.good > 0
    }

    /// Tells whether anything was heard of late.
    pub(crate) fn is_heard(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < OUTDATED)
    }

    /// Tells whether a call was spent on news a moment ago, and brought none.
    pub(crate) fn is_in_vain(&self, now: Instant) -> bool {
        self.in_vain.is_some_and(|at| now.saturating_duration_since(at) < OUTDATED)
    }

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
    fn good_news_after_a_silence_is_believed_when_there_is_enough_of_it() {
        let (mut first, mut whole, t0) = (FirstOutput::default(), Line::default(), start());
        for step in 0..10 {
            first.add(3.0, t0 + Duration::from_secs(step));
            whole.add(100.0 + step as f64, 3.0, t0 + Duration::from_secs(step));
        }
        let mut known = Vec::new();
        for step in 0..3 {
            let now = t0 + Duration::from_secs(20 + step);
            first.add(0.3, now);
            whole.add(100.0, 0.3, now);
            known.extend([first.get(), whole.at(100.0)].map(|it| it.expect("samples").round()));
        }
        assert_eq!(known, [3.0, 3.0, 3.0, 3.0, 0.0, 0.0]);
    }

    #[test]
    fn one_usual_answer_undoes_good_news() {
        let (mut first, t0) = (FirstOutput::default(), start());
        for (second, seconds) in [(0, 3.0), (10, 0.3), (11, 0.3), (12, 3.0), (13, 0.3)] {
            first.add(seconds, t0 + Duration::from_secs(second));
        }
        // The last one came while calls were usual, so it is averaged.
        let known = first.get().expect("samples");
        assert!((1.0..3.0).contains(&known), "{known}");
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
