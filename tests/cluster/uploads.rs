//! Requests and their bodies on the way to the origin: how long they may take, and that none is
//! sent twice.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get},
    origin::Origin,
};
use libkoorde::{
    RequestBody,
    config::{RouteConfig, UpstreamConfig},
    metrics::counted,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A body of one piece.
fn whole(text: &'static str) -> RequestBody {
    Full::from(text)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A body of `pieces`, one after each pause; then its end, or an error if it `breaks`.
fn slow(pieces: usize, pause: Duration, breaks: bool) -> RequestBody {
    let body = stream::unfold(0, move |sent| async move {
        tokio::time::sleep(pause).await;
        let piece = if sent < pieces {
            Ok(Frame::data(Bytes::from_static(b"piece")))
        } else {
            Err("its client is gone".into())
        };
        (sent < pieces + usize::from(breaks)).then_some((piece, sent + 1))
    });
    StreamBody::new(body).boxed_unsync()
}

fn post(url: &str) -> libkoorde::Request {
    let mut request = get(url);
    request.method = http::Method::POST;
    request
}

/// An origin on raw sockets. It answers the first `answers` requests of each connection, reads one
/// more, if it `reads`, and closes. Counts the requests that it has read.
struct Closing {
    address: SocketAddr,
    seen: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Closing {
    async fn start(answers: usize, reads: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (seen, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (count, ends) = (Arc::clone(&seen), Arc::clone(&closed));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("it accepts");
                let (count, ends) = (Arc::clone(&count), Arc::clone(&ends));
                connections.spawn(async move {
                    for _ in 0..answers {
                        read_head(&mut stream).await;
                        count.fetch_add(1, Ordering::SeqCst);
                        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
                        stream
                            .write_all(answer.as_bytes())
                            .await
                            .expect("it is read");
                    }
                    if reads {
                        read_head(&mut stream).await;
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    drop(stream);
                    ends.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            seen,
            closed,
            _server: server,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

async fn read_head(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.expect("a request"));
    }
}

/// A server of HTTP/1.1 and HTTP/2 that reads every body to its end, if it comes to one.
async fn reading() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("it accepts");
            let service = service_fn(|request: http::Request<Incoming>| async {
                let body = request.into_body().collect().await?.to_bytes();
                Ok::<_, hyper::Error>(http::Response::new(Full::new(body)))
            });
            connections.spawn(async move {
                let _ended = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, server)
}

/// One node that asks this server for everything, and leaves it out at its first failure.
async fn strict(server: SocketAddr, h2c: bool) -> Cluster {
    Cluster::with(1, |config| {
        config.routes = vec![RouteConfig {
            upstream: Some("strict".to_owned()),
            ..RouteConfig::default()
        }];
        let upstream = UpstreamConfig {
            servers: vec![format!("http://{server}")],
            h2c,
            max_fails: 1,
            ..UpstreamConfig::default()
        };
        config.upstreams.insert("strict".to_owned(), upstream);
        config.origin.limits.breaker_failures = 1;
        config.origin.idle_timeout = Duration::from_millis(100);
        config.origin.response_timeout = Duration::from_secs(10);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_its_client_breaks_off_is_not_the_origins_failure() {
    let (address, _server) = reading().await;
    for h2c in [false, true] {
        let cluster = strict(address, h2c).await;
        let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
        let url = "http://api.example/broken";
        for pieces in [0, 3, 0] {
            let body = slow(pieces, Duration::from_millis(20), true);
            let error = node.fetch_with_body(post(url), body).await;
            let error = error.expect_err("it has no end").to_string();
            let said = "the request's body broke off: its client is gone";
            assert_eq!(error, said, "HTTP/2: {h2c}");
        }
        for kind in ["connect", "timeout", "broken"] {
            assert_eq!(metrics.origin_errors.of(&["strict", kind]).get(), 0);
        }
        assert_eq!(counted(&metrics.upstream_servers, "out"), 0);
        assert_eq!(counted(&metrics.origin_breaker, "opened"), 0);
        let sent = node.fetch_with_body(post(url), whole("all of it")).await;
        assert_eq!(sent.expect("it is well").status().as_u16(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_not_a_silent_origin() {
    let (address, _server) = reading().await;
    for h2c in [false, true] {
        let cluster = strict(address, h2c).await;
        let node = &cluster.nodes[0];
        // Of the first piece, too, there is nothing for three times `origin.idle_timeout`.
        let body = slow(2, Duration::from_millis(300), false);
        let sent = node.fetch_with_body(post("http://api.example/slow"), body);
        let answer = sent.await.expect("900 ms of upload");
        let body = answer.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), "piecepiece", "HTTP/2: {h2c}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_takes_nothing_of_an_upload_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let cluster = strict(address, false).await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let endless = stream::repeat_with(move || Ok(Frame::data(piece.clone())));
    let body = StreamBody::new(endless).boxed_unsync();
    let sent = cluster.nodes[0].fetch_with_body(post("http://api.example/full"), body);
    let error = sent.await.expect_err("it is never read").to_string();
    assert_eq!(error, "origin did not answer within 100 ms");
    let (metrics, strict) = (&cluster.metrics[0], ["strict", "timeout"]);
    assert_eq!(metrics.origin_errors.of(&strict).get(), 1);
    assert_eq!(counted(&metrics.upstream_servers, "out"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_thinks_too_long_after_the_upload_is_slow() {
    let origin = Origin::start(|request| async {
        let _body = request.into_body().collect().await;
        std::future::pending().await
    })
    .await;
    let cluster = Cluster::with(1, |config| {
        config.origin.response_timeout = Duration::from_millis(200);
    })
    .await;
    let url = origin.url("/thinks");
    let sent = cluster.nodes[0].fetch_with_body(post(&url), whole("all of it"));
    let error = sent.await.expect_err("no answer").to_string();
    assert_eq!(error, "origin did not answer within 200 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_origin_has_read_is_never_sent_again() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    for is_post in [true, false] {
        let origin = Closing::start(1, true).await;
        fetch(node, get(&origin.url("/kept")))
            .await
            .expect("the connection is kept");
        let answer = if is_post {
            let sent = node.fetch_with_body(post(&origin.url("/once")), whole("once"));
            sent.await.map(|_| ()).map_err(|error| error.to_string())
        } else {
            fetch(node, get(&origin.url("/once"))).await.map(|_| ())
        };
        let error = answer.expect_err("it closed in place of an answer");
        assert!(error.starts_with("origin: "), "{error}");
        assert_eq!(origin.seen(), 2, "one kept it open, one was read once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_died_costs_nobody_an_error() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let origin = Closing::start(1, false).await;
    for n in 0..50 {
        let answer = fetch(node, get(&origin.url(&format!("/{n}")))).await;
        assert_eq!(answer.expect("on a new connection").body(), "body");
        eventually("it closed", || {
            origin.closed.load(Ordering::SeqCst) == n + 1
        })
        .await;
    }
    assert_eq!(origin.seen(), 50);
}

/// An origin that answers with what it was sent: the method, how the body was framed, and the body.
async fn telling() -> Origin {
    Origin::start(|request| async {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let told = |name| {
            head.headers
                .get(name)
                .map_or("-", |v| v.to_str().expect("text"))
        };
        let framed = (told("content-length"), told("transfer-encoding"));
        let text = format!("{} {} {} {}", head.method, framed.0, framed.1, body.len());
        http::Response::new(koorde_tests::origin::whole(text))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_post_says_that_it_is_empty() {
    let (origin, cluster) = (telling().await, Cluster::start(1).await);
    for (method, told) in [
        ("POST", "POST 0 - 0"),
        ("PUT", "PUT 0 - 0"),
        ("PATCH", "PATCH 0 - 0"),
        ("DELETE", "DELETE - - 0"),
        ("GET", "GET - - 0"),
    ] {
        let mut request = get(&origin.url("/empty"));
        request.method = method.parse().expect("a method");
        request.fields.insert("content-length", 0.into());
        let answer = fetch(&cluster.nodes[0], request).await;
        assert_eq!(answer.expect("an answer").body(), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_with_a_body_of_unknown_length_reaches_the_origin_with_it() {
    let (origin, cluster) = (telling().await, Cluster::start(1).await);
    let ask = async |method: &str, body: RequestBody| {
        let mut request = get(&origin.url("/_search"));
        request.method = method.parse().expect("a method");
        let sent = cluster.nodes[0].fetch_with_body(request, body).await;
        let answer = sent.expect("an answer").into_body().collect().await;
        answer.expect("a body").to_bytes()
    };
    let unknown = || slow(3, Duration::ZERO, false);
    assert_eq!(ask("GET", unknown()).await, "GET - chunked 15");
    assert_eq!(ask("POST", unknown()).await, "POST - chunked 15");
    assert_eq!(ask("GET", whole("known")).await, "GET 5 - 5");
    assert_eq!(ask("HEAD", unknown()).await, "");
    // What follows on its connection is a request, and not taken for a body.
    assert_eq!(ask("GET", unknown()).await, "GET - chunked 15");
    // hyper drops the field where there is none of it.
    let (address, _server) = reading().await;
    let cluster = strict(address, true).await;
    let request = get("http://api.example/_search");
    let sent = cluster.nodes[0].fetch_with_body(request, unknown()).await;
    let body = sent.expect("an answer").into_body().collect().await;
    assert_eq!(body.expect("a body").to_bytes(), "piecepiecepiece");
}
