//! A vendor that answers as told: by a script for a path, or with a recorded interaction.
//!
//! The first path segment chooses. `/<name>/...` plays what [`Vendor::script`] set for `name`, and `/<fixture-id>[~switch...]/...` the recording,
//! an event a write. Switches: `chunk=N` writes N bytes at a time, whatever the events are.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::client::PATIENCE;
use crate::fixtures::{Fixture, fixtures, translated};

/// One step of an answer's body.
#[derive(Clone)]
pub(crate) enum Step {
    /// Writes one chunk (as raw bytes where the answer has a length).
    Write(Vec<u8>),
    /// Waits until the gate has a permit for it.
    Gate(Gate),
    /// Sends nothing more until the other side leaves.
    Hang,
    /// Closes the connection without ending the body.
    Cut,
}

/// Holds an answer back until the test opens it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.add_permits(1);
    }

    /// Takes back what was opened and nothing has passed yet.
    pub(crate) fn close(&self) {
        self.0.forget_permits(usize::MAX >> 4);
    }
}

/// An answer of the vendor.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) steps: Vec<Step>,
    framing: Framing,
    before_head: Option<Step>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    /// The steps are the whole answer, head included.
    Raw,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl AsRef<str>) -> Self {
        Self::whole(status, "application/json", body.as_ref().as_bytes())
    }

    pub(crate) fn whole(status: u16, content_type: &str, body: &[u8]) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            steps: vec![Step::Write(body.to_vec())],
            framing: Framing::Length,
            before_head: None,
        }
    }

    /// A 200 event stream.
    pub(crate) fn stream(steps: Vec<Step>) -> Self {
        let headers =
            vec![("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned())];
        Self { status: 200, headers, steps, framing: Framing::Chunked, before_head: None }
    }

    /// A stream of these events, one write each, which ends properly.
    pub(crate) fn events<T: AsRef<str>>(events: impl IntoIterator<Item = T>) -> Self {
        Self::stream(events.into_iter().map(|event| data(event.as_ref())).collect())
    }

    /// Bytes instead of an HTTP answer.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { framing: Framing::Raw, ..Self::whole(200, "", bytes) }
    }

    /// Takes the request and never answers.
    pub(crate) fn silent() -> Self {
        Self::json(200, "{}").after(Step::Hang)
    }

    /// Does something between the request and the status line.
    pub(crate) fn after(self, step: Step) -> Self {
        Self { before_head: Some(step), ..self }
    }

    /// Declares `Content-Length: length` whatever the steps write.
    pub(crate) fn with_length(mut self, length: usize) -> Self {
        self.framing = Framing::Length;
        self.with("content-length", &length.to_string())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// `data: {event}` as one write.
pub(crate) fn data(event: &str) -> Step {
    Step::Write(format!("data: {event}\n\n").into_bytes())
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The first path segment.
    pub(crate) name: String,
    pub(crate) method: String,
    /// Path and query after the first segment.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the vendor got JSON")
    }
}

#[derive(Default)]
struct State {
    scripts: Mutex<BTreeMap<String, VecDeque<Reply>>>,
    seen: Mutex<Vec<Seen>>,
    abandoned: Mutex<usize>,
    connections: AtomicUsize,
    steps: AtomicUsize,
    changed: Notify,
}

/// The vendor. It goes on until the test's runtime ends.
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Vendor {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a fresh socket takes options");
                shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// The base URL under which `name` answers.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Sets what `name` answers, in turn; the last reply answers all further requests.
    pub(crate) fn script(&self, name: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state.scripts.lock().unwrap().insert(name.to_owned(), replies.into_iter().collect());
    }

    /// The requests that came for `name`, oldest first.
    pub(crate) fn seen(&self, name: &str) -> Vec<Seen> {
        self.state.seen.lock().unwrap().iter().filter(|seen| seen.name == name).cloned().collect()
    }

    pub(crate) fn seen_in_all(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// The one request that came for `name`.
    #[track_caller]
    pub(crate) fn only(&self, name: &str) -> Seen {
        let mut seen = self.seen(name);
        assert_eq!(seen.len(), 1, "requests for {name}");
        seen.remove(0)
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// How many steps of bodies are over, of all answers so far.
    pub(crate) fn steps_done(&self) -> usize {
        self.state.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }

    /// Waits until `count` requests for `name` have arrived.
    pub(crate) async fn arrived(&self, name: &str, count: usize) {
        self.wait(|| self.seen(name).len() >= count).await;
    }

    /// Waits until `count` answers were abandoned by the gateway before they ended.
    pub(crate) async fn abandoned(&self, count: usize) {
        self.wait(|| *self.state.abandoned.lock().unwrap() >= count).await;
    }

    async fn wait(&self, done: impl Fn() -> bool) {
        let wait = async {
            loop {
                let changed = self.state.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if done() {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the vendor meets it in time");
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer).await {
        let name = seen.name.clone();
        state.seen.lock().unwrap().push(seen);
        state.changed.notify_waiters();
        let reply = {
            let mut scripts = state.scripts.lock().unwrap();
            match scripts.get_mut(&name) {
                Some(replies) if replies.len() > 1 => replies.pop_front(),
                Some(replies) => replies.front().cloned(),
                None => None,
            }
        };
        let reply = reply
            .or_else(|| recorded(&name))
            .unwrap_or_else(|| Reply::json(500, r#"{"error":{"message":"no script"}}"#));
        match play(&mut stream, &reply, &state.steps).await {
            End::KeptAlive => {}
            End::Closed => return,
            End::Abandoned => {
                *state.abandoned.lock().unwrap() += 1;
                state.changed.notify_waiters();
                return;
            }
        }
    }
}

enum End {
    KeptAlive,
    Closed,
    Abandoned,
}

async fn play(stream: &mut TcpStream, reply: &Reply, done: &AtomicUsize) -> End {
    if let Some(step) = &reply.before_head
        && let Some(end) = step_on(stream, step, Framing::Raw).await
    {
        return end;
    }
    if reply.framing != Framing::Raw {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let declared = reply.headers.iter().any(|(name, _)| name == "content-length");
        if reply.framing == Framing::Chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if !declared {
            let length: usize = reply
                .steps
                .iter()
                .map(|step| if let Step::Write(bytes) = step { bytes.len() } else { 0 })
                .sum();
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head.push_str("\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return End::Abandoned;
        }
    }
    for step in &reply.steps {
        if let Some(end) = step_on(stream, step, reply.framing).await {
            return end;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    match reply.framing {
        Framing::Chunked if stream.write_all(b"0\r\n\r\n").await.is_err() => End::Abandoned,
        Framing::Raw => End::Closed,
        _ => End::KeptAlive,
    }
}

async fn step_on(stream: &mut TcpStream, step: &Step, framing: Framing) -> Option<End> {
    match step {
        Step::Write(bytes) => {
            let framed = match framing {
                Framing::Chunked if bytes.is_empty() => return None,
                Framing::Chunked => {
                    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
                }
                Framing::Length | Framing::Raw => bytes.clone(),
            };
            stream.write_all(&framed).await.is_err().then_some(End::Abandoned)
        }
        Step::Gate(gate) => {
            let mut byte = [0];
            tokio::select! {
                permit = gate.0.acquire() => {
                    permit.expect("gates are not closed").forget();
                    None
                }
                _ = stream.read(&mut byte) => Some(End::Abandoned),
            }
        }
        Step::Hang => {
            let mut byte = [0];
            // Nothing is pipelined: this ends when the gateway leaves.
            let _left = stream.read(&mut byte).await;
            Some(End::Abandoned)
        }
        Step::Cut => Some(End::Closed),
    }
}

fn recorded(name: &str) -> Option<Reply> {
    let (id, switches) = name.split_once('~').unwrap_or((name, ""));
    let fixture = fixtures().iter().chain(translated()).find(|fixture| fixture.id == id)?;
    let body = fixture.response.body.as_bytes();
    let chunk =
        switches.split('~').find_map(|switch| switch.strip_prefix("chunk=")?.parse::<usize>().ok());
    let streamed = is_event_stream(fixture);
    let pieces: Vec<Vec<u8>> = match chunk {
        Some(size) => body.chunks(size).map(<[u8]>::to_vec).collect(),
        None if streamed => events(body),
        None => vec![body.to_vec()],
    };
    let mut reply = Reply::stream(pieces.into_iter().map(Step::Write).collect());
    if !streamed && chunk.is_none() {
        reply.framing = Framing::Length;
    }
    reply.status = fixture.response.status;
    reply.headers = fixture
        .response
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    reply.headers.retain(|(name, _)| {
        !matches!(
            name.as_str(),
            "content-length" | "transfer-encoding" | "content-encoding" | "connection"
        )
    });
    Some(reply)
}

pub(crate) fn is_event_stream(fixture: &Fixture) -> bool {
    fixture.response.headers.get("content-type").is_some_and(|value| value.contains("event-stream"))
}

/// Cuts a recorded stream after each empty line.
fn events(body: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut start) = (Vec::new(), 0);
    for end in 1..=body.len() {
        let event = &body[start..end];
        if event.ends_with(b"\n\n")
            || event.ends_with(b"\r\n\r\n")
            || event.ends_with(b"\r\r")
            || end == body.len()
        {
            found.push(event.to_vec());
            start = end;
        }
    }
    found
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text =
        String::from_utf8(buffer.drain(..head).collect()).expect("the gateway's heads are ASCII");
    let mut lines = text.split("\r\n");
    let mut line = lines.next()?.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let value =
        |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if value("transfer-encoding").is_some() {
        loop {
            let line = loop {
                if let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            };
            let size =
                usize::from_str_radix(String::from_utf8_lossy(&buffer[..line]).trim(), 16).ok()?;
            while buffer.len() < line + 2 + size + 2 {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
            buffer.drain(..line + 2 + size + 2);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = value("content-length") {
        let length: usize = length.parse().ok()?;
        while buffer.len() < length {
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        }
        body = buffer.drain(..length).collect();
    }
    let path = target.strip_prefix('/')?;
    let (name, rest) = path.split_at(path.find(['/', '?']).unwrap_or(path.len()));
    Some(Seen { name: name.to_owned(), method, target: rest.to_owned(), headers, body })
}
