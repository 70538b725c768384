//! Recorded answers of Gemini and of Vertex AI, read by the codec and compared with what they are known to say.

mod common_gemini;

use bytes::Bytes;
use common_gemini::{Fixture, exceptions, fixtures, fold};
use llmux_providers::gemini::Gemini;
use llmux_providers::{ChatCodec, DecodeError, EmbeddingsCodec};
use llmux_types::chat::{ChatEvent, ChatResponse};
use llmux_types::{FailureClass, Usage};
use serde_json::{Value, json};

/// Feeds `body` cut at `cuts`, and ends it.
fn events(body: &[u8], cuts: &[usize]) -> Result<Vec<ChatEvent>, DecodeError> {
    let mut decoder = Gemini.decoder();
    let mut events = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain(&[body.len()]) {
        decoder.feed(&body[start..cut], &mut events)?;
        start = cut;
    }
    assert!(decoder.is_done());
    decoder.finish(&mut events)?;
    Ok(events)
}

/// Lists what differs between an answer and `expect`.
fn differences(response: &ChatResponse, expect: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, found: Value, expected: &Value| {
        if found != *expected {
            wrong.push(format!("{what}: {found} instead of {expected}"));
        }
    };
    let one = [expect.clone()];
    let expected = expect["choices"].as_array().map_or(&one[..], Vec::as_slice);
    check("choices", json!(response.choices.len()), &json!(expected.len()));
    for (choice, expect) in response.choices.iter().zip(expected) {
        let message = &choice.message;
        let text = common_gemini::text(&message.content);
        // An empty text and none are the same in the canonical form.
        let known = expect["text"].as_str().unwrap_or_default();
        check("text", json!(text), &json!(known));
        let reasoning: String = message.reasoning.iter().map(|block| block.text.as_str()).collect();
        check(
            "reasoning",
            json!(reasoning),
            &json!(expect["reasoning"].as_str().unwrap_or_default()),
        );
        let calls: Vec<Value> = message
            .tool_calls
            .iter()
            .map(|call| {
                let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
                json!({"name": call.name, "arguments": arguments})
            })
            .collect();
        let empty = Vec::new();
        let known = expect["tool_calls"].as_array().unwrap_or(&empty);
        let names: Vec<Value> = known
            .iter()
            .map(|call| json!({"name": call["name"], "arguments": call["arguments"]}))
            .collect();
        check("tool_calls", json!(calls), &json!(names));
        for (call, known) in message.tool_calls.iter().zip(known) {
            match known["id"].as_str() {
                Some(id) => check("id", json!(call.id), &json!(id)),
                None => check("made-up id", json!(call.id.starts_with("call_")), &json!(true)),
            }
        }
        if !expect["finish_reason"].is_null() {
            let reason = choice.finish_reason.map(|reason| reason.as_str());
            check("finish_reason", json!(reason), &expect["finish_reason"]);
        }
    }
    let signatures = response.choices.iter().any(|choice| {
        let message = &choice.message;
        message.signature.is_some()
            || message.tool_calls.iter().any(|call| call.signature.is_some())
            || message.reasoning.iter().any(|block| block.signature.is_some())
    });
    if let Some(count) = expect["n_thought_signatures"].as_u64() {
        check("signatures", json!(signatures), &json!(count > 0));
    }
    for (what, found) in usage(response.usage) {
        check(what, json!(found), &expect["usage"][what]);
    }
    wrong
}

fn usage(usage: Option<Usage>) -> [(&'static str, Option<u64>); 5] {
    let usage = usage.unwrap_or_default();
    [
        ("prompt_tokens", usage.prompt_tokens),
        ("completion_tokens", usage.completion_tokens),
        ("total_tokens", usage.total_tokens),
        ("cached_tokens", usage.cached_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ]
}

fn chat(fixture: &Fixture) -> Vec<String> {
    let body = fixture.body.as_bytes();
    let expect = &fixture.expect;
    if fixture.status != 200 {
        let rejection = ChatCodec::rejection(&Gemini, fixture.status, Bytes::copy_from_slice(body));
        let envelope: Value = serde_json::from_slice(&rejection.body).expect("JSON");
        let found =
            json!([rejection.status, rejection.error.message, envelope["error"]["message"]]);
        let known = &expect["error"];
        let expected = json!([known["status"], known["message"], known["message"]]);
        return if found == expected {
            Vec::new()
        } else {
            vec![format!("{found} instead of {expected}")]
        };
    }
    if !fixture.stream {
        return match ChatCodec::decode(&Gemini, body) {
            Ok(response) => differences(&response, expect),
            Err(error) => vec![error.to_string()],
        };
    }
    match events(body, &[]) {
        Ok(events) => differences(&fold(events), expect),
        Err(error) => vec![error.to_string()],
    }
}

fn embeddings(fixture: &Fixture) -> Vec<String> {
    let response = match EmbeddingsCodec::decode(&Gemini, fixture.body.as_bytes()) {
        Ok(response) => response,
        Err(error) => return vec![error.to_string()],
    };
    let expect = &fixture.expect["embeddings"];
    let first = &response.embeddings[0];
    let known: Vec<f32> = serde_json::from_value(expect["first4"].clone()).expect("numbers");
    let mut wrong = Vec::new();
    if first[..4] != known[..] {
        wrong.push(format!("{:?} instead of {known:?}", &first[..4]));
    }
    if json!([response.embeddings.len(), first.len()])
        != json!([expect["count"], expect["dimensions"]])
    {
        wrong.push("count or dimensions".to_owned());
    }
    if response.usage.is_some() == fixture.expect["usage"].is_null() {
        wrong.push("usage".to_owned());
    }
    if response.usage.is_some() {
        for (what, found) in usage(response.usage) {
            if json!(found) != fixture.expect["usage"][what] {
                wrong.push(format!("{what}: {found:?}"));
            }
        }
    }
    wrong
}

#[test]
fn recorded_answers_say_what_they_are_known_to_say() {
    let fixtures = fixtures();
    let exceptions = exceptions();
    let (mut passed, mut failures) = (0, Vec::new());
    for fixture in &fixtures {
        let wrong = if fixture.api == "embeddings" { embeddings(fixture) } else { chat(fixture) };
        match (wrong.is_empty(), exceptions.contains(&fixture.id)) {
            (true, false) => passed += 1,
            (false, true) => {}
            (true, true) => failures.push(format!("{} passes: no exception is needed", fixture.id)),
            (false, false) => failures.push(format!("{}: {}", fixture.id, wrong.join("; "))),
        }
    }
    report("decode", passed, fixtures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(fixtures.len() >= 75, "fixtures are missing");
}

/// The only way for a test to speak: a failed write is nothing to fail for.
fn report(what: &str, passed: usize, total: usize) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "gemini {what}: {passed} / {total}");
}

#[test]
fn streams_give_the_same_events_wherever_they_are_cut() {
    let (mut passed, mut total) = (0, 0);
    for fixture in fixtures().iter().filter(|fixture| fixture.stream && fixture.status == 200) {
        total += 1;
        let body = fixture.body.as_bytes();
        let whole = events(body, &[]).expect("a whole stream");
        let bytes: Vec<usize> = (1..body.len()).collect();
        assert_eq!(events(body, &bytes).expect("bytes"), whole, "{} byte by byte", fixture.id);
        let step = if body.len() < 3000 { 1 } else { body.len() / 500 };
        for cut in (1..body.len()).step_by(step) {
            let pieces = events(body, &[cut]).expect("two pieces");
            assert_eq!(pieces, whole, "{} at {cut}", fixture.id);
        }
        passed += 1;
    }
    report("cut streams", passed, total);
    assert!(total >= 20);
}

#[test]
fn a_stream_that_is_folded_equals_the_answer_that_was_not_streamed() {
    let mut total = 0;
    for fixture in fixtures().iter().filter(|fixture| {
        !fixture.stream && fixture.status == 200 && fixture.api == "generateContent"
    }) {
        let mut whole = ChatCodec::decode(&Gemini, fixture.body.as_bytes()).expect("an answer");
        let value: Value = serde_json::from_str(&fixture.body).expect("JSON");
        let stream = format!("data: {value}\r\n\r\n");
        // The events have no place for the tier.
        whole.service_tier = None;
        // What the model wrote within a call is not for us to sort; serde_json's values are.
        assert_eq!(sorted(fold(events(stream.as_bytes(), &[]).expect("events"))), sorted(whole));
        total += 1;
    }
    assert!(total >= 40);
}

fn sorted(mut response: ChatResponse) -> ChatResponse {
    for call in response.choices.iter_mut().flat_map(|choice| &mut choice.message.tool_calls) {
        let arguments: Value = serde_json::from_str(&call.arguments).expect("JSON");
        call.arguments = arguments.to_string();
    }
    response
}

#[test]
fn a_stream_that_is_cut_short_is_never_taken_for_whole() {
    for fixture in fixtures().iter().filter(|fixture| fixture.stream && fixture.status == 200) {
        let body = fixture.body.as_bytes();
        let Some(last) = memchr::memmem::rfind(body, b"\"finishReason\"") else {
            continue;
        };
        // Cut before the last finish reason: what is left is whole only if the model said it on each piece.
        let mut decoder = Gemini.decoder();
        let mut events = Vec::new();
        decoder.feed(&body[..last], &mut events).expect("a whole beginning");
        let done = decoder.is_done();
        let end = decoder.finish(&mut events);
        assert!(!done && matches!(end, Err(DecodeError::Truncated)), "{}", fixture.id);
    }
}

#[test]
fn mutated_answers_never_panic() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below.max(1) as u64).expect("small")
    };
    for fixture in fixtures().iter().filter(|fixture| fixture.body.len() < 20_000) {
        for _ in 0..30 {
            let mut body = fixture.body.clone().into_bytes();
            for _ in 0..=next(4) {
                let at = next(body.len());
                match next(4) {
                    0 => body[at] = u8::try_from(next(256)).expect("a byte"),
                    1 => drop(body.drain(at..(at + next(40)).min(body.len()))),
                    2 => body.insert(at, b"{}[]\",:0\\\r\n"[next(11)]),
                    _ => body.truncate(at),
                }
                if body.is_empty() {
                    break;
                }
            }
            let _ = ChatCodec::decode(&Gemini, &body);
            let _ = EmbeddingsCodec::decode(&Gemini, &body);
            let _ = ChatCodec::rejection(&Gemini, 400, Bytes::copy_from_slice(&body));
            let mut decoder = Gemini.decoder();
            let mut events = Vec::new();
            let cut = next(body.len() + 1);
            let _ = decoder.feed(&body[..cut], &mut events);
            let _ = decoder.feed(&body[cut..], &mut events);
            let _ = decoder.finish(&mut events);
        }
    }
}

#[test]
fn a_used_up_quota_tells_how_long_to_wait() {
    let fixtures = fixtures();
    let fixture = fixtures.iter().find(|fixture| fixture.status == 429).expect("recorded");
    let body = Bytes::copy_from_slice(fixture.body.as_bytes());
    let rejection = ChatCodec::rejection(&Gemini, 429, body);
    assert_eq!(rejection.class, FailureClass::RateLimited);
    assert_eq!(rejection.retry_after, Some(std::time::Duration::from_secs(48)));
}
