//! HTTP/2 clients that take no more of a stream. Flow control holds their bytes back inside hyper, which then asks the body
//! for nothing: neither the socket's timeouts nor the body's see it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

thread_local! {
    /// Since when the client could have taken what the body of the stream that is being polled gave out.
    static OFFERED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Takes note that bytes were given out for the client.
pub(crate) fn offer() {
    OFFERED.set(Some(Instant::now()));
}

/// Takes note that the client has taken them and waits for more.
pub(crate) fn taken() {
    OFFERED.set(None);
}

/// Runs the streams of HTTP/2 connections, and ends those whose client takes nothing for too long. Dropping a stream
/// cancels its call at the vendor and resets the stream; the connection's others go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Executor {
    pub(crate) limit: Duration,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let timer = Box::pin(tokio::time::sleep(self.limit));
        let watched = Watched { stream: Box::pin(stream), offered: None, limit: self.limit, timer };
        tokio::spawn(watched);
    }
}

struct Watched<F> {
    stream: Pin<Box<F>>,
    offered: Option<Instant>,
    limit: Duration,
    /// Moved only when it fires.
    timer: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        OFFERED.set(self.offered);
        let poll = self.stream.as_mut().poll(context);
        self.offered = OFFERED.take();
        if poll.is_ready() {
            return Poll::Ready(());
        }
        let limit = self.limit;
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let end = self.offered.unwrap_or(now) + limit;
            if end <= now {
                tracing::debug!("a client took nothing of its stream for too long");
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}
