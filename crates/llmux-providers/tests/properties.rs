//! Properties of the looks and decoders, over generated bodies and streams.

use bytes::{Bytes, BytesMut};
use llmux_providers::openai::{Rejection, Relay, Reply};
use llmux_providers::sse::{EventTooLong, Framer};
use llmux_providers::{ClientStream as _, Endpoint, JsonRequest, MultipartRequest, RequestEdits};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A JSON value of limited depth, with texts that need escapes.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\\u{e9}\u{2028}\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"]{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The fields that are counts, with and without sense.
fn counts() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop::sample::select(&COUNTS[..]).prop_map(str::to_owned);
    let count = prop_oneof![value(), any::<u64>().prop_map(Value::from), Just(json!(1.5))];
    prop::collection::btree_map(name, count, 0..4).prop_map(|counts| counts.into_iter().collect())
}

const COUNTS: [&str; 4] = ["max_tokens", "max_completion_tokens", "max_output_tokens", "n"];

/// A request body: fields that the gateway acts on among others, in any order (by name: serde sorts), and with or
/// without white space.
fn body() -> impl Strategy<Value = (Value, Vec<u8>)> {
    let options = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"include_usage": false})),
        Just(json!({"include_usage": true, "other": 1})),
        Just(json!({"other": [1, 2]})),
    ];
    let tags = prop_oneof![
        Just(Value::Null),
        prop::collection::vec("[a-z\"\\\\\u{e9}]{1,3}", 0..5).prop_map(Value::from),
    ];
    let metadata = prop_oneof![
        Just(json!({"tags": ["a", "b\"\u{e9}", "a"], "user": "u"})),
        Just(json!({"tags": ["a"], "user": "u"})),
        Just(json!({"tags": ["a"]})),
        Just(json!({"tags": "text"})),
        Just(json!({})),
        Just(Value::Null),
    ];
    (
        prop::option::of("[a-z\"/\\\\]{1,8}".prop_map(Value::from)),
        prop::option::of(any::<bool>().prop_map(Value::from)),
        prop::option::of(options),
        prop::option::of(tags),
        prop::option::of(value()),
        prop::option::of(metadata),
        counts(),
        prop::collection::btree_map("[a-zA-Z_]{1,3}", value(), 0..5),
        any::<bool>(),
    )
        .prop_map(|(model, stream, options, tags, cache, metadata, counts, others, pretty)| {
            let mut members: Map<String, Value> = others.into_iter().collect();
            members.extend(counts);
            let known = [
                ("model", model),
                ("stream", stream),
                ("stream_options", options),
                ("tags", tags),
                ("cache", cache),
                ("metadata", metadata),
            ];
            for (name, value) in known {
                if let Some(value) = value {
                    members.insert(name.to_owned(), value);
                }
            }
            let value = Value::Object(members);
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            (value, text.into_bytes())
        })
}

/// What the edits mean, said without positions.
fn expected(mut body: Value, model: &str, ask_usage: bool) -> Value {
    let members = body.as_object_mut().expect("an object");
    members.insert("model".into(), json!(model));
    if ask_usage && members.get("stream") == Some(&json!(true)) {
        let options = members.entry("stream_options").or_insert(Value::Null);
        if options.is_null() {
            *options = json!({});
        }
        options["include_usage"] = json!(true);
    }
    for name in ["tags", "cache"] {
        members.remove(name);
    }
    if let Some(metadata) = members.get_mut("metadata").and_then(Value::as_object_mut)
        && metadata.get("tags").is_some_and(Value::is_array)
    {
        metadata.remove("tags");
    }
    body
}

/// The strings of `list`, if it is one, that are not in `tags` yet.
fn add_tags(tags: &mut Vec<String>, list: &Value) {
    for tag in list.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
}

fn frames(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    #[derive(Debug)]
    struct Never;
    impl From<EventTooLong> for Never {
        fn from(_: EventTooLong) -> Self {
            Self
        }
    }
    let mut framer = Framer::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let taken = framer.feed::<Never>(piece, |frame| {
            seen.push(frame.raw.to_vec());
            Ok(())
        });
        taken.expect("short events");
    }
    let rest = framer.finish::<Never>(|frame| {
        seen.push(frame.raw.to_vec());
        Ok(())
    });
    rest.expect("short events");
    seen
}

fn relayed(endpoint: Endpoint, pieces: &[&[u8]]) -> (Vec<u8>, String) {
    let mut relay = Relay::new(endpoint, "asked", true);
    let mut out = BytesMut::new();
    for piece in pieces {
        if let Err(failure) = relay.feed(piece, &mut out) {
            return (out.to_vec(), failure.to_string());
        }
    }
    let result = relay.finish(&mut out);
    (out.to_vec(), format!("{result:?}"))
}

/// Text that looks like events, with all kinds of line ends.
fn stream() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("\n\n".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("data: [DONE]".to_owned()),
        Just(": comment".to_owned()),
        Just("event: error".to_owned()),
        Just(
            "data:{\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"\u{e9}\"}}]}".to_owned()
        ),
        Just("data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"total_tokens\":1}}".to_owned()),
        Just("data: {\"choices\":[{\"finish_reason\":\"stop\"}]}".to_owned()),
        "[a-z:{}\" ]{0,5}",
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

/// A count in any spelling.
fn count(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let exact = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    exact.or_else(|| number.filter(|&number| number >= 0.0).map(|number| number.ceil() as u64))
}

proptest! {
    #[test]
    fn edits_mean_what_they_say_and_touch_nothing_else(
        (body, text) in body(), model in "[a-z\"]{1,6}", ask_usage in any::<bool>(),
    ) {
        let request = JsonRequest::look(Bytes::from(text.clone()), Endpoint::Completions).expect("valid");
        let edited = request.edited(&RequestEdits { model: &model, ask_usage });
        let parsed: Value = serde_json::from_slice(&edited).expect("still JSON");
        let wanted = expected(body.clone(), &model, ask_usage);
        prop_assert_eq!(&parsed, &wanted);
        if wanted == body {
            prop_assert_eq!(edited, text);
        }
    }

    #[test]
    fn facts_are_what_a_whole_parse_finds((body, text) in body()) {
        let bytes = text.len() as u64;
        let request = JsonRequest::look(Bytes::from(text), Endpoint::Completions).expect("valid");
        let mut tags = Vec::new();
        add_tags(&mut tags, &body["tags"]);
        add_tags(&mut tags, &body["metadata"]["tags"]);
        prop_assert_eq!(request.tags(), tags);
        let most = COUNTS[..3].iter().filter_map(|name| count(&body[name])).max();
        prop_assert_eq!(request.max_output_tokens(), most);
        let choices = count(&body["n"]).filter(|&n| n > 0).unwrap_or(1);
        prop_assert_eq!(request.choices(), choices);
        prop_assert_eq!(request.estimated_input_tokens(), bytes.div_ceil(4));
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        for endpoint in Endpoint::ALL {
            let _ = JsonRequest::look(bytes.clone(), endpoint);
            let _ = Reply::look(bytes.clone(), endpoint);
            let _ = relayed(endpoint, &[&bytes]);
        }
        let _ = MultipartRequest::look(bytes.clone(), "multipart/form-data; boundary=a");
        let _ = Rejection::from_reply(400, bytes.clone());
    }

    #[test]
    fn mutated_multipart_is_looked_at_without_a_panic(cut in 0_usize..140, byte in any::<u8>()) {
        let mut body = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--\r\n".to_vec();
        let at = cut.min(body.len() - 1);
        body[at] = byte;
        if let Ok(request) = MultipartRequest::look(Bytes::from(body.clone()), "multipart/form-data; boundary=b") {
            let _ = request.edited("m");
        }
        body.truncate(at);
        let _ = MultipartRequest::look(Bytes::from(body), "multipart/form-data; boundary=b");
    }

    #[test]
    fn frames_are_the_streams_bytes_in_order(text in stream(), at in any::<prop::sample::Index>()) {
        let bytes = text.as_bytes();
        let at = at.index(bytes.len() + 1);
        prop_assert_eq!(frames(&[bytes]).concat(), bytes);
        prop_assert_eq!(frames(&[&bytes[..at], &bytes[at..]]).concat(), bytes);
    }

    #[test]
    fn a_relay_gives_the_same_wherever_the_bytes_are_cut(text in stream(), at in any::<prop::sample::Index>()) {
        let bytes = text.as_bytes();
        let at = at.index(bytes.len() + 1);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Responses, Endpoint::AudioTranscriptions] {
            let whole = relayed(endpoint, &[bytes]);
            prop_assert_eq!(relayed(endpoint, &[&bytes[..at], &bytes[at..]]), whole.clone());
            prop_assert_eq!(relayed(endpoint, &single), whole);
        }
    }
}
