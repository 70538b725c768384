//! `/global/*`: sums over everything, for those who may read everything.

use bytes::Bytes;
use llmux_auth::roles::{Action, Actor, Target};
use llmux_auth::store::{Dimension, Page, Store, UsageFilter};
use llmux_auth::tenants::{Money, UnixMillis, UsageTotals};
use serde::Serialize;

use super::fields::{Fields, all};
use super::json;
use super::spend::{DayTotals, days, shown};
use crate::error::ApiError;

fn allow(actor: &Actor) -> Result<(), ApiError> {
    if actor.may(Action::Read, &Target::Gateway) { Ok(()) } else { Err(ApiError::not_permitted()) }
}

#[derive(Serialize)]
struct Activity {
    daily_data: Vec<DayTotals>,
    sum_api_requests: u64,
    sum_attempts: u64,
    sum_failed_attempts: u64,
    sum_cache_hits: u64,
    sum_prompt_tokens: u64,
    sum_completion_tokens: u64,
    sum_total_tokens: u64,
    sum_spend: Money,
    total_cost: Money,
    /// The part of the attempts that did not fail; `null` without any.
    success_rate: Option<f64>,
    unique_models: u64,
    unique_providers: u64,
}

/// `GET /global/activity`: the days that had usage, in their order, and their sums.
pub(super) async fn activity(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    allow(actor)?;
    let (first, last) = days(&mut query, now)?;
    query.finish()?;
    let filter = UsageFilter::days(first, last);
    let rows = all(|page| store.usage_by(Dimension::Day, &filter, page)).await?;
    let sums = store.usage_totals(&filter).await?;
    let one = Page::first(1);
    let unique_models = store.usage_by(Dimension::Model, &filter, one).await?.total;
    // Answers from the cache are nobody's.
    let providers = all(|page| store.usage_by(Dimension::Provider, &filter, page)).await?;
    let providers = providers.iter().filter(|row| !row.name.is_empty()).count();
    let unique_providers = u64::try_from(providers).unwrap_or(u64::MAX);
    let daily_data =
        rows.into_iter().map(|row| DayTotals { date: row.name, totals: row.totals }).collect();
    Ok(json(&Activity {
        daily_data,
        sum_api_requests: sums.api_requests,
        sum_attempts: sums.attempts,
        sum_failed_attempts: sums.failed_attempts,
        sum_cache_hits: sums.cache_hits,
        sum_prompt_tokens: sums.prompt_tokens,
        sum_completion_tokens: sums.completion_tokens,
        sum_total_tokens: sums.total_tokens,
        sum_spend: sums.spend,
        total_cost: sums.spend,
        success_rate: success_rate(&sums),
        unique_models,
        unique_providers,
    }))
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits than a float has")]
fn success_rate(sums: &UsageTotals) -> Option<f64> {
    let fine = sums.attempts.saturating_sub(sums.failed_attempts);
    (sums.attempts > 0).then(|| fine as f64 / sums.attempts as f64)
}

#[derive(Serialize)]
struct ModelTotals<'a> {
    model: &'a str,
    #[serde(flatten)]
    totals: UsageTotals,
}

#[derive(Serialize)]
struct ProviderTotals<'a> {
    /// Empty for what no provider was asked for.
    provider: &'a str,
    #[serde(flatten)]
    totals: UsageTotals,
}

/// `GET /global/spend/models`: the dearest first.
pub(super) async fn models(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    allow(actor)?;
    let (first, last) = days(&mut query, now)?;
    let paging = query.paging()?;
    query.finish()?;
    let filter = UsageFilter::days(first, last);
    let listed = paging.list(|page| store.usage_by(Dimension::Model, &filter, page)).await?;
    Ok(shown(&listed, |row| ModelTotals { model: &row.name, totals: row.totals }))
}

/// `GET /global/spend/provider`: the dearest first.
pub(super) async fn providers(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    allow(actor)?;
    let (first, last) = days(&mut query, now)?;
    let paging = query.paging()?;
    query.finish()?;
    let filter = UsageFilter::days(first, last);
    let listed = paging.list(|page| store.usage_by(Dimension::Provider, &filter, page)).await?;
    Ok(shown(&listed, |row| ProviderTotals { provider: &row.name, totals: row.totals }))
}
