//! Ranges from stored wholes and parts, and large bodies in slices, through any node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::{HeaderMap, Response};
use koorde_tests::{
    cluster::{Cluster, eventually, fetch, get, get_with},
    origin::{Body, Origin, response},
};
use libkoorde::config::{ByteSize, RouteConfig};

const LENGTH: u64 = 1_000_000;
const SLICE: u64 = 64 << 10;

/// Byte `at` of version `version` of the origin's object.
fn byte(at: u64, version: u64) -> u8 {
    ((at * 7 + at / 251 + version) % 256) as u8
}

fn bytes(start: u64, end: u64, version: u64) -> Vec<u8> {
    (start..end).map(|at| byte(at, version)).collect()
}

/// Answers a single range of the object as RFC 9110 says, with a strong entity tag.
fn serve(fields: &HeaderMap, version: u64) -> Response<Body> {
    let asked = fields.get("range").and_then(|range| {
        let (first, last) = range
            .to_str()
            .ok()?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        let first: u64 = first.parse().ok()?;
        Some((
            first,
            last.parse()
                .map_or(LENGTH, |last: u64| (last + 1).min(LENGTH)),
        ))
    });
    let (status, start, end) = match asked {
        None => (200, 0, LENGTH),
        Some((start, _)) if start >= LENGTH => (416, 0, 0),
        Some((start, end)) => (206, start, end),
    };
    let mut answer = response(status, &[("cache-control", "max-age=600")], "");
    let fields = answer.headers_mut();
    let tag = format!("\"{version}\"");
    fields.insert("etag", tag.parse().expect("a value"));
    let range = match status {
        206 => Some(format!("bytes {start}-{}/{LENGTH}", end - 1)),
        416 => Some(format!("bytes */{LENGTH}")),
        _ => None,
    };
    if let Some(range) = range {
        fields.insert("content-range", range.parse().expect("a value"));
    }
    use http_body_util::{BodyExt, Full};
    answer.map(|_| {
        let body = Full::from(bytes(start, end, version));
        body.map_err(|never| match never {}).boxed()
    })
}

/// An origin of one object, whose version may change.
async fn origin() -> (Origin, Arc<AtomicU64>) {
    let version = Arc::new(AtomicU64::new(1));
    let now = Arc::clone(&version);
    let origin = Origin::start(move |request| {
        let version = now.load(Ordering::Acquire);
        async move { serve(request.headers(), version) }
    });
    (origin.await, version)
}

async fn sliced(n: usize) -> Cluster {
    Cluster::with(n, |config| {
        config.routes = vec![RouteConfig {
            slice: ByteSize(SLICE),
            ..RouteConfig::default()
        }];
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_part_answers_what_it_contains_at_every_node() {
    let (origin, _) = origin().await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/part");
    let first = fetch(
        &cluster.nodes[0],
        get_with(&url, &[("range", "bytes=1000-4999")]),
    )
    .await;
    let first = first.expect("an answer");
    assert_eq!((first.status().as_u16(), first.body().len()), (206, 4000));
    for node in &cluster.nodes {
        let answer = fetch(node, get_with(&url, &[("range", "bytes=2000-2999")])).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 206);
        assert_eq!(answer.headers()["content-range"], "bytes 2000-2999/1000000");
        assert_eq!(answer.body()[..], bytes(2000, 3000, 1)[..]);
    }
    assert_eq!(origin.count("/part"), 1);
    let beyond = fetch(
        &cluster.nodes[1],
        get_with(&url, &[("range", "bytes=4000-5999")]),
    )
    .await;
    let beyond = beyond.expect("an answer");
    assert!(
        beyond.headers()["cache-status"]
            .to_str()
            .expect("ASCII")
            .contains("fwd=")
    );
    assert_eq!(beyond.body()[..], bytes(4000, 6000, 1)[..]);
    assert_eq!(origin.count("/part"), 2);
    // The two meet, so they are one now.
    let both = fetch(
        &cluster.nodes[2],
        get_with(&url, &[("range", "bytes=1000-5999")]),
    )
    .await;
    assert_eq!(
        both.expect("an answer").body()[..],
        bytes(1000, 6000, 1)[..]
    );
    assert_eq!(origin.count("/part"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_all_of_it_become_the_whole() {
    let (origin, _) = origin().await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/whole");
    for range in ["bytes=0-499999", "bytes=500000-"] {
        let node = &cluster.nodes[1];
        let request = get_with(&url, &[("range", range)]);
        assert_eq!(fetch(node, request).await.expect("an answer").status(), 206);
    }
    for node in &cluster.nodes {
        let whole = fetch(node, get(&url)).await.expect("an answer");
        assert_eq!(whole.status(), 200);
        assert_eq!(whole.body()[..], bytes(0, LENGTH, 1)[..]);
    }
    assert_eq!(origin.count("/whole"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_two_versions_are_never_mixed() {
    let (origin, version) = origin().await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/versions"));
    let _old = fetch(node, get_with(&url, &[("range", "bytes=0-999")]))
        .await
        .expect("an answer");
    version.store(2, Ordering::Release);
    let _new = fetch(node, get_with(&url, &[("range", "bytes=1000-1999")]))
        .await
        .expect("an answer");
    let both = fetch(node, get_with(&url, &[("range", "bytes=0-1999")]))
        .await
        .expect("an answer");
    assert_eq!(both.body()[..], bytes(0, 2000, 2)[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_of_a_stored_body_come_as_one_multipart_body() {
    let (origin, _) = origin().await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/several");
    let _stored = fetch(&cluster.nodes[0], get(&url))
        .await
        .expect("an answer");
    for node in &cluster.nodes {
        let request = get_with(&url, &[("range", "bytes=0-9, 100-109,-10")]);
        let answer = fetch(node, request).await.expect("an answer");
        assert_eq!(answer.status(), 206);
        let kind = answer.headers()["content-type"]
            .to_str()
            .expect("ASCII")
            .to_owned();
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .expect("multipart");
        let length: usize = answer.headers()["content-length"]
            .to_str()
            .expect("ASCII")
            .parse()
            .expect("a number");
        assert_eq!(answer.body().len(), length);
        let body = String::from_utf8_lossy(answer.body());
        assert_eq!(body.matches(&format!("--{boundary}")).count(), 4);
        assert!(body.contains("999990-999999/1000000"), "{body}");
    }
    assert_eq!(origin.count("/several"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_one_range_are_one_origin_request() {
    let slow = Origin::start(|request| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        serve(request.headers(), 1)
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = slow.url("/together");
    let requests = (0..30).map(|n| {
        let request = get_with(&url, &[("range", "bytes=10-19")]);
        fetch(&cluster.nodes[n % 3], request)
    });
    for answer in join_all(requests).await {
        let answer = answer.expect("an answer");
        assert_eq!(answer.headers()["content-range"], "bytes 10-19/1000000");
        assert_eq!(answer.body()[..], bytes(10, 20, 1)[..]);
    }
    assert_eq!(slow.count("/together"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_stored_in_slices_and_any_node_serves_any_of_it() {
    let (origin, _) = origin().await;
    let cluster = sliced(3).await;
    let url = origin.url("/large");
    let seek = get_with(&url, &[("range", "bytes=500000-500009")]);
    let answer = fetch(&cluster.nodes[1], seek).await.expect("an answer");
    assert_eq!(
        answer.headers()["content-range"],
        "bytes 500000-500009/1000000"
    );
    assert_eq!(answer.body()[..], bytes(500_000, 500_010, 1)[..]);
    assert_eq!(origin.count("/large"), 1, "a seek asks for its slice only");
    let whole = fetch(&cluster.nodes[0], get(&url))
        .await
        .expect("an answer");
    assert_eq!(
        (whole.status().as_u16(), &whole.headers()["content-length"]),
        (200, &"1000000".parse().expect("a value"))
    );
    assert!(whole.headers().get("content-range").is_none());
    assert_eq!(whole.body()[..], bytes(0, LENGTH, 1)[..]);
    let slices = LENGTH.div_ceil(SLICE) as usize;
    assert_eq!(origin.count("/large"), slices);
    for node in &cluster.nodes {
        for (range, start, end) in [
            (None, 0, LENGTH),
            (Some("bytes=65000-200000"), 65_000, 200_001),
            (Some("bytes=-70000"), LENGTH - 70_000, LENGTH),
            (Some("bytes=999999-"), LENGTH - 1, LENGTH),
        ] {
            let fields: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
            let answer = fetch(node, get_with(&url, &fields))
                .await
                .expect("an answer");
            assert_eq!(answer.body()[..], bytes(start, end, 1)[..], "{range:?}");
        }
        let condition = fetch(node, get_with(&url, &[("if-none-match", "\"1\"")])).await;
        assert_eq!(condition.expect("an answer").status(), 304);
        let beyond = fetch(node, get_with(&url, &[("range", "bytes=1000000-")])).await;
        assert_eq!(beyond.expect("an answer").status(), 416);
    }
    assert_eq!(origin.count("/large"), slices);
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_two_versions_are_never_mixed_and_the_next_answer_is_whole_again() {
    let (origin, version) = origin().await;
    let cluster = sliced(3).await;
    let url = origin.url("/changing");
    let head = get_with(&url, &[("range", "bytes=0-9")]);
    let _first = fetch(&cluster.nodes[0], head).await.expect("an answer");
    version.store(2, Ordering::Release);
    let mixed = fetch(&cluster.nodes[1], get(&url)).await;
    assert!(mixed.is_err(), "a body that changed on the way is cut");
    for _ in 0..100 {
        if let Ok(answer) = fetch(&cluster.nodes[2], get(&url)).await {
            assert_eq!(answer.body()[..], bytes(0, LENGTH, 2)[..]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never became whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_knows_no_ranges_is_asked_for_the_whole() {
    let origin = Origin::fixed(Duration::ZERO, &[("cache-control", "max-age=600")], "small").await;
    let cluster = sliced(3).await;
    let url = origin.url("/plain");
    for _ in 0..3 {
        let answer = fetch(&cluster.nodes[0], get(&url))
            .await
            .expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (200, &b"small"[..])
        );
    }
    let owner = cluster
        .nodes
        .iter()
        .any(|node| node.stats().stored_responses == 1);
    eventually("it is stored once", || owner).await;
    assert_eq!(
        origin.count("/plain"),
        2,
        "once as a slice, once as a whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_knows_no_ranges_is_asked_twice_for_many_who_want_slices() {
    let delay = Duration::from_millis(200);
    let origin = Origin::fixed(delay, &[("cache-control", "max-age=600")], "small").await;
    for nodes in [1, 3] {
        let cluster = sliced(nodes).await;
        for (path, ranges) in [
            ("/wholes", &[None; 3][..]),
            (
                "/parts",
                &[None, Some("bytes=0-1"), Some("bytes=2-3"), Some("bytes=-2")],
            ),
        ] {
            let path = format!("{path}/{nodes}");
            let url = origin.url(&path);
            let requests = (0..60).map(|n| {
                let range = ranges[n % ranges.len()];
                let fields: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
                fetch(&cluster.nodes[n / 7 % nodes], get_with(&url, &fields))
            });
            for answer in join_all(requests).await {
                let answer = answer.expect("an answer");
                let got = (answer.status().as_u16(), &answer.body()[..]);
                assert_eq!(got, (200, &b"small"[..]));
            }
            assert_eq!(origin.count(&path), 2, "{path}: one slice and the whole");
            // Nobody asks for a slice any more, of whichever node.
            for node in &cluster.nodes {
                let answer = fetch(node, get(&url)).await.expect("an answer");
                assert_eq!(answer.body(), "small");
            }
            assert_eq!(origin.count(&path), 2, "{path}: stored as a whole");
        }
    }
}
