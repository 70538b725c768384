//! Streams of other dialects as OpenAI's chunks.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use llmux_types::chat::{ChatEvent, FinishReason};
use llmux_types::{ErrorEnvelope, ErrorObject, Usage};
use serde::Serialize;
use serde_json::Value;

use super::answer::{AnswerCall, AnswerHead, AnswerImage, WireUsage, finish_word};
use super::chat::{ExtraContent, ThinkingBlock};
use crate::codec::ChatDecoder;
use crate::stream::{ClientStream, Progress, StreamFailure, Summary};

/// A stream of another dialect on its way to a client of OpenAI's chat completions.
pub struct Translation {
    decoder: Box<dyn ChatDecoder>,
    head: AnswerHead,
    /// The client asked for the usage.
    include_usage: bool,
    /// Kept, so that its memory is used again.
    events: Vec<ChatEvent>,
    /// Answers whose first chunk, with the role, has been written.
    begun: Vec<u64>,
    /// How many entries each list of each answer has had.
    listed: BTreeMap<(u64, List), u64>,
    progress: Progress,
    usage: Option<Usage>,
    finish_reason: Option<Option<FinishReason>>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<ChunkChoice<'a>>,
    /// OpenAI has `null` here in all chunks but the last, if usage was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u64,
    delta: Delta<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a Value>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_blocks: Option<[Entry<ThinkingBlock>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[AnswerCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Vec<Entry<&'a Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[Entry<AnswerImage>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent>,
}

/// A list in a delta whose entries clients put together by their `index`, as they do with `tool_calls`: OpenAI's own
/// client cannot join lists without it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    ThinkingBlocks,
    Annotations,
    Images,
}

#[derive(Serialize)]
struct Entry<T> {
    index: u64,
    #[serde(flatten)]
    item: T,
}

impl Translation {
    /// Makes a translation of what `decoder` reads. With `include_usage` the last chunk has the usage.
    pub fn new(decoder: Box<dyn ChatDecoder>, head: AnswerHead, include_usage: bool) -> Self {
        Self {
            decoder,
            head,
            include_usage,
            events: Vec::new(),
            begun: Vec::new(),
            listed: BTreeMap::new(),
            progress: Progress::default(),
            usage: None,
            finish_reason: None,
        }
    }

    /// Numbers the next entry of a list.
    fn entry<T>(&mut self, choice: u64, list: List, item: T) -> Entry<T> {
        let count = self.listed.entry((choice, list)).or_default();
        let index = *count;
        *count += 1;
        Entry { index, item }
    }

    fn drain(&mut self, out: &mut BytesMut) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.write(&event, out);
        }
        self.events = events;
    }

    fn write(&mut self, event: &ChatEvent, out: &mut BytesMut) {
        let mut delta = Delta::default();
        let mut logs = None;
        let mut finish = None;
        let choice = match event {
            ChatEvent::Start { id } => {
                if !id.is_empty() {
                    self.head.id.clone_from(id);
                }
                return self.begin(0, out);
            }
            ChatEvent::Usage(usage) => {
                self.usage = Some(*usage);
                return;
            }
            ChatEvent::Text { choice, text } => {
                delta.content = Some(text);
                choice
            }
            ChatEvent::Reasoning { choice, text } => {
                delta.reasoning_content = Some(text);
                choice
            }
            ChatEvent::ReasoningEnd { choice, block } => {
                let Some(block) = ThinkingBlock::of(block) else { return };
                delta.thinking_blocks = Some([self.entry(*choice, List::ThinkingBlocks, block)]);
                choice
            }
            ChatEvent::Refusal { choice, text } => {
                delta.refusal = Some(text);
                choice
            }
            ChatEvent::ToolCall { choice, index, call } => {
                let mut begun = AnswerCall::of(call);
                begun.index = Some(*index);
                delta.tool_calls = Some([begun]);
                choice
            }
            ChatEvent::Arguments { choice, index, text } => {
                delta.tool_calls = Some([AnswerCall::fragment(*index, text)]);
                choice
            }
            ChatEvent::Image { choice, source } => {
                let image = AnswerImage::of(source);
                delta.images = Some([self.entry(*choice, List::Images, image)]);
                choice
            }
            ChatEvent::Annotations { choice, annotations } => {
                let entries = annotations.iter();
                let entries = entries.map(|item| self.entry(*choice, List::Annotations, item));
                delta.annotations = Some(entries.collect());
                choice
            }
            ChatEvent::Signature { choice, signature } => {
                delta.extra_content = ExtraContent::of(Some(signature));
                choice
            }
            ChatEvent::Logprobs { choice, logprobs } => {
                logs = Some(logprobs);
                choice
            }
            ChatEvent::Finish { choice, reason } => {
                finish = Some(finish_word(*reason));
                if *choice == 0 || self.finish_reason.is_none() {
                    self.finish_reason = Some(*reason);
                }
                choice
            }
        };
        self.begin(*choice, out);
        self.progress.output = true;
        self.progress.produced += match event {
            ChatEvent::Text { text, .. }
            | ChatEvent::Reasoning { text, .. }
            | ChatEvent::Refusal { text, .. }
            | ChatEvent::Arguments { text, .. } => text.len() as u64,
            _ => 0,
        };
        let choice = ChunkChoice { index: *choice, delta, logprobs: logs, finish_reason: finish };
        self.chunk(vec![choice], None, out);
    }

    /// Writes the first chunk of an answer, with the role, once.
    fn begin(&mut self, choice: u64, out: &mut BytesMut) {
        if self.begun.contains(&choice) {
            return;
        }
        self.begun.push(choice);
        let delta = Delta { role: Some("assistant"), content: Some(""), ..Delta::default() };
        let choice = ChunkChoice { index: choice, delta, logprobs: None, finish_reason: None };
        self.chunk(vec![choice], None, out);
    }

    fn chunk(&self, choices: Vec<ChunkChoice<'_>>, usage: Option<WireUsage>, out: &mut BytesMut) {
        let chunk = Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            choices,
            usage: self.include_usage.then_some(usage),
        };
        out.put_slice(b"data: ");
        let written = serde_json::to_writer((&mut *out).writer(), &chunk);
        written.expect("texts, numbers and JSON values are always JSON, and memory takes them");
        out.put_slice(b"\n\n");
    }

    fn end(&mut self, out: &mut BytesMut) {
        if self.progress.ended {
            return;
        }
        if self.include_usage {
            let usage = WireUsage::of(&self.usage.unwrap_or_default());
            self.chunk(Vec::new(), Some(usage), out);
        }
        out.put_slice(b"data: [DONE]\n\n");
        self.progress = Progress { output: true, ended: true, ..self.progress };
    }
}

impl ClientStream for Translation {
    fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), StreamFailure> {
        if self.progress.ended {
            return Ok(());
        }
        let fed = self.decoder.feed(bytes, &mut self.events);
        self.drain(out);
        fed?;
        if self.decoder.is_done() { self.finish(out) } else { Ok(()) }
    }

    fn finish(&mut self, out: &mut BytesMut) -> Result<(), StreamFailure> {
        if self.progress.ended {
            return Ok(());
        }
        let finished = self.decoder.finish(&mut self.events);
        self.drain(out);
        finished?;
        self.end(out);
        Ok(())
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn summary(&self) -> Summary {
        let finish_reason = self.finish_reason.map(|reason| finish_word(reason).to_owned());
        Summary { usage: self.usage, finish_reason }
    }

    fn error_event(&self, error: &ErrorObject) -> Bytes {
        Bytes::from(format!("data: {}\n\n", ErrorEnvelope { error }.to_json()))
    }
}

#[cfg(test)]
mod tests {
    use llmux_types::chat::{Reasoning, ToolCall};
    use serde_json::json;

    use super::*;
    use crate::codec::DecodeError;

    /// Gives the events of a script, one for each byte it is fed.
    struct Script(Vec<ChatEvent>);

    impl ChatDecoder for Script {
        fn feed(&mut self, bytes: &[u8], events: &mut Vec<ChatEvent>) -> Result<(), DecodeError> {
            let count = bytes.len().min(self.0.len());
            events.extend(self.0.drain(..count));
            Ok(())
        }

        fn finish(&mut self, _events: &mut Vec<ChatEvent>) -> Result<(), DecodeError> {
            if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Truncated) }
        }

        fn is_done(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn script() -> Vec<ChatEvent> {
        let block = Reasoning { text: "hm".into(), signature: Some("s".into()), redacted: None };
        let call = ToolCall { id: "c".into(), name: "f".into(), ..ToolCall::default() };
        vec![
            ChatEvent::Start { id: "id".into() },
            ChatEvent::Reasoning { choice: 0, text: "hm".into() },
            ChatEvent::ReasoningEnd { choice: 0, block },
            ChatEvent::Text { choice: 0, text: "é".into() },
            ChatEvent::ToolCall { choice: 0, index: 0, call },
            ChatEvent::Arguments { choice: 0, index: 0, text: "{}".into() },
            ChatEvent::Finish { choice: 0, reason: Some(FinishReason::ToolCalls) },
            ChatEvent::Usage(Usage {
                prompt_tokens: Some(1),
                completion_tokens: Some(2),
                ..Usage::default()
            }),
        ]
    }

    fn translation(include_usage: bool) -> Translation {
        let head = AnswerHead { id: "made-up".into(), model: "asked".into(), created: 7 };
        Translation::new(Box::new(Script(script())), head, include_usage)
    }

    fn chunks(out: &BytesMut) -> Vec<Value> {
        let text = std::str::from_utf8(out).expect("text");
        let events =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("data"));
        events
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }

    #[test]
    fn events_become_openais_chunks() {
        let mut stream = translation(true);
        let mut out = BytesMut::new();
        stream.feed(&[0; 20], &mut out).expect("fine");
        assert!(out.ends_with(b"data: [DONE]\n\n"));
        let chunks = chunks(&out);
        let deltas: Vec<_> =
            chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta").cloned()).collect();
        assert_eq!(
            deltas,
            [
                json!({"role": "assistant", "content": ""}),
                json!({"reasoning_content": "hm"}),
                json!({"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "s"}]}),
                json!({"content": "é"}),
                json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
                json!({}),
            ]
        );
        let last = chunks.last().expect("a usage chunk");
        assert_eq!(last["choices"], json!([]));
        assert_eq!(last["usage"]["total_tokens"], 3);
        for chunk in &chunks {
            assert_eq!((&chunk["id"], &chunk["model"]), (&json!("id"), &json!("asked")));
            assert!(chunk.get("usage").is_some(), "null in all but the last");
        }
        assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(stream.summary().finish_reason.as_deref(), Some("tool_calls"));
    }

    #[test]
    fn usage_is_not_shown_to_who_did_not_ask() {
        let mut stream = translation(false);
        let mut out = BytesMut::new();
        stream.feed(&[0; 20], &mut out).expect("fine");
        assert!(chunks(&out).iter().all(|chunk| chunk.get("usage").is_none()));
        assert_eq!(stream.summary().usage.and_then(|usage| usage.completion_tokens), Some(2));
    }

    #[test]
    fn a_role_is_no_output_and_a_cut_stream_has_no_end() {
        let mut stream = translation(false);
        let mut out = BytesMut::new();
        stream.feed(&[0], &mut out).expect("fine");
        assert_eq!(stream.progress(), Progress::default());
        stream.feed(&[0], &mut out).expect("fine");
        assert!(stream.progress().output);
        assert!(matches!(stream.finish(&mut out), Err(StreamFailure::Truncated)));
        assert!(!out.ends_with(b"[DONE]\n\n"));
    }
}
