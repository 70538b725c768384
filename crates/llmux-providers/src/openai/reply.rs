use std::borrow::Cow;

use bytes::Bytes;
use llmux_types::{OpenAiUsage, ServiceTier, Usage};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::rejection::Rejection;
use crate::json::{members, renamed, span};
use crate::stream::Summary;
use crate::target::Endpoint;

/// A whole JSON answer, decoded beside its bytes.
#[derive(Debug)]
pub struct Reply {
    body: Bytes,
    /// Where the names of the model stand, quotes included.
    models: Vec<std::ops::Range<usize>>,
    summary: Summary,
    is_error: bool,
    lacks_choices: bool,
}

/// Tells whether answers of an endpoint have choices.
const fn has_choices(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    usage: Option<OpenAiUsage>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    incomplete_details: Option<Value>,
    #[serde(borrow)]
    output: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    data: Option<IgnoredList>,
    error: Option<IgnoredAny>,
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a string; `None` if it is something else.
fn word(raw: &RawValue) -> Option<Text<'_>> {
    serde_json::from_str(raw.get()).ok()
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

/// The length of a list.
struct IgnoredList(u64);

impl<'de> Deserialize<'de> for IgnoredList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Vec::<IgnoredAny>::deserialize(deserializer)?.len() as u64))
    }
}

impl Reply {
    /// Looks at an answer of `endpoint`.
    ///
    /// # Errors
    /// If it is not JSON. Fields of unexpected types are passed over.
    pub fn look(body: Bytes, endpoint: Endpoint) -> Result<Self, serde_json::Error> {
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(&body) else {
            return Self::look_leniently(body, endpoint);
        };
        let models = fields.model.map(|raw| span(&body, raw.get())).into_iter().collect();
        let is_error =
            endpoint != Endpoint::Responses && fields.error.is_some() && fields.choices.is_none();
        let lacks_choices = has_choices(endpoint) && fields.choices.is_none();
        let finish_reason = if endpoint == Endpoint::Responses {
            let status = fields.status.and_then(word);
            let called = fields
                .output
                .iter()
                .flatten()
                .any(|item| is_call(item.kind.as_ref().map(Text::as_str)));
            responses_finish(
                status.as_ref().map(Text::as_str),
                fields.incomplete_details.as_ref(),
                called,
            )
        } else {
            let first = fields.choices.and_then(|choices| choices.into_iter().next());
            first.and_then(|choice| choice.finish_reason).map(|reason| reason.0.into_owned())
        };
        let tier = fields.service_tier.and_then(word);
        let images = fields.data.map(|data| data.0);
        let usage = fields.usage.and_then(|usage| usage.0);
        let usage = usage_of(usage, endpoint, tier.as_ref().map(Text::as_str), images);
        let summary = Summary { usage, finish_reason };
        Ok(Self { models, summary, is_error, lacks_choices, body })
    }

    /// The same for answers whose fields have other types than OpenAI's.
    fn look_leniently(body: Bytes, endpoint: Endpoint) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(&body)?;
        let models = members(&body, |name| name == "model")
            .unwrap_or_default()
            .into_iter()
            .map(|member| member.value)
            .collect();
        let has = |name| value.get(name).is_some_and(|member| !member.is_null());
        let is_error = endpoint != Endpoint::Responses && has("error") && !has("choices");
        let lacks_choices = has_choices(endpoint) && !has("choices");
        let summary = summary(&value, endpoint);
        Ok(Self { models, summary, is_error, lacks_choices, body })
    }

    /// Explains an answer that is an error in spite of its status of 200, as OpenRouter sends them.
    pub fn rejection(&self) -> Option<Rejection> {
        let value = self.is_error.then(|| serde_json::from_slice::<Value>(&self.body).ok())??;
        Some(Rejection::from_stream(&value))
    }

    /// Tells whether an answer that should have choices has none: it is no answer, whatever its status says.
    pub const fn lacks_choices(&self) -> bool {
        self.lacks_choices
    }

    /// Returns usage and finish reason.
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Returns the bytes with `model` as the model's name and nothing else changed.
    pub fn with_model(&self, model: &str) -> Bytes {
        renamed(&self.body, &self.models, model).map_or_else(|| self.body.clone(), Bytes::from)
    }
}

/// Reads the summary out of a whole answer.
pub(super) fn summary(answer: &Value, endpoint: Endpoint) -> Summary {
    let tier = answer.get("service_tier").and_then(Value::as_str);
    let images = answer.get("data").and_then(Value::as_array).map(|images| images.len() as u64);
    let usage = answer.get("usage").filter(|usage| usage.is_object()).map(Usage::from_openai);
    let usage = usage_of(usage, endpoint, tier, images);
    let finish_reason = if endpoint == Endpoint::Responses {
        let called = answer.get("output").and_then(Value::as_array).is_some_and(|items| {
            items.iter().any(|item| is_call(item.get("type").and_then(Value::as_str)))
        });
        let status = answer.get("status").and_then(Value::as_str);
        responses_finish(status, answer.get("incomplete_details"), called)
    } else {
        let reason = answer.pointer("/choices/0/finish_reason").and_then(Value::as_str);
        reason.map(str::to_owned)
    };
    Summary { usage, finish_reason }
}

/// Returns what an answer used: its usage object, with what it says elsewhere.
fn usage_of(
    object: Option<Usage>,
    endpoint: Endpoint,
    tier: Option<&str>,
    data: Option<u64>,
) -> Option<Usage> {
    let images = data.filter(|count| *count > 0 && endpoint == Endpoint::ImagesGenerations);
    if object.is_none() && images.is_none() {
        return None;
    }
    let mut usage = object.unwrap_or_default();
    usage.service_tier = usage.service_tier.or_else(|| tier.and_then(ServiceTier::from_word));
    match endpoint {
        // There is no output, and Voyage tells the total alone.
        Endpoint::Embeddings => usage.prompt_tokens = usage.prompt_tokens.or(usage.total_tokens),
        Endpoint::ImagesGenerations => {
            usage.images = images;
            // All output is images unless the vendor says otherwise.
            usage.image_completion_tokens =
                usage.image_completion_tokens.or(usage.completion_tokens);
        }
        _ => {}
    }
    Some(usage)
}

fn is_call(kind: Option<&str>) -> bool {
    matches!(kind, Some("function_call" | "custom_tool_call"))
}

/// Puts the status of a response into the words of chat completions.
fn responses_finish(
    status: Option<&str>,
    incomplete: Option<&Value>,
    called: bool,
) -> Option<String> {
    let reason = match status? {
        "completed" if called => "tool_calls",
        "completed" => "stop",
        "incomplete" => match incomplete?.get("reason")?.as_str()? {
            "max_output_tokens" => "length",
            other => other,
        },
        _ => return None,
    };
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(json: &str, endpoint: Endpoint) -> Reply {
        Reply::look(Bytes::copy_from_slice(json.as_bytes()), endpoint).expect("JSON")
    }

    #[test]
    fn only_the_models_name_changes() {
        let json = "{ \"id\":\"m\", \"model\" : \"gpt-4o-2024\",\"choices\":[{\"message\":{\"model\":\"x\"},\"finish_reason\":\"stop\"}] }\n";
        let reply = look(json, Endpoint::ChatCompletions);
        assert_eq!(reply.with_model("fast"), json.replace("gpt-4o-2024", "fast"));
        assert_eq!(reply.summary().finish_reason.as_deref(), Some("stop"));
        assert_eq!(look("{\"data\":[]}", Endpoint::Embeddings).with_model("m"), "{\"data\":[]}");
    }

    #[test]
    fn unexpected_types_do_not_fail_an_answer() {
        let json = r#"{"model":"a","choices":{"finish_reason":7},"usage":"none"}"#;
        let reply = look(json, Endpoint::ChatCompletions);
        assert_eq!(*reply.summary(), Summary::default());
        assert_eq!(reply.with_model("b"), json.replace("\"a\"", "\"b\""));
        Reply::look(Bytes::from_static(b"{\"model\":"), Endpoint::ChatCompletions)
            .expect_err("cut off");
    }

    #[test]
    fn embeddings_spend_their_total_on_the_input() {
        let reply = look(r#"{"data":[],"usage":{"total_tokens":12}}"#, Endpoint::Embeddings);
        assert_eq!(reply.summary().usage.and_then(|usage| usage.prompt_tokens), Some(12));
    }

    #[test]
    fn the_tier_that_served_and_the_images_made_are_counted() {
        let json = r#"{"service_tier":"flex","usage":{"prompt_tokens":3},"choices":[]}"#;
        let usage = look(json, Endpoint::ChatCompletions).summary().usage.unwrap();
        assert_eq!(usage.service_tier, Some(ServiceTier::Flex));
        let json = r#"{"service_tier":"default","usage":{"prompt_tokens":3},"choices":[]}"#;
        let usage = look(json, Endpoint::ChatCompletions).summary().usage.unwrap();
        assert_eq!(usage.service_tier, None);
        let json = r#"{"data":[{"url":"a"},{"url":"b"}]}"#;
        let usage = look(json, Endpoint::ImagesGenerations).summary().usage.unwrap();
        assert_eq!((usage.images, usage.prompt_tokens), (Some(2), None));
        let json = r#"{"data":[{}],"usage":{"input_tokens":5,"output_tokens":7}}"#;
        let usage = look(json, Endpoint::ImagesGenerations).summary().usage.unwrap();
        assert_eq!((usage.images, usage.image_completion_tokens), (Some(1), Some(7)));
        assert_eq!(look(r#"{"data":[{}]}"#, Endpoint::Moderations).summary().usage, None);
    }

    #[test]
    fn what_has_no_choices_is_no_completion() {
        for (json, lacks) in [
            ("null", true),
            ("[]", true),
            (r#""x""#, true),
            (r#"{"detail":"no"}"#, true),
            (r#"{"choices":null,"base_resp":{"status_code":1004}}"#, true),
            (r#"{"choices":[]}"#, false),
            (r#"{"choices":{"finish_reason":7}}"#, false),
        ] {
            assert_eq!(look(json, Endpoint::ChatCompletions).lacks_choices(), lacks, "{json}");
            assert!(!look(json, Endpoint::Embeddings).lacks_choices(), "{json}");
        }
    }

    #[test]
    fn an_error_under_a_status_of_200_is_found() {
        let reply =
            look(r#"{"error":{"message":"slow down","code":429}}"#, Endpoint::ChatCompletions);
        assert_eq!(reply.rejection().map(|rejection| rejection.status), Some(429));
        // Whatever stands beside it.
        for beside in
            [r#""status":429"#, r#""service_tier":1"#, r#""data":"none""#, r#""output":{}"#]
        {
            let json = format!(r#"{{"error":{{"message":"slow down","code":429}},{beside}}}"#);
            let found = look(&json, Endpoint::ChatCompletions).rejection();
            assert_eq!(found.map(|rejection| rejection.status), Some(429), "{beside}");
        }
        for json in [r#"{"error":null,"choices":[]}"#, r#"{"choices":[],"error":{"message":"m"}}"#]
        {
            assert!(look(json, Endpoint::ChatCompletions).rejection().is_none(), "{json}");
        }
        let failed = r#"{"status":"failed","error":{"message":"m"}}"#;
        assert!(look(failed, Endpoint::Responses).rejection().is_none());
    }

    #[test]
    fn responses_end_in_the_words_of_chat() {
        for (json, reason) in [
            (r#"{"status":"completed","output":[{"type":"message"}]}"#, Some("stop")),
            (r#"{"status":"completed","output":[{"type":"function_call"}]}"#, Some("tool_calls")),
            (
                r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#,
                Some("length"),
            ),
            (
                r#"{"status":"incomplete","incomplete_details":{"reason":"content_filter"}}"#,
                Some("content_filter"),
            ),
            (r#"{"status":"failed","error":{"code":"server_error"}}"#, None),
        ] {
            assert_eq!(
                look(json, Endpoint::Responses).summary().finish_reason.as_deref(),
                reason,
                "{json}"
            );
        }
    }
}
