//! A connection that is kept from request to request.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::reply::{Fault, Reply, Summary};

/// Size of the buffer that all connections read into, one after another.
pub(crate) const BUFFER: usize = 64 << 10;

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no connection.
    Connect(io::ErrorKind),
    /// The connection broke.
    Broken(io::ErrorKind),
    /// The answer is not what was asked for.
    Answer(Fault),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(kind) => write!(f, "cannot connect: {kind}"),
            Self::Broken(kind) => write!(f, "connection broken: {kind}"),
            Self::Answer(fault) => fault.fmt(f),
        }
    }
}

/// One connection, opened when it is needed.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    target: SocketAddr,
    buffer: &'a RefCell<Vec<u8>>,
    socket: Option<TcpStream>,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(target: SocketAddr, buffer: &'a RefCell<Vec<u8>>) -> Self {
        Self { target, buffer, socket: None }
    }

    /// Sends a request and reads its answer to the end. `first` is called when an answer has its first event.
    ///
    /// # Errors
    /// Says why there is no good answer; the next request then gets a new connection.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        stream: bool,
        mut first: impl FnMut(),
    ) -> Result<Summary, Failure> {
        // Given back only after a good answer.
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(self.target).await.map_err(|error| Failure::Connect(error.kind()))?,
        };
        let broken = |error: io::Error| Failure::Broken(error.kind());
        socket.write_all(request).await.map_err(broken)?;
        let mut reply = Reply::new(stream);
        let mut begun = false;
        let summary = poll_fn(|context| {
            loop {
                // No other connection polls meanwhile, so that one buffer does for all.
                let mut buffer = self.buffer.borrow_mut();
                let mut buffer = ReadBuf::new(&mut buffer);
                ready!(Pin::new(&mut socket).poll_read(context, &mut buffer)).map_err(broken)?;
                let whole = match buffer.filled() {
                    [] => Some(reply.end().map_err(Failure::Answer)?),
                    bytes => reply.feed(bytes).map_err(Failure::Answer)?,
                };
                if !begun && reply.events() > 0 {
                    begun = true;
                    first();
                }
                if let Some(summary) = whole {
                    return Poll::Ready(Ok(summary));
                }
            }
        })
        .await?;
        if !summary.closes {
            self.socket = Some(socket);
        }
        Ok(summary)
    }
}

async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
