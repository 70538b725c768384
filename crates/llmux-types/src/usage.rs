use serde::{Deserialize as _, Serialize};
use serde_json::Value;

mod openai;

pub use self::openai::{OpenAiUsage, lenient_count};

/// What one answer used: tokens in OpenAI's meaning (`prompt_tokens` includes cached ones, `completion_tokens` includes
/// reasoning, but for what the vendor counts beside them) and what else is paid for. `None` means that the vendor did not
/// say, which is not zero.
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
    /// Input tokens that are not in `prompt_tokens`: audio, with Mistral.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside_prompt_tokens: Option<u64>,
    /// Output tokens that are not in `completion_tokens`: reasoning, with xAI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside_completion_tokens: Option<u64>,
    /// Of `cache_write_tokens`, those written for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_tokens: Option<u64>,
    /// Input tokens of audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_prompt_tokens: Option<u64>,
    /// Input tokens of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_prompt_tokens: Option<u64>,
    /// Of `cached_tokens`, those of audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_audio_tokens: Option<u64>,
    /// Of `cached_tokens`, those of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_image_tokens: Option<u64>,
    /// Output tokens of audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_completion_tokens: Option<u64>,
    /// Output tokens of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_completion_tokens: Option<u64>,
    /// Milliseconds of audio as input, where the vendor counts time instead of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_milliseconds: Option<u64>,
    /// Characters of the text to be spoken. Vendors do not report them: whoever sends the request counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_characters: Option<u64>,
    /// Images made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<u64>,
    /// Searches of the web that the vendor made for the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web_searches: Option<u64>,
    /// How much those searches looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_context: Option<SearchContext>,
    /// The tier that served the request, where it is not the standard one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
}

/// A way of being served that has prices of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ServiceTier {
    /// Later, at a discount, in a batch.
    Batch,
    /// Slower, at a discount.
    Flex,
    /// Faster, at a premium.
    Priority,
    /// Between flex and priority.
    Balanced,
    /// Fastest.
    Ultrafast,
}

impl ServiceTier {
    /// Reads a vendor's word in any case. `None` for the standard tier (`default`, `standard`, `on_demand`, `scale` ...)
    /// and for words that have no prices.
    pub fn from_word(word: &str) -> Option<Self> {
        const WORDS: [(&str, ServiceTier); 5] = [
            ("batch", ServiceTier::Batch),
            ("flex", ServiceTier::Flex),
            ("priority", ServiceTier::Priority),
            ("balanced", ServiceTier::Balanced),
            ("ultrafast", ServiceTier::Ultrafast),
        ];
        WORDS.iter().find(|(own, _)| own.eq_ignore_ascii_case(word)).map(|(_, tier)| *tier)
    }
}

/// How much a search of the web looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchContext {
    /// Little.
    Low,
    /// The usual.
    Medium,
    /// Much.
    High,
}

impl Usage {
    /// Reads the `usage` object of OpenAI's chat completions, completions, embeddings, responses, image or transcription
    /// API, and of the vendors compatible with them. Unknown and misshapen members are passed over. In text that is not
    /// parsed yet, [`OpenAiUsage`] reads it without a tree.
    pub fn from_openai(usage: &Value) -> Self {
        OpenAiUsage::deserialize(usage).ok().and_then(|read| read.0).unwrap_or_default()
    }

    /// Some vendors count reasoning (xAI) or audio (Mistral) beside the tokens it belongs to: their total tells.
    fn note_what_is_counted_apart(&mut self) {
        let (Some(prompt), Some(completion), Some(total)) =
            (self.prompt_tokens, self.completion_tokens, self.total_tokens)
        else {
            return;
        };
        let Some(rest) = total.checked_sub(prompt).and_then(|rest| rest.checked_sub(completion))
        else {
            return;
        };
        let reasoning = self.reasoning_tokens.unwrap_or(0);
        let audio = self.audio_prompt_tokens.unwrap_or(0);
        if rest == 0 {
            return;
        }
        if rest == reasoning || Some(rest) == audio.checked_add(reasoning) {
            self.beside_completion_tokens = self.reasoning_tokens;
        }
        if rest == audio || Some(rest) == audio.checked_add(reasoning) {
            self.beside_prompt_tokens = self.audio_prompt_tokens;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{SearchContext, ServiceTier, Usage};

    #[test]
    fn chat_and_responses_names_are_read_alike() {
        let chat = json!({
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
        });
        let responses = json!({
            "input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
            "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2},
        });
        assert_eq!(Usage::from_openai(&chat), Usage::from_openai(&responses));
        assert_eq!(Usage::from_openai(&chat).cached_tokens, Some(4));
    }

    #[test]
    fn what_the_vendor_does_not_say_stays_unknown() {
        let usage = Usage::from_openai(&json!({"prompt_tokens": 3, "completion_tokens": "many"}));
        assert_eq!(usage, Usage { prompt_tokens: Some(3), ..Usage::default() });
    }

    #[test]
    fn names_in_logs_are_the_old_ones_and_new_ones_come_only_with_values() {
        let names = |usage: &Usage| -> Vec<String> {
            let value = serde_json::to_value(usage).unwrap();
            value.as_object().unwrap().keys().cloned().collect()
        };
        let old = [
            "cache_write_tokens",
            "cached_tokens",
            "completion_tokens",
            "prompt_tokens",
            "reasoning_tokens",
            "total_tokens",
        ];
        assert_eq!(names(&Usage::default()), old);
        let flex = Usage { service_tier: Some(ServiceTier::Flex), ..Usage::default() };
        assert_eq!(serde_json::to_value(flex).unwrap()["service_tier"], "flex");
    }

    #[test]
    fn tokens_that_a_vendor_counts_apart_are_told_by_its_total() {
        // xAI.
        let usage = Usage::from_openai(&json!({
            "prompt_tokens": 436, "completion_tokens": 68, "total_tokens": 652,
            "completion_tokens_details": {"reasoning_tokens": 148},
        }));
        assert_eq!(
            (usage.completion_tokens, usage.beside_completion_tokens),
            (Some(68), Some(148))
        );
        assert_eq!(usage.beside_prompt_tokens, None);
        // Mistral.
        let usage = Usage::from_openai(&json!({
            "prompt_tokens": 9, "completion_tokens": 201, "total_tokens": 585,
            "prompt_tokens_details": {"audio_tokens": 375},
        }));
        assert_eq!((usage.prompt_tokens, usage.beside_prompt_tokens), (Some(9), Some(375)));
        assert_eq!(usage.beside_completion_tokens, None);
        // OpenAI.
        let usage = Usage::from_openai(&json!({
            "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
            "completion_tokens_details": {"reasoning_tokens": 5},
        }));
        assert_eq!(usage.beside_completion_tokens, None);
        let most = Usage::from_openai(&json!({
            "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": u64::MAX,
            "completion_tokens_details": {"reasoning_tokens": u64::MAX},
        }));
        assert_eq!(most.beside_completion_tokens, None);
    }

    #[test]
    fn sound_images_and_searches_are_counted() {
        let usage = Usage::from_openai(&json!({
            "type": "tokens", "input_tokens": 37, "output_tokens": 145, "total_tokens": 182,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 37},
        }));
        assert_eq!(usage.audio_prompt_tokens, Some(37));
        let usage = Usage::from_openai(&json!({"type": "duration", "seconds": 12.5}));
        assert_eq!(usage.audio_milliseconds, Some(12_500));
        let usage = Usage::from_openai(&json!({
            "input_tokens": 50, "input_tokens_details": {
                "text_tokens": 10, "image_tokens": 40, "cached_tokens": 30,
                "cached_tokens_details": {"image_tokens": 20},
            },
        }));
        assert_eq!((usage.image_prompt_tokens, usage.cached_image_tokens), (Some(40), Some(20)));
        let usage = Usage::from_openai(&json!({"prompt_tokens": 1, "search_context_size": "high"}));
        assert_eq!(
            (usage.web_searches, usage.search_context),
            (Some(1), Some(SearchContext::High))
        );
    }
}
