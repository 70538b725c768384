//! The figures as tables.

use std::fmt::Write as _;

use super::results::Results;
use super::scenario::{Load, SCENARIOS, Scenario, Vendor};
use super::subject::SUBJECTS;

/// What a table shows in one of its cells.
type Cell<'a> = &'a dyn Fn(&Scenario, &str) -> Option<String>;

/// Whose figure a scenario is compared with: nginx does not translate and has no cache, but passes as much on.
pub(super) fn reference(scenario: &Scenario) -> &'static str {
    match (scenario.vendor, scenario.stream) {
        (Vendor::Anthropic, true) => "streams",
        (Vendor::Anthropic | Vendor::Cached, false) => "saturation",
        _ => scenario.name,
    }
}

/// The name of the figure that tells what a scenario costs.
pub(super) fn cost(scenario: &Scenario) -> &'static str {
    if scenario.stream { "cpu_us_per_chunk" } else { "cpu_us_per_request" }
}

/// Returns a subject's cost in multiples of nginx's.
pub(super) fn ratio(results: &Results, scenario: &Scenario, subject: &str) -> Option<f64> {
    let metric = cost(scenario);
    let nginx = results.median(reference(scenario), "nginx", metric)?;
    let own = results.median(scenario.name, subject, metric)?;
    (nginx > 0.0).then(|| own / nginx)
}

/// The whole report in Markdown.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = String::from(
        "# Benchmark\n\nWritten by `cargo xtask bench`; what each figure means, and what it does not, is in \
         [performance.md](../performance.md).\nMedians over the rounds of one run.\n\n",
    );
    for (name, value) in &results.about {
        let _ = writeln!(text, "- {name}: {value}");
    }
    let subjects: Vec<&str> =
        SUBJECTS.iter().copied().filter(|subject| results.has_subject(subject)).collect();
    let median = |scenario: &Scenario, subject: &str, metric: &str| {
        results.median(scenario.name, subject, metric)
    };

    let cpu = |scenario: &Scenario, subject: &str| {
        let own = median(scenario, subject, cost(scenario))?;
        Some(match ratio(results, scenario, subject) {
            Some(ratio) if subject != "nginx" => format!("{} ({ratio:.2} x)", short(own)),
            _ => short(own),
        })
    };
    let title = "CPU time in µs for each request, or each chunk of a stream; in parentheses: multiples of nginx's";
    table(&mut text, title, &subjects, &cpu);

    let rate = |scenario: &Scenario, subject: &str| {
        if matches!(scenario.load, Load::Hold { .. }) {
            return None;
        }
        let rate = short(median(scenario, subject, "requests_per_second")?);
        let load = 100.0 * median(scenario, subject, "load_cores").unwrap_or_default();
        let own = median(scenario, subject, "subject_cores");
        let own = own.map_or("-".to_owned(), |own| format!("{:.0}", own * 100.0));
        Some(format!("{rate} ({own} / {load:.0})"))
    };
    let title = "Requests a second; in parentheses: how busy the subject and the load generator were, in % of a core";
    table(&mut text, title, &subjects, &rate);

    let latency = |scenario: &Scenario, subject: &str| {
        let at = |quantile: &str| median(scenario, subject, &format!("latency_{quantile}_us"));
        Some([at("mean")?, at("p50")?, at("p99")?, at("p999")?].map(millis).join(" / "))
    };
    table(&mut text, "Latency in ms: mean / p50 / p99 / p99.9", &subjects, &latency);

    let added = |scenario: &Scenario, subject: &str| {
        if subject == "direct" || scenario.name == "half-rate" {
            return None;
        }
        let added = |quantile: &str| {
            let metric = format!("latency_{quantile}_us");
            Some(median(scenario, subject, &metric)? - median(scenario, "direct", &metric)?)
        };
        if !matches!(scenario.name, "unloaded" | "promise") {
            return None;
        }
        let values = [added("mean")?, added("p50")?, added("p99")?, added("p999")?];
        Some(values.map(|value| format!("{value:.0}")).join(" / "))
    };
    let title = "Latency added to that of no gateway, in µs: mean / p50 / p99 / p99.9";
    table(&mut text, title, &subjects, &added);

    let first = |scenario: &Scenario, subject: &str| {
        let at = |quantile: &str| median(scenario, subject, &format!("first_event_{quantile}_us"));
        Some([at("p50")?, at("p99")?].map(millis).join(" / "))
    };
    table(&mut text, "Time to a stream's first event in ms: p50 / p99", &subjects, &first);

    memory(&mut text, results, &subjects);
    single(&mut text, results, &subjects);
    failures(&mut text, results, &subjects);
    if !results.notes.is_empty() {
        text.push_str("\n## Notes\n\n");
        for note in &results.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}

/// Appends a table with a row for each scenario that has a figure.
fn table(text: &mut String, title: &str, subjects: &[&str], cell: Cell<'_>) {
    let rows: Vec<(String, Vec<Option<String>>)> = SCENARIOS
        .iter()
        .map(|scenario| {
            let cells = subjects.iter().map(|subject| cell(scenario, subject)).collect();
            (format!("{}: {}", scenario.name, scenario.title), cells)
        })
        .collect();
    rows_of(text, title, subjects, rows);
}

fn rows_of(
    text: &mut String,
    title: &str,
    subjects: &[&str],
    rows: Vec<(String, Vec<Option<String>>)>,
) {
    let rows: Vec<_> =
        rows.into_iter().filter(|(_, cells)| cells.iter().any(Option::is_some)).collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n## {title}\n\n| | {} |", subjects.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(subjects.len()));
    for (name, cells) in rows {
        let cells: Vec<String> =
            cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

fn memory(text: &mut String, results: &Results, subjects: &[&str]) {
    let row = |name: &str, scenario: &str, metric: &str| {
        let cell = |subject: &&str| results.median(scenario, subject, metric).map(short);
        (name.to_owned(), subjects.iter().map(cell).collect::<Vec<_>>())
    };
    let mut rows = vec![
        row("idle, after the start", "memory", "rss_idle_mib"),
        row("after saturation", "saturation", "rss_loaded_mib"),
        row("after 200 KB bodies", "body-200k", "rss_loaded_mib"),
    ];
    for (scenario, streams) in [("open-2000", "2,000"), ("open-8000", "8,000")] {
        rows.push(row(&format!("{streams} open streams"), scenario, "rss_open_mib"));
        rows.push(row(
            &format!("{streams} open streams, KiB each"),
            scenario,
            "rss_kib_per_stream",
        ));
        rows.push(row(&format!("{streams} streams closed"), scenario, "rss_closed_mib"));
    }
    rows.push(row("idle, at the end", "memory", "rss_after_mib"));
    rows_of(text, "Resident memory in MiB", subjects, rows);
}

/// Figures of one request.
fn single(text: &mut String, results: &Results, subjects: &[&str]) {
    let row = |name: &str, scenario: &str, metric: &str| {
        let cell = |subject: &&str| results.median(scenario, subject, metric).map(short);
        (name.to_owned(), subjects.iter().map(cell).collect::<Vec<_>>())
    };
    let late = "cpu_us_per_request_afterwards";
    let rows = vec![
        row("system calls, at saturation", "saturation", "system_calls_per_request"),
        row("CPU time that is spent after the load, in µs (part of the above)", "saturation", late),
        row("instructions, 1 KB bodies", "saturation", "instructions_per_request"),
        row("instructions, 20 KB bodies", "body-20k", "instructions_per_request"),
        row("instructions, translated", "cross", "instructions_per_request"),
        row("instructions, chunk of a stream", "streams", "instructions_per_chunk"),
        row("allocations, 1 KB bodies", "saturation", "allocations_per_request"),
        row("allocations, 20 KB bodies", "body-20k", "allocations_per_request"),
        row("allocations, translated", "cross", "allocations_per_request"),
        row("allocations, chunk of a stream", "streams", "allocations_per_chunk"),
    ];
    rows_of(text, "Of one request", subjects, rows);
}

fn failures(text: &mut String, results: &Results, subjects: &[&str]) {
    let failed = |scenario: &Scenario, subject: &str| {
        let percent = results.median(scenario.name, subject, "failed_percent")?;
        (percent > 0.0).then(|| format!("{percent:.1}"))
    };
    table(text, "Requests that failed, in %", subjects, &failed);
}

/// Three digits, or all that stand before the point.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 { text } else { grouped(&text) }
}

/// Puts a comma before each three digits.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn millis(micros: f64) -> String {
    let millis = micros / 1e3;
    if millis >= 10.0 { format!("{millis:.1}") } else { format!("{millis:.3}") }
}

#[cfg(test)]
mod tests {
    use super::{markdown, ratio, reference, short};
    use crate::bench::results::Results;
    use crate::bench::scenario::SCENARIOS;

    fn results() -> Results {
        let mut results = Results::default();
        for (scenario, subject, value) in [
            ("saturation", "nginx", 10.0),
            ("saturation", "llmux-on", 12.5),
            ("cross", "llmux-on", 17.0),
        ] {
            results.add(scenario, subject, "cpu_us_per_request", value);
        }
        results.add("unloaded", "direct", "latency_p50_us", 12.0);
        for quantile in ["mean", "p50", "p99", "p999"] {
            results.add("unloaded", "nginx", &format!("latency_{quantile}_us"), 82.0);
        }
        results.note("something".to_owned());
        results
    }

    #[test]
    fn costs_are_told_in_multiples_of_what_nginx_needs_for_as_much() {
        let results = results();
        let scenario = |name| SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
        assert_eq!(ratio(&results, scenario("saturation"), "llmux-on"), Some(1.25));
        assert_eq!(ratio(&results, scenario("cross"), "llmux-on"), Some(1.7));
        assert_eq!(ratio(&results, scenario("streams"), "llmux-on"), None);
        assert_eq!(reference(scenario("cross-streams")), "streams");
        assert_eq!(reference(scenario("body-20k")), "body-20k");
    }

    #[test]
    fn the_report_has_what_was_measured_and_a_dash_for_what_was_not() {
        let text = markdown(&results());
        assert!(text.contains("| | direct | nginx | llmux-on |"), "{text}");
        assert!(text.contains("bodies | - | 10.0 | 12.5 (1.25 x) |"), "{text}");
        assert!(text.contains("vendor | - | - | 17.0 (1.70 x) |"), "{text}");
        assert!(text.contains("| - | 0.082 / 0.082 / 0.082 / 0.082 | - |"), "{text}");
        assert!(!text.contains("Resident memory"), "{text}");
        assert!(text.ends_with("## Notes\n\n- something\n"), "{text}");
    }

    #[test]
    fn numbers_have_three_digits_or_all_before_the_point() {
        for (value, text) in [
            (1234567.0, "1,234,567"),
            (123.4, "123"),
            (99.96, "100"),
            (12.34, "12.3"),
            (9.996, "10.0"),
            (1.234, "1.23"),
            (0.0, "0.00"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
