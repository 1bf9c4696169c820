//! The SDK's way out: our HTTP client, with the certificate authorities that are in the binary. It
//! says of a failure whether the request may have arrived.

use std::{error::Error, fmt, time::Duration};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector as Tcp},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout;

type Pool = Client<HttpsConnector<Tcp>, SdkBody>;

/// A pool of connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pool: Pool,
    bound: Duration,
}

impl Connector {
    /// Each request takes `bound` at most, a connection half of it.
    pub(super) fn new(bound: Duration) -> Self {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(bound / 2));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Shorter than what load balancers keep, so that a request does not meet a closed one.
            .pool_idle_timeout(Duration::from_secs(20))
            // Never sent again by itself: it might count twice.
            .retry_canceled_requests(false)
            .build(https);
        Self { pool, bound }
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x();
        let request = request.map_err(|e| ConnectorError::user(e.into()))?;
        let answer = match timeout(self.bound, self.pool.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(ConnectorError::io(error.into())),
            Ok(Err(error)) => return Err(arrived(error.into())),
            Err(elapsed) => return Err(arrived(elapsed.into())),
        };
        HttpResponse::try_from(answer.map(SdkBody::from_body_1_x)).map_err(|e| arrived(e.into()))
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().send(request))
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn tls() -> rustls::ClientConfig {
    let roots = webpki_roots::TLS_SERVER_ROOTS
        .iter()
        .cloned()
        .collect::<rustls::RootCertStore>();
    let provider = rustls::crypto::ring::default_provider();
    rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A failure behind which the request may have arrived.
#[derive(Debug)]
struct Arrived(Box<dyn Error + Send + Sync>);

impl fmt::Display for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent, and no answer: {}", self.0)
    }
}

impl Error for Arrived {}

fn arrived(error: Box<dyn Error + Send + Sync>) -> ConnectorError {
    ConnectorError::other(Arrived(error).into(), None)
}

/// Whether the request may have arrived although it has failed.
pub(super) fn may_have_arrived(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(cause) = error {
        if cause.is::<Arrived>() {
            return true;
        }
        error = cause.source();
    }
    false
}
