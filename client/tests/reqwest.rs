//! The layer before reqwest's client, and as a middleware.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start tasks of their own, and may panic"
)]

mod support;

use std::time::Duration;

use koorde_client::{CacheResult, CacheStatus, KoordeMiddleware, OnlyIfCached, ReqwestService};
use koorde_tests::origin::{Origin, response};
use reqwest::{Client, redirect};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use support::{endpoint, layer, nobody, raw, send, sidecar};
use tower::Layer;

async fn origin() -> Origin {
    let fields = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];
    Origin::fixed(Duration::ZERO, fields, "0123456789").await
}

fn plain() -> Client {
    let client = Client::builder().redirect(redirect::Policy::none());
    client.no_proxy().build().expect("a client")
}

fn chain(endpoint: &str) -> ClientWithMiddleware {
    let koorde = KoordeMiddleware::new(&layer(endpoint).0, plain());
    ClientBuilder::new(plain()).with(koorde).build()
}

#[tokio::test]
async fn the_layer_stands_before_a_reqwest_client() {
    let (origin, app) = (origin().await, sidecar().await);
    let client = layer(&endpoint(&app)).0.layer(ReqwestService::new(plain()));
    for result in [CacheResult::Miss, CacheResult::Hit] {
        let request = http::Request::get(origin.url("/")).body(reqwest::Body::default());
        let answer = send(&client, request.unwrap()).await;
        assert_eq!(
            (answer.result(), &answer.body[..]),
            (Some(result), &b"0123456789"[..])
        );
    }
    assert_eq!(origin.count("/"), 1);
}

#[tokio::test]
async fn a_middleware_answers_with_the_url_that_was_asked_for() {
    let (origin, app) = (origin().await, sidecar().await);
    let client = chain(&endpoint(&app));
    for result in [CacheResult::Miss, CacheResult::Hit] {
        let response = client
            .get(origin.url("/a?b=c"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.url().as_str(), origin.url("/a?b=c"));
        let status: &CacheStatus = response.extensions().get().expect("koorde's part");
        assert_eq!(status.result, result);
        assert_eq!(response.text().await.expect("a body"), "0123456789");
    }
    assert_eq!(origin.count("/a?b=c"), 1);
}

#[tokio::test]
async fn a_middleware_fails_open_and_passes_on_what_is_not_koordes() {
    let origin = origin().await;
    let client = chain(&nobody());
    for _ in 0..5 {
        let response = client.get(origin.url("/")).send().await.expect("an answer");
        assert_eq!(response.text().await.expect("a body"), "0123456789");
    }
    let posted = client
        .post(origin.url("/"))
        .body("x")
        .send()
        .await
        .expect("an answer");
    assert_eq!(posted.status(), 200);
    assert_eq!(origin.count("/"), 6);
    let stored = client
        .get(origin.url("/"))
        .with_extension(OnlyIfCached)
        .send()
        .await;
    assert_eq!(stored.expect("an answer").status(), 504);
}

#[tokio::test]
async fn a_middlewares_body_goes_on_from_the_origin() {
    const HALF: &[u8] = b"HTTP/1.1 200 OK\r\ncache-status: koorde; hit\r\netag: \"1\"\r\n\
        content-length: 10\r\n\r\n01234";
    let origin = origin().await;
    let client = chain(&raw(Some(HALF)).await);
    let response = client.get(origin.url("/")).send().await.expect("a head");
    assert_eq!(
        response.text().await.expect("all of the body"),
        "0123456789"
    );
}

#[tokio::test]
async fn a_timeout_of_one_request_is_kept() {
    let origin = Origin::fixed(Duration::from_secs(30), &[], "late").await;
    let app = sidecar().await;
    let client = chain(&endpoint(&app));
    let request = client
        .get(origin.url("/"))
        .timeout(Duration::from_millis(100));
    // The sidecar does not answer in that time, nor does the origin when it is asked directly.
    let answered = tokio::time::timeout(support::SOON, request.send()).await;
    let error = answered.expect("it ends").expect_err("the origin is late");
    assert!(matches!(error, reqwest_middleware::Error::Reqwest(error) if error.is_timeout()));
}

#[tokio::test]
async fn a_redirect_is_the_apps_to_follow() {
    let origin = Origin::start(|_| async { response(302, &[("location", "/there")], "") }).await;
    let app = sidecar().await;
    let response = chain(&endpoint(&app)).get(origin.url("/")).send().await;
    assert_eq!(response.expect("an answer").status(), 302);
}
