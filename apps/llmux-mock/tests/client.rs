//! A client that shows what came over the wire, broken ends included.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use llmux_mock::Mock;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A response, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the body ended as HTTP wants it.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `data:` of each event; `[DONE]` as a string.
    pub(crate) fn events(&self) -> Vec<Value> {
        events(self.text())
    }
}

pub(crate) fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines
        .map(
            |data| {
                if data == "[DONE]" {
                    Value::from(data)
                } else {
                    serde_json::from_str(data).unwrap()
                }
            },
        )
        .collect()
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "mock");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.to_owned().into())).unwrap()
}

/// Sends a request on a new connection and returns the response as soon as its head is there.
pub(crate) async fn open(
    mock: &Mock,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request(method, path, headers, body)).await;
    if response.is_err() {
        connection.abort();
    }
    response
}

pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    let mut complete = true;
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                complete = false;
                break;
            }
        }
    }
    Answer { status: head.status.as_u16(), headers: head.headers, body: body.into(), complete }
}

pub(crate) async fn send(
    mock: &Mock,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    read(open(mock, method, path, headers, body).await.unwrap()).await
}

pub(crate) async fn post(mock: &Mock, path: &str, body: &Value) -> Answer {
    send(mock, "POST", path, &[], &body.to_string()).await
}

/// Posts over HTTP/2 without TLS.
pub(crate) async fn post_http2(mock: &Mock, path: &str, body: &Value) -> Answer {
    let stream = TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("{}{path}", mock.url());
    let request = Request::post(url).body(Full::<Bytes>::new(body.to_string().into())).unwrap();
    read(sender.send_request(request).await.unwrap()).await
}

/// Posts to chat completions and returns every byte that comes back, and how the connection ended.
pub(crate) async fn raw(mock: &Mock, headers: &str) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = TcpStream::connect(mock.addr()).await.unwrap();
    let body = r#"{"model":"m","stream":true}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received).await.map(|_| ());
    (received, end)
}
