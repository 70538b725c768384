//! Handles of series, resolved once for each deployment, each way that requests end, and each tenant.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llmux_auth::tenants::{UsageRecord, UsageStatus};
use llmux_types::FailureClass;
use metrics::{Counter, Histogram};

use super::families as family;
use super::registry::{Name, Registry, Sum};

/// The classes of failures, in the order of their numbers.
const CLASSES: usize = FailureClass::ContentPolicy as usize + 1;

/// What one deployment's calls count in.
#[derive(Debug)]
pub(crate) struct DeploymentMeter {
    registry: Arc<Registry>,
    pub(super) model: Name,
    pub(super) provider: Name,
    deployment: Name,
    success: Counter,
    cancelled: Counter,
    /// Made when they first happen: most never do.
    failures: [OnceLock<Counter>; CLASSES],
    duration: Histogram,
    pub(super) retries: Counter,
    tokens: Tokens,
    spend: Arc<Sum>,
    unpriced: Counter,
}

#[derive(Debug)]
struct Tokens {
    input: Counter,
    output: Counter,
    cached: Counter,
    cache_write: Counter,
    reasoning: Counter,
}

impl DeploymentMeter {
    pub(super) fn new(
        registry: &Arc<Registry>,
        deployment: &str,
        model: &str,
        provider: &str,
    ) -> Self {
        let attempts =
            |outcome| registry.counter(&family::ATTEMPTS, &[deployment, provider, outcome, ""]);
        let tokens = |kind| registry.counter(&family::TOKENS, &[model, provider, kind]);
        let meter = Self {
            registry: Arc::clone(registry),
            model: registry.intern(model),
            provider: registry.intern(provider),
            deployment: registry.intern(deployment),
            success: attempts(UsageStatus::Success.as_str()),
            cancelled: attempts(UsageStatus::Cancelled.as_str()),
            failures: Default::default(),
            duration: registry.histogram(&family::UPSTREAM, &[deployment, provider]),
            retries: registry.counter(&family::RETRIES, &[model, provider]),
            tokens: Tokens {
                input: tokens("input"),
                output: tokens("output"),
                cached: tokens("cached"),
                cache_write: tokens("cache_write"),
                reasoning: tokens("reasoning"),
            },
            spend: registry.sum(&family::SPEND, &[model, provider]),
            unpriced: registry.counter(&family::UNPRICED, &[model, provider]),
        };
        // Alerts look for its growth, which begins at 0.
        meter.failure(FailureClass::Credential);
        meter
    }

    /// Counts a call that has ended. `failure` is the kind of failure, if it was one.
    pub(crate) fn ended(
        &self,
        status: UsageStatus,
        failure: Option<FailureClass>,
        duration: Duration,
    ) {
        match (status, failure) {
            (UsageStatus::Cancelled, _) => self.cancelled.increment(1),
            (_, None) => self.success.increment(1),
            (_, Some(class)) => self.failure(class).increment(1),
        }
        if status != UsageStatus::Cancelled {
            self.duration.record(duration.as_secs_f64());
        }
    }

    fn failure(&self, class: FailureClass) -> &Counter {
        self.failures[class as usize].get_or_init(|| {
            let deployment = self.registry.text(self.deployment);
            let provider = self.registry.text(self.provider);
            let outcome = UsageStatus::Failure.as_str();
            let labels = [&*deployment, &*provider, outcome, class.as_str()];
            self.registry.counter(&family::ATTEMPTS, &labels)
        })
    }
}

/// What one attempt's tokens and money count in.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(super) deployment: Arc<DeploymentMeter>,
    pub(super) tenant: Option<Arc<TenantMeter>>,
}

impl Account {
    /// Counts what an attempt was charged for.
    pub(crate) fn charge(&self, record: &UsageRecord, unpriced: bool) {
        let meter = &self.deployment;
        let add = |counter: &Counter, tokens: u64| {
            if tokens > 0 {
                counter.increment(tokens);
            }
        };
        add(&meter.tokens.input, record.prompt_tokens);
        add(&meter.tokens.output, record.completion_tokens);
        add(&meter.tokens.cached, record.cached_tokens);
        add(&meter.tokens.cache_write, record.cache_write_tokens);
        add(&meter.tokens.reasoning, record.reasoning_tokens);
        meter.spend.add(record.spend);
        if unpriced {
            meter.unpriced.increment(1);
        }
        if let Some(tenant) = &self.tenant {
            add(&tenant.input, record.prompt_tokens);
            add(&tenant.output, record.completion_tokens);
            tenant.spend.add(record.spend);
        }
    }
}

/// What the requests that end in one way count in.
#[derive(Debug)]
pub(super) struct RequestMeter {
    pub(super) requests: Counter,
    pub(super) duration: Histogram,
    pub(super) overhead: Histogram,
    pub(super) first_output: Histogram,
}

/// What one key's requests count in.
#[derive(Debug)]
pub(crate) struct TenantMeter {
    pub(super) requests: Counter,
    input: Counter,
    output: Counter,
    spend: Arc<Sum>,
}

impl TenantMeter {
    pub(super) fn new(registry: &Registry, key: &str, team: &str) -> Self {
        let tokens = |kind| registry.counter(&family::TENANT_TOKENS, &[key, team, kind]);
        Self {
            requests: registry.counter(&family::TENANT_REQUESTS, &[key, team]),
            input: tokens("input"),
            output: tokens("output"),
            spend: registry.sum(&family::TENANT_SPEND, &[key, team]),
        }
    }
}
