//! The prices of all models: the built-in table with a file of the operator's laid over it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use crate::decimal::scaled;
use crate::prices::{ModelInfo, lookup, model_info, names_of};
use crate::pricing::{Prices, pico_dollars};

/// What is known of one model's prices and sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelPrices {
    /// The name of the row, as in `gpt-4o` or `gemini/gemini-2.5-pro`.
    pub key: String,
    /// What it is for, in LiteLLM's words (`chat`, `embedding` ...); empty where nobody says.
    pub mode: String,
    /// The most tokens a request may have.
    pub max_input_tokens: Option<u64>,
    /// The most tokens an answer may have.
    pub max_output_tokens: Option<u64>,
    /// The prices.
    pub prices: Prices,
}

impl From<ModelInfo> for ModelPrices {
    fn from(info: ModelInfo) -> Self {
        Self {
            key: info.key.to_owned(),
            mode: info.mode.to_owned(),
            max_input_tokens: info.max_input_tokens,
            max_output_tokens: info.max_output_tokens,
            prices: Prices::of(&info),
        }
    }
}

/// The built-in table with a file laid over it. The default has no file.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    /// The rows of the file, completed from the built-in ones of the same names.
    rows: BTreeMap<String, Row>,
}

#[derive(Clone, Debug)]
struct Row {
    provider: String,
    model: ModelPrices,
}

/// A mistake in a file of prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceProblem {
    /// The name of the row; empty if the whole file is meant.
    pub model: String,
    /// The field, paths as in `tiered_pricing.0.range`; empty if the whole row is meant.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for PriceProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.model, &self.field] {
            if !part.is_empty() {
                write!(formatter, "{part}: ")?;
            }
        }
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for PriceProblem {}

// Numbers stay text until they are integers: a price must not pass through binary floating point.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl PriceTable {
    /// Lays a file in the format of LiteLLM's price map over the built-in table. Fields of a row that is built in
    /// replace those of the same name, `null` takes a price away, and other fields stay; fields that nothing is charged
    /// by are passed over, and so is the row `sample_spec`.
    ///
    /// # Errors
    /// All mistakes in the file.
    pub fn with_file(text: &str) -> Result<Self, Vec<PriceProblem>> {
        let models: Fields<'_> = serde_json::from_str(text).map_err(|error| {
            let message = format!("is not a JSON object of models: {error}");
            vec![PriceProblem { model: String::new(), field: String::new(), message }]
        })?;
        let mut problems = Vec::new();
        let mut rows = BTreeMap::new();
        for (key, raw) in models {
            if key == "sample_spec" {
                continue;
            }
            let mut reader = Reader { model: &key, problems: &mut problems };
            if let Some(row) = reader.row(raw) {
                rows.insert(key, row);
            }
        }
        if problems.is_empty() { Ok(Self { rows }) } else { Err(problems) }
    }

    /// Returns what is known about a vendor's model. `vendor` is the type of a provider in the configuration, `model`
    /// the name that the vendor itself uses. As with [`lookup`], no row of another vendor is ever returned.
    pub fn find(&self, vendor: &str, model: &str) -> Option<ModelPrices> {
        let (prefix, providers) = names_of(&vendor);
        let built_in = lookup(vendor, model);
        let prefixed = format!("{prefix}/{model}");
        let own_prefix = format!("{vendor}/{model}");
        for key in [prefixed.as_str(), own_prefix.as_str(), model] {
            if let Some(row) = self.rows.get(key)
                && (providers.contains(&row.provider.as_str()) || row.provider == vendor)
            {
                return Some(row.model.clone());
            }
            if let Some(info) = built_in.filter(|info| info.key == key) {
                return Some(info.into());
            }
        }
        None
    }
}

struct Reader<'a> {
    model: &'a str,
    problems: &'a mut Vec<PriceProblem>,
}

impl Reader<'_> {
    fn row(&mut self, raw: &RawValue) -> Option<Row> {
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(raw.get()) else {
            self.problem("", "must be an object");
            return None;
        };
        let built_in = model_info(self.model);
        let provider = self
            .word(&fields, "litellm_provider")
            .or_else(|| built_in.map(|info| info.provider.to_owned()))
            .or_else(|| self.model.split_once('/').map(|(vendor, _)| vendor.to_owned()));
        let mut model = built_in.map_or_else(
            || ModelPrices {
                key: self.model.to_owned(),
                mode: String::new(),
                max_input_tokens: None,
                max_output_tokens: None,
                prices: Prices::default(),
            },
            ModelPrices::from,
        );
        if let Some(mode) = self.word(&fields, "mode") {
            model.mode = mode;
        }
        if let Some(count) = self.count(&fields, "max_input_tokens") {
            model.max_input_tokens = Some(count);
        }
        if let Some(count) = self.count(&fields, "max_output_tokens") {
            model.max_output_tokens = Some(count);
        } else if built_in.is_none() {
            // The older name.
            model.max_output_tokens = self.count(&fields, "max_tokens");
        }
        let mut named = Vec::new();
        for (name, value) in &fields {
            let is_tiers = name == "tiered_pricing";
            if !is_tiers && !name.contains("cost") {
                continue;
            }
            if is_tiers {
                model.prices.forget_lengths();
            } else if value.get() == "null" {
                model.prices.forget(name, &model.mode);
            }
            self.collect(&mut named, name, value);
        }
        model.prices.take_named(&model.mode, &named);
        if provider.is_none() {
            self.problem("litellm_provider", "is missing: whose model is it?");
        }
        Some(Row { provider: provider?, model })
    }

    /// Adds the prices in a field, those within lists and maps under the path that leads to them.
    fn collect(&mut self, named: &mut Vec<(String, u64)>, path: &str, value: &RawValue) {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
                for (index, item) in items.into_iter().enumerate() {
                    self.collect(named, &format!("{path}.{index}"), item);
                }
            }
            Some(b'{') => {
                let items: Fields<'_> = serde_json::from_str(text).unwrap_or_default();
                if path.starts_with("tiered_pricing.") && !items.contains_key("range") {
                    self.problem(&format!("{path}.range"), "is missing");
                }
                for (name, item) in items {
                    self.collect(named, &format!("{path}.{name}"), item);
                }
            }
            _ if text == "null" => {}
            _ => {
                // The limits of a tier of prices are numbers of tokens.
                let is_limit = path.contains(".range.");
                let number = if is_limit { tokens(text) } else { pico_dollars(text) };
                match number {
                    Some(number) => named.push((path.to_owned(), number)),
                    None if is_limit => self.problem(
                        path,
                        &format!("must be a number of tokens, not {}", shortened(text)),
                    ),
                    None => self.problem(
                        path,
                        &format!(
                            "must be 0 or a number of US dollars between 0.000000000001 and 18 million, not {}",
                            shortened(text)
                        ),
                    ),
                }
            }
        }
    }

    fn word(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        let text = fields.get(name)?.get();
        match serde_json::from_str(text) {
            Ok(word) => word,
            Err(_) => {
                self.problem(name, &format!("must be a string, not {}", shortened(text)));
                None
            }
        }
    }

    /// Sizes are of no account for prices: LiteLLM's own map has words in their place, which are passed over.
    fn count(&self, fields: &Fields<'_>, name: &str) -> Option<u64> {
        tokens(fields.get(name)?.get())
    }

    fn problem(&mut self, field: &str, message: &str) {
        self.problems.push(PriceProblem {
            model: self.model.to_owned(),
            field: field.to_owned(),
            message: message.to_owned(),
        });
    }
}

/// Reads a number of tokens, as in `32000` or `32000.0`.
fn tokens(text: &str) -> Option<u64> {
    u64::try_from(scaled(text, 0)?).ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::PriceTable;
    use crate::pricing::Unit;

    #[test]
    fn without_a_file_it_is_the_built_in_table() {
        let table = PriceTable::default();
        let model = table.find("openai", "gpt-4o").unwrap();
        assert_eq!((model.key.as_str(), model.max_output_tokens), ("gpt-4o", Some(16_384)));
        assert_eq!(model.prices.price(Unit::Input, 1, None), Some(2_500_000));
        assert_eq!(table.find("vllm", "gpt-4o"), None);
    }

    #[test]
    fn a_file_changes_the_fields_it_has_and_adds_models() {
        let table = PriceTable::with_file(
            r#"{
                "sample_spec": {"input_cost_per_token": "a price"},
                "gpt-4o": {"input_cost_per_token": 1e-06, "cache_read_input_token_cost": null, "note": [1]},
                "vllm/own": {"input_cost_per_token": 0, "output_cost_per_token": 3e-07, "max_tokens": 512},
                "named": {"litellm_provider": "zhipu", "output_cost_per_token": 0.5},
                "dashscope/qwen3-max": {"tiered_pricing": [
                    {"range": [0, 1000], "input_cost_per_token": 1e-06},
                    {"range": [1000, 2000.0], "input_cost_per_token": 2e-06}
                ]}
            }"#,
        )
        .unwrap();
        let prices = table.find("openai", "gpt-4o").unwrap().prices;
        assert_eq!(prices.price(Unit::Input, 1, None), Some(1_000_000));
        assert_eq!(prices.price(Unit::Output, 1, None), Some(10_000_000));
        assert_eq!(prices.price(Unit::CacheRead, 1, None), None);
        let own = table.find("vllm", "own").unwrap();
        assert_eq!(own.prices.price(Unit::Input, 1, None), Some(0));
        assert_eq!(own.prices.price(Unit::Output, 1, None), Some(300_000));
        assert_eq!(own.max_output_tokens, Some(512));
        assert_eq!(table.find("ollama", "own"), None);
        let named = table.find("zhipu", "named").unwrap();
        assert_eq!(named.prices.price(Unit::Output, 1, None), Some(500_000_000_000));
        assert_eq!(table.find("openai", "named"), None);
        let tiered = table.find("qwen", "qwen3-max").unwrap().prices;
        assert_eq!(tiered.price(Unit::Input, 1000, None), Some(1_000_000));
        assert_eq!(tiered.price(Unit::Input, 40_000, None), Some(2_000_000));
        assert_eq!(table.find("openai", "gpt-4o-mini").unwrap().key, "gpt-4o-mini");
    }

    #[test]
    fn every_mistake_is_named_with_its_model_and_field() {
        let problems = PriceTable::with_file(
            r#"{
                "a": {"input_cost_per_token": 1},
                "gpt-4o": {"input_cost_per_token": -1, "output_cost_per_token": "0.1", "litellm_provider": 7},
                "vllm/b": 3,
                "vllm/c": {"input_cost_per_token": 1e-14, "tiered_pricing": [{"input_cost_per_token": true}]},
                "vllm/d": {"tiered_pricing": [{"range": [0, "x"], "input_cost_per_token": 1e9}]}
            }"#,
        )
        .unwrap_err();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let dollars =
            "must be 0 or a number of US dollars between 0.000000000001 and 18 million, not";
        assert_eq!(
            problems,
            [
                "a: litellm_provider: is missing: whose model is it?".to_owned(),
                "gpt-4o: litellm_provider: must be a string, not 7".to_owned(),
                format!("gpt-4o: input_cost_per_token: {dollars} -1"),
                format!("gpt-4o: output_cost_per_token: {dollars} \"0.1\""),
                "vllm/b: must be an object".to_owned(),
                format!("vllm/c: input_cost_per_token: {dollars} 1e-14"),
                "vllm/c: tiered_pricing.0.range: is missing".to_owned(),
                format!("vllm/c: tiered_pricing.0.input_cost_per_token: {dollars} true"),
                format!("vllm/d: tiered_pricing.0.input_cost_per_token: {dollars} 1e9"),
                "vllm/d: tiered_pricing.0.range.1: must be a number of tokens, not \"x\""
                    .to_owned(),
            ]
        );
        for text in ["", "[]", "{", "7"] {
            let problems = PriceTable::with_file(text).unwrap_err();
            assert!(problems[0].to_string().starts_with("is not a JSON object of models: "));
        }
    }
}
