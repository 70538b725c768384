//! OpenAI's chat dialect as a client's: requests into the canonical chat, answers out of it.
//!
//! <https://platform.openai.com/docs/api-reference/chat>. Extensions that clients send and expect: `reasoning_content` and
//! `thinking_blocks` for reasoning, `cache_control` marks, `extra_content.google.thought_signature`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use llmux_types::chat::{
    AssistantMessage, ChatRequest, Message, Part, Reasoning, ResponseFormat, Source, Tool,
    ToolCall, ToolChoice,
};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize as DeriveDeserialize, Serialize};
use serde_json::Value;

use crate::fault::words;
use crate::request::Invalid;

/// Reads a request.
///
/// # Errors
/// [`Invalid`] naming the field that is not as OpenAI defines it, or that has no counterpart anywhere else.
pub fn read_request(body: &[u8]) -> Result<ChatRequest, Invalid> {
    let mut reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    deserializer.deserialize_map(&mut reader).map_err(|error| reader.fault(&words(&error)))?;
    reader.finish()
}

/// Collects the fields of a request.
#[derive(Default)]
struct Reader {
    request: ChatRequest,
    messages: Vec<WireMessage>,
    tools: Vec<WireTool>,
    tool_choice: Option<Value>,
    response_format: Option<WireFormat>,
    max_completion_tokens: Option<u64>,
    logprobs: bool,
    top_logprobs: Option<u64>,
    /// The field being read: what an error is about. Empty if it is one without a meaning of its own.
    field: &'static str,
    /// Which of the field's items is being read, where that is known.
    at: Option<usize>,
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let request = &mut self.request;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            self.at = None;
            self.field = FIELDS.iter().find(|field| **field == key).copied().unwrap_or_default();
            match key.as_ref() {
                "messages" => self.messages = map.next_value_seed(Items::of(&mut self.at))?,
                "tools" => self.tools = map.next_value_seed(Items::of(&mut self.at))?,
                "tool_choice" => self.tool_choice = optional(&mut map)?,
                "parallel_tool_calls" => request.parallel_tool_calls = optional(&mut map)?,
                "response_format" => self.response_format = optional(&mut map)?,
                "max_completion_tokens" => self.max_completion_tokens = optional(&mut map)?,
                "max_tokens" => request.max_tokens = optional(&mut map)?,
                "temperature" => request.temperature = optional(&mut map)?,
                "top_p" => request.top_p = optional(&mut map)?,
                "top_k" => request.top_k = optional(&mut map)?,
                "stop" => request.stop = optional::<_, Texts>(&mut map)?.0,
                "n" => request.n = optional(&mut map)?,
                "seed" => request.seed = optional(&mut map)?,
                "presence_penalty" => request.presence_penalty = optional(&mut map)?,
                "frequency_penalty" => request.frequency_penalty = optional(&mut map)?,
                "logprobs" => self.logprobs = optional(&mut map)?,
                "top_logprobs" => self.top_logprobs = optional(&mut map)?,
                "reasoning_effort" => request.reasoning_effort = optional(&mut map)?,
                "thinking" => request.thinking = optional(&mut map)?,
                "safety_identifier" => {
                    let id: Option<String> = optional(&mut map)?;
                    request.user = request.user.take().or(id);
                }
                "user" => {
                    let id: Option<String> = optional(&mut map)?;
                    request.user = id.or(request.user.take());
                }
                "service_tier" => request.service_tier = optional(&mut map)?,
                "web_search_options" => request.web_search = optional(&mut map)?,
                "modalities" => request.modalities = optional(&mut map)?,
                "cache_control" => request.cache_control = optional(&mut map)?,
                "stream" => request.stream = optional(&mut map)?,
                // Of the gateway itself.
                "model" | "tags" | "cache" => {
                    map.next_value::<IgnoredAny>()?;
                }
                other => {
                    let value: Value = map.next_value()?;
                    if !value.is_null() {
                        request.others.insert(other.to_owned(), value);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The fields with a meaning of their own, for errors.
static FIELDS: [&str; 25] = [
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_completion_tokens",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "thinking",
    "safety_identifier",
    "user",
    "service_tier",
    "web_search_options",
    "modalities",
    "stream",
];

/// Reads a value in which null is the same as leaving the field out.
fn optional<'de, A: MapAccess<'de>, T: Deserialize<'de> + Default>(
    map: &mut A,
) -> Result<T, A::Error> {
    Ok(map.next_value::<Option<T>>()?.unwrap_or_default())
}

/// Reads a list, in which null is the same as leaving it out, and keeps count: an error is about an item.
struct Items<'a, T> {
    at: &'a mut Option<usize>,
    item: PhantomData<T>,
}

impl<'a, T> Items<'a, T> {
    fn of(at: &'a mut Option<usize>) -> Self {
        Self { at, item: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Items<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_none<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        loop {
            *self.at = Some(items.len());
            let Some(item) = seq.next_element()? else { return Ok(items) };
            items.push(item);
        }
    }
}

impl Reader {
    /// Says what is wrong with what is being read.
    fn fault(&self, fault: &str) -> Invalid {
        let field = self.field;
        match self.at {
            _ if field.is_empty() => {
                let message = format!("the request body cannot be read: {fault}");
                Invalid { param: None, message }
            }
            Some(at) => Invalid::field(field, format!("`{field}[{at}]`: {fault}")),
            None => Invalid::field(field, format!("`{field}`: {fault}")),
        }
    }

    fn finish(mut self) -> Result<ChatRequest, Invalid> {
        let messages = std::mem::take(&mut self.messages).into_iter().enumerate();
        let messages: Result<_, _> = messages.map(|(at, message)| message.canonical(at)).collect();
        let tools: Result<_, _> = self.tools.into_iter().enumerate().map(tool).collect();
        let mut request = self.request;
        request.messages = messages?;
        request.tools = tools?;
        request.tool_choice = self.tool_choice.as_ref().map(tool_choice).transpose()?;
        request.response_format = match self.response_format {
            Some(format) => format.canonical()?,
            None => ResponseFormat::Text,
        };
        request.max_tokens = self.max_completion_tokens.or(request.max_tokens);
        if self.logprobs {
            request.logprobs = Some(self.top_logprobs.unwrap_or(0));
        }
        Ok(request)
    }
}

/// A text, or a list of them.
#[derive(Default)]
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }
            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(DeriveDeserialize)]
struct WireMessage {
    role: String,
    #[serde(default)]
    content: Content,
    tool_calls: Option<Vec<WireCall>>,
    tool_call_id: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    thinking_blocks: Option<Vec<ThinkingBlock>>,
    extra_content: Option<ExtraContent>,
    function_call: Option<Value>,
}

/// The content of a message: nothing, a text, or parts.
#[derive(Default)]
struct Content(Vec<WirePart>);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an array of content parts or null")
            }
            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content::default())
            }
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content(vec![WirePart::of_text(text.to_owned())]))
            }
            fn visit_string<E>(self, text: String) -> Result<Content, E> {
                Ok(Content(vec![WirePart::of_text(text)]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content(parts))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(Default, DeriveDeserialize)]
struct WirePart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<ImageUrl>,
    file: Option<WireFile>,
    input_audio: Option<InputAudio>,
    cache_control: Option<Value>,
}

#[derive(DeriveDeserialize)]
struct ImageUrl {
    url: String,
    detail: Option<String>,
}

#[derive(DeriveDeserialize)]
struct WireFile {
    file_data: Option<String>,
    file_id: Option<String>,
    filename: Option<String>,
}

#[derive(DeriveDeserialize)]
struct InputAudio {
    data: String,
    format: String,
}

#[derive(DeriveDeserialize)]
struct WireCall {
    id: Option<String>,
    function: Option<WireFunctionCall>,
    extra_content: Option<ExtraContent>,
}

#[derive(DeriveDeserialize)]
struct WireFunctionCall {
    name: String,
    #[serde(default)]
    arguments: String,
}

/// Google's place for its signatures in OpenAI's dialect: <https://ai.google.dev/gemini-api/docs/thought-signatures>.
#[derive(Clone, DeriveDeserialize, Serialize)]
pub(super) struct ExtraContent {
    google: Option<GoogleContent>,
}

#[derive(Clone, DeriveDeserialize, Serialize)]
struct GoogleContent {
    thought_signature: Option<String>,
}

impl ExtraContent {
    pub(super) fn of(signature: Option<&String>) -> Option<Self> {
        let thought_signature = Some(signature?.clone());
        Some(Self { google: Some(GoogleContent { thought_signature }) })
    }

    fn signature(self) -> Option<String> {
        self.google?.thought_signature
    }
}

/// Anthropic's blocks of reasoning in OpenAI's dialect.
#[derive(DeriveDeserialize, Serialize)]
pub(super) struct ThinkingBlock {
    #[serde(rename = "type")]
    kind: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

impl ThinkingBlock {
    /// Makes the block of a piece of reasoning; `None` if the vendor did not sign it and does not want it back.
    pub(super) fn of(reasoning: &Reasoning) -> Option<Self> {
        if let Some(data) = &reasoning.redacted {
            let kind = "redacted_thinking".into();
            return Some(Self { kind, thinking: None, signature: None, data: Some(data.clone()) });
        }
        let signature = Some(reasoning.signature.clone()?);
        let thinking = Some(reasoning.text.clone());
        Some(Self { kind: "thinking".into(), thinking, signature, data: None })
    }

    fn canonical(self) -> Reasoning {
        Reasoning {
            text: self.thinking.unwrap_or_default(),
            signature: self.signature,
            redacted: self.data,
        }
    }
}

impl WirePart {
    fn of_text(text: String) -> Self {
        Self { kind: "text".into(), text: Some(text), ..Self::default() }
    }

    fn canonical(self) -> Result<Part, String> {
        let cache_control = self.cache_control;
        let missing = |name: &str| format!("a `{}` part without `{name}`", self.kind);
        Ok(match self.kind.as_str() {
            "text" | "input_text" | "output_text" => {
                let text = self.text.ok_or_else(|| missing("text"))?;
                Part::Text { text, cache_control }
            }
            "refusal" => {
                Part::Text { text: self.refusal.ok_or_else(|| missing("refusal"))?, cache_control }
            }
            "image_url" => {
                let image = self.image_url.ok_or_else(|| missing("image_url"))?;
                let source = source(image.url)?;
                Part::Image { source, detail: image.detail, cache_control }
            }
            "file" => {
                let file = self.file.ok_or_else(|| missing("file"))?;
                let source = match (file.file_data, file.file_id) {
                    (Some(data), _) => source(data)?,
                    (None, Some(id)) => Source::FileId(id),
                    (None, None) => return Err("a `file` part without `file_data`".into()),
                };
                Part::File { source, filename: file.filename, cache_control }
            }
            "input_audio" => {
                let audio = self.input_audio.ok_or_else(|| missing("input_audio"))?;
                Part::Audio { data: audio.data, format: audio.format }
            }
            other => return Err(format!("content parts of type `{other}` are not supported")),
        })
    }
}

/// Reads a URL: `data:` ones hold their bytes in base64 (RFC 2397).
fn source(url: String) -> Result<Source, String> {
    let Some(rest) = url.strip_prefix("data:") else {
        let http = url.starts_with("http://") || url.starts_with("https://");
        return if http {
            Ok(Source::Url(url))
        } else {
            Err("a URL must begin with http://, https:// or data:".into())
        };
    };
    let (head, data) = rest.split_once(',').ok_or("a data: URL without a comma")?;
    let media_type = head.strip_suffix(";base64").ok_or("a data: URL that is not base64")?;
    let media_type = media_type.split(';').next().unwrap_or_default();
    Ok(Source::Data { media_type: media_type.to_owned(), data: data.to_owned() })
}

impl WireMessage {
    fn canonical(self, at: usize) -> Result<Message, Invalid> {
        let fault =
            |message: String| Invalid::field("messages", format!("`messages[{at}]`: {message}"));
        let parts: Result<Vec<_>, _> =
            self.content.0.into_iter().map(WirePart::canonical).collect();
        let content = parts.map_err(fault)?;
        Ok(match self.role.as_str() {
            "system" | "developer" => Message::System { content },
            "user" => Message::User { content },
            "tool" => {
                let missing = || fault("a tool message without `tool_call_id`".into());
                Message::Tool { call_id: self.tool_call_id.ok_or_else(missing)?, content }
            }
            "assistant" => {
                if self.function_call.is_some() {
                    return Err(fault("`function_call` is not supported; use `tool_calls`".into()));
                }
                let calls =
                    self.tool_calls.unwrap_or_default().into_iter().map(WireCall::canonical);
                let tool_calls = calls.collect::<Result<_, _>>().map_err(fault)?;
                let blocks = self.thinking_blocks.unwrap_or_default();
                let mut reasoning: Vec<_> =
                    blocks.into_iter().map(ThinkingBlock::canonical).collect();
                if let Some(text) = self.reasoning_content.filter(|text| !text.is_empty())
                    && reasoning.is_empty()
                {
                    reasoning.push(Reasoning { text, ..Reasoning::default() });
                }
                Message::Assistant(AssistantMessage {
                    reasoning,
                    content,
                    tool_calls,
                    refusal: self.refusal,
                    annotations: Vec::new(),
                    signature: self.extra_content.and_then(ExtraContent::signature),
                })
            }
            other => return Err(fault(format!("the role `{other}` is not supported"))),
        })
    }
}

impl WireCall {
    fn canonical(self) -> Result<ToolCall, String> {
        let function = self.function.ok_or("only calls of functions are supported")?;
        let arguments = function.arguments;
        Ok(ToolCall {
            id: self.id.ok_or("a tool call without `id`")?,
            name: function.name,
            arguments: if arguments.trim().is_empty() { "{}".into() } else { arguments },
            signature: self.extra_content.and_then(ExtraContent::signature),
        })
    }
}

#[derive(DeriveDeserialize)]
struct WireTool {
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<WireFunction>,
    cache_control: Option<Value>,
}

#[derive(DeriveDeserialize)]
struct WireFunction {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    strict: Option<bool>,
    cache_control: Option<Value>,
}

fn tool((at, wire): (usize, WireTool)) -> Result<Tool, Invalid> {
    let kind = wire.kind.as_deref().unwrap_or("function");
    let Some(function) = wire.function.filter(|_| kind == "function") else {
        let message = format!("`tools[{at}]`: tools of type `{kind}` are not supported");
        return Err(Invalid::field("tools", message));
    };
    Ok(Tool {
        name: function.name,
        description: function.description,
        parameters: function.parameters,
        strict: function.strict,
        cache_control: wire.cache_control.or(function.cache_control),
    })
}

fn tool_choice(value: &Value) -> Result<ToolChoice, Invalid> {
    let fault = || Invalid::field("tool_choice", "`tool_choice` is not one that OpenAI defines");
    let name = |value: &Value| {
        value.pointer("/function/name").and_then(Value::as_str).map(str::to_owned).ok_or_else(fault)
    };
    if let Some(word) = value.as_str() {
        return match word {
            "none" => Ok(ToolChoice::None),
            "auto" => Ok(ToolChoice::Auto),
            // Mistral's word for it.
            "required" | "any" => Ok(ToolChoice::Required),
            _ => Err(fault()),
        };
    }
    match value.get("type").and_then(Value::as_str) {
        Some("function") => Ok(ToolChoice::Function(name(value)?)),
        Some("allowed_tools") => {
            let allowed = value.get("allowed_tools").unwrap_or(value);
            let tools = allowed.get("tools").and_then(Value::as_array).ok_or_else(fault)?;
            Ok(ToolChoice::Allowed {
                names: tools.iter().map(name).collect::<Result<_, _>>()?,
                required: allowed.get("mode").and_then(Value::as_str) == Some("required"),
            })
        }
        _ => Err(fault()),
    }
}

#[derive(DeriveDeserialize)]
struct WireFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<WireSchema>,
}

#[derive(DeriveDeserialize)]
struct WireSchema {
    #[serde(default)]
    name: String,
    schema: Option<Value>,
    strict: Option<bool>,
}

impl WireFormat {
    fn canonical(self) -> Result<ResponseFormat, Invalid> {
        let fault = |message: &str| Invalid::field("response_format", message.to_owned());
        match self.kind.as_str() {
            "text" => Ok(ResponseFormat::Text),
            "json_object" => Ok(ResponseFormat::JsonObject),
            "json_schema" => {
                let missing = "`response_format.json_schema.schema` is missing";
                let wire = self.json_schema.ok_or_else(|| fault(missing))?;
                let schema = wire.schema.ok_or_else(|| fault(missing))?;
                Ok(ResponseFormat::JsonSchema { name: wire.name, schema, strict: wire.strict })
            }
            _ => Err(fault("`response_format.type` must be text, json_object or json_schema")),
        }
    }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
