//! Purged means purged: on every node, in every copy, on its way, after a partition.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use koorde_tests::{
    cluster::{Cluster, config, eventually, fetch, get, get_with},
    origin::{Origin, response, whole},
};
use libkoorde::{
    Kind, Node, Overrides, PurgeRequest, Receipt, Request, Scope, metrics::counted, policy::Target,
};

pub(crate) fn target(url: &str) -> Target {
    Target::parse(url).expect("a URL")
}

fn soft(scope: Scope) -> PurgeRequest {
    PurgeRequest {
        scope,
        kind: Kind::Soft,
        tenant: None,
    }
}

fn hard(scope: Scope) -> PurgeRequest {
    PurgeRequest {
        kind: Kind::Hard,
        ..soft(scope)
    }
}

/// Each answer's body is the number of its request, so that an old one shows; `v` varies.
pub(crate) async fn counting(fields: &'static [(&'static str, &'static str)]) -> Origin {
    let asked = Arc::new(AtomicUsize::new(0));
    Origin::start(move |_| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut answer = response(200, fields, "");
            *answer.body_mut() = whole(number.to_string());
            answer
        }
    })
    .await
}

pub(crate) async fn number(node: &Node, request: Request) -> usize {
    let answer = fetch(node, request).await.expect("an answer");
    let text = std::str::from_utf8(answer.body()).expect("text");
    text.parse().expect("a number")
}

/// Purges through one node and expects every other to have acknowledged.
async fn purge(cluster: &Cluster, at: usize, request: &PurgeRequest) -> Receipt {
    let receipt = cluster.nodes[at].purge(request).await;
    assert_eq!(receipt.unreachable, Vec::<String>::new());
    assert_eq!(receipt.acknowledged.len(), cluster.nodes.len() - 1);
    assert_eq!(receipt.asked, receipt.acknowledged);
    receipt
}

pub(crate) const TAGGED: &[(&str, &str)] = &[
    ("cache-control", "max-age=600"),
    ("surrogate-key", "all blue"),
    ("cache-groups", "\"g\""),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_any_scope_reaches_every_member_and_nothing_else() {
    let (origin, other) = (counting(TAGGED).await, counting(TAGGED).await);
    let cluster = Cluster::start(5).await;
    let (url, far) = (origin.url("/a/b"), other.url("/a/b"));
    let host = origin.address().to_string();
    let scopes = [
        Scope::Url(target(&url)),
        Scope::tag("blue", None).expect("valid"),
        Scope::tag("blue", Some(&host)).expect("valid"),
        Scope::group(target(&origin.url("/")), "g").expect("valid"),
        Scope::Prefix(target(&origin.url("/a/"))),
        Scope::host(&host).expect("valid"),
        Scope::All,
    ];
    for (round, scope) in scopes.into_iter().enumerate() {
        for request in [soft(scope.clone()), hard(scope.clone())] {
            // Every node has it, as its own or as a hot copy.
            let mut before = 0;
            for node in &cluster.nodes {
                before = number(node, get(&url)).await;
            }
            let untouched = number(&cluster.nodes[0], get(&far)).await;
            let receipt = purge(&cluster, round % 5, &request).await;
            assert!(receipt.scope.starts_with(match scope {
                Scope::Url(_) => "url http://127.0.0.1:",
                Scope::Tag { .. } => "tag blue",
                Scope::Group { .. } => "group g of http://127.0.0.1:",
                Scope::Prefix(_) => "prefix http://",
                Scope::Host(_) => "host 127.0.0.1:",
                Scope::All => "all",
            }));
            for node in &cluster.nodes {
                assert_eq!(node.purge_generation(), receipt.generation);
                let after = number(node, get(&url)).await;
                assert_eq!(after, before + 1, "{}: asked again, once", receipt.scope);
            }
            let takes_both = matches!(scope, Scope::All | Scope::Tag { host: None, .. });
            let after = number(&cluster.nodes[0], get(&far)).await;
            assert_eq!(
                after,
                untouched + usize::from(takes_both),
                "{}",
                receipt.scope
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_url_takes_all_variants() {
    const VARIES: &[(&str, &str)] = &[("cache-control", "max-age=600"), ("vary", "x-variant")];
    let origin = counting(VARIES).await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/variants");
    let variants = || ["a", "b", "c"].map(|value| get_with(&url, &[("x-variant", value)]));
    for node in &cluster.nodes {
        for request in variants() {
            assert!(number(node, request).await < 3);
        }
    }
    purge(&cluster, 1, &soft(Scope::Url(target(&url)))).await;
    for node in &cluster.nodes {
        for request in variants() {
            assert!((3..6).contains(&number(node, request).await));
        }
    }
    assert_eq!(origin.count("/variants"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_soft_purge_took_is_validated_and_then_fresh_again() {
    let origin = Origin::start(|request| async move {
        let fields = [("cache-control", "max-age=600"), ("etag", "\"v1\"")];
        if request.headers().contains_key("if-none-match") {
            return response(304, &fields, "");
        }
        response(200, &fields, "body")
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/validated");
    for node in &cluster.nodes {
        fetch(node, get(&url)).await.expect("an answer");
    }
    purge(&cluster, 0, &soft(Scope::All)).await;
    for node in cluster.nodes.iter().chain(&cluster.nodes) {
        let answer = fetch(node, get(&url)).await.expect("an answer");
        assert_eq!(answer.body(), "body");
    }
    let asked = origin.requests("/validated");
    assert_eq!(asked.len(), 2, "once for all");
    assert!(asked[1].contains_key("if-none-match"));
    purge(&cluster, 0, &hard(Scope::All)).await;
    fetch(&cluster.nodes[1], get(&url))
        .await
        .expect("an answer");
    let asked = origin.requests("/validated");
    assert!(!asked[2].contains_key("if-none-match"), "as if not stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_soft_purge_took_answers_for_an_origin_that_fails_and_a_hard_one_does_not() {
    for (control, request, answers) in [
        ("max-age=600", soft(Scope::All), true),
        ("max-age=600, must-revalidate", soft(Scope::All), false),
        ("max-age=600", hard(Scope::All), false),
    ] {
        let fails = Arc::new(AtomicUsize::new(0));
        let failing = Arc::clone(&fails);
        let origin = Origin::start(move |_| {
            let fails = failing.load(Ordering::SeqCst) > 0;
            async move {
                if fails {
                    std::future::pending::<()>().await;
                }
                response(200, &[("cache-control", control)], "body")
            }
        })
        .await;
        let cluster = Cluster::with(3, |config| {
            config.origin.response_timeout = Duration::from_millis(500);
        })
        .await;
        let url = origin.url("/stale");
        fetch(&cluster.nodes[0], get(&url))
            .await
            .expect("an answer");
        fails.store(1, Ordering::SeqCst);
        purge(&cluster, 0, &request).await;
        for node in cluster.nodes.iter().chain(&cluster.nodes) {
            let answer = fetch(node, get(&url)).await;
            assert_eq!(answer.is_ok(), answers, "{control}: {answer:?}");
        }
        // What was stale on error is nobody's hot copy: the origin comes back, and is asked.
        fails.store(0, Ordering::SeqCst);
        let before = origin.count("/stale");
        for node in &cluster.nodes {
            fetch(node, get(&url)).await.expect("an answer");
        }
        assert_eq!(origin.count("/stale"), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_under_way_during_a_purge_does_not_survive_it() {
    let tag = || Scope::tag("blue", None).expect("valid");
    for (scope, path) in [(Scope::All, "/all"), (tag(), "/tag")] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (held, gate) = (Arc::new(tokio::sync::Notify::new()), Arc::clone(&asked));
        let hold = Arc::clone(&held);
        let origin = Origin::start(move |_| {
            let (number, hold) = (gate.fetch_add(1, Ordering::SeqCst), Arc::clone(&hold));
            async move {
                if number == 0 {
                    hold.notified().await;
                }
                let mut answer = response(200, TAGGED, "");
                *answer.body_mut() = whole(number.to_string());
                answer
            }
        })
        .await;
        let cluster = Cluster::start(4).await;
        let url = origin.url(path);
        let mut early = tokio::task::JoinSet::new();
        for node in &cluster.nodes {
            let (node, url) = (node.clone(), url.clone());
            early.spawn(async move { number(&node, get(&url)).await });
        }
        origin.asked(1).await;
        purge(&cluster, 2, &soft(scope)).await;
        // These come after the purge: they must not wait for what was asked for before it; or, where
        // only its head tells that it was purged, not take it.
        let mut late = tokio::task::JoinSet::new();
        for node in cluster.nodes.iter().chain(&cluster.nodes) {
            let (node, url) = (node.clone(), url.clone());
            late.spawn(async move { number(&node, get(&url)).await });
        }
        if path == "/all" {
            origin.asked(2).await;
        }
        held.notify_one();
        while let Some(answer) = late.join_next().await {
            assert!(answer.expect("no panic") > 0, "{path}: an old one");
        }
        while early.join_next().await.is_some() {}
        for node in &cluster.nodes {
            assert!(
                number(node, get(&url)).await > 0,
                "{path}: an old one was stored"
            );
        }
        let count = origin.count(path);
        assert!(count <= 3, "{path}: collapsed all the same: {count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_learns_what_was_purged_before_it_came() {
    let origin = counting(TAGGED).await;
    let mut cluster = Cluster::start(2).await;
    let urls: Vec<String> = (0..40).map(|n| origin.url(&format!("/{n}"))).collect();
    for url in &urls {
        fetch(&cluster.nodes[0], get(url)).await.expect("an answer");
    }
    let receipt = purge(&cluster, 0, &soft(Scope::All)).await;
    let joiner = cluster.add(config("node-2")).await;
    cluster.meet(3).await;
    for url in &urls {
        assert!(number(&joiner, get(url)).await >= 40, "{url} is old");
    }
    assert_eq!(joiner.purge_generation(), receipt.generation);
}

/// Cut off from its peers, it misses a purge and is named; back again, it serves nothing old: not
/// to its own clients, nor to others'.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_cut_off_serves_nothing_old_when_it_is_back() {
    // Before anybody notices, and after it is out of the ring.
    for notices in [false, true] {
        let origin = counting(TAGGED).await;
        let cluster = Cluster::with(4, |config| {
            config.purge.timeout = Duration::from_millis(400);
        })
        .await;
        let urls: Vec<String> = (0..40).map(|n| origin.url(&format!("/{n}"))).collect();
        for url in &urls {
            for node in &cluster.nodes {
                fetch(node, get(url)).await.expect("an answer");
            }
        }
        let lost = &cluster.nodes[3];
        lost.cut_off(true);
        if notices {
            eventually("the others have noticed", || {
                cluster.nodes[..3]
                    .iter()
                    .all(|node| node.ring().members.len() == 3)
            })
            .await;
        }
        let request = soft(Scope::tag("blue", None).expect("valid"));
        let receipt = cluster.nodes[0].purge(&request).await;
        assert_eq!(receipt.unreachable, ["node-3"]);
        assert_eq!(receipt.acknowledged, ["node-1", "node-2"]);
        assert_eq!(receipt.asked, ["node-1", "node-2", "node-3"]);
        assert_ne!(lost.purge_generation(), receipt.generation);
        lost.cut_off(false);
        // Through the others at once, whoever owns the key.
        for (n, url) in urls.iter().enumerate() {
            let number = number(&cluster.nodes[n % 3], get(url)).await;
            assert!(number >= 40, "{url} is old, noticed: {notices}");
        }
        cluster.meet(4).await;
        if !notices {
            // Nobody has noticed that it was away, itself neither; the next round tells it.
            eventually("it has heard", || {
                lost.purge_generation() == receipt.generation
            })
            .await;
        }
        for url in &urls {
            assert!(number(lost, get(url)).await >= 40, "{url} is old");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_issued_a_purge_alone_tells_it_when_it_is_back() {
    let origin = counting(TAGGED).await;
    let cluster = Cluster::with(3, |config| {
        config.purge.timeout = Duration::from_millis(200);
    })
    .await;
    let url = origin.url("/alone");
    for node in &cluster.nodes {
        fetch(node, get(&url)).await.expect("an answer");
    }
    cluster.nodes[2].cut_off(true);
    let receipt = cluster.nodes[2].purge(&hard(Scope::All)).await;
    assert_eq!(receipt.unreachable, ["node-0", "node-1"]);
    cluster.nodes[2].cut_off(false);
    eventually("all know it", || {
        let knows = |node: &Node| node.purge_generation() == 1;
        cluster.nodes.iter().all(knows)
    })
    .await;
    for node in &cluster.nodes {
        assert_eq!(number(node, get(&url)).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_missed_more_than_is_remembered_purges_everything() {
    let origin = counting(TAGGED).await;
    let cluster = Cluster::with(2, |config| {
        config.purge.timeout = Duration::from_millis(100);
        config.purge.max_log = 16;
    })
    .await;
    let url = origin.url("/kept");
    for node in &cluster.nodes {
        fetch(node, get(&url)).await.expect("an answer");
    }
    cluster.nodes[1].cut_off(true);
    for n in 0..20 {
        let scope = Scope::tag(&format!("other-{n}"), None).expect("valid");
        cluster.nodes[0].purge(&soft(scope)).await;
    }
    cluster.nodes[1].cut_off(false);
    eventually("it has heard", || cluster.nodes[1].purge_generation() == 20).await;
    let folded = counted(&cluster.metrics[1].purges, "folded");
    assert_eq!(folded, 1);
    assert_eq!(counted(&cluster.metrics[1].purges, "synced"), 17);
    let (owner, _) = cluster.owner_and_other(&url).await;
    assert_eq!(
        number(&cluster.nodes[1], get(&url)).await,
        usize::from(owner == 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_keeps_nothing_that_a_purge_would_have_to_ask_it_for() {
    let origin = counting(TAGGED).await;
    let mut cluster = Cluster::start(2).await;
    let mut edge = config("edge");
    edge.node.role = libkoorde::config::Role::Edge;
    let edge = cluster.add(edge).await;
    eventually("the edge knows the ring", || edge.ring().members.len() == 2).await;
    let url = origin.url("/edge");
    assert_eq!(number(&edge, get(&url)).await, 0);
    let receipt = cluster.nodes[0].purge(&soft(Scope::All)).await;
    assert_eq!(receipt.asked, ["node-1"]);
    assert_eq!(
        number(&edge, get(&url)).await,
        1,
        "purged where it is stored"
    );
    assert_eq!(edge.stats().stored_bytes, 0);
    // A purge that the edge issues is known wherever it asks afterwards.
    let receipt = edge.purge(&soft(Scope::All)).await;
    assert_eq!(receipt.acknowledged, ["node-0", "node-1"]);
    assert_eq!(number(&edge, get(&url)).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_one_tenant_leaves_the_others_alone() {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let cluster = Cluster::with(2, |config| {
        config.routes = vec![libkoorde::config::RouteConfig {
            prefix: "/t".to_owned(),
            tenant: "t".to_owned(),
            ..Default::default()
        }];
    })
    .await;
    let (theirs, other) = (origin.url("/t/x"), origin.url("/x"));
    for (url, expected) in [(&theirs, 0), (&other, 1)] {
        assert_eq!(number(&cluster.nodes[0], get(url)).await, expected);
    }
    let request = PurgeRequest {
        tenant: Some("t".to_owned()),
        ..soft(Scope::All)
    };
    let receipt = purge(&cluster, 1, &request).await;
    assert_eq!(receipt.scope, "all for tenant t");
    assert_eq!(
        number(&cluster.nodes[0], get(&other)).await,
        1,
        "not touched"
    );
    assert_eq!(number(&cluster.nodes[0], get(&theirs)).await, 2);
}

/// A client names its tenant alone and knows nothing of those of routes.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_for_a_clients_tenant_finds_it_below_every_routes_tenant() {
    let origin = counting(TAGGED).await;
    let cluster = Cluster::with(2, |config| {
        config.routes = vec![libkoorde::config::RouteConfig {
            prefix: "/t".to_owned(),
            tenant: "route".to_owned(),
            ..Default::default()
        }];
    })
    .await;
    let of = |path: &str, tenant: &str| {
        let mut request = get(&origin.url(path));
        let overrides = Overrides::new(&request.target, tenant, "", None);
        request.overrides = overrides.expect("they are right");
        request
    };
    let all = [
        ("/t/x", "mine"),
        ("/x", "mine"),
        ("/t/x", "theirs"),
        ("/x", ""),
    ];
    for (expected, (path, tenant)) in all.into_iter().enumerate() {
        assert_eq!(number(&cluster.nodes[0], of(path, tenant)).await, expected);
    }
    let scope = Scope::tag("blue", None).expect("valid");
    let receipt = cluster.nodes[1].purge_for("mine", &scope, Kind::Hard).await;
    assert!(receipt.is_complete());
    assert_eq!(receipt.scope, "tag blue for tenant mine");
    for ((path, tenant), expected) in all.into_iter().zip([4, 5, 2, 3]) {
        let number = number(&cluster.nodes[0], of(path, tenant)).await;
        assert_eq!(number, expected, "{path} of {tenant:?}");
    }
}
