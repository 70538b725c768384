//! The routes of the gateway as a whole: health, metrics, control, the cache. And who describes the others.

use serde_json::{Value, json};

use super::inference;
use super::schema::{Op, T, Table, described, object, properties, reference};
use crate::manage;
use crate::routes::{Action, called};

const CONTROL: &str = "Control";

/// Describes what a route does.
pub(super) fn operation(action: Action) -> Op {
    match action {
        Action::Live => health("Is the process there?", "Always the same.", &["ok"]),
        Action::Ready => {
            let state = |word: &'static [&'static str]| json!({"schema": state(word)});
            let busy = json!({
                "description": "Shutting down, or usage cannot be recorded.",
                "headers": {
                    "x-request-id": {"$ref": "#/components/headers/x-request-id"},
                    "retry-after": {"$ref": "#/components/headers/retry-after"},
                },
                "content": {"application/json": state(&["draining", "spool_full"])},
            });
            health("Should requests come here?", "Yes.", &["ok"]).other("503", busy)
        }
        Action::Health => {
            let fields: &Table = &[
                ("status", T::Choice(&["ok", "draining", "spool_full"]), "As readiness has it."),
                (
                    "configuration",
                    T::Choice(&["ok", "rejected"]),
                    "`rejected`: the last change of the configuration was not applied.",
                ),
            ];
            Op::new("Health", "How is the gateway?").ok("Its states.", &object("", &[fields]))
        }
        Action::Metrics => Op::new("Metrics", "Metrics")
            .content(
                "The metrics, in Prometheus's text format.",
                json!({"text/plain": {"schema": {"type": "string"}}}),
            )
            .fails(&[401, 403, 500, 503]),
        Action::OpenApi => Op::new("Description", "This document")
            .ok("An OpenAPI document.", &json!({"type": "object"}))
            .fails(&[403]),
        Action::Deployments => {
            let list = json!({"type": "array", "items": reference("Deployment")});
            let schema =
                json!({"type": "object", "required": ["data"], "properties": {"data": list}});
            Op::new(CONTROL, "The state of all deployments").ok("All of them.", &schema)
        }
        Action::State => {
            Op::new(CONTROL, "What is under way and what waits").ok("That.", &reference("State"))
        }
        Action::Config => {
            Op::new(CONTROL, "Which configuration counts").ok("That.", &reference("Configuration"))
        }
        Action::Reload => {
            let fields: &Table = &[(
                "expected_checksum",
                T::Opt(&T::Text),
                "The SHA-256 of the file that is meant: no other is applied.",
            )];
            Op::new(CONTROL, "Read the configuration anew")
                .about("With problems nothing changes. The body may be missing.")
                .ok("The configuration that counts now.", &reference("Configuration"))
                .body("application/json", &closed(fields, &[]), false)
                .fails(&[409])
        }
        Action::SetCooldown => {
            let fields: &Table = &[
                ("deployment_id", T::Text, "The deployment's id: `<provider>/<model>`."),
                (
                    "cooldown_seconds",
                    T::Number,
                    "How long it is left alone, at most a year; 0: it is back in use.",
                ),
            ];
            let mut body = closed(fields, &["deployment_id", "cooldown_seconds"]);
            body["properties"]["cooldown_seconds"]["minimum"] = 0.into();
            body["properties"]["cooldown_seconds"]["maximum"] = 31_536_000.into();
            Op::new(CONTROL, "Take a deployment out of use, or back into it")
                .ok("It was done.", &reference("Cooldown"))
                .json(&body)
                .fails(&[404])
        }
        Action::CacheStats => {
            Op::new("Cache", "The response cache").ok("Its state.", &reference("CacheStats"))
        }
        Action::CacheFlush => Op::new("Cache", "Forget all answers of the namespace")
            .ok("It was done.", &reference("Flushed")),
        Action::Explain => {
            let endpoint = json!({
                "name": "endpoint", "in": "query", "schema": {"type": "string", "enum": called().collect::<Vec<_>>()},
                "description": "The path of the route that the request is for; chat if nothing is said.",
            });
            let model = json!({"model": described(reference("ModelName"), "The model.")});
            let request = json!({
                "type": "object", "required": ["model"], "properties": model, "additionalProperties": true,
            });
            Op::new(CONTROL, "Where would a request go, and why?")
                .about("The body is the request itself. Of its content only the size counts, so that it may be missing.")
                .parameter(endpoint)
                .headers(&["x-llmux-tags", "x-litellm-tags"])
                .json(&described(request, "A request of the data plane."))
                .ok("What would be done. Nothing was.", &reference("Explanation"))
                .fails(&[404])
        }
        Action::Proxy(endpoint) => inference::operation(endpoint),
        Action::Models => inference::models(),
        Action::Model => inference::model(),
        Action::Manage(operation) => manage::operation(operation),
    }
}

fn state(words: &'static [&'static str]) -> Value {
    object("", &[&[("status", T::Choice(words), "The state.")]])
}

fn health(summary: &'static str, about: &str, words: &'static [&'static str]) -> Op {
    Op::new("Health", summary).ok(about, &state(words))
}

/// A body that takes these fields and no others.
fn closed(fields: &Table, required: &[&str]) -> Value {
    let mut schema = json!({
        "type": "object", "properties": properties(fields), "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}
