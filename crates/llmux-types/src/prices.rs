//! What models cost and can do: a table built into the program. Notices are in `data/NOTICE`.
//!
//! All prices are whole pico-dollars (10⁻¹² US dollars) per unit, and the unit is one token unless a name says otherwise.
//! `None` is an unknown price, `Some(0)` is free of charge.

/// The rows of the table, sorted by their first column in byte order, after a line with the names of the columns.
const TABLE: &str = include_str!("../data/model-prices.tsv");

/// One model of the built-in table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The name of the row, as in `gpt-4o` or `gemini/gemini-2.5-pro`.
    pub key: &'static str,
    /// Who sells it, in LiteLLM's spelling.
    pub provider: &'static str,
    /// What it is for: `chat`, `responses`, `completion`, `embedding`, `image_generation`, `audio_transcription`,
    /// `audio_speech`, `rerank`, `moderation`, or another word of LiteLLM's.
    pub mode: &'static str,
    /// The most tokens a request may have.
    pub max_input_tokens: Option<u64>,
    /// The most tokens an answer may have.
    pub max_output_tokens: Option<u64>,
    /// Pico-dollars per input token.
    pub input: Option<u64>,
    /// Pico-dollars per output token.
    pub output: Option<u64>,
    /// Pico-dollars per input token that was read from the vendor's prompt cache.
    pub cache_read: Option<u64>,
    /// Pico-dollars per input token that was written to the vendor's prompt cache (Anthropic: for five minutes).
    pub cache_write: Option<u64>,
    /// Pico-dollars per input token that was written to the vendor's prompt cache for an hour.
    pub cache_write_1h: Option<u64>,
    /// Pico-dollars per output token spent on reasoning, where it differs from other output.
    pub reasoning: Option<u64>,
    /// Pico-dollars per input token of audio.
    pub audio_input: Option<u64>,
    /// Pico-dollars per output token of audio.
    pub audio_output: Option<u64>,
    /// What the model is known to understand.
    pub capabilities: Capabilities,
    /// The last column, `name=value;name=value`.
    other: &'static str,
}

/// What a model is known to understand. `false` means that nobody said so, not that it surely cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Sound as input.
    pub audio_input: bool,
    /// Tools.
    pub function_calling: bool,
    /// PDF documents as input.
    pub pdf_input: bool,
    /// A prompt cache.
    pub prompt_caching: bool,
    /// Reasoning before the answer.
    pub reasoning: bool,
    /// Answers that follow a JSON schema.
    pub response_schema: bool,
    /// Images as input.
    pub vision: bool,
}

impl ModelInfo {
    /// Returns a price that has no field here, by its name in LiteLLM's price map: `input_cost_per_token_batches`,
    /// `output_cost_per_token_above_200k_tokens`, `input_cost_per_second` ... Pico-dollars per the unit in the name.
    ///
    /// Prices inside lists and maps have a path for a name, as in `tiered_pricing.0.input_cost_per_token`. A tier holds
    /// for requests of `tiered_pricing.0.range.0` to `tiered_pricing.0.range.1` input tokens.
    pub fn other_price(&self, name: &str) -> Option<u64> {
        self.other_prices().find(|(other, _)| *other == name).map(|(_, price)| price)
    }

    /// Returns all prices that have no field here, sorted by name; see [`ModelInfo::other_price`].
    pub fn other_prices(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        self.other.split(';').filter_map(|pair| {
            let (name, price) = pair.split_once('=')?;
            Some((name, price.parse().ok()?))
        })
    }

    /// Reads one row of the table.
    fn parse(row: &'static str) -> Option<Self> {
        let mut cells = row.split('\t');
        let mut word = || cells.next();
        let (key, provider, mode) = (word()?, word()?, word()?);
        let mut number = || match word()? {
            "" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        Some(Self {
            key,
            provider,
            mode,
            max_input_tokens: number()?,
            max_output_tokens: number()?,
            input: number()?,
            output: number()?,
            cache_read: number()?,
            cache_write: number()?,
            cache_write_1h: number()?,
            reasoning: number()?,
            audio_input: number()?,
            audio_output: number()?,
            capabilities: Capabilities::parse(word()?)?,
            other: word()?,
        })
    }
}

impl Capabilities {
    fn parse(flags: &str) -> Option<Self> {
        let mut capabilities = Self::default();
        for flag in flags.split(',').filter(|flag| !flag.is_empty()) {
            *match flag {
                "audio_input" => &mut capabilities.audio_input,
                "function_calling" => &mut capabilities.function_calling,
                "pdf_input" => &mut capabilities.pdf_input,
                "prompt_caching" => &mut capabilities.prompt_caching,
                "reasoning" => &mut capabilities.reasoning,
                "response_schema" => &mut capabilities.response_schema,
                "vision" => &mut capabilities.vision,
                _ => return None,
            } = true;
        }
        Some(capabilities)
    }
}

/// Returns the row of that exact name. Searches the text of the table: nothing is read before the first call, and
/// nothing is allocated.
pub fn model_info(key: &str) -> Option<ModelInfo> {
    let mut rest = rows();
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        let start = rest.as_bytes()[..middle]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let end = rest[start..].find('\n').map_or(rest.len(), |length| start + length);
        let row = &rest[start..end];
        match key.cmp(row.split('\t').next().unwrap_or_default()) {
            std::cmp::Ordering::Equal => return ModelInfo::parse(row),
            std::cmp::Ordering::Less => rest = &rest[..start],
            std::cmp::Ordering::Greater => rest = rest.get(end + 1..).unwrap_or_default(),
        }
    }
    None
}

/// Returns what is known about a vendor's model. `vendor` is the type of a provider in the configuration, `model` the
/// name that the vendor itself uses.
///
/// Models of the same name cost differently from vendor to vendor, so no row of another vendor is ever returned.
pub fn lookup(vendor: &str, model: &str) -> Option<ModelInfo> {
    let (prefix, providers) = names_of(&vendor);
    let of_vendor = |info: &ModelInfo| providers.contains(&info.provider);
    model_info(&format!("{prefix}/{model}"))
        .filter(of_vendor)
        .or_else(|| model_info(model).filter(of_vendor))
}

/// Returns LiteLLM's names of a vendor: the prefix of its keys and the values of its provider column.
pub(crate) fn names_of<'a>(vendor: &'a &'a str) -> (&'a str, &'a [&'a str]) {
    match VENDORS.iter().find(|(name, ..)| name == vendor) {
        Some((_, prefix, providers)) => (prefix, providers),
        None => (vendor, std::slice::from_ref(vendor)),
    }
}

/// Vendors that LiteLLM names otherwise: our name, the prefix of the keys, the values of the provider column. All other
/// vendors have one name.
const VENDORS: &[(&str, &str, &[&str])] = &[
    ("azure", "azure", &["azure", "azure_text"]),
    ("cohere", "cohere", &["cohere", "cohere_chat"]),
    ("featherless", "featherless_ai", &["featherless_ai"]),
    ("fireworks", "fireworks_ai", &["fireworks_ai", "fireworks_ai-embedding-models"]),
    ("jina", "jina_ai", &["jina_ai"]),
    ("lambda", "lambda_ai", &["lambda_ai"]),
    ("nvidia", "nvidia_nim", &["nvidia_nim"]),
    ("openai", "openai", &["openai", "text-completion-openai"]),
    ("qwen", "dashscope", &["dashscope"]),
    ("together", "together_ai", &["together_ai"]),
    ("vercel", "vercel_ai_gateway", &["vercel_ai_gateway"]),
    ("zhipu", "zai", &["zai"]),
];

fn rows() -> &'static str {
    TABLE.split_once('\n').map_or("", |(_, rows)| rows)
}

#[cfg(test)]
mod tests {
    use super::{ModelInfo, TABLE, lookup, model_info, rows};

    #[test]
    fn all_rows_can_be_read_and_found() {
        let columns = TABLE.lines().next().unwrap().split('\t').count();
        let mut count = 0;
        for row in rows().lines() {
            assert_eq!(row.split('\t').count(), columns, "{row}");
            let info = ModelInfo::parse(row).unwrap_or_else(|| panic!("unreadable: {row}"));
            assert_eq!(model_info(info.key), Some(info));
            let pairs = info.other.split(';').filter(|pair| !pair.is_empty()).count();
            assert_eq!(info.other_prices().count(), pairs, "{row}");
            count += 1;
        }
        assert!(count > 3000, "{count}");
    }

    #[test]
    fn rows_are_sorted_and_unique() {
        let keys: Vec<&str> = rows().lines().filter_map(|row| row.split('\t').next()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn names_that_are_not_in_the_table_are_not_found() {
        for key in ["", "\0", "0", "gpt-4", "gpt-4o ", "gpt-4o\t", "key", "zzz", "\u{10ffff}"] {
            assert!(model_info(key).is_none_or(|info| info.key == key), "{key:?}");
        }
        assert_eq!(model_info("no such model"), None);
        assert_eq!(model_info(""), None);
        assert_eq!(model_info("key"), None);
    }

    #[test]
    fn openai_prices_are_whole_pico_dollars() {
        let info = lookup("openai", "gpt-4o").unwrap();
        assert_eq!((info.key, info.provider, info.mode), ("gpt-4o", "openai", "chat"));
        assert_eq!((info.max_input_tokens, info.max_output_tokens), (Some(128_000), Some(16_384)));
        assert_eq!(
            (info.input, info.output, info.cache_read),
            (Some(2_500_000), Some(10_000_000), Some(1_250_000))
        );
        assert_eq!((info.cache_write, info.reasoning, info.audio_input), (None, None, None));
        assert_eq!(info.other_price("input_cost_per_token_batches"), Some(1_250_000));
        assert_eq!(info.other_price("output_cost_per_token_priority"), Some(17_000_000));
        assert_eq!(info.other_price("input_cost_per_token"), None);
        assert!(
            info.capabilities.vision
                && info.capabilities.function_calling
                && !info.capabilities.audio_input
        );
    }

    #[test]
    fn anthropic_has_prices_for_both_kinds_of_cache_writes() {
        let info = lookup("anthropic", "claude-sonnet-4-5").unwrap();
        assert_eq!((info.input, info.output), (Some(3_000_000), Some(15_000_000)));
        assert_eq!((info.cache_read, info.cache_write), (Some(300_000), Some(3_750_000)));
        assert_eq!(info.cache_write_1h, Some(6_000_000));
    }

    #[test]
    fn prices_of_long_requests_are_kept() {
        let info = lookup("gemini", "gemini-2.5-pro").unwrap();
        assert_eq!(info.key, "gemini/gemini-2.5-pro");
        assert_eq!(info.input, Some(1_250_000));
        assert_eq!(info.other_price("input_cost_per_token_above_200k_tokens"), Some(2_500_000));
        let info = lookup("qwen", "qwen-flash").unwrap();
        assert_eq!(info.input, None);
        assert_eq!(info.other_price("tiered_pricing.1.input_cost_per_token"), Some(250_000));
        assert_eq!(info.other_price("tiered_pricing.1.range.0"), Some(256_000));
    }

    #[test]
    fn a_price_in_other_units_is_kept() {
        let info = lookup("openai", "1024-x-1024/gpt-image-1.5").unwrap();
        assert_eq!((info.input, info.output), (None, None));
        assert_eq!(info.other_price("input_cost_per_image"), Some(9_000_000_000));
    }

    #[test]
    fn each_vendor_finds_its_own_models() {
        for (vendor, model, key) in [
            ("azure", "gpt-4o", "azure/gpt-4o"),
            ("azure", "gpt-35-turbo-instruct", "azure/gpt-35-turbo-instruct"),
            ("deepseek", "deepseek-chat", "deepseek/deepseek-chat"),
            ("deepseek", "deepseek/deepseek-chat", "deepseek/deepseek-chat"),
            ("openai", "davinci-002", "davinci-002"),
            ("mistral", "codestral-2508", "mistral/codestral-2508"),
            ("zhipu", "glm-4.5", "zai/glm-4.5"),
            ("zai", "glm-4.5", "zai/glm-4.5"),
            ("moonshot", "kimi-k2.5", "moonshot/kimi-k2.5"),
            ("volcengine", "doubao-embedding", "doubao-embedding"),
            ("ollama", "codegemma", "ollama/codegemma"),
            ("xai", "grok-4.20", "xai/grok-4.20"),
            ("vercel", "alibaba/qwen-3-14b", "vercel_ai_gateway/alibaba/qwen-3-14b"),
        ] {
            let info = lookup(vendor, model).unwrap_or_else(|| panic!("{vendor} {model}"));
            assert_eq!(info.key, key);
        }
    }

    #[test]
    fn a_row_of_another_vendor_is_never_used() {
        for (vendor, model) in [
            ("siliconflow", "gpt-4o"),
            ("vllm", "deepseek-chat"),
            ("openai", "mistral/codestral-2508"),
            ("openai", "azure/gpt-4o"),
            ("azure", "claude-sonnet-4-5"),
            // Vertex AI's.
            ("gemini", "text-unicorn"),
        ] {
            assert_eq!(lookup(vendor, model), None, "{vendor} {model}");
        }
    }
}
