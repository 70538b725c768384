//! The conversation: `contents` and `systemInstruction`.

use std::borrow::Cow;
use std::collections::HashMap;

use llmux_types::chat::{AssistantMessage, Message, Part as ChatPart, Source, ToolCall};
use serde::Serialize;
use serde_json::value::RawValue;

use super::models::Traits;
use super::refuse;
use crate::codec::{EncodeError, Encoding};
use crate::json::quoted;

/// Stands for a signature that a client has lost: the vendor's documented `skip_thought_signature_validator`, whose
/// bytes are sent in base64 like those of any signature.
///
/// See <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>.
const LOST_SIGNATURE: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

#[derive(Debug, Serialize)]
pub(super) struct Content<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct SystemInstruction<'a> {
    parts: Vec<Part<'a>>,
}

/// One of its members, perhaps with a signature.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<Blob<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<FileData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<FunctionResponse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

impl<'a> Part<'a> {
    fn text(text: &'a str) -> Self {
        Self { text: Some(text), ..Self::default() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'a str>,
    file_uri: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Debug, Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    response: Cow<'a, RawValue>,
    /// Images and files, for models that take them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part<'a>>,
}

type Written<'a> = (Vec<Content<'a>>, Option<SystemInstruction<'a>>);

/// Writes the conversation. Roles alternate, and at least one turn is the user's.
pub(super) fn write<'a>(
    messages: &'a [Message],
    traits: &Traits,
    encoding: &Encoding<'_>,
) -> Result<Written<'a>, EncodeError> {
    if messages.is_empty() {
        return Err(refuse("messages", "messages must not be empty"));
    }
    let turn = current_turn(messages);
    let mut system = Vec::new();
    let mut turns = Turns::default();
    let mut calls = Calls::default();
    let mut rest = messages.iter().enumerate().peekable();
    while let Some((position, message)) = rest.next() {
        match message {
            Message::System { content } => system.extend(texts(content).map(Part::text)),
            Message::User { content } => turns.extend("user", parts(content, encoding)?),
            Message::Assistant(said) => {
                calls.remember(&said.tool_calls);
                let demand = traits.signed_calls && position >= turn;
                turns.extend("model", said_parts(said, demand, encoding)?);
            }
            Message::Tool { call_id, content } => {
                // All results of one answer's calls go into one turn, in the order of the calls.
                let mut results = vec![(call_id, content)];
                while let Some((_, Message::Tool { call_id, content })) =
                    rest.next_if(|(_, message)| matches!(message, Message::Tool { .. }))
                {
                    results.push((call_id, content));
                }
                turns.extend("user", result_parts(results, &calls, traits, encoding)?);
            }
        }
    }
    turns.finish(system, traits)
}

/// Finds where the current turn begins: with what the user said last. Signatures are checked from there on. What the
/// user adds to the results of calls goes into one content with them, and begins no turn.
fn current_turn(messages: &[Message]) -> usize {
    let mut begin = 0;
    let mut after_results = false;
    for (position, message) in messages.iter().enumerate() {
        match message {
            Message::System { .. } => {}
            Message::User { .. } if after_results => {}
            Message::User { .. } => begin = position,
            Message::Assistant(_) => after_results = false,
            Message::Tool { .. } => after_results = true,
        }
    }
    begin
}

/// The contents so far.
#[derive(Default)]
struct Turns<'a>(Vec<Content<'a>>);

impl<'a> Turns<'a> {
    fn extend(&mut self, role: &'static str, parts: Vec<Part<'a>>) {
        match self.0.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => self.0.push(Content { role, parts }),
        }
    }

    fn finish(
        mut self,
        system: Vec<Part<'a>>,
        traits: &Traits,
    ) -> Result<Written<'a>, EncodeError> {
        // Instructions alone are what there is to answer.
        let alone = self.0.is_empty();
        let (first, instruction) = if alone || !traits.system {
            (system, None)
        } else {
            (Vec::new(), (!system.is_empty()).then_some(SystemInstruction { parts: system }))
        };
        if !first.is_empty() {
            match self.0.first_mut() {
                Some(content) if content.role == "user" => {
                    content.parts.splice(0..0, first);
                }
                _ => self.0.insert(0, Content { role: "user", parts: first }),
            }
        }
        let Some(content) = self.0.first() else {
            return Err(refuse("messages", "messages hold no content"));
        };
        // A conversation must begin with the user; the vendor takes no turn without text.
        if content.role != "user" {
            self.0.insert(0, Content { role: "user", parts: vec![Part::text(" ")] });
        }
        Ok((self.0, instruction))
    }
}

/// The names of the calls so far, by id, and their places in the answer that made them.
#[derive(Default)]
struct Calls<'a>(HashMap<&'a str, (usize, &'a str)>);

impl<'a> Calls<'a> {
    fn remember(&mut self, calls: &'a [ToolCall]) {
        for (place, call) in calls.iter().enumerate() {
            self.0.insert(&call.id, (place, &call.name));
        }
    }
}

/// Texts that say something.
fn texts(content: &[ChatPart]) -> impl Iterator<Item = &str> {
    content.iter().filter_map(|part| match part {
        ChatPart::Text { text, .. } if !text.is_empty() => Some(text.as_str()),
        _ => None,
    })
}

fn parts<'a>(
    content: &'a [ChatPart],
    encoding: &Encoding<'_>,
) -> Result<Vec<Part<'a>>, EncodeError> {
    let said = content
        .iter()
        .filter(|part| !matches!(part, ChatPart::Text { text, .. } if text.is_empty()));
    said.map(|part| self::part(part, encoding)).collect()
}

fn part<'a>(part: &'a ChatPart, encoding: &Encoding<'_>) -> Result<Part<'a>, EncodeError> {
    match part {
        ChatPart::Text { text, .. } => Ok(Part::text(text)),
        ChatPart::Image { source, .. } => data(source, None, encoding),
        ChatPart::File { source, filename, .. } => data(source, filename.as_deref(), encoding),
        ChatPart::Audio { data, format } => {
            let mime_type = match format.as_str() {
                "wav" => Cow::Borrowed("audio/wav"),
                "mp3" => Cow::Borrowed("audio/mp3"),
                other => Cow::Owned(format!("audio/{other}")),
            };
            Ok(Part { inline_data: Some(Blob { mime_type, data }), ..Part::default() })
        }
    }
}

/// Bytes, or where the vendor finds them.
fn data<'a>(
    source: &'a Source,
    filename: Option<&'a str>,
    encoding: &Encoding<'_>,
) -> Result<Part<'a>, EncodeError> {
    let by_name = || filename.and_then(media_type);
    let file = |mime_type: Option<&'a str>, file_uri: Cow<'a, str>| {
        let file_data = Some(FileData { mime_type, file_uri });
        Ok(Part { file_data, ..Part::default() })
    };
    match source {
        Source::Data { media_type, data } => {
            let vague = matches!(media_type.as_str(), "" | "application/octet-stream");
            let guessed = if vague { by_name() } else { None };
            let mime_type = Cow::Borrowed(guessed.unwrap_or(media_type));
            Ok(Part { inline_data: Some(Blob { mime_type, data }), ..Part::default() })
        }
        // Its own store knows the types of its files.
        Source::Url(url) if is_stored(url) => file(media_type(url), Cow::Borrowed(url)),
        Source::Url(url) => match media_type(url).or_else(by_name).or_else(|| video(url)) {
            Some(kind) => file(Some(kind), Cow::Borrowed(url)),
            None => {
                let message = "the URL of an image or file must end in an extension that tells its \
                    type (such as .png), or its data must be sent as a data URL";
                Err(refuse("messages", message))
            }
        },
        Source::FileId(id) if id.starts_with("https://") || id.starts_with("gs://") => {
            file(media_type(id).or_else(by_name), Cow::Borrowed(id))
        }
        Source::FileId(id) if id.starts_with("files/") => {
            let url = format!("{}/v1beta/{id}", encoding.base_url);
            file(by_name(), Cow::Owned(url))
        }
        Source::FileId(_) => Err(refuse("messages", "file_id is not a file of Gemini's")),
    }
}

fn is_stored(url: &str) -> bool {
    url.starts_with("https://generativelanguage.googleapis.com/") && url.contains("/files/")
}

/// Videos that the vendor fetches by the address of their page.
fn video(url: &str) -> Option<&'static str> {
    const PAGES: [&str; 4] = [
        "https://www.youtube.com/",
        "https://youtube.com/",
        "https://m.youtube.com/",
        "https://youtu.be/",
    ];
    PAGES.iter().any(|page| url.starts_with(page)).then_some("video/mp4")
}

/// Guesses a media type from the extension of a URL's path or of a file's name.
fn media_type(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or_default();
    // A dot of the host's name is no extension.
    let path = path
        .split_once("://")
        .map_or(path, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let (_, extension) = path.rsplit('/').next().unwrap_or_default().rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "gif" => "image/gif",
        "bmp" => "image/bmp",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "xml" => "text/xml",
        "rtf" => "text/rtf",
        "json" => "application/json",
        "js" => "text/javascript",
        "py" => "text/x-python",
        "wav" => "audio/wav",
        "mp3" => "audio/mp3",
        "aiff" | "aif" => "audio/aiff",
        "aac" => "audio/aac",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "m4a" => "audio/m4a",
        "mp4" => "video/mp4",
        "mpeg" => "video/mpeg",
        "mpg" => "video/mpg",
        "mov" => "video/mov",
        "avi" => "video/avi",
        "flv" => "video/x-flv",
        "webm" => "video/webm",
        "wmv" => "video/wmv",
        "3gp" | "3gpp" => "video/3gpp",
        _ => return None,
    })
}

/// What the model said. Its reasoning stays away: the vendor keeps it in signatures.
fn said_parts<'a>(
    said: &'a AssistantMessage,
    demand_signature: bool,
    encoding: &Encoding<'_>,
) -> Result<Vec<Part<'a>>, EncodeError> {
    let mut parts = parts(&said.content, encoding)?;
    parts.extend(said.refusal.as_deref().filter(|text| !text.is_empty()).map(Part::text));
    if let Some(signature) = said.signature.as_deref().filter(|text| !text.is_empty()) {
        // It came with the last part before the calls, which may have had no text.
        match parts.last_mut() {
            Some(part) => part.thought_signature = Some(signature),
            None => {
                let part = Part { thought_signature: Some(signature), ..Part::text("") };
                parts.push(part);
            }
        }
    }
    for (place, call) in said.tool_calls.iter().enumerate() {
        let signature = call.signature.as_deref().filter(|text| !text.is_empty());
        let lost = (demand_signature && place == 0).then_some(LOST_SIGNATURE);
        parts.push(Part {
            function_call: Some(FunctionCall {
                id: &call.id,
                name: &call.name,
                args: arguments(&call.arguments),
            }),
            thought_signature: signature.or(lost),
            ..Part::default()
        });
    }
    Ok(parts)
}

/// Arguments must be an object. What another model wrote and is none is kept as a text in one.
fn arguments(text: &str) -> Cow<'_, RawValue> {
    if text.trim().is_empty() {
        return wrapped("{}".to_owned());
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => Cow::Borrowed(raw),
        _ => wrapped(format!("{{\"arguments\":{}}}", quoted(text))),
    }
}

fn wrapped(json: String) -> Cow<'static, RawValue> {
    Cow::Owned(RawValue::from_string(json).expect("made of quoted texts and checked JSON"))
}

fn result_parts<'a>(
    mut results: Vec<(&'a String, &'a Vec<ChatPart>)>,
    calls: &Calls<'a>,
    traits: &Traits,
    encoding: &Encoding<'_>,
) -> Result<Vec<Part<'a>>, EncodeError> {
    results.sort_by_key(|(id, _)| calls.0.get(id.as_str()).map(|(place, _)| *place));
    let mut parts = Vec::new();
    let mut media = Vec::new();
    for (id, content) in results {
        let Some(&(_, name)) = calls.0.get(id.as_str()) else {
            let message = format!("a tool message answers the call {id}, which was not made");
            return Err(refuse("messages", message));
        };
        let attached = content.iter().filter(|part| !matches!(part, ChatPart::Text { .. }));
        let attached: Vec<Part<'a>> =
            attached.map(|part| self::part(part, encoding)).collect::<Result<_, _>>()?;
        let mut response =
            FunctionResponse { id, name, response: result(content), parts: Vec::new() };
        if traits.media_results {
            response.parts = attached;
        } else {
            media.extend(attached);
        }
        parts.push(Part { function_response: Some(response), ..Part::default() });
    }
    // Older models see images and files after the results.
    parts.extend(media);
    Ok(parts)
}

/// A result must be an object: what is none becomes the member of one.
fn result(content: &[ChatPart]) -> Cow<'_, RawValue> {
    let mut texts = texts(content);
    let (first, second) = (texts.next().unwrap_or_default(), texts.next());
    let Some(second) = second else {
        return match serde_json::from_str::<&RawValue>(first) {
            Ok(raw) if raw.get().starts_with('{') => Cow::Borrowed(raw),
            Ok(raw) if raw.get().starts_with('[') => {
                wrapped(format!("{{\"result\":{}}}", raw.get()))
            }
            _ => wrapped(format!("{{\"result\":{}}}", quoted(first))),
        };
    };
    let mut all = format!("{first}\n{second}");
    for text in texts {
        all.push('\n');
        all.push_str(text);
    }
    wrapped(format!("{{\"result\":{}}}", quoted(&all)))
}
