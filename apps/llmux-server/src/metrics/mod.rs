//! Prometheus metrics: what is counted while requests run, and the page that is served of it.
//!
//! Labels are configured names and our own words, never a client's text, so that no client can make series. Handles of
//! series are resolved once: for a deployment when the catalog is made, for a way in which requests end when the first one
//! does. What the gateway knows anyway (deployments, spool, limits) is read when somebody asks for the page.

mod families;
mod litellm;
mod meters;
mod page;
mod process;
mod registry;
mod scrape;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use llmux_auth::Caller;
use llmux_auth::limits::ScopeKind;
use llmux_cache::Unfit;
use metrics::{Counter, Histogram};

pub(crate) use self::meters::{Account, DeploymentMeter};
pub(crate) use self::registry::Name;
pub(crate) use self::scrape::answer;

use self::families as family;
use self::meters::{RequestMeter, TenantMeter};
use self::registry::Registry;
use crate::config;
use crate::exchange::Outcome;
use crate::gateway::Gateway;

/// How often histograms are folded together and the database is asked whether it is there.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long Redis may take to answer.
const PING: Duration = Duration::from_secs(1);

/// The most keys that have series of their own.
const MOST_TENANTS: usize = 1000;

/// Why the gateway itself refused a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// There is no key, or none that may be used; or its team may not.
    Key(ScopeKind),
    /// A web page of others on a plane that is open to this machine.
    Origin,
    /// The management plane, to somebody without the role.
    Role,
    /// A key of another type.
    Route,
    Model,
    Tag,
    Budget(ScopeKind),
    RateLimit(ScopeKind),
    /// All deployments are at their limits.
    Deployments,
    /// It is not known, and must be.
    Price,
    /// There is no place for records.
    Spool,
}

impl Refusal {
    /// Returns the labels: the reason, and whose limit it was, where that is known.
    const fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Key(scope) => ["key", scope.as_str()],
            Self::Origin => ["origin", ""],
            Self::Role => ["role", ""],
            Self::Route => ["route", "key"],
            Self::Model => ["model", ""],
            Self::Tag => ["tag", ""],
            Self::Budget(scope) => ["budget", scope.as_str()],
            Self::RateLimit(scope) => ["rate_limit", scope.as_str()],
            Self::Deployments => ["rate_limit", "deployment"],
            Self::Price => ["price", ""],
            Self::Spool => ["spool", ""],
        }
    }
}

/// What came of asking the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CacheResult {
    Hit,
    /// The answer came by a call that another request had begun.
    Shared,
    Miss,
    /// The client wanted a new answer.
    Bypass,
}

impl CacheResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Shared => "shared",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unkept {
    TooLarge,
    Unfit(Unfit),
}

impl Unkept {
    const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Unfit(Unfit::Error) => "error",
            Self::Unfit(Unfit::Cut) => "cut",
            Self::Unfit(Unfit::Truncated) => "truncated",
            Self::Unfit(Unfit::Empty) => "empty",
            Self::Unfit(Unfit::Unreadable) => "unreadable",
        }
    }
}

/// What a request has come to so far, as far as its series depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Labels {
    /// The model that was asked for. `NONE`: the request is for no model.
    model: Name,
    /// The model of the last attempt, else the one that was asked for.
    current: Name,
    /// The provider of the last attempt.
    provider: Name,
}

impl Labels {
    /// The request is for a model, which is not known yet.
    pub(crate) const fn begin(&mut self) {
        (self.model, self.current) = (Name::UNKNOWN, Name::UNKNOWN);
    }

    /// Tells whether another model than the one that was asked for is tried.
    pub(crate) fn is_fallback(&self) -> bool {
        self.model != self.current
    }

    /// The request is for the model of this deployment.
    pub(crate) fn ask(&mut self, meter: &DeploymentMeter) {
        (self.model, self.current) = (meter.model, meter.model);
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) route: &'static str,
    pub(crate) labels: Labels,
    pub(crate) status: u16,
    pub(crate) outcome: Outcome,
    pub(crate) caller: Option<&'a Caller>,
    pub(crate) duration: Duration,
    /// Our part of the time until the answer began, if a provider was asked.
    pub(crate) overhead: Option<Duration>,
    /// Of a stream.
    pub(crate) first_output: Option<Duration>,
}

/// What tells the ways in which requests end apart. Routes are known by where their name lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RequestKey {
    route: usize,
    model: Name,
    provider: Name,
    status: u16,
    outcome: Outcome,
}

/// Handles that are made when they are first needed.
type Made<K, V> = RwLock<HashMap<K, V>>;

/// The teams that a key was seen in: one, unless it is moved.
type Teams = Vec<(Option<String>, Arc<TenantMeter>)>;

/// The keys that have series of their own, by key and team.
#[derive(Debug)]
struct TenantMeters {
    known: Made<String, Teams>,
    /// Of all keys for which there is no room.
    other: Arc<TenantMeter>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Made<RequestKey, Arc<RequestMeter>>,
    fallbacks: Made<(Name, Name), Counter>,
    refusals: Made<Refusal, Counter>,
    cached: Made<(Name, CacheResult), Counter>,
    cache_lookups: Histogram,
    /// `None`: not by tenants.
    tenants: Option<TenantMeters>,
    is_database_up: AtomicBool,
    /// 0: not used; 1: away; 2: there.
    redis: AtomicU8,
}

impl Metrics {
    pub(crate) fn new(settings: &config::Metrics) -> Self {
        let registry = Arc::new(Registry::new(settings.enabled));
        let tenants = settings.tenant_labels.then(|| TenantMeters {
            known: Made::default(),
            other: Arc::new(TenantMeter::new(&registry, "other", "other")),
        });
        Self {
            cache_lookups: registry.histogram(&family::CACHE_LOOKUP, &[]),
            registry,
            requests: Made::default(),
            fallbacks: Made::default(),
            refusals: Made::default(),
            cached: Made::default(),
            tenants,
            is_database_up: AtomicBool::new(true),
            redis: AtomicU8::new(0),
        }
    }

    /// Makes the handles of a deployment. `model` is its configured name or pattern, `asked` its vendor and what that is
    /// asked for.
    pub(crate) fn deployment(
        &self,
        deployment: &str,
        model: &str,
        provider: &str,
        asked: (&'static str, &str),
    ) -> Arc<DeploymentMeter> {
        Arc::new(DeploymentMeter::new(&self.registry, deployment, model, provider, asked))
    }

    /// Counts a request that was refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        if !self.registry.is_enabled() {
            return;
        }
        let make = || self.registry.counter(&family::REFUSALS, &refusal.labels());
        made(&self.refusals, refusal, make).increment(1);
    }

    /// Counts what came of asking the cache.
    pub(crate) fn cache(&self, labels: &Labels, result: CacheResult) {
        if !self.registry.is_enabled() {
            return;
        }
        let model = labels.model;
        let make = || {
            let model = self.registry.text(model);
            self.registry.counter(&family::CACHE_REQUESTS, &[&*model, result.as_str()])
        };
        made(&self.cached, (model, result), make).increment(1);
    }

    /// Takes note of how long the cache took to look for an answer.
    pub(crate) fn cache_lookup(&self, time: Duration) {
        self.cache_lookups.record(time.as_secs_f64());
    }

    /// Counts an answer that is not kept.
    pub(crate) fn unkept(&self, unkept: Unkept) {
        self.registry.counter(&family::CACHE_UNKEPT, &[unkept.as_str()]).increment(1);
    }

    /// Takes note of a call to a deployment, the request's `attempt`th.
    pub(crate) fn began(&self, labels: &mut Labels, meter: &DeploymentMeter, attempt: u32) {
        labels.provider = meter.provider;
        if attempt > 1 {
            meter.retries.increment(1);
        }
        if labels.current != meter.model {
            labels.current = meter.model;
            let names = (labels.model, meter.model);
            let make = || {
                let (model, fallback) = (self.registry.text(names.0), self.registry.text(names.1));
                self.registry.counter(&family::FALLBACKS, &[&*model, &*fallback])
            };
            made(&self.fallbacks, names, make).increment(1);
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn ended(&self, ended: &Ended<'_>) {
        if !self.registry.is_enabled() {
            return;
        }
        let Ended { labels, status, outcome, .. } = *ended;
        let route = if ended.route.is_empty() { "unknown" } else { ended.route };
        let Labels { model, provider, .. } = labels;
        let key = RequestKey { route: route.as_ptr().addr(), model, provider, status, outcome };
        let meter = made(&self.requests, key, || Arc::new(self.request_meter(route, &key)));
        meter.requests.increment(1);
        meter.duration.record(ended.duration.as_secs_f64());
        if let Some(overhead) = ended.overhead {
            meter.overhead.record(overhead.as_secs_f64());
        }
        if let Some(first_output) = ended.first_output {
            meter.first_output.record(first_output.as_secs_f64());
        }
        if let Some(caller) = ended.caller
            && model != Name::NONE
            && let Some(tenant) = self.tenant(caller)
        {
            tenant.requests.increment(1);
        }
    }

    fn request_meter(&self, route: &str, key: &RequestKey) -> RequestMeter {
        let registry = &self.registry;
        let (model, provider) = (registry.text(key.model), registry.text(key.provider));
        let (status, outcome) = (key.status.to_string(), key.outcome.as_str());
        let labels = [route, &*model, &*provider, &status, outcome];
        let called = key.provider != Name::NONE;
        let histogram = |family, labels: &[&str]| {
            if called { registry.histogram(family, labels) } else { Histogram::noop() }
        };
        RequestMeter {
            requests: registry.counter(&family::REQUESTS, &labels),
            duration: registry.histogram(&family::DURATION, &[route, &*model, outcome]),
            overhead: histogram(&family::OVERHEAD_TIME, &[route]),
            first_output: histogram(&family::FIRST, &[&*model, &*provider]),
        }
    }

    /// Returns what the tokens and the money of a call count in.
    pub(crate) fn account(&self, deployment: &Arc<DeploymentMeter>, caller: &Caller) -> Account {
        Account { deployment: Arc::clone(deployment), tenant: self.tenant(caller) }
    }

    fn tenant(&self, caller: &Caller) -> Option<Arc<TenantMeter>> {
        let team = caller.tenant().and_then(|tenant| tenant.key.team_id.as_deref());
        self.tenant_of(caller.as_str(), team)
    }

    fn tenant_of(&self, key: &str, team: Option<&str>) -> Option<Arc<TenantMeter>> {
        let TenantMeters { known, other } = self.tenants.as_ref()?;
        let find = |found: Option<&Teams>| {
            let mut teams = found?.iter();
            teams.find(|(other, _)| other.as_deref() == team).map(|(_, meter)| Arc::clone(meter))
        };
        let read = known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = find(read.get(key)) {
            return Some(meter);
        }
        drop(read);
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = find(known.get(key)) {
            return Some(meter);
        }
        if known.values().map(Vec::len).sum::<usize>() >= MOST_TENANTS {
            return Some(Arc::clone(other));
        }
        let meter = TenantMeter::new(&self.registry, key, team.unwrap_or_default());
        let meter = Arc::new(meter);
        let teams = known.entry(key.to_owned()).or_default();
        teams.push((team.map(str::to_owned), Arc::clone(&meter)));
        Some(meter)
    }
}

/// Returns a handle, and makes it if it is the first time.
fn made<K: Copy + Eq + Hash, V: Clone>(all: &Made<K, V>, key: K, make: impl FnOnce() -> V) -> V {
    if let Some(value) = all.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return value.clone();
    }
    let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
    all.entry(key).or_insert_with(make).clone()
}

/// Keeps what is measured small and up to date until the process ends.
pub(crate) async fn upkeep(gateway: Arc<Gateway>) {
    let metrics = &gateway.metrics;
    let Some(handle) = metrics.registry.handle() else { return };
    loop {
        handle.run_upkeep();
        let asked = tokio::time::timeout(UPKEEP, gateway.tenants.store().ping()).await;
        metrics.is_database_up.store(matches!(asked, Ok(Ok(()))), Ordering::Relaxed);
        let redis = match gateway.cache.ping(PING).await {
            None => 0,
            Some(answers) => 1 + u8::from(answers),
        };
        metrics.redis.store(redis, Ordering::Relaxed);
        tokio::time::sleep(UPKEEP).await;
    }
}
