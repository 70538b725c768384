//! What the router learns from how a call ended.

use std::time::{Duration, Instant};

use llmux_types::FailureClass;

use crate::call::{Measured, Outcome, Pick};
use crate::health::{CooldownReason, Fitness};
use crate::retry::Failure;
use crate::router::{MOST_TOKENS, Router, State, end_of};

/// The longest cooldown that a vendor can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

impl Router {
    /// Tells the router how the call ended.
    #[expect(clippy::needless_pass_by_value, reason = "a pick is used up by its record")]
    pub fn record(&mut self, pick: Pick, outcome: Outcome, now: Instant) {
        let is_same = |state: &State| state.serial == pick.serial;
        let index = match self.states.get(pick.index).is_some_and(is_same) {
            true => Some(pick.index),
            // The deployments were changed since.
            false => self.states.iter().position(is_same),
        };
        let Some(index) = index else { return };
        let second = self.second(now);
        let state = &mut self.states[index];
        state.window.roll(second);
        state.in_flight = state.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Success(measured) => self.succeed(index, &pick, &measured, now),
            Outcome::Failure(failure) => self.fail(index, &pick, &failure, now),
            Outcome::Cancelled => {
                if pick.trial {
                    state.health.end_trial();
                }
                state.speed.in_vain = Some(now);
            }
            Outcome::Unsent => {
                if pick.trial {
                    state.health.end_trial();
                }
                state.window.count(pick.second, |counts| {
                    counts.requests = counts.requests.saturating_sub(1);
                    counts.tokens = counts.tokens.saturating_sub(pick.tokens);
                });
            }
        }
    }

    /// Tells the router that a call began to answer, before its end: a deployment that was called to see whether it works
    /// again does, and need not wait for the end of a long stream to be used.
    pub fn note_output(&mut self, pick: &mut Pick, now: Instant) {
        let known = self.states.iter_mut().find(|state| state.serial == pick.serial);
        if let Some(state) = known {
            state.prove(pick, now);
            pick.trial = false;
            pick.overruled = false;
        }
    }

    fn succeed(&mut self, index: usize, pick: &Pick, measured: &Measured, now: Instant) {
        let second = self.second(now);
        if let Some(tokens) = measured.output_tokens {
            self.output_tokens.add(tokens as f64, now);
        }
        let usual = self.output_tokens.get().unwrap_or(0.0);
        let state = &mut self.states[index];
        state.prove(pick, now);
        let tokens = measured.total_tokens.map_or(pick.tokens, |tokens| tokens.min(MOST_TOKENS));
        state.window.count(pick.second, |counts| {
            counts.tokens = counts.tokens.saturating_sub(pick.tokens).saturating_add(tokens);
        });
        state.window.count(second, |counts| counts.calls += 1);

        let speed = &mut state.speed;
        speed.last = Some(now);
        speed.success.add(1.0, now);
        let output = measured.output_tokens.map_or(usual, |tokens| tokens as f64);
        match measured.first_output {
            Some(first) => {
                speed.first_output.add(first.as_secs_f64(), now);
                speed.streams.add(output, measured.duration.as_secs_f64(), now);
            }
            None => speed.whole.add(output, measured.duration.as_secs_f64(), now),
        }
    }

    fn fail(&mut self, index: usize, pick: &Pick, failure: &Failure, now: Instant) {
        // The only deployment of a model is never taken away from it.
        let may_cool = self.states.len() > 1 && !self.config.cooldown.is_zero();
        let period = self.config.cooldown;
        let allowed = u64::from(self.config.allowed_fails.max(1));
        let second = self.second(now);
        let usual = self.output_tokens.get().unwrap_or(0.0);
        let state = &mut self.states[index];
        let class = failure.class;
        state.window.count(pick.second, |counts| {
            if class == FailureClass::Connect {
                counts.requests = counts.requests.saturating_sub(1);
            }
            // Of these two nobody knows what the vendor counted.
            if !matches!(class, FailureClass::Timeout | FailureClass::Malformed) {
                counts.tokens = counts.tokens.saturating_sub(pick.tokens);
            }
        });
        if class.is_request_fault() {
            // It answered: that is all a trial asks.
            state.prove(pick, now);
            return;
        }

        let asked = failure.retry_after.map(|asked| asked.min(MAX_RETRY_AFTER));
        state.asked_until = asked.map(|asked| end_of(asked, now));
        state.penalty.add(now);
        let speed = &mut state.speed;
        speed.last = Some(now);
        speed.success.add(0.0, now);
        let cooldown = match class {
            FailureClass::RateLimited => {
                Some((CooldownReason::RateLimited, asked.unwrap_or(period)))
            }
            FailureClass::Credential => Some((CooldownReason::Credential, period)),
            // It may be this one request that is forbidden.
            FailureClass::Forbidden => None,
            _ => {
                if class == FailureClass::Timeout {
                    // A vendor may also say within no time that it has timed out.
                    let waited = now.saturating_duration_since(pick.at).as_secs_f64();
                    let first = speed.first_output.get().unwrap_or(0.0);
                    speed.first_output.add(waited.max(first), now);
                    speed.whole.add(usual, waited.max(speed.whole.at(usual).unwrap_or(0.0)), now);
                }
                state.window.count(second, |counts| {
                    counts.calls += 1;
                    counts.failures += 1;
                });
                let seen = state.window.sum();
                let too_many = seen.failures >= allowed && 2 * seen.failures >= seen.calls;
                let cools = pick.trial || pick.overruled || too_many;
                cools.then_some((CooldownReason::Failures, period))
            }
        };
        match cooldown.filter(|_| may_cool) {
            // It would end the silence: it may be overruled.
            Some((reason, _)) if reason.may_be_overruled() && state.is_silenced(now) => {}
            Some((reason, period)) => state.cool(reason, period, now),
            None if pick.trial => state.health.end_trial(),
            None => {}
        }
    }
}

impl State {
    /// Ends a cooldown if the call was made to see whether the deployment answers. It did.
    fn prove(&mut self, pick: &Pick, now: Instant) {
        // A silence began after the pick, which it would have prevented.
        if (pick.trial || pick.overruled) && !self.is_silenced(now) {
            self.health.recover();
            self.window.forget_failures();
        }
    }

    /// Tells whether the deployment is in a cooldown that may not be overruled.
    fn is_silenced(&self, now: Instant) -> bool {
        match self.health.fitness(now) {
            Fitness::Cooling { reason, .. } => !reason.may_be_overruled(),
            _ => false,
        }
    }
}
