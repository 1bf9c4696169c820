//! koorde is asked, the app's own client makes the requests, and what comes is put.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start tasks of their own, and may panic"
)]

#[path = "../support/mod.rs"]
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
use koorde_client::{CacheResult, Koorde, KoordeLayer, Lifetime, OnlyIfCached, Purge, PurgeError};
use koorde_sidecar::app::App;
use koorde_tests::origin::{Origin, response, stream};
use support::{
    Http, endpoint, eventually, get, http, layer, nobody, raw, request, send, sidecar_with,
};
use tower::{Layer, ServiceExt};

/// Where koorde is. It may reach nothing by itself: what comes was fetched by the app.
enum Place {
    Sidecar(Box<App>),
    #[cfg(feature = "embedded")]
    Here(libkoorde::Node),
}

impl Place {
    async fn sidecar() -> Self {
        let app = sidecar_with(|settings| settings.egress.allow.clear());
        Self::Sidecar(Box::new(app.await))
    }

    #[cfg(feature = "embedded")]
    async fn here() -> Self {
        let mut config = libkoorde::Config::default();
        config.node.name = "app-0".into();
        config.ring.listen = ([127, 0, 0, 1], 0).into();
        let metrics = libkoorde::Metrics::new(&mut Default::default());
        let node = libkoorde::Node::start(config, metrics, Default::default()).await;
        let node = node.expect("the node starts");
        eventually(|| async { node.is_ready().then_some(()) }).await;
        Self::Here(node)
    }

    fn layer(&self) -> KoordeLayer {
        match self {
            Self::Sidecar(app) => beside(&endpoint(app)),
            #[cfg(feature = "embedded")]
            Self::Here(node) => KoordeLayer::embedded(node.clone()),
        }
    }

    fn client(&self) -> Koorde<Http> {
        self.layer().layer(http())
    }

    async fn end(self) {
        match self {
            Self::Sidecar(app) => app.shutdown().await,
            #[cfg(feature = "embedded")]
            Self::Here(node) => node.stop(Duration::ZERO).await,
        }
    }
}

/// In look-aside with what is at an endpoint.
fn beside(endpoint: &str) -> KoordeLayer {
    let layer = layer(endpoint).0.patience(Duration::from_millis(200));
    layer.look_aside().expect("no TLS")
}

/// One behaviour, wherever koorde is.
macro_rules! wherever {
    ($($name:ident),* $(,)?) => {
        mod with_a_sidecar {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::sidecar().await).await;
            })*
        }

        #[cfg(feature = "embedded")]
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Place::here().await).await;
            })*
        }
    };
}

mod stale;

wherever!(
    the_app_makes_the_request_once_and_everybody_finds_what_came,
    three_hundred_who_ask_at_once_cost_one_request,
    who_gives_up_gives_the_lease_to_the_next,
    what_is_stale_is_validated_by_the_app_and_answered_from_the_store,
    an_error_is_the_apps_own_and_the_next_may_try,
    a_large_body_is_stored_while_the_app_reads_it,
    a_body_that_the_app_drops_is_stored_all_the_same,
    what_may_not_be_shared_is_not,
    a_lifetime_makes_storable_what_says_nothing_of_its_own,
    an_unsafe_request_makes_what_is_stored_stale,
    a_tag_and_a_group_are_purged,
    what_is_only_wanted_from_the_store_never_reaches_the_origin,
    the_end_of_the_sidecar_fails_no_request,
    a_server_caches_what_it_serves_for_the_host_that_it_is,
    a_body_that_breaks_off_at_the_origin_is_never_stored,
);

mod faults;

async fn origin(delay: Duration) -> Origin {
    let fields = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];
    Origin::fixed(delay, fields, "from the origin").await
}

async fn the_app_makes_the_request_once_and_everybody_finds_what_came(place: Place) {
    let origin = origin(Duration::ZERO).await;
    let (one, other) = (place.client(), place.client());
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

async fn three_hundred_who_ask_at_once_cost_one_request(place: Place) {
    let origin = origin(Duration::from_millis(100)).await;
    // Three apps: what they share is the sidecar only.
    let clients: Vec<_> = (0..3).map(|_| place.client()).collect();
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

async fn who_gives_up_gives_the_lease_to_the_next(place: Place) {
    let origin = origin(Duration::from_millis(300)).await;
    let url = origin.url("/");
    let (first, second) = (place.client(), place.client());
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

async fn what_is_stale_is_validated_by_the_app_and_answered_from_the_store(place: Place) {
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
    let client = place.client();
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

async fn an_error_is_the_apps_own_and_the_next_may_try(place: Place) {
    let client = place.client();
    let url = format!("{}/", nobody());
    for _ in 0..3 {
        let asked = tokio::time::timeout(support::SOON, client.clone().oneshot(get(&url)));
        let error = asked.await.expect("in time").expect_err("nobody answers");
        assert!(error.is_connect());
    }
}

async fn a_large_body_is_stored_while_the_app_reads_it(place: Place) {
    let origin = Origin::start(|_| async {
        let mut whole = response(200, &[("cache-control", "max-age=60")], "");
        *whole.body_mut() = stream(128, 64 << 10, false);
        whole
    })
    .await;
    let client = place.client();
    let first = send(&client, get(&origin.url("/"))).await;
    assert_eq!(first.body.len(), 8 << 20);
    let found = eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(answer)
    });
    assert_eq!(found.await.body, first.body);
}

async fn a_body_that_the_app_drops_is_stored_all_the_same(place: Place) {
    let origin = origin(Duration::ZERO).await;
    let client = place.client();
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

async fn what_may_not_be_shared_is_not(place: Place) {
    let private = &[("cache-control", "private")];
    let origin = Origin::fixed(Duration::ZERO, private, "mine").await;
    let client = place.client();
    for _ in 0..3 {
        assert_eq!(send(&client, get(&origin.url("/"))).await.body, "mine");
    }
    assert_eq!(origin.count("/"), 3);
}

async fn a_lifetime_makes_storable_what_says_nothing_of_its_own(place: Place) {
    let origin = Origin::fixed(Duration::ZERO, &[], "silent").await;
    let client = place.client();
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

async fn an_unsafe_request_makes_what_is_stored_stale(place: Place) {
    let origin = origin(Duration::ZERO).await;
    let client = place.client();
    eventually(|| async {
        let answer = send(&client, get(&origin.url("/"))).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
    send(&client, request(Method::POST, &origin.url("/"))).await;
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_ne!(answer.result(), Some(CacheResult::Hit));
}

async fn a_tag_and_a_group_are_purged(place: Place) {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("surrogate-key", "product-42"),
        ("cache-groups", r#""prices""#),
    ];
    let origin = Origin::fixed(Duration::ZERO, fields, "tagged").await;
    let client = place.client();
    let group = Purge::group(origin.url("/any").parse().expect("a URL"), "prices");
    for purge in [Purge::tag("product-42"), group] {
        eventually(|| async {
            let answer = send(&client, get(&origin.url("/"))).await;
            (answer.result() == Some(CacheResult::Hit)).then_some(())
        })
        .await;
        let receipt = client.purge::<Empty<Bytes>, _>(&purge.clone().hard()).await;
        assert!(receipt.expect("a receipt").is_complete);
        let answer = send(&client, get(&origin.url("/"))).await;
        assert_eq!(answer.result(), Some(CacheResult::Miss), "{purge:?}");
    }
}

async fn what_is_only_wanted_from_the_store_never_reaches_the_origin(place: Place) {
    let origin = origin(Duration::ZERO).await;
    for client in [place.client(), beside(&nobody()).layer(http())] {
        let mut request = get(&origin.url("/"));
        request.extensions_mut().insert(OnlyIfCached);
        let answer = send(&client, request).await;
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    }
    assert_eq!(origin.count("/"), 0);
}

async fn the_end_of_the_sidecar_fails_no_request(place: Place) {
    let origin = origin(Duration::from_millis(5)).await;
    let client = place.client();
    let stop = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        place.end().await;
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
        let client = beside(&endpoint).layer(http());
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

async fn a_server_caches_what_it_serves_for_the_host_that_it_is(place: Place) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let service = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        count.fetch_add(1, Ordering::Relaxed);
        async {
            let response = Response::builder().header("cache-control", "max-age=60");
            response.body(http_body_util::Full::<Bytes>::from("made here"))
        }
    });
    let layer = place.layer();
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

async fn a_body_that_breaks_off_at_the_origin_is_never_stored(place: Place) {
    let origin = Origin::start(|_| async {
        let mut cut = response(200, &[("cache-control", "max-age=60")], "");
        *cut.body_mut() = stream(4, 1024, true);
        cut
    })
    .await;
    let client = place.client();
    // Who asks while it breaks off shares that; then it is asked for anew.
    eventually(|| async {
        let asked = client.clone().oneshot(get(&origin.url("/"))).await;
        let response = asked.expect("a head");
        assert!(response.into_body().collect().await.is_err());
        (origin.count("/") >= 3).then_some(())
    })
    .await;
}
