//! Which route leads where.

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::bytes::items;
use crate::client::{Response, send_raw};
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, once, provider, role, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};

/// A vendor whose model `m` answers, and a gateway in front of it.
pub(crate) async fn serve() -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    (vendor, gateway)
}

pub(crate) async fn chat_with(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    gateway.chat_with("m", headers).await
}

#[tokio::test]
async fn every_route_leads_to_the_vendors_own() {
    let (vendor, gateway) = serve().await;
    for (tail, body) in [
        ("/chat/completions", r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#),
        ("/completions", r#"{"model":"m","prompt":["a","b"]}"#),
        ("/embeddings", r#"{"model":"m","input":[[1,2],[3]],"encoding_format":"base64"}"#),
        ("/responses", r#"{"model":"m","input":"x","previous_response_id":"r"}"#),
        ("/moderations", r#"{"model":"m","input":["x"]}"#),
        ("/images/generations", r#"{"model":"m","prompt":"x"}"#),
        ("/audio/speech", r#"{"model":"m","input":"x","voice":"alloy"}"#),
    ] {
        for path in [
            format!("/v1{tail}"),
            tail.to_owned(),
            format!("/openai/deployments/m{tail}?api-version=2024-10-21"),
        ] {
            vendor.forget();
            let response = gateway.post(&path, body).await;
            assert_eq!(response.status, 200, "{path}: {}", response.text());
            assert_eq!(response.text(), ANSWER.replace("served", "m"), "{path}");
            let seen = vendor.only("m");
            assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", tail), "{path}");
            assert_eq!(String::from_utf8(seen.body).unwrap(), body, "{path}");
        }
    }
    assert_eq!(gateway.get("/models").await.body, gateway.get("/v1/models").await.body);
}

#[tokio::test]
async fn the_deployment_in_an_azure_path_is_the_model() {
    let vendor = Vendor::start().await;
    vendor.script("v", [Reply::json(200, ANSWER)]);
    let mut deployment = provider(&vendor, "v");
    deployment["models"] = json!(["a/b", "c d"]);
    let gateway = Gateway::start(once(vec![deployment])).await;
    for (path, model) in [("a%2Fb", "a/b"), ("a%2fb", "a/b"), ("c%20d", "c d")] {
        for body in [
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"messages":[{"role":"user","content":"x"}],"model":"another"}"#,
        ] {
            vendor.forget();
            let path =
                format!("/openai/deployments/{path}/chat/completions?api-version=2024-10-21");
            let response = gateway
                .send("POST", &path, &[("api-key", "x")], body.as_bytes())
                .await
                .whole()
                .await;
            assert_eq!(response.status, 200, "{path} {body}: {}", response.text());
            assert_eq!(response.json()["model"], model);
            let seen = vendor.only("v");
            assert_eq!(
                (seen.json()["model"].as_str(), seen.target.as_str()),
                (Some(model), "/chat/completions")
            );
        }
    }
    let response = gateway
        .post(
            "/openai/deployments/nope/chat/completions",
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
        )
        .await;
    response.assert_error(404, "invalid_request_error", Some("model_not_found"));
}

#[tokio::test]
async fn azure_is_spoken_to_as_azure() {
    let vendor = Vendor::start().await;
    let azure = |name: &str, slash: &str, model: Value| json!({"name": name, "type": "azure", "api_key": "sk-azure", "api_version": "2024-10-21", "base_url": format!("{}{slash}", vendor.url(name)), "models": [model]});
    let gateway = Gateway::start(once(vec![
        azure("one", "", json!({"name": "fast", "upstream": "my deployment/1"})),
        azure("two", "/", json!("plain")),
    ]))
    .await;
    for (name, model, segment) in
        [("one", "fast", "my%20deployment%2F1"), ("two", "plain", "plain")]
    {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        for (tail, rest) in [
            ("/chat/completions", r#""messages":[{"role":"user","content":"x"}]"#),
            ("/embeddings", r#""input":"x""#),
            ("/completions", r#""prompt":"x""#),
        ] {
            vendor.forget();
            let response = gateway
                .post(&format!("/v1{tail}"), format!(r#"{{"model":"{model}",{rest}}}"#))
                .await;
            assert_eq!(response.status, 200, "{}", response.text());
            assert_eq!(response.json()["model"], model);
            let seen = vendor.only(name);
            assert_eq!(
                seen.target,
                format!("/openai/deployments/{segment}{tail}?api-version=2024-10-21")
            );
            assert_eq!(
                (seen.header("api-key"), seen.header("authorization")),
                (Some("sk-azure"), None)
            );
        }
    }
}

#[tokio::test]
async fn names_are_found_exactly_first_then_by_prefix_then_by_wildcard() {
    let vendor = Vendor::start().await;
    let named = |name: &str, models: Value| {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        json!({"name": name, "type": "openai", "api_key": "k", "base_url": vendor.url(name), "models": models})
    };
    let gateway = Gateway::start(once(vec![
        named("alpha", json!(["gpt", {"name": "fast", "upstream": "gpt-mini"}])),
        named("beta", json!(["alpha/gpt", "org/*"])),
        named("gamma", json!(["gamma/*"])),
    ]))
    .await;
    for (asked, provider, upstream) in [
        ("gpt", "alpha", "gpt"),
        ("fast", "alpha", "gpt-mini"),
        ("alpha/fast", "alpha", "gpt-mini"),
        ("alpha/gpt", "beta", "alpha/gpt"),
        ("beta/alpha/gpt", "beta", "alpha/gpt"),
        ("org/new-model", "beta", "org/new-model"),
        ("beta/org/new-model", "beta", "org/new-model"),
        ("gamma/whatever/x", "gamma", "whatever/x"),
    ] {
        vendor.forget();
        let response = gateway.chat(&ask(asked)).await;
        assert_eq!(response.status, 200, "{asked}: {}", response.text());
        assert_eq!(response.json()["model"], asked);
        assert_eq!(response.header("x-llmux-provider"), Some(provider), "{asked}");
        assert_eq!(vendor.only(provider).json()["model"], upstream, "{asked}");
    }
    for asked in ["alpha/nope", "nope", "org", "gamma", "delta/gpt", "beta/gpt"] {
        gateway.chat(&ask(asked)).await.assert_error(
            404,
            "invalid_request_error",
            Some("model_not_found"),
        );
    }
}

#[tokio::test]
async fn the_default_provider_takes_what_nothing_else_matches() {
    let vendor = Vendor::start().await;
    for name in ["a", "b"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
    }
    let gateway = Gateway::start(json!({
        "providers": [provider(&vendor, "a"), provider(&vendor, "b")],
        "routing": {"retry_count": 0, "default_provider": "b"},
    }))
    .await;
    for (asked, provider, upstream) in [
        ("a", "a", "a"),
        ("anything", "b", "anything"),
        ("foo/anything", "b", "foo/anything"),
        ("b/x", "b", "x"),
    ] {
        vendor.forget();
        assert_eq!(gateway.chat(&ask(asked)).await.status, 200);
        assert_eq!(vendor.only(provider).json()["model"], upstream, "{asked}");
    }
}

#[tokio::test]
async fn deployments_of_one_name_share_by_weight() {
    let vendor = Vendor::start().await;
    let named = |name: &str, weight: u32| {
        vendor.script(name, [Reply::json(200, ANSWER)]);
        json!({"name": name, "type": "openai", "api_key": "k", "base_url": vendor.url(name), "models": [{"name": "m", "weight": weight}]})
    };
    let gateway = Gateway::start(once(vec![named("light", 1), named("heavy", 9)])).await;
    for _ in 0..200 {
        assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    }
    let light = vendor.seen("light").len();
    // Twenty are expected; the chance of leaving this range is below one in a million.
    assert!((1..=50).contains(&light), "{light} of 200");
}

#[tokio::test]
async fn models_are_listed_sorted_and_found_by_name() {
    let vendor = Vendor::start().await;
    let mut deployment = provider(&vendor, "p");
    deployment["models"] =
        json!(["zeta", "alpha", {"name": "team/fast", "upstream": "x"}, "wild/*"]);
    let mut second = provider(&vendor, "q");
    second["models"] = json!(["alpha"]);
    let gateway = Gateway::start(once(vec![deployment, second])).await;
    let list = gateway.get("/v1/models").await;
    assert_eq!((list.status, list.json()["object"].as_str()), (200, Some("list")));
    let models = list.json()["data"].as_array().cloned().unwrap();
    let ids: Vec<&str> = models.iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["alpha", "team/fast", "zeta"]);
    for model in &models {
        assert_eq!(model["object"], "model");
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        assert_eq!(model.as_object().unwrap().len(), 4, "{model}");
    }
    for path in ["/v1/models/team/fast", "/v1/models/team%2Ffast", "/models/team%2Ffast"] {
        assert_eq!(gateway.get(path).await.json(), models[1], "{path}");
    }
    gateway.get("/v1/models/nope").await.assert_error(
        404,
        "invalid_request_error",
        Some("model_not_found"),
    );
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn health_tells_states_and_no_secrets() {
    let (vendor, gateway) = serve().await;
    for path in ["/health/live", "/health/ready"] {
        let response = gateway.get(path).await;
        assert_eq!(
            (response.status, response.json()["status"].as_str()),
            (200, Some("ok")),
            "{path}"
        );
    }
    let health = gateway.get("/health").await;
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("ok")));
    assert!(
        !health.text().contains("sk-vendor")
            && !health.text().contains(&vendor.address.to_string()),
        "{}",
        health.text()
    );
}

#[tokio::test]
async fn a_multipart_upload_passes_with_its_model_rewritten() {
    let vendor = Vendor::start().await;
    vendor.script("v", [Reply::json(200, r#"{"text":"hello"}"#)]);
    let mut deployment = provider(&vendor, "v");
    deployment["models"] = json!([{"name": "alias", "upstream": "whisper-1"}]);
    let gateway = Gateway::start(once(vec![deployment])).await;
    let file: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\0\xff\r\n--bx name=\"model\"\r\n\r\nalias\r\n\r\n";
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            .into_bytes()
    };
    let with = |model: &str, first: bool| {
        let (model, language) = (part("model", model), part("language", "alias"));
        let parts: [&[u8]; 4] = if first {
            [&model, &language, file, b"--b--\r\n"]
        } else {
            [file, &language, &model, b"--b--\r\n"]
        };
        parts.concat()
    };
    for (content_type, first) in [
        ("multipart/form-data; boundary=b", true),
        ("multipart/form-data; boundary=\"b\"", false),
        ("Multipart/Form-Data; charset=utf-8; boundary=b", true),
    ] {
        vendor.forget();
        let headers = [("content-type", content_type)];
        let response = gateway
            .send("POST", "/v1/audio/transcriptions", &headers, &with("alias", first))
            .await
            .whole()
            .await;
        assert_eq!((response.status, response.text().as_str()), (200, r#"{"text":"hello"}"#));
        let seen = vendor.only("v");
        assert_eq!(seen.target, "/audio/transcriptions");
        assert_eq!(seen.header("content-type"), Some(content_type));
        assert!(seen.body == with("whisper-1", first), "{}", String::from_utf8_lossy(&seen.body));
    }
    vendor.forget();
    let nameless = [file, b"--b--\r\n"].concat();
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let response =
        gateway.send("POST", "/v1/audio/transcriptions", &headers, &nameless).await.whole().await;
    assert_eq!((response.status, response.error()["param"].as_str()), (400, Some("model")));
    for content_type in ["multipart/form-data", "application/json", "text/plain"] {
        let response = gateway
            .send(
                "POST",
                "/v1/audio/transcriptions",
                &[("content-type", content_type)],
                &with("alias", true),
            )
            .await
            .whole()
            .await;
        assert!(matches!(response.status, 400 | 415), "{content_type}: {}", response.status);
        response.error();
    }
    assert_eq!(vendor.seen_in_all(), 0);
}

#[tokio::test]
async fn binary_answers_pass_unchanged() {
    let (vendor, gateway) = serve().await;
    let audio: Vec<u8> =
        (0..200_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut chunked =
        Reply::stream(audio.chunks(5000).map(|piece| Step::Write(piece.to_vec())).collect());
    chunked.headers = vec![("content-type".to_owned(), "audio/mpeg".to_owned())];
    for reply in [Reply::whole(200, "audio/mpeg", &audio), chunked] {
        vendor.script("m", [reply]);
        let response =
            gateway.post("/v1/audio/speech", r#"{"model":"m","input":"x","voice":"alloy"}"#).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("audio/mpeg")));
        assert!(response.body == audio, "{} of {} bytes", response.body.len(), audio.len());
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_works() {
    let (vendor, gateway) = serve().await;
    let socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = |stream: bool| {
        let mut body = ask("m");
        body["stream"] = json!(stream);
        let uri = format!("http://{}/v1/chat/completions", gateway.address);
        hyper::Request::post(uri)
            .header("content-type", "application/json")
            .body(Full::new(hyper::body::Bytes::from(body.to_string())))
            .unwrap()
    };
    let response = sender.send_request(request(false)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("x-request-id"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, ANSWER.replace("served", "m").as_bytes());
    vendor.script("m", [Reply::events([&role(), &text("hi"), STOP, USAGE, "[DONE]"])]);
    let (first, second) = tokio::join!(
        sender.clone().send_request(request(true)),
        sender.send_request(request(true))
    );
    for response in [first.unwrap(), second.unwrap()] {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(items(&body).len(), 4, "{body:?}");
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let (vendor, gateway) = serve().await;
    let body = ask("m").to_string();
    let one = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    );
    let last = one.replace("host:", "connection: close\r\nhost:");
    let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, format!("{one}{one}{last}").as_bytes())
        .await
        .unwrap();
    let mut answers = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answers).await.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
    assert_eq!(answers.matches(&ANSWER.replace("served", "m")).count(), 3);
    assert_eq!(vendor.seen("m").len(), 3);
    let old = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    );
    assert_eq!(send_raw(gateway.address, old.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_chunked_request_body_is_taken() {
    let (vendor, gateway) = serve().await;
    let body = ask("m").to_string();
    let (one, two) = body.split_at(10);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        gateway.address,
        one.len(),
        two.len()
    );
    assert_eq!(send_raw(gateway.address, request.as_bytes()).await.whole().await.status, 200);
    let seen = vendor.only("m");
    assert_eq!(
        (seen.header("content-length"), seen.header("transfer-encoding")),
        (Some(body.len().to_string().as_str()), None)
    );
    assert_eq!(seen.body, body.as_bytes());
}

#[tokio::test]
async fn a_termination_signal_lets_streams_finish() {
    let vendor = Vendor::start().await;
    let mut gateway = Gateway::start(once(vec![provider(&vendor, "m")])).await;
    let gate = Gate::new();
    vendor.script(
        "m",
        [Reply::stream(vec![
            data(&text("hi")),
            Step::Gate(gate.clone()),
            data(STOP),
            data("[DONE]"),
        ])],
    );
    let mut response = gateway.open("m").await;
    response.next_event().await.unwrap();
    gateway.terminate();
    gate.open();
    let response = response.whole().await;
    assert!(items(&response.body).last().unwrap().is_done(), "{}", response.text());
    assert_eq!(gateway.exit_code(), Some(0));
}
