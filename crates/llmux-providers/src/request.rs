//! A look at a client's JSON body, and the few edits that an attempt makes to it.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::estimate;
use crate::facts::{Fields, add_tags, array_of_tags, end_user, metadata_user};
use crate::fault::{words, words_and_position};
use crate::json::{Member, Shape, Splices, members, quoted, skip_space, span};
use crate::target::Endpoint;

/// What is wrong with a request body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The field at fault, if one is.
    pub param: Option<&'static str>,
    /// The fault, for the person who wrote the client.
    pub message: String,
}

impl Invalid {
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), message: message.into() }
    }
}

/// The edits of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct RequestEdits<'a> {
    /// The name that the vendor knows the model by.
    pub model: &'a str,
    /// Ask for the usage of a stream, where the request does not.
    pub ask_usage: bool,
}

/// A client's JSON body, looked at once: the fields that the gateway acts on, and where they stand.
#[derive(Debug)]
pub struct JsonRequest {
    body: Bytes,
    model: Option<String>,
    /// Where the model's name stands, quotes included.
    model_span: Option<Range<usize>>,
    stream: bool,
    /// Where the value of `stream` ends.
    stream_end: usize,
    /// Where the value of `stream_options` stands; never a literal null.
    stream_options: Option<Range<usize>>,
    usage_asked: bool,
    /// Whether some of the gateway's own fields must be taken out.
    has_control_fields: bool,
    has_cache_field: bool,
    tags: Vec<String>,
    max_output_tokens: Option<u64>,
    has_odd_maximum: bool,
    choices: u64,
    end_user: Option<String>,
    estimated_input_tokens: u64,
}

impl JsonRequest {
    /// Looks at a body.
    ///
    /// # Errors
    /// [`Invalid`] if it is no JSON object, or a field that the gateway acts on is missing, of a wrong type, or there
    /// twice (the vendor might read the other one). Tags are strings of 1 to 256 bytes, at most 64 different ones.
    pub fn look(body: Bytes, endpoint: Endpoint) -> Result<Self, Invalid> {
        let fields: Fields<'_> =
            serde_json::from_slice(&body).map_err(|error| invalid(&error, &body))?;
        require_content(&fields, endpoint)?;

        let model = fields.model.map(|raw| text(raw, "model")).transpose()?.map(Cow::into_owned);
        let model_span = fields.model.map(|raw| span(&body, raw.get()));
        let stream = match fields.stream.map(RawValue::get) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Invalid::field("stream", "`stream` must be true or false")),
        };
        let usage_asked = match fields.stream_options {
            Some(raw) => include_usage(raw)?,
            None => false,
        };
        let mut tags = Vec::new();
        if let Some(list) = fields.tags.map(RawValue::get)
            && list != "null"
        {
            add_tags(&mut tags, list, "tags")?;
        }
        let mut has_control_fields = fields.tags.is_some() || fields.has_cache;
        if let Some(metadata) = fields.metadata.map(RawValue::get) {
            for member in array_of_tags(metadata) {
                has_control_fields = true;
                add_tags(&mut tags, &metadata[member.value], "metadata.tags")?;
            }
        }
        let end_user = match fields.user.map(RawValue::get) {
            Some(user) => end_user(user),
            None if endpoint.is_anthropic() => {
                fields.metadata.map(RawValue::get).and_then(metadata_user)
            }
            None => None,
        };
        let stream_end = fields.stream.map_or(0, |raw| span(&body, raw.get()).end);
        let stream_options = fields.stream_options.map(|raw| span(&body, raw.get()));
        Ok(Self {
            model,
            model_span,
            stream,
            stream_end,
            stream_options,
            usage_asked,
            has_control_fields,
            has_cache_field: fields.has_cache,
            tags,
            max_output_tokens: match endpoint {
                Endpoint::Responses => fields.max_of_responses,
                _ => fields.max_output_tokens,
            },
            has_odd_maximum: fields.has_odd_maximum,
            choices: match endpoint {
                Endpoint::Completions => {
                    let each = fields.choices.max(fields.best_of).unwrap_or(1).max(1);
                    each.saturating_mul(fields.prompts.max(1))
                }
                _ => fields.choices.unwrap_or(1).max(1),
            },
            end_user,
            estimated_input_tokens: estimate::tokens(&body),
            body,
        })
    }

    /// Returns the model asked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Tells whether a stream is asked for.
    pub const fn stream(&self) -> bool {
        self.stream
    }

    /// Tells whether the client asked for the usage of its stream.
    pub const fn usage_asked(&self) -> bool {
        self.usage_asked
    }

    /// Returns the tags that the client asks for: those of `tags`, then those of `metadata.tags`, each once.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the most tokens that each choice may have: the largest of `max_completion_tokens`, `max_tokens` and
    /// `max_output_tokens`, of which the responses API knows the last only. `None` if none is a number that is not negative, in whatever spelling.
    pub const fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// Tells whether a maximum is not a plain integer: some vendors take it, others pass over it.
    pub const fn has_odd_maximum(&self) -> bool {
        self.has_odd_maximum
    }

    /// Returns how many answers are paid for: `n` where it is a positive number, else 1; of completions the larger of `n` and
    /// `best_of` for each prompt.
    pub const fn choices(&self) -> u64 {
        self.choices
    }

    /// Returns the end user that the client names: `user`, in Anthropic's dialect `metadata.user_id`. Names that are longer than
    /// 256 bytes or have control characters are none.
    pub fn end_user(&self) -> Option<&str> {
        self.end_user.as_deref()
    }

    /// Returns an estimate of the tokens of the input, by a rule and not by a tokenizer: the bytes of the whole body
    /// without its base64 payloads, divided by four and rounded up, and 1,000 for each payload.
    ///
    /// A payload is what follows `;base64,` in a string that begins with `data:`, or 1,024 and more bytes in a row that
    /// are all letters, digits, `+`, `/`, `-`, `_` or `=`. An image costs some hundred to some thousand tokens whatever
    /// its bytes are.
    pub const fn estimated_input_tokens(&self) -> u64 {
        self.estimated_input_tokens
    }

    /// Tells whether the body has the field `cache`.
    pub const fn has_cache_field(&self) -> bool {
        self.has_cache_field
    }

    /// Returns the body as it came.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the body for one attempt: the client's bytes but for the model's name, the question for usage and the
    /// gateway's own fields (`tags`, `cache`, and `metadata.tags` where it is an array: OpenAI's metadata holds
    /// strings only).
    pub fn edited(&self, edits: &RequestEdits<'_>) -> Bytes {
        let json = &self.body;
        let mut splices = Splices::default();
        match &self.model_span {
            Some(span) if self.model.as_deref() != Some(edits.model) => {
                splices.replace(span.clone(), quoted(edits.model));
            }
            Some(_) => {}
            // The model stood in the path. A literal null is no name either, and must not stay beside ours.
            None => {
                if let [null] = members(json, |name| name == "model").unwrap_or_default().as_slice()
                {
                    splices.replace(null.value.clone(), quoted(edits.model));
                    return self.spliced(splices, edits);
                }
                let all = members(json, |_| true).unwrap_or_default();
                let removed = self.own_members().0.len();
                let comma = if all.len() > removed { "," } else { "" };
                let inside = skip_space(json, 0) + 1;
                splices.insert(inside, format!("\"model\":{}{comma}", quoted(edits.model)));
            }
        }
        self.spliced(splices, edits)
    }

    /// Adds the edits that do not concern the model, and makes them all.
    fn spliced(&self, mut splices: Splices, edits: &RequestEdits<'_>) -> Bytes {
        if self.stream && edits.ask_usage && !self.usage_asked {
            self.ask_usage(&mut splices);
        }
        if self.has_control_fields {
            self.remove_control_fields(&mut splices);
        }
        if splices.is_empty() { self.body.clone() } else { Bytes::from(splices.apply(&self.body)) }
    }

    fn ask_usage(&self, splices: &mut Splices) {
        const ASK: &str = "\"include_usage\":true";
        let Some(options) = &self.stream_options else {
            // A literal null must not stay beside ours.
            let null = members(&self.body, |name| name == "stream_options").unwrap_or_default();
            return match null.first() {
                Some(null) => splices.replace(null.value.clone(), format!("{{{ASK}}}")),
                None => splices.insert(self.stream_end, format!(",\"stream_options\":{{{ASK}}}")),
            };
        };
        let object = &self.body[options.clone()];
        let found = members(object, |name| name == "include_usage").unwrap_or_default();
        if let Some(member) = found.first() {
            let value = options.start + member.value.start..options.start + member.value.end;
            splices.replace(value, "true");
        } else {
            let comma = if object.get(skip_space(object, 1)) == Some(&b'}') { "" } else { "," };
            splices.insert(options.start + 1, format!("{ASK}{comma}"));
        }
    }

    /// Finds the gateway's own members, and `metadata`, which may have one inside.
    fn own_members(&self) -> (Vec<Member>, Option<Member>) {
        let json = &self.body;
        let is = |name: &str| matches!(name, "tags" | "cache" | "metadata");
        let found = members(json, is).unwrap_or_default();
        let is_metadata = |member: &Member| {
            serde_json::from_slice::<String>(&json[member.key.clone()])
                .is_ok_and(|name| name == "metadata")
        };
        let (metadata, own): (Vec<_>, Vec<_>) = found.into_iter().partition(is_metadata);
        (own, metadata.into_iter().next())
    }

    fn remove_control_fields(&self, splices: &mut Splices) {
        let json = &self.body;
        let (own, metadata) = self.own_members();
        splices.remove(json, &own);
        if let Some(member) = metadata {
            let offset = member.value.start;
            let Ok(object) = std::str::from_utf8(&json[member.value]) else {
                return;
            };
            let mut inner = Splices::default();
            inner.remove(object.as_bytes(), &array_of_tags(object));
            if !inner.is_empty() {
                let edited = inner.apply(object.as_bytes());
                let edited = String::from_utf8_lossy(&edited).into_owned();
                splices.replace(offset..offset + object.len(), edited);
            }
        }
    }
}

/// Reads a value that must be a string.
fn text<'a>(raw: &'a RawValue, param: &'static str) -> Result<Cow<'a, str>, Invalid> {
    let json = raw.get();
    let wrong = |_| Invalid::field(param, format!("`{param}` must be a string"));
    if !json.contains('\\') {
        return serde_json::from_str::<&str>(json).map(Cow::Borrowed).map_err(wrong);
    }
    serde_json::from_str::<String>(json).map(Cow::Owned).map_err(wrong)
}

fn include_usage(raw: &RawValue) -> Result<bool, Invalid> {
    #[derive(Deserialize)]
    struct Options {
        include_usage: Option<bool>,
    }
    let wrong = |error: serde_json::Error| {
        Invalid::field("stream_options", format!("`stream_options`: {}", words(&error)))
    };
    let options: Options = serde_json::from_str(raw.get()).map_err(wrong)?;
    Ok(options.include_usage.unwrap_or(false))
}

/// Refuses a request without the content that its endpoint is about.
fn require_content(fields: &Fields<'_>, endpoint: Endpoint) -> Result<(), Invalid> {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::CountTokens => match fields
            .messages
        {
            Some(Shape::Array) => Ok(()),
            Some(Shape::EmptyArray) => {
                Err(Invalid::field("messages", "`messages` must not be empty"))
            }
            Some(Shape::Null) | None => Err(Invalid::field("messages", "`messages` is missing")),
            Some(_) => Err(Invalid::field("messages", "`messages` must be an array")),
        },
        Endpoint::Embeddings | Endpoint::Moderations => match fields.input {
            Some(Shape::EmptyArray | Shape::EmptyString) => {
                Err(Invalid::field("input", "`input` must not be empty"))
            }
            Some(Shape::Null) | None => Err(Invalid::field("input", "`input` is missing")),
            Some(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Turns serde's error into ours. Its text names positions, never values of the body's strings.
fn invalid(error: &serde_json::Error, body: &[u8]) -> Invalid {
    let text = error.to_string();
    if error.is_data() {
        if body.get(skip_space(body, 0)) != Some(&b'{') {
            return Invalid {
                param: None,
                message: "the request body must be a JSON object".into(),
            };
        }
        for field in
            ["model", "stream", "stream_options", "tags", "cache", "metadata", "messages", "input"]
        {
            if text.contains(&format!("duplicate field `{field}`")) {
                return Invalid::field(field, format!("`{field}` is given twice"));
            }
        }
    }
    let message = if body.is_empty() {
        "the request body is empty; a JSON object is expected".into()
    } else {
        format!("the request body is not valid JSON: {}", words_and_position(error))
    };
    Invalid { param: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(json: &str) -> JsonRequest {
        JsonRequest::look(Bytes::copy_from_slice(json.as_bytes()), Endpoint::Completions)
            .expect("valid")
    }

    fn edited(json: &str, model: &str, ask_usage: bool) -> String {
        let bytes = look(json).edited(&RequestEdits { model, ask_usage });
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        serde_json::from_str::<serde_json::Value>(&text).expect("still JSON");
        text
    }

    #[test]
    fn a_body_that_needs_no_edit_is_the_same_allocation() {
        let request = look(r#"{ "model":"m", "zip":  1.50 }"#);
        let bytes = request.edited(&RequestEdits { model: "m", ask_usage: true });
        assert_eq!(bytes.as_ptr(), request.body().as_ptr());
    }

    #[test]
    fn only_the_models_name_changes() {
        assert_eq!(
            edited(
                "{ \"a\" : 1e2, \"model\" :\"x\\u0041\" ,\"b\":\"\u{2028}\\/\"}",
                "up\"y",
                false
            ),
            "{ \"a\" : 1e2, \"model\" :\"up\\\"y\" ,\"b\":\"\u{2028}\\/\"}"
        );
        assert_eq!(look(r#"{"model":"x\u0041"}"#).model(), Some("xA"));
    }

    #[test]
    fn a_missing_model_is_put_in_front() {
        assert_eq!(edited(r#" {"a":1}"#, "m", false), r#" {"model":"m","a":1}"#);
        assert_eq!(edited("{ }", "m", false), r#"{"model":"m" }"#);
        assert_eq!(edited(r#"{"model":null}"#, "m", false), r#"{"model":"m"}"#);
    }

    #[test]
    fn usage_is_asked_for_in_streams_only() {
        let ask = |json| edited(json, "m", true);
        assert_eq!(ask(r#"{"model":"m","stream":false}"#), r#"{"model":"m","stream":false}"#);
        assert_eq!(
            ask(r#"{"stream":true,"model":"m"}"#),
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#
        );
        assert_eq!(
            ask(r#"{"model":"m","stream":true,"stream_options":{ }}"#),
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true }}"#
        );
        assert_eq!(
            ask(r#"{"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}"#),
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#
        );
        assert_eq!(
            ask(r#"{"model":"m","stream":true,"stream_options":{"include_usage": false}}"#),
            r#"{"model":"m","stream":true,"stream_options":{"include_usage": true}}"#
        );
        let asked = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(ask(asked), asked);
        assert!(look(asked).usage_asked());
    }

    #[test]
    fn our_own_fields_are_taken_out() {
        assert_eq!(
            edited(
                r#"{"tags":["a"],"model":"m","metadata":{"user":"u","tags":["b"]},"cache":{"ttl":1}}"#,
                "n",
                false
            ),
            r#"{"model":"n","metadata":{"user":"u"}}"#
        );
        let strings = r#"{"model":"m","metadata":{"tags":"mine"}}"#;
        assert_eq!(edited(strings, "m", false), strings);
    }

    #[test]
    fn faults_name_their_field() {
        for (json, endpoint, param) in [
            ("", Endpoint::ChatCompletions, None),
            ("{", Endpoint::ChatCompletions, None),
            ("[1]", Endpoint::ChatCompletions, None),
            ("{} x", Endpoint::Completions, None),
            (r#"{"model":1}"#, Endpoint::Completions, Some("model")),
            (r#"{"model":"a","model":"b"}"#, Endpoint::Completions, Some("model")),
            (r#"{"stream":"yes"}"#, Endpoint::Completions, Some("stream")),
            (
                r#"{"stream":true,"stream_options":3}"#,
                Endpoint::Completions,
                Some("stream_options"),
            ),
            (r#"{"model":"m"}"#, Endpoint::ChatCompletions, Some("messages")),
            (r#"{"model":"m","messages":[]}"#, Endpoint::ChatCompletions, Some("messages")),
            (r#"{"model":"m","messages":"hi"}"#, Endpoint::ChatCompletions, Some("messages")),
            (r#"{"model":"m","input":""}"#, Endpoint::Embeddings, Some("input")),
            (r#"{"model":"m"}"#, Endpoint::Embeddings, Some("input")),
        ] {
            let error = JsonRequest::look(Bytes::copy_from_slice(json.as_bytes()), endpoint)
                .expect_err(json);
            assert_eq!(error.param, param, "{json}: {}", error.message);
        }
    }

    #[test]
    fn faults_are_told_without_our_types() {
        for (json, want) in [
            (
                r#"{"stream":true,"stream_options":"x"}"#,
                "`stream_options`: an object is expected, not a string",
            ),
            (
                r#"{"stream_options":{"include_usage":"secret"}}"#,
                "`stream_options`: true or false is expected, not a string",
            ),
            ("[1]", "the request body must be a JSON object"),
            // The position is one of the client's own body here.
            (
                "{\"model\":\n tru}",
                "the request body is not valid JSON: expected true, false or null at line 2 column 5",
            ),
            (
                "{",
                "the request body is not valid JSON: it ends inside an object at line 1 column 1",
            ),
        ] {
            let body = Bytes::copy_from_slice(json.as_bytes());
            let error = JsonRequest::look(body, Endpoint::Completions).expect_err(json);
            assert_eq!(error.message, want, "{json}");
        }
    }
}
