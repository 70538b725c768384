//! From sockets to requests: listeners, TLS, HTTP/1.1 and HTTP/2, and their graceful end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::gateway::Worker;
use crate::routes::{Connection, Port, handle};
use crate::timed_io::{Busy, IoTimeouts, TimedIo};

/// Largest head of a request, and the buffer of a connection, in bytes. Without it one large body leaves a connection
/// with hundreds of kilobytes.
const BUFFER: usize = 64 * 1024;

/// What a running server is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Finish what is open; new connections are for health checks and the like.
    Draining,
    /// Stop, whatever is open.
    Stopped,
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

    async fn connection(&self, stream: TcpStream, peer: IpAddr) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let read = self.worker.gateway.settings.server.read_timeout;
        let Some(acceptor) = &self.tls else {
            let mut phase = self.phase.clone();
            let running = *phase.borrow() == Phase::Running;
            let version = tokio::select! {
                version = tokio::time::timeout(self.idle(), http_version(&stream)) => version,
                // Nothing has come on it yet.
                () = drain_begins(&mut phase), if running => return,
            };
            match version {
                Ok(Ok(Version::Http1)) => self.http1(stream, peer).await,
                Ok(Ok(Version::Http2)) => self.http2(stream, peer).await,
                Ok(Err(_)) | Err(_) => {}
            }
            return;
        };
        match tokio::time::timeout(read, acceptor.accept(stream)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(stream, peer).await;
            }
            Ok(Ok(stream)) => self.http1(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
    }

    fn idle(&self) -> Duration {
        self.worker.gateway.settings.server.idle_timeout
    }

    fn timeouts(&self) -> IoTimeouts {
        let server = &self.worker.gateway.settings.server;
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
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let busy = Busy::default();
        let io = TokioIo::new(TimedIo::new(stream, busy.clone(), self.timeouts()));
        let connection = self.requests(peer, busy);
        let service = service_fn(move |request| {
            let connection = connection.clone();
            async move { Ok::<_, std::convert::Infallible>(handle(connection, request).await) }
        });
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
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let busy = Busy::default();
        // Frames come between requests, too: there are no heads to wait for.
        let timeouts = IoTimeouts { read: self.idle(), ..self.timeouts() };
        let io = TokioIo::new(TimedIo::new(stream, busy.clone(), timeouts));
        let connection = self.requests(peer, busy);
        let service = service_fn(move |request| {
            let connection = connection.clone();
            async move { Ok::<_, std::convert::Infallible>(handle(connection, request).await) }
        });
        let mut phase = self.phase.clone();
        let serving = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
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

/// Waits until open connections are to be finished.
async fn drain_begins(phase: &mut watch::Receiver<Phase>) {
    // An error means that nobody is left to tell: that is the end as well.
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}

enum Version {
    Http1,
    Http2,
}

/// Looks at the first bytes of a connection: HTTP/2 without TLS begins with `PRI ` (RFC 9113, 3.4), and no method of
/// HTTP/1.1 does.
async fn http_version(stream: &TcpStream) -> io::Result<Version> {
    const PREFACE: &[u8] = b"PRI ";
    let mut begin = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut begin).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if begin[..length] != PREFACE[..length] {
            return Ok(Version::Http1);
        }
        if length == PREFACE.len() {
            return Ok(Version::Http2);
        }
        // Hardly anybody sends the first four bytes one by one.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
