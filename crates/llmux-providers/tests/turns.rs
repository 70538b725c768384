//! Properties of conversations: an answer that a client gets in OpenAI's dialect and sends back as the next turn reaches
//! the vendor as the vendor said it, signatures included.

use llmux_providers::anthropic::Anthropic;
use llmux_providers::gemini::Gemini;
use llmux_providers::openai::{AnswerHead, read_request, write_response};
use llmux_providers::{ChatCodec, Encoding};
use llmux_types::chat::{
    AssistantMessage, ChatRequest, ChatResponse, Choice, FinishReason, Message, Part, Reasoning,
    ToolCall,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Stands for a signature that a client has lost.
const LOST: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// Text that needs escapes, or has nothing to see.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z \"\\\\\n\u{e9}\u{2028}\u{1f600}]{0,12}",
        Just(String::new()),
        Just(" ".to_owned())
    ]
}

fn signature() -> impl Strategy<Value = String> {
    "[A-Za-z0-9+/]{4,12}={0,2}"
}

/// A JSON object as a model writes it.
fn arguments() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"]{0,4}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    (prop::collection::btree_map("[a-z_\"]{1,5}", value, 0..4), any::<bool>()).prop_map(
        |(members, pretty)| {
            let value = Value::Object(members.into_iter().collect());
            if pretty { format!("{value:#}") } else { value.to_string() }
        },
    )
}

fn calls(signed: bool) -> impl Strategy<Value = Vec<ToolCall>> {
    let signature = if signed { prop::option::of(signature()).boxed() } else { Just(None).boxed() };
    let one = ("[a-zA-Z0-9_-]{1,6}", "[a-z][a-z_]{0,6}", arguments(), signature);
    prop::collection::vec(one, 0..4).prop_map(|calls| {
        let calls = calls.into_iter().enumerate();
        let unique = calls.map(|(place, (id, name, arguments, signature))| ToolCall {
            id: format!("call_{id}_{place}"),
            name,
            arguments,
            signature,
        });
        unique.collect()
    })
}

/// An answer with something in it that counts.
fn whole(message: AssistantMessage) -> AssistantMessage {
    let blank = message
        .content
        .iter()
        .all(|part| matches!(part, Part::Text { text, .. } if text.trim().is_empty()));
    if !blank || !message.tool_calls.is_empty() {
        return message;
    }
    AssistantMessage { content: vec![Part::text("Well.")], ..message }
}

/// What Claude answers: blocks of thinking with signatures, some empty, some encrypted.
fn claude() -> impl Strategy<Value = AssistantMessage> {
    let block = prop_oneof![
        (text(), signature()).prop_map(|(text, signature)| Reasoning {
            text,
            signature: Some(signature),
            redacted: None
        }),
        signature().prop_map(|data| Reasoning { redacted: Some(data), ..Reasoning::default() }),
    ];
    (prop::collection::vec(block, 0..3), prop::option::of(text()), calls(false)).prop_map(
        |(reasoning, text, tool_calls)| {
            let content = text.map(Part::text).into_iter().collect();
            whole(AssistantMessage {
                reasoning,
                content,
                tool_calls,
                ..AssistantMessage::default()
            })
        },
    )
}

/// What Gemini answers: thoughts without signatures, which sit on the text and on calls instead.
fn gemini() -> impl Strategy<Value = AssistantMessage> {
    let thought = "[a-z ]{1,9}".prop_map(|text| Reasoning { text, ..Reasoning::default() });
    let thoughts = prop::collection::vec(thought, 0..2);
    (thoughts, prop::option::of(text()), calls(true), prop::option::of(signature())).prop_map(
        |(reasoning, text, tool_calls, signature)| {
            let content = text.map(Part::text).into_iter().collect();
            whole(AssistantMessage {
                reasoning,
                content,
                tool_calls,
                signature,
                ..AssistantMessage::default()
            })
        },
    )
}

/// Lets a client have an answer and go on: results in any order, or another question.
fn next_turn(message: &AssistantMessage, backwards: bool) -> ChatRequest {
    let choice = Choice {
        index: 0,
        message: message.clone(),
        finish_reason: Some(FinishReason::Stop),
        logprobs: None,
    };
    let response = ChatResponse { choices: vec![choice], ..ChatResponse::default() };
    let head = AnswerHead { id: "id".into(), model: "model".into(), created: 1 };
    let answer: Value = serde_json::from_slice(&write_response(&response, &head)).expect("JSON");
    let mut messages =
        vec![json!({"role": "user", "content": "go"}), answer["choices"][0]["message"].clone()];
    let mut results: Vec<Value> = message
        .tool_calls
        .iter()
        .map(|call| json!({"role": "tool", "tool_call_id": call.id, "content": call.id}))
        .collect();
    if backwards {
        results.reverse();
    }
    if results.is_empty() {
        results.push(json!({"role": "user", "content": "go on"}));
    }
    messages.extend(results);
    let tools: Vec<Value> = message
        .tool_calls
        .iter()
        .map(|call| json!({"type": "function", "function": {"name": call.name}}))
        .collect();
    let body = json!({"model": "model", "messages": messages, "tools": tools});
    read_request(body.to_string().as_bytes()).expect("our own answer")
}

fn encoded(codec: &dyn ChatCodec, request: &ChatRequest, model: &str) -> Value {
    let base_url = "https://vendor.example";
    let encoding = Encoding { base_url, model, drop_params: false, max_output_tokens: None };
    let outgoing = codec.encode(request, &encoding).expect("sayable");
    serde_json::from_slice(&outgoing.body).expect("JSON")
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn texts(message: &AssistantMessage) -> impl Iterator<Item = &str> {
    message.content.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.as_str()),
        _ => None,
    })
}

proptest! {
    #[test]
    fn what_a_client_sends_back_is_what_it_got(message in prop_oneof![claude(), gemini()]) {
        let request = next_turn(&message, false);
        let Message::Assistant(found) = &request.messages[1] else { unreachable!("the answer") };
        prop_assert_eq!(&found.tool_calls, &message.tool_calls);
        prop_assert_eq!(&found.content, &message.content);
        prop_assert_eq!(&found.signature, &message.signature);
        let unsigned = |block: &Reasoning| block.signature.is_none() && block.redacted.is_none();
        if !message.reasoning.iter().any(unsigned) {
            prop_assert_eq!(&found.reasoning, &message.reasoning);
        }
    }

    #[test]
    fn claude_gets_its_answer_back(message in claude(), backwards in any::<bool>(), new in any::<bool>()) {
        let model = if new { "claude-opus-4-8" } else { "claude-sonnet-4-5" };
        let body = encoded(&Anthropic, &next_turn(&message, backwards), model);
        let thoughts = message.reasoning.iter().map(|block| match (&block.redacted, &block.signature) {
            (Some(data), _) => json!({"type": "redacted_thinking", "data": data}),
            (None, signature) => json!({"type": "thinking", "thinking": block.text, "signature": signature}),
        });
        let said = texts(&message).filter(|text| !text.trim().is_empty());
        let calls = message.tool_calls.iter().map(|call| {
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": parsed(&call.arguments)})
        });
        let expected: Vec<Value> =
            thoughts.chain(said.map(|text| json!({"type": "text", "text": text}))).chain(calls).collect();
        prop_assert_eq!(&body["messages"][1], &json!({"role": "assistant", "content": expected}));

        let mut results: Vec<Value> = message.tool_calls.iter().map(|call| {
            let content = json!([{"type": "text", "text": call.id}]);
            json!({"type": "tool_result", "tool_use_id": call.id, "content": content})
        }).collect();
        if backwards {
            results.reverse();
        }
        if !results.is_empty() {
            prop_assert_eq!(&body["messages"][2], &json!({"role": "user", "content": results}));
        }
        prop_assert_eq!(body["messages"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn gemini_gets_its_answer_back(message in gemini(), backwards in any::<bool>(), new in any::<bool>()) {
        let model = if new { "gemini-3-pro" } else { "gemini-2.5-flash" };
        let body = encoded(&Gemini, &next_turn(&message, backwards), model);
        let mut expected: Vec<Value> =
            texts(&message).filter(|text| !text.is_empty()).map(|text| json!({"text": text})).collect();
        if let Some(signature) = &message.signature {
            if expected.is_empty() {
                expected.push(json!({"text": ""}));
            }
            expected[0]["thoughtSignature"] = json!(signature);
        }
        for (place, call) in message.tool_calls.iter().enumerate() {
            let said = json!({"id": call.id, "name": call.name, "args": parsed(&call.arguments)});
            let mut part = json!({ "functionCall": said });
            let lost = (new && place == 0).then(|| LOST.to_owned());
            if let Some(signature) = call.signature.clone().or(lost) {
                part["thoughtSignature"] = json!(signature);
            }
            expected.push(part);
        }
        prop_assert_eq!(&body["contents"][1], &json!({"role": "model", "parts": expected}));

        let results: Vec<Value> = message.tool_calls.iter().map(|call| {
            let response = json!({"result": call.id});
            json!({"functionResponse": {"id": call.id, "name": call.name, "response": response}})
        }).collect();
        if !results.is_empty() {
            prop_assert_eq!(&body["contents"][2], &json!({"role": "user", "parts": results}));
        }
        prop_assert_eq!(body["contents"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn an_answer_of_one_vendor_can_go_on_at_the_other(message in prop_oneof![claude(), gemini()]) {
        let request = next_turn(&message, false);
        let names = |body: &Value, turn: &str, part: &str| {
            let parts = body[turn][1][part].as_array().expect("parts").iter();
            let names = parts.filter_map(|part| {
                let name = part.get("name").or_else(|| part.pointer("/functionCall/name"));
                name.and_then(Value::as_str).map(str::to_owned)
            });
            names.collect::<Vec<_>>()
        };
        let known: Vec<String> = message.tool_calls.iter().map(|call| call.name.clone()).collect();
        let body = encoded(&Anthropic, &request, "claude-sonnet-4-5");
        prop_assert_eq!(names(&body, "messages", "content"), known.clone());
        let body = encoded(&Gemini, &request, "gemini-3-pro");
        prop_assert_eq!(names(&body, "contents", "parts"), known);
    }
}
