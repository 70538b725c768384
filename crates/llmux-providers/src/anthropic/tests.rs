//! Requests: canonical chats as Anthropic wants them. Answers and streams are tested against recordings in `tests/`.

use llmux_types::chat::ChatRequest;
use serde_json::{Value, json};

use super::Anthropic;
use crate::codec::{ChatCodec as _, EncodeError, Encoding};
use crate::openai::read_request;

fn encode_for(model: &str, body: &Value, drop_params: bool) -> Result<Value, EncodeError> {
    let request: ChatRequest = read_request(body.to_string().as_bytes()).expect("valid");
    let encoding =
        Encoding { base_url: "https://host", model, drop_params, max_output_tokens: None };
    let outgoing = Anthropic.encode(&request, &encoding)?;
    assert_eq!(outgoing.url, "https://host/v1/messages");
    Ok(serde_json::from_slice(&outgoing.body).expect("JSON"))
}

fn encode(body: &Value) -> Value {
    encode_for("claude-sonnet-4-5", body, false).expect("sayable")
}

fn refused(model: &str, body: &Value) -> String {
    encode_for(model, body, false).expect_err("no words for it").param
}

#[test]
fn system_messages_are_hoisted_and_roles_alternate() {
    let body = encode(&json!({"max_tokens": 9, "messages": [
        {"role": "system", "content": "One."},
        {"role": "user", "content": "Two."},
        {"role": "developer", "content": [{"type": "text", "text": "Three.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "Four."},
        {"role": "assistant", "content": "Five. "},
    ]}));
    assert_eq!(
        body["system"],
        json!([
            {"type": "text", "text": "One."},
            {"type": "text", "text": "Three.", "cache_control": {"type": "ephemeral"}},
        ])
    );
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Two."}, {"type": "text", "text": "Four."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Five."}]},
        ])
    );
    assert_eq!((&body["max_tokens"], &body["stream"]), (&json!(9), &json!(false)));
}

#[test]
fn texts_without_anything_to_see_are_left_out() {
    let body = encode(&json!({"messages": [
        {"role": "system", "content": " "},
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": " ", "refusal": "\n", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "\n"},
    ]}));
    assert!(body.get("system").is_none());
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}])
    );
    assert_eq!(
        body["messages"][2]["content"],
        json!([{"type": "tool_result", "tool_use_id": "a"}])
    );
}

#[test]
fn a_conversation_begins_with_the_user() {
    let said =
        |role: &str, text: &str| json!({"role": role, "content": [{"type": "text", "text": text}]});
    let body = encode(
        &json!({"messages": [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Hi."}]}),
    );
    let turns = json!([said("user", "."), said("assistant", "Hello."), said("user", "Hi.")]);
    assert_eq!(body["messages"], turns);

    let body = encode(
        &json!({"messages": [{"role": "system", "content": "Sing."}, {"role": "user", "content": ""}]}),
    );
    assert_eq!(body["messages"], json!([said("user", "Sing.")]));
    assert!(body.get("system").is_none());

    let nothing = json!({"messages": [{"role": "user", "content": ""}]});
    assert_eq!(refused("claude-sonnet-4-5", &nothing), "messages");
}

#[test]
fn ids_of_other_vendors_become_ones_that_are_taken() {
    let body = encode(&json!({"messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [
            {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"},
    ]}));
    let id = &body["messages"][1]["content"][0]["id"];
    assert_eq!(id, "functions-2ef-3a0");
    assert_eq!(&body["messages"][2]["content"][0]["tool_use_id"], id);
}

#[test]
fn results_of_parallel_calls_are_one_turn_and_come_first() {
    let body = encode(&json!({"messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"x\":1.50}"}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": ""},
        {"role": "user", "content": "and?"},
    ]}));
    assert_eq!(
        body["messages"][1]["content"],
        json!([
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {"x": 1.50}},
        ])
    );
    assert_eq!(
        body["messages"][2],
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
            {"type": "tool_result", "tool_use_id": "b"},
            {"type": "text", "text": "and?"},
        ]})
    );
    let names: Vec<_> =
        body["tools"].as_array().expect("tools").iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["f", "g"], "tools that were called are defined");
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
}

#[test]
fn tools_and_choices_are_translated() {
    let tools = json!([{"type": "function", "function": {"name": "f", "description": "d", "strict": true}}]);
    for (choice, parallel, expected) in [
        (json!(null), json!(null), json!(null)),
        (json!("auto"), json!(null), json!({"type": "auto"})),
        (json!("required"), json!(null), json!({"type": "any"})),
        (json!("none"), json!(false), json!({"type": "none"})),
        (json!(null), json!(false), json!({"type": "auto", "disable_parallel_tool_use": true})),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            json!(false),
            json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true}),
        ),
    ] {
        let body = encode(&json!({"messages": [{"role": "user", "content": "x"}], "tools": tools,
            "tool_choice": choice, "parallel_tool_calls": parallel}));
        assert_eq!(body["tool_choice"], expected, "{choice} {parallel}");
        assert_eq!(
            body["tools"],
            json!([{"name": "f", "description": "d", "strict": true,
                "input_schema": {"type": "object", "properties": {}}}])
        );
    }
}

#[test]
fn images_and_files_are_translated() {
    let body = encode(&json!({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,aMOp", "filename": "a.txt"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]}]}));
    assert_eq!(
        body["messages"][0]["content"],
        json!([
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "document", "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
            {"type": "document", "title": "a.txt",
                "source": {"type": "text", "media_type": "text/plain", "data": "hé"}},
            {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
        ])
    );
    let audio = json!({"messages": [{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}}]}]});
    assert_eq!(refused("claude-sonnet-4-5", &audio), "messages");
}

fn with(members: &Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
    let object = body.as_object_mut().expect("an object");
    object.extend(members.as_object().expect("an object").clone());
    body
}

#[test]
fn effort_is_said_in_the_words_of_the_generation() {
    let effort = |model, effort: &str, max: u64| {
        let body = with(&json!({"reasoning_effort": effort, "max_tokens": max}));
        let body = encode_for(model, &body, false).expect("sayable");
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    assert_eq!(
        effort("claude-opus-4-7", "xhigh", 9000),
        (json!({"type": "adaptive"}), json!("xhigh"))
    );
    assert_eq!(effort("claude-opus-4-6", "xhigh", 9000).1, json!("high"));
    assert_eq!(
        effort("claude-sonnet-4-5", "low", 9000),
        (json!({"type": "enabled", "budget_tokens": 1024}), json!(null))
    );
    assert_eq!(effort("claude-sonnet-4-5", "high", 8000).0["budget_tokens"], 6000);
    assert_eq!(effort("claude-sonnet-4-5", "high", 1000).0, json!(null));
    assert_eq!(effort("claude-opus-4-7", "none", 9000), (json!(null), json!(null)));
    assert_eq!(
        refused("claude-3-5-haiku", &with(&json!({"reasoning_effort": "low"}))),
        "reasoning_effort"
    );
}

#[test]
fn thinking_goes_back_signed_and_is_left_out_where_it_was_lost() {
    let conversation = |blocks: Value| {
        json!({"reasoning_effort": "high", "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "thinking_blocks": blocks,
             "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
        ]})
    };
    let kept = encode(&conversation(json!([
        {"type": "thinking", "thinking": "", "signature": "s"}, {"type": "redacted_thinking", "data": "d"}])));
    assert_eq!(kept["thinking"]["type"], "enabled");
    assert_eq!(
        kept["messages"][1]["content"],
        json!([
            {"type": "thinking", "thinking": "", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        ])
    );
    assert_eq!(encode(&conversation(json!(null)))["thinking"], json!(null));
}

#[test]
fn sampling_is_clamped_or_refused_by_generation() {
    let body = with(&json!({"temperature": 1.7}));
    assert_eq!(encode(&body)["temperature"], 1.0);
    assert_eq!(refused("claude-opus-4-7", &with(&json!({"temperature": 0.2}))), "temperature");
    let dropped = encode_for("claude-opus-4-7", &with(&json!({"temperature": 0.2})), true);
    assert_eq!(dropped.expect("dropped")["temperature"], json!(null));
    let both = with(&json!({"temperature": 0.2, "top_p": 0.5}));
    assert_eq!(refused("claude-sonnet-4-5", &both), "top_p");
    let old = encode_for("claude-3-5-sonnet-20241022", &both, false).expect("sayable");
    assert_eq!((&old["temperature"], &old["top_p"]), (&json!(0.2), &json!(0.5)));
}

#[test]
fn schemas_are_formats_or_a_forced_tool() {
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "object", "properties": {}}}});
    let body = with(
        &json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
    );
    let format = &encode(&body)["output_config"]["format"];
    assert_eq!(format["type"], "json_schema");
    assert_eq!(format["schema"]["additionalProperties"], false);
    assert_eq!(format["schema"]["properties"]["a"]["additionalProperties"], false);
    let old = encode_for("claude-3-5-sonnet-20241022", &body, false).expect("sayable");
    assert_eq!(old["tool_choice"], json!({"type": "tool", "name": super::STRUCTURED}));
    assert_eq!(old["tools"][0]["input_schema"], schema);

    let answer = json!({"id": "i", "stop_reason": "tool_use", "content": [
        {"type": "tool_use", "id": "t", "name": super::STRUCTURED, "input": {"a": {}}}]});
    let decoded = Anthropic.decode(answer.to_string().as_bytes()).expect("an answer");
    let choice = &decoded.choices[0];
    assert_eq!(choice.message.content, [llmux_types::chat::Part::text("{\"a\":{}}")]);
    assert!(choice.message.tool_calls.is_empty());
    assert_eq!(choice.finish_reason, Some(llmux_types::chat::FinishReason::Stop));
}

#[test]
fn what_has_no_words_is_refused_by_name_or_dropped() {
    for (name, value) in [
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("seed", json!(1)),
        ("presence_penalty", json!(0.5)),
        ("logit_bias", json!({"5": 1})),
        ("audio", json!({})),
        ("unheard_of", json!(1)),
    ] {
        let mut body = with(&json!({}));
        body[name] = value;
        assert_eq!(refused("claude-sonnet-4-5", &body), name);
        encode_for("claude-sonnet-4-5", &body, true).expect("dropped");
    }
    let harmless =
        with(&json!({"n": 1, "store": true, "metadata": {}, "presence_penalty": 0, "user": "u",
        "service_tier": "default", "stop": ["x", " "]}));
    let body = encode(&harmless);
    assert_eq!(body["metadata"], json!({"user_id": "u"}));
    assert_eq!(body["service_tier"], "standard_only");
    assert_eq!(body["stop_sequences"], json!(["x"]));
}

#[test]
fn the_limit_of_output_is_the_models_own_unless_asked() {
    let limit = |model: &str, known| {
        let request = read_request(with(&json!({})).to_string().as_bytes()).expect("valid");
        let encoding =
            Encoding { base_url: "", model, drop_params: false, max_output_tokens: known };
        let outgoing = Anthropic.encode(&request, &encoding).expect("sayable");
        serde_json::from_slice::<Value>(&outgoing.body).expect("JSON")["max_tokens"].clone()
    };
    assert_eq!(limit("claude-3-haiku-20240307", None), 4096);
    assert_eq!(limit("claude-opus-4-1", None), 32_000);
    assert_eq!(limit("claude-next", None), 64_000);
    assert_eq!(limit("claude-next", Some(7)), 7);
}

#[test]
fn thinking_in_words_that_a_model_does_not_have_is_said_in_its_own() {
    let thinking = |model: &str, thinking: Value| {
        let body = json!({"messages": [{"role": "user", "content": "go"}], "thinking": thinking});
        let body = encode_for(model, &body, false).expect("sayable");
        (body["thinking"].clone(), body["output_config"]["effort"].clone())
    };
    let budget = json!({"type": "enabled", "budget_tokens": 20_000});
    let adaptive = json!({"type": "adaptive"});
    let bare = json!({"type": "enabled"});
    let off = json!({"type": "disabled"});
    for (model, asked, said, effort) in [
        ("claude-opus-4-8", &budget, &adaptive, json!("high")),
        ("claude-opus-4-8", &bare, &adaptive, Value::Null),
        ("claude-opus-4-8", &off, &off, Value::Null),
        ("claude-opus-4-6", &budget, &budget, Value::Null),
        ("claude-opus-4-6", &bare, &adaptive, Value::Null),
        ("claude-sonnet-4-5", &budget, &budget, Value::Null),
        (
            "claude-sonnet-4-5",
            &bare,
            &json!({"type": "enabled", "budget_tokens": 8192}),
            Value::Null,
        ),
    ] {
        assert_eq!(thinking(model, asked.clone()), (said.clone(), effort), "{model} {asked}");
    }
}
