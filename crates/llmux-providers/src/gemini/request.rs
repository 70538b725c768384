//! From the canonical request to `GenerateContentRequest`.

use llmux_types::chat::{ChatRequest, ResponseFormat, ToolChoice};
use serde::Serialize;
use serde_json::Value;

use super::contents::{self, Content, SystemInstruction};
use super::models::{Thinking, Traits, traits};
use super::{refuse, schema};
use crate::codec::{EncodeError, Encoding};

/// Texts that may end an answer: <https://ai.google.dev/api/generate-content#generationconfig>.
const MAX_STOPS: usize = 5;
/// Answers for one call.
const MAX_CANDIDATES: u64 = 8;
/// Alternatives for each token.
const MAX_LOGPROBS: u64 = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<SystemInstruction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation_config: Option<GenerationConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_settings: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ToolEntry<'a> {
    FunctionDeclarations(Vec<Declaration<'a>>),
    GoogleSearch {},
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    function_calling_config: Option<CallingConfig<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    include_server_side_tool_invocations: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_function_names: Vec<&'a str>,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_schema: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_modalities: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
}

/// What cannot be honoured is an error, or left out if that was asked for.
struct Strictness {
    drop: bool,
}

impl Strictness {
    /// Complains about a field, unless it is to be dropped.
    fn refuse(&self, param: &str, message: impl Into<String>) -> Result<(), EncodeError> {
        if self.drop { Ok(()) } else { Err(refuse(param, message)) }
    }
}

/// Writes the body.
pub(super) fn encode(
    request: &ChatRequest,
    encoding: &Encoding<'_>,
) -> Result<Vec<u8>, EncodeError> {
    let traits = traits(encoding.model);
    let strict = Strictness { drop: encoding.drop_params };
    let (contents, system_instruction) = contents::write(&request.messages, &traits, encoding)?;
    let (tools, tool_config) = tools(request, &traits, &strict)?;
    let generation = generation(request, &traits, encoding, &strict)?;
    let mut body = Body {
        contents,
        system_instruction,
        tools,
        tool_config,
        generation_config: (generation != GenerationConfig::default()).then_some(generation),
        safety_settings: None,
        cached_content: None,
        service_tier: service_tier(request, &strict)?,
    };
    others(request, &mut body, &strict)?;
    serde_json::to_vec(&body).map_err(|error| refuse("messages", error.to_string()))
}

/// Sorts the fields that the canonical request has no member for.
fn others<'a>(
    request: &'a ChatRequest,
    body: &mut Body<'a>,
    strict: &Strictness,
) -> Result<(), EncodeError> {
    for (name, value) in &request.others {
        // The vendor's own fields, under the names that other gateways and Google's SDKs use.
        match (name.as_str(), value) {
            ("safety_settings" | "safetySettings", Value::Array(_)) => {
                body.safety_settings = Some(value);
                continue;
            }
            ("cached_content" | "cachedContent", Value::String(cached)) => {
                body.cached_content = Some(cached);
                continue;
            }
            _ => {}
        }
        let says_nothing = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if !says_nothing && !ChatRequest::harmless(name) {
            strict.refuse(name, format!("{name} is not supported by Gemini"))?;
        }
    }
    Ok(())
}

/// See <https://ai.google.dev/gemini-api/docs/flex-inference>.
fn service_tier<'a>(
    request: &'a ChatRequest,
    strict: &Strictness,
) -> Result<Option<&'a str>, EncodeError> {
    match request.service_tier.as_deref() {
        None | Some("auto" | "default" | "standard") => Ok(None),
        Some(tier @ ("flex" | "priority")) => Ok(Some(tier)),
        Some(tier) => {
            strict.refuse(
                "service_tier",
                format!("service_tier {tier} is not supported by Gemini"),
            )?;
            Ok(None)
        }
    }
}

type Tools<'a> = (Vec<ToolEntry<'a>>, Option<ToolConfig<'a>>);

fn tools<'a>(
    request: &'a ChatRequest,
    traits: &Traits,
    strict: &Strictness,
) -> Result<Tools<'a>, EncodeError> {
    let mut entries = Vec::new();
    let mut tools: Vec<_> = request.tools.iter().collect();
    if request.parallel_tool_calls == Some(false) && !tools.is_empty() {
        let message = "parallel_tool_calls cannot be switched off with Gemini";
        strict.refuse("parallel_tool_calls", message)?;
    }
    let calling = match calling_config(request, traits)? {
        // Models without a mode for it are shown the allowed functions alone.
        Calling::Only(names) => {
            tools.retain(|tool| names.contains(&tool.name));
            None
        }
        Calling::Config(config) => config,
    };
    if !tools.is_empty() {
        let declarations = tools.into_iter().map(|tool| declaration(tool, traits)).collect();
        entries.push(ToolEntry::FunctionDeclarations(declarations));
    }
    if let Some(options) = &request.web_search {
        if options.get("user_location").is_some_and(|location| !location.is_null()) {
            let message = "web_search_options.user_location is not supported by Gemini";
            strict.refuse("web_search_options", message)?;
        }
        entries.push(ToolEntry::GoogleSearch {});
    }
    // From Gemini 3 on, functions and the vendor's own tools go together only if this is set.
    let together = traits.signed_calls && entries.len() > 1;
    let config = (calling.is_some() || together).then_some(ToolConfig {
        function_calling_config: calling,
        include_server_side_tool_invocations: together,
    });
    Ok((entries, config))
}

fn declaration<'a>(tool: &'a llmux_types::chat::Tool, traits: &Traits) -> Declaration<'a> {
    let schema = tool.parameters.as_ref().filter(|schema| schema.is_object());
    let mut declaration = Declaration {
        name: &tool.name,
        description: tool.description.as_deref().filter(|text| !text.is_empty()),
        parameters_json_schema: None,
        parameters: None,
    };
    if traits.json_schema {
        declaration.parameters_json_schema = schema;
    } else {
        declaration.parameters =
            schema.filter(|schema| !schema::is_empty(schema)).map(schema::cleaned);
    }
    declaration
}

enum Calling<'a> {
    Config(Option<CallingConfig<'a>>),
    Only(&'a [String]),
}

/// See <https://ai.google.dev/gemini-api/docs/function-calling#function_calling_modes>.
fn calling_config<'a>(
    request: &'a ChatRequest,
    traits: &Traits,
) -> Result<Calling<'a>, EncodeError> {
    let known = |name: &str| request.tools.iter().any(|tool| tool.name == name);
    let config = |mode: &'static str, names: Vec<&'a str>| {
        Ok(Calling::Config(Some(CallingConfig { mode, allowed_function_names: names })))
    };
    if request.tools.is_empty() {
        return match &request.tool_choice {
            None | Some(ToolChoice::None | ToolChoice::Auto) => Ok(Calling::Config(None)),
            Some(_) => Err(refuse("tool_choice", "tool_choice needs tools")),
        };
    }
    // `VALIDATED` is `AUTO` with calls that fit their schemas: what OpenAI calls strict.
    let exact =
        traits.validated_calls && request.tools.iter().any(|tool| tool.strict == Some(true));
    match &request.tool_choice {
        None if exact => config("VALIDATED", Vec::new()),
        None => Ok(Calling::Config(None)),
        Some(ToolChoice::Auto) => config(if exact { "VALIDATED" } else { "AUTO" }, Vec::new()),
        Some(ToolChoice::None) => config("NONE", Vec::new()),
        Some(ToolChoice::Required) => config("ANY", Vec::new()),
        Some(ToolChoice::Function(name)) if !known(name) => {
            Err(refuse("tool_choice", format!("tool_choice names {name}, which is not in tools")))
        }
        Some(ToolChoice::Function(name)) => config("ANY", vec![name]),
        Some(ToolChoice::Allowed { names, .. }) if !names.iter().all(|name| known(name)) => {
            Err(refuse("tool_choice", "tool_choice allows a function that is not in tools"))
        }
        Some(ToolChoice::Allowed { names, required: true }) => {
            config("ANY", names.iter().map(String::as_str).collect())
        }
        Some(ToolChoice::Allowed { names, required: false }) if traits.validated_calls => {
            config("VALIDATED", names.iter().map(String::as_str).collect())
        }
        Some(ToolChoice::Allowed { names, required: false }) => Ok(Calling::Only(names)),
    }
}

fn generation<'a>(
    request: &'a ChatRequest,
    traits: &Traits,
    encoding: &Encoding<'_>,
    strict: &Strictness,
) -> Result<GenerationConfig<'a>, EncodeError> {
    let max_output_tokens = request
        .max_tokens
        .map(|tokens| encoding.max_output_tokens.map_or(tokens, |limit| tokens.min(limit)));
    let mut config = GenerationConfig { max_output_tokens, ..GenerationConfig::default() };
    // Models that pass over these say so themselves if they ever refuse them.
    if traits.sampling || !strict.drop {
        config.temperature = request.temperature;
        config.top_p = request.top_p;
        config.top_k = request.top_k;
    }
    config.presence_penalty =
        penalty("presence_penalty", request.presence_penalty, traits, strict)?;
    config.frequency_penalty =
        penalty("frequency_penalty", request.frequency_penalty, traits, strict)?;
    config.stop_sequences =
        request.stop.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    if config.stop_sequences.len() > MAX_STOPS {
        strict.refuse("stop", format!("stop takes at most {MAX_STOPS} texts with Gemini"))?;
        config.stop_sequences.truncate(MAX_STOPS);
    }
    config.candidate_count = candidates(request, strict)?;
    // The vendor's seeds have 32 bits; what matters is that the same one stays the same.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are as good a seed")]
    let seed = request.seed.map(|seed| seed as i32);
    config.seed = seed;
    if let Some(alternatives) = request.logprobs {
        if alternatives > MAX_LOGPROBS {
            return Err(refuse("top_logprobs", "top_logprobs must be at most 20"));
        }
        config.response_logprobs = Some(true);
        config.logprobs = (alternatives > 0).then_some(alternatives);
    }
    match &request.response_format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => config.response_mime_type = Some("application/json"),
        ResponseFormat::JsonSchema { schema, .. } => {
            config.response_mime_type = Some("application/json");
            if traits.json_schema {
                config.response_json_schema = Some(schema);
            } else {
                config.response_schema = Some(schema::cleaned(schema));
            }
        }
    }
    for modality in &request.modalities {
        match modality.as_str() {
            "text" => config.response_modalities.push("TEXT"),
            "image" => config.response_modalities.push("IMAGE"),
            // The vendor speaks raw samples, which OpenAI's answers have no format for.
            other => {
                strict.refuse("modalities", format!("modality {other} is not supported"))?;
            }
        }
    }
    config.thinking_config = thinking(request, traits, strict)?;
    Ok(config)
}

/// A penalty of 0 is none, and is not sent: many models refuse the field whatever its value.
fn penalty(
    name: &str,
    value: Option<f64>,
    traits: &Traits,
    strict: &Strictness,
) -> Result<Option<f64>, EncodeError> {
    let value = value.filter(|value| *value != 0.0);
    if value.is_some() && !traits.penalties {
        strict.refuse(name, format!("{name} is not supported by this model"))?;
        return Ok(None);
    }
    Ok(value)
}

fn candidates(request: &ChatRequest, strict: &Strictness) -> Result<Option<u64>, EncodeError> {
    match request.n {
        None | Some(1) => Ok(None),
        Some(0) => Err(refuse("n", "n must be at least 1")),
        Some(_) if request.stream => {
            strict.refuse("n", "n greater than 1 is not supported in Gemini's streams")?;
            Ok(None)
        }
        Some(n) if n > MAX_CANDIDATES => {
            Err(refuse("n", format!("n must be at most {MAX_CANDIDATES} with Gemini")))
        }
        n => Ok(n),
    }
}

/// What the client wants to be thought, in the vendor's words.
///
/// Efforts as budgets: <https://ai.google.dev/gemini-api/docs/openai#thinking>.
fn thinking(
    request: &ChatRequest,
    traits: &Traits,
    strict: &Strictness,
) -> Result<Option<ThinkingConfig>, EncodeError> {
    let (param, wish) = if let Some(effort) = request.reasoning_effort.as_deref() {
        let wish = match effort {
            "none" => Wish::Off,
            "minimal" => Wish::Effort { budget: 1024, level: "minimal" },
            "low" => Wish::Effort { budget: 1024, level: "low" },
            "medium" => Wish::Effort { budget: 8192, level: "medium" },
            // More than the vendor has a word for is the most that it has.
            "high" => Wish::Effort { budget: 24_576, level: "high" },
            "xhigh" | "max" => Wish::Effort { budget: 32_768, level: "high" },
            other => {
                let message = format!("reasoning_effort {other} is not known");
                strict.refuse("reasoning_effort", message)?;
                return Ok(None);
            }
        };
        ("reasoning_effort", wish)
    } else if let Some(thinking) = &request.thinking {
        let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
        let wish = match (thinking.get("type").and_then(Value::as_str), budget) {
            (Some("disabled"), _) => Wish::Off,
            (_, None) => Wish::Adaptive,
            (_, Some(budget)) => {
                let level = match budget {
                    0..=4096 => "low",
                    4097..=16_384 => "medium",
                    _ => "high",
                };
                Wish::Effort { budget, level }
            }
        };
        ("thinking", wish)
    } else {
        return Ok(None);
    };
    wish.said_to(traits.thinking, param, strict)
}

enum Wish {
    Off,
    /// The model decides how much.
    Adaptive,
    Effort {
        budget: u64,
        level: &'static str,
    },
}

impl Wish {
    fn said_to(
        self,
        thinking: Thinking,
        param: &str,
        strict: &Strictness,
    ) -> Result<Option<ThinkingConfig>, EncodeError> {
        let always = || strict.refuse(param, "this model's thinking cannot be switched off");
        let mut config = ThinkingConfig {
            include_thoughts: (!matches!(self, Self::Off)).then_some(true),
            ..ThinkingConfig::default()
        };
        match (thinking, self) {
            (Thinking::Fixed, Self::Off) => return Ok(None),
            (Thinking::Fixed, _) => {
                strict.refuse(param, format!("{param} is not supported by this model"))?;
                return Ok(None);
            }
            (Thinking::Budget { min, off, .. }, Self::Off) => {
                if !off {
                    always()?;
                }
                config.thinking_budget = Some(if off { 0 } else { min.cast_signed() });
            }
            (Thinking::Budget { .. }, Self::Adaptive) => config.thinking_budget = Some(-1),
            (Thinking::Budget { min, max, .. }, Self::Effort { budget, .. }) => {
                config.thinking_budget = Some(budget.clamp(min, max).cast_signed());
            }
            // `minimal` hardly ever thinks: the nearest to none that there is.
            (Thinking::Level { minimal, .. }, Self::Off) => {
                if !minimal {
                    always()?;
                }
                config.thinking_level = Some(if minimal { "minimal" } else { "low" });
            }
            (Thinking::Level { .. }, Self::Adaptive) => {}
            (Thinking::Level { minimal, medium }, Self::Effort { level, .. }) => {
                config.thinking_level = Some(match level {
                    "minimal" if !minimal => "low",
                    "medium" if !medium => "high",
                    level => level,
                });
            }
        }
        Ok(Some(config))
    }
}
