//! The models that clients may ask for, and the deployments behind them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Uri};
use llmux_providers::{Target, Vendor};
use llmux_router::{Deployment as Candidate, NoRoute, Outcome, Pick, Request, Router};

use crate::config::{Model, Settings};
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
    pub(crate) connect_timeout: Duration,
    pub(crate) stream_idle_timeout: Duration,
    max_concurrent: u32,
    in_flight: AtomicU32,
}

impl Provider {
    fn is_full(&self) -> bool {
        self.max_concurrent > 0 && self.in_flight.load(Ordering::Relaxed) >= self.max_concurrent
    }

    /// Takes one of the provider's places, which all of its models share.
    fn enter(&self) -> bool {
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
                (self.max_concurrent == 0 || calls < self.max_concurrent).then_some(calls + 1)
            })
            .is_ok()
    }

    fn leave(&self) {
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
    /// Of a whole call; of a stream until its first output.
    pub(crate) timeout: Duration,
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
    router: Mutex<Router>,
}

impl Route {
    fn new(name: String, deployments: Vec<Arc<Deployment>>, weights: &[u32]) -> Arc<Self> {
        let candidates = deployments
            .iter()
            .zip(weights)
            .map(|(deployment, &weight)| Candidate::new(deployment.id.as_str(), weight));
        let router = Mutex::new(Router::new(candidates.collect::<Vec<_>>()));
        Arc::new(Self { name, deployments, router })
    }

    pub(crate) fn router(&self) -> MutexGuard<'_, Router> {
        // The router's state is a few counters: it is sound after a panic elsewhere.
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A route, and what of it one request may use.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) route: Arc<Route>,
    /// Deployments of other providers than the one the client named.
    pub(crate) excluded: Vec<usize>,
    /// The model's name without the provider's, where the client put that before it.
    pub(crate) asked: String,
}

/// One call's place at a deployment. Dropped without a word it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Attempt {
    route: Arc<Route>,
    pick: Option<Pick>,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) index: usize,
}

impl Attempt {
    pub(crate) fn settle(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(pick) = self.pick.take() {
            self.deployment.provider.leave();
            self.route.router().record(pick, outcome, Instant::now());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled);
    }
}

impl Resolved {
    /// Takes a place at the deployment that the router chooses.
    pub(crate) fn pick(&self, tried: &[usize], random: u64) -> Result<Attempt, NoRoute> {
        let route = &self.route;
        let mut excluded = self.excluded.clone();
        let mut busy = false;
        for (index, deployment) in route.deployments.iter().enumerate() {
            if !excluded.contains(&index) && deployment.provider.is_full() {
                excluded.push(index);
                busy = true;
            }
        }
        loop {
            let request = Request { tried, excluded: &excluded, random };
            let pick = route.router().pick(&request, Instant::now()).map_err(|no_route| {
                // What only a full provider rules out is busy, not forbidden.
                if busy { NoRoute::Busy } else { no_route }
            })?;
            let index = pick.index();
            let deployment = Arc::clone(&route.deployments[index]);
            if deployment.provider.enter() {
                return Ok(Attempt {
                    route: Arc::clone(route),
                    pick: Some(pick),
                    deployment,
                    index,
                });
            }
            // The last place went to another worker since we looked.
            route.router().record(pick, Outcome::Cancelled, Instant::now());
            excluded.push(index);
            busy = true;
        }
    }

    /// Tells whether a deployment is left that has not been tried.
    pub(crate) fn has_untried(&self, tried: &[usize]) -> bool {
        self.route.router().has_untried(tried, &self.excluded)
    }
}

/// A model as `GET /v1/models` lists it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) owned_by: String,
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
    weights: Vec<u32>,
}

impl Catalog {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Unusable> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut default = None;
        let mut ids = HashMap::new();
        for configured in &settings.providers {
            let provider = Arc::new(provider(configured)?);
            for model in &configured.models {
                let group = groups.entry(model.name.clone()).or_default();
                group.deployments.push(deployment(&provider, model, &mut ids));
                group.weights.push(model.weight);
            }
            if settings.routing.default_provider.as_ref() == Some(&configured.name) {
                let model = Model {
                    name: "*".into(),
                    upstream: None,
                    weight: 1,
                    timeout: configured.timeout,
                };
                let deployments = vec![deployment(&provider, &model, &mut ids)];
                default = Some(Route::new("*".into(), deployments, &[1]));
            }
        }

        let mut catalog = Self {
            exact: HashMap::new(),
            patterns: Vec::new(),
            default,
            providers: settings.providers.iter().map(|provider| provider.name.clone()).collect(),
            listed: Vec::new(),
        };
        for (name, group) in groups {
            let owner = group.deployments.first().map(|first| first.provider.name.clone());
            let route = Route::new(name.clone(), group.deployments, &group.weights);
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

    /// Returns the models that are configured by name, sorted.
    pub(crate) fn listed(&self) -> &[Listed] {
        &self.listed
    }

    /// Finds the deployments for a model name: the exact name first, then `<provider>/<name>`, then patterns, then
    /// the default provider.
    pub(crate) fn resolve(&self, name: &str) -> Option<Resolved> {
        let all = |route: &Arc<Route>| Resolved {
            route: Arc::clone(route),
            excluded: Vec::new(),
            asked: name.to_owned(),
        };
        if let Some(route) = self.exact.get(name) {
            return Some(all(route));
        }
        let of_provider =
            self.providers.iter().find_map(|provider| Some((provider, own(provider, name)?)));
        if let Some((provider, rest)) = of_provider
            && let Some(route) = self.exact.get(rest)
            && let Some(resolved) = only(route, provider, rest)
        {
            return Some(resolved);
        }
        if let Some(route) = self.patterns.iter().find(|route| matches(&route.name, name)) {
            return Some(all(route));
        }
        if let Some((provider, rest)) = of_provider {
            let of_it = self.patterns.iter().filter(|route| matches(&route.name, rest));
            if let Some(resolved) = of_it.filter_map(|route| only(route, provider, rest)).next() {
                return Some(resolved);
            }
        }
        self.default.as_ref().map(all)
    }
}

/// Restricts a route to one provider; `None` if it has no deployment there.
fn only(route: &Arc<Route>, provider: &str, asked: &str) -> Option<Resolved> {
    let others = |(index, deployment): (usize, &Arc<Deployment>)| {
        (deployment.provider.name != provider).then_some(index)
    };
    let excluded: Vec<_> = route.deployments.iter().enumerate().filter_map(others).collect();
    (excluded.len() < route.deployments.len()).then(|| Resolved {
        route: Arc::clone(route),
        excluded,
        asked: asked.to_owned(),
    })
}

/// Cuts `<provider>/` off a name.
fn own<'a>(provider: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(provider)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Matches a name against a pattern in which `*` stands for any text, the empty one included.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let Some(tail) = parts.pop() else { return false };
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(tail)
}

fn provider(configured: &crate::config::Provider) -> Result<Provider, Unusable> {
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
    Ok(Provider {
        name: configured.name.clone(),
        vendor: configured.vendor,
        base_url: configured.base_url.clone(),
        api_version: configured.api_version.clone(),
        origin: Arc::new(origin),
        headers,
        connect_timeout: configured.connect_timeout,
        stream_idle_timeout: configured.stream_idle_timeout,
        max_concurrent: configured.max_concurrent,
        in_flight: AtomicU32::new(0),
    })
}

fn deployment(
    provider: &Arc<Provider>,
    model: &Model,
    ids: &mut HashMap<String, u32>,
) -> Arc<Deployment> {
    let mut id = format!("{}/{}", provider.name, model.name);
    let count = ids.entry(id.clone()).or_insert(0);
    *count += 1;
    if *count > 1 {
        id = format!("{id}#{count}");
    }
    Arc::new(Deployment {
        id,
        provider: Arc::clone(provider),
        name: model.name.clone(),
        upstream: model.upstream.clone(),
        timeout: model.timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("openai/*", "openai/gpt", true),
            ("openai/*", "openai", false),
            ("gpt-*-mini", "gpt-4o-mini", true),
            ("gpt-*-mini", "gpt-mini", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
