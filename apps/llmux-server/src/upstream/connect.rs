//! New connections: TCP, TLS, HTTP/1.1 or HTTP/2.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::pool::Own;

/// Scheme, host and port: what a connection leads to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    https: bool,
    host: String,
    port: u16,
    /// `host` or `host:port`, as in the `Host` header.
    authority: HeaderValue,
}

impl Origin {
    /// Takes the origin of an absolute http or https URL.
    pub(crate) fn of(url: &Uri) -> Option<Self> {
        let https = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = url.authority()?;
        // The brackets of an IPv6 address belong to the URL, not to the address.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let authority = HeaderValue::try_from(authority.as_str()).ok()?;
        Some(Self { https, host, port, authority })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Puts a request with an absolute URL into the form that the protocol wants.
    pub(super) fn addressed(
        &self,
        mut request: Request<Full<Bytes>>,
        http2: bool,
    ) -> Request<Full<Bytes>> {
        if !http2 {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
            request.headers_mut().insert(HOST, self.authority.clone());
        }
        request
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connecting took too long")]
    Timeout,
    #[error("the host name has no address")]
    NoAddress,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the host name cannot stand in a certificate")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

pub(super) enum Connection {
    Http1(Own),
    Http2(http2::SendRequest<Full<Bytes>>),
}

pub(super) async fn connect(
    origin: &Origin,
    tls: &Arc<rustls::ClientConfig>,
    timeout: Duration,
) -> Result<Connection, ConnectError> {
    let tcp = connect_tcp(origin, timeout).await?;
    // Without it Nagle's algorithm holds back the end of a request.
    tcp.set_nodelay(true)?;
    if !origin.https {
        return http1_handshake(TokioIo::new(tcp)).await;
    }
    let name = ServerName::try_from(origin.host.clone())?;
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    if !http2 {
        return http1_handshake(io).await;
    }
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .adaptive_window(true)
        .handshake(io)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connection::Http2(sender))
}

async fn http1_handshake<T>(io: TokioIo<T>) -> Result<Connection, ConnectError>
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().handshake(io).await?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(Connection::Http1(Own::new(sender, task.abort_handle())))
}

/// Tries the addresses of a host in order. Each gets its share of what is left of the time, so that one that swallows
/// packets does not hide the others.
async fn connect_tcp(origin: &Origin, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + timeout;
    let addresses = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await?;
    let addresses: Vec<_> = addresses.collect();
    let mut last = ConnectError::NoAddress;
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        last = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => ConnectError::Io(error),
            Err(_) => ConnectError::Timeout,
        };
    }
    Err(last)
}

/// Makes the TLS settings for all vendors: the system's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR`
/// included), and Mozilla's where the system has none.
pub(crate) fn tls_client_config() -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (added, _ignored) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
