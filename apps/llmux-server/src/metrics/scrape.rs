//! The page that Prometheus reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use llmux_types::Money;

use super::page::{Page, escaped};
use super::process;
use super::{families as family, litellm};
use crate::body::Reply;
use crate::catalog::DeploymentState;
use crate::error::ApiError;
use crate::exchange::Exchange;
use crate::gateway::Gateway;
use crate::tenants::{self, wall_clock};

/// The content type of the page.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers Prometheus.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    head: &Parts,
    exchange: &mut Exchange,
) -> Result<Response<Reply>, ApiError> {
    if exchange.snapshot.settings.metrics.require_auth {
        exchange.line.caller = Some(tenants::manager(gateway, head).await?);
    } else {
        tenants::no_web_page(gateway, head)?;
    }
    let shared = Arc::clone(gateway);
    let also_litellm = exchange.snapshot.settings.metrics.litellm_names;
    // Requests do not wait for it.
    let writing = gateway.tenants.runtime().spawn_blocking(move || {
        let mut text = page(&shared);
        if also_litellm {
            litellm::write(&mut text, &names_of_deployments(&shared));
        }
        text
    });
    let written = writing.await;
    let text = written.map_err(|_| ApiError::internal())?;
    let mut response = Response::new(Reply::Whole(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

/// Writes the page. Takes longer the more series there are: milliseconds for a thousand.
fn page(gateway: &Gateway) -> String {
    let metrics = &gateway.metrics;
    let mut text = metrics.registry.handle().map(|handle| handle.render()).unwrap_or_default();
    let mut page = Page::default();
    page.family(&family::BUILD_INFO);
    page.sample(&family::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    page.single(&family::IN_FLIGHT, gateway.in_flight());
    metrics.registry.write_sums(&family::SPEND, &mut page);
    metrics.registry.write_sums(&family::TENANT_SPEND, &mut page);
    deployments(gateway, &mut page);

    let limiter = gateway.tenants.limiter();
    let (requests, nanos) = limiter.under_way();
    page.single(&family::RESERVED_REQUESTS, requests);
    page.single(&family::RESERVED_DOLLARS, Money::from_nanos(nanos));
    page.single(&family::LIMIT_SCOPES, limiter.len());
    page.single(&family::KEYS_CACHED, gateway.tenants.cached());
    page.single(&family::KEY_READS, gateway.tenants.reads());

    let status = gateway.reloading.status();
    page.family(&family::CONFIGS);
    page.sample(&family::CONFIGS, &["applied"], status.reload_count);
    page.sample(&family::CONFIGS, &["rejected"], status.rejected_count);
    page.single(&family::CONFIG_OK, u8::from(status.last_error.is_none()));
    page.single(&family::CONFIG_TIME, status.loaded);

    let is_up = metrics.is_database_up.load(Ordering::Relaxed);
    page.single(&family::DATABASE_UP, u8::from(is_up));
    cache(gateway, &mut page);
    let spool = &gateway.spool;
    page.single(&family::SPOOL_BYTES, spool.backlog());
    page.single(&family::SPOOL_LAG, spool.lag(wall_clock()).as_secs_f64());
    page.single(&family::SPOOL_DROPPED, spool.dropped());
    let (exported, dropped) = gateway.traces.counts();
    page.family(&family::TRACE_SPANS);
    page.sample(&family::TRACE_SPANS, &["exported"], exported);
    page.sample(&family::TRACE_SPANS, &["dropped"], dropped);
    process::write(&mut page);
    text.push_str(&page.into_text());
    text
}

/// Returns the names of all deployments as pages write them.
fn names_of_deployments(gateway: &Gateway) -> litellm::Deployments {
    let states = gateway.current().catalog.deployments();
    let names = states.iter().map(|state| {
        let [id, model, _] = state.labels();
        let names = (escaped(model), escaped(state.upstream_model().unwrap_or(model)));
        (escaped(id), names)
    });
    names.collect()
}

/// Writes what is kept and what became of it. Places that are not used have no series.
fn cache(gateway: &Gateway, page: &mut Page) {
    let stats = gateway.cache.stats();
    if stats.is_empty() {
        return;
    }
    page.family(&family::CACHE_READS);
    for tier in &stats {
        page.sample(&family::CACHE_READS, &[tier.tier, "hit"], tier.hits);
        page.sample(&family::CACHE_READS, &[tier.tier, "miss"], tier.misses);
    }
    page.family(&family::CACHE_WRITES);
    for tier in &stats {
        page.sample(&family::CACHE_WRITES, &[tier.tier], tier.stores);
    }
    page.family(&family::CACHE_FAILURES);
    for tier in &stats {
        page.sample(&family::CACHE_FAILURES, &[tier.tier, "failed"], tier.failures);
        page.sample(&family::CACHE_FAILURES, &[tier.tier, "skipped"], tier.skipped);
    }
    let local = stats.iter().find(|tier| tier.entries.is_some());
    page.single(&family::CACHE_EVICTIONS, local.map_or(0, |tier| tier.evictions));
    page.single(&family::CACHE_ENTRIES, local.and_then(|tier| tier.entries).unwrap_or(0));
    page.single(&family::CACHE_BYTES, local.and_then(|tier| tier.bytes).unwrap_or(0));
    page.single(&family::CACHE_CALLS, gateway.cache.under_way());
    page.family(&family::REDIS_UP);
    let redis = gateway.metrics.redis.load(Ordering::Relaxed);
    if redis > 0 {
        page.sample(&family::REDIS_UP, &[], redis - 1);
    }
}

fn deployments(gateway: &Gateway, page: &mut Page) {
    let states = gateway.current().catalog.deployments();
    let mut gauge = |family, value: fn(&DeploymentState) -> u64| {
        page.family(family);
        for state in &states {
            page.sample(family, &state.labels(), value(state));
        }
    };
    gauge(&family::DEPLOYMENT_IN_FLIGHT, |state| state.snapshot.in_flight.into());
    gauge(&family::DEPLOYMENT_COOLING, |state| state.cooldown_active.into());
    gauge(&family::DEPLOYMENT_REQUESTS, |state| state.snapshot.requests);
    gauge(&family::DEPLOYMENT_TOKENS, |state| state.snapshot.tokens);
    page.family(&family::COOLDOWNS);
    for state in &states {
        let [deployment, model, provider] = state.labels();
        for (reason, count) in state.snapshot.cooldowns.by_reason() {
            let labels = [deployment, model, provider, reason];
            page.sample(&family::COOLDOWNS, &labels, count);
        }
    }
}
