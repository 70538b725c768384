//! What calls cost.

use serde_json::{Value, json};

use crate::control::managed;
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, serving, text};
use crate::replay::{Reply, Vendor, data};

/// A gateway before one vendor of the type openai, whose usage is always 3 and 2 tokens, with a file of prices.
async fn start(models: Value, prices: &Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("open", [Reply::json(200, ANSWER)]);
    let mut provider = serving(&vendor, "open", json!("unused"));
    provider["models"] = models;
    let name: String = vendor.url("open").chars().filter(char::is_ascii_digit).collect();
    let file = std::env::temp_dir().join(format!("llmux-prices-{name}.json"));
    std::fs::write(&file, prices.to_string()).expect("the temporary folder is writable");
    let mut configuration = managed(vec![provider], json!({}));
    configuration["pricing_file"] = json!(file);
    let gateway = Gateway::start(configuration).await;
    std::fs::remove_file(file).expect("it was read and is there");
    (vendor, gateway)
}

#[tokio::test]
async fn the_cost_of_an_answer_is_told_by_the_price_of_its_deployment() {
    let own = json!({"name": "own", "input_cost_per_token": 0.0000001, "output_cost_per_token": 0.00000025});
    let models = json!(["gpt-4o", own, "filed", "unknown-to-all", "open/*",
        {"name": "other", "upstream": "gpt-4o"}, {"name": "free", "input_cost_per_token": 0, "output_cost_per_token": 0}]);
    let filed = json!({"filed": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6}});
    let (_vendor, gateway) = start(models, &filed).await;
    for (model, cost) in [
        // 3 x 2.5e-6 + 2 x 1e-5
        ("gpt-4o", Some("0.0000275")),
        ("other", Some("0.0000275")),
        // 3 x 1e-7 + 2 x 2.5e-7
        ("own", Some("0.0000008")),
        ("filed", Some("0.000009")),
        ("free", Some("0")),
        ("unknown-to-all", None),
        ("open/gpt-4o-mini", Some("0.00000165")),
    ] {
        let response = gateway.chat(&ask(model)).await;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("x-llmux-response-cost"), cost, "{model}");
    }
}

#[tokio::test]
async fn the_cost_of_a_stream_is_in_the_access_log_only() {
    let (vendor, gateway) = start(json!(["gpt-4o"]), &json!({})).await;
    let stream = [data(&text("hello")), data(STOP), data(USAGE), data("[DONE]")];
    vendor.script("open", [Reply::stream(stream.to_vec())]);
    let mut body = ask("gpt-4o");
    body["stream"] = json!(true);
    let response = gateway.chat(&body).await;
    assert_eq!((response.status, response.header("x-llmux-response-cost")), (200, None));
    let line = gateway.logged(response.header("x-request-id").unwrap());
    assert_eq!(line["cost"].to_string(), "0.0000275", "{line}");
}

#[tokio::test]
async fn no_wording_of_a_usage_makes_an_answer_free_or_loses_it() {
    let vendor = Vendor::start().await;
    let priced = |name: &str| json!({"name": name, "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6});
    let mut claude = serving(&vendor, "claude", priced("c"));
    claude["type"] = json!("anthropic");
    let mut gemini = serving(&vendor, "gemini", priced("g"));
    gemini["type"] = json!("gemini");
    let providers = vec![serving(&vendor, "open", priced("o")), claude, gemini];
    let gateway = Gateway::start(managed(providers, json!({}))).await;
    let text = "x".repeat(400);
    for (prompt, completion, is_counted) in [
        (json!(4000.0), json!(3000.0), true),
        (json!("4000"), json!("3000"), true),
        (json!(null), json!(null), false),
        (json!(-1), json!([]), false),
        (json!(u64::MAX), json!(1e30), false),
    ] {
        let open = json!({"id": "1", "object": "chat.completion", "created": 1, "model": "o",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion}});
        let claude = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}], "usage": {"input_tokens": prompt, "output_tokens": completion}});
        let gemini = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": completion}});
        for (name, model, answer) in
            [("open", "o", open), ("claude", "c", claude), ("gemini", "g", gemini)]
        {
            vendor.script(name, [Reply::json(200, answer.to_string())]);
            let response = gateway.chat(&ask(model)).await;
            assert_eq!(response.status, 200, "{model}: {}", response.text());
            let cost = response.header("x-llmux-response-cost").expect("a cost");
            if is_counted {
                assert_eq!(cost, "0.01", "{model}: {prompt} {completion}");
            } else {
                // At least the text, a token for each four letters.
                let cost: f64 = cost.parse().expect("a number");
                assert!((0.000_2..0.001).contains(&cost), "{model}: {prompt} {completion}: {cost}");
            }
        }
    }
}
