//! Look-aside across nodes: whoever asks which of them, one app makes the request.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use koorde_tests::{
    app::{How, look_aside, under, whole},
    cluster::{Cluster, eventually, fetch, get, get_with},
    origin::{Origin, response},
};
use libkoorde::{
    Aside, Lease, Node, Overrides, Put, Request, metrics::counted, outcome::CacheResult,
};
use tokio::task::JoinSet;

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

async fn lease(node: &Node, request: Request) -> Lease {
    match node.look_aside(request).await {
        Ok(Aside::Lease(lease)) => lease,
        other => panic!("no lease but {other:?}"),
    }
}

fn ok() -> Response<()> {
    let head = Response::builder().header("cache-control", "max-age=60");
    head.body(()).expect("a well-formed head")
}

/// What all nodes have counted of leases.
fn leases(cluster: &Cluster, kind: &'static str) -> u64 {
    let counts = cluster.metrics.iter();
    counts
        .map(|metrics| counted(&metrics.look_aside, kind))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_apps_at_five_nodes_make_one_request() {
    let origin = Origin::fixed(Duration::from_millis(300), FRESH, "body").await;
    let cluster = Cluster::start(5).await;
    let mut apps = JoinSet::new();
    for n in 0..300 {
        let (node, request) = (cluster.nodes[n % 5].clone(), get(&origin.url("/cold")));
        apps.spawn(async move { look_aside(&node, request).await });
    }
    let mut stored = 0;
    while let Some(had) = apps.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert_eq!(had.response.body(), "body");
        stored += usize::from(had.how == How::Stored);
    }
    assert_eq!((origin.count("/cold"), stored), (1, 1));
    let count = |result| cluster.metrics.iter().map(|m| m.total(result)).sum::<u64>();
    assert_eq!(
        (count(CacheResult::Miss), count(CacheResult::Error)),
        (300, 0)
    );
    assert_eq!(
        (leases(&cluster, "granted"), leases(&cluster, "put")),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_app_puts_at_another_node_is_stored_at_the_owner_and_streams_to_all() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "never asked").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/streams");
    let (owner, other) = cluster.owner_and_other(&url).await;
    let lease = lease(&cluster.nodes[other], get(&url)).await;
    let mut fetching = JoinSet::new();
    for node in cluster.nodes.clone() {
        let request = get(&url);
        fetching.spawn(async move { node.fetch(request).await });
    }
    // The asker's own waiter and the third node's have to be there before the head.
    eventually("all nodes wait", || {
        let fills = cluster.metrics.iter().map(|m| m.fills_inflight.get());
        fills.sum::<i64>() >= 3
    })
    .await;
    let Put::Body(mut body) = lease.put(ok(), None).await else {
        panic!("it is storable")
    };
    body.write("one ".into()).await.expect("it is wanted");
    let mut reading = JoinSet::new();
    while let Some(answer) = fetching.join_next().await {
        let answer = answer.expect("no panic").expect("an answer");
        reading.spawn(whole(answer));
    }
    body.write("two".into()).await.expect("it is wanted");
    assert!(body.end().await, "it is stored");
    while let Some(read) = reading.join_next().await {
        let read = read.expect("no panic").expect("it is whole");
        assert_eq!(read.body(), "one two");
    }
    assert_eq!(cluster.metrics[owner].stores.get(), 1);
    assert_eq!(origin.count("/streams"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_dies_at_another_node_costs_one_more_request_and_no_error() {
    let origin = Origin::fixed(Duration::from_millis(50), FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/dies");
    let (_, other) = cluster.owner_and_other(&url).await;
    let lease = lease(&cluster.nodes[other], get(&url)).await;
    let mut apps = JoinSet::new();
    for n in 0..60 {
        let (node, request) = (cluster.nodes[n % 3].clone(), get(&url));
        apps.spawn(async move { look_aside(&node, request).await });
    }
    eventually("all nodes wait", || {
        let fills = cluster.metrics.iter().map(|m| m.fills_inflight.get());
        fills.sum::<i64>() >= 3
    })
    .await;
    drop(lease);
    while let Some(had) = apps.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert_eq!(had.response.body(), "body");
    }
    assert_eq!(origin.count("/dies"), 1);
    assert_eq!(leases(&cluster, "granted"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_at_another_node_is_incomplete_for_all_and_not_stored() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/cut");
    let (owner, other) = cluster.owner_and_other(&url).await;
    let lease = lease(&cluster.nodes[other], get(&url)).await;
    let waiting = tokio::spawn({
        let (node, request) = (cluster.nodes[owner].clone(), get(&url));
        async move { node.look_aside(request).await }
    });
    let Put::Body(mut body) = lease.put(ok(), None).await else {
        panic!("it is storable")
    };
    body.write("half".into()).await.expect("it is wanted");
    let Ok(Ok(Aside::Answer(answer, None))) = waiting.await else {
        panic!("it has the head")
    };
    drop(body);
    let error = whole(answer).await.expect_err("it is not whole");
    assert!(error.contains("cut off"), "{error}");
    let had = look_aside(&cluster.nodes[other], get(&url)).await;
    let had = had.expect("a response");
    assert_eq!(
        (had.how, had.response.body()),
        (How::Stored, &"body".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_dies_while_its_lease_is_out_fails_nobody() {
    let origin = Origin::fixed(Duration::from_millis(50), FRESH, "body").await;
    let cluster = Cluster::start(4).await;
    let url = origin.url("/owner-dies");
    let (owner, other) = cluster.owner_and_other(&url).await;
    let held = lease(&cluster.nodes[other], get(&url)).await;
    let mut apps = JoinSet::new();
    for n in (0..40).filter(|n| n % 4 != owner) {
        let (node, request) = (cluster.nodes[n % 4].clone(), get(&url));
        apps.spawn(async move { look_aside(&node, request).await });
    }
    eventually("all nodes wait", || {
        let fills = cluster.metrics.iter().map(|m| m.fills_inflight.get());
        fills.sum::<i64>() >= 4
    })
    .await;
    cluster.nodes[owner].stop(Duration::ZERO).await;
    while let Some(had) = apps.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert_eq!(had.response.body(), "body");
    }
    assert!(matches!(held.put(ok(), None).await, Put::Lost));
    let asked = origin.count("/owner-dies");
    assert!(
        (1..=3).contains(&asked),
        "{asked} requests: one at each node at most"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_owners_a_node_lends_itself() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/alone");
    let (_, other) = cluster.owner_and_other(&url).await;
    cluster.nodes[other].cut_off(true);
    let had = look_aside(&cluster.nodes[other], get(&url)).await;
    let had = had.expect("a response");
    assert_eq!(
        (had.how, had.response.body()),
        (How::Stored, &"body".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shared_is_remembered_where_it_was_asked_for() {
    let origin = Origin::fixed(Duration::ZERO, &[("set-cookie", "a=1")], "mine").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/mine");
    let (_, other) = cluster.owner_and_other(&url).await;
    let had = look_aside(&cluster.nodes[other], get(&url)).await;
    assert_eq!(had.expect("a response").how, How::NotStored);
    for node in &cluster.nodes {
        let had = look_aside(node, get(&url)).await.expect("a response");
        assert_eq!(had.how, How::Alone);
    }
    assert_eq!(leases(&cluster, "granted"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_has_is_validated_by_an_app_at_another_node() {
    let origin = Origin::start(|request| async move {
        let fields = [("cache-control", "max-age=0"), ("etag", "\"1\"")];
        match request.headers().get("if-none-match") {
            Some(tag) if tag == "\"1\"" => response(304, &fields, ""),
            _ => response(200, &fields, "body"),
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/validated");
    let (_, other) = cluster.owner_and_other(&url).await;
    for how in [How::Stored, How::StoodIn] {
        let had = look_aside(&cluster.nodes[other], get(&url)).await;
        let had = had.expect("a response");
        assert_eq!((had.how, had.response.body()), (how, &"body".into()));
    }
    let asked = origin.requests("/validated");
    assert!(asked[1].contains_key("if-none-match"), "{asked:?}");
    assert_eq!(cluster.metrics[other].total(CacheResult::Validated), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_insists_on_the_origin_has_it_asked_through_any_node_and_all_have_what_came() {
    const VERSIONS: [&str; 4] = ["one", "two", "three", "four"];
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |_| {
        let body = VERSIONS[asked.fetch_add(1, Ordering::Relaxed)];
        async move { response(200, FRESH, body) }
    })
    .await;
    let cluster = Cluster::with(3, |config| config.store.hot_percent = 0).await;
    let url = origin.url("/insists");
    let (owner, other) = cluster.owner_and_other(&url).await;
    let third = 3 - owner - other;
    look_aside(&cluster.nodes[other], get(&url))
        .await
        .expect("a response");
    for (version, node) in VERSIONS[1..].iter().zip([other, third, owner]) {
        let insists = get_with(&url, &[("cache-control", "no-cache")]);
        let had = look_aside(&cluster.nodes[node], insists).await;
        let had = had.expect("a response");
        assert_eq!(
            (had.how, had.response.body()),
            (How::Stored, &(*version).into())
        );
        for node in &cluster.nodes {
            let had = look_aside(node, get(&url)).await.expect("a response");
            assert_eq!(
                (had.how, had.response.body()),
                (How::Answered, &(*version).into())
            );
        }
    }
    assert_eq!(origin.count("/insists"), VERSIONS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_stale_response_may_be_used_one_app_of_all_nodes_renews_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |_| {
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let stale = [("cache-control", "max-age=0, stale-while-revalidate=60")];
            if asked == 0 {
                response(200, &stale, "old")
            } else {
                response(200, FRESH, "new")
            }
        }
    })
    .await;
    let cluster = Cluster::with(3, |config| config.store.hot_percent = 0).await;
    let url = origin.url("/renewed");
    look_aside(&cluster.nodes[0], get(&url))
        .await
        .expect("a response");
    let mut leases = Vec::new();
    for node in &cluster.nodes {
        let had = look_aside(node, get(&url)).await.expect("a response");
        assert_eq!(
            (had.how, had.response.body()),
            (How::Answered, &"old".into())
        );
        leases.extend(had.renews);
    }
    assert_eq!((leases.len(), origin.count("/renewed")), (1, 1));
    let lease = leases.pop().expect("there is one");
    let had = under(lease, &get(&url), None).await.expect("a response");
    assert_eq!(had.how, How::Stored);
    for node in &cluster.nodes {
        let had = look_aside(node, get(&url)).await.expect("a response");
        assert_eq!(
            (had.how, had.response.body()),
            (How::Answered, &"new".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_and_a_place_hold_on_every_node() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::with(3, |config| config.store.hot_percent = 0).await;
    let with = |path: &str, tenant: &str| {
        let mut request = get(&origin.url(path));
        let overrides = Overrides::new(&request.target, tenant, &origin.url("/place"), None);
        request.overrides = overrides.expect("they are right");
        request
    };
    let first = look_aside(&cluster.nodes[0], with("/place?a", "t")).await;
    assert_eq!(first.expect("a response").how, How::Stored);
    for node in &cluster.nodes {
        let had = look_aside(node, with("/place?b", "t")).await;
        assert_eq!(had.expect("a response").how, How::Answered);
        let answer = fetch(node, with("/place?c", "t")).await.expect("an answer");
        assert_eq!(answer.body(), &Bytes::from("body"));
    }
    assert_eq!(origin.count("/place?c"), 0);
    let had = look_aside(&cluster.nodes[1], with("/place?b", "u")).await;
    assert_eq!(had.expect("a response").how, How::Stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_larger_than_every_window_goes_through_other_nodes_and_back() {
    const CHUNKS: usize = 200;
    let cluster = Cluster::with(3, |config| {
        config.fetch.max_unfinished = libkoorde::config::ByteSize::mib(1);
    })
    .await;
    let url = "http://127.0.0.1:9/large";
    let (_, other) = cluster.owner_and_other(url).await;
    let lease = lease(&cluster.nodes[other], get(url)).await;
    let mut reading = JoinSet::new();
    for node in cluster.nodes.clone() {
        let request = get(url);
        reading.spawn(async move { look_aside(&node, request).await });
    }
    eventually("all nodes wait", || {
        let fills = cluster.metrics.iter().map(|m| m.fills_inflight.get());
        fills.sum::<i64>() >= 3
    })
    .await;
    let Put::Body(mut body) = lease.put(ok(), None).await else {
        panic!("it is storable")
    };
    for _ in 0..CHUNKS {
        let chunk = Bytes::from(vec![b'x'; 64 << 10]);
        body.write(chunk).await.expect("it is wanted");
    }
    assert!(!body.end().await, "there was no room to keep it");
    while let Some(had) = reading.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert_eq!(
            (had.how, had.response.body().len()),
            (How::Answered, CHUNKS * (64 << 10))
        );
    }
}
