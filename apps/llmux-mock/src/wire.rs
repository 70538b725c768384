//! The socket beneath hyper, which can misbehave on request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is sent instead of HTTP. Not a prefix of any protocol the client may speak.
const NONSENSE: &[u8] = b"\x16\x00\xff\xfe this is not HTTP\r\n\x00\x01\x02\r\n\r\n";

/// Faults asked of one connection.
#[derive(Debug, Default)]
pub(crate) struct WireFaults {
    /// Close with a reset instead of an orderly end.
    pub(crate) reset: AtomicBool,
    /// Send nonsense in place of whatever is written from now on.
    pub(crate) nonsense: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    faults: Arc<WireFaults>,
    /// Bytes of the nonsense sent so far.
    nonsense_sent: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, faults: Arc<WireFaults>) -> Self {
        Self { stream, faults, nonsense_sent: 0 }
    }

    /// Sends the rest of the nonsense.
    fn poll_nonsense(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.nonsense_sent < NONSENSE.len() {
            let sent =
                ready!(Pin::new(&mut self.stream).poll_write(cx, &NONSENSE[self.nonsense_sent..]))?;
            self.nonsense_sent += sent;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.faults.nonsense.load(Ordering::Relaxed) {
            ready!(self.poll_nonsense(cx))?;
            return Poll::Ready(Ok(buffer.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.faults.nonsense.load(Ordering::Relaxed) {
            ready!(self.poll_nonsense(cx))?;
            return Poll::Ready(Ok(buffers.iter().map(|buffer| buffer.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.faults.reset.load(Ordering::Relaxed) {
            // A FIN first would make the reset look like an orderly end.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.faults.reset.load(Ordering::Relaxed) {
            // If it fails the client sees an orderly end, which is a fault too.
            let _ = self.stream.set_zero_linger();
        }
    }
}
