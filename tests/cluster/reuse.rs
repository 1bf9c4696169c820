//! What is stored, and how it is used again, through any node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get, get_with},
    origin::{Origin, response},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_is_validated_and_stays() {
    let origin = Origin::start(|request| async move {
        let fields = [("cache-control", "no-cache"), ("etag", "\"v1\"")];
        let known = request
            .headers()
            .get("if-none-match")
            .is_some_and(|tag| tag == "\"v1\"");
        if known {
            response(304, &fields, "")
        } else {
            response(200, &fields, "body")
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/etag");
    for (n, status) in [(0, "200"), (1, "304"), (2, "304")] {
        let answer = fetch(&cluster.nodes[n], get(&url))
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (200, &b"body"[..]),
            "node {n}"
        );
        let told = answer
            .headers()
            .get("cache-status")
            .expect("told")
            .to_str()
            .expect("text")
            .to_owned();
        assert!(
            told.contains(&format!("fwd-status={status}")),
            "node {n}: {told}"
        );
    }
    assert_eq!(origin.count("/etag"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_condition_is_answered_from_the_store_of_another_node() {
    let fields = [("cache-control", "max-age=60"), ("etag", "\"v1\"")];
    let origin = Origin::fixed(Duration::ZERO, &[fields[0], fields[1]], "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/condition");
    for node in &cluster.nodes {
        let answer = fetch(node, get_with(&url, &[("if-none-match", "\"v1\"")]))
            .await
            .expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.body().len()), (304, 0));
        assert_eq!(answer.headers()["etag"], "\"v1\"");
    }
    assert_eq!(origin.count("/condition"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_answered_from_a_stored_get() {
    let origin = Origin::fixed(Duration::ZERO, &[("cache-control", "max-age=60")], "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/head");
    fetch(&cluster.nodes[0], get(&url))
        .await
        .expect("an answer");
    for node in &cluster.nodes {
        let head = libkoorde::Request {
            method: Method::HEAD,
            ..get(&url)
        };
        let answer = fetch(node, head).await.expect("an answer");
        assert_eq!(
            (answer.body().len(), &answer.headers()["content-length"]),
            (0, &"4".parse().expect("a value"))
        );
    }
    assert_eq!(origin.count("/head"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_cut_from_a_stored_body_at_any_node() {
    let origin = Origin::fixed(
        Duration::ZERO,
        &[("cache-control", "max-age=60")],
        "0123456789",
    )
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/range");
    fetch(&cluster.nodes[0], get(&url))
        .await
        .expect("an answer");
    for node in &cluster.nodes {
        let answer = fetch(node, get_with(&url, &[("range", "bytes=2-5")]))
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (206, &b"2345"[..])
        );
        assert_eq!(answer.headers()["content-range"], "bytes 2-5/10");
    }
    assert_eq!(origin.count("/range"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_stale_while_revalidate_holds_one_refresh_serves_the_cluster() {
    let versions = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |_| {
        let version = versions.fetch_add(1, Ordering::SeqCst);
        async move {
            let body = if version == 0 { "old" } else { "new" };
            // The second is fresh for long, so that a third request would be a mistake.
            let control = if version == 0 {
                "max-age=1, stale-while-revalidate=60"
            } else {
                "max-age=60"
            };
            response(
                200,
                &[
                    ("cache-control", control),
                    ("age", if version == 0 { "1" } else { "0" }),
                ],
                body,
            )
        }
    })
    .await;
    let cluster = Cluster::with(3, |config| config.store.hot_percent = 0).await;
    let url = origin.url("/swr");
    fetch(&cluster.nodes[0], get(&url))
        .await
        .expect("an answer");
    let stale = fetch(&cluster.nodes[1], get(&url))
        .await
        .expect("an answer");
    assert_eq!(stale.body(), "old", "served stale at once");
    eventually("the refresh has come", || origin.count("/swr") == 2).await;
    let (owner, _) = cluster.owner_and_other(&url).await;
    eventually("it is stored", || cluster.metrics[owner].stores.get() >= 2).await;
    for node in &cluster.nodes {
        assert_eq!(
            fetch(node, get(&url)).await.expect("an answer").body(),
            "new"
        );
    }
    assert_eq!(origin.count("/swr"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_is_carried_between_nodes_as_a_duration() {
    let fields = [("cache-control", "max-age=600"), ("age", "100")];
    let origin = Origin::fixed(Duration::ZERO, &[fields[0], fields[1]], "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/age");
    for node in &cluster.nodes {
        let answer = fetch(node, get(&url)).await.expect("an answer");
        let age: u64 = answer.headers()["age"]
            .to_str()
            .expect("text")
            .parse()
            .expect("seconds");
        assert!((100..=102).contains(&age), "{age}");
    }
    assert_eq!(origin.count("/age"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_stored_only_gets_nothing_else() {
    let origin = Origin::fixed(Duration::ZERO, &[("cache-control", "max-age=60")], "body").await;
    let cluster = Cluster::start(3).await;
    for node in &cluster.nodes {
        let request = get_with(
            &origin.url("/stored"),
            &[("cache-control", "only-if-cached")],
        );
        let error = fetch(node, request).await.expect_err("nothing is stored");
        assert_eq!(error, "not stored");
    }
    assert_eq!(origin.count("/stored"), 0);
}
