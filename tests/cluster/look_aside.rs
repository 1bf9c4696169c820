//! Look-aside at one node: whoever asks first makes the request, all others have its response.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use koorde_tests::{
    app::{How, ask, look_aside, under, whole},
    cluster::{Cluster, eventually, fetch, get, get_with},
    origin::{Origin, response},
};
use libkoorde::{
    Aside, Kind, Lease, Node, Overrides, PurgeRequest, Put, Request, Scope,
    metrics::counted,
    outcome::{CacheResult, Tier},
};
use tokio::{task::JoinSet, time::Instant};

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

async fn lease(node: &Node, request: Request) -> Lease {
    match node.look_aside(request).await {
        Ok(Aside::Lease(lease)) => lease,
        other => panic!("no lease but {other:?}"),
    }
}

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in fields {
        let value = value.parse().expect("a field value");
        head.headers_mut().append(*name, value);
    }
    head
}

/// Waits until this many fills have somebody that waits, the leader aside.
async fn waiting(cluster: &Cluster, asked: u64) {
    eventually("all of them wait", || {
        cluster.metrics[0].fills_inflight.get() >= 1
            && counted(&cluster.metrics[0].look_aside, "granted") >= asked
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_apps_that_look_aside_make_one_request_and_its_response_is_stored() {
    let origin = Origin::fixed(Duration::from_millis(200), FRESH, "body").await;
    let cluster = Cluster::start(1).await;
    let mut apps = JoinSet::new();
    for _ in 0..100 {
        let (node, request) = (cluster.nodes[0].clone(), get(&origin.url("/cold")));
        apps.spawn(async move { look_aside(&node, request).await });
    }
    let mut stored = 0;
    while let Some(had) = apps.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert_eq!(had.response.body(), "body");
        stored += usize::from(had.how == How::Stored);
    }
    assert_eq!((origin.count("/cold"), stored), (1, 1));
    let later = fetch(&cluster.nodes[0], get(&origin.url("/cold"))).await;
    let later = later.expect("an answer");
    let told = later.headers()["cache-status"].to_str().expect("text");
    assert!(told.starts_with("koorde; hit"), "{told}");
    assert_eq!(origin.count("/cold"), 1);
    let metrics = &cluster.metrics[0];
    assert_eq!(counted(&metrics.look_aside, "granted"), 1);
    assert_eq!(counted(&metrics.look_aside, "put"), 1);
    let misses = metrics.requests(CacheResult::Miss, Tier::Origin).get();
    assert_eq!((misses, metrics.collapsed.get()), (100, 99));
    assert_eq!(metrics.origin_requests.get(), 0, "the node asked nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_fetch_waits_for_an_apps_response_and_reads_it_as_it_comes() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "never asked").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/streams"));
    let lease = lease(node, get(&url)).await;
    let fetching = tokio::spawn({
        let (node, request) = (node.clone(), get(&url));
        async move { node.fetch(request).await }
    });
    let Put::Body(mut body) = lease.put(head(200, FRESH), None).await else {
        panic!("it is storable")
    };
    body.write("one ".into()).await.expect("it is wanted");
    let answer = fetching.await.expect("no panic").expect("an answer");
    let reading = tokio::spawn(whole(answer));
    body.write("two".into()).await.expect("it is wanted");
    assert!(body.end().await, "it is stored");
    let read = reading.await.expect("no panic").expect("it is whole");
    assert_eq!(read.body(), "one two");
    assert_eq!(origin.count("/streams"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_dropped_goes_to_the_next_who_waits() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/dropped"));
    let lease = lease(node, get(&url)).await;
    let mut apps = JoinSet::new();
    for _ in 0..20 {
        let (node, request) = (node.clone(), get(&url));
        apps.spawn(async move { look_aside(&node, request).await });
    }
    waiting(&cluster, 1).await;
    drop(lease);
    let mut hows = Vec::new();
    while let Some(had) = apps.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert_eq!(had.response.body(), "body");
        hows.push(had.how);
    }
    assert_eq!(origin.count("/dropped"), 1, "{hows:?}");
    assert_eq!(counted(&cluster.metrics[0].look_aside, "given_back"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_uses_runs_out_and_a_late_put_is_refused() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::with(1, |config| {
        config.origin.connect_timeout = Duration::from_millis(50);
        config.origin.response_timeout = Duration::from_millis(50);
    })
    .await;
    let (node, url) = (&cluster.nodes[0], origin.url("/hung"));
    let lease = lease(node, get(&url)).await;
    assert!(lease.valid_for() <= Duration::from_millis(100));
    let had = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!(had.how, How::Stored);
    assert!(lease.valid_for().is_zero());
    assert!(matches!(lease.put(head(200, FRESH), None).await, Put::Lost));
    assert_eq!(counted(&cluster.metrics[0].look_aside, "expired"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_its_app_does_not_end_is_incomplete_for_all_and_not_stored() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/cut"));
    let lease = lease(node, get(&url)).await;
    let waiter = tokio::spawn({
        let (node, request) = (node.clone(), get(&url));
        async move { node.look_aside(request).await }
    });
    let Put::Body(mut body) = lease.put(head(200, FRESH), None).await else {
        panic!("it is storable")
    };
    body.write("half".into()).await.expect("it is wanted");
    let Ok(Ok(Aside::Answer(answer, None))) = waiter.await else {
        panic!("it has the head")
    };
    drop(body);
    let error = whole(answer).await.expect_err("it is not whole");
    assert!(error.contains("cut off"), "{error}");
    let had = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!(
        (had.how, had.response.body()),
        (How::Stored, &"body".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_is_validated_by_the_app_under_the_leases_conditions() {
    let origin = Origin::start(|request| async move {
        let fields = [("cache-control", "max-age=0"), ("etag", "\"1\"")];
        match request.headers().get("if-none-match") {
            Some(tag) if tag == "\"1\"" => response(304, &fields, ""),
            _ => response(200, &fields, "body"),
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/validated"));
    let first = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!(first.how, How::Stored);
    // Its own condition is no business of the others.
    let request = get_with(
        &url,
        &[("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT")],
    );
    let second = look_aside(node, request).await.expect("a response");
    assert_eq!(second.how, How::StoodIn);
    let told = second.response.headers()["cache-status"].to_str();
    let told = told.expect("text");
    assert!(told.contains("fwd-status=304"), "{told}");
    let validated = cluster.metrics[0].total(CacheResult::Validated);
    assert_eq!((second.response.body(), validated), (&"body".into(), 1));
    let asked = &origin.requests("/validated")[1];
    assert!(!asked.contains_key("if-modified-since"), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_that_does_not_fit_is_no_answer_and_the_next_lease_is_for_the_whole() {
    let origin = Origin::start(|request| async move {
        match request.headers().get("if-none-match") {
            Some(_) => response(304, &[("etag", "\"2\"")], ""),
            None => {
                let fields = [("cache-control", "max-age=0"), ("etag", "\"1\"")];
                response(200, &fields, "body")
            }
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/misfit"));
    look_aside(node, get(&url)).await.expect("a response");
    let lease = lease(node, get(&url)).await;
    assert!(lease.conditions().contains_key("if-none-match"));
    let had = under(lease, &get(&url), None).await.expect("a head");
    assert_eq!((had.how, had.response.status().as_u16()), (How::Lost, 304));
    let again = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!(
        (again.how, again.response.body()),
        (How::Stored, &"body".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_response_stands_in_for_an_error_and_for_no_response_at_all() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |_| {
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let fields = [("cache-control", "max-age=0, stale-if-error=60")];
            response(if asked == 0 { 200 } else { 503 }, &fields, "body")
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/stands-in"));
    look_aside(node, get(&url)).await.expect("a response");
    let had = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!(
        (had.how, had.response.status().as_u16()),
        (How::StoodIn, 200)
    );
    let stands_in = lease(node, get(&url)).await.fail().await;
    let read = whole(stands_in.expect("it may"))
        .await
        .expect("it is whole");
    assert_eq!(read.body(), "body");
    assert_eq!(cluster.metrics[0].total(CacheResult::Stale), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_stale_response_may_be_used_one_app_renews_it_and_nobody_waits() {
    let fields = &[("cache-control", "max-age=0, stale-while-revalidate=60")];
    let origin = Origin::fixed(Duration::ZERO, fields, "body").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/renewed"));
    look_aside(node, get(&url)).await.expect("a response");
    let mut first = look_aside(node, get(&url)).await.expect("a response");
    let second = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!((first.how, second.how), (How::Answered, How::Answered));
    assert!(second.renews.is_none(), "somebody is at it");
    assert_eq!(
        origin.count("/renewed"),
        1,
        "the node itself renews nothing"
    );
    let lease = first.renews.take().expect("it is to renew it");
    let renewed = under(lease, &get(&url), None).await.expect("a response");
    assert_eq!(renewed.how, How::Stored);
    let counts = (CacheResult::Stale, CacheResult::Miss);
    let metrics = &cluster.metrics[0];
    assert_eq!((metrics.total(counts.0), metrics.total(counts.1)), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shared_lets_all_waiters_go_at_once() {
    const TAKES: Duration = Duration::from_millis(300);
    let origin = Origin::fixed(TAKES, &[("cache-control", "private")], "mine").await;
    let cluster = Cluster::start(1).await;
    let mut apps = JoinSet::new();
    let began = Instant::now();
    for _ in 0..30 {
        let (node, request) = (cluster.nodes[0].clone(), get(&origin.url("/private")));
        apps.spawn(async move { look_aside(&node, request).await });
    }
    while let Some(had) = apps.join_next().await {
        let had = had.expect("no panic").expect("a response");
        assert!(matches!(had.how, How::NotStored | How::Alone), "{had:?}");
    }
    assert!(
        began.elapsed() < TAKES * 5,
        "one after the other: {:?}",
        began.elapsed()
    );
    assert_eq!(origin.count("/private"), 30);
    let aside = cluster.nodes[0]
        .look_aside(get(&origin.url("/private")))
        .await;
    assert!(
        matches!(aside, Ok(Aside::Alone(_))),
        "it is remembered: {aside:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_cache_may_answer_is_asked_for_alone() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let url = "http://127.0.0.1:9/alone";
    let mut post = get(url);
    post.method = http::Method::POST;
    for request in [
        post,
        get_with(url, &[("cache-control", "no-store")]),
        get_with(url, &[("if-match", "\"one\"")]),
        get_with(url, &[("range", "bytes=0-1")]),
    ] {
        let what = format!("{request:?}");
        let aside = node.look_aside(request).await;
        let Ok(Aside::Alone(member)) = aside else {
            panic!("{what}: {aside:?}")
        };
        assert!(member.to_str().expect("text").starts_with("koorde; fwd="));
    }
    // Who insists on the origin has a lease that nobody else waits for.
    let insists = || node.look_aside(get_with(url, &[("cache-control", "no-cache")]));
    let both = (insists().await, insists().await);
    let (Ok(Aside::Lease(_first)), Ok(Aside::Lease(_second))) = &both else {
        panic!("{both:?}")
    };
    let only = node.look_aside(get_with(url, &[("cache-control", "only-if-cached")]));
    assert_eq!(
        only.await.expect_err("nothing stored").to_string(),
        "not stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_answered_from_what_an_app_has_put() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "0123456789").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/range"));
    look_aside(node, get(&url)).await.expect("a response");
    let had = look_aside(node, get_with(&url, &[("range", "bytes=2-4")])).await;
    let had = had.expect("a response");
    assert_eq!(
        (had.how, had.response.body()),
        (How::Answered, &"234".into())
    );
    assert_eq!(had.response.status(), StatusCode::PARTIAL_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_for_before_a_purge_is_not_reused_after_it() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "new").await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/purged"));
    let lease = lease(node, get(&url)).await;
    let purge = PurgeRequest {
        scope: Scope::Url(get(&url).target),
        kind: Kind::Hard,
        tenant: None,
    };
    node.purge(&purge).await;
    let Put::Body(mut body) = lease.put(head(200, FRESH), None).await else {
        panic!("it is storable")
    };
    body.write(Bytes::from("old")).await.expect("it is taken");
    body.end().await;
    let answer = fetch(node, get(&url)).await.expect("an answer");
    assert_eq!(answer.body(), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_responses_and_those_stored_as_another_are_where_they_belong() {
    let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let with = |path: &str, tenant: &str, stored_as: &str| {
        let mut request = get(&origin.url(path));
        let stored_as = match stored_as {
            "" => String::new(),
            path => origin.url(path),
        };
        let overrides = Overrides::new(&request.target, tenant, &stored_as, None);
        request.overrides = overrides.expect("they are right");
        request
    };
    for (request, how) in [
        (with("/t", "a", ""), How::Stored),
        (with("/t", "a", ""), How::Answered),
        (with("/t", "b", ""), How::Stored),
        (with("/t", "", ""), How::Stored),
        (with("/t?session=1", "a", "/t"), How::Answered),
        (with("/u?session=1", "", "/u"), How::Stored),
        (with("/u?session=2", "", "/u"), How::Answered),
        (with("/u", "", ""), How::Answered),
        (with("/u?session=1", "", ""), How::Stored),
    ] {
        let what = format!("{:?} {:?}", request.target, request.overrides);
        let had = look_aside(node, request).await.expect("a response");
        assert_eq!(had.how, how, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_makes_storable_what_says_none_but_not_what_forbids_it() {
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    let minute = Some(Duration::from_secs(60));
    for (path, fields, is_stored) in [
        ("/silent", &[][..], true),
        ("/short", &[("cache-control", "max-age=0")], true),
        ("/no-store", &[("cache-control", "no-store")], false),
        ("/private", &[("cache-control", "private")], false),
    ] {
        let origin = Origin::fixed(Duration::ZERO, fields, "body").await;
        let request = get(&origin.url(path));
        let lease = lease(node, request.clone()).await;
        let had = under(lease, &request, minute).await.expect("a response");
        assert_eq!(had.how == How::Stored, is_stored, "{path}");
        let again = look_aside(node, request).await.expect("a response");
        assert_eq!(again.how == How::Answered, is_stored, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_node_itself_may_not_go_the_app_still_does() {
    let origin = Origin::fixed(Duration::from_millis(50), FRESH, "body").await;
    let cluster = Cluster::with(1, |config| config.egress.allow.clear()).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/internal"));
    let refused = fetch(node, get(&url)).await.expect_err("it is loopback");
    assert!(refused.contains("refused"), "{refused}");
    let had = look_aside(node, get(&url)).await.expect("a response");
    assert_eq!(had.how, How::Stored);
    assert!(ask(&get(&url), None).await.is_ok());
    let stored = fetch(node, get(&url)).await.expect("it is stored now");
    assert_eq!(stored.body(), "body");
}
