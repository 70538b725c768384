//! Every recorded request in OpenAI's dialect, said to Anthropic and to Gemini: nothing may be lost or doubled, and what
//! the vendors demand of a conversation must hold.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use llmux_providers::anthropic::Anthropic;
use llmux_providers::gemini::Gemini;
use llmux_providers::openai::read_request;
use llmux_providers::{ChatCodec, Encoding};
use serde_json::{Value, json};

const MODELS: [(&str, &str); 4] = [
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-8"),
    ("gemini", "gemini-2.5-flash"),
    ("gemini", "gemini-3-pro"),
];

/// What a conversation consists of, whatever its dialect.
#[derive(Debug, PartialEq)]
enum Item {
    Text { role: &'static str, text: String },
    Call { id: String, name: String, arguments: Value },
    Result { id: String, result: Value },
}

/// A conversation taken apart; media stand by themselves because vendors move them.
#[derive(Debug, Default, PartialEq)]
struct Conversation {
    system: Vec<String>,
    items: Vec<Item>,
    media: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Returns the recorded requests with a conversation, by id.
fn requests() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for vendor in std::fs::read_dir(folder()).expect("the folder") {
        let vendor = vendor.expect("an entry").path();
        if !vendor.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(vendor).expect("a folder") {
            let text = std::fs::read_to_string(file.expect("an entry").path()).expect("a file");
            let mut value: Value = serde_json::from_str(&text).expect("JSON");
            let body = match value["api"].as_str().expect("an api") {
                "chat" => value["request"]["body"].take(),
                "messages" | "generateContent" => value["client_request"]["body"].take(),
                _ => continue,
            };
            if body["messages"].is_array() {
                found.push((value["id"].as_str().expect("an id").to_owned(), body));
            }
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Reads which requests cannot be said to which vendor, and why: `id vendor: reason`, where the vendor may be `all`.
fn exceptions() -> HashSet<(String, String)> {
    let text = std::fs::read_to_string(folder().join("requests-exceptions.txt")).expect("a file");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let key = |line: &str| {
        let (key, reason) = line.split_once(": ").expect("a reason");
        assert!(!reason.trim().is_empty(), "{line}");
        let (id, vendor) = key.split_once(' ').expect("a vendor");
        (id.to_owned(), vendor.to_owned())
    };
    lines.map(key).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Parts of a message's content: a text is one part.
fn client_parts(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        other => list(other).to_vec(),
    }
}

fn client_medium(part: &Value) -> Option<String> {
    let source = |url: &Value| {
        let url = url.as_str().expect("a URL");
        match url.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
            Some((_, data)) => data.to_owned(),
            None => url.to_owned(),
        }
    };
    match part["type"].as_str() {
        Some("image_url") => Some(source(&part["image_url"]["url"])),
        Some("file") => {
            let file = &part["file"];
            Some(source(if file["file_data"].is_null() {
                &file["file_id"]
            } else {
                &file["file_data"]
            }))
        }
        Some("input_audio") => Some(text_of(&part["input_audio"]["data"])),
        _ => None,
    }
}

/// Tells whether a text has something that is seen.
fn says(text: &str) -> bool {
    !text.trim().is_empty()
}

fn is_not_empty(text: &str) -> bool {
    !text.is_empty()
}

/// Takes the client's request apart, without the code under test; `says` tells which texts matter.
fn asked(body: &Value, says: fn(&str) -> bool) -> Conversation {
    let mut conversation = Conversation::default();
    let mut calls: Vec<String> = Vec::new();
    // Results are moved to the front of their turn, in the order of the calls.
    let mut results: Vec<Item> = Vec::new();
    let mut after: Vec<Item> = Vec::new();
    let flush = |calls: &[String],
                 results: &mut Vec<Item>,
                 after: &mut Vec<Item>,
                 items: &mut Vec<Item>| {
        results.sort_by_key(|item| match item {
            Item::Result { id, .. } => calls.iter().rposition(|call| call == id),
            _ => None,
        });
        items.append(results);
        items.append(after);
    };
    for message in list(&body["messages"]) {
        let parts = client_parts(&message["content"]);
        conversation.media.extend(parts.iter().filter_map(client_medium));
        let refusal = message["refusal"].as_str().map(str::to_owned);
        let texts = parts.iter().filter_map(|part| match part["type"].as_str() {
            Some("text") => Some(text_of(&part["text"])),
            Some("refusal") => Some(text_of(&part["refusal"])),
            _ => None,
        });
        let texts: Vec<String> = texts.chain(refusal).collect();
        match message["role"].as_str().expect("a role") {
            "system" | "developer" => {
                conversation.system.extend(texts.into_iter().filter(|text| says(text)));
            }
            "tool" => results.push(Item::Result {
                id: text_of(&message["tool_call_id"]),
                result: json!(texts.join("\n")),
            }),
            "user" => {
                let texts = texts.into_iter().filter(|text| says(text));
                after.extend(texts.map(|text| Item::Text { role: "user", text }));
            }
            _ => {
                flush(&calls, &mut results, &mut after, &mut conversation.items);
                let items = &mut conversation.items;
                let texts = texts.into_iter().filter(|text| says(text));
                items.extend(texts.map(|text| Item::Text { role: "assistant", text }));
                for call in list(&message["tool_calls"]) {
                    let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                    let arguments = if says(arguments) { arguments } else { "{}" };
                    calls.push(text_of(&call["id"]));
                    items.push(Item::Call {
                        id: text_of(&call["id"]),
                        name: text_of(&call["function"]["name"]),
                        arguments: serde_json::from_str(arguments)
                            .unwrap_or_else(|_| json!(arguments)),
                    });
                }
            }
        }
    }
    flush(&calls, &mut results, &mut after, &mut conversation.items);
    if conversation.items.is_empty() && conversation.media.is_empty() {
        // Instructions alone are what there is to answer.
        let texts = std::mem::take(&mut conversation.system);
        conversation.items =
            texts.into_iter().map(|text| Item::Text { role: "user", text }).collect();
    }
    conversation
}

/// Complains where `holds` is false.
macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// Checks that two things are the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}"))
}

/// Checks what both vendors demand of turns.
fn alternate(turns: &[Value], roles: [&str; 2], parts: &str) -> Result<(), String> {
    demand!(!turns.is_empty(), "no turns");
    for (place, turn) in turns.iter().enumerate() {
        same("role", &turn["role"], &json!(roles[place % 2]))?;
        demand!(!list(&turn[parts]).is_empty(), "a turn without content");
    }
    Ok(())
}

fn anthropic(asked_body: &Value, body: &Value, model: &str) -> Result<(), String> {
    let turns = list(&body["messages"]);
    alternate(turns, ["user", "assistant"], "content")?;
    let mut found = Conversation::default();
    for block in list(&body["system"]) {
        found.system.push(text_of(&block["text"]));
    }
    for (place, turn) in turns.iter().enumerate() {
        let role = if place % 2 == 0 { "user" } else { "assistant" };
        for block in list(&turn["content"]) {
            anthropic_block(role, block, &mut found)?;
        }
        // Each call is answered in the next turn, before anything else.
        let ids = |turn: &Value, kind: &str, id: &str| {
            let blocks = list(&turn["content"]).iter().filter(|block| block["type"] == kind);
            blocks.map(|block| text_of(&block[id])).collect::<Vec<_>>()
        };
        let calls = ids(turn, "tool_use", "id");
        if let Some(next) = turns.get(place + 1)
            && !calls.is_empty()
        {
            let results = ids(next, "tool_result", "tool_use_id");
            let (mut one, mut other) = (calls, results.clone());
            one.sort();
            other.sort();
            same("results", &other, &one)?;
            let first = &list(&next["content"])[..results.len()];
            demand!(first.iter().all(|block| block["type"] == "tool_result"), "results come late");
        }
    }
    let mut expected = asked(asked_body, says);
    if asked_body["response_format"]["type"] == "json_object" {
        demand!(found.system.pop().is_some(), "JSON is not asked for");
    }
    if expected.items.first().is_none_or(|item| !matches!(item, Item::Text { role: "user", .. }))
        && asked_body["messages"][0]["role"] == "assistant"
    {
        // A conversation must begin with the user.
        found.items.remove(0);
    }
    if let Some(Item::Text { role: "assistant", text }) = expected.items.last_mut() {
        text.truncate(text.trim_end().len());
    }
    rename(&mut expected, &found)?;
    same("conversation", &by_call(found), &by_call(expected))?;

    let limit = body["max_tokens"].as_u64().unwrap_or(0);
    demand!(limit > 0, "no max_tokens");
    same("model", &body["model"], &json!(model))?;
    if let Some(budget) = body["thinking"]["budget_tokens"].as_u64() {
        demand!((1024..limit).contains(&budget), "a budget of {budget} in {limit}");
    }
    let sampling = ["temperature", "top_p"].iter().filter(|name| !body[**name].is_null()).count();
    demand!(sampling <= usize::from(model != "claude-opus-4-8"), "refused sampling");
    demand!(body["temperature"].as_f64().is_none_or(|heat| heat <= 1.0), "too hot");
    let tools: Vec<&Value> =
        list(&body["tools"]).iter().filter(|tool| tool["type"] != "web_search_20250305").collect();
    let asked_tools = list(&asked_body["tools"]);
    if !asked_tools.is_empty() {
        same("number of tools", &tools.len(), &asked_tools.len())?;
    }
    for (tool, asked) in tools.iter().zip(asked_tools) {
        let asked = &asked["function"];
        same("tool", &tool["name"], &asked["name"])?;
        same("description", &tool["description"], &asked["description"])?;
        let mut schema = asked["parameters"].clone();
        if schema.is_null() {
            schema = json!({"properties": {}});
        }
        schema["type"] = json!("object");
        same("schema", &tool["input_schema"], &schema)?;
    }
    for tool in &tools {
        same("type of the schema", &tool["input_schema"]["type"], &json!("object"))?;
    }
    let choice = &body["tool_choice"];
    if choice["type"] == "tool" {
        demand!(tools.iter().any(|tool| tool["name"] == choice["name"]), "an unknown choice");
    }
    demand!(choice.is_null() || !list(&body["tools"]).is_empty(), "a choice among no tools");
    demand!(
        body["thinking"].is_null() || !matches!(choice["type"].as_str(), Some("tool" | "any")),
        "a forced call while thinking"
    );
    Ok(())
}

fn anthropic_block(
    role: &'static str,
    block: &Value,
    found: &mut Conversation,
) -> Result<(), String> {
    let id_of = |value: &Value| {
        let id = text_of(value);
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !id.is_empty() && id.bytes().all(known) { Ok(id) } else { Err(format!("the id {id:?}")) }
    };
    match block["type"].as_str().expect("a type") {
        "text" => {
            let text = text_of(&block["text"]);
            demand!(says(&text), "an empty text");
            found.items.push(Item::Text { role, text });
        }
        "image" | "document" => found.media.push(anthropic_source(&block["source"])),
        "tool_use" => {
            demand!(role == "assistant" && block["input"].is_object(), "a wrong call");
            found.items.push(Item::Call {
                id: id_of(&block["id"])?,
                name: text_of(&block["name"]),
                arguments: block["input"].clone(),
            });
        }
        "tool_result" => {
            demand!(role == "user", "a result of the assistant");
            let mut texts = Vec::new();
            for part in list(&block["content"]) {
                if part["type"] == "text" {
                    demand!(says(&text_of(&part["text"])), "an empty text in a result");
                    texts.push(text_of(&part["text"]));
                } else {
                    found.media.push(anthropic_source(&part["source"]));
                }
            }
            let result = json!(texts.join("\n"));
            found.items.push(Item::Result { id: id_of(&block["tool_use_id"])?, result });
        }
        "thinking" => demand!(block["signature"].is_string(), "unsigned thinking"),
        "redacted_thinking" => {}
        other => return Err(format!("a block of type {other}")),
    }
    Ok(())
}

/// Gives calls and results the ids that the codec found for those that Anthropic does not take.
fn rename(expected: &mut Conversation, found: &Conversation) -> Result<(), String> {
    let calls = |items: &[Item]| {
        let ids = items.iter().filter_map(|item| match item {
            Item::Call { id, .. } => Some(id.clone()),
            _ => None,
        });
        ids.collect::<Vec<_>>()
    };
    let (from, to) = (calls(&expected.items), calls(&found.items));
    same("number of calls", &to.len(), &from.len())?;
    let sayable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    for item in &mut expected.items {
        if let Item::Call { id, .. } | Item::Result { id, .. } = item
            && !id.bytes().all(sayable)
        {
            let place = from.iter().position(|from| from == id).ok_or("a result of no call")?;
            id.clone_from(&to[place]);
        }
    }
    let distinct = |ids: &[String]| ids.iter().collect::<HashSet<_>>().len();
    same("different ids", &distinct(&to), &distinct(&from))
}

/// Puts neighbouring results in the order of their ids: Anthropic lets them come in any.
fn by_call(mut conversation: Conversation) -> Conversation {
    for run in conversation.items.chunk_by_mut(|one, other| {
        matches!((one, other), (Item::Result { .. }, Item::Result { .. }))
    }) {
        run.sort_by(|one, other| match (one, other) {
            (Item::Result { id: one, .. }, Item::Result { id: other, .. }) => one.cmp(other),
            _ => std::cmp::Ordering::Equal,
        });
    }
    conversation
}

fn anthropic_source(source: &Value) -> String {
    let name = match source["type"].as_str().expect("a type") {
        "url" => "url",
        "file" => "file_id",
        _ => "data",
    };
    text_of(&source[name])
}

fn gemini(asked_body: &Value, body: &Value, model: &str) -> Result<(), String> {
    let turns = list(&body["contents"]);
    alternate(turns, ["user", "model"], "parts")?;
    let mut found = Conversation::default();
    for part in list(&body["systemInstruction"]["parts"]) {
        found.system.push(text_of(&part["text"]));
    }
    let of_kind = |turn: &Value, kind: &str| {
        let parts = list(&turn["parts"]).iter().filter(|part| part[kind].is_object());
        parts.map(|part| part[kind].clone()).collect::<Vec<_>>()
    };
    let said =
        |turn: &&Value| of_kind(turn, "functionResponse").is_empty() && turn["role"] == "user";
    let current = turns.iter().rposition(|turn| said(&turn)).unwrap_or(0);
    for (place, turn) in turns.iter().enumerate() {
        let role = if place % 2 == 0 { "user" } else { "assistant" };
        for part in list(&turn["parts"]) {
            gemini_part(role, part, &mut found)?;
        }
        let calls = of_kind(turn, "functionCall");
        if calls.is_empty() {
            continue;
        }
        if model == "gemini-3-pro" && place > current {
            let first = list(&turn["parts"]).iter().find(|part| part["functionCall"].is_object());
            demand!(first.is_some_and(|part| part["thoughtSignature"].is_string()), "no signature");
        }
        if let Some(next) = turns.get(place + 1) {
            let key = |value: &Value| (value["id"].clone(), value["name"].clone());
            let results: Vec<_> = of_kind(next, "functionResponse").iter().map(key).collect();
            same("responses", &results, &calls.iter().map(key).collect())?;
        }
    }
    let mut expected = asked(asked_body, is_not_empty);
    for item in &mut expected.items {
        if let Item::Result { result, .. } = item {
            let parsed = serde_json::from_str(result.as_str().expect("a text"));
            *result = match parsed {
                Ok(object @ Value::Object(_)) => object,
                Ok(array @ Value::Array(_)) => json!({ "result": array }),
                _ => json!({ "result": result }),
            };
        }
    }
    if asked_body["messages"][0]["role"] == "assistant" {
        found.items.remove(0);
    }
    same("conversation", &found, &expected)?;

    let mut declared = Vec::new();
    for entry in list(&body["tools"]) {
        declared.extend(list(&entry["functionDeclarations"]));
    }
    let asked_tools = list(&asked_body["tools"]);
    same("number of tools", &declared.len(), &asked_tools.len())?;
    for (tool, asked) in declared.iter().zip(asked_tools) {
        let asked = &asked["function"];
        same("tool", &tool["name"], &asked["name"])?;
        let described = asked["description"].as_str().filter(|text| !text.is_empty());
        same("description", &tool["description"].as_str(), &described)?;
        same("schema", &tool["parametersJsonSchema"], &asked["parameters"])?;
    }
    let names = &body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"];
    for name in list(names) {
        demand!(declared.iter().any(|tool| tool["name"] == *name), "an unknown function");
    }
    let thinking = &body["generationConfig"]["thinkingConfig"];
    demand!(
        thinking["thinkingBudget"].is_null() || thinking["thinkingLevel"].is_null(),
        "budget and level"
    );
    Ok(())
}

fn gemini_part(role: &'static str, part: &Value, found: &mut Conversation) -> Result<(), String> {
    if let Some(call) = part.get("functionCall") {
        demand!(role == "assistant" && call["args"].is_object(), "a wrong call");
        found.items.push(Item::Call {
            id: text_of(&call["id"]),
            name: text_of(&call["name"]),
            arguments: call["args"].clone(),
        });
    } else if let Some(response) = part.get("functionResponse") {
        demand!(role == "user" && response["response"].is_object(), "a wrong response");
        found.items.push(Item::Result {
            id: text_of(&response["id"]),
            result: response["response"].clone(),
        });
        for part in list(&response["parts"]) {
            gemini_part(role, part, found)?;
        }
    } else if let Some(blob) = part.get("inlineData") {
        demand!(text_of(&blob["mimeType"]).contains('/'), "no type of media");
        found.media.push(text_of(&blob["data"]));
    } else if let Some(file) = part.get("fileData") {
        found.media.push(text_of(&file["fileUri"]));
    } else {
        let text = text_of(&part["text"]);
        demand!(!text.is_empty() || part["thoughtSignature"].is_string(), "an empty text");
        found.items.push(Item::Text { role, text });
    }
    Ok(())
}

/// Says a request to a vendor, and checks what comes out.
fn check(asked: &Value, vendor: &str, model: &str) -> Result<(), String> {
    let request = read_request(asked.to_string().as_bytes());
    let request = request.map_err(|invalid| format!("refused: {invalid:?}"))?;
    let base_url = "https://vendor.example";
    let encoding = Encoding { base_url, model, drop_params: true, max_output_tokens: None };
    let codec: &dyn ChatCodec = if vendor == "anthropic" { &Anthropic } else { &Gemini };
    let outgoing =
        codec.encode(&request, &encoding).map_err(|error| format!("refused: {error}"))?;
    let body: Value = serde_json::from_slice(&outgoing.body).expect("JSON");
    if vendor == "anthropic" { anthropic(asked, &body, model) } else { gemini(asked, &body, model) }
}

#[test]
fn recorded_requests_keep_their_meaning_with_other_vendors() {
    let requests = requests();
    let exceptions = exceptions();
    let mut unused = exceptions.clone();
    let (mut passed, mut total, mut failures) = (0, 0, Vec::new());
    for (id, asked) in &requests {
        for (vendor, model) in MODELS {
            total += 1;
            let keys = [(id.clone(), vendor.to_owned()), (id.clone(), "all".to_owned())];
            let excepted = keys.iter().any(|key| exceptions.contains(key));
            for key in &keys {
                unused.remove(key);
            }
            match (check(asked, vendor, model), excepted) {
                (Ok(()), false) => passed += 1,
                (Err(_), true) => {}
                (Ok(()), true) => {
                    failures.push(format!("{id} {model}: passes; no exception is needed"))
                }
                (Err(fault), false) => {
                    let fault: String = fault.chars().take(600).collect();
                    failures.push(format!("{id} {model}: {fault}"));
                }
            }
        }
    }
    report(passed, total);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(unused.is_empty(), "exceptions without a recording: {unused:?}");
    assert!(requests.len() >= 280, "recordings are missing");
}

/// The only way for a test to speak: a failed write is nothing to fail for.
fn report(passed: usize, total: usize) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "requests: {passed} / {total}");
}
