//! CONNECT: off, on, refused, bounded.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::{net::SocketAddr, time::Duration};

use koorde_sidecar::{app::App, settings::Settings};
use support::{
    Client, SOON,
    echo::{Echo, ask_h2, exchange, nothing},
    settings, start,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn app(change: impl FnOnce(&mut Settings)) -> App {
    let mut settings = settings();
    settings.http.connect = true;
    change(&mut settings);
    start(settings).await
}

/// A server that is no HTTP: it greets, and sends back what it gets in upper case.
async fn shouter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                let _ = stream.write_all(b"HI ").await;
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let shouted = buffer[..count].to_ascii_uppercase();
                    if stream.write_all(&shouted).await.is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b" BYE").await;
            });
        }
    });
    address
}

async fn until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.ends_with(end) {
        let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await;
        let count = read.expect("bytes in time").expect("an open connection");
        assert!(count > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

/// A connection that has asked for a tunnel, and the first bytes for it behind the request.
async fn connect(app: &App, to: SocketAddr, first: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.addresses().http)
        .await
        .expect("it listens");
    let head = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n{first}");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

async fn metric(app: &App, name: &str) -> String {
    let url = format!("http://{}/metrics/prometheus", app.addresses().admin);
    let text = Client::default().get(&url).await.body;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.next().unwrap_or_default().trim().to_owned()
}

#[tokio::test]
async fn a_tunnel_carries_any_bytes_both_ways_and_ends_with_them() {
    let (app, to) = (app(|_| {}).await, shouter().await);
    // The first bytes may come before the answer.
    let mut stream = connect(&app, to, "early ").await;
    let text = until(&mut stream, "HI EARLY ").await;
    let (head, _) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        !head.contains("content-length") && !head.contains("transfer-encoding"),
        "{head}"
    );
    assert!(
        head.contains("cache-status: koorde; fwd=method; detail=tunnel"),
        "{head}"
    );
    assert_eq!(metric(&app, "koorde_http_tunnels").await, "1");
    let large = "x".repeat(1 << 20);
    let (mut reader, mut writer) = stream.into_split();
    let sent = tokio::spawn(async move {
        writer.write_all(large.as_bytes()).await.expect("it reads");
        writer.shutdown().await.expect("it is open");
    });
    let mut rest = String::new();
    let read = tokio::time::timeout(SOON, reader.read_to_string(&mut rest)).await;
    read.expect("an end").expect("in order");
    assert_eq!(rest.len(), (1 << 20) + 4);
    assert!(rest.ends_with("X BYE"));
    sent.await.expect("no panic");
    assert_eq!(metric(&app, "koorde_http_tunnels").await, "0");
    app.shutdown().await;
}

#[tokio::test]
async fn what_a_client_sends_through_a_tunnel_arrives_although_the_other_side_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let to = listener.local_addr().expect("it is bound");
    let received = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.shutdown().await.expect("it is open");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("in order");
        all.len()
    });
    let app = app(|_| {}).await;
    let many = "x".repeat(256 << 10);
    let mut stream = connect(&app, to, &many).await;
    let mut answer = String::new();
    let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
    read.expect("the other side's end").expect("in order");
    stream.write_all(many.as_bytes()).await.expect("it is open");
    stream.shutdown().await.expect("it is open");
    assert_eq!(received.await.expect("no panic"), 2 * many.len());
    app.shutdown().await;
}

#[tokio::test]
async fn a_tunnel_is_refused_unless_it_is_configured() {
    let (app, origin) = (
        app(|settings| settings.http.connect = false).await,
        Echo::start().await,
    );
    let to = origin.address;
    // The connection stays what it was: the next request on it is one.
    let bytes = format!(
        "CONNECT {to} HTTP/1.1\r\nhost: a\r\n\r\nGET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    );
    let (text, _) = exchange(app.addresses().http, bytes.as_bytes(), 5_000).await;
    assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
    assert!(
        text.contains("allow: \r\n") && text.contains("http.connect is false"),
        "{text}"
    );
    assert!(
        text.contains("cache-status: koorde; detail=connect"),
        "{text}"
    );
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{text}");
    assert!(origin.seen().is_empty());
    app.shutdown().await;
}

#[tokio::test]
async fn a_tunnel_goes_nowhere_that_a_fetch_may_not_go() {
    let app = app(|_| {}).await;
    let addresses = app.addresses();
    for (to, code) in [
        ("169.254.169.254:80".to_owned(), 403),
        ("10.0.0.1:22".to_owned(), 403),
        (addresses.admin.to_string(), 403),
        (addresses.http.to_string(), 403),
        ("127.0.0.1:1".to_owned(), 502),
        ("127.0.0.1".to_owned(), 400),
    ] {
        let bytes = format!("CONNECT {to} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let (text, closed) = exchange(addresses.http, bytes.as_bytes(), 5_000).await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {code} ")) && closed,
            "{to}: {text}"
        );
    }
    assert_eq!(metric(&app, "koorde_http_tunnels").await, "0");
    app.shutdown().await;
}

#[tokio::test]
async fn tunnels_are_bounded_in_number_and_a_place_is_free_again() {
    let (app, to) = (
        app(|settings| settings.http.max_tunnels = 1).await,
        shouter().await,
    );
    let mut first = connect(&app, to, "").await;
    until(&mut first, "HI ").await;
    let mut second = connect(&app, to, "").await;
    let text = until(&mut second, "}\n").await;
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("http.max_tunnels"),
        "{text}"
    );
    drop((first, second));
    let free = async {
        while metric(&app, "koorde_http_tunnels").await != "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, free)
        .await
        .expect("the tunnel ends with its client");
    until(&mut connect(&app, to, "").await, "HI ").await;
    app.shutdown().await;
}

#[tokio::test]
async fn a_tunnel_that_says_nothing_is_closed() {
    let idle = Duration::from_millis(200);
    let (app, to) = (
        app(|settings| settings.http.idle_timeout = idle).await,
        shouter().await,
    );
    let mut stream = connect(&app, to, "").await;
    until(&mut stream, "HI ").await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
    let _ = end.expect("the tunnel is closed");
    let closed = r#"koorde_http_connections_closed_total{listener="http",reason="idle_timeout"}"#;
    assert_eq!(metric(&app, closed).await, "1");
    app.shutdown().await;
}

#[tokio::test]
async fn a_tunnel_over_http2_is_refused() {
    let (app, to) = (app(|_| {}).await, shouter().await);
    let request = http::Request::connect(to.to_string()).body(nothing());
    let answer = ask_h2(
        app.addresses().http,
        request.expect("a well-formed request"),
    )
    .await;
    assert_eq!(answer.status, 405);
    assert!(answer.body.contains("HTTP/1.1 only"), "{answer:?}");
    app.shutdown().await;
}
