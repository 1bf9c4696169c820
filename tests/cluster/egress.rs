//! Who is reached, on the first connect and on every redirect.

use std::{sync::Arc, time::Duration};

use koorde_tests::{
    cluster::{Cluster, fetch, get, get_with},
    origin::{Origin, response},
};
use libkoorde::{Kind, Metrics, Node, PurgeRequest, Scope, metrics::counted};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

/// An origin whose every path redirects to `location`.
async fn redirecting(location: String, control: &'static str) -> Origin {
    Origin::start(move |_| {
        let location = location.parse().expect("a field value");
        async move {
            let mut answer = response(302, &[("cache-control", control)], "");
            answer.headers_mut().insert("location", location);
            answer
        }
    })
    .await
}

fn redirects_denied(metrics: &Arc<Metrics>) -> u64 {
    counted(&metrics.origin_denied, "redirect")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_scheme_is_the_clients_to_follow_and_counted() {
    let here = redirecting("ftp://127.0.0.1/there".to_owned(), "max-age=60").await;
    let cluster = Cluster::with(1, |config| config.origin.max_redirects = 5).await;
    let answer = fetch(&cluster.nodes[0], get(&here.url("/here"))).await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 302);
    assert_eq!(redirects_denied(&cluster.metrics[0]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_the_clients_to_follow_unless_configured() {
    let there = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let here = redirecting(there.url("/there"), "max-age=60").await;
    let cluster = Cluster::start(2).await;
    for node in &cluster.nodes {
        let answer = fetch(node, get(&here.url("/here")))
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 302);
        assert_eq!(answer.headers()["location"], *there.url("/there"));
    }
    assert_eq!((here.count("/here"), there.count("/there")), (1, 0));
    assert_eq!(cluster.metrics.iter().map(redirects_denied).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_redirect_is_stored_under_the_first_url_without_its_secrets() {
    let there = Origin::fixed(
        Duration::ZERO,
        &[("cache-control", "public, max-age=600")],
        "body",
    )
    .await;
    let here = redirecting(there.url("/there"), "public, max-age=60").await;
    let cluster = Cluster::with(2, |config| config.origin.max_redirects = 1).await;
    for node in &cluster.nodes {
        let request = get_with(&here.url("/here"), &[("authorization", "Basic c2VjcmV0")]);
        let answer = fetch(node, request).await.expect("an answer");
        assert_eq!(answer.body(), "body");
        let told = answer.headers()["cache-status"].to_str().expect("text");
        assert!(
            told.contains("ttl=59") || told.contains("ttl=60"),
            "the shorter one counts: {told}"
        );
    }
    assert_eq!((here.count("/here"), there.count("/there")), (1, 1));
    let asked = &there.requests("/there")[0];
    assert!(
        !asked.contains_key("authorization"),
        "another origin gets no secret of this one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_followed_redirect_says_of_reuse_beside_its_lifetime_is_not_lost() {
    let there = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let cluster = Cluster::with(1, |config| config.origin.max_redirects = 1).await;
    for (name, value, is_stored) in [
        ("x-other", "1", true),
        ("vary", "x-user", false),
        ("cache-control", "no-cache", false),
        ("cache-control", "must-revalidate", false),
        ("cache-control", "s-maxage=60", true),
    ] {
        let location = there.url("/there");
        let here = Origin::start(move |_| {
            let location = location.parse().expect("a field value");
            async move {
                let fields = [FRESH, ("etag", "\"1\""), (name, value)];
                let mut answer = response(302, &fields, "");
                answer.headers_mut().insert("location", location);
                answer
            }
        })
        .await;
        for user in ["a", "b"] {
            let request = get_with(&here.url("/here"), &[("x-user", user)]);
            let answer = fetch(&cluster.nodes[0], request).await;
            assert_eq!(answer.expect("an answer").body(), "body");
        }
        let asked = if is_stored { 1 } else { 2 };
        assert_eq!(here.count("/here"), asked, "{name}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_refused_address_is_refused() {
    let here = redirecting("http://127.0.0.2:9/secret".to_owned(), "max-age=60").await;
    let cluster = Cluster::with(2, |config| config.origin.max_redirects = 5).await;
    for node in &cluster.nodes {
        let error = fetch(node, get(&here.url("/here")))
            .await
            .expect_err("only 127.0.0.1 is allowed");
        assert_eq!(error, "127.0.0.2 is refused: loopback");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_end_after_so_many() {
    let here = Origin::start(|request| {
        let next: u32 = request.uri().path()[1..].parse::<u32>().expect("a number") + 1;
        async move {
            let mut answer = response(302, &[], "");
            answer
                .headers_mut()
                .insert("location", format!("/{next}").parse().expect("a path"));
            answer
        }
    })
    .await;
    let cluster = Cluster::with(1, |config| config.origin.max_redirects = 3).await;
    let answer = fetch(&cluster.nodes[0], get(&here.url("/0")))
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 302);
    assert_eq!(answer.headers()["location"], "/4");
    assert_eq!(redirects_denied(&cluster.metrics[0]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_judged_by_what_it_resolves_to() {
    let origin = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let url = format!("http://localhost:{}/named", origin.address().port());
    let refusing = Cluster::with(1, |config| config.egress.allow.clear()).await;
    let error = fetch(&refusing.nodes[0], get(&url))
        .await
        .expect_err("a name for loopback");
    assert!(
        error.starts_with("localhost (") && error.ends_with("is refused: loopback"),
        "{error}"
    );
    let allowing = Cluster::with(1, |config| {
        config.egress.allow = vec!["localhost".to_owned()]
    })
    .await;
    assert_eq!(
        fetch(&allowing.nodes[0], get(&url))
            .await
            .expect("allowed by name")
            .body(),
        "body"
    );
}

/// A sidecar may be allowed what the ring's nodes are not; what it fetches then is its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_may_not_reach_a_node_that_may_fetches_for_itself() {
    let origin = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let strict = |config: &mut libkoorde::Config| {
        if config.node.name == "node-0" {
            config.egress.allow.clear();
        }
    };
    let cluster = Cluster::with(2, strict).await;
    let mut urls = Vec::new();
    for index in 0.. {
        let url = origin.url(&format!("/{index}"));
        if cluster.owner_and_other(&url).await.0 == 0 {
            urls.push(url);
        }
        if urls.len() == 3 {
            break;
        }
    }
    for url in &urls {
        let answer = fetch(&cluster.nodes[1], get(url)).await;
        assert_eq!(answer.expect("its own guard lets it pass").body(), "body");
        let error = fetch(&cluster.nodes[0], get(url)).await;
        let error = error.expect_err("the owner's does not");
        assert!(error.contains("is refused: loopback"), "{error}");
    }
}

/// What Cache-Status says of an answer from a store.
const HIT: &str = "; hit";

async fn told(node: &Node, url: &str) -> Result<(String, String), String> {
    let answer = fetch(node, get(url)).await?;
    let told = answer.headers()["cache-status"].to_str().expect("text");
    let told = told.to_owned();
    let body = String::from_utf8(answer.into_body().to_vec()).expect("text");
    Ok((body, told))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_alone_may_reach_is_stored_there_and_no_peer_gets_it() {
    let origin = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let cluster = Cluster::with(3, |config| {
        config.egress.allow.clear();
        if config.node.name == "node-1" {
            config.egress.own = vec!["127.0.0.0/8".to_owned()];
        }
    })
    .await;
    let urls: Vec<String> = (0..12).map(|n| format!("/{n}")).collect();
    for path in &urls {
        let url = origin.url(path);
        let (body, _) = told(&cluster.nodes[1], &url).await.expect("its own");
        assert_eq!(body, "body");
        let (_, status) = told(&cluster.nodes[1], &url).await.expect("its own");
        assert!(status.contains(HIT), "{status}");
        for other in [0, 2] {
            let error = told(&cluster.nodes[other], &url).await;
            let error = error.expect_err("whoever owns the key");
            assert!(error.contains("is refused: loopback"), "{error}");
        }
        assert_eq!(origin.count(path), 1);
        let explained = cluster.nodes[1].explain(&get(&url)).await;
        assert_eq!(explained.owners, ["node-1"]);
    }
    let everything = PurgeRequest {
        scope: Scope::All,
        kind: Kind::Hard,
        tenant: None,
    };
    cluster.nodes[0].purge(&everything).await;
    let url = origin.url(&urls[0]);
    let (_, status) = told(&cluster.nodes[1], &url).await.expect("its own");
    assert!(!status.contains(HIT), "a purge takes it, too: {status}");
}

/// A Service `billing` is another one in each namespace: here, all are one origin that counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_a_dot_is_each_nodes_own_to_resolve() {
    let origin = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    let cluster = Cluster::with(3, |config| {
        config.egress.allow = vec!["localhost".to_owned()];
        // The last one forwards such names as any other.
        config.egress.own_short_names = config.node.name != "node-2";
    })
    .await;
    for n in 0..12 {
        let path = format!("/{n}");
        let url = format!("http://localhost:{}{path}", origin.address().port());
        let owner = cluster.nodes[2].explain(&get(&url)).await.owners[0].clone();
        let (_, status) = told(&cluster.nodes[2], &url).await.expect("an answer");
        assert!(!status.contains(HIT), "nobody has it yet: {status}");
        for node in &cluster.nodes[..2] {
            let (_, status) = told(node, &url).await.expect("an answer");
            assert!(
                !status.contains(HIT),
                "{owner} owns it; what others have stored is not for {}: {status}",
                node.name()
            );
            let (_, status) = told(node, &url).await.expect("an answer");
            assert!(status.contains(HIT), "{status}");
        }
        assert_eq!(origin.count(&path), 3);
    }
}
