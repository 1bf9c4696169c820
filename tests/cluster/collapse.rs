//! One origin request, however many ask.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use koorde_tests::{
    cluster::{Cluster, fetch, get, get_with},
    origin::{Origin, response},
};
use libkoorde::outcome::{CacheResult, Outcome};
use tokio::{sync::Barrier, task::JoinSet};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_all_nodes_for_one_cold_key_are_one_origin_request() {
    let origin = Origin::fixed(Duration::from_millis(200), FRESH, "body").await;
    let cluster = Cluster::start(5).await;
    let mut requests = JoinSet::new();
    for n in 0..200 {
        let (node, url) = (cluster.nodes[n % 5].clone(), origin.url("/cold"));
        requests.spawn(async move { fetch(&node, get(&url)).await });
    }
    while let Some(answer) = requests.join_next().await {
        let answer = answer.expect("no panic").expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (200, &b"body"[..])
        );
    }
    assert_eq!(origin.count("/cold"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncacheable_response_lets_the_waiters_go_and_is_remembered() {
    let origin = Origin::fixed(
        Duration::from_millis(100),
        &[("cache-control", "private")],
        "mine",
    )
    .await;
    let cluster = Cluster::start(3).await;
    for round in 1..=2 {
        let mut requests = JoinSet::new();
        for n in 0..6 {
            let (node, url) = (cluster.nodes[n % 3].clone(), origin.url("/private"));
            requests.spawn(async move { fetch(&node, get(&url)).await });
        }
        while let Some(answer) = requests.join_next().await {
            assert_eq!(answer.expect("no panic").expect("an answer").body(), "mine");
        }
        assert_eq!(
            origin.count("/private"),
            6 * round,
            "nobody gets another's private response"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_let_go_once_waits_for_nobody_the_next_time_on_any_node() {
    const CLIENTS: usize = 6;
    let (asked, all) = (AtomicUsize::new(0), Arc::new(Barrier::new(CLIENTS)));
    let origin = Origin::start(move |_| {
        let first_round = asked.fetch_add(1, Ordering::Relaxed) < CLIENTS;
        let all = Arc::clone(&all);
        async move {
            if first_round {
                tokio::time::sleep(Duration::from_millis(100)).await;
            } else {
                // Nobody is answered before all have asked.
                all.wait().await;
            }
            response(200, &[("cache-control", "private")], "mine")
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    for _round in 0..2 {
        let mut requests = JoinSet::new();
        for n in 0..CLIENTS {
            let (node, url) = (cluster.nodes[n % 3].clone(), origin.url("/private"));
            requests.spawn(async move { fetch(&node, get(&url)).await });
        }
        while let Some(answer) = requests.join_next().await {
            let answer = answer.expect("no panic");
            assert_eq!(answer.expect("all asked at once").body(), "mine");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_with_other_selecting_fields_get_their_own_variant() {
    let origin = Origin::start(|request| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let fields = [("cache-control", "max-age=60"), ("vary", "accept-language")];
        let language = request
            .headers()
            .get("accept-language")
            .map(|value| value.as_bytes() == b"de");
        response(
            200,
            &fields,
            if language == Some(true) {
                "hallo"
            } else {
                "hello"
            },
        )
    })
    .await;
    let cluster = Cluster::start(3).await;
    let mut requests = JoinSet::new();
    for n in 0..30 {
        let (node, url) = (cluster.nodes[n % 3].clone(), origin.url("/vary"));
        let (language, body) = if n % 2 == 0 {
            ("de", "hallo")
        } else {
            ("en", "hello")
        };
        requests.spawn(async move {
            let answer = fetch(&node, get_with(&url, &[("accept-language", language)])).await;
            assert_eq!(answer.expect("an answer").body(), body);
        });
    }
    while let Some(done) = requests.join_next().await {
        done.expect("the right variant");
    }
    assert_eq!(origin.count("/vary"), 2, "one request a variant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_survives_the_client_that_started_it() {
    let origin = Origin::fixed(Duration::from_millis(100), FRESH, "body").await;
    let cluster = Cluster::start(2).await;
    let url = origin.url("/survives");
    let leader = tokio::time::timeout(
        Duration::from_millis(20),
        fetch(&cluster.nodes[0], get(&url)),
    );
    assert!(leader.await.is_err(), "the client went away");
    let answer = fetch(&cluster.nodes[1], get(&url))
        .await
        .expect("an answer");
    assert_eq!(answer.body(), "body");
    assert_eq!(origin.count("/survives"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_at_the_owner_is_told_by_both_nodes() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::with(3, |config| config.store.hot_percent = 0).await;
    let url = origin.url("/told");
    let (owner, other) = cluster.owner_and_other(&url).await;
    fetch(&cluster.nodes[owner], get(&url))
        .await
        .expect("an answer");
    let answer = fetch(&cluster.nodes[other], get(&url))
        .await
        .expect("an answer");
    let told: Vec<_> = answer
        .headers()
        .get_all("cache-status")
        .iter()
        .map(|v| v.to_str().expect("text"))
        .collect();
    assert_eq!(told[0], format!("koorde; hit; ttl=59; detail=node-{owner}"));
    assert!(
        told[1].starts_with("koorde; fwd=uri-miss; fwd-status=200; ttl=59"),
        "{told:?}"
    );
    let outcome = answer
        .extensions()
        .get::<Outcome>()
        .expect("every answer has one");
    assert_eq!(
        (outcome.result, outcome.x_cache()),
        (CacheResult::Hit, "HIT-REMOTE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_does_not_make_the_gets_that_follow_fly_alone() {
    let origin = Origin::fixed(Duration::from_millis(100), FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/head-first");
    for node in &cluster.nodes {
        let mut head = get(&url);
        head.method = http::Method::HEAD;
        fetch(node, head).await.expect("an answer");
    }
    let before = origin.count("/head-first");
    let gets = (0..30).map(|n| fetch(&cluster.nodes[n % 3], get(&url)));
    for answer in futures_util::future::join_all(gets).await {
        assert_eq!(answer.expect("an answer").body(), "body");
    }
    assert_eq!(origin.count("/head-first") - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_clients_only_if_cached_is_no_other_clients_failure() {
    let origin = Origin::fixed(Duration::from_millis(100), FRESH, "body").await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/stored-only");
    let (_, other) = cluster.owner_and_other(&url).await;
    let node = &cluster.nodes[other];
    let only = get_with(&url, &[("cache-control", "only-if-cached")]);
    let (only, plain) = tokio::join!(fetch(node, only), fetch(node, get(&url)));
    assert_eq!(only.expect_err("nothing was stored"), "not stored");
    assert_eq!(plain.expect("an answer").body(), "body");
}
