//! The `usage` object of OpenAI's dialect, read in one pass.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{SearchContext, ServiceTier, Usage};

/// What a `usage` object of OpenAI's chat completions, completions, embeddings, responses, image or transcription API says,
/// and those of the vendors compatible with them. Any JSON value can be read: `None` is what is no object. Unknown and
/// misshapen members are passed over; of a member that is there twice the last one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenAiUsage(pub Option<Usage>);

impl<'de> Deserialize<'de> for OpenAiUsage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = None::<Object>;
        Place(&mut object).deserialize(deserializer)?;
        Ok(Self(object.map(|object| object.usage())))
    }
}

/// What can be read of any JSON value: what is of another kind is the default.
trait Lenient: Default {
    fn number(&mut self, _: u64) {}

    fn fraction(&mut self, _: f64) {}

    fn text(&mut self, _: &str) {}

    /// It is an object.
    fn open(&mut self) {}

    /// Takes the value of the member `name`.
    fn member<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        pass(map)
    }
}

/// Where a value is read to: what is read in place is not moved from one function to the next.
struct Place<'a, T>(&'a mut T);

impl<'de, T: Lenient> DeserializeSeed<'de> for Place<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        *self.0 = T::default();
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Lenient> Visitor<'de> for Place<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        if let Ok(number) = u64::try_from(number) {
            self.0.number(number);
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.0.number(number);
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.0.fraction(number);
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.text(text);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.open();
        while let Some(Name(name)) = map.next_key()? {
            self.0.member(&name, &mut map)?;
        }
        Ok(())
    }
}

/// The name of a member, borrowed where it has no escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// `None`: the vendor did not say.
type Count = Option<u64>;

impl Lenient for Count {
    fn number(&mut self, number: u64) {
        *self = Some(number);
    }

    fn fraction(&mut self, number: f64) {
        // A cast saturates.
        *self = (number >= 0.0).then_some(number.ceil() as u64);
    }

    fn text(&mut self, text: &str) {
        *self = text.parse().ok();
    }
}

/// Reads a count from any JSON value: a number that is not negative, also one with a point (`12.0`) or in quotes (`"12"`),
/// parts rounded up; `None` from everything else. For `#[serde(default, deserialize_with = "...")]`: what cannot be read of a
/// vendor's usage must not lose the answer that it stands in.
///
/// # Errors
/// Those of the deserializer.
pub fn lenient_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
    let mut count = None;
    Place(&mut count).deserialize(deserializer)?;
    Ok(count)
}

/// Thousandths.
#[derive(Default)]
struct Thousandths(Count);

impl Lenient for Thousandths {
    fn number(&mut self, number: u64) {
        self.0 = number.checked_mul(1000);
    }

    fn fraction(&mut self, number: f64) {
        let scaled = crate::decimal::scaled(&number.to_string(), 3);
        self.0 = scaled.and_then(|scaled| u64::try_from(scaled).ok());
    }
}

impl Lenient for Option<SearchContext> {
    fn text(&mut self, text: &str) {
        *self = match text {
            "low" => Some(SearchContext::Low),
            "medium" => Some(SearchContext::Medium),
            "high" => Some(SearchContext::High),
            _ => None,
        };
    }
}

impl Lenient for Option<ServiceTier> {
    fn text(&mut self, text: &str) {
        *self = ServiceTier::from_word(text);
    }
}

/// Of tokens read from the vendor's cache.
#[derive(Clone, Copy, Default)]
struct CachedDetails {
    audio: Count,
    image: Count,
}

impl Lenient for CachedDetails {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "audio_tokens" => read(&mut self.audio, map),
            "image_tokens" => read(&mut self.image, map),
            _ => pass(map),
        }
    }
}

/// Of the tokens of the input, or of the output.
#[derive(Clone, Copy, Default)]
struct Details {
    cached: Count,
    cache_write: Count,
    reasoning: Count,
    audio: Count,
    image: Count,
    of_cached: CachedDetails,
}

impl Lenient for Details {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "cached_tokens" => read(&mut self.cached, map),
            "cache_write_tokens" => read(&mut self.cache_write, map),
            "reasoning_tokens" => read(&mut self.reasoning, map),
            "audio_tokens" => read(&mut self.audio, map),
            "image_tokens" => read(&mut self.image, map),
            "cached_tokens_details" => read(&mut self.of_cached, map),
            _ => pass(map),
        }
    }
}

/// Chat completions, responses and images, and transcriptions name their details so: the first that says something counts.
#[derive(Default)]
struct Spellings([Details; 3]);

impl Spellings {
    fn first(&self, of: impl Fn(&Details) -> Count) -> Count {
        self.0.iter().find_map(of)
    }
}

#[derive(Default)]
struct SearchUse(Count);

impl Lenient for SearchUse {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name == "web_search_requests" { read(&mut self.0, map) } else { pass(map) }
    }
}

#[derive(Default)]
struct Object {
    prompt: Count,
    completion: Count,
    input: Count,
    output: Count,
    total: Count,
    /// DeepSeek: <https://api-docs.deepseek.com/guides/kv_cache>
    cache_hit: Count,
    /// Mistral before it had details, servers behind Hugging Face.
    num_cached: Count,
    cached: Count,
    of_input: Spellings,
    of_output: Spellings,
    /// Transcriptions by the second: `{"type": "duration", "seconds": 12}`.
    seconds: Thousandths,
    search: SearchUse,
    search_context: Option<SearchContext>,
    tier: Option<ServiceTier>,
}

impl Lenient for Option<Object> {
    fn open(&mut self) {
        *self = Some(Object::default());
    }

    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let Some(it) = self else { return pass(map) };
        match name {
            "prompt_tokens" => read(&mut it.prompt, map),
            "completion_tokens" => read(&mut it.completion, map),
            "total_tokens" => read(&mut it.total, map),
            "prompt_tokens_details" => read(&mut it.of_input.0[0], map),
            "completion_tokens_details" => read(&mut it.of_output.0[0], map),
            "input_tokens" => read(&mut it.input, map),
            "output_tokens" => read(&mut it.output, map),
            "input_tokens_details" => read(&mut it.of_input.0[1], map),
            "output_tokens_details" => read(&mut it.of_output.0[1], map),
            "input_token_details" => read(&mut it.of_input.0[2], map),
            "output_token_details" => read(&mut it.of_output.0[2], map),
            "prompt_cache_hit_tokens" => read(&mut it.cache_hit, map),
            "num_cached_tokens" => read(&mut it.num_cached, map),
            "cached_tokens" => read(&mut it.cached, map),
            "seconds" => read(&mut it.seconds, map),
            "server_tool_use_details" => read(&mut it.search, map),
            "search_context_size" => read(&mut it.search_context, map),
            "service_tier" => read(&mut it.tier, map),
            _ => pass(map),
        }
    }
}

fn read<'de, T: Lenient, A: MapAccess<'de>>(into: &mut T, map: &mut A) -> Result<(), A::Error> {
    map.next_value_seed(Place(into))
}

fn pass<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

impl Object {
    fn usage(&self) -> Usage {
        let (input, output) = (&self.of_input, &self.of_output);
        let mut usage = Usage {
            prompt_tokens: self.prompt.or(self.input),
            completion_tokens: self.completion.or(self.output),
            total_tokens: self.total,
            cached_tokens: input
                .first(|details| details.cached)
                .or(self.cache_hit)
                .or(self.num_cached)
                .or(self.cached),
            cache_write_tokens: input.first(|details| details.cache_write),
            reasoning_tokens: output.first(|details| details.reasoning),
            audio_prompt_tokens: input.first(|details| details.audio),
            image_prompt_tokens: input.first(|details| details.image),
            cached_audio_tokens: input.first(|details| details.of_cached.audio),
            cached_image_tokens: input.first(|details| details.of_cached.image),
            audio_completion_tokens: output.first(|details| details.audio),
            image_completion_tokens: output.first(|details| details.image),
            audio_milliseconds: self.seconds.0,
            // Perplexity searches once for each request and says how wide.
            web_searches: self.search.0.or(self.search_context.map(|_| 1)),
            search_context: self.search_context,
            service_tier: self.tier,
            ..Usage::default()
        };
        usage.note_what_is_counted_apart();
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Usage> {
        serde_json::from_str::<OpenAiUsage>(json).expect("JSON").0
    }

    #[test]
    fn any_value_can_be_read() {
        for json in ["null", "true", "-1", "1.5", "\"many\"", "[1,{\"a\":[]}]"] {
            assert_eq!(read(json), None, "{json}");
        }
        assert_eq!(read("{}"), Some(Usage::default()));
        let odd = r#"{"prompt_tokens":[{}],"completion_tokens":-3,"total_tokens":"some","x":{"y":[1]},
            "prompt_tokens_details":null,"completion_tokens_details":[1],"seconds":"long","service_tier":5}"#;
        assert_eq!(read(odd), Some(Usage::default()));
    }

    #[test]
    fn counts_are_read_in_all_the_spellings_that_vendors_have() {
        let odd = r#"{"prompt_tokens":4000.0,"completion_tokens":"12","total_tokens":4011.2,
            "prompt_tokens_details":{"cached_tokens":1e3}}"#;
        let usage = Usage {
            prompt_tokens: Some(4000),
            completion_tokens: Some(12),
            total_tokens: Some(4012),
            cached_tokens: Some(1000),
            ..Usage::default()
        };
        assert_eq!(read(odd), Some(usage));
        let most = read(r#"{"prompt_tokens":1e30,"completion_tokens":-1.5}"#).expect("an object");
        assert_eq!((most.prompt_tokens, most.completion_tokens), (Some(u64::MAX), None));
    }

    #[test]
    fn of_a_member_that_is_there_twice_the_last_one_counts() {
        let json = r#"{"prompt_tokens":1,"prompt\u005ftokens":2,"completion_tokens":3,"completion_tokens":null}"#;
        let usage = Usage { prompt_tokens: Some(2), ..Usage::default() };
        assert_eq!(read(json), Some(usage));
        assert_eq!(Usage::from_openai(&serde_json::from_str(json).expect("JSON")), usage);
    }
}
