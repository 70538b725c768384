//! Connections that end too late or too soon: slow clients, silent ones, vendors that answer early or hang up.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Request;
use crate::harness::{ANSWER, Gateway, ask, once, provider};
use crate::replay::{Gate, Reply, Step, Vendor};

#[tokio::test]
async fn a_client_that_still_downloads_its_answer_is_not_idle() {
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"idle_timeout": "300ms", "read_timeout": "300ms"});
    let gateway = Gateway::start(configuration).await;
    let long = "0123456789abcdef".repeat(2 * 1024 * 1024);
    let answer = ANSWER.replace("hello", &long);
    vendor.script("m", [Reply::json(200, &answer)]);
    let body = ask("m").to_string();
    let request = Request {
        method: "POST",
        path: "/v1/chat/completions",
        headers: &[],
        body: body.as_bytes(),
    };
    let mut response = crate::client::send(gateway.address, &request).await;
    // The client takes its time; this is what is tested, not a wait for something.
    for _ in 0..15 {
        let target = response.body.len() + 256 * 1024;
        while response.body.len() < target {
            assert!(response.more().await, "cut after {} bytes", response.body.len());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(response.finish().await, "cut after {} bytes", response.body.len());
    assert_eq!(response.body.len(), answer.replace("served", "m").len());
}

/// A vendor that refuses each first request of a connection as soon as it has its head, and never reads on.
async fn hasty_vendor() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0, "a request comes");
            }
            let body = r#"{"error":{"message":"too large"}}"#;
            let answer = format!(
                "HTTP/1.1 413 Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            kept.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_vendor_that_answers_before_it_has_read_the_request_does_not_block_the_next() {
    let address = hasty_vendor().await;
    let mut configuration = once(vec![json!({
        "name": "hasty", "type": "openai", "api_key": "k", "models": ["m"], "timeout": "5s",
        "base_url": format!("http://{address}/v1"),
    })]);
    configuration["server"] = json!({"workers": 1});
    let gateway = Gateway::start(configuration).await;
    let mut large = ask("m");
    large["messages"][0]["content"] = json!("x".repeat(12 * 1024 * 1024));
    for body in [&large, &large, &ask("m")] {
        let response = gateway.chat(body).await;
        assert_eq!(response.status, 413, "{}", response.text());
        assert_eq!(response.error()["message"], "too large");
    }
}

#[tokio::test]
async fn a_vendor_that_hangs_up_while_it_thinks_is_not_asked_again_in_secret() {
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["server"] = json!({"workers": 1});
    let gateway = Gateway::start(configuration).await;
    let gate = Gate::new();
    let hangs_up = Reply::raw(b"").after(Step::Gate(gate.clone()));
    vendor.script("m", [Reply::json(200, ANSWER), hangs_up, Reply::json(200, ANSWER)]);
    assert_eq!(gateway.chat(&ask("m")).await.status, 200);
    let thinks = async {
        vendor.arrived("m", 2).await;
        // The vendor works on it; this is what is tested, not a wait for something.
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
    };
    let request = ask("m");
    let (response, ()) = tokio::join!(gateway.chat(&request), thinks);
    assert_eq!(response.status, 502, "{}", response.text());
    assert_eq!(vendor.seen("m").len(), 2);
    assert_eq!(vendor.connections(), 1);
}
