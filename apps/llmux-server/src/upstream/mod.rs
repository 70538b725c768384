//! Connections to the vendors. Each worker thread has its own; the only way to use one is [`Upstream::send`], which
//! asks for the proof of admission.

mod connect;
mod pool;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use llmux_auth::Admitted;
use llmux_types::FailureClass;

use self::connect::{ConnectError, Connection};
pub(crate) use self::connect::{Origin, tls_client_config};
pub(crate) use self::pool::UpstreamBody;
use self::pool::{Pools, Sender, Unanswered};

/// A kept connection that breaks within this time of sending was closed before the vendor read the request.
const STALE: Duration = Duration::from_millis(100);

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect to the provider")]
    Connect(#[source] ConnectError),
    #[error("the connection to the provider broke")]
    Broken(#[source] hyper::Error),
}

impl SendError {
    pub(crate) const fn class(&self) -> FailureClass {
        match self {
            Self::Connect(ConnectError::Timeout) => FailureClass::Timeout,
            Self::Connect(_) => FailureClass::Connect,
            Self::Broken(_) => FailureClass::Malformed,
        }
    }
}

/// The upstream connections of one worker.
#[derive(Clone)]
pub(crate) struct Upstream {
    pools: Arc<Pools>,
    tls: Arc<rustls::ClientConfig>,
}

impl Upstream {
    pub(crate) fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { pools: Arc::default(), tls }
    }

    /// Sends a request and waits for the head of its answer. `request` is called again if a kept connection turns out
    /// to have been dead before the request was sent: that costs no attempt.
    pub(crate) async fn send(
        &self,
        _admitted: &Admitted,
        origin: &Arc<Origin>,
        connect_timeout: Duration,
        request: impl Fn() -> Request<Full<Bytes>>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let mut trust_kept = true;
        loop {
            let kept = if trust_kept { self.pools.take(origin).await } else { None };
            let (mut sender, kept) = match kept {
                Some(sender) => (sender, true),
                // In a box: seldom needed, it would make the future of each request several times as large.
                None => (Box::pin(self.connect(origin, connect_timeout)).await?, false),
            };
            let request = origin.addressed(request(), sender.is_http2());
            let sent = Instant::now();
            match sender.send(request).await {
                Ok(response) => return Ok(self.pools.lease(origin, sender, response)),
                Err(Unanswered { error, unsent }) => {
                    // The vendor closed it while it lay idle. A fresh one will tell whether the vendor is there.
                    // Later, the vendor may have begun to work: the retry policy decides about that.
                    let stale = sent.elapsed() < STALE && is_dead_connection(&error);
                    if !(kept && (unsent || stale)) {
                        return Err(SendError::Broken(error));
                    }
                    trust_kept = false;
                }
            }
        }
    }

    async fn connect(&self, origin: &Arc<Origin>, timeout: Duration) -> Result<Sender, SendError> {
        let connecting = connect::connect(origin, &self.tls, timeout);
        let connection = tokio::time::timeout(timeout, connecting)
            .await
            .unwrap_or(Err(ConnectError::Timeout))
            .map_err(SendError::Connect)?;
        Ok(match connection {
            Connection::Http1(own) => Sender::Http1(own),
            Connection::Http2(sender) => self.pools.share(origin, sender),
        })
    }

    /// Closes connections that have been idle for long.
    pub(crate) fn close_idle(&self) {
        self.pools.close_idle();
    }
}

/// Tells whether a request failed because its connection was gone before a byte of the answer came.
fn is_dead_connection(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    use std::io::ErrorKind;

    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        return true;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
            );
        }
        source = cause.source();
    }
    false
}
