//! A client's socket with the timeouts that hyper does not have.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The requests that a connection is answering; the connection is idle, or reads a request's head, while there are
/// none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    /// All that ever came.
    served: AtomicUsize,
}

impl Busy {
    /// Counts a request until the guard is dropped.
    pub(crate) fn enter(&self) -> BusyGuard {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.served.fetch_add(1, Ordering::Relaxed);
        BusyGuard(self.clone())
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    fn served(&self) -> usize {
        self.0.served.load(Ordering::Relaxed)
    }
}

/// See [`Busy::enter`].
#[derive(Debug)]
pub(crate) struct BusyGuard(Busy);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a connection may wait, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoTimeouts {
    /// For the rest of a request's head, once it has begun.
    pub(crate) read: Duration,
    /// For the next request.
    pub(crate) idle: Duration,
    /// For the client to take more bytes.
    pub(crate) write: Duration,
}

pub(crate) struct TimedIo<T> {
    io: T,
    busy: Busy,
    timeouts: IoTimeouts,
    /// When the wait for a head, or for the next request, began.
    waiting_since: Option<Instant>,
    /// The requests that had come when the first bytes of a next head came; `None` before that.
    head_begun: Option<usize>,
    /// Kept armed for the earliest time that could matter, and only moved back when it fires: no timer is touched on a
    /// request's way.
    read_timer: Pin<Box<Sleep>>,
    /// There while the last write or flush is blocked.
    write_timer: Option<Pin<Box<Sleep>>>,
}

/// Writes of up to this many bytes may be answers to pings, or pings, which do not keep an idle connection open.
const PING_BYTES: usize = 64;

impl<T> TimedIo<T> {
    pub(crate) fn new(io: T, busy: Busy, timeouts: IoTimeouts) -> Self {
        let read_timer = Box::pin(tokio::time::sleep(timeouts.read.min(timeouts.idle)));
        Self {
            io,
            busy,
            timeouts,
            waiting_since: None,
            head_begun: None,
            read_timer,
            write_timer: None,
        }
    }

    /// Called when there is nothing to read: ready once that has lasted too long.
    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            // Hyper is done with an answer, and so are we, while its last bytes still wait for the client.
            let deadline = if self.busy.is_busy() || self.write_timer.is_some() {
                self.waiting_since = None;
                self.head_begun = None;
                // Looked at again when it fires.
                Instant::now() + self.timeouts.read.min(self.timeouts.idle)
            } else {
                if self.head_begun.is_some_and(|served| served != self.busy.served()) {
                    // That head was whole, and its request has been answered meanwhile.
                    self.head_begun = None;
                    self.waiting_since = None;
                }
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                let limit =
                    if self.head_begun.is_some() { self.timeouts.read } else { self.timeouts.idle };
                let deadline = since + limit;
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                deadline
            };
            if deadline < self.read_timer.deadline() || self.read_timer.is_elapsed() {
                self.read_timer.as_mut().reset(deadline);
            }
            if self.read_timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.io).poll_read(context, buffer) {
            let served = self.busy.served();
            if !self.busy.is_busy() && self.head_begun != Some(served) {
                self.head_begun = Some(served);
                self.waiting_since = None;
            }
            return Poll::Ready(result);
        }
        self.poll_read_deadline(context).map(|()| Err(timed_out()))
    }
}

impl<T: AsyncWrite + Unpin> TimedIo<T> {
    /// A client that takes what is left of an answer is not idle.
    fn note_progress(&mut self, result: &Poll<io::Result<usize>>) {
        if self.head_begun.is_none_or(|served| served != self.busy.served())
            && matches!(result, Poll::Ready(Ok(bytes)) if *bytes > PING_BYTES)
        {
            self.waiting_since = None;
        }
    }

    /// Gives a write that is blocked a limited time.
    fn timed<R>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.write_timer = None;
            return result;
        }
        let limit = self.timeouts.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context).map(|()| Err(timed_out()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        self.note_progress(&result);
        self.timed(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.note_progress(&result);
        self.timed(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.timed(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(context);
        self.timed(context, result)
    }
}
