//! Gemini's `generateContent`.

use bytes::Bytes;

use super::content::Content;
use super::{JSON, Prepared, quote};
use crate::reply::Finish;

const GEMINI_EVENT_STREAM: &str = "text/event-stream";

/// `POST models/{model}:generateContent`.
pub(super) fn generate(model: &str, content: &Content) -> Prepared {
    let mut parts = Vec::new();
    if !content.reasoning.is_empty() {
        parts.push(thought(&content.whole_reasoning()));
    }
    if !content.text.is_empty() {
        parts.push(text(&content.whole_text()));
    }
    parts.extend(calls(content));
    let (thoughts, candidates) = counts(content);
    Prepared::json(response(model, content, &parts, true, thoughts, candidates))
}

/// `POST models/{model}:streamGenerateContent`: events, or without `alt=sse` one JSON array.
pub(super) fn stream(model: &str, sse: bool, content: &Content) -> Prepared {
    let mut responses = Vec::new();
    for (index, piece) in content.reasoning.iter().enumerate() {
        responses.push(response(model, content, &[thought(piece)], false, index as u64 + 1, 0));
    }
    let (thoughts, candidates) = counts(content);
    for (index, piece) in content.text.iter().enumerate() {
        responses.push(response(model, content, &[text(piece)], false, thoughts, index as u64 + 1));
    }
    if !content.tools.is_empty() {
        responses.push(response(model, content, &calls(content), false, thoughts, candidates));
    }
    // As the vendor's newer models: the reason comes last, with an empty part.
    responses.push(response(model, content, &[text("")], true, thoughts, candidates));
    if sse {
        let events = responses
            .into_iter()
            .map(|response| Bytes::from(format!("data: {response}\r\n\r\n")))
            .collect();
        return Prepared::stream(GEMINI_EVENT_STREAM, events);
    }
    let last = responses.len() - 1;
    let pieces = responses
        .into_iter()
        .enumerate()
        .map(|(index, response)| {
            let start = if index == 0 { "[" } else { ",\r\n" };
            let end = if index == last { "]\n" } else { "" };
            Bytes::from(format!("{start}{response}{end}"))
        })
        .collect();
    Prepared::stream(JSON, pieces)
}

/// Tokens of thoughts and of everything else, which Gemini counts apart.
fn counts(content: &Content) -> (u64, u64) {
    let thoughts = content.reasoning_tokens();
    (thoughts, content.completion_tokens() - thoughts)
}

fn text(text: &str) -> String {
    format!(r#"{{"text":{}}}"#, quote(text))
}

fn thought(text: &str) -> String {
    format!(r#"{{"text":{},"thought":true}}"#, quote(text))
}

/// The first of several calls carries the signature.
fn calls(content: &Content) -> Vec<String> {
    content
        .tools
        .iter()
        .enumerate()
        .map(|(number, tool)| {
            let (name, arguments) = (quote(&tool.name), tool.whole_arguments());
            let arguments = if arguments.is_empty() { "{}" } else { &arguments };
            let signature =
                if number == 0 { r#","thoughtSignature":"bW9jay1zaWduYXR1cmU=""# } else { "" };
            format!(r#"{{"functionCall":{{"name":{name},"args":{arguments}}}{signature}}}"#)
        })
        .collect()
}

fn response(
    model: &str,
    content: &Content,
    parts: &[String],
    last: bool,
    thoughts: u64,
    candidates: u64,
) -> String {
    let finish = match content.finish {
        _ if !last => "",
        Finish::Stop => r#","finishReason":"STOP""#,
        Finish::Length => r#","finishReason":"MAX_TOKENS""#,
        Finish::ContentFilter => r#","finishReason":"SAFETY""#,
    };
    let prompt = content.prompt_tokens;
    // Counts of 0 are left out.
    let count = |name: &str, tokens: u64| {
        if tokens > 0 { format!(r#","{name}":{tokens}"#) } else { String::new() }
    };
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{}],"role":"model"}}{finish},"index":0}}],"usageMetadata":{{"promptTokenCount":{prompt}{},"totalTokenCount":{}{},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{prompt}}}]{}}},"modelVersion":{},"responseId":"mock-response"}}"#,
        parts.join(","),
        count("candidatesTokenCount", candidates),
        prompt + thoughts + candidates,
        count("cachedContentTokenCount", content.cached_tokens),
        count("thoughtsTokenCount", thoughts),
        quote(model)
    )
}
