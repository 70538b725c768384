//! Who may call: the master key, and the open plane's own machine.

use serde_json::json;

use crate::harness::{ANSWER, Gateway, once, provider};
use crate::replay::{Reply, Vendor};
use crate::routing::{chat_with, serve};

pub(crate) const MASTER: &str = "sk-master-0123456789abcdef0123456789abcdef";

async fn guarded() -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["auth"] = json!({"master_key": MASTER});
    let gateway = Gateway::start(configuration).await;
    (vendor, gateway)
}

#[tokio::test]
async fn the_master_key_opens_the_data_plane_in_three_headers() {
    let (vendor, gateway) = guarded().await;
    let bearer = format!("Bearer {MASTER}");
    for header in [
        ("authorization", bearer.as_str()),
        ("x-api-key", MASTER),
        ("api-key", MASTER),
        ("authorization", &format!("bearer {MASTER}")),
    ] {
        let response = chat_with(&gateway, &[header]).await;
        assert_eq!(response.status, 200, "{header:?}: {}", response.text());
        // With a key, any host name and origin may ask.
        assert_eq!(
            chat_with(
                &gateway,
                &[header, ("host", "llm.example.com"), ("origin", "https://app.example.com")]
            )
            .await
            .status,
            200
        );
        assert_eq!(
            gateway.send("GET", "/v1/models", &[header], b"").await.whole().await.status,
            200
        );
    }
    assert!(
        vendor
            .seen("m")
            .iter()
            .all(|seen| seen.headers.iter().all(|(_, value)| !value.contains(MASTER)))
    );
    assert!(!gateway.printed().contains(MASTER), "the key is not logged");
}

#[tokio::test]
async fn no_key_or_a_wrong_one_is_401_before_anything_else() {
    let (vendor, gateway) = guarded().await;
    let prefix = format!("Bearer {}", &MASTER[..MASTER.len() - 1]);
    let longer = format!("Bearer {MASTER}x");
    for headers in [
        &[][..],
        &[("authorization", "")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer sk-wrong")],
        &[("authorization", prefix.as_str())],
        &[("authorization", longer.as_str())],
        &[("authorization", MASTER)],
        &[("authorization", "Basic c2stbWFzdGVy")],
        &[("x-api-key", "sk-wrong")],
        &[("api-key", "")],
        &[("cookie", "token=sk-master-0123456789abcdef0123456789abcdef")],
    ] {
        let response = chat_with(&gateway, headers).await;
        response.assert_error(401, "authentication_error", Some("invalid_api_key"));
        for (method, path, body) in [
            ("POST", "/v1/chat/completions", "malformed"),
            ("POST", "/v1/chat/completions", r#"{"model":"nope"}"#),
            ("POST", "/v1/embeddings", "{}"),
            ("POST", "/v1/responses", "{}"),
            ("POST", "/v1/audio/transcriptions", "{}"),
            ("POST", "/openai/deployments/m/chat/completions", "{}"),
            ("GET", "/v1/models", ""),
            ("GET", "/v1/models/m", ""),
        ] {
            let response = gateway.send(method, path, headers, body.as_bytes()).await.whole().await;
            assert_eq!(response.status, 401, "{method} {path}: {}", response.text());
        }
    }
    assert_eq!(gateway.get("/health/live").await.status, 200);
    assert_eq!(gateway.get("/health/ready").await.status, 200);
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn an_open_plane_answers_only_its_own_machine() {
    let (vendor, gateway) = serve().await;
    let port = gateway.address.port();
    let own = format!("127.0.0.1:{port}");
    let local = format!("localhost:{port}");
    let six = format!("[::1]:{port}");
    let (own_origin, local_origin, evil_port) =
        (format!("http://{own}"), format!("http://{local}"), "http://127.0.0.1:1".to_owned());
    for headers in [
        &[("host", own.as_str())][..],
        &[("host", local.as_str())],
        &[("host", six.as_str())],
        &[("host", "127.0.0.9")],
        &[("host", "LOCALHOST")],
        &[("host", own.as_str()), ("origin", own_origin.as_str())],
        &[("host", local.as_str()), ("origin", local_origin.as_str())],
        &[("host", own.as_str()), ("authorization", "Bearer anything")],
    ] {
        let response = chat_with(&gateway, headers).await;
        assert_eq!(response.status, 200, "{headers:?}: {}", response.text());
    }
    vendor.forget();
    for headers in [
        &[("host", "evil.example")][..],
        &[("host", "localhost.evil.example")],
        &[("host", "127.0.0.1.evil.example")],
        &[("host", "192.168.0.1")],
        &[("host", "0.0.0.0")],
        &[("host", own.as_str()), ("origin", "http://evil.example")],
        &[("host", own.as_str()), ("origin", "null")],
        &[("host", own.as_str()), ("origin", evil_port.as_str())],
        &[("host", own.as_str()), ("origin", "")],
        &[("host", own.as_str()), ("origin", "https://127.0.0.1.evil.example")],
        &[("host", "evil.example"), ("origin", "http://evil.example")],
    ] {
        let response = chat_with(&gateway, headers).await;
        assert_eq!(response.status, 403, "{headers:?}: {}", response.text());
        response.assert_error(403, "permission_error", Some("origin_not_allowed"));
        assert_eq!(
            gateway.send("GET", "/v1/models", headers, b"").await.whole().await.status,
            403,
            "{headers:?}"
        );
        assert_eq!(
            gateway.send("GET", "/health/live", headers, b"").await.whole().await.status,
            200,
            "{headers:?}"
        );
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn the_management_plane_always_needs_the_master_key() {
    let (_vendor, open) = serve().await;
    let (_other, closed) = guarded().await;
    for (method, path) in [
        ("POST", "/key/generate"),
        ("GET", "/key/info"),
        ("GET", "/key/list"),
        ("POST", "/team/new"),
        ("GET", "/spend/logs"),
        ("GET", "/global/activity"),
    ] {
        for gateway in [&open, &closed] {
            for headers in [&[][..], &[("authorization", "Bearer sk-wrong")]] {
                let response = gateway.send(method, path, headers, b"").await.whole().await;
                response.assert_error(401, "authentication_error", Some("invalid_api_key"));
            }
        }
    }
    // What is known and not built says so, to those who may know.
    for path in ["/invitation/new", "/budget/new"] {
        let response = closed.send("POST", path, &[], b"").await.whole().await;
        response.assert_error(401, "authentication_error", Some("invalid_api_key"));
        let master = [("x-api-key", MASTER)];
        let response = closed.send("POST", path, &master, b"").await.whole().await;
        response.assert_error(400, "invalid_request_error", Some("unsupported_endpoint"));
    }
}

#[tokio::test]
async fn without_configuration_the_key_is_made_and_named() {
    let gateway = Gateway::start(json!({})).await;
    assert_eq!(gateway.get("/v1/models").await.status, 200);
    gateway.get("/spend/logs").await.assert_error(
        401,
        "authentication_error",
        Some("invalid_api_key"),
    );
    let key = gateway.only_small_file_in_data();
    assert!(
        gateway.printed().contains(key.file_name().unwrap().to_str().unwrap()),
        "the log names {key:?}"
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(&key).unwrap();
    assert!(
        secret.trim().len() >= 32 && !gateway.printed().contains(secret.trim()),
        "the key is not logged"
    );
    let response = gateway
        .send("GET", "/spend/logs", &[("x-api-key", secret.trim())], b"")
        .await
        .whole()
        .await;
    assert_ne!(response.status, 401, "{}", response.text());
}
