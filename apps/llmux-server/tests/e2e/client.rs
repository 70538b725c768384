//! A plain HTTP/1.1 client which shows the exact bytes of an answer and the order in which they come.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bytes::{Item, items};

/// No answer of these tests takes longer; a test that meets it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer whose body may still be on its way. Dropping it closes the connection.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In the order of arrival, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    stream: TcpStream,
    buffer: Vec<u8>,
    framing: Framing,
    /// The decoded body so far.
    pub(crate) body: Vec<u8>,
    shown: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
    /// The body is whole.
    Done,
    /// The connection ended before the body did.
    Cut,
}

/// Describes a request; `host`, `content-type` and `content-length` are added unless they are given.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl Request<'_> {
    pub(crate) fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let given = |name: &str| self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !given("host") {
            head.push_str(&format!("host: {address}\r\n"));
        }
        if !self.body.is_empty() && !given("content-type") {
            head.push_str("content-type: application/json\r\n");
        }
        if (!self.body.is_empty() || self.method == "POST")
            && !given("content-length")
            && !given("transfer-encoding")
        {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.as_bytes(), self.body].concat()
    }
}

/// Sends raw bytes on a new connection and reads the answer's head.
pub(crate) async fn send_raw(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a fresh socket takes options");
    stream.write_all(bytes).await.expect("the gateway reads");
    Response::read(stream).await
}

/// Sends a request on a new connection and reads the answer's head.
pub(crate) async fn send(address: SocketAddr, request: &Request<'_>) -> Response {
    send_raw(address, &request.bytes(address)).await
}

impl Response {
    /// Reads an answer's head from a connection on which a request was sent.
    pub(crate) async fn read(mut stream: TcpStream) -> Self {
        let mut buffer = Vec::new();
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer))
                .await
                .expect("an answer comes in time");
            let read = read.expect("the gateway answers");
            assert!(
                read > 0,
                "the gateway closed the connection without an answer; got {:?}",
                String::from_utf8_lossy(&buffer)
            );
        };
        let text = String::from_utf8(buffer.drain(..head).collect()).expect("heads are ASCII");
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let value = |name: &str| {
            headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let framing = match (value("transfer-encoding"), value("content-length")) {
            (Some(encoding), length) => {
                assert_eq!((encoding.as_str(), length), ("chunked", None), "one framing only");
                Framing::Chunked
            }
            (None, Some(length)) => match length.parse().expect("content-length is a number") {
                0 => Framing::Done,
                length => Framing::Length(length),
            },
            (None, None) => Framing::Close,
        };
        let status = status.expect("a status line comes first");
        Self { status, headers, stream, buffer, framing, body: Vec::new(), shown: 0 }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Moves what has arrived into `body`. Returns false once nothing more will come.
    fn decode(&mut self) -> bool {
        loop {
            match self.framing {
                Framing::Length(left) => {
                    let taken = left.min(self.buffer.len());
                    self.body.extend(self.buffer.drain(..taken));
                    self.framing =
                        if taken == left { Framing::Done } else { Framing::Length(left - taken) };
                    return self.framing != Framing::Done;
                }
                Framing::Chunked => {
                    let Some(line) = self.buffer.windows(2).position(|two| two == b"\r\n") else {
                        return true;
                    };
                    let size = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
                    let size = usize::from_str_radix(size.trim(), 16)
                        .expect("a chunk begins with its size");
                    if self.buffer.len() < line + 2 + size + 2 {
                        return true;
                    }
                    self.body.extend_from_slice(&self.buffer[line + 2..line + 2 + size]);
                    self.buffer.drain(..line + 2 + size + 2);
                    if size == 0 {
                        self.framing = Framing::Done;
                        return false;
                    }
                }
                Framing::Close => {
                    self.body.append(&mut self.buffer);
                    return true;
                }
                Framing::Done | Framing::Cut => return false,
            }
        }
    }

    /// Waits for more of the body. Returns false once nothing more will come.
    pub(crate) async fn more(&mut self) -> bool {
        let before = self.body.len();
        let open = self.decode();
        if self.body.len() > before {
            // It came together with what was read before.
            return true;
        }
        if !open {
            return false;
        }
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        match read.expect("the body goes on in time") {
            Ok(read) if read > 0 => self.decode(),
            _ => {
                self.framing =
                    if self.framing == Framing::Close { Framing::Done } else { Framing::Cut };
                return false;
            }
        };
        true
    }

    /// Reads to the end of the body. Returns whether it ended as its framing says.
    pub(crate) async fn finish(&mut self) -> bool {
        while self.more().await {}
        self.framing == Framing::Done
    }

    /// Reads the whole body, which must end properly.
    pub(crate) async fn whole(mut self) -> Self {
        assert!(self.finish().await, "the body was cut: {:?}", String::from_utf8_lossy(&self.body));
        self
    }

    /// Waits for the next item of an event stream; `None` at its end.
    pub(crate) async fn next_item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = items(&self.body).into_iter().nth(self.shown) {
                self.shown += 1;
                return Some(item);
            }
            if !self.more().await && items(&self.body).len() <= self.shown {
                return None;
            }
        }
    }

    /// Waits for the next event, passing over comments; `None` at the stream's end.
    pub(crate) async fn next_event(&mut self) -> Option<Item> {
        loop {
            match self.next_item().await {
                Some(Item::Comment(_)) => {}
                other => return other,
            }
        }
    }

    /// Returns the connection for another request, after the whole answer has come.
    pub(crate) fn reuse(self) -> TcpStream {
        assert!(matches!(self.framing, Framing::Done), "the answer is whole");
        self.stream
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("status {}, not JSON ({error}): {}", self.status, self.text())
        })
    }

    /// Returns the error object, of which all four members must be there.
    pub(crate) fn error(&self) -> serde_json::Value {
        let body = self.json();
        let error = body
            .get("error")
            .unwrap_or_else(|| panic!("status {}, no error in {body}", self.status));
        for member in ["message", "type", "param", "code"] {
            assert!(error.get(member).is_some(), "no {member} in {body}");
        }
        assert!(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "no message in {body}"
        );
        assert!(
            self.header("content-type").is_some_and(|value| value.starts_with("application/json")),
            "{:?}",
            self.headers
        );
        error.clone()
    }

    /// Fails unless this is our error with that status, type and code (JSON null where there is none).
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, kind: &str, code: Option<&str>) {
        let error = self.error();
        let got = (self.status, error["type"].as_str(), error["code"].as_str());
        assert_eq!(got, (status, Some(kind), code), "{error}");
    }
}
