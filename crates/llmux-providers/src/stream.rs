//! Streams on their way to a client: what relays and translations have in common.

use bytes::{Bytes, BytesMut};
use llmux_types::{ErrorObject, Usage};

use crate::codec::DecodeError;
use crate::openai::Rejection;
use crate::sse::EventTooLong;

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Something the client can show has come: text, a tool call, reasoning, the end. A role alone is not.
    pub output: bool,
    /// The vendor said that this is the end; nothing after it matters.
    pub ended: bool,
    /// About how many bytes of text, reasoning and arguments have come: what a stream that is cut off is charged by.
    pub produced: u64,
}

/// What an answer said, beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The tokens, where the vendor told them.
    pub usage: Option<Usage>,
    /// Why the answer ended, in the words of chat completions: `stop`, `length`, `tool_calls`, `content_filter` or
    /// what else the vendor said.
    pub finish_reason: Option<String>,
}

/// Why a stream failed after the vendor's 200.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamFailure {
    /// The vendor sent an error.
    #[error("{}", .0.error.message)]
    Rejected(Box<Rejection>),
    /// The vendor sent an error in a form that the client has been given as it is.
    #[error("{}", .0.error.message)]
    Told(Box<Rejection>),
    /// An event is not JSON, or not of the vendor's shape.
    #[error("the provider sent a malformed event")]
    Malformed,
    /// The stream stopped before its protocol allows it to.
    #[error("the provider's stream ended too early")]
    Truncated,
    /// An event is longer than we keep.
    #[error(transparent)]
    TooLong(#[from] EventTooLong),
}

impl From<DecodeError> for StreamFailure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(_) => Self::Malformed,
            DecodeError::Truncated => Self::Truncated,
            DecodeError::Rejected(rejection) => Self::Rejected(rejection),
            DecodeError::TooLong(error) => Self::TooLong(error),
        }
    }
}

/// A vendor's stream becoming the client's: bytes in, bytes out.
pub trait ClientStream: Send {
    /// Takes bytes, split anywhere, and appends to `out` what the client gets of the events they complete.
    ///
    /// # Errors
    /// [`StreamFailure`]; what stands in `out` by then came before the failure.
    fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), StreamFailure>;

    /// Ends the stream where the vendor's body ended properly, and appends what is missing for the client.
    ///
    /// # Errors
    /// [`StreamFailure::Truncated`] if the answer is not whole.
    fn finish(&mut self, out: &mut BytesMut) -> Result<(), StreamFailure>;

    /// Returns how far the stream has come.
    fn progress(&self) -> Progress;

    /// Returns usage and finish reason, as far as they are known.
    fn summary(&self) -> Summary;

    /// Returns the event that tells the client that its stream failed.
    fn error_event(&self, error: &ErrorObject) -> Bytes;
}
