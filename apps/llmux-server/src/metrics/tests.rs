use std::collections::BTreeSet;

use llmux_auth::tenants::UsageStatus;
use llmux_types::FailureClass;

use super::families::{ALL, Kind};
use super::*;

fn settings(tenant_labels: bool) -> config::Metrics {
    config::Metrics {
        enabled: true,
        path: "/metrics".to_owned(),
        require_auth: false,
        tenant_labels,
        litellm_names: false,
    }
}

/// The lines of the recorder's families that begin so.
fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
    let text = metrics.registry.handle().expect("it is enabled").render();
    let mut found: Vec<String> =
        text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect();
    found.sort();
    found
}

fn ended(labels: Labels, status: u16, outcome: Outcome) -> Ended<'static> {
    Ended {
        route: "/v1/chat/completions",
        labels,
        status,
        outcome,
        caller: None,
        duration: Duration::from_millis(20),
        overhead: None,
        first_output: None,
    }
}

#[test]
fn names_are_unique_and_follow_the_rules_of_prometheus() {
    let mut names = BTreeSet::new();
    for family in ALL {
        let name = family.name;
        assert!(names.insert(name), "{name} is there twice");
        let is_known =
            ["llmux_", "process_", "gen_ai_client_"].iter().any(|it| name.starts_with(it));
        assert!(is_known, "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        assert_eq!(family.buckets.is_empty(), family.kind != Kind::Histogram, "{name}");
        assert!(family.buckets.is_sorted(), "{name}");
        for unit in ["_ms", "_milliseconds", "_kb", "_mib", "_cents"] {
            assert!(!name.contains(unit), "{name} is not in a base unit");
        }
        assert!(!family.labels.contains(&"le"), "{name}");
        assert!(!family.help.contains(['\n', '\\']) && family.help.ends_with('.'), "{name}");
    }
}

#[test]
fn the_tables_of_families_are_up_to_date() {
    let mut families = "| Family | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        families.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            family.name,
            family.kind.as_str(),
            labels.join(", "),
            family.help
        ));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/observability.md");
    let mut text = std::fs::read_to_string(path).expect("docs/observability.md is there");
    for (start, end, table) in [
        (
            "<!-- families: made from the source, see the test -->\n",
            "<!-- end of families -->\n",
            families,
        ),
        (
            "<!-- aliases: made from the source, see the test -->\n",
            "<!-- end of aliases -->\n",
            litellm::table(),
        ),
    ] {
        let (before, rest) = text.split_once(start).expect("the start of the table");
        let (found, after) = rest.split_once(end).expect("the end of the table");
        if found.trim() != table.trim() && std::env::var_os("LLMUX_BLESS").is_some() {
            text = format!("{before}{start}\n{table}\n{end}{after}");
            std::fs::write(path, &text).expect("writable");
            continue;
        }
        assert_eq!(found.trim(), table.trim(), "run this test with LLMUX_BLESS=1 to write it anew");
    }
}

#[test]
fn attempts_are_counted_by_how_they_ended() {
    let metrics = Metrics::new(&settings(false));
    let meter = metrics.deployment("p/m", "m", "p", ("openai", "m"));
    let second = Duration::from_secs(1);
    meter.ended(UsageStatus::Success, None, second);
    meter.ended(UsageStatus::Failure, Some(FailureClass::Timeout), second);
    meter.ended(UsageStatus::Failure, Some(FailureClass::Timeout), second);
    meter.ended(UsageStatus::Failure, Some(FailureClass::ContentPolicy), second);
    meter.ended(UsageStatus::Cancelled, None, second);
    let series = |outcome, class, count| {
        format!(
            r#"llmux_attempts_total{{deployment="p/m",provider="p",outcome="{outcome}",class="{class}"}} {count}"#
        )
    };
    let mut wanted = vec![
        series("success", "", 1),
        series("cancelled", "", 1),
        series("failure", "credential", 0),
        series("failure", "timeout", 2),
        series("failure", "content_policy", 1),
    ];
    wanted.sort();
    assert_eq!(lines(&metrics, "llmux_attempts_total"), wanted);
    let count = lines(&metrics, "llmux_upstream_duration_seconds_count");
    assert_eq!(
        count,
        [r#"llmux_upstream_duration_seconds_count{deployment="p/m",provider="p"} 4"#],
        "cancelled calls have no duration"
    );
}

#[test]
fn a_request_that_goes_on_elsewhere_counts_as_retry_and_as_fallback() {
    let metrics = Metrics::new(&settings(false));
    let (first, second) = (
        metrics.deployment("p/m", "m", "p", ("openai", "m")),
        metrics.deployment("q/n", "n", "q", ("openai", "m")),
    );
    let mut labels = Labels::default();
    labels.begin();
    labels.ask(&first);
    metrics.began(&mut labels, &first, 1);
    metrics.began(&mut labels, &first, 2);
    metrics.began(&mut labels, &second, 3);
    metrics.began(&mut labels, &second, 4);
    metrics.ended(&ended(labels, 200, Outcome::Ok));
    assert_eq!(
        lines(&metrics, "llmux_fallbacks_total"),
        [r#"llmux_fallbacks_total{model="m",fallback="n"} 1"#]
    );
    assert_eq!(
        lines(&metrics, "llmux_retries_total"),
        [
            r#"llmux_retries_total{model="m",provider="p"} 1"#,
            r#"llmux_retries_total{model="n",provider="q"} 2"#
        ]
    );
    let model_asked_for = r#"llmux_requests_total{route="/v1/chat/completions",model="m",provider="q",status="200",outcome="ok"} 1"#;
    assert_eq!(lines(&metrics, "llmux_requests_total"), [model_asked_for]);
}

#[test]
fn tenants_beyond_the_cap_share_one_series() {
    let metrics = Metrics::new(&settings(true));
    for number in 0..MOST_TENANTS + 500 {
        let key = format!("kid_{number}");
        metrics.tenant_of(&key, Some("team")).expect("tenants are counted").requests.increment(1);
    }
    metrics.tenant_of("kid_0", Some("team")).expect("known").requests.increment(1);
    let found = lines(&metrics, "llmux_tenant_requests_total");
    assert_eq!(found.len(), MOST_TENANTS + 1);
    for wanted in [
        r#"llmux_tenant_requests_total{key_id="other",team_id="other"} 500"#,
        r#"llmux_tenant_requests_total{key_id="kid_0",team_id="team"} 2"#,
        r#"llmux_tenant_requests_total{key_id="kid_999",team_id="team"} 1"#,
    ] {
        assert!(found.contains(&wanted.to_owned()), "{wanted}");
    }
    assert!(Metrics::new(&settings(false)).tenant_of("kid", None).is_none());
}

#[test]
fn nothing_is_kept_where_nothing_is_served() {
    let metrics = Metrics::new(&config::Metrics { enabled: false, ..settings(false) });
    let meter = metrics.deployment("p/m", "m", "p", ("openai", "m"));
    let mut labels = Labels::default();
    labels.ask(&meter);
    metrics.began(&mut labels, &meter, 1);
    metrics.ended(&ended(labels, 200, Outcome::Ok));
    metrics.refused(Refusal::Origin);
    assert!(metrics.registry.handle().is_none());
}

/// With `LLMUX_MEASURE=1` it also says what a request costs: in the profile `dist`, with `--nocapture`.
#[test]
fn requests_of_all_threads_are_counted() {
    use std::io::Write as _;
    use std::time::Instant;

    let measures = std::env::var_os("LLMUX_MEASURE").is_some();
    let requests = if measures { 1_000_000 } else { 1_000 };
    for (enabled, threads) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        let metrics = Metrics::new(&config::Metrics { enabled, ..settings(false) });
        let meter = metrics.deployment("p/m", "m", "p", ("openai", "m"));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..requests {
                        let mut labels = Labels::default();
                        labels.begin();
                        labels.ask(&meter);
                        metrics.began(&mut labels, &meter, 1);
                        meter.ended(UsageStatus::Success, None, Duration::from_millis(20));
                        let overhead = Some(Duration::from_micros(50));
                        let first_output = Some(Duration::from_millis(5));
                        let ended = ended(labels, 200, Outcome::Ok);
                        metrics.ended(&Ended { overhead, first_output, ..ended });
                    }
                });
            }
        });
        if measures {
            let each = start.elapsed() / requests;
            let mut out = std::io::stdout();
            writeln!(out, "enabled: {enabled}, threads: {threads}: {each:?} a request").unwrap();
        }
        if enabled {
            let counted = threads * requests;
            for family in ["llmux_requests_total", "llmux_overhead_seconds_count"] {
                let lines = lines(&metrics, family);
                assert_eq!(lines.len(), 1, "{lines:?}");
                assert!(lines[0].ends_with(&format!(" {counted}")), "{lines:?}");
            }
        }
    }
}
