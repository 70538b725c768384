//! The same numbers under LiteLLM's names, for dashboards that ask for those (`metrics.litellm_names`).
//!
//! They are made out of the page when somebody asks for it, so that they cost requests nothing and say the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::families::{self as family, Family};

/// Where a label of theirs comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    /// A label of ours.
    Label(&'static str),
    /// The configured model of the deployment that our label `deployment` names.
    Model,
    /// What that deployment's provider is asked for.
    Upstream,
}

/// A family of theirs that one of ours has the numbers of.
#[derive(Debug)]
struct Alias {
    name: &'static str,
    ours: &'static Family,
    /// Only series with a value of a label: that value, or with `!` any other.
    only: &'static [(&'static str, &'static str)],
    labels: &'static [(&'static str, From)],
    /// What a value of ours is multiplied by.
    factor: f64,
}

const fn alias(
    name: &'static str,
    ours: &'static Family,
    only: &'static [(&'static str, &'static str)],
    labels: &'static [(&'static str, From)],
) -> Alias {
    Alias { name, ours, only, labels, factor: 1.0 }
}

const MODEL: &[(&str, From)] = &[("model", From::Label("model"))];
const DEPLOYMENT: &[(&str, From)] = &[
    ("litellm_model_name", From::Upstream),
    ("model_id", From::Label("deployment")),
    ("api_provider", From::Label("provider")),
];
const CALL: &[(&str, From)] = &[
    ("requested_model", From::Model),
    ("litellm_model_name", From::Upstream),
    ("model_id", From::Label("deployment")),
    ("api_provider", From::Label("provider")),
];

static ALIASES: &[Alias] = &[
    alias(
        "litellm_proxy_total_requests_metric_total",
        &family::REQUESTS,
        &[("model", "!")],
        &[
            ("requested_model", From::Label("model")),
            ("route", From::Label("route")),
            ("status_code", From::Label("status")),
        ],
    ),
    alias(
        "litellm_proxy_failed_requests_metric_total",
        &family::REQUESTS,
        &[("model", "!"), ("outcome", "error")],
        &[
            ("requested_model", From::Label("model")),
            ("route", From::Label("route")),
            ("exception_status", From::Label("status")),
        ],
    ),
    alias("litellm_spend_metric_total", &family::SPEND, &[], MODEL),
    alias("litellm_input_tokens_metric_total", &family::TOKENS, &[("kind", "input")], MODEL),
    alias("litellm_output_tokens_metric_total", &family::TOKENS, &[("kind", "output")], MODEL),
    alias("litellm_total_tokens_metric_total", &family::TOKENS, &[("kind", "input|output")], MODEL),
    alias(
        "litellm_input_cached_tokens_metric_total",
        &family::TOKENS,
        &[("kind", "cached")],
        MODEL,
    ),
    alias(
        "litellm_request_total_latency_metric",
        &family::DURATION,
        &[("model", "!"), ("outcome", "ok")],
        &[("model", From::Label("model")), ("requested_model", From::Label("model"))],
    ),
    alias(
        "litellm_llm_api_latency_metric",
        &family::UPSTREAM,
        &[],
        &[("model", From::Model), ("requested_model", From::Model)],
    ),
    alias(
        "litellm_llm_api_time_to_first_token_metric",
        &family::FIRST,
        &[],
        &[("model", From::Label("model")), ("requested_model", From::Label("model"))],
    ),
    alias("litellm_overhead_latency_metric", &family::OVERHEAD_TIME, &[], &[]),
    alias(
        "litellm_cache_hits_metric_total",
        &family::CACHE_REQUESTS,
        &[("result", "hit|shared")],
        MODEL,
    ),
    alias(
        "litellm_cache_misses_metric_total",
        &family::CACHE_REQUESTS,
        &[("result", "miss")],
        MODEL,
    ),
    alias("litellm_in_flight_requests", &family::IN_FLIGHT, &[], &[]),
    Alias {
        // 0: healthy, 1: in part, 2: not at all.
        factor: 2.0,
        ..alias("litellm_deployment_state", &family::DEPLOYMENT_COOLING, &[], DEPLOYMENT)
    },
    alias("litellm_deployment_cooled_down_total", &family::COOLDOWNS, &[], DEPLOYMENT),
    alias("litellm_deployment_total_requests_total", &family::ATTEMPTS, &[], CALL),
    alias(
        "litellm_deployment_success_responses_total",
        &family::ATTEMPTS,
        &[("outcome", "success")],
        CALL,
    ),
    alias(
        "litellm_deployment_failure_responses_total",
        &family::ATTEMPTS,
        &[("outcome", "failure")],
        CALL,
    ),
];

/// A deployment's configured model, and what its provider is asked for.
pub(super) type Deployments = HashMap<String, (String, String)>;

/// A series of our page: the end of its name behind the family's, its labels as they are written, its value.
struct Sample<'a> {
    suffix: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str, family: &str) -> Option<Self> {
        let rest = line.strip_prefix(family)?;
        let end = rest.find(['{', ' '])?;
        let (suffix, rest) = rest.split_at(end);
        if !matches!(suffix, "" | "_bucket" | "_sum" | "_count") {
            return None;
        }
        let (labels, value) = match rest.strip_prefix('{') {
            Some(inside) => {
                let (labels, value) = inside.rsplit_once("} ")?;
                (read_labels(labels)?, value)
            }
            None => (Vec::new(), rest.trim_start()),
        };
        Some(Self { suffix, labels, value: value.trim().parse().ok()? })
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value)
    }

    fn fits(&self, only: &[(&str, &str)]) -> bool {
        only.iter().all(|&(name, wanted)| match (self.label(name), wanted) {
            (found, "!") => found.is_some_and(|value| !value.is_empty()),
            (found, wanted) => found.is_some_and(|value| wanted.split('|').any(|one| one == value)),
        })
    }
}

/// Reads `name="value",other="value"`. Values stay escaped.
fn read_labels(mut text: &str) -> Option<Vec<(&str, &str)>> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut escaped = false;
        let end = rest.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        })?;
        labels.push((name, &rest[..end]));
        let behind = &rest[end + 1..];
        text = behind.strip_prefix(',').unwrap_or(behind);
    }
    Some(labels)
}

/// Adds their families to a page of ours.
pub(super) fn write(page: &mut String, deployments: &Deployments) {
    let mut out = String::new();
    for alias in ALIASES {
        write_alias(alias, page, deployments, &mut out);
    }
    page.push_str(&out);
}

fn write_alias(alias: &Alias, page: &str, deployments: &Deployments, out: &mut String) {
    // Series of ours that differ only in what theirs do not tell are one; the order is that of the page.
    let mut sums: BTreeMap<(usize, String), (String, f64)> = BTreeMap::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| Sample::read(line, alias.ours.name));
    for sample in samples.filter(|sample| sample.fits(alias.only)) {
        let deployment = sample.label("deployment").and_then(|id| deployments.get(id));
        let mut labels = String::new();
        for &(name, from) in alias.labels {
            let value = match from {
                From::Label(ours) => sample.label(ours),
                From::Model => deployment.map(|(model, _)| model.as_str()),
                From::Upstream => deployment.map(|(_, upstream)| upstream.as_str()),
            };
            add_label(&mut labels, name, value.unwrap_or_default());
        }
        let next = places.len();
        let place = *places.entry(labels.clone()).or_insert(next);
        let rank = match sample.suffix {
            "_sum" => format!("1 {}", sample.suffix),
            "_count" => format!("2 {}", sample.suffix),
            // Buckets keep the order that they have in the page.
            _ => {
                let bound = sample.label("le").unwrap_or_default();
                if !bound.is_empty() {
                    add_label(&mut labels, "le", bound);
                }
                let number = if bound == "+Inf" { f64::MAX } else { bound.parse().unwrap_or(0.0) };
                format!("0 {number:020.9}")
            }
        };
        let series = match labels.as_str() {
            "" => format!("{}{}", alias.name, sample.suffix),
            labels => format!("{}{}{{{labels}}}", alias.name, sample.suffix),
        };
        sums.entry((place, rank)).or_insert((series, 0.0)).1 += sample.value * alias.factor;
    }
    if sums.is_empty() {
        return;
    }
    let Alias { name, ours, .. } = alias;
    let kind = ours.kind.as_str();
    writeln!(out, "# HELP {name} {} under LiteLLM's name.\n# TYPE {name} {kind}", ours.name)
        .expect("a String takes any text");
    for (series, value) in sums.into_values() {
        writeln!(out, "{series} {value}").expect("a String takes any text");
    }
}

fn add_label(labels: &mut String, name: &str, value: &str) {
    let comma = if labels.is_empty() { "" } else { "," };
    write!(labels, "{comma}{name}=\"{value}\"").expect("a String takes any text");
}

/// Returns the table of the documentation.
#[cfg(test)]
pub(super) fn table() -> String {
    let mut table = "| Family | Type | Labels | As |\n|---|---|---|---|\n".to_owned();
    for Alias { name, ours, only, labels, .. } in ALIASES {
        let labels: Vec<_> = labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        let only: Vec<_> = only
            .iter()
            .map(|(name, value)| match *value {
                "!" => format!("{name} is not empty"),
                value => format!("{name}: {}", value.replace('|', " or ")),
            })
            .collect();
        let only = if only.is_empty() { String::new() } else { format!(" ({})", only.join("; ")) };
        let kind = ours.kind.as_str();
        table.push_str(&format!(
            "| `{name}` | {kind} | {} | `{}`{only} |\n",
            labels.join(", "),
            ours.name
        ));
        assert_eq!(ours.kind == family::Kind::Counter, name.ends_with("_total"), "{name}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP llmux_tokens_total x
# TYPE llmux_tokens_total counter
llmux_tokens_total{model="a\"b, c",provider="p",kind="input"} 3
llmux_tokens_total{model="a\"b, c",provider="q",kind="input"} 4
llmux_tokens_total{model="a\"b, c",provider="p",kind="output"} 5
llmux_tokens_total{model="d",provider="p",kind="cached"} 1
# TYPE llmux_attempts_total counter
llmux_attempts_total{deployment="p/m",provider="p",outcome="success",class=""} 2
llmux_attempts_total{deployment="p/m",provider="p",outcome="failure",class="server"} 1
llmux_attempts_total{deployment="p/m",provider="p",outcome="failure",class="timeout"} 1
# TYPE llmux_overhead_seconds histogram
llmux_overhead_seconds_bucket{route="/a",le="0.5"} 1
llmux_overhead_seconds_bucket{route="/a",le="10"} 2
llmux_overhead_seconds_bucket{route="/a",le="+Inf"} 2
llmux_overhead_seconds_sum{route="/a"} 0.75
llmux_overhead_seconds_count{route="/a"} 2
llmux_overhead_seconds_bucket{route="/b",le="0.5"} 1
llmux_overhead_seconds_bucket{route="/b",le="10"} 1
llmux_overhead_seconds_bucket{route="/b",le="+Inf"} 1
llmux_overhead_seconds_sum{route="/b"} 0.25
llmux_overhead_seconds_count{route="/b"} 1
# TYPE llmux_requests_in_flight gauge
llmux_requests_in_flight 7
"#;

    #[test]
    fn numbers_are_told_under_the_other_names() {
        let mut page = PAGE.to_owned();
        let known = ("m".to_owned(), "real".to_owned());
        write(&mut page, &Deployments::from([("p/m".to_owned(), known)]));
        let added: Vec<&str> =
            page[PAGE.len()..].lines().filter(|line| !line.starts_with('#')).collect();
        let call =
            r#"{requested_model="m",litellm_model_name="real",model_id="p/m",api_provider="p"}"#;
        let expected = [
            r#"litellm_input_tokens_metric_total{model="a\"b, c"} 7"#.to_owned(),
            r#"litellm_output_tokens_metric_total{model="a\"b, c"} 5"#.to_owned(),
            r#"litellm_total_tokens_metric_total{model="a\"b, c"} 12"#.to_owned(),
            r#"litellm_input_cached_tokens_metric_total{model="d"} 1"#.to_owned(),
            r#"litellm_overhead_latency_metric_bucket{le="0.5"} 2"#.to_owned(),
            r#"litellm_overhead_latency_metric_bucket{le="10"} 3"#.to_owned(),
            r#"litellm_overhead_latency_metric_bucket{le="+Inf"} 3"#.to_owned(),
            "litellm_overhead_latency_metric_sum 1".to_owned(),
            "litellm_overhead_latency_metric_count 3".to_owned(),
            "litellm_in_flight_requests 7".to_owned(),
            format!("litellm_deployment_total_requests_total{call} 4"),
            format!("litellm_deployment_success_responses_total{call} 2"),
            format!("litellm_deployment_failure_responses_total{call} 2"),
        ];
        assert_eq!(added, expected);
    }
}
