//! The recorded answers, and a fold of events that shares nothing with the codec's own.

use std::path::Path;

use llmux_types::chat::{ChatEvent, ChatResponse, Choice, Part};
use serde_json::Value;

/// One recorded call.
pub(crate) struct Fixture {
    pub(crate) id: String,
    pub(crate) api: String,
    pub(crate) stream: bool,
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) expect: Value,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Reads all recordings, sorted by name.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut found = Vec::new();
    for vendor in ["gemini", "vertex"] {
        for entry in std::fs::read_dir(folder().join(vendor)).expect("the folder") {
            let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
            let mut value: Value = serde_json::from_str(&text).expect("JSON");
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            // Others may add recordings of other dialects to these folders.
            let api = text(&value["api"]);
            if api != "generateContent" && api != "embeddings" {
                continue;
            }
            found.push(Fixture {
                id: text(&value["id"]),
                api,
                stream: value["stream"].as_bool().expect("a bool"),
                status: u16::try_from(value["response"]["status"].as_u64().expect("a number"))
                    .expect("a status"),
                body: text(&value["response"]["body"]),
                expect: value["expect"].take(),
            });
        }
    }
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found
}

/// Reads the ids of recordings that the codec reads otherwise, with a reason after each.
pub(crate) fn exceptions() -> Vec<String> {
    let path = folder().join("gemini-exceptions.txt");
    let text = std::fs::read_to_string(path).expect("the exceptions");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split(':').next().expect("an id").trim().to_owned()).collect()
}

/// Joins the texts.
pub(crate) fn text(content: &[Part]) -> String {
    let texts = content.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// What an event does to its answer.
type Change = Box<dyn FnOnce(&mut Choice)>;

/// Puts events together, and checks on the way that they come in an order that clients can live with.
pub(crate) fn fold(events: Vec<ChatEvent>) -> ChatResponse {
    let mut response = ChatResponse::default();
    let mut finished = Vec::new();
    let mut reasoning = String::new();
    assert!(matches!(events.first(), Some(ChatEvent::Start { .. })), "no start");
    for event in events {
        let (choice, apply): (u64, Change) = match event {
            ChatEvent::Start { id } => {
                response.id = id;
                continue;
            }
            ChatEvent::Usage(usage) => {
                response.usage = Some(usage);
                continue;
            }
            ChatEvent::Text { choice, text } => (
                choice,
                Box::new(move |choice| match choice.message.content.last_mut() {
                    Some(Part::Text { text: last, .. }) => last.push_str(&text),
                    _ => choice.message.content.push(Part::text(text)),
                }),
            ),
            ChatEvent::Reasoning { text, .. } => {
                reasoning.push_str(&text);
                continue;
            }
            ChatEvent::ReasoningEnd { choice, block } => {
                assert_eq!(
                    std::mem::take(&mut reasoning),
                    block.text,
                    "the block repeats its text"
                );
                (choice, Box::new(move |choice| choice.message.reasoning.push(block)))
            }
            ChatEvent::ToolCall { choice, index, call } => (
                choice,
                Box::new(move |choice| {
                    assert_eq!(index, choice.message.tool_calls.len() as u64, "calls are counted");
                    choice.message.tool_calls.push(call);
                }),
            ),
            ChatEvent::Image { choice, source } => (
                choice,
                Box::new(move |choice| {
                    let image = Part::Image { source, detail: None, cache_control: None };
                    choice.message.content.push(image);
                }),
            ),
            ChatEvent::Annotations { choice, annotations } => {
                (choice, Box::new(move |choice| choice.message.annotations = annotations))
            }
            ChatEvent::Signature { choice, signature } => {
                (choice, Box::new(move |choice| choice.message.signature = Some(signature)))
            }
            ChatEvent::Logprobs { choice, logprobs } => {
                (choice, Box::new(move |choice| choice.logprobs = Some(logprobs)))
            }
            ChatEvent::Finish { choice, reason } => {
                assert!(!finished.contains(&choice), "one end");
                finished.push(choice);
                (choice, Box::new(move |choice| choice.finish_reason = reason))
            }
            other => unreachable!("not an event of Gemini's: {other:?}"),
        };
        if !response.choices.iter().any(|found| found.index == choice) {
            response.choices.push(Choice { index: choice, ..Choice::default() });
            response.choices.sort_by_key(|choice| choice.index);
        }
        let found = response.choices.iter_mut().find(|found| found.index == choice);
        apply(found.expect("just added"));
    }
    assert_eq!(finished.len(), response.choices.len(), "each answer ends");
    assert!(reasoning.is_empty(), "a block of reasoning has no end");
    response
}
