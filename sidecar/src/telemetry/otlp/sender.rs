//! Sends a message of OTLP to the collector, over gRPC or HTTP.
//!
//! `opentelemetry-otlp` is not used: of metrics it sends only what the SDK's own instruments have
//! recorded, and ours are recorded once, in the catalogue's. The messages are `opentelemetry-proto`'s, the
//! client is the one that the process has anyway, and so both kinds go by both protocols in one place.
//! <https://opentelemetry.io/docs/specs/otlp/>

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector as Tcp},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_proto::tonic::collector::{
    metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
};
use prost::Message;
use tokio::time::timeout;
use tonic::{body::Body, client::Grpc, metadata::MetadataMap};
use tonic_prost::ProstCodec;

use super::super::{chain, tls};
use crate::settings::{OtlpProtocol, TelemetrySettings};

/// An answer has some bytes.
const MAX_ANSWER: usize = 64 << 10;
/// A connection on which nothing has come for so long is asked whether it is still there, and has as
/// long to say so: without it, a collector's host that vanished would be sent to for a quarter of an hour.
const ALIVE: Duration = Duration::from_secs(10);

/// What can be exported.
pub(super) trait Export: Message + 'static {
    /// The answer to it.
    type Answer: Message + Default + 'static;
    /// Its method of gRPC.
    const METHOD: &'static str;
    /// Its path, below the endpoint.
    const PATH: &'static str;
    /// How much of it the collector has not taken, and why.
    fn refused(answer: Self::Answer) -> Option<(i64, String)>;
}

impl Export for ExportTraceServiceRequest {
    type Answer = ExportTraceServiceResponse;
    const METHOD: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    const PATH: &'static str = "v1/traces";
    fn refused(answer: Self::Answer) -> Option<(i64, String)> {
        let part = answer.partial_success?;
        Some((part.rejected_spans, part.error_message))
    }
}

impl Export for ExportMetricsServiceRequest {
    type Answer = ExportMetricsServiceResponse;
    const METHOD: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    const PATH: &'static str = "v1/metrics";
    fn refused(answer: Self::Answer) -> Option<(i64, String)> {
        let part = answer.partial_success?;
        Some((part.rejected_data_points, part.error_message))
    }
}

/// The way to the collector. Connects when there is something to send.
pub(super) struct Sender {
    client: Client<HttpsConnector<Tcp>, Body>,
    protocol: OtlpProtocol,
    endpoint: Uri,
    fields: HeaderMap,
    bound: Duration,
}

impl Sender {
    /// None without an endpoint.
    pub(super) fn new(settings: &TelemetrySettings) -> Option<Self> {
        let endpoint = settings.endpoint()?;
        let mut fields = settings.headers().ok()?;
        let name = concat!("koorde/", env!("CARGO_PKG_VERSION"));
        fields.insert(header::USER_AGENT, HeaderValue::from_static(name));
        Some(Self {
            client: client(settings.otlp_protocol, settings.export_timeout),
            protocol: settings.otlp_protocol,
            endpoint,
            fields,
            bound: settings.export_timeout,
        })
    }

    /// Sends one message, within `telemetry.export_timeout`. Never again: a span that may have arrived
    /// would be there twice, and the next metrics have these in them.
    ///
    /// # Errors
    /// It was not taken, or not all of it, and why.
    pub(super) async fn send<M: Export>(&self, message: M) -> Result<(), String> {
        let sent = async {
            match self.protocol {
                OtlpProtocol::Grpc => self.call(message).await,
                OtlpProtocol::Http => self.post(message).await,
            }
        };
        let answer = timeout(self.bound, sent)
            .await
            .map_err(|_elapsed| format!("no answer within {:?}", self.bound))??;
        match M::refused(answer) {
            None | Some((0, _)) => Ok(()),
            Some((count, why)) => Err(format!("{count} of them were not taken: {why}")),
        }
    }

    async fn call<M: Export>(&self, message: M) -> Result<M::Answer, String> {
        let mut grpc = Grpc::with_origin(self.client.clone(), self.endpoint.clone());
        grpc.ready().await.map_err(|error| chain(&error))?;
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = MetadataMap::from_headers(self.fields.clone());
        let (method, codec) = (PathAndQuery::from_static(M::METHOD), ProstCodec::default());
        let answer = grpc.unary(request, method, codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let why = std::error::Error::source(&status).map(chain);
            let why = why.unwrap_or_else(|| status.message().to_owned());
            format!("{:?}: {why}", status.code())
        })
    }

    async fn post<M: Export>(&self, message: M) -> Result<M::Answer, String> {
        let base = self.endpoint.to_string();
        let uri = format!("{}/{}", base.trim_end_matches('/'), M::PATH);
        let body = Full::new(Bytes::from(message.encode_to_vec()));
        let mut request = Request::post(uri)
            .body(Body::new(body))
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = self.fields.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(header::CONTENT_TYPE, protobuf);
        let answer = self.client.request(request).await;
        let (head, body) = answer.map_err(|error| chain(&error))?.into_parts();
        if !head.status.is_success() {
            return Err(format!("status {}", head.status.as_u16()));
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| chain(&*error))?.to_bytes();
        M::Answer::decode(body).map_err(|error| chain(&error))
    }
}

fn client(protocol: OtlpProtocol, bound: Duration) -> Client<HttpsConnector<Tcp>, Body> {
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(bound));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls::client())
        .https_or_http();
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new());
    match protocol {
        OtlpProtocol::Grpc => builder
            .http2_only(true)
            .http2_keep_alive_interval(ALIVE)
            .http2_keep_alive_timeout(ALIVE)
            .http2_keep_alive_while_idle(true)
            .build(https.enable_http2().wrap_connector(tcp)),
        OtlpProtocol::Http => builder.build(https.enable_http1().wrap_connector(tcp)),
    }
}
