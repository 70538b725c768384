//! What a call costs: one function for estimates and bills.

use crate::money::Money;
use crate::pricing::{Prices, Unit};
use crate::usage::{SearchContext, Usage};

/// The cost of one call to a vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The sum of the parts, rounded once to whole nano-dollars, a half upwards.
    pub total: Money,
    /// What it is the sum of.
    pub parts: Parts,
    /// What could not be charged because its price is unknown.
    pub unpriced: Unpriced,
}

/// The parts of a cost in pico-dollars (10⁻¹² US dollars). No token is in two of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Text as input that has nothing to do with a cache; also audio by the second and text by the character.
    pub input: u128,
    /// Input of any kind read from the vendor's cache.
    pub cache_read: u128,
    /// Input written to the vendor's cache.
    pub cache_write: u128,
    /// Audio as input.
    pub audio_input: u128,
    /// Images as input.
    pub image_input: u128,
    /// Text as output.
    pub output: u128,
    /// Reasoning.
    pub reasoning: u128,
    /// Audio as output.
    pub audio_output: u128,
    /// Images as output, by the token or by the piece.
    pub image_output: u128,
    /// The request itself.
    pub request: u128,
    /// Searches of the web.
    pub search: u128,
}

impl Parts {
    /// Returns the sum; saturates.
    pub fn sum(&self) -> u128 {
        [
            self.input,
            self.cache_read,
            self.cache_write,
            self.audio_input,
            self.image_input,
            self.output,
            self.reasoning,
            self.audio_output,
            self.image_output,
            self.request,
            self.search,
        ]
        .into_iter()
        .fold(0, u128::saturating_add)
    }
}

/// What was used but has no known price, and is therefore not in the cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpriced {
    /// Some of the input.
    pub input: bool,
    /// Some of the output.
    pub output: bool,
    /// Searches of the web.
    pub search: bool,
}

impl Unpriced {
    /// Tells whether anything has no price.
    pub const fn any(self) -> bool {
        self.input || self.output || self.search
    }
}

/// Returns what a call is expected to cost: the same function as the bill's, over ordinary tokens.
pub fn estimate(prices: &Prices, input_tokens: u64, output_tokens: u64) -> Cost {
    let usage = Usage {
        prompt_tokens: Some(input_tokens),
        completion_tokens: Some(output_tokens),
        ..Usage::default()
    };
    cost(prices, &usage)
}

/// Returns what a call costs. Total and without side effects; nothing overflows, sums saturate.
///
/// Which prices hold depends on the number of input tokens, cached ones included, and on the tier that served the call
/// ([`Prices::price`]). Each token has one price: the one of its kind, or of the wider kind where that has none
/// (audio read from the cache: as other input from the cache, as audio, as input). Seconds, characters and images are
/// charged only where the tokens of their side are not.
pub fn cost(prices: &Prices, usage: &Usage) -> Cost {
    let mut bill = Bill::new(prices, usage);
    bill.input(usage);
    bill.output(usage);
    bill.parts.request =
        u128::from(prices.price(Unit::Request, bill.input_tokens, None).unwrap_or(0));
    let searches = usage.web_searches.unwrap_or(0);
    if searches > 0 {
        let context = usage.search_context.unwrap_or(SearchContext::Medium);
        match bill.price(&[Unit::search(context), Unit::SearchMedium]) {
            Some(price) => bill.parts.search = times(searches, price),
            None => bill.unpriced.search = true,
        }
    }
    Cost { total: Money::from_picos(bill.parts.sum()), parts: bill.parts, unpriced: bill.unpriced }
}

struct Bill<'a> {
    prices: &'a Prices,
    tier: Option<crate::usage::ServiceTier>,
    input_tokens: u64,
    output_tokens: u64,
    parts: Parts,
    unpriced: Unpriced,
}

impl<'a> Bill<'a> {
    fn new(prices: &'a Prices, usage: &Usage) -> Self {
        let known = |count: Option<u64>| count.unwrap_or(0);
        let beside = |count: Option<u64>| {
            usage.total_tokens.map_or(0, |total| total.saturating_sub(known(count)))
        };
        // Where only one side is told, the total tells the other.
        let input_tokens = usage.prompt_tokens.unwrap_or_else(|| beside(usage.completion_tokens));
        let output_tokens = usage.completion_tokens.unwrap_or_else(|| match usage.prompt_tokens {
            Some(_) => beside(usage.prompt_tokens),
            None => 0,
        });
        Self {
            prices,
            tier: usage.service_tier,
            input_tokens: input_tokens.saturating_add(known(usage.beside_prompt_tokens)),
            // Reasoning is output even where a vendor's numbers contradict each other.
            output_tokens: output_tokens
                .saturating_add(known(usage.beside_completion_tokens))
                .max(known(usage.reasoning_tokens)),
            parts: Parts::default(),
            unpriced: Unpriced::default(),
        }
    }

    /// Returns the price of the first unit that has one.
    fn price(&self, units: &[Unit]) -> Option<u64> {
        units.iter().find_map(|unit| self.prices.price(*unit, self.input_tokens, self.tier))
    }

    fn input(&mut self, usage: &Usage) {
        let counted =
            |count: Option<u64>, unit| count.and_then(|count| Some((count, self.price(&[unit])?)));
        let seconds = counted(usage.audio_milliseconds, Unit::InputSecond);
        let characters = counted(usage.input_characters, Unit::InputCharacter);
        if self.input_tokens == 0 || self.price(&[Unit::Input, Unit::AudioInput]).is_none() {
            if let Some((milliseconds, price)) = seconds {
                self.parts.input = times(milliseconds, price) / 1000;
                return;
            }
            if let Some((characters, price)) = characters {
                self.parts.input = times(characters, price);
                return;
            }
            let counted = usage.audio_milliseconds.or(usage.input_characters).unwrap_or(0);
            self.unpriced.input |= counted > 0 && self.input_tokens == 0;
        }
        let mut left = self.input_tokens;
        let mut take = |count: Option<u64>| {
            let taken = count.unwrap_or(0).min(left);
            left -= taken;
            taken
        };
        let cached = take(usage.cached_tokens);
        let written = take(usage.cache_write_tokens);
        let hour = usage.cache_write_1h_tokens.unwrap_or(0).min(written);
        // What the vendor does not say to be cached audio or images is cached text first.
        let known = |count: Option<u64>| count.unwrap_or(0);
        let cached_audio =
            known(usage.cached_audio_tokens).min(known(usage.audio_prompt_tokens)).min(cached);
        let cached_image = known(usage.cached_image_tokens)
            .min(known(usage.image_prompt_tokens))
            .min(cached - cached_audio);
        let audio = take(usage.audio_prompt_tokens.map(|count| count - cached_audio));
        let image = take(usage.image_prompt_tokens.map(|count| count - cached_image));

        let text_units = [Unit::Input];
        let read = [Unit::CacheRead, Unit::Input];
        let audio_read = [Unit::AudioCacheRead, Unit::CacheRead, Unit::AudioInput, Unit::Input];
        let image_read = [Unit::ImageCacheRead, Unit::CacheRead, Unit::ImageInput, Unit::Input];
        let write_hour = [Unit::CacheWrite1h, Unit::CacheWrite, Unit::Input];
        self.parts.input = self.charge_input(left, &text_units);
        self.parts.cache_read = self
            .charge_input(cached - cached_audio - cached_image, &read)
            .saturating_add(self.charge_input(cached_audio, &audio_read))
            .saturating_add(self.charge_input(cached_image, &image_read));
        self.parts.cache_write = self
            .charge_input(written - hour, &write_hour[1..])
            .saturating_add(self.charge_input(hour, &write_hour));
        self.parts.audio_input = self.charge_input(audio, &audio_read[2..]);
        self.parts.image_input = self.charge_input(image, &image_read[2..]);
    }

    fn output(&mut self, usage: &Usage) {
        let images = usage.images.unwrap_or(0);
        if images > 0
            && (self.output_tokens == 0 || self.price(&[Unit::ImageOutput, Unit::Output]).is_none())
        {
            match self.price(&[Unit::Image]) {
                Some(price) => self.parts.image_output = times(images, price),
                None => self.unpriced.output = true,
            }
            return;
        }
        let mut left = self.output_tokens;
        let mut take = |count: Option<u64>| {
            let taken = count.unwrap_or(0).min(left);
            left -= taken;
            taken
        };
        let reasoning = take(usage.reasoning_tokens);
        let audio = take(usage.audio_completion_tokens);
        let image = take(usage.image_completion_tokens);
        self.parts.output = self.charge_output(left, &[Unit::Output]);
        self.parts.audio_output = self.charge_output(audio, &[Unit::AudioOutput, Unit::Output]);
        self.parts.image_output = self.charge_output(image, &[Unit::ImageOutput, Unit::Output]);
        self.parts.reasoning = self.charge_output(reasoning, self.reasoning_units());
    }

    /// A price of reasoning that is the standard price of output says nothing of its own: other tiers and long requests
    /// have other prices of output, which then hold for reasoning too.
    fn reasoning_units(&self) -> &'static [Unit] {
        let plain = |unit| self.prices.price(unit, 0, None);
        if plain(Unit::Reasoning) == plain(Unit::Output) {
            &[Unit::Output, Unit::Reasoning]
        } else {
            &[Unit::Reasoning, Unit::Output]
        }
    }

    fn charge_input(&mut self, count: u64, units: &[Unit]) -> u128 {
        let price = self.price(units);
        self.unpriced.input |= price.is_none() && count > 0;
        times(count, price.unwrap_or(0))
    }

    fn charge_output(&mut self, count: u64, units: &[Unit]) -> u128 {
        let price = self.price(units);
        self.unpriced.output |= price.is_none() && count > 0;
        times(count, price.unwrap_or(0))
    }
}

fn times(count: u64, price: u64) -> u128 {
    u128::from(count) * u128::from(price)
}
