//! OpenAI's chat dialect as a client's: answers out of the canonical chat.

use llmux_types::Usage;
use llmux_types::chat::{ChatResponse, Choice, FinishReason, Part, Source, ToolCall};
use serde::Serialize;
use serde_json::Value;

use super::chat::{ExtraContent, ThinkingBlock};

/// Who answered, for the members of an answer that no vendor fills.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// Used where the vendor gives no id.
    pub id: String,
    /// As the client asked.
    pub model: String,
    /// Unix seconds.
    pub created: u64,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WireChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WireUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
}

#[derive(Serialize)]
struct WireChoice<'a> {
    index: u64,
    message: AnswerMessage<'a>,
    logprobs: Option<&'a Value>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct AnswerMessage<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thinking_blocks: Vec<ThinkingBlock>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<AnswerCall<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    annotations: &'a [Value],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<AnswerImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent>,
}

#[derive(Serialize)]
pub(super) struct AnswerCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: AnswerFunction<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<ExtraContent>,
}

#[derive(Serialize)]
struct AnswerFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

impl<'a> AnswerCall<'a> {
    pub(super) fn of(call: &'a ToolCall) -> Self {
        Self {
            index: None,
            id: Some(&call.id),
            kind: Some("function"),
            function: AnswerFunction { name: Some(&call.name), arguments: &call.arguments },
            extra_content: ExtraContent::of(call.signature.as_ref()),
        }
    }

    /// Makes the fragment of a call whose beginning the client has.
    pub(super) const fn fragment(index: u64, arguments: &'a str) -> Self {
        let function = AnswerFunction { name: None, arguments };
        Self { index: Some(index), id: None, kind: None, function, extra_content: None }
    }
}

/// An image in an answer, as OpenRouter and LiteLLM give it.
#[derive(Serialize)]
pub(super) struct AnswerImage {
    #[serde(rename = "type")]
    kind: &'static str,
    image_url: AnswerImageUrl,
}

#[derive(Serialize)]
struct AnswerImageUrl {
    url: String,
}

impl AnswerImage {
    pub(super) fn of(source: &Source) -> Self {
        let url = match source {
            Source::Data { media_type, data } => format!("data:{media_type};base64,{data}"),
            Source::Url(text) | Source::FileId(text) => text.clone(),
        };
        Self { kind: "image_url", image_url: AnswerImageUrl { url } }
    }
}

/// OpenAI's usage object.
#[derive(Serialize)]
pub(super) struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl WireUsage {
    pub(super) fn of(usage: &Usage) -> Self {
        let prompt_tokens = usage.prompt_tokens.unwrap_or(0);
        let completion_tokens = usage.completion_tokens.unwrap_or(0);
        let has_prompt_details =
            usage.cached_tokens.is_some() || usage.cache_write_tokens.is_some();
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: usage
                .total_tokens
                .unwrap_or_else(|| prompt_tokens.saturating_add(completion_tokens)),
            prompt_tokens_details: has_prompt_details.then(|| PromptDetails {
                cached_tokens: usage.cached_tokens.unwrap_or(0),
                cache_write_tokens: usage.cache_write_tokens,
            }),
            completion_tokens_details: usage
                .reasoning_tokens
                .map(|reasoning_tokens| CompletionDetails { reasoning_tokens }),
        }
    }
}

/// Returns OpenAI's word for the end of an answer; where the vendor's reason has no counterpart, it just ended.
pub(super) fn finish_word(reason: Option<FinishReason>) -> &'static str {
    reason.unwrap_or(FinishReason::Stop).as_str()
}

/// Writes a whole answer.
pub fn write_response(response: &ChatResponse, head: &AnswerHead) -> Vec<u8> {
    let completion = Completion {
        id: if response.id.is_empty() { &head.id } else { &response.id },
        object: "chat.completion",
        created: head.created,
        model: &head.model,
        choices: response.choices.iter().map(choice).collect(),
        usage: response.usage.as_ref().map(WireUsage::of),
        service_tier: response.service_tier.as_deref(),
    };
    serde_json::to_vec(&completion).expect("texts, numbers and JSON values are always JSON")
}

fn choice(choice: &Choice) -> WireChoice<'_> {
    let message = &choice.message;
    let mut content: Option<String> = None;
    let mut images = Vec::new();
    for part in &message.content {
        match part {
            Part::Text { text, .. } => content.get_or_insert_default().push_str(text),
            Part::Image { source, .. } => images.push(AnswerImage::of(source)),
            Part::File { .. } | Part::Audio { .. } => {}
        }
    }
    let thoughts = message.reasoning.iter().filter(|block| block.redacted.is_none());
    let mut thoughts = thoughts.map(|block| block.text.as_str()).peekable();
    let reasoning_content = thoughts.peek().is_some().then(|| thoughts.collect());
    WireChoice {
        index: choice.index,
        message: AnswerMessage {
            role: "assistant",
            content,
            refusal: message.refusal.as_deref(),
            reasoning_content,
            thinking_blocks: message.reasoning.iter().filter_map(ThinkingBlock::of).collect(),
            tool_calls: message.tool_calls.iter().map(AnswerCall::of).collect(),
            annotations: &message.annotations,
            images,
            extra_content: ExtraContent::of(message.signature.as_ref()),
        },
        logprobs: choice.logprobs.as_ref(),
        finish_reason: finish_word(choice.finish_reason),
    }
}
