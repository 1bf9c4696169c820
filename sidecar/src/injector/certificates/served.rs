//! The certificate that is served, exchanged between two handshakes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::facts::validity;
use crate::injector::metrics::InjectorMetrics;

/// What is served; nothing at first.
#[derive(Debug)]
pub(crate) struct Served {
    current: ArcSwapOption<CertifiedKey>,
    is_ready: watch::Sender<bool>,
    metrics: Arc<InjectorMetrics>,
}

impl Served {
    pub(crate) fn new(metrics: &Arc<InjectorMetrics>) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwapOption::empty(),
            is_ready: watch::Sender::new(false),
            metrics: Arc::clone(metrics),
        })
    }

    /// Whether there is something to serve.
    pub(crate) fn is_ready(&self) -> watch::Receiver<bool> {
        self.is_ready.subscribe()
    }

    /// Serves this from the next handshake on; connections that are open go on as they are.
    ///
    /// # Errors
    /// It is no certificate and its key; what was served before still is.
    pub(super) fn serve(&self, cert: &str, key: &str) -> Result<(), String> {
        let certified = certified(cert, key)?;
        if let Some(validity) = validity(cert) {
            self.metrics.serves_until(validity.until);
        }
        self.current.store(Some(Arc::new(certified)));
        self.is_ready.send_replace(true);
        Ok(())
    }

    /// TLS with what is served at the time of each handshake.
    ///
    /// # Panics
    /// Never: the provider has all versions.
    pub(crate) fn acceptor(self: &Arc<Self>) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("the provider has all versions");
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A chain and its key, if they belong together.
pub(super) fn certified(cert: &str, key: &str) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("the key: {error}"))?;
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
    certified.map_err(|error| error.to_string())
}

#[derive(Debug)]
struct Resolver(Arc<Served>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current.load_full()
    }
}
