//! This run beside an earlier one.

use std::fmt::Write as _;

use super::results::{Key, Results};

/// What a run's figures say beside those of an earlier run.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) text: String,
    /// Whether something of LLMux costs clearly more than it did.
    pub(super) is_worse: bool,
}

/// Figures that lower is better of, with the growth that is no noise.
const COSTS: &[(&str, f64)] = &[
    ("instructions_per_", 0.02),
    ("allocations_per_", 0.02),
    ("system_calls_per_", 0.05),
    ("cpu_us_per_request_afterwards", f64::INFINITY),
    ("cpu_us_per_", 0.10),
    ("rss_", 0.10),
];

/// The growth at which a figure counts as worse; `None` if it is none that is watched. Rates and latencies depend on
/// what else the machine does.
fn tolerance(metric: &str) -> Option<f64> {
    COSTS.iter().find(|(start, _)| metric.starts_with(start)).map(|(_, growth)| *growth)
}

/// Compares the costs of LLMux. CPU times are first divided by nginx's of the same run, if both runs have it, so that a
/// machine that became slower does not count.
pub(super) fn compare(before: &Results, now: &Results) -> Comparison {
    let mut text = String::from("## Compared with the earlier run\n\n");
    let mut is_worse = false;
    let mut compared = 0;
    let watched = now.keys().filter(|(_, subject, _)| subject.starts_with("llmux"));
    for key in watched {
        let Some(tolerance) = tolerance(&key.2) else { continue };
        let Some((old, new, unit)) = figures(before, now, key) else { continue };
        compared += 1;
        let growth = new / old - 1.0;
        let verdict = match growth {
            growth if growth > tolerance => "worse",
            growth if growth < -tolerance => "better",
            _ => continue,
        };
        is_worse |= growth > tolerance;
        let (scenario, subject, metric) = key;
        let _ = writeln!(
            text,
            "- {verdict}: {scenario}, {subject}, {metric}: {old:.2} -> {new:.2}{unit} ({:+.1} %)",
            growth * 100.0
        );
    }
    let _ = writeln!(text, "- {compared} costs compared; those that are not named changed little");
    Comparison { text, is_worse: is_worse || compared == 0 }
}

/// The figure of both runs, and what it is in.
fn figures(before: &Results, now: &Results, key: &Key) -> Option<(f64, f64, &'static str)> {
    let (scenario, subject, metric) = key;
    let own = |results: &Results| results.median(scenario, subject, metric);
    let (old, new) = (own(before)?, own(now)?);
    if metric.starts_with("cpu_us_per_") {
        let nginx = |results: &Results| results.median(scenario, "nginx", metric);
        if let (Some(before), Some(now)) = (nginx(before), nginx(now))
            && before > 0.0
            && now > 0.0
            && old > 0.0
        {
            return Some((old / before, new / now, " x nginx"));
        }
    }
    (old > 0.0).then_some((old, new, ""))
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::bench::results::Results;

    fn results(nginx: f64, llmux: f64) -> Results {
        let mut results = Results::default();
        results.add("saturation", "nginx", "cpu_us_per_request", nginx);
        results.add("saturation", "llmux-on", "cpu_us_per_request", llmux);
        results
    }

    #[test]
    fn a_slower_machine_is_no_regression() {
        let comparison = compare(&results(10.0, 12.0), &results(20.0, 24.0));
        assert!(!comparison.is_worse, "{}", comparison.text);
        assert!(comparison.text.contains("1 costs compared"), "{}", comparison.text);
    }

    #[test]
    fn a_higher_multiple_of_nginx_is_one() {
        let comparison = compare(&results(10.0, 12.0), &results(10.0, 14.0));
        assert!(comparison.is_worse);
        assert!(comparison.text.contains("- worse: saturation, llmux-on"), "{}", comparison.text);
        assert!(comparison.text.contains("1.20 -> 1.40 x nginx"), "{}", comparison.text);
        let comparison = compare(&results(10.0, 12.0), &results(10.0, 10.0));
        assert!(!comparison.is_worse && comparison.text.contains("- better:"));
    }

    #[test]
    fn without_nginx_the_figures_themselves_are_compared() {
        let only = |value| {
            let mut results = Results::default();
            results.add("streams", "llmux-on", "instructions_per_chunk", value);
            results.add("streams", "llmux-on", "allocations_per_chunk", value / 100.0);
            results.add("streams", "llmux-on", "latency_p50_us", value * value);
            results
        };
        let comparison = compare(&only(1000.0), &only(1025.0));
        assert!(comparison.is_worse);
        assert!(comparison.text.contains("2 costs compared"), "{}", comparison.text);
        assert!(
            comparison.text.contains("allocations_per_chunk: 10.00 -> 10.25"),
            "{}",
            comparison.text
        );
        assert!(!compare(&only(1000.0), &only(1015.0)).is_worse);
    }

    #[test]
    fn nothing_to_compare_is_no_success() {
        assert!(compare(&Results::default(), &results(10.0, 12.0)).is_worse);
    }
}
