//! Every field of a request counts, wherever it stands, but for those that are named.
#![recursion_limit = "512"]
#![expect(clippy::unwrap_used, reason = "in tests it is a failure")]

use llmux_cache::{Asker, CacheKey, Question, Scope};
use serde_json::{Value, json};

/// Members that say how an answer comes, not what it is.
const LEFT_OUT: &[&str] =
    &["/model", "/stream", "/stream_options", "/tags", "/cache", "/metadata/tags"];

/// All that OpenAI's chat completions take, and some that others take.
fn request() -> Value {
    json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
        "tags": ["a"], "cache": {"ttl": 5, "no-cache": true}, "metadata": {"tags": ["a"], "order": "7"},
        "messages": [
            {"role": "system", "content": "s", "name": "n"},
            {"role": "user", "content": [
                {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f", "filename": "x.pdf"}},
            ]},
            {"role": "assistant", "content": null, "refusal": "r", "reasoning_content": "h", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
        ],
        "audio": {"voice": "alloy", "format": "mp3"}, "frequency_penalty": 0.5, "function_call": "auto", "functions": [{"name": "f"}],
        "logit_bias": {"50256": -100}, "logprobs": true, "max_completion_tokens": 5, "max_tokens": 6, "modalities": ["text"],
        "n": 2, "parallel_tool_calls": false, "prediction": {"type": "content", "content": "p"}, "presence_penalty": 0.1,
        "prompt_cache_key": "k", "reasoning_effort": "low", "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "object"}}},
        "safety_identifier": "i", "seed": 9_007_199_254_740_993_u64, "service_tier": "flex", "stop": ["x"], "store": false, "temperature": 0.7,
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}}],
        "top_logprobs": 3, "top_p": 0.9, "user": "u", "verbosity": "low", "web_search_options": {"search_context_size": "low"},
        "top_k": 4, "thinking": {"type": "enabled", "budget_tokens": 1024}, "never_heard_of": {"deep": [{"er": 1}]},
        "prompt": "p", "suffix": "s", "echo": false, "best_of": 1, "input": ["i"], "dimensions": 8, "encoding_format": "float",
    })
}

fn key(body: &Value) -> CacheKey {
    let text = body.to_string();
    let question = Question {
        scope: Scope::Global,
        asker: Asker::default(),
        route: "/v1/chat/completions",
        model: "m",
        tags: &[],
        body: text.as_bytes(),
    };
    CacheKey::derive(&"llmux".into(), &question).unwrap()
}

/// The places of all values, by JSON pointers.
fn places(value: &Value, at: &str, places: &mut Vec<String>) {
    let mut inside = |name: &str, value: &Value| {
        let place = format!("{at}/{name}");
        self::places(value, &place, places);
        places.push(place);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| inside(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| inside(&index.to_string(), value));
        }
        _ => {}
    }
}

fn is_left_out(place: &str) -> bool {
    LEFT_OUT.iter().any(|out| place == *out || place.starts_with(&format!("{out}/")))
}

#[test]
fn each_field_counts_by_its_value_and_by_being_there() {
    let whole = request();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    assert!(all.len() > 100);
    for place in &all {
        let mut changed = whole.clone();
        *changed.pointer_mut(place).unwrap() = json!("something else");
        let mut without = whole.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        match without.pointer_mut(parent).unwrap() {
            Value::Object(members) => drop(members.remove(name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => {}
        }
        // A text there goes to the vendor, as OpenAI's metadata do.
        let is_same = is_left_out(place) && place != "/metadata/tags";
        assert_eq!(key(&changed) == key(&whole), is_same, "{place} changed");
        assert_eq!(key(&without) == key(&whole), is_left_out(place), "{place} taken out");
    }
}

#[test]
fn neither_spelling_nor_order_counts() {
    let whole = request();
    let pretty = serde_json::to_string_pretty(&whole).unwrap();
    let members = whole.as_object().unwrap().iter().rev();
    let turned: Vec<String> =
        members.map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    let turned = format!("{{{}}}", turned.join(","));
    for body in [pretty, turned] {
        let question = Question {
            scope: Scope::Global,
            asker: Asker::default(),
            route: "/v1/chat/completions",
            model: "m",
            tags: &[],
            body: body.as_bytes(),
        };
        assert_eq!(CacheKey::derive(&"llmux".into(), &question), Some(key(&whole)));
    }
}
