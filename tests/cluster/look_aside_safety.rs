//! What look-aside does not let one asker decide for all others.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::time::Duration;

use koorde_tests::{
    app::{How, look_aside, under},
    cluster::{Cluster, get, get_with},
    origin::{Origin, response},
};
use libkoorde::{Aside, Lease, Node, Request};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

async fn lease(node: &Node, request: Request) -> Lease {
    match node.look_aside(request).await {
        Ok(Aside::Lease(lease)) => lease,
        other => panic!("no lease but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_in_another_way_than_it_is_stored_is_asked_for_alone() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    look_aside(node, get(&origin.url("/index.html?x")))
        .await
        .expect("a response");
    for path in [
        "/search/../index.html?x",
        "/search/%2e%2E/index.html?x",
        "/search/.%2e/index.html?x",
        "/./index.html?x",
        "/search\\..\\index.html?x",
    ] {
        let request = get(&origin.url(path));
        assert_eq!(request.target, get(&origin.url("/index.html?x")).target);
        let aside = node.look_aside(request).await;
        assert!(matches!(aside, Ok(Aside::Alone(_))), "{path}: {aside:?}");
    }
    for path in ["", "?x", "/?x=../..", "/%41", "/a..b", "/index.html?x#top"] {
        let had = look_aside(node, get(&origin.url(path))).await;
        let had = had.expect("a response");
        assert!(matches!(had.how, How::Stored | How::Answered), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_is_in_no_key_lets_a_request_read_but_not_put() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/unkeyed"));
    let odd = || get_with(&url, &[("x-forwarded-host", "evil.example")]);
    let aside = node.look_aside(odd()).await;
    assert!(matches!(aside, Ok(Aside::Alone(_))), "{aside:?}");
    look_aside(node, get(&url)).await.expect("a response");
    let had = look_aside(node, odd()).await.expect("a response");
    assert_eq!(had.how, How::Answered);
    let trusting = Cluster::with(1, |config| config.cache.strip_unkeyed = false).await;
    let had = look_aside(&trusting.nodes[0], odd()).await;
    assert_eq!(had.expect("a response").how, How::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_itself_renews_nothing_for_who_looks_aside() {
    let fields = &[("cache-control", "max-age=0, stale-while-revalidate=60")];
    let origin = Origin::fixed(Duration::ZERO, fields, "body").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/not-renewed"));
    look_aside(node, get(&url)).await.expect("a response");
    let mut head = get(&url);
    head.method = http::Method::HEAD;
    for request in [
        head,
        get_with(&url, &[("range", "bytes=0-1")]),
        get_with(&url, &[("cache-control", "only-if-cached")]),
    ] {
        let aside = node.look_aside(request).await;
        assert!(matches!(aside, Ok(Aside::Answer(_, None))), "{aside:?}");
    }
    // Had a renewal begun, nobody else would get to do it.
    let mut had = look_aside(node, get(&url)).await.expect("a response");
    let lease = had.renews.take().expect("it is to renew it");
    assert_eq!(origin.count("/not-renewed"), 1);
    let renewed = under(lease, &get(&url), None).await.expect("a response");
    assert_eq!(renewed.how, How::Stored);
    assert_eq!(cluster.metrics[0].origin_requests.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_that_is_put_pins_no_error() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    for status in [404, 410, 500, 503] {
        let origin = Origin::start(move |_| async move { response(status, &[], "error") }).await;
        let request = get(&origin.url("/error"));
        let lease = lease(node, request.clone()).await;
        let minute = Some(Duration::from_secs(60));
        let had = under(lease, &request, minute).await.expect("a response");
        assert_ne!(had.how, How::Stored, "{status}");
        let again = look_aside(node, request).await.expect("a response");
        assert_ne!(again.how, How::Answered, "{status}");
        assert_eq!(origin.count("/error"), 2, "{status}");
    }
}
