//! Models that a request goes on with when its own cannot answer.

use serde_json::{Value, json};

use crate::bytes::items;
use crate::client::Response;
use crate::control::managed;
use crate::faults::{call, failed, good};
use crate::harness::{ANSWER, Gateway, ask, serving};
use crate::replay::{Gate, Reply, Step, Vendor};

/// A whole answer in Anthropic's words.
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"served","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#;

/// The same as a stream.
fn message_stream() -> Reply {
    let events = [
        r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"served","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let step = |event: &str| {
        let kind =
            serde_json::from_str::<Value>(event).unwrap()["type"].as_str().unwrap().to_owned();
        Step::Write(format!("event: {kind}\ndata: {event}\n\n").into_bytes())
    };
    Reply::stream(events.into_iter().map(step).collect())
}

/// A gateway before one provider for each model, all of them OpenAI's kind, which answer.
async fn models(names: &[&str], routing: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let provider = |name: &&str| {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        serving(&vendor, name, json!(name))
    };
    let providers = names.iter().map(provider).collect();
    let mut settings = json!({"retry_backoff": "1ms"});
    settings.as_object_mut().unwrap().extend(routing.as_object().unwrap().clone());
    let gateway = Gateway::start(managed(providers, settings)).await;
    (vendor, gateway)
}

/// Fails unless the deployment answered after so many attempts, under the name that was asked for.
#[track_caller]
fn assert_answered(response: &Response, asked: &str, deployment: &str, attempts: &str) {
    assert_eq!(response.status, 200, "{}", response.text());
    let told = (response.header("x-llmux-deployment"), response.header("x-llmux-attempts"));
    assert_eq!(told, (Some(deployment), Some(attempts)));
    assert_eq!(response.json()["model"], asked);
    assert_eq!(response.json()["choices"][0]["message"]["content"], "hello");
}

fn refusal(code: &str) -> Reply {
    let object = json!({"message": "refused", "type": "invalid_request_error", "param": "messages", "code": code});
    Reply::json(400, json!({ "error": object }).to_string())
}

#[tokio::test]
async fn a_model_falls_back_to_one_of_another_vendor_in_both_directions() {
    let vendor = Vendor::start().await;
    let mut claude = serving(&vendor, "claude", json!("claude"));
    claude["type"] = json!("anthropic");
    let providers = vec![serving(&vendor, "gpt", json!("gpt")), claude];
    for (asked, other) in [("gpt", "claude"), ("claude", "gpt")] {
        let routing = json!({"fallbacks": {asked: [other]}, "retry_count": 1});
        let gateway = Gateway::start(managed(providers.clone(), routing)).await;
        for stream in [false, true] {
            vendor.forget();
            vendor.script(asked, [failed(500)]);
            let reply = match (other, stream) {
                ("gpt", _) => good(stream),
                (_, false) => Reply::json(200, MESSAGE),
                (_, true) => message_stream(),
            };
            vendor.script(other, [reply]);
            let response = call(&gateway, asked, stream).await;
            assert_eq!(response.status, 200, "{}", response.text());
            assert_eq!(response.header("x-llmux-provider"), Some(other));
            assert_eq!(response.header("x-llmux-attempts"), Some("2"));
            assert_eq!((vendor.seen("gpt").len(), vendor.seen("claude").len()), (1, 1));
            if stream {
                let got = items(&response.body);
                assert_eq!(got.iter().filter(|item| item.is_done()).count(), 1, "{got:?}");
                let named = |item: &crate::bytes::Item| item.json()["model"] == asked;
                assert!(got[..got.len() - 1].iter().all(named), "{got:?}");
            } else {
                assert_answered(&response, asked, &format!("{other}/{other}"), "2");
            }
        }
    }
}

#[tokio::test]
async fn fallbacks_are_tried_in_their_order_and_then_those_of_the_fallbacks() {
    let lists = json!({"m": ["a", "b"], "a": ["c"]});
    let (vendor, gateway) = models(&["m", "a", "b", "c"], json!({"fallbacks": lists})).await;
    for (index, failing) in ["m", "a", "b"].into_iter().enumerate() {
        vendor.forget();
        vendor.script(failing, [failed(500)]);
        let answering = ["a", "b", "c"][index];
        let attempts = (index + 2).to_string();
        let response = gateway.chat(&ask("m")).await;
        assert_answered(&response, "m", &format!("{answering}/{answering}"), &attempts);
        assert_eq!(vendor.only(answering).json()["model"], answering);
        assert_eq!(vendor.seen_in_all(), index + 2);
    }
    vendor.script("c", [failed(529)]);
    assert_eq!(gateway.chat(&ask("m")).await.status, 503);
}

#[tokio::test]
async fn other_deployments_of_the_model_come_before_its_fallbacks() {
    let vendor = Vendor::start().await;
    vendor.script("a", [failed(500)]);
    vendor.script("b", [failed(500), Reply::json(200, ANSWER)]);
    vendor.script("f", [Reply::json(200, ANSWER)]);
    let providers = vec![
        serving(&vendor, "a", json!("m")),
        serving(&vendor, "b", json!({"name": "m", "weight": 0})),
        serving(&vendor, "f", json!("f")),
    ];
    let gateway = Gateway::start(managed(providers, json!({"fallbacks": {"m": ["f"]}}))).await;
    assert_answered(&gateway.chat(&ask("m")).await, "m", "f/f", "3");
    assert_answered(&gateway.chat(&ask("m")).await, "m", "b/m", "2");
    assert_eq!(vendor.seen("f").len(), 1);
}

#[tokio::test]
async fn attempts_are_counted_over_all_models_of_a_request() {
    let routing = json!({"fallbacks": {"m": ["a", "b"]}, "retry_count": 1});
    let (vendor, gateway) = models(&["m", "a", "b"], routing).await;
    vendor.script("m", [failed(500)]);
    vendor.script("a", [failed(500)]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!((response.status, response.header("x-llmux-attempts")), (502, Some("2")));
    assert_eq!(vendor.seen("b").len(), 0);
}

#[tokio::test]
async fn each_kind_of_refused_request_follows_its_own_list() {
    for (list, code) in [
        ("context_window_fallbacks", "context_length_exceeded"),
        ("content_policy_fallbacks", "content_filter"),
    ] {
        let mut routing = json!({
            "fallbacks": {"m": ["general"]},
            "context_window_fallbacks": {"m": ["other"]},
            "content_policy_fallbacks": {"m": ["other"]},
        });
        routing[list] = json!({"m": ["right"]});
        let (vendor, gateway) = models(&["m", "general", "other", "right"], routing).await;
        vendor.script("m", [refusal(code)]);
        assert_answered(&gateway.chat(&ask("m")).await, "m", "right/right", "2");
        assert_eq!(vendor.seen_in_all(), 2, "{code}");
        vendor.script("right", [good(true)]);
        assert_eq!(gateway.open("m").await.header("x-llmux-deployment"), Some("right/right"));

        // The fallback refuses it too: its words are the answer.
        vendor.script("right", [refusal(code)]);
        let response = gateway.chat(&ask("m")).await;
        assert_eq!((response.status, &response.error()["code"]), (400, &json!(code)));
        for state in gateway.states().await {
            assert_eq!((&state["state"], &state["failures"]), (&json!("available"), &json!(0)));
        }
    }
}

#[tokio::test]
async fn a_request_at_fault_follows_no_list() {
    let lists = json!({"m": ["f"]});
    let routing = json!({"fallbacks": lists, "context_window_fallbacks": lists, "content_policy_fallbacks": lists});
    let (vendor, gateway) = models(&["m", "f"], routing).await;
    vendor.script("m", [refusal("bad_thing")]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!((response.status, &response.error()["code"]), (400, &json!("bad_thing")));
    assert_eq!(vendor.seen_in_all(), 1);
}

#[tokio::test]
async fn without_a_list_of_its_own_kind_a_refusal_is_told_as_it_is() {
    for code in ["context_length_exceeded", "content_filter"] {
        let (vendor, gateway) = models(&["m", "f"], json!({"fallbacks": {"m": ["f"]}})).await;
        vendor.script("m", [refusal(code)]);
        let response = gateway.chat(&ask("m")).await;
        let error = response.error();
        assert_eq!(
            (response.status, &error["code"], &error["param"]),
            (400, &json!(code), &json!("messages"))
        );
        assert_eq!(vendor.seen_in_all(), 1);
    }
}

#[tokio::test]
async fn with_fallbacks_off_no_list_is_followed() {
    let lists = json!({"m": ["f"]});
    let routing = json!({
        "fallback_enabled": false, "retry_count": 2, "fallbacks": lists,
        "context_window_fallbacks": lists, "content_policy_fallbacks": lists,
    });
    let (vendor, gateway) = models(&["m", "f"], routing).await;
    vendor.script("m", [failed(500)]);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!((response.status, response.header("x-llmux-attempts")), (502, Some("3")));
    for code in ["context_length_exceeded", "content_filter"] {
        vendor.script("m", [refusal(code)]);
        assert_eq!(gateway.chat(&ask("m")).await.status, 400);
    }
    gateway.cool("m/m", 60.0).await;
    assert_eq!(gateway.chat(&ask("m")).await.status, 503);
    assert_eq!(vendor.seen("f").len(), 0);
    assert_eq!(gateway.explain(&ask("m")).await["fallbacks"], json!([]));
}

#[tokio::test]
async fn a_model_that_can_take_nothing_falls_back_without_an_attempt() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    vendor.script("busy", [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    for name in ["limited", "cooled", "none", "f"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
    }
    let mut busy = serving(&vendor, "busy", json!("busy"));
    busy["max_concurrent"] = json!(1);
    let providers = vec![
        busy,
        serving(&vendor, "limited", json!({"name": "limited", "rpm": 1})),
        serving(&vendor, "none", json!({"name": "none", "rpm": 0})),
        serving(&vendor, "cooled", json!("cooled")),
        serving(&vendor, "f", json!("f")),
    ];
    let routing =
        json!({"fallbacks": {"busy": ["f"], "limited": ["f"], "cooled": ["f"], "none": ["f"]}});
    let gateway = Gateway::start(managed(providers, routing)).await;
    gateway.cool("cooled/cooled", 60.0).await;
    assert_answered(&gateway.chat(&ask("limited")).await, "limited", "limited/limited", "1");
    let body = ask("busy");
    let others = async {
        vendor.arrived("busy", 1).await;
        for model in ["busy", "limited", "cooled", "none"] {
            assert_answered(&gateway.chat(&ask(model)).await, model, "f/f", "1");
        }
        gate.open();
    };
    let (held, ()) = tokio::join!(gateway.chat(&body), others);
    assert_answered(&held, "busy", "busy/busy", "1");
    let seen = ["busy", "limited", "cooled", "none"].map(|name| vendor.seen(name).len());
    assert_eq!(seen, [1, 1, 0, 0]);
}

#[tokio::test]
async fn a_fallback_may_name_a_providers_model_or_match_a_wildcard() {
    let vendor = Vendor::start().await;
    for name in ["m", "other"] {
        vendor.script(name, [failed(500)]);
    }
    for name in ["exact", "wild"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
    }
    let providers = vec![
        serving(&vendor, "m", json!("m")),
        serving(&vendor, "other", json!("shared")),
        serving(&vendor, "exact", json!({"name": "shared", "upstream": "real"})),
        serving(&vendor, "wild", json!("vendor/*")),
    ];
    for (fallback, provider, upstream) in [
        ("exact/shared", "exact", "real"),
        ("vendor/x", "wild", "vendor/x"),
        ("wild/vendor/y", "wild", "vendor/y"),
    ] {
        vendor.forget();
        let routing = json!({"fallbacks": {"m": [fallback]}, "retry_count": 1});
        let gateway = Gateway::start(managed(providers.clone(), routing)).await;
        let response = gateway.chat(&ask("m")).await;
        assert_eq!((response.status, &response.json()["model"]), (200, &json!("m")), "{fallback}");
        assert_eq!(vendor.only(provider).json()["model"], upstream, "{fallback}");
        assert_eq!(vendor.seen("other").len(), 0, "only the named provider is asked");
    }
}

#[tokio::test]
async fn a_list_is_found_under_the_name_that_the_client_used() {
    let lists = json!({"fallbacks": {"m": ["f"]}});
    let (vendor, gateway) = models(&["m", "f"], lists).await;
    vendor.script("m", [failed(500)]);
    for asked in ["m", "m/m"] {
        assert_answered(&gateway.chat(&ask(asked)).await, asked, "f/f", "2");
    }
}

#[test]
fn fallback_lists_that_cannot_be_followed_are_configuration_errors() {
    let folder = std::env::temp_dir().join(format!("llmux-e2e-fallbacks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let provider =
        json!({"name": "p", "type": "openai", "api_key": "k", "models": ["a", "b", "c"]});
    for (routing, told) in [
        (json!({"fallbacks": {"a": ["b"], "b": ["a"]}}), "a -> b -> a"),
        (json!({"fallbacks": {"a": ["a"]}}), "a -> a"),
        (
            json!({"content_policy_fallbacks": {"a": ["b"], "b": ["c"], "c": ["a"]}}),
            "a -> b -> c -> a",
        ),
        (json!({"fallbacks": {"a": ["nope"]}}), "nope"),
        (json!({"context_window_fallbacks": {"nope": ["a"]}}), "nope"),
        (json!({"strategy": "fastest"}), "routing.strategy"),
        (json!({"model_strategy": {"a": "fastest"}}), "routing.model_strategy"),
        (json!({"model_strategy": {"nope": "least-busy"}}), "nope"),
    ] {
        let file = folder.join("config.yaml");
        let text = json!({"providers": [provider], "routing": routing}).to_string();
        std::fs::write(&file, text).unwrap();
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_llmux-server"));
            command.args(arguments).arg("--config").arg(&file).env_clear().current_dir(&folder);
            command.output().unwrap()
        };
        let checked = run(&["check"]);
        let printed = String::from_utf8(checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(1), "{routing}: {printed}");
        assert!(printed.contains(told) && printed.contains("routing."), "{routing}: {printed}");
        assert_eq!(run(&[]).status.code(), Some(1), "{routing}: it does not start");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_fallback_that_cannot_be_told_the_request_does_not_hide_why_the_first_failed() {
    let vendor = Vendor::start().await;
    vendor.script("open", [failed(500)]);
    let claude = json!({"name": "claude", "type": "anthropic", "api_key": "k", "base_url": vendor.url("claude"), "models": ["cl"]});
    let providers = vec![serving(&vendor, "open", json!("m")), claude];
    let routing = json!({"retry_backoff": "1ms", "fallbacks": {"m": ["cl"]}});
    let gateway = Gateway::start(managed(providers, routing)).await;
    let mut body = ask("m");
    body["n"] = json!(2);
    let response = gateway.chat(&body).await;
    response.assert_error(502, "api_error", Some("upstream_error"));
    assert_eq!(vendor.seen("claude").len(), 0);
}

#[tokio::test]
async fn a_providers_name_before_a_model_means_that_provider_among_wildcards_too() {
    let vendor = Vendor::start().await;
    for name in ["p1", "p2"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
    }
    let providers = vec![serving(&vendor, "p1", json!("*")), serving(&vendor, "p2", json!("*"))];
    let gateway = Gateway::start(managed(providers, json!({}))).await;
    for _ in 0..12 {
        let response = gateway.chat(&ask("p1/x")).await;
        assert_eq!(response.header("x-llmux-provider"), Some("p1"));
    }
    assert_eq!(vendor.seen("p1").iter().filter(|seen| seen.json()["model"] == "x").count(), 12);
    assert_eq!(vendor.seen("p2").len(), 0);
}
