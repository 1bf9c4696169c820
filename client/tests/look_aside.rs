//! koorde is asked, the app's own client makes the requests, and what comes is put.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use koorde_client::{CacheResult, Koorde, Lifetime, OnlyIfCached, Purge, PurgeError};
use koorde_tests::origin::{Origin, response, stream};
use support::{
    Http, endpoint, eventually, get, http, layer, nobody, raw, request, send, sidecar_with,
};
use tower::{Layer, ServiceExt};

/// The sidecar may reach nothing by itself: what comes was fetched by the app.
async fn sidecar() -> koorde_sidecar::app::App {
    sidecar_with(|settings| settings.egress.allow.clear()).await
}

fn client(endpoint: &str) -> Koorde<Http> {
    let layer = layer(endpoint).0.patience(Duration::from_millis(200));
    layer.look_aside().expect("no TLS").layer(http())
}

async fn origin(delay: Duration) -> Origin {
    let fields = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];
    Origin::fixed(delay, fields, "from the origin").await
}

#[tokio::test]
async fn the_app_makes_the_request_once_and_everybody_finds_what_came() {
    let (origin, app) = (origin(Duration::ZERO).await, sidecar().await);
    let (one, other) = (client(&endpoint(&app)), client(&endpoint(&app)));
    let first = send(&one, get(&origin.url("/"))).await;
    assert_eq!(
        (first.result(), &first.body[..]),
        (Some(CacheResult::Miss), &b"from the origin"[..])
    );
    for client in [one, other] {
        let found = eventually(|| async {
            let answer = send(&client, get(&origin.url("/"))).await;
            (answer.result() == Some(CacheResult::Hit)).then_some(answer)
        });
        assert_eq!(found.await.body, "from the origin");
    }
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn three_hundred_who_ask_at_once_cost_one_request() {
    let (origin, app) = (origin(Duration::from_millis(100)).await, sidecar().await);
    // Three apps: what they share is the sidecar only.
    let clients: Vec<_> = (0..3).map(|_| client(&endpoint(&app))).collect();
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..300 {
        let (client, url) = (clients[n % 3].clone(), origin.url("/"));
        asked.spawn(async move { send(&client, get(&url)).await });
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer.expect("no task panics");
        assert_eq!(
            (answer.status(), &answer.body[..]),
            (StatusCode::OK, &b"from the origin"[..])
        );
    }
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn who_gives_up_gives_the_lease_to_the_next() {
    let (origin, app) = (origin(Duration::from_millis(300)).await, sidecar().await);
    let url = origin.url("/");
    let (first, second) = (client(&endpoint(&app)), client(&endpoint(&app)));
    let (to_first, to_second) = (url.clone(), url.clone());
    let holder = tokio::spawn(async move { send(&first, get(&to_first)).await });
    origin.asked(1).await;
    let waiter = tokio::spawn(async move { send(&second, get(&to_second)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    holder.abort();
    let answer = waiter.await.expect("no panic");
    assert_eq!(
        (answer.status(), &answer.body[..]),
        (StatusCode::OK, &b"from the origin"[..])
    );
    assert_eq!(origin.count("/"), 2);
}

#[tokio::test]
async fn what_is_stale_is_validated_by_the_app_and_answered_from_the_store() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let origin = Origin::start(move |request| {
        counter.fetch_add(1, Ordering::Relaxed);
        let known = request
            .headers()
            .get("if-none-match")
            .is_some_and(|tag| tag == "\"1\"");
        async move {
            let fields = [
                ("cache-control", "max-age=0, must-revalidate"),
                ("etag", "\"1\""),
            ];
            if known {
                response(304, &fields, "")
            } else {
                response(200, &fields, "stored")
            }
        }
    })
    .await;
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    send(&client, get(&origin.url("/"))).await;
    eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        assert_eq!(
            (answer.status(), &answer.body[..]),
            (StatusCode::OK, &b"stored"[..])
        );
        (answer.result() == Some(CacheResult::Validated)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_error_is_the_apps_own_and_the_next_may_try() {
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    let url = format!("{}/", nobody());
    for _ in 0..3 {
        let asked = tokio::time::timeout(support::SOON, client.clone().oneshot(get(&url)));
        let error = asked.await.expect("in time").expect_err("nobody answers");
        assert!(error.is_connect());
    }
}

#[tokio::test]
async fn a_large_body_is_stored_while_the_app_reads_it() {
    let origin = Origin::start(|_| async {
        let mut whole = response(200, &[("cache-control", "max-age=60")], "");
        *whole.body_mut() = stream(128, 64 << 10, false);
        whole
    })
    .await;
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    let first = send(&client, get(&origin.url("/"))).await;
    assert_eq!(first.body.len(), 8 << 20);
    let found = eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(answer)
    });
    assert_eq!(found.await.body, first.body);
}

#[tokio::test]
async fn a_body_that_the_app_drops_is_stored_all_the_same() {
    let (origin, app) = (origin(Duration::ZERO).await, sidecar().await);
    let client = client(&endpoint(&app));
    drop(
        client
            .clone()
            .oneshot(get(&origin.url("/")))
            .await
            .expect("an answer"),
    );
    eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn what_may_not_be_shared_is_not() {
    let private = &[("cache-control", "private")];
    let origin = Origin::fixed(Duration::ZERO, private, "mine").await;
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    for _ in 0..3 {
        assert_eq!(send(&client, get(&origin.url("/"))).await.body, "mine");
    }
    assert_eq!(origin.count("/"), 3);
}

#[tokio::test]
async fn a_lifetime_makes_storable_what_says_nothing_of_its_own() {
    let origin = Origin::fixed(Duration::ZERO, &[], "silent").await;
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    eventually(|| async {
        let mut request = get(&origin.url("/"));
        request
            .extensions_mut()
            .insert(Lifetime(Duration::from_secs(60)));
        let answer = send(&client, request).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_unsafe_request_makes_what_is_stored_stale() {
    let (origin, app) = (origin(Duration::ZERO).await, sidecar().await);
    let client = client(&endpoint(&app));
    eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
    send(&client, request(Method::POST, &origin.url("/"))).await;
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_ne!(answer.result(), Some(CacheResult::Hit));
}

#[tokio::test]
async fn a_tag_is_purged() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("surrogate-key", "product-42"),
    ];
    let origin = Origin::fixed(Duration::ZERO, fields, "tagged").await;
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
    let receipt = client
        .purge::<Empty<Bytes>, _>(&Purge::tag("product-42").hard())
        .await;
    assert!(receipt.expect("a receipt").is_complete);
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(answer.result(), Some(CacheResult::Miss));
}

#[tokio::test]
async fn what_is_only_wanted_from_the_store_never_reaches_the_origin() {
    let (origin, app) = (origin(Duration::ZERO).await, sidecar().await);
    for endpoint in [endpoint(&app), nobody()] {
        let mut request = get(&origin.url("/"));
        request.extensions_mut().insert(OnlyIfCached);
        let answer = send(&client(&endpoint), request).await;
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(origin.count("/"), 0);
}

#[tokio::test]
async fn the_end_of_the_sidecar_fails_no_request() {
    let (origin, app) = (origin(Duration::from_millis(5)).await, sidecar().await);
    let client = client(&endpoint(&app));
    let stop = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        app.shutdown().await;
    });
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..400 {
        let (client, url) = (client.clone(), origin.url(&format!("/{}", n % 100)));
        asked.spawn(async move { send(&client, get(&url)).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer.expect("no task panics");
        assert_eq!(
            (answer.status(), &answer.body[..]),
            (StatusCode::OK, &b"from the origin"[..])
        );
    }
    stop.await.expect("it ends");
}

#[tokio::test]
async fn without_a_sidecar_the_origin_is_asked() {
    let origin = origin(Duration::ZERO).await;
    let other = Origin::fixed(Duration::ZERO, &[], "somebody else").await;
    for (endpoint, why) in [
        (nobody(), "unreachable"),
        (
            raw(Some(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await,
            "unreachable",
        ),
        (format!("http://{}", other.address()), "unreachable"),
        (raw(None).await, "unreachable"),
    ] {
        let client = client(&endpoint);
        for n in 1..=5 {
            let answer = send(&client, get(&origin.url("/x"))).await;
            assert_eq!(&answer.body[..], b"from the origin");
            let why = if n <= 3 { why } else { "breaker-open" };
            assert_eq!(answer.why(), why, "{endpoint} {n} {:?}", answer.said());
        }
        let purged = client.purge::<Empty<Bytes>, _>(&Purge::all()).await;
        assert!(matches!(purged, Err(PurgeError::Unreachable)), "{purged:?}");
    }
}

#[tokio::test]
async fn a_server_caches_what_it_serves_for_the_host_that_it_is() {
    let app = sidecar().await;
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        count.fetch_add(1, Ordering::Relaxed);
        async {
            let response = Response::builder().header("cache-control", "max-age=60");
            response.body(http_body_util::Full::<Bytes>::from("made here"))
        }
    });
    let layer = layer(&endpoint(&app)).0.look_aside().expect("no TLS");
    let server = layer
        .server("https://shop.example")
        .expect("an origin")
        .layer(service);
    let ask = |host: &'static str| {
        let request = Request::get("/page")
            .header("host", host)
            .body(Empty::new());
        send(&server, request.expect("a request"))
    };
    assert_eq!(ask("shop.example").await.result(), Some(CacheResult::Miss));
    let found = eventually(|| async {
        let answer = ask("shop.example").await;
        (answer.result() == Some(CacheResult::Hit)).then_some(answer)
    });
    assert_eq!(found.await.body, "made here");
    assert_eq!(served.load(Ordering::Relaxed), 1);
    // Another host may be another site.
    assert_eq!(ask("other.example").await.said(), None);
    assert_eq!(served.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_body_that_breaks_off_at_the_origin_is_never_stored() {
    let origin = Origin::start(|_| async {
        let mut cut = response(200, &[("cache-control", "max-age=60")], "");
        *cut.body_mut() = stream(4, 1024, true);
        cut
    })
    .await;
    let app = sidecar().await;
    let client = client(&endpoint(&app));
    for n in 1..=3 {
        let answer = client
            .clone()
            .oneshot(get(&origin.url("/")))
            .await
            .expect("a head");
        assert!(answer.into_body().collect().await.is_err());
        assert_eq!(origin.count("/"), n);
    }
}
