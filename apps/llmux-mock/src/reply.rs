use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::Gate;
use crate::syntax;

/// One scripted answer.
///
/// [`Reply::default`] is the answer the mock would have given anyway; every field changes one thing of it, and they
/// combine: `Reply { cut: Some(After::Events(2)), ..Reply::text("Hi") }`. The setters below cover the usual cases; the
/// fields are what a script file sets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reply {
    /// HTTP status. From 400 on, and without `body` or `events`, the body is an error in the shape of the path's vendor.
    #[serde(deserialize_with = "status")]
    pub status: Option<u16>,
    /// Further response headers; one that the mock would set itself is replaced.
    #[serde(deserialize_with = "headers")]
    pub headers: Vec<(String, String)>,
    /// The body as it is.
    #[serde(deserialize_with = "body")]
    pub body: Option<Bytes>,
    /// The body in pieces, each sent by its own write.
    #[serde(deserialize_with = "events")]
    pub events: Option<Vec<Piece>>,
    /// Replaces the content type.
    pub content_type: Option<String>,

    /// Wait before the status line.
    #[serde(deserialize_with = "duration")]
    pub latency: Option<Duration>,
    /// Wait between the response head and the first byte of the body.
    #[serde(deserialize_with = "duration")]
    pub first_byte: Option<Duration>,
    /// Wait between two events.
    #[serde(deserialize_with = "duration")]
    pub gap: Option<Duration>,
    /// Content chunks of the default answer.
    pub chunks: Option<usize>,
    /// Text of the default answer.
    pub text: Option<String>,
    /// Reasoning that the default answer shows before its text.
    pub reasoning: Option<String>,
    /// Tool calls of the default answer; they replace its text unless `text` is set.
    pub tool_calls: Vec<ToolCall>,
    /// Why the default answer ended.
    pub finish: Option<Finish>,
    /// How many of the prompt's tokens were read from the vendor's cache.
    pub cached_tokens: Option<u64>,

    /// Message of an error.
    pub message: Option<String>,
    /// Type of an error, in the vendor's words.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Code of an error.
    pub code: Option<String>,
    /// Sends an error in the stream after this many events, and ends it there.
    pub error_event: Option<usize>,
    /// Breaks the connection off.
    pub cut: Option<After>,
    /// Breaks the connection off after this many bytes of the body.
    pub cut_bytes: Option<usize>,
    /// Makes `cut` a TCP reset instead of a close.
    pub reset: bool,
    /// Stops sending and keeps the connection, until the client leaves or 120 seconds passed.
    pub hang: Option<After>,
    /// Sends nonsense.
    pub garbage: Option<Garbage>,
    /// How many `[DONE]` end the stream, in dialects that have it.
    pub done: Option<usize>,

    /// Waited for before each event.
    #[serde(skip)]
    pub gate: Option<Gate>,
}

/// A tool call in a scripted answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments as JSON text. In a script file an object will do.
    #[serde(deserialize_with = "json_text")]
    pub arguments: String,
}

/// Why an answer ended; each dialect says it in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model was done, or called a tool.
    Stop,
    /// The token limit was reached.
    Length,
    /// A filter held the rest back.
    ContentFilter,
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Before the first byte of the response.
    Nothing,
    /// After the head and this many events. An answer that is not a stream is one event.
    Events(usize),
}

/// Nonsense to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// A 200 whose body is not what its content type says.
    Body,
    /// Bytes that are not HTTP.
    Bytes,
}

/// One piece of a body, sent by its own write.
#[derive(Debug, Clone)]
pub struct Piece {
    /// What is sent.
    pub bytes: Bytes,
    /// Waited for before sending.
    pub gate: Option<Gate>,
}

impl Piece {
    /// Makes a piece that is sent as soon as it is due.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), gate: None }
    }

    /// Makes a piece that waits for a release of `gate`.
    pub fn gated(bytes: impl Into<Bytes>, gate: &Gate) -> Self {
        Self { bytes: bytes.into(), gate: Some(gate.clone()) }
    }
}

impl Reply {
    /// The vendor's error for `status`.
    pub fn error(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// A whole response.
    pub fn canned(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status: Some(status),
            content_type: Some(content_type.to_owned()),
            body: Some(body.into()),
            ..Self::default()
        }
    }

    /// An event stream; each event is sent as it is, by its own write.
    pub fn sse<E: Into<Bytes>>(events: impl IntoIterator<Item = E>) -> Self {
        Self::pieces(200, "text/event-stream", events.into_iter().map(Piece::new).collect())
    }

    /// A body in pieces, each sent by its own write.
    pub fn pieces(status: u16, content_type: &str, pieces: Vec<Piece>) -> Self {
        Self {
            status: Some(status),
            content_type: Some(content_type.to_owned()),
            events: Some(pieces),
            ..Self::default()
        }
    }

    /// The default answer with another text.
    pub fn text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    /// Breaks the connection off before the first byte of the response.
    pub fn cut() -> Self {
        Self { cut: Some(After::Nothing), ..Self::default() }
    }

    /// Breaks the connection off after the head and `events` events.
    pub fn cut_after(events: usize) -> Self {
        Self { cut: Some(After::Events(events)), ..Self::default() }
    }

    /// Breaks the connection off after the head and `bytes` bytes of the body.
    pub fn cut_after_bytes(bytes: usize) -> Self {
        Self { cut_bytes: Some(bytes), ..Self::default() }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self { hang: Some(After::Nothing), ..Self::default() }
    }

    /// Sends the head and `events` events and then no more.
    pub fn hang_after(events: usize) -> Self {
        Self { hang: Some(After::Events(events)), ..Self::default() }
    }

    /// A 200 whose body is nonsense.
    pub fn garbage_body() -> Self {
        Self { garbage: Some(Garbage::Body), ..Self::default() }
    }

    /// Bytes that are not HTTP, and the end of the connection.
    pub fn garbage_bytes() -> Self {
        Self { garbage: Some(Garbage::Bytes), ..Self::default() }
    }

    /// An error event after `events` events of the default stream.
    pub fn error_event(events: usize) -> Self {
        Self { error_event: Some(events), ..Self::default() }
    }

    /// Reads the syntax of the `x-mock-fault` header, such as `status=429;retry-after=2`.
    ///
    /// # Errors
    /// Names the part that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        syntax::parse(text)
    }

    /// Adds a response header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the content type.
    pub fn content_type(mut self, value: &str) -> Self {
        self.content_type = Some(value.to_owned());
        self
    }

    /// Waits before the status line.
    pub fn latency(mut self, wait: Duration) -> Self {
        self.latency = Some(wait);
        self
    }

    /// Waits between the head and the first byte of the body.
    pub fn first_byte(mut self, wait: Duration) -> Self {
        self.first_byte = Some(wait);
        self
    }

    /// Waits between two events.
    pub fn gap(mut self, wait: Duration) -> Self {
        self.gap = Some(wait);
        self
    }

    /// Sets the number of content chunks of the default answer.
    pub fn chunks(mut self, chunks: usize) -> Self {
        self.chunks = Some(chunks);
        self
    }

    /// Shows reasoning before the text.
    pub fn reasoning(mut self, text: &str) -> Self {
        self.reasoning = Some(text.to_owned());
        self
    }

    /// Calls a tool; `arguments` is JSON text.
    pub fn tool_call(mut self, name: &str, arguments: &str) -> Self {
        self.tool_calls.push(ToolCall { name: name.to_owned(), arguments: arguments.to_owned() });
        self
    }

    /// Ends the answer for another reason.
    pub fn finish(mut self, finish: Finish) -> Self {
        self.finish = Some(finish);
        self
    }

    /// Reports this many prompt tokens as read from the vendor's cache.
    pub fn cached_tokens(mut self, tokens: u64) -> Self {
        self.cached_tokens = Some(tokens);
        self
    }

    /// Sets the message of an error.
    pub fn message(mut self, message: &str) -> Self {
        self.message = Some(message.to_owned());
        self
    }

    /// Sets the code of an error.
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Sets the type of an error, in the vendor's words.
    pub fn kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// Makes a cut a TCP reset.
    pub fn reset(mut self) -> Self {
        self.reset = true;
        self
    }

    /// Ends the stream with `count` times `[DONE]`.
    pub fn done(mut self, count: usize) -> Self {
        self.done = Some(count);
        self
    }

    /// Waits for a release of `gate` before each event.
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected true or a number of events")]
        enum Form {
            Flag(bool),
            Events(usize),
        }
        match Form::deserialize(deserializer)? {
            Form::Flag(true) => Ok(Self::Nothing),
            Form::Flag(false) => {
                Err(serde::de::Error::custom("expected true or a number of events"))
            }
            Form::Events(events) => Ok(Self::Events(events)),
        }
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let status = u16::deserialize(deserializer)?;
    syntax::status(status).map(Some).map_err(serde::de::Error::custom)
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    let headers = BTreeMap::<String, String>::deserialize(deserializer)?;
    headers
        .into_iter()
        .map(|(name, value)| syntax::header(&name, &value).map_err(serde::de::Error::custom))
        .collect()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    syntax::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Takes a string for what it says and anything else for its JSON text.
fn json_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    })
}

fn body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    Ok(Some(json_text(deserializer)?.into()))
}

fn events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Piece>>, D::Error> {
    Ok(Some(Vec::<String>::deserialize(deserializer)?.into_iter().map(Piece::new).collect()))
}
