//! Interim responses of a real origin, as a raw client sees them come.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::{net::SocketAddr, time::Duration};

use support::{
    SOON,
    echo::{ask_h2, exchange, nothing},
    settings, start,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

/// How long the origin takes between its interim responses and the final one.
const PAUSE: Duration = Duration::from_millis(300);

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n";

/// An origin that says `interims` at once and the rest after [`PAUSE`].
async fn origin(interims: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let interims = interims.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(interims.as_bytes()).await;
                    sleep(PAUSE).await;
                    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncache-control: max-age=60\r\n\r\nok";
                    let _ = stream.write_all(last.as_bytes()).await;
                }
            });
        }
    });
    address
}

async fn read(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 64 << 10];
    let read = timeout(SOON, stream.read(&mut buffer)).await;
    let count = read.expect("bytes in time").expect("an open connection");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[tokio::test]
async fn interim_responses_reach_the_client_before_the_origin_has_its_answer() {
    let processing = "HTTP/1.1 102 Processing\r\n\r\n";
    let origin = origin(format!("{processing}{HINTS}")).await;
    let app = start(settings()).await;
    for method in ["GET", "POST"] {
        let mut stream = TcpStream::connect(app.addresses().http)
            .await
            .expect("it listens");
        let head = format!("{method} http://{origin}/{method} HTTP/1.1\r\nhost: a\r\n\r\n");
        let began = Instant::now();
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        while !text.ends_with(HINTS) {
            text.push_str(&read(&mut stream).await);
            assert!(!text.contains("200 OK"), "{method}: {text}");
        }
        let early = began.elapsed();
        assert_eq!(text, format!("{processing}{HINTS}"), "{method}");
        let text = read(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{method}: {text}");
        assert!(
            early < PAUSE && began.elapsed() >= PAUSE,
            "{method}: {early:?}"
        );
    }
    // Stored is the final response alone.
    let again = format!("GET http://{origin}/GET HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let (text, _) = exchange(app.addresses().http, again.as_bytes(), 5_000).await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("HIT-LOCAL"),
        "{text}"
    );
    app.shutdown().await;
}

#[tokio::test]
async fn pipelined_requests_keep_each_its_own_interim_responses() {
    let origin = origin(HINTS.to_owned()).await;
    let app = start(settings()).await;
    let get = |path: &str, more: &str| {
        format!("GET http://{origin}{path} HTTP/1.1\r\nhost: a\r\n{more}\r\n")
    };
    let bytes = [
        get("/one", ""),
        "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        get("/two", ""),
        get("/one", "connection: close\r\n"),
    ]
    .concat();
    let (text, closed) = exchange(app.addresses().http, bytes.as_bytes(), 5_000).await;
    let heads: Vec<_> = text
        .match_indices("HTTP/1.1 ")
        .map(|(at, start)| &text[at + start.len()..][..3])
        .collect();
    assert_eq!(heads, ["103", "200", "200", "103", "200", "200"], "{text}");
    assert!(closed);
    app.shutdown().await;
}

#[tokio::test]
async fn http10_and_http2_clients_get_the_final_response_only() {
    let origin = origin(HINTS.to_owned()).await;
    let app = start(settings()).await;
    let old = format!("GET http://{origin}/ HTTP/1.0\r\nhost: a\r\n\r\n");
    let (text, closed) = exchange(app.addresses().http, old.as_bytes(), 5_000).await;
    assert!(text.starts_with("HTTP/1.0 200 OK\r\n") && closed, "{text}");
    let url = format!("http://a/http://{origin}/h2");
    let request = http::Request::get(url).body(nothing());
    let answer = ask_h2(
        app.addresses().http,
        request.expect("a well-formed request"),
    )
    .await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
    app.shutdown().await;
}

#[tokio::test]
async fn interim_responses_are_bounded_and_change_no_protocol() {
    let one = "HTTP/1.1 103 Early Hints\r\nx: 1\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 7\r\n\r\n";
    let origin = origin(one.repeat(40)).await;
    let app = start(settings()).await;
    let get = format!("GET http://{origin}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let (text, _) = exchange(app.addresses().http, get.as_bytes(), 5_000).await;
    let sent = "HTTP/1.1 103 Early Hints\r\nx: 1\r\n\r\n";
    assert!(text.starts_with(&sent.repeat(16)), "{text}");
    assert_eq!(text.matches("HTTP/1.1 103").count(), 16, "{text}");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 1, "{text}");
    app.shutdown().await;
}

#[tokio::test]
async fn an_origin_that_switches_protocols_unasked_is_502() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    let origin = origin(switch.to_owned()).await;
    let app = start(settings()).await;
    let get = format!("GET http://{origin}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let (text, _) = exchange(app.addresses().http, get.as_bytes(), 5_000).await;
    assert!(text.starts_with("HTTP/1.1 502 "), "{text}");
    app.shutdown().await;
}
