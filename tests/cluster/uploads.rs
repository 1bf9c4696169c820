//! Requests and their bodies on the way to the origin: how long they may take, and that none is
//! sent twice.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get},
    origin::{Origin, response},
};
use libkoorde::RequestBody;
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

/// A body of `pieces`, one after each pause; behind them nothing comes, not even the end, if it
/// `stalls`.
fn slow(pieces: usize, pause: Duration, stalls: bool) -> RequestBody {
    let body = stream::unfold(0, move |sent| async move {
        tokio::time::sleep(pause).await;
        if sent == pieces && stalls {
            std::future::pending::<()>().await;
        }
        let piece = Frame::data(Bytes::from_static(b"piece"));
        (sent < pieces).then_some((Ok(piece), sent + 1))
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
    address: std::net::SocketAddr,
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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_not_a_slow_origin() {
    let origin = Origin::start(|request| async {
        let body = request.into_body().collect().await;
        let length = body.map_or(0, |body| body.to_bytes().len());
        response(if length == 50 { 200 } else { 400 }, &[], "read")
    })
    .await;
    let cluster = Cluster::with(1, |config| {
        config.origin.response_timeout = Duration::from_millis(250);
        config.origin.idle_timeout = Duration::from_millis(400);
    })
    .await;
    let node = &cluster.nodes[0];
    let body = slow(10, Duration::from_millis(60), false);
    let answer = node.fetch_with_body(post(&origin.url("/slow")), body).await;
    assert_eq!(answer.expect("600 ms of upload").status().as_u16(), 200);
    let stalls = slow(2, Duration::from_millis(10), true);
    let error = node
        .fetch_with_body(post(&origin.url("/stalls")), stalls)
        .await;
    let error = error.expect_err("nothing comes").to_string();
    assert_eq!(error, "origin did not answer within 400 ms");
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
