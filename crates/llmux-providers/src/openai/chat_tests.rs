use llmux_types::Usage;
use llmux_types::chat::{ChatResponse, Choice, FinishReason};
use serde_json::json;

use super::*;
use crate::openai::{AnswerHead, write_response};

fn read(body: &Value) -> Result<ChatRequest, Invalid> {
    read_request(body.to_string().as_bytes())
}

fn messages(messages: &Value) -> Vec<Message> {
    read(&json!({ "model": "m", "messages": messages })).expect("valid").messages
}

#[test]
fn all_parts_of_a_message_are_read() {
    let read = messages(&json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
        ]},
    ]));
    let data = |media_type: &str, data: &str| Source::Data {
        media_type: media_type.into(),
        data: data.into(),
    };
    assert_eq!(read[0], Message::System { content: vec![Part::text("Be brief.")] });
    let Message::User { content } = &read[1] else { unreachable!("a user message") };
    assert_eq!(
        content[0],
        Part::Text {
            text: "What is this?".into(),
            cache_control: Some(json!({"type": "ephemeral"}))
        }
    );
    assert_eq!(
        content[1],
        Part::Image {
            source: data("image/png", "AAAA"),
            detail: Some("low".into()),
            cache_control: None
        }
    );
    assert!(
        matches!(&content[2], Part::Image { source: Source::Url(url), .. } if url.ends_with("a.jpg"))
    );
    assert_eq!(
        content[3],
        Part::File {
            source: data("application/pdf", "BBBB"),
            filename: Some("a.pdf".into()),
            cache_control: None
        }
    );
    assert!(matches!(&content[4], Part::File { source: Source::FileId(id), .. } if id == "file-1"));
    assert_eq!(content[5], Part::Audio { data: "CCCC".into(), format: "wav".into() });
}

#[test]
fn calls_results_and_reasoning_are_read() {
    let read = messages(&json!([
        {"role": "assistant", "content": null, "reasoning_content": "ignored beside blocks",
         "thinking_blocks": [
            {"type": "thinking", "thinking": "", "signature": "s1"},
            {"type": "redacted_thinking", "data": "d"},
         ],
         "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""},
             "extra_content": {"google": {"thought_signature": "g"}}},
            {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
         ]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "assistant", "content": "fine", "reasoning_content": "hm"},
    ]));
    let Message::Assistant(first) = &read[0] else { unreachable!("an assistant message") };
    assert!(first.content.is_empty());
    assert_eq!(first.reasoning[0].signature.as_deref(), Some("s1"));
    assert_eq!(first.reasoning[1].redacted.as_deref(), Some("d"));
    assert_eq!(first.tool_calls[0].arguments, "{}");
    assert_eq!(first.tool_calls[0].signature.as_deref(), Some("g"));
    assert_eq!(first.tool_calls[1].arguments, "{\"x\":1}");
    assert_eq!(read[1], Message::Tool { call_id: "a".into(), content: vec![Part::text("1")] });
    let Message::Assistant(second) = &read[2] else { unreachable!("an assistant message") };
    assert_eq!(second.reasoning, [Reasoning { text: "hm".into(), ..Reasoning::default() }]);
}

#[test]
fn parameters_are_read_and_unknown_ones_kept() {
    let request = read(&json!({
        "model": "m", "messages": [], "max_tokens": 5, "max_completion_tokens": 7, "stop": "x",
        "temperature": 1, "logprobs": true, "top_logprobs": 3, "user": "u", "safety_identifier": "s",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}, "strict": true}},
        "stream": true, "logit_bias": {"5": 1}, "store": false, "seed": null, "tags": ["t"], "new_field": [1],
    }))
    .expect("valid");
    assert_eq!(request.max_tokens, Some(7));
    assert_eq!(request.stop, ["x"]);
    assert_eq!(request.temperature, Some(1.0));
    assert_eq!(request.logprobs, Some(3));
    assert_eq!(request.user.as_deref(), Some("u"));
    assert_eq!(request.tools[0].strict, Some(true));
    assert_eq!(request.tool_choice, Some(ToolChoice::Function("f".into())));
    assert_eq!(request.parallel_tool_calls, Some(false));
    let schema = ResponseFormat::JsonSchema {
        name: "n".into(),
        schema: json!({"a": 1}),
        strict: Some(true),
    };
    assert_eq!(request.response_format, schema);
    assert!(request.stream);
    let names: Vec<_> = request.others.keys().map(String::as_str).collect();
    assert_eq!(names, ["logit_bias", "new_field", "store"]);
}

#[test]
fn choices_of_tools_are_read() {
    for (choice, expected) in [
        (json!("none"), ToolChoice::None),
        (json!("auto"), ToolChoice::Auto),
        (json!("required"), ToolChoice::Required),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required",
                "tools": [{"type": "function", "function": {"name": "a"}}]}}),
            ToolChoice::Allowed { names: vec!["a".into()], required: true },
        ),
    ] {
        let request = read(&json!({"messages": [], "tool_choice": choice})).expect("valid");
        assert_eq!(request.tool_choice, Some(expected), "{choice}");
    }
}

#[test]
fn faults_name_their_field() {
    for (body, param) in [
        (json!({"messages": "x"}), "messages"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages"),
        (json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]}),
            "messages",
        ),
        (json!({"messages": [], "tools": [{"type": "custom"}]}), "tools"),
        (json!({"messages": [], "tool_choice": "sometimes"}), "tool_choice"),
        (json!({"messages": [], "temperature": "hot"}), "temperature"),
        (json!({"messages": [], "stop": 5}), "stop"),
        (json!({"messages": [], "response_format": {"type": "xml"}}), "response_format"),
        (json!({"messages": [], "response_format": {"type": "json_schema"}}), "response_format"),
    ] {
        let error = read(&body).expect_err("a fault");
        assert_eq!(error.param, Some(param), "{body}: {error}");
    }
}

#[test]
fn faults_are_told_without_our_types_or_the_clients_values() {
    let user = json!({"role": "user", "content": "x"});
    let part = |part: Value| json!({"messages": [user, {"role": "user", "content": [part]}]});
    for (body, want) in [
        (json!({"messages": "x"}), "`messages`: an array is expected, not a string"),
        (json!({"messages": {}}), "`messages`: an array is expected, not an object"),
        (json!({"messages": [user, "x"]}), "`messages[1]`: an object is expected, not a string"),
        (json!({"messages": [{"content": "x"}]}), "`messages[0]`: `role` is missing"),
        (
            json!({"messages": [{"role": "user", "content": 5}]}),
            "`messages[0]`: a string, an array of content parts or null is expected, not a number",
        ),
        (
            part(json!({"type": "image_url", "image_url": "https://example.com/secret"})),
            "`messages[1]`: an object is expected, not a string",
        ),
        (part(json!({"text": "x"})), "`messages[1]`: `type` is missing"),
        (
            json!({"tools": [{"function": true}]}),
            "`tools[0]`: an object is expected, not true or false",
        ),
        (
            json!({"response_format": "json_object"}),
            "`response_format`: an object is expected, not a string",
        ),
        (
            json!({"max_tokens": "secret"}),
            "`max_tokens`: an integer that is not negative is expected, not a string",
        ),
        (json!({"n": -1}), "`n`: an integer that is not negative is expected"),
        (json!({"temperature": "hot"}), "`temperature`: a number is expected, not a string"),
        (json!({"stop": 5}), "`stop`: a string or an array of strings is expected, not a number"),
        (json!({"modalities": "text"}), "`modalities`: an array is expected, not a string"),
        (json!({"logprobs": "yes"}), "`logprobs`: true or false is expected, not a string"),
    ] {
        assert_eq!(read(&body).expect_err("a fault").message, want, "{body}");
    }
    // Of a field without a meaning of its own, and after a list that is whole.
    let error = read_request(br#"{"messages":[],"logit_bias":1e999}"#).expect_err("too large");
    assert_eq!(error.message, "the request body cannot be read: number out of range");
    assert_eq!(error.param, None);
    let nothing = read(&json!({"messages": null, "tools": null})).expect("as if left out");
    assert!(nothing.messages.is_empty() && nothing.tools.is_empty());
}

fn head() -> AnswerHead {
    AnswerHead { id: "made-up".into(), model: "asked".into(), created: 7 }
}

#[test]
fn an_answer_is_written_as_openai_writes_it() {
    let response = ChatResponse {
        id: String::new(),
        choices: vec![Choice {
            index: 0,
            message: AssistantMessage {
                reasoning: vec![Reasoning {
                    text: "hm".into(),
                    signature: Some("s".into()),
                    redacted: None,
                }],
                content: vec![Part::text("a"), Part::text("b")],
                tool_calls: vec![ToolCall {
                    id: "c".into(),
                    name: "f".into(),
                    arguments: "{}".into(),
                    signature: Some("g".into()),
                }],
                ..AssistantMessage::default()
            },
            finish_reason: Some(FinishReason::ToolCalls),
            logprobs: None,
        }],
        usage: Some(Usage {
            prompt_tokens: Some(3),
            completion_tokens: Some(2),
            total_tokens: Some(5),
            cached_tokens: Some(1),
            cache_write_tokens: None,
            reasoning_tokens: Some(1),
            ..Usage::default()
        }),
        service_tier: None,
    };
    let written: Value = serde_json::from_slice(&write_response(&response, &head())).expect("JSON");
    assert_eq!(
        written,
        json!({
            "id": "made-up", "object": "chat.completion", "created": 7, "model": "asked",
            "choices": [{"index": 0, "logprobs": null, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": "ab", "refusal": null, "reasoning_content": "hm",
                "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"}],
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "g"}}}],
            }}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 1}},
        })
    );
}

#[test]
fn what_was_answered_can_be_asked_again() {
    let message = AssistantMessage {
        reasoning: vec![
            Reasoning { text: String::new(), signature: Some("s".into()), redacted: None },
            Reasoning { redacted: Some("d".into()), ..Reasoning::default() },
        ],
        content: vec![Part::text("text")],
        tool_calls: vec![ToolCall {
            id: "c".into(),
            name: "f".into(),
            arguments: "{\"a\":[1]}".into(),
            signature: None,
        }],
        signature: Some("text's".into()),
        ..AssistantMessage::default()
    };
    let choices = vec![Choice { message: message.clone(), ..Choice::default() }];
    let response = ChatResponse { choices, ..ChatResponse::default() };
    let written: Value = serde_json::from_slice(&write_response(&response, &head())).expect("JSON");
    let again = messages(&json!([written["choices"][0]["message"]]));
    assert_eq!(again, [Message::Assistant(message)]);
}
