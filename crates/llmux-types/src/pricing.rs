//! The prices of one model: everything that a call can be charged for.

use crate::prices::ModelInfo;
use crate::usage::{SearchContext, ServiceTier};

/// A thing that is paid for by the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// A token of input.
    Input,
    /// A token of output.
    Output,
    /// A token of input read from the vendor's cache.
    CacheRead,
    /// A token of input written to the vendor's cache.
    CacheWrite,
    /// A token of input written to the vendor's cache for an hour.
    CacheWrite1h,
    /// A token of output spent on reasoning.
    Reasoning,
    /// A token of audio as input.
    AudioInput,
    /// A token of audio as input, read from the vendor's cache.
    AudioCacheRead,
    /// A token of audio as output.
    AudioOutput,
    /// A token of an image as input.
    ImageInput,
    /// A token of an image as input, read from the vendor's cache.
    ImageCacheRead,
    /// A token of an image as output.
    ImageOutput,
    /// A request.
    Request,
    /// An image that was made.
    Image,
    /// A second of audio as input.
    InputSecond,
    /// A character of input.
    InputCharacter,
    /// A search of the web that looks at little.
    SearchLow,
    /// A search of the web that looks at the usual amount.
    SearchMedium,
    /// A search of the web that looks at much.
    SearchHigh,
}

/// Returns a price in whole pico-dollars: the text of a decimal number of US dollars per unit, rounded to the nearest, a
/// half upwards. `None` if it is no number, below zero, too large, or not zero but too small to count.
pub fn pico_dollars(usd: &str) -> Option<u64> {
    u64::try_from(crate::decimal::scaled(usd, 12)?).ok()
}

/// LiteLLM's names of the units. A name that begins with another stands before it.
const NAMES: &[(&str, Unit)] = &[
    ("input_cost_per_token", Unit::Input),
    ("output_cost_per_token", Unit::Output),
    ("cache_read_input_token_cost", Unit::CacheRead),
    ("cache_creation_input_token_cost_above_1hr", Unit::CacheWrite1h),
    ("cache_creation_input_token_cost", Unit::CacheWrite),
    ("output_cost_per_reasoning_token", Unit::Reasoning),
    ("input_cost_per_audio_token", Unit::AudioInput),
    ("cache_read_input_audio_token_cost", Unit::AudioCacheRead),
    ("output_cost_per_audio_token", Unit::AudioOutput),
    ("input_cost_per_image_token", Unit::ImageInput),
    ("cache_read_input_image_token_cost", Unit::ImageCacheRead),
    ("output_cost_per_image_token", Unit::ImageOutput),
    ("input_cost_per_request", Unit::Request),
    ("output_cost_per_image", Unit::Image),
    ("input_cost_per_second", Unit::InputSecond),
    ("input_cost_per_character", Unit::InputCharacter),
    ("search_context_cost_per_query.search_context_size_low", Unit::SearchLow),
    ("search_context_cost_per_query.search_context_size_medium", Unit::SearchMedium),
    ("search_context_cost_per_query.search_context_size_high", Unit::SearchHigh),
];

/// The ends of names that are prices of a service tier.
const TIERS: &[(&str, ServiceTier)] = &[
    ("_batches", ServiceTier::Batch),
    ("_flex", ServiceTier::Flex),
    ("_priority", ServiceTier::Priority),
    ("_balanced", ServiceTier::Balanced),
    ("_ultrafast", ServiceTier::Ultrafast),
];

impl Unit {
    /// Tells whether an own price of input tokens takes its place.
    const fn is_input(self) -> bool {
        matches!(
            self,
            Self::Input
                | Self::CacheRead
                | Self::CacheWrite
                | Self::CacheWrite1h
                | Self::AudioInput
                | Self::AudioCacheRead
                | Self::ImageInput
                | Self::ImageCacheRead
                | Self::InputSecond
                | Self::InputCharacter
        )
    }

    /// Tells whether an own price of output tokens takes its place.
    const fn is_output(self) -> bool {
        matches!(
            self,
            Self::Output | Self::Reasoning | Self::AudioOutput | Self::ImageOutput | Self::Image
        )
    }

    /// Returns the unit of a search.
    pub const fn search(context: SearchContext) -> Self {
        match context {
            SearchContext::Low => Self::SearchLow,
            SearchContext::Medium => Self::SearchMedium,
            SearchContext::High => Self::SearchHigh,
        }
    }
}

/// What a price is the price of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    unit: Unit,
    /// Holds for requests of more input tokens than this; 0 for all.
    above: u64,
    /// `None` is the standard tier.
    tier: Option<u8>,
}

/// Everything that can be charged for calls of one model, in whole pico-dollars (10⁻¹² US dollars) per unit. A price
/// that is not there is unknown; 0 is free of charge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Sorted by key.
    entries: Vec<(Key, u64)>,
}

impl Prices {
    /// Makes prices of input and output tokens that hold for requests of every size.
    pub fn per_token(input: Option<u64>, output: Option<u64>) -> Self {
        Self::default().with_own(input, output)
    }

    /// Takes the prices of a row of the built-in table.
    pub fn of(info: &ModelInfo) -> Self {
        let columns = [
            (Unit::Input, info.input),
            (Unit::Output, info.output),
            (Unit::CacheRead, info.cache_read),
            (Unit::CacheWrite, info.cache_write),
            (Unit::CacheWrite1h, info.cache_write_1h),
            (Unit::Reasoning, info.reasoning),
            (Unit::AudioInput, info.audio_input),
            (Unit::AudioOutput, info.audio_output),
        ];
        let mut prices = Self::default();
        for (unit, price) in columns {
            prices.set(Key { unit, above: 0, tier: None }, price);
        }
        prices.take_named(info.mode, &info.other_prices().collect::<Vec<_>>());
        prices
    }

    /// Sets prices by LiteLLM's names of them, paths included as in [`ModelInfo::other_price`]. Names that we do not
    /// charge for are passed over.
    pub(crate) fn take_named<N: AsRef<str>>(&mut self, mode: &str, named: &[(N, u64)]) {
        let starts: Vec<(&str, u64)> = named
            .iter()
            .filter_map(|(name, start)| Some((name.as_ref().strip_suffix(".range.0")?, *start)))
            .collect();
        for (name, price) in named {
            let name = name.as_ref();
            if let Some(key) = key(name, mode) {
                self.set(key, Some(*price));
            } else if let Some((tier, field)) = name.rsplit_once('.')
                && let Some((_, start)) = starts.iter().find(|(path, _)| *path == tier)
                && let Some(key) = key(field, mode)
            {
                self.set(Key { above: *start, ..key }, Some(*price));
            }
        }
    }

    /// Forgets the price of that name.
    pub(crate) fn forget(&mut self, name: &str, mode: &str) {
        if let Some(key) = key(name, mode) {
            self.set(key, None);
        }
    }

    /// Lays a deployment's own prices over these: pico-dollars per token, for input and output. An own price is the
    /// price of everything on its side, whatever kind of token, tier or length of request; a side without one keeps its
    /// prices.
    #[must_use]
    pub fn with_own(mut self, input: Option<u64>, output: Option<u64>) -> Self {
        if input.is_some() {
            self.entries.retain(|(key, _)| !key.unit.is_input());
            self.set(Key { unit: Unit::Input, above: 0, tier: None }, input);
        }
        if output.is_some() {
            self.entries.retain(|(key, _)| !key.unit.is_output());
            self.set(Key { unit: Unit::Output, above: 0, tier: None }, output);
        }
        self
    }

    /// Tells whether nothing has a price.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the price of a unit in a request of `input_tokens`, in pico-dollars.
    ///
    /// The price for the longest requests that this one is long enough for, at the tier that served it. Where that tier
    /// has no price for long requests of its own, the dearer of the tier's price and the standard price for long
    /// requests; where it has none at all, the standard price.
    pub fn price(&self, unit: Unit, input_tokens: u64, tier: Option<ServiceTier>) -> Option<u64> {
        let tier = tier.map(|tier| tier as u8);
        // Sorted: all prices of a unit stand together, those for longer requests later.
        let start = self.entries.partition_point(|(key, _)| key.unit < unit);
        let (mut standard, mut own) = (None, None);
        for (key, price) in &self.entries[start..] {
            if key.unit != unit || (key.above >= input_tokens && key.above > 0) {
                break;
            }
            if key.tier.is_none() {
                standard = Some((key.above, *price));
            } else if key.tier == tier {
                own = Some((key.above, *price));
            }
        }
        match (own, standard) {
            (Some((own_above, own)), Some((above, standard))) if own_above < above => {
                Some(own.max(standard))
            }
            (Some((_, price)), _) | (None, Some((_, price))) => Some(price),
            (None, None) => None,
        }
    }

    fn set(&mut self, key: Key, price: Option<u64>) {
        match (self.entries.binary_search_by_key(&key, |(key, _)| *key), price) {
            (Ok(at), Some(price)) => self.entries[at].1 = price,
            (Ok(at), None) => {
                self.entries.remove(at);
            }
            (Err(at), Some(price)) => self.entries.insert(at, (key, price)),
            (Err(_), None) => {}
        }
    }

    /// Forgets all prices that hold for long requests only.
    pub(crate) fn forget_lengths(&mut self) {
        self.entries.retain(|(key, _)| key.above == 0);
    }
}

/// Reads the name of a price.
fn key(name: &str, mode: &str) -> Option<Key> {
    // LiteLLM has the price of an image made under this name as well.
    let name = match name.strip_prefix("input_cost_per_image") {
        Some("") if mode == "image_generation" => "output_cost_per_image",
        _ => name,
    };
    NAMES.iter().find_map(|(known, unit)| {
        let rest = name.strip_prefix(known)?;
        let (rest, tier) = match TIERS.iter().find(|(end, _)| rest.ends_with(end)) {
            Some((end, tier)) => (rest.strip_suffix(end)?, Some(*tier as u8)),
            None => (rest, None),
        };
        let above = if rest.is_empty() {
            0
        } else {
            let thousands = rest.strip_prefix("_above_")?.strip_suffix("k_tokens")?;
            thousands.parse::<u64>().ok()?.checked_mul(1000)?
        };
        Some(Key { unit: *unit, above, tier })
    })
}

#[cfg(test)]
mod tests {
    use super::{Prices, Unit};
    use crate::lookup;
    use crate::usage::ServiceTier::{Batch, Flex, Priority};

    fn prices(vendor: &str, model: &str) -> Prices {
        Prices::of(&lookup(vendor, model).unwrap())
    }

    #[test]
    fn long_requests_have_their_prices_from_the_first_token_over_the_mark() {
        let prices = prices("gemini", "gemini-2.5-pro");
        for (tokens, input, output) in [
            (0, 1_250_000, 10_000_000),
            (200_000, 1_250_000, 10_000_000),
            (200_001, 2_500_000, 15_000_000),
            (u64::MAX, 2_500_000, 15_000_000),
        ] {
            assert_eq!(prices.price(Unit::Input, tokens, None), Some(input), "{tokens}");
            assert_eq!(prices.price(Unit::Output, tokens, None), Some(output), "{tokens}");
        }
    }

    #[test]
    fn tiers_of_a_list_hold_by_their_start_and_the_last_one_goes_on() {
        let prices = prices("qwen", "qwen3-max");
        for (tokens, input) in [
            (0, 1_200_000),
            (32_000, 1_200_000),
            (32_001, 2_400_000),
            (128_001, 3_000_000),
            (300_000, 3_000_000),
        ] {
            assert_eq!(prices.price(Unit::Input, tokens, None), Some(input), "{tokens}");
        }
    }

    #[test]
    fn a_service_tier_has_its_own_prices_where_there_are_any() {
        let prices = prices("gemini", "gemini-2.5-pro");
        let input = |tokens, tier| prices.price(Unit::Input, tokens, tier).unwrap();
        assert_eq!(input(1, Some(Priority)), 2_250_000);
        assert_eq!(input(1, Some(Flex)), 625_000);
        assert_eq!(input(1, Some(Batch)), 625_000);
        assert_eq!(input(200_001, Some(Priority)), 4_500_000);
        // Flex says nothing of long requests: the dearer price holds.
        assert_eq!(input(200_001, Some(Flex)), 2_500_000);
        let haiku = Prices::per_token(Some(7), None);
        assert_eq!(haiku.price(Unit::Input, 1, Some(Priority)), Some(7));
        assert_eq!(haiku.price(Unit::Output, 1, Some(Priority)), None);
    }

    #[test]
    fn an_own_price_is_the_price_of_everything_on_its_side() {
        let own = prices("gemini", "gemini-2.5-pro").with_own(Some(0), None);
        assert_eq!(own.price(Unit::Input, 1_000_000, Some(Priority)), Some(0));
        assert_eq!(own.price(Unit::CacheRead, 1, None), None);
        assert_eq!(own.price(Unit::Output, 1, None), Some(10_000_000));
        let own = own.with_own(None, Some(3));
        assert_eq!(own.price(Unit::Output, 1_000_000, None), Some(3));
        assert_eq!(own.price(Unit::Input, 1, None), Some(0));
    }

    #[test]
    fn hour_long_cache_writes_images_and_searches_are_told_apart() {
        let claude = prices("anthropic", "claude-sonnet-4-5");
        assert_eq!(claude.price(Unit::CacheWrite, 1, None), Some(3_750_000));
        assert_eq!(claude.price(Unit::CacheWrite1h, 1, None), Some(6_000_000));
        assert_eq!(claude.price(Unit::SearchMedium, 1, None), Some(10_000_000_000));
        let image = prices("openai", "1024-x-1024/gpt-image-1.5");
        assert_eq!(image.price(Unit::Image, 0, None), Some(9_000_000_000));
        let image = prices("openai", "gpt-image-1");
        assert_eq!(image.price(Unit::ImageCacheRead, 1, None), Some(2_500_000));
        assert_eq!(image.price(Unit::ImageOutput, 1, None), Some(40_000_000));
        let whisper = prices("openai", "whisper-1");
        assert_eq!(whisper.price(Unit::InputSecond, 0, None), Some(100_000_000));
    }
}
