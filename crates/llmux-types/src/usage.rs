use serde::Serialize;
use serde_json::Value;

/// The tokens of one answer, in OpenAI's meaning: `prompt_tokens` includes cached ones, `completion_tokens` includes
/// reasoning. `None` means that the vendor did not say, which is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the input, cached ones included.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the output, reasoning included where the vendor counts it so.
    pub completion_tokens: Option<u64>,
    /// The vendor's sum.
    pub total_tokens: Option<u64>,
    /// Input tokens read from the vendor's cache.
    pub cached_tokens: Option<u64>,
    /// Input tokens written to the vendor's cache.
    pub cache_write_tokens: Option<u64>,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Reads the `usage` object of OpenAI's chat completions, completions, embeddings or responses API, and of the
    /// vendors compatible with them. Unknown and misshapen members are passed over.
    pub fn from_openai(usage: &Value) -> Self {
        let number = |path: &[&str]| -> Option<u64> {
            path.iter().try_fold(usage, |value, name| value.get(name)).and_then(Value::as_u64)
        };
        Self {
            prompt_tokens: number(&["prompt_tokens"]).or_else(|| number(&["input_tokens"])),
            completion_tokens: number(&["completion_tokens"])
                .or_else(|| number(&["output_tokens"])),
            total_tokens: number(&["total_tokens"]),
            cached_tokens: number(&["prompt_tokens_details", "cached_tokens"])
                .or_else(|| number(&["input_tokens_details", "cached_tokens"]))
                // DeepSeek: https://api-docs.deepseek.com/guides/kv_cache
                .or_else(|| number(&["prompt_cache_hit_tokens"])),
            cache_write_tokens: number(&["prompt_tokens_details", "cache_write_tokens"])
                .or_else(|| number(&["input_tokens_details", "cache_write_tokens"])),
            reasoning_tokens: number(&["completion_tokens_details", "reasoning_tokens"])
                .or_else(|| number(&["output_tokens_details", "reasoning_tokens"])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn chat_and_responses_names_are_read_alike() {
        let chat = serde_json::json!({
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
        });
        let responses = serde_json::json!({
            "input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
            "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2},
        });
        assert_eq!(Usage::from_openai(&chat), Usage::from_openai(&responses));
        assert_eq!(Usage::from_openai(&chat).cached_tokens, Some(4));
    }

    #[test]
    fn what_the_vendor_does_not_say_stays_unknown() {
        let usage = Usage::from_openai(
            &serde_json::json!({"prompt_tokens": 3, "completion_tokens": "many"}),
        );
        assert_eq!(usage.prompt_tokens, Some(3));
        assert_eq!(usage.completion_tokens, None);
        assert_eq!(usage.cached_tokens, None);
    }
}
