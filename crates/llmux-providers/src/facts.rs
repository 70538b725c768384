//! What a client's JSON body says about its request, found in one look.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{Member, Shape, members};
use crate::request::Invalid;

/// Different tags in one request.
const MAX_TAGS: usize = 64;
/// Bytes of one tag.
const MAX_TAG_BYTES: usize = 256;

/// The fields that the gateway acts on. Everything else is passed over without being kept.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    pub(crate) model: Option<&'a RawValue>,
    pub(crate) stream: Option<&'a RawValue>,
    pub(crate) stream_options: Option<&'a RawValue>,
    /// Literal nulls included: they must not reach the vendor either.
    pub(crate) tags: Option<&'a RawValue>,
    pub(crate) has_cache: bool,
    pub(crate) metadata: Option<&'a RawValue>,
    pub(crate) messages: Option<Shape>,
    pub(crate) input: Option<Shape>,
    /// The largest of the three names' values, where they are numbers.
    pub(crate) max_output_tokens: Option<u64>,
    /// One of them is not a plain integer: some vendors take it, others pass over it.
    pub(crate) has_odd_maximum: bool,
    /// The largest `n`, where it is a number.
    pub(crate) choices: Option<u64>,
    /// The largest `best_of`, where it is a number.
    pub(crate) best_of: Option<u64>,
    /// How many prompts there are, in a list of them.
    pub(crate) prompts: u64,
    /// The largest `max_output_tokens`, where it is a number: the only name that the responses API knows.
    pub(crate) max_of_responses: Option<u64>,
    /// The last one, whatever it is.
    pub(crate) user: Option<&'a RawValue>,
}

/// The names of [`Fields`].
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Model,
    Stream,
    StreamOptions,
    Tags,
    Cache,
    Metadata,
    Messages,
    Input,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    Prompt,
    N,
    BestOf,
    User,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields<'de>, A::Error> {
                Fields::read(map)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Fields<'a> {
    fn read<A: MapAccess<'a>>(mut map: A) -> Result<Self, A::Error> {
        let mut fields = Self::default();
        let mut cache = None;
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Model => once(&mut fields.model, map.next_value()?, "model")?,
                Name::Stream => once(&mut fields.stream, map.next_value()?, "stream")?,
                Name::StreamOptions => {
                    once(&mut fields.stream_options, map.next_value()?, "stream_options")?;
                }
                Name::Tags => once(&mut fields.tags, map.next_value()?, "tags")?,
                Name::Cache => once(&mut cache, map.next_value::<IgnoredAny>()?, "cache")?,
                Name::Metadata => once(&mut fields.metadata, map.next_value()?, "metadata")?,
                Name::Messages => once(&mut fields.messages, map.next_value()?, "messages")?,
                Name::Input => once(&mut fields.input, map.next_value()?, "input")?,
                // Whatever else these hold, and how often, is for the vendor to complain about.
                Name::MaxTokens | Name::MaxCompletionTokens | Name::MaxOutputTokens => {
                    let raw: &RawValue = map.next_value()?;
                    let is_plain = raw.get() == "null" || raw.get().parse::<u64>().is_ok();
                    fields.has_odd_maximum |= !is_plain;
                    let most = integer(raw);
                    if matches!(name, Name::MaxOutputTokens) {
                        fields.max_of_responses = fields.max_of_responses.max(most);
                    }
                    fields.max_output_tokens = fields.max_output_tokens.max(most);
                }
                Name::N => fields.choices = fields.choices.max(integer(map.next_value()?)),
                Name::BestOf => fields.best_of = fields.best_of.max(integer(map.next_value()?)),
                Name::Prompt => fields.prompts = fields.prompts.max(prompts(map.next_value()?)),
                Name::User => fields.user = Some(map.next_value()?),
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        fields.has_cache = cache.is_some();
        for field in [
            &mut fields.model,
            &mut fields.stream,
            &mut fields.stream_options,
            &mut fields.metadata,
        ] {
            field.take_if(|raw| raw.get() == "null");
        }
        Ok(fields)
    }
}

/// Keeps a value, and refuses a second one: the vendor might read the other.
fn once<T, E: Error>(slot: &mut Option<T>, value: T, name: &'static str) -> Result<(), E> {
    if slot.replace(value).is_some() { Err(E::duplicate_field(name)) } else { Ok(()) }
}

/// Returns how many prompts a `prompt` of the completions API is: a text, a list of texts, one of tokens, or one of lists of
/// tokens. <https://platform.openai.com/docs/api-reference/completions/create#completions-create-prompt>
fn prompts(raw: &RawValue) -> u64 {
    let list: Vec<Shape> = serde_json::from_str(raw.get()).unwrap_or_default();
    let count = list.iter().filter(|shape| !matches!(shape, Shape::Scalar)).count();
    (count as u64).max(1)
}

/// Reads a count in all the spellings that some vendor may take for one: `100`, `1e2`, `100.0`, `"100"`. What is beyond
/// counting is the most there is.
fn integer(raw: &RawValue) -> Option<u64> {
    let text = raw.get().trim_matches('"');
    text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // A cast saturates.
        (number >= 0.0).then_some(number.ceil() as u64)
    })
}

/// Reads the end user's name: at most [`MAX_TAG_BYTES`] bytes without control characters, else there is none.
pub(crate) fn end_user(json: &str) -> Option<String> {
    let name: String = serde_json::from_str(json).ok()?;
    let sane = (1..=MAX_TAG_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    sane.then_some(name)
}

/// Finds `user_id` in a `metadata` object, where Anthropic's API has the end user.
/// <https://docs.anthropic.com/en/api/messages#body-metadata>
pub(crate) fn metadata_user(metadata: &str) -> Option<String> {
    let found = members(metadata.as_bytes(), |name| name == "user_id").ok()?;
    found.into_iter().next().and_then(|member| end_user(&metadata[member.value]))
}

/// Finds `tags` in a `metadata` object, where it is an array.
pub(crate) fn array_of_tags(metadata: &str) -> Vec<Member> {
    let mut found = members(metadata.as_bytes(), |name| name == "tags").unwrap_or_default();
    found.retain(|member| metadata.as_bytes().get(member.value.start) == Some(&b'['));
    found
}

/// Adds the tags of the JSON list `json` that are not in `tags` yet.
pub(crate) fn add_tags(
    tags: &mut Vec<String>,
    json: &str,
    param: &'static str,
) -> Result<(), Invalid> {
    let mut fault = "must be a list of strings".to_owned();
    let list = List { tags, fault: &mut fault };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let added = deserializer.deserialize_seq(list);
    added.map_err(|_| Invalid::field(param, format!("`{param}` {fault}")))
}

/// Reads a list one by one, so that an endless one costs nothing.
struct List<'t> {
    tags: &'t mut Vec<String>,
    /// What is wrong with the list, if it cannot be read.
    fault: &'t mut String,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(tag) = list.next_element::<String>()? {
            let fault = if tag.is_empty() {
                "must not hold empty strings".to_owned()
            } else if tag.len() > MAX_TAG_BYTES {
                format!("must not hold strings of more than {MAX_TAG_BYTES} bytes")
            } else if self.tags.contains(&tag) {
                continue;
            } else if self.tags.len() == MAX_TAGS {
                format!("must not bring the request's tags to more than {MAX_TAGS}")
            } else {
                self.tags.push(tag);
                continue;
            };
            *self.fault = fault;
            return Err(A::Error::custom("a fault of ours"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::{Endpoint, Invalid, JsonRequest};

    fn try_look(json: &str) -> Result<JsonRequest, Invalid> {
        JsonRequest::look(Bytes::copy_from_slice(json.as_bytes()), Endpoint::Completions)
    }

    fn look(json: &str) -> JsonRequest {
        try_look(json).expect("valid")
    }

    fn list(tags: impl Iterator<Item = String>) -> String {
        serde_json::to_string(&tags.collect::<Vec<_>>()).expect("strings")
    }

    #[test]
    fn tags_are_those_of_the_body_then_of_its_metadata_each_once() {
        for (json, tags) in [
            ("{}", &[][..]),
            (r#"{"tags":null}"#, &[]),
            (r#"{"tags":[]}"#, &[]),
            (r#"{"tags":["b","a","b"]}"#, &["b", "a"]),
            (r#"{"metadata":{"tags":["b","c"]},"tags":["a","b"]}"#, &["a", "b", "c"]),
            (r#"{"metadata":{"tags":["a\u0062","\u00e9"]}}"#, &["ab", "é"]),
            (r#"{"metadata":{"tags":["a"],"tags":["b"]}}"#, &["a", "b"]),
            (r#"{"metadata":{"tags":"a","user":"u"}}"#, &[]),
            (r#"{"metadata":{"tags":null}}"#, &[]),
            (r#"{"metadata":{"tags":{"a":"b"}}}"#, &[]),
            (r#"{"metadata":{"other":{"tags":["a"]}}}"#, &[]),
            (r#"{"metadata":null}"#, &[]),
            (r#"{"metadata":["tags"]}"#, &[]),
        ] {
            assert_eq!(look(json).tags(), tags, "{json}");
        }
    }

    #[test]
    fn tags_of_a_wrong_kind_are_refused() {
        for (json, param) in [
            (r#"{"tags":"a"}"#, "tags"),
            (r#"{"tags":1}"#, "tags"),
            (r#"{"tags":{"a":"b"}}"#, "tags"),
            (r#"{"tags":["a",1]}"#, "tags"),
            (r#"{"tags":[null]}"#, "tags"),
            (r#"{"tags":[["a"]]}"#, "tags"),
            (r#"{"tags":["a",""]}"#, "tags"),
            (r#"{"tags":null,"tags":["a"]}"#, "tags"),
            (r#"{"metadata":{"tags":[1]}}"#, "metadata.tags"),
            (r#"{"metadata":{"tags":[""]},"tags":["a"]}"#, "metadata.tags"),
        ] {
            let error = try_look(json).expect_err(json);
            assert_eq!(error.param, Some(param), "{json}: {}", error.message);
        }
        let error = try_look(r#"{"tags":["secret",1]}"#).expect_err("a number");
        assert_eq!(error.message, "`tags` must be a list of strings");
        let error = try_look(r#"{"metadata":{"tags":["secret",""]}}"#).expect_err("an empty one");
        assert_eq!(error.message, "`metadata.tags` must not hold empty strings");
    }

    #[test]
    fn tags_have_limits() {
        let most = list((0..64).map(|n| n.to_string()));
        assert_eq!(look(&format!(r#"{{"tags":{most}}}"#)).tags().len(), 64);
        // The same ones again are no more.
        let twice = format!(r#"{{"tags":{most},"metadata":{{"tags":{most}}}}}"#);
        assert_eq!(look(&twice).tags().len(), 64);
        let more = format!(r#"{{"tags":{most},"metadata":{{"tags":["64"]}}}}"#);
        assert_eq!(try_look(&more).expect_err("one more").param, Some("metadata.tags"));
        let more = list((0..65).map(|n| n.to_string()));
        let error = try_look(&format!(r#"{{"tags":{more}}}"#)).expect_err("one more");
        assert_eq!(error.message, "`tags` must not bring the request's tags to more than 64");

        let long = "é".repeat(128);
        assert_eq!(look(&format!(r#"{{"tags":["{long}"]}}"#)).tags(), std::slice::from_ref(&long));
        let error = try_look(&format!(r#"{{"tags":["{long}x"]}}"#)).expect_err("too long");
        assert_eq!(error.message, "`tags` must not hold strings of more than 256 bytes");
    }

    #[test]
    fn completions_are_paid_for_each_prompt_and_all_that_the_best_is_chosen_of() {
        for (json, expected) in [
            (r#"{"prompt":"a","n":2}"#, 2),
            (r#"{"prompt":["a","b","c"],"n":2}"#, 6),
            (r#"{"prompt":[1,2,3]}"#, 1),
            (r#"{"prompt":[[1,2],[3]]}"#, 2),
            (r#"{"prompt":[]}"#, 1),
            (r#"{"prompt":"a","n":2,"best_of":20}"#, 20),
        ] {
            let body = Bytes::from(json);
            let request = JsonRequest::look(body, Endpoint::Completions).expect("a request");
            assert_eq!(request.choices(), expected, "{json}");
        }
        let chat = Bytes::from(r#"{"messages":["a"],"prompt":["a","b"],"best_of":3}"#);
        let chat = JsonRequest::look(chat, Endpoint::ChatCompletions).expect("a request");
        assert_eq!(chat.choices(), 1);
    }

    #[test]
    fn the_responses_api_knows_one_output_limit() {
        for (json, expected) in [
            (r#"{"max_tokens":5,"max_completion_tokens":6}"#, None),
            (r#"{"max_tokens":5,"max_output_tokens":7}"#, Some(7)),
        ] {
            let request = JsonRequest::look(Bytes::from(json), Endpoint::Responses);
            assert_eq!(request.expect("a request").max_output_tokens(), expected, "{json}");
        }
    }

    #[test]
    fn the_largest_of_the_output_limits_counts() {
        for (json, expected) in [
            ("{}", None),
            (r#"{"max_tokens":16}"#, Some(16)),
            (r#"{"max_completion_tokens":0}"#, Some(0)),
            (r#"{"max_output_tokens": 7 }"#, Some(7)),
            (r#"{"max_tokens":5,"max_completion_tokens":9,"max_output_tokens":7}"#, Some(9)),
            (r#"{"max_tokens":5,"max_completion_tokens":null}"#, Some(5)),
            (r#"{"max_tokens":5,"max_tokens":6,"max_tokens":4}"#, Some(6)),
            (r#"{"max_\u0074okens":5}"#, Some(5)),
            (r#"{"max_tokens":18446744073709551615}"#, Some(u64::MAX)),
            (r#"{"max_tokens":18446744073709551616}"#, Some(u64::MAX)),
            (r#"{"max_tokens":-1}"#, None),
            (r#"{"max_tokens":1.0}"#, Some(1)),
            (r#"{"max_tokens":1e3}"#, Some(1000)),
            (r#"{"max_tokens":"16"}"#, Some(16)),
            (r#"{"max_tokens":{"a":1}}"#, None),
            (r#"{"options":{"max_tokens":16}}"#, None),
        ] {
            assert_eq!(look(json).max_output_tokens(), expected, "{json}");
        }
    }

    #[test]
    fn there_is_one_choice_unless_more_are_asked_for() {
        for (json, expected) in [
            ("{}", 1),
            (r#"{"n":3}"#, 3),
            (r#"{"n":2,"n":4}"#, 4),
            (r#"{"n":0}"#, 1),
            (r#"{"n":null}"#, 1),
            (r#"{"n":-2}"#, 1),
            (r#"{"n":2.5}"#, 3),
            (r#"{"n":"2"}"#, 2),
        ] {
            assert_eq!(look(json).choices(), expected, "{json}");
        }
    }

    #[test]
    fn facts_leave_the_body_alone() {
        let request = look(r#"{"model":"m","n":2,"max_tokens":5,"max_tokens":"6"}"#);
        let edits = crate::RequestEdits { model: "m", ask_usage: true };
        assert_eq!(request.edited(&edits), *request.body());
    }
}
