//! What may not be mixed up, held up or given away in look-aside.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use koorde_client::{CacheResult, Koorde, OnlyIfCached};
use koorde_tests::origin::{Origin, response, stream};
use tower::{Layer, ServiceExt};

use super::{
    Place, beside, origin,
    support::{Http, eventually, get, http, request, send},
};

wherever!(
    a_path_with_dots_is_not_stored_under_the_path_that_they_lead_to,
    what_koorde_leaves_to_the_app_is_not_asked_for_if_it_is_wanted_from_the_store_only,
    an_inner_service_of_one_place_is_free_while_a_body_is_read,
    what_an_unsafe_request_changes_is_stale_under_the_name_it_is_stored_as,
    what_the_inner_services_credentials_unlock_is_shared_only_if_it_may_be,
    a_lifetime_is_for_no_error,
    a_callers_words_for_koorde_do_not_reach_the_origin,
    bodies_that_nobody_reads_hold_up_no_other_answer,
);

async fn stored(client: &Koorde<Http>, url: &str) {
    eventually(|| async {
        let answer = send(client, get(url)).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
}

async fn a_path_with_dots_is_not_stored_under_the_path_that_they_lead_to(place: Place) {
    let origin = origin(Duration::ZERO).await;
    let client = place.client();
    for path in ["/search/../page", "/search/%2e%2E/page", "/./page"] {
        assert_eq!(send(&client, get(&origin.url(path))).await.said(), None);
    }
    let page = send(&client, get(&origin.url("/page"))).await;
    assert_eq!(page.result(), Some(CacheResult::Miss));
}

async fn what_koorde_leaves_to_the_app_is_not_asked_for_if_it_is_wanted_from_the_store_only(
    place: Place,
) {
    let origin = origin(Duration::ZERO).await;
    // A name of another origin is no name for it.
    let other = |_: &http::request::Parts| Some("http://b.example/".parse().unwrap());
    let client = place.layer().stored_as(other).layer(http());
    let mut request = get(&origin.url("/"));
    request.extensions_mut().insert(OnlyIfCached);
    let answer = send(&client, request).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(origin.count("/"), 0);
}

async fn an_inner_service_of_one_place_is_free_while_a_body_is_read(place: Place) {
    let origin = origin(Duration::ZERO).await;
    stored(&place.client(), &origin.url("/")).await;
    let client = tower::ServiceBuilder::new()
        .layer(place.layer())
        .concurrency_limit(1)
        .service(http());
    let unread = client.clone().oneshot(get(&origin.url("/"))).await;
    let unread = unread.expect("an answer");
    assert_eq!(send(&client, get(&origin.url("/"))).await.status(), 200);
    drop(unread);
}

async fn what_an_unsafe_request_changes_is_stale_under_the_name_it_is_stored_as(place: Place) {
    let origin = origin(Duration::ZERO).await;
    let name = origin.url("/name");
    let named = move |_: &http::request::Parts| Some(name.parse().unwrap());
    let client = place.layer().stored_as(named).layer(http());
    stored(&client, &origin.url("/spelling")).await;
    send(&client, request(Method::POST, &origin.url("/spelling"))).await;
    let answer = send(&client, get(&origin.url("/spelling"))).await;
    assert_ne!(answer.result(), Some(CacheResult::Hit));
}

async fn what_the_inner_services_credentials_unlock_is_shared_only_if_it_may_be(place: Place) {
    let client = place.layer().authorized(true).layer(http());
    let silent = origin(Duration::ZERO).await;
    for _ in 0..3 {
        let answer = send(&client, get(&silent.url("/"))).await;
        assert_eq!(answer.body, "from the origin");
    }
    assert_eq!(silent.count("/"), 3);
    assert!(silent.requests("/")[0].get("authorization").is_none());
    let public = &[("cache-control", "public, max-age=60")];
    let public = Origin::fixed(Duration::ZERO, public, "for all").await;
    stored(&client, &public.url("/")).await;
}

async fn a_lifetime_is_for_no_error(place: Place) {
    let origin = Origin::fixed(Duration::ZERO, &[], "").await;
    let client = place
        .layer()
        .lifetime(|_, _| Some(Duration::from_secs(60)))
        .layer(http());
    stored(&client, &origin.url("/")).await;
    for status in [404, 500] {
        let failing =
            Origin::start(move |_| async move { response(status, &[], "an error") }).await;
        for _ in 0..3 {
            let answer = send(&client, get(&failing.url("/"))).await;
            assert_eq!(answer.status(), status);
        }
        assert_eq!(failing.count("/"), 3, "{status}");
    }
}

async fn a_callers_words_for_koorde_do_not_reach_the_origin(place: Place) {
    let origin = origin(Duration::ZERO).await;
    let mut request = get(&origin.url("/"));
    let name = "koorde-stored-as";
    request
        .headers_mut()
        .insert(name, "http://a.example/".parse().unwrap());
    send(&place.client(), request).await;
    assert!(origin.requests("/")[0].get(name).is_none());
}

async fn bodies_that_nobody_reads_hold_up_no_other_answer(place: Place) {
    let origin = Origin::start(|_| async {
        let mut whole = response(200, &[("cache-control", "max-age=60")], "");
        *whole.body_mut() = stream(128, 64 << 10, false);
        whole
    })
    .await;
    let client = place.client();
    stored(&client, &origin.url("/large")).await;
    stored(&client, &origin.url("/other")).await;
    let mut unread = Vec::new();
    for _ in 0..12 {
        let asked = client.clone().oneshot(get(&origin.url("/large"))).await;
        unread.push(asked.expect("an answer"));
    }
    let answer = send(&client, get(&origin.url("/other"))).await;
    assert_eq!(answer.result(), Some(CacheResult::Hit));
    assert_eq!(answer.body.len(), 8 << 20);
}

#[test]
fn a_layer_of_several_runtimes_outlives_the_first() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let servers = runtime();
    let (place, origin) =
        servers.block_on(async { (Place::sidecar().await, origin(Duration::ZERO).await) });
    let layer = place.layer();
    for _ in 0..3 {
        runtime().block_on(async { stored(&layer.layer(http()), &origin.url("/")).await });
    }
    servers.block_on(place.end());
}

#[tokio::test]
async fn a_sidecar_that_begins_an_answer_and_hangs_is_given_up_after_patience() {
    let origin = origin(Duration::ZERO).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let hang = hyper::service::service_fn(|_| async {
                let silence = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
                let head = http::Response::builder().header("content-type", "application/grpc");
                head.body(http_body_util::StreamBody::new(silence))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(connection), hang));
        }
    });
    let client = beside(&endpoint).layer(http());
    let answer = send(&client, get(&origin.url("/"))).await;
    assert_eq!(
        (answer.why(), &answer.body[..]),
        ("unresponsive", &b"from the origin"[..])
    );
}
