//! Requests that ask the same at the same time, and the one call that they share.

use std::time::Instant;

use serde_json::{Value, json};

use crate::cache::{caching, events, said, stream, with};
use crate::client::{PATIENCE, Request, Response, send};
use crate::harness::{ANSWER, Gateway, STOP, ask, text};
use crate::replay::{Gate, Reply, Step, Vendor, data};

/// Makes the same request `count` times at once, and lets the vendor answer when all wait.
async fn at_once(
    (vendor, gateway, gate): (&Vendor, &Gateway, &Gate),
    body: &Value,
    count: usize,
) -> Vec<Response> {
    let address = gateway.address;
    let calls: Vec<_> = (0..count)
        .map(|_| {
            let body = body.to_string();
            tokio::spawn(async move {
                let path = "/v1/chat/completions";
                let request = Request { method: "POST", path, headers: &[], body: body.as_bytes() };
                send(address, &request).await.whole().await
            })
        })
        .collect();
    vendor.arrived("m", 1).await;
    // Those who are not admitted yet would be hits.
    let deadline = Instant::now() + PATIENCE;
    while gateway.scrape(&[]).await.sum("llmux_requests_in_flight", &[]) < count as f64 + 1.0 {
        assert!(Instant::now() < deadline, "not all have come");
    }
    gate.open();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn fifty_identical_calls_at_once_are_one_call() {
    for streamed in [false, true] {
        let vendor = Vendor::start().await;
        let gate = Gate::new();
        let reply = if streamed {
            let mut steps = events();
            steps.insert(2, Step::Gate(gate.clone()));
            Reply::stream(steps)
        } else {
            Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))
        };
        vendor.script("m", [reply]);
        let gateway = Gateway::start(caching(&vendor, &["m"], json!({}))).await;
        let body = with(ask("m"), json!({"stream": streamed}));
        let answers = at_once((&vendor, &gateway, &gate), &body, 50).await;
        assert_eq!(vendor.seen("m").len(), 1, "streamed: {streamed}");
        let misses = answers.iter().filter(|answer| answer.header("x-llmux-cache") == Some("miss"));
        assert_eq!(misses.count(), 1);
        for answer in &answers {
            assert_eq!((answer.status, answer.text()), (200, answers[0].text()));
        }
        let rows = gateway.records(50).await;
        let charged: Vec<&Value> = rows.iter().filter(|row| row["cache_hit"] == false).collect();
        assert_eq!(charged.len(), 1, "the call is charged once");
        assert_eq!((&charged[0]["spend"], &charged[0]["attempt"]), (&json!(0.000_023), &json!(1)));
        for row in rows.iter().filter(|row| row["cache_hit"] == true) {
            let got = (&row["spend"], &row["attempt"], &row["total_tokens"], &row["status"]);
            assert_eq!(got, (&json!(0), &json!(0), &json!(5), &json!("success")), "{row}");
        }
        let scrape = gateway.scrape(&[]).await;
        let count = |result| {
            scrape.sum("llmux_cache_requests_total", &[("model", "m"), ("result", result)])
        };
        assert_eq!((count("miss"), count("hit") + count("shared")), (1.0, 49.0));
        assert_eq!(gateway.stats().await["calls_in_flight"], 0);
        let state = gateway.administer("GET", "/control/state", "").await.json();
        assert_eq!(
            (&state["reservations"]["requests"], &state["reservations"]["money"]),
            (&json!(0), &json!(0))
        );
    }
}

#[tokio::test]
async fn whoever_began_a_call_may_leave_it_to_the_others() {
    for streamed in [false, true] {
        let vendor = Vendor::start().await;
        let gate = Gate::new();
        let reply = if streamed {
            let mut steps = events();
            steps.insert(2, Step::Gate(gate.clone()));
            Reply::stream(steps)
        } else {
            Reply::json(200, ANSWER).after(Step::Gate(gate.clone()))
        };
        vendor.script("m", [reply]);
        let gateway = Gateway::start(caching(&vendor, &["m"], json!({}))).await;
        let body = with(ask("m"), json!({"stream": streamed})).to_string();
        let begin = |id: &'static str| {
            let (address, body) = (gateway.address, body.clone());
            tokio::spawn(async move {
                let headers = [("x-request-id", id)];
                let path = "/v1/chat/completions";
                let request =
                    Request { method: "POST", path, headers: &headers, body: body.as_bytes() };
                send(address, &request).await.whole().await
            })
        };
        let first = begin("first");
        vendor.arrived("m", 1).await;
        let second = begin("second");
        let waits = async |count: f64| {
            let deadline = Instant::now() + PATIENCE;
            while gateway.scrape(&[]).await.sum("llmux_requests_in_flight", &[]) != count {
                assert!(Instant::now() < deadline, "{count} requests are not under way");
            }
        };
        waits(3.0).await;
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        waits(2.0).await;
        gate.open();
        let answer = second.await.unwrap();
        answer.assert_cache("hit");
        assert_eq!(vendor.seen("m").len(), 1, "streamed: {streamed}");
        assert_eq!(gateway.logged("first")["outcome"], "cancelled");
        assert_eq!(gateway.logged("second")["outcome"], "ok");
        let rows = gateway.records(2).await;
        let call = rows.iter().find(|row| row["cache_hit"] == false).unwrap();
        assert_eq!((&call["request_id"], &call["status"]), (&json!("first"), &json!("success")));
        assert_eq!(call["spend"], json!(0.000_023));
        gateway.chat(&serde_json::from_str(&body).unwrap()).await.assert_cache("hit");
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_ends() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::stream(vec![data(&text("hi")), Step::Hang])]);
    let gateway = Gateway::start(caching(&vendor, &["m"], json!({}))).await;
    let mut first = gateway.open("m").await;
    let mut second = gateway.open("m").await;
    first.next_event().await.unwrap();
    second.next_event().await.unwrap();
    drop(first);
    drop(second);
    vendor.abandoned(1).await;
    let rows = gateway.records(2).await;
    assert!(rows.iter().all(|row| row["status"] == "cancelled"), "{rows:?}");
    assert_eq!(vendor.seen("m").len(), 1);
    assert_eq!(gateway.stats().await["calls_in_flight"], 0);
}

#[tokio::test]
async fn nobody_joins_a_stream_that_has_become_too_long() {
    for control in ["ttl=0", "ttl=60"] {
        let vendor = Vendor::start().await;
        let gate = Gate::new();
        let long = data(&text(&"x".repeat(64 * 1024)));
        let mut steps = vec![long; 20];
        steps.push(Step::Gate(gate.clone()));
        steps.extend([data(STOP), data("[DONE]")]);
        vendor.script("m", [Reply::stream(steps), Reply::stream(events())]);
        let cache = json!({"memory": {"max_item_bytes": "4KiB"}});
        let gateway = Gateway::start(caching(&vendor, &["m"], cache)).await;
        let body = stream().to_string();
        let headers = [("x-llmux-cache", control)];
        let path = "/v1/chat/completions";
        let mut first = gateway.send("POST", path, &headers, body.as_bytes()).await;
        for _ in 0..20 {
            first.next_event().await.unwrap();
        }
        let second = gateway.chat(&stream()).await;
        second.assert_cache("miss");
        assert_eq!(said(&second).0, "hello there");
        gate.open();
        assert_eq!(said(&first.whole().await).0.len(), 20 * 64 * 1024);
        assert_eq!(vendor.seen("m").len(), 2);
    }
}

#[tokio::test]
async fn a_vendors_failure_is_everybodys_and_is_not_kept() {
    let vendor = Vendor::start().await;
    let gate = Gate::new();
    let failure = Reply::json(500, r#"{"error":{"message":"boom"}}"#);
    vendor.script("m", [failure.after(Step::Gate(gate.clone())), Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(caching(&vendor, &["m"], json!({}))).await;
    let answers = at_once((&vendor, &gateway, &gate), &ask("m"), 10).await;
    assert_eq!(vendor.seen("m").len(), 1);
    for answer in answers {
        assert_eq!((answer.status, answer.header("x-llmux-cache")), (502, Some("miss")));
    }
    gateway.chat(&ask("m")).await.assert_cache("miss");
    assert_eq!(gateway.records(2).await.len(), 2, "those who waited made no attempt");
}

#[tokio::test]
async fn a_deadline_is_nobody_elses() {
    let vendor = Vendor::start().await;
    vendor.script("m", [Reply::silent(), Reply::json(200, ANSWER)]);
    let gateway = Gateway::start(caching(&vendor, &["m"], json!({}))).await;
    let body = ask("m").to_string();
    let headers = [("x-llmux-timeout", "300ms")];
    let path = "/v1/chat/completions";
    let (late, other) = tokio::join!(
        async { gateway.send("POST", path, &headers, body.as_bytes()).await.whole().await },
        async {
            vendor.arrived("m", 1).await;
            gateway.chat(&ask("m")).await
        }
    );
    assert_eq!(late.status, 504);
    other.assert_cache("miss");
    assert_eq!(vendor.seen("m").len(), 2);
}
