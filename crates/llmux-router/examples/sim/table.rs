//! What is told of a run.

use std::fmt::Write as _;
use std::time::Duration;

use llmux_router::Builtin;

use crate::engine::{Done, run};
use crate::scenarios::Scenario;

/// A summary of requests.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Of answered requests.
    pub(crate) mean: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Share of requests that the client was told failed, 0 to 1.
    pub(crate) errors: f64,
    /// Calls per request.
    pub(crate) attempts: f64,
    /// US dollars of a thousand requests.
    pub(crate) cost: f64,
    /// Each deployment's share of the answers, 0 to 1.
    pub(crate) shares: Vec<f64>,
}

impl Figures {
    /// Sums up the requests that clients sent from one second to another.
    pub(crate) fn of(done: &[Done], vendors: usize, from: u64, to: u64) -> Self {
        let seconds = Duration::from_secs(from)..Duration::from_secs(to);
        let seen: Vec<&Done> = done.iter().filter(|done| seconds.contains(&done.begun)).collect();
        let mut latencies: Vec<Duration> =
            seen.iter().filter_map(|done| Some(done.answer?.1)).collect();
        latencies.sort_unstable();
        let quantile = |share: f64| {
            let rank = (share * latencies.len() as f64).ceil() as usize;
            latencies.get(rank.max(1) - 1).copied().unwrap_or_default()
        };
        let all = seen.len().max(1) as f64;
        let answered = latencies.len().max(1);
        let share = |index: usize| {
            let by = |done: &&&Done| done.answer.is_some_and(|(by, _)| by == index);
            seen.iter().filter(by).count() as f64 / answered as f64
        };
        Self {
            mean: latencies.iter().sum::<Duration>() / answered as u32,
            p50: quantile(0.5),
            p99: quantile(0.99),
            errors: (seen.len() - latencies.len()) as f64 / all,
            attempts: seen.iter().map(|done| f64::from(done.attempts)).sum::<f64>() / all,
            cost: seen.iter().map(|done| done.cost as f64).sum::<f64>() / 1e12 / all * 1e3,
            shares: (0..vendors).map(share).collect(),
        }
    }
}

/// Runs a scenario and returns its table: a line for each strategy.
pub(crate) fn table(scenario: &Scenario, strategies: &[Builtin], seed: u64) -> String {
    let mut out = format!("{}: {}\n", scenario.name, scenario.about);
    let names: Vec<&str> = scenario.vendors.iter().map(|vendor| vendor.name).collect();
    let head = format!(
        "{:<15}{:>7}{:>7}{:>7}{:>8}{:>10}{:>9}  {:<14}",
        "",
        "mean",
        "p50",
        "p99",
        "error %",
        "attempts",
        "USD/1000",
        format!("share % {}", names.join("/")),
    );
    let during = match scenario.incident {
        Some(_) => "  p99 in trouble, share % of a in the 30 s after it",
        None => "",
    };
    let _ = writeln!(out, "{}", format!("{head}{during}").trim_end());
    for &strategy in strategies {
        let done = run(scenario, strategy, seed);
        let of = |from, to| Figures::of(&done, names.len(), from, to);
        let all = of(0, u64::MAX);
        let shares: Vec<String> =
            all.shares.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
        let mut line = format!(
            "{:<15}{:>7}{:>7}{:>7}{:>8.2}{:>10.3}{:>9.4}  {:<14}",
            strategy.as_str(),
            all.mean.as_millis(),
            all.p50.as_millis(),
            all.p99.as_millis(),
            all.errors * 100.0,
            all.attempts,
            all.cost,
            shares.join("/"),
        );
        if let Some((from, to)) = scenario.incident {
            let (within, after) = (of(from, to), of(to, to + 30));
            let _ =
                write!(line, "  {:>14}  {:.0}", within.p99.as_millis(), after.shares[0] * 100.0);
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
