//! Another configuration while the gateway runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::auth::MASTER;
use crate::client::{PATIENCE, Request, Response};
use crate::control::managed;
use crate::harness::{ANSWER, Gateway, STOP, ask, provider, serving, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};
use crate::scrape::Scrape;

impl Gateway {
    /// Asks for the configuration to be read anew.
    pub(crate) async fn reload(&self) -> Response {
        self.administer("POST", "/control/config/reload", "").await
    }

    /// Changes the file and has it applied.
    pub(crate) async fn apply(&mut self, configuration: Value) -> Value {
        self.reconfigure(configuration);
        let response = self.reload().await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Which configuration counts.
    async fn loaded(&self) -> Value {
        let response = self.administer("GET", "/control/config", "").await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    /// Waits until what `GET /control/config` says is as told.
    async fn loads(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.loaded().await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status} does not become what it should");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A vendor whose `a`, `b` and `c` answer, each of them also the name of a model.
async fn vendor() -> Vendor {
    let vendor = Vendor::start().await;
    for name in ["a", "b", "c"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
    }
    vendor
}

fn sha256(path: &std::path::Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn providers_and_models_change_when_an_administrator_asks() {
    let vendor = vendor().await;
    let mut gateway = Gateway::start(managed(vec![provider(&vendor, "a")], json!({}))).await;
    let first = gateway.loaded().await;
    assert_eq!(first["reload_count"], 1);
    assert_eq!(first["checksum"], sha256(&gateway.file()));
    assert!(first["path"].as_str().unwrap().ends_with("config.yaml"), "{first}");
    assert_eq!(
        (gateway.chat(&ask("a")).await.status, gateway.chat(&ask("b")).await.status),
        (200, 404)
    );

    let status = gateway.apply(managed(vec![provider(&vendor, "b")], json!({}))).await;
    assert_eq!((&status["reload_count"], &status["last_error"]), (&json!(2), &Value::Null));
    assert_eq!(status["checksum"], sha256(&gateway.file()));
    assert_ne!(status["checksum"], first["checksum"]);
    assert_eq!(status["restart_required"], json!([]));
    assert_eq!(
        (gateway.chat(&ask("a")).await.status, gateway.chat(&ask("b")).await.status),
        (404, 200)
    );
    let models = gateway.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "b");
    assert_eq!(gateway.loaded().await, status);
}

#[tokio::test]
async fn sighup_reads_the_configuration_anew() {
    let vendor = vendor().await;
    let mut gateway = Gateway::start(managed(vec![provider(&vendor, "a")], json!({}))).await;
    // Nothing changed: whoever asks gets it all the same.
    gateway.signal("-HUP");
    gateway.loads(|status| status["reload_count"] == 2).await;
    gateway.reconfigure(managed(vec![provider(&vendor, "b")], json!({})));
    gateway.signal("-HUP");
    gateway.loads(|status| status["reload_count"].as_u64() >= Some(3)).await;
    assert_eq!(gateway.chat(&ask("b")).await.status, 200);
}

#[tokio::test]
async fn a_changed_file_is_noticed_however_it_is_changed() {
    let vendor = vendor().await;
    let mut gateway = Gateway::start(managed(vec![provider(&vendor, "a")], json!({}))).await;
    // Written over.
    gateway.reconfigure(managed(vec![provider(&vendor, "b")], json!({})));
    gateway.loads(|status| status["reload_count"] == 2).await;
    assert_eq!(gateway.chat(&ask("b")).await.status, 200);

    // Renamed over, as editors do.
    let file = gateway.file();
    let folder = file.parent().unwrap().to_owned();
    let written = |path: &std::path::Path, name: &str| {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut configuration: Value = serde_json::from_str(&text).unwrap();
        configuration["providers"] = json!([provider(&vendor, name)]);
        std::fs::write(path, configuration.to_string()).unwrap();
    };
    written(&folder.join("new.yaml"), "c");
    std::fs::rename(folder.join("new.yaml"), &file).unwrap();
    gateway.loads(|status| status["reload_count"] == 3).await;
    assert_eq!(gateway.chat(&ask("c")).await.status, 200);

    // A link to a link that is switched, as Kubernetes does with a ConfigMap.
    for name in ["a", "b"] {
        std::fs::create_dir(folder.join(name)).unwrap();
        written(&folder.join(name).join("config.yaml"), name);
    }
    std::os::unix::fs::symlink("a", folder.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.yaml", folder.join("link")).unwrap();
    std::fs::rename(folder.join("link"), &file).unwrap();
    gateway.loads(|status| status["reload_count"] == 4).await;
    assert_eq!(gateway.chat(&ask("a")).await.status, 200);
    std::os::unix::fs::symlink("b", folder.join("..new")).unwrap();
    std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    gateway.loads(|status| status["reload_count"] == 5).await;
    assert_eq!(gateway.chat(&ask("b")).await.status, 200);

    // A folder that is gone for a while.
    std::fs::rename(folder.join("b"), folder.join("away")).unwrap();
    gateway.loads(|status| status["rejected_count"] == 1).await;
    assert_eq!(gateway.chat(&ask("b")).await.status, 200);
    std::fs::rename(folder.join("away"), folder.join("b")).unwrap();
    gateway.loads(|status| status["reload_count"] == 6).await;
}

#[tokio::test]
async fn prices_and_variables_in_other_files_count_too() {
    let vendor = vendor().await;
    let mut gateway = Gateway::start(managed(vec![provider(&vendor, "a")], json!({}))).await;
    let folder = gateway.file().parent().unwrap().to_owned();
    let mut configuration = managed(vec![provider(&vendor, "a")], json!({}));
    configuration["pricing_file"] = json!("prices.json");
    configuration["routing"]["retry_count"] = json!("${RETRIES:3}");
    let price = |dollars: &str| {
        format!(
            r#"{{"openai/a": {{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": {dollars}, "output_cost_per_token": 0}}}}"#
        )
    };
    std::fs::write(folder.join("prices.json"), price("0.001")).unwrap();
    gateway.apply(configuration).await;
    assert_eq!(gateway.chat(&ask("a")).await.header("x-llmux-response-cost"), Some("0.003"));

    std::fs::write(folder.join("prices.json"), price("0.01")).unwrap();
    gateway.loads(|status| status["reload_count"] == 3).await;
    assert_eq!(gateway.chat(&ask("a")).await.header("x-llmux-response-cost"), Some("0.03"));

    vendor.script("a", [Reply::json(500, "{}")]);
    std::fs::write(folder.join(".env"), "RETRIES=0\n").unwrap();
    gateway.loads(|status| status["reload_count"] == 4).await;
    let before = vendor.seen("a").len();
    gateway.chat(&ask("a")).await;
    assert_eq!(vendor.seen("a").len(), before + 1);
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_everybody_is_told() {
    let vendor = vendor().await;
    let good = managed(vec![provider(&vendor, "a")], json!({}));
    let mut gateway = Gateway::start(good.clone()).await;
    assert_eq!(gateway.get("/health").await.json()["configuration"], "ok");
    let mut bad = good.clone();
    bad["routing"]["strategi"] = json!("round-robin");
    bad["providers"][0]["timeout"] = json!("-1s");
    bad["providers"][0]["api_key"] = json!("sk-another-secret-of-the-vendor");
    gateway.reconfigure(bad);
    let response = gateway.reload().await;
    response.assert_error(400, "invalid_request_error", Some("invalid_configuration"));
    let error = response.error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("routing.strategi (line "), "{message}");
    assert!(message.contains("providers[0].timeout (line "), "{message}");

    assert_eq!(gateway.chat(&ask("a")).await.status, 200);
    let status = gateway.loaded().await;
    assert_eq!((&status["reload_count"], &status["rejected_count"]), (&json!(1), &json!(1)));
    let problems = status["last_error"]["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(gateway.get("/health").await.json()["configuration"], "rejected");
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    let scrape = Scrape::parse(&gateway.get("/metrics").await.text());
    assert_eq!(scrape.sum("llmux_config_last_load_successful", &[]), 0.0);
    assert_eq!(scrape.sum("llmux_config_loads_total", &[("outcome", "rejected")]), 1.0);
    let printed = gateway.printed();
    assert!(printed.contains("the configuration has problems"), "{printed}");
    assert!(!printed.contains("another-secret"), "{printed}");

    // What is no configuration at all, or just being written.
    for bad in [&b"\xff\xfe"[..], b"", b"# nothing\n"] {
        gateway.write_file(bad);
        assert_eq!(gateway.reload().await.status, 400, "{bad:?}");
    }
    std::fs::remove_file(gateway.file()).unwrap();
    assert_eq!(gateway.reload().await.status, 400);
    assert_eq!(gateway.chat(&ask("a")).await.status, 200);

    gateway.apply(good).await;
    assert_eq!(gateway.get("/health").await.json()["configuration"], "ok");
    assert_eq!(gateway.loaded().await["last_error"], Value::Null);
    let scrape = Scrape::parse(&gateway.get("/metrics").await.text());
    assert_eq!(scrape.sum("llmux_config_last_load_successful", &[]), 1.0);
}

#[tokio::test]
async fn another_file_than_the_expected_one_is_not_applied() {
    let vendor = vendor().await;
    let mut gateway = Gateway::start(managed(vec![provider(&vendor, "a")], json!({}))).await;
    let old = sha256(&gateway.file());
    gateway.reconfigure(managed(vec![provider(&vendor, "b")], json!({})));
    let new = sha256(&gateway.file());
    let ask_for = |checksum: String| json!({ "expected_checksum": checksum }).to_string();
    let path = "/control/config/reload";
    let response = gateway.administer("POST", path, &ask_for(old)).await;
    response.assert_error(409, "invalid_request_error", Some("checksum_mismatch"));
    for bad in [r#"{"expected_checksum": 1}"#, r#"{"checksum": "x"}"#, "[]", "x"] {
        assert_eq!(gateway.administer("POST", path, bad).await.status, 400, "{bad}");
    }
    let response = gateway.administer("POST", path, &ask_for(new.to_uppercase())).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.json()["checksum"], new);
}

#[tokio::test]
async fn what_cannot_be_applied_is_named() {
    let vendor = vendor().await;
    let start = managed(vec![provider(&vendor, "a")], json!({}));
    let mut gateway = Gateway::start(start.clone()).await;
    let mut other = start.clone();
    other["server"] = json!({"workers": 1, "admin_port": 1});
    other["auth"] = json!({"enabled": true, "master_key": "sk-another-master-key"});
    other["spool"] = json!({"max_bytes": "1MiB"});
    other["metrics"] = json!({"path": "/elsewhere"});
    other["server"]["max_body_bytes"] = json!("1KiB");
    gateway.reconfigure(other);
    let status = gateway.reload().await.json();
    let keys = [
        "server.admin_port",
        "server.workers",
        "auth.enabled",
        "spool.max_bytes",
        "metrics.path",
        "auth.master_key",
    ];
    assert_eq!(status["restart_required"], json!(keys));
    // All of that is as before, and the rest counts.
    assert_eq!(gateway.get("/metrics").await.status, 200);
    assert_eq!(gateway.chat(&ask("a")).await.status, 200);
    let long = json!({"model": "a", "messages": [{"role": "user", "content": "x".repeat(2000)}]});
    assert_eq!(gateway.chat(&long).await.status, 413);

    let status = gateway.apply(start).await;
    assert_eq!(status["restart_required"], json!([]));
}

#[tokio::test]
async fn what_is_known_of_deployments_stays() {
    let vendor = vendor().await;
    let model = |name: &str, rpm: u64| serving(&vendor, name, json!({"name": "m", "rpm": rpm}));
    let round = json!({"strategy": "round-robin"});
    let two = vec![model("a", 1000), model("b", 1000)];
    let mut gateway = Gateway::start(managed(two, round.clone())).await;
    for _ in 0..6 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    gateway.cool("a/m", 600.0).await;
    let before = gateway.state_of("b/m").await;
    assert_eq!(before["requests"], 3);

    // Another order, another limit, one more.
    gateway.apply(managed(vec![model("c", 1000), model("b", 4), model("a", 1000)], round)).await;
    let (a, b) = (gateway.state_of("a/m").await, gateway.state_of("b/m").await);
    assert_eq!((&a["cooldown_active"], &a["requests"]), (&json!(true), &json!(3)));
    assert_eq!(b["requests"], 3);
    assert_eq!(gateway.state_of("c/m").await["requests"], 0);
    for _ in 0..6 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    // The three of before count for the limit of four.
    assert_eq!((vendor.seen("a").len(), vendor.seen("b").len(), vendor.seen("c").len()), (3, 4, 5));
    let scrape = Scrape::parse(&gateway.get("/metrics").await.text());
    let labels = [("deployment", "a/m"), ("provider", "a"), ("outcome", "success"), ("class", "")];
    assert_eq!(scrape.sum("llmux_attempts_total", &labels), 3.0);
}

#[tokio::test]
async fn calls_in_flight_end_as_they_began_and_are_counted_on() {
    let vendor = vendor().await;
    let gate = Gate::new();
    let steps = vec![data(&text("hi")), Step::Gate(gate.clone()), data(STOP), data("[DONE]")];
    vendor.script("a", [Reply::stream(steps)]);
    let limited = |name: &str| {
        let mut provider = serving(&vendor, name, json!("m"));
        provider["max_concurrent"] = json!(1);
        provider
    };
    let patience = json!({"retry_max_backoff": "100ms", "retry_count": 0});
    let mut gateway = Gateway::start(managed(vec![limited("a")], patience.clone())).await;
    let mut stream = gateway.open("m").await;
    stream.next_event().await.unwrap();

    gateway.apply(managed(vec![limited("a")], patience.clone())).await;
    assert_eq!(gateway.state_of("a/m").await["in_flight"], 1);
    assert_eq!(gateway.chat(&ask("m")).await.status, 429, "its one place is taken");
    gateway.apply(managed(vec![limited("b")], patience.clone())).await;
    assert_eq!(gateway.chat(&ask("m")).await.status, 200, "another provider");
    gateway.apply(managed(vec![limited("b"), limited("a")], patience)).await;

    gate.open();
    let stream = stream.whole().await;
    assert!(stream.text().ends_with("data: [DONE]\n\n"), "{}", stream.text());
    gateway.becomes("a/m", |state| state["provider_in_flight"] == 0).await;
    let id = stream.header("x-request-id").unwrap();
    assert_eq!(gateway.logged(id)["outcome"], "ok");
}

#[tokio::test]
async fn a_request_between_two_attempts_keeps_to_the_deployments_it_knew() {
    let vendor = vendor().await;
    let gate = Gate::new();
    vendor.script("a", [Reply::json(500, "{}").after(Step::Gate(gate.clone()))]);
    let model = |name: &str| serving(&vendor, name, json!("m"));
    let round = json!({"strategy": "round-robin", "retry_count": 2, "retry_backoff": "1ms"});
    let configuration = managed(vec![model("a"), model("b")], round.clone());
    let mut gateway = Gateway::start(configuration).await;
    let body = ask("m").to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&request.bytes(gateway.address)).await.unwrap();
    vendor.arrived("a", 1).await;
    // What was first is third, what was second is first.
    gateway.apply(managed(vec![model("b"), model("c"), model("a")], round)).await;
    gate.open();
    let response = Response::read(stream).await.whole().await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("x-llmux-deployment"), Some("b/m"));
    assert_eq!(vendor.seen("c").len(), 0);
}

#[tokio::test]
async fn limits_of_keys_follow() {
    let vendor = vendor().await;
    let start = json!({
        "auth": {"enabled": true, "master_key": MASTER},
        "providers": [provider(&vendor, "a")],
    });
    let mut gateway = Gateway::start(start.clone()).await;
    let key = gateway.administer("POST", "/key/generate", "{}").await.json();
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(gateway.chat_with("a", &headers).await.status, 200);
    let mut limited = start;
    limited["rate_limit"] = json!({"requests_per_minute": 2});
    gateway.apply(limited).await;
    let statuses = [
        gateway.chat_with("a", &headers).await.status,
        gateway.chat_with("a", &headers).await.status,
        gateway.chat_with("a", &headers).await.status,
    ];
    assert!(statuses.ends_with(&[429]) && statuses.starts_with(&[200]), "{statuses:?}");
    // Only administrators may, and it is written down.
    for (method, path) in [("GET", "/control/config"), ("POST", "/control/config/reload")] {
        let response = gateway.send(method, path, &headers, b"").await.whole().await;
        assert_eq!(response.status, 403, "{path}");
        assert_eq!(gateway.send(method, path, &[], b"").await.whole().await.status, 401, "{path}");
    }
    let audit = gateway.administer("GET", "/audit/logs", "").await.text();
    assert!(audit.contains("configuration reloaded"), "{audit}");
}

#[tokio::test]
async fn the_certificate_is_renewed() {
    let vendor = vendor().await;
    let folder = std::env::temp_dir().join(format!("llmux-e2e-renew-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let renew = || {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
    };
    renew();
    let old = folder.join("old.pem");
    std::fs::copy(&cert, &old).unwrap();
    let mut configuration = managed(vec![provider(&vendor, "a")], json!({}));
    configuration["server"] = json!({"tls": {"cert": cert, "key": key}});
    let inner = Gateway::start(configuration).await;
    let outer = || {
        json!({"providers": [{
            "name": "inner",
            "type": "openai",
            "base_url": format!("https://localhost:{}/v1", inner.address.port()),
            "models": ["a"],
        }], "routing": {"retry_count": 0}})
    };
    let trust = |file: &std::path::Path| [("SSL_CERT_FILE", file.to_str().unwrap().to_owned())];
    let trusting = |variables: [(&'static str, String); 1]| async move {
        let [(name, value)] = variables;
        Gateway::start_with(outer(), &[(name, value.as_str())]).await
    };
    let before = trusting(trust(&old)).await;
    assert_eq!(before.chat(&ask("a")).await.status, 200);

    renew();
    let deadline = Instant::now() + PATIENCE;
    while !inner.printed().contains("the configuration is applied") {
        assert!(Instant::now() < deadline, "the new certificate is not noticed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let after = trusting(trust(&cert)).await;
    assert_eq!(after.chat(&ask("a")).await.status, 200, "who trusts the new one");
    let distrusting = trusting(trust(&old)).await;
    assert_eq!(distrusting.chat(&ask("a")).await.status, 502, "who knows the old one only");
    assert_eq!(before.chat(&ask("a")).await.status, 200, "connections that are open stay");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Sends requests one after the other over one connection until told to stop; counts them.
async fn hold_on(
    address: std::net::SocketAddr,
    stream: bool,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
) {
    let mut body = ask(if stream { "s" } else { "m" });
    body["stream"] = json!(stream);
    let body = body.to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    let bytes = request.bytes(address);
    let mut connection = TcpStream::connect(address).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        connection.write_all(&bytes).await.unwrap();
        let response = Response::read(connection).await.whole().await;
        assert_eq!(response.status, 200, "{}", response.text());
        if stream {
            assert!(response.text().ends_with("data: [DONE]\n\n"), "{}", response.text());
        }
        count.fetch_add(1, Ordering::Relaxed);
        connection = response.reuse();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_lose_no_request_and_no_connection() {
    let vendor = Vendor::start().await;
    let stream = || Reply::events([text("hi").as_str(), STOP, "[DONE]"]);
    for name in ["a", "b", "c"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        vendor.script(&format!("{name}-stream"), [stream()]);
    }
    let model = |name: &str| serving(&vendor, name, json!("m"));
    let streaming = |name: &str| {
        let mut provider = serving(&vendor, &format!("{name}-stream"), json!("s"));
        provider["name"] = json!(format!("{name}-s"));
        provider
    };
    let configurations: Vec<Value> = [["a", "b"], ["b", "c"], ["c", "b"], ["b", "a"]]
        .iter()
        .map(|names| {
            let all = names.iter().flat_map(|name| [model(name), streaming(name)]);
            managed(all.collect(), json!({"strategy": "least-busy"}))
        })
        .collect();
    let mut gateway = Gateway::start(configurations[0].clone()).await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(hold_on(gateway.address, client < 3, stop, count))
        })
        .collect();
    let mut applied = 1;
    for turn in 0..200 {
        let bad = turn % 2 == 1;
        if bad {
            gateway.write_file(if turn % 4 == 1 { b"providers: [" } else { b"nonsense: 1\n" });
        } else {
            gateway.reconfigure(configurations[(turn / 2) % 4].clone());
        }
        let response = gateway.reload().await;
        assert_eq!(response.status, if bad { 400 } else { 200 }, "{}", response.text());
        applied += u64::from(!bad);
        assert!(!clients.iter().any(tokio::task::JoinHandle::is_finished), "a client failed");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(count.load(Ordering::Relaxed) > 200, "{count:?}");
    let status = gateway.loaded().await;
    assert!(status["reload_count"].as_u64() >= Some(applied), "{status}");
    // Each call was counted off again, those to deployments that came and went among them.
    for state in gateway.states().await {
        assert_eq!((&state["in_flight"], &state["provider_in_flight"]), (&json!(0), &json!(0)));
    }
}

#[tokio::test]
async fn the_log_follows() {
    let vendor = vendor().await;
    let start = managed(vec![provider(&vendor, "a")], json!({}));
    let mut gateway = Gateway::start(start.clone()).await;
    let id = |response: &Response| response.header("x-request-id").unwrap().to_owned();
    let first = id(&gateway.chat(&ask("a")).await);
    gateway.logged(&first);

    let mut quiet = start.clone();
    quiet["logging"] = json!({"level": "error"});
    gateway.apply(quiet).await;
    let second = id(&gateway.chat(&ask("a")).await);
    let mut text = start.clone();
    text["logging"] = json!({"format": "text"});
    // A vendor's new key is a secret from now on.
    text["providers"][0]["api_key"] = json!("another-key-of-the-vendor");
    gateway.apply(text).await;
    let response = gateway.chat_with("a", &[("x-request-id", "another-key-of-the-vendor")]).await;
    let third = id(&response);
    gateway.apply(start).await;
    let fourth = id(&gateway.chat(&ask("a")).await);
    gateway.logged(&fourth);
    let printed = gateway.printed();
    assert!(!printed.contains(&second), "{printed}");
    assert!(!printed.contains(&third), "{printed}");
    let in_text = |line: &&str| line.contains("INFO request:") && line.contains("route=\"/v1/");
    assert_eq!(printed.lines().filter(in_text).count(), 1, "{printed}");
}

#[tokio::test]
async fn cached_answers_stay_and_the_cache_follows() {
    let vendor = vendor().await;
    let with = |cache: Value| {
        let mut configuration = managed(vec![provider(&vendor, "a")], json!({}));
        configuration["cache"] = cache;
        configuration
    };
    let looked = |response: &Response| response.header("x-llmux-cache").map(str::to_owned);
    let mut gateway = Gateway::start(with(json!({}))).await;
    assert_eq!(looked(&gateway.chat(&ask("a")).await), None);
    let shared = json!({"enabled": true, "scope": "global"});
    gateway.apply(with(shared.clone())).await;
    assert_eq!(looked(&gateway.chat(&ask("a")).await).as_deref(), Some("miss"));
    assert_eq!(looked(&gateway.chat(&ask("a")).await).as_deref(), Some("hit"));
    // Another life span; what is kept is kept.
    let mut longer = shared.clone();
    longer["ttl"] = json!("2h");
    gateway.apply(with(longer)).await;
    assert_eq!(looked(&gateway.chat(&ask("a")).await).as_deref(), Some("hit"));
    gateway.apply(with(json!({"enabled": false}))).await;
    assert_eq!(looked(&gateway.chat(&ask("a")).await), None);
    gateway.apply(with(shared)).await;
    assert_eq!(looked(&gateway.chat(&ask("a")).await).as_deref(), Some("hit"));
    // Redis that was not there at the start cannot come.
    gateway.reconfigure(with(json!({"enabled": true, "type": "redis"})));
    assert_eq!(gateway.reload().await.status, 400);
    assert_eq!(looked(&gateway.chat(&ask("a")).await).as_deref(), Some("hit"));
    assert_eq!(vendor.seen("a").len(), 3);
}
