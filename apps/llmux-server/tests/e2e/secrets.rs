//! No secret is anywhere but where it belongs.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::books::{Books, guarded, priced, question, used};
use crate::client::Response;
use crate::harness::{Gateway, serving};
use crate::replay::{Reply, Vendor};

const MASTER: &str = "sk-master-canary-7d1f0b5a94c24f7aa1c3e0d9b8f6a512";
const PROVIDER: &str = "sk-provider-canary-1b2e8d3c4f5a69788796a5b4c3d2e1f0";
const OWN: &str = "sk-own-canary-90c1d2e3f4a5b6c7d8e9fa0b1c2d3e4f";
const UNKNOWN: &str = "sk-unknown-canary-55aa66bb77cc88dd99ee00ff11223344";

/// Fails if a text has a secret, or most of one.
#[track_caller]
fn assert_clean(place: &str, text: &[u8], secrets: &[String]) {
    for secret in secrets {
        let middle = &secret.as_bytes()[12..secret.len() - 6];
        let found = text.windows(middle.len()).position(|window| window == middle);
        if let Some(at) = found {
            let around = &text[at.saturating_sub(200)..text.len().min(at + 100)];
            panic!("{place} has {secret}: {:?}", String::from_utf8_lossy(around));
        }
    }
}

/// All files below a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path.display().to_string(), bytes));
        }
    }
    found
}

async fn call(gateway: &Gateway, key: &str, method: &str, path: &str, body: Value) -> Response {
    let bearer = format!("Bearer {key}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = [("authorization", bearer.as_str())];
    gateway.send(method, path, &headers, body.as_bytes()).await.whole().await
}

#[tokio::test]
async fn no_secret_leaves_the_request_that_shows_it() {
    for books in Books::both().await {
        let vendor = Vendor::start().await;
        vendor.script("v", [used(10, 5)]);
        vendor.script("e", [crate::faults::failed(401)]);
        let providers = ["v", "e"].map(|name| {
            let mut model = priced();
            model["name"] = json!(if name == "v" { "m" } else { name });
            let mut provider = serving(&vendor, name, model);
            provider["api_key"] = json!(PROVIDER);
            provider
        });
        let mut configuration = guarded(providers.to_vec());
        configuration["auth"] = json!({"master_key": MASTER});
        configuration["logging"] = json!({"level": "debug"});
        let mut gateway = Gateway::start(books.configure(configuration)).await;

        let mut secrets: Vec<String> = [MASTER, PROVIDER, OWN, UNKNOWN].map(str::to_owned).to_vec();
        let mut bodies: Vec<(String, Vec<u8>)> = Vec::new();
        let made =
            call(&gateway, MASTER, "POST", "/key/generate", json!({"key_alias": "made"})).await;
        assert_eq!(made.status, 200, "{}", made.text());
        let first = made.json()["key"].as_str().unwrap().to_owned();
        secrets.push(first.clone());
        assert_clean("the answer that shows another key", &made.body, &secrets[..4]);
        let own = call(
            &gateway,
            MASTER,
            "POST",
            "/key/generate",
            json!({"key": OWN, "metadata": {"note": "own"}}),
        )
        .await;
        assert_eq!(own.status, 200, "{}", own.text());
        let again = call(&gateway, MASTER, "POST", "/key/regenerate", json!({"key": first})).await;
        assert_eq!(again.status, 200, "{}", again.text());
        let second = again.json()["key"].as_str().unwrap().to_owned();
        assert_clean("the answer that shows a new key", &again.body, &secrets);
        secrets.push(second.clone());

        let ask = |model: &str| {
            let mut body = question();
            body["model"] = json!(model);
            body
        };
        let chat = "/v1/chat/completions";
        let cases: Vec<(&str, &str, String, Value)> = vec![
            // What works.
            (&second, "POST", chat.to_owned(), ask("m")),
            (OWN, "POST", chat.to_owned(), ask("m")),
            (MASTER, "POST", chat.to_owned(), ask("m")),
            (&second, "GET", "/key/info".to_owned(), Value::Null),
            (MASTER, "GET", format!("/key/info?key={second}"), Value::Null),
            (MASTER, "GET", format!("/key/info?key={OWN}"), Value::Null),
            (MASTER, "GET", "/key/list".to_owned(), Value::Null),
            (MASTER, "POST", "/key/update".to_owned(), json!({"key": second, "max_budget": 5})),
            (MASTER, "POST", "/key/block".to_owned(), json!({"key": OWN})),
            (MASTER, "POST", "/key/unblock".to_owned(), json!({"key": OWN})),
            (MASTER, "GET", format!("/spend/logs?api_key={second}"), Value::Null),
            (MASTER, "GET", "/spend/keys".to_owned(), Value::Null),
            (MASTER, "GET", "/audit/logs".to_owned(), Value::Null),
            (MASTER, "GET", "/control/state".to_owned(), Value::Null),
            (MASTER, "GET", "/control/deployments".to_owned(), Value::Null),
            (MASTER, "POST", "/route/explain".to_owned(), ask("m")),
            (MASTER, "GET", format!("/v1/models?key={OWN}&api_key={MASTER}"), Value::Null),
            // What does not.
            (UNKNOWN, "POST", chat.to_owned(), ask("m")),
            (&first, "POST", chat.to_owned(), ask("m")),
            (UNKNOWN, "GET", "/key/list".to_owned(), Value::Null),
            (MASTER, "GET", format!("/key/info?key={UNKNOWN}"), Value::Null),
            (MASTER, "POST", "/key/update".to_owned(), json!({"key": UNKNOWN, "max_budget": 5})),
            (
                MASTER,
                "POST",
                "/key/update".to_owned(),
                json!({"key": second, "max_budget": "much"}),
            ),
            (MASTER, "POST", "/key/delete".to_owned(), json!({"keys": [UNKNOWN]})),
            (MASTER, "POST", "/key/regenerate".to_owned(), json!({"key": UNKNOWN})),
            (MASTER, "POST", "/key/generate".to_owned(), json!({"key": OWN})),
            (MASTER, "POST", "/key/generate".to_owned(), json!({"key": MASTER, "rpm_limit": -1})),
            (MASTER, "POST", "/key/block".to_owned(), json!([OWN])),
            (OWN, "GET", format!("/key/info?key={second}"), Value::Null),
            (OWN, "POST", "/user/new".to_owned(), json!({"user_id": "u"})),
            (OWN, "GET", format!("/{OWN}"), Value::Null),
            (&second, "POST", chat.to_owned(), ask("e")),
            (&second, "POST", "/v1/messages".to_owned(), ask("e")),
            (MASTER, "POST", chat.to_owned(), ask("unknown")),
        ];
        for (key, method, path, body) in cases {
            let response = call(&gateway, key, method, &path, body).await;
            // The path that a client asked for may be repeated to it; it knows it.
            let own_path = response.status == 404 && path.starts_with("/sk-");
            let told = if own_path { Vec::new() } else { response.body.clone() };
            let headers = format!("{:?}", response.headers).into_bytes();
            bodies.push((
                format!("the answer {} to {method} {path}", response.status),
                [told, headers].concat(),
            ));
        }
        for (place, body) in &bodies {
            assert_clean(place, body, &secrets);
        }
        gateway.settled_as(MASTER).await;
        for (name, bytes) in files(&gateway.data()) {
            assert_clean(&name, &bytes, &secrets);
        }
        gateway.terminate();
        assert_eq!(gateway.exit_code(), Some(0));
        assert!(gateway.printed().contains("DEBUG"), "the log tells all that it can");
        assert_clean("the log", gateway.printed().as_bytes(), &secrets);
        for (name, bytes) in files(&gateway.data()) {
            assert_clean(&name, &bytes, &secrets);
        }
        let tables = match books {
            Books::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table'",
            Books::Postgres(_) => {
                "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
            }
        };
        let tables = books.query(&gateway, tables).await;
        assert!(tables.len() > 5, "{tables:?}");
        for table in tables {
            let name = table["name"].as_str().unwrap();
            for row in books.query(&gateway, &format!("SELECT * FROM {name}")).await {
                assert_clean(name, row.to_string().as_bytes(), &secrets);
            }
        }
        let audited = books.number(&gateway, "SELECT COUNT(*) AS n FROM audit_log").await;
        assert!(audited >= 6, "{audited} changes are in the audit log");
    }
}

#[test]
fn a_start_that_fails_tells_no_secret() {
    let folder = std::env::temp_dir().join(format!("llmux-e2e-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let good = json!({"name": "p", "type": "openai", "api_key": PROVIDER, "models": ["m"]});
    let database = format!("postgres://someone:{UNKNOWN}@127.0.0.1:1/none");
    for (name, configuration) in [
        (
            "database",
            json!({"auth": {"master_key": MASTER}, "providers": [good], "database": {"url": database}}),
        ),
        (
            "password",
            json!({"auth": {"master_key": MASTER}, "providers": [good], "database": {"host": "127.0.0.1", "port": 1, "password": UNKNOWN}}),
        ),
        (
            "models",
            json!({"auth": {"master_key": MASTER}, "providers": [{"name": "p", "type": "none", "api_key": PROVIDER, "models": []}]}),
        ),
        ("list", json!({"auth": {"master_key": [MASTER]}, "providers": [good]})),
        (
            "url",
            json!({"auth": {"master_key": MASTER}, "providers": [good], "redis": {"addr": format!("redis://:{UNKNOWN}@")}, "database": {"url": format!("mysql://u:{UNKNOWN}@h/d")}}),
        ),
    ] {
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, configuration.to_string()).unwrap();
        for check in [false, true] {
            if check && matches!(name, "database" | "password") {
                // Checking needs no network, and finds nothing.
                continue;
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_llmux-server"));
            if check {
                command.arg("check");
            }
            let output = command
                .arg("--config")
                .arg(&file)
                .env_clear()
                .env("LLMUX_DATA_DIR", folder.join(name))
                .env("LOG_LEVEL", "debug")
                .output()
                .unwrap();
            let told = [output.stdout, output.stderr].concat();
            assert!(!output.status.success(), "{name}: {}", String::from_utf8_lossy(&told));
            let secrets = [MASTER, PROVIDER, UNKNOWN].map(str::to_owned);
            assert_clean(&format!("{name}, check {check}"), &told, &secrets);
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_vendor_that_repeats_our_credential_does_not_tell_it_to_clients() {
    let vendor = Vendor::start().await;
    let echo = json!({"error": {"message": format!("Incorrect API key provided: {PROVIDER}."), "type": "invalid_request_error", "param": null, "code": "invalid_api_key"}}).to_string();
    let mut provider = serving(&vendor, "v", priced());
    provider["api_key"] = json!(PROVIDER);
    let mut configuration = guarded(vec![provider]);
    configuration["auth"] = json!({"master_key": MASTER});
    configuration["routing"] = json!({"retry_count": 0, "allowed_fails": 1_000_000});
    configuration["logging"] = json!({"level": "debug"});
    let gateway = Gateway::start(configuration).await;
    let mut streaming = question();
    streaming["stream"] = json!(true);
    for reply in [
        Reply::json(401, &echo),
        Reply::json(400, &echo),
        Reply::json(403, &echo),
        Reply::json(404, &echo),
        Reply::json(500, &echo),
        used(10, 5).with("x-credential", PROVIDER),
        Reply::events([crate::harness::text("hello"), echo.clone()]),
    ] {
        vendor.script("v", [reply]);
        for body in [question(), streaming.clone()] {
            let response = call(&gateway, MASTER, "POST", "/v1/chat/completions", body).await;
            let told =
                [response.body.clone(), format!("{:?}", response.headers).into_bytes()].concat();
            assert_clean("an answer", &told, &[PROVIDER.to_owned()]);
        }
    }
    assert_clean("the log", gateway.printed().as_bytes(), &[PROVIDER.to_owned()]);
}
