//! Handles of series, resolved once for each deployment, each way that requests end, and each tenant.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llmux_auth::tenants::{UsageRecord, UsageStatus};
use llmux_providers::Endpoint;
use llmux_types::FailureClass;
use metrics::{Counter, Histogram};

use super::families as family;
use super::registry::{Name, Registry, Sum};
use crate::traces::{operation, provider_name};

/// The classes of failures, in the order of their numbers.
const CLASSES: usize = FailureClass::ContentPolicy as usize + 1;

/// The endpoints, in the order of their numbers.
const ENDPOINTS: usize = Endpoint::CountTokens as usize + 1;

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
    /// The vendor and the model as OpenTelemetry's conventions name them.
    asked: (&'static str, Name),
    /// By endpoint; made when it is first called.
    gen_ai: [OnceLock<GenAi>; ENDPOINTS],
}

/// The series that the semantic conventions of OpenTelemetry want of a kind of call.
#[derive(Debug)]
struct GenAi {
    duration: Histogram,
    input: Histogram,
    output: Histogram,
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
        (vendor, asked): (&'static str, &str),
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
            asked: (provider_name(vendor), registry.intern(asked)),
            gen_ai: Default::default(),
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

    /// Counts a call as OpenTelemetry's conventions do.
    fn operation(&self, endpoint: Endpoint, record: &UsageRecord) {
        if record.status == UsageStatus::Cancelled || !self.registry.is_enabled() {
            return;
        }
        let model = || self.registry.text(self.asked.1);
        let millis = record.end_time.0.saturating_sub(record.start_time.0).max(0);
        let seconds = Duration::from_millis(millis.unsigned_abs()).as_secs_f64();
        let provider = self.asked.0;
        if let Some(error) = &record.error_code {
            let labels = [operation(endpoint), provider, &*model(), error];
            return self.registry.histogram(&family::GEN_AI_DURATION, &labels).record(seconds);
        }
        let series = self.gen_ai[endpoint as usize].get_or_init(|| {
            let model = model();
            let of = |family, last| {
                self.registry.histogram(family, &[operation(endpoint), provider, &*model, last])
            };
            GenAi {
                duration: of(&family::GEN_AI_DURATION, ""),
                input: of(&family::GEN_AI_TOKENS, "input"),
                output: of(&family::GEN_AI_TOKENS, "output"),
            }
        });
        series.duration.record(seconds);
        for (histogram, tokens) in
            [(&series.input, record.prompt_tokens), (&series.output, record.completion_tokens)]
        {
            if tokens > 0 {
                histogram.record(tokens as f64);
            }
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
    pub(crate) fn charge(&self, record: &UsageRecord, endpoint: Endpoint, unpriced: bool) {
        let meter = &self.deployment;
        meter.operation(endpoint, record);
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
