//! Vendors with dialects of their own, asked in OpenAI's: what the client gets is what the vendor meant.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::bytes::items;
use crate::client::Response;
use crate::fixtures::{Fixture, exceptions, mapped, translated};
use crate::harness::{Gateway, once};
use crate::replay::Vendor;
use crate::table;

/// The body that asks for a recording, with our name for the model; `None` if OpenAI's dialect cannot ask for it.
fn client_body(fixture: &Fixture) -> Option<Value> {
    let mut body = fixture.client_request.get("body")?.clone();
    body["model"] = json!(fixture.alias());
    Some(body)
}

/// Vertex's wire form is that of the vendor whose model it is.
fn kind(fixture: &Fixture) -> &'static str {
    if fixture.api == "messages" { "anthropic" } else { "gemini" }
}

fn provider(fixture: &Fixture, vendor: &Vendor) -> Value {
    json!({
        "name": format!("{}-{}", fixture.provider, fixture.id.rsplit('-').next().unwrap_or_default()),
        "type": kind(fixture),
        "api_key": "sk-vendor",
        "base_url": vendor.url(&fixture.id),
        "models": [{"name": fixture.alias(), "upstream": fixture.model.as_deref().unwrap_or("m")}],
    })
}

/// What an answer says, stream or not.
#[derive(Debug, Default)]
struct Said {
    text: Option<String>,
    reasoning: Option<String>,
    calls: Vec<(String, String, String)>,
    finish: Option<String>,
    usage: Value,
}

fn said(response: &Response, stream: bool) -> Result<Said, String> {
    if !stream {
        let body: Value =
            serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
        let choice = &body["choices"][0];
        let message = &choice["message"];
        let call = |call: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (
                text(&call["id"]),
                text(&call["function"]["name"]),
                text(&call["function"]["arguments"]),
            )
        };
        return Ok(Said {
            text: message["content"].as_str().map(str::to_owned),
            reasoning: message["reasoning_content"].as_str().map(str::to_owned),
            calls: message["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
            finish: choice["finish_reason"].as_str().map(str::to_owned),
            usage: body["usage"].clone(),
        });
    }
    folded(response)
}

/// Folds a stream as OpenAI's clients do.
fn folded(response: &Response) -> Result<Said, String> {
    let mut said = Said::default();
    let mut calls: BTreeMap<u64, (String, String, String)> = BTreeMap::new();
    let mut done = 0;
    for item in items(&response.body) {
        if item.data().is_empty() {
            continue;
        }
        if item.is_done() {
            done += 1;
            continue;
        }
        let chunk = item.json();
        if !chunk.is_object() {
            return Err(format!("{item:?} is no chunk"));
        }
        if !chunk["usage"].is_null() {
            said.usage = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        if let Some(text) = delta["content"].as_str().filter(|text| !text.is_empty()) {
            said.text.get_or_insert_default().push_str(text);
        }
        if let Some(text) = delta["reasoning_content"].as_str() {
            said.reasoning.get_or_insert_default().push_str(text);
        }
        if delta["thinking_blocks"].is_array() {
            said.reasoning.get_or_insert_default();
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().ok_or("a call without an index")?;
            let known = calls.entry(index).or_default();
            for (known, part) in [
                (&mut known.0, &call["id"]),
                (&mut known.1, &call["function"]["name"]),
                (&mut known.2, &call["function"]["arguments"]),
            ] {
                known.push_str(part.as_str().unwrap_or_default());
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            if said.finish.is_some() {
                return Err("two finish reasons".into());
            }
            said.finish = Some(reason.to_owned());
        }
    }
    if done != 1 {
        return Err(format!("{done} times [DONE]"));
    }
    said.calls = calls.into_values().collect();
    Ok(said)
}

fn compare(fixture: &Fixture, said: &Said) -> Result<(), String> {
    let expect = &fixture.expect;
    let differs = |what: &str, got: &dyn std::fmt::Debug, want: &Value| {
        Err(format!("{what} is {got:?} instead of {want}"))
    };
    let nothing = |text: Option<&str>| text.unwrap_or_default().is_empty();
    let text = expect["text"].as_str();
    if said.text.as_deref() != text && !(nothing(said.text.as_deref()) && nothing(text)) {
        return differs("text", &said.text, &expect["text"]);
    }
    if said.reasoning.as_deref().unwrap_or_default()
        != expect["reasoning"].as_str().unwrap_or_default()
    {
        return differs("reasoning", &said.reasoning, &expect["reasoning"]);
    }
    let wanted = expect["tool_calls"].as_array().cloned().unwrap_or_default();
    if said.calls.len() != wanted.len() {
        return differs("tool_calls", &said.calls, &expect["tool_calls"]);
    }
    for ((id, name, arguments), want) in said.calls.iter().zip(&wanted) {
        let parsed: Value =
            serde_json::from_str(arguments).map_err(|error| format!("{error}: {arguments:?}"))?;
        let same_id = want["id"].as_str().is_none_or(|want| want == id);
        if id.is_empty() || !same_id || want["name"] != *name || want["arguments"] != parsed {
            return differs("a tool call", &(id, name, arguments), want);
        }
    }
    match expect["finish_reason"].as_str() {
        Some(reason) if said.finish.as_deref() != Some(reason) => {
            return differs("finish_reason", &said.finish, &expect["finish_reason"]);
        }
        None if said.finish.is_none() => {
            return differs("finish_reason", &said.finish, &json!("any"));
        }
        _ => {}
    }
    let usage = &expect["usage"];
    if usage.is_object() {
        for (pointer, name) in [
            ("/prompt_tokens", "prompt_tokens"),
            ("/completion_tokens", "completion_tokens"),
            ("/total_tokens", "total_tokens"),
            ("/prompt_tokens_details/cached_tokens", "cached_tokens"),
            ("/prompt_tokens_details/cache_write_tokens", "cache_creation_tokens"),
            ("/completion_tokens_details/reasoning_tokens", "reasoning_tokens"),
        ] {
            let got = said.usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            if let Some(want) = usage[name].as_u64()
                && got != want
            {
                return differs(name, &got, &usage[name]);
            }
        }
    }
    Ok(())
}

async fn check_chat(fixture: &Fixture, body: Value, gateway: &Gateway) -> Result<(), String> {
    let mut body = body;
    if fixture.stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    let headers = [("content-type", "application/json"), ("x-request-id", fixture.id.as_str())];
    let mut response =
        gateway.send("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await;
    if !response.finish().await {
        return Err("the body was cut".into());
    }
    if fixture.response.status != 200 {
        return check_error(fixture, &response);
    }
    if response.status != 200 {
        return Err(format!("status {}: {}", response.status, response.text()));
    }
    let said = said(&response, fixture.stream)?;
    compare(fixture, &said)?;
    // In the log, too.
    let log = gateway.logged(&fixture.id);
    if let Some(want) = fixture.expect["usage"]["prompt_tokens"].as_u64()
        && log["prompt_tokens"] != want
    {
        return Err(format!(
            "the log says {} prompt tokens instead of {want}",
            log["prompt_tokens"]
        ));
    }
    Ok(())
}

fn check_error(fixture: &Fixture, response: &Response) -> Result<(), String> {
    let body: Value = serde_json::from_slice(&response.body).map_err(|error| error.to_string())?;
    let message = body["error"]["message"].as_str().unwrap_or_default();
    // Google calls a wrong key a bad request.
    let refused_key =
        fixture.response.body.contains("API_KEY_INVALID") || fixture.response.status == 401;
    let status = if refused_key { 502 } else { mapped(fixture.response.status) };
    if response.status != status {
        return Err(format!("status {} instead of {status}: {}", response.status, response.text()));
    }
    let want = fixture.expect["error"]["message"].as_str().unwrap_or_default();
    if !refused_key && message != want {
        return Err(format!("message {message:?} instead of {want:?}"));
    }
    Ok(())
}

async fn check_embeddings(
    fixture: &Fixture,
    body: &Value,
    gateway: &Gateway,
) -> Result<(), String> {
    let response = gateway.post("/v1/embeddings", body.to_string()).await;
    if response.status != 200 {
        return Err(format!("status {}: {}", response.status, response.text()));
    }
    let answer = response.json();
    let want = &fixture.expect["embeddings"];
    let data = answer["data"].as_array().ok_or("no data")?;
    if want["count"].as_u64() != Some(data.len() as u64) {
        return Err(format!("{} embeddings instead of {}", data.len(), want["count"]));
    }
    let first = data[0]["embedding"].as_array().ok_or("no floats")?;
    if want["dimensions"].as_u64() != Some(first.len() as u64) {
        return Err(format!("{} dimensions instead of {}", first.len(), want["dimensions"]));
    }
    for (got, want) in first.iter().zip(want["first4"].as_array().into_iter().flatten()) {
        let (got, want) = (got.as_f64().unwrap_or(9.0), want.as_f64().unwrap_or(-9.0));
        if (got - want).abs() > 1e-6 {
            return Err(format!("{got} instead of {want}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn recorded_answers_of_other_dialects_say_the_same_in_openais() {
    let vendor = Vendor::start().await;
    let asked: Vec<(&Fixture, Value)> =
        translated().iter().filter_map(|fixture| Some((fixture, client_body(fixture)?))).collect();
    let mut configuration =
        once(asked.iter().map(|(fixture, _)| provider(fixture, &vendor)).collect());
    configuration["drop_params"] = json!(true);
    let gateway = Gateway::start(configuration).await;
    let exceptions = exceptions(include_str!("translation_exceptions.txt"));
    let (mut passed, mut complaints) = (Vec::new(), Vec::new());
    for (fixture, body) in &asked {
        let result = if fixture.api == "embeddings" {
            check_embeddings(fixture, body, &gateway).await
        } else {
            check_chat(fixture, body.clone(), &gateway).await
        };
        match (result, exceptions.get(fixture.id.as_str())) {
            (Ok(()), None) => passed.push(*fixture),
            (Ok(()), Some(_)) => {
                complaints.push(format!("{}: is listed as an exception and passes", fixture.id));
            }
            (Err(_), Some(_)) => {}
            (Err(reason), None) => complaints.push(format!("{}: {reason}", fixture.id)),
        }
    }
    writeln!(std::io::stdout(), "translated: {} / {}", passed.len(), asked.len())
        .expect("stdout is open");
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    table::check("translated", passed.into_iter());
}

#[tokio::test]
async fn anthropics_own_dialect_passes_to_anthropic() {
    let vendor = Vendor::start().await;
    let native: Vec<&Fixture> = translated()
        .iter()
        .filter(|fixture| fixture.api == "messages" && fixture.provider == "anthropic")
        .collect();
    assert!(native.len() > 50, "the recordings are there");
    let gateway =
        Gateway::start(once(native.iter().map(|fixture| provider(fixture, &vendor)).collect()))
            .await;
    let mut complaints = Vec::new();
    for fixture in &native {
        if let Err(reason) = check_native(fixture, &gateway, &vendor).await {
            complaints.push(format!("{}: {reason}", fixture.id));
        }
    }
    writeln!(
        std::io::stdout(),
        "native messages: {} / {}",
        native.len() - complaints.len(),
        native.len()
    )
    .expect("stdout is open");
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    table::check("native", native.into_iter());
}

async fn check_native(fixture: &Fixture, gateway: &Gateway, vendor: &Vendor) -> Result<(), String> {
    let recorded = fixture.request.body.as_ref().ok_or("no request body")?;
    let mut body: Value =
        serde_json::from_str(recorded.get()).map_err(|error| error.to_string())?;
    body["model"] = json!(fixture.alias());
    let headers = [("content-type", "application/json"), ("anthropic-beta", "x-2025-01-01")];
    let mut response =
        gateway.send("POST", "/v1/messages", &headers, body.to_string().as_bytes()).await;
    if !response.finish().await {
        return Err("the body was cut".into());
    }
    let seen = vendor.only(&fixture.id);
    for (name, value) in [
        ("x-api-key", "sk-vendor"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "x-2025-01-01"),
    ] {
        if seen.header(name) != Some(value) {
            return Err(format!("{name} is {:?}", seen.header(name)));
        }
    }
    body["model"] = json!(fixture.model);
    if seen.json() != body {
        return Err("the request changed".into());
    }
    if fixture.response.status != 200 {
        let error = response.json();
        if error["type"] != "error" || error["error"]["message"].as_str().is_none() {
            return Err(format!("not Anthropic's envelope: {error}"));
        }
        return Ok(());
    }
    let text = response.text();
    if !text.contains(&fixture.alias()) {
        return Err("the model is not called what the client calls it".into());
    }
    let masked = text.replacen(&fixture.alias(), "", 1);
    let Some(model) = fixture.response.body.split("\"model\":").nth(1) else {
        return Err("no model in the recording".into());
    };
    let vendors = model.trim_start().trim_start_matches('"').split('"').next().unwrap_or_default();
    if fixture.response.body.replacen(vendors, "", 1) != masked {
        return Err("the answer changed".into());
    }
    Ok(())
}
