//! Kept connections. Most recently used first, so that a pool shrinks to what the load needs.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::task::AbortHandle;

use super::connect::Origin;

/// Vendors and the balancers before them close idle connections after a minute or more; we are first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Streams on one HTTP/2 connection before another is opened; servers commonly allow 100.
const STREAMS_PER_CONNECTION: usize = 100;
/// How long a kept connection may take until it is ready for another request.
const READY_TIMEOUT: Duration = Duration::from_millis(50);
/// How long an abandoned rest of a body may take to arrive, so that its connection can be kept.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Something that a request can be sent with.
pub(super) enum Sender {
    /// A connection of one's own.
    Http1(Own),
    /// A place on a shared connection.
    Http2 { sender: http2::SendRequest<Full<Bytes>>, _place: Place },
}

/// A HTTP/1.1 connection, closed when this is dropped: its task would else finish a request that nobody waits for.
pub(super) struct Own {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: AbortHandle,
}

impl Own {
    pub(super) const fn new(
        sender: http1::SendRequest<Full<Bytes>>,
        connection: AbortHandle,
    ) -> Self {
        Self { sender, connection }
    }

    /// Waits a moment until another request can be sent; false if that does not happen. A vendor that answers before
    /// it has read the whole request may never read the rest.
    async fn is_usable(&mut self) -> bool {
        if self.sender.is_ready() {
            return true;
        }
        let ready = tokio::time::timeout(READY_TIMEOUT, self.sender.ready()).await;
        matches!(ready, Ok(Ok(())))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Why a request got no answer.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// Whether no byte of it was sent.
    pub(super) unsent: bool,
}

/// Counts a stream on a shared connection until it is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sender {
    pub(super) const fn is_http2(&self) -> bool {
        matches!(self, Self::Http2 { .. })
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let result = match self {
            Self::Http1(own) => own.sender.try_send_request(request).await,
            Self::Http2 { sender, .. } => sender.try_send_request(request).await,
        };
        result.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            Unanswered { error: error.into_error(), unsent }
        })
    }
}

#[derive(Default)]
struct Pool {
    idle: Vec<(Own, Instant)>,
    shared: Vec<Shared>,
}

/// An HTTP/2 connection that several calls use at once.
struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    streams: Arc<AtomicUsize>,
    used: Instant,
}

/// The pools of one worker.
#[derive(Default)]
pub(super) struct Pools(Mutex<HashMap<Arc<Origin>, Pool>>);

impl Pools {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Origin>, Pool>> {
        // Nothing panics while it is held; a map of connections is usable after a panic anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a kept connection that is alive, as far as anyone can tell.
    pub(super) async fn take(&self, origin: &Origin) -> Option<Sender> {
        loop {
            let mut own = {
                let mut pools = self.lock();
                let pool = pools.get_mut(origin)?;
                pool.shared.retain(|shared| !shared.sender.is_closed());
                let has_place = |shared: &&mut Shared| {
                    shared.streams.load(Ordering::Relaxed) < STREAMS_PER_CONNECTION
                };
                if let Some(shared) = pool.shared.iter_mut().find(has_place) {
                    shared.used = Instant::now();
                    let _place = Place::take(&shared.streams);
                    return Some(Sender::Http2 { sender: shared.sender.clone(), _place });
                }
                let (own, since) = pool.idle.pop()?;
                if own.sender.is_closed() || since.elapsed() > IDLE_TIMEOUT {
                    continue;
                }
                own
            };
            // A connection comes back with the last byte of its answer, a moment before it is ready again.
            if own.is_usable().await {
                return Some(Sender::Http1(own));
            }
        }
    }

    /// Offers a new HTTP/2 connection to others, and takes the first place on it.
    pub(super) fn share(
        &self,
        origin: &Arc<Origin>,
        sender: http2::SendRequest<Full<Bytes>>,
    ) -> Sender {
        let streams = Arc::default();
        let _place = Place::take(&streams);
        let shared = Shared { sender: sender.clone(), streams, used: Instant::now() };
        self.lock().entry(Arc::clone(origin)).or_default().shared.push(shared);
        Sender::Http2 { sender, _place }
    }

    /// Binds the connection to the body of the answer.
    pub(super) fn lease(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Response<UpstreamBody> {
        response.map(|incoming| {
            let lease = Lease { sender, origin: Arc::clone(origin), pools: Arc::clone(self) };
            let mut body = UpstreamBody { incoming, lease: Some(lease) };
            if body.incoming.is_end_stream() {
                body.give_back();
            }
            body
        })
    }

    pub(super) fn close_idle(&self) {
        for pool in self.lock().values_mut() {
            pool.idle
                .retain(|(own, since)| !own.sender.is_closed() && since.elapsed() <= IDLE_TIMEOUT);
            pool.shared.retain(|shared| {
                let idle = shared.streams.load(Ordering::Relaxed) == 0
                    && shared.used.elapsed() > IDLE_TIMEOUT;
                !idle && !shared.sender.is_closed()
            });
        }
    }
}

struct Lease {
    sender: Sender,
    origin: Arc<Origin>,
    pools: Arc<Pools>,
}

/// The body of an answer. Its connection is kept once the body has ended; dropped before, the connection is closed
/// (HTTP/1.1) or the stream reset (HTTP/2), which cancels the call at the vendor.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl UpstreamBody {
    fn give_back(&mut self) {
        if let Some(Lease { sender: Sender::Http1(own), origin, pools }) = self.lease.take() {
            let mut pools = pools.lock();
            pools.entry(origin).or_default().idle.push((own, Instant::now()));
        }
    }

    /// Reads what is left after the part that matters (of a stream: after its `[DONE]`), so that the connection can be
    /// used again; gives up soon.
    pub(crate) fn drain(mut self) {
        if self.lease.is_none() {
            return;
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        if let Poll::Ready(None | Some(Err(_))) = Pin::new(&mut self).poll_frame(&mut context) {
            return;
        }
        tokio::spawn(async move {
            let rest = async {
                while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut self).await {}
            };
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
        });
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(context));
        match &frame {
            None => self.give_back(),
            Some(Ok(_)) if self.incoming.is_end_stream() => self.give_back(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.lease = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
