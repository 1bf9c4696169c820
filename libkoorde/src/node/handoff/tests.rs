//! Two nodes over real sockets, one of which leaves.

use std::net::Ipv4Addr;

use http::{HeaderMap, Method, Response};

use super::*;
use crate::{
    Aside, Config, Metrics, Node, Propagation, Put, Request, node::invalidate::Stale,
    policy::Target, purge::ScopeKey,
};

async fn node(name: &str) -> Node {
    let mut config = Config::default();
    config.node.name = name.to_owned();
    config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
    let metrics = Metrics::new(&mut Default::default());
    let node = Node::start(config, metrics, Propagation::default()).await;
    node.expect("loopback has a free port")
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = time::timeout(Duration::from_secs(20), waiting).await;
    in_time.unwrap_or_else(|_elapsed| panic!("{what}"));
}

async fn store(node: &Node, target: &Target) {
    let asked = Request::new(Method::GET, target.clone(), HeaderMap::new());
    let Ok(Aside::Lease(lease)) = node.look_aside(asked).await else {
        panic!("nothing is stored yet");
    };
    let head = Response::builder().header("cache-control", "max-age=600");
    let head = head.body(()).expect("a head");
    let Put::Body(body) = lease.put(head, None).await else {
        panic!("it may be stored");
    };
    assert!(body.end().await, "it is stored");
}

fn members(node: &Node) -> usize {
    node.inner.view.load().members().len()
}

/// Whoever is asked for it hears of the leaving first, tells the owner that stays, and not the one
/// that leaves; the owner hears of the leaving only then.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_stale_before_an_owner_heard_that_a_member_leaves_does_not_come_back_from_it()
{
    let (leaves, stays) = (node("leaves").await, node("stays").await);
    stays.seeds(vec![leaves.peer_address()]);
    eventually("they meet", || {
        members(&leaves) == 2 && members(&stays) == 2
    })
    .await;
    let owned = |target: &Target| {
        let node = &leaves.inner;
        let id = node.hasher.key_id(node.key_of(target).as_bytes());
        let view = node.view.load();
        view.owner(id).is_some_and(|owner| owner.id == view.me().id)
    };
    let targets = (0..).map(|n| Target::parse(&format!("http://10.0.0.1/{n}")).expect("a URL"));
    let targets: Vec<Target> = targets.filter(owned).take(8).collect();
    for target in &targets {
        store(&leaves, target).await;
    }
    let keys: Vec<CacheKey> = targets.iter().map(|t| stays.inner.key_of(t)).collect();
    let (changed, others) = keys.split_at(4);
    let (written, unchanged) = others.split_at(2);
    // Long before what is stored was asked for.
    let long_ago = clock::now().instant - 6 * JOURNEY;
    let url = |key: &CacheKey| ScopeKey::url(Some(""), key.url());
    stays.inner.purges.mark(written.iter().map(url), long_ago);
    stays.inner.make_stale(&Stale {
        tenant: String::new(),
        urls: changed.iter().map(|key| key.url().to_vec()).collect(),
    });
    leaves.inner.driver.leave().await;
    let has_heard = || stays.inner.departed.born(leaves.inner.view.load().me().id);
    eventually("it is heard of", || has_heard().is_some()).await;
    let is_there = async |target: &Target| {
        let request = Request::new(Method::GET, target.clone(), HeaderMap::new());
        stays.fetch(request).await.is_ok()
    };
    assert!(
        !is_there(&targets[0]).await,
        "it was asked for what it was not told of"
    );
    assert!(
        is_there(&targets[4]).await,
        "it is asked for what was written before"
    );
    assert!(is_there(&targets[6]).await);
    leaves.inner.hand_over().await;
    let has = |key| stays.inner.store.get(key, clock::now().instant).is_some();
    assert!(unchanged.iter().all(has), "the rest is handed over");
    assert!(written.iter().all(has), "so is what was asked for since");
    assert!(!changed.iter().any(has), "an old response is back");
    for node in [leaves, stays] {
        node.stop(Duration::from_secs(1)).await;
    }
}
