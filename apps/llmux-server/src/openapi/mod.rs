//! The OpenAPI document of what this server answers: <https://spec.openapis.org/oas/v3.1.1.html>. Made of the table of
//! routes and of the tables that requests are read with.

mod gateway;
mod inference;
mod objects;
mod schema;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub(crate) use self::schema::{Op, T, Table, described, or_null, properties, reference};

use self::schema::{FAILURES, failure, object};
use crate::config::Settings;
use crate::manage;
use crate::routes::{Action, Role, Route};

/// Makes the document of these routes.
pub(crate) fn document<'a>(routes: impl Iterator<Item = &'a Route>, settings: &Settings) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut tags: Vec<&str> = Vec::new();
    for route in routes {
        let path = match route.action {
            Action::Metrics => settings.metrics.path.as_str(),
            _ => route.path,
        };
        let operation = described_by(route);
        if !tags.contains(&operation.tag) {
            tags.push(operation.tag);
        }
        let error = match route.action {
            Action::Proxy(endpoint) if inference::is_anthropic(endpoint) => "AnthropicError",
            _ => "Error",
        };
        let item = paths.entry(path).or_insert_with(|| json!({}));
        let mut built = operation.build(&id(route), error);
        if let Some(security) = security(route, settings) {
            built["security"] = security;
        }
        if let Role::Manager(role) = route.role {
            built["x-llmux-role"] = role.into();
        }
        item[route.method.to_ascii_lowercase()] = built;
    }
    let mut schemas = objects::schemas();
    schemas.extend(inference::schemas());
    schemas.extend(manage::schemas());
    schemas.extend(errors());
    let failures = ["Error", "AnthropicError"].into_iter().flat_map(|error| {
        FAILURES.map(|status| (format!("{error}{status}"), failure(error, status)))
    });
    let paths = Value::Object(paths);
    let responses = used("#/components/responses/", failures.collect(), &[&paths]);
    let schemas = used("#/components/schemas/", schemas, &[&paths, &json!(responses)]);
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "LLMux",
            "summary": "An LLM gateway: one OpenAI-compatible endpoint for all model vendors.",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE")},
        },
        "servers": [{"url": "/"}],
        "tags": tags.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "parameters": parameters(),
            "headers": headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
        },
    })
}

const ABOUT: &str = "Paths of the data plane also work without `/v1` and below `/openai`; calls also below \
    `/openai/deployments/{model}`. `HEAD` works where `GET` does. `x-llmux-role` is the least role that a caller of the \
    management plane needs; what is in each one's reach is told in the documentation. In limits and budgets `null` is no \
    limit and `0` allows nothing; amounts are US dollars. Bodies of the management plane have at most 1 MiB (that \
    of `/route/explain` as much as a call's); a field that is not described is refused unless it says nothing (`null`, `{}`, `[]`, `\"\"`, `false`).";

/// Names an operation for clients that are made from the document.
fn id(route: &Route) -> String {
    match route.action {
        Action::Metrics => return "metrics".to_owned(),
        Action::OpenApi => return "openapi".to_owned(),
        Action::Model => return "model".to_owned(),
        _ => {}
    }
    let path = route.path.trim_start_matches("/v1").trim_start_matches('/');
    let id = path.replace('/', "_");
    // What is for clients without PATCH, or without bodies of DELETE.
    let is_other = route.method == "POST"
        && matches!(route.action, Action::Manage(operation) if operation.has_own_method());
    if is_other { format!("{id}_by_post") } else { id }
}

fn described_by(route: &Route) -> Op {
    let op = gateway::operation(route.action);
    match route.role {
        Role::Manager(_) => op.fails(&[400, 401, 403, 408, 413, 415, 500, 503]),
        Role::Public | Role::Caller => op,
    }
}

/// Which of the credentials a route needs; `None`: none.
fn security(route: &Route, settings: &Settings) -> Option<Value> {
    let mut any = vec![json!({"bearer": []}), json!({"x-api-key": []}), json!({"api-key": []})];
    match route.role {
        Role::Public if route.action == Action::Metrics && settings.metrics.require_auth => {}
        Role::Public => return None,
        // On an open data plane a key is honoured, and not needed.
        Role::Caller if !settings.auth.data_plane_needs_key => any.push(json!({})),
        Role::Caller | Role::Manager(_) => {}
    }
    Some(any.into())
}

fn errors() -> Map<String, Value> {
    let error: &Table = &[
        ("message", T::Text, "What is wrong, for people."),
        ("type", T::Text, "What kind of error it is, such as `invalid_request_error`."),
        ("param", T::Opt(&T::Text), "The field that it is about."),
        (
            "code",
            T::Any,
            "Which error it is, such as `model_not_found`: a text, or what the provider gave, or `null`.",
        ),
    ];
    let envelope = |inner: Value| {
        json!({
            "type": "object", "required": ["error"], "properties": {"error": inner},
        })
    };
    let anthropic: &Table = &[
        ("type", T::Text, "What kind of error it is, such as `not_found_error`."),
        ("message", T::Text, "What is wrong, for people."),
    ];
    let mut of_anthropic = envelope(object("", &[anthropic]));
    of_anthropic["required"] = json!(["type", "error"]);
    of_anthropic["properties"]["type"] = json!({"const": "error"});
    Map::from_iter([
        ("Error".to_owned(), described(envelope(object("", &[error])), "OpenAI's envelope.")),
        ("AnthropicError".to_owned(), described(of_anthropic, "Anthropic's envelope.")),
    ])
}

/// Keeps the components that are referred to, directly or by others.
fn used(place: &str, mut all: Map<String, Value>, by: &[&Value]) -> Map<String, Value> {
    let mut names: Vec<String> = Vec::new();
    by.iter().for_each(|value| collect(place, value, &mut names));
    let mut at = 0;
    while let Some(name) = names.get(at) {
        if let Some(component) = all.get(name) {
            collect(place, component, &mut names);
        }
        at += 1;
    }
    all.retain(|name, _| names.contains(name));
    all
}

/// Collects the names of the components that are referred to.
fn collect(place: &str, value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let target = map.get("$ref").and_then(Value::as_str);
            let name = target.and_then(|target| target.strip_prefix(place));
            if let Some(name) = name.filter(|name| !names.iter().any(|known| known == name)) {
                names.push(name.to_owned());
            }
            map.values().for_each(|value| collect(place, value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(place, value, names)),
        _ => {}
    }
}

/// Headers of requests, by name.
fn parameters() -> Map<String, Value> {
    let text = |name: &str, about: &str, example: &str| {
        let schema = json!({"type": "string", "examples": [example]});
        let header = json!({"name": name, "in": "header", "description": about, "schema": schema});
        (name.to_owned(), header)
    };
    Map::from_iter([
        text(
            "x-llmux-tags",
            "Tags that deployments are chosen by, besides those of the body.",
            "red,fast",
        ),
        text("x-litellm-tags", "The same as `x-llmux-tags`.", "red,fast"),
        text(
            "x-llmux-timeout",
            "How long the client waits for the whole answer; can only shorten the provider's timeout. A bare number means seconds.",
            "30s",
        ),
        text("x-llmux-cache", "What the request wants of the response cache.", "no-store, ttl=60"),
        text(
            "x-request-id",
            "The request's id: 1 to 128 letters, digits, `-`, `_`, `.`.",
            "order-17",
        ),
        text(
            "traceparent",
            "The trace that the request belongs to (W3C Trace Context).",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        text("tracestate", "What belongs to `traceparent`.", "vendor=value"),
        text("openai-beta", "Passed on.", "assistants=v2"),
        text("anthropic-version", "Passed on.", "2023-06-01"),
        text("anthropic-beta", "Passed on.", "context-1m-2025-08-07"),
    ])
}

/// Headers of answers, by name.
fn headers() -> Map<String, Value> {
    let header = |name: &str, about: &str, kind: T| {
        (name.to_owned(), json!({"description": about, "schema": kind.schema()}))
    };
    Map::from_iter([
        header("x-request-id", "The client's, if it is a sane one; else a new one.", T::Text),
        header("x-llmux-deployment", "The deployment that answered.", T::Text),
        header("x-llmux-provider", "The provider that answered.", T::Text),
        header("x-llmux-attempts", "Calls that were made.", T::Count),
        header(
            "x-llmux-cache",
            "What the response cache did, while it is on.",
            T::Choice(&["hit", "miss", "bypass"]),
        ),
        header(
            "x-llmux-overhead-ms",
            "The part of the time until the answer began that the gateway took itself, in milliseconds.",
            T::Number,
        ),
        header(
            "x-llmux-response-cost",
            "What the provider charges, in US dollars; not with streams, nor where a price is not known.",
            T::Number,
        ),
        header("x-llmux-soft-budget", "A soft budget is exceeded.", T::Choice(&["exceeded"])),
        header(
            "x-ratelimit-limit-requests",
            "The tightest limit of requests per minute.",
            T::Count,
        ),
        header("x-ratelimit-remaining-requests", "What is left of it.", T::Count),
        header(
            "x-ratelimit-reset-requests",
            "When all of it will be again, such as `12s`.",
            T::Text,
        ),
        header("x-ratelimit-limit-tokens", "The tightest limit of tokens per minute.", T::Count),
        header("x-ratelimit-remaining-tokens", "What is left of it.", T::Count),
        header("x-ratelimit-reset-tokens", "When all of it will be again, such as `12s`.", T::Text),
        header("retry-after", "After how many seconds to try again.", T::Count),
        header(
            "x-should-retry",
            "`false`: trying again is of no use. With used-up budgets and limits of 0.",
            T::Choice(&["false"]),
        ),
    ])
}
