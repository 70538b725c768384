//! The strategies, as a configuration names them: who gets which share of the calls.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::Response;
use crate::control::managed;
use crate::faults::failed;
use crate::harness::{ANSWER, Gateway, ask, serving};
use crate::replay::{Gate, Reply, Step, Vendor};

/// A gateway before deployments of `m` that answer, each described by its provider's name and what its model is set to
/// besides the name.
async fn start(deployments: &[(&str, Value)], routing: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let one = |(name, settings): &(&str, Value)| {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        let mut model = json!({"name": "m"});
        model.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        serving(&vendor, name, model)
    };
    let providers = deployments.iter().map(one).collect();
    let gateway = Gateway::start(managed(providers, routing)).await;
    (vendor, gateway)
}

#[track_caller]
fn provider_of(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response.header("x-llmux-provider").expect("who answered is told").to_owned()
}

/// Sends the request so often and counts who answered.
async fn shares(gateway: &Gateway, body: &Value, calls: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..calls {
        *counts.entry(provider_of(&gateway.chat(body).await)).or_insert(0) += 1;
    }
    counts
}

fn share(counts: &BTreeMap<String, usize>, name: &str) -> usize {
    counts.get(name).copied().unwrap_or(0)
}

#[tokio::test]
async fn simple_shuffle_draws_by_weight_else_by_rpm_else_by_tpm_else_evenly() {
    // Of 200 calls; each bound is at least five standard deviations away from what is expected.
    for (heavy, light, expected) in [
        (json!({"weight": 3}), json!({"weight": 1}), 150),
        (json!({"weight": 3, "rpm": 1000}), json!({"weight": 1, "rpm": 9000}), 150),
        (json!({"weight": 3}), json!({}), 150),
        (json!({"rpm": 3000}), json!({"rpm": 1000}), 150),
        (json!({"tpm": 3_000_000}), json!({"tpm": 1_000_000}), 150),
        (json!({}), json!({}), 100),
    ] {
        let deployments = [("heavy", heavy.clone()), ("light", light)];
        let (_vendor, gateway) = start(&deployments, json!({})).await;
        let counts = shares(&gateway, &ask("m"), 200).await;
        let got = share(&counts, "heavy");
        assert!(got.abs_diff(expected) <= 36, "{heavy}: {counts:?}, not about {expected}");
    }
}

#[tokio::test]
async fn a_weight_of_0_is_the_last_resort_under_each_strategy() {
    for strategy in [
        "simple-shuffle",
        "lowest-latency",
        "least-busy",
        "lowest-tpm-rpm",
        "lowest-cost",
        "tag-based",
        "round-robin",
    ] {
        let deployments = [("spare", json!({"weight": 0})), ("one", json!({})), ("two", json!({}))];
        let routing = json!({"strategy": strategy, "retry_backoff": "1ms"});
        let (vendor, gateway) = start(&deployments, routing).await;
        let counts = shares(&gateway, &ask("m"), 20).await;
        assert_eq!(share(&counts, "spare"), 0, "{strategy}: {counts:?}");
        for name in ["one", "two"] {
            vendor.script(name, [failed(500)]);
        }
        let response = gateway.chat(&ask("m")).await;
        assert_eq!(provider_of(&response), "spare", "{strategy}");
        assert_eq!(response.header("x-llmux-attempts"), Some("3"), "{strategy}");
    }
}

#[tokio::test]
async fn round_robin_takes_turns_by_weight() {
    let deployments = [("a", json!({})), ("b", json!({})), ("c", json!({}))];
    let (_vendor, gateway) = start(&deployments, json!({"strategy": "round-robin"})).await;
    let mut turns = Vec::new();
    for _ in 0..30 {
        turns.push(provider_of(&gateway.chat(&ask("m")).await));
    }
    for three in turns.chunks(3) {
        assert_eq!(three, &turns[..3], "the same order each time");
    }
    assert_eq!(turns[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3);

    let deployments = [("a", json!({"weight": 3})), ("b", json!({"weight": 1}))];
    let (_vendor, gateway) = start(&deployments, json!({"strategy": "round-robin"})).await;
    for _ in 0..5 {
        let counts = shares(&gateway, &ask("m"), 4).await;
        assert_eq!((share(&counts, "a"), share(&counts, "b")), (3, 1), "in each round");
    }
}

#[tokio::test]
async fn lowest_cost_prefers_what_is_cheaper_for_the_request() {
    let price = |input: f64, output: f64| json!({"input_cost_per_token": input, "output_cost_per_token": output});
    let deployments = [
        ("cheap-input", price(0.000_001, 0.000_010)),
        ("cheap-output", price(0.000_010, 0.000_001)),
        ("dear", price(0.000_010, 0.000_010)),
    ];
    let (vendor, gateway) = start(&deployments, json!({"strategy": "lowest-cost"})).await;
    let mut long = ask("m");
    long["messages"][0]["content"] = json!("many words ".repeat(1000));
    long["max_tokens"] = json!(5);
    let mut short = ask("m");
    short["max_tokens"] = json!(5000);
    for _ in 0..10 {
        assert_eq!(provider_of(&gateway.chat(&long).await), "cheap-input");
        assert_eq!(provider_of(&gateway.chat(&short).await), "cheap-output");
    }
    assert_eq!(vendor.seen("dear").len(), 0);
    // The other field for the same limit.
    short.as_object_mut().unwrap().remove("max_tokens");
    short["max_completion_tokens"] = json!(5000);
    assert_eq!(provider_of(&gateway.chat(&short).await), "cheap-output");
}

#[tokio::test]
async fn lowest_cost_goes_on_with_the_next_cheapest() {
    let price = |each: f64| json!({"input_cost_per_token": each, "output_cost_per_token": each});
    let deployments =
        [("dear", price(0.000_009)), ("cheap", price(0.000_001)), ("middle", price(0.000_004))];
    let routing = json!({"strategy": "lowest-cost", "retry_backoff": "1ms"});
    let (vendor, gateway) = start(&deployments, routing).await;
    vendor.script("cheap", [failed(500)]);
    assert_eq!(provider_of(&gateway.chat(&ask("m")).await), "middle");
}

/// Asks with tags in the body.
async fn tagged(gateway: &Gateway, tags: Value) -> Response {
    let mut body = ask("m");
    body["tags"] = tags;
    gateway.chat(&body).await
}

fn colours() -> [(&'static str, Value); 3] {
    [
        ("red", json!({"tags": ["red", "warm"]})),
        ("blue", json!({"tags": ["blue"]})),
        ("plain", json!({"tags": ["default"]})),
    ]
}

#[tokio::test]
async fn tags_choose_the_deployment_wherever_the_request_has_them() {
    let (vendor, gateway) = start(&colours(), json!({"strategy": "tag-based"})).await;
    for (tag, provider) in [("red", "red"), ("warm", "red"), ("blue", "blue")] {
        let mut of_body = ask("m");
        of_body["tags"] = json!([tag]);
        let mut of_metadata = ask("m");
        of_metadata["metadata"] = json!({"tags": [tag], "user": "u"});
        let plain = ask("m");
        for (body, headers) in [
            (&of_body, &[][..]),
            (&of_metadata, &[]),
            (&plain, &[("x-llmux-tags", tag)]),
            (&plain, &[("x-litellm-tags", tag)]),
            (&plain, &[("x-llmux-tags", tag), ("x-litellm-tags", "unknown")]),
        ] {
            for _ in 0..5 {
                vendor.forget();
                let text = body.to_string();
                let response = gateway
                    .send("POST", "/v1/chat/completions", headers, text.as_bytes())
                    .await
                    .whole()
                    .await;
                assert_eq!(provider_of(&response), provider, "{body} {headers:?}");
                let seen = vendor.only(provider);
                let sent = seen.json();
                assert!(sent.get("tags").is_none(), "{sent}");
                if body.get("metadata").is_some() {
                    assert_eq!(sent["metadata"], json!({"user": "u"}));
                }
                for name in ["x-llmux-tags", "x-litellm-tags"] {
                    assert_eq!(seen.header(name), None);
                }
            }
        }
    }
}

#[tokio::test]
async fn any_of_several_tags_is_enough_unless_all_are_wanted() {
    let routing = json!({"strategy": "tag-based", "tag_match": "any"});
    let (_vendor, gateway) = start(&colours(), routing).await;
    let mut body = ask("m");
    body["tags"] = json!(["red", "blue"]);
    let counts = shares(&gateway, &body, 100).await;
    // The chance of one being left out is 2^-99.
    assert!(share(&counts, "red") > 0 && share(&counts, "blue") > 0, "{counts:?}");
    assert_eq!(share(&counts, "plain"), 0);

    let deployments = &colours()[..2];
    let routing = json!({"strategy": "tag-based", "tag_match": "all"});
    let (vendor, gateway) = start(deployments, routing).await;
    for _ in 0..10 {
        assert_eq!(provider_of(&tagged(&gateway, json!(["warm", "red"])).await), "red");
    }
    vendor.forget();
    let response = tagged(&gateway, json!(["red", "blue"])).await;
    assert_eq!((response.status, &response.error()["param"]), (400, &json!("tags")));
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn default_deployments_take_what_has_no_tags_or_unknown_ones() {
    let (_vendor, gateway) = start(&colours(), json!({"strategy": "tag-based"})).await;
    for _ in 0..10 {
        assert_eq!(provider_of(&gateway.chat(&ask("m")).await), "plain");
        assert_eq!(provider_of(&tagged(&gateway, json!(["green"])).await), "plain");
    }
}

#[tokio::test]
async fn without_a_default_unknown_tags_are_400_and_no_tags_mean_all() {
    let (vendor, gateway) = start(&colours()[..2], json!({"strategy": "tag-based"})).await;
    let response = tagged(&gateway, json!(["green"])).await;
    let error = response.error();
    assert_eq!((response.status, &error["param"]), (400, &json!("tags")), "{error}");
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(vendor.seen_in_all(), 0);
    let counts = shares(&gateway, &ask("m"), 100).await;
    assert!(share(&counts, "red") > 0 && share(&counts, "blue") > 0, "{counts:?}");
}

#[tokio::test]
async fn tags_of_a_provider_count_for_all_of_its_models() {
    let vendor = Vendor::start().await;
    let mut providers = Vec::new();
    for name in ["red", "blue"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        let mut provider = serving(&vendor, name, json!({"name": "m", "tags": ["own"]}));
        provider["tags"] = json!([name]);
        providers.push(provider);
    }
    let routing = json!({"strategy": "tag-based", "tag_match": "all"});
    let gateway = Gateway::start(managed(providers, routing)).await;
    for name in ["red", "blue"] {
        assert_eq!(provider_of(&tagged(&gateway, json!(["own", name])).await), name);
    }
}

#[tokio::test]
async fn a_request_that_belongs_to_one_deployment_does_not_slip_to_another() {
    let (vendor, gateway) = start(
        &colours(),
        json!({"strategy": "tag-based", "retry_count": 3, "retry_backoff": "1ms"}),
    )
    .await;
    vendor.script("red", [failed(500)]);
    assert_eq!(tagged(&gateway, json!(["red"])).await.status, 502);
    gateway.cool("red/m", 60.0).await;
    assert_eq!(tagged(&gateway, json!(["red"])).await.status, 503);
    assert_eq!((vendor.seen("blue").len(), vendor.seen("plain").len()), (0, 0));
}

#[tokio::test]
async fn wrong_tags_are_400_and_other_strategies_only_take_them_away() {
    let (vendor, gateway) = start(&colours(), json!({})).await;
    for tags in [json!("red"), json!({"red": true}), json!([1]), json!([["red"]])] {
        let response = tagged(&gateway, tags.clone()).await;
        assert_eq!((response.status, &response.error()["param"]), (400, &json!("tags")), "{tags}");
    }
    assert_eq!(vendor.seen_in_all(), 0);
    assert_eq!(tagged(&gateway, json!(["green"])).await.status, 200);
    let seen = colours().iter().flat_map(|(name, _)| vendor.seen(name)).next().unwrap();
    assert!(seen.json().get("tags").is_none());
}

#[tokio::test]
async fn least_busy_spreads_calls_that_are_out_evenly() {
    let deployments = [("a", json!({})), ("b", json!({})), ("c", json!({}))];
    let (vendor, gateway) = start(&deployments, json!({"strategy": "least-busy"})).await;
    let gate = Gate::new();
    for name in ["a", "b", "c"] {
        vendor.script(name, [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    }
    let gateway = std::sync::Arc::new(gateway);
    let call = || {
        let gateway = std::sync::Arc::clone(&gateway);
        tokio::spawn(async move { provider_of(&gateway.chat(&ask("m")).await) })
    };
    let calls: Vec<_> = (0..12).map(|_| call()).collect();
    for name in ["a", "b", "c"] {
        vendor.arrived(name, 4).await;
    }
    assert_eq!(vendor.seen_in_all(), 12);
    for _ in 0..12 {
        gate.open();
    }
    for call in calls {
        call.await.unwrap();
    }
    for state in gateway.states().await {
        assert_eq!(state["in_flight"], 0, "{state}");
    }
}

#[tokio::test]
async fn least_busy_takes_weights_into_account_and_does_not_flock_to_a_failing_one() {
    let deployments = [("big", json!({"weight": 3})), ("small", json!({"weight": 1}))];
    let (vendor, gateway) = start(&deployments, json!({"strategy": "least-busy"})).await;
    let gate = Gate::new();
    for name in ["big", "small"] {
        vendor.script(name, [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    }
    let gateway = std::sync::Arc::new(gateway);
    let call = || {
        let gateway = std::sync::Arc::clone(&gateway);
        tokio::spawn(async move { gateway.chat(&ask("m")).await.status })
    };
    let calls: Vec<_> = (0..8).map(|_| call()).collect();
    vendor.arrived("big", 6).await;
    vendor.arrived("small", 2).await;
    for _ in 0..8 {
        gate.open();
    }
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }

    let deployments = [("good", json!({})), ("bad", json!({}))];
    let routing = json!({"strategy": "least-busy", "cooldown_period": "0s", "retry_count": 0});
    let (vendor, gateway) = start(&deployments, routing).await;
    vendor.script("bad", [failed(500)]);
    for _ in 0..100 {
        gateway.chat(&ask("m")).await;
    }
    // Nothing is in flight at any pick: an even share would be 50.
    let bad = vendor.seen("bad").len();
    assert!(bad <= 35, "{bad} of 100 calls went to the failing deployment");
}

#[tokio::test]
async fn lowest_latency_prefers_the_quicker_vendor_once_both_were_measured() {
    let mock = llmux_mock::Mock::start(llmux_mock::Options::default()).await.unwrap();
    let provider = |name: &str, fault: &str| {
        json!({
            "name": name, "type": "openai", "api_key": "k", "base_url": format!("{}/v1", mock.url()),
            "headers": {"x-mock-fault": fault}, "models": ["m"],
        })
    };
    let providers = vec![provider("slow", "first-byte=400ms"), provider("quick", "")];
    for stream in [false, true] {
        let routing = json!({"strategy": "lowest-latency"});
        let gateway = Gateway::start(managed(providers.clone(), routing)).await;
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream});
        let counts = shares(&gateway, &body, 2).await;
        assert_eq!((share(&counts, "slow"), share(&counts, "quick")), (1, 1), "both are measured");
        // A stream is measured when it has ended, which its client may see a little earlier.
        for id in ["slow/m", "quick/m"] {
            gateway.becomes(id, |state| state["calls"] == 1).await;
        }
        let counts = shares(&gateway, &body, 40).await;
        // One may be spent on finding out whether the slow one is still slow.
        assert!(share(&counts, "quick") >= 39, "{counts:?}");
        let told = gateway.explain(&body).await;
        assert_eq!(told["chosen"], "quick/m", "{told}");
        let field = if stream { "first_output_ms" } else { "latency_ms" };
        assert!(gateway.state_of("slow/m").await[field].as_f64().unwrap() >= 400.0);
    }
}

#[tokio::test]
async fn lowest_tpm_rpm_fills_limits_evenly() {
    let deployments = [("small", json!({"rpm": 100})), ("large", json!({"rpm": 300}))];
    let (_vendor, gateway) = start(&deployments, json!({"strategy": "lowest-tpm-rpm"})).await;
    let counts = shares(&gateway, &ask("m"), 40).await;
    assert!(share(&counts, "small").abs_diff(10) <= 1, "{counts:?}");

    // With limits of tokens: each answer uses five.
    let deployments = [("small", json!({"tpm": 10_000})), ("large", json!({"tpm": 30_000}))];
    let (_vendor, gateway) = start(&deployments, json!({"strategy": "lowest-tpm-rpm"})).await;
    let mut body = ask("m");
    body["max_tokens"] = json!(5);
    // What is reserved before the answer counts too, so that the first call goes to the larger one.
    let counts = shares(&gateway, &body, 40).await;
    assert!(share(&counts, "small") <= 13, "{counts:?}");
    assert!(share(&counts, "large") >= 27, "{counts:?}");
}

#[tokio::test]
async fn a_models_own_strategy_overrides_the_default() {
    let vendor = Vendor::start().await;
    let mut providers = Vec::new();
    for name in ["a", "b"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        let mut provider = serving(&vendor, name, json!("m"));
        provider["models"] = json!(["m", "n", "wild/*"]);
        providers.push(provider);
    }
    let routing = json!({"strategy": "least-busy", "model_strategy": {"m": "round-robin", "wild/*": "lowest-cost"}});
    let gateway = Gateway::start(managed(providers, routing)).await;
    for state in gateway.states().await {
        let strategy = match state["model"].as_str().unwrap() {
            "m" => "round-robin",
            "n" => "least-busy",
            _ => "lowest-cost",
        };
        assert_eq!(state["strategy"], strategy, "{state}");
    }
    // By chance they would take turns once in 2^19.
    let first = provider_of(&gateway.chat(&ask("m")).await);
    for number in 1..20 {
        let next = provider_of(&gateway.chat(&ask("m")).await);
        assert_eq!(next == first, number % 2 == 0);
    }
}
