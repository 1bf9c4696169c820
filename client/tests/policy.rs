//! What is asked of koorde, purged, made stale and warmed.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start tasks of their own, and may panic"
)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use koorde_client::{CacheResult, Event, Lifetime, NoStore, Purge, PurgeError};
use koorde_tests::origin::{Origin, response};
use support::{client, endpoint, get, http, layer, nobody, raw, request, send, sidecar};
use tower::Layer;

async fn origin() -> Origin {
    let fields = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];
    Origin::fixed(Duration::ZERO, fields, "from the origin").await
}

/// A server that writes down methods, targets and fields, and answers as koorde does to a PURGE.
async fn recorder() -> (Origin, Arc<Mutex<Vec<Request<()>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = Origin::start(move |request| {
        log.lock().unwrap().push(request.map(|_| ()));
        async { response(204, &[("cache-status", "koorde; detail=purged")], "") }
    });
    (server.await, seen)
}

/// The sidecar adds them for browsers, to which a page of its own host would be one of koorde's.
#[tokio::test]
async fn an_app_gets_a_page_without_the_fields_that_keep_browsers_safe() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("content-type", "text/html"),
        ("content-security-policy", "default-src 'self'"),
    ];
    let origin = Origin::fixed(Duration::ZERO, fields, "<p>").await;
    let app = sidecar().await;
    let (client, _) = client(&endpoint(&app));
    for _ in 0..2 {
        let answer = send(&client, get(&origin.url("/page"))).await;
        assert!(answer.said().is_some(), "koorde's");
        let all = &answer.head.headers;
        let policies: Vec<_> = all.get_all("content-security-policy").iter().collect();
        assert_eq!(policies, ["default-src 'self'"]);
        assert!(!all.contains_key("x-content-type-options"), "{all:?}");
        assert!(!all.contains_key("koorde-added"), "{all:?}");
    }
    assert_eq!(origin.count("/page"), 1);
}

#[tokio::test]
async fn only_what_the_predicate_selects_is_asked_of_koorde() {
    let (origin, app) = (origin().await, sidecar().await);
    let (layer, _) = layer(&endpoint(&app));
    let client = layer
        .only_if(|parts| !parts.uri.path().starts_with("/live"))
        .layer(http());
    for _ in 0..2 {
        assert_eq!(
            send(&client, get(&origin.url("/live/x"))).await.said(),
            None
        );
        assert!(
            send(&client, get(&origin.url("/page")))
                .await
                .said()
                .is_some()
        );
    }
    assert_eq!((origin.count("/live/x"), origin.count("/page")), (2, 1));
}

#[tokio::test]
async fn a_request_with_no_store_goes_past_koorde() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, _) = client(&endpoint(&app));
    let mut request = get(&origin.url("/"));
    request.extensions_mut().insert(NoStore);
    assert_eq!(send(&client, request).await.said(), None);
    assert_eq!(
        send(&client, get(&origin.url("/"))).await.result(),
        Some(CacheResult::Miss)
    );
}

#[tokio::test]
async fn a_range_is_cut_from_what_is_stored() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, _) = client(&endpoint(&app));
    send(&client, get(&origin.url("/"))).await;
    let mut request = get(&origin.url("/"));
    request
        .headers_mut()
        .insert("range", "bytes=0-3".parse().unwrap());
    let answer = send(&client, request).await;
    assert_eq!(
        (answer.status(), &answer.body[..]),
        (StatusCode::PARTIAL_CONTENT, &b"from"[..])
    );
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn tenant_name_and_lifetime_go_to_the_sidecar_as_fields() {
    let (server, seen) = recorder().await;
    let url = format!("http://{}", server.address());
    let client = layer(&url)
        .0
        .tenant("team-a")
        .expect("a tenant")
        .stored_as(|parts| {
            (parts.uri.path() == "/index.html").then(|| "http://a.example/".parse().unwrap())
        })
        .layer(http());
    let mut request = get("http://a.example/index.html");
    request
        .extensions_mut()
        .insert(Lifetime(Duration::from_millis(7900)));
    // The caller's caller has no say in it.
    for name in ["koorde-tenant", "koorde-purge"] {
        let fields = request.headers_mut();
        fields.insert(name, "hard".parse().unwrap());
    }
    // The recorder is no koorde, and nobody is at a.example: only what was sent counts.
    let _ = tower::ServiceExt::oneshot(client, request).await;
    let seen = seen.lock().unwrap();
    let fields = seen[0].headers();
    assert_eq!(seen[0].uri(), "/http://a.example/index.html");
    assert_eq!(fields["koorde-tenant"], "team-a");
    assert_eq!(fields["koorde-stored-as"], "http://a.example/");
    assert_eq!(fields["koorde-lifetime"], "7");
    assert!(!fields.contains_key("koorde-purge"));
}

#[tokio::test]
async fn a_purge_makes_a_url_be_fetched_anew() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, _) = client(&endpoint(&app));
    let url: Uri = origin.url("/").parse().unwrap();
    send(&client, get(&origin.url("/"))).await;
    let receipt = client
        .purge(&Purge::url(url.clone()).hard())
        .await
        .expect("a receipt");
    assert!(receipt.is_complete);
    assert_eq!(
        send(&client, get(&origin.url("/"))).await.result(),
        Some(CacheResult::Miss)
    );
    client.purge(&Purge::url(url)).await.expect("a receipt");
    // Soft: the origin is asked, conditionally.
    send(&client, get(&origin.url("/"))).await;
    let requests = origin.requests("/");
    assert_eq!(
        (
            requests.len(),
            requests[2]["if-none-match"].to_str().unwrap()
        ),
        (3, "\"1\"")
    );
}

#[tokio::test]
async fn a_purge_that_cannot_be_made_says_why() {
    let url = Purge::url("http://a.example/".parse().unwrap());
    let (absent, _) = client(&nobody());
    assert!(matches!(
        absent.purge(&url).await,
        Err(PurgeError::Unreachable)
    ));
    assert!(matches!(
        absent.purge(&Purge::tag("t")).await,
        Err(PurgeError::UrlsOnly)
    ));
    let none = koorde_client::KoordeLayer::from_env().layer(http());
    assert!(matches!(none.purge(&url).await, Err(PurgeError::NoSidecar)));
    let refusing = raw(Some(
        b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let (refused, _) = client(&refusing);
    let error = refused.purge(&url).await.expect_err("no token");
    assert!(
        matches!(error, PurgeError::Refused(StatusCode::UNAUTHORIZED)),
        "{error}"
    );
}

#[tokio::test]
async fn somebody_elses_answer_to_a_purge_confirms_nothing() {
    let origin = origin().await;
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncache-status: koorde; fwd=method\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (client, events) = client(&raw(Some(answer)).await);
        let purge = Purge::url(origin.url("/").parse().unwrap());
        let purged = client.purge(&purge).await;
        assert!(matches!(purged, Err(PurgeError::Unreachable)));
        send(&client, request(Method::POST, &origin.url("/"))).await;
        let events = events.lock().unwrap();
        assert_eq!(events[..], [Event::Invalidated { confirmed: false }]);
    }
}

#[tokio::test]
async fn a_path_with_dots_is_never_written_behind_the_sidecars() {
    let (origin, (server, seen)) = (origin().await, recorder().await);
    let (client, _) = client(&format!("http://{}", server.address()));
    let url = origin.url("/a/../../evil.example/x");
    for method in [Method::GET, Method::POST] {
        assert_eq!(send(&client, request(method, &url)).await.said(), None);
    }
    let purged = client.purge(&Purge::url(url.parse().unwrap())).await;
    assert!(matches!(purged, Err(PurgeError::Malformed("URL"))));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_successful_unsafe_request_tells_the_sidecar_what_is_stale() {
    let origin = Origin::start(|request| async move {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/things" => response(201, &[("location", "/things/7")], ""),
            _ => response(404, &[], ""),
        }
    })
    .await;
    let (server, seen) = recorder().await;
    let (client, events) = client(&format!("http://{}", server.address()));
    send(&client, request(Method::POST, &origin.url("/nothing"))).await;
    assert!(seen.lock().unwrap().is_empty(), "an error changes nothing");
    send(&client, request(Method::POST, &origin.url("/things"))).await;
    let told: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|request| {
            assert_eq!(request.method(), "PURGE");
            assert_eq!(request.headers()["koorde-purge"], "invalidate");
            request.uri().to_string()
        })
        .collect();
    let path = |path| format!("/{}", origin.url(path));
    assert_eq!(told, [path("/things"), path("/things/7")]);
    assert_eq!(
        events.lock().unwrap()[..],
        [Event::Invalidated { confirmed: true }]
    );
}

#[tokio::test]
async fn after_an_unsafe_request_nothing_stored_is_used_unvalidated() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, events) = client(&endpoint(&app));
    for result in [CacheResult::Miss, CacheResult::Hit] {
        assert_eq!(
            send(&client, get(&origin.url("/"))).await.result(),
            Some(result)
        );
    }
    send(&client, request(Method::PUT, &origin.url("/"))).await;
    assert!(
        events
            .lock()
            .unwrap()
            .contains(&Event::Invalidated { confirmed: true })
    );
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_ne!(answer.result(), Some(CacheResult::Hit));
}

#[tokio::test]
async fn one_tenant_never_has_what_is_stored_for_another() {
    let (origin, app) = (origin().await, sidecar().await);
    for tenant in ["team-a", "team-b"] {
        let layer = layer(&endpoint(&app)).0.tenant(tenant).unwrap();
        let client = layer.layer(http());
        for result in [CacheResult::Miss, CacheResult::Hit] {
            let answer = send(&client, get(&origin.url("/"))).await;
            assert_eq!(answer.result(), Some(result), "{tenant}");
        }
    }
    assert_eq!(origin.count("/"), 2);
}

#[tokio::test]
async fn a_sidecar_that_hangs_holds_the_response_of_an_unsafe_request_for_a_moment_only() {
    let origin = origin().await;
    let (client, events) = client(&raw(None).await);
    let began = Instant::now();
    let answer = send(&client, request(Method::DELETE, &origin.url("/"))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(
        events.lock().unwrap()[..],
        [Event::Invalidated { confirmed: false }]
    );
}

#[tokio::test]
async fn grpc_calls_go_past_koorde() {
    let (origin, (server, seen)) = (origin().await, recorder().await);
    let (client, _) = client(&format!("http://{}", server.address()));
    let mut call = request(Method::POST, &origin.url("/pkg.Service/Call"));
    call.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    assert_eq!(send(&client, call).await.said(), None);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_was_warmed_is_found_and_what_failed_is_named() {
    let (origin, app) = (origin().await, sidecar().await);
    let (client, _) = client(&endpoint(&app));
    let broken = format!("{}/", nobody());
    let mut urls: Vec<Uri> = (0..40)
        .map(|n| origin.url(&format!("/{n}")).parse().unwrap())
        .collect();
    urls.push(broken.parse().unwrap());
    let warmed = client.warm::<Empty<_>, _>(urls).await;
    assert_eq!(
        (warmed.answered, warmed.failed),
        (40, vec![broken.parse().unwrap()])
    );
    for n in 0..40 {
        let answer = send(&client, get(&origin.url(&format!("/{n}")))).await;
        assert_eq!(answer.result(), Some(CacheResult::Hit));
    }
}
