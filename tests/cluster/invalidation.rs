//! An unsafe request makes what is stored of its URL stale on every node (RFC 9111 §4.4), and what
//! its answer names (RFC 9875 §3).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderMap, Method};
use koorde_tests::{
    cluster::{Cluster, config, eventually, fetch, get},
    origin::{Origin, response},
};
use libkoorde::{Config, Node, Overrides, Request, metrics::counted};

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

fn told(metrics: &Arc<libkoorde::Metrics>) -> u64 {
    counted(&metrics.purges, "invalidated")
}

/// Members without copies of what others own: no lease is kept, no previous owner asked.
fn without_copies(config: &mut Config) {
    config.store.hot_lease = Duration::from_secs(1);
    // A new owner that asks the previous one counts as a copy, too.
    config.ring.warm_join = Duration::ZERO;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_for_what_nobody_has_copied_tells_the_owners_first_and_then_everybody() {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let cluster = Cluster::with(6, without_copies).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let all = || cluster.metrics.iter().map(told).sum::<u64>();
    for n in 0..5 {
        let url = origin.url(&format!("/nobody/{n}"));
        let owners = cluster.nodes[0].explain(&get(&url)).await.owners;
        let is_owner = |node: &&Node| owners.iter().any(|owner| owner == node.name());
        let owner = cluster.nodes.iter().find(is_owner).expect("an owner");
        fetch(owner, get(&url)).await.expect("an answer");
        let post = Request::new(Method::POST, target(&url), HeaderMap::new());
        fetch(owner, post).await.expect("an answer");
        let nodes = cluster.nodes.iter().zip(&cluster.metrics);
        for (node, metrics) in nodes.filter(|(node, _)| is_owner(node)) {
            assert_eq!(told(metrics), n + 1, "{} before the answer", node.name());
        }
        eventually("everybody is told", || all() == 6 * (n + 1)).await;
    }
    // Each once, and nobody twice.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(all(), 6 * 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_an_owner_again_knows_what_was_made_stale_meanwhile() {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let mut cluster = Cluster::with(2, without_copies).await;
    let urls: Vec<String> = (0..60)
        .map(|n| origin.url(&format!("/again/{n}")))
        .collect();
    for url in &urls {
        number(&cluster.nodes[0], get(url)).await;
    }
    for name in ["late-0", "late-1", "late-2"] {
        let mut config = config(name);
        without_copies(&mut config);
        cluster.add(config).await;
    }
    cluster.meet(5).await;
    // What the members' coming says about copies has to be over.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut newest = BTreeMap::new();
    for url in &urls {
        let owners = cluster.nodes[0].explain(&get(url)).await.owners;
        if owners[0].starts_with("late") && !owners.iter().any(|name| name == "node-0") {
            let post = Request::new(Method::POST, target(url), HeaderMap::new());
            newest.insert(url, number(&cluster.nodes[2], post).await);
        }
    }
    assert!(!newest.is_empty(), "the same names and enough URLs");
    eventually("the former owner is told", || {
        told(&cluster.metrics[0]) == newest.len() as u64
    })
    .await;
    for node in &cluster.nodes[2..] {
        node.stop(Duration::ZERO).await;
    }
    eventually("the two are alone again", || {
        let mut two = cluster.nodes[..2].iter();
        two.all(|node| node.ring().members.len() == 2)
    })
    .await;
    for (url, posted) in newest {
        let answer = number(&cluster.nodes[0], get(url)).await;
        assert!(answer > posted, "{url}: {answer} is from before {posted}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unsafe_request_invalidated_is_not_served_when_the_origin_fails() {
    const CONTROL: &str = "max-age=600, stale-while-revalidate=600, stale-if-error=600";
    let cluster = Cluster::start(3).await;
    for (path, posted) in [
        ("/member", "/member"),
        ("/member", "/form"),
        ("/other", "/form"),
    ] {
        let origin = Origin::start(|request| async move {
            let groups = ("cache-groups", "\"g\"");
            match (request.method(), request.uri().path()) {
                (&Method::POST, _) => {
                    response(200, &[("cache-group-invalidation", "\"g\"")], "posted")
                }
                (_, "/member") => response(200, &[("cache-control", CONTROL), groups], "body"),
                _ => response(200, &[("cache-control", CONTROL)], "body"),
            }
        })
        .await;
        let (url, form) = (origin.url(path), origin.url(posted));
        for node in &cluster.nodes {
            fetch(node, get(&url)).await.expect("an answer");
        }
        let post = Request::new(Method::POST, target(&form), HeaderMap::new());
        fetch(&cluster.nodes[1], post).await.expect("an answer");
        // From here on nobody listens there.
        drop(origin);
        let is_invalid = path == "/member";
        for node in &cluster.nodes {
            let answer = fetch(node, get(&url)).await;
            assert_eq!(answer.is_err(), is_invalid, "{path}, {posted}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_makes_stale_what_it_says_it_is_stored_as() {
    let origin = counting(TAGGED).await;
    let cluster = Cluster::start(3).await;
    let with = |method: Method| {
        let mut request = get(&origin.url("/item?session=1"));
        request.method = method;
        let place = origin.url("/item");
        let overrides = Overrides::new(&request.target, "", &place, None);
        request.overrides = overrides.expect("of the same origin");
        request
    };
    for node in &cluster.nodes {
        assert_eq!(number(node, with(Method::GET)).await, 0);
    }
    assert_eq!(number(&cluster.nodes[1], with(Method::PUT)).await, 1);
    for node in &cluster.nodes {
        assert_eq!(number(node, with(Method::GET)).await, 2);
    }
}
