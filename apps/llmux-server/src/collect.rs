//! Whole bodies.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, HeaderMap};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::exchange::Exchange;

/// Why there is no whole body.
pub(crate) enum CollectError {
    TooLarge,
    Broken,
}

/// Reads a body up to `limit` bytes. One that comes in one piece is not copied.
pub(crate) async fn collect<B>(body: &mut B, limit: usize) -> Result<Bytes, CollectError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(CollectError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| CollectError::Broken)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(CollectError::TooLarge);
        }
        if all.is_empty() && first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(0);
            all.reserve(first.len() + data.len() + rest);
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads and forgets what a client is still sending, within bounds, so that it gets to read the answer: a connection that is
/// closed with bytes unread is reset, and takes the answer with it.
pub(crate) fn discard(mut body: Incoming) {
    const BYTES: usize = 64 * 1024 * 1024;
    const TIME: std::time::Duration = std::time::Duration::from_secs(5);

    if body.is_end_stream() {
        return;
    }
    tokio::spawn(async move {
        let read = async {
            let mut length = 0;
            while let Some(Ok(frame)) = body.frame().await {
                length += frame.data_ref().map_or(0, Bytes::len);
                if length > BYTES {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(TIME, read).await;
    });
}

/// Reads the body of a client's request.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: &mut Incoming,
    limit: usize,
    exchange: &mut Exchange,
) -> Result<Bytes, ApiError> {
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity");
    if encoded {
        return Err(ApiError::encoded_body());
    }
    let started = Instant::now();
    let bytes = if body.is_end_stream() {
        Bytes::new()
    } else {
        let time = exchange.snapshot.settings.server.read_timeout;
        let read = tokio::time::timeout(time, collect(body, limit)).await;
        read.map_err(|_| ApiError::body_too_slow())?.map_err(|error| match error {
            CollectError::TooLarge => ApiError::body_too_large(limit),
            CollectError::Broken => ApiError::body_broken(),
        })?
    };
    exchange.line.bytes_in = bytes.len();
    exchange.waited += started.elapsed();
    Ok(bytes)
}
