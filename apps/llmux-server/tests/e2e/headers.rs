//! Which bytes and headers cross, and which do not.

use serde_json::json;

use crate::harness::{ANSWER, Gateway, STOP, ask, once, provider, text};
use crate::replay::{Reply, Vendor};
use crate::routing::{chat_with, serve};

#[tokio::test]
async fn odd_but_valid_bytes_reach_the_vendor_unchanged() {
    let vendor = Vendor::start().await;
    vendor.script("v", [Reply::json(200, ANSWER)]);
    let mut deployment = provider(&vendor, "v");
    deployment["models"] = json!([{"name": "alias", "upstream": "real \"one\"\\"}, "same"]);
    let gateway = Gateway::start(once(vec![deployment])).await;
    let odd = "\r\n\t{ \"messages\" :[ {\"content\":\"\\u00e9\\/\\ud83e\\udd80 中\u{2028}\",\"role\":\"user\", \"model\":\"alias\"} ] ,\"temperature\":1.0E+00,\
               \"seed\":12345678901234567890123456789, \"x\":{\"a\":1,\"a\":2},\"stop\":\"x\", \"model\" : \"ALIAS\" , \"max_completion_tokens\":-0.0,\
               \"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"strict\":true,\"schema\":{\"z\":1,\"a\":2}}},\"\\u0079\":null }  ";
    // `messages[0].model` is none of ours; the model's own name may be escaped.
    for (alias, upstream) in [("alias", r#"real \"one\"\\"#), ("same", "same")] {
        for spelling in [alias.to_owned(), alias.replace('a', "\\u0061")] {
            vendor.forget();
            let response =
                gateway.post("/v1/chat/completions", odd.replace("ALIAS", &spelling)).await;
            assert_eq!(response.status, 200, "{}", response.text());
            let seen = String::from_utf8(vendor.only("v").body).unwrap();
            let expected = odd.replace("ALIAS", upstream);
            assert!(
                seen == expected || (upstream == "same" && seen == odd.replace("ALIAS", &spelling)),
                "want {expected}\ngot  {seen}"
            );
            let expected = ANSWER.replace(r#""model":"served""#, &format!(r#""model":"{alias}""#));
            assert_eq!(response.text(), expected);
        }
    }
}

#[tokio::test]
async fn control_fields_are_removed_before_the_vendor_sees_them() {
    let (vendor, gateway) = serve().await;
    for (sent, expected) in [
        (
            r#"{"model":"m","tags":["a"],"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"cache":{"no-cache":true}}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            r#"{"tags":["a"],"cache":{"ttl":5},"model":"m","messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#,
        ),
        (
            r#"{"model":"m","metadata":{"tags":["a"],"user":"u"},"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"model":"m","metadata":{"user":"u"},"messages":[{"role":"user","content":"x"}]}"#,
        ),
    ] {
        vendor.forget();
        let response = gateway.post("/v1/chat/completions", sent).await;
        assert_eq!(response.status, 200, "{sent}: {}", response.text());
        assert_eq!(String::from_utf8(vendor.only("m").body).unwrap(), expected);
    }
    vendor.forget();
    let response = chat_with(
        &gateway,
        &[("x-llmux-tags", "a,b"), ("x-litellm-tags", "c"), ("x-llmux-cache", "no-store")],
    )
    .await;
    assert_eq!(response.status, 200);
    let seen = vendor.only("m");
    for name in ["x-llmux-tags", "x-litellm-tags", "x-llmux-cache"] {
        assert_eq!(seen.header(name), None);
    }
}

#[tokio::test]
async fn only_named_headers_reach_the_vendor() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let mut deployment = provider(&vendor, "m");
    deployment["headers"] = json!({"x-configured": "yes"});
    let gateway = Gateway::start(once(vec![deployment])).await;
    let crossing = [
        ("openai-beta", "assistants=v2"),
        ("anthropic-beta", "b"),
        ("anthropic-version", "2023-06-01"),
        ("accept", "application/json"),
    ];
    let kept_back = [
        ("authorization", "Bearer sk-clients-own"),
        ("api-key", "sk-clients-own"),
        ("x-api-key", "sk-clients-own"),
        ("cookie", "session=1"),
        ("openai-organization", "org-1"),
        ("openai-project", "proj-1"),
        ("accept-encoding", "gzip, br"),
        ("user-agent", "test/1"),
        ("x-stainless-lang", "python"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("referer", "http://127.0.0.1/"),
        ("x-anything", "else"),
        ("te", "trailers"),
        ("x-configured", "no"),
        ("proxy-authorization", "Basic eA=="),
    ];
    let trace = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-request-id", "my-id-1"),
    ];
    let headers: Vec<(&str, &str)> =
        crossing.iter().chain(&kept_back).chain(&trace).copied().collect();
    let response = chat_with(&gateway, &headers).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let seen = vendor.only("m");
    for (name, value) in crossing {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(seen.header("authorization"), Some("Bearer sk-vendor"));
    assert_eq!(seen.header("x-configured"), Some("yes"));
    assert_eq!(seen.header("x-request-id"), Some("my-id-1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("host"), Some(vendor.address.to_string().as_str()));
    assert!(
        seen.header("traceparent")
            .is_some_and(|value| value.contains("0af7651916cd43dd8448eb211c80319c")),
        "{:?}",
        seen.headers
    );
    let known = [
        "authorization",
        "x-configured",
        "x-request-id",
        "content-type",
        "host",
        "traceparent",
        "tracestate",
        "openai-beta",
        "anthropic-beta",
        "anthropic-version",
        "accept",
        "content-length",
        "user-agent",
    ];
    for (name, value) in &seen.headers {
        assert!(known.contains(&name.as_str()), "{name}: {value} crossed");
        assert!(!value.contains("clients-own") && value != "test/1", "{name}: {value} crossed");
        assert_eq!(
            seen.headers.iter().filter(|(other, _)| other == name).count(),
            1,
            "{name} came twice"
        );
    }
}

#[tokio::test]
async fn vendor_headers_reach_the_client_under_a_prefix() {
    let (vendor, gateway) = serve().await;
    let reply = |reply: Reply| {
        reply
            .with("x-ratelimit-remaining-requests", "9")
            .with("x-request-id", "req_vendor")
            .with("openai-processing-ms", "12")
            .with("set-cookie", "__cf_bm=1; path=/")
            .with("server", "cloudflare")
            .with("keep-alive", "timeout=5")
            .with("access-control-allow-origin", "*")
            .with("x-llmux-provider", "forged")
    };
    for stream in [false, true] {
        vendor.script(
            "m",
            [reply(if stream {
                Reply::events([&text("hi"), STOP, "[DONE]"])
            } else {
                Reply::json(200, ANSWER)
            })],
        );
        let response = if stream {
            gateway.open("m").await.whole().await
        } else {
            gateway.chat(&ask("m")).await
        };
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("llm_provider-x-ratelimit-remaining-requests"), Some("9"));
        assert_eq!(response.header("llm_provider-x-request-id"), Some("req_vendor"));
        assert_eq!(response.header("llm_provider-openai-processing-ms"), Some("12"));
        assert_eq!(response.header("x-llmux-provider"), Some("m"));
        assert!(response.header("x-llmux-deployment").is_some_and(|value| !value.is_empty()));
        assert_eq!(response.header("x-llmux-attempts"), Some("1"));
        assert_ne!(response.header("x-request-id"), Some("req_vendor"));
        for name in [
            "set-cookie",
            "llm_provider-set-cookie",
            "x-ratelimit-remaining-requests",
            "openai-processing-ms",
            "keep-alive",
            "access-control-allow-origin",
        ] {
            assert_eq!(response.header(name), None, "{name}");
        }
        for (name, _) in &response.headers {
            assert_eq!(
                response.headers.iter().filter(|(other, _)| other == name).count(),
                1,
                "{name} came twice"
            );
        }
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_replaced() {
    let (vendor, gateway) = serve().await;
    for id in ["abc-123", "req_01HZX.y", "550e8400-e29b-41d4-a716-446655440000"] {
        let response = chat_with(&gateway, &[("x-request-id", id)]).await;
        assert_eq!(response.header("x-request-id"), Some(id));
        let log = gateway.logged(id);
        assert_eq!(
            (&log["status"], &log["model"], &log["provider"], &log["attempts"]),
            (&json!(200), &json!("m"), &json!("m"), &json!(1)),
            "{log}"
        );
        assert!(log["duration_ms"].is_number() && log["deployment"].is_string(), "{log}");
    }
    let long = "x".repeat(1000);
    for id in ["", "two words", "a\"b", "é", long.as_str(), "<script>"] {
        vendor.forget();
        let response = chat_with(&gateway, &[("x-request-id", id)]).await;
        assert_eq!(response.status, 200);
        let ours = response.header("x-request-id").unwrap();
        assert!(ours != id && ours.len() >= 8, "{id:?} became {ours:?}");
        assert_eq!(vendor.only("m").header("x-request-id"), Some(ours));
    }
    let (first, second) = (chat_with(&gateway, &[]).await, chat_with(&gateway, &[]).await);
    assert_ne!(first.header("x-request-id").unwrap(), second.header("x-request-id").unwrap());
    for path in ["/nope", "/v1/models", "/health/live"] {
        assert!(gateway.get(path).await.header("x-request-id").is_some(), "{path}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (vendor, gateway) = serve().await;
    for status in [301, 302, 307, 308] {
        vendor.script("m", [Reply::json(status, "{}").with("location", &vendor.url("elsewhere"))]);
        vendor.script("elsewhere", [Reply::json(200, ANSWER)]);
        let response = gateway.chat(&ask("m")).await;
        assert_eq!(response.status, 502, "{}", response.text());
        response.error();
        assert_eq!(response.header("location"), None);
        assert!(vendor.seen("elsewhere").is_empty());
    }
}

#[tokio::test]
async fn names_outside_ascii_work() {
    let vendor = Vendor::start().await;
    let (openai, azure) = (provider(&vendor, "plain"), provider(&vendor, "az"));
    let (mut openai, mut azure) = (openai, azure);
    openai["models"] = json!(["größe/模型"]);
    azure["type"] = json!("azure");
    azure["api_version"] = json!("2024-10-21");
    azure["models"] = json!([{"name": "azur", "upstream": "模型"}]);
    for name in ["plain", "az"] {
        vendor.script(name, [Reply::json(200, ANSWER)]);
    }
    let gateway = Gateway::start(once(vec![openai, azure])).await;
    for (name, asked, upstream) in [("plain", "größe/模型", "größe/模型"), ("az", "azur", "模型")]
    {
        let response = gateway.chat(&ask(asked)).await;
        assert_eq!(response.status, 200, "{asked}: {}", response.text());
        assert_eq!(response.json()["model"], asked);
        let seen = vendor.only(name);
        assert_eq!(seen.json()["model"], upstream);
        assert!(seen.target.is_ascii(), "{}", seen.target);
    }
    assert!(vendor.only("az").target.starts_with("/openai/deployments/%E6%A8%A1%E5%9E%8B/"));
}

#[tokio::test]
async fn null_is_the_same_as_absent() {
    let (vendor, gateway) = serve().await;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let sent = format!(r#"{{"model":"m",{messages},"stream":null,"tags":null,"cache":null}}"#);
    let response = gateway.post("/v1/chat/completions", &sent).await;
    assert_eq!(response.status, 200, "{}", response.text());
    vendor.forget();
    vendor.script("m", [Reply::events([&text("hi"), STOP, "[DONE]"])]);
    let sent = format!(r#"{{"model":"m",{messages},"stream":true,"stream_options":null}}"#);
    let response = gateway.post("/v1/chat/completions", &sent).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let seen = vendor.only("m");
    assert_eq!(seen.json()["stream_options"], json!({"include_usage": true}));
    let text = String::from_utf8(seen.body).unwrap();
    assert_eq!(text.matches("stream_options").count(), 1, "{text}");
}
