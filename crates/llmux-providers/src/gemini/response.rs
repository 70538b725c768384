//! What answers look like on the wire, and what their words mean.

use std::borrow::Cow;

use llmux_types::chat::FinishReason;
use llmux_types::{ServiceTier, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// An answer, or a piece of a streamed one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer<'a> {
    #[serde(borrow, default)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    #[serde(default)]
    pub(super) prompt_feedback: Option<PromptFeedback>,
    #[serde(borrow, default)]
    pub(super) usage_metadata: Option<UsageMetadata<'a>>,
    /// A JSON string.
    #[serde(borrow, default)]
    pub(super) response_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(borrow, default)]
    pub(super) content: Option<Content<'a>>,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(borrow, default)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) logprobs_result: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    pub(super) parts: Option<Vec<Part<'a>>>,
}

/// One of text, call and data, perhaps with a signature. What else a part can be is passed over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thought: Option<bool>,
    #[serde(default)]
    pub(super) thought_signature: Option<String>,
    #[serde(borrow, default)]
    pub(super) function_call: Option<FunctionCall<'a>>,
    #[serde(default)]
    pub(super) inline_data: Option<Blob>,
    #[serde(default)]
    pub(super) file_data: Option<FileData>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(borrow, default)]
    pub(super) args: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob {
    #[serde(default)]
    pub(super) mime_type: Option<String>,
    #[serde(default)]
    pub(super) data: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileData {
    #[serde(default)]
    pub(super) mime_type: Option<String>,
    #[serde(default)]
    pub(super) file_uri: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptFeedback {
    #[serde(default)]
    pub(super) block_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageMetadata<'a> {
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    prompt_token_count: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    tool_use_prompt_token_count: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    candidates_token_count: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    thoughts_token_count: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    cached_content_token_count: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    total_token_count: Option<u64>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    prompt_tokens_details: Option<Vec<ModalityCount>>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    tool_use_prompt_tokens_details: Option<Vec<ModalityCount>>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    cache_tokens_details: Option<Vec<ModalityCount>>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    candidates_tokens_details: Option<Vec<ModalityCount>>,
    /// A JSON string.
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

/// How many of some tokens are text, or audio, or images.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModalityCount {
    modality: Option<String>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    token_count: Option<u64>,
}

/// Returns the tokens of a modality; `None` if there are none.
fn of_modality(details: &[&Option<Vec<ModalityCount>>], modality: &str) -> Option<u64> {
    details
        .iter()
        .copied()
        .flatten()
        .flatten()
        .filter(|count| count.modality.as_deref() == Some(modality))
        .filter_map(|count| count.token_count)
        .reduce(u64::saturating_add)
        .filter(|count| *count > 0)
}

impl UsageMetadata<'_> {
    /// Counts in OpenAI's way. A number that is 0 is left out on the wire, except that there is no prompt of 0 tokens.
    pub(super) fn usage(&self) -> Usage {
        let or_zero = Option::unwrap_or_default;
        let thoughts: u64 = or_zero(self.thoughts_token_count);
        let prompt = self
            .prompt_token_count
            .map(|count| count.saturating_add(or_zero(self.tool_use_prompt_token_count)));
        let input = [&self.prompt_tokens_details, &self.tool_use_prompt_tokens_details];
        let completion = or_zero(self.candidates_token_count).saturating_add(thoughts);
        Usage {
            prompt_tokens: prompt,
            completion_tokens: Some(completion),
            total_tokens: self
                .total_token_count
                .or_else(|| prompt.map(|prompt| prompt.saturating_add(completion))),
            cached_tokens: Some(or_zero(self.cached_content_token_count)),
            cache_write_tokens: None,
            reasoning_tokens: Some(thoughts),
            audio_prompt_tokens: of_modality(&input, "AUDIO"),
            image_prompt_tokens: of_modality(&input, "IMAGE"),
            cached_audio_tokens: of_modality(&[&self.cache_tokens_details], "AUDIO"),
            cached_image_tokens: of_modality(&[&self.cache_tokens_details], "IMAGE"),
            audio_completion_tokens: of_modality(&[&self.candidates_tokens_details], "AUDIO"),
            image_completion_tokens: of_modality(&[&self.candidates_tokens_details], "IMAGE"),
            service_tier: self.tier().as_deref().and_then(ServiceTier::from_word),
            ..Usage::default()
        }
    }

    /// Returns the tier in OpenAI's words.
    pub(super) fn tier(&self) -> Option<String> {
        let tier: String = serde_json::from_str(self.service_tier?.get()).ok()?;
        Some(if tier.eq_ignore_ascii_case("standard") {
            "default".to_owned()
        } else {
            tier.to_ascii_lowercase()
        })
    }
}

/// Says a finish reason in OpenAI's words; `None` where it has none.
pub(super) fn finish_reason(reason: &str, has_calls: bool) -> Option<FinishReason> {
    match reason {
        "STOP" if has_calls => Some(FinishReason::ToolCalls),
        "STOP" => Some(FinishReason::Stop),
        "MAX_TOKENS" => Some(FinishReason::Length),
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Some(FinishReason::ContentFilter),
        _ => None,
    }
}

/// Removes the white space between the tokens of a JSON text.
pub(super) fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in json.chars() {
        if in_string {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if character == '"' {
            in_string = true;
        } else if character.is_ascii_whitespace() {
            continue;
        }
        text.push(character);
    }
    text
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogprobsResult<'a> {
    #[serde(borrow, default)]
    chosen_candidates: Vec<TokenLogprob<'a>>,
    #[serde(borrow, default)]
    top_candidates: Vec<TopCandidates<'a>>,
}

#[derive(Deserialize)]
struct TopCandidates<'a> {
    #[serde(borrow, default)]
    candidates: Vec<TokenLogprob<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenLogprob<'a> {
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(default)]
    log_probability: f64,
}

impl TokenLogprob<'_> {
    fn openai(&self) -> Value {
        json!({"token": self.token, "logprob": self.log_probability, "bytes": self.token.as_bytes()})
    }
}

/// Says log probabilities as OpenAI's `logprobs` object; `None` if they are of another shape or none.
pub(super) fn logprobs(result: &RawValue) -> Option<Value> {
    let result: LogprobsResult<'_> = serde_json::from_str(result.get()).ok()?;
    let mut content = Vec::with_capacity(result.chosen_candidates.len());
    for (position, chosen) in result.chosen_candidates.iter().enumerate() {
        let top = result.top_candidates.get(position);
        let top: Vec<Value> =
            top.into_iter().flat_map(|top| &top.candidates).map(TokenLogprob::openai).collect();
        let mut token = chosen.openai();
        token["top_logprobs"] = Value::Array(top);
        content.push(token);
    }
    (!content.is_empty()).then(|| json!({"content": content, "refusal": null}))
}

#[cfg(test)]
mod tests {
    use llmux_types::{ServiceTier, Usage};

    use super::UsageMetadata;

    #[test]
    fn sound_and_images_are_told_apart_by_their_modality() {
        let json = r#"{
            "promptTokenCount": 100, "toolUsePromptTokenCount": 9, "candidatesTokenCount": 40,
            "thoughtsTokenCount": 5, "cachedContentTokenCount": 30, "totalTokenCount": 154, "serviceTier": "FLEX",
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 20}, {"modality": "AUDIO", "tokenCount": 50},
                {"modality": "IMAGE", "tokenCount": 30}
            ],
            "toolUsePromptTokensDetails": [{"modality": "IMAGE", "tokenCount": 9}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 30}, {"modality": "NEW"}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 40}]
        }"#;
        let usage: UsageMetadata<'_> = serde_json::from_str(json).expect("usage");
        let expected = Usage {
            prompt_tokens: Some(109),
            completion_tokens: Some(45),
            total_tokens: Some(154),
            cached_tokens: Some(30),
            reasoning_tokens: Some(5),
            audio_prompt_tokens: Some(50),
            image_prompt_tokens: Some(39),
            cached_audio_tokens: Some(30),
            image_completion_tokens: Some(40),
            service_tier: Some(ServiceTier::Flex),
            ..Usage::default()
        };
        assert_eq!(usage.usage(), expected);
    }
}
