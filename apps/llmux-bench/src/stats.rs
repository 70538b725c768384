//! What is counted, and how it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::connection::Failure;
use crate::reply::Summary;

/// The longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Times, in nanoseconds, exact to three digits.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3);
        Self(histogram.expect("the bounds and the precision are what the crate allows"))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// In microseconds; null if there are none.
    pub(crate) fn json(&self) -> Value {
        if self.0.is_empty() {
            return Value::Null;
        }
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        json!({
            "mean": self.0.mean() / 1e3,
            "min": micros(self.0.min()),
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "p999": at(0.999),
            "max": micros(self.0.max()),
        })
    }
}

/// What one run found.
#[derive(Debug)]
pub(crate) struct Stats {
    requests: u64,
    bytes: u64,
    events: u64,
    latency: Times,
    first_event: Times,
    failures: BTreeMap<String, u64>,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            bytes: 0,
            events: 0,
            latency: Times::new(),
            first_event: Times::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Counts a good answer.
    pub(crate) fn answered(&mut self, summary: Summary, latency: Duration) {
        self.requests += 1;
        self.bytes += summary.bytes;
        self.events += summary.events;
        self.latency.record(latency);
    }

    /// Counts a stream's first event.
    pub(crate) fn begun(&mut self, latency: Duration) {
        self.first_event.record(latency);
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.failures_of(failure.to_string(), 1);
    }

    /// Counts failures of a kind.
    pub(crate) fn failures_of(&mut self, kind: String, number: u64) {
        if number > 0 {
            *self.failures.entry(kind).or_default() += number;
        }
    }

    /// `elapsed` is how long the run took, from its start to its last answer; `cpu` what this program used of the CPU.
    pub(crate) fn json(&self, mode: &str, elapsed: Duration, cpu: Option<Duration>) -> Value {
        let seconds = elapsed.as_secs_f64();
        json!({
            "mode": mode,
            "requests": self.requests,
            "failed": self.failures.values().sum::<u64>(),
            "failures": self.failures,
            "seconds": seconds,
            "per_second": if seconds > 0.0 { self.requests as f64 / seconds } else { 0.0 },
            "body_bytes": self.bytes,
            "events": self.events,
            "latency_us": self.latency.json(),
            "first_event_us": self.first_event.json(),
            "cpu_seconds": cpu.map(|cpu| cpu.as_secs_f64()),
        })
    }
}

/// CPU time of this process so far; `None` where the system does not tell.
pub(crate) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name, in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = user + system;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stats, Times, cpu_time};
    use crate::connection::Failure;
    use crate::reply::{Fault, Summary};

    #[test]
    fn quantiles_are_exact_to_three_digits() {
        let mut times = Times::new();
        for micros in 1..=1000 {
            times.record(Duration::from_micros(micros));
        }
        let json = times.json();
        for (name, expected) in
            [("p50", 500.0), ("p99", 990.0), ("p999", 999.0), ("max", 1000.0), ("mean", 500.5)]
        {
            let value = json[name].as_f64().unwrap();
            assert!((value / expected - 1.0).abs() < 0.002, "{name}: {value}");
        }
    }

    #[test]
    fn a_time_beyond_all_bounds_is_kept_as_the_longest() {
        let mut times = Times::new();
        times.record(Duration::from_secs(10_000));
        assert!(times.json()["max"].as_f64().unwrap() >= 599e6);
        assert!(Times::new().json().is_null());
    }

    #[test]
    fn failures_are_counted_by_kind_and_never_as_answers() {
        let mut stats = Stats::new();
        let summary = Summary { bytes: 10, events: 3, closes: false };
        stats.answered(summary, Duration::from_millis(1));
        stats.failed(&Failure::Answer(Fault::Status(503)));
        stats.failed(&Failure::Answer(Fault::Status(503)));
        stats.failed(&Failure::Answer(Fault::NotDone));
        let json = stats.json("closed", Duration::from_secs(2), None);
        assert_eq!((&json["requests"], &json["failed"]), (&1.into(), &3.into()));
        assert_eq!(json["failures"]["status 503"], 2);
        assert_eq!(json["per_second"], 0.5);
        assert_eq!(json["events"], 3);
    }

    #[test]
    fn this_process_uses_the_cpu() {
        assert!(cpu_time().is_some());
    }
}
