use llmux_types::FailureClass;
use llmux_types::chat::{ChatEvent, ChatResponse, FinishReason, Part, Source};
use serde_json::{Value, json};

use super::super::Gemini;
use crate::codec::{ChatCodec as _, DecodeError};

fn decode(answer: &Value) -> ChatResponse {
    Gemini.decode(answer.to_string().as_bytes()).unwrap()
}

fn one(parts: Value, reason: &str) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": reason}], "responseId": "rid"})
}

fn stream(pieces: &[Value]) -> (Vec<ChatEvent>, Result<(), DecodeError>) {
    let mut decoder = Gemini.decoder();
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(error) = decoder.feed(format!("data: {piece}\r\n\r\n").as_bytes(), &mut events) {
            return (events, Err(error));
        }
    }
    let end = decoder.finish(&mut events);
    (events, end)
}

fn finishes(events: &[ChatEvent]) -> Vec<Option<FinishReason>> {
    let reasons = events.iter().filter_map(|event| match event {
        ChatEvent::Finish { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn finish_reasons_have_openais_words() {
    let call = json!([{"functionCall": {"name": "f"}}]);
    let text = json!([{"text": "t"}]);
    for (parts, reason, expected) in [
        (&text, "STOP", Some(FinishReason::Stop)),
        (&call, "STOP", Some(FinishReason::ToolCalls)),
        (&call, "MAX_TOKENS", Some(FinishReason::Length)),
        (&call, "SAFETY", Some(FinishReason::ContentFilter)),
        (&text, "RECITATION", Some(FinishReason::ContentFilter)),
        (&text, "MODEL_ARMOR", Some(FinishReason::ContentFilter)),
        (&text, "IMAGE_SAFETY", Some(FinishReason::ContentFilter)),
        (&text, "MALFORMED_FUNCTION_CALL", None),
        (&text, "SOMETHING_NEW", None),
    ] {
        assert_eq!(
            decode(&one(parts.clone(), reason)).choices[0].finish_reason,
            expected,
            "{reason}"
        );
    }
}

#[test]
fn calls_are_remembered_until_the_reason_comes() {
    let (events, end) = stream(&[
        json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}}]}),
        json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}),
    ]);
    end.unwrap();
    assert_eq!(finishes(&events), [Some(FinishReason::ToolCalls)]);
}

#[test]
fn a_reason_on_each_piece_is_said_once_at_the_end() {
    let piece = |text: &str| one(json!([{"text": text}]), "STOP");
    let (events, end) = stream(&[piece("a"), piece("b")]);
    end.unwrap();
    assert_eq!(finishes(&events), [Some(FinishReason::Stop)]);
    assert!(matches!(events.last(), Some(ChatEvent::Finish { .. })));
}

#[test]
fn the_last_usage_counts_whole() {
    let piece = |usage: Value, reason: Value| json!({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": reason}], "usageMetadata": usage});
    let (events, end) = stream(&[
        piece(
            json!({"promptTokenCount": 5, "candidatesTokenCount": 9, "thoughtsTokenCount": 2, "totalTokenCount": 16}),
            Value::Null,
        ),
        piece(
            json!({"promptTokenCount": 5, "toolUsePromptTokenCount": 4, "cachedContentTokenCount": 3, "thoughtsTokenCount": 2}),
            json!("STOP"),
        ),
    ]);
    end.unwrap();
    let usage = events.iter().rev().find_map(|event| match event {
        ChatEvent::Usage(usage) => Some(*usage),
        _ => None,
    });
    let usage = usage.unwrap();
    assert_eq!(usage.prompt_tokens, Some(9));
    assert_eq!(usage.completion_tokens, Some(2));
    assert_eq!(usage.total_tokens, Some(11));
    assert_eq!(usage.cached_tokens, Some(3));
    assert_eq!(usage.reasoning_tokens, Some(2));
}

#[test]
fn made_up_ids_differ_within_and_between_answers_and_are_the_same_each_time() {
    let parts = json!([{"functionCall": {"name": "f", "args": {"a": 1}}}, {"functionCall": {"name": "f", "args": {"a": 1}}}]);
    let ids = |answer: &Value| -> Vec<String> {
        decode(answer).choices[0].message.tool_calls.iter().map(|call| call.id.clone()).collect()
    };
    let first = one(parts.clone(), "STOP");
    assert_eq!(ids(&first), ["call_rid_0", "call_rid_1"]);
    let mut second = first.clone();
    second["responseId"] = json!("other/+id-that-is-much-longer-than-the-longest");
    let long = ids(&second);
    assert!(long.iter().all(|id| id.len() <= 40 && !id.contains(['/', '+'])), "{long:?}");
    let mut without = first.clone();
    without["responseId"] = Value::Null;
    without["usageMetadata"] = json!({"promptTokenCount": 5});
    let (once, again) = (ids(&without), ids(&without));
    assert_eq!(once, again);
    assert_ne!(once[0], once[1]);
    without["usageMetadata"] = json!({"promptTokenCount": 50});
    assert_ne!(ids(&without), once, "a later turn has a longer prompt");
}

#[test]
fn arguments_are_always_json_and_keep_the_models_order_and_numbers() {
    let body = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"id":"x","name":"f","args": { "z" : 12345678901234567890123,
        "a":" \" b " }},"thoughtSignature":"s"},{"functionCall":{"name":"g","args":null}}]},"finishReason":"STOP"}]}"#;
    let calls = Gemini.decode(body.as_bytes()).unwrap().choices.remove(0).message.tool_calls;
    assert_eq!(calls[0].arguments, r#"{"z":12345678901234567890123,"a":" \" b "}"#);
    assert_eq!((calls[0].id.as_str(), calls[0].signature.as_deref()), ("x", Some("s")));
    assert_eq!((calls[1].arguments.as_str(), calls[1].signature.as_deref()), ("{}", None));
}

#[test]
fn thoughts_images_and_signatures_find_their_places() {
    let answer = one(
        json!([
            {"text": "hm ", "thought": true}, {"text": "so", "thought": true},
            {"thought": true, "inlineData": {"mimeType": "image/png", "data": "draft"}},
            {"text": "a"}, {"text": "b"},
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
            {"executableCode": {"code": "1", "language": "PYTHON"}}, {"somethingNew": {"text": 1}},
            {"text": "", "thoughtSignature": "sig"},
        ]),
        "STOP",
    );
    let message = decode(&answer).choices.remove(0).message;
    assert_eq!(message.reasoning.len(), 1);
    assert_eq!(message.reasoning[0].text, "hm so");
    let image = Part::Image {
        source: Source::Data { media_type: "image/png".to_owned(), data: "AA==".to_owned() },
        detail: None,
        cache_control: None,
    };
    assert_eq!(message.content, [Part::text("ab"), image]);
    assert_eq!(message.signature.as_deref(), Some("sig"));
}

#[test]
fn answers_without_content_are_answers() {
    for candidate in [
        json!({"finishReason": "MAX_TOKENS"}),
        json!({"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}),
        json!({"content": {"parts": null}, "finishReason": "MAX_TOKENS", "index": null}),
    ] {
        let choice = decode(&json!({"candidates": [candidate]})).choices.remove(0);
        assert!(choice.message.content.is_empty());
        assert_eq!(choice.finish_reason, Some(FinishReason::Length));
    }
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}});
    let choice = decode(&blocked).choices.remove(0);
    assert!(choice.message.content.is_empty());
    assert_eq!(choice.finish_reason, Some(FinishReason::ContentFilter));
    let (events, end) = stream(&[blocked]);
    end.unwrap();
    assert_eq!(finishes(&events), [Some(FinishReason::ContentFilter)]);
}

#[test]
fn several_candidates_are_several_choices() {
    let candidate = |index: u64, text: &str| json!({"index": index, "content": {"parts": [{"text": text}, {"functionCall": {"name": "f"}}]}, "finishReason": "STOP"});
    let answer = json!({"responseId": "r", "candidates": [candidate(0, "a"), candidate(1, "b")]});
    let choices = decode(&answer).choices;
    assert_eq!(choices.len(), 2);
    assert_eq!(choices[1].message.content, [Part::text("b")]);
    assert_eq!(choices[0].message.tool_calls[0].id, "call_r_0");
    assert_eq!(choices[1].message.tool_calls[0].id, "call_r_1_0");
}

#[test]
fn logprobs_are_said_in_openais_shape() {
    let mut answer = one(json!([{"text": "é"}]), "STOP");
    answer["candidates"][0]["logprobsResult"] = json!({
        "chosenCandidates": [{"token": "é", "logProbability": -0.5, "tokenId": 1}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e", "logProbability": -2.0}]}],
    });
    let token = |token: &str, logprob: f64| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let mut expected = token("é", -0.5);
    expected["top_logprobs"] = json!([token("é", -0.5), token("e", -2.0)]);
    assert_eq!(
        decode(&answer).choices[0].logprobs,
        Some(json!({"content": [expected], "refusal": null}))
    );
}

#[test]
fn sources_become_annotations_of_the_whole_text() {
    let (events, end) = stream(&[
        json!({"candidates": [{"content": {"parts": [{"text": "né "}]}}]}),
        json!({"candidates": [{"content": {"parts": [{"text": "so"}]}, "finishReason": "STOP", "groundingMetadata": {
            "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}],
            "groundingSupports": [{"segment": {"startIndex": 4, "endIndex": 6, "text": "so"}, "groundingChunkIndices": [0]}]}}]}),
    ]);
    end.unwrap();
    let citation = json!({"type": "url_citation", "url_citation": {"start_index": 3, "end_index": 5, "url": "https://a", "title": "A"}});
    let expected = ChatEvent::Annotations { choice: 0, annotations: vec![citation] };
    assert!(events.contains(&expected), "{events:?}");
}

#[test]
fn errors_after_200_are_rejections() {
    let error = json!({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}});
    let (events, end) = stream(&[one(json!([{"text": "a"}]), ""), error.clone()]);
    assert!(events.contains(&ChatEvent::Text { choice: 0, text: "a".to_owned() }));
    let Err(DecodeError::Rejected(rejection)) = end else { panic!("{end:?}") };
    assert_eq!((rejection.status, rejection.class), (503, FailureClass::Overloaded));
    assert_eq!(rejection.error.message, "overloaded");
    assert!(matches!(Gemini.decode(error.to_string().as_bytes()), Err(DecodeError::Rejected(_))));
    // Also where the server did not frame it as an event.
    for body in [error.to_string(), json!([error]).to_string()] {
        let fed = Gemini.decoder().feed(body.as_bytes(), &mut Vec::new());
        assert!(matches!(fed, Err(DecodeError::Rejected(_))), "{body}");
    }
}

#[test]
fn what_is_no_answer_is_malformed_and_what_stops_early_is_truncated() {
    for body in ["", "{}", "[]", "<html>", r#"{"candidates":[]}"#, r#"{"candidates":7}"#] {
        let found = Gemini.decode(body.as_bytes());
        assert!(matches!(found, Err(DecodeError::Malformed(_))), "{body}: {found:?}");
    }
    let unfinished = json!({"candidates": [{"content": {"parts": [{"text": "a"}]}}]});
    for pieces in [&[][..], &[unfinished][..]] {
        assert!(matches!(stream(pieces).1, Err(DecodeError::Truncated)));
    }
    let mut decoder = Gemini.decoder();
    let finished = one(json!([{"text": "a"}]), "STOP");
    let mut events = Vec::new();
    decoder.feed(format!("data: {finished}\n\ndata: {{\"cand").as_bytes(), &mut events).unwrap();
    assert!(matches!(decoder.finish(&mut events), Err(DecodeError::Truncated)));
}
