//! Limits of deployments and providers.

use serde_json::{Value, json};

use crate::client::Response;
use crate::control::managed;
use crate::faults::{failed, refusing};
use crate::harness::{ANSWER, Gateway, ask, serving};
use crate::replay::{Gate, Reply, Step, Vendor};

/// A gateway before two deployments of `m` that answer: `first` has the settings and is preferred, `second` has a
/// weight of 0.
async fn start(first: Value, second: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let one = |name: &str, settings: Value| {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        let mut model = json!({"name": "m"});
        model.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        serving(&vendor, name, model)
    };
    let mut second = second;
    second["weight"] = json!(0);
    let providers = vec![one("first", first), one("second", second)];
    let gateway = Gateway::start(managed(providers, json!({"retry_backoff": "1ms"}))).await;
    (vendor, gateway)
}

/// A gateway before one deployment of `m` that answers.
async fn lone(settings: Value, routing: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("only", [Reply::json(200, ANSWER)]);
    let mut model = json!({"name": "m"});
    model.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let gateway = Gateway::start(managed(vec![serving(&vendor, "only", model)], routing)).await;
    (vendor, gateway)
}

fn served_by(response: &Response) -> &str {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("x-llmux-attempts"), Some("1"));
    response.header("x-llmux-provider").unwrap()
}

#[track_caller]
fn assert_limited(response: &Response) {
    response.assert_error(429, "rate_limit_error", Some("rate_limit_exceeded"));
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(response.header("x-llmux-attempts"), None, "nothing was tried");
}

#[tokio::test]
async fn over_its_requests_per_minute_a_deployment_is_passed_over() {
    let (vendor, gateway) = start(json!({"rpm": 2}), json!({"rpm": 1})).await;
    for provider in ["first", "first", "second"] {
        assert_eq!(served_by(&gateway.chat(&ask("m")).await), provider);
    }
    for stream in [false, true] {
        let mut body = ask("m");
        body["stream"] = json!(stream);
        assert_limited(&gateway.chat(&body).await);
    }
    assert_eq!((vendor.seen("first").len(), vendor.seen("second").len()), (2, 1));
}

#[tokio::test]
async fn failed_calls_count_for_the_requests_per_minute() {
    let (vendor, gateway) = start(json!({"rpm": 1}), json!({})).await;
    vendor.script("first", [failed(500), Reply::json(200, ANSWER)]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!((response.status, response.header("x-llmux-attempts")), (200, Some("2")));
    assert_eq!(served_by(&gateway.chat(&ask("m")).await), "second");
}

#[tokio::test]
async fn tokens_per_minute_count_what_was_really_used() {
    let used =
        |tokens: u64| ANSWER.replace("\"total_tokens\":5", &format!("\"total_tokens\":{tokens}"));
    let (vendor, gateway) = start(json!({"tpm": 1000}), json!({})).await;
    vendor.script("first", [Reply::json(200, used(10)), Reply::json(200, used(990))]);
    let mut body = ask("m");
    body["max_tokens"] = json!(900);
    // It reserves over 900 tokens and uses 10.
    assert_eq!(served_by(&gateway.chat(&body).await), "first");
    assert_eq!(gateway.state_of("first/m").await["tokens"], 10);
    assert_eq!(served_by(&gateway.chat(&body).await), "first");
    assert_eq!(gateway.state_of("first/m").await["tokens"], 1000);
    body["max_tokens"] = json!(1);
    assert_eq!(served_by(&gateway.chat(&body).await), "second");
}

#[tokio::test]
async fn tokens_are_reserved_while_a_call_is_out() {
    let (vendor, gateway) = start(json!({"tpm": 1000}), json!({})).await;
    let gate = Gate::new();
    vendor.script("first", [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    let mut body = ask("m");
    body["max_tokens"] = json!(900);
    let other = async {
        vendor.arrived("first", 1).await;
        assert_eq!(served_by(&gateway.chat(&body).await), "second");
        gate.open();
    };
    let (held, ()) = tokio::join!(gateway.chat(&body), other);
    assert_eq!(served_by(&held), "first");
    assert_eq!(gateway.state_of("first/m").await["tokens"], 5);
}

#[tokio::test]
async fn a_failed_call_gives_its_tokens_back() {
    let (vendor, gateway) = start(json!({"tpm": 1000}), json!({})).await;
    vendor.script("first", [failed(500), Reply::json(200, ANSWER)]);
    let mut body = ask("m");
    body["max_tokens"] = json!(900);
    assert_eq!(gateway.chat(&body).await.header("x-llmux-provider"), Some("second"));
    assert_eq!(gateway.state_of("first/m").await["tokens"], 0);
    assert_eq!(served_by(&gateway.chat(&body).await), "first");
}

#[tokio::test]
async fn a_request_larger_than_the_whole_limit_is_not_locked_out() {
    let (vendor, gateway) = lone(json!({"tpm": 100}), json!({"retry_count": 0})).await;
    let mut body = ask("m");
    body["messages"][0]["content"] = json!("many words ".repeat(1000));
    assert_eq!(served_by(&gateway.chat(&body).await), "only");
    // Five tokens are used: the whole limit is not free any more.
    assert_limited(&gateway.chat(&body).await);
    assert_eq!(vendor.seen_in_all(), 1);
}

#[tokio::test]
async fn a_limit_of_0_means_nothing() {
    for limit in [json!({"rpm": 0}), json!({"tpm": 0})] {
        let (vendor, gateway) = lone(limit.clone(), json!({})).await;
        let response = gateway.chat(&ask("m")).await;
        assert_limited(&response);
        assert_eq!(response.header("x-should-retry"), Some("false"));
        assert_eq!(vendor.seen_in_all(), 0);
        let (vendor, gateway) = start(limit, json!({})).await;
        assert_eq!(served_by(&gateway.chat(&ask("m")).await), "second");
        assert_eq!(vendor.seen("first").len(), 0);
    }
}

#[tokio::test]
async fn a_refused_connection_gives_its_request_back() {
    let vendor = Vendor::start().await;
    vendor.script("up", [Reply::json(200, ANSWER)]);
    let (_socket, refused) = refusing();
    let mut down = serving(&vendor, "down", json!({"name": "m", "rpm": 1, "tpm": 1000}));
    down["base_url"] = json!(refused);
    let providers = vec![down, serving(&vendor, "up", json!({"name": "m", "weight": 0}))];
    let routing = json!({"allowed_fails": 1000, "retry_backoff": "1ms"});
    let gateway = Gateway::start(managed(providers, routing)).await;
    for _ in 0..5 {
        let response = gateway.chat(&ask("m")).await;
        let told = (response.status, response.header("x-llmux-attempts"));
        assert_eq!(told, (200, Some("2")), "it is tried again each time");
    }
    let state = gateway.state_of("down/m").await;
    assert_eq!(
        (&state["requests"], &state["tokens"], &state["failures"]),
        (&json!(0), &json!(0), &json!(5))
    );
}

#[tokio::test]
async fn a_request_that_the_vendor_has_no_words_for_takes_nothing_of_its_limit() {
    let vendor = Vendor::start().await;
    let mut provider = serving(&vendor, "a", json!({"name": "m", "rpm": 1}));
    provider["type"] = json!("anthropic");
    let gateway = Gateway::start(managed(vec![provider], json!({}))).await;
    let mut body = ask("m");
    body["logit_bias"] = json!({"5": 1});
    for _ in 0..3 {
        assert_eq!(gateway.chat(&body).await.status, 400);
    }
    let state = gateway.state_of("a/m").await;
    assert_eq!((&state["requests"], &state["in_flight"]), (&json!(0), &json!(0)), "{state}");
}

/// A configuration in which all models of the provider `only` share one place.
async fn one_place(routing: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let mut provider = serving(&vendor, "only", json!("m"));
    provider["max_concurrent"] = json!(1);
    provider["models"] = json!(["m", "n"]);
    (vendor, Gateway::start(managed(vec![provider], routing)).await)
}

#[tokio::test]
async fn over_a_providers_places_another_deployment_is_called() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    vendor.script("first", [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    vendor.script("second", [Reply::json(200, ANSWER)]);
    let mut first = serving(&vendor, "first", json!("m"));
    first["max_concurrent"] = json!(2);
    let providers = vec![first, serving(&vendor, "second", json!({"name": "m", "weight": 0}))];
    let gateway = Gateway::start(managed(providers, json!({}))).await;
    let body = ask("m");
    let others = async {
        vendor.arrived("first", 2).await;
        for _ in 0..5 {
            assert_eq!(served_by(&gateway.chat(&body).await), "second");
        }
        gate.open();
        gate.open();
    };
    let (one, two, ()) = tokio::join!(gateway.chat(&body), gateway.chat(&body), others);
    assert_eq!((served_by(&one), served_by(&two)), ("first", "first"));
    vendor.script("first", [Reply::json(200, ANSWER)]);
    assert_eq!(served_by(&gateway.chat(&body).await), "first", "its places are free again");
}

#[tokio::test]
async fn without_another_deployment_a_call_waits_for_a_place() {
    let (vendor, gateway) = one_place(json!({"retry_max_backoff": "1h"})).await;
    let gate = Gate::new();
    vendor.script(
        "only",
        [Reply::json(200, ANSWER).after(Step::Gate(gate.clone())), Reply::json(200, ANSWER)],
    );
    let first = async {
        let response = gateway.chat(&ask("m")).await;
        assert_eq!(served_by(&response), "only");
    };
    let second = async {
        vendor.arrived("only", 1).await;
        // The places are the provider's, whatever the model.
        let waiting = async { assert_eq!(served_by(&gateway.chat(&ask("n")).await), "only") };
        let opening = async {
            for _ in 0..20 {
                gateway.states().await;
            }
            assert_eq!(vendor.seen("only").len(), 1, "the second call waits");
            gate.open();
        };
        tokio::join!(waiting, opening);
    };
    tokio::join!(first, second);
    assert_eq!(vendor.seen("only").len(), 2);
}

#[tokio::test]
async fn a_place_that_does_not_become_free_in_time_is_told() {
    let (vendor, gateway) =
        one_place(json!({"retry_max_backoff": "50ms", "retry_backoff": "1ms"})).await;
    let (other, patient) = one_place(json!({"retry_max_backoff": "1h"})).await;
    vendor.script("only", [Reply::silent()]);
    other.script("only", [Reply::silent()]);
    let _held = tokio::join!(held(&gateway), held(&patient));
    gateway.becomes("only/m", |state| state["in_flight"] == 1).await;
    patient.becomes("only/m", |state| state["in_flight"] == 1).await;
    assert_limited(&gateway.chat(&ask("m")).await);
    let response = patient.chat_with("m", &[("x-llmux-timeout", "100ms")]).await;
    response.assert_error(504, "timeout_error", Some("timeout"));
    vendor.arrived("only", 1).await;
    other.arrived("only", 1).await;
    assert_eq!((vendor.seen_in_all(), other.seen_in_all()), (1, 1));
}

/// Sends a request and does not wait for the answer. Dropping the connection cancels it.
async fn held(gateway: &Gateway) -> tokio::net::TcpStream {
    let body = ask("m").to_string();
    let request = crate::client::Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, &request.bytes(gateway.address))
        .await
        .unwrap();
    socket
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let (vendor, gateway) = one_place(json!({"retry_max_backoff": "1h"})).await;
    vendor.script("only", [Reply::silent(), Reply::json(200, ANSWER)]);
    let left = held(&gateway).await;
    vendor.arrived("only", 1).await;
    drop(left);
    vendor.abandoned(1).await;
    assert_eq!(served_by(&gateway.chat(&ask("m")).await), "only");
}
