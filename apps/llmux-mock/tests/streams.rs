//! What streams are made of, and that they say the same as whole answers.

use http_body_util::BodyExt as _;
use llmux_mock::{Finish, Mock, Options, Reply};
use serde_json::{Value, json};

use crate::client::{Answer, events, open, post};

/// What an answer says, whatever the dialect.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    tools: Vec<(String, Value)>,
    finish: String,
    usage: Value,
}

const TEXT: &str = "One  two\nthree, ключ 鍵 🔑 end. ";

fn rich() -> Reply {
    Reply::text(TEXT)
        .reasoning("Let me think about it.")
        .tool_call("find", r#"{"q": "a longer argument — ключ"}"#)
        .tool_call("stop", "{}")
        .cached_tokens(3)
}

async fn both(
    path: &str,
    streamed_path: &str,
    body: Value,
    extra: Value,
    reply: &Reply,
) -> (Answer, Answer) {
    let mock = Mock::start(Options::default()).await.unwrap();
    mock.script(reply.clone());
    mock.script(reply.clone());
    let whole = post(&mock, path, &body).await;
    let mut streamed_body = body;
    streamed_body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let streamed = post(&mock, streamed_path, &streamed_body).await;
    assert_eq!((whole.status, streamed.status), (200, 200));
    assert!(whole.complete && streamed.complete);
    (whole, streamed)
}

fn add(text: &mut String, value: &Value) {
    text.push_str(value.as_str().unwrap_or_default());
}

fn arguments(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn chat_message(message: &Value, finish: &Value, usage: &Value) -> Said {
    let mut said = Said { usage: usage.clone(), ..Said::default() };
    add(&mut said.text, &message["content"]);
    add(&mut said.reasoning, &message["reasoning_content"]);
    add(&mut said.finish, finish);
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let function = &call["function"];
        let name = function["name"].as_str().unwrap().to_owned();
        said.tools.push((name, arguments(function["arguments"].as_str().unwrap())));
    }
    said
}

fn chat_stream(chunks: &[Value], index: u64) -> Said {
    let mut said = Said::default();
    let mut tools: Vec<(String, String)> = Vec::new();
    for chunk in chunks.iter().filter(|chunk| chunk.is_object()) {
        if chunk["usage"].is_object() {
            said.usage = chunk["usage"].clone();
        }
        for choice in
            chunk["choices"].as_array().unwrap().iter().filter(|choice| choice["index"] == index)
        {
            let delta = &choice["delta"];
            add(&mut said.text, &delta["content"]);
            add(&mut said.reasoning, &delta["reasoning_content"]);
            add(&mut said.finish, &choice["finish_reason"]);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let at = call["index"].as_u64().unwrap() as usize;
                if call["id"].is_string() {
                    assert_eq!(at, tools.len());
                    tools.push((
                        call["function"]["name"].as_str().unwrap().to_owned(),
                        String::new(),
                    ));
                }
                add(&mut tools[at].1, &call["function"]["arguments"]);
            }
        }
    }
    said.tools = tools.into_iter().map(|(name, text)| (name, arguments(&text))).collect();
    said
}

#[tokio::test]
async fn a_chat_stream_says_what_the_whole_answer_says() {
    let body =
        json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "hello there"}]});
    let extra = json!({"stream": true, "stream_options": {"include_usage": true}});
    let path = "/v1/chat/completions";
    for reply in [Reply::default(), rich(), Reply::default().chunks(3).finish(Finish::Length)] {
        let (whole, streamed) = both(path, path, body.clone(), extra.clone(), &reply).await;
        let whole = whole.json();
        for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
            let said = chat_message(&choice["message"], &choice["finish_reason"], &whole["usage"]);
            assert_eq!(said, chat_stream(&streamed.events(), index as u64));
        }
    }
}

#[tokio::test]
async fn a_chat_stream_has_role_content_finish_usage_and_done_in_order() {
    let mock = Mock::start(Options { text: "a b".to_owned(), ..Options::default() }).await.unwrap();
    let body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}});
    let events = post(&mock, "/v1/chat/completions", &body).await.events();
    let first = |event: &Value| event["choices"][0].clone();
    assert_eq!(events.len(), 6);
    assert_eq!(first(&events[0])["delta"]["role"], "assistant");
    assert_eq!(first(&events[1])["delta"], json!({"content": "a"}));
    assert_eq!(first(&events[2])["delta"], json!({"content": " b"}));
    assert_eq!(first(&events[3])["finish_reason"], "stop");
    assert_eq!(events[4]["choices"], json!([]));
    assert_eq!(events[4]["usage"]["completion_tokens"], 2);
    assert_eq!(events[5], "[DONE]");
    assert!(
        events[..4].iter().all(|event| event["usage"].is_null() && event.get("usage").is_some())
    );
}

#[tokio::test]
async fn a_chat_stream_has_no_usage_unless_asked() {
    let mock = Mock::start(Options::default()).await.unwrap();
    let answer = post(&mock, "/v1/chat/completions", &json!({"model": "m", "stream": true})).await;
    assert!(!answer.text().contains("usage"));
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
}

#[tokio::test]
async fn a_completions_stream_says_what_the_whole_answer_says() {
    let body = json!({"model": "m", "prompt": ["a", "b"]});
    let extra = json!({"stream": true, "stream_options": {"include_usage": true}});
    let (whole, streamed) =
        both("/v1/completions", "/v1/completions", body, extra, &Reply::text(TEXT)).await;
    let (whole, events) = (whole.json(), streamed.events());
    assert_eq!(whole["choices"].as_array().unwrap().len(), 2);
    for choice in whole["choices"].as_array().unwrap() {
        let mut text = String::new();
        let choices = events.iter().filter_map(|event| event["choices"].as_array()).flatten();
        choices
            .filter(|streamed| streamed["index"] == choice["index"])
            .for_each(|c| add(&mut text, &c["text"]));
        assert_eq!(choice["text"], text);
    }
    assert_eq!(whole["usage"], events[events.len() - 2]["usage"]);
    assert_eq!(events[events.len() - 1], "[DONE]");
}

#[tokio::test]
async fn a_responses_stream_ends_with_the_whole_answer() {
    for reply in [Reply::default(), rich(), Reply::default().finish(Finish::Length)] {
        let extra = json!({"stream": true});
        let body = json!({"model": "m", "input": "hello"});
        let (whole, streamed) = both("/v1/responses", "/v1/responses", body, extra, &reply).await;
        let (whole, events) = (whole.json(), streamed.events());
        assert_eq!(events.last().unwrap()["response"], whole);
        let mut text = String::new();
        for (number, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], number);
            if event["type"] == "response.output_text.delta" {
                add(&mut text, &event["delta"]);
            }
        }
        let messages =
            whole["output"].as_array().unwrap().iter().filter(|item| item["type"] == "message");
        let texts: Vec<_> = messages.map(|item| item["content"][0]["text"].clone()).collect();
        assert_eq!(texts, [text]);
    }
}

#[tokio::test]
async fn responses_events_come_in_their_order() {
    let mock = Mock::start(Options { text: "a b".to_owned(), ..Options::default() }).await.unwrap();
    let answer =
        post(&mock, "/v1/responses", &json!({"model": "m", "input": "x", "stream": true})).await;
    let names: Vec<_> =
        answer.text().lines().filter_map(|line| line.strip_prefix("event: response.")).collect();
    let types: Vec<_> = answer.events().iter().map(|event| event["type"].clone()).collect();
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names, expected);
    assert_eq!(types, expected.map(|name| format!("response.{name}")));
}

#[tokio::test]
async fn a_messages_stream_says_what_the_whole_answer_says() {
    for reply in [Reply::default(), rich()] {
        let body =
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        let (whole, streamed) =
            both("/v1/messages", "/v1/messages", body, json!({"stream": true}), &reply).await;
        let whole = whole.json();
        let mut blocks: Vec<Value> = Vec::new();
        let mut json_text = String::new();
        let (mut stop, mut usage) = (Value::Null, Value::Null);
        let events = streamed.events();
        for event in &events {
            let last = blocks.len().saturating_sub(1);
            match event["type"].as_str().unwrap() {
                "content_block_start" => {
                    assert_eq!(event["index"], blocks.len());
                    blocks.push(event["content_block"].clone());
                }
                "content_block_delta" => {
                    let delta = &event["delta"];
                    for key in ["text", "thinking", "signature"] {
                        if let Some(piece) = delta[key].as_str() {
                            let so_far = blocks[last][key].as_str().unwrap().to_owned();
                            blocks[last][key] = (so_far + piece).into();
                        }
                    }
                    add(&mut json_text, &delta["partial_json"]);
                }
                "content_block_stop" if blocks[last]["type"] == "tool_use" => {
                    blocks[last]["input"] = arguments(&std::mem::take(&mut json_text));
                }
                "message_delta" => {
                    stop = event["delta"]["stop_reason"].clone();
                    usage = event["usage"].clone();
                }
                _ => {}
            }
        }
        assert_eq!(
            (&whole["content"], &whole["stop_reason"], &whole["usage"]),
            (&json!(blocks), &stop, &usage)
        );
        assert_eq!(events[0]["type"], "message_start");
        assert_eq!(events[events.len() - 1], json!({"type": "message_stop"}));
        assert_eq!(events.iter().filter(|event| event["type"] == "ping").count(), 1);
    }
}

#[tokio::test]
async fn a_gemini_stream_says_what_the_whole_answer_says() {
    for reply in [Reply::default(), rich()] {
        let (path, body) =
            ("/v1beta/models/g:", json!({"contents": [{"parts": [{"text": "hi"}]}]}));
        let paths = (format!("{path}generateContent"), format!("{path}streamGenerateContent"));
        let sse = format!("{}?alt=sse", paths.1);
        let (whole, streamed) = both(&paths.0, &sse, body.clone(), json!({}), &reply).await;
        let (_, array) = both(&paths.0, &paths.1, body, json!({}), &reply).await;
        assert!(
            streamed.text().split_inclusive("\r\n\r\n").all(|event| event.ends_with("}\r\n\r\n"))
        );
        let (whole, events) = (whole.json(), streamed.events());
        assert_eq!(json!(events), array.json());
        let fold = |responses: &[Value]| {
            let (mut said, mut text) = (Said::default(), [String::new(), String::new()]);
            for response in responses {
                let candidate = &response["candidates"][0];
                for part in candidate["content"]["parts"].as_array().unwrap() {
                    add(&mut text[usize::from(part["thought"] == true)], &part["text"]);
                    if let Some(call) = part.get("functionCall") {
                        said.tools.push((
                            call["name"].as_str().unwrap().to_owned(),
                            call["args"].clone(),
                        ));
                    }
                }
                add(&mut said.finish, &candidate["finishReason"]);
                said.usage = response["usageMetadata"].clone();
            }
            [said.text, said.reasoning] = text;
            said
        };
        assert_eq!(fold(&events), fold(&[whole]));
    }
}

#[tokio::test]
async fn chunks_set_the_number_of_content_events_and_tokens() {
    let mock = Mock::start(Options { chunks: 40, ..Options::default() }).await.unwrap();
    let body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}});
    let events = post(&mock, "/v1/chat/completions", &body).await.events();
    let content = events.iter().filter(|event| {
        event["choices"][0]["delta"]["content"].as_str().is_some_and(|t| !t.is_empty())
    });
    assert_eq!(content.count(), 40);
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], 40);
}

#[tokio::test]
async fn the_options_gap_lies_between_the_events_of_the_default_answer() {
    let hour = std::time::Duration::from_secs(3600);
    let options = Options { chunk_gap: hour, ..Options::default() };
    let mock = Mock::start(options).await.unwrap();
    let body = json!({"model": "m", "stream": true}).to_string();
    let mut response = open(&mock, "POST", "/v1/chat/completions", &[], &body).await.unwrap();
    let frame = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(events(std::str::from_utf8(&frame).unwrap()).len(), 1);
    drop(response);
    mock.until(|mock| mock.abandoned() == 1).await;
}

#[tokio::test]
async fn the_same_request_gets_the_same_bytes_and_another_one_others() {
    let mock = Mock::start(Options::default()).await.unwrap();
    let bodies = [
        json!({"model": "a"}),
        json!({"model": "b"}),
        json!({"model": "a", "n": 2}),
        json!({"model": "a", "stream": true}),
        json!({"model": "a", "stream": true, "stream_options": {"include_usage": true}}),
        json!({"model": "a", "messages": [{"role": "user", "content": "some words"}]}),
    ];
    let mut seen = Vec::new();
    for body in &bodies {
        let first = post(&mock, "/v1/chat/completions", body).await.body;
        assert_eq!(post(&mock, "/v1/chat/completions", body).await.body, first);
        assert!(!seen.contains(&first));
        seen.push(first);
    }
}
