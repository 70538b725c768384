use bytes::{BufMut as _, Bytes, BytesMut};
use llmux_types::{ErrorEnvelope, ErrorObject, OpenAiUsage, ServiceTier, Usage};
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::rejection::Rejection;
use super::reply::summary;
use crate::json::{members, renamed, span};
use crate::sse::{Frame, Framer};
use crate::stream::{ClientStream, Progress, StreamFailure, Summary};
use crate::target::Endpoint;

/// A vendor's stream on its way to the client: whole events, with their bytes as they came but for the model's name,
/// usage that the client did not ask for, and exactly one `[DONE]`; decoded beside for usage, finish reason and errors.
#[derive(Debug)]
pub struct Relay {
    framer: Framer,
    events: Events,
}

/// The bytes of JSON around the text of a fragment: `{"content":""}`.
const DELTA_FRAME: usize = 14;
/// Where the text of a fragment of the responses API begins; little follows it.
const DELTA_MEMBER: &[u8] = b"\"delta\"";

#[derive(Debug)]
struct Events {
    endpoint: Endpoint,
    /// The name the client knows the model by.
    model: String,
    hide_usage: bool,
    /// The last event was kept back and ended with a CR: an LF that follows belongs to it.
    hidden_cr: bool,
    progress: Progress,
    /// The answer is whole, though the stream may go on.
    complete: bool,
    /// The last usage object, as text: most vendors send one, some with every event.
    usage: Option<String>,
    service_tier: Option<ServiceTier>,
    finish_reason: Option<String>,
    /// Of the responses API, whose last event has it all.
    last: Option<Summary>,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    x_groq: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl Relay {
    /// Makes a relay for a stream of `endpoint`. `model` is the name that the client asked for; with `hide_usage` the
    /// chunk that has nothing but usage is kept back.
    pub fn new(endpoint: Endpoint, model: impl Into<String>, hide_usage: bool) -> Self {
        let events = Events {
            endpoint,
            model: model.into(),
            hide_usage,
            hidden_cr: false,
            progress: Progress::default(),
            complete: false,
            usage: None,
            service_tier: None,
            finish_reason: None,
            last: None,
        };
        Self { framer: Framer::default(), events }
    }
}

impl ClientStream for Relay {
    fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), StreamFailure> {
        let events = &mut self.events;
        self.framer.feed::<StreamFailure>(bytes, |frame| events.on_frame(frame, out))
    }

    fn finish(&mut self, out: &mut BytesMut) -> Result<(), StreamFailure> {
        let events = &mut self.events;
        self.framer.finish_into(out, |frame, out| events.on_frame(frame, out))?;
        if events.progress.ended {
            return Ok(());
        }
        match events.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions if events.complete => {
                out.put_slice(b"data: [DONE]\n\n");
            }
            Endpoint::ChatCompletions | Endpoint::Completions => {
                return Err(StreamFailure::Truncated);
            }
            Endpoint::Responses if !events.complete => return Err(StreamFailure::Truncated),
            _ => {}
        }
        events.progress.ended = true;
        Ok(())
    }

    fn progress(&self) -> Progress {
        self.events.progress
    }

    fn summary(&self) -> Summary {
        let events = &self.events;
        if let Some(last) = &events.last {
            return last.clone();
        }
        let usage = events.usage.as_deref();
        let usage = usage.and_then(|text| serde_json::from_str::<OpenAiUsage>(text).ok()?.0);
        Summary {
            usage: usage.map(|usage| Usage {
                service_tier: usage.service_tier.or(events.service_tier),
                ..usage
            }),
            finish_reason: events.finish_reason.clone(),
        }
    }

    fn error_event(&self, error: &ErrorObject) -> Bytes {
        let text = if self.events.endpoint == Endpoint::Responses {
            // The responses API's own event, with the envelope that all of our errors have beside it.
            let data = serde_json::json!({
                "type": "error", "code": error.code, "message": error.message, "param": error.param, "error": error,
            });
            format!("event: error\ndata: {data}\n\n")
        } else {
            format!("data: {}\n\n", ErrorEnvelope { error }.to_json())
        };
        Bytes::from(text)
    }
}

impl Events {
    const fn has_done_marker(&self) -> bool {
        matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
    }

    fn on_frame(&mut self, frame: &Frame<'_>, out: &mut BytesMut) -> Result<(), StreamFailure> {
        if self.progress.ended {
            return Ok(());
        }
        let hidden_cr = std::mem::take(&mut self.hidden_cr);
        let Some(data) = frame.data.as_deref().filter(|data| !data.trim_ascii().is_empty()) else {
            if hidden_cr && frame.raw == b"\n" {
                return Ok(());
            }
            out.put_slice(frame.raw);
            return Ok(());
        };
        if data.trim_ascii() == b"[DONE]" {
            out.put_slice(frame.raw);
            if self.has_done_marker() {
                frame.write_missing_lf(out);
            }
            self.progress =
                Progress { output: true, ended: self.has_done_marker(), ..self.progress };
            return Ok(());
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            return self.on_odd_event(frame, data, out);
        };
        self.note_usage(&chunk);
        if self.endpoint == Endpoint::Responses {
            return self.on_response_event(frame, data, &chunk, out);
        }
        if chunk.error.is_some() || frame.event == Some(b"error") {
            let value = serde_json::from_slice(data).unwrap_or_default();
            return Err(StreamFailure::Rejected(Box::new(Rejection::from_stream(&value))));
        }
        let empty = self.note_choices(&chunk);
        if self.hide_usage && empty && chunk.usage.is_some() {
            self.hidden_cr = frame.raw.ends_with(b"\r");
            return Ok(());
        }
        let names: Vec<_> = chunk.model.map(|raw| span(data, raw.get())).into_iter().collect();
        self.forward(frame, data, &names, out);
        Ok(())
    }

    /// Forwards an event that is JSON but not of the shape we know: members given twice, or a list.
    fn on_odd_event(
        &mut self,
        frame: &Frame<'_>,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), StreamFailure> {
        let value: Value = serde_json::from_slice(data).map_err(|_| StreamFailure::Malformed)?;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(StreamFailure::Rejected(Box::new(Rejection::from_stream(&value))));
        }
        if let Some(reason) = value.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
            self.complete = true;
            self.finish_reason = Some(reason.to_owned());
        }
        self.progress.output = true;
        let names = members(data, |name| name == "model").unwrap_or_default();
        let names: Vec<_> = names.into_iter().map(|member| member.value).collect();
        self.forward(frame, data, &names, out);
        Ok(())
    }

    fn note_usage(&mut self, chunk: &Chunk<'_>) {
        if let Some(tier) = chunk.service_tier {
            self.service_tier = ServiceTier::from_word(tier.get().trim_matches('"'));
        }
        if let Some(usage) = chunk.usage.map(RawValue::get).filter(|text| text.starts_with('{')) {
            let kept = self.usage.get_or_insert_default();
            kept.clear();
            kept.push_str(usage);
        } else if let Some(usage) = chunk.x_groq.as_ref().and_then(|groq| groq.get("usage"))
            && self.usage.is_none()
        {
            self.usage = Some(usage.to_string());
        }
    }

    /// Takes note of ends and output; tells whether there are no choices.
    fn note_choices(&mut self, chunk: &Chunk<'_>) -> bool {
        if !self.has_done_marker() {
            self.progress.output = true;
            return false;
        }
        let Some(raw) = chunk.choices.map(RawValue::get) else {
            return true;
        };
        let Ok(choices) = serde_json::from_str::<Vec<Choice<'_>>>(raw) else {
            self.progress.output = true;
            return false;
        };
        for choice in &choices {
            if let Some(reason) = choice.finish_reason.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
                // Snowflake ends with an empty reason in every chunk.
                && !reason.is_empty()
            {
                self.complete = true;
                self.progress.output = true;
                if choice.index.unwrap_or(0) == 0 || self.finish_reason.is_none() {
                    self.finish_reason = Some(reason);
                }
            }
            if !self.progress.output {
                self.progress.output =
                    [choice.delta, choice.text].into_iter().flatten().any(has_output);
            }
            if self.progress.output {
                let delta =
                    choice.delta.map_or(0, |raw| raw.get().len().saturating_sub(DELTA_FRAME));
                let text = choice.text.map_or(0, |raw| raw.get().len().saturating_sub(2));
                self.progress.produced += (delta + text) as u64;
            }
        }
        choices.is_empty()
    }

    fn on_response_event(
        &mut self,
        frame: &Frame<'_>,
        data: &[u8],
        chunk: &Chunk<'_>,
        out: &mut BytesMut,
    ) -> Result<(), StreamFailure> {
        let kind = chunk.kind.map_or("", |raw| raw.get().trim_matches('"'));
        let response = chunk.response.map(RawValue::get);
        let failed = kind == "response.failed";
        if failed || kind == "error" || frame.event == Some(b"error") {
            let value: Value = serde_json::from_slice(data).unwrap_or_default();
            let error = if failed { value.get("response").unwrap_or(&value) } else { &value };
            let rejection = Box::new(Rejection::from_stream(error));
            if !self.progress.output {
                return Err(StreamFailure::Rejected(rejection));
            }
            self.forward_response(frame, data, response, out);
            frame.write_missing_lf(out);
            return Err(StreamFailure::Told(rejection));
        }
        if matches!(kind, "response.completed" | "response.incomplete") {
            self.complete = true;
            let whole = response.and_then(|text| serde_json::from_str::<Value>(text).ok());
            self.last = whole.map(|response| summary(&response, Endpoint::Responses));
        }
        let opening = matches!(
            kind,
            "response.created"
                | "response.queued"
                | "response.in_progress"
                | "response.output_item.added"
                | "response.content_part.added"
        );
        self.progress.output |= !opening;
        if kind.ends_with(".delta") {
            let delta = memmem::find(data, DELTA_MEMBER).map_or(0, |at| data.len() - at);
            self.progress.produced += delta.saturating_sub(DELTA_FRAME) as u64;
        }
        self.forward_response(frame, data, response, out);
        Ok(())
    }

    /// Forwards an event of the responses API, whose `response` object names the model.
    fn forward_response(
        &self,
        frame: &Frame<'_>,
        data: &[u8],
        response: Option<&str>,
        out: &mut BytesMut,
    ) {
        let names: Vec<_> = response
            .map(|text| {
                let offset = span(data, text).start;
                let found = members(text.as_bytes(), |name| name == "model").unwrap_or_default();
                found
                    .into_iter()
                    .map(|member| offset + member.value.start..offset + member.value.end)
                    .collect()
            })
            .unwrap_or_default();
        self.forward(frame, data, &names, out);
    }

    /// Forwards an event with the strings at `names` in its data replaced by the model's name.
    fn forward(
        &self,
        frame: &Frame<'_>,
        data: &[u8],
        names: &[std::ops::Range<usize>],
        out: &mut BytesMut,
    ) {
        let Some(renamed) = renamed(data, names, &self.model) else {
            out.put_slice(frame.raw);
            return;
        };
        frame.write_with_data(&renamed, out);
    }
}

/// Tells whether a delta has anything but a role.
fn has_output(delta: &RawValue) -> bool {
    match serde_json::from_str::<Value>(delta.get()) {
        Ok(Value::Object(members)) => {
            members.iter().any(|(name, value)| name != "role" && has_content(value))
        }
        Ok(value) => has_content(&value),
        Err(_) => true,
    }
}

/// Tells whether a value is more than an empty shell. Snowflake sends whole empty objects.
fn has_content(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(has_content),
        Value::Object(members) => members.values().any(has_content),
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
