//! Trace context through a process, and its spans at a collector. One test: the logger and the
//! exporter belong to the process.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use koorde_sidecar::{app::App, telemetry::Telemetry};
use support::{Client, Origin, cache, ready, settings};
use tokio::net::TcpListener;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// The least that passes for a collector: every export is well, and its bytes are kept.
async fn collector() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let body = request
                        .into_body()
                        .collect()
                        .await
                        .expect("a whole body")
                        .to_bytes();
                    kept.lock()
                        .expect("no test panics in here")
                        .extend_from_slice(&body);
                    // An empty message, then the status.
                    let mut frame = BytesMut::new();
                    frame.put_bytes(0, 5);
                    let ok = HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static("0"),
                    )]);
                    let body = Full::<Bytes>::new(frame.freeze());
                    let body = body.with_trailers(async { Some(Ok::<_, Infallible>(ok)) });
                    let response = Response::builder().header("content-type", "application/grpc");
                    Ok::<_, Infallible>(response.body(body).expect("a well-formed response"))
                }
            });
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, received)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("hex is ASCII"));
    digits
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_trace_goes_on_at_the_origin_and_its_spans_are_flushed_at_the_end() {
    let (origin, client) = (Origin::start().await, Client::default());
    let (endpoint, received) = collector().await;
    let mut settings = settings();
    settings.telemetry.otlp_endpoint = Some(format!("http://{endpoint}"));
    // Nothing begun here is sampled; what the client samples is.
    settings.telemetry.sample_ratio = 0.0;
    settings.shutdown.flush = support::SOON;
    let telemetry = Telemetry::install(&settings);
    let app = App::start_with(settings, telemetry)
        .await
        .expect("the process starts");
    ready(&app).await;

    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let url = cache(&app, &origin.url("/traced?secret=hunter2"));
    client
        .send(Method::GET, &url, &[("traceparent", &traceparent)])
        .await;
    let (_, fields) = &origin.seen()[0];
    let sent = fields["traceparent"]
        .to_str()
        .expect("trace context is ASCII");
    assert_eq!(sent[..36], traceparent[..36], "the trace is the same");
    assert_ne!(sent[36..52], traceparent[36..52], "the span is another");
    client.get(&cache(&app, &origin.url("/not-sampled"))).await;
    let metrics = format!(
        "http://{}/metrics?format=openmetrics",
        app.addresses().admin
    );
    let scraped = client.get(&metrics).await.body;
    // Two misses; only the one whose trace is kept leads anywhere.
    let exemplars: Vec<&str> = scraped.lines().filter(|l| l.contains(" # {")).collect();
    assert_eq!(exemplars.len(), 1, "{exemplars:?}");
    assert!(exemplars[0].contains("result=\"miss\"") && exemplars[0].contains(TRACE));
    app.shutdown().await;

    let received = received.lock().expect("no test panics in here").clone();
    assert!(contains(&received, &unhex(TRACE)), "the trace arrived");
    assert!(
        contains(&received, &unhex(SPAN)),
        "the server's span names its parent"
    );
    assert!(contains(&received, b"GET /cache"));
    assert!(
        !contains(&received, b"hunter2"),
        "no query string leaves in a span"
    );
}
