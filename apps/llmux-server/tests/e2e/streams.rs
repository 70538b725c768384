//! Streams: their bytes, their order in time, their ends, and clients that leave.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bytes::{Item, items};
use crate::fixtures::fixtures;
use crate::harness::{ANSWER, Gateway, STOP, USAGE, ask, chunk, once, provider, role, text};
use crate::replay::{Gate, Reply, Step, Vendor, data, is_event_stream};

/// A vendor and a gateway in front of it, with one provider and model per name, no retries.
pub(crate) async fn serve(names: &[&str]) -> (Vendor, Gateway) {
    let vendor = Vendor::start().await;
    let mut configuration = once(names.iter().map(|name| provider(&vendor, name)).collect());
    // So long that what waits for it never comes in a test's time.
    configuration["stream"] = json!({"keep_alive": "10m"});
    (vendor, Gateway::start(configuration).await)
}

/// What the client gets of a chat stream of `model`, to its proper end.
async fn stream(gateway: &Gateway, model: &str) -> Vec<Item> {
    let response = gateway.open(model).await.whole().await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(
        response.header("content-type").is_some_and(|value| value.starts_with("text/event-stream")),
        "{:?}",
        response.headers
    );
    items(&response.body)
}

pub(crate) fn dones(items: &[Item]) -> usize {
    items.iter().filter(|item| item.is_done()).count()
}

/// The joined text of all deltas.
pub(crate) fn said(items: &[Item]) -> String {
    items
        .iter()
        .filter_map(|item| {
            item.json()["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
        })
        .collect()
}

fn with_model(event: &str, model: &str) -> Vec<u8> {
    event.replace(r#""model":"served""#, &format!(r#""model":"{model}""#)).into_bytes()
}

/// Fails unless these are exactly the data of the events.
#[track_caller]
pub(crate) fn assert_data(items: &[Item], model: &str, events: &[&str]) {
    let got: Vec<String> =
        items.iter().map(|item| String::from_utf8_lossy(item.data()).into_owned()).collect();
    let want: Vec<String> = events
        .iter()
        .map(|event| String::from_utf8_lossy(&with_model(event, model)).into_owned())
        .collect();
    assert_eq!(got, want);
}

#[tokio::test]
async fn recorded_streams_are_the_same_however_they_are_split() {
    const SWITCHES: &[&str] =
        &["", "~chunk=1", "~chunk=2", "~chunk=7", "~chunk=61", "~chunk=1000", "~chunk=1000000"];
    let vendor = Vendor::start().await;
    let streams: Vec<_> = fixtures()
        .iter()
        .filter(|fixture| fixture.response.status == 200 && is_event_stream(fixture))
        .collect();
    assert!(streams.len() > 70, "{} streams", streams.len());
    let providers = streams
        .iter()
        .flat_map(|fixture| SWITCHES.iter().map(|switches| fixture.provider(&vendor, switches)));
    let gateway = Gateway::start(once(providers.collect())).await;
    let mut complaints = Vec::new();
    for fixture in streams {
        let mut first: Option<Vec<u8>> = None;
        for switches in SWITCHES {
            let alias = format!("{}{switches}", fixture.alias());
            let (content_type, body) = fixture.client_request(&alias);
            let path = match fixture.api.as_str() {
                "chat" => "/v1/chat/completions",
                "completions" => "/v1/completions",
                "responses" => "/v1/responses",
                _ => "/v1/audio/transcriptions",
            };
            let answer = gateway
                .send("POST", path, &[("content-type", content_type)], &body)
                .await
                .whole()
                .await;
            assert_eq!(answer.status, 200, "{alias}: {}", answer.text());
            let bytes = answer.text().replace(&alias, "ALIAS").into_bytes();
            let first = first.get_or_insert_with(|| bytes.clone());
            let differs = first.iter().zip(&bytes).position(|(one, other)| one != other);
            let at = differs.unwrap_or(first.len().min(bytes.len())).saturating_sub(40);
            let shown = |bytes: &[u8]| {
                String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 120)]).into_owned()
            };
            if *first != bytes {
                complaints.push(format!(
                    "{alias}:\n whole ...{:?}\n split ...{:?}",
                    shown(first),
                    shown(&bytes)
                ));
            }
            assert_eq!(vendor.seen(&format!("{}{switches}", fixture.id)).len(), 1, "{alias}");
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[tokio::test]
async fn recorded_usage_is_hidden_from_a_client_that_did_not_ask() {
    let vendor = Vendor::start().await;
    let streams: Vec<_> = fixtures()
        .iter()
        .filter(|fixture| {
            fixture.api == "chat"
                && fixture.asks_for_usage()
                && fixture.expect["stream_error"].is_null()
        })
        .collect();
    let gateway =
        Gateway::start(once(streams.iter().map(|fixture| fixture.provider(&vendor, "")).collect()))
            .await;
    let mut hidden = 0;
    for fixture in streams {
        let (_, body) = fixture.client_request(&fixture.alias());
        let mut body: Value = serde_json::from_slice(&body).expect("recorded bodies are JSON");
        body.as_object_mut().expect("chat bodies are objects").remove("stream_options");
        let answer = gateway.chat(&body).await;
        let got = items(&answer.body);
        let expected = fixture.expected_stream(&fixture.alias(), false);
        assert_eq!(got, expected, "{}", fixture.id);
        hidden +=
            usize::from(expected.len() < fixture.expected_stream(&fixture.alias(), true).len());
        let seen = vendor.only(&fixture.id).json();
        if fixture.provider == "openai" {
            assert_eq!(seen["stream_options"]["include_usage"], true, "{}", fixture.id);
        }
    }
    assert!(hidden > 20, "only {hidden} recordings had something to hide");
}

#[tokio::test]
async fn the_first_output_leaves_before_the_vendor_sends_the_next_event() {
    let (vendor, gateway) = serve(&["m"]).await;
    let gate = Gate::new();
    let steps = vec![
        data(&role()),
        data(&text("one")),
        Step::Gate(gate.clone()),
        data(&text("two")),
        Step::Gate(gate.clone()),
        data(STOP),
        data("[DONE]"),
    ];
    vendor.script("m", [Reply::stream(steps)]);
    let mut response = gateway.open("m").await;
    assert_eq!(response.status, 200);
    assert_data(&[response.next_event().await.unwrap()], "m", &[&role()]);
    assert_data(&[response.next_event().await.unwrap()], "m", &[&text("one")]);
    gate.open();
    assert_data(&[response.next_event().await.unwrap()], "m", &[&text("two")]);
    gate.open();
    assert_data(&[response.next_event().await.unwrap()], "m", &[STOP]);
    assert!(response.next_event().await.unwrap().is_done());
    assert!(response.next_event().await.is_none());
    assert_eq!(vendor.seen("m").len(), 1);
}

#[tokio::test]
async fn the_time_to_the_first_output_is_that_of_the_output() {
    const THOUGHT: Duration = Duration::from_millis(200);
    let (vendor, gateway) = serve(&["m"]).await;
    let gate = Gate::new();
    let steps = vec![
        data(&role()),
        Step::Gate(gate.clone()),
        data(&text("hi")),
        Step::Gate(gate.clone()),
        data(STOP),
        data("[DONE]"),
    ];
    vendor.script("m", [Reply::stream(steps)]);
    let mut body = ask("m");
    body["stream"] = json!(true);
    let body = body.to_string();
    let headers = [("x-request-id", "thoughtful")];
    let call = gateway.send("POST", "/v1/chat/completions", &headers, body.as_bytes());
    let think = async {
        vendor.arrived("m", 1).await;
        // The vendor thinks; this is what is measured, not a wait for something.
        tokio::time::sleep(THOUGHT).await;
        gate.open();
    };
    let (mut response, ()) = tokio::join!(call, think);
    response.next_event().await.unwrap();
    tokio::time::sleep(THOUGHT).await;
    gate.open();
    response.whole().await;
    let log = gateway.logged("thoughtful");
    let told = |field: &str| log[field].as_f64().unwrap_or_else(|| panic!("no {field} in {log}"));
    let thought = THOUGHT.as_secs_f64() * 1000.0;
    assert!(told("ttft_ms") >= thought * 0.9, "{log}");
    assert!(told("duration_ms") >= told("ttft_ms") + thought * 0.9, "{log}");
}

#[tokio::test]
async fn tool_calls_refusals_and_reasoning_count_as_output() {
    let (vendor, gateway) = serve(&["m"]).await;
    for delta in [
        r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"refusal":"no"}"#,
        r#"{"reasoning_content":"hm"}"#,
        r#"{"reasoning":"hm"}"#,
    ] {
        let gate = Gate::new();
        vendor.script(
            "m",
            [Reply::stream(vec![
                data(&role()),
                data(&chunk(delta)),
                Step::Gate(gate.clone()),
                data(STOP),
                data("[DONE]"),
            ])],
        );
        let mut response = gateway.open("m").await;
        assert_data(&[response.next_event().await.unwrap()], "m", &[&role()]);
        assert_data(&[response.next_event().await.unwrap()], "m", &[&chunk(delta)]);
        gate.open();
        assert_eq!(dones(&items(&response.whole().await.body)), 1);
    }
}

#[tokio::test]
async fn chat_and_completions_end_with_exactly_one_done() {
    let (vendor, gateway) = serve(&["m"]).await;
    let (first, second) = (role(), text("hi"));
    let answer = [first.as_str(), &second, STOP];
    for tail in [&["[DONE]"][..], &[], &["[DONE]", "[DONE]"]] {
        vendor.forget();
        vendor.script("m", [Reply::events(answer.iter().chain(tail))]);
        assert_data(&stream(&gateway, "m").await, "m", &[&first, &second, STOP, "[DONE]"]);
        assert_eq!(vendor.seen("m").len(), 1);
    }
    let piece = r#"{"id":"c","object":"text_completion","created":1,"model":"served","choices":[{"text":"hi","index":0,"finish_reason":"stop"}]}"#;
    for tail in [&["[DONE]"][..], &[], &["[DONE]", "[DONE]"]] {
        vendor.script("m", [Reply::events([piece].iter().chain(tail))]);
        let response =
            gateway.post("/v1/completions", r#"{"model":"m","prompt":"x","stream":true}"#).await;
        assert_data(&items(&response.body), "m", &[piece, "[DONE]"]);
    }
}

#[tokio::test]
async fn a_responses_stream_ends_as_its_protocol_says() {
    let (vendor, gateway) = serve(&["m"]).await;
    let body = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"model\":\"served\",\"output\":[]}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"hi\"}\n\n",
        "event: response.new_thing\ndata: {\"type\":\"response.new_thing\",\"sequence_number\":2}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":3,\"response\":{\"id\":\"r\",\"status\":\"completed\",\"model\":\"served\",\"output\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":2,\"total_tokens\":5}}}\n\n",
    );
    vendor.script("m", [Reply::stream(vec![Step::Write(body.as_bytes().to_vec())])]);
    let response =
        gateway.post("/v1/responses", r#"{"model":"m","input":"x","stream":true}"#).await;
    assert_eq!(items(&response.body), items(&with_model(body, "m")));
    assert_eq!(vendor.only("m").target, "/responses");

    // Without its last event the answer is broken, whatever the connection says.
    let cut = body.find("event: response.completed").unwrap();
    vendor.script("m", [Reply::stream(vec![Step::Write(body.as_bytes()[..cut].to_vec())])]);
    let response =
        gateway.post("/v1/responses", r#"{"model":"m","input":"x","stream":true}"#).await;
    let got = items(&response.body);
    assert_eq!(got[..3], items(&with_model(&body[..cut], "m")));
    assert_eq!(got.len(), 4, "{got:?}");
    assert!(
        got[3].json()["error"]["message"].is_string() || got[3].json()["message"].is_string(),
        "{got:?}"
    );
}

#[tokio::test]
async fn usage_is_always_asked_for_and_shown_only_on_demand() {
    let (vendor, gateway) = serve(&["m"]).await;
    vendor.script("m", [Reply::events([&role(), &text("hi"), STOP, USAGE, "[DONE]"])]);
    for (options, shown) in [
        (Value::Null, false),
        (json!({"include_usage": true}), true),
        (json!({"include_usage": false}), false),
        (json!({"include_obfuscation": false}), false),
    ] {
        vendor.forget();
        let mut body = ask("m");
        body["stream"] = json!(true);
        if !options.is_null() {
            body["stream_options"] = options.clone();
        }
        let id = format!("usage-{}", options.to_string().len());
        let response = gateway
            .send(
                "POST",
                "/v1/chat/completions",
                &[("x-request-id", &id)],
                body.to_string().as_bytes(),
            )
            .await
            .whole()
            .await;
        let (first, second) = (role(), text("hi"));
        let mut expected = vec![first.as_str(), &second, STOP, USAGE, "[DONE]"];
        if !shown {
            expected.remove(3);
        }
        assert_data(&items(&response.body), "m", &expected);
        let seen = vendor.only("m").json();
        assert_eq!(seen["stream_options"]["include_usage"], true, "{options}");
        if !options["include_obfuscation"].is_null() {
            assert_eq!(
                seen["stream_options"]["include_obfuscation"], false,
                "a member of the client's is kept"
            );
        }
        let log = gateway.logged(&id);
        assert_eq!(
            (&log["prompt_tokens"], &log["completion_tokens"], &log["total_tokens"]),
            (&json!(3), &json!(2), &json!(5)),
            "{log}"
        );
        assert_eq!(
            (&log["finish_reason"], &log["stream"]),
            (&json!("stop"), &json!(true)),
            "{log}"
        );
    }
}

#[tokio::test]
async fn usage_beside_choices_is_not_hidden() {
    let (vendor, gateway) = serve(&["m"]).await;
    let last = STOP.replace(r#""finish_reason":"stop"}]"#, r#""finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#);
    vendor.script("m", [Reply::events([&text("hi"), &last, "[DONE]"])]);
    assert_data(&stream(&gateway, "m").await, "m", &[&text("hi"), &last, "[DONE]"]);
}

#[tokio::test]
async fn line_ends_comments_and_pings_are_understood_and_kept() {
    let (vendor, gateway) = serve(&["m"]).await;
    let (first, second) = (role(), text("hi"));
    for end in ["\n", "\r\n", "\r"] {
        let body = [
            ": PROCESSING",
            "",
            &format!("data: {first}"),
            "",
            "event: ping",
            r#"data: {"type":"ping"}"#,
            "",
            &format!("data:{second}"),
            "",
            ": still here",
            "",
            &format!("data: {STOP}"),
            "",
            "data: [DONE]",
            "",
            "",
        ]
        .join(end);
        vendor.script("m", [Reply::stream(vec![Step::Write(body.clone().into_bytes())])]);
        assert_eq!(stream(&gateway, "m").await, items(&with_model(&body, "m")), "line end {end:?}");
        vendor.script(
            "m",
            [Reply::stream(body.bytes().map(|byte| Step::Write(vec![byte])).collect())],
        );
        assert_eq!(
            stream(&gateway, "m").await,
            items(&with_model(&body, "m")),
            "line end {end:?}, byte by byte"
        );
    }
}

#[tokio::test]
async fn an_event_may_span_data_lines() {
    let (vendor, gateway) = serve(&["m"]).await;
    let body = "data: {\"id\":\"c\",\ndata: \"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    vendor.script("m", [Reply::stream(vec![Step::Write(body.as_bytes().to_vec())])]);
    assert_eq!(stream(&gateway, "m").await, items(body.as_bytes()));
}

#[tokio::test]
async fn a_last_event_without_its_empty_line_still_counts() {
    let (vendor, gateway) = serve(&["m"]).await;
    let body = format!("data: {}\n\ndata: {STOP}\n\ndata: [DONE]", text("hi"));
    vendor.script("m", [Reply::stream(vec![Step::Write(body.into_bytes())])]);
    assert_data(&stream(&gateway, "m").await, "m", &[&text("hi"), STOP, "[DONE]"]);
    let body = format!("data: {}\n\ndata: {STOP}", text("hi"));
    vendor.script("m", [Reply::stream(vec![Step::Write(body.into_bytes())])]);
    assert_data(&stream(&gateway, "m").await, "m", &[&text("hi"), STOP, "[DONE]"]);
}

#[tokio::test]
async fn a_huge_line_passes_whole() {
    let (vendor, gateway) = serve(&["m"]).await;
    let huge = text(&"0123456789abcdef".repeat(3 * 1024 * 64));
    assert!(huge.len() > 3 * 1024 * 1024);
    let body = format!("data: {huge}\n\ndata: {STOP}\n\ndata: [DONE]\n\n").into_bytes();
    vendor.script(
        "m",
        [Reply::stream(body.chunks(10_000).map(|piece| Step::Write(piece.to_vec())).collect())],
    );
    let got = stream(&gateway, "m").await;
    assert_eq!(got.len(), 3);
    assert!(got[0].data() == with_model(&huge, "m"), "the huge event changed");
}

#[tokio::test]
async fn characters_are_neither_cut_nor_taken_for_line_ends() {
    let (vendor, gateway) = serve(&["m"]).await;
    let odd = text("a\u{2028}b\u{2029}c\u{85}d 中文 🦀 \\u00e9 \\ud83e\\udd80");
    let body = format!("data: {odd}\n\ndata: {STOP}\n\ndata: [DONE]\n\n").into_bytes();
    for size in 1..=5 {
        vendor.script(
            "m",
            [Reply::stream(body.chunks(size).map(|piece| Step::Write(piece.to_vec())).collect())],
        );
        assert_data(&stream(&gateway, "m").await, "m", &[&odd, STOP, "[DONE]"]);
    }
}

#[tokio::test]
async fn an_answer_without_output_is_an_answer() {
    let (vendor, gateway) = serve(&["m"]).await;
    vendor.script("m", [Reply::events([&role(), STOP, "[DONE]"])]);
    assert_data(&stream(&gateway, "m").await, "m", &[&role(), STOP, "[DONE]"]);
    assert_eq!(vendor.seen("m").len(), 1);
}

#[tokio::test]
async fn azures_first_chunk_and_choices_without_delta_pass() {
    let (vendor, gateway) = serve(&["m"]).await;
    let filter = r#"{"choices":[],"created":0,"id":"","object":"","prompt_filter_results":[{"prompt_index":0}]}"#;
    let late = r#"{"choices":[{"content_filter_offsets":{"check_offset":1},"finish_reason":null,"index":0}],"id":"c","model":"served"}"#;
    vendor.script("m", [Reply::events([filter, &text("hi"), late, STOP, "[DONE]"])]);
    assert_data(&stream(&gateway, "m").await, "m", &[filter, &text("hi"), late, STOP, "[DONE]"]);
}

#[tokio::test]
async fn all_choices_of_a_stream_pass() {
    let (vendor, gateway) = serve(&["m"]).await;
    let (zero, one) = (text("a"), text("b").replace(r#""index":0"#, r#""index":1"#));
    let end = STOP.replace(r#""index":0"#, r#""index":1"#);
    vendor.script("m", [Reply::events([&zero, &one, STOP, &end, "[DONE]"])]);
    assert_data(&stream(&gateway, "m").await, "m", &[&zero, &one, STOP, &end, "[DONE]"]);
}

#[tokio::test]
async fn comments_keep_an_idle_connection_alive() {
    let vendor = Vendor::start().await;
    let mut configuration = once(vec![provider(&vendor, "m")]);
    configuration["stream"] = json!({"keep_alive": "200ms"});
    let gateway = Gateway::start(configuration).await;
    let gate = Gate::new();
    vendor.script(
        "m",
        [Reply::stream(vec![
            data(&role()),
            Step::Gate(gate.clone()),
            data(&text("hi")),
            Step::Gate(gate.clone()),
            data(STOP),
            data("[DONE]"),
        ])],
    );
    // The first keep-alive is also the end of the time for which openings are held back.
    let mut response = gateway.open("m").await;
    let mut openings = vec![response.next_item().await.unwrap()];
    while !openings.iter().any(|item| matches!(item, Item::Comment(_))) {
        openings.push(response.next_item().await.unwrap());
    }
    gate.open();
    openings.push(response.next_event().await.unwrap());
    let events: Vec<Item> =
        openings.into_iter().filter(|item| matches!(item, Item::Event { .. })).collect();
    assert_data(&events, "m", &[&role(), &text("hi")]);
    assert!(matches!(response.next_item().await, Some(Item::Comment(_))));
    gate.open();
    assert_data(&[response.next_event().await.unwrap()], "m", &[STOP]);
    assert!(response.next_event().await.unwrap().is_done());
}

#[tokio::test]
async fn a_whole_answer_to_a_stream_request_is_not_taken_for_a_stream() {
    let (vendor, gateway) = serve(&["m"]).await;
    vendor.script("m", [Reply::json(200, ANSWER)]);
    let response = gateway.open("m").await.whole().await;
    // Either an error, or the answer as it is under its own content type; never half an event stream.
    if response.status == 200 {
        assert_eq!(response.body, with_model(ANSWER, "m"));
        assert_eq!(response.header("content-type"), Some("application/json"));
    } else {
        assert_eq!(response.status, 502, "{}", response.text());
        response.error();
    }
}

#[tokio::test]
async fn relayed_events_are_called_an_event_stream_whatever_the_vendor_calls_them() {
    let (vendor, gateway) = serve(&["m"]).await;
    for label in ["text/html", "application/octet-stream", "text/plain; charset=utf-8"] {
        let mut reply = Reply::events([&text("hi"), STOP, "[DONE]"]);
        reply.headers = vec![("content-type".to_owned(), label.to_owned())];
        vendor.script("m", [reply]);
        let response = gateway.open("m").await.whole().await;
        // To refuse the answer would be right as well; to hand it on under that name is not.
        if response.status == 200 {
            let label = response.header("content-type").unwrap_or_default();
            assert!(label.starts_with("text/event-stream"), "{label}");
            assert_data(&items(&response.body), "m", &[&text("hi"), STOP, "[DONE]"]);
        } else {
            assert_eq!(response.status, 502, "{}", response.text());
            response.error();
        }
    }
}
