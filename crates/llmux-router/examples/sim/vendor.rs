//! What answers the simulated calls: a vendor's deployment, with its moods.

use std::collections::VecDeque;
use std::time::Duration;

use llmux_router::{Deployment, Failure, Measured, Outcome, Price};
use llmux_types::FailureClass;

use crate::random::Random;

/// How long a vendor's limit of requests looks back.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a vendor takes to answer 429.
const REFUSAL: Duration = Duration::from_millis(30);
/// The gateway's own limit for a first output or a whole answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is wrong with a vendor for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Everything takes so many times as long.
    Slow(f64),
    /// A share of the calls fails, after a median time in milliseconds.
    Failing { share: f64, class: FailureClass, after_ms: f64 },
}

/// One deployment as it is, and as the router is told.
#[derive(Clone, Debug)]
pub(crate) struct Vendor {
    pub(crate) name: &'static str,
    /// Median time to the first output, in milliseconds.
    pub(crate) first_ms: f64,
    /// Median time for each further token, in milliseconds.
    pub(crate) token_ms: f64,
    /// Calls in flight beyond which it becomes slower, in proportion.
    pub(crate) capacity: Option<u32>,
    /// Requests of any minute, beyond which it answers 429.
    pub(crate) vendor_rpm: Option<usize>,
    /// Seconds from and to which there is trouble.
    pub(crate) troubles: Vec<(u64, u64, Trouble)>,
    pub(crate) price: Price,
    pub(crate) weight: Option<u32>,
    /// The limits that the router is told.
    pub(crate) rpm: Option<u64>,
    pub(crate) max_concurrent: Option<u32>,
}

impl Vendor {
    /// A vendor without limits and troubles, at the price of a small model.
    pub(crate) fn new(name: &'static str, first_ms: f64, token_ms: f64) -> Self {
        Self {
            name,
            first_ms,
            token_ms,
            capacity: None,
            vendor_rpm: None,
            troubles: Vec::new(),
            price: Price { input: Some(150_000), output: Some(600_000) },
            weight: None,
            rpm: None,
            max_concurrent: None,
        }
    }

    pub(crate) fn deployment(&self) -> Deployment {
        let mut deployment = Deployment::new(self.name).price(self.price);
        if let Some(weight) = self.weight {
            deployment = deployment.weight(weight);
        }
        if let Some(rpm) = self.rpm {
            deployment = deployment.requests_per_minute(rpm);
        }
        if let Some(calls) = self.max_concurrent {
            deployment = deployment.max_concurrent(calls);
        }
        deployment
    }

    /// Returns what a call costs, in pico-dollars.
    pub(crate) fn cost(&self, input: u64, output: u64) -> u64 {
        self.price.input.unwrap_or(0) * input + self.price.output.unwrap_or(0) * output
    }
}

/// What a client wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) stream: bool,
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// The state of a vendor.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) in_flight: u32,
    /// When the requests of the last minute came.
    taken: VecDeque<Duration>,
}

impl Load {
    /// Answers one call that comes at `now`: how long it takes, and how it ends.
    pub(crate) fn call(
        &mut self,
        vendor: &Vendor,
        ask: Ask,
        now: Duration,
        random: &mut Random,
    ) -> (Duration, Outcome) {
        self.in_flight += 1;
        let failed = |class, retry_after| Outcome::Failure(Failure { class, retry_after });
        if let Some(rpm) = vendor.vendor_rpm {
            while self.taken.front().is_some_and(|taken| *taken + MINUTE <= now) {
                self.taken.pop_front();
            }
            if self.taken.len() >= rpm {
                let free = self.taken[0] + MINUTE - now;
                // The header has whole seconds.
                let asked = Duration::from_secs(free.as_millis().div_ceil(1000) as u64);
                return (REFUSAL, failed(FailureClass::RateLimited, Some(asked)));
            }
            self.taken.push_back(now);
        }
        let mut slower = 1.0;
        for (from, to, trouble) in &vendor.troubles {
            if now.as_secs() < *from || now.as_secs() >= *to {
                continue;
            }
            match *trouble {
                Trouble::Slow(times) => slower *= times,
                Trouble::Failing { share, class, after_ms } if random.chance(share) => {
                    return (milliseconds(random.lognormal(after_ms, 0.3)), failed(class, None));
                }
                Trouble::Failing { .. } => {}
            }
        }
        if let Some(capacity) = vendor.capacity {
            slower *= (f64::from(self.in_flight) / f64::from(capacity)).max(1.0);
        }
        let first = milliseconds(random.lognormal(vendor.first_ms * slower, 0.35));
        let token_ms = random.lognormal(vendor.token_ms * slower, 0.15);
        let whole = first + milliseconds(token_ms * ask.output as f64);
        if if ask.stream { first } else { whole } > TIMEOUT {
            return (TIMEOUT, failed(FailureClass::Timeout, None));
        }
        let measured = Measured {
            first_output: ask.stream.then_some(first),
            duration: whole,
            output_tokens: Some(ask.output),
            total_tokens: Some(ask.input + ask.output),
        };
        (whole, Outcome::Success(measured))
    }
}

pub(crate) fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}
