//! Whatever the sidecar's fault: what the origin would have answered is answered, and once.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start tasks of their own, and may panic"
)]

mod support;

use std::time::Duration;

use http::{Method, StatusCode};
use koorde_client::{CacheResult, Event, KoordeLayer, OnlyIfCached, Reason};
use koorde_tests::origin::{Origin, response};
use support::{
    client, endpoint, get, http, layer, nobody, raw, request, send, sidecar, sidecar_with,
};
use tokio::time::timeout;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit};

/// Fresh for a minute.
async fn origin() -> Origin {
    Origin::fixed(
        Duration::ZERO,
        &[("cache-control", "max-age=60")],
        "from the origin",
    )
    .await
}

#[tokio::test]
async fn the_second_request_is_answered_from_the_store() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, events) = client(&endpoint(&app));
    for (n, result) in [CacheResult::Miss, CacheResult::Hit]
        .into_iter()
        .enumerate()
    {
        let answer = send(&client, get(&origin.url("/a?b=c"))).await;
        assert_eq!(answer.body, "from the origin");
        assert_eq!(answer.result(), Some(result), "{n}");
    }
    assert_eq!(origin.count("/a?b=c"), 1);
    let events = events.lock().unwrap();
    assert!(
        matches!(&events[..], [Event::Answered(_), Event::Answered(_)]),
        "{events:?}"
    );
}

#[tokio::test]
async fn the_requests_fields_reach_the_origin_and_no_host_of_the_sidecars() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, _) = client(&endpoint(&app));
    let mut request = get(&origin.url("/"));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    request
        .headers_mut()
        .insert("accept-language", "de".parse().unwrap());
    send(&client, request).await;
    let seen = &origin.requests("/")[0];
    assert_eq!(seen["accept-language"], "de");
    assert_eq!(seen["host"], origin.address().to_string());
    assert!(
        seen["traceparent"]
            .to_str()
            .unwrap()
            .starts_with("00-0af7651916cd43dd8448eb211c80319c")
    );
}

#[tokio::test]
async fn without_a_sidecar_the_origin_is_asked_and_the_breaker_opens_after_three() {
    let origin = origin().await;
    let (client, events) = client(&nobody());
    for n in 1..=20 {
        let answer = send(&client, get(&origin.url("/"))).await;
        assert_eq!(answer.body, "from the origin");
        let why = if n <= 3 {
            "unreachable"
        } else {
            "breaker-open"
        };
        assert_eq!(answer.why(), why, "{n}");
    }
    assert_eq!(origin.count("/"), 20);
    let opened = |event: &&Event| **event == Event::BreakerOpened;
    assert_eq!(events.lock().unwrap().iter().filter(opened).count(), 1);
}

#[tokio::test]
async fn a_sidecar_that_comes_back_is_used_again() {
    let (origin, app) = (origin().await, sidecar().await);
    let address = app.addresses().http;
    // Somebody else at first: a server that knows nothing of koorde is as bad as none.
    let other = Origin::fixed(Duration::ZERO, &[], "somebody else").await;
    let to = std::sync::Arc::new(std::sync::Mutex::new(other.address()));
    let switch = std::sync::Arc::clone(&to);
    let endpoint = proxy(move || *switch.lock().unwrap()).await;
    let (client, events) = client(&endpoint);
    for _ in 0..4 {
        send(&client, get(&origin.url("/"))).await;
    }
    *to.lock().unwrap() = address;
    let back = async {
        while send(&client, get(&origin.url("/"))).await.result() != Some(CacheResult::Hit) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(support::SOON, back)
        .await
        .expect("it is used again");
    assert!(events.lock().unwrap().contains(&Event::BreakerClosed));
}

/// Passes connections on to wherever `to` says at that moment, one request each.
async fn proxy(to: impl Fn() -> std::net::SocketAddr + Send + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                let copied = tokio::io::copy_bidirectional(&mut from, &mut to);
                // Short, so that the client's pool does not keep to the server of before.
                let _ = tokio::time::timeout(Duration::from_millis(200), copied).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn an_answer_that_is_not_koordes_is_not_taken_for_one() {
    let origin = origin().await;
    for wrong in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"[..],
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nwrong",
        b"HTTP/1.1 200 OK\r\ncache-status: cdn; hit\r\ncontent-length: 5\r\n\r\nwrong",
    ] {
        let (client, _) = client(&raw(Some(wrong)).await);
        let answer = send(&client, get(&origin.url("/"))).await;
        assert_eq!(
            (answer.why(), &answer.body[..]),
            ("not-koorde", &b"from the origin"[..])
        );
    }
    for broken in [
        &b""[..],
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-le",
    ] {
        let (client, _) = client(&raw(Some(broken)).await);
        let answer = send(&client, get(&origin.url("/"))).await;
        assert_eq!(
            (answer.why(), &answer.body[..]),
            ("unreachable", &b"from the origin"[..])
        );
    }
}

#[tokio::test]
async fn a_failure_of_koordes_own_is_not_the_answer_and_that_of_the_origin_is() {
    // Loopback is not allowed here: the sidecar refuses what the app may well reach.
    let (origin, app) = (
        origin().await,
        sidecar_with(|s| s.egress.allow.clear()).await,
    );
    let (client, _) = client(&endpoint(&app));
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!((answer.why(), answer.status()), ("denied", StatusCode::OK));
    for word in ["overloaded", "stopping", "origin", "panic"] {
        let text = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncache-status: koorde; detail={word}\r\n\
             content-length: 0\r\n\r\n"
        );
        let server = raw(Some(Box::leak(text.into_boxed_str()).as_bytes())).await;
        let (client, _) = support::client(&server);
        let answer = send(&client, get(&origin.url("/"))).await;
        assert_eq!((answer.why(), answer.status()), (word, StatusCode::OK));
    }
    let app = sidecar().await;
    let (client, _) = support::client(&endpoint(&app));
    let failing = Origin::start(|_| async { response(503, &[], "down") }).await;
    let answer = send(&client, get(&failing.url("/"))).await;
    assert_eq!(
        (answer.status(), answer.result()),
        (StatusCode::SERVICE_UNAVAILABLE, Some(CacheResult::Miss))
    );
    assert_eq!(failing.count("/"), 1);
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_the_answer_if_the_app_wants_it_so() {
    let origin = origin().await;
    let server = raw(Some(
        b"HTTP/1.1 503 Service Unavailable\r\ncache-status: koorde; detail=overloaded\r\n\
          retry-after: 1\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let client = layer(&server).0.keep_limits(true).layer(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(origin.count("/"), 0);
}

#[tokio::test]
async fn a_sidecar_that_hangs_is_given_up_after_patience() {
    let origin = origin().await;
    let (layer, _) = layer(&raw(None).await);
    let client = layer.patience(Duration::from_millis(50)).layer(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(
        (answer.why(), &answer.body[..]),
        ("unresponsive", &b"from the origin"[..])
    );
}

#[tokio::test]
async fn a_slow_origin_is_not_taken_for_a_slow_sidecar() {
    let delay = Duration::from_millis(400);
    let origin = Origin::fixed(delay, &[("cache-control", "max-age=60")], "late").await;
    let app = sidecar().await;
    let (layer, _) = layer(&endpoint(&app));
    let client = layer.patience(Duration::from_millis(30)).layer(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(answer.result(), Some(CacheResult::Miss));
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn a_bounded_inner_service_is_never_waited_for_by_itself() {
    let origin = origin().await;
    let (layer, _) = layer(&raw(None).await);
    let client = ServiceBuilder::new()
        .layer(layer.patience(Duration::from_millis(30)))
        .concurrency_limit(1)
        .service(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(
        (answer.why(), &answer.body[..]),
        ("busy", &b"from the origin"[..])
    );
}

#[tokio::test]
async fn an_unsafe_request_never_meets_the_sidecar_and_is_sent_once() {
    let origin = origin().await;
    let (client, _) = client(&raw(None).await);
    let answer = send(&client, request(Method::POST, &origin.url("/"))).await;
    assert_eq!((answer.status(), answer.said()), (StatusCode::OK, None));
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn what_is_only_wanted_from_the_store_never_reaches_the_origin() {
    let (origin, app) = (origin().await, sidecar().await);
    for endpoint in [endpoint(&app), nobody()] {
        let (client, _) = client(&endpoint);
        for _ in 0..5 {
            let mut request = get(&origin.url("/"));
            request.extensions_mut().insert(OnlyIfCached);
            let answer = send(&client, request).await;
            assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(answer.result(), Some(CacheResult::NotStored));
        }
    }
    assert_eq!(origin.count("/"), 0);
}

#[tokio::test]
async fn without_an_endpoint_everything_goes_past_koorde() {
    let origin = origin().await;
    let client = KoordeLayer::from_env().layer(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!((answer.status(), answer.said()), (StatusCode::OK, None));
}

#[tokio::test]
async fn the_origins_failure_is_the_inner_services_own_error() {
    let (client, _) = client(&nobody());
    let error = tower::ServiceExt::oneshot(client, get(&format!("{}/", nobody()))).await;
    let error: support::HttpError = error.expect_err("nobody answers");
    assert!(error.is_connect());
}

#[tokio::test]
async fn a_refusal_says_why_in_the_event() {
    let origin = origin().await;
    let (client, events) = client(&nobody());
    send(&client, get(&origin.url("/"))).await;
    let events = events.lock().unwrap();
    assert_eq!(events[..], [Event::FailedOpen(Reason::Unreachable)]);
}

/// A clone of the service may be waiting for that place.
#[tokio::test]
async fn an_answer_that_asks_nobody_keeps_no_place_in_the_inner_service() {
    let (beside, _) = layer(&nobody());
    let alone = KoordeLayer::from_env();
    for layer in [alone, beside] {
        let mut client = layer.layer(ConcurrencyLimit::new(http(), 1));
        // More than it takes for the breaker to open.
        for _ in 0..10 {
            let mut request = get("http://a.example/");
            request.extensions_mut().insert(OnlyIfCached);
            let ready = client.ready().await.expect("it has a place");
            let answer = ready.call(request).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
            let mut other = client.clone();
            let place = timeout(Duration::from_secs(10), other.ready());
            place.await.expect("the place is free").expect("ready");
        }
    }
}
