//! The response cache: what is kept, for whom, in which forms, and what it costs.

use std::time::Instant;

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::client::{PATIENCE, Response};
use crate::control::managed;
use crate::fixtures::fixtures;
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, chunk, once, role, serving, text};
use crate::replay::{Reply, Step, Vendor, data};

/// A configuration with the cache on, and models of known prices that are called as the vendor's scripts.
pub(crate) fn caching(vendor: &Vendor, models: &[&str], cache: Value) -> Value {
    let priced = |name: &str| json!({"name": name, "input_cost_per_token": 0.000_001, "output_cost_per_token": 0.000_01});
    let providers = models.iter().map(|name| serving(vendor, name, priced(name))).collect();
    let mut configuration = managed(providers, json!({"retry_count": 0}));
    configuration["cache"] = cache;
    configuration["cache"]["enabled"] = json!(true);
    configuration
}

/// A gateway of model `m`, whose vendor answers whole.
async fn whole(cache: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(caching(&vendor, &["m"], cache)).await;
    (vendor, gateway)
}

/// The events of a stream that says "hello there" and tells its usage.
pub(crate) fn events() -> Vec<Step> {
    let texts = [role(), text("hello"), text(" there")];
    let ends = [STOP, USAGE, "[DONE]"].map(str::to_owned);
    texts.iter().chain(&ends).map(|event| data(event)).collect()
}

pub(crate) fn with(mut body: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A chat request of `m` for a stream.
pub(crate) fn stream() -> Value {
    with(ask("m"), json!({"stream": true}))
}

impl Response {
    #[track_caller]
    pub(crate) fn assert_cache(&self, wanted: &str) {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("x-llmux-cache"), Some(wanted), "{:?}", self.headers);
    }
}

impl Gateway {
    /// Makes a chat request with headers.
    async fn asked(&self, body: &Value, headers: &[(&str, &str)]) -> Response {
        let body = body.to_string();
        let sent = self.send("POST", "/v1/chat/completions", headers, body.as_bytes());
        sent.await.whole().await
    }

    /// Waits until there are so many usage records, and returns them, newest first.
    pub(crate) async fn records(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let list = self.administer("GET", "/spend/logs?page_size=1000", "").await.json();
            if list["total"] == count {
                return list["data"].as_array().unwrap().clone();
            }
            assert!(start.elapsed() < PATIENCE, "no {count} records: {list}");
        }
    }

    pub(crate) async fn stats(&self) -> Value {
        let response = self.administer("GET", "/cache/stats", "").await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }
}

#[tokio::test]
async fn the_same_question_is_asked_once() {
    let (vendor, gateway) = whole(json!({})).await;
    let first = gateway.chat(&ask("m")).await;
    first.assert_cache("miss");
    assert_eq!(first.header("x-llmux-response-cost"), Some("0.000023"));
    let again = r#" {"messages":[{"content":"\u0068i","role":"user"}],"model":"m"}"#;
    let second = gateway.post("/chat/completions", again).await;
    second.assert_cache("hit");
    assert_eq!(second.text(), first.text());
    assert_eq!(second.header("content-type"), Some("application/json"));
    assert_eq!(second.header("x-llmux-response-cost"), Some("0"));
    for name in ["x-llmux-deployment", "x-llmux-attempts", "x-llmux-provider"] {
        assert_eq!(second.header(name), None);
        assert!(first.header(name).is_some());
    }
    assert_eq!(vendor.seen("m").len(), 1);
    let other = with(ask("m"), json!({"seed": 1}));
    gateway.chat(&other).await.assert_cache("miss");
    gateway.chat(&other).await.assert_cache("hit");
    assert_eq!(vendor.seen("m").len(), 2);
}

#[tokio::test]
async fn without_the_cache_nothing_is_said_of_it() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(managed(vec![serving(&vendor, "m", json!("m"))], json!({}))).await;
    for _ in 0..2 {
        let body = with(ask("m"), json!({"cache": {"anything": "goes"}}));
        let response = gateway.asked(&body, &[("x-llmux-cache", "whatever")]).await;
        assert_eq!((response.status, response.header("x-llmux-cache")), (200, None));
    }
    assert_eq!(vendor.seen("m").len(), 2);
    assert!(vendor.seen("m")[0].json().get("cache").is_none());
    assert_eq!(gateway.stats().await["tiers"], json!([]));
    let flushed = gateway.administer("POST", "/cache/flush", "").await;
    assert_eq!(flushed.json(), json!({"removed": 0, "complete": true}));
}

#[tokio::test]
async fn a_hit_is_recorded_and_costs_nothing_but_a_request() {
    let (_vendor, gateway) = whole(json!({})).await;
    let body = with(ask("m"), json!({"max_tokens": 10}));
    let limits = json!({"rpm_limit": 3, "tpm_limit": 1000, "max_budget": 1});
    let key = gateway.key(limits).await;
    let headers = [("x-api-key", key.secret.as_str()), ("x-request-id", "the-hit")];
    let left = |response: &Response, what: &str| {
        response.header(&format!("x-ratelimit-remaining-{what}")).unwrap().to_owned()
    };
    let first = gateway.asked(&body, &headers[..1]).await;
    first.assert_cache("miss");
    let hit = gateway.asked(&body, &headers).await;
    hit.assert_cache("hit");
    assert_eq!(left(&hit, "requests"), "1");
    let third = gateway.asked(&body, &headers[..1]).await;
    // The first one used 5 tokens; each holds its estimate only while it is under way.
    assert_eq!(
        (left(&third, "requests").as_str(), left(&third, "tokens")),
        ("0", left(&hit, "tokens"))
    );
    assert_eq!(gateway.asked(&body, &headers[..1]).await.status, 429);

    let rows = gateway.records(3).await;
    let row = rows.iter().find(|row| row["request_id"] == "the-hit").unwrap();
    for (name, value) in [
        ("cache_hit", json!(true)),
        ("attempt", json!(0)),
        ("spend", json!(0)),
        ("status", json!("success")),
        ("prompt_tokens", json!(3)),
        ("completion_tokens", json!(2)),
        ("total_tokens", json!(5)),
        ("model", json!("m")),
        ("api_key", json!(key.id)),
        ("deployment_id", Value::Null),
        ("call_type", json!("chat_completion")),
    ] {
        assert_eq!(row[name], value, "{name}: {row}");
    }
    let days = gateway.administer("GET", "/spend/logs?summarize=true", "").await.json();
    let day = &days["data"][0];
    assert_eq!((&day["api_requests"], &day["cache_hits"]), (&json!(3), &json!(2)), "{day}");
    assert_eq!(day["spend"], json!(0.000_023));
    let line = gateway.logged("the-hit");
    assert_eq!(
        (&line["cache"], &line["cost"], &line["attempts"]),
        (&json!("hit"), &json!(0), &json!(0)),
        "{line}"
    );
    assert_eq!((&line["prompt_tokens"], &line["outcome"]), (&json!(3), &json!("ok")), "{line}");
}

#[tokio::test]
async fn keys_share_as_far_as_the_scope_goes() {
    for (scope, shared) in [("key", 0), ("team", 1), ("organization", 2), ("global", 4)] {
        let (vendor, gateway) = whole(json!({"scope": scope})).await;
        for (path, body) in [
            ("/organization/new", json!({"organization_id": "o", "organization_alias": "o"})),
            ("/team/new", json!({"team_id": "t", "organization_id": "o"})),
            ("/team/new", json!({"team_id": "u", "organization_id": "o"})),
        ] {
            let made = gateway.administer("POST", path, &body.to_string()).await;
            assert_eq!(made.status, 200, "{}", made.text());
        }
        let mut keys = Vec::new();
        for body in [
            json!({"team_id": "t"}),
            json!({"team_id": "t"}),
            json!({"team_id": "u"}),
            json!({}),
            json!({}),
        ] {
            keys.push(gateway.key(body).await.secret);
        }
        for key in &keys {
            gateway.asked(&ask("m"), &[("x-api-key", key)]).await;
        }
        assert_eq!(vendor.seen("m").len(), keys.len() - shared, "{scope}");
        for key in &keys {
            gateway.asked(&ask("m"), &[("x-api-key", key)]).await.assert_cache("hit");
        }
        // The master key and those without one are askers of their own.
        let own = if scope == "global" { "hit" } else { "miss" };
        gateway.asked(&ask("m"), &[("x-api-key", MASTER)]).await.assert_cache(own);
        gateway.chat(&ask("m")).await.assert_cache(own);
        gateway.chat(&ask("m")).await.assert_cache("hit");
    }
}

#[tokio::test]
async fn a_client_may_ask_for_less() {
    let (vendor, gateway) = whole(json!({})).await;
    let chat = async |header: Option<&str>, body: Value| {
        let header = header.map(|value| ("x-llmux-cache", value));
        let headers: Vec<_> = header.into_iter().collect();
        gateway.asked(&with(ask("m"), body), &headers).await
    };
    chat(Some("no-store"), json!({})).await.assert_cache("miss");
    chat(None, json!({"cache": {"no-store": true}})).await.assert_cache("miss");
    chat(Some("ttl=0"), json!({})).await.assert_cache("miss");
    chat(None, json!({})).await.assert_cache("miss");
    assert_eq!(vendor.seen("m").len(), 4);
    chat(Some("no-store"), json!({})).await.assert_cache("hit");
    assert_eq!(vendor.seen("m").len(), 4);
    let newer = ANSWER.replace("hello", "newer");
    vendor.script("m", [Reply::json(200, &newer)]);
    chat(None, json!({"cache": {"no-cache": true}})).await.assert_cache("bypass");
    let hit = chat(None, json!({})).await;
    hit.assert_cache("hit");
    assert!(hit.text().contains("newer"), "a new answer takes the old one's place");
    for seen in vendor.seen("m") {
        assert!(seen.json().get("cache").is_none() && seen.header("x-llmux-cache").is_none());
    }
    for (header, body, param) in [
        (Some("max-age=1"), json!({}), "x-llmux-cache"),
        (Some("ttl=-1"), json!({}), "x-llmux-cache"),
        (None, json!({"cache": {"ttl": "1h"}}), "cache"),
        (None, json!({"cache": true}), "cache"),
    ] {
        let response = chat(header, body).await;
        response.assert_error(400, "invalid_request_error", None);
        assert_eq!(response.error()["param"], param);
    }
}

#[tokio::test]
async fn an_answer_expires_however_often_it_is_given() {
    let (vendor, gateway) = whole(json!({"ttl": "1s"})).await;
    let start = Instant::now();
    gateway.chat(&ask("m")).await.assert_cache("miss");
    let mut hits = 0;
    loop {
        let response = gateway.chat(&ask("m")).await;
        if response.header("x-llmux-cache") == Some("miss") {
            break;
        }
        hits += 1;
        assert!(start.elapsed() < PATIENCE, "it never expires while it is used");
    }
    assert!(hits > 0);
    assert_eq!(vendor.seen("m").len(), 2);

    // A client may want less time, not more.
    let body = with(ask("m"), json!({"seed": 1, "cache": {"ttl": 3600}}));
    gateway.chat(&body).await.assert_cache("miss");
    while gateway.chat(&body).await.header("x-llmux-cache") != Some("miss") {
        assert!(start.elapsed() < PATIENCE, "the client's time counts");
    }
}

#[tokio::test]
async fn what_would_be_wrong_to_repeat_is_not_kept() {
    let vendor = Vendor::start().await;
    let answer = |from: &str, to: &str| Reply::json(200, ANSWER.replace(from, to));
    vendor.script(
        "error",
        [Reply::json(
            400,
            r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#,
        )],
    );
    vendor.script("length", [answer(r#""stop""#, r#""length""#)]);
    vendor.script("filter", [answer(r#""stop""#, r#""content_filter""#)]);
    vendor.script("large", [answer("hello", &"x".repeat(5000))]);
    vendor.script("cut", [Reply::stream(vec![data(&text("hi")), Step::Cut])]);
    vendor.script("undone", [Reply::stream(vec![data(&text("hi"))])]);
    vendor.script(
        "told",
        [Reply::stream(vec![data(&text("hi")), data(r#"{"error":{"message":"sorry"}}"#)])],
    );
    let long =
        chunk(r#"{},"x":1"#).replace(r#""finish_reason":null"#, r#""finish_reason":"length""#);
    vendor.script("short", [Reply::stream(vec![data(&text("hi")), data(&long), data("[DONE]")])]);
    let names = ["error", "length", "filter", "large", "cut", "undone", "told", "short"];
    let cache = json!({"memory": {"max_item_bytes": 4096}});
    let gateway = Gateway::start(caching(&vendor, &names, cache)).await;
    for name in names {
        let streamed = ["cut", "undone", "told", "short"].contains(&name);
        for _ in 0..2 {
            let body = with(ask(name), json!({"stream": streamed}));
            let response = gateway.asked(&body, &[]).await;
            assert_eq!(
                response.header("x-llmux-cache"),
                Some("miss"),
                "{name}: {}",
                response.text()
            );
        }
        assert_eq!(vendor.seen(name).len(), 2, "{name}");
    }
    assert_eq!(gateway.stats().await["tiers"][0]["entries"], 0);
}

#[tokio::test]
async fn other_endpoints_pass_by_and_embeddings_and_completions_do_not() {
    let vendor = Vendor::start().await;
    let embeddings = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"served","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let completion = r#"{"id":"c","object":"text_completion","created":1,"model":"served","choices":[{"index":0,"text":"yes","finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    vendor.script("embeddings", [Reply::json(200, embeddings)]);
    vendor.script("completions", [Reply::json(200, completion)]);
    vendor.script("moderations", [Reply::json(200, r#"{"id":"m","model":"served","results":[]}"#)]);
    let gateway =
        Gateway::start(caching(&vendor, &["embeddings", "completions", "moderations"], json!({})))
            .await;
    for (name, results) in [
        ("embeddings", ["miss", "hit"]),
        ("completions", ["miss", "hit"]),
        ("moderations", ["bypass", "bypass"]),
    ] {
        let body = json!({"model": name, "input": "x", "prompt": "x"}).to_string();
        let mut texts = Vec::new();
        for result in results {
            let response = gateway.post(&format!("/v1/{name}"), &body).await;
            response.assert_cache(result);
            texts.push(response.text());
        }
        assert_eq!(texts[0], texts[1]);
    }
    let body =
        json!({"model": "completions", "input": "x", "prompt": "x", "stream": true}).to_string();
    let streamed = gateway.post("/v1/completions", &body).await;
    streamed.assert_cache("hit");
    assert!(
        streamed.text().contains("text_completion")
            && streamed.text().ends_with("data: [DONE]\n\n")
    );
}

/// What the chunks of a stream say together, and their usage.
pub(crate) fn said(response: &Response) -> (String, Vec<Value>) {
    let mut content = String::new();
    let mut usage = Vec::new();
    let items = crate::bytes::items(&response.body);
    assert!(items.last().is_some_and(crate::bytes::Item::is_done), "{}", response.text());
    for item in items {
        let json = item.json();
        content.push_str(json["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        if json["usage"].is_object() {
            usage.push(json["usage"].clone());
        }
    }
    (content, usage)
}

#[tokio::test]
async fn an_answer_leaves_in_the_form_that_is_asked_for() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::stream(events())]);
    vendor.script("w", [Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(caching(&vendor, &["m", "w"], json!({}))).await;
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
    let first = gateway.chat(&stream()).await;
    first.assert_cache("miss");
    assert_eq!(said(&first), ("hello there".to_owned(), vec![]), "usage was not asked for");
    let again = gateway.chat(&stream()).await;
    again.assert_cache("hit");
    assert_eq!(said(&again), ("hello there".to_owned(), vec![]));
    assert!(again.header("content-type").unwrap().starts_with("text/event-stream"));
    assert_eq!(again.header("cache-control"), Some("no-cache"));
    let asking = with(stream(), json!({"stream_options": {"include_usage": true}}));
    let told = gateway.chat(&asking).await;
    told.assert_cache("hit");
    assert_eq!(said(&told), ("hello there".to_owned(), vec![usage.clone()]));
    let unstreamed = gateway.chat(&ask("m")).await;
    unstreamed.assert_cache("hit");
    let json = unstreamed.json();
    assert_eq!(
        json["choices"][0]["message"],
        json!({"role": "assistant", "content": "hello there"})
    );
    assert_eq!(
        (&json["usage"], &json["model"], &json["object"]),
        (&usage, &json!("m"), &json!("chat.completion"))
    );
    assert_eq!(vendor.seen("m").len(), 1);

    let first = gateway.chat(&ask("w")).await;
    first.assert_cache("miss");
    let streamed = gateway
        .chat(&with(ask("w"), json!({"stream": true, "stream_options": {"include_usage": true}})))
        .await;
    streamed.assert_cache("hit");
    assert_eq!(said(&streamed), ("hello".to_owned(), vec![usage]));
    assert_eq!(vendor.seen("w").len(), 1);
}

#[tokio::test]
async fn whoever_has_spent_a_budget_gets_no_hit_either() {
    let (_vendor, gateway) = whole(json!({"scope": "global"})).await;
    gateway.chat(&ask("m")).await.assert_cache("miss");
    let poor = gateway.key(json!({"max_budget": 0})).await.secret;
    assert_eq!(gateway.asked(&ask("m"), &[("x-api-key", &poor)]).await.status, 402);
    let narrow = gateway.key(json!({"models": ["other"]})).await.secret;
    assert_eq!(gateway.asked(&ask("m"), &[("x-api-key", &narrow)]).await.status, 403);
}

#[tokio::test]
async fn tags_divide_the_cache_only_where_they_choose_deployments() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    vendor.script("t", [Reply::json(200, ANSWER)]);
    let tagged = json!({"name": "t", "tags": ["red"]});
    let providers = vec![serving(&vendor, "m", json!("m")), serving(&vendor, "t", tagged)];
    let mut configuration = managed(providers, json!({}));
    configuration["cache"] = json!({"enabled": true});
    let gateway = Gateway::start(configuration).await;
    gateway.chat_with("m", &[]).await.assert_cache("miss");
    gateway.chat_with("m", &[("x-llmux-tags", "red")]).await.assert_cache("hit");
    gateway.chat_with("t", &[]).await.assert_cache("miss");
    gateway.chat_with("t", &[("x-llmux-tags", "red")]).await.assert_cache("miss");
    gateway.chat_with("t", &[("x-llmux-tags", "red")]).await.assert_cache("hit");
    // What a vendor gets beside the body may change its answer.
    gateway.chat_with("m", &[("openai-beta", "new")]).await.assert_cache("miss");
}

#[tokio::test]
async fn answers_are_counted_and_flushed_by_admins() {
    let (vendor, gateway) = whole(json!({"namespace": "mine", "scope": "team", "ttl": "2m"})).await;
    gateway.chat(&ask("m")).await.assert_cache("miss");
    gateway.chat(&ask("m")).await.assert_cache("hit");
    let stats = gateway.stats().await;
    for (name, value) in [
        ("enabled", json!(true)),
        ("type", json!("local")),
        ("scope", json!("team")),
        ("namespace", json!("mine")),
        ("ttl_seconds", json!(120.0)),
    ] {
        assert_eq!(stats[name], value, "{name}");
    }
    let tier = &stats["tiers"][0];
    assert_eq!((&tier["tier"], &tier["entries"]), (&json!("local"), &json!(1)));
    assert_eq!((&tier["hits"], &tier["misses"]), (&json!(1), &json!(1)));
    assert!(tier["bytes"].as_u64().unwrap() > ANSWER.len() as u64);

    let key = gateway.key(json!({})).await.secret;
    for (method, path) in [("GET", "/cache/stats"), ("POST", "/cache/flush")] {
        assert_eq!(gateway.send(method, path, &[], b"").await.whole().await.status, 401);
        let headers = [("x-api-key", key.as_str())];
        assert_eq!(gateway.send(method, path, &headers, b"").await.whole().await.status, 403);
    }
    gateway.chat(&ask("m")).await.assert_cache("hit");
    let flushed = gateway.administer("POST", "/cache/flush", "").await;
    assert_eq!(flushed.json(), json!({"removed": 1, "complete": true}));
    gateway.chat(&ask("m")).await.assert_cache("miss");
    assert_eq!(vendor.seen("m").len(), 2);
    let audit = gateway.administer("GET", "/audit/logs?table_name=cache", "").await.json();
    let entry = &audit["data"][0];
    assert_eq!((&entry["action"], &entry["object_id"]), (&json!("cache flushed"), &json!("mine")));
    assert_eq!(entry["updated_values"], json!({"removed": 1, "complete": true}));
}

#[tokio::test]
async fn recorded_streams_are_given_again_as_they_were() {
    let vendor = Vendor::start().await;
    let chats: Vec<_> = fixtures()
        .iter()
        .filter(|it| it.api == "chat" && it.stream && it.response.status == 200)
        .collect();
    let providers = chats.iter().map(|fixture| fixture.provider(&vendor, "")).collect();
    let mut configuration = once(providers);
    configuration["cache"] = json!({"enabled": true});
    let gateway = Gateway::start(configuration).await;
    let mut hits = 0;
    for fixture in chats {
        let (content_type, body) = fixture.client_request(&fixture.alias());
        let headers = [("content-type", content_type)];
        let ask = async || {
            let path = "/v1/chat/completions";
            gateway.send("POST", path, &headers, &body).await.whole().await
        };
        let (first, second) = (ask().await, ask().await);
        let id = &fixture.id;
        assert_eq!(first.header("x-llmux-cache"), Some("miss"), "{id}");
        let fold = |response: &Response| llmux_cache::fold(llmux_cache::Kind::Chat, &response.body);
        if second.header("x-llmux-cache") == Some("hit") {
            hits += 1;
            let (wanted, got) = (fold(&first).unwrap(), fold(&second).unwrap());
            // Some vendors tell their usage unasked.
            let read = |text: &[u8]| {
                let mut answer: Value = serde_json::from_slice(text).unwrap();
                if !fixture.asks_for_usage() {
                    answer.as_object_mut().unwrap().remove("usage");
                }
                answer
            };
            assert_eq!(read(&got), read(&wanted), "{id}");
        } else {
            // It was not whole: then it is the same once more.
            assert_eq!(second.text(), first.text(), "{id}");
        }
    }
    assert!(hits > 20, "{hits}");
}
