//! What a client asks for: its body looked at once, and its own limits.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use llmux_providers::{
    EncodeError, Endpoint, Invalid, JsonRequest, MultipartRequest, RequestEdits, openai,
};
use llmux_types::Usage;
use llmux_types::chat::ChatRequest;
use llmux_types::embeddings::EmbeddingsRequest;
use tokio::time::Instant;

use crate::attempt::Facts;
use crate::error::ApiError;
use crate::exchange::Exchange;

/// The longest model name, in bytes.
const MAX_MODEL_BYTES: usize = 256;

/// What a client asks for.
pub(crate) struct Ask {
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
    body: AskBody,
    /// As the client spelled it: the name in its reply.
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// What the client asked deployments to be chosen by.
    tags: Vec<String>,
    /// When the client stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// The request in the canonical form, read when a vendor of another dialect is asked first.
    chat: OnceLock<Box<ChatRequest>>,
    embeddings: OnceLock<Box<EmbeddingsRequest>>,
}

enum AskBody {
    Json(JsonRequest),
    Multipart(MultipartRequest),
}

impl Ask {
    pub(crate) fn look(
        endpoint: Endpoint,
        headers: HeaderMap,
        path_model: Option<String>,
        body: Bytes,
        exchange: &mut Exchange,
    ) -> Result<Self, ApiError> {
        let (body, named, stream) = if endpoint.is_multipart() {
            let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let request = MultipartRequest::look(body, content_type.unwrap_or_default())?;
            let (named, stream) = (request.model().map(str::to_owned), request.stream());
            (AskBody::Multipart(request), named, stream)
        } else {
            let request = JsonRequest::look(body, endpoint)?;
            let (named, stream) = (request.model().map(str::to_owned), request.stream());
            (AskBody::Json(request), named, stream)
        };
        let model = path_model
            .or(named)
            .ok_or_else(|| ApiError::invalid("model", "`model` is missing."))?;
        check_model_name(&model)?;
        exchange.line.stream = stream;
        exchange.line.model = Some(model.clone());
        let deadline = deadline(&headers)?;
        let tags = tags(&headers, &body)?;
        Ok(Self {
            endpoint,
            headers,
            body,
            model,
            stream,
            tags,
            deadline,
            chat: OnceLock::new(),
            embeddings: OnceLock::new(),
        })
    }

    /// Looks at a request that is not to be made: it needs no content.
    pub(crate) fn dry(
        endpoint: Endpoint,
        headers: HeaderMap,
        body: Bytes,
        exchange: &mut Exchange,
    ) -> Result<Self, ApiError> {
        // Completions leave the check of their content to the vendor.
        let ask = Self::look(Endpoint::Completions, headers, None, body, exchange)?;
        Ok(Self { endpoint, ..ask })
    }

    /// Returns what the choice of a deployment depends on.
    pub(crate) fn facts(&self) -> Facts<'_> {
        let (input_tokens, asked, choices, is_sure) = match &self.body {
            AskBody::Json(request) => {
                let choices = request.choices();
                let most = request.max_output_tokens();
                let most = most.map(|tokens| tokens.saturating_mul(choices));
                (request.estimated_input_tokens(), most, choices, !request.has_odd_maximum())
            }
            AskBody::Multipart(_) => (0, None, 1, true),
        };
        let max_output_tokens = if self.endpoint.answers_tokens() { asked } else { Some(0) };
        Facts {
            tags: &self.tags,
            stream: self.stream,
            input_tokens,
            max_output_tokens,
            is_sure,
            choices,
        }
    }

    /// Returns the end user that the client names.
    pub(crate) fn end_user(&self) -> Option<&str> {
        match &self.body {
            AskBody::Json(request) => request.end_user(),
            AskBody::Multipart(_) => None,
        }
    }

    /// Returns what a call is expected to use, and to be charged by, if its answer has `output_tokens`.
    pub(crate) fn expected_usage(&self, output_tokens: u64) -> Usage {
        let facts = self.facts();
        let input = Usage { prompt_tokens: Some(facts.input_tokens), ..Usage::default() };
        match (self.endpoint, &self.body) {
            // Counting is free.
            (Endpoint::CountTokens, _) => Usage::default(),
            (Endpoint::AudioSpeech, AskBody::Json(request)) => {
                Usage { input_characters: spoken_characters(request.body()), ..Usage::default() }
            }
            (Endpoint::ImagesGenerations, AskBody::Json(request)) => {
                Usage { images: Some(request.choices()), ..input }
            }
            _ => Usage { completion_tokens: Some(output_tokens), ..input },
        }
    }

    /// Returns the canonical chat request.
    pub(crate) fn chat(&self) -> Result<&ChatRequest, Invalid> {
        if let Some(request) = self.chat.get() {
            return Ok(request);
        }
        let AskBody::Json(request) = &self.body else {
            return Err(Invalid { param: None, message: "the request body must be JSON".into() });
        };
        let read = openai::read_request(request.body())?;
        Ok(self.chat.get_or_init(|| Box::new(read)))
    }

    /// Returns the canonical embeddings request.
    pub(crate) fn embeddings(&self) -> Result<&EmbeddingsRequest, EncodeError> {
        if let Some(request) = self.embeddings.get() {
            return Ok(request);
        }
        let AskBody::Json(request) = &self.body else {
            let message = "the request body must be JSON".to_owned();
            return Err(EncodeError { param: "input".to_owned(), message });
        };
        let read = openai::parse_embeddings(request.body())?;
        Ok(self.embeddings.get_or_init(|| Box::new(read)))
    }

    /// Tells whether the client asked for the usage of its stream.
    pub(crate) const fn usage_asked(&self) -> bool {
        matches!(&self.body, AskBody::Json(request) if request.usage_asked())
    }

    /// Returns the body as the client sent it, if it is JSON.
    pub(crate) const fn json_body(&self) -> Option<&Bytes> {
        match &self.body {
            AskBody::Json(request) => Some(request.body()),
            AskBody::Multipart(_) => None,
        }
    }

    /// Returns the body if it has the field `cache`.
    pub(crate) const fn body_with_cache(&self) -> Option<&Bytes> {
        match &self.body {
            AskBody::Json(request) if request.has_cache_field() => Some(request.body()),
            _ => None,
        }
    }

    /// Returns the body for an attempt, and whether usage was asked for on our own account.
    pub(crate) fn edited(&self, model: &str, ask_usage: bool) -> (Bytes, bool) {
        match &self.body {
            AskBody::Json(request) => {
                let edits = RequestEdits { model, ask_usage };
                (request.edited(&edits), ask_usage && !request.usage_asked())
            }
            AskBody::Multipart(request) => (request.edited(model), false),
        }
    }
}

/// Returns the letters of a text to be spoken.
fn spoken_characters(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Speech<'a> {
        #[serde(borrow)]
        input: std::borrow::Cow<'a, str>,
    }
    let speech: Speech<'_> = serde_json::from_slice(body).ok()?;
    Some(speech.input.chars().count() as u64)
}

fn check_model_name(model: &str) -> Result<(), ApiError> {
    let fault = if model.is_empty() {
        "`model` must not be empty."
    } else if model.len() > MAX_MODEL_BYTES {
        "`model` must not be longer than 256 bytes."
    } else if model.chars().any(char::is_control) {
        "`model` must not have control characters."
    } else {
        return Ok(());
    };
    Err(ApiError::invalid("model", fault))
}

/// Collects the tags of the headers and the body.
fn tags(headers: &HeaderMap, body: &AskBody) -> Result<Vec<String>, ApiError> {
    let mut tags = match body {
        AskBody::Json(request) => request.tags().to_vec(),
        AskBody::Multipart(_) => Vec::new(),
    };
    for name in ["x-llmux-tags", "x-litellm-tags"] {
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| {
                ApiError::invalid(name, format!("`{name}` must be a list of tags such as a,b."))
            })?;
            for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                if !tags.iter().any(|known| known == tag) {
                    tags.push(tag.to_owned());
                }
            }
        }
    }
    Ok(tags)
}

/// Reads `x-llmux-timeout`, such as `30s` or `250ms`; a bare number means seconds.
fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, ApiError> {
    let name = "x-llmux-timeout";
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let seconds =
        text.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    let timeout =
        seconds.or_else(|| humantime::parse_duration(text).ok()).filter(|time| !time.is_zero());
    let message = "`x-llmux-timeout` must be a duration such as 30s or 250ms.";
    // A time beyond what the clock can count is no limit.
    timeout
        .map(|time| Instant::now().checked_add(time))
        .ok_or_else(|| ApiError::invalid(name, message))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn model_names_are_bounded() {
        for (name, fine) in [
            ("gpt-4o".to_owned(), true),
            ("a/b c".to_owned(), true),
            ("x".repeat(256), true),
            ("x".repeat(257), false),
            ("a\nb".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(check_model_name(&name).is_ok(), fine, "{name:?}");
        }
    }

    #[test]
    fn timeouts_are_durations() {
        for (value, fine) in [
            ("30s", true),
            ("250ms", true),
            ("2.5", true),
            ("0", false),
            ("-1", false),
            ("soon", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-llmux-timeout", HeaderValue::from_static(value));
            assert_eq!(deadline(&headers).is_ok(), fine, "{value}");
        }
    }
}
