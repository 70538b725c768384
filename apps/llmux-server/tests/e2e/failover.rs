//! Failures of one deployment that another absorbs, cooldowns, and the way back.

use serde_json::{Value, json};

use crate::bytes::items;
use crate::control::managed;
use crate::faults::{assert_good, call, failed, good, impatient, refusing};
use crate::harness::{ANSWER, Gateway, ask, role, serving, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};

/// A gateway before two deployments of `m`, and the vendor: `first` is always chosen while it can be, `second` has a
/// weight of 0 and answers.
async fn start(routing: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("second", [Reply::json(200, ANSWER)]);
    let spare = json!({"name": "m", "weight": 0});
    let providers = vec![serving(&vendor, "first", json!("m")), serving(&vendor, "second", spare)];
    let mut settings = json!({"retry_backoff": "1ms"});
    settings.as_object_mut().unwrap().extend(routing.as_object().unwrap().clone());
    let gateway = Gateway::start(managed(providers, settings)).await;
    (vendor, gateway)
}

#[track_caller]
fn assert_served_by(response: &crate::client::Response, deployment: &str, attempts: &str) {
    assert_eq!(response.status, 200, "{}", response.text());
    let told = (response.header("x-llmux-deployment"), response.header("x-llmux-attempts"));
    assert_eq!(told, (Some(deployment), Some(attempts)));
}

/// An error object of a vendor.
fn error(status: u16, code: &str) -> Reply {
    let object =
        json!({"message": "the vendor refuses", "type": code, "param": null, "code": code});
    Reply::json(status, json!({ "error": object }).to_string())
}

fn failures(stream: bool) -> Vec<(&'static str, Reply)> {
    let cut = if stream {
        Reply::stream(vec![data(&role()), Step::Cut])
    } else {
        Reply::stream(vec![Step::Write(b"{\"id\":".to_vec()), Step::Cut])
    };
    let malformed = if stream {
        Reply::events(["{\"choices\":"])
    } else {
        Reply::json(200, &ANSWER[..ANSWER.len() / 2])
    };
    vec![
        ("500", failed(500)),
        ("429", failed(429).with("retry-after", "60")),
        ("529", failed(529)),
        ("hang", Reply::silent()),
        ("closed", Reply::json(200, "{}").after(Step::Cut)),
        ("cut", cut),
        ("malformed", malformed),
        ("401", error(401, "invalid_api_key")),
        ("402", error(402, "insufficient_quota")),
        ("429 of an account", error(429, "insufficient_quota")),
        ("403", error(403, "forbidden")),
    ]
}

async fn assert_failures_are_absorbed(stream: bool) {
    let vendor = Vendor::start().await;
    let (_socket, refused) = refusing();
    let mut names: Vec<&str> = failures(stream).iter().map(|(name, _)| *name).collect();
    names.push("refused");
    // A model for each failure, so that none is cooled by another.
    let mut providers = Vec::new();
    let mut spare = serving(&vendor, "second", json!("m"));
    spare["models"] = json!([]);
    for (index, name) in names.iter().enumerate() {
        let (provider, model) = (format!("first-{index}"), format!("m{index}"));
        let mut failing = impatient(serving(&vendor, &provider, json!(model)));
        if *name == "refused" {
            failing["base_url"] = json!(refused);
        }
        providers.push(failing);
        spare["models"].as_array_mut().unwrap().push(json!({"name": model, "weight": 0}));
    }
    providers.push(spare);
    for (index, (_, reply)) in failures(stream).into_iter().enumerate() {
        vendor.script(&format!("first-{index}"), [reply]);
    }
    vendor.script("second", [good(stream)]);
    let gateway = Gateway::start(managed(providers, json!({"retry_backoff": "1ms"}))).await;
    for (index, name) in names.iter().enumerate() {
        vendor.forget();
        let model = format!("m{index}");
        let response = call(&gateway, &model, stream).await;
        assert_good(&response, stream, name);
        assert_served_by(&response, &format!("second/{model}"), "2");
        assert_eq!(response.header("x-llmux-provider"), Some("second"), "{name}");
        assert_eq!(vendor.seen("second").len(), 1, "{name}");
        assert_eq!(vendor.seen(&format!("first-{index}")).is_empty(), *name == "refused", "{name}");
    }
}

#[tokio::test]
async fn each_failure_of_a_whole_answer_is_absorbed_by_the_other_deployment() {
    assert_failures_are_absorbed(false).await;
}

#[tokio::test]
async fn each_failure_before_a_streams_first_output_is_absorbed_by_the_other_deployment() {
    assert_failures_are_absorbed(true).await;
}

#[tokio::test]
async fn a_cut_after_the_first_output_is_an_error_event_and_no_second_call() {
    let (vendor, gateway) = start(json!({})).await;
    vendor.script("first", [Reply::stream(vec![data(&role()), data(&text("hi")), Step::Cut])]);
    let response = gateway.open("m").await.whole().await;
    assert_served_by(&response, "first/m", "1");
    let got = items(&response.body);
    assert!(got.iter().all(|item| !item.is_done()), "{got:?}");
    assert!(got.last().unwrap().json()["error"]["message"].is_string(), "{got:?}");
    assert_eq!((vendor.seen("first").len(), vendor.seen("second").len()), (1, 0));
    gateway.becomes("first/m", |state| state["failures"] == 1).await;
}

#[tokio::test]
async fn a_client_that_sends_mistakes_leaves_every_deployment_available() {
    let (vendor, gateway) = start(json!({"strategy": "round-robin"})).await;
    for name in ["first", "second"] {
        vendor.script(name, [error(400, "invalid_request_error")]);
    }
    for number in 0..50 {
        assert_eq!(call(&gateway, "m", number % 2 == 1).await.status, 400);
    }
    assert_eq!(vendor.seen_in_all(), 50, "none is retried");
    for state in gateway.states().await {
        assert_eq!((&state["state"], &state["failures"]), (&json!("available"), &json!(0)));
        assert_eq!(state["in_flight"], 0, "{state}");
    }
}

#[tokio::test]
async fn a_403_cools_nothing() {
    let (vendor, gateway) = start(json!({"allowed_fails": 1})).await;
    vendor.script("first", [error(403, "forbidden")]);
    for _ in 0..5 {
        assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
        assert_eq!(gateway.state_of("first/m").await["state"], "available");
    }
    assert_eq!(vendor.seen("first").len(), 5, "it is asked each time");
}

#[tokio::test]
async fn an_unknown_model_is_404_whatever_the_routing_does() {
    let (vendor, gateway) = start(json!({"fallbacks": {"m": ["first/m"]}})).await;
    for model in ["nope", "first/nope", "nope/m"] {
        gateway.chat(&ask(model)).await.assert_error(
            404,
            "invalid_request_error",
            Some("model_not_found"),
        );
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn a_refused_credential_cools_its_deployment_at_once() {
    for reply in [
        error(401, "invalid_api_key"),
        error(402, "insufficient_quota"),
        error(429, "insufficient_quota"),
    ] {
        let (vendor, gateway) = start(json!({})).await;
        vendor.script("first", [reply]);
        assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
        let state = gateway.state_of("first/m").await;
        assert_eq!(
            (&state["state"], &state["cooldown"]),
            (&json!("cooling"), &json!("credential"))
        );
        assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "1");
        assert_eq!(vendor.seen("first").len(), 1);
    }
}

#[tokio::test]
async fn a_rate_limited_deployment_rests_for_as_long_as_its_vendor_asks() {
    let (vendor, gateway) = start(json!({"cooldown_period": "1s"})).await;
    vendor.script("first", [failed(429).with("retry-after", "600")]);
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
    let state = gateway.state_of("first/m").await;
    assert_eq!((&state["state"], &state["cooldown"]), (&json!("cooling"), &json!("rate_limited")));
    let left = state["cooldown_left_ms"].as_u64().unwrap();
    assert!((300_000..=600_000).contains(&left), "{state}");
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "1");

    let (vendor, gateway) = start(json!({"cooldown_period": "1h"})).await;
    vendor.script("first", [failed(429).with("retry-after-ms", "50"), Reply::json(200, ANSWER)]);
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
    gateway.becomes("first/m", |state| state["state"] == "trial").await;
    assert_served_by(&gateway.chat(&ask("m")).await, "first/m", "1");
    assert_eq!(gateway.state_of("first/m").await["state"], "available");
}

#[tokio::test]
async fn as_many_failures_as_are_allowed_cool_a_deployment() {
    let (vendor, gateway) = start(json!({"allowed_fails": 3})).await;
    vendor.script("first", [failed(500)]);
    for failures in 1..=3 {
        assert_eq!(gateway.state_of("first/m").await["state"], "available");
        assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
        assert_eq!(gateway.state_of("first/m").await["failures"], failures);
    }
    let state = gateway.state_of("first/m").await;
    assert_eq!((&state["state"], &state["cooldown"]), (&json!("cooling"), &json!("failures")));
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "1");
    assert_eq!(vendor.seen("first").len(), 3);
}

#[tokio::test]
async fn failures_among_many_successes_cool_only_from_half_on() {
    let (vendor, gateway) = start(json!({"allowed_fails": 3})).await;
    let mut replies = vec![Reply::json(200, ANSWER); 8];
    replies.push(failed(500));
    vendor.script("first", replies);
    for _ in 0..8 {
        assert_served_by(&gateway.chat(&ask("m")).await, "first/m", "1");
    }
    for _ in 0..7 {
        assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
        assert_eq!(gateway.state_of("first/m").await["state"], "available");
    }
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
    assert_eq!(gateway.state_of("first/m").await["state"], "cooling");
}

#[tokio::test]
async fn a_cooldown_period_of_zero_never_cools() {
    let (vendor, gateway) = start(json!({"cooldown_period": "0s", "allowed_fails": 1})).await;
    vendor.script("first", [failed(500), error(401, "invalid_api_key"), failed(500)]);
    for calls in 1..=5 {
        assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
        assert_eq!(vendor.seen("first").len(), calls);
    }
}

#[tokio::test]
async fn a_lone_deployment_is_never_cooled_and_recovers_at_once() {
    let vendor = Vendor::start().await;
    let routing = json!({"retry_count": 0, "allowed_fails": 1});
    let provider = impatient(serving(&vendor, "only", json!("m")));
    let gateway = Gateway::start(managed(vec![provider], routing)).await;
    let failures = [
        failed(500),
        failed(529),
        failed(429).with("retry-after", "600"),
        error(401, "invalid_api_key"),
        error(402, "insufficient_quota"),
        Reply::silent(),
        Reply::json(200, "{"),
    ];
    for reply in failures {
        vendor.forget();
        vendor.script("only", [reply.clone(), reply, Reply::json(200, ANSWER)]);
        for _ in 0..2 {
            assert!(gateway.chat(&ask("m")).await.status >= 429);
            assert_eq!(gateway.state_of("only/m").await["state"], "available");
        }
        assert_served_by(&gateway.chat(&ask("m")).await, "only/m", "1");
        assert_eq!(vendor.seen("only").len(), 3);
    }
}

/// Cools `first` for a second by a refused credential, and waits that out.
async fn until_trial(vendor: &Vendor, gateway: &Gateway) {
    vendor.script("first", [error(401, "invalid_api_key")]);
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
    gateway.becomes("first/m", |state| state["state"] == "trial").await;
    vendor.forget();
}

#[tokio::test]
async fn after_a_cooldown_one_call_probes_while_the_others_go_elsewhere() {
    let (vendor, gateway) = start(json!({"cooldown_period": "1s"})).await;
    until_trial(&vendor, &gateway).await;
    let gate = Gate::new();
    let held = Reply::json(200, ANSWER).after(Step::Gate(gate.clone()));
    vendor.script("first", [held]);
    let body = ask("m");
    let others = async {
        vendor.arrived("first", 1).await;
        let state = gateway.state_of("first/m").await;
        assert_eq!((&state["state"], &state["in_flight"]), (&json!("probing"), &json!(1)));
        for _ in 0..10 {
            assert_served_by(&gateway.chat(&body).await, "second/m", "1");
        }
        assert_eq!(vendor.seen("first").len(), 1);
        gate.open();
    };
    let (probe, ()) = tokio::join!(gateway.chat(&body), others);
    assert_served_by(&probe, "first/m", "1");
    vendor.script("first", [Reply::json(200, ANSWER)]);
    assert_eq!(gateway.state_of("first/m").await["state"], "available");
    for _ in 0..3 {
        assert_served_by(&gateway.chat(&body).await, "first/m", "1");
    }
}

#[tokio::test]
async fn a_probe_that_fails_cools_again_and_its_client_is_served() {
    let (vendor, gateway) = start(json!({"cooldown_period": "1s", "allowed_fails": 100})).await;
    until_trial(&vendor, &gateway).await;
    vendor.script("first", [failed(500)]);
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "2");
    assert_served_by(&gateway.chat(&ask("m")).await, "second/m", "1");
    assert_eq!(vendor.seen("first").len(), 1);
}

#[tokio::test]
async fn a_probe_whose_client_leaves_lets_the_next_one_probe() {
    let (vendor, gateway) = start(json!({"cooldown_period": "1s"})).await;
    until_trial(&vendor, &gateway).await;
    vendor.script("first", [Reply::stream(vec![data(&role()), Step::Hang])]);
    let body = ask("m");
    let leaves = async {
        vendor.arrived("first", 1).await;
        assert_eq!(gateway.state_of("first/m").await["state"], "probing");
    };
    tokio::select! {
        _ = gateway.chat(&body) => panic!("the vendor gave no output"),
        () = leaves => {}
    }
    vendor.abandoned(1).await;
    gateway.becomes("first/m", |state| state["state"] == "trial").await;
    vendor.script("first", [Reply::json(200, ANSWER)]);
    assert_served_by(&gateway.chat(&ask("m")).await, "first/m", "1");
    assert_eq!(gateway.state_of("first/m").await["state"], "available");
}

#[tokio::test]
async fn a_probe_is_over_with_the_first_output_of_its_stream() {
    let (vendor, gateway) = start(json!({"cooldown_period": "1s"})).await;
    until_trial(&vendor, &gateway).await;
    vendor.script("first", [Reply::stream(vec![data(&role()), data(&text("a")), Step::Hang])]);
    let mut probe = gateway.open("m").await;
    probe.next_event().await.unwrap();
    assert_eq!(gateway.state_of("first/m").await["state"], "available");
}

#[tokio::test]
async fn clients_that_do_not_wait_cool_nothing() {
    let (vendor, gateway) = start(json!({})).await;
    for name in ["first", "second"] {
        vendor.script(name, [Reply::silent()]);
    }
    for _ in 0..8 {
        let response = gateway.chat_with("m", &[("x-llmux-timeout", "50ms")]).await;
        response.assert_error(504, "timeout_error", Some("timeout"));
        assert_eq!(response.header("x-llmux-attempts"), Some("1"));
    }
    for name in ["first/m", "second/m"] {
        let state = gateway.state_of(name).await;
        assert_eq!((&state["state"], &state["failures"]), (&json!("available"), &json!(0)));
        assert_eq!(state["in_flight"], 0);
    }
}

#[tokio::test]
async fn the_clients_time_bounds_a_whole_stream() {
    let (vendor, gateway) = start(json!({})).await;
    vendor.script("first", [Reply::stream(vec![data(&role()), data(&text("a")), Step::Hang])]);
    let mut body = ask("m");
    body["stream"] = json!(true);
    let headers = [("x-llmux-timeout", "300ms")];
    let body = body.to_string();
    let sent = gateway.send("POST", "/v1/chat/completions", &headers, body.as_bytes());
    let response = sent.await.whole().await;
    assert_eq!(response.status, 200);
    let events = response.text();
    assert!(events.contains("\"code\":\"timeout\"") && !events.contains("[DONE]"), "{events}");
    assert_eq!(gateway.state_of("first/m").await["failures"], 0);
}

#[tokio::test]
async fn a_refusal_does_not_end_what_a_retry_can_mend() {
    for refusal in [401, 403] {
        let (vendor, gateway) = start(json!({"retry_backoff": "1ms"})).await;
        vendor.script("first", [failed(500), Reply::json(200, ANSWER)]);
        vendor.script("second", [failed(refusal)]);
        assert_served_by(&gateway.chat(&ask("m")).await, "first/m", "3");
        vendor.script("first", [failed(500)]);
        let response = gateway.chat(&ask("m")).await;
        response.assert_error(502, "api_error", Some("upstream_error"));
    }
}

#[tokio::test]
async fn without_retries_the_first_failure_is_told() {
    let (vendor, gateway) = start(json!({"retry_count": 0})).await;
    vendor.script("first", [failed(500)]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!((response.status, response.header("x-llmux-attempts")), (502, Some("1")));
    assert!(response.error()["message"].as_str().unwrap().contains("the vendor said 500"));
    assert_eq!(vendor.seen("second").len(), 0);
}

#[tokio::test]
async fn when_all_are_rate_limited_the_earliest_wait_is_told_and_vendors_are_left_alone() {
    for (first, second) in [("900", "20"), ("20", "900")] {
        let (vendor, gateway) = start(json!({})).await;
        vendor.script("first", [failed(429).with("retry-after", first)]);
        vendor.script("second", [failed(429).with("retry-after", second)]);
        for calls in 0..2 {
            let response = gateway.chat(&ask("m")).await;
            response.assert_error(429, "rate_limit_error", Some("rate_limit_exceeded"));
            let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=20).contains(&wait), "request {calls}: {wait}");
            let seen = (vendor.seen("first").len(), vendor.seen("second").len());
            assert_eq!(seen, (1, 1), "request {calls}");
        }
    }
}

#[tokio::test]
async fn a_wait_in_milliseconds_counts_before_one_in_seconds() {
    let vendor = Vendor::start().await;
    let gateway =
        Gateway::start(managed(vec![serving(&vendor, "only", json!("m"))], json!({}))).await;
    let limited = failed(429).with("retry-after", "3600").with("retry-after-ms", "20");
    vendor.script("only", [limited, Reply::json(200, ANSWER)]);
    assert_served_by(&gateway.chat(&ask("m")).await, "only/m", "2");
    // A wait beyond the longest of ours is the client's.
    vendor.forget();
    vendor.script("only", [failed(429).with("retry-after", "3600"), Reply::json(200, ANSWER)]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("3600")));
    assert_eq!(vendor.seen("only").len(), 1);
}

#[tokio::test]
async fn when_all_deployments_fail_the_failure_has_its_status() {
    let quota = error(402, "insufficient_quota");
    for (reply, status, kind, attempts) in [
        (failed(500), 502, "api_error", "4"),
        (failed(529), 503, "service_unavailable_error", "4"),
        (failed(503), 503, "service_unavailable_error", "4"),
        (failed(429).with("retry-after", "600"), 429, "rate_limit_error", "2"),
        (failed(408), 504, "timeout_error", "4"),
        (Reply::json(200, "{"), 502, "api_error", "4"),
        (error(401, "invalid_api_key"), 502, "upstream_authentication_error", "2"),
        (quota, 502, "upstream_authentication_error", "2"),
        (error(403, "forbidden"), 403, "forbidden", "2"),
    ] {
        for stream in [false, true] {
            let (vendor, gateway) = start(json!({"retry_count": 3})).await;
            vendor.script("first", [reply.clone()]);
            vendor.script("second", [reply.clone()]);
            let response = call(&gateway, "m", stream).await;
            assert_eq!(response.status, status, "{}", response.text());
            assert_eq!(response.error()["type"], kind);
            assert_eq!(response.header("x-llmux-attempts"), Some(attempts), "{status} {kind}");
            assert!(!vendor.seen("first").is_empty() && !vendor.seen("second").is_empty());
            if matches!(status, 429 | 503) {
                assert!(response.header("retry-after").is_some(), "{:?}", response.headers);
            }
            for state in gateway.states().await {
                assert_eq!(state["in_flight"], 0, "{state}");
            }
        }
    }
}

#[tokio::test]
async fn when_all_cool_for_failures_calling_is_better_than_refusing() {
    let (vendor, gateway) = start(json!({"allowed_fails": 1, "retry_count": 1})).await;
    vendor.script("first", [failed(500)]);
    vendor.script("second", [failed(500)]);
    assert_eq!(gateway.chat(&ask("m")).await.status, 502);
    for state in gateway.states().await {
        assert_eq!(state["state"], "cooling", "{state}");
    }
    vendor.script("first", [Reply::json(200, ANSWER)]);
    vendor.script("second", [Reply::json(200, ANSWER)]);
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
}

#[tokio::test]
async fn the_clients_timeout_is_the_deadline_of_all_attempts_together() {
    let routing = json!({"retry_count": 1000, "cooldown_period": "0s"});
    let (vendor, gateway) = start(routing).await;
    vendor.script("second", [Reply::silent()]);
    for first in [failed(529), failed(500)] {
        for stream in [false, true] {
            vendor.script("first", [first.clone()]);
            let mut body = ask("m");
            body["stream"] = json!(stream);
            let headers = [("x-llmux-timeout", "900ms")];
            let body = body.to_string();
            let response = gateway
                .send("POST", "/v1/chat/completions", &headers, body.as_bytes())
                .await
                .whole()
                .await;
            assert_eq!(response.status, 504, "{}", response.text());
            response.error();
            let attempts: u32 = response.header("x-llmux-attempts").unwrap().parse().unwrap();
            assert!((2..1000).contains(&attempts), "{attempts}");
        }
    }
}

#[tokio::test]
async fn a_hanging_vendor_is_tried_again_until_the_clients_time_is_over() {
    let vendor = Vendor::start().await;
    let provider = impatient(serving(&vendor, "only", json!("m")));
    let routing = json!({"retry_count": 1000, "retry_backoff": "1ms", "retry_max_backoff": "1ms"});
    let gateway = Gateway::start(managed(vec![provider], routing)).await;
    vendor.script("only", [Reply::silent()]);
    let response = gateway.chat_with("m", &[("x-llmux-timeout", "1s")]).await;
    response.assert_error(504, "timeout_error", Some("timeout"));
    assert_eq!(
        response.header("x-llmux-attempts"),
        Some(vendor.seen("only").len().to_string().as_str())
    );
    assert!(vendor.seen("only").len() >= 2);
}

#[tokio::test]
async fn a_retry_that_the_clients_time_does_not_allow_is_not_waited_for() {
    let vendor = Vendor::start().await;
    let providers = vec![serving(&vendor, "only", json!("m"))];
    let routing = json!({"retry_backoff": "1h", "retry_max_backoff": "1h"});
    let gateway = Gateway::start(managed(providers, routing)).await;
    vendor.script("only", [failed(500)]);
    let response = gateway.chat_with("m", &[("x-llmux-timeout", "10m")]).await;
    assert_eq!((response.status, response.header("x-llmux-attempts")), (502, Some("1")));
}

#[tokio::test]
async fn requests_that_end_anyhow_leave_nothing_in_flight() {
    let (vendor, gateway) = start(json!({"retry_count": 0, "cooldown_period": "0s"})).await;
    vendor.script(
        "first",
        [
            Reply::json(200, ANSWER),
            good(true),
            failed(500),
            error(400, "invalid_request_error"),
            Reply::stream(vec![data(&role()), data(&text("a")), Step::Cut]),
            Reply::json(200, "{"),
        ],
    );
    for stream in [false, true, false, false, true, false] {
        call(&gateway, "m", stream).await;
    }
    vendor.script("first", [Reply::stream(vec![data(&text("a")), Step::Hang])]);
    let mut left = gateway.open("m").await;
    left.next_event().await.unwrap();
    drop(left);
    vendor.abandoned(1).await;
    let settled = |state: &Value| state["in_flight"] == 0 && state["provider_in_flight"] == 0;
    gateway.becomes("first/m", settled).await;
    gateway.becomes("second/m", settled).await;
}
