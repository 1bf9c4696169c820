//! Connections to origins: resolve, ask the guard, connect to exactly what it judged.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{net::TcpStream, time};
use tower::{BoxError, Service};

use super::{
    egress::{Denied, Guard},
    resolver::Resolver,
};
use crate::error::StartError;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// DNS and TCP; TLS is laid over it.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    whom: Whom,
    resolver: Resolver,
}

#[derive(Clone, Debug)]
enum Whom {
    /// Whom the target names, if the guard allows it.
    Target(Arc<Guard>),
    /// One server, whatever the target: host and port as the operator wrote them.
    Server(Arc<(String, u16)>),
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (whom, resolver) = (self.whom.clone(), self.resolver.clone());
        Box::pin(async move {
            Ok(TokioIo::new(match whom {
                Whom::Target(guard) => connect(&guard, &resolver, &uri).await?,
                Whom::Server(server) => {
                    dial(&server.0, &resolver.resolve(&server.0, server.1).await?).await?
                }
            }))
        })
    }
}

pub(crate) async fn connect(
    guard: &Guard,
    resolver: &Resolver,
    uri: &Uri,
) -> Result<TcpStream, BoxError> {
    let host = uri.host().ok_or("the target has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        });
    let addresses = resolver.resolve(host, port).await?;
    guard.check(host, &addresses)?;
    Ok(dial(host, &addresses).await?)
}

/// Connects to the first address that accepts.
async fn dial(host: &str, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A request is one small write; Nagle would only hold it back.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The whole of connecting, TLS included, within one deadline.
#[derive(Clone)]
pub(crate) struct Connector {
    inner: HttpsConnector<Dialer>,
    timeout: Duration,
}

impl Connector {
    /// Dials whom the target names, behind the guard. Trusts the public authorities (Mozilla's
    /// list, compiled in: the image has no files) and those of `ca_file`, which is its setting's
    /// key and its path.
    ///
    /// # Errors
    /// `ca_file` can't be read or holds no certificate.
    pub(crate) fn new(
        guard: Arc<Guard>,
        resolver: Resolver,
        timeout: Duration,
        ca_file: Option<&(String, &str)>,
    ) -> Result<Self, StartError> {
        Self::over(Whom::Target(guard), resolver, timeout, ca_file)
    }

    /// Dials one server, whatever the target. The guard has no say: the operator named the server
    /// and its port, and no request can change them.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub(crate) fn to(
        server: (String, u16),
        resolver: Resolver,
        timeout: Duration,
        ca_file: Option<&(String, &str)>,
    ) -> Result<Self, StartError> {
        Self::over(Whom::Server(Arc::new(server)), resolver, timeout, ca_file)
    }

    fn over(
        whom: Whom,
        resolver: Resolver,
        timeout: Duration,
        ca_file: Option<&(String, &str)>,
    ) -> Result<Self, StartError> {
        // Named, not the process's default: several crates would each install another.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(Dialer { whom, resolver });
        Ok(Self { inner, timeout })
    }
}

fn roots(ca_file: Option<&(String, &str)>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let Some((key, path)) = ca_file else {
        return Ok(roots);
    };
    let fail = |reason: String| StartError::Authorities {
        key: key.clone(),
        path: (*path).to_owned(),
        reason,
    };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| fail(e.to_string()))?;
    let before = roots.len();
    for certificate in certificates {
        let certificate = certificate.map_err(|e| fail(e.to_string()))?;
        roots.add(certificate).map_err(|e| fail(e.to_string()))?;
    }
    if roots.len() == before {
        return Err(fail("holds no certificate".to_owned()));
    }
    Ok(roots)
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<Dialer> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let timeout = self.timeout;
        Box::pin(async move {
            time::timeout(timeout, connecting)
                .await
                .map_err(|_| BoxError::from(ConnectTimeout(timeout)))?
        })
    }
}

/// Connecting took longer than `origin.connect_timeout`.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(crate) struct ConnectTimeout(pub(crate) Duration);

/// The first cause of type `T` in an error's chain.
pub(crate) fn cause<'a, T: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An `io::Error` hides the error it was made of from `source()`.
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(inner) = io.get_ref()
        {
            return cause(inner);
        }
        next = error.source();
    }
    None
}

/// The guard's refusal in an error's chain, if that is what it was.
pub(crate) fn denied<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Denied> {
    cause(error)
}
