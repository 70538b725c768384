//! What the strategies compare, and whom they choose.

use std::time::{Duration, Instant};

use crate::call::Request;
use crate::config::Builtin;
use crate::decision::Why;
use crate::router::{Router, Scratch, State};
use crate::speed::LOAD_MEMORY;
use crate::strategy::{Candidate, Chooser, Draw, Measure, Strategy, draw, within};

/// `lowest-latency` looks again at a deployment that it has not heard of for a while, but with no more than one of so
/// many picks: the calls that find it still slow must not show in the 99th percentile.
pub(crate) const PICKS_PER_EXPLORATION: u32 = 128;
/// The same where the last look brought good news.
const PICKS_PER_CONFIRMATION: u32 = 16;
/// Output tokens expected of an answer before any was seen.
const FIRST_GUESS: f64 = 256.0;

impl Router {
    /// Returns the output tokens that are expected of an answer.
    pub(crate) fn expected_output(&self, request: &Request<'_>) -> f64 {
        let usual = self.output_tokens.get();
        match (request.max_output_tokens, usual) {
            (Some(most), Some(usual)) => usual.min(most as f64),
            (Some(most), None) => most as f64,
            (None, usual) => usual.unwrap_or(FIRST_GUESS),
        }
    }

    /// Chooses among `scratch.candidates`, which are not empty.
    pub(crate) fn choose(
        &self,
        request: &Request<'_>,
        now: Instant,
        scratch: &mut Scratch,
    ) -> (usize, Measure) {
        let random = request.random;
        let Scratch { candidates, figures, kept } = scratch;
        let share = |index: usize| self.states[index].share;
        let first = candidates[0];
        let strategy = match &self.chooser {
            Chooser::Builtin(strategy) => *strategy,
            Chooser::Own(own) => {
                return (self.ask(own.as_ref(), request, candidates), Measure::Own);
            }
        };
        match strategy {
            Builtin::SimpleShuffle | Builtin::TagBased => {
                let index = draw(random, candidates, share).unwrap_or(first);
                return (index, Measure::Weight(share(index)));
            }
            Builtin::LowestLatency => return self.fastest(request, now, scratch),
            Builtin::RoundRobin => {
                let turn = |index: usize| {
                    let state = &self.states[index];
                    state.turn + i64::from(state.weight.max(1))
                };
                let longest = candidates.iter().map(|&index| turn(index)).max();
                let chosen = candidates.iter().copied().find(|&index| Some(turn(index)) == longest);
                let index = chosen.unwrap_or(first);
                return (index, Measure::Turn(turn(index)));
            }
            Builtin::LeastBusy | Builtin::LowestTpmRpm | Builtin::LowestCost => {}
        }
        figures.clear();
        let demand = self.demand(request);
        let figure = |index: usize| self.figure(strategy, index, request, demand, now);
        figures.extend(candidates.iter().map(|&index| figure(index)));
        if strategy == Builtin::LowestCost {
            let dearest = figures.iter().copied().filter(|cost| !cost.is_nan()).fold(0.0, f64::max);
            for cost in figures.iter_mut().filter(|cost| cost.is_nan()) {
                *cost = dearest;
            }
        }
        within(candidates, figures, 0.0, kept);
        if strategy == Builtin::LowestTpmRpm && kept.len() > 1 {
            let tokens = |index: usize| self.states[index].window.sum().tokens;
            let least = kept.iter().map(|&index| tokens(index)).min();
            kept.retain(|&index| Some(tokens(index)) == least);
        }
        let index = draw(random, kept, share).unwrap_or(first);
        (index, self.measure(strategy, index, request, now, candidates))
    }

    /// Returns the figure that a strategy compares; not a number for an unknown price. `demand` is that of the request.
    fn figure(
        &self,
        strategy: Builtin,
        index: usize,
        request: &Request<'_>,
        demand: u64,
        now: Instant,
    ) -> f64 {
        let state = &self.states[index];
        match strategy {
            Builtin::LeastBusy => {
                let busy = f64::from(state.in_flight) + state.penalty.at(now);
                busy / f64::from(state.weight.max(1))
            }
            Builtin::LowestTpmRpm => {
                let (limits, used) = (&state.deployment.limits, state.window.sum());
                let share = |used: u64, more: u64, limit: Option<u64>| {
                    limit
                        .map_or(0.0, |limit| used.saturating_add(more) as f64 / limit.max(1) as f64)
                };
                let requests = share(used.requests, 1, limits.requests);
                requests.max(share(used.tokens, demand, limits.tokens))
            }
            Builtin::LowestCost => match self.cost(index, request) {
                // Nearly always it fits, and converts much faster.
                Some(cost) => u64::try_from(cost).map_or(cost as f64, |cost| cost as f64),
                None => f64::NAN,
            },
            _ => 0.0,
        }
    }

    /// Returns the expected cost of the request in pico-dollars; `None` if the price is unknown.
    fn cost(&self, index: usize, request: &Request<'_>) -> Option<u128> {
        let price = self.states[index].deployment.price;
        // With a limit the whole of it counts: it is what the client is ready to pay for.
        let output = request
            .max_output_tokens
            .unwrap_or_else(|| self.output_tokens.get().unwrap_or(FIRST_GUESS).ceil() as u64);
        let input = u128::from(price.input?) * u128::from(request.input_tokens);
        let output = match (price.output, output) {
            (_, 0) => 0,
            (price, tokens) => u128::from(price?) * u128::from(tokens),
        };
        Some(input + output)
    }

    /// Says what a strategy sees in a deployment.
    pub(crate) fn measure(
        &self,
        strategy: Builtin,
        index: usize,
        request: &Request<'_>,
        now: Instant,
        candidates: &[usize],
    ) -> Measure {
        let state = &self.states[index];
        let figure = || self.figure(strategy, index, request, self.demand(request), now);
        match strategy {
            Builtin::SimpleShuffle | Builtin::TagBased => Measure::Weight(state.share),
            Builtin::LowestLatency => {
                match expected(state, request.stream, self.expected_output(request)) {
                    Some(seconds) => Measure::ExpectedMs(seconds * 1e3),
                    None => Measure::Unmeasured,
                }
            }
            Builtin::LeastBusy => Measure::Busy(figure()),
            Builtin::LowestTpmRpm => Measure::LimitShare(figure()),
            Builtin::LowestCost => match self.cost(index, request) {
                Some(cost) => Measure::PicoDollars(cost),
                None => {
                    let known = candidates.iter().filter_map(|&other| self.cost(other, request));
                    Measure::UnknownPrice(known.max().unwrap_or(0))
                }
            },
            Builtin::RoundRobin => Measure::Turn(state.turn + i64::from(state.weight.max(1))),
        }
    }

    /// Chooses for `lowest-latency`.
    fn fastest(
        &self,
        request: &Request<'_>,
        now: Instant,
        scratch: &mut Scratch,
    ) -> (usize, Measure) {
        let Scratch { candidates, figures, kept } = scratch;
        let share = |index: usize| self.states[index].share;
        let output = self.expected_output(request);
        let expected = |index: usize| expected(&self.states[index], request.stream, output);

        // Nothing is known of one: a single call finds out, while the others go on by what is known.
        kept.clear();
        kept.extend(candidates.iter().copied().filter(|&index| {
            let state = &self.states[index];
            // One that fails, or that nobody waits for, would stay unmeasured, and always be the first to be asked.
            let speed = &state.speed;
            let new = state.in_flight == 0 && speed.success_rate() >= 0.5 && !speed.is_in_vain(now);
            expected(index).is_none() && (new || self.is_due(state, request.stream, now))
        }));
        if let Some(index) = draw(request.random, kept, share) {
            return (index, Measure::Unmeasured);
        }
        let due = |index: &usize| self.is_due(&self.states[*index], request.stream, now);
        let last = |index: &usize| self.states[*index].speed.last;
        if let Some(index) = candidates.iter().copied().filter(due).min_by_key(last)
            && let Some(seconds) = expected(index)
        {
            return (index, Measure::Outdated(seconds * 1e3));
        }

        figures.clear();
        figures.extend(candidates.iter().map(|&index| expected(index).unwrap_or(f64::INFINITY)));
        if figures.iter().all(|figure| figure.is_infinite()) {
            // The first calls are still out: they are spread.
            figures.clear();
            figures.extend(candidates.iter().map(|&index| f64::from(self.states[index].in_flight)));
            within(candidates, figures, 0.0, kept);
            return (
                draw(request.random, kept, share).unwrap_or(candidates[0]),
                Measure::Unmeasured,
            );
        }
        within(candidates, figures, self.config.latency_buffer, kept);
        if request.stream && kept.len() > 1 {
            // Equally quick to begin: the one that goes on faster.
            figures.clear();
            let whole = |index: usize| self.states[index].speed.streams.at(output);
            figures.extend(kept.iter().map(|&index| whole(index).unwrap_or(0.0)));
            candidates_within(kept, figures, self.config.latency_buffer);
        }
        let index = draw(request.random, kept, share).unwrap_or(candidates[0]);
        (index, Measure::ExpectedMs(expected(index).unwrap_or_default() * 1e3))
    }

    /// Tells whether a pick may be spent on news of a deployment: what is known of its streams, or of its whole answers,
    /// is too old to go by, or in doubt. While a call is out that nothing was heard of, no other follows it.
    fn is_due(&self, state: &State, stream: bool, now: Instant) -> bool {
        let speed = &state.speed;
        let outdated =
            self.picks_since_exploration >= PICKS_PER_EXPLORATION && speed.is_outdated(stream, now);
        let promising =
            self.picks_since_exploration >= PICKS_PER_CONFIRMATION && speed.is_promising(stream);
        (outdated || promising)
            && !speed.is_in_vain(now)
            && (state.in_flight == 0 || speed.is_heard(now))
    }

    /// Asks the embedder's own strategy.
    fn ask(&self, own: &dyn Strategy, request: &Request<'_>, candidates: &[usize]) -> usize {
        let output = self.expected_output(request);
        let seen: Vec<Candidate<'_>> = candidates
            .iter()
            .map(|&index| {
                let state = &self.states[index];
                let used = state.window.sum();
                let latency = state.expected(request.stream, output);
                Candidate {
                    id: &state.deployment.id,
                    weight: state.weight,
                    in_flight: state.in_flight,
                    requests: used.requests,
                    tokens: used.tokens,
                    latency: latency.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                    success_rate: state.speed.success_rate(),
                    price: state.deployment.price,
                }
            })
            .collect();
        let at = own.choose(&seen, Draw { random: request.random });
        candidates[at.min(candidates.len() - 1)]
    }

    /// Changes what a pick changes in the strategy's own state.
    pub(crate) fn commit(&mut self, index: usize, why: &Why, candidates: &[usize]) {
        match &mut self.chooser {
            Chooser::Own(own) => own.picked(&self.states[index].deployment.id),
            Chooser::Builtin(Builtin::RoundRobin) => {
                let mut total = 0;
                for &candidate in candidates {
                    let state = &mut self.states[candidate];
                    let weight = i64::from(state.weight.max(1));
                    state.turn += weight;
                    total += weight;
                }
                self.states[index].turn -= total;
            }
            Chooser::Builtin(Builtin::LowestLatency) => {
                let known = self.states[index].speed.last.is_some();
                let explored = match why.measure {
                    Measure::Outdated(_) => true,
                    Measure::Unmeasured => known,
                    _ => false,
                };
                let picks = self.picks_since_exploration.saturating_add(1);
                self.picks_since_exploration = if explored { 0 } else { picks };
                let state = &mut self.states[index];
                // The time of the last answer stands in for the time of the pick: what counts is the load under which
                // the answers came that the speed is known from.
                if let Some(last) = state.speed.last {
                    state.speed.load.add_over(f64::from(state.in_flight) + 1.0, last, LOAD_MEMORY);
                }
            }
            Chooser::Builtin(_) => {}
        }
    }
}

/// Returns the seconds that `lowest-latency` expects with one more call. A deployment's speed is known for the load that
/// it had; under clearly more it is taken to be slower in proportion. Otherwise all calls would go to whichever was last
/// found the fastest until its answers, the later the more of them it has, show that it is not; and a deployment that
/// became slow would be found out by its first slow answer only.
fn expected(state: &State, stream: bool, output_tokens: f64) -> Option<f64> {
    let seconds = state.expected(stream, output_tokens)?;
    let crowded = state.speed.load.get().map_or(1.0, |usual| {
        // Twice the deviation of a count: so much is chance.
        (f64::from(state.in_flight) + 1.0) / (usual + 2.0 * usual.sqrt())
    });
    Some(seconds * crowded.max(1.0))
}

/// Narrows `kept` to those within the buffer; `figures` has one for each of them.
fn candidates_within(kept: &mut Vec<usize>, figures: &[f64], buffer: f64) {
    let all = std::mem::take(kept);
    within(&all, figures, buffer, kept);
}
