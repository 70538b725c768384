//! Anthropic's streams.

use llmux_types::chat::{ChatEvent, FinishReason, Reasoning, ToolCall};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::STRUCTURED;
use super::response::{WireUsage, annotations, finish_reason};
use crate::codec::{ChatDecoder, DecodeError};
use crate::openai::Rejection;
use crate::sse::{Frame, Framer};

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    framer: Framer,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    /// The block that is open, and its number.
    block: Option<(u64, Block)>,
    calls: u64,
    structured: bool,
    /// Characters of text so far: where annotations point to.
    text_length: usize,
    usage: WireUsage,
    stop_reason: Option<String>,
    done: bool,
}

#[derive(Debug)]
enum Block {
    /// Text, where it begins in characters, and what it cites.
    Text(usize, Vec<Value>),
    Reasoning(Reasoning),
    /// A call, its number, and whether arguments have come.
    Call(u64, bool),
    /// Its arguments are the answer.
    Structured,
    /// Of a server tool, or unknown.
    Other,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    data: Option<Value>,
    id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    citation: Option<Value>,
    stop_reason: Option<String>,
}

impl ChatDecoder for Decoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<ChatEvent>) -> Result<(), DecodeError> {
        let state = &mut self.state;
        self.framer.feed::<DecodeError>(bytes, |frame| state.on_frame(frame, events))
    }

    fn finish(&mut self, events: &mut Vec<ChatEvent>) -> Result<(), DecodeError> {
        let state = &mut self.state;
        self.framer.finish::<DecodeError>(|frame| state.on_frame(frame, events))?;
        if self.state.done { Ok(()) } else { Err(DecodeError::Truncated) }
    }

    fn is_done(&self) -> bool {
        self.state.done
    }
}

fn malformed(error: serde_json::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

impl State {
    fn on_frame(
        &mut self,
        frame: &Frame<'_>,
        events: &mut Vec<ChatEvent>,
    ) -> Result<(), DecodeError> {
        let Some(data) = frame.data.as_deref().filter(|data| !data.trim_ascii().is_empty()) else {
            return Ok(());
        };
        if self.done {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(data).map_err(malformed)?;
        match event.kind {
            "message_start" => {
                let message = event.message;
                if let Some(usage) = message.as_ref().and_then(|message| message.usage) {
                    self.usage.update(usage);
                }
                let id = message.and_then(|message| message.id);
                let id = id.and_then(|id| serde_json::from_str(id.get()).ok()).unwrap_or_default();
                events.push(ChatEvent::Start { id });
                // Said at once, so that a stream which is cut off later has a price.
                events.push(ChatEvent::Usage(self.usage.canonical()));
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    let start = serde_json::from_str(block.get()).map_err(malformed)?;
                    self.start(event.index.unwrap_or(0), start, events);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    let delta = serde_json::from_str(delta.get()).map_err(malformed)?;
                    self.delta(delta, events);
                }
            }
            "content_block_stop" => self.stop(events),
            "message_delta" => {
                if let Some(usage) = event.usage {
                    self.usage.update(usage);
                }
                if let Some(delta) = event.delta {
                    let delta: Delta = serde_json::from_str(delta.get()).map_err(malformed)?;
                    self.stop_reason = delta.stop_reason.or(self.stop_reason.take());
                }
            }
            "message_stop" => self.end(events),
            "error" => {
                let value: Value = serde_json::from_slice(data).map_err(malformed)?;
                return Err(DecodeError::Rejected(Box::new(Rejection::from_stream(&value))));
            }
            // Pings, and what is yet to come.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, index: u64, start: Start, events: &mut Vec<ChatEvent>) {
        let block = match start.kind.as_str() {
            "text" => {
                let begin = self.text_length;
                self.text(start.text.unwrap_or_default(), events);
                Block::Text(begin, Vec::new())
            }
            "thinking" => {
                let text = start.thinking.unwrap_or_default();
                if !text.is_empty() {
                    events.push(ChatEvent::Reasoning { choice: 0, text: text.clone() });
                }
                Block::Reasoning(Reasoning {
                    text,
                    signature: start.signature.filter(|text| !text.is_empty()),
                    redacted: None,
                })
            }
            "redacted_thinking" => {
                let data = start.data.as_ref().and_then(Value::as_str).map(str::to_owned);
                Block::Reasoning(Reasoning { redacted: data, ..Reasoning::default() })
            }
            "tool_use" if start.name.as_deref() == Some(STRUCTURED) => {
                self.structured = true;
                Block::Structured
            }
            "tool_use" => {
                let call = self.calls;
                self.calls += 1;
                // Its `input` is an empty object here, whatever is to come: no fragment.
                let begun = ToolCall {
                    id: start.id.unwrap_or_default(),
                    name: start.name.unwrap_or_default(),
                    ..ToolCall::default()
                };
                events.push(ChatEvent::ToolCall { choice: 0, index: call, call: begun });
                Block::Call(call, false)
            }
            _ => Block::Other,
        };
        self.block = Some((index, block));
    }

    fn text(&mut self, text: String, events: &mut Vec<ChatEvent>) {
        if !text.is_empty() {
            self.text_length += text.chars().count();
            events.push(ChatEvent::Text { choice: 0, text });
        }
    }

    fn delta(&mut self, delta: Delta, events: &mut Vec<ChatEvent>) {
        match (delta.kind.as_deref(), &mut self.block) {
            (Some("text_delta"), _) => self.text(delta.text.unwrap_or_default(), events),
            (Some("thinking_delta"), Some((_, Block::Reasoning(block)))) => {
                let text = delta.thinking.unwrap_or_default();
                block.text.push_str(&text);
                if !text.is_empty() {
                    events.push(ChatEvent::Reasoning { choice: 0, text });
                }
            }
            (Some("signature_delta"), Some((_, Block::Reasoning(block)))) => {
                block
                    .signature
                    .get_or_insert_default()
                    .push_str(&delta.signature.unwrap_or_default());
            }
            (Some("input_json_delta"), Some((_, Block::Call(index, given)))) => {
                let text = delta.partial_json.unwrap_or_default();
                if !text.is_empty() {
                    *given = true;
                    events.push(ChatEvent::Arguments { choice: 0, index: *index, text });
                }
            }
            (Some("input_json_delta"), Some((_, Block::Structured))) => {
                self.text(delta.partial_json.unwrap_or_default(), events);
            }
            (Some("citations_delta"), Some((_, Block::Text(_, citations)))) => {
                citations.extend(delta.citation);
            }
            _ => {}
        }
    }

    fn stop(&mut self, events: &mut Vec<ChatEvent>) {
        match self.block.take() {
            Some((_, Block::Text(begin, citations))) => {
                let found = annotations(&citations, begin, self.text_length - begin);
                let annotations: Vec<Value> = found.collect();
                if !annotations.is_empty() {
                    events.push(ChatEvent::Annotations { choice: 0, annotations });
                }
            }
            Some((_, Block::Reasoning(block))) => {
                events.push(ChatEvent::ReasoningEnd { choice: 0, block });
            }
            // A call without arguments has said nothing, or an empty text.
            Some((_, Block::Call(index, false))) => {
                events.push(ChatEvent::Arguments { choice: 0, index, text: "{}".into() });
            }
            _ => {}
        }
    }

    fn end(&mut self, events: &mut Vec<ChatEvent>) {
        let reason = self.stop_reason.as_deref().and_then(finish_reason);
        let reason = match reason {
            Some(FinishReason::ToolCalls) if self.structured => Some(FinishReason::Stop),
            other => other,
        };
        events.push(ChatEvent::Finish { choice: 0, reason });
        events.push(ChatEvent::Usage(self.usage.canonical()));
        self.done = true;
    }
}
