//! Bodies large and slow: streamed, in bounded memory.

use std::time::Duration;

use http_body_util::BodyExt;
use koorde_tests::{
    cluster::{Cluster, fetch, get},
    origin::{Origin, response, stream},
};
use libkoorde::config::ByteSize;
use tokio::sync::mpsc;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn waiters_on_every_node_read_while_the_fill_goes_on() {
    let (pieces, rest) = mpsc::channel::<&'static str>(1);
    let rest = std::sync::Mutex::new(Some(rest));
    let origin = Origin::start(move |_| {
        let rest = rest
            .lock()
            .expect("no panic in here")
            .take()
            .expect("one origin request");
        async move {
            let pieces = futures_util::stream::unfold(rest, |mut rest| async {
                let piece = rest.recv().await?;
                Some((Ok(hyper::body::Frame::data(piece.into())), rest))
            });
            let mut answer = response(200, &[("cache-control", "max-age=60")], "");
            *answer.body_mut() = BodyExt::boxed(http_body_util::StreamBody::new(pieces));
            answer
        }
    })
    .await;
    let cluster = Cluster::start(3).await;
    let url = origin.url("/slow");
    let mut bodies = Vec::new();
    pieces.send("first").await.expect("the origin reads");
    for node in cluster.nodes.iter().chain(&cluster.nodes) {
        bodies.push(node.fetch(get(&url)).await.expect("a head").into_body());
    }
    for body in &mut bodies {
        let frame = body.frame().await.expect("not the end").expect("no error");
        assert_eq!(
            frame.into_data().expect("data"),
            "first",
            "before the origin has sent the rest"
        );
    }
    pieces.send("second").await.expect("the origin reads");
    drop(pieces);
    for body in bodies {
        assert_eq!(body.collect().await.expect("complete").to_bytes(), "second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_ceiling_passes_through_for_every_waiter_unstored() {
    let origin = Origin::start(|_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut answer = response(200, &[("cache-control", "max-age=60")], "");
        *answer.body_mut() = stream(64, MIB / 4, false);
        answer
    })
    .await;
    // A tenth of 20 MiB is less than the 16 MiB that come, of a length not known before.
    let cluster = Cluster::with(3, |config| config.store.capacity = ByteSize::mib(20)).await;
    let url = origin.url("/large");
    let fetches = cluster.nodes.iter().map(|node| fetch(node, get(&url)));
    for answer in futures_util::future::join_all(fetches).await {
        assert_eq!(answer.expect("an answer").body().len(), 16 * MIB);
    }
    assert_eq!(origin.count("/large"), 1);
    for node in &cluster.nodes {
        assert_eq!(node.stats().stored_bytes, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_never_holds_more_than_its_bound() {
    let origin = Origin::start(|request| async move {
        let length: u64 = request
            .uri()
            .path()
            .rsplit('/')
            .next()
            .expect("a name")
            .parse()
            .expect("kilobytes");
        let mut answer = response(200, &[("cache-control", "max-age=60")], "");
        *answer.body_mut() = stream(length, 1024, false);
        answer
    })
    .await;
    let cluster = Cluster::with(2, |config| config.store.capacity = ByteSize::mib(2)).await;
    for n in 0..300u64 {
        let url = origin.url(&format!("/{n}/{}", n * 7 % 190));
        fetch(&cluster.nodes[n as usize % 2], get(&url))
            .await
            .expect("an answer");
        for node in &cluster.nodes {
            let stats = node.stats();
            assert!(stats.stored_bytes <= stats.capacity_bytes, "{stats:?}");
        }
    }
    assert!(
        cluster.nodes.iter().any(|node| node.stats().evictions > 0),
        "the bound was reached"
    );
}
