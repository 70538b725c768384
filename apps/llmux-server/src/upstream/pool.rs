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
use hyper::client::conn::{TrySendError, http1, http2};

use super::connect::Origin;

/// Vendors and the balancers before them close idle connections after a minute or more; we are first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How long a kept connection may take to be ready for the next request.
const READY_TIMEOUT: Duration = Duration::from_millis(20);
/// Streams on one HTTP/2 connection before another is opened; servers commonly allow 100.
const STREAMS_PER_CONNECTION: usize = 100;
/// How long an abandoned rest of a body may take to arrive, so that its connection can be kept.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Something that a request can be sent with.
pub(super) enum Sender {
    /// A connection of one's own.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// A place on a shared connection.
    Http2 { sender: http2::SendRequest<Full<Bytes>>, _place: Place },
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

    /// Sends a request; the error comes with the request if none of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2 { sender, .. } => sender.try_send_request(request).await,
        }
    }
}

#[derive(Default)]
struct Pool {
    idle: Vec<(http1::SendRequest<Full<Bytes>>, Instant)>,
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
            let mut sender = {
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
                let (sender, since) = pool.idle.pop()?;
                if sender.is_closed() || since.elapsed() > IDLE_TIMEOUT {
                    continue;
                }
                sender
            };
            // A connection comes back with the last byte of its answer, a moment before it is ready again. One whose
            // vendor answered before it had read the whole request may never be.
            let ready = sender.is_ready()
                || tokio::time::timeout(READY_TIMEOUT, sender.ready())
                    .await
                    .is_ok_and(|ready| ready.is_ok());
            if ready {
                return Some(Sender::Http1(sender));
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
                .retain(|(sender, since)| !sender.is_closed() && since.elapsed() <= IDLE_TIMEOUT);
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
        if let Some(Lease { sender: Sender::Http1(sender), origin, pools }) = self.lease.take() {
            let mut pools = pools.lock();
            pools.entry(origin).or_default().idle.push((sender, Instant::now()));
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
