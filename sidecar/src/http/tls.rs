//! TLS of the client listener.

use std::sync::Arc;

use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use super::ListenError;
use crate::settings::TlsSettings;

/// The acceptor for the two files; none if they are not given.
pub(super) fn acceptor(settings: &TlsSettings) -> Result<Option<TlsAcceptor>, ListenError> {
    let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
        return Ok(None);
    };
    let wrong = |key: &'static str, path: &str, reason: String| ListenError::Tls {
        key,
        path: path.to_owned(),
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| wrong("http.tls.cert", cert, e.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|e| wrong("http.tls.key", key, e.to_string()))?;
    // The provider is named, not taken from the process: other crates would pull in another one.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|e| wrong("http.tls.cert", cert, e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
