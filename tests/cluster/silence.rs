//! Members that are there and do not answer in time, and clients that do not wait for them.

use std::{net::SocketAddr, time::Duration};

use futures_util::FutureExt;
use http::{HeaderMap, Method};
use koorde_tests::cluster::{Cluster, config, eventually, fetch, get};
use libkoorde::{Config, Kind, Node, PurgeRequest, Request, Scope, metrics::counted};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};

use crate::purge::{counting, number, target};

/// A way to a node that can be made silent: what comes meanwhile is lost, and the connections with it.
struct Way {
    address: SocketAddr,
    is_silent: watch::Sender<bool>,
    _relay: JoinSet<()>,
}

impl Way {
    async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (is_silent, silence) = watch::channel(false);
        let mut relay = JoinSet::new();
        relay.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((there, _)) = listener.accept().await {
                let Ok(here) = TcpStream::connect(node).await else {
                    continue;
                };
                let ((a, b), (c, d)) = (there.into_split(), here.into_split());
                let (one, other) = (pass(a, d, silence.clone()), pass(c, b, silence.clone()));
                connections.spawn(async move {
                    tokio::select! {
                        () = one => (),
                        () = other => (),
                    }
                });
            }
        });
        Self {
            address,
            is_silent,
            _relay: relay,
        }
    }

    fn silent(&self, is_silent: bool) {
        self.is_silent.send_replace(is_silent);
    }
}

async fn until(silence: &mut watch::Receiver<bool>, wanted: bool) {
    let _now_or_gone = silence.wait_for(|is_silent| *is_silent == wanted).await;
}

/// Passes bytes on until one side ends, or a silence does.
async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut silence: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        tokio::select! {
            biased;
            () = until(&mut silence, true) => break,
            read = from.read(&mut bytes) => match read {
                Ok(n) if n > 0 && to.write_all(&bytes[..n]).await.is_ok() => (),
                _ => return,
            },
        }
    }
    until(&mut silence, false).await;
}

/// No lease is kept, no previous owner asked: nothing says that there are copies. A silence of less than
/// three probes, 600 ms, is no death.
fn without_copies(config: &mut Config) {
    config.store.hot_lease = Duration::from_secs(1);
    config.ring.warm_join = Duration::ZERO;
    config.purge.timeout = Duration::from_millis(400);
}

/// Five nodes; the way to the last one.
async fn cluster() -> (Cluster, Way) {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listens = free.local_addr().expect("bound");
    drop(free);
    let way = Way::to(listens).await;
    let mut cluster = Cluster {
        nodes: Vec::new(),
        metrics: Vec::new(),
    };
    for name in ["node-0", "node-1", "node-2", "node-3", "silent"] {
        let mut config = config(name);
        without_copies(&mut config);
        if name == "silent" {
            config.ring.listen = listens;
            config.ring.advertise = Some(way.address);
        }
        cluster.add(config).await;
    }
    cluster.meet(5).await;
    // What the members' coming says about copies has to be over.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    (cluster, way)
}

fn told(cluster: &Cluster, at: usize) -> u64 {
    counted(&cluster.metrics[at].purges, "invalidated")
}

/// A URL that `silent` owns.
async fn owned_by_the_silent(node: &Node, url: impl Fn(usize) -> String) -> String {
    for n in 0.. {
        let url = url(n);
        if node.explain(&get(&url)).await.owners[0] == "silent" {
            return url;
        }
    }
    unreachable!("a fifth of all URLs")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_answer_an_invalidation_may_have_given_copies_and_is_told_again() {
    let origin = counting(&[("cache-control", "max-age=600")]).await;
    let (cluster, way) = cluster().await;
    let url = owned_by_the_silent(&cluster.nodes[0], |n| origin.url(&format!("/{n}"))).await;
    let before = number(&cluster.nodes[4], get(&url)).await;
    let post = Request::new(Method::POST, target(&url), HeaderMap::new());
    way.silent(true);
    let speaks = async {
        eventually("its silence is noticed", || late(&cluster) > 0).await;
        way.silent(false);
    };
    let (posted, ()) = tokio::join!(fetch(&cluster.nodes[0], post), speaks);
    posted.expect("an answer");
    for at in 0..4 {
        assert_eq!(told(&cluster, at), 1, "node-{at} before the answer");
    }
    eventually("who was silent is told again", || told(&cluster, 4) > 0).await;
    let now = number(&cluster.nodes[4], get(&url)).await;
    assert!(now > before, "{now} is no newer than {before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_answer_in_time_is_in_the_figures() {
    let (cluster, way) = cluster().await;
    way.silent(true);
    let receipt = cluster.nodes[0].purge(&purge()).await;
    way.silent(false);
    assert_eq!(receipt.unreachable, ["silent"]);
    assert!(late(&cluster) >= 2, "asked twice");
    assert_eq!(cluster.metrics[0].purges_unreachable.get(), 1);
}

/// Calls of the first node that took too long.
fn late(cluster: &Cluster) -> u64 {
    counted(&cluster.metrics[0].deadline_exceeded, "peer")
}

fn purge() -> PurgeRequest {
    PurgeRequest {
        scope: Scope::All,
        kind: Kind::Soft,
        tenant: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_whose_client_hangs_up_is_told_to_all_and_counted() {
    let cluster = Cluster::start(3).await;
    cluster.nodes[2].cut_off(true);
    // Polled once, and dropped.
    let request = purge();
    let purging = Box::pin(cluster.nodes[0].purge(&request));
    assert!(purging.now_or_never().is_none(), "others are asked");
    eventually("the others are told, and who can't be is counted", || {
        cluster.nodes[1].purge_generation() == 1 && cluster.metrics[0].purges_unreachable.get() == 1
    })
    .await;
    let shown = |at: usize| {
        let _sets_the_gauges = cluster.nodes[at].stats();
        cluster.metrics[at].purge_generation.get()
    };
    assert_eq!((shown(0), shown(1), shown(2)), (1, 1, 0));
}
