//! One trace through two processes: what a real collector receives.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use koorde_tests::{
    origin::Origin,
    process::{Process, client},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};

/// The least that passes for a collector over gRPC; ends when dropped.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    _server: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let kept = Arc::clone(&spans);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| take(request, Arc::clone(&kept)));
                connections.spawn(async move {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    let _ended = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            spans,
            _server: server,
        }
    }
}

async fn take(
    request: Request<Incoming>,
    spans: Arc<Mutex<Vec<Span>>>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let body = request
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    // gRPC: a byte that says "not compressed", four of length, the message.
    let export = ExportTraceServiceRequest::decode(&body[5..]).expect("an export of spans");
    let scopes = export
        .resource_spans
        .into_iter()
        .flat_map(|resource| resource.scope_spans);
    let new = scopes.flat_map(|scope| scope.spans);
    spans.lock().expect("no panic in here").extend(new);
    let ok = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(ok)) });
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(body).expect("well-formed"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_client_asked_node_owner_and_origin() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let collector = Collector::start().await;
    let origin = Origin::fixed(
        std::time::Duration::ZERO,
        &[("cache-control", "max-age=60")],
        "body",
    )
    .await;
    let endpoint = format!("http://{}", collector.address);
    let mut nodes = Process::ring(2, &["--telemetry.otlp_endpoint", &endpoint]).await;
    let url = origin.url("/traced");
    let explained = nodes[0]
        .admin_json(&format!("/debug/explain?url={url}"))
        .await;
    let other = usize::from(explained["owners"][0] == "koorde-0");
    let request = Request::get(nodes[other].url(&url))
        .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))
        .body(Empty::new())
        .expect("well-formed");
    let answer = client().request(request).await.expect("an answer");
    answer.into_body().collect().await.expect("whole");
    for node in &mut nodes {
        // The last spans are sent on the way out.
        node.signal("-TERM").await;
        assert!(node.wait().await);
    }

    let spans = collector.spans.lock().expect("no panic in here").clone();
    let of_trace = |span: &&Span| hex(&span.trace_id) == TRACE;
    let named = |name: &str| {
        let mut named = spans
            .iter()
            .filter(of_trace)
            .filter(|span| span.name == name);
        named
            .next()
            .unwrap_or_else(|| panic!("no span {name:?} among {:?}", names(&spans)))
            .clone()
    };
    let ancestors = |span: &Span| {
        let mut chain = Vec::new();
        let mut parent = span.parent_span_id.clone();
        while let Some(next) = spans.iter().find(|span| span.span_id == parent) {
            chain.push(next.name.clone());
            parent = next.parent_span_id.clone();
        }
        chain.push(hex(&parent));
        chain
    };
    let chain = ancestors(&named("origin"));
    let expected = [
        "koorde.fill",
        "koorde.peer.serve",
        "koorde.peer.get",
        "koorde.fill",
        "GET /cache",
        "b7ad6b7169203331",
    ];
    assert_eq!(chain, expected, "from the origin's span up to the client's");
    let sent = origin.requests("/traced")[0]["traceparent"]
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(
        sent,
        format!("00-{TRACE}-{}-01", hex(&named("origin").span_id))
    );
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
