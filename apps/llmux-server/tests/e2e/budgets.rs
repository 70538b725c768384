//! Budgets: what fits is answered, what does not fit is refused, whoever asks at once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::books::{
    Books, COST, Key, PRICE, TOKENS, dollars, guarded, priced, question, start, streamed, used,
};
use crate::client::Response;
use crate::faults::failed;
use crate::harness::{Gateway, serving};
use crate::replay::{Gate, Step, Vendor};

const CLIENTS: usize = 50;
const CALLS: usize = 20;

#[track_caller]
fn assert_exhausted(response: &Response, scope: &str) {
    response.assert_error(402, "insufficient_quota", Some("budget_exceeded"));
    let message = response.error()["message"].as_str().unwrap().to_lowercase();
    let named =
        message.replace("team member", "team_member").replace("member of the team", "team_member");
    let named = if scope == "team" { named.replace("team_member", "") } else { named };
    assert!(named.contains(scope), "the {scope} is named in {message:?}");
    assert_eq!(response.header("x-should-retry"), Some("false"));
}

/// Waits for all answers and counts the good ones; all others say that the budget of `scope` is used up.
async fn answered(crowd: JoinSet<Response>, scope: &str) -> usize {
    let mut good = 0;
    for response in crowd.join_all().await {
        if response.status == 200 {
            good += 1;
        } else {
            assert_exhausted(&response, scope);
        }
    }
    good
}

/// The spend in the row of a scope, in nano-dollars.
async fn spend(books: &Books, gateway: &Gateway, table: &str, clause: &str) -> i64 {
    books.number(gateway, &format!("SELECT spend FROM {table} WHERE {clause}")).await
}

#[tokio::test]
async fn fifty_clients_at_once_get_exactly_the_twenty_calls_that_a_key_can_pay() {
    for books in Books::both().await {
        let (vendor, gateway) = start(&books, json!({})).await;
        for (stream, reply) in [(false, used(10, TOKENS)), (true, streamed(10, TOKENS))] {
            vendor.forget();
            vendor.script("v", [reply]);
            let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
            let mut body = question();
            body["stream"] = json!(stream);
            let crowd = gateway.crowd(std::slice::from_ref(&key), CLIENTS, &body);
            assert_eq!(answered(crowd, "key").await, CALLS, "stream: {stream}");
            assert_eq!(vendor.seen("v").len(), CALLS, "the refused ones never reached the vendor");
            gateway.settled().await;
            let spent = books.spent(&gateway, &key.id).await;
            assert_eq!(spent, [COST * CALLS as i64; 3], "stream: {stream}");
            let refused = gateway.chat_as(&key, &body).await;
            assert_exhausted(&refused, "key");
            let want = "The budget of the key is used up: 0.000246 of 0.000246 US dollars are spent, \
                and 0 may be by calls under way.";
            assert_eq!(refused.error()["message"], want);
        }
    }
}

#[tokio::test]
async fn calls_that_are_still_out_count_in_full() {
    let books = Books::Sqlite;
    let (vendor, gateway) = start(&books, json!({})).await;
    let gate = Gate::new();
    vendor.script("v", [used(10, TOKENS).after(Step::Gate(gate.clone()))]);
    let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
    let mut crowd = gateway.crowd(std::slice::from_ref(&key), CLIENTS, &question());
    // The refused ones are answered while the vendor still holds all others.
    for _ in CALLS..CLIENTS {
        let refused = crowd.join_next().await.unwrap().unwrap();
        assert_exhausted(&refused, "key");
        let want = "The budget of the key does not have room for what the call may cost, at most \
            0.0000123 US dollars: 0 of 0.000246 US dollars are spent, and 0.000246 may be by calls under way.";
        assert_eq!(refused.error()["message"], want);
    }
    vendor.arrived("v", CALLS).await;
    let state = gateway.state().await;
    assert_ne!(state["reservations"]["money"], json!(0), "{state}");
    for _ in 0..CALLS {
        gate.open();
    }
    assert_eq!(answered(crowd, "key").await, CALLS);
    gateway.settled().await;
    assert_eq!(books.spent(&gateway, &key.id).await, [COST * CALLS as i64; 3]);
}

#[tokio::test]
async fn the_budget_of_each_scope_holds_for_all_keys_in_it_together() {
    for books in Books::both().await {
        let (vendor, gateway) = start(&books, json!({})).await;
        let budget = dollars(COST * CALLS as i64);
        let generous = dollars(COST * 15);
        gateway
            .manage(
                "/organization/new",
                &json!({"organization_id": "o", "organization_alias": "O", "max_budget": budget}),
            )
            .await;
        gateway.manage("/team/new", &json!({"team_id": "in-o", "organization_id": "o"})).await;
        gateway.manage("/team/new", &json!({"team_id": "t", "max_budget": budget})).await;
        gateway.manage("/team/new", &json!({"team_id": "members"})).await;
        gateway.manage("/user/new", &json!({"user_id": "u", "max_budget": budget})).await;
        gateway.manage("/user/new", &json!({"user_id": "m"})).await;
        gateway
            .manage("/team/member_add", &json!({"team_id": "members", "members": [{"user_id": "m", "role": "user", "max_budget_in_team": budget}]}))
            .await;
        for (scope, fields, table, clause) in [
            ("user", json!({"user_id": "u"}), "users", "user_id = 'u'"),
            ("team", json!({"team_id": "t"}), "teams", "team_id = 't'"),
            (
                "organization",
                json!({"organization_id": "o"}),
                "organizations",
                "organization_id = 'o'",
            ),
            ("organization", json!({"team_id": "in-o"}), "organizations", "organization_id = 'o'"),
            (
                "team_member",
                json!({"team_id": "members", "user_id": "m"}),
                "team_members",
                "user_id = 'm'",
            ),
        ] {
            if fields["team_id"] == "in-o" {
                // What its keys without a team have spent counts as well.
                assert_exhausted(
                    &gateway.chat_as(&gateway.key(fields).await, &question()).await,
                    scope,
                );
                continue;
            }
            vendor.forget();
            let mut keys = Vec::new();
            for _ in 0..2 {
                let mut fields = fields.clone();
                fields["max_budget"] = generous.clone();
                keys.push(gateway.key(fields).await);
            }
            // Two keys with 15 calls each, 20 in all.
            let good = answered_by_either(gateway.crowd(&keys, CLIENTS, &question()), scope).await;
            assert_eq!(good, CALLS, "{scope}");
            assert_eq!(vendor.seen("v").len(), CALLS, "{scope}");
            gateway.settled().await;
            assert_eq!(
                spend(&books, &gateway, table, clause).await,
                COST * CALLS as i64,
                "{scope}"
            );
            let mut sum = 0;
            for key in &keys {
                let [row, records, days] = books.spent(&gateway, &key.id).await;
                assert_eq!((row, row), (records, days), "{scope}");
                sum += row;
            }
            assert_eq!(sum, COST * CALLS as i64, "{scope}");
        }
    }
}

/// Like [`answered`], where keys have budgets besides that of `scope`.
async fn answered_by_either(crowd: JoinSet<Response>, scope: &str) -> usize {
    let (mut good, mut by_scope) = (0, 0);
    for response in crowd.join_all().await {
        if response.status == 200 {
            good += 1;
            continue;
        }
        let message = response.error()["message"].as_str().unwrap().to_owned();
        if message.contains("key") {
            assert_exhausted(&response, "key");
        } else {
            assert_exhausted(&response, scope);
            by_scope += 1;
        }
    }
    assert!(by_scope > 0, "{scope}: the keys' own budgets are larger than their part");
    good
}

#[tokio::test]
async fn the_budget_of_a_model_bounds_that_model_only() {
    let books = Books::Sqlite;
    let vendor = Vendor::start().await;
    vendor.script("v", [used(10, TOKENS)]);
    let mut provider = serving(&vendor, "v", priced());
    provider["models"] = json!([priced(), {"name": "other", "input_cost_per_token": 0, "output_cost_per_token": PRICE}]);
    let gateway = Gateway::start(guarded(vec![provider])).await;
    let budget = dollars(COST * CALLS as i64);
    gateway.manage("/team/new", &json!({"team_id": "t", "model_max_budget": {"m": budget}})).await;
    gateway.manage("/user/new", &json!({"user_id": "u", "model_max_budget": {"m": {"budget_limit": budget, "time_period": "1d"}}})).await;
    for (scope, fields) in [
        ("key", json!({"model_max_budget": {"m": budget}})),
        ("team", json!({"team_id": "t"})),
        ("user", json!({"user_id": "u"})),
    ] {
        let key = gateway.key(fields).await;
        let keys = std::slice::from_ref(&key);
        assert_eq!(answered(gateway.crowd(keys, CLIENTS, &question()), scope).await, CALLS);
        let mut body = question();
        body["model"] = json!("v/m");
        assert_exhausted(&gateway.chat_as(&key, &body).await, scope);
        body["model"] = json!("other");
        assert_eq!(gateway.chat_as(&key, &body).await.status, 200, "{scope}");
        gateway.settled().await;
        assert_eq!(books.spent(&gateway, &key.id).await, [COST * (CALLS as i64 + 1); 3]);
    }
}

#[tokio::test]
async fn with_estimates_above_the_cost_spend_stays_within_the_budget_and_uses_it() {
    let books = Books::Sqlite;
    let (vendor, gateway) = start(&books, json!({})).await;
    vendor.script("v", [used(10, 7)]);
    let budget = COST * 3;
    let key = gateway.key(json!({"max_budget": dollars(budget)})).await;
    let keys = std::slice::from_ref(&key);
    for _ in 0..2 {
        answered(gateway.crowd(keys, CLIENTS, &question()), "key").await;
    }
    // One client alone gets what is left.
    while gateway.chat_as(&key, &question()).await.status == 200 {}
    gateway.settled().await;
    let spent = books.spent(&gateway, &key.id).await;
    assert_eq!(spent, [spent[0]; 3]);
    assert!(spent[0] <= budget, "{} of {budget}", spent[0]);
    assert!(spent[0] > budget - COST, "{} of {budget}: one more call fits", spent[0]);
    assert_eq!(spent[0] as usize, vendor.seen("v").len() * 7 * 123);
}

#[tokio::test]
async fn with_estimates_below_the_cost_only_the_calls_that_were_out_pass_the_budget() {
    let books = Books::Sqlite;
    let (vendor, gateway) = start(&books, json!({})).await;
    // The vendor writes half as much again as it was allowed to.
    vendor.script("v", [used(10, TOKENS * 3 / 2)]);
    let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
    let keys = std::slice::from_ref(&key);
    let good = answered(gateway.crowd(keys, CLIENTS, &question()), "key").await;
    assert!((1..=CALLS).contains(&good), "{good}");
    while gateway.chat_as(&key, &question()).await.status == 200 {}
    gateway.settled().await;
    let spent = books.spent(&gateway, &key.id).await;
    let calls = vendor.seen("v").len() as i64;
    assert_eq!(spent, [calls * COST * 3 / 2; 3]);
    assert!(calls <= CALLS as i64 && spent[0] <= COST * CALLS as i64 * 3 / 2, "{spent:?}");
}

#[tokio::test]
async fn several_answers_at_once_are_reserved_several_times() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    vendor.script("v", [used(10, TOKENS * 2)]);
    let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
    let mut body = question();
    body["n"] = json!(2);
    let crowd = gateway.crowd(std::slice::from_ref(&key), CLIENTS, &body);
    assert_eq!(answered(crowd, "key").await, CALLS / 2);
}

#[tokio::test]
async fn a_budget_of_0_allows_nothing_and_none_allows_all() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    gateway
        .manage(
            "/organization/new",
            &json!({"organization_id": "o", "organization_alias": "O", "max_budget": 0}),
        )
        .await;
    gateway.manage("/team/new", &json!({"team_id": "t", "max_budget": 0})).await;
    gateway.manage("/team/new", &json!({"team_id": "members"})).await;
    gateway.manage("/user/new", &json!({"user_id": "u", "max_budget": 0})).await;
    gateway.manage("/user/new", &json!({"user_id": "m"})).await;
    gateway
        .manage("/team/member_add", &json!({"team_id": "members", "members": [{"user_id": "m", "role": "user", "max_budget_in_team": 0}]}))
        .await;
    for (scope, fields) in [
        ("key", json!({"max_budget": 0})),
        ("key", json!({"model_max_budget": {"m": 0}})),
        ("user", json!({"user_id": "u"})),
        ("team", json!({"team_id": "t"})),
        ("organization", json!({"organization_id": "o"})),
        ("team_member", json!({"team_id": "members", "user_id": "m"})),
    ] {
        let key = gateway.key(fields).await;
        assert_exhausted(&gateway.chat_as(&key, &question()).await, scope);
    }
    assert_eq!(vendor.seen_in_all(), 0);
    for fields in
        [json!({}), json!({"max_budget": null}), json!({"max_budget": null, "soft_budget": null})]
    {
        let key = gateway.key(fields).await;
        let crowd = gateway.crowd(std::slice::from_ref(&key), CLIENTS, &question());
        assert_eq!(answered(crowd, "key").await, CLIENTS);
    }
}

#[tokio::test]
async fn a_budget_of_0_refuses_even_what_costs_nothing() {
    let vendor = Vendor::start().await;
    vendor.script("v", [used(10, 10)]);
    let free = json!({"name": "m", "input_cost_per_token": 0, "output_cost_per_token": 0});
    let gateway = Gateway::start(guarded(vec![serving(&vendor, "v", free)])).await;
    let key = gateway.key(json!({"max_budget": 0})).await;
    assert_exhausted(&gateway.chat_as(&key, &question()).await, "key");
    let key = gateway.key(json!({"max_budget": 0.000000001})).await;
    assert_eq!(gateway.chat_as(&key, &question()).await.status, 200);
    assert_eq!(vendor.seen("v").len(), 1);
}

#[tokio::test]
async fn past_a_soft_budget_answers_go_on_and_say_so() {
    let (vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    gateway.manage("/team/new", &json!({"team_id": "t", "soft_budget": dollars(COST * 2)})).await;
    for (scope, fields) in
        [("key", json!({"soft_budget": dollars(COST * 2)})), ("team", json!({"team_id": "t"}))]
    {
        let key = gateway.key(fields).await;
        for number in 0..5 {
            let response = gateway.chat_as(&key, &question()).await;
            assert_eq!(response.status, 200, "{}", response.text());
            let told = response.header("x-llmux-soft-budget");
            let line = gateway.logged(response.header("x-request-id").unwrap());
            if number < 2 {
                assert_eq!(told, None, "{scope} after {number} calls");
                assert!(line["soft_budget"].is_null(), "{line}");
            } else if number > 2 {
                // Whether the call that reaches the budget itself says so is left open.
                assert_eq!(told, Some("exceeded"), "{scope} after {number} calls");
                assert!(line["soft_budget"].to_string().contains(scope), "{line}");
            }
        }
    }
    assert_eq!(vendor.seen("v").len(), 10);
}

#[tokio::test]
async fn a_new_window_begins_with_nothing_spent() {
    for books in Books::both().await {
        let (_vendor, gateway) = start(&books, json!({})).await;
        let key = gateway.key(json!({"max_budget": dollars(COST), "budget_duration": "1s"})).await;
        let mut good = 0;
        // Each window pays one call; one that is refused in a window is answered in a later one.
        for _ in 0..3 {
            let mut refused = 0;
            loop {
                let response = gateway.chat_as(&key, &question()).await;
                if response.status == 200 {
                    break;
                }
                assert_exhausted(&response, "key");
                refused += 1;
                assert!(refused < 10_000, "no new window comes");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            good += 1;
        }
        gateway.settled().await;
        let [_, records, days] = books.spent(&gateway, &key.id).await;
        assert_eq!((records, days), (good * COST, good * COST));
        let info = gateway.administer("GET", &format!("/key/info?key={}", key.id), "").await.json();
        assert!(
            info["spend"] == dollars(COST) || info["spend"].as_f64() == Some(0.0),
            "the spend is the window's: {info}"
        );
    }
}

#[tokio::test]
async fn a_strict_budget_wants_a_maximum() {
    let vendor = Vendor::start().await;
    vendor.script("v", [used(10, 10)]);
    let mut provider = serving(&vendor, "v", priced());
    provider["models"] = json!([priced(), "gpt-4o"]);
    let mut configuration = guarded(vec![provider]);
    configuration["budget"] = json!({"strict": true});
    let gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": 0.01})).await;
    let mut body = question();
    body.as_object_mut().unwrap().remove("max_tokens");
    let response = gateway.chat_as(&key, &body).await;
    let error = response.error();
    assert_eq!(
        (response.status, &error["type"]),
        (400, &json!("invalid_request_error")),
        "{error}"
    );
    assert!(error["message"].as_str().unwrap().contains("max_tokens"), "{error}");
    // The maximum of this one is known: 16,384 tokens at 10 dollars a million are more than a cent.
    body["model"] = json!("gpt-4o");
    assert_exhausted(&gateway.chat_as(&key, &body).await, "key");
    assert_eq!(vendor.seen_in_all(), 0);
    body["max_tokens"] = json!(100);
    assert_eq!(gateway.chat_as(&key, &body).await.status, 200);
    body["model"] = json!("m");
    assert_eq!(gateway.chat_as(&key, &body).await.status, 200);
    body.as_object_mut().unwrap().remove("max_tokens");
    body["max_completion_tokens"] = json!(100);
    assert_eq!(gateway.chat_as(&key, &body).await.status, 200);
}

#[tokio::test]
async fn without_a_maximum_an_assumed_one_is_reserved() {
    let more = json!({"budget": {"assumed_output_tokens": TOKENS}});
    let (vendor, gateway) = start(&Books::Sqlite, more).await;
    let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
    let mut body = question();
    body.as_object_mut().unwrap().remove("max_tokens");
    let crowd = gateway.crowd(std::slice::from_ref(&key), CLIENTS, &body);
    assert_eq!(answered(crowd, "key").await, CALLS);
    assert_eq!(vendor.seen("v").len(), CALLS);
}

#[tokio::test]
async fn a_price_that_is_not_known_blocks_or_costs_nothing() {
    for policy in ["allow", "block"] {
        let books = Books::Sqlite;
        let vendor = Vendor::start().await;
        vendor.script("v", [used(10, 10)]);
        let mut configuration = guarded(vec![serving(&vendor, "v", json!("m"))]);
        configuration["budget"] = json!({"on_missing_price": policy});
        let gateway = Gateway::start(configuration).await;
        let key = gateway.key(json!({"max_budget": 1})).await;
        let response = gateway.chat_as(&key, &question()).await;
        gateway.settled().await;
        if policy == "block" {
            response.assert_error(403, "permission_error", Some("price_unknown"));
            assert_eq!((vendor.seen_in_all(), books.records(&gateway).await.len()), (0, 0));
        } else {
            assert_eq!(response.status, 200, "{}", response.text());
            let records = books.records(&gateway).await;
            assert_eq!((records.len(), &records[0]["spend"]), (1, &json!(0)), "{records:?}");
            assert_eq!(records[0]["completion_tokens"], 10);
        }
    }
}

#[tokio::test]
async fn spend_survives_each_kind_of_end() {
    for books in Books::both().await {
        let (vendor, mut gateway) = start(&books, json!({})).await;
        gateway
            .manage("/team/new", &json!({"team_id": "t", "max_budget": dollars(COST * 6)}))
            .await;
        let mut keys: Vec<Key> = Vec::new();
        for _ in 0..2 {
            keys.push(gateway.key(json!({"team_id": "t", "max_budget": dollars(COST * 4)})).await);
        }
        for _ in 0..4 {
            assert_eq!(gateway.chat_as(&keys[0], &question()).await.status, 200);
        }
        gateway.kill();
        gateway = gateway.revive().await;
        assert_exhausted(&gateway.chat_as(&keys[0], &question()).await, "key");
        for _ in 0..2 {
            assert_eq!(gateway.chat_as(&keys[1], &question()).await.status, 200);
        }
        gateway.terminate();
        assert_eq!(gateway.exit_code(), Some(0));
        gateway = gateway.revive().await;
        assert_exhausted(&gateway.chat_as(&keys[1], &question()).await, "team");
        gateway.settled().await;
        assert_eq!(books.spent(&gateway, &keys[0].id).await, [COST * 4; 3]);
        assert_eq!(books.spent(&gateway, &keys[1].id).await, [COST * 2; 3]);
        assert_eq!(spend(&books, &gateway, "teams", "team_id = 't'").await, COST * 6);
        assert_eq!(vendor.seen("v").len(), 6);
    }
}

#[tokio::test]
async fn a_changed_budget_holds_for_the_next_request() {
    let (_vendor, gateway) = start(&Books::Sqlite, json!({})).await;
    gateway.manage("/team/new", &json!({"team_id": "t", "max_budget": dollars(COST * 3)})).await;
    let key = gateway.key(json!({"team_id": "t", "max_budget": dollars(COST)})).await;
    let ask = async || gateway.chat_as(&key, &question()).await;
    let set = async |budget: Value| {
        gateway.manage("/key/update", &json!({"key": key.secret, "max_budget": budget})).await;
    };
    assert_eq!(ask().await.status, 200);
    assert_exhausted(&ask().await, "key");
    set(dollars(COST * 2)).await;
    assert_eq!(ask().await.status, 200);
    assert_exhausted(&ask().await, "key");
    set(Value::Null).await;
    assert_eq!(ask().await.status, 200);
    assert_exhausted(&ask().await, "team");
    gateway.manage("/team/update", &json!({"team_id": "t", "max_budget": null})).await;
    assert_eq!(ask().await.status, 200);
    set(json!(0)).await;
    assert_exhausted(&ask().await, "key");
}

#[tokio::test]
async fn a_fallback_that_does_not_fit_is_passed_over() {
    let books = Books::Sqlite;
    let vendor = Vendor::start().await;
    vendor.script("first", [failed(500)]);
    vendor.script("dear", [used(10, TOKENS)]);
    vendor.script("cheap", [used(10, TOKENS)]);
    let one = |name: &str, price: f64| {
        serving(
            &vendor,
            name,
            json!({"name": name, "input_cost_per_token": 0, "output_cost_per_token": price}),
        )
    };
    let providers = vec![one("first", PRICE), one("dear", PRICE * 1000.0), one("cheap", PRICE)];
    let mut configuration = guarded(providers);
    configuration["routing"] = json!({"retry_count": 3, "retry_backoff": "1ms", "allowed_fails": 1000, "fallbacks": {"first": ["dear", "cheap"]}});
    let gateway = Gateway::start(configuration).await;
    let key = gateway.key(json!({"max_budget": dollars(COST * 10)})).await;
    let mut body = question();
    body["model"] = json!("first");
    let response = gateway.chat_as(&key, &body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("x-llmux-provider"), Some("cheap"));
    assert_eq!((vendor.seen("dear").len(), vendor.seen("cheap").len()), (0, 1));
    gateway.settled().await;
    assert_eq!(books.spent(&gateway, &key.id).await, [COST; 3], "failed attempts cost nothing");
    // Where only the dear one is left, the budget is the reason.
    body["model"] = json!("dear");
    assert_exhausted(&gateway.chat_as(&key, &body).await, "key");
}

#[tokio::test]
async fn a_crowd_does_not_take_what_failures_give_back_for_spent() {
    let books = Books::Sqlite;
    let (vendor, gateway) =
        start(&books, json!({"routing": {"retry_count": 0, "allowed_fails": 100_000}})).await;
    vendor.script("v", [failed(500)]);
    let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
    let keys = std::slice::from_ref(&key);
    for response in gateway.crowd(keys, CLIENTS, &question()).join_all().await {
        assert!(matches!(response.status, 402 | 502), "{}", response.text());
    }
    vendor.script("v", [used(10, TOKENS)]);
    gateway.settled().await;
    assert_eq!(answered(gateway.crowd(keys, CLIENTS, &question()), "key").await, CALLS);
    gateway.settled().await;
    assert_eq!(books.spent(&gateway, &key.id).await, [COST * CALLS as i64; 3]);
}

#[tokio::test]
async fn the_dialect_of_anthropic_is_budgeted_as_exactly() {
    let books = Books::Sqlite;
    let vendor = Vendor::start().await;
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": TOKENS}});
    vendor.script("v", [crate::replay::Reply::json(200, answer.to_string())]);
    let mut provider = serving(&vendor, "v", priced());
    provider["type"] = json!("anthropic");
    let gateway = Gateway::start(guarded(vec![provider])).await;
    let key = gateway.key(json!({"max_budget": dollars(COST * CALLS as i64)})).await;
    let body = question().to_string();
    let headers = [("x-api-key", key.secret.as_str())];
    let request = crate::client::Request {
        method: "POST",
        path: "/v1/messages",
        headers: &headers,
        body: body.as_bytes(),
    };
    let (address, bytes) = (gateway.address, request.bytes(gateway.address));
    let mut crowd = JoinSet::new();
    for _ in 0..CLIENTS {
        let bytes = bytes.clone();
        crowd.spawn(async move { crate::client::send_raw(address, &bytes).await.whole().await });
    }
    let mut good = 0;
    for response in crowd.join_all().await {
        if response.status == 200 {
            good += 1;
            continue;
        }
        assert_eq!(response.status, 402, "{}", response.text());
        assert_eq!(response.json()["error"]["type"], "billing_error");
        assert_eq!(response.header("x-should-retry"), Some("false"));
    }
    assert_eq!(good, CALLS);
    gateway.settled().await;
    assert_eq!(books.spent(&gateway, &key.id).await, [COST * CALLS as i64; 3]);
}

#[tokio::test]
async fn no_wording_of_a_maximum_reserves_less_than_the_answer_may_cost() {
    let more = json!({"budget": {"assumed_output_tokens": TOKENS}, "routing": {"retry_count": 0, "allowed_fails": 1_000_000}});
    let (vendor, gateway) = start(&Books::Sqlite, more).await;
    let gate = Gate::new();
    let mut wrong = Vec::new();
    vendor.script("v", [used(10, TOKENS).after(Step::Gate(gate.clone()))]);
    for (fields, most) in [
        (r#""max_tokens": null"#, 3),
        (r#""max_tokens": 1, "max_completion_tokens": 100"#, 3),
        (r#""max_tokens": 100, "max_completion_tokens": 1"#, 3),
        (r#""max_tokens": "100""#, 3),
        (r#""max_tokens": -1"#, 3),
        (r#""max_tokens": 99.5"#, 3),
        (r#""max_tokens": [100]"#, 3),
        (r#""max_tokens": 1e2"#, 3),
        (r#""max_tokens": 1, "max_tokens": 100"#, 3),
        (r#""max_tokens": 100, "max_tokens": 1"#, 3),
        (r#""max_tokens": 1, "max_tok\u0065ns": 100"#, 3),
        (r#""max_tokens": 100, "n": 3"#, 1),
        (r#""max_tokens": 100, "n": 4"#, 0),
        (r#""max_tokens": 100, "n": 18446744073709551615"#, 0),
        (r#""max_tokens": 100, "n": 1e30"#, 0),
        (r#""max_tokens": 18446744073709551615"#, 0),
        (r#""max_tokens": 9223372036854775807, "n": 128"#, 0),
        (r#""max_tokens": 1e5"#, 0),
        (r#""max_tokens": 100000.0"#, 0),
        (r#""max_tokens": 100, "n": 4.0"#, 0),
        (r#""n": 4"#, 0),
        (r#""max_tokens": 1e300"#, 0),
        (r#""max_tokens": 99999999999999999999999999"#, 0),
    ] {
        vendor.forget();
        let key = gateway.key(json!({"max_budget": dollars(COST * 3 + 1)})).await;
        let body = format!(
            r#"{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], {fields}}}"#
        );
        let bearer = format!("Bearer {}", key.secret);
        let headers = [("authorization", bearer.as_str())];
        let request = crate::client::Request {
            method: "POST",
            path: "/v1/chat/completions",
            headers: &headers,
            body: body.as_bytes(),
        };
        let (address, bytes) = (gateway.address, request.bytes(gateway.address));
        let mut crowd = JoinSet::new();
        for _ in 0..10 {
            let bytes = bytes.clone();
            crowd
                .spawn(async move { crate::client::send_raw(address, &bytes).await.whole().await });
        }
        let mut refused = 0;
        while refused < 10 - most && vendor.seen("v").len() <= most {
            let next = tokio::time::timeout(Duration::from_millis(100), crowd.join_next()).await;
            let Ok(Some(response)) = next else { continue };
            let response = response.unwrap();
            assert!(matches!(response.status, 400 | 402), "{fields}: {}", response.text());
            refused += 1;
        }
        if vendor.seen("v").len() > most {
            wrong.push(format!("{fields}: {} calls", vendor.seen("v").len()));
        }
        for _ in 0..10 {
            gate.open();
        }
        for response in crowd.join_all().await {
            assert!(matches!(response.status, 200 | 400 | 402), "{fields}: {}", response.text());
        }
        // Gates that nobody passed are closed again.
        gateway.settled().await;
        gate.close();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
