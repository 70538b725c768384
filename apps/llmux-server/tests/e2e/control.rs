//! The management plane's view of deployments: what would be chosen, in what state they are, cooldowns by hand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::auth::MASTER;
use crate::client::{PATIENCE, Request, Response, send};
use crate::harness::{ANSWER, Gateway, ask, serving};
use crate::replay::{Gate, Reply, Step, Vendor};

/// A configuration with an open data plane and the management plane behind the master key.
pub(crate) fn managed(providers: Vec<Value>, routing: Value) -> Value {
    json!({"auth": {"enabled": false, "master_key": MASTER}, "providers": providers, "routing": routing})
}

impl Gateway {
    /// Calls the management plane with the master key.
    pub(crate) async fn administer(&self, method: &str, path: &str, body: &str) -> Response {
        self.send(method, path, &[("x-api-key", MASTER)], body.as_bytes()).await.whole().await
    }

    /// Returns the states of all deployments.
    pub(crate) async fn states(&self) -> Vec<Value> {
        let response = self.administer("GET", "/control/deployments", "").await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["data"].as_array().expect("a list of deployments").clone()
    }

    /// Returns the state of one deployment.
    pub(crate) async fn state_of(&self, id: &str) -> Value {
        let states = self.states().await;
        let found = states.iter().find(|state| state["deployment_id"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {states:?}")).clone()
    }

    /// Waits until a deployment's state is as told.
    pub(crate) async fn becomes(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state_of(id).await;
            if wanted(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{state} does not become what it should");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Takes a deployment out of use for so many seconds; 0 takes it back.
    pub(crate) async fn cool(&self, id: &str, seconds: f64) -> Value {
        let body = json!({"deployment_id": id, "cooldown_seconds": seconds}).to_string();
        let response = self.administer("POST", "/control/deployments/cooldown", &body).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Explains where a request would go.
    pub(crate) async fn explain(&self, body: &Value) -> Value {
        let response = self.administer("POST", "/route/explain", &body.to_string()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }
}

/// The ids in a list of an explanation.
fn ids(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list");
    list.iter().map(|it| it["deployment"].as_str().expect("each names its deployment")).collect()
}

/// Two deployments of `m`, `a` and `b`, that answer.
async fn two(routing: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let one = |name: &str, model: Value| {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        serving(&vendor, name, model)
    };
    let providers = vec![
        one("a", json!({"name": "m", "tags": ["red"], "upstream": "real", "rpm": 50})),
        one("b", json!({"name": "m", "tags": ["blue"]})),
    ];
    let gateway = Gateway::start(managed(providers, routing)).await;
    (vendor, gateway)
}

#[tokio::test]
async fn the_routes_about_deployments_need_the_master_key() {
    let (_vendor, gateway) = two(json!({})).await;
    let body = json!({"deployment_id": "a/m", "cooldown_seconds": 60}).to_string();
    for (method, path) in [
        ("POST", "/route/explain"),
        ("GET", "/control/deployments"),
        ("POST", "/control/deployments/cooldown"),
    ] {
        for headers in [&[][..], &[("authorization", "Bearer sk-wrong")]] {
            let response = gateway.send(method, path, headers, body.as_bytes()).await.whole().await;
            response.assert_error(401, "authentication_error", Some("invalid_api_key"));
        }
        let other = if method == "GET" { "POST" } else { "GET" };
        let response = gateway.administer(other, path, "").await;
        assert_eq!(response.status, 405, "{path}: {}", response.text());
    }
    assert_eq!(gateway.state_of("a/m").await["state"], "available", "nothing was set");
}

#[tokio::test]
async fn with_an_admin_port_deployments_are_managed_only_there() {
    let vendor = Vendor::start().await;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = socket.local_addr().unwrap();
    drop(socket);
    let mut configuration =
        managed(vec![serving(&vendor, "a", json!("m"))], json!({"retry_count": 0}));
    configuration["server"] = json!({"admin_port": admin.port()});
    let gateway = Gateway::start(configuration).await;
    let cooldown = json!({"deployment_id": "a/m", "cooldown_seconds": 60}).to_string();
    let explain = ask("m").to_string();
    for (method, path, body) in [
        ("POST", "/route/explain", explain.as_str()),
        ("GET", "/control/deployments", ""),
        ("POST", "/control/deployments/cooldown", cooldown.as_str()),
    ] {
        let response = gateway.administer(method, path, body).await;
        assert_eq!(response.status, 404, "{path}: {}", response.text());
        let headers = [("x-api-key", MASTER)];
        let request = Request { method, path, headers: &headers, body: body.as_bytes() };
        let response = send(admin, &request).await.whole().await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
    }
}

#[tokio::test]
async fn an_explanation_tells_the_choice_and_changes_nothing() {
    let (vendor, gateway) = two(json!({"strategy": "round-robin"})).await;
    let mut body = ask("m");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(77);
    body["tags"] = json!(["red"]);
    let first = gateway.explain(&body).await;
    assert_eq!(
        (&first["model"], &first["route"], &first["strategy"]),
        (&json!("m"), &json!("m"), &json!("round-robin")),
        "{first}"
    );
    assert_eq!((&first["stream"], &first["tags"]), (&json!(true), &json!(["red"])));
    assert_eq!(first["max_output_tokens"], 77);
    assert!(first["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{first}");
    assert!(first["why"].as_str().is_some_and(|why| why.contains("round-robin")), "{first}");
    let mut candidates = ids(&first["candidates"]);
    candidates.sort_unstable();
    assert_eq!(candidates, ["a/m", "b/m"]);
    assert!(candidates.contains(&first["chosen"].as_str().unwrap()), "{first}");
    assert_eq!(first["excluded"], json!([]));
    for candidate in first["candidates"].as_array().unwrap() {
        let (provider, upstream) =
            if candidate["deployment"] == "a/m" { ("a", "real") } else { ("b", "m") };
        assert_eq!(candidate["provider"], provider, "{candidate}");
        assert_eq!(candidate["upstream_model"], upstream, "{candidate}");
    }

    // Round-robin would go on if one of these had counted.
    for _ in 0..5 {
        assert_eq!(gateway.explain(&body).await["chosen"], first["chosen"]);
    }
    for state in gateway.states().await {
        let counted = (&state["in_flight"], &state["requests"], &state["tokens"], &state["calls"]);
        assert_eq!(counted, (&json!(0), &json!(0), &json!(0), &json!(0)), "{state}");
    }
    assert_eq!(vendor.seen_in_all(), 0);
    let response = gateway.chat(&ask("m")).await;
    assert_eq!(response.header("x-llmux-deployment"), first["chosen"].as_str());
}

#[tokio::test]
async fn an_explanation_says_why_deployments_are_left_out() {
    let vendor = Vendor::start().await;
    vendor.script("limited", [Reply::json(200, ANSWER)]);
    let gate = Gate::new();
    vendor.script("full", [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    let mut full = serving(&vendor, "full", json!("busy"));
    full["max_concurrent"] = json!(1);
    full["models"] = json!(["busy", {"name": "m", "tags": ["red"]}]);
    let providers = vec![
        full,
        serving(&vendor, "limited", json!({"name": "m", "rpm": 1, "tags": ["red"]})),
        serving(&vendor, "cooled", json!({"name": "m", "tags": ["red"]})),
        serving(&vendor, "other", json!({"name": "m", "tags": ["blue"]})),
        serving(&vendor, "spare", json!({"name": "m", "tags": ["red"], "weight": 0})),
    ];
    let gateway = Gateway::start(managed(providers, json!({"strategy": "tag-based"}))).await;
    gateway.cool("cooled/m", 60.0).await;
    assert_eq!(gateway.chat(&ask("limited/m")).await.status, 200);
    let held = async { assert_eq!(gateway.chat(&ask("busy")).await.status, 200) };
    let explained = async {
        vendor.arrived("full", 1).await;
        let mut body = ask("m");
        body["tags"] = json!(["red"]);
        let told = gateway.explain(&body).await;
        gate.open();
        told
    };
    let ((), told) = tokio::join!(held, explained);
    assert_eq!(told["chosen"], "spare/m", "{told}");
    assert_eq!(ids(&told["candidates"]), ["spare/m"]);
    let excluded = told["excluded"].as_array().unwrap();
    let reason = |id: &str| {
        let found = excluded.iter().find(|it| it["deployment"] == id);
        found.unwrap_or_else(|| panic!("no {id} in {told}"))
    };
    assert_eq!(excluded.len(), 4, "{told}");
    assert_eq!(reason("full/m")["reason"], "busy");
    assert_eq!(reason("other/m")["reason"], "tags");
    let limited = reason("limited/m");
    assert_eq!(limited["reason"], "limited");
    let wait = limited["retry_after_ms"].as_u64().unwrap();
    assert!((1..=60_000).contains(&wait), "{limited}");
    let cooled = reason("cooled/m");
    assert_eq!((&cooled["reason"], &cooled["cooldown"]), (&json!("cooling"), &json!("manual")));
    assert!(cooled["left_ms"].as_u64().is_some_and(|left| left <= 60_000), "{cooled}");
}

#[tokio::test]
async fn an_explanation_without_a_choice_says_so() {
    let (_vendor, gateway) = two(json!({"strategy": "tag-based", "fallbacks": {}})).await;
    let mut body = ask("m");
    body["tags"] = json!(["green"]);
    let told = gateway.explain(&body).await;
    assert_eq!((&told["chosen"], &told["candidates"]), (&Value::Null, &json!([])), "{told}");
    assert!(told["why"].as_str().is_some_and(|why| why.contains("tags")), "{told}");
    assert_eq!(ids(&told["excluded"]).len(), 2);
}

#[tokio::test]
async fn an_explanation_names_the_provider_restriction_and_the_fallback_models() {
    let vendor = Vendor::start().await;
    let mut a = serving(&vendor, "a", json!("m"));
    a["models"] = json!(["m", "n", "o"]);
    let providers = vec![a, serving(&vendor, "b", json!("m"))];
    let routing = json!({
        "fallbacks": {"m": ["n"], "n": ["o"]},
        "context_window_fallbacks": {"m": ["o"]},
        "content_policy_fallbacks": {"m": ["n", "o"]},
    });
    let gateway = Gateway::start(managed(providers, routing)).await;
    let told = gateway.explain(&ask("b/m")).await;
    assert_eq!((told["chosen"].as_str(), ids(&told["excluded"])), (Some("b/m"), vec!["a/m"]));
    assert_eq!(told["excluded"][0]["reason"], "not_allowed");
    let told = gateway.explain(&ask("m")).await;
    assert_eq!(told["fallbacks"], json!(["n", "o"]), "{told}");
    assert_eq!(told["context_window_fallbacks"], json!(["o"]), "{told}");
    assert_eq!(told["content_policy_fallbacks"], json!(["n", "o"]), "{told}");
}

#[tokio::test]
async fn an_unknown_price_is_stated_and_neither_zero_nor_infinite() {
    let vendor = Vendor::start().await;
    let priced = |input: f64| json!({"name": "m", "input_cost_per_token": input, "output_cost_per_token": input});
    let providers = vec![
        serving(&vendor, "unknown", json!("m")),
        serving(&vendor, "cheap", priced(0.000_001)),
        serving(&vendor, "dear", priced(0.000_009)),
    ];
    let gateway = Gateway::start(managed(providers, json!({"strategy": "lowest-cost"}))).await;
    let told = gateway.explain(&ask("m")).await;
    assert_eq!(told["chosen"], "cheap/m", "{told}");
    let measure = |id: &str| {
        let candidates = told["candidates"].as_array().unwrap();
        candidates.iter().find(|it| it["deployment"] == id).unwrap()["measure"].clone()
    };
    let dear = measure("dear/m")["pico_dollars"].as_u64().unwrap();
    assert_eq!(measure("unknown/m")["unknown_price"].as_u64(), Some(dear), "{told}");
    assert!(measure("cheap/m")["pico_dollars"].as_u64().unwrap() < dear, "{told}");
}

#[tokio::test]
async fn bad_questions_to_explain_are_refused() {
    let (vendor, gateway) = two(json!({})).await;
    gateway.administer("POST", "/route/explain", &ask("nope").to_string()).await.assert_error(
        404,
        "invalid_request_error",
        Some("model_not_found"),
    );
    for (body, param) in [
        ("{", None),
        ("", None),
        ("{}", Some("model")),
        (r#"{"model":1}"#, Some("model")),
        (r#"{"model":"m","tags":"red"}"#, Some("tags")),
    ] {
        let response = gateway.administer("POST", "/route/explain", body).await;
        assert_eq!(response.status, 400, "{body}: {}", response.text());
        let error = response.error();
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        assert_eq!(error["param"].as_str(), param, "{error}");
    }
    // The model alone is enough.
    let told = gateway.explain(&json!({"model": "m"})).await;
    assert!(told["chosen"].is_string(), "{told}");
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn all_deployments_are_listed_with_their_live_state() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    vendor.script("a", [Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))]);
    let mut a = serving(&vendor, "a", json!("m"));
    a["tags"] = json!(["red"]);
    a["max_concurrent"] = json!(7);
    a["models"] =
        json!([{"name": "m", "upstream": "real", "weight": 3, "rpm": 9, "tpm": 900}, "wild/*"]);
    let routing = json!({"model_strategy": {"m": "least-busy"}});
    let gateway = Gateway::start(managed(vec![a], routing)).await;
    let listed = gateway.states().await;
    let ids: Vec<_> = listed.iter().map(|it| it["deployment_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a/m", "a/wild/*"]);
    assert_eq!(listed[1]["strategy"], "simple-shuffle");
    let expected = json!({
        "model": "m", "provider": "a", "upstream_model": "real", "strategy": "least-busy", "weight": 3,
        "tags": ["red"], "rpm": 9, "tpm": 900, "provider_max_concurrent": 7, "provider_in_flight": 0,
        "in_flight": 0, "requests": 0, "tokens": 0, "calls": 0, "failures": 0, "state": "available",
        "cooldown_active": false, "cooldown": null, "cooldown_left_ms": null,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&listed[0][name], value, "{name} of {}", listed[0]);
    }

    let call = async { assert_eq!(gateway.chat(&ask("m")).await.status, 200) };
    let look = async {
        vendor.arrived("a", 1).await;
        let during = gateway.state_of("a/m").await;
        gate.open();
        during
    };
    let ((), during) = tokio::join!(call, look);
    let counted = (&during["in_flight"], &during["provider_in_flight"], &during["requests"]);
    assert_eq!(counted, (&json!(1), &json!(1), &json!(1)), "{during}");
    let after = gateway.state_of("a/m").await;
    let counted = (&after["in_flight"], &after["provider_in_flight"], &after["requests"]);
    assert_eq!(counted, (&json!(0), &json!(0), &json!(1)), "{after}");
    // The vendor told 5 tokens.
    assert_eq!((&after["tokens"], &after["calls"]), (&json!(5), &json!(1)), "{after}");
    assert!(after["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{after}");
}

#[tokio::test]
async fn the_listing_shows_no_secrets() {
    let (vendor, gateway) = two(json!({})).await;
    let text = gateway.administer("GET", "/control/deployments", "").await.text();
    assert!(!text.contains("sk-vendor") && !text.contains(&vendor.address.to_string()), "{text}");
}

#[tokio::test]
async fn a_cooldown_by_hand_keeps_traffic_away_until_it_is_cleared() {
    let (vendor, gateway) = two(json!({"retry_count": 0})).await;
    let set = gateway.cool("a/m", 600.0).await;
    assert_eq!((&set["deployment_id"], &set["cooldown_active"]), (&json!("a/m"), &json!(true)));
    let until = set["cooldown_until"].as_str().unwrap();
    assert!(until.ends_with('Z') && until.contains('T'), "{until}");
    let state = gateway.state_of("a/m").await;
    assert_eq!(
        (&state["state"], &state["cooldown"], &state["cooldown_active"]),
        (&json!("cooling"), &json!("manual"), &json!(true)),
        "{state}"
    );
    assert!(state["cooldown_left_ms"].as_u64().is_some_and(|left| left <= 600_000), "{state}");
    for _ in 0..30 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    assert_eq!((vendor.seen("a").len(), vendor.seen("b").len()), (0, 30));

    let cleared = gateway.cool("a/m", 0.0).await;
    assert_eq!(
        (&cleared["cooldown_active"], &cleared["cooldown_until"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(gateway.state_of("a/m").await["state"], "available");
    gateway.cool("b/m", 600.0).await;
    assert_eq!(gateway.chat(&ask("m")).await.header("x-llmux-deployment"), Some("a/m"));

    // An operator's wish holds for the last one too.
    gateway.cool("a/m", 600.0).await;
    let calls = vendor.seen_in_all();
    let response = gateway.chat(&ask("m")).await;
    assert_eq!(response.status, 503, "{}", response.text());
    response.error();
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=600).contains(&wait), "{wait}");
    assert_eq!(vendor.seen_in_all(), calls);
}

#[tokio::test]
async fn a_cooldown_that_cannot_be_set_is_refused_and_sets_nothing() {
    let (_vendor, gateway) = two(json!({})).await;
    let path = "/control/deployments/cooldown";
    let unknown = json!({"deployment_id": "a/nope", "cooldown_seconds": 1}).to_string();
    let response = gateway.administer("POST", path, &unknown).await;
    assert_eq!(response.status, 404, "{}", response.text());
    assert_eq!(response.error()["param"], "deployment_id");
    for (body, field) in [
        (json!({"cooldown_seconds": 1}), Some("deployment_id")),
        (json!({"deployment_id": "a/m"}), Some("cooldown_seconds")),
        (json!({"deployment_id": "a/m", "cooldown_seconds": -1}), Some("cooldown_seconds")),
        (json!({"deployment_id": "a/m", "cooldown_seconds": 1e300}), Some("cooldown_seconds")),
        (json!({"deployment_id": "a/m", "cooldown_seconds": "soon"}), Some("cooldown_seconds")),
        (json!({"deployment_id": "a/m", "cooldown_seconds": null}), Some("cooldown_seconds")),
        (json!({"deployment_id": 5, "cooldown_seconds": 1}), Some("deployment_id")),
        (json!({"deployment_id": "a/m", "cooldown_seconds": 1, "reason": "x"}), Some("reason")),
        (json!([]), None),
    ] {
        let response = gateway.administer("POST", path, &body.to_string()).await;
        assert_eq!(response.status, 400, "{body}: {}", response.text());
        if let Some(field) = field {
            let error = response.error();
            assert_eq!(error["param"], field, "{body}: {error}");
            assert!(error["message"].as_str().unwrap().contains(field), "{error}");
        }
    }
    assert_eq!(gateway.administer("POST", path, "{").await.status, 400);
    for state in gateway.states().await {
        assert_eq!(state["state"], "available", "{state}");
    }
}

#[tokio::test]
async fn the_access_log_tells_why_a_deployment_was_chosen() {
    let vendor = Vendor::start().await;
    vendor.script("a", [Reply::json(500, "{}")]);
    vendor.script("b", [Reply::json(200, ANSWER)]);
    let providers = vec![
        serving(&vendor, "a", json!("m")),
        serving(&vendor, "b", json!({"name": "m", "weight": 0})),
    ];
    let gateway = Gateway::start(managed(providers, json!({"retry_backoff": "1ms"}))).await;
    let response = gateway.chat_with("m", &[("x-request-id", "decided")]).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let line = gateway.logged("decided");
    assert_eq!((&line["deployment"], &line["attempts"]), (&json!("b/m"), &json!(2)), "{line}");
    let decision = line["decision"].as_str().unwrap();
    assert!(decision.starts_with("simple-shuffle 1/2 "), "{decision}");
    assert!(decision.contains("tried=1"), "{decision}");
    let line = gateway.chat_with("nope", &[("x-request-id", "undecided")]).await;
    assert_eq!(line.status, 404);
    assert!(gateway.logged("undecided").get("decision").is_none());
}

#[test]
fn the_list_of_routes_names_those_about_deployments() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_llmux-server"))
        .arg("routes")
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for route in [
        ["POST", "/route/explain", "proxy_admin_viewer"],
        ["GET", "/control/deployments", "proxy_admin_viewer"],
        ["GET", "/control/state", "proxy_admin_viewer"],
        ["POST", "/control/deployments/cooldown", "proxy_admin"],
    ] {
        let listed = text.lines().any(|line| line.split_whitespace().eq(route));
        assert!(listed, "{route:?} in {text}");
    }
}

#[tokio::test]
async fn an_endpoint_to_explain_may_be_percent_encoded() {
    let (_vendor, gateway) = two(json!({})).await;
    let body = json!({"model": "m"}).to_string();
    for endpoint in ["/v1/embeddings", "%2Fv1%2Fembeddings"] {
        let path = format!("/route/explain?endpoint={endpoint}");
        let response = gateway.administer("POST", &path, &body).await;
        assert_eq!(response.status, 200, "{endpoint}: {}", response.text());
    }
    let response = gateway.administer("POST", "/route/explain?endpoint=%2Fv1", &body).await;
    assert_eq!((response.status, &response.json()["error"]["param"]), (400, &json!("endpoint")));
}
