//! The answer of a call that several share, on its way to one of them.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use llmux_auth::tenants::UsageStatus;
use llmux_cache::{Aborted, Form, Shared};
use llmux_providers::Summary;
use llmux_providers::sse::{EventTooLong, Framer};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cached::Hit;
use super::flight::{Failure, Flight, Head, Notes};
use crate::body::PIECE;
use crate::error::ApiError;
use crate::exchange::{Exchange, Outcome};

/// See the [module](self).
pub(crate) struct SharedReply {
    /// `None` once the client has left.
    reader: Option<Shared<Flight>>,
    notes: Arc<Notes>,
    /// What is left of what came, and goes out in pieces.
    rest: Bytes,
    /// What came with the head.
    first: Option<Option<Result<Bytes, Aborted>>>,
    /// The client did not ask for the usage of its stream.
    hides_usage: bool,
    /// The record of a client who came when the call was under way. `None`: it is the one whose call it is.
    hit: Option<Hit>,
    is_settled: bool,
}

impl SharedReply {
    pub(super) fn new(
        reader: Shared<Flight>,
        notes: Arc<Notes>,
        form: Form,
        hit: Option<Hit>,
    ) -> Self {
        let hides_usage = form == Form::Stream { include_usage: false };
        Self {
            reader: Some(reader),
            notes,
            rest: Bytes::new(),
            first: None,
            hides_usage,
            hit,
            is_settled: false,
        }
    }

    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        match &mut self.reader {
            Some(reader) => reader.poll_next(context),
            None => Poll::Ready(None),
        }
    }

    /// Waits for the head.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn head(&mut self) -> Result<Head, Failure> {
        self.first = Some(poll_fn(|context| self.poll_item(context)).await);
        let lost = || Failure { error: ApiError::internal(), is_shared: false };
        self.notes.head().unwrap_or_else(|| Err(lost()))
    }

    /// Tells the request whose call it is what is known of it. Returns how long it was waited for others.
    pub(super) fn take_over(&self, exchange: &mut Exchange) -> Duration {
        exchange.take_over(self.notes.noted())
    }

    /// Returns the client's next bytes; `None` at the end.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(PIECE));
                if let Some(outcome) = self.notes.end().filter(|_| self.rest.is_empty()) {
                    exchange.line.outcome = outcome;
                }
                return Poll::Ready(Ok(Some(piece)));
            }
            let item = match self.first.take() {
                Some(first) => first,
                None => ready!(self.poll_item(context)),
            };
            if self.notes.has_output() {
                exchange.note_output();
            }
            if let Some(outcome) = self.notes.end() {
                self.settle(outcome, exchange);
                // With the last piece of a large item the client has it all, not before.
                if self.hides_usage || !matches!(item, Some(Ok(_))) {
                    exchange.line.outcome = outcome;
                }
            }
            return Poll::Ready(match item {
                None => Ok(None),
                Some(Err(aborted)) => {
                    exchange.line.outcome = Outcome::Error;
                    Err(io::Error::other(aborted))
                }
                Some(Ok(bytes)) if self.hides_usage => match without_usage(bytes) {
                    bytes if bytes.is_empty() => continue,
                    bytes => Ok(Some(bytes)),
                },
                Some(Ok(bytes)) => {
                    self.rest = bytes;
                    if self.rest.is_empty() {
                        return Poll::Ready(Ok(Some(Bytes::new())));
                    }
                    continue;
                }
            });
        }
    }

    /// The client is gone.
    pub(crate) fn abandon(&mut self, exchange: &mut Exchange) {
        // If it was the last, the call ends here.
        self.first = None;
        self.reader = None;
        self.settle(self.notes.end().unwrap_or(Outcome::Cancelled), exchange);
    }

    /// Takes note of what the answer was, once.
    fn settle(&mut self, outcome: Outcome, exchange: &mut Exchange) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let Some(hit) = self.hit.take() else {
            self.take_over(exchange);
            return;
        };
        let noted = self.notes.noted();
        let status = match outcome {
            Outcome::Ok => UsageStatus::Success,
            Outcome::Error => UsageStatus::Failure,
            Outcome::Cancelled => UsageStatus::Cancelled,
        };
        hit.record(status, noted.usage.as_ref());
        exchange.note(Summary { usage: noted.usage, finish_reason: noted.finish_reason });
        exchange.line.error = noted.error;
    }
}

/// Takes out the chunk that has nothing but the usage. `bytes` are whole events.
fn without_usage(bytes: Bytes) -> Bytes {
    #[derive(Deserialize)]
    struct Chunk {
        #[serde(default)]
        choices: Option<Vec<IgnoredAny>>,
        #[serde(default)]
        usage: Option<IgnoredAny>,
    }
    let is_usage = |data: &[u8]| {
        let chunk: Option<Chunk> = serde_json::from_slice(data).ok();
        chunk.is_some_and(|chunk| {
            chunk.usage.is_some() && chunk.choices.is_none_or(|choices| choices.is_empty())
        })
    };
    if memmem::find(&bytes, b"\"usage\"").is_none() {
        return bytes;
    }
    let mut out = BytesMut::with_capacity(bytes.len());
    let mut framer = Framer::default();
    let mut hidden = false;
    let fed = framer.feed::<EventTooLong>(&bytes, |frame| {
        match frame.data.as_deref() {
            Some(data) if is_usage(data) => hidden = true,
            _ => out.extend_from_slice(frame.raw),
        }
        Ok(())
    });
    // Nothing of it: then nothing was copied for nothing.
    if fed.is_err() || !hidden { bytes } else { out.freeze() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chunk_with_nothing_but_the_usage_is_hidden() {
        let text = "data: {\"choices\":[{\"delta\":{}}],\"usage\":null}\n\n";
        let own = "data: {\"choices\":[],\"usage\":{\"total_tokens\":1}}\n\n";
        let filters = "data: {\"choices\":[],\"prompt_filter_results\":[\"usage\"]}\r\n\r\n";
        let done = "data: [DONE]\n\n";
        let hide = |text: String| without_usage(Bytes::from(text));
        assert_eq!(hide(format!("{filters}{text}{own}{done}")), format!("{filters}{text}{done}"));
        assert_eq!(hide(own.to_owned()), "");
        assert_eq!(hide(format!(": keep-alive\n\n{text}")), format!(": keep-alive\n\n{text}"));
    }
}
