//! Every route of the data plane, with every kind of key that must not pass.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::books::{guarded, priced, used};
use crate::client::{PATIENCE, Response};
use crate::harness::{Gateway, serving};
use crate::replay::Vendor;

/// A call of a data-plane route: method, path, content type, body.
#[derive(Clone, Debug)]
struct Call {
    method: &'static str,
    path: String,
    kind: &'static str,
    body: Vec<u8>,
}

impl Call {
    /// Whether a vendor would be called.
    fn is_proxied(&self) -> bool {
        self.method == "POST"
    }

    fn is_anthropic(&self) -> bool {
        self.path.contains("/messages")
    }

    async fn send(&self, gateway: &Gateway, key: Option<&str>) -> Response {
        let bearer = format!("Bearer {}", key.unwrap_or_default());
        let mut headers = Vec::new();
        if self.is_proxied() {
            headers.push(("content-type", self.kind));
        }
        match key {
            // Anthropic's clients have a header of their own.
            Some(key) if self.is_anthropic() => headers.push(("x-api-key", key)),
            Some(_) => headers.push(("authorization", bearer.as_str())),
            None => {}
        }
        gateway.send(self.method, &self.path, &headers, &self.body).await.whole().await
    }
}

/// The data plane's routes as the binary itself lists them.
fn routes() -> Vec<(String, String)> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_llmux-server"))
        .arg("routes")
        .output()
        .expect("the binary starts");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found: Vec<(String, String)> = lines
        .filter(|words| words.last() == Some(&"caller"))
        .map(|words| (words[0].to_owned(), words[1].to_owned()))
        .collect();
    assert!(found.len() >= 13, "{text}");
    found
}

/// Each route in each spelling, with a body that a vendor would get.
fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for (method, path) in routes() {
        let message = json!([{"role": "user", "content": "hi"}]);
        let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
                    --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\ncontent-type: audio/mpeg\r\n\r\nsound\r\n--b--\r\n";
        let body = match path.as_str() {
            "/v1/chat/completions" => json!({"model": "m", "messages": message}),
            "/v1/completions" | "/v1/images/generations" => json!({"model": "m", "prompt": "hi"}),
            "/v1/embeddings" | "/v1/responses" | "/v1/moderations" => {
                json!({"model": "m", "input": "hi"})
            }
            "/v1/audio/speech" => json!({"model": "m", "input": "hi", "voice": "alloy"}),
            "/v1/messages" => json!({"model": "c", "max_tokens": 5, "messages": message}),
            "/v1/messages/count_tokens" => json!({"model": "c", "messages": message}),
            "/v1/audio/transcriptions"
            | "/v1/audio/translations"
            | "/v1/models"
            | "/v1/models/{id}" => Value::Null,
            other => panic!("{other} is a new route: this test must know a body for it"),
        };
        let is_form = path.starts_with("/v1/audio/tran");
        let (kind, body) = if is_form {
            ("multipart/form-data; boundary=b", form.as_bytes().to_vec())
        } else if body.is_null() {
            ("application/json", Vec::new())
        } else {
            ("application/json", body.to_string().into_bytes())
        };
        let path = path.replace("{id}", "m");
        let short = path.strip_prefix("/v1").unwrap().to_owned();
        let mut spellings = vec![path.clone(), short.clone()];
        if method == "POST" && !path.contains("/messages") {
            spellings.push(format!("/openai/deployments/m{short}"));
        }
        let method = if method == "GET" { "GET" } else { "POST" };
        calls.extend(spellings.into_iter().map(|path| Call {
            method,
            path,
            kind,
            body: body.clone(),
        }));
    }
    calls
}

/// A gateway with the models `m` and `other` at one vendor and `c` at Anthropic.
async fn begin() -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("v", [used(10, 5)]);
    vendor.script("a", [used(10, 5)]);
    let mut first = serving(&vendor, "v", priced());
    first["models"] = json!([priced(), {"name": "other"}]);
    let mut second = serving(
        &vendor,
        "a",
        json!({"name": "c", "input_cost_per_token": 0, "output_cost_per_token": 0.001}),
    );
    second["type"] = json!("anthropic");
    let mut configuration = guarded(vec![first, second]);
    configuration["routing"] = json!({"retry_count": 0, "allowed_fails": 1_000_000});
    (vendor, Gateway::start(configuration).await)
}

#[track_caller]
fn assert_refused(response: &Response, call: &Call, who: &str, expected: (u16, &str, &str)) {
    let (status, kind, code) = expected;
    let context = format!("{who}: {} {}: {}", call.method, call.path, response.text());
    assert_eq!(response.status, status, "{context}");
    if call.is_anthropic() {
        let body = response.json();
        let kind = if kind == "insufficient_quota" { "billing_error" } else { kind };
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!(kind)),
            "{context}"
        );
        assert!(
            body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()),
            "{context}"
        );
    } else {
        let error = response.error();
        assert_eq!(
            (error["type"].as_str(), error["code"].as_str()),
            (Some(kind), Some(code)),
            "{context}"
        );
    }
    let retry = matches!(status, 402 | 429).then_some("false");
    assert_eq!(response.header("x-should-retry"), retry, "{context}");
}

const UNAUTHENTICATED: (u16, &str, &str) = (401, "authentication_error", "invalid_api_key");
const EXHAUSTED: (u16, &str, &str) = (402, "insufficient_quota", "budget_exceeded");
const FORBIDDEN: (u16, &str, &str) = (403, "permission_error", "model_not_allowed");
const LIMITED: (u16, &str, &str) = (429, "rate_limit_error", "rate_limit_exceeded");

#[tokio::test]
async fn a_good_key_reaches_the_vendor_on_every_route() {
    let (vendor, gateway) = begin().await;
    let key = gateway.key(json!({})).await;
    for call in calls() {
        vendor.forget();
        let response = call.send(&gateway, Some(&key.secret)).await;
        let calls = usize::from(call.is_proxied());
        assert_eq!(
            vendor.seen_in_all(),
            calls,
            "{} {}: {}",
            call.method,
            call.path,
            response.text()
        );
        assert!(!matches!(response.status, 400..=499), "{}: {}", call.path, response.text());
    }
}

#[tokio::test]
async fn without_a_valid_key_no_route_answers() {
    let (vendor, gateway) = begin().await;
    gateway.manage("/team/new", &json!({"team_id": "t"})).await;
    let blocked = gateway.key(json!({"blocked": true})).await;
    let later = gateway.key(json!({})).await;
    gateway.manage("/key/block", &json!({"key": later.secret})).await;
    let deleted = gateway.key(json!({})).await;
    gateway.manage("/key/delete", &json!({"keys": [deleted.secret]})).await;
    let replaced = gateway.key(json!({})).await;
    gateway.manage("/key/regenerate", &json!({"key": replaced.secret})).await;
    let of_blocked = gateway.key(json!({"team_id": "t"})).await;
    gateway.manage("/team/block", &json!({"team_id": "t"})).await;
    let expired = gateway.key(json!({"duration": "1s"})).await;
    let models = Call { method: "GET", path: "/v1/models".to_owned(), kind: "", body: Vec::new() };
    assert_eq!(models.send(&gateway, Some(&expired.secret)).await.status, 200);
    let deadline = Instant::now() + PATIENCE;
    while models.send(&gateway, Some(&expired.secret)).await.status == 200 {
        assert!(Instant::now() < deadline, "the key does not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let hash = gateway.administer("GET", &format!("/key/info?key={}", later.id), "").await.json();
    let hash = hash["token"].as_str().unwrap().to_owned();
    let valid = gateway.key(json!({})).await;
    for (who, key) in [
        ("nobody", None),
        ("an empty key", Some("")),
        ("an unknown key", Some("sk-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        ("a hash", Some(hash.as_str())),
        ("an id", Some(valid.id.as_str())),
        ("a prefix", Some(&valid.secret[..valid.secret.len() - 1])),
        ("a blocked key", Some(blocked.secret.as_str())),
        ("a key blocked later", Some(later.secret.as_str())),
        ("a deleted key", Some(deleted.secret.as_str())),
        ("a replaced key", Some(replaced.secret.as_str())),
        ("an expired key", Some(expired.secret.as_str())),
        ("a key of a blocked team", Some(of_blocked.secret.as_str())),
    ] {
        for mut call in calls() {
            assert_refused(&call.send(&gateway, key).await, &call, who, UNAUTHENTICATED);
            if call.is_proxied() {
                // Who asks is looked at before what is asked.
                call.body = b"malformed".to_vec();
                assert_refused(&call.send(&gateway, key).await, &call, who, UNAUTHENTICATED);
            }
        }
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn a_key_that_may_not_spend_or_ask_reaches_no_vendor() {
    let (vendor, gateway) = begin().await;
    gateway.manage("/team/new", &json!({"team_id": "poor", "max_budget": 0})).await;
    gateway.manage("/team/new", &json!({"team_id": "foreign", "models": ["other"]})).await;
    gateway.manage("/user/new", &json!({"user_id": "foreign", "models": ["other"]})).await;
    gateway
        .manage(
            "/organization/new",
            &json!({"organization_id": "foreign", "organization_alias": "F", "models": ["other"]}),
        )
        .await;
    for (who, fields, expected) in [
        ("a budget of 0", json!({"max_budget": 0}), EXHAUSTED),
        ("a team's budget of 0", json!({"team_id": "poor"}), EXHAUSTED),
        ("a limit of 0", json!({"rpm_limit": 0}), LIMITED),
        ("a key for management", json!({"key_type": "management"}), FORBIDDEN),
        ("a key for reading", json!({"key_type": "read_only"}), FORBIDDEN),
        ("a key for another model", json!({"models": ["other"]}), FORBIDDEN),
        ("a key for another model's pattern", json!({"models": ["o*"]}), FORBIDDEN),
        ("a team's other model", json!({"team_id": "foreign"}), FORBIDDEN),
        ("a user's other model", json!({"user_id": "foreign"}), FORBIDDEN),
        ("an organization's other model", json!({"organization_id": "foreign"}), FORBIDDEN),
        (
            "no model in common with the team",
            json!({"team_id": "foreign", "models": ["m", "c"]}),
            FORBIDDEN,
        ),
    ] {
        let key = gateway.key(fields).await;
        for call in calls().into_iter().filter(Call::is_proxied) {
            let response = call.send(&gateway, Some(&key.secret)).await;
            assert_refused(&response, &call, who, expected);
            if expected == LIMITED {
                assert!(response.header("retry-after").is_some(), "{}", call.path);
            }
        }
    }
    assert_eq!(vendor.seen_in_all(), 0);
    gateway.settled().await;
}

#[tokio::test]
async fn an_exhausted_key_is_refused_on_every_route() {
    let (vendor, gateway) = begin().await;
    let key = gateway.key(json!({"max_budget": 0.000_000_615})).await;
    let chat = calls().into_iter().find(|call| call.path == "/v1/chat/completions").unwrap();
    let mut small = chat.clone();
    small.body =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5})
            .to_string()
            .into_bytes();
    // Five tokens are all that it can pay.
    assert_eq!(small.send(&gateway, Some(&key.secret)).await.status, 200);
    vendor.forget();
    for call in calls().into_iter().filter(Call::is_proxied) {
        assert_refused(
            &call.send(&gateway, Some(&key.secret)).await,
            &call,
            "an exhausted key",
            EXHAUSTED,
        );
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

/// The models that a key is told of.
async fn listed(gateway: &Gateway, key: &str) -> Vec<String> {
    let bearer = format!("Bearer {key}");
    let response =
        gateway.send("GET", "/v1/models", &[("authorization", &bearer)], b"").await.whole().await;
    assert_eq!(response.status, 200, "{}", response.text());
    let data = response.json()["data"].as_array().unwrap().clone();
    for model in &data {
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        assert_eq!(model["object"], "model");
    }
    data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_is_told_of_the_models_that_it_may_use_and_of_no_others() {
    let (vendor, gateway) = begin().await;
    gateway.manage("/team/new", &json!({"team_id": "t", "models": ["m", "c"]})).await;
    gateway.manage("/user/new", &json!({"user_id": "u", "models": ["other", "m"]})).await;
    assert_eq!(listed(&gateway, MASTER).await, ["c", "m", "other"]);
    for (fields, expected) in [
        (json!({}), &["c", "m", "other"][..]),
        (json!({"models": []}), &["c", "m", "other"]),
        (json!({"models": ["m"]}), &["m"]),
        (json!({"models": ["o*", "c"]}), &["c", "other"]),
        (json!({"models": ["nothing"]}), &[]),
        (json!({"team_id": "t"}), &["c", "m"]),
        (json!({"team_id": "t", "models": ["all-team-models"]}), &["c", "m"]),
        (json!({"team_id": "t", "models": ["c", "other"]}), &["c"]),
        (json!({"team_id": "t", "user_id": "u"}), &["m"]),
        (json!({"key_type": "read_only"}), &["c", "m", "other"]),
        (json!({"max_budget": 0}), &["c", "m", "other"]),
    ] {
        let key = gateway.key(fields.clone()).await;
        assert_eq!(listed(&gateway, &key.secret).await, expected, "{fields}");
        // What is listed may be used and looked at, and nothing else.
        for model in ["c", "m", "other"] {
            let bearer = format!("Bearer {}", key.secret);
            let headers = [("authorization", bearer.as_str())];
            let path = format!("/v1/models/{model}");
            let response = gateway.send("GET", &path, &headers, b"").await.whole().await;
            let allowed = expected.contains(&model);
            assert_eq!(response.status == 200, allowed, "{fields} {model}: {}", response.text());
            if !allowed {
                assert!(matches!(response.status, 403 | 404), "{}", response.text());
                response.error();
            }
            if fields.get("key_type").is_some()
                || fields.get("max_budget").is_some()
                || model == "c"
            {
                continue;
            }
            for name in [model.to_owned(), format!("v/{model}")] {
                let response = gateway.chat_with(&name, &headers).await;
                let expected = if allowed { 200 } else { 403 };
                assert_eq!(response.status, expected, "{fields} {name}: {}", response.text());
            }
        }
    }
    // Where only a provider's spelling is allowed the bare name, which others may serve as well, is not.
    let key = gateway.key(json!({"models": ["v/m"]})).await;
    let bearer = format!("Bearer {}", key.secret);
    for (name, status) in [("v/m", 200), ("m", 403), ("v/other", 403), ("a/m", 403)] {
        let response = gateway.chat_with(name, &[("authorization", &bearer)]).await;
        assert_eq!(response.status, status, "{name}: {}", response.text());
    }
    // A key for management asks for no models.
    let key = gateway.key(json!({"key_type": "management"})).await;
    let bearer = format!("Bearer {}", key.secret);
    let response =
        gateway.send("GET", "/v1/models", &[("authorization", &bearer)], b"").await.whole().await;
    response.assert_error(403, "permission_error", Some("model_not_allowed"));
    assert!(vendor.seen_in_all() > 0);
}
