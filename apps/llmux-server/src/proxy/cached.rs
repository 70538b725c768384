//! Answers from the cache, and calls that several requests share.
//!
//! A request that may be answered from the cache first joins those who ask the same at this moment. The first of them looks
//! into the cache and, if there is nothing, makes the call: a [`Flight`], which belongs to all who wait for it and is
//! driven by whichever of them is polled. It goes on as long as one of them is there, whoever began it.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use llmux_auth::tenants::{UsageRecord, UsageStatus};
use llmux_auth::{Admitted, Caller};
use llmux_cache::{
    Asker, CacheKey, Controls, Entry, Flights, Form, Joined, Kind, Leader, Outcome, Question,
    Shared,
};
use llmux_providers::{Endpoint, Summary};
use llmux_types::{Money, Usage};
use tokio::time::Instant;

use super::admission::Record;
use super::answer::Answer;
use super::flight::{Flight, Keep, Notes, Published};
use super::shared::SharedReply;
use crate::ask::Ask;
use crate::attempt::Resolved;
use crate::body::Reply;
use crate::cache::Backend;
use crate::charge::{call_type, plausible, record_usage};
use crate::config;
use crate::error::ApiError;
use crate::exchange::{Exchange, Lookup};
use crate::gateway::{Gateway, Worker};
use crate::headers;
use crate::metrics::CacheResult;
use crate::tenants::wall_clock;

/// A stream may be shared up to so many times the largest answer that is kept: its events are that much larger.
const EVENTS: u64 = 16;
/// The least that is kept of a stream for those who share it, in bytes.
const LEAST_SHARED: u64 = 1024 * 1024;

/// Returns what kind of answers an endpoint has, if they are kept.
const fn kind_of(endpoint: Endpoint) -> Option<Kind> {
    match endpoint {
        Endpoint::ChatCompletions => Some(Kind::Chat),
        Endpoint::Completions => Some(Kind::Completion),
        Endpoint::Embeddings => Some(Kind::Embedding),
        _ => None,
    }
}

/// Reads what the client wants of the cache; `None`: it has no part in the request.
pub(super) fn controls(
    settings: &config::Cache,
    ask: &Ask,
    exchange: &mut Exchange,
) -> Result<Option<(Kind, Controls)>, ApiError> {
    if !settings.enabled {
        return Ok(None);
    }
    let Some(kind) = kind_of(ask.endpoint) else {
        exchange.line.cache = Some(Lookup::Bypass);
        return Ok(None);
    };
    let name = "x-llmux-cache";
    let mut controls = Controls::default();
    for value in ask.headers.get_all(name) {
        let read = Controls::from_header(value.to_str().unwrap_or("?"));
        controls = controls.and(read.map_err(|wrong| ApiError::invalid(name, wrong.to_string()))?);
    }
    if let Some(body) = ask.body_with_cache() {
        let read = Controls::from_body(body);
        controls =
            controls.and(read.map_err(|wrong| ApiError::invalid("cache", wrong.to_string()))?);
    }
    Ok(Some((kind, controls)))
}

/// A request that the cache has a part in.
pub(super) struct Cached {
    backend: Arc<Backend>,
    key: CacheKey,
    kind: Kind,
    form: Form,
    controls: Controls,
}

impl Cached {
    /// Names the answer to the request; `None`: none can be kept.
    pub(super) fn of(
        gateway: &Gateway,
        settings: &config::Cache,
        (kind, controls): (Kind, Controls),
        admitted: &Admitted,
        ask: &Ask,
        resolved: &Resolved,
    ) -> Option<Self> {
        let caller = admitted.caller();
        let tenant = caller.tenant();
        let organization = tenant.and_then(|tenant| tenant.organization.as_ref());
        let asker = match tenant {
            Some(tenant) => Asker {
                key: Some(&tenant.key.token_id),
                team: tenant.key.team_id.as_deref(),
                organization: organization.map(|found| found.organization_id.as_str()),
            },
            None if matches!(caller, Caller::Master) => {
                Asker { key: Some(caller.as_str()), ..Asker::default() }
            }
            None => Asker::default(),
        };
        let is_tagged = resolved.route.deployments.iter().any(|deployment| deployment.is_tagged);
        let tags: Vec<&str> = if is_tagged {
            ask.facts().tags.iter().map(String::as_str).collect()
        } else {
            Vec::new()
        };
        let question = Question {
            scope: settings.scope,
            asker,
            route: &route(ask),
            model: &ask.model,
            tags: &tags,
            body: ask.json_body()?,
        };
        let form = if ask.stream && ask.endpoint.streams_events() {
            Form::Stream { include_usage: ask.usage_asked() }
        } else {
            Form::Whole
        };
        let key = CacheKey::derive(&settings.namespace, &question)?;
        Some(Self { backend: gateway.cache.backend()?, key, kind, form, controls })
    }

    fn flights<'a>(&self, gateway: &'a Gateway) -> &'a Flights<Published> {
        match self.form {
            Form::Whole => &gateway.cache.whole,
            Form::Stream { .. } => &gateway.cache.streams,
        }
    }

    /// Tells whether the request may share a call with others. One that must not be kept is its client's alone; one with
    /// a deadline would impose it on others.
    const fn has_company(&self, ask: &Ask) -> bool {
        !self.controls.no_cache && !self.controls.no_store && ask.deadline.is_none()
    }
}

/// Returns the endpoint with the headers that a vendor gets and answers by.
fn route(ask: &Ask) -> String {
    let mut route = call_type(ask.endpoint).to_owned();
    for (name, value) in headers::features(&ask.headers) {
        route.push('\n');
        route.push_str(name.as_str());
        route.push('=');
        route.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    route
}

/// Where the answer comes from.
enum Found {
    /// It is there.
    Made(Arc<Entry>),
    /// It is coming, by a call that another request began.
    Coming(Shared<Flight>, Arc<Notes>),
    /// The request is to make the call, for all who ask the same.
    Leader(Leader<Published>),
    /// The request is to make the call, for itself.
    Alone,
}

type Answered = (Response<Reply>, Option<Admitted>);

/// Answers a request that the cache has a part in.
pub(super) async fn answer(
    worker: &Worker,
    cached: Cached,
    admitted: Admitted,
    ask: Ask,
    resolved: Resolved,
    exchange: &mut Exchange,
) -> Result<Answered, ApiError> {
    let gateway = &worker.gateway;
    let started = Instant::now();
    let found = find(gateway, &cached, &ask).await;
    exchange.waited += started.elapsed();
    let leader = match found {
        Found::Made(entry) => {
            note(gateway, exchange, Lookup::Hit, CacheResult::Hit);
            let hit = Hit::of(gateway, &admitted, &ask, &resolved, exchange);
            let response = replayed(&entry, cached.form, exchange);
            // In the spool before the first byte leaves.
            hit.record(UsageStatus::Success, entry.usage());
            admitted.note_sent();
            admitted.finish(0, std::time::Instant::now());
            return Ok((response, None));
        }
        Found::Coming(reader, notes) => {
            let hit = Hit::of(gateway, &admitted, &ask, &resolved, exchange);
            let started = Instant::now();
            let mut reply = Box::new(SharedReply::new(reader, notes, cached.form, Some(hit)));
            let head = reply.head().await;
            exchange.waited += started.elapsed();
            match head {
                Ok(head) => {
                    note(gateway, exchange, Lookup::Hit, CacheResult::Shared);
                    exchange.line.cost = Some(Money::ZERO);
                    admitted.note_sent();
                    return Ok((head.without_vendor().respond(reply), Some(admitted)));
                }
                Err(failure) if failure.is_shared => {
                    note(gateway, exchange, Lookup::Miss, CacheResult::Miss);
                    admitted.finish(0, std::time::Instant::now());
                    return Err(failure.error);
                }
                // What went wrong was the other's own affair.
                Err(_) => None,
            }
        }
        Found::Leader(leader) => Some(leader),
        Found::Alone => None,
    };
    if cached.controls.no_cache {
        note(gateway, exchange, Lookup::Bypass, CacheResult::Bypass);
    } else {
        note(gateway, exchange, Lookup::Miss, CacheResult::Miss);
    }

    let settings = &exchange.snapshot.settings.cache;
    let limit = settings.max_item_bytes.saturating_mul(EVENTS).max(LEAST_SHARED);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let Cached { backend, key, kind, form, controls } = cached;
    let max_item_bytes = settings.max_item_bytes;
    let keep = controls.keep_for(settings.ttl);
    let keep = keep.map(|ttl| Keep { backend, key, kind, ttl, max_item_bytes });
    let flight = Flight::new(worker, exchange, admitted, ask, resolved, keep, limit);
    let notes = flight.notes();
    // Nobody else reads what nobody can find.
    let shared = Shared::with_limit(flight, if leader.is_some() { limit } else { 0 });
    if let Some(leader) = leader {
        leader.publish(Published::Coming(shared.downgrade(), Arc::clone(&notes)));
        shared.with_source(|flight| flight.lead(leader));
    }
    let mut reply = Box::new(SharedReply::new(shared, notes, form, None));
    let head = reply.head().await;
    let waited = reply.take_over(exchange);
    exchange.waited += waited;
    match head {
        Ok(head) => Ok((head.respond(reply), None)),
        Err(failure) => Err(failure.error),
    }
}

/// Finds where the answer comes from. Whoever leads looks into the cache for all who ask the same.
async fn find(gateway: &Gateway, cached: &Cached, ask: &Ask) -> Found {
    let lookup = async || {
        let started = Instant::now();
        let found = cached.backend.cache().get(&cached.key, unix_ms()).await;
        gateway.metrics.cache_lookup(started.elapsed());
        found
    };
    if !cached.has_company(ask) {
        if cached.controls.no_cache {
            return Found::Alone;
        }
        return lookup().await.map_or(Found::Alone, Found::Made);
    }
    loop {
        let leader = match cached.flights(gateway).join(&cached.key) {
            Joined::Leader(leader) => leader,
            Joined::Follower(follower) => match follower.await {
                Outcome::Answer(entry) | Outcome::Coming(Published::Made(entry)) => {
                    return Found::Made(entry);
                }
                Outcome::Coming(Published::Coming(flight, notes)) => match flight.upgrade() {
                    Some(reader) => return Found::Coming(reader, notes),
                    // All who waited have left this moment: somebody has to begin anew.
                    None => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                },
                Outcome::Lead(leader) => leader,
                Outcome::Alone => return Found::Alone,
            },
        };
        return match lookup().await {
            Some(entry) => {
                leader.finish(Arc::clone(&entry));
                Found::Made(entry)
            }
            None => Found::Leader(leader),
        };
    }
}

fn note(gateway: &Gateway, exchange: &mut Exchange, lookup: Lookup, result: CacheResult) {
    exchange.line.cache = Some(lookup);
    gateway.metrics.cache(&exchange.labels, result);
}

/// Gives a kept answer in the form that is asked for.
fn replayed(entry: &Entry, form: Form, exchange: &mut Exchange) -> Response<Reply> {
    exchange.note(Summary {
        usage: entry.usage().copied(),
        finish_reason: entry.finish_reason().map(str::to_owned),
    });
    exchange.note_output();
    exchange.line.cost = Some(Money::ZERO);
    let content_type = HeaderValue::from_str(entry.content_type(form)).ok();
    let answer = Answer { status: StatusCode::OK, content_type, headers: HeaderMap::new() };
    answer.respond(Reply::Whole(entry.body(form)))
}

/// Returns the time in Unix milliseconds.
pub(super) fn unix_ms() -> u64 {
    u64::try_from(wall_clock().0).unwrap_or(0)
}

/// The record of an answer that costs nothing.
pub(crate) struct Hit {
    gateway: Arc<Gateway>,
    record: Box<UsageRecord>,
}

impl Hit {
    fn of(
        gateway: &Arc<Gateway>,
        admitted: &Admitted,
        ask: &Ask,
        resolved: &Resolved,
        exchange: &Exchange,
    ) -> Self {
        let now = wall_clock();
        let base = Record { id: gateway.record_id(now), start_time: now, attempt: 0 };
        let model = resolved.counted_as();
        let record = base.of(admitted.caller(), ask, model, exchange);
        let record = Box::new(UsageRecord { cache_hit: true, ..record });
        Self { gateway: Arc::clone(gateway), record }
    }

    /// Writes the record down: when this returns, it cannot be lost.
    pub(super) fn record(self, status: UsageStatus, usage: Option<&Usage>) {
        let Self { gateway, mut record } = self;
        record.end_time = wall_clock().max(record.start_time);
        record.status = status;
        record.status_code = (status == UsageStatus::Success).then_some(200);
        record_usage(&mut record, &plausible(usage.copied().unwrap_or_default()));
        if let Err(record) = gateway.spool.append(*record) {
            gateway.tenants.limiter().recorded_usage(&record);
        }
    }
}
