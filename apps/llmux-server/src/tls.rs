//! The server's own certificate, which may be renewed while the gateway runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
#[error("server.tls.{key}: {message}")]
pub(crate) struct Unusable {
    key: &'static str,
    message: String,
}

impl Unusable {
    fn of(key: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Self {
        move |error| Self { key, message: error.to_string() }
    }
}

/// The certificate that new connections are shown.
#[derive(Debug)]
pub(crate) struct Certificates(ArcSwap<CertifiedKey>);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Certificates {
    /// Reads the certificate of the start.
    pub(crate) fn new(tls: &Tls) -> Result<Arc<Self>, Unusable> {
        Ok(Arc::new(Self(ArcSwap::new(Self::read(tls)?))))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// If they are no certificate and its key.
    pub(crate) fn read(tls: &Tls) -> Result<Arc<CertifiedKey>, Unusable> {
        let (cert, key) = (Unusable::of("cert"), Unusable::of("key"));
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&tls.cert).and_then(Iterator::collect);
        let chain = chain.map_err(|error| cert(&error))?;
        let secret = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| key(&error))?;
        let read = CertifiedKey::from_der(chain, secret, &provider());
        read.map(Arc::new).map_err(|error| cert(&error))
    }

    /// Shows another certificate from now on; connections that are open stay.
    pub(crate) fn replace(&self, certificate: Arc<CertifiedKey>) {
        self.0.store(certificate);
    }

    /// Returns what opens connections.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, Unusable> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::of("cert")(&error))?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
