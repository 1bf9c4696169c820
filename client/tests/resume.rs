//! The sidecar dies while a body is read.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start tasks of their own, and may panic"
)]

mod support;

use http::StatusCode;
use http_body_util::BodyExt;
use koorde_client::Event;
use koorde_tests::origin::{Origin, response, stream};
use support::{client, get, raw, send, sidecar};
use tower::ServiceExt;

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
