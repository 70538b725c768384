//! The management plane's routes about deployments.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use llmux_auth::Caller;
use llmux_providers::Endpoint;
use llmux_router::FallbackKind;
use llmux_types::Money;
use serde_json::{Map, Value, json};

use crate::ask::Ask;
use crate::attempt::Resolved;
use crate::body::Reply;
use crate::catalog::{Deployment, DeploymentState};
use crate::error::ApiError;
use crate::exchange::Exchange;
use crate::gateway::{Gateway, Snapshot};
use crate::manage::{Call, Entry};
use crate::proxy::{next_model, resolve};
use crate::reload::{ReloadError, Trigger};
use crate::routes::{decoded, endpoint_of, json_response};

/// `POST /route/explain`: which deployment a request would go to, and why. The body is the request itself; of its
/// content only the size matters, so that it may be missing. The query `endpoint` names the route; without it, chat.
pub(crate) fn explain(
    gateway: &Gateway,
    head: http::request::Parts,
    body: Bytes,
    exchange: &mut Exchange,
) -> Result<Response<Reply>, ApiError> {
    let endpoint = asked_endpoint(head.uri.query())?;
    let ask = Ask::dry(endpoint, head.headers, body, exchange)?;
    let facts = ask.facts();
    let (snapshot, resolved, decision) = loop {
        let snapshot = gateway.current();
        let resolved = resolve(&snapshot, endpoint, &ask.model)?;
        // A configuration that is just being applied is worth another look.
        if let Some(decision) = resolved.explain(&facts) {
            break (snapshot, resolved, decision);
        }
        std::thread::yield_now();
    };

    let mut candidates = Vec::new();
    for candidate in &decision.candidates {
        let deployment = &resolved.route.deployments[candidate.index];
        candidates.push(described(json!(candidate), deployment, &resolved.asked));
    }
    let mut excluded = Vec::new();
    for other in &decision.excluded {
        let deployment = &resolved.route.deployments[other.index];
        excluded.push(described(json!(other), deployment, &resolved.asked));
    }
    let fallbacks = |kind| fallbacks(&snapshot, endpoint, kind, &ask.model, &resolved);
    let answer = json!({
        "model": ask.model,
        "route": resolved.route.name,
        "stream": facts.stream,
        "tags": facts.tags,
        "input_tokens": facts.input_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "strategy": decision.strategy,
        "chosen": decision.chosen,
        "why": decision.why,
        "candidates": candidates,
        "excluded": excluded,
        "fallbacks": fallbacks(FallbackKind::General),
        "context_window_fallbacks": fallbacks(FallbackKind::ContextWindow),
        "content_policy_fallbacks": fallbacks(FallbackKind::ContentPolicy),
    });
    Ok(json_response(StatusCode::OK, &answer))
}

fn described(mut value: Value, deployment: &Deployment, asked: &str) -> Value {
    value["provider"] = deployment.provider.name.as_str().into();
    value["upstream_model"] = deployment.upstream_model(asked).into();
    value
}

/// Reads the query `endpoint=/v1/embeddings`; without it chat is meant.
fn asked_endpoint(query: Option<&str>) -> Result<Endpoint, ApiError> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, path)) = pairs.into_iter().find(|(name, _)| *name == "endpoint") else {
        return Ok(Endpoint::ChatCompletions);
    };
    let message = "`endpoint` must be the path of a route such as /v1/embeddings.";
    endpoint_of(&decoded(path)).ok_or_else(|| ApiError::invalid("endpoint", message))
}

/// Returns the models that a request would go on with, in their order.
fn fallbacks(
    snapshot: &Snapshot,
    endpoint: Endpoint,
    kind: FallbackKind,
    asked: &str,
    resolved: &Resolved,
) -> Vec<String> {
    let mut visited = vec![asked.to_owned()];
    visited.extend(resolved.names().map(str::to_owned));
    let mut found = Vec::new();
    while let Some(next) = next_model(snapshot, endpoint, kind, &visited) {
        visited.extend(next.names().map(str::to_owned));
        found.push(next.name);
    }
    found
}

/// `GET /control/deployments`: the state of all deployments.
pub(crate) fn deployments(gateway: &Gateway) -> Response<Reply> {
    json_response(StatusCode::OK, &json!({ "data": gateway.current().catalog.deployments() }))
}

/// `GET /control/state`: what is under way and what waits.
pub(crate) fn state(gateway: &Gateway) -> Response<Reply> {
    let (requests, nanos) = gateway.tenants.limiter().under_way();
    let spool = &gateway.spool;
    let answer = json!({
        "in_flight": gateway.in_flight(),
        "draining": gateway.is_draining(),
        "reservations": {
            "scopes": gateway.tenants.limiter().len(),
            "requests": requests,
            "money": Money::from_nanos(nanos),
        },
        "spool": {
            "backlog_bytes": spool.backlog(),
            "dropped_records": spool.dropped(),
            "refuses_requests": spool.refuses(),
        },
        "keys": { "cached": gateway.tenants.cached(), "reads": gateway.tenants.reads() },
    });
    json_response(StatusCode::OK, &answer)
}

/// `GET /control/config`: which configuration counts.
pub(crate) async fn config(gateway: &Arc<Gateway>) -> Result<Response<Reply>, ApiError> {
    let shared = Arc::clone(gateway);
    // It may have to wait for the one that is just being applied.
    let status = gateway.tenants.runtime().spawn_blocking(move || shared.reloading.status()).await;
    Ok(json_response(StatusCode::OK, &status.map_err(|_| ApiError::internal())?))
}

/// `POST /control/config/reload`: reads the configuration anew. The body may name the `expected_checksum` of the file, so
/// that no other than the intended one is applied.
pub(crate) async fn reload(
    gateway: &Arc<Gateway>,
    call: &Call,
    body: &[u8],
) -> Result<Response<Reply>, ApiError> {
    let fields: Map<String, Value> = match body.trim_ascii() {
        b"" => Map::new(),
        body => serde_json::from_slice(body)
            .map_err(|_| ApiError::invalid("body", "The body must be a JSON object."))?,
    };
    if let Some(unknown) = fields.keys().find(|name| *name != "expected_checksum") {
        return Err(ApiError::invalid(unknown, format!("`{unknown}` is not a known field.")));
    }
    let expected = match fields.get("expected_checksum") {
        None | Some(Value::Null) => None,
        Some(Value::String(expected)) => Some(expected.to_ascii_lowercase()),
        Some(_) => {
            let message = "`expected_checksum` must be the SHA-256 of the configuration file.";
            return Err(ApiError::invalid("expected_checksum", message));
        }
    };
    let shared = Arc::clone(gateway);
    let reload = move || shared.reload(Trigger::Asked { expected: expected.as_deref() });
    let reloaded = gateway.tenants.runtime().spawn_blocking(reload).await;
    let status = reloaded.map_err(|_| ApiError::internal())?.map_err(|error| match error {
        ReloadError::Checksum(found) => ApiError::other_checksum(found.as_deref()),
        ReloadError::Unsteady => ApiError::configuration_changing(),
        ReloadError::Rejected(problems) => ApiError::invalid_configuration(&problems),
    })?;
    let entry = Entry {
        action: "configuration reloaded",
        table: "config",
        object_id: "config",
        before: None,
        after: serde_json::to_value(&status).ok(),
    };
    call.audit(entry).await?;
    Ok(json_response(StatusCode::OK, &status))
}

/// `GET /cache/stats`: what the response cache has, and what became of it since the process started.
pub(crate) fn cache_stats(gateway: &Gateway, snapshot: &Snapshot) -> Response<Reply> {
    let settings = &snapshot.settings.cache;
    let tiers: Vec<Value> = gateway
        .cache
        .stats()
        .into_iter()
        .map(|tier| {
            json!({
                "tier": tier.tier,
                "healthy": tier.healthy,
                "entries": tier.entries,
                "bytes": tier.bytes,
                "hits": tier.hits,
                "misses": tier.misses,
                "writes": tier.stores,
                "evictions": tier.evictions,
                "failures": tier.failures,
                "skipped": tier.skipped,
            })
        })
        .collect();
    let answer = json!({
        "enabled": settings.enabled,
        "type": settings.kind.as_str(),
        "scope": settings.scope.as_str(),
        "namespace": &*settings.namespace,
        "ttl_seconds": settings.ttl.as_secs_f64(),
        "calls_in_flight": gateway.cache.under_way(),
        "tiers": tiers,
    });
    json_response(StatusCode::OK, &answer)
}

/// `POST /cache/flush`: forgets all answers of the namespace. Carried out to its end even if the client leaves.
pub(crate) async fn cache_flush(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    exchange: &Exchange,
) -> Result<Response<Reply>, ApiError> {
    let call = Call::new(gateway, caller, exchange);
    let namespace = Arc::clone(&exchange.snapshot.settings.cache.namespace);
    let flush = gateway.cache.flush(Arc::clone(&namespace));
    let flushing = gateway.tenants.runtime().spawn(async move {
        let flushed = flush.await;
        let answer = json!({ "removed": flushed.removed, "complete": flushed.complete });
        let entry = Entry {
            action: "cache flushed",
            table: "cache",
            object_id: &namespace,
            before: None,
            after: Some(answer.clone()),
        };
        call.audit(entry).await.map(|()| answer)
    });
    let answer = flushing.await.map_err(|_| ApiError::internal())??;
    Ok(json_response(StatusCode::OK, &answer))
}

/// `POST /control/deployments/cooldown`: takes a deployment out of use for a while, or back into it. The body has
/// `deployment_id` and `cooldown_seconds`; 0 ends the cooldown.
pub(crate) async fn set_cooldown(
    gateway: &Gateway,
    call: &Call,
    body: &[u8],
) -> Result<Response<Reply>, ApiError> {
    let fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| ApiError::invalid("body", "The body must be a JSON object."))?;
    let known = |name: &str| matches!(name, "deployment_id" | "cooldown_seconds");
    if let Some(unknown) = fields.keys().find(|name| !known(name)) {
        return Err(ApiError::invalid(unknown, format!("`{unknown}` is not a known field.")));
    }
    let id = fields.get("deployment_id").and_then(Value::as_str).ok_or_else(|| {
        let message = "`deployment_id` must be the name of a deployment.";
        ApiError::invalid("deployment_id", message)
    })?;
    let seconds = fields.get("cooldown_seconds").and_then(Value::as_f64);
    let period = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|period| *period <= Duration::from_hours(24 * 365));
    let Some(period) = period else {
        let message = "`cooldown_seconds` must be between 0, which ends a cooldown, and a year.";
        return Err(ApiError::invalid("cooldown_seconds", message));
    };
    let set =
        gateway.current().catalog.set_cooldown(id, Some(period).filter(|period| !period.is_zero()));
    let state = set.ok_or_else(|| ApiError::deployment_not_found(id))?;
    tracing::info!(deployment = id, seconds = period.as_secs_f64(), "cooldown set by hand");
    let answer = cooldown(&state);
    let entry = Entry {
        action: "cooldown set",
        table: "deployment",
        object_id: id,
        before: None,
        after: Some(Value::Object(fields.clone())),
    };
    call.audit(entry).await?;
    Ok(json_response(StatusCode::OK, &answer))
}

fn cooldown(state: &DeploymentState) -> Value {
    let until = state.snapshot.cooldown_left_ms.map(|left| {
        let until = SystemTime::now() + Duration::from_millis(left);
        humantime::format_rfc3339_seconds(until).to_string()
    });
    json!({
        "deployment_id": state.deployment_id,
        "cooldown_until": until,
        "cooldown_active": state.cooldown_active,
    })
}
