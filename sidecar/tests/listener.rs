//! The accept loop with a service that knows no cache: bounds, timers, the way out.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use koorde_sidecar::{
    http::{HttpMetrics, Listener, ListenerName},
    settings::HttpSettings,
    shutdown::Phase,
};
use libkoorde::config::ByteSize;
use libkoorde::metrics::Book;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Longest wait for anything; what is waited for comes much sooner.
const SOON: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    metrics: Arc<HttpMetrics>,
    phase: watch::Sender<Phase>,
    ended: JoinHandle<()>,
    /// `/slow` answers once this is notified.
    go: Arc<Notify>,
}

impl Server {
    async fn start(change: impl FnOnce(&mut HttpSettings)) -> Self {
        let mut settings = HttpSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            first_byte_timeout: Duration::from_millis(400),
            header_timeout: Duration::from_millis(400),
            ..HttpSettings::default()
        };
        change(&mut settings);
        let metrics = Arc::new(HttpMetrics::new(&mut Book::default()));
        let listener = Listener::bind(ListenerName::Http, &settings, &metrics)
            .await
            .expect("a free port");
        let address = listener.address();
        let (phase, phases) = watch::channel(Phase::Serving);
        let go = Arc::new(Notify::new());
        let waiting = Arc::clone(&go);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let go = Arc::clone(&waiting);
            async move { Ok::<_, Infallible>(answer(request, &go).await) }
        });
        let ended = tokio::spawn(listener.serve(service, phases, SOON));
        Self {
            address,
            metrics,
            phase,
            ended,
            go,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("the listener accepts")
    }

    fn closed(&self, reason: &'static str) -> u64 {
        self.metrics.closed_count(ListenerName::Http, reason)
    }
}

async fn answer(request: Request<Incoming>, go: &Notify) -> Response<Body> {
    match request.uri().path() {
        "/slow" => {
            go.notified().await;
            Response::new(Full::new("late".into()).boxed_unsync())
        }
        "/endless" => Response::new(endless()),
        "/read" => {
            let read = request.into_body().collect().await.expect("a whole body");
            Response::new(Full::new(read.to_bytes()).boxed_unsync())
        }
        _ => Response::new(Full::new("hello".into()).boxed_unsync()),
    }
}

fn endless() -> Body {
    let chunk = Bytes::from(vec![0; 256 << 10]);
    let frames = futures_util::stream::repeat_with(move || Ok(Frame::data(chunk.clone())));
    StreamBody::new(frames).boxed_unsync()
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream
        .write_all(text.as_bytes())
        .await
        .expect("the connection is open");
}

/// Everything until the other side closes; an abrupt end is an end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the listener closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `end` is in it.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(end) {
        let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await;
        let count = read.expect("an answer").expect("the connection is open");
        assert!(count > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_half_open_connections_are_all_closed_while_others_are_served() {
    let server = Server::start(|_| {}).await;
    let mut half_open = Vec::new();
    for n in 0..300 {
        let mut stream = server.connect().await;
        // Nothing; a part of a head; a part of what may become HTTP/2.
        match n % 3 {
            0 => {}
            1 => send(&mut stream, "GET / HTTP/1.1\r\nhost:").await,
            _ => send(&mut stream, "PRI * HT").await,
        }
        half_open.push(stream);
    }
    let mut good = server.connect().await;
    send(&mut good, GET).await;
    assert!(until(&mut good, "hello").await.starts_with("HTTP/1.1 200"));
    for stream in &mut half_open {
        rest(stream).await;
    }
    // A client sees its connection end a moment before that is counted.
    let counted = async {
        while server.metrics.open_count(ListenerName::Http) != 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let counted = tokio::time::timeout(SOON, counted).await;
    counted.expect("one connection is left");
    let (silent, slow) = (
        server.closed("first_byte_timeout"),
        server.closed("header_timeout"),
    );
    // On a busy machine a first byte may be late, too.
    assert!(silent >= 100 && silent + slow == 300, "{silent} and {slow}");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET / HTTP/1.1\r\n").await;
    let (mut reader, mut writer) = stream.into_split();
    let trickle = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            if writer.write_all(b"a: b\r\n").await.is_err() {
                break;
            }
        }
    };
    let mut bytes = Vec::new();
    let closed = async {
        let _ = reader.read_to_end(&mut bytes).await;
    };
    tokio::select! {
        () = closed => {}
        () = trickle => {}
        () = tokio::time::sleep(SOON) => panic!("the connection is still open"),
    }
    assert_eq!(server.closed("header_timeout"), 1);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_counted() {
    let server = Server::start(|settings| {
        settings.max_connections = 2;
        settings.first_byte_timeout = SOON;
    })
    .await;
    let (mut one, _two) = (server.connect().await, server.connect().await);
    // Both are in once the second is served.
    send(&mut one, GET).await;
    until(&mut one, "hello").await;
    let mut three = server.connect().await;
    assert_eq!(rest(&mut three).await, "");
    assert_eq!(server.closed("max_connections"), 1);

    drop(one);
    let mut next = loop {
        let mut stream = server.connect().await;
        if stream.write_all(GET.as_bytes()).await.is_ok() && stream.readable().await.is_ok() {
            let mut first = [0];
            if matches!(stream.peek(&mut first).await, Ok(1)) {
                break stream;
            }
        }
    };
    until(&mut next, "hello").await;
}

#[tokio::test]
async fn one_client_cannot_take_all_connections() {
    let server = Server::start(|settings| settings.max_connections_per_client = 1).await;
    let mut one = server.connect().await;
    send(&mut one, GET).await;
    until(&mut one, "hello").await;
    assert_eq!(rest(&mut server.connect().await).await, "");
    assert_eq!(server.closed("max_connections_per_client"), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = Server::start(|settings| settings.idle_timeout = Duration::from_millis(300)).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    send(&mut idle, GET).await;
    assert!(rest(&mut idle).await.ends_with("hello"));
    assert_eq!(server.closed("idle_timeout"), 1);
    server.go.notify_one();
    until(&mut busy, "late").await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let server =
        Server::start(|settings| settings.stall_timeout = Duration::from_millis(300)).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let cut = async {
        while server.closed("stall_timeout") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, cut)
        .await
        .expect("the stalled client is cut off");
    assert_eq!(server.metrics.open_count(ListenerName::Http), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(|settings| settings.max_header_bytes = ByteSize::kib(8)).await;
    let mut stream = server.connect().await;
    let long = "x".repeat(10 << 10);
    send(
        &mut stream,
        &format!("GET / HTTP/1.1\r\nhost: a\r\nlong: {long}\r\n\r\n"),
    )
    .await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn while_draining_answers_ask_to_close_and_stopping_waits_for_what_is_under_way() {
    let server = Server::start(|_| {}).await;
    let mut kept = server.connect().await;
    send(&mut kept, GET).await;
    let answer = until(&mut kept, "hello").await;
    assert!(!answer.contains("connection: close"), "{answer}");

    server.phase.send_replace(Phase::Draining);
    send(&mut kept, GET).await;
    let answer = rest(&mut kept).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("hello"),
        "{answer}"
    );

    let mut slow = server.connect().await;
    send(&mut slow, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // The next connection is only served after the slow one was accepted.
    let mut other = server.connect().await;
    send(&mut other, GET).await;
    rest(&mut other).await;
    server.phase.send_replace(Phase::Stopping);
    server.go.notify_one();
    assert!(rest(&mut slow).await.ends_with("late"));
    tokio::time::timeout(SOON, server.ended)
        .await
        .expect("it ends")
        .expect("without a panic");
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the socket is closed"
    );
}

#[tokio::test]
async fn http2_in_clear_is_served_and_retired_by_goaway() {
    let server = Server::start(|_| {}).await;
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io)
        .await
        .expect("HTTP/2 is spoken");
    let connection = tokio::spawn(connection);
    let request = || {
        let request = Request::get("http://a/");
        request
            .body(http_body_util::Empty::<Bytes>::new())
            .expect("a well-formed request")
    };
    let response = client.send_request(request()).await.expect("an answer");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    assert_eq!(body, "hello");
    server.phase.send_replace(Phase::Draining);
    let ended = tokio::time::timeout(SOON, connection)
        .await
        .expect("GOAWAY ends the connection");
    ended.expect("without a panic").expect("in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_nobody_reads_holds_up_no_other_on_its_connection() {
    let server = Server::start(|_| {}).await;
    let io = TokioIo::new(server.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    let mut post = |path: &str, body: Body| {
        let url = format!("http://{}{path}", server.address);
        let request = Request::post(url).body(body);
        sender.send_request(request.expect("well-formed"))
    };
    let slow = tokio::spawn(post("/slow", endless()));
    // The first takes what it can get of the window, sooner or later.
    for _ in 0..100 {
        let sent = Bytes::from(vec![1; 64 << 10]);
        let body = Full::new(sent.clone()).boxed_unsync();
        let answer = tokio::time::timeout(SOON, post("/read", body)).await;
        let body = answer.expect("it is not held up").expect("an answer");
        let read = body.into_body().collect().await.expect("a whole body");
        assert_eq!(read.to_bytes(), sent);
    }
    slow.abort();
}
