#![doc = include_str!("../README.md")]

mod body;
mod gate;
mod plain;
mod reply;
mod serve;
mod state;
mod syntax;
mod vendor;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::AbortHandle;

pub use gate::Gate;
pub use reply::{After, Finish, Garbage, Piece, Reply, ToolCall};
pub use syntax::duration;

use state::State;

/// How a mock listens and what its unscripted answers are like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub addr: SocketAddr,
    /// Wait before the status line.
    pub latency: Duration,
    /// Content chunks of a stream. 0: one for each word of `text`. More than there are words: the text repeats. Fewer:
    /// several words share a chunk. An answer that is not a stream has the same text.
    pub chunks: usize,
    /// Wait between two events. Zero sends a whole stream at once.
    pub chunk_gap: Duration,
    /// The answer.
    pub text: String,
    /// Keep received requests: the newest 10,000, at most 256 MiB of bodies.
    pub record: bool,
    /// Let other sockets listen on the same address, to spread connections over threads.
    pub reuse_port: bool,
    /// Send fixed answers at the least cost, over HTTP/1.1 alone: no faults, scripts, control routes or record. Requests
    /// that differ only in the middle of their bodies get the same answer, the first one's. For benchmarks.
    pub plain: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            latency: Duration::ZERO,
            chunks: 0,
            chunk_gap: Duration::ZERO,
            text: "Hello from the built-in mock provider! No real model was asked.".to_owned(),
            record: true,
            reuse_port: false,
            plain: false,
        }
    }
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method, in upper case.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names, in lower case, and values in the order of arrival; repeated names stand together.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Which connection it came on, counted from 1.
    pub connection: usize,
}

impl Received {
    /// Returns the first value of the header `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON, or null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A running fake vendor. Dropping it closes its listeners and all connections.
#[derive(Debug)]
pub struct Mock {
    addr: SocketAddr,
    state: Arc<State>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Mock {
    /// Starts a mock on the current tokio runtime.
    ///
    /// # Errors
    /// Fails if it cannot listen on the address.
    #[expect(
        clippy::unused_async,
        reason = "callers need not change should binding have to wait one day"
    )]
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = listen(options.addr, options.reuse_port)?;
        let mock = Self {
            addr: listener.local_addr()?,
            state: Arc::new(State::new(options)),
            tasks: Mutex::new(Vec::new()),
        };
        mock.attach(listener);
        Ok(mock)
    }

    /// Serves a further listener on the current tokio runtime, with the same scripts and counters.
    pub fn attach(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let task = if state.options.plain {
            tokio::spawn(plain::accept(listener, state))
        } else {
            tokio::spawn(serve::accept(listener, state))
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task.abort_handle());
    }

    /// Returns the address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Queues a reply for the next request that no path script takes.
    pub fn script(&self, reply: Reply) {
        self.state.script(None, reply);
    }

    /// Queues a reply for the next request whose path and query contain `path_part`.
    pub fn script_for(&self, path_part: &str, reply: Reply) {
        self.state.script(Some(path_part), reply);
    }

    /// Queues the replies of a script file's text.
    ///
    /// # Errors
    /// Names what is not understood; then nothing is queued.
    pub fn script_json(&self, json: &[u8]) -> Result<(), String> {
        serve::load_script(&self.state, json)
    }

    /// Returns how many scripted replies are still waiting.
    pub fn scripted(&self) -> usize {
        self.state.scripted()
    }

    /// Returns the requests received so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.state.received()
    }

    /// Forgets scripts and received requests, and counts abandoned ones from zero again.
    pub fn clear(&self) {
        self.state.clear();
    }

    /// Returns the number of requests being answered right now.
    pub fn open_requests(&self) -> usize {
        self.state.open()
    }

    /// Returns the number of requests whose client left before the answer was complete.
    pub fn abandoned(&self) -> usize {
        self.state.abandoned()
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections()
    }

    /// Waits until `holds` is true, looking again whenever a request arrives or ends. Cancel-safe.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.state.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change falls between.
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// Opens a listener as a mock does.
///
/// # Errors
/// Fails if the address cannot be bound.
pub fn listen(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(addr)?;
    socket.listen(4096)
}
