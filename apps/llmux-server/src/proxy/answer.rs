//! What the client gets of an answer: its head, or why there is none.

use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use llmux_providers::openai::Rejection;
use tokio::time::Instant;

use super::Way;
use crate::body::Reply;
use crate::collect::collect;
use crate::error::Failed;
use crate::headers;
use crate::upstream::UpstreamBody;

/// The largest error that is read, in bytes.
const MAX_ERROR_BYTES: usize = 1024 * 1024;
/// How long the text of an error may take.
const ERROR_BODY_TIME: Duration = Duration::from_secs(5);

/// The head of an answer that the client gets.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) headers: HeaderMap,
}

impl Answer {
    /// Tells whether the content type contains `part`.
    pub(super) fn is(&self, part: &str) -> bool {
        let text = self.content_type.as_ref().and_then(|value| value.to_str().ok());
        let is_it = |window: &[u8]| window.eq_ignore_ascii_case(part.as_bytes());
        text.is_some_and(|text| text.as_bytes().windows(part.len()).any(is_it))
    }

    pub(super) fn respond(self, reply: Reply) -> Response<Reply> {
        let is_stream = matches!(reply, Reply::Events(_)) || self.is("text/event-stream");
        let mut response = Response::new(reply);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        *headers = self.headers;
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if is_stream {
            // Proxies between us and the client must not collect events.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            let name = HeaderName::from_static("x-accel-buffering");
            headers.insert(name, HeaderValue::from_static("no"));
            headers
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("text/event-stream; charset=utf-8"));
        }
        response
    }
}

/// Explains an answer that is no success.
pub(super) async fn refusal(
    head: &http::response::Parts,
    headers: HeaderMap,
    mut body: UpstreamBody,
    way: Way,
    until: Instant,
) -> Failed {
    // The status says enough to go on with, should the text be slow.
    let until = until.min(Instant::now() + ERROR_BODY_TIME);
    let read = tokio::time::timeout_at(until, collect(&mut body, MAX_ERROR_BYTES)).await;
    let bytes = read.ok().and_then(Result::ok).unwrap_or_default();
    let status = head.status.as_u16();
    let rejection = match way {
        Way::Relay => Rejection::from_reply(status, bytes),
        Way::Chat(codec) => codec.rejection(status, bytes),
        Way::Embeddings(codec) => codec.rejection(status, bytes),
    };
    let mut failed = Failed::rejected(Box::new(rejection));
    let asked = headers::retry_after(&head.headers, SystemTime::now());
    failed.retry_after = asked.or(failed.retry_after);
    failed.headers = headers;
    failed
}
