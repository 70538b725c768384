//! Anthropic's Messages API.
//!
//! - Requests and answers: <https://platform.claude.com/docs/en/api/messages>
//! - Streams: <https://platform.claude.com/docs/en/build-with-claude/streaming>
//! - Thinking and its signatures: <https://platform.claude.com/docs/en/build-with-claude/extended-thinking>
//! - Errors: <https://platform.claude.com/docs/en/api/errors>
//!
//! [`Anthropic`] translates chats of other dialects; [`Relay`] and [`Reply`] pass the dialect itself through, for clients
//! that speak it.

mod errors;
mod models;
mod relay;
mod request;
mod response;
mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use llmux_types::chat::{ChatRequest, ChatResponse};

use crate::codec::{ChatCodec, ChatDecoder, DecodeError, EncodeError, Encoding, Outgoing};
use crate::openai::Rejection;

pub use errors::error_body;
pub use relay::{Relay, Reply};

/// The name of the tool whose arguments are a structured answer, at models that have no other way to give one. Never
/// seen by clients.
const STRUCTURED: &str = "llmux_structured_answer";

/// Returns the header that names the version of the dialect.
pub fn version_header() -> (HeaderName, HeaderValue) {
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"))
}

/// Anthropic's dialect, for chat.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anthropic;

impl ChatCodec for Anthropic {
    fn encode(
        &self,
        request: &ChatRequest,
        encoding: &Encoding<'_>,
    ) -> Result<Outgoing, EncodeError> {
        let encoded = request::encode(request, encoding)?;
        let mut headers = vec![version_header()];
        if encoded.uses_files {
            let beta = HeaderValue::from_static("files-api-2025-04-14");
            headers.push((HeaderName::from_static("anthropic-beta"), beta));
        }
        let url = format!("{}/v1/messages", encoding.base_url);
        Ok(Outgoing { url, headers, body: Bytes::from(encoded.body) })
    }

    fn decode(&self, body: &[u8]) -> Result<ChatResponse, DecodeError> {
        response::decode(body)
    }

    fn rejection(&self, status: u16, body: Bytes) -> Rejection {
        Rejection::from_reply(status, body)
    }

    fn decoder(&self) -> Box<dyn ChatDecoder> {
        Box::new(stream::Decoder::default())
    }
}
