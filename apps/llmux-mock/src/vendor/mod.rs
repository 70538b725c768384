//! The default answers: which vendor and endpoint a path means, and what is said there.

mod anthropic;
mod content;
mod embeddings;
mod error;
mod gemini;
mod media;
mod openai;
mod responses;
mod sample;

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::reply::{Garbage, Reply};
use crate::state::State;
use content::Content;

pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";
const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// A request, as far as the answer depends on it.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
}

/// An answer, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    /// Name of the header in which the vendor tells the request's id.
    pub(crate) request_id: &'static str,
    /// Whether the length is not known beforehand.
    pub(crate) stream: bool,
    pub(crate) events: Vec<Bytes>,
    /// All events in one.
    pub(crate) whole: Bytes,
}

/// What a prepared answer depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    endpoint: Endpoint,
    dialect: Dialect,
    model: String,
    stream: bool,
    include_usage: bool,
    choices: usize,
    prompt_tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Moderations,
    Images,
    Speech,
    Transcription,
    Models,
    Messages,
    CountTokens,
    Generate,
    StreamGenerate { sse: bool },
    EmbedContent,
    BatchEmbed,
    Unknown,
}

/// The request's body, as far as the answer depends on it. Everything else stays unparsed.
#[derive(Default, Deserialize)]
pub(crate) struct Look<'a> {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    n: Option<usize>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "toolConfig", alias = "tool_config")]
    tool_choice: Option<&'a RawValue>,
    /// Where each dialect asks for JSON that follows a schema.
    #[serde(
        borrow,
        default,
        alias = "text",
        alias = "output_config",
        alias = "generationConfig",
        alias = "generation_config"
    )]
    response_format: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "contents")]
    messages: Option<&'a RawValue>,
    #[serde(
        borrow,
        default,
        alias = "instructions",
        alias = "systemInstruction",
        alias = "system_instruction"
    )]
    system: Option<&'a RawValue>,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Look<'_> {
    fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Whether the answer is more than the standing text.
    fn is_plain(&self) -> bool {
        self.tool_choice.is_none() && self.response_format.is_none()
    }
}

impl Prepared {
    fn whole(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let whole = body.into();
        let events = if whole.is_empty() { Vec::new() } else { vec![whole.clone()] };
        Self {
            status: StatusCode::OK,
            content_type,
            request_id: "x-request-id",
            stream: false,
            events,
            whole,
        }
    }

    fn json(body: impl Into<Bytes>) -> Self {
        Self::whole(JSON, body)
    }

    fn stream<E: Into<Bytes>>(content_type: &'static str, events: Vec<E>) -> Self {
        let mut answer = Self::whole(content_type, Bytes::new());
        answer.stream = true;
        answer.set_events(events.into_iter().map(Into::into).collect());
        answer
    }

    fn set_events(&mut self, events: Vec<Bytes>) {
        self.whole = events.concat().into();
        self.events = events;
    }

    fn for_dialect(mut self, dialect: Dialect) -> Self {
        self.request_id = match dialect {
            Dialect::OpenAi | Dialect::Gemini => "x-request-id",
            Dialect::Azure => "apim-request-id",
            Dialect::Anthropic => "request-id",
        };
        self
    }
}

/// Answers a request to which no script applies.
pub(crate) fn answer(state: &State, call: &Call<'_>) -> Arc<Prepared> {
    let (endpoint, dialect) = route(call);
    let look = match look(endpoint, dialect, call) {
        Ok(look) => look,
        Err(error) => return Arc::new(error),
    };
    let reply = Reply::default();
    let says_the_text = matches!(
        endpoint,
        Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Generate
            | Endpoint::StreamGenerate { .. }
    );
    if !says_the_text || !look.is_plain() {
        return Arc::new(make(state, endpoint, dialect, call, &look, &reply));
    }
    let key = Key {
        endpoint,
        dialect,
        model: model(endpoint, call, &look),
        stream: look.stream == Some(true),
        include_usage: look.include_usage(),
        choices: choices(endpoint, &look),
        prompt_tokens: prompt_tokens(call, &look),
    };
    state.prepared(key, || make(state, endpoint, dialect, call, &look, &reply))
}

/// Answers as `reply` says; what it leaves open is as without it.
pub(crate) fn scripted_answer(state: &State, call: &Call<'_>, reply: &Reply) -> Prepared {
    let (endpoint, dialect) = route(call);
    let status = reply
        .status
        .map(|status| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    let mut answer = if let Some(pieces) = &reply.events {
        Prepared::stream(EVENT_STREAM, pieces.iter().map(|piece| piece.bytes.clone()).collect())
    } else if let Some(body) = &reply.body {
        Prepared::json(body.clone())
    } else if reply.garbage == Some(Garbage::Body) {
        Prepared::json("<<< neither JSON }{ nor an event")
    } else if let Some(status) = status.filter(|status| status.as_u16() >= 400) {
        error::answer(dialect, status, reply)
    } else {
        match look(endpoint, dialect, call) {
            Ok(look) => make(state, endpoint, dialect, call, &look, reply),
            Err(error) => error,
        }
    };
    if let Some(status) = status {
        answer.status = status;
    }
    if answer.stream && reply.events.is_none() {
        adjust(&mut answer, endpoint, dialect, reply);
    }
    answer.for_dialect(dialect)
}

/// Applies what a script changes about a stream's events.
fn adjust(answer: &mut Prepared, endpoint: Endpoint, dialect: Dialect, reply: &Reply) {
    let mut events = std::mem::take(&mut answer.events);
    if let Some(count) = reply.done
        && events.last().is_some_and(|event| event == DONE)
    {
        events.pop();
        events.extend(std::iter::repeat_n(Bytes::from_static(DONE), count));
    }
    if let Some(after) = reply.error_event {
        events.truncate(after);
        events.push(error::event(endpoint, dialect, reply, after));
    }
    answer.set_events(events);
}

fn route(call: &Call<'_>) -> (Endpoint, Dialect) {
    let path = call.uri.path().trim_end_matches('/');
    let post = call.method == Method::POST;
    let azure = path.contains("/openai/deployments/")
        || path.trim_start_matches('/').starts_with("openai/");
    let openai = if azure { Dialect::Azure } else { Dialect::OpenAi };
    let last = path.rsplit('/').next().unwrap_or_default();
    if let Some((_, action)) = last.split_once(':') {
        let endpoint = match action {
            "generateContent" if post => Endpoint::Generate,
            "streamGenerateContent" if post => {
                let query = call.uri.query().unwrap_or_default();
                Endpoint::StreamGenerate { sse: query.split('&').any(|pair| pair == "alt=sse") }
            }
            "embedContent" if post => Endpoint::EmbedContent,
            "batchEmbedContents" if post => Endpoint::BatchEmbed,
            _ => Endpoint::Unknown,
        };
        return (endpoint, Dialect::Gemini);
    }
    if path.ends_with("/messages/count_tokens") && post {
        return (Endpoint::CountTokens, Dialect::Anthropic);
    }
    if last == "messages" && post {
        return (Endpoint::Messages, Dialect::Anthropic);
    }
    if call.method == Method::GET && path.contains("/models") {
        let dialect = if call.headers.contains_key("anthropic-version") {
            Dialect::Anthropic
        } else if call.headers.contains_key("x-goog-api-key")
            || (path.contains("/v1beta/") && !path.contains("/openai/"))
        {
            Dialect::Gemini
        } else {
            openai
        };
        return (Endpoint::Models, dialect);
    }
    let endpoint = if !post {
        Endpoint::Unknown
    } else if path.ends_with("/chat/completions") {
        Endpoint::Chat
    } else if last == "completions" {
        Endpoint::Completions
    } else if last == "responses" {
        Endpoint::Responses
    } else if last == "embeddings" {
        Endpoint::Embeddings
    } else if last == "moderations" {
        Endpoint::Moderations
    } else if path.ends_with("/images/generations") {
        Endpoint::Images
    } else if path.ends_with("/audio/speech") {
        Endpoint::Speech
    } else if path.ends_with("/audio/transcriptions") || path.ends_with("/audio/translations") {
        Endpoint::Transcription
    } else {
        Endpoint::Unknown
    };
    let anthropic = endpoint == Endpoint::Unknown && call.headers.contains_key("anthropic-version");
    (endpoint, if anthropic { Dialect::Anthropic } else { openai })
}

fn look<'a>(endpoint: Endpoint, dialect: Dialect, call: &Call<'a>) -> Result<Look<'a>, Prepared> {
    if matches!(endpoint, Endpoint::Models | Endpoint::Transcription | Endpoint::Unknown) {
        return Ok(Look::default());
    }
    serde_json::from_slice(call.body).map_err(|problem| {
        let reply =
            Reply::default().message(&format!("The mock cannot read the request body: {problem}"));
        error::answer(dialect, StatusCode::BAD_REQUEST, &reply).for_dialect(dialect)
    })
}

/// The model asked for: in Gemini's dialect and Azure's the path may name it.
fn model(endpoint: Endpoint, call: &Call<'_>, look: &Look<'_>) -> String {
    let path = call.uri.path();
    let in_path = match endpoint {
        Endpoint::Generate
        | Endpoint::StreamGenerate { .. }
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbed => path.rsplit('/').next().and_then(|last| last.split(':').next()),
        _ if look.model.is_none() => {
            path.split_once("/deployments/").and_then(|(_, rest)| rest.split('/').next())
        }
        _ => None,
    };
    in_path.or(look.model.as_deref()).unwrap_or("mock").to_owned()
}

fn choices(endpoint: Endpoint, look: &Look<'_>) -> usize {
    let prompts = match endpoint {
        Endpoint::Completions => look.prompt.map_or(1, |prompt| embeddings::count(prompt).max(1)),
        _ => 1,
    };
    look.n.unwrap_or(1).clamp(1, 128) * prompts
}

/// Every four bytes of the conversation's JSON text are a token. Streaming or not, and which model, makes no difference.
fn prompt_tokens(call: &Call<'_>, look: &Look<'_>) -> u64 {
    let parts = [look.messages, look.input, look.prompt, look.system];
    let bytes: usize = parts.into_iter().flatten().map(|part| part.get().len()).sum();
    (if bytes == 0 { call.body.len() } else { bytes } as u64 / 4).max(1)
}

fn make(
    state: &State,
    endpoint: Endpoint,
    dialect: Dialect,
    call: &Call<'_>,
    look: &Look<'_>,
    reply: &Reply,
) -> Prepared {
    let model = model(endpoint, call, look);
    let stream = look.stream == Some(true);
    let content = || Content::new(&state.options, endpoint, call, look, reply);
    let answer = match endpoint {
        Endpoint::Chat => {
            openai::chat(&model, state.created, stream, look.include_usage(), &content())
        }
        Endpoint::Completions => {
            openai::completions(&model, state.created, stream, look.include_usage(), &content())
        }
        Endpoint::Responses => responses::answer(&model, state.created, stream, &content()),
        Endpoint::Messages => anthropic::messages(&model, stream, &content()),
        Endpoint::CountTokens => {
            Prepared::json(format!(r#"{{"input_tokens":{}}}"#, prompt_tokens(call, look)))
        }
        Endpoint::Generate => gemini::generate(&model, &content()),
        Endpoint::StreamGenerate { sse } => gemini::stream(&model, sse, &content()),
        Endpoint::Embeddings => embeddings::openai(&model, look, prompt_tokens(call, look)),
        Endpoint::EmbedContent => embeddings::gemini(call.body, false),
        Endpoint::BatchEmbed => embeddings::gemini(call.body, true),
        Endpoint::Moderations => media::moderations(&model, look),
        Endpoint::Images => media::images(state.created, call.body),
        Endpoint::Speech => media::speech(call.body),
        Endpoint::Transcription => media::transcription(call, &state.options, reply),
        Endpoint::Models => media::models(dialect, state.created, call.uri.path()),
        Endpoint::Unknown => {
            let reply = Reply::default().message(&format!(
                "Unknown request URL: {} {}",
                call.method,
                call.uri.path()
            ));
            error::answer(dialect, StatusCode::NOT_FOUND, &reply)
        }
    };
    answer.for_dialect(dialect)
}

/// JSON text of a string.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
