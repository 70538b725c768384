//! A strategy of one's own: two candidates by chance, and of these the less busy one.
//!
//! `cargo run -p llmux-router --example own_strategy`. It calls nobody: it only shows whom it would call.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Instant;

use llmux_router::{Candidate, Config, Deployment, Draw, Request, Router, Strategy};

/// Looks at two candidates only, however many there are, and still keeps the load even.
#[derive(Debug, Default)]
struct TwoChoices {
    picks: BTreeMap<String, u32>,
}

impl Strategy for TwoChoices {
    fn name(&self) -> &'static str {
        "two-choices"
    }

    fn choose(&self, candidates: &[Candidate<'_>], draw: Draw) -> usize {
        // Both come out of the one number that the caller drew.
        let count = candidates.len();
        let first = draw.below(count as u64) as usize;
        let again = Draw { random: draw.random.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let second = again.below(count as u64) as usize;
        let load = |at: usize| {
            let candidate = &candidates[at];
            (candidate.in_flight, self.picks.get(candidate.id).copied().unwrap_or(0))
        };
        if load(second) < load(first) { second } else { first }
    }

    fn picked(&mut self, id: &str) {
        *self.picks.entry(id.to_owned()).or_default() += 1;
    }
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let deployments = ["a", "b", "c", "d", "e"].map(Deployment::new);
    let mut router =
        Router::new(Config::default(), deployments).with_strategy(Box::<TwoChoices>::default());
    #[expect(clippy::disallowed_methods, reason = "a program has a clock")]
    let now = Instant::now();
    // A fixed sequence: this program prints the same each time.
    let mut random = 1_u64;
    let mut in_flight = Vec::new();
    for _ in 0..1000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let request = Request { random, ..Request::default() };
        match router.pick(&request, now) {
            Ok(pick) => in_flight.push(pick),
            Err(refused) => writeln!(out, "{refused}")?,
        }
    }
    if let Some(last) = in_flight.last() {
        writeln!(out, "the last pick: {}", last.why())?;
    }
    for index in 0..5 {
        let calls = router.in_flight(index);
        writeln!(out, "{}: {calls} calls in flight", router.deployment(index).id())?;
    }
    Ok(())
}
