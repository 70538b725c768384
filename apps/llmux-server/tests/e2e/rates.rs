//! Limits of tenants: requests and tokens a minute, requests at once.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::books::{Books, Key, chat_as, guarded, priced, question, start, streamed, used};
use crate::client::{Request, Response};
use crate::faults::failed;
use crate::harness::{Gateway, serving};
use crate::replay::{Gate, Reply, Step, Vendor};

const CLIENTS: usize = 50;
const LIMIT: usize = 20;

#[track_caller]
fn assert_limited(response: &Response) {
    response.assert_error(429, "rate_limit_error", Some("rate_limit_exceeded"));
    let wait: u64 = response.header("retry-after").expect("it says when").parse().unwrap();
    // No 60 seconds pass more than the limit; what happened within one second may be forgotten together.
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(response.header("x-should-retry"), None, "there is a point in trying again");
}

/// Waits for all answers and counts the good ones; all others were refused for a limit.
async fn answered(crowd: JoinSet<Response>) -> usize {
    let mut good = 0;
    for response in crowd.join_all().await {
        if response.status == 200 {
            good += 1;
        } else {
            assert_limited(&response);
        }
    }
    good
}

fn number(response: &Response, name: &str) -> u64 {
    let value = response.header(name);
    let value = value.unwrap_or_else(|| panic!("no {name} in {:?}", response.headers));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

/// Makes each scope with these fields, and returns three keys in each. The keys of the first scope have the fields themselves: it has one.
async fn scopes(gateway: &Gateway, fields: Value) -> Vec<(&'static str, Vec<Key>)> {
    let with = |more: Value| {
        let mut all = fields.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    gateway.manage("/user/new", &with(json!({"user_id": "u"}))).await;
    gateway.manage("/team/new", &with(json!({"team_id": "t"}))).await;
    let organization = with(json!({"organization_id": "o", "organization_alias": "O"}));
    gateway.manage("/organization/new", &organization).await;
    gateway.manage("/team/new", &json!({"team_id": "in-o", "organization_id": "o"})).await;
    let mut found = vec![("key", vec![gateway.key(fields.clone()).await])];
    for (scope, members) in [
        ("user", [json!({"user_id": "u"}), json!({"user_id": "u"}), json!({"user_id": "u"})]),
        ("team", [json!({"team_id": "t"}), json!({"team_id": "t"}), json!({"team_id": "t"})]),
        (
            "organization",
            [
                json!({"organization_id": "o"}),
                json!({"team_id": "in-o"}),
                json!({"team_id": "in-o", "organization_id": "o"}),
            ],
        ),
    ] {
        let mut keys = Vec::new();
        for member in members {
            keys.push(gateway.key(member).await);
        }
        found.push((scope, keys));
    }
    found
}

#[tokio::test]
async fn exactly_as_many_requests_a_minute_pass_as_each_scope_allows() {
    for books in Books::both().await {
        let (vendor, gateway) = start(&books, json!({})).await;
        for (scope, keys) in scopes(&gateway, json!({"rpm_limit": LIMIT})).await {
            vendor.forget();
            let good = answered(gateway.crowd(&keys, CLIENTS, &question())).await;
            assert_eq!((good, vendor.seen("v").len()), (LIMIT, LIMIT), "{scope}");
        }
    }
}

#[tokio::test]
async fn exactly_as_many_requests_pass_at_once_as_each_scope_allows() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    for (scope, keys) in scopes(&gateway, json!({"max_parallel_requests": 7})).await {
        let gate = Gate::new();
        for (stream, reply) in [(false, used(10, 5)), (true, streamed(10, 5))] {
            vendor.forget();
            vendor.script("v", [reply.after(Step::Gate(gate.clone()))]);
            let mut body = question();
            body["stream"] = json!(stream);
            let mut crowd = gateway.crowd(&keys, CLIENTS, &body);
            for _ in 7..CLIENTS {
                assert_limited(&crowd.join_next().await.unwrap().unwrap());
            }
            vendor.arrived("v", 7).await;
            assert_limited(&gateway.chat_as(&keys[0], &body).await);
            for _ in 0..7 {
                gate.open();
            }
            assert_eq!(answered(crowd).await, 7, "{scope}");
            assert_eq!(vendor.seen("v").len(), 7, "{scope}");
            gateway.settled().await;
        }
    }
}

#[tokio::test]
async fn places_come_back_however_a_request_ends() {
    let (vendor, gateway) =
        start(&Books::Sqlite, json!({"routing": {"retry_count": 0, "allowed_fails": 100_000}}))
            .await;
    let key = gateway.key(json!({"max_parallel_requests": 1})).await;
    let mut streaming = question();
    streaming["stream"] = json!(true);
    let text = |content: &str| {
        Step::Write(format!("data: {}\n\n", crate::harness::text(content)).into_bytes())
    };
    let endings = [
        failed(500),
        Reply::json(200, "{}").after(Step::Cut),
        Reply::raw(b"nonsense"),
        Reply::stream(vec![text("half"), Step::Cut]),
    ];
    for ending in endings {
        for body in [&question(), &streaming] {
            vendor.script("v", [ending.clone()]);
            let bearer = format!("Bearer {}", key.secret);
            let mut response = gateway
                .send(
                    "POST",
                    "/v1/chat/completions",
                    &[("authorization", &bearer)],
                    body.to_string().as_bytes(),
                )
                .await;
            response.finish().await;
            assert_ne!(response.status, 429, "{}", response.text());
            gateway.settled().await;
        }
    }
    // The client leaves: before the answer, and within it.
    for reply in [Reply::silent(), Reply::stream(vec![text("half"), Step::Hang])] {
        vendor.script("v", [reply]);
        vendor.forget();
        let bearer = format!("Bearer {}", key.secret);
        let body = streaming.to_string();
        let request = Request {
            method: "POST",
            path: "/v1/chat/completions",
            headers: &[("authorization", &bearer)],
            body: body.as_bytes(),
        };
        let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &request.bytes(gateway.address))
            .await
            .unwrap();
        vendor.arrived("v", 1).await;
        assert_limited(&gateway.chat_as(&key, &question()).await);
        drop(socket);
        gateway.settled().await;
    }
    vendor.script("v", [used(1, 1)]);
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
}

#[tokio::test]
async fn exactly_as_many_tokens_a_minute_pass_as_each_scope_allows() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    // Each request is estimated at what it will use.
    let told = gateway.explain(&question()).await;
    let input = told["input_tokens"].as_u64().unwrap();
    let each = input + told["max_output_tokens"].as_u64().unwrap();
    assert_eq!(told["max_output_tokens"], crate::books::TOKENS);
    vendor.script("v", [used(input, each - input)]);
    for (scope, keys) in scopes(&gateway, json!({"tpm_limit": each * LIMIT as u64})).await {
        vendor.forget();
        let good = answered(gateway.crowd(&keys, CLIENTS, &question())).await;
        assert_eq!((good, vendor.seen("v").len()), (LIMIT, LIMIT), "{scope}");
    }
}

#[tokio::test]
async fn limits_of_a_model_bound_that_model_only() {
    let vendor = Vendor::start().await;
    let mut provider = serving(&vendor, "v", priced());
    provider["models"] = json!([priced(), {"name": "other"}]);
    for name in ["model_rpm_limit", "model_tpm_limit"] {
        let gateway = Gateway::start(guarded(vec![provider.clone()])).await;
        let told = gateway.explain(&question()).await;
        let input = told["input_tokens"].as_u64().unwrap();
        let each = input + crate::books::TOKENS;
        vendor.script("v", [used(input, each - input)]);
        let limit = if name == "model_rpm_limit" { LIMIT as u64 } else { each * LIMIT as u64 };
        for (scope, keys) in scopes(&gateway, json!({name: {"m": limit}})).await {
            let good = answered(gateway.crowd(&keys, CLIENTS, &question())).await;
            assert_eq!(good, LIMIT, "{scope} {name}");
            let mut body = question();
            // The other spelling is the same model.
            body["model"] = json!("v/m");
            assert_limited(&gateway.chat_as(&keys[0], &body).await);
            body["model"] = json!("other");
            assert_eq!(gateway.chat_as(&keys[0], &body).await.status, 200, "{scope} {name}");
        }
    }
}

#[tokio::test]
async fn refused_requests_are_counted_nowhere() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    gateway.manage("/team/new", &json!({"team_id": "t", "rpm_limit": 3})).await;
    let tight = gateway.key(json!({"team_id": "t", "rpm_limit": 1})).await;
    let poor = gateway.key(json!({"team_id": "t", "max_budget": 0})).await;
    let bound = gateway.key(json!({"team_id": "t", "models": ["another"]})).await;
    let free = gateway.key(json!({"team_id": "t"})).await;
    assert_eq!(gateway.chat_as(&tight, &question()).await.status, 200);
    for _ in 0..10 {
        assert_limited(&gateway.chat_as(&tight, &question()).await);
        assert_eq!(gateway.chat_as(&poor, &question()).await.status, 402);
        assert_eq!(gateway.chat_as(&bound, &question()).await.status, 403);
        let mut unknown = question();
        unknown["model"] = json!("unknown");
        assert_eq!(gateway.chat_as(&free, &unknown).await.status, 404);
    }
    for _ in 0..2 {
        assert_eq!(gateway.chat_as(&free, &question()).await.status, 200, "the team has room");
    }
    assert_limited(&gateway.chat_as(&free, &question()).await);
    assert_eq!(vendor.seen("v").len(), 3);
}

#[tokio::test]
async fn tokens_are_reserved_by_estimate_and_corrected_by_use() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    // The estimate is nearly the whole limit, the use is small.
    vendor.script("v", [used(3, 2)]);
    let key = gateway.key(json!({"tpm_limit": 200})).await;
    for used in 1..=8 {
        let response = gateway.chat_as(&key, &question()).await;
        assert_eq!(response.status, 200, "after {} tokens: {}", (used - 1) * 5, response.text());
    }
    // While one is out its estimate counts.
    let gate = Gate::new();
    vendor.forget();
    vendor.script("v", [used(3, 2).after(Step::Gate(gate.clone()))]);
    let other = gateway.key(json!({"tpm_limit": 200})).await;
    let body = question();
    let held = gateway.chat_as(&other, &body);
    let meanwhile = async {
        vendor.arrived("v", 1).await;
        assert_limited(&gateway.chat_as(&other, &question()).await);
        gate.open();
    };
    let (held, ()) = tokio::join!(held, meanwhile);
    assert_eq!(held.status, 200);
    vendor.script("v", [used(3, 2)]);
    gateway.settled().await;
    assert_eq!(gateway.chat_as(&other, &question()).await.status, 200);
    // More was used than estimated: the next one must wait.
    let third = gateway.key(json!({"tpm_limit": 1000})).await;
    vendor.script("v", [used(5000, 2)]);
    assert_eq!(gateway.chat_as(&third, &question()).await.status, 200);
    gateway.settled().await;
    assert_limited(&gateway.chat_as(&third, &question()).await);
    // What came of a stream counts like a whole answer.
    let fourth = gateway.key(json!({"tpm_limit": 1000})).await;
    vendor.script("v", [streamed(5000, 2)]);
    let mut body = question();
    body["stream"] = json!(true);
    assert_eq!(gateway.chat_as(&fourth, &body).await.status, 200);
    gateway.settled().await;
    assert_limited(&gateway.chat_as(&fourth, &body).await);
}

#[tokio::test]
async fn a_request_larger_than_the_whole_limit_passes_when_nothing_else_was_used() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    let key = gateway.key(json!({"tpm_limit": 50})).await;
    let mut body = question();
    body["messages"][0]["content"] = json!("many words ".repeat(1000));
    assert_eq!(gateway.chat_as(&key, &body).await.status, 200);
    assert_limited(&gateway.chat_as(&key, &body).await);
    assert_eq!(vendor.seen("v").len(), 1);
}

#[tokio::test]
async fn failed_calls_give_their_tokens_back() {
    let (vendor, gateway) =
        start(&Books::Sqlite, json!({"routing": {"retry_count": 0, "allowed_fails": 100_000}}))
            .await;
    let key = gateway.key(json!({"tpm_limit": 150})).await;
    vendor.script("v", [failed(500)]);
    for _ in 0..3 {
        assert_eq!(gateway.chat_as(&key, &question()).await.status, 502);
        gateway.settled().await;
    }
    vendor.script("v", [used(3, 2)]);
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
}

#[tokio::test]
async fn answers_tell_the_limit_and_what_is_left() {
    let (_vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    gateway
        .manage("/team/new", &json!({"team_id": "t", "rpm_limit": 3, "tpm_limit": 1_000_000}))
        .await;
    let key = gateway.key(json!({"team_id": "t", "rpm_limit": 10, "tpm_limit": 5000})).await;
    for left in [2, 1, 0] {
        let response = gateway.chat_as(&key, &question()).await;
        assert_eq!(response.status, 200);
        assert_eq!(number(&response, "x-ratelimit-limit-requests"), 3, "the tightest one");
        assert_eq!(number(&response, "x-ratelimit-remaining-requests"), left);
        assert_eq!(number(&response, "x-ratelimit-limit-tokens"), 5000);
        assert!(number(&response, "x-ratelimit-remaining-tokens") < 5000);
        for reset in ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"] {
            let value = response.header(reset).unwrap_or_else(|| panic!("no {reset}"));
            assert!(
                value.ends_with('s') && value.as_bytes()[0].is_ascii_digit(),
                "{reset}: {value}"
            );
        }
    }
    let response = gateway.chat_as(&key, &question()).await;
    assert_limited(&response);
    assert_eq!(number(&response, "x-ratelimit-limit-requests"), 3);
    assert_eq!(number(&response, "x-ratelimit-remaining-requests"), 0);
    let unlimited = gateway.key(json!({})).await;
    let response = gateway.chat_as(&unlimited, &question()).await;
    let told: Vec<_> =
        response.headers.iter().filter(|(name, _)| name.starts_with("x-ratelimit")).collect();
    assert!(told.is_empty(), "no limit applies: {told:?}");
}

#[tokio::test]
async fn a_limit_of_0_lets_nothing_through_and_says_that_waiting_is_no_use() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    gateway.manage("/team/new", &json!({"team_id": "t", "rpm_limit": 0})).await;
    gateway.manage("/user/new", &json!({"user_id": "u", "tpm_limit": 0})).await;
    gateway
        .manage(
            "/organization/new",
            &json!({"organization_id": "o", "organization_alias": "O", "max_parallel_requests": 0}),
        )
        .await;
    for fields in [
        json!({"rpm_limit": 0}),
        json!({"tpm_limit": 0}),
        json!({"max_parallel_requests": 0}),
        json!({"model_rpm_limit": {"m": 0}}),
        json!({"model_tpm_limit": {"m": 0}}),
        json!({"team_id": "t"}),
        json!({"user_id": "u"}),
        json!({"organization_id": "o"}),
    ] {
        let key = gateway.key(fields.clone()).await;
        let response = gateway.chat_as(&key, &question()).await;
        response.assert_error(429, "rate_limit_error", Some("rate_limit_exceeded"));
        assert_eq!(response.header("x-should-retry"), Some("false"), "{fields}");
        assert!(response.header("retry-after").is_some(), "{fields}: each 429 of ours has it");
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn keys_that_set_no_limit_have_the_configured_one() {
    let more = json!({"rate_limit": {"requests_per_minute": 5, "tokens_per_minute": 1_000_000}});
    let (_vendor, gateway) = start(&Books::Sqlite, more).await;
    for (fields, allowed) in [
        (json!({}), 5),
        (json!({"rpm_limit": null}), 5),
        (json!({"rpm_limit": 8}), 8),
        (json!({"rpm_limit": 2}), 2),
    ] {
        let key = gateway.key(fields.clone()).await;
        let crowd = gateway.crowd(std::slice::from_ref(&key), 20, &question());
        assert_eq!(answered(crowd).await, allowed, "{fields}");
    }
    let key = gateway.key(json!({})).await;
    let response = gateway.chat_as(&key, &question()).await;
    assert_eq!(number(&response, "x-ratelimit-limit-tokens"), 1_000_000);
    let nothing = json!({"rate_limit": {"requests_per_minute": 0}});
    let (vendor, gateway) = start(&Books::Sqlite, nothing).await;
    let key = gateway.key(json!({})).await;
    let response = gateway.chat_as(&key, &question()).await;
    response.assert_error(429, "rate_limit_error", Some("rate_limit_exceeded"));
    assert_eq!(response.header("x-should-retry"), Some("false"));
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn a_changed_limit_holds_for_the_next_request() {
    let (_vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    let key = gateway.key(json!({"rpm_limit": 1})).await;
    let ask = async || chat_as(gateway.address, &key.secret, &question(), &[]).await;
    assert_eq!(ask().await.status, 200);
    assert_limited(&ask().await);
    gateway.manage("/key/update", &json!({"key": key.id, "rpm_limit": 2})).await;
    assert_eq!(ask().await.status, 200);
    assert_limited(&ask().await);
    gateway.manage("/key/update", &json!({"key": key.id, "rpm_limit": null})).await;
    for _ in 0..5 {
        assert_eq!(ask().await.status, 200);
    }
}

#[tokio::test]
async fn the_master_key_has_no_limits() {
    let more = json!({"rate_limit": {"requests_per_minute": 1}});
    let (_vendor, gateway) = start(&Books::Sqlite, more).await;
    for _ in 0..5 {
        let response = chat_as(gateway.address, crate::auth::MASTER, &question(), &[]).await;
        assert_eq!(response.status, 200);
    }
}

#[tokio::test]
async fn a_key_that_is_made_anew_keeps_its_limits_and_what_it_used_of_them() {
    let (_vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    let key = gateway.key(json!({"rpm_limit": 2, "max_budget": 1})).await;
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    let anew = gateway.manage("/key/regenerate", &json!({"key": key.secret})).await;
    let anew = Key { secret: anew["key"].as_str().unwrap().to_owned(), id: key.id.clone() };
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 401);
    assert_eq!(gateway.chat_as(&anew, &question()).await.status, 200);
    assert_limited(&gateway.chat_as(&anew, &question()).await);
}
