//! Records of attempts: one each, complete, and their sums.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::books::{
    Books, COST, Key, PRICE, TOKENS, chat_as, dollars, guarded, priced, question, start, streamed,
    used,
};
use crate::client::{PATIENCE, Request, Response, send};
use crate::faults::failed;
use crate::harness::{Gateway, STOP, role, serving, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};

/// Begins a chat request as the holder of a key; the answer's head has come when this returns.
async fn open_as(gateway: &Gateway, key: &Key, body: &Value, headers: &[(&str, &str)]) -> Response {
    let bearer = format!("Bearer {}", key.secret);
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    gateway.send("POST", "/v1/chat/completions", &all, body.to_string().as_bytes()).await
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A model named as its provider, at the usual price.
fn model(vendor: &Vendor, name: &str) -> Value {
    serving(
        vendor,
        name,
        json!({"name": name, "input_cost_per_token": 0, "output_cost_per_token": PRICE}),
    )
}

#[tokio::test]
async fn a_record_tells_all_about_its_attempt() {
    for books in Books::both().await {
        let (vendor, gateway) = start(&books, json!({})).await;
        gateway
            .manage(
                "/organization/new",
                &json!({"organization_id": "o", "organization_alias": "O"}),
            )
            .await;
        gateway.manage("/team/new", &json!({"team_id": "t", "organization_id": "o"})).await;
        gateway.manage("/user/new", &json!({"user_id": "u"})).await;
        let key = gateway.key(json!({"team_id": "t", "user_id": "u"})).await;
        for stream in [false, true] {
            vendor.script("v", [if stream { streamed(10, TOKENS) } else { used(10, TOKENS) }]);
            let id = format!("told-{stream}");
            let body = with(question(), json!({"stream": stream, "tags": ["red", "blue"]}));
            let headers = [("x-request-id", id.as_str())];
            let response = chat_as(gateway.address, &key.secret, &body, &headers).await;
            assert_eq!(response.status, 200, "{}", response.text());
            gateway.settled().await;
            let rows = books.records_of(&gateway, &id).await;
            assert_eq!(rows.len(), 1, "{rows:?}");
            let row = &rows[0];
            for (name, value) in [
                ("token_id", json!(key.id)),
                ("team_id", json!("t")),
                ("user_id", json!("u")),
                ("organization_id", json!("o")),
                ("model", json!("m")),
                ("upstream_model", json!("m")),
                ("deployment_id", json!("v/m")),
                ("provider", json!("v")),
                ("attempt", json!(1)),
                ("status", json!("success")),
                ("status_code", json!(200)),
                ("error_code", json!(null)),
                ("prompt_tokens", json!(10)),
                ("completion_tokens", json!(TOKENS)),
                ("total_tokens", json!(10 + TOKENS)),
                ("cached_tokens", json!(0)),
                ("spend", json!(COST)),
            ] {
                assert_eq!(row[name], value, "{name}: {row}");
            }
            // SQLite has numbers for flags and texts for lists.
            let flag = |name: &str| row[name] == json!(true) || row[name] == json!(1);
            assert_eq!((flag("stream"), flag("cache_hit")), (stream, false), "{row}");
            let tags = row["request_tags"].as_str().map_or_else(
                || row["request_tags"].clone(),
                |text| serde_json::from_str(text).unwrap(),
            );
            assert_eq!(tags, json!(["red", "blue"]), "{row}");
            assert!(row["start_time"].as_i64() <= row["end_time"].as_i64(), "{row}");
            assert_eq!(row["time_to_first_token_ms"].is_null(), !stream, "{row}");
            assert_ne!(row["id"], json!(id), "its id is ours");
            if !stream {
                let told: Value =
                    serde_json::from_str(response.header("x-llmux-response-cost").unwrap())
                        .unwrap();
                assert_eq!(told, dollars(COST));
            }
        }
    }
}

#[tokio::test]
async fn each_attempt_has_a_record_and_failed_ones_cost_nothing() {
    let books = Books::Sqlite;
    let vendor = Vendor::start().await;
    vendor.script("first", [failed(500), failed(503), failed(500), failed(500)]);
    vendor.script("second", [failed(500), used(10, TOKENS)]);
    let mut configuration = guarded(vec![model(&vendor, "first"), model(&vendor, "second")]);
    configuration["routing"] = json!({"retry_count": 5, "retry_backoff": "1ms", "allowed_fails": 1000, "fallbacks": {"first": ["second"]}});
    let gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": 1})).await;
    let body = with(question(), json!({"model": "first"}));
    let headers = [("x-request-id", "one")];
    let response = chat_as(gateway.address, &key.secret, &body, &headers).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let calls = vendor.seen_in_all();
    assert_eq!(response.header("x-llmux-attempts"), Some(calls.to_string().as_str()));
    gateway.settled().await;
    let rows = books.records_of(&gateway, "one").await;
    assert_eq!(rows.len(), calls, "{rows:?}");
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row["attempt"], json!(number + 1), "{row}");
        assert_eq!(row["token_id"], json!(key.id), "{row}");
        let last = number + 1 == rows.len();
        assert_eq!(row["status"] == "success", last, "{row}");
        assert_eq!(row["spend"], json!(if last { COST } else { 0 }), "{row}");
        assert_eq!(row["status_code"].as_i64().unwrap() >= 500, !last, "{row}");
        assert_eq!(row["error_code"].is_null(), last, "{row}");
    }
    assert_eq!(rows[0]["deployment_id"], "first/first");
    assert_eq!(rows.last().unwrap()["deployment_id"], "second/second");
    let days = books.query(&gateway, "SELECT SUM(api_requests) AS requests, SUM(attempts) AS attempts, SUM(failed_attempts) AS failed, SUM(spend) AS spend FROM daily_usage").await;
    assert_eq!(
        days[0],
        json!({"requests": 1, "attempts": calls, "failed": calls - 1, "spend": COST})
    );
    assert_eq!(books.spent(&gateway, &key.id).await, [COST; 3]);
}

#[tokio::test]
async fn a_stream_that_is_cut_has_a_record_and_costs_what_came() {
    let books = Books::Sqlite;
    let (vendor, gateway) = start(&books, json!({})).await;
    let key = gateway.key(json!({"max_budget": 1})).await;
    let body = with(question(), json!({"stream": true}));
    let words = data(&text("forty bytes of text are about ten tokens"));
    for (id, last) in [("vendor-cuts", Step::Cut), ("client-leaves", Step::Hang)] {
        vendor.script("v", [Reply::stream(vec![data(&role()), words.clone(), last])]);
        let mut response = open_as(&gateway, &key, &body, &[("x-request-id", id)]).await;
        assert_eq!(response.status, 200);
        while !response.text().contains("forty bytes") {
            response.next_event().await.expect("the text comes");
        }
        if id == "vendor-cuts" {
            assert!(response.finish().await, "the body ends properly");
            assert!(!response.text().contains("[DONE]"));
        }
        drop(response);
        vendor.abandoned(usize::from(id == "client-leaves")).await;
        gateway.settled().await;
        let rows = books.records_of(&gateway, id).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_ne!(rows[0]["status"], "success", "{rows:?}");
        // 40 bytes, a quarter each.
        assert_eq!(rows[0]["spend"], json!(10 * 123), "{rows:?}");
        assert_eq!(rows[0]["completion_tokens"], 10, "{rows:?}");
    }
    assert_eq!(books.spent(&gateway, &key.id).await, [20 * 123; 3]);
}

#[tokio::test]
async fn a_client_that_leaves_before_any_output_leaves_a_record_without_a_cost() {
    let books = Books::Sqlite;
    let (vendor, gateway) = start(&books, json!({})).await;
    vendor.script("v", [Reply::silent()]);
    let key = gateway.key(json!({"max_budget": 1})).await;
    for (number, stream) in [false, true].into_iter().enumerate() {
        let body = with(question(), json!({"stream": stream})).to_string();
        let bearer = format!("Bearer {}", key.secret);
        let headers = [("authorization", bearer.as_str()), ("x-request-id", "left")];
        let request = Request {
            method: "POST",
            path: "/v1/chat/completions",
            headers: &headers,
            body: body.as_bytes(),
        };
        let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &request.bytes(gateway.address))
            .await
            .unwrap();
        vendor.arrived("v", number + 1).await;
        drop(socket);
        vendor.abandoned(number + 1).await;
        gateway.settled().await;
        let rows = books.records_of(&gateway, "left").await;
        assert_eq!(rows.len(), number + 1, "{rows:?}");
        assert!(rows.iter().all(|row| row["spend"] == 0 && row["status"] != "success"), "{rows:?}");
    }
    assert_eq!(books.spent(&gateway, &key.id).await, [0; 3]);
}

#[tokio::test]
async fn a_constant_request_id_is_charged_each_time() {
    for books in Books::both().await {
        let (_vendor, gateway) = start(&books, json!({})).await;
        let key = gateway.key(json!({"max_budget": dollars(COST * 5)})).await;
        let other = gateway.key(json!({})).await;
        let headers = [("x-request-id", "always-the-same")];
        let ask =
            async |key: &Key| chat_as(gateway.address, &key.secret, &question(), &headers).await;
        for _ in 0..5 {
            let response = ask(&key).await;
            assert_eq!(
                (response.status, response.header("x-request-id")),
                (200, Some("always-the-same"))
            );
        }
        assert_eq!(ask(&key).await.status, 402);
        assert_eq!(ask(&other).await.status, 200, "another tenant's call with that id");
        gateway.settled().await;
        assert_eq!(books.records_of(&gateway, "always-the-same").await.len(), 6);
        assert_eq!(books.spent(&gateway, &key.id).await, [COST * 5; 3]);
        assert_eq!(books.spent(&gateway, &other.id).await, [COST; 3]);
    }
}

#[tokio::test]
async fn a_call_costs_the_same_however_its_model_is_spelled() {
    let books = Books::Sqlite;
    let vendor = Vendor::start().await;
    let mut provider = serving(&vendor, "v", priced());
    provider["models"] = json!([
        {"name": "alias", "upstream": "gpt-4o"},
        "gpt-4o",
        "*",
        {"name": "own", "upstream": "gpt-4o", "input_cost_per_token": 0, "output_cost_per_token": PRICE},
    ]);
    let gateway = Gateway::start(guarded(vec![provider])).await;
    let key = gateway.key(json!({"max_budget": 100})).await;
    // 10 x 2.5e-6 + 100 x 1e-5
    let table = 1_025_000;
    let (mut sum, mut number) = (0, 0);
    for (name, cost) in [
        ("gpt-4o", table),
        ("v/gpt-4o", table),
        ("alias", table),
        ("v/alias", table),
        ("own", COST),
        ("v/own", COST),
        // Through the wildcard, 10 x 1.5e-7 + 100 x 6e-7.
        ("gpt-4o-mini", 61_500),
        ("v/gpt-4o-mini", 61_500),
    ] {
        for stream in [false, true] {
            vendor.script("v", [if stream { streamed(10, TOKENS) } else { used(10, TOKENS) }]);
            number += 1;
            let id = format!("spelled-{number}");
            let body = with(question(), json!({"model": name, "stream": stream}));
            let headers = [("x-request-id", id.as_str())];
            let response = chat_as(gateway.address, &key.secret, &body, &headers).await;
            assert_eq!(response.status, 200, "{name}: {}", response.text());
            gateway.settled().await;
            let rows = books.records_of(&gateway, &id).await;
            assert_eq!(rows[0]["spend"], json!(cost), "{name}, stream {stream}: {rows:?}");
            sum += cost;
        }
    }
    assert_eq!(books.spent(&gateway, &key.id).await, [sum; 3]);
}

#[tokio::test]
async fn refused_requests_have_no_records() {
    let books = Books::Sqlite;
    let (vendor, gateway) = start(&books, json!({})).await;
    for (fields, status) in [
        (json!({"max_budget": 0}), 402),
        (json!({"rpm_limit": 0}), 429),
        (json!({"models": ["other"]}), 403),
        (json!({"blocked": true}), 401),
    ] {
        let key = gateway.key(fields).await;
        assert_eq!(gateway.chat_as(&key, &question()).await.status, status);
    }
    let key = gateway.key(json!({})).await;
    assert_eq!(
        gateway.chat_as(&key, &with(question(), json!({"model": "unknown"}))).await.status,
        404
    );
    assert_eq!(gateway.chat_as(&key, &json!({"messages": []})).await.status, 400);
    gateway.settled().await;
    assert_eq!((books.records(&gateway).await.len(), vendor.seen_in_all()), (0, 0));
}

#[tokio::test]
async fn when_a_gateway_is_told_to_stop_all_records_are_in_the_database() {
    for books in Books::both().await {
        let vendor = Vendor::start().await;
        let gate = Gate::new();
        vendor.script("v", [used(10, TOKENS)]);
        let events = [role(), text("hello"), STOP.to_owned()].map(|event| data(&event));
        let [opening, words, stop] = events;
        let usage = format!(
            r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"served","choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":{TOKENS},"total_tokens":{}}}}}"#,
            10 + TOKENS
        );
        vendor.script(
            "s",
            [Reply::stream(vec![
                opening,
                words,
                Step::Gate(gate.clone()),
                stop,
                data(&usage),
                data("[DONE]"),
            ])],
        );
        let providers = vec![serving(&vendor, "v", priced()), model(&vendor, "s")];
        let mut gateway = Gateway::start(books.configure(guarded(providers))).await;
        let key = gateway.key(json!({"max_budget": 1})).await;
        let body = with(question(), json!({"model": "s", "stream": true}));
        let mut streams = Vec::new();
        for _ in 0..5 {
            let mut response = open_as(&gateway, &key, &body, &[]).await;
            assert!(response.next_event().await.is_some());
            streams.push(response);
        }
        for response in gateway.crowd(std::slice::from_ref(&key), 30, &question()).join_all().await
        {
            assert_eq!(response.status, 200);
        }
        gateway.terminate();
        for _ in 0..5 {
            gate.open();
        }
        for stream in streams {
            assert!(stream.whole().await.text().contains("[DONE]"), "streams come to their end");
        }
        assert_eq!(gateway.exit_code(), Some(0));
        let records = books.records(&gateway).await;
        assert_eq!(records.len(), 35);
        assert!(records.iter().all(|row| row["status"] == "success"), "{records:?}");
        assert_eq!(books.spent(&gateway, &key.id).await, [COST * 35; 3]);
    }
}

fn wall_clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

#[tokio::test]
async fn old_records_go_and_their_sums_stay() {
    let books = Books::Sqlite;
    let (_vendor, mut gateway) = start(&books, json!({"spend": {"retention": "1s"}})).await;
    let key = gateway.key(json!({"max_budget": 1})).await;
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    gateway.settled().await;
    let ended = books.number(&gateway, "SELECT end_time FROM usage_records").await;
    while wall_clock() < ended + 1000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // They are looked for at each start, and each hour.
    gateway.kill();
    gateway = gateway.revive().await;
    let deadline = Instant::now() + PATIENCE;
    while !books.records(&gateway).await.is_empty() {
        assert!(Instant::now() < deadline, "the record is a second old and stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(books.spent(&gateway, &key.id).await, [COST, 0, COST]);
}

#[tokio::test]
async fn keys_in_use_are_not_read_from_the_database() {
    for books in Books::both().await {
        let (_vendor, gateway) = start(&books, json!({})).await;
        let key = gateway.key(json!({"max_budget": 1, "rpm_limit": 10_000})).await;
        assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
        let reads = gateway.state().await["keys"]["reads"].clone();
        assert!(reads.is_u64(), "{reads}");
        for response in gateway.crowd(std::slice::from_ref(&key), 100, &question()).join_all().await
        {
            assert_eq!(response.status, 200);
        }
        assert_eq!(gateway.state().await["keys"]["reads"], reads);
    }
}

const REQUESTS: usize = 10_000;

/// Sends one request of the mixed load.
async fn one_of_many(address: std::net::SocketAddr, key: &Key, number: usize) {
    let name = ["ok", "ok", "stream", "bad", "cut", "half", "silent", "hang"][number % 8];
    let stream =
        matches!(name, "stream" | "half" | "hang") || number.is_multiple_of(3) && name != "ok";
    let body = with(question(), json!({"model": name, "stream": stream})).to_string();
    let bearer = format!("Bearer {}", key.secret);
    let mut headers = vec![("authorization", bearer.as_str())];
    let leaves = number.is_multiple_of(5) && matches!(name, "silent" | "hang");
    if matches!(name, "silent" | "hang") && !leaves {
        headers.push(("x-llmux-timeout", "30ms"));
    }
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &headers,
        body: body.as_bytes(),
    };
    if leaves && name == "silent" {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &request.bytes(address)).await.unwrap();
        // It leaves at any moment.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..10))).await;
        return;
    }
    let mut response = send(address, &request).await;
    if leaves {
        response.next_event().await;
        return;
    }
    response.finish().await;
    let text = response.text();
    match name {
        "ok" => assert_eq!(response.status, 200, "{text}"),
        "stream" => assert!(response.status == 200 && text.contains("[DONE]"), "{text}"),
        "bad" | "cut" => assert_eq!(response.status, 502, "{text}"),
        "silent" => assert_eq!(response.status, 504, "{text}"),
        // The time may be over before the first output has come.
        "hang" if response.status == 504 => {}
        _ => assert!(response.status == 200 && !text.contains("[DONE]"), "{text}"),
    }
}

async fn mixed_load(books: Books) {
    let vendor = Vendor::start().await;
    let words = data(&text("forty bytes of text are about ten tokens"));
    for (name, reply) in [
        ("ok", used(10, TOKENS)),
        ("stream", streamed(10, TOKENS)),
        ("bad", failed(500)),
        ("cut", Reply::json(200, "{}").after(Step::Cut)),
        ("half", Reply::stream(vec![words.clone(), Step::Cut])),
        ("silent", Reply::silent()),
        ("hang", Reply::stream(vec![words, Step::Hang])),
    ] {
        vendor.script(name, [reply]);
    }
    let names = ["ok", "stream", "bad", "cut", "half", "silent", "hang"];
    let mut configuration = guarded(names.map(|name| model(&vendor, name)).to_vec());
    configuration["routing"] = json!({"retry_count": 0, "allowed_fails": 1_000_000});
    configuration["logging"] = json!({"level": "warn"});
    let gateway = Arc::new(Gateway::start(books.configure(configuration)).await);
    gateway
        .manage(
            "/team/new",
            &json!({"team_id": "t", "max_budget": 1000, "tpm_limit": 1_000_000_000}),
        )
        .await;
    gateway
        .manage(
            "/user/new",
            &json!({"user_id": "u", "max_budget": 1000, "max_parallel_requests": 1000}),
        )
        .await;
    let key = gateway
        .key(json!({"team_id": "t", "user_id": "u", "max_budget": 1000, "rpm_limit": 1_000_000, "model_max_budget": {"ok": 1000}}))
        .await;
    let mut crowd = JoinSet::new();
    for client in 0..40 {
        let (address, key) = (gateway.address, key.clone());
        crowd.spawn(async move {
            for number in 0..REQUESTS / 40 {
                one_of_many(address, &key, number * 40 + client + number).await;
            }
        });
    }
    crowd.join_all().await;
    gateway.settled().await;
    for name in names {
        let state = gateway.state_of(&format!("{name}/{name}")).await;
        assert_eq!(state["in_flight"], 0, "{state}");
    }
    let spent = books.spent(&gateway, &key.id).await;
    assert!(spent[0] > COST * 500, "{spent:?}");
    assert_eq!(spent, [spent[0]; 3], "the key's spend, its records', its days'");
    for (table, clause) in [("teams", "team_id = 't'"), ("users", "user_id = 'u'")] {
        let sql = format!("SELECT spend FROM {table} WHERE {clause}");
        assert_eq!(books.number(&gateway, &sql).await, spent[0], "{table}");
    }
    let totals = "SELECT CAST(SUM(spend) AS BIGINT) AS n FROM daily_totals";
    assert_eq!(books.number(&gateway, totals).await, spent[0]);
    for name in names {
        let count = |more: &str| {
            format!("SELECT COUNT(*) AS n FROM usage_records WHERE model = '{name}'{more}")
        };
        let calls = vendor.seen(name).len() as i64;
        let records = books.number(&gateway, &count("")).await;
        let each = REQUESTS as i64 / 8;
        match name {
            // A kept connection that turns out to be dead is no attempt: the request goes out again.
            "cut" => assert!(records == each && calls >= each, "{records}, {calls} calls"),
            // Time may be over, and the client gone, before the vendor has read the request.
            "silent" | "hang" => {
                assert!((calls..=each).contains(&records), "{name}: {records}, {calls} calls");
            }
            _ => assert_eq!(records, calls, "records of {name}"),
        }
        let good = if matches!(name, "ok" | "stream") { calls } else { 0 };
        assert_eq!(books.number(&gateway, &count(" AND status = 'success'")).await, good, "{name}");
        let costing = books.number(&gateway, &count(" AND spend > 0")).await;
        match name {
            "bad" | "cut" | "silent" => assert_eq!(costing, 0, "{name}"),
            "hang" => assert!(costing > 0, "{name}"),
            _ => assert_eq!(costing, calls, "{name}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_thousands_of_mixed_outcomes_nothing_is_reserved_and_all_sums_agree_in_sqlite() {
    mixed_load(Books::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_thousands_of_mixed_outcomes_nothing_is_reserved_and_all_sums_agree_in_postgresql() {
    mixed_load(Books::postgres().await).await;
}

#[tokio::test]
async fn what_is_deleted_while_its_calls_are_out_still_gets_their_records() {
    for books in Books::both().await {
        let (vendor, gateway) = start(&books, json!({})).await;
        let gate = Gate::new();
        vendor.script("v", [used(10, TOKENS).after(Step::Gate(gate.clone()))]);
        gateway.manage("/team/new", &json!({"team_id": "t", "max_budget": 1})).await;
        gateway.manage("/team/new", &json!({"team_id": "stays", "max_budget": 1})).await;
        let gone = gateway.key(json!({"team_id": "t", "max_budget": 1})).await;
        let replaced = gateway.key(json!({"team_id": "stays", "max_budget": 1})).await;
        let deleted = gateway.key(json!({"team_id": "stays", "max_budget": 1})).await;
        let keys = [gone.clone(), replaced.clone(), deleted.clone()];
        let crowd = gateway.crowd(&keys, 9, &question());
        vendor.arrived("v", 9).await;
        gateway.manage("/team/delete", &json!({"team_ids": ["t"]})).await;
        gateway.manage("/key/regenerate", &json!({"key": replaced.secret})).await;
        gateway.manage("/key/delete", &json!({"keys": [deleted.secret]})).await;
        for _ in 0..9 {
            gate.open();
        }
        for response in crowd.join_all().await {
            assert_eq!(response.status, 200, "{}", response.text());
        }
        gateway.settled().await;
        for key in &keys {
            let [_, records, days] = books.spent(&gateway, &key.id).await;
            assert_eq!((records, days), (COST * 3, COST * 3), "{key:?}");
        }
        assert_eq!(books.spent(&gateway, &replaced.id).await, [COST * 3; 3]);
        let team = "SELECT spend FROM teams WHERE team_id = 'stays'";
        assert_eq!(books.number(&gateway, team).await, COST * 6);
        let aside = gateway.data().join("spool/rejected.jsonl");
        assert!(!aside.exists(), "no record is put aside");
    }
}

#[tokio::test]
async fn the_end_user_of_a_record_is_the_user_of_the_request() {
    let books = Books::Sqlite;
    let (_vendor, gateway) = start(&books, json!({})).await;
    let key = gateway.key(json!({})).await;
    let body = with(question(), json!({"user": "end"}));
    assert_eq!(gateway.chat_as(&key, &body).await.status, 200);
    gateway.settled().await;
    assert_eq!(books.records(&gateway).await[0]["end_user"], "end");
}
