//! Recorded answers of Anthropic and of Claude on Vertex, which are the same on the wire.
#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use llmux_providers::anthropic::{Anthropic, Relay, Reply};
use llmux_providers::{ChatCodec, ClientStream as _, DecodeError};
use llmux_types::Usage;
use llmux_types::chat::{AssistantMessage, ChatEvent, ChatResponse, Choice, Part, ToolCall};
use serde_json::{Value, json};

/// Ids that differ from their `expect`, a line each: the id, a space, the reason.
const EXCEPTIONS: &str = include_str!("fixtures/anthropic-exceptions.txt");

struct Fixture {
    id: String,
    stream: bool,
    status: u16,
    body: String,
    expect: Value,
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut fixtures = Vec::new();
    for vendor in ["anthropic", "vertex"] {
        for entry in std::fs::read_dir(root.join(vendor)).expect("the folder is there") {
            let path = entry.expect("readable").path();
            if !path.file_name().is_some_and(|name| name.to_string_lossy().contains("-messages-")) {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("readable");
            let value: Value = serde_json::from_str(&text).expect("JSON");
            fixtures.push(Fixture {
                id: value["id"].as_str().expect("an id").to_owned(),
                stream: value["stream"].as_bool().expect("a flag"),
                status: u16::try_from(value["response"]["status"].as_u64().expect("a number"))
                    .expect("a status"),
                body: value["response"]["body"].as_str().expect("a body").to_owned(),
                expect: value["expect"].clone(),
            });
        }
    }
    fixtures.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(fixtures.len(), 64, "fixtures");
    fixtures
}

fn streams() -> Vec<Fixture> {
    fixtures().into_iter().filter(|fixture| fixture.stream && fixture.status == 200).collect()
}

/// Decodes a stream that arrives in pieces.
fn events(pieces: &[&[u8]]) -> Result<Vec<ChatEvent>, DecodeError> {
    let mut decoder = Anthropic.decoder();
    let mut events = Vec::new();
    for piece in pieces {
        decoder.feed(piece, &mut events)?;
    }
    decoder.finish(&mut events)?;
    assert!(decoder.is_done());
    Ok(events)
}

/// Puts the pieces of a stream together, and checks the order that is promised of them.
fn fold(events: &[ChatEvent]) -> ChatResponse {
    let mut response = ChatResponse::default();
    let mut message = AssistantMessage::default();
    let (mut text, mut thought) = (String::new(), String::new());
    let mut calls: BTreeMap<u64, ToolCall> = BTreeMap::new();
    let mut finish = None;
    for (position, event) in events.iter().enumerate() {
        let ended = finish.is_some();
        match event {
            ChatEvent::Start { id } => {
                assert_eq!(position, 0, "a stream starts once");
                response.id.clone_from(id);
            }
            ChatEvent::Usage(usage) => response.usage = Some(*usage),
            _ if ended => panic!("{event:?} after the end"),
            ChatEvent::Text { text: more, .. } => text.push_str(more),
            ChatEvent::Reasoning { text: more, .. } => thought.push_str(more),
            ChatEvent::ReasoningEnd { block, .. } => {
                assert_eq!(block.text, thought, "the block repeats its text");
                thought.clear();
                message.reasoning.push(block.clone());
            }
            ChatEvent::ToolCall { index, call, .. } => {
                assert_eq!(*index, calls.len() as u64, "calls are counted");
                calls.insert(*index, call.clone());
            }
            ChatEvent::Arguments { index, text, .. } => {
                calls.get_mut(index).expect("the call began").arguments.push_str(text);
            }
            ChatEvent::Annotations { annotations, .. } => {
                message.annotations.extend(annotations.iter().cloned());
            }
            ChatEvent::Refusal { text, .. } => {
                message.refusal.get_or_insert_default().push_str(text);
            }
            ChatEvent::Finish { reason, .. } => finish = Some(*reason),
            other => panic!("unexpected {other:?}"),
        }
    }
    if !text.is_empty() {
        message.content.push(Part::text(text));
    }
    message.tool_calls = calls.into_values().collect();
    let finish_reason = finish.expect("a stream ends");
    response.choices.push(Choice { index: 0, message, finish_reason, logprobs: None });
    response
}

/// Says an answer in the words of `expect`.
fn seen(response: &ChatResponse) -> Value {
    let choice = &response.choices[0];
    let text: Option<String> = match choice.message.content.as_slice() {
        [] => None,
        parts => Some(
            parts
                .iter()
                .map(|part| match part {
                    Part::Text { text, .. } => text.as_str(),
                    other => panic!("unexpected {other:?}"),
                })
                .collect(),
        ),
    };
    let reasoning = &choice.message.reasoning;
    let thoughts: String = reasoning.iter().map(|block| block.text.as_str()).collect();
    let calls = choice.message.tool_calls.iter().map(|call| {
        let arguments: Value = serde_json::from_str(&call.arguments)
            .unwrap_or_else(|_| json!({"__unparsed__": call.arguments}));
        json!({"id": call.id, "name": call.name, "arguments": arguments})
    });
    json!({
        "response_id": response.id,
        "text": text,
        "reasoning": (!reasoning.is_empty()).then_some(thoughts),
        "tool_calls": calls.collect::<Vec<_>>(),
        "finish_reason": choice.finish_reason.map(|reason| reason.as_str()),
        "has_signature": reasoning.iter().any(|block| block.signature.is_some()),
        "usage": response.usage.map(usage),
    })
}

fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cache_creation_tokens": usage.cache_write_tokens,
    })
}

/// The same out of `expect`.
fn expected(expect: &Value) -> Value {
    let mut value = json!({});
    for name in ["response_id", "text", "reasoning", "finish_reason", "has_signature"] {
        value[name] = expect.get(name).cloned().unwrap_or_default();
    }
    value["tool_calls"] = match &expect["tool_calls"] {
        Value::Null => json!([]),
        calls => calls.clone(),
    };
    let mut counts = json!({});
    for name in [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "cache_creation_tokens",
    ] {
        counts[name] = expect["usage"].get(name).cloned().unwrap_or_default();
    }
    value["usage"] = counts;
    value
}

fn exceptions() -> BTreeMap<&'static str, &'static str> {
    EXCEPTIONS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("an id and a reason"))
        .collect()
}

/// Compares all of `fixtures`, prints the score, and fails with every difference.
fn compare(what: &str, fixtures: &[Fixture], check: impl Fn(&Fixture) -> Result<(), String>) {
    let exceptions = exceptions();
    let mut complaints = String::new();
    let mut passed = 0;
    for fixture in fixtures {
        match (check(fixture), exceptions.get(fixture.id.as_str())) {
            (Ok(()), None) => passed += 1,
            (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => {
                writeln!(complaints, "{}: is no exception", fixture.id).expect("memory");
            }
            (Err(complaint), None) => {
                writeln!(complaints, "{}: {complaint}", fixture.id).expect("memory");
            }
        }
    }
    writeln!(std::io::stdout(), "anthropic {what}: {passed} / {}", fixtures.len()).expect("stdout");
    assert!(complaints.is_empty(), "{what}:\n{complaints}");
}

fn same(seen: &Value, expected: &Value) -> Result<(), String> {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("\n  seen     {seen}\n  expected {expected}"))
    }
}

#[test]
fn recorded_answers_are_read_as_expected() {
    let answers: Vec<_> =
        fixtures().into_iter().filter(|fixture| !fixture.stream && fixture.status == 200).collect();
    compare("answers", &answers, |fixture| {
        let response =
            Anthropic.decode(fixture.body.as_bytes()).map_err(|fault| fault.to_string())?;
        same(&seen(&response), &expected(&fixture.expect))
    });
}

#[test]
fn recorded_streams_are_read_as_expected() {
    compare("streams", &streams(), |fixture| {
        let events = events(&[fixture.body.as_bytes()]).map_err(|fault| fault.to_string())?;
        same(&seen(&fold(&events)), &expected(&fixture.expect))
    });
}

#[test]
fn recorded_errors_keep_their_status_and_message() {
    let errors: Vec<_> = fixtures().into_iter().filter(|fixture| fixture.status != 200).collect();
    compare("errors", &errors, |fixture| {
        let body = Bytes::copy_from_slice(fixture.body.as_bytes());
        let rejection = Anthropic.rejection(fixture.status, body);
        let error = &fixture.expect["error"];
        let seen = json!({"status": rejection.status, "message": rejection.error.message, "type": rejection.error.kind});
        let expected =
            json!({"status": error["status"], "message": error["message"], "type": error["type"]});
        same(&seen, &expected)
    });
}

#[test]
fn every_split_position_gives_the_same_events() {
    for fixture in streams() {
        let body = fixture.body.as_bytes();
        let whole = events(&[body]).expect("a whole stream");
        let step = if body.len() <= 3000 { 1 } else { body.len() / 500 };
        for at in (0..=body.len()).step_by(step) {
            let split = events(&[&body[..at], &body[at..]]).expect("a whole stream");
            assert_eq!(split, whole, "{} split at {at}", fixture.id);
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(events(&bytes).expect("a whole stream"), whole, "{} byte by byte", fixture.id);
    }
}

#[test]
fn streams_that_stop_early_are_truncated() {
    for fixture in streams() {
        let end = fixture.body.rfind("event: message_stop").expect("an end");
        let cut = events(&[&fixture.body.as_bytes()[..end]]);
        assert!(matches!(cut, Err(DecodeError::Truncated)), "{}: {cut:?}", fixture.id);
    }
}

/// Builds the message that a stream is the pieces of, by the rules of Anthropic's own SDKs.
fn accumulated(stream: &str) -> Value {
    let mut message = Value::Null;
    let mut inputs: BTreeMap<u64, String> = BTreeMap::new();
    for line in stream.lines() {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(data).expect("JSON");
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str().expect("a type") {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let content = message["content"].as_array_mut().expect("a list");
                content.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                let block = &mut message["content"][usize::try_from(index).expect("small")];
                let delta = &event["delta"];
                for name in ["text", "thinking", "signature"] {
                    if let Some(more) = delta[name].as_str() {
                        let text = block[name].as_str().unwrap_or_default().to_owned() + more;
                        block[name] = Value::from(text);
                    }
                }
                if let Some(more) = delta["partial_json"].as_str() {
                    inputs.entry(index).or_default().push_str(more);
                }
                if let Some(citation) = delta.get("citation") {
                    if !block["citations"].is_array() {
                        block["citations"] = json!([]);
                    }
                    block["citations"].as_array_mut().expect("a list").push(citation.clone());
                }
            }
            "message_delta" => {
                for name in ["stop_reason", "stop_sequence", "stop_details"] {
                    message[name] = event["delta"][name].clone();
                }
                for (name, count) in event["usage"].as_object().into_iter().flatten() {
                    if !count.is_null() {
                        message["usage"][name] = count.clone();
                    }
                }
            }
            _ => {}
        }
    }
    for (index, input) in inputs {
        if !input.is_empty() {
            let input = serde_json::from_str(&input).expect("JSON");
            message["content"][usize::try_from(index).expect("small")]["input"] = input;
        }
    }
    message
}

/// Arguments are compared as values: white space and the order of members are the model's own.
fn plain(mut response: ChatResponse) -> ChatResponse {
    for call in &mut response.choices[0].message.tool_calls {
        let value: Value = serde_json::from_str(&call.arguments).expect("JSON");
        call.arguments = value.to_string();
    }
    response.service_tier = None;
    response
}

#[test]
fn folding_a_stream_gives_the_whole_answer() {
    for fixture in streams() {
        let whole = accumulated(&fixture.body).to_string();
        let decoded = Anthropic.decode(whole.as_bytes()).expect("an answer");
        let folded = fold(&events(&[fixture.body.as_bytes()]).expect("a stream"));
        assert_eq!(plain(folded), plain(decoded), "{}", fixture.id);
    }
}

#[test]
fn relayed_streams_keep_their_bytes_but_for_the_model() {
    for fixture in streams() {
        let body = fixture.body.as_bytes();
        let decoded = fold(&events(&[body]).expect("a whole stream"));
        let model = fixture.expect["model"].as_str().expect("a model");
        for size in [1, 7, body.len()] {
            let mut relay = Relay::new("fast");
            let mut out = BytesMut::new();
            for piece in body.chunks(size) {
                relay.feed(piece, &mut out).expect("a whole stream");
            }
            relay.finish(&mut out).expect("a whole stream");
            let expected = fixture.body.replacen(&format!("\"{model}\""), "\"fast\"", 1);
            assert_eq!(std::str::from_utf8(&out).expect("text"), expected, "{}", fixture.id);
            assert!(relay.progress().ended && relay.progress().output, "{}", fixture.id);
            let summary = relay.summary();
            assert_eq!(summary.usage, decoded.usage, "{}", fixture.id);
            assert_eq!(summary.finish_reason.as_deref(), fixture.expect["finish_reason"].as_str());
        }
    }
}

#[test]
fn relayed_answers_keep_their_bytes_but_for_the_model() {
    for fixture in fixtures().iter().filter(|fixture| !fixture.stream && fixture.status == 200) {
        let reply = Reply::look(Bytes::copy_from_slice(fixture.body.as_bytes())).expect("JSON");
        let renamed: Value = serde_json::from_slice(&reply.with_model("fast")).expect("JSON");
        let mut expected: Value = serde_json::from_str(&fixture.body).expect("JSON");
        expected["model"] = json!("fast");
        assert_eq!(renamed, expected, "{}", fixture.id);
        let decoded = Anthropic.decode(fixture.body.as_bytes()).expect("an answer");
        assert_eq!(reply.summary().usage, decoded.usage, "{}", fixture.id);
    }
}

/// A small generator of numbers, so that each run mutates alike.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("below a usize")
    }
}

/// Feeds any bytes to everything that reads the vendor's.
fn read_all(bytes: &[u8]) {
    let _ = Anthropic.decode(bytes);
    let _ = Anthropic.rejection(500, Bytes::copy_from_slice(bytes));
    let _ = events_of_anything(bytes);
    let mut relay = Relay::new("m");
    let mut out = BytesMut::new();
    if relay.feed(bytes, &mut out).is_ok() {
        let _ = relay.finish(&mut out);
    }
    if let Ok(reply) = Reply::look(Bytes::copy_from_slice(bytes)) {
        let _ = reply.with_model("m");
    }
}

fn events_of_anything(bytes: &[u8]) -> Result<Vec<ChatEvent>, DecodeError> {
    let mut decoder = Anthropic.decoder();
    let mut events = Vec::new();
    decoder.feed(bytes, &mut events)?;
    decoder.finish(&mut events)?;
    Ok(events)
}

#[test]
fn mutated_answers_never_panic() {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let pieces: [&[u8]; 8] =
        [b"{", b"}", b"null", b"\"", b"\\u", b"\n\n", b"18446744073709551616", b"\xff\xfe"];
    for fixture in fixtures() {
        let original = fixture.body.as_bytes();
        // Long bodies are mostly results of searches, which are skipped.
        let original = &original[..original.len().min(6000)];
        for _ in 0..60 {
            let mut bytes = original.to_vec();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(bytes.len().max(1));
                match numbers.below(4) {
                    0 => bytes.truncate(at),
                    1 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
                    2 => {
                        let end = (at + numbers.below(40)).min(bytes.len());
                        bytes.drain(at..end);
                    }
                    _ => {
                        let piece = pieces[numbers.below(pieces.len())];
                        let at = at.min(bytes.len());
                        bytes.splice(at..at, piece.iter().copied());
                    }
                }
            }
            read_all(&bytes);
        }
    }
}
