//! An unsafe request makes what is stored of its URL stale on every node (RFC 9111 §4.4), and what
//! its answer names (RFC 9875 §3).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use koorde_tests::{
    cluster::{Cluster, fetch, get},
    origin::{Origin, response},
};
use libkoorde::{Request, metrics::counted};

use crate::purge::{TAGGED, counting, number, target};

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_makes_copies_stale_on_every_node() {
    let origin = counting(TAGGED).await;
    // One with short leases, whose members have been there for longer; one with new members.
    for lease in [1, 60] {
        let cluster = Cluster::with(5, |config| {
            config.store.hot_lease = Duration::from_secs(lease);
        })
        .await;
        // What the members' coming says about copies has to be over.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        for at in 0..cluster.nodes.len() {
            let url = origin.url(&format!("/unsafe/{lease}/{at}"));
            let mut before = 0;
            for node in &cluster.nodes {
                before = number(node, get(&url)).await;
            }
            let post = Request::new(Method::POST, target(&url), HeaderMap::new());
            let posted = number(&cluster.nodes[at], post).await;
            assert_eq!(posted, before + 1);
            for node in &cluster.nodes {
                assert_eq!(
                    number(node, get(&url)).await,
                    posted + 1,
                    "fetched once more"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_for_what_nobody_has_copied_tells_the_owners_only() {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let cluster = Cluster::with(6, |config| {
        config.store.hot_lease = Duration::from_secs(1);
        // A new owner that asks the previous one counts as a copy, too.
        config.ring.warm_join = Duration::ZERO;
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for n in 0..5 {
        let url = origin.url(&format!("/nobody/{n}"));
        let (owner, _) = cluster.owner_and_other(&url).await;
        fetch(&cluster.nodes[owner], get(&url))
            .await
            .expect("an answer");
        let post = Request::new(Method::POST, target(&url), HeaderMap::new());
        fetch(&cluster.nodes[owner], post).await.expect("an answer");
    }
    let told = |metrics: &Arc<libkoorde::Metrics>| counted(&metrics.purges, "invalidated");
    let all: u64 = cluster.metrics.iter().map(told).sum();
    assert_eq!(
        all,
        5 * 3,
        "three owners each, the one that was asked among them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_the_origin_invalidates_is_stale_on_every_node() {
    let origin = Origin::start(|request| async move {
        let groups = ("cache-groups", "\"g\"");
        if request.method() == Method::POST {
            return response(200, &[("cache-group-invalidation", "\"g\"")], "posted");
        }
        response(200, &[("cache-control", "max-age=600"), groups], "body")
    })
    .await;
    let cluster = Cluster::start(3).await;
    let (url, form) = (origin.url("/member"), origin.url("/form"));
    for node in &cluster.nodes {
        fetch(node, get(&url)).await.expect("an answer");
    }
    let post = Request::new(Method::POST, target(&form), HeaderMap::new());
    fetch(&cluster.nodes[1], post).await.expect("an answer");
    for node in &cluster.nodes {
        fetch(node, get(&url)).await.expect("an answer");
    }
    assert_eq!(origin.count("/member"), 2);
}
