//! Each fault, as the client sees it.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use llmux_mock::{Gate, Mock, Options, Piece, Reply};
use serde_json::{Value, json};

use crate::client::{events, open, post, post_http2, raw, read, send};

const CHAT: &str = "/v1/chat/completions";

fn streaming() -> Value {
    json!({"model": "m", "stream": true})
}

async fn mock_with(reply: Reply) -> Mock {
    let mock = Mock::start(Options::default()).await.unwrap();
    mock.script(reply);
    mock
}

#[tokio::test]
async fn an_error_has_the_shape_of_its_vendor() {
    let cases = [
        (
            CHAT,
            json!({"error": {"message": "slow", "type": "requests", "param": null, "code": "rate_limit_exceeded"}}),
        ),
        (
            "/openai/deployments/d/chat/completions?api-version=2024-10-21",
            json!({"error": {"code": "429", "message": "slow"}}),
        ),
        (
            "/v1/messages",
            json!({
                "type": "error", "error": {"type": "rate_limit_error", "message": "slow"}, "request_id": "req_mock"
            }),
        ),
        (
            "/v1beta/models/g:generateContent",
            json!({"error": {
                "code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}],
            }}),
        ),
    ];
    for (path, expected) in cases {
        let mock = mock_with(Reply::error(429).message("slow").header("retry-after", "2")).await;
        let answer = post(&mock, path, &streaming()).await;
        assert_eq!((answer.status, answer.json()), (429, expected), "{path}");
        assert_eq!(answer.headers["retry-after"], "2");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn a_cut_before_the_response_sends_no_byte() {
    let mock = mock_with(Reply::cut()).await;
    let (received, end) = raw(&mock, "").await;
    assert_eq!(received, b"");
    end.unwrap();
    assert_eq!(mock.abandoned(), 0);
}

#[tokio::test]
async fn a_cut_after_events_sends_them_and_no_proper_end() {
    let mock = mock_with(Reply::cut_after(2)).await;
    let answer = post(&mock, CHAT, &streaming()).await;
    assert_eq!((answer.status, answer.events().len(), answer.complete), (200, 2, false));
    assert_eq!(mock.abandoned(), 0);
}

#[tokio::test]
async fn a_cut_behind_the_last_event_leaves_out_only_the_end_of_the_body() {
    let mock = mock_with(Reply::cut_after(1000)).await;
    let answer = post(&mock, CHAT, &streaming()).await;
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
    assert!(!answer.complete);
}

#[tokio::test]
async fn a_cut_after_bytes_sends_exactly_those() {
    for body in [streaming(), json!({"model": "m"})] {
        for bytes in [0, 1, 100] {
            let mock = mock_with(Reply::cut_after_bytes(bytes)).await;
            let answer = post(&mock, CHAT, &body).await;
            assert_eq!((answer.status, answer.body.len(), answer.complete), (200, bytes, false));
        }
    }
}

#[tokio::test]
async fn a_cut_ends_in_a_reset_if_so_scripted() {
    let mock = mock_with(Reply::cut_after(2)).await;
    mock.script(Reply::cut_after(2).reset());
    mock.script(Reply::cut().reset());
    let (_, end) = raw(&mock, "").await;
    end.unwrap();
    for _ in 0..2 {
        let (_, end) = raw(&mock, "").await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_cut_over_http2_resets_the_stream() {
    let mock = mock_with(Reply::cut_after(2)).await;
    let answer = post_http2(&mock, CHAT, &streaming()).await;
    assert_eq!((answer.events().len(), answer.complete), (2, false));
    let whole = post_http2(&mock, CHAT, &streaming()).await;
    assert!(whole.complete);
    assert_eq!(whole.events().last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn a_hang_before_the_response_lasts_until_the_client_leaves() {
    let mock = mock_with(Reply::hang()).await;
    tokio::select! {
        _ = open(&mock, "POST", CHAT, &[], "{}") => unreachable!("nothing was to come"),
        () = mock.until(|mock| mock.open_requests() == 1 && mock.received().len() == 1) => {}
    }
    mock.until(|mock| mock.abandoned() == 1).await;
    assert_eq!(mock.open_requests(), 0);
}

#[tokio::test]
async fn a_hang_after_events_lasts_until_the_client_leaves() {
    let mock = mock_with(Reply::hang_after(2)).await;
    let mut response = open(&mock, "POST", CHAT, &[], &streaming().to_string()).await.unwrap();
    let mut text = String::new();
    while events(&text).len() < 2 {
        let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    assert_eq!((mock.open_requests(), mock.abandoned()), (1, 0));
    drop(response);
    mock.until(|mock| mock.abandoned() == 1).await;
    assert_eq!(mock.open_requests(), 0);
}

#[tokio::test]
async fn a_garbage_body_is_a_200_without_json() {
    let mock = mock_with(Reply::garbage_body()).await;
    let answer = post(&mock, CHAT, &json!({"model": "m"})).await;
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_slice::<Value>(&answer.body).is_err());
}

#[tokio::test]
async fn garbage_bytes_are_not_http() {
    let mock = mock_with(Reply::garbage_bytes()).await;
    let (received, _) = raw(&mock, "").await;
    assert!(!received.is_empty() && !received.windows(5).any(|window| window == b"HTTP/"));
    mock.script(Reply::garbage_bytes());
    assert!(open(&mock, "POST", CHAT, &[], "{}").await.is_err());
}

#[tokio::test]
async fn an_error_event_ends_the_stream_in_the_dialects_words() {
    let cases = [
        (CHAT, "/error/type", "server_error"),
        ("/v1/messages", "/error/type", "overloaded_error"),
        ("/v1/responses", "/type", "error"),
        ("/v1beta/models/g:streamGenerateContent?alt=sse", "/error/status", "UNAVAILABLE"),
    ];
    for (path, pointer, expected) in cases {
        let mock = mock_with(Reply::error_event(3)).await;
        let answer = post(&mock, path, &streaming()).await;
        let events = answer.events();
        assert_eq!((answer.status, events.len(), answer.complete), (200, 4, true), "{path}");
        assert_eq!(events[3].pointer(pointer).unwrap(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_as_many_dones_as_scripted() {
    for count in [0, 1, 2] {
        let mock = mock_with(Reply::default().done(count)).await;
        let answer = post(&mock, CHAT, &streaming()).await;
        assert_eq!(answer.events().iter().filter(|event| *event == "[DONE]").count(), count);
        assert!(answer.complete);
    }
}

#[tokio::test]
async fn the_content_type_can_be_wrong() {
    let mock = mock_with(Reply::default().content_type("text/html")).await;
    let answer = post(&mock, CHAT, &streaming()).await;
    assert_eq!(answer.headers["content-type"], "text/html");
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
}

/// Longer than any test takes.
const FOREVER: Duration = Duration::from_secs(3600);
/// Long enough to be a wait.
const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn latency_holds_the_head_back() {
    let mock = mock_with(Reply::default().latency(FOREVER)).await;
    tokio::select! {
        _ = open(&mock, "POST", CHAT, &[], "{}") => unreachable!("nothing was to come"),
        () = mock.until(|mock| mock.received().len() == 1) => {}
    }
    mock.script(Reply::default().latency(SHORT));
    let start = Instant::now();
    assert_eq!(post(&mock, CHAT, &json!({})).await.status, 200);
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_slow_first_byte_comes_behind_the_head() {
    let mock = mock_with(Reply::default().first_byte(FOREVER)).await;
    let response = open(&mock, "POST", CHAT, &[], "{}").await.unwrap();
    assert_eq!((response.status().as_u16(), mock.open_requests()), (200, 1));
    mock.script(Reply::default().first_byte(SHORT));
    let start = Instant::now();
    assert!(post(&mock, CHAT, &json!({})).await.complete);
    assert!(start.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_gap_lies_between_events() {
    let mock = mock_with(Reply::text("a b c").gap(FOREVER)).await;
    let mut response = open(&mock, "POST", CHAT, &[], &streaming().to_string()).await.unwrap();
    let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(events(std::str::from_utf8(&frame).unwrap()).len(), 1);
    assert_eq!(mock.open_requests(), 1);
    mock.script(Reply::text("a b c").gap(SHORT));
    let start = Instant::now();
    assert_eq!(post(&mock, CHAT, &streaming()).await.events().len(), 6);
    assert!(start.elapsed() >= SHORT * 5);
}

#[tokio::test]
async fn leaving_over_http2_is_noticed() {
    let mock = mock_with(Reply::hang_after(1)).await;
    let body = streaming();
    tokio::select! {
        _ = post_http2(&mock, CHAT, &body) => unreachable!("the stream was not to end"),
        () = mock.until(|mock| mock.received().len() == 1) => {}
    }
    mock.until(|mock| mock.abandoned() == 1).await;
}

#[tokio::test]
async fn a_gate_holds_each_event_until_released() {
    let gate = Gate::new();
    let mock = mock_with(Reply::text("a b").gate(&gate)).await;
    let mut response = open(&mock, "POST", CHAT, &[], &streaming().to_string()).await.unwrap();
    for _ in 0..3 {
        gate.release(1);
        let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(events(std::str::from_utf8(&frame).unwrap()).len(), 1);
    }
    gate.open();
    assert_eq!(read(response).await.events().len(), 2);
}

#[tokio::test]
async fn pieces_are_sent_as_they_are_and_when_their_gate_opens() {
    let gate = Gate::new();
    let pieces = vec![Piece::new("data: \"x"), Piece::gated("y\"\n\n", &gate)];
    let mock =
        mock_with(Reply::pieces(201, "text/event-stream", pieces).header("x-seen", "yes")).await;
    let mut response = open(&mock, "POST", CHAT, &[], "not json").await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-seen"]),
        (201, &"yes".parse().unwrap())
    );
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "data: \"x");
    gate.release(1);
    assert_eq!(read(response).await.text(), "y\"\n\n");
}

#[tokio::test]
async fn scripts_are_taken_in_order_and_those_for_a_path_first() {
    let mock = mock_with(Reply::canned(200, "text/plain", "any")).await;
    mock.script_for("/embeddings", Reply::error(500));
    mock.script_for("/embeddings", Reply::error(501));
    let mut seen = Vec::new();
    for path in [CHAT, "/v1/embeddings", "/v1/embeddings", "/v1/embeddings", CHAT] {
        seen.push(post(&mock, path, &json!({"input": "x"})).await.status);
    }
    assert_eq!(seen, [200, 500, 501, 200, 200]);
    assert_eq!(mock.scripted(), 0);
}

#[tokio::test]
async fn the_fault_header_scripts_its_own_request_only() {
    let mock = mock_with(Reply::error(500)).await;
    let fault = [("x-mock-fault", "status=429; retry-after=2; message=wait; header=x-a: b")];
    let answer = send(&mock, "POST", CHAT, &fault, "{}").await;
    assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (429, Some("wait")));
    assert_eq!(
        (&answer.headers["retry-after"], &answer.headers["x-a"]),
        (&"2".parse().unwrap(), &"b".parse().unwrap())
    );
    assert_eq!(post(&mock, CHAT, &json!({})).await.status, 500);
    let wrong = send(&mock, "POST", CHAT, &[("x-mock-fault", "sttaus=1")], "{}").await;
    assert_eq!((wrong.status, wrong.text()), (400, "x-mock-fault: sttaus: unknown key\n"));
}

#[test]
fn the_header_syntax_has_every_fault() {
    for fault in [
        "cut",
        "cut=2",
        "cut-bytes=9;reset",
        "hang",
        "hang=1",
        "garbage",
        "garbage=bytes",
        "error-event=3",
        "done=0",
        "latency=50ms",
        "first-byte=1s",
        "chunks=100;gap=10us",
        "text=a b",
        "reasoning=hm",
        "tool-call=f:{\"a\":1}",
        "finish=content_filter",
        "cached-tokens=4",
        "content-type=text/html",
        "body=x",
        "type=t;code=c",
        "",
    ] {
        assert!(Reply::parse(fault).is_ok(), "{fault}");
    }
    for wrong in [
        "cut=x",
        "status=99999",
        "status=100",
        "header=a b: c",
        "latency=1h",
        "reset=1",
        "finish=done",
        "garbage=no",
        "header=x",
        "what",
    ] {
        assert!(Reply::parse(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_script_is_refused_whole_for_one_wrong_reply() {
    let mock = Mock::start(Options::default()).await.unwrap();
    for wrong in [
        json!({"status": 1000}),
        json!({"headers": {"a b": "c"}}),
        json!({"latency": 5}),
        json!({"cut": false}),
        json!(7),
    ] {
        let problem = mock.script_json(json!([{"status": 500}, wrong]).to_string().as_bytes());
        assert!(problem.unwrap_err().starts_with("reply 1: "));
        assert_eq!(mock.scripted(), 0);
    }
}

#[tokio::test]
async fn the_script_in_the_readme_is_understood() {
    let mock = Mock::start(Options::default()).await.unwrap();
    let readme = include_str!("../README.md");
    let mut blocks =
        readme.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let script = blocks.find(|block| block.starts_with('[')).unwrap();
    mock.script_json(script.as_bytes()).unwrap();
    assert_eq!(mock.scripted(), 8);
}
