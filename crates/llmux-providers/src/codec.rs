//! What a vendor of another dialect than the client's must be able to do.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use llmux_types::FailureClass;
use llmux_types::chat::{ChatEvent, ChatRequest, ChatResponse};
use llmux_types::embeddings::{EmbeddingsRequest, EmbeddingsResponse};

use crate::openai::Rejection;
use crate::sse::EventTooLong;

/// A request in a vendor's words, without the credential.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where it goes.
    pub url: String,
    /// Headers of the dialect, such as its version.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// Where one call goes and how faithful it must be.
#[derive(Clone, Copy, Debug)]
pub struct Encoding<'a> {
    /// Absolute, without a trailing slash.
    pub base_url: &'a str,
    /// The model that the vendor is asked for.
    pub model: &'a str,
    /// Drop what the vendor cannot honour, rather than refuse the request.
    pub drop_params: bool,
    /// The model's own limit of output tokens, where it is known.
    pub max_output_tokens: Option<u64>,
}

/// The request cannot be said in the vendor's dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EncodeError {
    /// The field at fault, as the client knows it: `logit_bias`, `messages`.
    pub param: String,
    /// The fault, for the person who wrote the client.
    pub message: String,
}

/// The vendor's answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is not JSON, or not of the vendor's shape.
    #[error("the provider's answer is malformed: {0}")]
    Malformed(String),
    /// A stream stopped before its protocol allows it to.
    #[error("the provider's stream ended too early")]
    Truncated,
    /// The vendor sent an error inside a stream.
    #[error("{}", .0.error.message)]
    Rejected(Box<Rejection>),
    /// An event is longer than we keep.
    #[error(transparent)]
    TooLong(#[from] EventTooLong),
}

impl DecodeError {
    /// Returns what kind of failure it is.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Rejected(rejection) => rejection.class,
            _ => FailureClass::Malformed,
        }
    }
}

/// Chat in one vendor's dialect.
pub trait ChatCodec: Send + Sync {
    /// Says a request in the vendor's words.
    ///
    /// # Errors
    /// [`EncodeError`] naming the field that the vendor has no words for.
    fn encode(
        &self,
        request: &ChatRequest,
        encoding: &Encoding<'_>,
    ) -> Result<Outgoing, EncodeError>;

    /// Reads a whole answer.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not of the vendor's shape.
    fn decode(&self, body: &[u8]) -> Result<ChatResponse, DecodeError>;

    /// Explains a refusal. Total: an unreadable body is a rejection as well.
    fn rejection(&self, status: u16, body: Bytes) -> Rejection;

    /// Makes a decoder for a stream.
    fn decoder(&self) -> Box<dyn ChatDecoder>;
}

/// Reads one stream in a vendor's dialect.
pub trait ChatDecoder: Send {
    /// Takes bytes split anywhere, and appends the events that they complete.
    ///
    /// # Errors
    /// [`DecodeError`]; the events before it are in `events`.
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<ChatEvent>) -> Result<(), DecodeError>;

    /// Ends the stream where the vendor's body ended properly.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the answer is not whole.
    fn finish(&mut self, events: &mut Vec<ChatEvent>) -> Result<(), DecodeError>;

    /// Tells whether the vendor said that the stream is over.
    fn is_done(&self) -> bool;
}

/// Embeddings in one vendor's dialect.
pub trait EmbeddingsCodec: Send + Sync {
    /// Says a request in the vendor's words.
    ///
    /// # Errors
    /// [`EncodeError`] naming the field that the vendor has no words for.
    fn encode(
        &self,
        request: &EmbeddingsRequest,
        encoding: &Encoding<'_>,
    ) -> Result<Outgoing, EncodeError>;

    /// Reads an answer.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not of the vendor's shape.
    fn decode(&self, body: &[u8]) -> Result<EmbeddingsResponse, DecodeError>;

    /// Explains a refusal. Total: an unreadable body is a rejection as well.
    fn rejection(&self, status: u16, body: Bytes) -> Rejection;
}
