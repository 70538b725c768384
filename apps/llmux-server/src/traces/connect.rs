//! The connection to the collector, and one call on it: gRPC over HTTP/2, or protobuf over HTTP/1.1.

use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::config::{Collector, TraceProtocol};

/// The method that takes spans, as a path.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What gRPC puts before a message: not compressed, and its length.
const GRPC_PREFIX: usize = 5;

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It may go better the next time.
    #[error("{0}")]
    ForNow(String),
    /// The same spans will not be taken later either.
    #[error("{0}")]
    ForGood(String),
}

impl Refused {
    /// The collector could not be asked.
    fn unreached(error: &dyn std::error::Error) -> Self {
        Self::ForNow(crate::error::chain(error))
    }
}

enum Sender {
    Grpc(http2::SendRequest<Full<Bytes>>),
    Http(http1::SendRequest<Full<Bytes>>),
}

/// An open connection. It ends when this is dropped, whatever the collector does.
pub(super) struct Connection {
    sender: Sender,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the collector is.
pub(super) struct Target {
    collector: Collector,
    protocol: TraceProtocol,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Target {
    pub(super) fn new(collector: Collector, protocol: TraceProtocol) -> Self {
        let tls = collector.https.then(|| {
            let mut tls = (*crate::upstream::tls_client_config()).clone();
            tls.alpn_protocols = vec![match protocol {
                TraceProtocol::Grpc => b"h2".to_vec(),
                TraceProtocol::Http => b"http/1.1".to_vec(),
            }];
            Arc::new(tls)
        });
        Self { collector, protocol, tls }
    }

    pub(super) async fn connect(&self) -> Result<Connection, Refused> {
        let Collector { host, port, .. } = &self.collector;
        let tcp = TcpStream::connect((host.as_str(), *port)).await;
        let tcp = tcp.map_err(|error| Refused::unreached(&error))?;
        tcp.set_nodelay(true).map_err(|error| Refused::unreached(&error))?;
        let Some(tls) = &self.tls else { return self.handshake(tcp).await };
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|error| Refused::unreached(&error))?;
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
        self.handshake(stream.map_err(|error| Refused::unreached(&error))?).await
    }

    async fn handshake<T>(&self, stream: T) -> Result<Connection, Refused>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let unreached = |error: hyper::Error| Refused::unreached(&error);
        let (sender, task) = match self.protocol {
            TraceProtocol::Grpc => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(io)
                    .await
                    .map_err(unreached)?;
                (Sender::Grpc(sender), tokio::spawn(ended(connection)))
            }
            TraceProtocol::Http => {
                let (sender, connection) =
                    http1::Builder::new().handshake(io).await.map_err(unreached)?;
                (Sender::Http(sender), tokio::spawn(ended(connection)))
            }
        };
        Ok(Connection { sender, task: task.abort_handle() })
    }

    /// Makes the body of a call out of an encoded message.
    pub(super) fn framed(&self, message: &[u8]) -> Bytes {
        match self.protocol {
            TraceProtocol::Http => Bytes::copy_from_slice(message),
            TraceProtocol::Grpc => {
                let mut body = BytesMut::with_capacity(GRPC_PREFIX + message.len());
                body.put_u8(0);
                body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
                body.put_slice(message);
                body.freeze()
            }
        }
    }

    /// Sends spans; returns how many of them the collector did not want.
    pub(super) async fn send(
        &self,
        connection: &mut Connection,
        body: Bytes,
    ) -> Result<u64, Refused> {
        let unreached = |error: hyper::Error| Refused::unreached(&error);
        let request = self.request(body)?;
        match &mut connection.sender {
            Sender::Grpc(sender) => {
                sender.ready().await.map_err(unreached)?;
                grpc_answer(sender.send_request(request).await.map_err(unreached)?).await
            }
            Sender::Http(sender) => {
                sender.ready().await.map_err(unreached)?;
                http_answer(sender.send_request(request).await.map_err(unreached)?).await
            }
        }
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, Refused> {
        let unusable = |error: http::Error| Refused::ForGood(error.to_string());
        let Collector { https, authority, path, headers, .. } = &self.collector;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        let map = request.headers_mut();
        map.extend(headers.iter().cloned());
        map.insert(USER_AGENT, HeaderValue::from_static(crate::headers::AGENT));
        let uri = match self.protocol {
            TraceProtocol::Grpc => {
                map.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                map.insert(TE, HeaderValue::from_static("trailers"));
                let scheme = if *https { "https" } else { "http" };
                let uri = Uri::builder().scheme(scheme).authority(authority.as_str());
                uri.path_and_query(GRPC_PATH).build().map_err(unusable)?
            }
            TraceProtocol::Http => {
                map.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
                let host = HeaderValue::try_from(authority.as_str());
                map.insert(HOST, host.map_err(|error| unusable(error.into()))?);
                Uri::builder().path_and_query(path.as_str()).build().map_err(unusable)?
            }
        };
        *request.uri_mut() = uri;
        Ok(request)
    }
}

async fn ended(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "the connection to the trace collector ended");
    }
}

async fn http_answer(response: Response<Incoming>) -> Result<u64, Refused> {
    let status = response.status();
    let (_, body) = whole(response).await?;
    match status {
        status if status.is_success() => Ok(rejected(&body)),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Err(Refused::ForNow(format!("HTTP status {status}"))),
        _ => Err(Refused::ForGood(format!("HTTP status {status}"))),
    }
}

async fn grpc_answer(response: Response<Incoming>) -> Result<u64, Refused> {
    const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

    let status = response.status();
    if !status.is_success() {
        let message = format!("HTTP status {status}");
        let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        return Err(if passes { Refused::ForNow(message) } else { Refused::ForGood(message) });
    }
    let head = response.headers().clone();
    let (trailers, body) = whole(response).await?;
    // A call that failed at once has its status in the head.
    let code = trailers.get(&GRPC_STATUS).or_else(|| head.get(&GRPC_STATUS));
    match code.and_then(|value| value.to_str().ok()?.parse::<u32>().ok()) {
        Some(0) => Ok(rejected(body.get(GRPC_PREFIX..).unwrap_or_default())),
        // Those that the protocol wants tried again: cancelled, deadline, exhausted, aborted, out of range, unavailable,
        // data loss.
        Some(code @ (1 | 4 | 8 | 10 | 11 | 14 | 15)) => {
            Err(Refused::ForNow(format!("gRPC status {code}")))
        }
        Some(code) => Err(Refused::ForGood(format!("gRPC status {code}"))),
        None => Err(Refused::ForGood("the answer is none of gRPC".to_owned())),
    }
}

/// Reads the rest of an answer: its trailers and its body.
async fn whole(response: Response<Incoming>) -> Result<(HeaderMap, Bytes), Refused> {
    let read = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
    let read = read.map_err(|error| Refused::unreached(&io::Error::other(error)))?;
    let trailers = read.trailers().cloned().unwrap_or_default();
    Ok((trailers, read.to_bytes()))
}

/// Reads how many spans a collector that took the rest did not want.
fn rejected(message: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(message).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}
