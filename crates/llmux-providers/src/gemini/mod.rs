//! Google's Gemini API, `generateContent`; Vertex AI takes and gives the same bodies.
//!
//! - Requests and answers: <https://ai.google.dev/api/generate-content>
//! - Calls: <https://ai.google.dev/gemini-api/docs/function-calling>
//! - Thinking and its signatures: <https://ai.google.dev/gemini-api/docs/thinking>,
//!   <https://ai.google.dev/gemini-api/docs/thought-signatures>
//! - Embeddings: <https://ai.google.dev/api/embeddings>
//!
//! What OpenAI's dialect cannot carry is left out of answers: code that the vendor ran and its output, thought images,
//! and the vendor's own tool calls. Hints without a counterpart are left out of requests: an image's `detail`, marks for
//! caches, `user`.

mod array;
mod contents;
mod embeddings;
mod errors;
mod grounding;
mod models;
mod request;
mod response;
mod schema;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use llmux_types::chat::{ChatRequest, ChatResponse};

use crate::codec::{ChatCodec, ChatDecoder, DecodeError, EncodeError, Encoding, Outgoing};
use crate::openai::Rejection;
use crate::target::push_segment;

/// Gemini's dialect, for chat and for embeddings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gemini;

impl ChatCodec for Gemini {
    fn encode(
        &self,
        request: &ChatRequest,
        encoding: &Encoding<'_>,
    ) -> Result<Outgoing, EncodeError> {
        let method =
            if request.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        let body = request::encode(request, encoding)?;
        Ok(outgoing(encoding, method, body))
    }

    fn decode(&self, body: &[u8]) -> Result<ChatResponse, DecodeError> {
        stream::decode(body)
    }

    fn rejection(&self, status: u16, body: Bytes) -> Rejection {
        errors::rejection(status, body)
    }

    fn decoder(&self) -> Box<dyn ChatDecoder> {
        Box::new(stream::Decoder::default())
    }
}

/// Addresses one method of the model.
fn outgoing(encoding: &Encoding<'_>, method: &str, body: Vec<u8>) -> Outgoing {
    let model = bare(encoding.model);
    let mut url = String::with_capacity(encoding.base_url.len() + model.len() + 48);
    url.push_str(encoding.base_url);
    url.push_str("/v1beta/models/");
    push_segment(&mut url, model);
    url.push(':');
    url.push_str(method);
    let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Outgoing { url, headers, body: Bytes::from(body) }
}

/// Returns the model's name without the collection that the vendor's lists write before it.
fn bare(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// Makes an [`EncodeError`].
fn refuse(param: &str, message: impl Into<String>) -> EncodeError {
    EncodeError { param: param.to_owned(), message: message.into() }
}
