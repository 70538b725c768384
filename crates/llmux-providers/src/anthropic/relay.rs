//! Anthropic's dialect on both sides: bytes pass, and are decoded beside.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use llmux_types::ErrorObject;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::errors::error_body;
use super::response::{WireUsage, finish_reason};
use crate::json::{members, renamed, span};
use crate::openai::Rejection;
use crate::sse::{Frame, Framer};
use crate::stream::{ClientStream, Progress, StreamFailure, Summary};

/// Puts a stop reason into OpenAI's words for the record; an unknown one stays.
fn finish_word(stop_reason: &str) -> String {
    finish_reason(stop_reason)
        .map_or_else(|| stop_reason.to_owned(), |reason| reason.as_str().to_owned())
}

/// A whole answer, decoded beside its bytes.
#[derive(Debug)]
pub struct Reply {
    body: Bytes,
    models: Vec<Range<usize>>,
    summary: Summary,
}

impl Reply {
    /// Looks at an answer.
    ///
    /// # Errors
    /// If it is no JSON object.
    pub fn look(body: Bytes) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            model: Option<&'a RawValue>,
            #[serde(borrow)]
            usage: Option<&'a RawValue>,
            stop_reason: Option<String>,
        }
        let fields: Fields<'_> = serde_json::from_slice(&body)?;
        let usage = fields.usage.and_then(|raw| serde_json::from_str::<WireUsage>(raw.get()).ok());
        let summary = Summary {
            usage: usage.as_ref().map(WireUsage::canonical),
            finish_reason: fields.stop_reason.as_deref().map(finish_word),
        };
        let models = fields.model.map(|raw| span(&body, raw.get())).into_iter().collect();
        Ok(Self { body, models, summary })
    }

    /// Returns usage and finish reason, in OpenAI's words.
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Returns the bytes with `model` as the model's name and nothing else changed.
    pub fn with_model(&self, model: &str) -> Bytes {
        renamed(&self.body, &self.models, model).map_or_else(|| self.body.clone(), Bytes::from)
    }
}

/// A stream on its way to a client of the same dialect: whole events, with their bytes as they came but for the model's
/// name in `message_start`.
#[derive(Debug)]
pub struct Relay {
    framer: Framer,
    events: Events,
}

#[derive(Debug)]
struct Events {
    model: String,
    progress: Progress,
    usage: Option<WireUsage>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    usage: Option<WireUsage>,
}

impl Relay {
    /// Makes a relay. `model` is the name that the client asked for.
    pub fn new(model: impl Into<String>) -> Self {
        let events = Events {
            model: model.into(),
            progress: Progress::default(),
            usage: None,
            stop_reason: None,
        };
        Self { framer: Framer::default(), events }
    }
}

/// The bytes of JSON around the text of a fragment: `{"type":"text_delta","text":""}`.
const TEXT_FRAME: usize = 31;

impl Events {
    fn note_usage(&mut self, usage: Option<WireUsage>) {
        if let Some(usage) = usage {
            self.usage.get_or_insert_default().update(usage);
        }
    }

    fn on_frame(&mut self, frame: &Frame<'_>, out: &mut BytesMut) -> Result<(), StreamFailure> {
        if self.progress.ended {
            return Ok(());
        }
        let Some(data) = frame.data.as_deref().filter(|data| !data.trim_ascii().is_empty()) else {
            out.put_slice(frame.raw);
            return Ok(());
        };
        let event: Event<'_> =
            serde_json::from_slice(data).map_err(|_| StreamFailure::Malformed)?;
        match event.kind {
            "message_start" => return self.on_start(frame, data, &event, out),
            "error" => {
                let value: Value = serde_json::from_slice(data).unwrap_or_default();
                let rejection = Box::new(Rejection::from_stream(&value));
                if !self.progress.output {
                    return Err(StreamFailure::Rejected(rejection));
                }
                out.put_slice(frame.raw);
                frame.write_missing_lf(out);
                return Err(StreamFailure::Told(rejection));
            }
            "message_delta" => {
                self.note_usage(event.usage);
                #[derive(Deserialize)]
                struct Delta {
                    stop_reason: Option<String>,
                }
                let delta =
                    event.delta.and_then(|raw| serde_json::from_str::<Delta>(raw.get()).ok());
                self.stop_reason =
                    delta.and_then(|delta| delta.stop_reason).or(self.stop_reason.take());
                self.progress.output = true;
            }
            "message_stop" => {
                out.put_slice(frame.raw);
                frame.write_missing_lf(out);
                self.progress = Progress { output: true, ended: true, ..self.progress };
                return Ok(());
            }
            "ping" | "content_block_start" => {}
            _ => {
                self.progress.output = true;
                let delta = event.delta.map_or(0, |raw| raw.get().len());
                self.progress.produced += delta.saturating_sub(TEXT_FRAME) as u64;
            }
        }
        out.put_slice(frame.raw);
        Ok(())
    }

    fn on_start(
        &mut self,
        frame: &Frame<'_>,
        data: &[u8],
        event: &Event<'_>,
        out: &mut BytesMut,
    ) -> Result<(), StreamFailure> {
        #[derive(Deserialize)]
        struct Message {
            #[serde(default, deserialize_with = "crate::json::or_none")]
            usage: Option<WireUsage>,
        }
        let Some(message) = event.message else {
            out.put_slice(frame.raw);
            return Ok(());
        };
        let text = message.get();
        let known = serde_json::from_str::<Message>(text).ok();
        self.note_usage(known.and_then(|message| message.usage));
        let offset = span(data, text).start;
        let found = members(text.as_bytes(), |name| name == "model").unwrap_or_default();
        let names: Vec<_> = found
            .into_iter()
            .map(|member| offset + member.value.start..offset + member.value.end)
            .collect();
        match renamed(data, &names, &self.model) {
            Some(renamed) => frame.write_with_data(&renamed, out),
            None => out.put_slice(frame.raw),
        }
        Ok(())
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
        if events.progress.ended { Ok(()) } else { Err(StreamFailure::Truncated) }
    }

    fn progress(&self) -> Progress {
        self.events.progress
    }

    fn summary(&self) -> Summary {
        Summary {
            usage: self.events.usage.as_ref().map(WireUsage::canonical),
            finish_reason: self.events.stop_reason.as_deref().map(finish_word),
        }
    }

    fn error_event(&self, error: &ErrorObject) -> Bytes {
        let status = match error.kind.as_str() {
            "rate_limit_error" => 429,
            "timeout_error" => 504,
            _ => 500,
        };
        Bytes::from(format!("event: error\ndata: {}\n\n", error_body(status, error)))
    }
}
