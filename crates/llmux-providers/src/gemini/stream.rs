//! From answers to events, and from events to a whole answer.

use std::collections::BTreeMap;

use llmux_types::Usage;
use llmux_types::chat::{
    ChatEvent, ChatResponse, Choice, FinishReason, Part as ChatPart, Reasoning, Source, ToolCall,
};
use serde_json::Value;
use serde_json::value::RawValue;

use super::response::{Answer, Candidate, Part, UsageMetadata, compact, finish_reason, logprobs};
use super::{array::Objects, errors, grounding};
use crate::codec::{ChatDecoder, DecodeError};
use crate::sse::{EventTooLong, Framer, MAX_EVENT_BYTES};

/// Reads a whole answer: the same events as those of a stream of one piece, folded.
pub(super) fn decode(body: &[u8]) -> Result<ChatResponse, DecodeError> {
    let mut events = Vec::new();
    let mut state = State::default();
    let tier = state.take(body, &mut events)?;
    if state.choices.is_empty() && !state.blocked {
        return Err(DecodeError::Malformed("there is no candidate".to_owned()));
    }
    state.end(&mut events);
    let mut response = fold(events);
    response.service_tier = tier;
    Ok(response)
}

/// Reads server-sent events, or a JSON array that comes in pieces.
#[derive(Default)]
pub(super) struct Decoder {
    framing: Framing,
    state: State,
}

#[derive(Default)]
enum Framing {
    /// Nothing but white space has come.
    #[default]
    Unknown,
    Events(Framer),
    /// The stream of a server that was not asked for events, or an error instead of a stream.
    Objects(Objects),
}

impl ChatDecoder for Decoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<ChatEvent>) -> Result<(), DecodeError> {
        if matches!(self.framing, Framing::Unknown) {
            self.framing = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None => return Ok(()),
                Some(b'[' | b'{') => Framing::Objects(Objects::default()),
                Some(_) => Framing::Events(Framer::default()),
            };
        }
        let state = &mut self.state;
        match &mut self.framing {
            Framing::Unknown => Ok(()),
            Framing::Events(framer) => framer.feed(bytes, |frame| match &frame.data {
                Some(data) => state.take(data, events).map(drop),
                None => Ok(()),
            }),
            Framing::Objects(objects) => {
                let within = objects
                    .feed(bytes, MAX_EVENT_BYTES, |object| state.take(object, events).map(drop))?;
                if within { Ok(()) } else { Err(EventTooLong.into()) }
            }
        }
    }

    fn finish(&mut self, events: &mut Vec<ChatEvent>) -> Result<(), DecodeError> {
        let state = &mut self.state;
        let whole = match &mut self.framing {
            Framing::Unknown => false,
            Framing::Events(framer) => {
                // A last event without its blank line counts if it is whole.
                framer.finish(|frame| match &frame.data {
                    Some(data) if serde_json::from_slice::<&RawValue>(data).is_err() => {
                        Err(DecodeError::Truncated)
                    }
                    Some(data) => state.take(data, events).map(drop),
                    None => Ok(()),
                })?;
                true
            }
            Framing::Objects(objects) => objects.is_between(),
        };
        if !whole || !state.is_complete() {
            return Err(DecodeError::Truncated);
        }
        state.end(events);
        Ok(())
    }

    /// Gemini has no last event: this tells whether the answer is whole if the body ends here. More may come, since
    /// older models put a finish reason on each piece.
    fn is_done(&self) -> bool {
        self.state.is_complete()
    }
}

/// What is known of an answer so far.
#[derive(Default)]
struct State {
    id: String,
    started: bool,
    /// The prompt was refused, so that there are no candidates.
    blocked: bool,
    ended: bool,
    usage: Option<Usage>,
    choices: BTreeMap<u64, ChoiceState>,
}

#[derive(Default)]
struct ChoiceState {
    calls: u64,
    /// The current block of reasoning, if one is open.
    reasoning: Option<String>,
    /// All visible text: the places of sources are counted in it.
    text: String,
    signature: Option<String>,
    grounding: Option<Box<RawValue>>,
    finish: Option<String>,
}

impl State {
    fn is_complete(&self) -> bool {
        self.blocked
            || (!self.choices.is_empty()
                && self.choices.values().all(|choice| choice.finish.is_some()))
    }

    /// Takes one piece and returns the tier that it names.
    fn take(
        &mut self,
        json: &[u8],
        events: &mut Vec<ChatEvent>,
    ) -> Result<Option<String>, DecodeError> {
        // No event of the vendor's, but compatible servers send it.
        if json.trim_ascii() == b"[DONE]" || json.trim_ascii().is_empty() {
            return Ok(None);
        }
        let answer: Answer<'_> = serde_json::from_slice(json)
            .map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if answer.error.is_some_and(|error| error.get() != "null") {
            return Err(DecodeError::Rejected(Box::new(errors::in_stream(json))));
        }
        if self.id.is_empty()
            && let Some(id) = answer.response_id
        {
            self.id = serde_json::from_str(id.get()).unwrap_or_default();
        }
        if !self.started {
            self.started = true;
            events.push(ChatEvent::Start { id: self.id.clone() });
        }
        // The last object counts whole: a number that has gone back to 0 is left out.
        let usage = answer.usage_metadata.as_ref().map(UsageMetadata::usage);
        self.usage = usage.or(self.usage);
        for candidate in answer.candidates.unwrap_or_default() {
            self.candidate(candidate, events);
        }
        let feedback = answer.prompt_feedback.and_then(|feedback| feedback.block_reason);
        self.blocked |= self.choices.is_empty() && feedback.is_some();
        if let Some(usage) = usage {
            events.push(ChatEvent::Usage(usage));
        }
        Ok(answer.usage_metadata.as_ref().and_then(UsageMetadata::tier))
    }

    fn candidate(&mut self, candidate: Candidate<'_>, events: &mut Vec<ChatEvent>) {
        let index = candidate.index.unwrap_or_default();
        let prompt = self.usage.and_then(|usage| usage.prompt_tokens).unwrap_or_default();
        let choice = self.choices.entry(index).or_default();
        let parts = candidate.content.and_then(|content| content.parts).unwrap_or_default();
        for part in parts {
            choice.part(index, part, &Seed { id: &self.id, prompt }, events);
        }
        if let Some(logprobs) = candidate.logprobs_result.and_then(logprobs) {
            events.push(ChatEvent::Logprobs { choice: index, logprobs });
        }
        if let Some(metadata) = candidate.grounding_metadata
            && metadata.get() != "null"
        {
            choice.grounding = Some(metadata.to_owned());
        }
        if let Some(reason) = candidate.finish_reason
            && reason != "FINISH_REASON_UNSPECIFIED"
        {
            choice.finish = Some(reason);
        }
    }

    /// Says what comes once, at the end.
    fn end(&mut self, events: &mut Vec<ChatEvent>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if self.choices.is_empty() {
            events.push(ChatEvent::Finish { choice: 0, reason: Some(FinishReason::ContentFilter) });
        }
        for (&choice, state) in &mut self.choices {
            state.close_reasoning(choice, None, events);
            if let Some(signature) = state.signature.take() {
                events.push(ChatEvent::Signature { choice, signature });
            }
            if let Some(metadata) = state.grounding.take() {
                let annotations = grounding::annotations(metadata.get(), &state.text);
                if !annotations.is_empty() {
                    events.push(ChatEvent::Annotations { choice, annotations });
                }
            }
            let reason =
                finish_reason(state.finish.as_deref().unwrap_or_default(), state.calls > 0);
            events.push(ChatEvent::Finish { choice, reason });
        }
    }
}

/// What ids of calls are made of.
struct Seed<'a> {
    id: &'a str,
    prompt: u64,
}

impl ChoiceState {
    fn part(&mut self, index: u64, part: Part<'_>, seed: &Seed<'_>, events: &mut Vec<ChatEvent>) {
        let choice = index;
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        if let Some(call) = part.function_call {
            // The pieces of a call that comes in fragments have no name; such calls must be asked for.
            let Some(name) = call.name.filter(|name| !name.is_empty()) else {
                return;
            };
            self.close_reasoning(choice, None, events);
            let arguments = match call.args.map(RawValue::get) {
                None | Some("null") => "{}".to_owned(),
                Some(args) => compact(args),
            };
            let id = match call.id {
                Some(id) if !id.is_empty() => id,
                _ => seed.call_id(index, self.calls, &name, &arguments),
            };
            let call = ToolCall { id, name, arguments, signature };
            events.push(ChatEvent::ToolCall { choice, index: self.calls, call });
            self.calls += 1;
            return;
        }
        if part.thought == Some(true) {
            if let Some(text) = part.text.filter(|text| !text.is_empty()) {
                self.reasoning.get_or_insert_default().push_str(&text);
                events.push(ChatEvent::Reasoning { choice, text });
            }
            if let Some(signature) = signature {
                self.reasoning.get_or_insert_default();
                self.close_reasoning(choice, Some(signature), events);
            }
            return;
        }
        if let Some(signature) = signature {
            self.signature = Some(signature);
        }
        if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            self.close_reasoning(choice, None, events);
            self.text.push_str(&text);
            events.push(ChatEvent::Text { choice, text });
        }
        let is_image = |kind: &str| kind.starts_with("image/");
        if let Some(blob) = part.inline_data
            && let (Some(kind), Some(data)) = (blob.mime_type, blob.data)
            && is_image(&kind)
        {
            self.close_reasoning(choice, None, events);
            let source = Source::Data { media_type: kind, data };
            events.push(ChatEvent::Image { choice, source });
        }
        if let Some(file) = part.file_data
            && let (Some(kind), Some(uri)) = (file.mime_type, file.file_uri)
            && is_image(&kind)
        {
            self.close_reasoning(choice, None, events);
            events.push(ChatEvent::Image { choice, source: Source::Url(uri) });
        }
    }

    fn close_reasoning(
        &mut self,
        choice: u64,
        signature: Option<String>,
        events: &mut Vec<ChatEvent>,
    ) {
        if let Some(text) = self.reasoning.take() {
            let block = Reasoning { text, signature, redacted: None };
            events.push(ChatEvent::ReasoningEnd { choice, block });
        }
    }
}

impl Seed<'_> {
    /// Makes up an id that no other call of the conversation has: from the answer's id, else from the call itself and
    /// the length of the prompt, which grows from turn to turn. Other vendors take up to 40 of `[A-Za-z0-9_-]`.
    fn call_id(&self, choice: u64, index: u64, name: &str, arguments: &str) -> String {
        let clean = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let id: String = self.id.bytes().filter(clean).take(24).map(char::from).collect();
        let id = if id.is_empty() {
            let prompt = self.prompt.to_string();
            format!("{:016x}", fnv1a(&[&prompt, "\n", name, "\n", arguments]))
        } else {
            id
        };
        if choice == 0 {
            format!("call_{id}_{index}")
        } else {
            format!("call_{id}_{choice}_{index}")
        }
    }
}

/// The hash of Fowler, Noll and Vo: the same in each process.
fn fnv1a(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Puts the events of one answer together.
fn fold(events: Vec<ChatEvent>) -> ChatResponse {
    let mut response = ChatResponse::default();
    let mut choices: BTreeMap<u64, Choice> = BTreeMap::new();
    for event in events {
        match event {
            ChatEvent::Start { id } => response.id = id,
            ChatEvent::Usage(usage) => response.usage = Some(usage),
            ChatEvent::Text { choice, text } => {
                let content = &mut at(&mut choices, choice).message.content;
                if let Some(ChatPart::Text { text: last, .. }) = content.last_mut() {
                    last.push_str(&text);
                } else {
                    content.push(ChatPart::text(text));
                }
            }
            // The block that ends it repeats the text.
            ChatEvent::Reasoning { .. } => {}
            ChatEvent::ReasoningEnd { choice, block } => {
                at(&mut choices, choice).message.reasoning.push(block)
            }
            ChatEvent::Refusal { choice, text } => {
                at(&mut choices, choice).message.refusal.get_or_insert_default().push_str(&text);
            }
            ChatEvent::ToolCall { choice, call, .. } => {
                at(&mut choices, choice).message.tool_calls.push(call)
            }
            ChatEvent::Arguments { choice, text, .. } => {
                if let Some(call) = at(&mut choices, choice).message.tool_calls.last_mut() {
                    call.arguments.push_str(&text);
                }
            }
            ChatEvent::Image { choice, source } => at(&mut choices, choice)
                .message
                .content
                .push(ChatPart::Image { source, detail: None, cache_control: None }),
            ChatEvent::Annotations { choice, annotations } => {
                at(&mut choices, choice).message.annotations.extend(annotations);
            }
            ChatEvent::Signature { choice, signature } => {
                at(&mut choices, choice).message.signature = Some(signature);
            }
            ChatEvent::Logprobs { choice, logprobs } => {
                join(&mut at(&mut choices, choice).logprobs, logprobs)
            }
            ChatEvent::Finish { choice, reason } => at(&mut choices, choice).finish_reason = reason,
        }
    }
    response.choices = choices.into_values().collect();
    response
}

fn at(choices: &mut BTreeMap<u64, Choice>, index: u64) -> &mut Choice {
    choices.entry(index).or_insert_with(|| Choice { index, ..Choice::default() })
}

/// Appends the tokens of `more`.
fn join(logprobs: &mut Option<Value>, more: Value) {
    match logprobs {
        None => *logprobs = Some(more),
        Some(whole) => {
            if let (Some(Value::Array(tokens)), Some(Value::Array(more))) =
                (whole.get_mut("content"), more.get("content"))
            {
                tokens.extend(more.iter().cloned());
            }
        }
    }
}
