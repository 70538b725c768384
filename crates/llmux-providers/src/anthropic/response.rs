//! Anthropic's whole answers.

use llmux_types::chat::{
    AssistantMessage, ChatResponse, Choice, FinishReason, Part, Reasoning, ToolCall,
};
use llmux_types::{ServiceTier, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::STRUCTURED;
use crate::codec::DecodeError;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    id: String,
    #[serde(borrow)]
    content: Vec<Block<'a>>,
    stop_reason: Option<String>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    usage: Option<WireUsage>,
}

/// A block of any type; those that we do not know are passed over.
#[derive(Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) signature: Option<String>,
    /// Of server tools it may be anything.
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    citations: Option<Vec<Value>>,
}

/// The tokens of an answer. `input_tokens` leaves out what came from or went into the cache.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    cache_creation: Option<CacheCreation>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    output_tokens_details: Option<OutputDetails>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    server_tool_use: Option<ServerToolUse>,
    #[serde(default, deserialize_with = "crate::json::or_none")]
    service_tier: Option<Tier>,
}

/// What the tokens written to the cache are made of.
#[derive(Clone, Copy, Debug, Deserialize)]
struct CacheCreation {
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct ServerToolUse {
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    web_search_requests: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct OutputDetails {
    #[serde(default, deserialize_with = "llmux_types::lenient_count")]
    thinking_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tier {
    Standard,
    Priority,
    Batch,
    #[serde(other)]
    Other,
}

impl WireUsage {
    /// Takes over what a later object of the same stream says: its numbers are cumulative.
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens =
            later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_creation = later.cache_creation.or(self.cache_creation);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
        self.server_tool_use = later.server_tool_use.or(self.server_tool_use);
        self.service_tier = later.service_tier.or(self.service_tier);
    }

    pub(super) fn canonical(&self) -> Usage {
        let input = self.input_tokens;
        // Old answers have no cache counts: there was no cache then.
        let or_none = |count: Option<u64>| count.or(input.map(|_| 0));
        let cached = or_none(self.cache_read_input_tokens);
        let hour = self.cache_creation.and_then(|written| written.ephemeral_1h_input_tokens);
        let parts = self.cache_creation.map(|written| {
            let minutes = written.ephemeral_5m_input_tokens.unwrap_or(0);
            minutes.saturating_add(hour.unwrap_or(0))
        });
        let written = or_none(self.cache_creation_input_tokens.or(parts));
        let prompt = input.map(|input| {
            input.saturating_add(cached.unwrap_or(0)).saturating_add(written.unwrap_or(0))
        });
        Usage {
            prompt_tokens: prompt,
            completion_tokens: self.output_tokens,
            total_tokens: prompt
                .zip(self.output_tokens)
                .map(|(prompt, output)| prompt.saturating_add(output)),
            cached_tokens: cached,
            cache_write_tokens: written,
            reasoning_tokens: self
                .output_tokens_details
                .and_then(|details| details.thinking_tokens),
            cache_write_1h_tokens: hour.filter(|count| *count > 0),
            web_searches: self
                .server_tool_use
                .and_then(|tools| tools.web_search_requests)
                .filter(|count| *count > 0),
            service_tier: match self.service_tier {
                Some(Tier::Priority) => Some(ServiceTier::Priority),
                Some(Tier::Batch) => Some(ServiceTier::Batch),
                Some(Tier::Standard | Tier::Other) | None => None,
            },
            ..Usage::default()
        }
    }

    fn tier(&self) -> Option<String> {
        let word = match self.service_tier? {
            Tier::Standard => "default",
            Tier::Priority => "priority",
            Tier::Batch => "flex",
            Tier::Other => return None,
        };
        Some(word.to_owned())
    }
}

/// Puts a stop reason into OpenAI's words; an unknown one has no counterpart.
pub(super) fn finish_reason(stop_reason: &str) -> Option<FinishReason> {
    Some(match stop_reason {
        "end_turn" | "stop_sequence" | "pause_turn" | "compaction" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "refusal" => FinishReason::ContentFilter,
        _ => return None,
    })
}

/// Reads an answer.
pub(super) fn decode(body: &[u8]) -> Result<ChatResponse, DecodeError> {
    let answer: Answer<'_> =
        serde_json::from_slice(body).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let mut message = AssistantMessage::default();
    let mut text = String::new();
    let mut structured = false;
    for block in answer.content {
        match block.kind.as_str() {
            "text" => {
                let piece = block.text.unwrap_or_default();
                message.annotations.extend(annotations(
                    block.citations.as_deref().unwrap_or_default(),
                    text.chars().count(),
                    piece.chars().count(),
                ));
                text.push_str(&piece);
            }
            "thinking" => message.reasoning.push(Reasoning {
                text: block.thinking.unwrap_or_default(),
                signature: block.signature,
                redacted: None,
            }),
            "redacted_thinking" => message.reasoning.push(Reasoning {
                redacted: block.data.and_then(|data| serde_json::from_str(data.get()).ok()),
                ..Reasoning::default()
            }),
            "tool_use" => {
                let input = block.input.map_or("{}", RawValue::get);
                if block.name.as_deref() == Some(STRUCTURED) {
                    structured = true;
                    text.push_str(input);
                } else {
                    message.tool_calls.push(ToolCall {
                        id: block.id.unwrap_or_default(),
                        name: block.name.unwrap_or_default(),
                        arguments: input.to_owned(),
                        signature: None,
                    });
                }
            }
            // Server tools, and what is yet to come.
            _ => {}
        }
    }
    if !text.is_empty() {
        message.content.push(Part::text(text));
    }
    let reason = answer.stop_reason.as_deref().and_then(finish_reason);
    let reason = match reason {
        Some(FinishReason::ToolCalls) if structured => Some(FinishReason::Stop),
        other => other,
    };
    Ok(ChatResponse {
        id: answer.id,
        choices: vec![Choice { index: 0, message, finish_reason: reason, logprobs: None }],
        service_tier: answer.usage.as_ref().and_then(WireUsage::tier),
        usage: answer.usage.as_ref().map(WireUsage::canonical),
    })
}

/// Turns citations of web pages into OpenAI's annotations of the text from `start` on.
pub(super) fn annotations(
    citations: &[Value],
    start: usize,
    length: usize,
) -> impl Iterator<Item = Value> {
    citations.iter().filter_map(move |citation| {
        let url = citation.get("url")?.as_str()?;
        Some(json!({"type": "url_citation", "url_citation": {
            "url": url,
            "title": citation.get("title").and_then(Value::as_str).unwrap_or_default(),
            "start_index": start,
            "end_index": start + length,
        }}))
    })
}

/// Decodes base64 (RFC 4648, with or without padding and line ends); `None` if it is none.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | b'=')) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use llmux_types::{ServiceTier, Usage};
    use serde_json::json;

    use super::WireUsage;

    fn read(usage: serde_json::Value) -> WireUsage {
        serde_json::from_value(usage).expect("usage")
    }

    #[test]
    fn cached_tokens_are_part_of_the_prompt_and_hour_long_ones_are_told_apart() {
        let usage = read(json!({
            "input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 5},
            "output_tokens": 7, "service_tier": "batch", "server_tool_use": {"web_search_requests": 2},
        }));
        let expected = Usage {
            prompt_tokens: Some(60),
            completion_tokens: Some(7),
            total_tokens: Some(67),
            cached_tokens: Some(20),
            cache_write_tokens: Some(30),
            cache_write_1h_tokens: Some(5),
            web_searches: Some(2),
            service_tier: Some(ServiceTier::Batch),
            ..Usage::default()
        };
        assert_eq!(usage.canonical(), expected);
    }

    #[test]
    fn a_stream_keeps_what_its_later_objects_leave_out() {
        let mut usage = read(json!({
            "input_tokens": 10, "cache_creation_input_tokens": 30, "service_tier": "priority",
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 30}, "output_tokens": 1,
        }));
        usage.update(read(
            json!({"output_tokens": 9, "server_tool_use": {"web_search_requests": 1}}),
        ));
        let usage = usage.canonical();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (Some(40), Some(9)));
        assert_eq!((usage.cache_write_1h_tokens, usage.web_searches), (Some(30), Some(1)));
        assert_eq!(usage.service_tier, Some(ServiceTier::Priority));
    }

    #[test]
    fn numbers_as_large_as_there_are_do_not_overflow() {
        let most = u64::MAX;
        let usage = read(json!({
            "input_tokens": most, "cache_read_input_tokens": most, "output_tokens": most,
            "cache_creation": {"ephemeral_5m_input_tokens": most, "ephemeral_1h_input_tokens": most},
        }));
        assert_eq!(usage.canonical().total_tokens, Some(most));
    }
}
