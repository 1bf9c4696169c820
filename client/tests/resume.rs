//! The sidecar dies while a body is read.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start tasks of their own, and may panic"
)]

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::StatusCode;
use http_body_util::BodyExt;
use koorde_client::Event;
use koorde_tests::origin::{Origin, response, stream};
use support::{client, eventually, get, http, layer, raw, send, sidecar};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Layer, ServiceExt};

const HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncache-status: koorde; hit\r\netag: \"1\"\r\n\
    content-length: 10\r\n\r\n01234";

async fn origin(etag: &'static str, body: &'static str) -> Origin {
    Origin::start(move |_| async move { response(200, &[("etag", etag)], body) }).await
}

#[tokio::test]
async fn a_body_that_breaks_off_goes_on_from_the_origin() {
    let origin = origin("\"1\"", "0123456789").await;
    let (client, events) = client(&raw(Some(HALF)).await);
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(
        (answer.status(), &answer.body[..]),
        (StatusCode::OK, &b"0123456789"[..])
    );
    assert_eq!(origin.count("/"), 1);
    assert!(events.lock().unwrap().contains(&Event::Resumed { at: 5 }));
}

#[tokio::test]
async fn a_body_that_stands_still_goes_on_from_the_origin_if_the_sidecar_does_not_answer() {
    let origin = origin("\"1\"", "0123456789").await;
    let sidecar = stuck(HALF, None).await;
    let (layer, events) = layer(&sidecar);
    let client = layer.patience(Duration::from_millis(50)).layer(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(&answer.body[..], b"0123456789");
    assert_eq!(origin.count("/"), 1);
    assert!(events.lock().unwrap().contains(&Event::Resumed { at: 5 }));
}

#[tokio::test]
async fn a_body_that_stands_still_is_waited_for_while_the_sidecar_is_alive() {
    let origin = origin("\"1\"", "0123456789").await;
    let alive = AtomicUsize::new(0);
    let alive: &_ = Box::leak(Box::new(alive));
    let sidecar = stuck(HALF, Some(alive)).await;
    let (layer, _) = layer(&sidecar);
    let client = layer.patience(Duration::from_millis(20)).layer(http());
    let response = client.oneshot(get(&origin.url("/"))).await.expect("a head");
    let reading = tokio::spawn(response.into_body().collect());
    eventually(|| async { (alive.load(Ordering::SeqCst) > 3).then_some(()) }).await;
    assert!(!reading.is_finished());
    assert_eq!(origin.count("/"), 0);
    reading.abort();
}

/// A sidecar that sends `half` of an answer, and no more. `/livez` is answered, and counted, if that
/// is wished for; else as little as anything.
async fn stuck(half: &'static [u8], alive: Option<&'static AtomicUsize>) -> String {
    const LIVE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut open = Vec::new();
        let mut is_first = true;
        while let Ok((mut stream, _)) = listener.accept().await {
            if is_first {
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(half).await.expect("it reads");
                is_first = false;
                open.push(stream);
            } else if let Some(alive) = alive {
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                        alive.fetch_add(1, Ordering::SeqCst);
                        stream.write_all(LIVE).await.expect("it reads");
                    }
                });
            } else {
                open.push(stream);
            }
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn another_body_is_never_glued_on() {
    for (etag, body) in [
        ("\"2\"", "0123456789"),
        ("\"1\"", "0123X56789"),
        ("\"1\"", "0123456789A"),
        ("\"1\"", "0123"),
    ] {
        let origin = origin(etag, body).await;
        let (client, events) = client(&raw(Some(HALF)).await);
        let response = client.oneshot(get(&origin.url("/"))).await.expect("a head");
        let read = response.into_body().collect().await;
        assert!(read.is_err(), "{etag} {body}");
        let resumed = |event: &Event| matches!(event, Event::Resumed { .. });
        assert!(!events.lock().unwrap().iter().any(resumed), "{etag} {body}");
    }
}

#[tokio::test]
async fn a_length_or_a_date_alone_does_not_tell_two_versions_apart() {
    for field in [
        "last-modified: Mon, 01 Jan 2024 00:00:00 GMT",
        "etag: W/\"1\"",
    ] {
        for (read, goes_on) in [("01234", false), ("", true)] {
            let text = format!(
                "HTTP/1.1 200 OK\r\ncache-status: koorde; hit\r\n{field}\r\n\
                 content-length: 10\r\n\r\n{read}"
            );
            let (name, value) = field.split_once(": ").unwrap();
            let fields: &[_] = Box::leak(Box::new([(name, value)]));
            let origin =
                Origin::start(move |_| async move { response(200, fields, "0123456789") }).await;
            let (client, _) = client(&raw(Some(Box::leak(text.into_boxed_str()).as_bytes())).await);
            let response = client.oneshot(get(&origin.url("/"))).await.expect("a head");
            let is_whole = response.into_body().collect().await.is_ok();
            assert_eq!(
                (is_whole, origin.count("/")),
                (goes_on, goes_on.into()),
                "{field} {read:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_of_which_nothing_tells_two_versions_apart_does_not_go_on() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ncache-status: koorde; hit\r\n\
        transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n";
    let origin = origin("\"1\"", "0123456789").await;
    let (client, _) = client(&raw(Some(CHUNKED)).await);
    let response = client.oneshot(get(&origin.url("/"))).await.expect("a head");
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(origin.count("/"), 0);
}

#[tokio::test]
async fn a_large_body_survives_the_end_of_a_real_sidecar() {
    // 64 MiB: far more than all buffers between.
    let origin = Origin::start(|_| async {
        let mut whole = response(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"1\"")],
            "",
        );
        *whole.body_mut() = stream(1024, 64 << 10, false);
        whole
    })
    .await;
    let app = sidecar().await;
    let (client, events) = client(&support::endpoint(&app));
    let response = client.oneshot(get(&origin.url("/"))).await.expect("a head");
    let mut body = response.into_body();
    let mut read = 0;
    while read < 1 << 20 {
        let frame = body.frame().await.expect("more").expect("no error");
        read += frame.into_data().expect("data").len();
    }
    app.shutdown().await;
    while let Some(frame) = body.frame().await {
        read += frame.expect("it goes on").into_data().expect("data").len();
    }
    assert_eq!(read, 64 << 20);
    let resumed = |event: &Event| matches!(event, Event::Resumed { .. });
    assert!(events.lock().unwrap().iter().any(resumed));
}
