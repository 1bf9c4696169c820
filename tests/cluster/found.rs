//! Faults that were found in the data path by reading it, each with a test named after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Response};
use koorde_tests::{
    cluster::{Cluster, config, eventually, fetch, get, get_with},
    origin::{Body, Origin, response},
};
use libkoorde::{
    Config, Kind, Metrics, Node, PurgeRequest, Request, Scope,
    config::{ByteSize, RouteConfig},
    metrics::counted,
    policy::Target,
};
use tokio::{sync::Notify, task::JoinSet};

const FRESH: (&str, &str) = ("cache-control", "max-age=600");

fn request(method: Method, url: &str) -> Request {
    let target = Target::parse(url).expect("a URL");
    Request::new(method, target, HeaderMap::new())
}

fn everything(kind: Kind) -> PurgeRequest {
    PurgeRequest {
        scope: Scope::All,
        kind,
        tenant: None,
    }
}

async fn body(node: &Node, request: Request) -> String {
    let answer = fetch(node, request).await.expect("an answer");
    String::from_utf8_lossy(answer.body()).into_owned()
}

/// An origin that says `old` until it is told otherwise.
async fn changing() -> (Origin, Arc<AtomicUsize>) {
    let version = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&version);
    let origin = Origin::start(move |_| {
        let is_old = now.load(Ordering::SeqCst) == 0;
        async move { response(200, &[FRESH], if is_old { "old" } else { "new" }) }
    });
    (origin.await, version)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_does_not_serve_what_an_unsafe_request_made_stale() {
    let (origin, version) = changing().await;
    let change = |config: &mut Config| {
        config.store.hot_lease = Duration::from_millis(1000);
        config.ring.warm_join = Duration::ZERO;
    };
    let mut cluster = Cluster::with(1, change).await;
    let urls: Vec<String> = (0..12).map(|n| origin.url(&format!("/{n}"))).collect();
    for url in &urls {
        assert_eq!(body(&cluster.nodes[0], get(url)).await, "old");
    }
    for index in 1..9 {
        let mut config = config(&format!("node-{index}"));
        change(&mut config);
        cluster.add(config).await;
    }
    cluster.meet(9).await;
    // The leases of copies that a changed membership takes for granted.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    version.store(1, Ordering::SeqCst);
    for url in &urls {
        fetch(&cluster.nodes[5], request(Method::POST, url))
            .await
            .expect("an answer");
        assert_eq!(body(&cluster.nodes[0], get(url)).await, "new", "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_does_not_bring_back_what_a_hard_purge_took_meanwhile() {
    let asked = AtomicUsize::new(0);
    let held = Arc::new(Notify::new());
    let hold = Arc::clone(&held);
    let origin = Origin::start(move |request| {
        let (n, hold) = (asked.fetch_add(1, Ordering::SeqCst), Arc::clone(&hold));
        let is_conditional = request.headers().contains_key("if-none-match");
        async move {
            if n == 1 {
                hold.notified().await;
            }
            let tag = ("etag", "\"a\"");
            match (is_conditional, n) {
                (true, _) => response(304, &[FRESH, tag], ""),
                (_, 0) => response(200, &[("cache-control", "max-age=1"), tag], "bad"),
                _ => response(200, &[FRESH, tag], "good"),
            }
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (cluster.nodes[0].clone(), origin.url("/purged"));
    assert_eq!(body(&node, get(&url)).await, "bad");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut requests = JoinSet::new();
    for n in 0..2 {
        let (node, url) = (node.clone(), url.clone());
        requests.spawn(async move { body(&node, get(&url)).await });
        origin.asked(2).await;
        if n == 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    node.purge(&everything(Kind::Hard)).await;
    held.notify_one();
    while requests.join_next().await.is_some() {}
    assert_eq!(body(&node, get(&url)).await, "good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_does_not_bring_back_what_was_purged_or_invalidated() {
    for (nodes, purges) in [(1, true), (1, false), (3, true), (3, false)] {
        let (origin, version) = changing().await;
        let cluster = Cluster::start(nodes).await;
        let (node, url) = (&cluster.nodes[0], origin.url("/revived"));
        assert_eq!(body(node, get(&url)).await, "old");
        version.store(1, Ordering::SeqCst);
        if purges {
            node.purge(&everything(Kind::Soft)).await;
        } else {
            fetch(node, request(Method::POST, &url))
                .await
                .expect("an answer");
        }
        fetch(node, request(Method::HEAD, &url))
            .await
            .expect("an answer");
        assert_eq!(body(node, get(&url)).await, "new", "{nodes} nodes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_connection_names_chooses_no_variant() {
    let origin = Origin::start(|request| {
        let is_french = request.headers().contains_key("x-lang");
        async move {
            let text = if is_french { "bonjour" } else { "hello" };
            response(200, &[FRESH, ("vary", "x-lang")], text)
        }
    })
    .await;
    let french = ("x-lang", "fr");
    for keyed in [false, true] {
        let cluster = Cluster::with(3, |config| {
            let mut route = RouteConfig::default();
            if keyed {
                route.key.headers = vec!["x-lang".parse().expect("a name")];
            }
            config.routes = vec![route];
        })
        .await;
        for node in &cluster.nodes {
            let url = origin.url(&format!("/{keyed}/{}", node.name()));
            body(node, get_with(&url, &[("connection", "x-lang"), french])).await;
            assert_eq!(body(node, get_with(&url, &[french])).await, "bonjour");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_loop_fails_nobody_else() {
    let origin = Origin::fixed(Duration::from_millis(50), &[FRESH], "body").await;
    let cluster = Cluster::start(3).await;
    let learn = origin.url("/learn");
    let (owner, _) = cluster.owner_and_other(&learn).await;
    body(&cluster.nodes[owner], get(&learn)).await;
    let name = origin.requests("/learn")[0]["cdn-loop"].clone();
    let mut tried = 0;
    for n in 0..30 {
        let url = origin.url(&format!("/{n}"));
        let (owns, other) = cluster.owner_and_other(&url).await;
        if owns != owner {
            continue;
        }
        tried += 1;
        let mut forged = get(&url);
        forged.fields.insert("cdn-loop", name.clone());
        let mut requests = JoinSet::new();
        let node = cluster.nodes[other].clone();
        requests.spawn(async move { fetch(&node, forged).await.map(|_| ()).or(Ok(())) });
        tokio::task::yield_now().await;
        for _ in 0..5 {
            let (node, url) = (cluster.nodes[other].clone(), url.clone());
            requests.spawn(async move { fetch(&node, get(&url)).await.map(|_| ()) });
        }
        while let Some(done) = requests.join_next().await {
            assert_eq!(done.expect("no panic"), Ok(()), "{url}");
        }
    }
    assert!(tried > 0, "one of thirty keys has that owner");
    let loops = |metrics: &Arc<Metrics>| counted(&metrics.origin_denied, "loop");
    let loops: u64 = cluster.metrics.iter().map(loops).sum();
    assert!(loops <= tried, "{loops} of {tried} that were forged");
    let own = &cluster.nodes[owner];
    let mut forged = get(&origin.url("/again"));
    forged.fields.insert("cdn-loop", name);
    fetch(own, forged)
        .await
        .expect_err("it has passed this node");
    assert_eq!(counted(&cluster.metrics[owner].origin_denied, "loop"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_whose_client_leaves_invalidates_all_the_same() {
    let origin = Origin::start(|request| async move {
        if request.method() == Method::POST {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        response(200, &[FRESH], "body")
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/left");
    for node in &cluster.nodes {
        body(node, get(&url)).await;
    }
    let node = &cluster.nodes[0];
    let post = fetch(node, request(Method::POST, &url));
    let left = tokio::time::timeout(Duration::from_millis(50), post).await;
    assert!(left.is_err(), "the client leaves before the answer");
    let before = origin.count("/left");
    let (owner, _) = cluster.owner_and_other(&url).await;
    for _ in 0..100 {
        body(&cluster.nodes[owner], get(&url)).await;
        if origin.count("/left") > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it was never asked for again");
}

/// Answers a range of 100 bytes tagged `"b"` as RFC 9110 says; `length` 0 is an empty object.
fn object(fields: &HeaderMap, length: usize) -> Response<Body> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let tag = ("etag", "\"b\"");
    if text("if-none-match") == Some("\"b\"") {
        return response(304, &[tag], "");
    }
    let applies = text("if-range").is_none_or(|asked| asked == "\"b\"");
    let whole: &'static str = &"xxxxxxxxxx".repeat(10).leak()[..length];
    let Some(range) = text("range").filter(|_| applies) else {
        return response(200, &[FRESH, tag], whole);
    };
    let first = range.trim_start_matches("bytes=").split('-').next();
    let first: usize = first.and_then(|first| first.parse().ok()).unwrap_or(0);
    let (status, range, rest) = if first < length {
        (
            206,
            format!("bytes {first}-{}/{length}", length - 1),
            &whole[first..],
        )
    } else {
        (416, format!("bytes */{length}"), "")
    };
    let mut answer = response(status, &[FRESH, tag], rest);
    let range = range.parse().expect("a value");
    answer.headers_mut().insert("content-range", range);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_answer_beyond_the_end_as_a_whole_would() {
    let origin = Origin::start(|request| async move {
        let length = if request.uri().path().starts_with("/empty") {
            0
        } else {
            100
        };
        object(request.headers(), length)
    })
    .await;
    for slice in [0, 64 << 10] {
        let cluster = Cluster::with(1, |config| {
            config.routes = vec![RouteConfig {
                slice: ByteSize(slice),
                ..RouteConfig::default()
            }];
        })
        .await;
        let node = &cluster.nodes[0];
        let status = async |path: &str, fields: &[(&'static str, &'static str)]| {
            let url = origin.url(&format!("{path}/{slice}"));
            let answer = fetch(node, get_with(&url, fields)).await;
            answer.expect("an answer").status().as_u16()
        };
        let beyond = ("range", "bytes=500000-");
        assert_eq!(status("/empty", &[]).await, 200, "{slice}");
        assert_eq!(
            status("/a", &[beyond, ("if-range", "\"a\"")]).await,
            200,
            "{slice}"
        );
        assert_eq!(
            status("/b", &[beyond, ("if-none-match", "\"b\"")]).await,
            304,
            "{slice}"
        );
        assert_eq!(status("/c", &[beyond]).await, 416, "{slice}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_a_weak_304_made_useless_is_not_answered_as_the_whole() {
    let origin = Origin::start(|request| {
        let is_conditional = request.headers().contains_key("if-none-match");
        async move {
            if is_conditional {
                return response(304, &[FRESH, ("etag", "W/\"a\"")], "");
            }
            let range = ("content-range", "bytes 0-3/100");
            let fields = [("cache-control", "max-age=1"), ("etag", "\"a\""), range];
            response(206, &fields, "abcd")
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let (node, url) = (&cluster.nodes[0], origin.url("/weak"));
    let range = ("range", "bytes=0-3");
    body(node, get_with(&url, &[range])).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = fetch(node, get_with(&url, &[range, ("if-range", "\"a\"")])).await;
    assert_eq!(answer.expect("an answer").body(), "abcd");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_no_store_leaves_no_hot_copy() {
    let origin = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let cluster = Cluster::start(2).await;
    let url = origin.url("/private-minded");
    let (owner, other) = cluster.owner_and_other(&url).await;
    body(&cluster.nodes[owner], get(&url)).await;
    let no_store = [("cache-control", "no-store")];
    body(&cluster.nodes[other], get_with(&url, &no_store)).await;
    assert_eq!(cluster.nodes[other].stats().hot_copies, 0);
    body(&cluster.nodes[other], get(&url)).await;
    eventually("a plain request leaves one", || {
        cluster.nodes[other].stats().hot_copies == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_knows_bypass_and_slices() {
    let origin = Origin::start(|request| async move { object(request.headers(), 100) }).await;
    let cluster = Cluster::with(3, |config| {
        let mut sliced = RouteConfig {
            prefix: "/sliced".to_owned(),
            slice: ByteSize(64 << 10),
            ..RouteConfig::default()
        };
        sliced.bypass.cookies = vec!["session".to_owned()];
        config.routes = vec![sliced];
    })
    .await;
    let url = origin.url("/sliced");
    body(&cluster.nodes[0], get(&url)).await;
    for node in &cluster.nodes {
        assert_eq!(node.explain(&get(&url)).await.next, "hit");
        let session = get_with(&url, &[("cookie", "session=1")]);
        assert_eq!(node.explain(&session).await.next, "bypass");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_asks_a_replica_where_the_owner_does_not_answer() {
    let origin = Origin::fixed(Duration::ZERO, &[("cache-control", "max-age=600")], "body").await;
    // Nobody looks after the others in the meantime.
    let cluster = Cluster::with(4, |config| {
        config.store.hot_percent = 0;
    })
    .await;
    let url = origin.url("/explained");
    let owners = cluster.nodes[0].explain(&get(&url)).await.owners;
    let named = |name: &str| {
        let mut nodes = cluster.nodes.iter();
        nodes.find(|node| node.name() == name).expect("a node")
    };
    let mut others = cluster.nodes.iter();
    let other = others.find(|node| !owners.iter().any(|name| name == node.name()));
    let other = other.expect("three of four are owners");
    named(&owners[0]).cut_off(true);
    body(other, get(&url)).await;
    let explanation = other.explain(&get(&url)).await;
    assert_eq!(explanation.next, "hit", "{explanation:?}");
    assert_eq!(explanation.variants.len(), 1);
    assert!(explanation.route.contains(&owners[1]), "{explanation:?}");
    body(other, get(&url)).await;
    assert_eq!(origin.count("/explained"), 1, "a hit, as it was explained");
}
