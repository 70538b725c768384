//! Folding streams and replaying answers: on recorded traffic, on examples, and on any answer.
#![expect(clippy::unwrap_used, reason = "in tests it is a failure")]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use llmux_cache::{Entry, Form, Kind, Unfit, fold, replay};
use llmux_types::{SearchContext, ServiceTier, Usage};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const JSON: &str = "application/json";

fn sse(chunks: &[Value]) -> String {
    let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    format!("{events}data: [DONE]\n\n")
}

fn folded(kind: Kind, sse: &str) -> Value {
    serde_json::from_slice(&fold(kind, sse.as_bytes()).unwrap()).unwrap()
}

fn chunk(choice: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [choice]})
}

fn chunks(replayed: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(replayed).unwrap();
    let data: Vec<&str> =
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    let (done, chunks) = data.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    chunks.iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn a_stream_becomes_the_answer_that_was_not_streamed() {
    let call = |part: Value| {
        chunk(json!({"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": null}))
    };
    let stream = sse(&[
        chunk(
            json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null}),
        ),
        chunk(json!({"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": null})),
        chunk(json!({"index": 0, "delta": {"reasoning_content": "…"}, "finish_reason": null})),
        chunk(
            json!({"index": 0, "delta": {"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm…", "signature": "s"}]}}),
        ),
        chunk(
            json!({"index": 0, "delta": {"content": "He"}, "logprobs": {"content": [{"token": "He", "logprob": -0.10, "top_logprobs": []}], "refusal": null}}),
        ),
        chunk(
            json!({"index": 0, "delta": {"content": "llo"}, "logprobs": {"content": [{"token": "llo", "logprob": -1.5, "top_logprobs": []}], "refusal": null}}),
        ),
        call(
            json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}),
        ),
        call(
            json!({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"x\""}}),
        ),
        call(json!({"index": 0, "function": {"arguments": "{}"}})),
        call(json!({"index": 1, "function": {"arguments": ":1}"}})),
        chunk(json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "tool_calls"})),
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": [], "usage": {"total_tokens": 9}}),
    ]);
    let expected = json!({
        "id": "c1", "object": "chat.completion", "created": 5, "model": "m", "usage": {"total_tokens": 9},
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Hello", "reasoning_content": "hm…",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm…", "signature": "s"}],
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"x\":1}"}},
            ],
        }, "logprobs": {"refusal": null, "content": [
            {"token": "He", "logprob": -0.1, "top_logprobs": []}, {"token": "llo", "logprob": -1.5, "top_logprobs": []},
        ]}}],
    });
    assert_eq!(folded(Kind::Chat, &stream), expected);
    let crlf = stream.replace('\n', "\r\n");
    assert_eq!(
        folded(Kind::Chat, &format!(": hold on\r\n\r\n{crlf}")),
        expected,
        "comments and other line ends"
    );
}

#[test]
fn numbers_and_half_characters_keep_their_spelling() {
    let stream = "data: {\"created\":12345678901234567890,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud83d\"},\"p\":-0.10e-7}]}\n\n\
                  data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ude00\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let text = String::from_utf8(fold(Kind::Chat, stream.as_bytes()).unwrap()).unwrap();
    assert!(text.contains("12345678901234567890") && text.contains("-0.10e-7"), "{text}");
    assert!(text.contains("\\ud83d\\ude00"), "{text}");
}

#[test]
fn calls_without_an_index_are_told_apart_by_their_ids() {
    let delta = |calls: Value| {
        chunk(json!({"index": 0, "delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}))
    };
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let calls = |chunks: &[Value]| {
        folded(Kind::Chat, &sse(chunks))["choices"][0]["message"]["tool_calls"].clone()
    };
    assert_eq!(
        calls(&[delta(json!([call("a", "{}"), call("b", "[]")]))]),
        json!([call("a", "{}"), call("b", "[]")])
    );
    assert_eq!(
        calls(&[delta(json!([call("a", "{")])), delta(json!([{"function": {"arguments": "}"}}]))]),
        json!([call("a", "{}")])
    );
    let mut same_index = [call("a", "{}"), call("b", "{}")];
    same_index.iter_mut().for_each(|call| call["index"] = json!(0));
    assert_eq!(calls(&[delta(json!(same_index))]), json!([call("a", "{}"), call("b", "{}")]));
    let nameless = |name: &str| json!({"function": {"name": name, "arguments": "{}"}});
    assert_eq!(
        calls(&[delta(json!([nameless("f"), nameless("g")]))]),
        json!([nameless("f"), nameless("g")])
    );
}

#[test]
fn only_whole_streams_are_folded() {
    let first = chunk(json!({"index": 0, "delta": {"content": "a"}, "finish_reason": null}));
    let last = chunk(json!({"index": 0, "delta": {}, "finish_reason": "stop"}));
    let whole = sse(&[first.clone(), last.clone()]);
    fold(Kind::Chat, whole.as_bytes()).unwrap();
    let refused = |text: &str| fold(Kind::Chat, text.as_bytes()).unwrap_err();
    assert_eq!(refused(whole.trim_end_matches("data: [DONE]\n\n")), Unfit::Cut);
    assert_eq!(refused(&sse(std::slice::from_ref(&first))), Unfit::Cut);
    assert_eq!(refused(&sse(&[])), Unfit::Empty);
    assert_eq!(
        refused(&sse(&[first, json!({"error": {"message": "m"}}), last.clone()])),
        Unfit::Error
    );
    assert_eq!(refused("data: {\"choices\":[{\n\ndata: [DONE]\n\n"), Unfit::Unreadable);
    assert_eq!(refused(&format!("{whole}data: {last}\n\n")), Unfit::Unreadable);
    let two = json!({"id": "c1", "choices": [
        {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}, {"index": 1, "delta": {"content": "b"}},
    ]});
    assert_eq!(refused(&sse(&[two])), Unfit::Cut, "one choice did not end");
}

#[test]
fn a_cut_anywhere_is_no_answer() {
    let whole = sse(&[
        chunk(
            json!({"index": 0, "delta": {"role": "assistant", "content": "é"}, "finish_reason": null}),
        ),
        chunk(json!({"index": 0, "delta": {}, "finish_reason": "stop"})),
    ]);
    let end = whole.len() - "\n\n".len();
    for at in 0..end {
        fold(Kind::Chat, &whole.as_bytes()[..at]).expect_err("cut off");
    }
    fold(Kind::Chat, &whole.as_bytes()[..end]).unwrap();
}

#[test]
fn a_replay_looks_like_a_vendors_stream() {
    let answer = json!({
        "id": "c1", "object": "chat.completion", "created": 5, "model": "m", "service_tier": "default", "citations": ["x"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello", "refusal": null}, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"total_tokens": 9},
    });
    let text = answer.to_string();
    let with_usage = chunks(&replay(Kind::Chat, text.as_bytes(), true).unwrap());
    let heads: Vec<_> = with_usage
        .iter()
        .map(|chunk| (chunk["id"].clone(), chunk["object"].clone(), chunk["service_tier"].clone()))
        .collect();
    assert!(
        heads
            .iter()
            .all(|head| *head == (json!("c1"), json!("chat.completion.chunk"), json!("default")))
    );
    let choices: Vec<_> = with_usage.iter().map(|chunk| chunk["choices"].clone()).collect();
    assert_eq!(
        choices,
        [
            json!([{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "logprobs": null, "finish_reason": null}]),
            json!([{"index": 0, "delta": {"content": "Hello"}, "logprobs": null, "finish_reason": null}]),
            json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}]),
            json!([]),
        ]
    );
    assert_eq!(with_usage[0]["citations"], json!(["x"]));
    assert!(with_usage[1].get("citations").is_none() && with_usage[0]["usage"].is_null());
    assert_eq!(with_usage[3]["usage"]["total_tokens"], 9);
    let without = chunks(&replay(Kind::Chat, text.as_bytes(), false).unwrap());
    assert_eq!(without.len(), 3);
    assert!(without.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn calls_are_numbered_in_replays() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let answer = json!({"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": null, "tool_calls": [call, call]}, "finish_reason": "tool_calls"}]});
    let replayed = chunks(&replay(Kind::Chat, answer.to_string().as_bytes(), true).unwrap());
    let calls = &replayed[1]["choices"][0]["delta"]["tool_calls"];
    assert_eq!((calls[0]["index"].as_u64(), calls[1]["index"].as_u64()), (Some(0), Some(1)));
    assert_eq!(replayed[0]["choices"][0]["delta"], json!({"role": "assistant", "content": null}));
}

#[test]
fn completions_have_texts() {
    let answer = json!({
        "id": "c1", "object": "text_completion", "created": 5, "model": "m", "usage": {"total_tokens": 9},
        "choices": [
            {"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": [-1.5], "top_logprobs": null, "text_offset": [0]}, "finish_reason": "stop"},
            {"index": 1, "text": "b", "logprobs": null, "finish_reason": "stop"},
        ],
    });
    let replayed = replay(Kind::Completion, answer.to_string().as_bytes(), true).unwrap();
    assert!(chunks(&replayed).iter().all(|chunk| chunk["object"] == "text_completion"));
    assert_eq!(folded(Kind::Completion, std::str::from_utf8(&replayed).unwrap()), answer);
    let split = sse(&[
        json!({"id": "c", "choices": [{"index": 0, "text": "He", "logprobs": {"tokens": ["He"]}, "finish_reason": null}]}),
        json!({"id": "c", "choices": [{"index": 0, "text": "llo", "logprobs": {"tokens": ["llo"]}, "finish_reason": "stop"}]}),
    ]);
    let choice = &folded(Kind::Completion, &split)["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["logprobs"]["tokens"]),
        (&json!("Hello"), &json!(["He", "llo"]))
    );
}

#[test]
fn padded_base64_is_not_joined() {
    let audio = |data: &str, reason: Value| {
        chunk(
            json!({"index": 0, "delta": {"audio": {"id": "a", "data": data}}, "finish_reason": reason}),
        )
    };
    let joined =
        folded(Kind::Chat, &sse(&[audio("QUJD", Value::Null), audio("REVG", json!("stop"))]));
    assert_eq!(joined["choices"][0]["message"]["audio"]["data"], "QUJDREVG");
    assert_eq!(joined["choices"][0]["message"]["audio"]["id"], "a");
    let padded = sse(&[audio("QQ==", Value::Null), audio("REVG", json!("stop"))]);
    assert_eq!(fold(Kind::Chat, padded.as_bytes()).unwrap_err(), Unfit::Unreadable);
}

/// What the recording's own rules say about the answer, told from the folded one.
#[test]
fn recorded_streams_fold_to_what_was_said() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llmux-providers/tests/fixtures");
    let mut seen = 0;
    for folder in fs::read_dir(fixtures).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(folder.path()).unwrap().flatten() {
            let Ok(recorded) =
                serde_json::from_slice::<Value>(&fs::read(file.path()).unwrap_or_default())
            else {
                continue;
            };
            let name = file.file_name();
            let is_stream = recorded["stream"] == true
                && recorded["api"] == "chat"
                && recorded["response"]["status"] == 200;
            let body = recorded["response"]["body"].as_str().unwrap_or_default();
            if !is_stream
                || !body.contains("chat.completion.chunk")
                || !body.contains("[DONE]")
                || !recorded["expect"]["stream_error"].is_null()
            {
                continue;
            }
            seen += 1;
            let whole = fold(Kind::Chat, body.as_bytes())
                .unwrap_or_else(|error| panic!("{name:?}: {error}"));
            let answer: Value = serde_json::from_slice(&whole).unwrap();
            let expect = &recorded["expect"];
            let choice = &answer["choices"][0];
            let message = &choice["message"];
            let text = message["content"].as_str().unwrap_or_default();
            assert_eq!(text, expect["text"].as_str().unwrap_or_default(), "{name:?}");
            assert_eq!(choice["finish_reason"], expect["native_finish_reason"], "{name:?}");
            let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
            let told: Vec<Value> = calls.iter().map(|call| json!({
                "id": call["id"], "name": call["function"]["name"],
                "arguments": serde_json::from_str::<Value>(call["function"]["arguments"].as_str().unwrap_or("{}")).unwrap_or(json!({})),
            })).collect();
            let expected = expect["tool_calls"].as_array().cloned().unwrap_or_default();
            assert_eq!(told, expected, "{name:?}");
            let total = expect["usage"]["total_tokens"].clone();
            if !total.is_null() && answer.get("usage").is_some() {
                assert_eq!(answer["usage"]["total_tokens"], total, "{name:?}");
            }
            let again = fold(Kind::Chat, &replay(Kind::Chat, &whole, true).unwrap()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), answer, "{name:?}");
        }
    }
    assert!(seen >= 20, "{seen} recordings");
}

fn entry(kind: Kind, body: &Value) -> Result<Entry, Unfit> {
    Entry::whole(kind, Bytes::from(body.to_string()), JSON, None, 1_000, 60_000)
}

#[test]
fn only_good_answers_are_kept() {
    let chat = |reason: Value| json!({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": reason}]});
    let kept = entry(Kind::Chat, &chat(json!("stop"))).unwrap();
    assert_eq!(
        (kept.finish_reason(), kept.created_ms(), kept.expires_ms()),
        (Some("stop"), 1_000, 61_000)
    );
    assert!(kept.is_fresh(60_999) && !kept.is_fresh(61_000));
    for reason in ["length", "content_filter", "error"] {
        assert_eq!(entry(Kind::Chat, &chat(json!(reason))), Err(Unfit::Truncated), "{reason}");
    }
    assert_eq!(entry(Kind::Chat, &chat(Value::Null)), Err(Unfit::Cut));
    let mut one_cut = chat(json!("stop"));
    one_cut["choices"]
        .as_array_mut()
        .unwrap()
        .push(json!({"index": 1, "message": {}, "finish_reason": "length"}));
    assert_eq!(entry(Kind::Chat, &one_cut), Err(Unfit::Truncated));
    assert_eq!(entry(Kind::Chat, &json!({"error": {"message": "m"}})), Err(Unfit::Error));
    assert_eq!(entry(Kind::Chat, &json!({"choices": []})), Err(Unfit::Empty));
    assert_eq!(entry(Kind::Chat, &json!([])), Err(Unfit::Unreadable));
    assert_eq!(entry(Kind::Completion, &chat(json!("stop"))), Err(Unfit::Unreadable));
    entry(Kind::Completion, &json!({"choices": [{"text": "", "finish_reason": "stop"}]})).unwrap();
    entry(Kind::Embedding, &json!({"data": [{"embedding": [0.5]}], "error": null})).unwrap();
    assert_eq!(entry(Kind::Embedding, &json!({"data": []})), Err(Unfit::Empty));
    assert_eq!(entry(Kind::Embedding, &json!({"object": "list"})), Err(Unfit::Empty));
}

#[test]
fn an_answer_leaves_in_either_form() {
    let answer = json!({"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}});
    let whole = entry(Kind::Chat, &answer).unwrap();
    let stream = Form::Stream { include_usage: true };
    assert_eq!(
        (whole.content_type(Form::Whole), whole.content_type(stream)),
        (JSON, "text/event-stream")
    );
    let from_stream = Entry::stream(Kind::Chat, &whole.body(stream), None, 1_000, 60_000).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&from_stream.body(Form::Whole)).unwrap(), answer);
    let hidden = whole.body(Form::Stream { include_usage: false });
    assert!(!String::from_utf8(hidden.to_vec()).unwrap().contains("usage"));
    let embedding = entry(Kind::Embedding, &json!({"data": [1]})).unwrap();
    assert_eq!(
        (embedding.content_type(stream), embedding.body(stream)),
        (JSON, embedding.body(Form::Whole))
    );
}

#[test]
fn other_versions_and_damaged_entries_are_not_read() {
    let usage = Usage {
        prompt_tokens: Some(3),
        web_searches: Some(u64::MAX),
        search_context: Some(SearchContext::High),
        service_tier: Some(ServiceTier::Flex),
        ..Usage::default()
    };
    let body = Bytes::from_static(br#"{"data":[1]}"#);
    let kept = Entry::whole(Kind::Embedding, body, JSON, Some(usage), 1, 2).unwrap();
    let encoded = kept.encode();
    assert_eq!(Entry::decode(&encoded), Some(kept));
    for length in 0..encoded.len() {
        assert_eq!(Entry::decode(&encoded[..length]), None);
    }
    let mut longer = encoded.clone();
    longer.push(0);
    assert_eq!(Entry::decode(&longer), None);
    let mut other_version = encoded;
    other_version[7] += 1;
    assert_eq!(Entry::decode(&other_version), None);
    assert_eq!(Entry::decode(b"{\"data\":[1]}"), None);
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from)
    ]
}

fn text_or_null() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), any::<String>().prop_map(Value::from)]
}

fn call() -> impl Strategy<Value = Value> {
    (any::<String>(), any::<String>(), any::<String>(), prop::option::of(any::<String>())).prop_map(|(id, name, arguments, signature)| {
        let mut call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        if let Some(signature) = signature {
            call["extra_content"] = json!({"google": {"thought_signature": signature}});
        }
        call
    })
}

fn message() -> impl Strategy<Value = Value> {
    let optional = |strategy: BoxedStrategy<Value>| prop::option::of(strategy);
    let list = |item: BoxedStrategy<Value>| {
        prop::collection::vec(item, 0..3).prop_map(Value::from).boxed()
    };
    let block = (any::<String>(), any::<String>()).prop_map(|(thinking, signature)| json!({"type": "thinking", "thinking": thinking, "signature": signature})).boxed();
    (
        optional(text_or_null().boxed()),
        optional(text_or_null().boxed()),
        optional(text_or_null().boxed()),
        optional(list(call().boxed())),
        optional(list(block)),
        optional(list(json_object().boxed())),
        prop::collection::vec(("x_[a-z]{1,3}", leaf()), 0..3),
    )
        .prop_map(|(content, refusal, reasoning, calls, blocks, annotations, others)| {
            let mut message: Map<String, Value> = others.into_iter().collect();
            let known = [
                ("content", content),
                ("refusal", refusal),
                ("reasoning_content", reasoning),
                ("tool_calls", calls),
                ("thinking_blocks", blocks),
                ("annotations", annotations),
            ];
            message.extend(
                known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))),
            );
            message.insert("role".into(), "assistant".into());
            Value::Object(message)
        })
}

fn json_object() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[a-h]{1,4}", leaf()), 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn logprobs() -> impl Strategy<Value = Value> {
    let token = (any::<String>(), any::<i32>()).prop_map(|(token, logprob)| json!({"token": token, "logprob": logprob, "bytes": [1, 2], "top_logprobs": [{"token": "x"}]}));
    prop_oneof![
        Just(Value::Null),
        (prop::collection::vec(token, 0..3))
            .prop_map(|content| json!({"content": content, "refusal": null}))
    ]
}

fn answer() -> impl Strategy<Value = Value> {
    let choice = (message(), prop::option::of(logprobs()), "[a-z_]{1,8}", prop::option::of(leaf()));
    (
        prop::collection::vec(choice, 1..4),
        prop::option::of(json_object()),
        prop::collection::vec(("y_[a-z]{1,3}", leaf()), 0..3),
        prop::option::of(text_or_null()),
    )
        .prop_map(|(choices, usage, others, fingerprint)| {
            let mut answer: Map<String, Value> = others.into_iter().collect();
            answer.extend([
                ("id".into(), json!("c1")),
                ("object".into(), json!("chat.completion")),
                ("created".into(), json!(17)),
                ("model".into(), json!("m")),
            ]);
            if let Some(fingerprint) = fingerprint {
                answer.insert("system_fingerprint".into(), fingerprint);
            }
            if let Some(usage) = usage {
                answer.insert("usage".into(), usage);
            }
            let choices: Vec<Value> = choices
                .into_iter()
                .enumerate()
                .map(|(index, (message, logprobs, reason, other))| {
                    let mut choice =
                        json!({"index": index, "message": message, "finish_reason": reason});
                    if let Some(logprobs) = logprobs {
                        choice["logprobs"] = logprobs;
                    }
                    if let Some(other) = other {
                        choice["content_filter_results"] = other;
                    }
                    choice
                })
                .collect();
            answer.insert("choices".into(), choices.into());
            Value::Object(answer)
        })
}

proptest! {
    #[test]
    fn folding_a_replay_gives_the_same_answer(answer in answer()) {
        let replayed = replay(Kind::Chat, answer.to_string().as_bytes(), true).unwrap();
        let text = std::str::from_utf8(&replayed).unwrap();
        prop_assert_eq!(folded(Kind::Chat, text), answer);
    }

    #[test]
    fn an_entry_comes_back_as_it_was_written(
        created in any::<u64>(), ttl in any::<u64>(), numbers in prop::array::uniform4(prop::option::of(any::<u64>())), has_usage in any::<bool>(),
    ) {
        let [prompt_tokens, cached_tokens, audio_milliseconds, web_searches] = numbers;
        let usage = has_usage.then(|| Usage { prompt_tokens, cached_tokens, audio_milliseconds, web_searches, ..Usage::default() });
        let body = Bytes::from_static(br#"{"choices":[{"message":{},"finish_reason":"stop"}]}"#);
        let kept = Entry::whole(Kind::Chat, body, "application/json; charset=utf-8", usage, created, ttl).unwrap();
        let encoded = kept.encode();
        prop_assert!(encoded.len() <= kept.size());
        prop_assert_eq!(Entry::decode(&encoded), Some(kept));
    }

    #[test]
    fn no_bytes_make_anything_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "(data: [\\[\\]{}\":,a-z0-9\\n]{0,20}\\n\\n){0,4}") {
        let _ = Entry::decode(&bytes);
        for kind in [Kind::Chat, Kind::Completion, Kind::Embedding] {
            let _ = fold(kind, &bytes);
            let _ = fold(kind, text.as_bytes());
            let _ = replay(kind, &bytes, true);
        }
    }
}
