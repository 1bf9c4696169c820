//! Nodes that leave hand what they have stored over to those that stay, and those that are there what
//! others own who join.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{HeaderMap, Method};
use koorde_tests::{
    cluster::{Cluster, config, eventually, fetch, get, get_with},
    origin::{Origin, response, whole},
};
use libkoorde::{
    Config, Kind, Metrics, Node, PurgeRequest, Request, Scope, config::ByteSize, metrics::counted,
};

use crate::purge::{counting, number, target};

const ENOUGH: Duration = Duration::from_secs(20);

/// No copies: what is found is what owners have.
fn without_copies(config: &mut Config) {
    config.store.hot_percent = 0;
}

fn received(metrics: &Arc<Metrics>) -> u64 {
    counted(&metrics.handed_over, "received")
}

/// These leave all at once, and end.
async fn leave(nodes: &[Node]) {
    join_all(nodes.iter().map(|node| node.leave(ENOUGH))).await;
    join_all(nodes.iter().map(|node| node.stop(ENOUGH))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_leave_at_once_leave_all_they_have_stored_to_those_that_stay() {
    let origin = Origin::start(|request| async move {
        let language = request.headers().get("accept-language");
        let language = language.map_or("none", |value| value.to_str().expect("text"));
        let fields = [
            ("cache-control", "max-age=600"),
            ("vary", "accept-language"),
            ("age", "100"),
        ];
        let body = format!("{} in {language}", request.uri().path());
        let mut answer = response(200, &fields, "");
        *answer.body_mut() = whole(body);
        answer
    })
    .await;
    let cluster = Cluster::with(5, without_copies).await;
    let languages: [&[(&str, &str)]; 3] = [
        &[],
        &[("accept-language", "de")],
        &[("accept-language", "")],
    ];
    let ask = async |node: &Node, n: usize, fields| {
        let url = origin.url(&format!("/{n}"));
        fetch(node, get_with(&url, fields))
            .await
            .expect("an answer")
    };
    for n in 0..60 {
        for fields in languages {
            ask(&cluster.nodes[n % 5], n, fields).await;
        }
    }
    let asked = origin.total();
    assert_eq!(asked, 180);
    leave(&cluster.nodes[2..]).await;
    for n in 0..60 {
        for fields in languages {
            let answer = ask(&cluster.nodes[n % 2], n, fields).await;
            let language = fields.first().map_or("none", |(_, value)| value);
            assert_eq!(answer.body(), format!("/{n} in {language}").as_bytes());
            let age: u64 = answer.headers()["age"].to_str().unwrap().parse().unwrap();
            assert!((100..200).contains(&age), "{age}");
        }
    }
    assert_eq!(origin.total(), asked, "nothing was fetched again");
    let taken: u64 = cluster.metrics[..2].iter().map(received).sum();
    let sent = |metrics: &Arc<Metrics>| counted(&metrics.handed_over, "sent");
    assert!(taken > 60, "{taken}: three fifths of 180 are about 108");
    assert!(cluster.metrics[2..].iter().map(sent).sum::<u64>() >= taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_where_it_is_handed_over_is_refused_and_counted() {
    let origin = Origin::start(|_| async move {
        let mut answer = response(200, &[("cache-control", "max-age=600")], "");
        *answer.body_mut() = whole("x".repeat(200 << 10));
        answer
    })
    .await;
    // A response may take a tenth of a store.
    let cluster = Cluster::with(2, |config| {
        without_copies(config);
        if config.node.name == "node-0" {
            config.store.capacity = ByteSize::mib(1);
        }
    })
    .await;
    for n in 0..20 {
        let url = origin.url(&format!("/{n}"));
        fetch(&cluster.nodes[1], get(&url))
            .await
            .expect("an answer");
    }
    let stored = cluster.nodes[1].stats().stored_responses;
    assert!(stored > 0, "about half of twenty");
    leave(&cluster.nodes[1..]).await;
    let metrics = &cluster.metrics[0];
    assert_eq!(metrics.handed_over_refused.get(), stored);
    assert_eq!(received(metrics), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_is_handed_over_as_the_part_that_it_is() {
    let origin = Origin::start(|request| async move {
        let range = request.headers().get("range");
        let range = range.map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(range.as_deref(), Some("bytes=2-4"));
        let fields = [
            ("cache-control", "max-age=600"),
            ("content-range", "bytes 2-4/10"),
            ("etag", "\"1\""),
        ];
        response(206, &fields, "234")
    })
    .await;
    let cluster = Cluster::with(3, without_copies).await;
    let part = |n: usize| get_with(&origin.url(&format!("/{n}")), &[("range", "bytes=2-4")]);
    for n in 0..20 {
        fetch(&cluster.nodes[n % 3], part(n))
            .await
            .expect("an answer");
    }
    let asked = origin.total();
    leave(&cluster.nodes[2..]).await;
    for n in 0..20 {
        let answer = fetch(&cluster.nodes[n % 2], part(n)).await;
        let answer = answer.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (206, &b"234"[..])
        );
        assert_eq!(answer.headers()["content-range"], "bytes 2-4/10");
    }
    assert_eq!(origin.total(), asked, "nothing was fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_or_made_stale_while_a_node_leaves_does_not_come_back() {
    // Before it announces that it leaves, in the middle of its hand-off, and behind it.
    join_all([0, 2, 10, 50, 500].map(changed_while_one_leaves)).await;
}

/// Purges half of sixty URLs through the first two nodes, and posts to the other half.
async fn change(cluster: &Cluster, url: &impl Fn(usize) -> String) {
    for n in 0..30 {
        let purge = PurgeRequest {
            scope: Scope::Url(target(&url(n))),
            kind: if n % 2 == 0 { Kind::Hard } else { Kind::Soft },
            tenant: None,
        };
        cluster.nodes[n % 2].purge(&purge).await;
        let post = Request::new(Method::POST, target(&url(n + 30)), HeaderMap::new());
        number(&cluster.nodes[n % 2], post).await;
    }
}

async fn changed_while_one_leaves(delay: u64) {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let cluster = Cluster::with(3, without_copies).await;
    let url = |n: usize| origin.url(&format!("/{n}"));
    let mut before = Vec::new();
    for n in 0..60 {
        before.push(number(&cluster.nodes[n % 3], get(&url(n))).await);
    }
    let change = async {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        change(&cluster, &url).await;
    };
    tokio::join!(change, leave(&cluster.nodes[2..]));
    for (n, before) in before.into_iter().enumerate() {
        for node in &cluster.nodes[..2] {
            let now = number(node, get(&url(n))).await;
            assert!(now > before, "{delay} ms, {n}: {now} is no newer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_is_given_what_it_owns_from_then_on() {
    let origin = Origin::fixed(Duration::ZERO, &[("cache-control", "max-age=600")], "body").await;
    let mut cluster = Cluster::with(2, without_copies).await;
    let url = |n: usize| origin.url(&format!("/{n}"));
    for n in 0..90 {
        fetch(&cluster.nodes[n % 2], get(&url(n)))
            .await
            .expect("an answer");
    }
    let mut config = config("node-2");
    without_copies(&mut config);
    let joined = cluster.add(config).await;
    cluster.meet(3).await;
    let mut owned = Vec::new();
    for n in 0..90 {
        if joined.explain(&get(&url(n))).await.owners[0] == "node-2" {
            owned.push(n);
        }
    }
    let received = || received(&cluster.metrics[2]);
    eventually("it has what it owns", || received() >= owned.len() as u64).await;
    assert!(owned.len() > 10, "{}: a third of 90", owned.len());
    // Nobody is left to be asked for it.
    leave(&cluster.nodes[..2]).await;
    for n in 0..90 {
        fetch(&joined, get(&url(n))).await.expect("an answer");
    }
    assert_eq!(origin.total(), 90, "nothing was fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_or_made_stale_while_a_node_joins_does_not_come_back() {
    join_all([0, 300, 500, 520, 800].map(changed_while_one_joins)).await;
}

async fn changed_while_one_joins(delay: u64) {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let mut cluster = Cluster::with(2, without_copies).await;
    let url = |n: usize| origin.url(&format!("/{n}"));
    let mut before = Vec::new();
    for n in 0..60 {
        before.push(number(&cluster.nodes[n % 2], get(&url(n))).await);
    }
    let mut config = config("node-2");
    without_copies(&mut config);
    cluster.add(config).await;
    tokio::time::sleep(Duration::from_millis(delay)).await;
    change(&cluster, &url).await;
    cluster.meet(3).await;
    // Behind the hand-off, too: it begins half a second after the joining.
    for _ in 0..2 {
        for (n, before) in before.iter().enumerate() {
            for node in &cluster.nodes {
                let now = number(node, get(&url(n))).await;
                assert!(now > *before, "{delay} ms, {n}: {now} is no newer");
            }
        }
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
}
