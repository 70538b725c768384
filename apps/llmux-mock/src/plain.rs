//! Fixed answers at the least cost, for benchmarks: what is measured should be the gateway in front.
//!
//! The first request of a kind is answered as ever, and its answer kept in the form in which it goes to the socket.
//! Later ones of that kind get the same bytes after a look at the path and the ends of the body. HTTP/1.1 only.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::state::{Open, State};
use crate::vendor::{self, Call, Prepared};

/// Longest request head.
const HEAD: usize = 64 << 10;
/// How much of a body's beginning and of its end is searched for what the answer depends on.
const SEARCHED: usize = 1 << 10;
/// Kinds of requests whose answers a connection keeps.
const KINDS: usize = 16;
/// What vendors send along with each answer.
const HEADERS: &str = "date: Mon, 06 Jan 2025 09:30:00 GMT\r\nserver: mock\r\nopenai-organization: mock\r\n\
    openai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n\
    x-ratelimit-remaining-requests: 9999\r\n";

pub(crate) async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    state.connected();
                    connections.spawn(connection(stream, Arc::clone(&state)));
                }
                // Out of file descriptors, most likely: some will come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// What requests have in common that get the same answer.
#[derive(Debug, PartialEq, Eq)]
struct Kind<T> {
    target: T,
    model: T,
    stream: bool,
    usage: bool,
}

impl Kind<&[u8]> {
    fn is(&self, known: &Kind<Vec<u8>>) -> bool {
        (self.target, self.model) == (&known.target, &known.model)
            && (self.stream, self.usage) == (known.stream, known.usage)
    }

    fn kept(&self) -> Kind<Vec<u8>> {
        Kind {
            target: self.target.to_vec(),
            model: self.model.to_vec(),
            stream: self.stream,
            usage: self.usage,
        }
    }
}

/// An answer as it goes to the socket: all at once, or event by event.
#[derive(Debug)]
struct Answer {
    whole: Bytes,
    events: Vec<Bytes>,
}

async fn connection(mut stream: TcpStream, state: Arc<State>) {
    // Only latency would suffer.
    let _ = stream.set_nodelay(true);
    let mut buffer = BytesMut::with_capacity(8 << 10);
    let mut known: Vec<(Kind<Vec<u8>>, Arc<Answer>)> = Vec::new();
    while let Some(Framing { head, body, closes }) = head(&mut stream, &mut buffer).await {
        let mut open = Open::new(Arc::clone(&state));
        let Some(body) = body else {
            let _ = stream
                .write_all(b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n")
                .await;
            return;
        };
        if !fill(&mut stream, &mut buffer, head + body).await {
            return;
        }
        let request = buffer.split_to(head + body).freeze();
        state.count();
        let Some(kind) = kind(&request[..head], &request[head..]) else { return };
        let answer = match known.iter().find(|(known, _)| kind.is(known)) {
            Some((_, answer)) => Arc::clone(answer),
            None => {
                let Some(answer) = make(&state, &request, head, &kind) else { return };
                if known.len() >= KINDS {
                    known.clear();
                }
                known.push((kind.kept(), Arc::clone(&answer)));
                answer
            }
        };
        if !state.options.latency.is_zero() {
            tokio::time::sleep(state.options.latency).await;
        }
        if send(&mut stream, &answer, state.options.chunk_gap).await.is_err() {
            return;
        }
        open.finish();
        if closes {
            return;
        }
    }
}

async fn send(stream: &mut TcpStream, answer: &Answer, gap: Duration) -> std::io::Result<()> {
    if gap.is_zero() || answer.events.is_empty() {
        return stream.write_all(&answer.whole).await;
    }
    // A clock, not a chain of waits, which would drift with the load.
    let mut clock = tokio::time::interval(gap);
    for event in &answer.events {
        clock.tick().await;
        stream.write_all(event).await?;
    }
    Ok(())
}

/// Reads up to the end of a request's head.
async fn head(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<Framing> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            return Some(framing(&buffer[..end]));
        }
        if buffer.len() > HEAD || !fill(stream, buffer, buffer.len() + 1).await {
            return None;
        }
    }
}

/// Reads until the buffer holds `length` bytes; false if the client leaves before.
async fn fill(stream: &mut TcpStream, buffer: &mut BytesMut, length: usize) -> bool {
    buffer.reserve(length.saturating_sub(buffer.len()).max(4 << 10));
    while buffer.len() < length {
        match stream.read_buf(buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return false,
        }
    }
    true
}

/// What a request's head says about its connection.
#[derive(Debug, PartialEq, Eq)]
struct Framing {
    /// Length of the head with its end.
    head: usize,
    /// Length of the body; `None` if it comes in chunks.
    body: Option<usize>,
    /// Whether the connection is to end with the answer.
    closes: bool,
}

/// Reads a head, which is given without its end.
fn framing(head: &[u8]) -> Framing {
    let mut framing = Framing { head: head.len() + 4, body: Some(0), closes: false };
    for line in head.split(|&byte| byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // Most names are told apart by their length.
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                framing.body = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => framing.body = None,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                framing.closes = value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }
    framing
}

fn kind<'a>(head: &'a [u8], body: &'a [u8]) -> Option<Kind<&'a [u8]>> {
    let target = head.split(|&byte| byte == b' ').nth(1)?;
    let ends = [
        &body[..body.len().min(SEARCHED)],
        &body[body.len().saturating_sub(SEARCHED).max(body.len().min(SEARCHED))..],
    ];
    let value = |name: &[u8]| ends.iter().find_map(|part| value(part, name));
    let is_true = |name: &[u8]| value(name).is_some_and(|value| value.starts_with(b"true"));
    let model = value(b"\"model\"").unwrap_or_default();
    let model = model.strip_prefix(b"\"").and_then(|rest| rest.split(|&byte| byte == b'"').next());
    Some(Kind {
        target,
        model: model.unwrap_or_default(),
        stream: is_true(b"\"stream\""),
        usage: is_true(b"\"include_usage\""),
    })
}

/// What follows a key and its colon.
fn value<'a>(json: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::find(json, key)?;
    let rest = json[at + key.len()..].trim_ascii_start();
    Some(rest.strip_prefix(b":")?.trim_ascii_start())
}

/// Answers the first request of its kind, from whole headers and the whole body.
fn make(state: &State, request: &Bytes, head: usize, kind: &Kind<&[u8]>) -> Option<Arc<Answer>> {
    let method = request.split(|&byte| byte == b' ').next()?;
    let method = Method::from_bytes(method).ok()?;
    let uri = Uri::try_from(kind.target).ok()?;
    let mut headers = HeaderMap::new();
    for line in request[..head].split(|&byte| byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(line[colon + 1..].trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    let body = request.slice(head..);
    let call = Call { method: &method, uri: &uri, headers: &headers, body: &body };
    Some(Arc::new(encode(&vendor::answer(state, &call))))
}

fn encode(answer: &Prepared) -> Answer {
    let head = format!(
        "HTTP/1.1 {} {}\r\n{HEADERS}{}: req_mock\r\ncontent-type: {}\r\n",
        answer.status.as_u16(),
        answer.status.canonical_reason().unwrap_or_default(),
        answer.request_id,
        answer.content_type
    );
    if !answer.stream {
        let length = answer.whole.len();
        let mut whole = format!("{head}content-length: {length}\r\n\r\n").into_bytes();
        whole.extend_from_slice(&answer.whole);
        return Answer { whole: whole.into(), events: Vec::new() };
    }
    let mut events: Vec<Vec<u8>> = answer
        .events
        .iter()
        .map(|event| [format!("{:x}\r\n", event.len()).as_bytes(), event, b"\r\n"].concat())
        .collect();
    if let Some(first) = events.first_mut() {
        let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
        first.splice(..0, head.into_bytes());
    }
    if let Some(last) = events.last_mut() {
        last.extend_from_slice(b"0\r\n\r\n");
    }
    Answer { whole: events.concat().into(), events: events.into_iter().map(Bytes::from).collect() }
}

#[cfg(test)]
mod tests {
    use super::{framing, kind};

    #[test]
    fn what_a_head_says_is_found_whatever_the_case_of_its_names() {
        let found = |head: &[u8]| {
            let framing = framing(head);
            assert_eq!(framing.head, head.len() + 4);
            (framing.body, framing.closes)
        };
        assert_eq!(found(b"POST / HTTP/1.1\r\nContent-Length: 12\r\nhost: a"), (Some(12), false));
        assert_eq!(
            found(b"POST / HTTP/1.1\r\ncontent-length:7\r\nConnection: Close"),
            (Some(7), true)
        );
        assert_eq!(found(b"GET / HTTP/1.1\r\nhost: a"), (Some(0), false));
        assert_eq!(found(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked"), (None, false));
    }

    #[test]
    fn what_an_answer_depends_on_is_found_at_both_ends_of_a_large_body() {
        let filler = "x".repeat(5000);
        let body = format!(
            r#"{{"model": "m1","messages":"{filler}","stream" : true,"stream_options":{{"include_usage":true}}}}"#
        );
        let found = kind(b"POST /v1/chat/completions HTTP/1.1\r\n\r\n", body.as_bytes()).unwrap();
        assert_eq!(found.target, b"/v1/chat/completions");
        assert_eq!(found.model, b"m1");
        assert!(found.stream && found.usage);
        let found = kind(b"POST /a HTTP/1.1\r\n\r\n", br#"{"stream":false}"#).unwrap();
        assert!(!found.stream && !found.usage && found.model.is_empty());
    }
}
