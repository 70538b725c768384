//! The models that clients may ask for, and the deployments behind them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Uri};
use llmux_providers::{Target, Vendor};
use llmux_router::{Deployment as Candidate, Price, Router, Snapshot};
use llmux_types::{PriceTable, Prices, Secret, Unit};
use serde::Serialize;

use crate::attempt::Resolved;
use crate::config::{Model, Settings};
use crate::metrics::{DeploymentMeter, Metrics};
use crate::names::{is_pattern, matches, own};
use crate::upstream::Origin;

/// A provider at run time.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) vendor: &'static Vendor,
    pub(crate) base_url: String,
    pub(crate) api_version: Option<String>,
    pub(crate) origin: Arc<Origin>,
    /// The credential and the configured headers.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What of these no client may see, though a vendor repeats it.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) connect_timeout: Duration,
    pub(crate) stream_idle_timeout: Duration,
    max_concurrent: u32,
    /// Shared with the provider of the same name in the configurations before and after this one.
    in_flight: Arc<AtomicU32>,
}

impl Provider {
    pub(crate) fn is_full(&self) -> bool {
        self.max_concurrent > 0 && self.in_flight.load(Ordering::Relaxed) >= self.max_concurrent
    }

    /// Takes one of the provider's places, which all of its models share.
    pub(crate) fn enter(&self) -> bool {
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                (self.max_concurrent == 0 || calls < self.max_concurrent).then_some(calls + 1)
            })
            .is_ok()
    }

    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A model of a provider.
#[derive(Debug)]
pub(crate) struct Deployment {
    /// `<provider>/<model>`, and a number where that is there twice. Also the router's name for it.
    pub(crate) id: String,
    pub(crate) provider: Arc<Provider>,
    /// The configured name, which may be a pattern.
    name: String,
    upstream: Option<String>,
    /// The deployment's own prices of an input and an output token, in pico-dollars.
    own_prices: (Option<u64>, Option<u64>),
    /// What calls cost; `None` where that depends on the model that is asked for.
    prices: Option<Arc<Prices>>,
    /// The most tokens that an answer has, where anybody knows; `None` where it depends on the model that is asked for.
    most_output: Option<Option<u64>>,
    /// Of a whole call; of a stream until its first output.
    pub(crate) timeout: Duration,
    /// Whether the log says that its calls cost nothing for want of a price.
    told_unpriced: AtomicBool,
    pub(crate) meter: Arc<DeploymentMeter>,
    /// Whether requests may be bound to it by tags.
    pub(crate) is_tagged: bool,
}

impl Deployment {
    /// Returns what the vendor is asked for when a client asks for `asked`.
    pub(crate) fn upstream_model<'a>(&'a self, asked: &'a str) -> &'a str {
        if let Some(upstream) = &self.upstream {
            return upstream;
        }
        if is_pattern(&self.name) {
            return own(&self.provider.name, asked).unwrap_or(asked);
        }
        &self.name
    }

    /// Returns what calls for the model `upstream_model` cost.
    pub(crate) fn prices(&self, table: &PriceTable, upstream_model: &str) -> Arc<Prices> {
        self.prices.clone().unwrap_or_else(|| {
            let known = table.find(self.provider.vendor.name, upstream_model);
            let prices = known.map(|known| known.prices).unwrap_or_default();
            Arc::new(prices.with_own(self.own_prices.0, self.own_prices.1))
        })
    }

    /// Returns the most tokens that an answer of the model `upstream_model` has, if anybody knows.
    pub(crate) fn most_output(&self, upstream_model: &str) -> Option<u64> {
        self.most_output.unwrap_or_else(|| most_output(self.provider.vendor.name, upstream_model))
    }

    /// Tells the operator once that calls cost nothing because the price is not known.
    pub(crate) fn tell_unpriced(&self, upstream_model: &str) {
        if !self.told_unpriced.swap(true, Ordering::Relaxed) {
            let deployment = self.id.as_str();
            tracing::warn!(
                deployment,
                upstream_model,
                "the price is not known: calls count as free"
            );
        }
    }

    /// Returns where a call for the model `upstream_model` goes.
    pub(crate) fn target<'a>(&'a self, upstream_model: &'a str) -> Target<'a> {
        Target {
            vendor: self.provider.vendor,
            base_url: &self.provider.base_url,
            api_version: self.provider.api_version.as_deref(),
            model: upstream_model,
        }
    }
}

/// The deployments of one model name, or of one pattern.
#[derive(Debug)]
pub(crate) struct Route {
    /// The configured name or pattern: what logs and metrics may show.
    pub(crate) name: String,
    pub(crate) deployments: Vec<Arc<Deployment>>,
    /// Shared with the routes of the same name in the configurations before and after this one, so that what was
    /// learned of the deployments stays, and calls in flight are counted.
    router: Arc<Mutex<Router>>,
    /// Of the router, when the route was made.
    revision: u64,
}

impl Route {
    fn new(
        name: String,
        group: Group,
        config: llmux_router::Config,
        previous: Option<&Self>,
    ) -> Arc<Self> {
        let Group { deployments, candidates } = group;
        // A request on the way through a route keeps to its deployments. If none of them is left, it does so with their
        // own router.
        let stays = |previous: &&Self| {
            let id_stays = |old: &Arc<Deployment>| deployments.iter().any(|it| it.id == old.id);
            previous.deployments.iter().any(id_stays)
        };
        match previous.filter(stays) {
            Some(previous) => {
                let mut router = previous.router();
                router.reconfigure(config, candidates);
                let (router, revision) = (Arc::clone(&previous.router), router.revision());
                Arc::new(Self { name, deployments, router, revision })
            }
            None => {
                let router = Router::new(config, candidates);
                let revision = router.revision();
                Arc::new(Self { name, deployments, router: Arc::new(Mutex::new(router)), revision })
            }
        }
    }

    pub(crate) fn router(&self) -> MutexGuard<'_, Router> {
        // The router's state is a few counters: it is sound after a panic elsewhere.
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the position of a deployment in the route.
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.deployments.iter().position(|deployment| deployment.id == id)
    }

    /// Tells whether the positions of the route's deployments are those of the router. They are not any more for a
    /// request that is on its way when another configuration changes the deployments.
    pub(crate) fn is_current(&self, router: &Router) -> bool {
        self.revision == router.revision()
    }
}

/// A model as `GET /v1/models` lists it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) owned_by: String,
}

/// A deployment as `GET /control/deployments` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentState {
    pub(crate) deployment_id: String,
    model: String,
    provider: String,
    /// What the provider is asked for; `null`: what the client asks for.
    upstream_model: Option<String>,
    strategy: &'static str,
    pub(crate) cooldown_active: bool,
    provider_in_flight: u32,
    /// 0: no limit.
    provider_max_concurrent: u32,
    #[serde(flatten)]
    pub(crate) snapshot: Snapshot,
}

impl DeploymentState {
    fn new(
        route: &Route,
        strategy: &'static str,
        deployment: &Deployment,
        snapshot: Snapshot,
    ) -> Self {
        let wildcard = is_pattern(&deployment.name) && deployment.upstream.is_none();
        let upstream = deployment.upstream.as_deref().unwrap_or(&deployment.name);
        Self {
            deployment_id: deployment.id.clone(),
            model: route.name.clone(),
            provider: deployment.provider.name.clone(),
            upstream_model: (!wildcard).then(|| upstream.to_owned()),
            strategy,
            cooldown_active: snapshot.cooldown_left_ms.is_some(),
            provider_in_flight: deployment.provider.in_flight.load(Ordering::Relaxed),
            provider_max_concurrent: deployment.provider.max_concurrent,
            snapshot,
        }
    }

    /// Returns what the provider is asked for; `None`: what the client asks for.
    pub(crate) fn upstream_model(&self) -> Option<&str> {
        self.upstream_model.as_deref()
    }

    /// Returns the labels of the deployment in metrics: its id, its model, its provider.
    pub(crate) fn labels(&self) -> [&str; 3] {
        [&self.deployment_id, &self.model, &self.provider]
    }
}

/// All routes.
#[derive(Debug)]
pub(crate) struct Catalog {
    exact: HashMap<String, Arc<Route>>,
    /// The most specific first.
    patterns: Vec<Arc<Route>>,
    /// Takes what nothing else matches.
    default: Option<Arc<Route>>,
    providers: Vec<String>,
    /// Sorted by id.
    listed: Vec<Listed>,
}

/// What is wrong with a provider that the configuration could not see.
#[derive(Debug, thiserror::Error)]
#[error("providers.{provider}: {message}")]
pub(crate) struct Unusable {
    provider: String,
    message: &'static str,
}

#[derive(Default)]
struct Group {
    deployments: Vec<Arc<Deployment>>,
    candidates: Vec<Candidate>,
}

impl Group {
    fn add(
        &mut self,
        provider: &Arc<Provider>,
        model: &Model,
        table: &PriceTable,
        ids: &mut HashMap<String, u32>,
        metrics: &Metrics,
    ) {
        let mut deployment = deployment(provider, model, ids, metrics);
        let prices = deployment.prices(table, deployment.upstream_model(&model.name));
        self.candidates.push(candidate(&deployment, model, &prices));
        if deployment.upstream.is_some() || !is_pattern(&deployment.name) {
            deployment.prices = Some(prices);
            deployment.most_output =
                Some(most_output(provider.vendor.name, deployment.upstream_model(&model.name)));
        }
        self.deployments.push(Arc::new(deployment));
    }
}

impl Catalog {
    /// Makes the routes of a configuration. What is known of the deployments of the `previous` one is kept.
    ///
    /// # Errors
    /// If a provider cannot be used; the previous catalog is as it was.
    pub(crate) fn new(
        settings: &Settings,
        metrics: &Metrics,
        previous: Option<&Self>,
    ) -> Result<Self, Unusable> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut default = None;
        let mut ids = HashMap::new();
        for configured in &settings.providers {
            let calls = previous.and_then(|previous| previous.calls_in_flight(&configured.name));
            let provider = Arc::new(provider(configured, calls.unwrap_or_default())?);
            for model in &configured.models {
                groups.entry(model.name.clone()).or_default().add(
                    &provider,
                    model,
                    &settings.prices,
                    &mut ids,
                    metrics,
                );
            }
            if settings.routing.default_provider.as_ref() == Some(&configured.name) {
                let model = Model::any(configured.timeout);
                let mut group = Group::default();
                group.add(&provider, &model, &settings.prices, &mut ids, metrics);
                default = Some((model.name, group));
            }
        }

        // From here on nothing fails.
        let default = default.map(|(name, group)| {
            let before = previous.and_then(|previous| previous.default.as_deref());
            Route::new(name, group, settings.routing.router.clone(), before)
        });
        let mut catalog = Self {
            exact: HashMap::new(),
            patterns: Vec::new(),
            default,
            providers: settings.providers.iter().map(|provider| provider.name.clone()).collect(),
            listed: Vec::new(),
        };
        for (name, group) in groups {
            let owner = group.deployments.first().map(|first| first.provider.name.clone());
            let mut config = settings.routing.router.clone();
            if let Some(strategy) = settings.routing.model_strategy.get(&name) {
                config.strategy = *strategy;
            }
            let before = previous.and_then(|previous| previous.named(&name));
            let route = Route::new(name.clone(), group, config, before);
            if is_pattern(&name) {
                catalog.patterns.push(route);
            } else {
                catalog
                    .listed
                    .push(Listed { id: name.clone(), owned_by: owner.unwrap_or_default() });
                catalog.exact.insert(name, route);
            }
        }
        catalog.patterns.sort_by_key(|route| std::cmp::Reverse(route.name.len()));
        Ok(catalog)
    }

    /// Returns the route of a configured name or pattern.
    fn named(&self, name: &str) -> Option<&Route> {
        let pattern = || self.patterns.iter().find(|route| route.name == name);
        self.exact.get(name).or_else(pattern).map(|route| &**route)
    }

    /// Returns the count of a provider's calls in flight.
    fn calls_in_flight(&self, provider: &str) -> Option<Arc<AtomicU32>> {
        let mut all = self.routes().flat_map(|route| &route.deployments);
        let deployment = all.find(|deployment| deployment.provider.name == provider)?;
        Some(Arc::clone(&deployment.provider.in_flight))
    }

    /// Returns all routes, in the order in which names are looked up.
    fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        let mut exact: Vec<_> = self.exact.values().collect();
        exact.sort_by_key(|route| &route.name);
        exact.into_iter().chain(&self.patterns).chain(&self.default)
    }

    /// Returns the state of all deployments.
    pub(crate) fn deployments(&self) -> Vec<DeploymentState> {
        let now = Instant::now();
        let states = self.routes().flat_map(|route| {
            let mut router = route.router();
            let strategy = router.strategy();
            let state = |deployment: &Arc<Deployment>| {
                let index = router.index_of(&deployment.id)?;
                let snapshot = router.snapshot(index, now);
                Some(DeploymentState::new(route, strategy, deployment, snapshot))
            };
            route.deployments.iter().filter_map(state).collect::<Vec<_>>()
        });
        states.collect()
    }

    /// Begins or ends a cooldown by hand; returns the deployment's state after it, `None` if there is no such one.
    pub(crate) fn set_cooldown(
        &self,
        id: &str,
        period: Option<Duration>,
    ) -> Option<DeploymentState> {
        let now = Instant::now();
        self.routes().find_map(|route| {
            let mut router = route.router();
            let deployment = route.deployments.iter().find(|deployment| deployment.id == id)?;
            let index = router.index_of(id)?;
            router.set_cooldown(index, period, now);
            let snapshot = router.snapshot(index, now);
            let strategy = router.strategy();
            Some(DeploymentState::new(route, strategy, deployment, snapshot))
        })
    }

    /// Returns the models that are configured by name, sorted.
    pub(crate) fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Finds the deployments for a model name: the exact name first, then `<provider>/<name>`, then patterns, then
    /// the default provider.
    pub(crate) fn resolve(&self, name: &str) -> Option<Resolved> {
        let all = |route: &Arc<Route>| Resolved {
            route: Arc::clone(route),
            name: name.to_owned(),
            excluded: Vec::new(),
            unable: Vec::new(),
            asked: name.to_owned(),
        };
        if let Some(route) = self.exact.get(name) {
            return Some(all(route));
        }
        let of_provider =
            self.providers.iter().find_map(|provider| Some((provider, own(provider, name)?)));
        if let Some((provider, rest)) = of_provider
            && let Some(route) = self.exact.get(rest)
            && let Some(resolved) = only(route, provider, name, rest)
        {
            return Some(resolved);
        }
        // A provider's name before a model's means that provider, where it has a pattern for either spelling.
        if let Some((provider, rest)) = of_provider {
            let its = |asked| {
                let fitting = self.patterns.iter().filter(move |route| matches(&route.name, asked));
                fitting.filter_map(move |route| only(route, provider, name, asked)).next()
            };
            if let Some(resolved) = its(name).or_else(|| its(rest)) {
                return Some(resolved);
            }
        }
        if let Some(route) = self.patterns.iter().find(|route| matches(&route.name, name)) {
            return Some(all(route));
        }
        self.default.as_ref().map(all)
    }
}

/// Restricts a route to one provider; `None` if it has no deployment there.
fn only(route: &Arc<Route>, provider: &str, name: &str, asked: &str) -> Option<Resolved> {
    let others = |(index, deployment): (usize, &Arc<Deployment>)| {
        (deployment.provider.name != provider).then_some(index)
    };
    let excluded: Vec<_> = route.deployments.iter().enumerate().filter_map(others).collect();
    (excluded.len() < route.deployments.len()).then(|| Resolved {
        route: Arc::clone(route),
        name: name.to_owned(),
        excluded,
        unable: Vec::new(),
        asked: asked.to_owned(),
    })
}

/// Shorter texts are no credentials, and stand in ordinary ones by chance.
const SHORTEST_SECRET: usize = 16;

fn provider(
    configured: &crate::config::Provider,
    in_flight: Arc<AtomicU32>,
) -> Result<Provider, Unusable> {
    let unusable = |message| Unusable { provider: configured.name.clone(), message };
    let url: Uri = configured.base_url.parse().map_err(|_| unusable("base_url is no URL"))?;
    let origin = Origin::of(&url).ok_or_else(|| unusable("base_url is no http or https URL"))?;
    let mut headers = Vec::new();
    if let Some(key) = &configured.api_key {
        let target =
            Target { vendor: configured.vendor, base_url: "", api_version: None, model: "" };
        let header = target.credential(key.expose());
        headers
            .push(header.map_err(|_| unusable("api_key has characters that no header may have"))?);
    }
    headers.extend(configured.headers.iter().cloned());
    let long = |text: &&str| text.len() >= SHORTEST_SECRET;
    let texts = configured.headers.iter().filter_map(|(_, value)| value.to_str().ok());
    let texts = texts.chain(configured.api_key.iter().map(Secret::expose));
    let secrets = texts.filter(long).map(Secret::new).collect();
    Ok(Provider {
        name: configured.name.clone(),
        vendor: configured.vendor,
        base_url: configured.base_url.clone(),
        api_version: configured.api_version.clone(),
        origin: Arc::new(origin),
        headers,
        secrets,
        connect_timeout: configured.connect_timeout,
        stream_idle_timeout: configured.stream_idle_timeout,
        max_concurrent: configured.max_concurrent,
        in_flight,
    })
}

/// Looks up the most tokens that an answer of a vendor's model has.
fn most_output(vendor: &str, model: &str) -> Option<u64> {
    llmux_types::lookup(vendor, model).and_then(|known| known.max_output_tokens)
}

fn deployment(
    provider: &Arc<Provider>,
    model: &Model,
    ids: &mut HashMap<String, u32>,
    metrics: &Metrics,
) -> Deployment {
    let mut id = format!("{}/{}", provider.name, model.name);
    let count = ids.entry(id.clone()).or_insert(0);
    *count += 1;
    if *count > 1 {
        id = format!("{id}#{count}");
    }
    let meter = {
        let upstream = model.upstream.as_deref().unwrap_or(&model.name);
        metrics.deployment(&id, &model.name, &provider.name, (provider.vendor.name, upstream))
    };
    Deployment {
        id,
        provider: Arc::clone(provider),
        name: model.name.clone(),
        upstream: model.upstream.clone(),
        own_prices: (model.input_price, model.output_price),
        prices: None,
        most_output: None,
        timeout: model.timeout,
        told_unpriced: AtomicBool::new(false),
        is_tagged: !model.tags.is_empty(),
        meter,
    }
}

/// Says what the router needs to know of a deployment.
fn candidate(deployment: &Deployment, model: &Model, prices: &Prices) -> Candidate {
    let price = |unit| prices.price(unit, 0, None);
    let price = Price { input: price(Unit::Input), output: price(Unit::Output) };
    let mut candidate =
        Candidate::new(deployment.id.as_str()).tags(model.tags.iter().cloned()).price(price);
    if let Some(weight) = model.weight {
        candidate = candidate.weight(weight);
    }
    if let Some(requests) = model.rpm {
        candidate = candidate.requests_per_minute(requests);
    }
    if let Some(tokens) = model.tpm {
        candidate = candidate.tokens_per_minute(tokens);
    }
    candidate
}
