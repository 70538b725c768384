//! What is in the log, and what is not.

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::control::managed;
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, once, provider, role, serving, text};
use crate::replay::{Reply, Vendor, data};

/// Nothing else says this.
const PROMPT: &str = "zebra-crossing";

fn asking(model: &str, content: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": content}]})
}

fn answering(content: &str) -> Reply {
    Reply::json(200, ANSWER.replace("hello", content))
}

impl Gateway {
    /// Waits for the line about what was asked and answered.
    async fn content(&self, request_id: &str) -> Value {
        let found = || {
            let lines = self.printed();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line: &Value| {
                line["message"] == "content" && line["request_id"] == request_id
            })
        };
        // The access line comes first, in the same breath.
        self.logged(request_id);
        self.prints("\"message\":\"content\"").await;
        loop {
            if let Some(line) = found() {
                return line;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn say(&self, request_id: &str, body: &Value) -> u16 {
        let headers = [("x-request-id", request_id)];
        let body = body.to_string();
        let sent = self.send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        sent.whole().await.status
    }
}

#[tokio::test]
async fn content_is_in_no_line_unless_asked_for() {
    let vendor = Vendor::start().await;
    let refusal = json!({"error": {"message": format!("I do not like {PROMPT}"), "type": "invalid_request_error", "code": "bad"}});
    vendor.script("m", [answering(&format!("{PROMPT}!"))]);
    vendor.script("bad", [Reply::json(500, refusal.to_string())]);
    let events = [text(PROMPT), STOP.to_owned(), "[DONE]".to_owned()];
    vendor.script("stream", [Reply::events(events)]);
    let providers = ["m", "bad", "stream"].map(|name| provider(&vendor, name));
    let mut configuration = once(providers.to_vec());
    configuration["logging"] = json!({"level": "trace"});
    let gateway = Gateway::start(configuration).await;
    for (model, status) in [("m", 200), ("bad", 502), ("stream", 200), ("unknown", 404)] {
        let mut body = asking(model, PROMPT);
        body["stream"] = json!(model == "stream");
        assert_eq!(gateway.say(&format!("id-{model}"), &body).await, status);
        gateway.logged(&format!("id-{model}"));
    }
    let printed = gateway.printed();
    assert!(printed.contains("attempt failed"), "the log tells much: {printed}");
    assert!(!printed.contains(PROMPT), "{printed}");
}

#[tokio::test]
async fn content_that_is_asked_for_is_logged_without_secrets_and_base64() {
    let vendor = Vendor::start().await;
    let token = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789";
    vendor.script("m", [answering(&format!("Hello, {token}"))]);
    let events = vec![
        data(&role()),
        data(&text("Good ")),
        data(&text("day")),
        data(STOP),
        data(USAGE),
        data("[DONE]"),
    ];
    vendor.script("stream", [Reply::stream(events)]);
    let mut providers = ["m", "stream"].map(|name| provider(&vendor, name));
    providers[0]["api_key"] = json!("a vendor's key with words");
    let mut configuration = once(providers.to_vec());
    configuration["logging"] = json!({"content": true});
    configuration["auth"] = json!({"master_key": "not-a-common-master-key", "enabled": false});
    let gateway = Gateway::start(configuration).await;

    let image = format!("data:image/png;base64,{}", "iVBORw0KGgo=".repeat(1000));
    let said = format!(
        "my key is {token}, yours are not-a-common-master-key and a vendor's key with words"
    );
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": said},
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "text", "text": "curl -H 'Authorization: Bearer abc.def'"},
    ]}]});
    assert_eq!(gateway.say("whole", &body).await, 200);
    let line = gateway.content("whole").await;
    let parts = &line["request"]["messages"][0]["content"];
    assert_eq!(parts[0]["text"], "my key is ***, yours are *** and ***");
    assert_eq!(parts[1]["image_url"]["url"], "data:image/png;base64,[base64, 12000 bytes]");
    assert_eq!(parts[2]["text"], "curl -H 'Authorization: Bearer ***'");
    assert_eq!(line["answer"]["choices"][0]["message"]["content"], "Hello, ***");
    assert!(!gateway.printed().contains("proj-abc"), "{}", gateway.printed());

    let mut body = asking("stream", PROMPT);
    body["stream"] = json!(true);
    assert_eq!(gateway.say("streamed", &body).await, 200);
    let line = gateway.content("streamed").await;
    assert_eq!(line["request"]["messages"][0]["content"], PROMPT);
    assert_eq!(line["answer"], json!({"text": "Good day"}));

    let long = "largely ".repeat(10_000);
    assert_eq!(gateway.say("long", &asking("m", &long)).await, 200);
    let line = gateway.content("long").await;
    assert!(line["request"].as_str().is_some_and(|text| text.ends_with(" bytes more]")), "{line}");
    assert!(line.to_string().len() < 64 * 1024);
}

#[tokio::test]
async fn management_calls_are_not_content() {
    let vendor = Vendor::start().await;
    let mut configuration = managed(vec![provider(&vendor, "m")], json!({}));
    configuration["logging"] = json!({"content": true});
    let gateway = Gateway::start(configuration).await;
    let headers = [("x-api-key", MASTER), ("x-request-id", "made")];
    let body = br#"{"key_alias": "an-alias-of-this-test"}"#;
    let made = gateway.send("POST", "/key/generate", &headers, body).await.whole().await;
    assert_eq!(made.status, 200, "{}", made.text());
    gateway.logged("made");
    assert!(!gateway.printed().contains("an-alias-of-this-test"), "{}", gateway.printed());
}

#[tokio::test]
async fn levels_are_set_by_module() {
    let vendor = Vendor::start().await;
    vendor.script("bad", [Reply::json(500, "{}")]);
    let start = async |level: &str| {
        let mut configuration = once(vec![provider(&vendor, "bad")]);
        configuration["logging"] = json!({ "level": level });
        let gateway = Gateway::start(configuration).await;
        assert_eq!(gateway.chat(&ask("bad")).await.status, 502);
        gateway
    };
    let gateway = start("warn,llmux_server::proxy=debug").await;
    gateway.prints("attempt failed").await;
    assert!(!gateway.printed().contains("listening"), "{}", gateway.printed());
    assert!(!gateway.printed().contains("\"message\":\"request\""), "{}", gateway.printed());

    let mut gateway = start("info,llmux_server::access=off").await;
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    gateway.prints("stopped").await;
    assert!(!gateway.printed().contains("attempt failed"), "{}", gateway.printed());
    assert!(!gateway.printed().contains("\"message\":\"request\""), "{}", gateway.printed());
}

#[tokio::test]
async fn a_line_says_who_asked_for_what_and_what_came_of_it() {
    let vendor = Vendor::start().await;
    let events = vec![data(&role()), data(&text("hi")), data(STOP), data(USAGE), data("[DONE]")];
    vendor.script("m", [Reply::stream(events)]);
    let model = json!({"name": "m", "upstream": "real", "input_cost_per_token": 0.001, "output_cost_per_token": 0.002});
    let gateway = Gateway::start(managed(vec![serving(&vendor, "m", model)], json!({}))).await;
    let team = gateway.administer("POST", "/team/new", r#"{"team_id": "red"}"#).await;
    assert_eq!(team.status, 200, "{}", team.text());
    let key = gateway.key(json!({"key_alias": "ci", "team_id": "red"})).await.secret;
    let mut body = asking("m", PROMPT);
    body["stream"] = json!(true);
    let headers = [("x-request-id", "line"), ("x-api-key", key.as_str())];
    let body = body.to_string();
    let sent = gateway.send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!(sent.whole().await.status, 200);
    let line = gateway.logged("line");
    for (name, value) in [
        ("message", json!("request")),
        ("level", json!("INFO")),
        ("key_alias", json!("ci")),
        ("team", json!("red")),
        ("method", json!("POST")),
        ("route", json!("/v1/chat/completions")),
        ("model", json!("m")),
        ("provider", json!("m")),
        ("deployment", json!("m/m")),
        ("upstream_model", json!("real")),
        ("attempts", json!(1)),
        ("status", json!(200)),
        ("outcome", json!("ok")),
        ("stream", json!(true)),
        ("prompt_tokens", json!(3)),
        ("completion_tokens", json!(2)),
        ("finish_reason", json!("stop")),
        ("client_ip", json!("127.0.0.1")),
    ] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
    for name in ["ttft_ms", "duration_ms", "overhead_ms", "bytes_in", "bytes_out"] {
        assert!(line[name].as_f64() > Some(0.0), "{name}: {line}");
    }
    assert!(line["caller"].is_string() && line["decision"].is_string(), "{line}");
    assert_eq!(line["cost"].to_string().trim_matches('"'), "0.007", "{line}");
    assert_eq!(line.get("trace_id"), None, "{line}");
}

#[tokio::test]
async fn lines_are_text_where_people_read_them() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["logging"] = json!({"format": "text", "content": true});
    let gateway = Gateway::start(configuration).await;
    assert_eq!(gateway.say("as-text", &asking("m", PROMPT)).await, 200);
    gateway.prints("INFO content:").await;
    let printed = gateway.printed();
    let line = |part: &str| {
        let found = printed.lines().find(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("no {part} in {printed}")).to_owned()
    };
    assert!(line("INFO request:").contains("request_id=\"as-text\""), "{printed}");
    assert!(line("INFO content:").contains(PROMPT), "{printed}");
    assert!(line("listening").contains("INFO"), "{printed}");
}
