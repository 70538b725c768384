//! Streams that do not reach their end: clients that leave, vendors that break off.

use serde_json::{Value, json};

use crate::bytes::items;
use crate::client::{Request, Response};
use crate::harness::{Gateway, STOP, ask, provider, role, text};
use crate::replay::{Reply, Step, Vendor, data};
use crate::streams::{assert_data, dones, said, serve};

#[tokio::test]
async fn a_client_that_leaves_before_the_first_output_cancels_the_vendors_call() {
    let (vendor, gateway) = serve(&["silent", "opening"]).await;
    vendor.script("silent", [Reply::silent()]);
    vendor.script("opening", [Reply::stream(vec![data(&role()), Step::Hang])]);
    for (count, name) in [(1, "silent"), (2, "opening")] {
        let body =
            json!({"model": name, "messages": [{"role": "user", "content": "x"}], "stream": true})
                .to_string();
        let request = Request {
            method: "POST",
            path: "/v1/chat/completions",
            headers: &[("x-request-id", name)],
            body: body.as_bytes(),
        };
        let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &request.bytes(gateway.address))
            .await
            .unwrap();
        vendor.arrived(name, 1).await;
        drop(socket);
        vendor.abandoned(count).await;
        gateway.logged(name);
        assert_eq!(vendor.seen(name).len(), 1, "no retry for a client that left");
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_cancels_the_vendors_call() {
    let (vendor, gateway) = serve(&["m"]).await;
    vendor.script("m", [Reply::stream(vec![data(&text("hi")), Step::Hang])]);
    let mut response = gateway.open("m").await;
    assert_eq!(said(&[response.next_event().await.unwrap()]), "hi");
    drop(response);
    vendor.abandoned(1).await;
    assert_eq!(vendor.seen("m").len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_a_whole_answer_cancels_the_vendors_call() {
    let (vendor, gateway) = serve(&["m"]).await;
    vendor.script("m", [Reply::silent()]);
    let body = ask("m").to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    let mut socket = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, &request.bytes(gateway.address))
        .await
        .unwrap();
    vendor.arrived("m", 1).await;
    drop(socket);
    vendor.abandoned(1).await;
    assert_eq!(vendor.seen("m").len(), 1);
}

/// Ways in which vendors tell an error inside a 200 stream.
const ERROR_EVENTS: &[&str] = &[
    "data: {\"error\":{\"message\":\"Overloaded, sorry\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
    "event: error\ndata: {\"error\":{\"message\":\"Overloaded, sorry\",\"type\":\"server_error\",\"code\":\"x\",\"status_code\":500}}\n\n",
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}],\"error\":{\"code\":502,\"message\":\"Overloaded, sorry\"}}\n\n",
];

fn broken(before: &[String], event: &str, after: &[&str]) -> Reply {
    let mut steps: Vec<Step> = before.iter().map(|event| data(event)).collect();
    steps.push(Step::Write(event.as_bytes().to_vec()));
    steps.extend(after.iter().map(|event| data(event)));
    Reply::stream(steps)
}

#[tokio::test]
async fn an_error_before_the_first_output_is_an_http_error() {
    let (vendor, gateway) = serve(&["m"]).await;
    for event in ERROR_EVENTS {
        for before in [vec![], vec![role()]] {
            vendor.script("m", [broken(&before, event, &["[DONE]"])]);
            let response = gateway.open("m").await.whole().await;
            assert!(
                matches!(response.status, 502 | 503),
                "{}: {}",
                response.status,
                response.text()
            );
            let error = response.error();
            assert!(error["message"].as_str().unwrap().contains("Overloaded, sorry"), "{error}");
        }
    }
}

#[tokio::test]
async fn an_error_before_the_first_output_goes_to_the_next_deployment() {
    let vendor = Vendor::start().await;
    let providers = pair(&vendor);
    let gateway = Gateway::start(
        json!({"providers": providers, "routing": {"retry_count": 1, "retry_backoff": "1ms"}}),
    )
    .await;
    for event in ERROR_EVENTS {
        vendor.forget();
        vendor.script("bad", [broken(&[role()], event, &[])]);
        vendor.script("good", [Reply::events([&role(), &text("fine"), STOP, "[DONE]"])]);
        let mut attempts = Vec::new();
        for _ in 0..12 {
            let response = gateway.open("m").await.whole().await;
            assert_eq!(response.status, 200, "{}", response.text());
            assert_data(&items(&response.body), "m", &[&role(), &text("fine"), STOP, "[DONE]"]);
            attempts.push(response.header("x-llmux-attempts").unwrap().to_owned());
        }
        let retried = attempts.iter().filter(|attempts| *attempts == "2").count();
        assert_eq!(vendor.seen("bad").len(), retried, "{attempts:?}");
    }
}

/// Two providers of one model `m`: `bad` and `good`.
fn pair(vendor: &Vendor) -> Vec<Value> {
    ["bad", "good"].iter().map(|name| json!({"name": name, "type": "openai", "api_key": "k", "base_url": vendor.url(name), "models": ["m"]})).collect()
}

#[tokio::test]
async fn an_opening_that_is_cut_is_retried_unseen() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(json!({"providers": [provider(&vendor, "m")], "routing": {"retry_count": 2, "retry_backoff": "1ms"}})).await;
    let cut = Reply::stream(vec![data(&role()), Step::Cut]);
    vendor.script("m", [cut, Reply::events([&role(), &text("fine"), STOP, "[DONE]"])]);
    let response = gateway.open("m").await.whole().await;
    assert_data(&items(&response.body), "m", &[&role(), &text("fine"), STOP, "[DONE]"]);
    assert_eq!(response.header("x-llmux-attempts"), Some("2"));
    assert_eq!(vendor.seen("m").len(), 2);
}

/// Fails unless the stream is one text event, one error event and nothing else, properly ended.
async fn assert_broken_after_output(mut response: Response) -> Value {
    assert_eq!(response.status, 200);
    assert!(response.finish().await, "the body ends properly");
    let got = items(&response.body);
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(said(&got), "hi");
    assert_eq!(dones(&got), 0);
    let error = got[1].json()["error"].clone();
    for member in ["message", "type", "param", "code"] {
        assert!(error.get(member).is_some(), "no {member} in {got:?}");
    }
    error
}

#[tokio::test]
async fn an_error_after_the_first_output_is_told_in_band_and_not_retried() {
    let vendor = Vendor::start().await;
    let gateway = Gateway::start(json!({"providers": [provider(&vendor, "m")], "routing": {"retry_count": 2, "retry_backoff": "1ms"}})).await;
    for event in ERROR_EVENTS {
        vendor.forget();
        vendor.script("m", [broken(&[text("hi")], event, &["[DONE]"])]);
        let error = assert_broken_after_output(gateway.open("m").await).await;
        assert!(error["message"].as_str().unwrap().contains("Overloaded, sorry"), "{error}");
        assert_eq!(vendor.seen("m").len(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_after_the_first_output_is_told_in_band() {
    let vendor = Vendor::start().await;
    let mut deployment = provider(&vendor, "m");
    deployment["stream_idle_timeout"] = json!("500ms");
    let gateway = Gateway::start(
        json!({"providers": [deployment], "routing": {"retry_count": 2, "retry_backoff": "1ms"}}),
    )
    .await;
    let endings: [(&str, Vec<Step>); 4] = [
        ("cut", vec![data(&text("hi")), Step::Cut]),
        ("ended without finish_reason or [DONE]", vec![data(&text("hi"))]),
        ("hang", vec![data(&text("hi")), Step::Hang]),
        (
            "garbage",
            vec![data(&text("hi")), data("{\"choices\": garb"), data(STOP), data("[DONE]")],
        ),
    ];
    for (ending, steps) in endings {
        vendor.forget();
        vendor.script("m", [Reply::stream(steps)]);
        let id = format!("broken-{}", ending.len());
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true})
                .to_string();
        let response = gateway
            .send("POST", "/v1/chat/completions", &[("x-request-id", &id)], body.as_bytes())
            .await;
        assert_broken_after_output(response).await;
        assert_eq!(vendor.seen("m").len(), 1, "{ending}");
        gateway.logged(&id);
    }
}
