//! Every door, with a real origin behind it.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use koorde_sidecar::{app::App, settings::Settings};
use libkoorde::config::{ByteSize, RouteConfig, UpstreamConfig};
use support::{
    Answer, SOON,
    echo::{Echo, ask, ask_h2, exchange, nothing, request, status},
    encode, settings, start,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A process whose routes lead `origin`'s own host, and `/files` of any other, to it.
async fn app(origin: &Echo, change: impl FnOnce(&mut Settings)) -> App {
    let mut settings = settings();
    let upstream = UpstreamConfig {
        servers: vec![origin.url("")],
        ..UpstreamConfig::default()
    };
    settings.upstreams.insert("origin".to_owned(), upstream);
    let route = |host: Option<String>, prefix: &str| RouteConfig {
        host,
        prefix: prefix.to_owned(),
        upstream: Some("origin".to_owned()),
        ..RouteConfig::default()
    };
    settings.routes = vec![
        route(Some(origin.address.to_string()), "/"),
        route(None, "/files"),
    ];
    change(&mut settings);
    start(settings).await
}

/// How a path of the origin is asked for through each door: name, request target, Host.
fn doors(origin: &Echo, path: &str) -> [(&'static str, String, String); 4] {
    let url = origin.url(path);
    let here = "koorde.example".to_owned();
    [
        (
            "/cache",
            format!("/cache?url={}", encode(&url)),
            here.clone(),
        ),
        ("path", format!("/{url}"), here.clone()),
        ("forward", url, here),
        ("reverse", path.to_owned(), origin.address.to_string()),
    ]
}

async fn get(address: SocketAddr, target: &str, host: &str) -> Answer {
    let request = request("GET", target, host).body(nothing());
    ask(address, request.expect("a well-formed request")).await
}

#[tokio::test]
async fn every_door_leads_to_the_same_stored_response() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let path = "/page?a=%2F&b=c+d&&e=%20&f='x'&g={h:[1|2]}&i=%zz&j=http://k/?l";
    for (n, (door, target, host)) in doors(&origin, path).into_iter().enumerate() {
        let answer = get(app.addresses().http, &target, &host).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status(200), path),
            "{door}"
        );
        let expected = if n == 0 { "MISS-ORIGIN" } else { "HIT-LOCAL" };
        assert_eq!(answer.field("x-cache"), expected, "{door}");
        assert!(
            answer.field("cache-status").starts_with("koorde; "),
            "{door}: {answer:?}"
        );
    }
    assert_eq!(origin.asked(), [format!("GET {path}")]);
    let files = get(app.addresses().http, "/files/x?y", "koorde.example").await;
    assert_eq!(
        (files.status, files.body.as_str()),
        (status(200), "/files/x?y")
    );
    app.shutdown().await;
}

#[tokio::test]
async fn any_method_passes_through_every_door() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    for (door, target, host) in doors(&origin, "/any") {
        for method in [
            "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "M-SEARCH",
        ] {
            let request = request(method, &target, &host).body(nothing());
            let answer = ask(
                app.addresses().http,
                request.expect("a well-formed request"),
            )
            .await;
            assert_eq!(answer.status, status(200), "{door} {method}: {answer:?}");
            assert_eq!(answer.field("x-method"), method, "{door}");
            assert!(
                answer.field("cache-status").starts_with("koorde; "),
                "{door}: {answer:?}"
            );
            let body = if method == "HEAD" { "" } else { "/any" };
            assert_eq!(answer.body, body, "{door} {method}");
        }
    }
    app.shutdown().await;
}

#[tokio::test]
async fn a_body_of_five_mebibytes_passes_through_every_door_in_both_directions() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let body: Bytes = (0..5 << 20).map(|n| b'a' + (n % 23) as u8).collect();
    for (door, target, host) in doors(&origin, "/echo") {
        let request = request("POST", &target, &host).body(Full::new(body.clone()));
        let answer = ask(
            app.addresses().http,
            request.expect("a well-formed request"),
        )
        .await;
        assert_eq!(answer.status, status(200), "{door}");
        assert!(
            answer.body.as_bytes() == body,
            "{door}: {} bytes",
            answer.body.len()
        );
    }
    let over_h2 = Request::post(format!("http://{}/echo", origin.address));
    let over_h2 = over_h2
        .body(Full::new(body.clone()))
        .expect("a well-formed request");
    let answer = ask_h2(app.addresses().http, over_h2).await;
    assert!(answer.body.as_bytes() == body, "h2: {answer:.200?}");
    app.shutdown().await;
}

#[tokio::test]
async fn any_status_and_every_line_of_a_field_come_back() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    for code in [200, 299, 301, 404, 418, 503, 599, 799, 999] {
        for (door, target, host) in doors(&origin, &format!("/status/{code}")) {
            let answer = get(app.addresses().http, &target, &host).await;
            assert_eq!(answer.status, status(code), "{door}");
        }
    }
    for (door, target, host) in doors(&origin, "/lines") {
        let answer = get(app.addresses().http, &target, &host).await;
        let lines: Vec<_> = answer.fields.get_all("x-lines").iter().collect();
        assert_eq!(lines, ["a, b", "c"], "{door}");
        assert_eq!(answer.fields.get_all("link").iter().count(), 2, "{door}");
    }
    app.shutdown().await;
}

#[tokio::test]
async fn the_clients_fields_reach_the_origin_and_those_of_its_connection_do_not() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    for (door, target, host) in doors(&origin, "/echo/fields") {
        let request = request("POST", &target, &host)
            .header("x-unknown", "1")
            .header("x-unknown", "2")
            .header("upgrade", "websocket")
            .header("connection", "upgrade, x-hop")
            .header("x-hop", "1")
            .header("proxy-authorization", "Basic eDp5")
            .body(Full::new(Bytes::from_static(b"body")))
            .expect("a well-formed request");
        ask(app.addresses().http, request).await;
        let seen = origin.seen().pop().expect("the origin was asked");
        assert_eq!(seen.body, "body", "{door}");
        assert_eq!(seen.fields.get_all("x-unknown").iter().count(), 2, "{door}");
        assert_eq!(seen.fields["host"], origin.address.to_string(), "{door}");
        for name in ["upgrade", "x-hop", "proxy-authorization"] {
            assert!(!seen.fields.contains_key(name), "{door}: {name}");
        }
    }
    app.shutdown().await;
}

#[tokio::test]
async fn what_the_guard_refuses_is_403_at_every_door_that_names_a_host() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let url = "http://169.254.169.254/latest";
    for target in [
        format!("/cache?url={url}"),
        format!("/{url}"),
        url.to_owned(),
    ] {
        let answer = get(app.addresses().http, &target, "koorde.example").await;
        assert_eq!(answer.status, status(403), "{target}");
        assert_eq!(answer.field("cache-status"), "koorde; detail=denied");
    }
    // A proxy that is asked for itself.
    let own = format!("http://{}/livez", app.addresses().http);
    let answer = get(app.addresses().http, &own, "koorde.example").await;
    assert_eq!(answer.status, status(403));
    app.shutdown().await;
}

#[tokio::test]
async fn pages_of_other_sites_are_sandboxed_where_they_seem_to_be_ours() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    for (path, active) in [
        ("/type/text/html", true),
        ("/type/image/svg+xml", true),
        ("/untyped", true),
        ("/type/text/plain", false),
    ] {
        for (door, target, host) in doors(&origin, path) {
            let answer = get(app.addresses().http, &target, &host).await;
            let expected = active && matches!(door, "/cache" | "path");
            let policy = answer.field("content-security-policy");
            assert_eq!(policy == "sandbox", expected, "{door} {path}: {answer:?}");
            assert_eq!(
                answer.field("x-content-type-options") == "nosniff",
                expected
            );
            let added = answer.field("koorde-added");
            let all = "content-security-policy, x-content-type-options";
            assert_eq!(added, if expected { all } else { "" }, "{door} {path}");
        }
    }
    app.shutdown().await;
    let open = self::app(&origin, |settings| settings.http.sandbox = false).await;
    let target = format!("/{}", origin.url("/type/text/html"));
    let answer = get(open.addresses().http, &target, "koorde.example").await;
    assert_eq!(answer.field("content-security-policy"), "");
    open.shutdown().await;
}

#[tokio::test]
async fn options_of_everything_and_the_last_hop_of_a_trace_are_answered_here() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let address = app.addresses().http;
    let options = request("OPTIONS", "*", "koorde.example").body(nothing());
    let answer = ask(address, options.expect("a well-formed request")).await;
    assert_eq!(answer.status, status(204));
    assert!(answer.field("allow").contains("TRACE"), "{answer:?}");
    assert!(!answer.field("allow").contains("CONNECT"), "{answer:?}");
    let url = origin.url("/traced");
    let trace = |hops: &str| {
        request("TRACE", &url, "koorde.example")
            .header("max-forwards", hops)
            .header("cookie", "secret=1")
            .header("x-seen", "yes")
            .body(nothing())
            .expect("a well-formed request")
    };
    let answer = ask(address, trace("0")).await;
    assert_eq!(
        (answer.status, answer.field("content-type")),
        (status(200), "message/http")
    );
    assert!(
        answer
            .body
            .starts_with(&format!("TRACE {url} HTTP/1.1\r\n")),
        "{answer:?}"
    );
    assert!(answer.body.contains("x-seen: yes") && !answer.body.contains("secret"));
    assert!(origin.seen().is_empty());
    let answer = ask(address, trace("2")).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (status(200), "/traced")
    );
    assert_eq!(origin.seen()[0].fields["max-forwards"], "1");
    app.shutdown().await;
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_413_and_its_beginning_is_no_request() {
    let origin = Echo::start().await;
    let app = app(&origin, |settings| {
        settings.http.max_body = ByteSize::kib(64)
    })
    .await;
    let url = origin.url("/echo");
    for (chunked, door) in [(false, &url), (true, &url)] {
        let mut stream = TcpStream::connect(app.addresses().http)
            .await
            .expect("it listens");
        let size = 8 << 20;
        let framing = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {size}")
        };
        let head = format!("POST {door} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        let (mut reader, mut writer) = stream.into_split();
        // All of it is sent, whatever comes back: the answer must not be lost in a reset.
        let sent = tokio::spawn(async move {
            let piece = vec![b'x'; 64 << 10];
            for _ in 0..size / piece.len() {
                if chunked && writer.write_all(b"10000\r\n").await.is_err() {
                    break;
                }
                if writer.write_all(&piece).await.is_err() {
                    break;
                }
                if chunked && writer.write_all(b"\r\n").await.is_err() {
                    break;
                }
            }
            writer
        });
        let mut text = String::new();
        let read = tokio::time::timeout(SOON, reader.read_to_string(&mut text)).await;
        let _ = read.expect("the connection is closed");
        assert!(
            text.starts_with("HTTP/1.1 413 "),
            "chunked: {chunked}: {text:?}"
        );
        assert!(
            text.contains("cache-status: koorde; detail=body-too-large"),
            "{text}"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
        let _ = sent.await;
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.asked());
    app.shutdown().await;
}

#[tokio::test]
async fn a_client_that_goes_on_sending_after_its_answer_is_not_reset() {
    let origin = Echo::start().await;
    let app = app(&origin, |settings| {
        settings.http.max_body = ByteSize::kib(64)
    })
    .await;
    let mut stream = TcpStream::connect(app.addresses().http)
        .await
        .expect("it listens");
    let url = origin.url("/echo");
    let head = format!("POST {url} HTTP/1.1\r\nhost: a\r\ncontent-length: 8388608\r\n\r\n");
    let piece = vec![b'x'; 256 << 10];
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream.write_all(&piece).await.expect("it reads");
    let mut text = String::new();
    let read = tokio::time::timeout(SOON, stream.read_to_string(&mut text)).await;
    read.expect("the answer ends").expect("in order");
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    for _ in 0..8 {
        stream.write_all(&piece).await.expect("it still reads");
    }
    app.shutdown().await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_408() {
    let origin = Echo::start().await;
    let app = app(&origin, |settings| {
        settings.http.body_timeout = Duration::from_millis(300);
        settings.origin.idle_timeout = Duration::from_millis(100);
    })
    .await;
    let url = origin.url("/echo");
    for came in ["half", ""] {
        let bytes = format!("POST {url} HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{came}");
        let (text, closed) = exchange(app.addresses().http, bytes.as_bytes(), 10_000).await;
        assert!(text.starts_with("HTTP/1.1 408 ") && closed, "{text}");
        assert!(text.contains("connection: close"), "{text}");
    }
    assert!(origin.seen().is_empty());
    app.shutdown().await;
}

#[tokio::test]
async fn who_expects_a_100_gets_one_before_the_body_is_sent() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let mut stream = TcpStream::connect(app.addresses().http)
        .await
        .expect("it listens");
    let url = origin.url("/echo");
    let head = format!(
        "POST {url} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut buffer = vec![0; 4096];
    let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await;
    let count = read.expect("an answer").expect("an open connection");
    assert_eq!(&buffer[..count], b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.expect("it reads");
    let mut text = String::new();
    while !text.ends_with("hello") {
        let read = tokio::time::timeout(SOON, stream.read(&mut buffer)).await;
        let count = read.expect("an answer").expect("an open connection");
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    app.shutdown().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let host = origin.address;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let post = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 6\r\n\r\nposted")
    };
    let last = format!("GET /last HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let all = [get("/one"), post("/echo"), get("/one"), get("/livez"), last].concat();
    let (text, closed) = exchange(app.addresses().http, all.as_bytes(), 10_000).await;
    let bodies: Vec<_> = text
        .split("HTTP/1.1 200 OK\r\n")
        .skip(1)
        .filter_map(|one| one.split_once("\r\n\r\n"))
        .map(|(_, body)| body)
        .collect();
    // `/livez` belongs to the route's host here, not to us.
    assert_eq!(
        bodies,
        ["/one", "posted", "/one", "/livez", "/last"],
        "{text}"
    );
    assert!(closed);
    app.shutdown().await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_drained_or_ends_its_connection() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| {}).await;
    let small = "POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /\
        GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let (text, closed) = exchange(app.addresses().http, small.as_bytes(), 10_000).await;
    assert!(text.starts_with("HTTP/1.1 404 ") && closed, "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{text}");
    assert!(text.ends_with("alive\n"), "{text}");

    let large = format!(
        "POST /nothing HTTP/1.1\r\nhost: a\r\ncontent-length: 4194304\r\n\r\n{}GET /livez HTTP/1.1\r\nhost: a\r\n\r\n",
        "x".repeat(4 << 20)
    );
    let (text, closed) = exchange(app.addresses().http, large.as_bytes(), 10_000).await;
    assert!(text.starts_with("HTTP/1.1 404 ") && closed, "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    app.shutdown().await;
}

#[tokio::test]
async fn a_relative_location_leads_to_its_own_host_and_not_to_ours() {
    let origin = Echo::start().await;
    let app = app(&origin, |_| ()).await;
    let (address, url) = (app.addresses().http, origin.url("/moved"));
    let there = origin.url("/there?x#y");
    for (target, host, location) in [
        (format!("/cache?url={}", encode(&url)), "k", there.as_str()),
        (format!("/{url}"), "k", there.as_str()),
        // Whom the client takes for the origin, or for its proxy, says it as the origin does.
        (url.clone(), "k", "/there?x#y"),
        (
            "/moved".to_owned(),
            &origin.address.to_string(),
            "/there?x#y",
        ),
    ] {
        let asked = request("GET", &target, host).body(nothing());
        let answer = ask(address, asked.expect("a well-formed request")).await;
        assert_eq!(answer.field("location"), location, "{target}");
        let is_ours = location.starts_with("http");
        let here = if is_ours {
            origin.url("/here")
        } else {
            "here".to_owned()
        };
        assert_eq!(answer.field("content-location"), here, "{target}");
    }
    app.shutdown().await;
}
