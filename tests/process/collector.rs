//! A collector of OpenTelemetry: takes spans and metrics over gRPC and over HTTP, and keeps them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// How exports come.
pub(crate) const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];

/// What has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// So many exports of spans are still sent back: the collector is busy.
    pub(crate) busy: usize,
    /// Exports of spans that were taken.
    pub(crate) trace_exports: usize,
    /// Each span, and the node that it is of.
    pub(crate) spans: Vec<(String, Span)>,
    /// Each export of metrics.
    pub(crate) metrics: Vec<Vec<Metric>>,
    /// The attributes of who exported.
    pub(crate) resources: Vec<Vec<(String, String)>>,
    /// The fields of each export.
    pub(crate) fields: Vec<HeaderMap>,
}

/// A running collector; ends when dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    exports: watch::Receiver<usize>,
    _server: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let received = Arc::<Mutex<Received>>::default();
        let (count, exports) = watch::channel(0);
        let (kept, count) = (Arc::clone(&received), Arc::new(count));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, count) = (Arc::clone(&kept), Arc::clone(&count));
                let service = service_fn(move |request| {
                    let (kept, count) = (Arc::clone(&kept), Arc::clone(&count));
                    async move {
                        let answer = take(request, &kept).await;
                        count.send_modify(|count| *count += 1);
                        Ok::<_, Infallible>(answer)
                    }
                });
                connections.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ended = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            received,
            exports,
            _server: server,
        }
    }

    /// The flags of a node that exports to it.
    pub(crate) fn flags(&self, protocol: &str) -> Vec<String> {
        [
            ("--telemetry.otlp_endpoint", self.endpoint()),
            ("--telemetry.otlp_protocol", protocol.to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().expect("no test panics in here")
    }

    /// Sends the next `exports` of spans back.
    pub(crate) fn is_busy(&self, exports: usize) {
        let mut received = self.received.lock().expect("no test panics in here");
        received.busy = exports;
    }

    /// Waits until what has come is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Received) -> bool) {
        let mut exports = self.exports.clone();
        while !wanted(&self.received()) {
            exports.changed().await.expect("the collector runs");
        }
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn take(request: Request<Incoming>, kept: &Mutex<Received>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    let kind = head.headers["content-type"].as_bytes();
    let is_grpc = kind == b"application/grpc";
    assert!(is_grpc || kind == b"application/x-protobuf", "{head:?}");
    // gRPC: a byte that says "not compressed", four of length, the message.
    let message = if is_grpc { body.slice(5..) } else { body };
    let mut kept = kept.lock().expect("no test panics in here");
    kept.fields.push(head.headers);
    let path = head.uri.path();
    if kept.busy > 0 && path.to_lowercase().contains("trace") {
        kept.busy -= 1;
        return busy(is_grpc);
    }
    match path {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" if is_grpc => {
            kept.spans(&message);
        }
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" if is_grpc => {
            kept.metrics(&message);
        }
        "/v1/traces" if !is_grpc => kept.spans(&message),
        "/v1/metrics" if !is_grpc => kept.metrics(&message),
        other => panic!("{other} is no path of OTLP"),
    }
    answer(is_grpc)
}

/// "Come again" (<https://opentelemetry.io/docs/specs/otlp/#failures>).
fn busy(is_grpc: bool) -> Answer {
    let mut response = Response::new(Full::default().boxed());
    if is_grpc {
        let unavailable = HeaderValue::from_static("14");
        response.headers_mut().insert("grpc-status", unavailable);
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", grpc);
    } else {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn answer(is_grpc: bool) -> Answer {
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::OK;
    if is_grpc {
        let ok = HeaderMap::from_iter([(
            HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(ok)) });
        *response.body_mut() = BodyExt::boxed(body);
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert("content-type", grpc);
    }
    response
}

impl Received {
    fn spans(&mut self, message: &[u8]) {
        let export = ExportTraceServiceRequest::decode(message).expect("an export of spans");
        self.trace_exports += 1;
        for of_one in export.resource_spans {
            let node = self.resource(of_one.resource);
            let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|span| (node.clone(), span)));
        }
    }

    fn metrics(&mut self, message: &[u8]) {
        let export = ExportMetricsServiceRequest::decode(message).expect("an export of metrics");
        for of_one in export.resource_metrics {
            self.resource(of_one.resource);
            let scopes = of_one.scope_metrics.into_iter();
            self.metrics
                .push(scopes.flat_map(|scope| scope.metrics).collect());
        }
    }

    /// Keeps the attributes, and says which node it is.
    fn resource(&mut self, resource: Option<Resource>) -> String {
        let all = attributes(&resource.expect("a resource").attributes);
        let node = all.iter().find(|(key, _)| key == "service.instance.id");
        let node = node.expect("every node has a name").1.clone();
        self.resources.push(all);
        node
    }
}

/// Attributes as text, by key.
pub(crate) fn attributes(all: &[KeyValue]) -> Vec<(String, String)> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let value = match value.expect("a value") {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            Value::BoolValue(bool) => bool.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    let mut all: Vec<_> = all.iter().map(text).collect();
    all.sort();
    all
}
