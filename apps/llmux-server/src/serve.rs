//! From sockets to requests: listeners, TLS, HTTP/1.1 and HTTP/2, and their graceful end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::body::Body;
use crate::gateway::Worker;
use crate::routes::{Connection, Port, handle};
use crate::stalled;
use crate::timed_io::{Busy, IoTimeouts, TimedIo};

/// Largest head of a request, and the buffer of a connection, in bytes. Without it one large body leaves a connection
/// with hundreds of kilobytes.
const BUFFER: usize = 64 * 1024;

/// How long a connection that is opened during the end may be silent.
const LATE_FIRST_BYTE: Duration = Duration::from_secs(1);

/// What a running server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Finish what is open; new connections are for health checks and the like.
    Draining,
    /// Stop, whatever is open.
    Stopped,
}

/// Fails if another process listens at `address`, which [`listen`] would not notice.
pub(crate) fn check_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Bound and never listened on: clients that come this early must not be accepted and dropped.
    socket.bind(&address.into())
}

/// Listens at `address`, together with the other workers.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// One listener of a worker.
pub(crate) struct Server {
    pub(crate) worker: Worker,
    pub(crate) port: Port,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Counts open connections, of all workers together.
    pub(crate) connections: Busy,
}

impl Server {
    /// Accepts connections until told to stop.
    pub(crate) async fn run(self, listener: std::net::TcpListener) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let server = Arc::new(self);
        let mut phase = server.phase.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => {
                    let server = Arc::clone(&server);
                    let open = server.connections.enter();
                    tokio::spawn(async move {
                        server.connection(stream, peer.ip()).await;
                        drop(open);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors: the next call would fail at once, too.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Each way to serve is in a box of its own: a connection is as large as the way it takes, and not as the largest.
    async fn connection(&self, stream: TcpStream, peer: IpAddr) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let read = self.worker.gateway.current().settings.server.read_timeout;
        let Some(acceptor) = &self.tls else {
            let mut phase = self.phase.clone();
            let running = *phase.borrow() == Phase::Running;
            // Whoever connects during the end has something to ask, or is not waited for.
            let first = if running { self.idle() } else { LATE_FIRST_BYTE };
            let version = tokio::select! {
                biased;
                version = http_version(stream, first, read) => version,
                // Nothing has come on it yet.
                () = drain_begins(&mut phase), if running => return,
            };
            match version {
                Some((Version::Http1, stream)) => Box::pin(self.http1(stream, peer)).await,
                Some((Version::Http2, stream)) => Box::pin(self.http2(stream, peer)).await,
                None => {}
            }
            return;
        };
        match tokio::time::timeout(read, Box::pin(acceptor.accept(stream))).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Box::pin(self.http2(stream, peer)).await;
            }
            Ok(Ok(stream)) => Box::pin(self.http1(stream, peer)).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    fn idle(&self) -> Duration {
        self.worker.gateway.current().settings.server.idle_timeout
    }

    fn timeouts(&self) -> IoTimeouts {
        let snapshot = self.worker.gateway.current();
        let server = &snapshot.settings.server;
        IoTimeouts {
            read: server.read_timeout,
            idle: server.idle_timeout,
            write: server.write_timeout,
        }
    }

    fn requests(&self, peer: IpAddr, busy: Busy) -> Connection {
        Connection { worker: self.worker.clone(), peer, port: self.port, busy }
    }

    async fn http1<T>(&self, stream: T, peer: IpAddr)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let busy = Busy::default();
        let io = TokioIo::new(TimedIo::new(stream, busy.clone(), self.timeouts()));
        let connection = self.requests(peer, busy);
        let service = service_fn(move |request| answered(connection.clone(), request));
        let mut phase = self.phase.clone();
        let running = *phase.borrow() == Phase::Running;
        let serving = http1::Builder::new()
            // Our socket keeps the time for heads; see `TimedIo`.
            .header_read_timeout(None)
            .timer(TokioTimer::new())
            .max_buf_size(BUFFER)
            .keep_alive(running)
            .serve_connection(io, service);
        let mut serving = pin!(serving);
        let result = tokio::select! {
            result = &mut serving => result,
            () = drain_begins(&mut phase), if running => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "connection ended");
        }
    }

    async fn http2<T>(&self, stream: T, peer: IpAddr)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let busy = Busy::default();
        // Frames come between requests, too: there are no heads to wait for.
        let timeouts = IoTimeouts { read: self.idle(), ..self.timeouts() };
        let io = TokioIo::new(TimedIo::new(stream, busy.clone(), timeouts));
        let connection = self.requests(peer, busy);
        let service = service_fn(move |request| answered(connection.clone(), request));
        let mut phase = self.phase.clone();
        let executor = stalled::Executor { limit: self.timeouts().write };
        let serving = http2::Builder::new(executor)
            .timer(TokioTimer::new())
            // Finds peers that have vanished.
            .keep_alive_interval(Duration::from_secs(30))
            .max_concurrent_streams(250)
            .serve_connection(io, service);
        let mut serving = pin!(serving);
        let result = tokio::select! {
            result = &mut serving => result,
            () = drain_begins(&mut phase) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "connection ended");
        }
    }
}

/// Answers a request. In a box: hyper keeps the place of a connection's future as long as the connection is open, also
/// while a stream runs for which nothing of it is needed any more.
fn answered(
    connection: Connection,
    request: Request<Incoming>,
) -> Pin<Box<impl Future<Output = Result<Response<Body>, Infallible>>>> {
    Box::pin(async move { Ok(handle(connection, request).await) })
}

/// Waits until open connections are to be finished.
async fn drain_begins(phase: &mut watch::Receiver<Phase>) {
    // An error means that nobody is left to tell: that is the end as well.
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}

enum Version {
    Http1,
    Http2,
}

/// The beginning of HTTP/2 without TLS (RFC 9113, 3.4); no method of HTTP/1.1 begins so.
const PREFACE: &[u8] = b"PRI ";

/// Reads the first bytes of a connection, and puts them back. `None` if it ends, or is silent for too long: `first` for
/// its first byte, `rest` for the others.
async fn http_version(
    mut stream: TcpStream,
    first: Duration,
    rest: Duration,
) -> Option<(Version, Rewound<TcpStream>)> {
    let mut begin = Vec::with_capacity(PREFACE.len());
    let mut limit = first;
    let version = loop {
        let mut byte = [0; PREFACE.len()];
        let wanted = PREFACE.len() - begin.len();
        let read = tokio::time::timeout(limit, stream.read(&mut byte[..wanted])).await.ok()?;
        match read.ok()? {
            0 => return None,
            length => begin.extend_from_slice(&byte[..length]),
        }
        if !PREFACE.starts_with(&begin) {
            break Version::Http1;
        }
        if begin.len() == PREFACE.len() {
            break Version::Http2;
        }
        limit = rest;
    };
    Some((version, Rewound { begin, read: 0, stream }))
}

/// A stream whose first bytes are read again.
struct Rewound<T> {
    begin: Vec<u8>,
    read: usize,
    stream: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read < self.begin.len() {
            let length = buffer.remaining().min(self.begin.len() - self.read);
            buffer.put_slice(&self.begin[self.read..self.read + length]);
            self.read += length;
            // With what follows: for a second read hyper would want a buffer twice as large, and keep it.
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(context, buffer) {
                return Poll::Ready(Err(error));
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
