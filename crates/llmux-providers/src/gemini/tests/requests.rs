use llmux_types::chat::{
    AssistantMessage, ChatRequest, Message, Part, Reasoning, ResponseFormat, Source, Tool,
    ToolCall, ToolChoice,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Gemini;
use crate::codec::{ChatCodec as _, EncodeError, Encoding, Outgoing};

const NEW: &str = "gemini-3-flash-preview";
const OLD: &str = "gemini-2.5-flash";
const LOST: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

fn outgoing(request: &ChatRequest, model: &str, drop: bool) -> Result<Outgoing, EncodeError> {
    let encoding =
        Encoding { base_url: "https://g", model, drop_params: drop, max_output_tokens: Some(1000) };
    Gemini.encode(request, &encoding)
}

fn body(request: &ChatRequest, model: &str) -> Value {
    serde_json::from_slice(&outgoing(request, model, false).unwrap().body).unwrap()
}

fn refused(request: &ChatRequest, model: &str) -> String {
    outgoing(request, model, false).unwrap_err().param
}

fn user(text: &str) -> Message {
    Message::User { content: vec![Part::text(text)] }
}

fn system(text: &str) -> Message {
    Message::System { content: vec![Part::text(text)] }
}

fn assistant(text: &str) -> Message {
    Message::Assistant(AssistantMessage {
        content: vec![Part::text(text)],
        ..AssistantMessage::default()
    })
}

fn call(id: &str, name: &str, arguments: &str, signature: Option<&str>) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        signature: signature.map(str::to_owned),
    }
}

fn calls(tool_calls: Vec<ToolCall>) -> Message {
    Message::Assistant(AssistantMessage { tool_calls, ..AssistantMessage::default() })
}

fn result(id: &str, text: &str) -> Message {
    Message::Tool { call_id: id.to_owned(), content: vec![Part::text(text)] }
}

fn tool(name: &str, parameters: Option<Value>) -> Tool {
    Tool { name: name.to_owned(), parameters, ..Tool::default() }
}

fn request(messages: Vec<Message>) -> ChatRequest {
    ChatRequest { messages, ..ChatRequest::default() }
}

fn hello() -> ChatRequest {
    request(vec![user("hello")])
}

fn contents(messages: Vec<Message>, model: &str) -> Value {
    body(&request(messages), model)["contents"].clone()
}

fn config(change: impl FnOnce(&mut ChatRequest), model: &str) -> Value {
    let mut request = hello();
    change(&mut request);
    body(&request, model)["generationConfig"].clone()
}

#[test]
fn the_url_holds_the_model_as_one_segment() {
    let mut request = hello();
    let url = |request: &ChatRequest, model: &str| outgoing(request, model, false).unwrap().url;
    assert_eq!(
        url(&request, "models/gemini-x"),
        "https://g/v1beta/models/gemini-x:generateContent"
    );
    assert_eq!(
        url(&request, "a/b?c#é"),
        "https://g/v1beta/models/a%2Fb%3Fc%23%C3%A9:generateContent"
    );
    request.stream = true;
    assert_eq!(
        url(&request, "gemini-x"),
        "https://g/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
    );
}

#[test]
fn a_small_request_holds_nothing_but_the_text() {
    assert_eq!(
        body(&hello(), NEW),
        json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
    );
}

#[test]
fn instructions_are_joined_and_neighbours_of_one_role_are_merged() {
    let request = request(vec![
        system("one"),
        user("a"),
        user("b"),
        assistant("c"),
        system("two"),
        assistant(""),
        assistant("d"),
        user("e"),
    ]);
    assert_eq!(
        body(&request, NEW),
        json!({
            "systemInstruction": {"parts": [{"text": "one"}, {"text": "two"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
                {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
                {"role": "user", "parts": [{"text": "e"}]},
            ],
        })
    );
}

#[test]
fn instructions_alone_are_the_users_turn() {
    let alone = body(&request(vec![system("do it")]), NEW);
    assert_eq!(alone, json!({"contents": [{"role": "user", "parts": [{"text": "do it"}]}]}));
    let first = contents(vec![assistant("hi")], NEW);
    assert_eq!(first[0], json!({"role": "user", "parts": [{"text": " "}]}));
    assert_eq!(refused(&request(vec![]), NEW), "messages");
    assert_eq!(refused(&request(vec![user("")]), NEW), "messages");
}

#[test]
fn models_without_instructions_read_them_first() {
    let body = body(&request(vec![system("s"), user("u")]), "gemma-3-27b-it");
    assert_eq!(
        body,
        json!({"contents": [{"role": "user", "parts": [{"text": "s"}, {"text": "u"}]}]})
    );
}

#[test]
fn results_of_parallel_calls_are_one_turn_in_the_order_of_the_calls() {
    let messages = vec![
        user("q"),
        calls(vec![call("1", "add", r#"{"a": 1}"#, Some("sig")), call("2", "add", "", None)]),
        result("2", "rainy"),
        result("1", r#"{"sum":12345678901234567890123}"#),
        user("and?"),
    ];
    assert_eq!(
        contents(messages, NEW),
        json!([
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [
                {"functionCall": {"id": "1", "name": "add", "args": {"a": 1}}, "thoughtSignature": "sig"},
                {"functionCall": {"id": "2", "name": "add", "args": {}}},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "1", "name": "add", "response": {"sum": 12345678901234567890123_f64}}},
                {"functionResponse": {"id": "2", "name": "add", "response": {"result": "rainy"}}},
                {"text": "and?"},
            ]},
        ])
    );
}

#[test]
fn results_that_are_no_objects_are_wrapped() {
    let two = Message::Tool {
        call_id: "1".to_owned(),
        content: vec![Part::text("a"), Part::text("b\"")],
    };
    for (message, expected) in [
        (result("1", "plain"), json!({"result": "plain"})),
        (result("1", ""), json!({"result": ""})),
        (result("1", "[1]"), json!({"result": [1]})),
        (result("1", "42"), json!({"result": "42"})),
        (result("1", r#"{"a":"#), json!({"result": "{\"a\":"})),
        (result("1", r#" {"a":1} "#), json!({"a": 1})),
        (two, json!({"result": "a\nb\""})),
    ] {
        let found =
            contents(vec![user("q"), calls(vec![call("1", "f", "{}", None)]), message], OLD);
        assert_eq!(found[2]["parts"][0]["functionResponse"]["response"], expected);
    }
    let unknown = request(vec![user("q"), result("9", "x")]);
    assert_eq!(refused(&unknown, NEW), "messages");
}

#[test]
fn arguments_that_are_no_object_are_kept_in_one() {
    let found = contents(vec![user("q"), calls(vec![call("1", "f", "[1", None)])], OLD);
    assert_eq!(found[1]["parts"][0]["functionCall"]["args"], json!({"arguments": "[1"}));
}

#[test]
fn an_id_that_comes_again_means_the_latest_call() {
    let messages = vec![
        user("q"),
        calls(vec![call("0", "f", "{}", Some("s"))]),
        result("0", "a"),
        calls(vec![call("0", "g", "{}", Some("s"))]),
        result("0", "b"),
    ];
    let found = contents(messages, NEW);
    assert_eq!(found[2]["parts"][0]["functionResponse"]["name"], "f");
    assert_eq!(found[4]["parts"][0]["functionResponse"]["name"], "g");
}

#[test]
fn media_in_results_go_where_the_model_takes_them() {
    let image = Part::Image {
        source: Source::Data { media_type: "image/png".to_owned(), data: "AA==".to_owned() },
        detail: None,
        cache_control: None,
    };
    let messages = || {
        let content = vec![Part::text("see"), image.clone()];
        vec![
            user("q"),
            calls(vec![call("1", "f", "{}", Some("s")), call("2", "g", "{}", None)]),
            Message::Tool { call_id: "1".to_owned(), content },
            result("2", "x"),
        ]
    };
    let inline = json!({"inlineData": {"mimeType": "image/png", "data": "AA=="}});
    let new = contents(messages(), NEW);
    assert_eq!(new[2]["parts"][0]["functionResponse"]["parts"], json!([inline]));
    assert_eq!(new[2]["parts"].as_array().unwrap().len(), 2);
    let old = contents(messages(), OLD);
    assert_eq!(old[2]["parts"][0]["functionResponse"].get("parts"), None);
    assert_eq!(old[2]["parts"][2], inline);
}

#[test]
fn what_a_user_adds_to_results_begins_no_turn() {
    let messages = vec![
        user("go"),
        calls(vec![call("a", "f", "{}", None)]),
        result("a", "1"),
        user("This is the picture."),
    ];
    let found = contents(messages, NEW);
    assert_eq!(found[1]["parts"][0]["thoughtSignature"], LOST);
    assert_eq!(found[2]["parts"].as_array().map(Vec::len), Some(2));
}

#[test]
fn only_the_first_call_of_each_step_of_the_current_turn_gets_the_stand_in_signature() {
    let messages = vec![
        user("old turn"),
        calls(vec![call("0", "f", "{}", None)]),
        result("0", "x"),
        assistant("done"),
        user("current turn"),
        calls(vec![call("1", "f", "{}", None), call("2", "f", "{}", None)]),
        result("1", "x"),
        result("2", "x"),
        calls(vec![call("3", "f", "{}", Some("real"))]),
        result("3", "x"),
        calls(vec![call("4", "f", "{}", Some(""))]),
        result("4", "x"),
    ];
    let signature = |found: &Value, content: usize, part: usize| {
        found[content]["parts"][part]
            .get("thoughtSignature")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let new = contents(messages.clone(), NEW);
    assert_eq!(signature(&new, 1, 0), None);
    assert_eq!(signature(&new, 5, 0).as_deref(), Some(LOST));
    assert_eq!(signature(&new, 5, 1), None);
    assert_eq!(signature(&new, 7, 0).as_deref(), Some("real"));
    assert_eq!(signature(&new, 9, 0).as_deref(), Some(LOST));
    let old = contents(messages, OLD);
    assert_eq!(signature(&old, 5, 0), None);
    assert_eq!(signature(&old, 7, 0).as_deref(), Some("real"));
}

#[test]
fn a_signature_of_the_text_goes_back_to_it() {
    let said = |content: Vec<Part>| {
        Message::Assistant(AssistantMessage {
            reasoning: vec![Reasoning { text: "hm".to_owned(), ..Reasoning::default() }],
            content,
            signature: Some("sig".to_owned()),
            ..AssistantMessage::default()
        })
    };
    let found = contents(vec![user("q"), said(vec![Part::text("a"), Part::text("b")])], NEW);
    assert_eq!(found[1]["parts"], json!([{"text": "a"}, {"text": "b", "thoughtSignature": "sig"}]));
    let empty = contents(vec![user("q"), said(vec![])], NEW);
    assert_eq!(empty[1]["parts"], json!([{"text": "", "thoughtSignature": "sig"}]));
}

#[test]
fn media_keep_their_type_or_have_it_guessed() {
    let url = |url: &str| Source::Url(url.to_owned());
    let image = |source: Source| Part::Image { source, detail: None, cache_control: None };
    let file = |source: Source, name: Option<&str>| Part::File {
        source,
        filename: name.map(str::to_owned),
        cache_control: None,
    };
    let data = |kind: &str| Source::Data { media_type: kind.to_owned(), data: "AA==".to_owned() };
    let at = |kind: &str, uri: &str| json!({"fileData": {"mimeType": kind, "fileUri": uri}});
    let inline = |kind: &str| json!({"inlineData": {"mimeType": kind, "data": "AA=="}});
    for (part, expected) in [
        (image(url("https://h/a.PNG?x=.gif")), at("image/png", "https://h/a.PNG?x=.gif")),
        (image(url("gs://b/a.jpg")), at("image/jpeg", "gs://b/a.jpg")),
        (image(url("https://youtu.be/abc")), at("video/mp4", "https://youtu.be/abc")),
        (
            image(url("https://generativelanguage.googleapis.com/v1beta/files/x")),
            json!({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}),
        ),
        (image(data("video/mp4")), inline("video/mp4")),
        (file(data("application/pdf"), None), inline("application/pdf")),
        (file(data("application/octet-stream"), Some("a.csv")), inline("text/csv")),
        (file(url("https://h/doc"), Some("doc.pdf")), at("application/pdf", "https://h/doc")),
        (
            file(Source::FileId("files/abc".to_owned()), None),
            json!({"fileData": {"fileUri": "https://g/v1beta/files/abc"}}),
        ),
        (Part::Audio { data: "AA==".to_owned(), format: "wav".to_owned() }, inline("audio/wav")),
        (Part::Audio { data: "AA==".to_owned(), format: "mp3".to_owned() }, inline("audio/mp3")),
    ] {
        let found = contents(vec![Message::User { content: vec![part] }], NEW);
        assert_eq!(found[0]["parts"][0], expected);
    }
    for part in [
        image(url("https://h/a")),
        image(url("https://host.png")),
        image(url("https://h/a.unknown")),
        file(Source::FileId("file-abc".to_owned()), None),
    ] {
        assert_eq!(refused(&request(vec![Message::User { content: vec![part] }]), NEW), "messages");
    }
}

#[test]
fn schemas_are_kept_or_cleaned_as_the_model_takes_them() {
    let schema = json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "additionalProperties": false});
    let mut with_tools = hello();
    with_tools.tools = vec![
        tool("f", Some(schema.clone())),
        tool("g", Some(json!({"type": "object", "properties": {}}))),
        tool("h", None),
    ];
    with_tools.response_format =
        ResponseFormat::JsonSchema { name: "n".to_owned(), schema: schema.clone(), strict: None };
    let new = body(&with_tools, "gemini-2.0-flash");
    assert_eq!(
        new["tools"],
        json!([{"functionDeclarations": [
            {"name": "f", "parametersJsonSchema": schema},
            {"name": "g", "parametersJsonSchema": {"type": "object", "properties": {}}},
            {"name": "h"},
        ]}])
    );
    assert_eq!(
        new["generationConfig"],
        json!({"responseMimeType": "application/json", "responseJsonSchema": schema})
    );
    let cleaned =
        json!({"type": "object", "properties": {"a": {"type": "string", "nullable": true}}});
    let old = body(&with_tools, "gemini-1.5-pro");
    assert_eq!(
        old["tools"],
        json!([{"functionDeclarations": [{"name": "f", "parameters": cleaned}, {"name": "g"}, {"name": "h"}]}])
    );
    assert_eq!(
        old["generationConfig"],
        json!({"responseMimeType": "application/json", "responseSchema": cleaned})
    );
    let json_mode = config(|request| request.response_format = ResponseFormat::JsonObject, NEW);
    assert_eq!(json_mode, json!({"responseMimeType": "application/json"}));
}

#[test]
fn tool_choices_are_modes() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (choice, strict, expected) in [
        (None, None, Value::Null),
        (None, Some(true), json!({"mode": "VALIDATED"})),
        (Some(ToolChoice::Auto), None, json!({"mode": "AUTO"})),
        (Some(ToolChoice::None), None, json!({"mode": "NONE"})),
        (Some(ToolChoice::Required), None, json!({"mode": "ANY"})),
        (
            Some(ToolChoice::Function("f".to_owned())),
            None,
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
        ),
        (
            Some(ToolChoice::Allowed { names: names(&["f", "g"]), required: true }),
            None,
            json!({"mode": "ANY", "allowedFunctionNames": ["f", "g"]}),
        ),
        (
            Some(ToolChoice::Allowed { names: names(&["g"]), required: false }),
            None,
            json!({"mode": "VALIDATED", "allowedFunctionNames": ["g"]}),
        ),
    ] {
        let mut request = hello();
        request.tools = vec![tool("f", None), tool("g", None)];
        request.tools[0].strict = strict;
        request.tool_choice = choice;
        assert_eq!(body(&request, OLD)["toolConfig"]["functionCallingConfig"], expected);
    }
    let mut request = hello();
    request.tool_choice = Some(ToolChoice::Required);
    assert_eq!(refused(&request, NEW), "tool_choice");
    request.tools = vec![tool("f", None), tool("g", None)];
    request.tool_choice = Some(ToolChoice::Function("x".to_owned()));
    assert_eq!(refused(&request, NEW), "tool_choice");
    // Without the mode, the model is shown what is allowed.
    request.tool_choice = Some(ToolChoice::Allowed { names: names(&["g"]), required: false });
    let old = body(&request, "gemini-2.0-flash");
    assert_eq!(old["tools"], json!([{"functionDeclarations": [{"name": "g"}]}]));
    assert_eq!(old.get("toolConfig"), None);
}

#[test]
fn web_search_is_a_tool_of_the_vendor() {
    let mut request = hello();
    request.web_search = Some(json!({"search_context_size": "low"}));
    assert_eq!(body(&request, OLD)["tools"], json!([{"googleSearch": {}}]));
    request.tools = vec![tool("f", None)];
    let both = body(&request, NEW);
    assert_eq!(
        both["tools"],
        json!([{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}])
    );
    assert_eq!(both["toolConfig"], json!({"includeServerSideToolInvocations": true}));
    request.web_search = Some(json!({"user_location": {"type": "approximate"}}));
    assert_eq!(refused(&request, NEW), "web_search_options");
}

#[test]
fn numbers_and_words_have_their_fields() {
    let found = config(
        |request| {
            request.max_tokens = Some(5000);
            request.temperature = Some(0.5);
            request.top_p = Some(0.9);
            request.top_k = Some(3);
            request.stop = vec!["a".to_owned(), String::new()];
            request.n = Some(2);
            request.seed = Some(7);
            request.presence_penalty = Some(0.25);
            request.frequency_penalty = Some(0.0);
            request.logprobs = Some(2);
            request.modalities = vec!["text".to_owned(), "image".to_owned()];
        },
        OLD,
    );
    assert_eq!(
        found,
        json!({
            "maxOutputTokens": 1000, "temperature": 0.5, "topP": 0.9, "topK": 3, "stopSequences": ["a"],
            "candidateCount": 2, "seed": 7, "presencePenalty": 0.25, "responseLogprobs": true, "logprobs": 2,
            "responseModalities": ["TEXT", "IMAGE"],
        })
    );
    let chosen_only = config(|request| request.logprobs = Some(0), OLD);
    assert_eq!(chosen_only, json!({"responseLogprobs": true}));
    assert_eq!(config(|request| request.n = Some(1), OLD), Value::Null);
}

#[test]
fn efforts_are_budgets_or_levels() {
    let budget = |tokens: i64| json!({"includeThoughts": true, "thinkingBudget": tokens});
    let level = |level: &str| json!({"includeThoughts": true, "thinkingLevel": level});
    for (model, effort, expected) in [
        (OLD, "none", json!({"thinkingBudget": 0})),
        (OLD, "minimal", budget(1024)),
        (OLD, "low", budget(1024)),
        (OLD, "medium", budget(8192)),
        (OLD, "high", budget(24_576)),
        (OLD, "max", budget(24_576)),
        ("gemini-2.5-pro", "max", budget(32_768)),
        (NEW, "none", json!({"thinkingLevel": "minimal"})),
        (NEW, "minimal", level("minimal")),
        (NEW, "medium", level("medium")),
        (NEW, "xhigh", level("high")),
        ("gemini-3-pro-preview", "medium", level("high")),
        ("gemini-3-pro-preview", "minimal", level("low")),
        ("gemini-9-ultra", "minimal", level("low")),
    ] {
        let found = config(|request| request.reasoning_effort = Some(effort.to_owned()), model);
        assert_eq!(found["thinkingConfig"], expected, "{model} {effort}");
    }
    let mut request = hello();
    request.reasoning_effort = Some("none".to_owned());
    assert_eq!(refused(&request, "gemini-2.5-pro"), "reasoning_effort");
    assert_eq!(refused(&request, "gemini-3-pro-preview"), "reasoning_effort");
    assert_eq!(body(&request, "gemini-2.0-flash").get("generationConfig"), None);
    request.reasoning_effort = Some("low".to_owned());
    assert_eq!(refused(&request, "gemini-2.0-flash"), "reasoning_effort");
}

#[test]
fn anthropics_thinking_is_understood() {
    for (model, thinking, expected) in [
        (
            OLD,
            json!({"type": "enabled", "budget_tokens": 2000}),
            json!({"includeThoughts": true, "thinkingBudget": 2000}),
        ),
        (
            OLD,
            json!({"type": "enabled", "budget_tokens": 900_000}),
            json!({"includeThoughts": true, "thinkingBudget": 24_576}),
        ),
        (OLD, json!({"type": "disabled"}), json!({"thinkingBudget": 0})),
        (OLD, json!({"type": "adaptive"}), json!({"includeThoughts": true, "thinkingBudget": -1})),
        (NEW, json!({"type": "adaptive"}), json!({"includeThoughts": true})),
        (
            NEW,
            json!({"type": "enabled", "budget_tokens": 2000}),
            json!({"includeThoughts": true, "thinkingLevel": "low"}),
        ),
    ] {
        let found = config(|request| request.thinking = Some(thinking.clone()), model);
        assert_eq!(found["thinkingConfig"], expected, "{model} {thinking}");
    }
}

#[test]
fn what_the_vendor_cannot_honour_names_its_field_or_is_dropped() {
    type Change = fn(&mut ChatRequest);
    let cases: [(&str, Change); 10] = [
        ("stop", |request| request.stop = (0..6).map(|number| number.to_string()).collect()),
        ("n", |request| {
            request.n = Some(2);
            request.stream = true;
        }),
        ("parallel_tool_calls", |request| {
            request.tools = vec![tool("f", None)];
            request.parallel_tool_calls = Some(false);
        }),
        ("service_tier", |request| request.service_tier = Some("scale".to_owned())),
        ("modalities", |request| request.modalities = vec!["text".to_owned(), "audio".to_owned()]),
        ("logit_bias", |request| {
            request.others.insert("logit_bias".to_owned(), json!({"1": 2}));
        }),
        ("verbosity", |request| {
            request.others.insert("verbosity".to_owned(), json!("low"));
        }),
        ("presence_penalty", |request| request.presence_penalty = Some(1.0)),
        ("frequency_penalty", |request| request.frequency_penalty = Some(-1.0)),
        ("reasoning_effort", |request| request.reasoning_effort = Some("none".to_owned())),
    ];
    for (param, change) in cases {
        let mut request = hello();
        change(&mut request);
        assert_eq!(refused(&request, "gemini-3.8-flash"), param);
        let kept = outgoing(&request, "gemini-3.8-flash", true).expect("it is dropped");
        assert!(String::from_utf8_lossy(&kept.body).contains("hello"), "{param}");
    }
}

#[test]
fn harmless_and_empty_fields_are_left_out_and_the_vendors_own_are_kept() {
    let mut request = hello();
    request.user = Some("u".to_owned());
    request.service_tier = Some("auto".to_owned());
    request.presence_penalty = Some(0.0);
    for (name, value) in [
        ("store", json!(true)),
        ("metadata", json!({"a": "b"})),
        ("logit_bias", json!({})),
        ("verbosity", Value::Null),
    ] {
        request.others.insert(name.to_owned(), value);
    }
    let settings = json!([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]);
    let plain = body(&request, "gemini-3.8-flash");
    assert_eq!(plain, json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}));
    request.others.insert("safety_settings".to_owned(), settings.clone());
    request.others.insert("cached_content".to_owned(), json!("cachedContents/x"));
    request.service_tier = Some("flex".to_owned());
    let own = body(&request, NEW);
    assert_eq!(own["safetySettings"], settings);
    assert_eq!(own["cachedContent"], "cachedContents/x");
    assert_eq!(own["serviceTier"], "flex");
}

/// A conversation in which each text is its own.
fn conversation() -> impl Strategy<Value = Vec<Message>> {
    prop::collection::vec((0..5_u8, 0..3_usize, any::<bool>()), 1..12).prop_map(|turns| {
        let mut messages = Vec::new();
        for (number, (kind, count, signed)) in turns.into_iter().enumerate() {
            let text = format!("<{number}>");
            match kind {
                0 => messages.push(system(&text)),
                1 | 2 => messages.push(user(&text)),
                3 => messages.push(assistant(&text)),
                _ => {
                    let ids: Vec<String> =
                        (0..=count).map(|at| format!("id{number}-{at}")).collect();
                    let signature = |at: usize| (signed && at == 0).then_some("sig");
                    let made = ids.iter().enumerate().map(|(at, id)| {
                        call(
                            id,
                            &format!("f{at}"),
                            &format!(r#"{{"a":"{text}{at}"}}"#),
                            signature(at),
                        )
                    });
                    messages.push(calls(made.collect()));
                    for id in ids.iter().rev() {
                        messages.push(result(id, &format!("[{id}")));
                    }
                }
            }
        }
        messages
    })
}

proptest! {
    #[test]
    fn conversations_keep_each_text_once_in_order_with_roles_that_alternate(
        messages in conversation(),
        new in any::<bool>(),
    ) {
        let body = body(&request(messages.clone()), if new { NEW } else { OLD });
        let contents = body["contents"].as_array().unwrap();
        let text = body.to_string();
        let mut roles = Vec::new();
        for content in contents {
            prop_assert!(!content["parts"].as_array().unwrap().is_empty());
            roles.push(content["role"].as_str().unwrap());
        }
        prop_assert_eq!(roles[0], "user");
        prop_assert!(roles.windows(2).all(|pair| pair[0] != pair[1]));
        let said: String = contents.iter().flat_map(|content| content["parts"].as_array().unwrap())
            .filter_map(|part| part["text"].as_str()).collect();
        let alone = messages.iter().all(|message| matches!(message, Message::System { .. }));
        let mut expected = String::new();
        for message in &messages {
            let content = match message {
                Message::System { content } if alone => content,
                Message::User { content } => content,
                Message::Assistant(said) => &said.content,
                Message::System { content } => {
                    let Part::Text { text: one, .. } = &content[0] else { unreachable!() };
                    prop_assert_eq!(text.matches(one.as_str()).count(), 1);
                    continue;
                }
                Message::Tool { .. } => continue,
            };
            for part in content {
                let Part::Text { text, .. } = part else { unreachable!() };
                expected.push_str(text);
            }
        }
        prop_assert_eq!(said.trim(), expected);
        // Each turn with calls is followed by exactly their results, in order, by id and name.
        let linked = |content: &Value, kind: &str| -> Vec<(Value, Value)> {
            content["parts"].as_array().unwrap().iter()
                .filter_map(|part| part.get(kind))
                .map(|call| (call["id"].clone(), call["name"].clone()))
                .collect()
        };
        for (at, content) in contents.iter().enumerate() {
            let made = linked(content, "functionCall");
            if !made.is_empty() {
                prop_assert_eq!(linked(&contents[at + 1], "functionResponse"), made);
            }
        }
    }
}
