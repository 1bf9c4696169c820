//! The SDK's way out: our HTTP client, with the certificate authorities that are in the binary. It
//! says of a failure whether the request may have arrived.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector as Tcp},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpStream, time::timeout};
use tower::{BoxError, Service};

use super::super::tls;

/// The way out. Each call has a connection of its own: there is one in minutes, and one that was kept
/// could close while a request is on its way, of which nobody would know whether it has arrived.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pool: Client<Bounded, SdkBody>,
    bound: Duration,
}

impl Connector {
    /// A connection takes `bound` at most, TLS included, and so does the answer.
    pub(super) fn new(bound: Duration) -> Self {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            // Never sent again by itself: it might count twice.
            .retry_canceled_requests(false)
            .build(Bounded { https, bound });
        Self { pool, bound }
    }

    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x();
        let request = request.map_err(|e| ConnectorError::user(e.into()))?;
        // Twice: the connection has a bound of its own, and only behind it is something sent.
        let answer = match timeout(self.bound * 2, self.pool.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(ConnectorError::io(error.into())),
            Ok(Err(error)) => return Err(arrived(error.into())),
            Err(elapsed) => return Err(arrived(elapsed.into())),
        };
        HttpResponse::try_from(answer.map(SdkBody::from_body_1_x)).map_err(|e| arrived(e.into()))
    }
}

/// Connects within a bound, TLS included.
#[derive(Clone, Debug)]
struct Bounded {
    https: HttpsConnector<Tcp>,
    bound: Duration,
}

impl Service<Uri> for Bounded {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connected = timeout(self.bound, self.https.call(to));
        Box::pin(async { connected.await? })
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
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        // Where there is no metadata service, those who look for one wait a second, not ten.
        let asked = settings.read_timeout().unwrap_or(self.bound);
        SharedHttpConnector::new(Self {
            bound: self.bound.min(asked),
            ..self.clone()
        })
    }
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

/// Whether the request may have arrived although it has failed. Only what is said of the request
/// itself counts: a call for credentials, which comes through here before it, may have got lost, too.
pub(super) fn may_have_arrived(error: &ConnectorError) -> bool {
    error.source().is_some_and(|cause| cause.is::<Arrived>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_call_for_credentials_is_no_lost_call() {
        let lost = || arrived("closed".into());
        assert!(may_have_arrived(&lost()));
        let credentials = ConnectorError::other(lost().into(), None);
        assert!(!may_have_arrived(&credentials));
    }
}
