//! A canonical chat in Anthropic's words.

use std::borrow::Cow;

use llmux_types::chat::{
    AssistantMessage, ChatRequest, Message, Part, ResponseFormat, Source, Tool, ToolChoice,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::STRUCTURED;
use super::models::Generation;
use crate::codec::{EncodeError, Encoding};

/// Tokens of thinking for an effort, at models that want a budget; Google's mapping of the same words.
const BUDGETS: [(&str, u64); 5] =
    [("low", 1024), ("medium", 8192), ("high", 24_576), ("xhigh", 32_000), ("max", 32_000)];

pub(super) struct Encoded {
    pub(super) body: Vec<u8>,
    /// Files that were uploaded before are named.
    pub(super) uses_files: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a Value>,
    stream: bool,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Image {
        source: BlockSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Document {
        source: BlockSource<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Self>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Text { media_type: &'static str, data: String },
    Url { url: &'a str },
    File { file_id: &'a str },
}

/// Says a request in Anthropic's words.
pub(super) fn encode(
    request: &ChatRequest,
    encoding: &Encoding<'_>,
) -> Result<Encoded, EncodeError> {
    let generation = Generation::of(encoding.model);
    let drop = encoding.drop_params;
    refuse_unsayable(request, drop)?;

    let mut turns = Turns::default();
    for (at, message) in request.messages.iter().enumerate() {
        turns.add(at, message)?;
    }
    turns.begin()?;
    turns.trim_last();
    let uses_files = turns.uses_files;

    let known = encoding.max_output_tokens;
    let own_limit = || known.unwrap_or_else(|| generation.max_output_tokens(encoding.model));
    let max_tokens = request.max_tokens.unwrap_or_else(own_limit);
    let (thinking, effort) = thinking(request, generation, max_tokens, drop)?;
    let (mut tools, mut tool_choice) = tools(request);
    let mut output_config = serde_json::Map::new();
    if let Some(effort) = effort {
        output_config.insert("effort".into(), effort.into());
    }
    match &request.response_format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => turns.system.push(Block::Text {
            text: "Answer with one JSON object and nothing else: no code fence, no text around it."
                .into(),
            cache_control: None,
        }),
        ResponseFormat::JsonSchema { schema, .. } if generation.formats() => {
            let format = json!({"type": "json_schema", "schema": closed(schema)});
            output_config.insert("format".into(), format);
        }
        ResponseFormat::JsonSchema { schema, .. } => {
            if !tools.is_empty() || thinking.is_some() {
                let message = "this model cannot be held to a schema beside tools or thinking";
                return Err(refuse("response_format", message));
            }
            tools.push(json!({"name": STRUCTURED, "input_schema": object_schema(Some(schema))}));
            tool_choice = Some(json!({"type": "tool", "name": STRUCTURED}));
        }
    }
    let sampling = sampling(request, generation, thinking.is_some(), drop)?;
    let body = Body {
        model: encoding.model,
        max_tokens,
        system: turns.system,
        messages: turns.turns,
        tools,
        tool_choice,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        stop_sequences: stop_sequences(&request.stop),
        thinking,
        output_config: (!output_config.is_empty()).then_some(Value::Object(output_config)),
        metadata: request.user.as_ref().map(|user| json!({ "user_id": user })),
        service_tier: request.service_tier.as_deref().map(|tier| match tier {
            "default" | "standard_only" => "standard_only",
            _ => "auto",
        }),
        cache_control: request.cache_control.as_ref(),
        stream: request.stream,
    };
    let body = serde_json::to_vec(&body).expect("texts, numbers and JSON values are always JSON");
    Ok(Encoded { body, uses_files })
}

fn refuse(param: &str, message: impl Into<String>) -> EncodeError {
    EncodeError { param: param.to_owned(), message: message.into() }
}

/// Refuses what Anthropic has no words for.
fn refuse_unsayable(request: &ChatRequest, drop: bool) -> Result<(), EncodeError> {
    if drop {
        return Ok(());
    }
    let is_some = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    let known = [
        ("n", request.n.is_some_and(|n| n != 1)),
        ("logprobs", request.logprobs.is_some()),
        ("seed", request.seed.is_some()),
        ("presence_penalty", is_some(request.presence_penalty)),
        ("frequency_penalty", is_some(request.frequency_penalty)),
        ("modalities", request.modalities.iter().any(|kind| kind != "text")),
    ];
    let unknown = request.others.keys().find(|name| !ChatRequest::harmless(name));
    let unsayable = known.iter().find(|(_, given)| *given).map(|(name, _)| *name);
    match unsayable.or(unknown.map(String::as_str)) {
        Some(name) => {
            Err(refuse(name, format!("`{name}` is not supported by the model's provider")))
        }
        None => Ok(()),
    }
}

struct Sampling {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u64>,
}

fn sampling(
    request: &ChatRequest,
    generation: Generation,
    thinks: bool,
    drop: bool,
) -> Result<Sampling, EncodeError> {
    // OpenAI's goes to 2.
    let temperature = request.temperature.map(|temperature| temperature.clamp(0.0, 1.0));
    let mut sampling = Sampling { temperature, top_p: request.top_p, top_k: request.top_k };
    let refused =
        |name: &str, why: &str| refuse(name, format!("`{name}` is refused by this model{why}"));
    if generation.refuses_sampling() || thinks {
        let why = if thinks { " while it thinks" } else { "" };
        let given = [
            ("temperature", request.temperature.is_some_and(|given| given != 1.0)),
            ("top_p", !thinks && request.top_p.is_some_and(|given| given != 1.0)),
            ("top_k", request.top_k.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given && !drop) {
            return Err(refused(name, why));
        }
        sampling.temperature = None;
        sampling.top_k = None;
        // A model that thinks takes 0.95 to 1.
        sampling.top_p = sampling
            .top_p
            .filter(|top_p| !generation.refuses_sampling() && (0.95..=1.0).contains(top_p));
    } else if generation.takes_one_sampling()
        && sampling.temperature.is_some()
        && sampling.top_p.is_some()
    {
        if !drop && sampling.top_p.is_some_and(|given| given != 1.0) {
            return Err(refused("top_p", " beside `temperature`"));
        }
        sampling.top_p = None;
    }
    Ok(sampling)
}

/// Decides on thinking: the object for it, and the effort of models that adapt.
fn thinking(
    request: &ChatRequest,
    generation: Generation,
    max_tokens: u64,
    drop: bool,
) -> Result<(Option<Value>, Option<&'static str>), EncodeError> {
    let asked = request.reasoning_effort.as_deref();
    let effort = asked.filter(|effort| !matches!(*effort, "none" | "minimal"));
    let mut effort = effort;
    if let Some(thinking) = &request.thinking {
        let kind = thinking.get("type").and_then(Value::as_str);
        let off = kind == Some("disabled");
        let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
        let adapted = |effort: Option<&str>| {
            effort.filter(|_| generation.adapts()).and_then(|word| generation.effort(word))
        };
        // As the client has it, where the model has these words.
        let said = off
            || match budget {
                Some(_) => !generation.refuses_budgets(),
                None => match kind {
                    Some("enabled") => false,
                    Some("adaptive") => generation.adapts(),
                    _ => true,
                },
            };
        if said {
            // Without its own blocks back, the vendor refuses to think on.
            let thinking = (off || !lacks_thinking(request)).then(|| thinking.clone());
            return Ok((thinking, adapted(effort)));
        }
        if generation.adapts() {
            let mut adaptive = json!({"type": "adaptive"});
            if let Some(display) = thinking.get("display") {
                adaptive["display"] = display.clone();
            }
            let effort = effort.or(budget.map(effort_of));
            return Ok(((!lacks_thinking(request)).then_some(adaptive), adapted(effort)));
        }
        effort = effort.or(Some("medium"));
    }
    let Some(effort) = effort else { return Ok((None, None)) };
    let Some(word) = generation.effort(effort) else {
        return Err(refuse("reasoning_effort", format!("`{effort}` is no effort that is known")));
    };
    if !generation.thinks() {
        let name = if request.thinking.is_some() { "thinking" } else { "reasoning_effort" };
        let message = format!("`{name}` is not supported by this model");
        return if drop { Ok((None, None)) } else { Err(refuse(name, message)) };
    }
    if generation.adapts() {
        let thinking = (!lacks_thinking(request)).then(|| json!({"type": "adaptive"}));
        return Ok((thinking, Some(word)));
    }
    let forced = matches!(
        request.tool_choice,
        Some(
            ToolChoice::Required
                | ToolChoice::Function(_)
                | ToolChoice::Allowed { required: true, .. }
        )
    );
    let budget =
        BUDGETS.iter().find(|(name, _)| *name == effort).map_or(8192, |(_, budget)| *budget);
    // Part of the tokens is for the answer; the vendor takes no budget below 1024.
    let budget = budget.min(max_tokens - max_tokens / 4);
    if budget < 1024 || forced || lacks_thinking(request) {
        return Ok((None, None));
    }
    Ok((Some(json!({"type": "enabled", "budget_tokens": budget})), None))
}

/// Returns the effort that a budget of tokens stands for.
const fn effort_of(budget: u64) -> &'static str {
    match budget {
        0..=4096 => "low",
        4097..=16_384 => "medium",
        _ => "high",
    }
}

/// Tells whether the turn that is going on called tools without its signed thinking: clients may have dropped it.
fn lacks_thinking(request: &ChatRequest) -> bool {
    let turn = request
        .messages
        .iter()
        .rev()
        .take_while(|message| !matches!(message, Message::User { .. }));
    let mut calls = turn.filter_map(|message| match message {
        Message::Assistant(message) if !message.tool_calls.is_empty() => Some(message),
        _ => None,
    });
    calls.any(|message| {
        !message.reasoning.iter().any(|block| block.signature.is_some() || block.redacted.is_some())
    })
}

fn stop_sequences(stop: &[String]) -> Vec<&str> {
    // The vendor refuses those of white space only.
    stop.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect()
}

/// The conversation in turns of strictly alternating roles.
#[derive(Default)]
struct Turns<'a> {
    system: Vec<Block<'a>>,
    turns: Vec<Turn<'a>>,
    uses_files: bool,
}

impl<'a> Turns<'a> {
    fn add(&mut self, at: usize, message: &'a Message) -> Result<(), EncodeError> {
        match message {
            Message::System { content } => {
                let blocks = self.blocks(at, content)?;
                self.system.extend(blocks);
            }
            Message::User { content } => {
                let blocks = self.blocks(at, content)?;
                self.turn("user").extend(blocks);
            }
            Message::Tool { call_id, content } => {
                let result = self.result(at, call_id, content)?;
                // Results come first in the turn after the calls, all of them together.
                let turn = self.turn("user");
                let results = |block: &Block<'_>| matches!(block, Block::ToolResult { .. });
                let place = turn.iter().take_while(|block| results(block)).count();
                turn.insert(place, result);
            }
            Message::Assistant(message) => {
                let blocks = self.assistant(at, message)?;
                self.turn("assistant").extend(blocks);
            }
        }
        self.turns.retain(|turn| !turn.content.is_empty());
        Ok(())
    }

    /// Returns the content of the last turn, a new one if the role changes.
    fn turn(&mut self, role: &'static str) -> &mut Vec<Block<'a>> {
        if self.turns.last().is_none_or(|turn| turn.role != role) {
            self.turns.push(Turn { role, content: Vec::new() });
        }
        let last = self.turns.len() - 1;
        &mut self.turns[last].content
    }

    fn result(
        &mut self,
        at: usize,
        call_id: &'a str,
        content: &'a [Part],
    ) -> Result<Block<'a>, EncodeError> {
        let mut blocks = self.blocks(at, content)?;
        let mut mark = None;
        for block in &mut blocks {
            if let Block::Text { cache_control, .. } = block {
                mark = cache_control.take().or(mark);
            }
        }
        Ok(Block::ToolResult {
            tool_use_id: sayable_id(call_id),
            content: blocks,
            cache_control: mark,
        })
    }

    fn assistant(
        &mut self,
        at: usize,
        message: &'a AssistantMessage,
    ) -> Result<Vec<Block<'a>>, EncodeError> {
        let reasoning = message.reasoning.iter().filter_map(|block| {
            match (&block.redacted, &block.signature) {
                (Some(data), _) => Some(Block::RedactedThinking { data }),
                (None, Some(signature)) => {
                    Some(Block::Thinking { thinking: &block.text, signature })
                }
                // Another vendor's: without a signature it cannot be sent.
                (None, None) => None,
            }
        });
        let mut blocks: Vec<_> = reasoning.collect();
        blocks.extend(self.blocks(at, &message.content)?);
        if let Some(text) = message.refusal.as_deref().filter(|text| !text.trim().is_empty()) {
            blocks.push(Block::Text { text: text.into(), cache_control: None });
        }
        for call in &message.tool_calls {
            let input = serde_json::from_str::<&RawValue>(&call.arguments).ok();
            let input = input.filter(|input| input.get().starts_with('{')).ok_or_else(|| {
                let message = format!(
                    "`messages[{at}]`: the arguments of `{}` are no JSON object",
                    call.name
                );
                refuse("messages", message)
            })?;
            blocks.push(Block::ToolUse { id: sayable_id(&call.id), name: &call.name, input });
        }
        Ok(blocks)
    }

    fn blocks(&mut self, at: usize, parts: &'a [Part]) -> Result<Vec<Block<'a>>, EncodeError> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            blocks.push(match part {
                // The vendor refuses empty ones, and those of white space only.
                Part::Text { text, .. } if text.trim().is_empty() => continue,
                Part::Text { text, cache_control } => {
                    Block::Text { text: text.into(), cache_control: cache_control.as_ref() }
                }
                Part::Image { source, cache_control, .. } => Block::Image {
                    source: self.source(source),
                    cache_control: cache_control.as_ref(),
                },
                Part::File { source, filename, cache_control } => Block::Document {
                    source: self.document(at, source)?,
                    title: filename.as_deref(),
                    cache_control: cache_control.as_ref(),
                },
                Part::Audio { .. } => {
                    let message = format!("`messages[{at}]`: the model's provider takes no audio");
                    return Err(refuse("messages", message));
                }
            });
        }
        Ok(blocks)
    }

    fn source(&mut self, source: &'a Source) -> BlockSource<'a> {
        match source {
            Source::Url(url) => BlockSource::Url { url },
            Source::Data { media_type, data } => BlockSource::Base64 { media_type, data },
            Source::FileId(file_id) => {
                self.uses_files = true;
                BlockSource::File { file_id }
            }
        }
    }

    fn document(&mut self, at: usize, source: &'a Source) -> Result<BlockSource<'a>, EncodeError> {
        match source {
            Source::Data { media_type, data } if media_type.starts_with("text/") => {
                let bytes = super::response::from_base64(data);
                let text =
                    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
                        refuse(
                            "messages",
                            format!("`messages[{at}]`: the file is no text in base64"),
                        )
                    })?;
                Ok(BlockSource::Text { media_type: "text/plain", data: text })
            }
            Source::Data { media_type, .. } if media_type != "application/pdf" => {
                let message =
                    format!("`messages[{at}]`: the model's provider takes PDF and text files only");
                Err(refuse("messages", message))
            }
            other => Ok(self.source(other)),
        }
    }

    /// A conversation must have a turn, and begin with the user's.
    fn begin(&mut self) -> Result<(), EncodeError> {
        if self.turns.is_empty() {
            if self.system.is_empty() {
                return Err(refuse("messages", "`messages` hold no content"));
            }
            // Instructions alone are what there is to answer.
            let content = std::mem::take(&mut self.system);
            self.turns.push(Turn { role: "user", content });
        } else if self.turns[0].role != "user" {
            // The vendor takes no turn without text that is seen.
            let content = vec![Block::Text { text: ".".into(), cache_control: None }];
            self.turns.insert(0, Turn { role: "user", content });
        }
        Ok(())
    }

    /// The vendor refuses a last assistant message that ends in white space.
    fn trim_last(&mut self) {
        if let Some(turn) = self.turns.last_mut().filter(|turn| turn.role == "assistant")
            && let Some(Block::Text { text, .. }) = turn.content.last_mut()
        {
            *text = Cow::Owned(text.trim_end().to_owned());
        }
    }
}

/// Returns the id of a call as the vendor takes it: letters, digits, `_` and `-`. Other vendors' ids have more
/// (`functions.add:0`); the same id always becomes the same one.
fn sayable_id(id: &str) -> Cow<'_, str> {
    let sayable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if id.bytes().all(sayable) {
        return Cow::Borrowed(id);
    }
    let mut said = String::with_capacity(id.len() + 8);
    for byte in id.bytes() {
        if sayable(byte) {
            said.push(char::from(byte));
        } else {
            said.push_str(&format!("-{byte:02x}"));
        }
    }
    Cow::Owned(said)
}

/// Returns the tools and the choice among them.
fn tools(request: &ChatRequest) -> (Vec<Value>, Option<Value>) {
    let chosen = |name: &str| match &request.tool_choice {
        Some(ToolChoice::Allowed { names, .. }) => names.iter().any(|allowed| allowed == name),
        _ => true,
    };
    let mut tools: Vec<Value> =
        request.tools.iter().filter(|tool| chosen(&tool.name)).map(definition).collect();
    let callable = !tools.is_empty();
    if !callable {
        // A conversation that has calls needs their tools defined.
        let mut names: Vec<&str> = request
            .messages
            .iter()
            .filter_map(|message| match message {
                Message::Assistant(message) => Some(&message.tool_calls),
                _ => None,
            })
            .flatten()
            .map(|call| call.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        tools = names
            .into_iter()
            .map(|name| json!({"name": name, "input_schema": object_schema(None)}))
            .collect();
    }
    let choice = match &request.tool_choice {
        _ if !callable => (!tools.is_empty()).then(|| json!({"type": "none"})),
        Some(ToolChoice::None) => Some(json!({"type": "none"})),
        Some(ToolChoice::Auto | ToolChoice::Allowed { required: false, .. }) => {
            Some(json!({"type": "auto"}))
        }
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. }) => {
            Some(json!({"type": "any"}))
        }
        Some(ToolChoice::Function(name)) => Some(json!({"type": "tool", "name": name})),
        None => (request.parallel_tool_calls == Some(false)).then(|| json!({"type": "auto"})),
    };
    let choice = choice.map(|mut choice| {
        if request.parallel_tool_calls == Some(false) && choice["type"] != "none" {
            choice["disable_parallel_tool_use"] = json!(true);
        }
        choice
    });
    if let Some(options) = &request.web_search {
        let mut search = json!({"type": "web_search_20250305", "name": "web_search"});
        if let Some(place) =
            options.pointer("/user_location/approximate").and_then(Value::as_object)
        {
            let mut place = place.clone();
            place.insert("type".into(), json!("approximate"));
            search["user_location"] = Value::Object(place);
        }
        tools.push(search);
    }
    (tools, choice)
}

fn definition(tool: &Tool) -> Value {
    let mut definition =
        json!({"name": tool.name, "input_schema": object_schema(tool.parameters.as_ref())});
    if let Some(description) = &tool.description {
        definition["description"] = json!(description);
    }
    if let Some(strict) = tool.strict {
        definition["strict"] = json!(strict);
    }
    if let Some(mark) = &tool.cache_control {
        definition["cache_control"] = mark.clone();
    }
    definition
}

/// Returns a schema as the vendor wants it: an object's.
fn object_schema(schema: Option<&Value>) -> Value {
    let mut schema = match schema {
        Some(schema @ Value::Object(_)) => schema.clone(),
        _ => json!({"type": "object", "properties": {}}),
    };
    if schema["type"] != "object" {
        schema["type"] = json!("object");
    }
    schema
}

/// Returns a schema whose objects take no members but those named: the vendor demands it of formats.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let mut object: serde_json::Map<_, _> =
                members.iter().map(|(name, value)| (name.clone(), closed(value))).collect();
            if object.get("type") == Some(&json!("object")) {
                object.entry("additionalProperties").or_insert(json!(false));
            }
            Value::Object(object)
        }
        Value::Array(items) => Value::Array(items.iter().map(closed).collect()),
        other => other.clone(),
    }
}
