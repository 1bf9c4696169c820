//! The way to the collector, which traces and metrics share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use opentelemetry_http::{HttpClient as _, HttpError, hyper::HyperClient};
use tonic::{
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use super::super::tls;
use crate::settings::{OtlpProtocol, TelemetrySettings};

const AGENT: &str = concat!("koorde/", env!("CARGO_PKG_VERSION"));
/// A connection on which nothing has come for so long is asked whether it is still there, and has as
/// long to say so: without it, a collector's host that vanished would be sent to for a quarter of an hour.
const ALIVE: Duration = Duration::from_secs(10);

/// How the collector is spoken to. Connects when there is something to send.
#[derive(Clone)]
pub(super) enum Way {
    /// gRPC, and the fields of each call.
    Grpc(Channel, MetadataMap),
    /// HTTP/1.1.
    Http(Arc<Http>),
}

impl Way {
    /// None without an endpoint. Must be called within a Tokio runtime.
    pub(super) fn new(settings: &TelemetrySettings) -> Option<Self> {
        let endpoint = settings.endpoint()?;
        let fields = settings.headers().ok()?;
        let bound = settings.export_timeout;
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(bound));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client())
            .https_or_http();
        Some(match settings.otlp_protocol {
            OtlpProtocol::Grpc => {
                let connector = https.enable_http2().wrap_connector(tcp);
                let channel = channel(endpoint, connector);
                Self::Grpc(channel, MetadataMap::from_headers(fields))
            }
            OtlpProtocol::Http => {
                let connector = https.enable_http1().wrap_connector(tcp);
                let client = HyperClient::new(connector, bound, None);
                Self::Http(Http::new(client, &endpoint, fields).into())
            }
        })
    }
}

fn channel(endpoint: Uri, connector: HttpsConnector<Tcp>) -> Channel {
    Endpoint::from(endpoint)
        .user_agent(AGENT)
        .expect("a version can be in a field")
        .http2_keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// Sends messages over HTTP/1.1, each with the same fields.
#[derive(Debug)]
pub(super) struct Http {
    client: HyperClient<HttpsConnector<Tcp>>,
    base: String,
    fields: HeaderMap,
}

impl Http {
    fn new(
        client: HyperClient<HttpsConnector<Tcp>>,
        endpoint: &Uri,
        mut fields: HeaderMap,
    ) -> Self {
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        fields.insert(header::CONTENT_TYPE, protobuf);
        fields.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        let base = endpoint.to_string().trim_end_matches('/').to_owned();
        Self {
            client,
            base,
            fields,
        }
    }

    /// Where a kind of messages goes; `path` begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request with our fields in place of its own. The answer is 4 MiB at most.
    ///
    /// # Errors
    /// There was no whole answer within `telemetry.export_timeout`, and why.
    pub(super) async fn send(
        &self,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        *request.headers_mut() = self.fields.clone();
        self.client.send_bytes(request).await
    }
}
