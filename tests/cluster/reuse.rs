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
    // The first goes to the origin as it is, and is no flight that others could join.
    assert!(origin.count("/condition") <= 2);
    assert_eq!(origin.requests("/condition")[0]["if-none-match"], "\"v1\"");
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
        let mut head = get(&url);
        head.method = http::Method::HEAD;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_304_makes_private_goes_to_nobody_else() {
    let sessions = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let session = sessions.fetch_add(1, Ordering::SeqCst);
        async move {
            if !request.headers().contains_key("if-none-match") {
                let fields = [
                    ("etag", "\"v1\""),
                    ("cache-control", "max-age=1"),
                    ("age", "5"),
                ];
                return response(200, &fields, "body");
            }
            let fields = [("etag", "\"v1\""), ("cache-control", "private, max-age=60")];
            let mut answer = response(304, &fields, "");
            let cookie = format!("sid={session}").parse().expect("a field value");
            answer.headers_mut().insert("set-cookie", cookie);
            answer
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/turns-private");
    let mut cookies = Vec::new();
    for n in 0..12 {
        let answer = fetch(&cluster.nodes[n % 3], get(&url))
            .await
            .expect("an answer");
        cookies.extend(answer.headers().get("set-cookie").cloned());
    }
    assert!(!cookies.is_empty(), "whoever asked gets it");
    let given = cookies.len();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), given, "and nobody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_to_a_heads_own_condition_freshens_nothing() {
    let origin = Origin::start(|request| async move {
        if request.method() == Method::HEAD {
            return response(304, &[], "");
        }
        let fields = [
            ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
            ("cache-control", "max-age=1"),
            ("age", "5"),
        ];
        response(200, &fields, "body")
    })
    .await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/condition"));
    fetch(node, get(&url)).await.expect("an answer");
    let condition = [("if-modified-since", "Sun, 01 Feb 2026 00:00:00 GMT")];
    let mut head = get_with(&url, &condition);
    head.method = http::Method::HEAD;
    assert_eq!(fetch(node, head).await.expect("an answer").status(), 304);
    fetch(node, get(&url)).await.expect("an answer");
    assert_eq!(
        origin.count("/condition"),
        3,
        "the stale one had to be validated"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_announces_a_body_that_is_not_sent() {
    let origin = Origin::fixed(Duration::ZERO, &[("cache-control", "max-age=60")], "body").await;
    let cluster = Cluster::start(2).await;
    let fields = [
        ("content-length", "40"),
        ("expect", "100-continue"),
        ("x-smuggled", "GET /evil HTTP/1.1"),
    ];
    for node in &cluster.nodes {
        fetch(node, get_with(&origin.url("/smuggle"), &fields))
            .await
            .expect("an answer");
    }
    for asked in origin.requests("/smuggle") {
        for name in ["content-length", "transfer-encoding", "expect"] {
            assert!(!asked.contains_key(name), "{name}: {asked:?}");
        }
    }
}

/// An origin that says of GETs what is stored, and of HEADs what is there now: version 2 of "two".
async fn of_versions() -> Origin {
    Origin::start(|request| async move {
        let is_head = request.method() == Method::HEAD;
        let name = request.headers().get("x-name").cloned();
        let changed = is_head && name.as_ref().is_some_and(|name| name == "two");
        let mut answer = response(200, &[("cache-control", "max-age=600")], "body");
        let fields = answer.headers_mut();
        let tag = if changed { "\"2\"" } else { "\"1\"" };
        fields.insert("etag", tag.parse().expect("a value"));
        let by = if is_head { "HEAD" } else { "GET" };
        fields.insert("x-by", by.parse().expect("a value"));
        // Whoever has no name is told nothing of names: so two stored responses may be chosen for
        // one request (RFC 9111 §4.1). A HEAD that told of them would make both one.
        if name.is_some() && !is_head {
            fields.insert("vary", "x-name".parse().expect("a value"));
        }
        answer
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_freshens_every_stored_response_that_could_be_chosen_for_it() {
    let origin = of_versions().await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/several");
    let by = async |node: usize, fields: &[(&'static str, &'static str)]| {
        let answer = fetch(&cluster.nodes[node], get_with(&url, fields)).await;
        answer.expect("an answer").headers()["x-by"].clone()
    };
    let (one, two) = (&[("x-name", "one")], &[("x-name", "two")]);
    for fields in [&one[..], &two[..], &[]] {
        assert_eq!(by(0, fields).await, "GET");
    }
    assert_eq!(origin.count("/several"), 3);
    let head = |name| {
        let mut head = get_with(&url, &[("x-name", name), ("cache-control", "no-cache")]);
        head.method = Method::HEAD;
        fetch(&cluster.nodes[1], head)
    };
    head("one").await.expect("an answer");
    // Owners have it now; what nodes hold as hot copies is as fresh as it was.
    let owner = cluster.owner_and_other(&url).await.0;
    assert_eq!(by(owner, one).await, "HEAD");
    assert_eq!(by(owner, &[]).await, "HEAD", "the one without Vary, too");
    assert_eq!(by(owner, two).await, "GET", "not chosen");
    assert_eq!(origin.count("/several"), 4);
    // It says that what is there for this name is another one now; of others it says nothing.
    head("two").await.expect("an answer");
    assert_eq!(by(owner, one).await, "HEAD");
    assert_eq!(origin.count("/several"), 5);
    assert_eq!(by(owner, two).await, "GET");
    assert_eq!(origin.count("/several"), 6);
}
