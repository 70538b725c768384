//! `/spend/*`: what was used, attempt by attempt or day by day, and what is spent of budgets.

use bytes::Bytes;
use llmux_auth::roles::Actor;
use llmux_auth::store::{
    Dimension, KeyFilter, Listed, Store, StoreError, TeamFilter, UsageFilter, UserFilter, Within,
};
use llmux_auth::tenants::{
    Budget, Day, Key, KeyRef, Money, Period, Team, UnixMillis, UsageRecord, UsageStatus,
    UsageTotals, User, mask,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::fields::Fields;
use super::{json, within};
use crate::error::ApiError;

/// How many days are shown if nothing is said.
const DAYS: i64 = 30;

/// Takes the first and the last day that are asked for.
pub(super) fn days(query: &mut Fields, now: UnixMillis) -> Result<(Day, Day), ApiError> {
    let (start, end) = (day(query, "start_date")?, day(query, "end_date")?);
    let last = end.unwrap_or_else(|| now.day());
    let first = start.unwrap_or_else(|| last.plus(1 - DAYS));
    if last < first {
        return Err(match end {
            Some(_) => query.invalid("end_date", "`start_date` or a later day"),
            None => query.invalid("start_date", "today or an earlier day, or `end_date` be given"),
        });
    }
    Ok((first, last))
}

fn day(query: &mut Fields, name: &str) -> Result<Option<Day>, ApiError> {
    let Some(text) = query.text(name)? else { return Ok(None) };
    let day = text.parse().map_err(|_| query.invalid(name, "a day such as 2026-01-31"))?;
    Ok(Some(day))
}

/// One record, with the names that LiteLLM's proxy has for it.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    request_id: &'a str,
    attempt: u32,
    call_type: &'a str,
    /// The key's id: never the key.
    api_key: Option<&'a str>,
    user: Option<&'a str>,
    team_id: Option<&'a str>,
    organization_id: Option<&'a str>,
    end_user: Option<&'a str>,
    model: &'a str,
    model_group: &'a str,
    upstream_model: Option<&'a str>,
    custom_llm_provider: Option<&'a str>,
    deployment_id: Option<&'a str>,
    #[serde(rename = "startTime")]
    start_time: UnixMillis,
    #[serde(rename = "endTime")]
    end_time: UnixMillis,
    time_to_first_token_ms: Option<u64>,
    status: UsageStatus,
    status_code: Option<u16>,
    error_code: Option<&'a str>,
    cache_hit: bool,
    stream: bool,
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    cached_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    spend: Money,
    request_tags: &'a [String],
    metadata: &'a Map<String, Value>,
}

impl<'a> From<&'a UsageRecord> for Row<'a> {
    fn from(record: &'a UsageRecord) -> Self {
        Self {
            id: &record.id,
            request_id: &record.request_id,
            attempt: record.attempt,
            call_type: &record.call_type,
            api_key: record.token_id.as_deref(),
            user: record.user_id.as_deref(),
            team_id: record.team_id.as_deref(),
            organization_id: record.organization_id.as_deref(),
            end_user: record.end_user.as_deref(),
            model: &record.model,
            model_group: &record.model,
            upstream_model: record.upstream_model.as_deref(),
            custom_llm_provider: record.provider.as_deref(),
            deployment_id: record.deployment_id.as_deref(),
            start_time: record.start_time,
            end_time: record.end_time,
            time_to_first_token_ms: record.time_to_first_token_ms,
            status: record.status,
            status_code: record.status_code,
            error_code: record.error_code.as_deref(),
            cache_hit: record.cache_hit,
            stream: record.stream,
            prompt_tokens: record.prompt_tokens,
            completion_tokens: record.completion_tokens,
            total_tokens: record.total_tokens,
            cached_tokens: record.cached_tokens,
            cache_write_tokens: record.cache_write_tokens,
            reasoning_tokens: record.reasoning_tokens,
            spend: record.spend,
            request_tags: &record.request_tags,
            metadata: &record.metadata,
        }
    }
}

/// The sums of one day.
#[derive(Serialize)]
pub(super) struct DayTotals {
    pub(super) date: String,
    #[serde(flatten)]
    pub(super) totals: UsageTotals,
}

/// Answers a list whose entries are shown as something else.
pub(super) fn shown<'a, T, R: Serialize + 'a>(
    listed: &'a Listed<T>,
    show: impl Fn(&'a T) -> R,
) -> Bytes {
    json(&Listed {
        data: listed.data.iter().map(show).collect(),
        total: listed.total,
        page: listed.page,
        page_size: listed.page_size,
    })
}

/// `GET /spend/logs`: the records, newest first; with `summarize=true` the sums of each day.
pub(super) async fn logs(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    let (first, last) = days(&mut query, now)?;
    let api_key = query.text("api_key")?;
    let mut filter = UsageFilter {
        team_id: query.text("team_id")?,
        user_id: query.text("user_id")?,
        organization_id: query.text("organization_id")?,
        model: query.text("model")?,
        request_id: query.text("request_id")?,
        ..UsageFilter::days(first, last)
    };
    let summarize = match query.text("summarize")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(query.invalid("summarize", "true or false")),
    };
    if summarize && filter.request_id.is_some() {
        let message = "`request_id` finds single records, of which there are no sums by day.";
        return Err(ApiError::invalid("request_id", message));
    }
    let paging = query.paging()?;
    query.finish()?;
    confine(&mut filter, actor)?;
    if let Some(api_key) = api_key {
        keep_to_key(&mut filter, store, actor, &api_key, now).await?;
    }
    if summarize {
        let listed = paging.list(|page| store.usage_by(Dimension::Day, &filter, page)).await?;
        return Ok(shown(&listed, |row| DayTotals { date: row.name.clone(), totals: row.totals }));
    }
    let listed = paging.list(|page| store.list_usage(&filter, page)).await?;
    Ok(shown(&listed, Row::from))
}

/// Keeps a filter to what the caller may read.
fn confine(filter: &mut UsageFilter, actor: &Actor) -> Result<(), ApiError> {
    if actor.user_id().is_none() && !actor.reads_everything() {
        // A key without a user knows of itself.
        let token_id = actor.reach().token_id;
        filter.token_id = Some(token_id.ok_or_else(ApiError::not_permitted)?);
        return Ok(());
    }
    let Some(within) = within(actor)? else { return Ok(()) };
    // What is asked for may be within reach as a whole, and then there are sums of it.
    let among =
        |ids: &[String], id: &Option<String>| id.as_ref().is_some_and(|id| ids.contains(id));
    let is_within = (filter.user_id.is_some() && filter.user_id == within.user_id)
        || among(&within.team_ids, &filter.team_id)
        || among(&within.organization_ids, &filter.organization_id);
    filter.within = Some(within).filter(|_| !is_within);
    Ok(())
}

/// Keeps a filter to one key: named by itself, its hash or its id.
async fn keep_to_key(
    filter: &mut UsageFilter,
    store: &dyn Store,
    actor: &Actor,
    text: &str,
    now: UnixMillis,
) -> Result<(), ApiError> {
    let token_id = match KeyRef::parse(text) {
        // The usage of a key that was deleted is still there.
        KeyRef::TokenId(token_id) => Some(token_id),
        key => store.key(&key, now).await?.map(|key| key.token_id),
    };
    if token_id.is_none() && actor.reads_everything() {
        return Err(StoreError::NotFound { what: "key", id: mask(text) }.into());
    }
    if token_id.is_none()
        || filter.token_id.as_ref().is_some_and(|own| token_id.as_ref() != Some(own))
    {
        // Whether there is such a key is not for everybody to know.
        filter.within = Some(Within::default());
    } else {
        filter.token_id = token_id;
    }
    Ok(())
}

/// What is spent of a budget in its present window.
#[derive(Serialize)]
struct Spent {
    spend: Money,
    max_budget: Option<Money>,
    soft_budget: Option<Money>,
    budget_duration: Option<Period>,
    budget_reset_at: Option<UnixMillis>,
}

impl From<&Budget> for Spent {
    fn from(budget: &Budget) -> Self {
        Self {
            spend: budget.spend,
            max_budget: budget.max_budget,
            soft_budget: budget.soft_budget,
            budget_duration: budget.budget_duration,
            budget_reset_at: budget.budget_reset_at,
        }
    }
}

#[derive(Serialize)]
struct KeySpend<'a> {
    token_id: &'a str,
    key_name: &'a str,
    key_alias: Option<&'a str>,
    user_id: Option<&'a str>,
    team_id: Option<&'a str>,
    organization_id: Option<&'a str>,
    #[serde(flatten)]
    spent: Spent,
}

impl<'a> From<&'a Key> for KeySpend<'a> {
    fn from(key: &'a Key) -> Self {
        Self {
            token_id: &key.token_id,
            key_name: &key.key_name,
            key_alias: key.key_alias.as_deref(),
            user_id: key.user_id.as_deref(),
            team_id: key.team_id.as_deref(),
            organization_id: key.organization_id.as_deref(),
            spent: (&key.budget).into(),
        }
    }
}

#[derive(Serialize)]
struct TeamSpend<'a> {
    team_id: &'a str,
    team_alias: Option<&'a str>,
    organization_id: Option<&'a str>,
    #[serde(flatten)]
    spent: Spent,
}

impl<'a> From<&'a Team> for TeamSpend<'a> {
    fn from(team: &'a Team) -> Self {
        Self {
            team_id: &team.team_id,
            team_alias: team.team_alias.as_deref(),
            organization_id: team.organization_id.as_deref(),
            spent: (&team.budget).into(),
        }
    }
}

#[derive(Serialize)]
struct UserSpend<'a> {
    user_id: &'a str,
    user_alias: Option<&'a str>,
    user_email: Option<&'a str>,
    #[serde(flatten)]
    spent: Spent,
}

impl<'a> From<&'a User> for UserSpend<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            user_id: &user.user_id,
            user_alias: user.user_alias.as_deref(),
            user_email: user.user_email.as_deref(),
            spent: (&user.budget).into(),
        }
    }
}

/// `GET /spend/keys`: the dearest first.
pub(super) async fn keys(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    let mut filter = KeyFilter {
        user_id: query.text("user_id")?,
        team_id: query.text("team_id")?,
        organization_id: query.text("organization_id")?,
        dearest_first: true,
        ..KeyFilter::default()
    };
    let paging = query.paging()?;
    query.finish()?;
    filter.within = within(actor)?;
    let listed = paging.list(|page| store.list_keys(&filter, page, now)).await?;
    Ok(shown(&listed, KeySpend::from))
}

/// `GET /spend/teams`: the dearest first.
pub(super) async fn teams(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    let mut filter = TeamFilter {
        organization_id: query.text("organization_id")?,
        dearest_first: true,
        ..TeamFilter::default()
    };
    let paging = query.paging()?;
    query.finish()?;
    filter.within = within(actor)?;
    let listed = paging.list(|page| store.list_teams(&filter, page, now)).await?;
    Ok(shown(&listed, TeamSpend::from))
}

/// `GET /spend/users`: the dearest first. Who may not read everything sees the own user: what others spend, they may
/// spend elsewhere, too.
pub(super) async fn users(
    store: &dyn Store,
    actor: &Actor,
    mut query: Fields,
    now: UnixMillis,
) -> Result<Bytes, ApiError> {
    let mut filter = UserFilter {
        team_id: query.text("team_id")?,
        organization_id: query.text("organization_id")?,
        dearest_first: true,
        ..UserFilter::default()
    };
    let paging = query.paging()?;
    query.finish()?;
    let own = |within: Within| Within { user_id: within.user_id, ..Within::default() };
    filter.within = within(actor)?.map(own);
    let listed = paging.list(|page| store.list_users(&filter, page, now)).await?;
    Ok(shown(&listed, UserSpend::from))
}

#[cfg(test)]
mod tests;
