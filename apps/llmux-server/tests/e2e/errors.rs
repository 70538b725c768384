//! Requests that are refused before any vendor hears of them.

use serde_json::{Value, json};

use crate::client::{Response, send_raw};
use crate::harness::{ANSWER, Gateway, ask, once, provider};
use crate::replay::{Reply, Vendor};

async fn serve(server: Value) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = server;
    let gateway = Gateway::start(configuration).await;
    (vendor, gateway)
}

/// All routes that name a model in a JSON body, with a body but for the model.
const ROUTES: &[(&str, &str)] = &[
    ("/v1/chat/completions", r#""messages":[{"role":"user","content":"hi"}]"#),
    ("/v1/completions", r#""prompt":"x""#),
    ("/v1/embeddings", r#""input":"x""#),
    ("/v1/responses", r#""input":"x""#),
    ("/v1/moderations", r#""input":"x""#),
    ("/v1/images/generations", r#""prompt":"x""#),
    ("/v1/audio/speech", r#""input":"x","voice":"alloy""#),
];

#[track_caller]
fn assert_bad_request(response: &Response, param: Option<&str>, what: &str) {
    let error = response.error();
    assert_eq!(
        (response.status, error["type"].as_str()),
        (400, Some("invalid_request_error")),
        "{what}: {error}"
    );
    if let Some(param) = param {
        assert_eq!(error["param"], param, "{what}: {error}");
    }
}

#[tokio::test]
async fn unknown_paths_are_404_in_the_envelope() {
    let (vendor, gateway) = serve(json!({})).await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/nope"),
        ("POST", "/v1/chat"),
        ("POST", "/v1/chat/completions/more"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v2/chat/completions"),
        ("GET", "/health/nope"),
    ] {
        let response = gateway.send(method, path, &[], b"").await.whole().await;
        let error = response.error();
        assert_eq!(
            (response.status, error["type"].as_str()),
            (404, Some("invalid_request_error")),
            "{method} {path}: {error}"
        );
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn wrong_methods_are_405_and_name_the_right_one() {
    let (vendor, gateway) = serve(json!({})).await;
    let mut cases: Vec<(&str, &str, &str)> =
        ROUTES.iter().map(|(path, _)| ("GET", *path, "POST")).collect();
    cases.extend([
        ("DELETE", "/v1/chat/completions", "POST"),
        ("GET", "/v1/audio/transcriptions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", "/v1/models/m", "GET"),
        ("POST", "/health/live", "GET"),
    ]);
    for (method, path, allow) in cases {
        let response = gateway.send(method, path, &[], b"").await.whole().await;
        assert_eq!(response.status, 405, "{method} {path}: {}", response.text());
        response.error();
        let allowed = response.header("allow").unwrap_or_default();
        assert!(
            allowed.split(',').any(|method| method.trim() == allow),
            "{method} {path}: allow is {allowed:?}"
        );
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let (vendor, gateway) = serve(json!({"max_body_bytes": "10KiB"})).await;
    // Announced: refused before the body is sent.
    let announced = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n\r\n";
    let response = send_raw(gateway.address, announced.as_bytes()).await.whole().await;
    response.assert_error(413, "invalid_request_error", response.error()["code"].as_str());
    // Unannounced: refused once it is over.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunked = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let response =
        send_raw(gateway.address, format!("{chunked}{}", chunk.repeat(3)).as_bytes()).await;
    assert_eq!(response.status, 413);
    assert_eq!(vendor.seen_in_all(), 0);
    // At the limit: fine.
    let mut body = ask("m").to_string();
    body.push_str(&" ".repeat(10 * 1024 - body.len()));
    assert_eq!(gateway.post("/v1/chat/completions", &body).await.status, 200);
    body.push(' ');
    assert_eq!(gateway.post("/v1/chat/completions", &body).await.status, 413);
}

#[tokio::test]
async fn an_encoded_body_is_415() {
    let (vendor, gateway) = serve(json!({})).await;
    for encoding in ["gzip", "br", "deflate, gzip", "zstd"] {
        let body = ask("m").to_string();
        let response = gateway
            .send(
                "POST",
                "/v1/chat/completions",
                &[("content-encoding", encoding)],
                body.as_bytes(),
            )
            .await
            .whole()
            .await;
        assert_eq!(response.status, 415, "{}", response.text());
        assert_eq!(response.error()["type"], "invalid_request_error");
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn malformed_bodies_are_400() {
    let (vendor, gateway) = serve(json!({})).await;
    for body in [
        "",
        "   ",
        "nonsense",
        "{",
        "[]",
        "null",
        "\"m\"",
        r#"{"model":"m""#,
        r#"{"model":"m"}}"#,
        r#"{"model":"m"} {"model":"m"}"#,
        r#"{"model":"m",}"#,
        r#"{'model':'m'}"#,
        "{\"model\":\"m\",\"messages\":\"\u{1}\"}",
    ] {
        for (path, _) in ROUTES {
            assert_bad_request(&gateway.post(path, body).await, None, body);
        }
    }
    assert_bad_request(
        &gateway.post("/v1/chat/completions", b"{\"model\":\"m\xff\"}").await,
        None,
        "not UTF-8",
    );
    let deep =
        format!(r#"{{"model":"m","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(
        matches!(gateway.post("/v1/chat/completions", &deep).await.status, 200 | 400),
        "depth does no harm"
    );
    assert!(vendor.seen_in_all() <= 1);
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
}

#[tokio::test]
async fn a_missing_or_wrong_model_is_400_and_names_the_field() {
    let (vendor, gateway) = serve(json!({})).await;
    let long = "x".repeat(257);
    let models = [
        "1",
        "null",
        "{}",
        "[\"m\"]",
        "\"\"",
        "\"a\\u0000b\"",
        "\"a\\nb\"",
        "\"\\u007f\"",
        &format!("\"{long}\""),
    ];
    for (path, rest) in ROUTES {
        if *path != "/v1/moderations" {
            assert_bad_request(
                &gateway.post(path, format!("{{{rest}}}")).await,
                Some("model"),
                path,
            );
        }
        for model in models {
            assert_bad_request(
                &gateway.post(path, format!(r#"{{{rest},"model":{model}}}"#)).await,
                Some("model"),
                model,
            );
        }
        for twice in [
            r#""model":"m","model":"m""#,
            r#""model":"m","model":"other""#,
            r#""model":"m","mode\u006c":"other""#,
        ] {
            assert_bad_request(
                &gateway.post(path, format!(r#"{{{twice},{rest}}}"#)).await,
                Some("model"),
                twice,
            );
        }
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn an_unknown_model_is_404_and_no_vendor_is_called() {
    let (vendor, gateway) = serve(json!({})).await;
    let longest = "x".repeat(256);
    for model in ["nope", "M", "foo/m", "m/m/m", "m ", "../m", "m%20", longest.as_str()] {
        for (path, rest) in ROUTES {
            for stream in ["", r#","stream":true"#] {
                let response =
                    gateway.post(path, format!(r#"{{{rest},"model":"{model}"{stream}}}"#)).await;
                if response.status != 200 {
                    response.assert_error(404, "invalid_request_error", Some("model_not_found"));
                }
                assert_eq!(response.status, 404, "{path} {model}");
            }
        }
    }
    let body = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nnope\r\n--b--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let response = gateway
        .send("POST", "/v1/audio/transcriptions", &headers, body.as_bytes())
        .await
        .whole()
        .await;
    response.assert_error(404, "invalid_request_error", Some("model_not_found"));
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn a_wrong_stream_flag_is_400() {
    let (vendor, gateway) = serve(json!({})).await;
    for stream in ["1", "\"true\"", "{}", "[]"] {
        let response = gateway
            .post(
                "/v1/chat/completions",
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"stream":{stream}}}"#),
            )
            .await;
        assert_bad_request(&response, Some("stream"), stream);
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn endpoints_that_a_vendor_does_not_have_are_unsupported() {
    let vendor = Vendor::start().await;
    let mut providers = Vec::new();
    for kind in ["anthropic", "gemini", "openai"] {
        providers.push(json!({"name": kind, "type": kind, "api_key": "k", "base_url": vendor.url(kind), "models": [format!("{kind}-model")]}));
    }
    let gateway = Gateway::start(once(providers)).await;
    for (path, kind) in [
        ("/v1/embeddings", "anthropic"),
        ("/v1/responses", "anthropic"),
        ("/v1/responses", "gemini"),
        ("/v1/completions", "gemini"),
    ] {
        let body = json!({"model": format!("{kind}-model"), "input": "x", "prompt": "x"});
        let response = gateway.post(path, body.to_string()).await;
        let error = response.error();
        let told = (response.status, error["code"].as_str());
        assert_eq!(told, (400, Some("unsupported_endpoint")), "{path} {kind}: {error}");
    }
    for kind in ["openai", "gemini"] {
        let response =
            gateway.post("/v1/messages", ask(&format!("{kind}-model")).to_string()).await;
        let answer = response.json();
        assert_eq!(response.status, 400, "{answer}");
        assert_eq!(answer["type"], "error", "Anthropic's envelope: {answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error");
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn parameters_without_a_counterpart_are_400_or_dropped() {
    let vendor = Vendor::start().await;
    let provider = json!({"name": "a", "type": "anthropic", "api_key": "k", "base_url": vendor.url("a"), "models": ["m"]});
    let mut body = ask("m");
    body["logit_bias"] = json!({"5": 1});
    let gateway = Gateway::start(once(vec![provider.clone()])).await;
    let response = gateway.chat(&body).await;
    let error = response.error();
    assert_eq!((response.status, error["param"].as_str()), (400, Some("logit_bias")), "{error}");
    assert_eq!(vendor.seen_in_all(), 0);

    let mut configuration = once(vec![provider]);
    configuration["drop_params"] = json!(true);
    let gateway = Gateway::start(configuration).await;
    gateway.chat(&body).await;
    assert!(vendor.only("a").json().get("logit_bias").is_none());
}

#[tokio::test]
async fn a_slow_head_or_body_is_408() {
    let (vendor, gateway) = serve(json!({"read_timeout": "300ms"})).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"model\"";
    let response = send_raw(gateway.address, head.as_bytes()).await.whole().await;
    assert_eq!(response.status, 408, "{}", response.text());
    response.error();
    assert_eq!(vendor.seen_in_all(), 0);
    // A half head cannot be answered in general; the connection must not stay.
    let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"POST /v1/chat/comp").await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(
        crate::client::PATIENCE,
        tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut rest),
    )
    .await;
    assert!(end.is_ok(), "the connection is closed");
}

#[tokio::test]
async fn nonsense_instead_of_http_does_no_harm() {
    let (vendor, gateway) = serve(json!({})).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, bytes).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut socket).await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(
            crate::client::PATIENCE,
            tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut rest),
        )
        .await;
        assert!(end.is_ok(), "the connection is closed");
    }
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    assert_eq!(vendor.seen_in_all(), 1);
}
